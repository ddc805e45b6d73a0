"""Belief against the venue: a pure difference, confirmed before it corrects.

The venue's positions lag its matches, so a difference counts only when nothing of the token
moved for a grace period and the same difference was seen in several observations, each newer
than the last. A confirmed difference is a fact; the owner of the position applies it, once.
"""

from typing import Final, Literal

import msgspec

from services.reconciler.causes import Diagnosis, diagnose, diagnose_cash
from services.reconciler.comparing import Difference, Observation, Policy, difference, is_moving
from shared.domain.ids import COLLATERAL, ConditionId, OrderHash, TokenId, content_id
from shared.domain.messages import (
    DriftCleared,
    DriftFound,
    DriftSuspected,
    Fact,
    HoldingResolved,
    OrphanFound,
)
from shared.domain.units import NS_PER_MS, Price, Shares, Usd
from shared.domain.views import DriftLine, DriftView


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    believed: Shares
    observed: Shares
    first_seen_ns: int
    found_ns: int = 0  # when it was reported to the owner, who applies it; 0: it is not

    @property
    def found(self) -> bool:
        return self.found_ns > 0


class State(msgspec.Struct):
    suspects: dict[TokenId, Suspect] = {}
    orphans: list[OrderHash] = []  # reported, bounded
    ended: list[tuple[ConditionId, Shares, Shares]] = []  # reported with what was held, bounded
    corrections: int = 0
    last_clear_ms: int = 0
    last_detect_ms: int = 0


_ORPHANS_KEPT: Final = 100
_ENDED_KEPT: Final = 200
_UNREAD = Diagnosis("unexplained", "the venue's account of it could not be read")


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what an observation says of drift: suspected, found, or cleared; and orphans."""
    if not isinstance(message, Observation):
        return []
    differences = difference(policy, message)
    facts = _ends(policy, state, message, now_ns)
    for entry in differences:
        if not entry.excused:
            facts += _judge(policy, state, entry, message, now_ns)
    standing = {entry.token for entry in differences}
    for token, suspect in state.suspects.items():
        if token not in standing:
            facts.append(_cleared(token, suspect, now_ns))
    facts += _orphans(state, message, now_ns)
    return facts


def _judge(
    policy: Policy, state: State, entry: Difference, seen: Observation, now_ns: int
) -> list[Fact]:
    suspect = state.suspects.get(entry.token)
    if suspect is None:
        return [_suspected(entry, now_ns)]
    if suspect.found:
        return [_suspected(entry, now_ns)] if _stands(policy, suspect, entry, now_ns) else []
    if (suspect.believed, suspect.observed) != (entry.believed, entry.observed):
        return [_suspected(entry, now_ns)]
    if seen.agreed.get(entry.token, 0) < policy.confirmations:
        return []
    if entry.waits and now_ns - suspect.first_seen_ns < policy.excuse_ns_max:
        return []
    return [_found(entry, suspect, seen, now_ns)]


def _stands(policy: Policy, suspect: Suspect, entry: Difference, now_ns: int) -> bool:
    """Tell whether a difference that was reported is one anew, and not about to be applied.

    The owner passes over a report that does not meet the belief it speaks of: a fill was booked
    meanwhile, say, and failed after. Where belief moved since, the report has had its effect or
    none; where it did not, it gets as long as anything is excused.
    """
    if entry.believed != suspect.believed or entry.changed_ns > suspect.found_ns:
        return True
    return now_ns - suspect.found_ns >= policy.excuse_ns_max


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
    if known is None:
        told = _UNREAD
    elif entry.token == COLLATERAL:
        told = diagnose_cash(Usd(gap), known)
    else:
        told = diagnose(gap, entry.token, entry.outcome, mine, known)
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
        happened_ns=told.since_ns,
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


def _ends(policy: Policy, state: State, seen: Observation, now_ns: int) -> list[Fact]:
    """Report markets that are over while something is held, or booked to leaders, in them."""
    facts: list[Fact] = []
    last = {condition: (yes, no) for condition, yes, no in state.ended}
    for condition, payouts in sorted(seen.payouts.items()):
        mine = [p for p in seen.believed.positions if p.condition == condition]
        if any(is_moving(policy, seen, each.token, each) for each in mine):
            continue
        held = {each.outcome: each.shares for each in mine}
        believed = (held.get(0, Shares(0)), held.get(1, Shares(0)))
        reported = last.get(condition)
        new = believed != reported if any(believed) else reported is None
        if new and (any(believed) or condition in seen.booked):
            facts.append(_ended(condition, payouts, believed, now_ns))
    return facts


def _ended(
    condition: ConditionId,
    payouts: tuple[Price, Price],
    believed: tuple[Shares, Shares],
    now_ns: int,
) -> HoldingResolved:
    id_ = content_id("holding_resolved", condition, *believed, now_ns)
    return HoldingResolved(
        id=id_,
        cause="",
        root=id_,
        ts_ns=now_ns,
        condition=condition,
        payouts=payouts,
        believed=believed,
    )


def _orphans(state: State, seen: Observation, now_ns: int) -> list[Fact]:
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
            state.suspects[fact.token] = msgspec.structs.replace(suspect, found_ns=fact.ts_ns)
            state.corrections += 1
            since_ns = fact.happened_ns or fact.first_seen_ns
            state.last_detect_ms = max(0, fact.ts_ns - since_ns) // NS_PER_MS
        case DriftCleared():
            del state.suspects[fact.token]
            if fact.found:
                state.last_clear_ms = fact.duration_ms
        case HoldingResolved():
            state.ended = [*state.ended, (fact.condition, *fact.believed)][-_ENDED_KEPT:]
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
        drift_usd=Usd(sum(line.usd for line in lines if _counts(line))),
        lines=tuple(lines),
        corrections=state.corrections,
        last_clear_ms=state.last_clear_ms,
        last_detect_ms=state.last_detect_ms,
    )


def _counts(line: DriftLine) -> bool:
    """Tell what trading hangs on; cash is no belief that orders are sized by."""
    return line.state != "excused" and line.token != COLLATERAL
