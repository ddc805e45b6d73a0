"""What the executor would say of an order that filled: for a core that is asked without a venue."""

from shared.domain.ids import OrderHash, content_id
from shared.domain.messages import OrderApproved, OrderClosed, OrderFilled
from shared.domain.units import Price, Shares, Usd


def filled(
    order: OrderApproved, size: Shares, price: Price, *, fee: Usd, now_ns: int
) -> OrderFilled:
    """Return the one execution of an order."""
    return OrderFilled(
        id=content_id("order_filled", order.id),
        cause=order.id,
        root=order.root,
        ts_ns=now_ns,
        order=_hash(order),
        approval=order.id,
        leader=order.leader,
        condition=order.condition,
        token=order.token,
        outcome=order.market.outcome_of(order.token),
        trade=order.id,
        side=order.side,
        price=price,
        size=size,
        fee=fee,
        settlement="CONFIRMED",
        venue_ns=now_ns,
    )


def closed(order: OrderApproved, size: Shares, *, now_ns: int) -> OrderClosed:
    """Return the end of an order of which so much was filled."""
    return OrderClosed(
        id=content_id("order_closed", order.id),
        cause=order.id,
        root=order.root,
        ts_ns=now_ns,
        order=_hash(order),
        approval=order.id,
        token=order.token,
        filled=size,
        reason="filled" if size == order.size else "killed",
    )


def _hash(order: OrderApproved) -> OrderHash:
    return OrderHash("0x" + content_id("order", order.id) * 2)
