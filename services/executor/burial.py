"""Closed orders are kept small, few and for days: fills have been told long after a kill.

A fill of an order that nobody remembers would be shares that no leader caused and nobody sells.
"""

from typing import Final

import msgspec

from services.executor.lifecycle import after
from services.executor.state import Buried, Order, State, fill_key, fills_of, is_settled
from shared.domain.ids import OrderHash
from shared.domain.market import Market
from shared.domain.messages import OrderClosed
from shared.domain.units import NS_PER_S

BURIED_MAX: Final = 1_000  # orders; the oldest is forgotten for the next
BURIED_KEPT_NS: Final = 3 * 86_400 * NS_PER_S  # since an order was closed
UNSETTLED_KEPT_NS: Final = 86_400 * NS_PER_S  # how long a fill that is not final delays that


def close(state: State, fact: OrderClosed) -> None:
    """End an order; what mattered only while it was open goes."""
    order = state.orders[fact.order]
    assert after(order.phase, "completed") == "closed", "it was closed before"
    state.orders[fact.order] = msgspec.structs.replace(
        order,
        phase="closed",
        closed_ns=fact.ts_ns,
        answered=False,
        resends=0,
        retry_ns=0,
        surrendered_ns=0,
        maker_amount=0,
        taker_amount=0,
        salt=0,
        timestamp_ms=0,
        metadata="",
        market=_small(order.market),
    )
    bury(state, fact.order)


def bury(state: State, name: OrderHash) -> None:
    """Set an order aside once it is closed and every fill of it is final."""
    if state.orders[name].phase == "closed" and is_settled(state, name):
        _set_aside(state, name)


def unearth(state: State, name: OrderHash) -> None:
    """Take an order up again, with its fills, for another word on one of them."""
    buried = state.buried.pop(name, None)
    if buried is not None:
        state.orders[name] = buried.order
        state.fills |= {fill_key(fill.trade, name): fill for fill in buried.fills}


def bury_old(state: State, now_ns: int) -> None:
    """Hold what is kept of closed orders to its bounds; a fill may never become final."""
    for name, order in list(state.orders.items()):
        if order.phase == "closed" and now_ns - order.closed_ns >= UNSETTLED_KEPT_NS:
            _set_aside(state, name)
    recent = [
        entry.order
        for entry in state.buried.values()
        if now_ns - entry.order.closed_ns < BURIED_KEPT_NS
    ]
    kept = sorted(recent, key=_age)[-BURIED_MAX:]
    if len(kept) < len(state.buried):
        state.buried = {order.order: state.buried[order.order] for order in kept}


def _set_aside(state: State, name: OrderHash) -> None:
    # Sorted: a snapshot does not keep the order in which a state's fills were booked.
    fills = tuple(sorted(fills_of(state, name), key=lambda fill: fill.trade))
    state.buried[name] = Buried(order=state.orders.pop(name), fills=fills)
    for fill in fills:
        del state.fills[fill_key(fill.trade, name)]


def _age(order: Order) -> tuple[int, OrderHash]:
    return order.closed_ns, order.order


def _small(market: Market) -> Market:
    """Return what booking a fill needs of a market: its fees."""
    return Market(
        condition=market.condition,
        tokens=market.tokens,
        outcomes=("", ""),
        tick=market.tick,
        size_min=market.size_min,
        fee_rate=market.fee_rate,
        fee_exponent=market.fee_exponent,
    )
