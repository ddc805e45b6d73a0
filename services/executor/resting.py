"""Orders that stand in the book: until when, and how long at their price. Pure.

An order that is to rest is cancelled when its time is over, when the best price on its side has
moved on by ``reprice_ticks``, or when risk withdraws it. One that was to trade at once and rests
all the same, as after a matching delay, is cancelled when its time is over. The wish is on record
before the venue is asked; what came of the order is decided by the venue's numbers, as ever.
"""

from services.executor.state import Order, Resting, State, open_orders
from shared.domain.ids import content_id
from shared.domain.messages import ApprovalWithdrawn, CancelRequested, Fact
from shared.domain.units import Price


def judged(order: Order | None, message: Resting, now_ns: int) -> list[Fact]:
    """Return the wish to cancel an order that rests too long, or where nobody trades any more."""
    if order is None or order.cancel:
        return []
    if now_ns > order.expires_ns:
        return _asked(order, "rest_over", now_ns)
    if message.near is not None and _is_left_behind(order, message.near):
        return _asked(order, "repriced", now_ns, near=message.near)
    return []


def withdrawn(state: State, message: ApprovalWithdrawn, now_ns: int) -> list[Fact]:
    """Return the wish to cancel what risk wants no more; one that has ended is no matter."""
    for order in open_orders(state):
        if order.approval == message.approval and not order.cancel:
            return _asked(order, "withdrawn", now_ns, cause=message.id)
    return []


def _is_left_behind(order: Order, near: Price) -> bool:
    if order.policy != "post_only" or not order.reprice_ticks:
        return False
    moved = near - order.price if order.side == "BUY" else order.price - near
    return moved >= order.reprice_ticks * order.market.tick


def _asked(
    order: Order, reason: str, now_ns: int, *, near: Price | None = None, cause: str = ""
) -> list[Fact]:
    return [
        CancelRequested(
            id=content_id("cancel_requested", order.order),
            cause=cause or content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            token=order.token,
            reason=reason,
            filled=order.filled,
            near=near,
        )
    ]
