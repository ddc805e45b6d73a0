"""What an order was expected to cost, and what it did cost: implementation shortfall, split.

Shortfall is the difference between a trade on paper and the trade that was made (Perold 1988, "The
Implementation Shortfall: Paper versus Reality"). The paper trade is the leader's: our size at his
price. What lies between is split at the mids of two moments, ours to influence one after the other
(Kissell and Glantz 2003 call the parts delay and trading cost)::

    leader's price -> mid when risk decided -> mid when the order went out -> what was paid, + fee
              waiting                     latency                       execution

Each part is a difference of rounded dollars, so the parts add up to the total exactly. Positive is
worse for us, whether we buy or sell. Pure.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from services.executor.state import Fill, Marks, State, fills_of, known_order
from shared.domain.book import Book, Walk
from shared.domain.ids import OrderHash, content_id
from shared.domain.market import Market, Side
from shared.domain.messages import Fact, FillSettled, OrderClosed, OrderFilled, ShortfallMeasured
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd, cost_up, proceeds_down

# E[max(0, Z)] of a standard normal is 1 / sqrt(2 pi): what a mid moves against us on average, the
# moves in our favour not counted on; in millionths.
_ADVERSE: Final = 398_942


def delay_move(market: Market, book: Book) -> Price:
    """Return what the venue's delay of a taker is expected to cost, in micro-dollars a share.

    The mid's volatility is in log-odds per square root of a second, so over a delay of T seconds
    it moves by sigma * sqrt(T), and a price by p * (1 - p) of that; rounded up. Nothing where the
    mid or its volatility is not known: what cannot be estimated is measured afterwards.
    """
    mid, sigma = book.mid, book.volatility
    if not market.delay_ns or mid is None or not sigma:
        return Price(0)
    moved = sigma * math.isqrt(market.delay_ns * NS_PER_S)  # micro-log-odds, times NS_PER_S
    return Price(-(-moved * _ADVERSE * mid * (MICRO - mid) // (NS_PER_S * MICRO * MICRO * MICRO)))


def expected_average(side: Side, estimate: Walk, move: Price) -> Price:
    """Return the average price a walk of the book expects once the venue's delay is over."""
    assert estimate.average is not None
    average = estimate.average + (move if side == "BUY" else -move)
    return Price(min(max(average, 0), MICRO))


def measured(state: State, facts: Sequence[Fact], now_ns: int) -> list[ShortfallMeasured]:
    """Return what orders cost that these facts close, or of which they change a closed one."""
    found = []
    for fact in facts:
        match fact:
            case OrderClosed(order=name):
                told = _measure(state, name, facts, now_ns)
                found += [told] if told.size else []
            case OrderFilled(order=name) | FillSettled(order=name, settlement="FAILED"):
                order = known_order(state, name)
                if order is not None and order.phase == "closed":
                    cause = (fact.trade, fact.settlement)
                    found.append(_measure(state, name, facts, now_ns, *cause))
            case _:
                pass
    return found


def _measure(
    state: State, name: OrderHash, facts: Iterable[Fact], now_ns: int, *again: str
) -> ShortfallMeasured:
    order = known_order(state, name)
    assert order is not None, f"nothing is known of {name}"
    marks = order.marks or Marks(leader=Price(0))
    fills = _fills(state, name, facts)
    size = Shares(sum(each.size for each in fills))
    value = cost_up if order.side == "BUY" else proceeds_down
    sign = 1 if order.side == "BUY" else -1
    paid = Usd(sum(value(each.price, each.size) for each in fills))
    fee = Usd(sum(each.fee for each in fills))
    decided = marks.leader if marks.decision is None else marks.decision
    arrived = decided if marks.arrival is None else marks.arrival
    paper, at_decision, at_arrival = (value(p, size) for p in (marks.leader, decided, arrived))
    expected = None
    if marks.estimate is not None:
        expected = Usd(sign * (value(marks.estimate, size) - at_arrival))
    return ShortfallMeasured(
        id=content_id("shortfall_measured", name, *again),
        cause=content_id("order_closed", name),
        root=order.root,
        ts_ns=now_ns,
        order=name,
        approval=order.approval,
        leader=order.leader,
        condition=order.condition,
        token=order.token,
        side=order.side,
        size=size,
        paid=paid,
        leader_price=marks.leader,
        decision_mid=marks.decision,
        arrival_mid=marks.arrival,
        waiting=Usd(sign * (at_decision - paper)),
        latency=Usd(sign * (at_arrival - at_decision)),
        execution=Usd(sign * (paid - at_arrival)),
        fee=fee,
        total=Usd(sign * (paid - paper) + fee),
        expected_execution=expected,
    )


def _fills(state: State, name: OrderHash, facts: Iterable[Fact]) -> list[Fill | OrderFilled]:
    """Return an order's executions as these facts leave them, failed ones left out."""
    buried = state.buried.get(name)
    fills: dict[str, Fill | OrderFilled] = {
        each.trade: each for each in (buried.fills if buried else fills_of(state, name))
    }
    for fact in facts:
        match fact:
            case OrderFilled(order=of) if of == name:
                fills[fact.trade] = fact
            case FillSettled(order=of, settlement="FAILED") if of == name:
                fills.pop(fact.trade, None)
            case _:
                pass
    return [each for each in fills.values() if each.settlement != "FAILED"]
