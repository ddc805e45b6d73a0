"""Belief against the venue: a pure difference, confirmed before it corrects.

The venue's positions lag its matches, so a difference counts only when nothing of the token
moved for a grace period and the same difference was seen in several observations, each newer
than the last. A confirmed difference is a fact; the owner of the position applies it, once.
"""

from typing import Literal

import msgspec

from services.reconciler.causes import Diagnosis, Known, diagnose
from shared.domain.ids import ConditionId, OrderHash, TokenId, content_id
from shared.domain.messages import DriftCleared, DriftFound, DriftSuspected, Fact, OrphanFound
from shared.domain.observations import OrderReport, PositionReport
from shared.domain.units import MICRO, NS_PER_MS, Shares, Usd
from shared.domain.views import DriftLine, DriftView, PositionsView, PositionView


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    confirmations: int  # observations that must agree, the first included
    grace_ns: int  # how long a token that moved is excused: the venue's index lags
    excuse_ns_max: int  # how long an open order or an unsettled fill excuses its token
    dust: Shares


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    believed: Shares
    observed: Shares
    first_seen_ns: int
    found: bool = False  # reported; waits for the owner to apply it


class State(msgspec.Struct):
    suspects: dict[TokenId, Suspect] = {}
    orphans: list[OrderHash] = []  # reported, bounded
    corrections: int = 0
    last_clear_ms: int = 0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the executor believes and what the venue says, read at the same time.

    ``agreed`` counts, for each token, how many observations in a row showed this difference.
    """

    as_of_ns: int
    believed: PositionsView
    observed: tuple[PositionReport, ...]
    open_orders: tuple[OrderReport, ...]
    agreed: dict[TokenId, int] = {}
    known: dict[TokenId, Known] = {}  # of differences that are about to be found


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    believed: Shares
    observed: Shares
    usd: Usd
    excused: bool


_ORPHANS_KEPT = 100
_UNREAD = Diagnosis("unexplained", "the venue's account of it could not be read")


def difference(policy: Policy, seen: Observation) -> list[Difference]:
    """Return the tokens on which belief and venue differ by more than dust, over their union."""
    ours = {p.token: p for p in seen.believed.positions}
    theirs = {p.token: p for p in seen.observed}
    found = []
    for token in sorted(ours.keys() | theirs.keys()):
        mine, report = ours.get(token), theirs.get(token)
        believed = mine.shares if mine else Shares(0)
        observed = report.size if report else Shares(0)
        if abs(observed - believed) < policy.dust:
            continue
        outcome = mine.outcome if mine else (0 if report is None or report.outcome == 0 else 1)
        condition = mine.condition if mine else (report.condition if report else ConditionId(""))
        found.append(
            Difference(
                condition=condition,
                token=token,
                outcome=outcome,
                believed=believed,
                observed=observed,
                usd=_stake(believed, observed, mine, report),
                excused=_is_excused(policy, seen, token, mine),
            )
        )
    return found


def _stake(
    believed: Shares, observed: Shares, mine: PositionView | None, report: PositionReport | None
) -> Usd:
    """Return the dollars of a difference: at the venue's price, else at our average cost."""
    gap = abs(observed - believed)
    if report is not None and report.current_price:
        return Usd(gap * report.current_price // MICRO)
    if mine is not None and mine.shares > 0:
        return Usd(gap * mine.cost // mine.shares)
    return Usd(gap)  # nothing prices it: a dollar a share is its worst


def _is_excused(
    policy: Policy, seen: Observation, token: TokenId, mine: PositionView | None
) -> bool:
    """Tell whether something of a token is in motion, or was a moment ago; not for ever."""
    since = [order.since_ns for order in seen.believed.orders if order.token == token]
    if mine is not None and mine.unsettled:
        since.append(mine.unsettled_since_ns)
    if any(seen.as_of_ns - since_ns < policy.excuse_ns_max for since_ns in since):
        return True
    return mine is not None and seen.as_of_ns - mine.changed_ns < policy.grace_ns


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what an observation says of drift: suspected, found, or cleared; and orphans."""
    if not isinstance(message, Observation):
        return []
    differences = [d for d in difference(policy, message) if not d.excused]
    facts: list[Fact] = []
    for entry in differences:
        facts += _judge(policy, state, entry, message, now_ns)
    standing = {entry.token for entry in difference(policy, message)}
    for token, suspect in state.suspects.items():
        if token not in standing:
            facts.append(_cleared(token, suspect, now_ns))
    facts += _orphans(policy, state, message, now_ns)
    return facts


def _judge(
    policy: Policy, state: State, entry: Difference, seen: Observation, now_ns: int
) -> list[Fact]:
    suspect = state.suspects.get(entry.token)
    if suspect is None or (suspect.believed, suspect.observed) != (entry.believed, entry.observed):
        if suspect is not None and suspect.found and suspect.believed == entry.believed:
            return []  # reported and not yet applied: a second report would correct twice
        return [_suspected(entry, now_ns)]
    if suspect.found or seen.agreed.get(entry.token, 0) < policy.confirmations:
        return []
    return [_found(entry, suspect, seen, now_ns)]


def _suspected(entry: Difference, now_ns: int) -> DriftSuspected:
    id_ = content_id("drift_suspected", entry.token, entry.believed, entry.observed, now_ns)
    return DriftSuspected(
        id=id_,
        cause="",
        root=id_,
        ts_ns=now_ns,
        token=entry.token,
        believed=entry.believed,
        observed=entry.observed,
    )


def _found(entry: Difference, suspect: Suspect, seen: Observation, now_ns: int) -> DriftFound:
    first = content_id(
        "drift_suspected", entry.token, entry.believed, entry.observed, suspect.first_seen_ns
    )
    mine = next((p for p in seen.believed.positions if p.token == entry.token), None)
    known = seen.known.get(entry.token)
    gap = Shares(entry.observed - entry.believed)
    told = diagnose(gap, entry.token, entry.outcome, mine, known) if known else _UNREAD
    return DriftFound(
        id=content_id("drift_found", first),
        cause=first,
        root=first,
        ts_ns=now_ns,
        condition=entry.condition,
        token=entry.token,
        outcome=entry.outcome,
        believed=entry.believed,
        observed=entry.observed,
        usd=entry.usd,
        probable_cause=told.cause,
        first_seen_ns=suspect.first_seen_ns,
        evidence=told.evidence,
    )


def _cleared(token: TokenId, suspect: Suspect, now_ns: int) -> DriftCleared:
    cause = content_id(
        "drift_suspected", token, suspect.believed, suspect.observed, suspect.first_seen_ns
    )
    return DriftCleared(
        id=content_id("drift_cleared", cause),
        cause=cause,
        root=cause,
        ts_ns=now_ns,
        token=token,
        found=suspect.found,
        duration_ms=(now_ns - suspect.first_seen_ns) // NS_PER_MS,
    )


def _orphans(policy: Policy, state: State, seen: Observation, now_ns: int) -> list[Fact]:
    """Report open orders at the venue that the executor does not know; it cancels them."""
    known = {order.order for order in seen.believed.orders} | set(state.orphans)
    return [
        OrphanFound(
            id=content_id("orphan_found", order.order),
            cause="",
            root=content_id("orphan_found", order.order),
            ts_ns=now_ns,
            order=order.order,
            condition=order.condition,
            token=order.token,
        )
        for order in {order.order: order for order in seen.open_orders}.values()
        if order.order not in known
    ]


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the reconciler's own facts."""
    match fact:
        case DriftSuspected():
            state.suspects[fact.token] = Suspect(
                believed=fact.believed, observed=fact.observed, first_seen_ns=fact.ts_ns
            )
        case DriftFound():
            suspect = state.suspects[fact.token]
            state.suspects[fact.token] = msgspec.structs.replace(suspect, found=True)
            state.corrections += 1
        case DriftCleared():
            del state.suspects[fact.token]
            if fact.found:
                state.last_clear_ms = fact.duration_ms
        case OrphanFound():
            state.orphans = [*state.orphans, fact.order][-_ORPHANS_KEPT:]
        case _:
            raise AssertionError(f"not a fact of the reconciler: {fact}")


def view(policy: Policy, state: State, seen: Observation) -> DriftView:
    """Return what people and risk may read: every difference, and the dollars not excused."""
    lines = []
    for entry in difference(policy, seen):
        suspect = state.suspects.get(entry.token)
        kind: Literal["excused", "suspected", "found"] = "excused"
        if not entry.excused:
            kind = "found" if suspect is not None and suspect.found else "suspected"
        lines.append(
            DriftLine(
                token=entry.token,
                believed=entry.believed,
                observed=entry.observed,
                usd=entry.usd,
                state=kind,
            )
        )
    return DriftView(
        as_of_ns=seen.as_of_ns,
        drift_usd=Usd(sum(line.usd for line in lines if line.state != "excused")),
        lines=tuple(lines),
        corrections=state.corrections,
        last_clear_ms=state.last_clear_ms,
    )
