"""What the venue says of our orders, in any order and any number of copies."""

from typing import Final

from services.executor.fills import book, moved
from services.executor.lifecycle import Event, after, proves
from services.executor.state import (
    RANK,
    WITHDRAWN,
    Answered,
    Lost,
    Order,
    Proved,
    Refusal,
    Reported,
    State,
    fill_key,
    fills_of,
)
from shared.domain.ids import content_id
from shared.domain.messages import (
    Fact,
    OrderAccepted,
    OrderClosed,
    OrderFilled,
    OrderFound,
    OrderOutcomeUnknown,
    OrderRejected,
)
from shared.domain.observations import OrderReport, OwnFill
from shared.domain.units import Shares
from shared.polymarket.errors import RejectCode

# The venue's words that prove something of an order, in answers and look-ups alike.
PROVED_BY: Final[dict[str, Event]] = {
    "live": "live",
    "unmatched": "live",  # after a delay: it rests (protocol.md 1.5)
    "delayed": "delayed",
    "matched": "matched",
    "duplicated": "duplicated",
}
_MOVED: Final = (RejectCode.POST_ONLY_CROSSES, WITHDRAWN)


def answered(order: Order | None, message: Answered | Proved, now_ns: int) -> list[Fact]:
    """Put the venue's yes on record; an answer already overtaken by fills still is one."""
    status = message.answer.status if isinstance(message, Answered) else "duplicated"
    if order is None or order.answered or after(order.phase, PROVED_BY[status]) is None:
        return []
    return [
        OrderAccepted(
            id=content_id("order_accepted", order.order),
            cause=content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            status=status,
            latency_ns=message.latency_ns,
        )
    ]


def refused(order: Order | None, message: Refusal, now_ns: int) -> list[Fact]:
    """Close an order that was refused, unless more is known of it than that it was prepared."""
    if order is None or after(order.phase, "refused") is None:
        return []
    rejected = OrderRejected(
        id=content_id("order_rejected", order.order),
        cause=content_id("order_prepared", order.order),
        root=order.root,
        ts_ns=now_ns,
        order=order.order,
        approval=order.approval,
        reason=message.reason,
        detail=message.detail,
    )
    # Crossing is no alarm: the book moved while a post-only order was under way.
    kind = "crossed" if message.reason in _MOVED else "rejected"
    return [rejected, closed(order, f"{kind}: {message.reason}", now_ns, cause=rejected.id)]


def lost(order: Order | None, message: Lost, now_ns: int) -> list[Fact]:
    if order is None or after(order.phase, "lost") is None:
        return []
    return [
        OrderOutcomeUnknown(
            id=content_id("order_outcome_unknown", order.order),
            cause=content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            reason=message.reason,
            retry_ns=message.retry_ns,
        )
    ]


def reported(state: State, message: Reported, now_ns: int) -> list[Fact]:
    """Book the fills that were read, and close the order when they are all it matched."""
    report = message.report
    order = state.orders.get(report.order)
    facts: list[Fact] = []
    for fill in _new_first(state, _latest(message.fills)):
        facts += book(state, fill, now_ns)
    if order is None or order.phase == "closed":
        return facts
    if _is_complete(state, order, report, facts):
        filled = Shares(order.filled + sum(moved(fact) for fact in facts))
        reason = "filled" if filled >= order.size else order.cancel or "killed"
        cause = facts[-1].id if facts else ""
        return [*facts, closed(order, reason, now_ns, cause=cause, filled=filled)]
    return facts + _found(order, report, facts, now_ns)


def _is_complete(state: State, order: Order, report: OrderReport, facts: list[Fact]) -> bool:
    """Tell by the sums whether nothing more can come; status words have been seen to lie.

    An order that is called matched while nothing of it is counted contradicts itself.
    """
    ended = report.status in ("CANCELED", "MATCHED") or report.matched >= order.size
    if not ended or (report.status == "MATCHED" and not report.matched):
        return False
    return _seen(state, order, facts) >= report.matched


def _found(order: Order, report: OrderReport, facts: list[Fact], now_ns: int) -> list[Fact]:
    """Say what a look-up proves of an order that is still open, unless a fill just proved it."""
    status = report.status.lower()
    if report.matched or report.status in ("CANCELED", "MATCHED"):
        status = "matched"
    if not proves(order.phase, PROVED_BY[status]) or any(isinstance(f, OrderFilled) for f in facts):
        return []
    return [
        OrderFound(
            id=content_id("order_found", order.order, status),
            cause=content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            status=status,
            matched=report.matched,
        )
    ]


def _new_first(state: State, fills: list[OwnFill]) -> list[OwnFill]:
    """Return new executions before old: the last old one to settle may end a closed order."""
    return sorted(fills, key=lambda fill: fill_key(fill.trade, fill.order) in state.fills)


def _seen(state: State, order: Order, facts: list[Fact]) -> int:
    """Return the shares of all executions, failed ones too: the venue's sum still has them."""
    known = sum(fill.size for fill in fills_of(state, order.order))
    return known + sum(fact.size for fact in facts if isinstance(fact, OrderFilled))


def _latest(fills: tuple[OwnFill, ...]) -> list[OwnFill]:
    """Return each execution once, as it stands last: pages of a moving list repeat rows."""
    latest: dict[str, OwnFill] = {}
    for fill in fills:
        known = latest.setdefault(fill_key(fill.trade, fill.order), fill)
        if RANK[fill.settlement] > RANK[known.settlement]:
            latest[fill_key(fill.trade, fill.order)] = fill
    return list(latest.values())


def closed(
    order: Order, reason: str, now_ns: int, *, cause: str = "", filled: Shares | None = None
) -> OrderClosed:
    return OrderClosed(
        id=content_id("order_closed", order.order),
        cause=cause or content_id("order_prepared", order.order),
        root=order.root,
        ts_ns=now_ns,
        order=order.order,
        approval=order.approval,
        token=order.token,
        filled=order.filled if filled is None else filled,
        reason=reason,
    )
