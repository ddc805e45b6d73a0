"""What the executor says, booked to the leaders who caused it."""

from typing import Final

import msgspec

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
    TargetSet,
)
from shared.domain.positions import Execution, Position, apply, cost_released, yes_price
from shared.domain.units import (
    ZERO_SHARES,
    Price,
    Shares,
    Usd,
    cost_up,
    proceeds_down,
    scale_down,
)

Fill = OrderFilled | FillSettled
Holder = Fill | PositionCorrected
_DOUBLINGS_MAX: Final = 6


def booked(state: State, fill: OrderFilled, now_ns: int) -> list[Fact]:
    """Book an execution to the leader who caused it."""
    position = _position(held_of(state, fill.leader, fill.condition), fill.outcome)
    after = apply(position, _execution(fill))
    return _moves(state, fill, position, after, now_ns)


def undone(state: State, fill: FillSettled, now_ns: int) -> list[Fact]:
    """Take a failed execution back from the leader who caused it.

    A failed sale returns its shares at the price they had been sold for: profit once booked is
    not touched, the cost basis is what the venue would pay again.
    """
    position = _position(held_of(state, fill.leader, fill.condition), fill.outcome)
    shares = -fill.size if fill.side == "BUY" else fill.size
    after = Position(
        shares=Shares(position.shares + shares),
        cost=Usd(position.cost + _undone_cost(fill)),
        realised=position.realised,
    )
    return _moves(state, fill, position, after, now_ns)


def _position(held: Held, outcome: int) -> Position:
    return held.yes if outcome == 0 else held.no


def _moves(state: State, fill: Fill, before: Position, after: Position, now_ns: int) -> list[Fact]:
    """Return what an execution moves: his position, those he took from, a target for the rest."""
    facts: list[Fact] = [_change(fill, before, after, now_ns)]
    facts += _covered(state, fill, after, now_ns)
    if after.shares > before.shares and key_of(fill.leader, fill.condition) not in state.targets:
        facts.append(_unwanted(fill, now_ns))
    return facts


def _covered(state: State, fill: Fill, after: Position, now_ns: int) -> list[HoldingChanged]:
    """Take what he sold beyond his own from those whose shares it was, so that nobody owes any."""
    deficit = Shares(max(0, -after.shares))
    taken = _spread(state, fill, deficit, now_ns, but=fill.leader)
    covered = Shares(sum(-fact.shares for fact in taken))
    if not covered:
        return []
    debtor = Held(leader=fill.leader, condition=fill.condition)
    cost = scale_down(-after.cost, covered, deficit)
    made = cost + sum(fact.cost for fact in taken)  # what he sold had cost what it cost them
    repaid = msgspec.structs.replace(
        _moved(fill, debtor, covered, Position(), now_ns), cost=Usd(cost), realised=Usd(made)
    )
    return [repaid, *taken]


def _unwanted(fill: Fill, now_ns: int) -> TargetSet:
    """Return the target of shares that came after it was given up: none, so they are sold."""
    return TargetSet(
        id=content_id("target_set", fill.id),
        cause=fill.id,
        root=fill.root,
        ts_ns=now_ns,
        leader=fill.leader,
        condition=fill.condition,
        before=ZERO_SHARES,
        target=ZERO_SHARES,
        yes_price=Price(yes_price(fill.outcome, fill.price)),
        venue_ns=now_ns,
        expires_ns=now_ns,
    )


def _change(fill: Fill, before: Position, after: Position, now_ns: int) -> HoldingChanged:
    return HoldingChanged(
        id=content_id("holding_changed", fill.id),
        cause=fill.id,
        root=fill.root,
        ts_ns=now_ns,
        leader=fill.leader,
        condition=fill.condition,
        token=fill.token,
        outcome=fill.outcome,
        shares=Shares(after.shares - before.shares),
        cost=Usd(after.cost - before.cost),
        realised=Usd(after.realised - before.realised),
        order=fill.order,
        approval=fill.approval,
    )


def _execution(fill: OrderFilled) -> Execution:
    notional = (cost_up if fill.side == "BUY" else proceeds_down)(fill.price, fill.size)
    return Execution(side=fill.side, size=fill.size, notional=notional, fee=fill.fee)


def _undone_cost(fill: FillSettled) -> int:
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
    target = state.targets[key_of(failed.leader, failed.condition)]
    return policy.retry_ns << min(target.failures, _DOUBLINGS_MAX)


def attributed(state: State, correction: PositionCorrected, now_ns: int) -> list[Fact]:
    """Spread a correction over its holders.

    What vanished was first nobody's, then theirs who held it; what appeared ends a deficit, and
    beyond that is nobody's.
    """
    nobody = held_of(state, UNATTRIBUTED, correction.condition)
    position = _position(nobody, correction.outcome)
    kept = max(0, min(position.shares, -correction.shares))
    spread = _spread(state, correction, Shares(-correction.shares - kept), now_ns, but=UNATTRIBUTED)
    left = Shares(correction.shares - sum(fact.shares for fact in spread))
    return [*spread, _moved(correction, nobody, left, position, now_ns)] if left else [*spread]


def _spread(
    state: State, cause: Holder, shares: Shares, now_ns: int, *, but: Wallet
) -> list[HoldingChanged]:
    """Take shares from those who hold them, one after the other; give negative ones to debtors."""
    facts: list[HoldingChanged] = []
    for held in sorted(state.held.values(), key=lambda held: held.leader != UNATTRIBUTED):
        if held.condition != cause.condition or held.leader == but:
            continue
        position = _position(held, cause.outcome)
        low, high = min(position.shares, 0), max(position.shares, 0)
        taken = Shares(min(max(shares, low), high))
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
