"""What the executor says, booked to the leaders who caused it."""

from typing import Final

from services.risk.state import (
    UNATTRIBUTED,
    Held,
    Policy,
    Reservation,
    State,
    held_of,
    key_of,
)
from shared.domain.ids import Wallet, content_id
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

Holder = FillSettled | PositionCorrected
_DOUBLINGS_MAX: Final = 6


def booked(state: State, fill: OrderFilled, now_ns: int) -> list[Fact]:
    """Book an execution to the leader who caused it."""
    position = _position(held_of(state, fill.leader, fill.condition), fill.outcome)
    return [_change(fill, _effect(position, fill), now_ns)]


def undone(state: State, fill: FillSettled, now_ns: int) -> list[Fact]:
    """Take a failed execution back from the leader who caused it.

    A failed sale returns its shares at the price they had been sold for: profit once booked is
    not touched, the cost basis is what the venue would pay again. Shares of a failed buy that he
    has sold meanwhile were other leaders' shares: theirs shrink, so that nobody owes any.
    """
    position = _position(held_of(state, fill.leader, fill.condition), fill.outcome)
    shares = -fill.size if fill.side == "BUY" else fill.size
    facts: list[Fact] = [_change(fill, (shares, _undone_cost(fill), 0), now_ns)]
    deficit = Shares(max(0, -(position.shares + shares)))
    taken = _spread(state, fill, deficit, now_ns, but=fill.leader)
    covered = Shares(sum(-fact.shares for fact in taken))
    if covered:
        debtor = Held(leader=fill.leader, condition=fill.condition)
        facts.append(_moved(fill, debtor, covered, Position(), now_ns))
    return [*facts, *taken]


def _position(held: Held, outcome: int) -> Position:
    return held.yes if outcome == 0 else held.no


def _change(
    fill: OrderFilled | FillSettled, effect: tuple[int, int, int], now_ns: int
) -> HoldingChanged:
    shares, cost, realised = effect
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
    after = apply(position, _execution(fill))
    return (
        after.shares - position.shares,
        after.cost - position.cost,
        after.realised - position.realised,
    )


def _execution(fill: OrderFilled | FillSettled) -> Execution:
    notional = (cost_up if fill.side == "BUY" else proceeds_down)(fill.price, fill.size)
    return Execution(side=fill.side, size=fill.size, notional=notional, fee=fill.fee)


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
            retry_ns=now_ns if filled else now_ns + _patience_ns(policy, state, reservation),
        )
    ]


def _patience_ns(policy: Policy, state: State, failed: Reservation) -> int:
    """Return how long to wait after an order that did nothing: twice as long each time."""
    target = state.targets.get(key_of(failed.leader, failed.condition))
    return policy.retry_ns << min(target.failures if target else 0, _DOUBLINGS_MAX)


def attributed(state: State, correction: PositionCorrected, now_ns: int) -> list[Fact]:
    """Spread a correction: what vanished leaves those who held it, what appeared is nobody's."""
    vanished = Shares(max(0, -correction.shares))
    taken = _spread(state, correction, vanished, now_ns)
    left = Shares(correction.shares + sum(-fact.shares for fact in taken))
    if left == 0:
        return [*taken]
    nobody = held_of(state, UNATTRIBUTED, correction.condition)
    position = _position(nobody, correction.outcome)
    return [*taken, _moved(correction, nobody, left, position, now_ns)]


def _spread(
    state: State, cause: Holder, shares: Shares, now_ns: int, *, but: Wallet | None = None
) -> list[HoldingChanged]:
    """Take shares of a token from those who hold it, one after the other."""
    facts: list[HoldingChanged] = []
    for held in state.held.values():
        position = _position(held, cause.outcome)
        if held.condition != cause.condition or held.leader == but or position.shares <= 0:
            continue
        taken = Shares(min(position.shares, shares))
        if taken:
            facts.append(_moved(cause, held, Shares(-taken), position, now_ns))
            shares = Shares(shares - taken)
    return facts


def _moved(
    cause: Holder, held: Held, shares: Shares, position: Position, now_ns: int
) -> HoldingChanged:
    released = cost_released(position, Shares(-shares)) if shares < 0 else Usd(0)
    return HoldingChanged(
        id=content_id("holding_changed", cause.id, held.leader, shares),
        cause=cause.id,
        root=cause.root,
        ts_ns=now_ns,
        leader=held.leader,
        condition=cause.condition,
        token=cause.token,
        outcome=cause.outcome,
        shares=shares,
        cost=Usd(-released),
        realised=Usd(0),
        order=None,
        approval="",
    )
