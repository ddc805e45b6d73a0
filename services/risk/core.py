"""Intents become targets, targets become approved orders or refusals with their numbers."""

from typing import Any, Final

import msgspec

from services.risk import booking, commands, ending, equity, regime, steps
from services.risk.cases import DAY_NS
from services.risk.policy import NEVER_NS, Policy
from services.risk.state import (
    Group,
    Reconsider,
    Reservation,
    Review,
    Settings,
    State,
    held_of,
    key_of,
)
from services.risk.working import CALLED_OFF
from shared.domain.messages import (
    ApprovalWithdrawn,
    CommandRefused,
    ConfigChanged,
    EquityMarked,
    Fact,
    FillSettled,
    FollowLeader,
    HaltTrading,
    HoldingChanged,
    LeaderFollowed,
    LeadersNetted,
    LeaderUnfollowed,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderRefused,
    PositionClosed,
    PositionCorrected,
    ReduceOnly,
    RegimeChanged,
    ReservationEnded,
    ResumeTrading,
    TargetExpired,
    TargetSet,
    UnfollowLeader,
)
from shared.domain.positions import Position
from shared.domain.units import Price, Shares, Usd

_REJECTS_KEPT: Final = 100
_ENDED_KEPT: Final = 1_000  # netted orders whose settlement may still fail
_AVERAGES_KEPT: Final = 1_000  # of slippage


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
        case PositionClosed():
            return ending.closed(state, message, now_ns)
        case Settings():
            return commands.reloaded(state, message)
        case _:
            return _obey(policy, state, message, now_ns)


def _obey(policy: Policy, state: State, command: object, now_ns: int) -> list[Fact]:
    match command:
        case HaltTrading():
            return regime.by_command(state, command, "halted")
        case ReduceOnly():
            return regime.by_command(state, command, "reduce_only")
        case ResumeTrading():
            return regime.by_command(state, command, "normal")
        case UnfollowLeader() | FollowLeader():
            return commands.followed(policy, state, command, now_ns)
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
        case ApprovalWithdrawn():
            reserved = state.reserved[fact.approval]
            state.reserved[fact.approval] = msgspec.structs.replace(reserved, withdrawn=True)
        case _:
            _take_note(state, fact)


