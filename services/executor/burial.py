"""Closed orders are kept small, few and for days: fills have been told long after a kill.

A fill of an order that nobody remembers would be shares that no leader caused and nobody sells.
"""

from typing import Final

import msgspec

from services.executor.lifecycle import after
from services.executor.state import (
    Buried,
    Fill,
    Order,
    State,
    fill_key,
    fills_of,
    is_settled,
    order_of,
)
from shared.domain.ids import OrderHash
from shared.domain.messages import OrderClosed
from shared.domain.units import NS_PER_S

BURIED_MAX: Final = 500  # orders; the oldest is forgotten for the next
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
        cancel="",
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
        state.orders[name] = order_of(name, buried)
        state.fills |= {fill_key(fill.trade, name): fill for fill in buried.fills}


def bury_old(state: State, now_ns: int) -> None:
    """Hold what is kept of closed orders to its bounds; a fill may never become final."""
    for name, order in list(state.orders.items()):
        if order.phase == "closed" and now_ns - order.closed_ns >= UNSETTLED_KEPT_NS:
            _set_aside(state, name)
    recent = [
        (entry.closed_ns, name)
        for name, entry in state.buried.items()
        if now_ns - entry.closed_ns < BURIED_KEPT_NS
    ]
    kept = sorted(recent)[-BURIED_MAX:]
    if len(kept) < len(state.buried):
        state.buried = {name: state.buried[name] for _, name in kept}


def _set_aside(state: State, name: OrderHash) -> None:
    # Sorted: a snapshot does not keep the order in which a state's fills were booked.
    fills = tuple(sorted(fills_of(state, name), key=lambda fill: fill.trade))
    state.buried[name] = _small(state.orders.pop(name), fills)
    for fill in fills:
        del state.fills[fill_key(fill.trade, name)]


def _small(order: Order, fills: tuple[Fill, ...]) -> Buried:
    return Buried(
        approval=order.approval,
        root=order.root,
        leader=order.leader,
        condition=order.condition,
        token=order.token,
        outcome=order.outcome,
        side=order.side,
        price=order.price,
        size=order.size,
        fee_rate=order.market.fee_rate,
        fee_exponent=order.market.fee_exponent,
        prepared_ns=order.prepared_ns,
        expires_ns=order.expires_ns,
        closed_ns=order.closed_ns,
        filled=order.filled,
        fills=fills,
        marks=order.marks,
    )
