"""How long an order is asked about, when it is sent again, and when the operator has to look.

Three bounds, all on record: it is sent again only within its time to live and a few times; it is
given up as never placed only when the venue was asked often enough once nothing could be under
way; and what has no end long after that is surrendered with what was tried.
"""

from services.executor import answers
from services.executor.answers import closed
from services.executor.lifecycle import Event, after
from services.executor.state import (
    Asked,
    Missing,
    Order,
    Policy,
    Reported,
    State,
    Unreadable,
    fills_of,
)
from shared.domain.ids import content_id
from shared.domain.messages import EndOrder, Fact, OrderResent, OrderSurrendered


def missing(
    policy: Policy, state: State, order: Order | None, message: Missing, now_ns: int
) -> list[Fact]:
    """Send an order again that the venue does not know, or give it up when it can be no more.

    One without any execution was never placed; of one with some, no more can come. One that the
    venue is known to have had is neither: it waits until patience is over.
    """
    if order is None or order.phase == "closed":
        return []
    if _may_resend(policy, order, message, now_ns):
        return [_resent(order, now_ns)]
    executed = bool(fills_of(state, order.order))
    event: Event = "forgotten" if executed else "never_placed"
    enough = message.attempts >= policy.lookup_attempts and now_ns > order.expires_ns
    if enough and after(order.phase, event) is not None:
        return [closed(order, "killed" if executed else event, now_ns)]
    return overdue(policy, order, message.asked, now_ns)


def _may_resend(policy: Policy, order: Order, message: Missing, now_ns: int) -> bool:
    """Tell whether the same bytes may go out again: nothing of the last sending is awaited."""
    if after(order.phase, "resent") is None or message.resends != order.resends or order.cancel:
        return False
    in_time = order.retry_ns <= now_ns <= order.expires_ns
    return in_time and order.resends < policy.resends_max


def _resent(order: Order, now_ns: int) -> OrderResent:
    resend = order.resends + 1
    return OrderResent(
        id=content_id("order_resent", order.order, resend),
        cause=content_id("order_outcome_unknown", order.order),
        root=order.root,
        ts_ns=now_ns,
        order=order.order,
        approval=order.approval,
        resend=resend,
        expires_ns=order.expires_ns,
    )


def reported(policy: Policy, state: State, message: Reported, now_ns: int) -> list[Fact]:
    """Take a look-up; one that shows an order resting is no reason to lose patience with it."""
    facts = answers.reported(state, message, now_ns)
    order = state.orders.get(message.report.order)
    if order is None or facts or order.phase == "closed" or message.report.status == "LIVE":
        return facts
    return overdue(policy, order, message.asked, now_ns)


def unreadable(policy: Policy, order: Order | None, message: Unreadable, now_ns: int) -> list[Fact]:
    if order is None or order.phase == "closed":
        return []
    return overdue(policy, order, message.asked, now_ns)


def given_up(order: Order | None, command: EndOrder, now_ns: int) -> list[Fact]:
    """End a surrendered order by the operator's word; a fill told later is booked all the same."""
    if order is None or not order.surrendered_ns:
        return []
    return [closed(order, "given_up", now_ns, cause=command.id)]


def overdue(policy: Policy, order: Order, asked: Asked, now_ns: int) -> list[Fact]:
    """Surrender an open order long past its time to live; a day later follow it no longer."""
    if order.surrendered_ns:
        if now_ns - order.surrendered_ns <= policy.surrendered_kept_ns:
            return []
        return [closed(order, "abandoned", now_ns)]
    if now_ns <= order.expires_ns + policy.patience_ns:
        return []
    return [
        OrderSurrendered(
            id=content_id("order_surrendered", order.order),
            cause=content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            token=order.token,
            state=order.phase,
            filled=order.filled,
            waited_ns=now_ns - order.prepared_ns,
            posts=asked.posts,
            looks=asked.looks,
            missing=asked.missing,
            unreadable=asked.unreadable,
            last=asked.last,
        )
    ]
