"""What the account is worth and what following leaders has made of it, marked at the best bids."""

from typing import Final

from services.risk.cases import DAY_NS
from services.risk.policy import Policy
from services.risk.state import UNATTRIBUTED, Equity, Marks, Reconsider, State, tradable
from shared.domain.ids import ConditionId, content_id
from shared.domain.messages import EquityMarked, Fact
from shared.domain.units import BPS, Price, Shares, Usd, proceeds_down, scale_down

_MOVED_BPS: Final = 20  # of equity: what moved less is not said again
_SAID_EVERY_NS: Final = 300 * 1_000_000_000


def marked(policy: Policy, state: State, request: Reconsider) -> list[Fact]:
    """Return a mark where the account's worth has moved, or a day or five minutes have passed."""
    if request.marks is None:
        return []
    now_ns, known = request.now_ns, state.equity
    fact = mark(state, request.marks, now_ns)
    usd = fact.collateral + fact.value
    if known is not None and known.day == fact.day:
        moved = max(abs(usd - known.usd), abs(fact.profit - known.profit))
        rests = moved * BPS < max(1, known.usd) * _MOVED_BPS
        if rests and now_ns - known.marked_ns < _SAID_EVERY_NS:
            return []
    return [fact]


def mark(state: State, marks: Marks, now_ns: int) -> EquityMarked:
    """Return the account's worth now.

    Profit counts what leaders caused, realised and at its marks, and no deposit: ``realised +
    value - cost``, where sets that leaders hold against each other have left the cost already.
    """
    value, ours = _values(state, marks)
    value = Usd(value + marks.claims)
    cost = sum(h.yes.cost + h.no.cost for h in state.held.values() if h.leader != UNATTRIBUTED)
    profit = Usd(state.realised + ours - cost + sum(state.crossed.values()))
    day, known = now_ns // DAY_NS, state.equity
    same_day = known is not None and known.day == day
    id_ = content_id("equity_marked", now_ns)
    return EquityMarked(
        id=id_,
        cause="",
        root=id_,
        ts_ns=now_ns,
        collateral=marks.collateral,
        value=value,
        profit=profit,
        peak=Usd(max(profit, known.peak if known else 0)),
        day=day,
        day_profit=known.day_profit if known and same_day else (known.profit if known else profit),
    )


def _values(state: State, marks: Marks) -> tuple[Usd, Usd]:
    """Return what everything held is worth, and what leaders caused of it."""
    everything = ours = 0
    for condition in {held.condition for held in state.held.values()}:
        bids = marks.bids.get(condition, (None, None))
        for outcome in (0, 1):
            theirs = tradable(state, condition, outcome)
            nobody = sum(
                max(0, held.of(outcome).shares)
                for held in state.held.values()
                if held.condition == condition and held.leader == UNATTRIBUTED
            )
            price = bids[outcome]
            bid = _at_cost(state, condition, outcome) if price is None else price
            ours += proceeds_down(bid, theirs)
            everything += proceeds_down(bid, Shares(theirs + nobody))
    return Usd(everything), Usd(ours)


def _at_cost(state: State, condition: ConditionId, outcome: int) -> Price:
    """Return what a share cost on average: nobody knows what it is worth now."""
    held = [each.of(outcome) for each in state.held.values() if each.condition == condition]
    shares = sum(max(0, position.shares) for position in held)
    cost = sum(max(0, position.cost) for position in held)
    return Price(scale_down(cost, 1_000_000, shares)) if shares else Price(0)


def equity_from(fact: EquityMarked) -> Equity:
    return Equity(
        collateral=fact.collateral,
        value=fact.value,
        profit=fact.profit,
        peak=fact.peak,
        day=fact.day,
        day_profit=fact.day_profit,
        marked_ns=fact.ts_ns,
    )
