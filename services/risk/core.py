"""Intents become targets, targets become approved orders or refusals with their numbers."""

from typing import Final

import msgspec

from services.risk import booking, regime, steps
from services.risk.state import (
    NEVER_NS,
    Policy,
    Reconsider,
    Reservation,
    Review,
    State,
    held_of,
    key_of,
)
from shared.domain.messages import (
    Fact,
    FillSettled,
    HaltTrading,
    HoldingChanged,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderRefused,
    PositionCorrected,
    RegimeChanged,
    ReservationEnded,
    ResumeTrading,
    TargetExpired,
    TargetSet,
)
from shared.domain.positions import Position
from shared.domain.units import Shares, Usd

_REJECTS_KEPT: Final = 100


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what follows from an intent, from time, from what the executor said, or a command."""
    match message:
        case Review():
            return steps.follow(policy, state, message, now_ns)
        case Reconsider():
            return steps.reconsider(policy, state, message)
        case OrderFilled():
            return booking.booked(state, message, now_ns)
        case FillSettled(settlement="FAILED"):
            return booking.undone(state, message, now_ns)
        case OrderDeclined() | OrderClosed():
            return booking.released(policy, state, message, now_ns)
        case PositionCorrected():
            return booking.attributed(state, message, now_ns)
        case HaltTrading():
            return regime.by_command(state, message, "halted")
        case ResumeTrading():
            return regime.by_command(state, message, "normal")
        case _:
            return []


def evolve(state: State, fact: Fact) -> None:
    """Apply one of risk's own facts."""
    match fact:
        case TargetSet():
            key = key_of(fact.leader, fact.condition)
            state.targets[key] = steps.target_from(fact)
            _forget(state, key)
        case TargetExpired():
            _settle_target(state, key_of(fact.leader, fact.condition), fact.held)
        case OrderApproved():
            _reserve(state, fact)
        case OrderRefused():
            _note_refusal(state, fact)
        case HoldingChanged():
            _hold(state, fact)
        case ReservationEnded():
            _release(state, fact)
        case RegimeChanged():
            state.regime, state.regime_reason = fact.regime, fact.reason
        case _:
            raise AssertionError(f"not a fact of risk: {fact}")


def _settle_target(state: State, key: str, target: Shares) -> None:
    """Move a target to what is held."""
    old = state.targets[key]
    state.targets[key] = msgspec.structs.replace(old, target=target, last_reason="")
    _forget(state, key)


def _forget(state: State, key: str) -> None:
    """Drop a target that wants nothing, where nothing is held and nothing in flight."""
    target = state.targets.get(key)
    if target is None or target.target or key in state.held:
        return
    if not any(key_of(r.leader, r.condition) == key for r in state.reserved.values()):
        del state.targets[key]


def _reserve(state: State, fact: OrderApproved) -> None:
    key = key_of(fact.leader, fact.condition)
    state.reserved[fact.id] = Reservation(
        leader=fact.leader,
        condition=fact.condition,
        token=fact.token,
        outcome=fact.market.outcome_of(fact.token),
        side=fact.side,
        size=fact.size,
        worst_usd=fact.worst_usd,
    )
    state.events[fact.condition] = fact.market.event
    target = state.targets[key]
    state.targets[key] = msgspec.structs.replace(
        target, attempts=target.attempts + 1, last_reason=""
    )


def _note_refusal(state: State, fact: OrderRefused) -> None:
    key = key_of(fact.leader, fact.condition)
    if fact.final:
        held = held_of(state, fact.leader, fact.condition).net
        _settle_target(state, key, held)
        return
    state.targets[key] = msgspec.structs.replace(
        state.targets[key], last_reason=fact.reason, retry_ns=fact.retry_ns
    )


def _hold(state: State, fact: HoldingChanged) -> None:
    key = key_of(fact.leader, fact.condition)
    held = held_of(state, fact.leader, fact.condition)
    old = held.yes if fact.outcome == 0 else held.no
    new = Position(
        shares=Shares(old.shares + fact.shares),
        cost=Usd(old.cost + fact.cost),
        realised=Usd(old.realised + fact.realised),
    )
    held = msgspec.structs.replace(held, **{"yes" if fact.outcome == 0 else "no": new})
    if held.yes.shares == held.no.shares == 0:
        state.held.pop(key, None)
        _forget(state, key)
    else:
        state.held[key] = held
    _look_again(state, key)
    if fact.approval in state.reserved:
        reservation = state.reserved[fact.approval]
        moved = fact.shares if reservation.side == "BUY" else -fact.shares
        state.reserved[fact.approval] = msgspec.structs.replace(
            reservation, filled=Shares(reservation.filled + moved)
        )
    day = fact.ts_ns // steps.DAY_NS
    state.realised_today = Usd(fact.realised + (state.realised_today if day == state.day else 0))
    state.day = day


def _look_again(state: State, key: str) -> None:
    """Let a gap that was too small to trade be judged anew: what is held has changed."""
    target = state.targets.get(key)
    if target is not None and target.retry_ns == NEVER_NS:
        state.targets[key] = msgspec.structs.replace(target, retry_ns=0, last_reason="")


def _release(state: State, fact: ReservationEnded) -> None:
    state.reserved.pop(fact.approval, None)
    key = key_of(fact.leader, fact.condition)
    target = state.targets[key]  # kept while anything of it is in flight
    failures = 0 if fact.filled else target.failures + 1
    state.targets[key] = msgspec.structs.replace(target, retry_ns=fact.retry_ns, failures=failures)
    _forget(state, key)
    markets = {held.condition for held in state.held.values()}
    markets |= {reserved.condition for reserved in state.reserved.values()}
    state.events = {at: event for at, event in state.events.items() if at in markets}
    if fact.reason.startswith("rejected"):
        state.rejects = [*state.rejects, fact.ts_ns][-_REJECTS_KEPT:]


__all__ = ["Policy", "State", "decide", "evolve"]