def _take_note(state: State, fact: Fact) -> None:
    """Apply what is no trade: how we stand, whom we follow, by which settings."""
    match fact:
        case RegimeChanged():
            _change_regime(state, fact)
        case EquityMarked():
            state.equity = equity.equity_from(fact)
        case LeaderUnfollowed():
            state.unfollowed[fact.leader] = fact.keep
        case LeaderFollowed():
            state.unfollowed.pop(fact.leader, None)
        case ConfigChanged():
            _change_settings(state, fact)
        case LeadersNetted() | CommandRefused():
            pass  # what they moved is told by facts of its own
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
    worst = fact.worst_usd
    state.reserved[fact.id] = Reservation(
        leader=fact.leader,
        condition=fact.condition,
        token=fact.token,
        outcome=fact.market.outcome_of(fact.token),
        side=fact.side,
        size=fact.size,
        worst_usd=worst,
        leader_usd=worst if fact.leader_usd is None else fact.leader_usd,
        market_usd=worst if fact.market_usd is None else fact.market_usd,
        nets=fact.market.complement(fact.token) if fact.nets else None,
        estimate=fact.quote.average or Price(0),
        opens=not fact.reduces,
        rests=fact.policy == "post_only",
        next_ns=fact.next_ns,
    )
    state.groups[fact.condition] = Group(fact.market.event, fact.category)
    target = state.targets[key]
    rested_ns = fact.expires_ns if fact.policy == "post_only" else 0
    state.targets[key] = msgspec.structs.replace(
        target,
        attempts=target.attempts + 1,
        last_reason="",
        rest_until_ns=target.rest_until_ns or rested_ns,
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
    old = held.of(fact.outcome)
    new = Position(
        shares=Shares(old.shares + fact.shares),
        cost=Usd(old.cost + fact.cost),
        realised=Usd(old.realised + fact.realised),
    )
    held = msgspec.structs.replace(held, **{"yes" if fact.outcome == 0 else "no": new})
    was = state.held.get(key)
    if held.yes.shares == held.no.shares == 0:
        state.held.pop(key, None)
        _forget(state, key)
    else:
        state.held[key] = held
    now = state.held.get(key)
    grown = (now.cost if now else 0) - (was.cost if was else 0)
    _sum(state.costs, fact.condition, grown)
    _sum(state.leader_costs, fact.leader, grown)
    _cross(state, fact)
    _look_again(state, key)
    reservation = state.reserved.get(fact.approval)
    if reservation is not None:
        itself = fact.token == reservation.token  # else booked on the other outcome
        filled = fact.shares if (reservation.side == "BUY") == itself else -fact.shares
        dollars = fact.notional if itself else filled - fact.notional
        state.reserved[fact.approval] = msgspec.structs.replace(
            reservation,
            filled=Shares(reservation.filled + filled),
            notional=Usd(reservation.notional + dollars),
        )
    day = fact.ts_ns // DAY_NS
    state.realised_today = Usd(fact.realised + (state.realised_today if day == state.day else 0))
    state.realised = Usd(state.realised + fact.realised)
    state.day = day


def _sum(costs: dict[Any, Usd], name: str, grown: int) -> None:
    costs[name] = Usd(costs.get(name, 0) + grown)
    if not costs[name]:
        del costs[name]


def _cross(state: State, fact: HoldingChanged) -> None:
    sets = state.crossed.get(fact.condition, Shares(0)) + fact.crossed
    if sets:
        state.crossed[fact.condition] = Shares(sets)
    else:
        state.crossed.pop(fact.condition, None)


def _look_again(state: State, key: str) -> None:
    """Let a gap that was too small to trade be judged anew: what is held has changed."""
    target = state.targets.get(key)
    if target is not None and target.retry_ns == NEVER_NS:
        state.targets[key] = msgspec.structs.replace(target, retry_ns=0, last_reason="")


def _release(state: State, fact: ReservationEnded) -> None:
    ended = state.reserved.pop(fact.approval, None)
    if ended is not None and ended.nets is not None:
        state.netting[fact.approval] = ended.nets
        _keep_last(state.netting, _ENDED_KEPT)
    key = key_of(fact.leader, fact.condition)
    target = state.targets[key]  # kept while anything of it is in flight
    failed = not fact.filled and fact.reason not in CALLED_OFF
    failures = target.failures + 1 if failed else 0
    state.targets[key] = msgspec.structs.replace(target, retry_ns=fact.retry_ns, failures=failures)
    _forget(state, key)
    markets = {held.condition for held in state.held.values()}
    markets |= {reserved.condition for reserved in state.reserved.values()}
    state.groups = {at: group for at, group in state.groups.items() if at in markets}
    if fact.reason.startswith("rejected"):
        state.rejects = [*state.rejects, fact.ts_ns][-_REJECTS_KEPT:]
    for name, average in fact.slippage:
        state.slippage.pop(name, None)
        state.slippage[name] = average
    _keep_last(state.slippage, _AVERAGES_KEPT)


def _keep_last(kept: dict[str, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _change_regime(state: State, fact: RegimeChanged) -> None:
    state.regime, state.regime_reason = fact.regime, fact.reason
    by_rule = fact.actor == "rule"
    if fact.ordered is not None:
        state.ordered, state.entered = fact.ordered, fact.entered
    elif by_rule:  # as it was told before rules had names
        state.entered = (fact.reason,) if fact.regime != "normal" else ()
    else:
        state.ordered, state.entered = fact.regime, ()


def _change_settings(state: State, fact: ConfigChanged) -> None:
    state.config_hash = fact.hash
    for key, _, after in fact.changes:
        if after:
            state.settings[key] = after
        else:
            state.settings.pop(key, None)


__all__ = ["Policy", "State", "decide", "evolve"]
