"""What the executor says, booked to the leaders who caused it."""

from services.risk.state import UNATTRIBUTED, Held, Policy, State, held_of
from shared.domain.ids import content_id
from shared.domain.messages import (
    Fact,
    FillSettled,
    HoldingChanged,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    PositionCorrected,
    ReservationEnded,
)
from shared.domain.positions import Execution, Position, apply, cost_released
from shared.domain.units import Shares, Usd, cost_up, proceeds_down


def booked(
    state: State, fill: OrderFilled | FillSettled, now_ns: int, *, undo: bool
) -> HoldingChanged:
    """Book an execution to the leader who caused it, or take a failed one back.

    A failed sale returns its shares at the price they had been sold for: profit once booked is
    not touched, the cost basis is what the venue would pay again.
    """
    held = held_of(state, fill.leader, fill.condition)
    position = held.yes if fill.outcome == 0 else held.no
    shares, cost, realised = _effect(position, fill)
    if undo:
        shares, cost, realised = -shares, _undone_cost(fill), 0
    return HoldingChanged(
        id=content_id("holding_changed", fill.id),
        cause=fill.id,
        root=fill.root,
        ts_ns=now_ns,
        leader=fill.leader,
        condition=fill.condition,
        token=fill.token,
        outcome=fill.outcome,
        shares=Shares(shares),
        cost=Usd(cost),
        realised=Usd(realised),
        order=fill.order,
        approval=fill.approval,
    )


def _effect(position: Position, fill: OrderFilled | FillSettled) -> tuple[int, int, int]:
    buys = fill.side == "BUY"
    notional = (cost_up if buys else proceeds_down)(fill.price, fill.size)
    after = apply(
        position, Execution(side=fill.side, size=fill.size, notional=notional, fee=fill.fee)
    )
    return (
        after.shares - position.shares,
        after.cost - position.cost,
        after.realised - position.realised,
    )


def _undone_cost(fill: OrderFilled | FillSettled) -> int:
    if fill.side == "BUY":
        return -(cost_up(fill.price, fill.size) + fill.fee)
    return proceeds_down(fill.price, fill.size) - fill.fee


def released(
    policy: Policy, state: State, end: OrderDeclined | OrderClosed, now_ns: int
) -> list[Fact]:
    reservation = state.reserved.get(end.approval)
    if reservation is None:
        return []
    filled = end.filled if isinstance(end, OrderClosed) else Shares(0)
    return [
        ReservationEnded(
            id=content_id("reservation_ended", end.approval),
            cause=end.id,
            root=end.root,
            ts_ns=now_ns,
            leader=reservation.leader,
            condition=reservation.condition,
            token=reservation.token,
            approval=end.approval,
            filled=filled,
            reason=end.reason,
            retry_ns=now_ns if filled else now_ns + policy.retry_ns,
        )
    ]


def attributed(state: State, correction: PositionCorrected, now_ns: int) -> list[Fact]:
    """Spread a correction: what vanished leaves those who held it, what appeared is nobody's."""
    left = correction.shares
    facts: list[Fact] = []
    if left < 0:
        for held in state.held.values():
            position = held.yes if correction.outcome == 0 else held.no
            if held.condition != correction.condition or position.shares <= 0 or left == 0:
                continue
            taken = min(position.shares, -left)
            facts.append(_correction(correction, held, Shares(-taken), position, now_ns))
            left = Shares(left + taken)
    if left:
        nobody = held_of(state, UNATTRIBUTED, correction.condition)
        position = nobody.yes if correction.outcome == 0 else nobody.no
        facts.append(_correction(correction, nobody, left, position, now_ns))
    return facts


def _correction(
    correction: PositionCorrected, held: Held, shares: Shares, position: Position, now_ns: int
) -> HoldingChanged:
    released = cost_released(position, Shares(-shares)) if shares < 0 else Usd(0)
    return HoldingChanged(
        id=content_id("holding_changed", correction.id, held.leader),
        cause=correction.id,
        root=correction.root,
        ts_ns=now_ns,
        leader=held.leader,
        condition=correction.condition,
        token=correction.token,
        outcome=correction.outcome,
        shares=shares,
        cost=Usd(-released),
        realised=Usd(0),
        order=None,
        approval="",
    )
