"""What the venue says of our orders, in any order and any number of copies."""

import msgspec

from services.executor.state import (
    RANK,
    Answered,
    Fill,
    Lost,
    Missing,
    Order,
    Policy,
    Refusal,
    Reported,
    State,
    fill_key,
)
from shared.domain.ids import content_id
from shared.domain.market import fee_up
from shared.domain.messages import (
    DriftFound,
    Fact,
    FillSettled,
    OrderAccepted,
    OrderClosed,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    PositionCorrected,
)
from shared.domain.observations import OwnFill
from shared.domain.units import ZERO_SHARES, Shares, Usd


def answered(order: Order | None, message: Answered, now_ns: int) -> list[Fact]:
    if order is None or order.phase in ("accepted", "closed"):
        return []
    return [
        OrderAccepted(
            id=content_id("order_accepted", order.order),
            cause=content_id("order_prepared", order.order),
            root=order.root,
            ts_ns=now_ns,
            order=order.order,
            approval=order.approval,
            status=message.answer.status,
            latency_ns=message.latency_ns,
        )
    ]


def refused(order: Order | None, message: Refusal, now_ns: int) -> list[Fact]:
    if order is None or order.phase == "closed":
        return []
    if order.filled:  # a killed order that filled all the same: REST will tell how much
        said = Lost(order=order.order, reason=f"refused with fills: {message.reason}")
        return lost(order, said, now_ns)
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
    return [rejected, _closed(order, f"rejected: {message.reason}", rejected.id, now_ns)]


def lost(order: Order | None, message: Lost, now_ns: int) -> list[Fact]:
    if order is None or order.phase != "prepared":
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
        )
    ]


def book(state: State, fill: OwnFill, now_ns: int) -> list[Fact]:
    order = state.orders.get(fill.order)
    if order is None:
        return []  # not ours to book: by hand, or long closed; the reconciler compares the sums
    known = state.fills.get(fill_key(fill.trade, fill.order))
    if known is None and fill.settlement == "FAILED":
        return _failed_unseen(order, fill, now_ns)
    if known is None:
        return [_booked(order, fill, now_ns)]
    if RANK[known.settlement] >= RANK[fill.settlement]:
        return []
    return [_settled(order, known, fill, now_ns)]


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


def reported(state: State, message: Reported, now_ns: int) -> list[Fact]:
    """Book the fills that were read, and close the order when they are all it matched."""
    report = message.report
    order = state.orders.get(report.order)
    if order is None:
        return []
    facts: list[Fact] = []
    for fill in _new_first(state, _latest(message.fills)):
        facts += book(state, fill, now_ns)
    if order.phase == "closed":
        return facts
    if report.status in ("CANCELED", "MATCHED") and _seen(state, order, facts) >= report.matched:
        filled = Shares(order.filled + sum(moved(fact) for fact in facts))
        reason = "filled" if filled >= order.size else "killed"
        facts.append(_closed(order, reason, facts[-1].id if facts else "", now_ns, filled))
    return facts


def _new_first(state: State, fills: list[OwnFill]) -> list[OwnFill]:
    """Return new executions before old: the last old one to settle may end a closed order."""
    return sorted(fills, key=lambda fill: fill_key(fill.trade, fill.order) in state.fills)


def _seen(state: State, order: Order, facts: list[Fact]) -> int:
    """Return the shares of all executions, failed ones too: the venue's sum still has them."""
    known = sum(fill.size for fill in state.fills.values() if fill.order == order.order)
    return known + sum(fact.size for fact in facts if isinstance(fact, OrderFilled))


def _latest(fills: tuple[OwnFill, ...]) -> list[OwnFill]:
    """Return each execution once, as it stands last: pages of a moving list repeat rows."""
    latest: dict[str, OwnFill] = {}
    for fill in fills:
        known = latest.setdefault(fill_key(fill.trade, fill.order), fill)
        if RANK[fill.settlement] > RANK[known.settlement]:
            latest[fill_key(fill.trade, fill.order)] = fill
    return list(latest.values())


def moved(fact: Fact) -> int:
    match fact:
        case OrderFilled(size=size):
            return size
        case FillSettled(settlement="FAILED", size=size):
            return -size
        case _:
            return 0


def missing(
    policy: Policy, state: State, order: Order | None, message: Missing, now_ns: int
) -> list[Fact]:
    """Give an order up that the venue does not know: asked often enough, past its time to live.

    One without any execution was never placed; of one with some, no more can come.
    """
    if order is None or order.phase == "closed":
        return []
    if message.attempts < policy.lookup_attempts or now_ns <= order.expires_ns:
        return []
    executed = any(fill.order == order.order for fill in state.fills.values())
    return [_closed(order, "killed" if executed else "never_placed", "", now_ns)]


def _closed(
    order: Order, reason: str, cause: str, now_ns: int, filled: Shares | None = None
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


def corrected(state: State, drift: DriftFound, now_ns: int) -> list[Fact]:
    """Apply a drift once, and only to the belief it was measured against.

    A fill booked since then may be the very difference: to correct it too would count it twice.
    """
    held = state.holdings.get(drift.token)
    believed = held.position.shares if held else ZERO_SHARES
    if drift.id in state.corrected or believed != drift.believed:
        return []
    return [
        PositionCorrected(
            id=content_id("position_corrected", drift.id),
            cause=drift.id,
            root=drift.root,
            ts_ns=now_ns,
            condition=drift.condition,
            token=drift.token,
            outcome=drift.outcome,
            shares=Shares(drift.observed - drift.believed),
            reason=drift.probable_cause,
        )
    ]
