"""Executions of our orders, booked once by (trade, order), settled forward, taken back if void."""

import msgspec

from services.executor.state import RANK, Fill, Order, State, known_fill, known_order
from shared.domain.ids import content_id
from shared.domain.market import fee_up
from shared.domain.messages import Fact, FillSettled, OrderFilled
from shared.domain.observations import OwnFill
from shared.domain.units import Usd


def book(state: State, fill: OwnFill, now_ns: int) -> list[Fact]:
    """Return what a word on an execution adds; its order may have been closed for days."""
    order = known_order(state, fill.order)
    if order is None:
        return []  # not ours to book: by hand, or of long ago; the reconciler compares the sums
    known = known_fill(state, fill.trade, fill.order)
    if known is None and fill.settlement == "FAILED":
        return _failed_unseen(order, fill, now_ns)
    if known is None:
        return [_booked(order, fill, now_ns)]
    if RANK[known.settlement] >= RANK[fill.settlement]:
        return []
    return [_settled(order, known, fill, now_ns)]


def moved(fact: Fact) -> int:
    """Return the shares a fact adds to what its order filled."""
    match fact:
        case OrderFilled(size=size):
            return size
        case FillSettled(settlement="FAILED", size=size):
            return -size
        case _:
            return 0


def _booked(order: Order, fill: OwnFill, now_ns: int) -> OrderFilled:
    fee = fee_up(order.market, fill.price, fill.size) if fill.taker else Usd(0)
    return OrderFilled(
        id=content_id("order_filled", fill.trade, fill.order),
        cause=content_id("order_prepared", order.order),
        root=order.root,
        ts_ns=now_ns,
        order=order.order,
        approval=order.approval,
        leader=order.leader,
        condition=order.condition,
        token=order.token,
        outcome=order.outcome,
        trade=fill.trade,
        side=order.side,
        price=fill.price,
        size=fill.size,
        fee=fee,
        settlement=fill.settlement,
        venue_ns=fill.venue_ns,
    )


def _failed_unseen(order: Order, fill: OwnFill, now_ns: int) -> list[Fact]:
    """Book and take back: on record as failed, so an older word still to come books nothing."""
    booked = _booked(order, msgspec.structs.replace(fill, settlement="MATCHED"), now_ns)
    return [booked, _settled(order, booked, fill, now_ns)]


def _settled(order: Order, known: Fill | OrderFilled, fill: OwnFill, now_ns: int) -> FillSettled:
    return FillSettled(
        id=content_id("fill_settled", fill.trade, fill.order, fill.settlement),
        cause=content_id("order_filled", fill.trade, fill.order),
        root=order.root,
        ts_ns=now_ns,
        order=order.order,
        approval=order.approval,
        leader=order.leader,
        condition=order.condition,
        token=order.token,
        outcome=order.outcome,
        trade=fill.trade,
        side=order.side,
        price=known.price,
        size=known.size,
        fee=known.fee,
        settlement=fill.settlement,
    )
