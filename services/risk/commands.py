"""What the operator asks for besides regimes: whom to follow, and by which settings."""

from services.risk.policy import Policy
from services.risk.state import Settings, State, held_of
from shared.domain.changes import difference
from shared.domain.ids import content_id
from shared.domain.messages import (
    CommandRefused,
    ConfigChanged,
    Fact,
    FollowLeader,
    LeaderFollowed,
    LeaderUnfollowed,
    TargetSet,
    UnfollowLeader,
)
from shared.domain.units import ZERO_SHARES


def followed(
    policy: Policy, state: State, command: UnfollowLeader | FollowLeader, now_ns: int
) -> list[Fact]:
    """Stop or begin again to copy a leader; who stops either keeps or sells what he caused."""
    leader, id_ = command.leader, command.id
    known = leader in policy.leaders or any(t.leader == leader for t in state.targets.values())
    if not known:
        return [_refused(command, f"{leader} is no leader of these settings", now_ns)]
    if isinstance(command, FollowLeader):
        if leader not in state.unfollowed:
            return [_refused(command, f"{leader} is followed already", now_ns)]
        return [
            LeaderFollowed(
                id=content_id("leader_followed", id_),
                cause=id_,
                root=command.root,
                ts_ns=now_ns,
                leader=leader,
                actor=command.actor,
            )
        ]
    if state.unfollowed.get(leader) == command.keep:
        return [_refused(command, f"{leader} is not followed already", now_ns)]
    stopped = LeaderUnfollowed(
        id=content_id("leader_unfollowed", id_),
        cause=id_,
        root=command.root,
        ts_ns=now_ns,
        leader=leader,
        keep=command.keep,
        actor=command.actor,
    )
    return [stopped, *_last_targets(state, command, now_ns)]


def _last_targets(state: State, command: UnfollowLeader, now_ns: int) -> list[Fact]:
    """Return the targets he leaves behind: what is held, or nothing."""
    facts: list[Fact] = []
    for target in state.targets.values():
        if target.leader != command.leader:
            continue
        held = held_of(state, target.leader, target.condition).net
        wanted = held if command.keep else ZERO_SHARES
        if wanted == target.target:
            continue
        facts.append(
            TargetSet(
                id=content_id("target_set", command.id, target.condition),
                cause=command.id,
                root=command.root,
                ts_ns=now_ns,
                leader=target.leader,
                condition=target.condition,
                before=target.target,
                target=wanted,
                yes_price=target.yes_price,
                venue_ns=target.venue_ns,
                expires_ns=now_ns,
            )
        )
    return facts


def reloaded(state: State, settings: Settings) -> list[Fact]:
    """Say which settings changed; who asked is answered even if none did."""
    if settings.error:
        return [
            CommandRefused(
                id=content_id("command_refused", settings.id),
                cause=settings.id,
                root=settings.root,
                ts_ns=settings.now_ns,
                reason=settings.error,
            )
        ]
    changes = difference(state.settings, settings.values)
    asked = settings.actor != "start"
    if not changes and not asked:
        return []
    return [
        ConfigChanged(
            id=content_id("config_changed", settings.id),
            cause=settings.id if asked else "",
            root=settings.root,
            ts_ns=settings.now_ns,
            changes=changes,
            hash=settings.hash,
            actor=settings.actor,
        )
    ]


def _refused(command: UnfollowLeader | FollowLeader, reason: str, now_ns: int) -> CommandRefused:
    return CommandRefused(
        id=content_id("command_refused", command.id),
        cause=command.id,
        root=command.root,
        ts_ns=now_ns,
        reason=reason,
    )
