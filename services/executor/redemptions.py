"""Claims on markets that are over: when they are asked for, and what came of it.

Redeeming takes the shares as it pays, so asking again is harmless and asking is all that is decided
here. That the dollars came is seen where everything is: the venue shows no shares any more, and the
reconciler says so. Until then a claim is asked for again, each time after twice as long.
"""

from typing import Final

import msgspec

from services.executor.state import Policy, Redeemed, Redemption, State
from shared.domain.ids import ConditionId, content_id
from shared.domain.messages import (
    Fact,
    PositionClosed,
    PositionCorrected,
    RedemptionEnded,
    RedemptionSent,
)
from shared.domain.units import NS_PER_S, Usd, proceeds_down

_DAY_NS: Final = 86_400 * NS_PER_S


def due(policy: Policy, state: State, now_ns: int) -> list[Fact]:
    """Ask for every claim whose time has come."""
    after_ns = policy.redeem_after_ns
    if after_ns is None:
        return []
    return [
        RedemptionSent(
            id=content_id("redemption_sent", known.closed, known.attempts + 1),
            cause=known.closed,
            root=known.root,
            ts_ns=now_ns,
            condition=condition,
            attempt=known.attempts + 1,
            usd=owed(state, condition),
        )
        for condition, known in state.redemptions.items()
        if not known.under_way and now_ns >= max(known.retry_ns, known.closed_ns + after_ns)
    ]


def ended(policy: Policy, state: State, end: Redeemed, now_ns: int) -> list[Fact]:
    """Say how an attempt ended, once."""
    known = state.redemptions.get(end.condition)
    if known is None or not known.under_way or known.attempts != end.attempt:
        return []
    patience_ns = (policy.redeem_after_ns or _DAY_NS) << min(end.attempt - 1, 16)
    sent = content_id("redemption_sent", known.closed, end.attempt)
    return [
        RedemptionEnded(
            id=content_id("redemption_ended", sent),
            cause=sent,
            root=known.root,
            ts_ns=now_ns,
            condition=end.condition,
            attempt=end.attempt,
            outcome=end.outcome,
            tx=end.tx,
            detail=end.detail,
            retry_ns=now_ns + min(patience_ns, _DAY_NS),
        )
    ]


def owed(state: State, condition: ConditionId) -> Usd:
    """Return what our claims on a market pay, in micro-dollars."""
    claims = [held for held in state.holdings.values() if held.condition == condition]
    return Usd(sum(proceeds_down(held.payout, held.claim) for held in claims))


# --- evolve -------------------------------------------------------------------------------


def evolve(state: State, fact: RedemptionSent | RedemptionEnded) -> None:
    known = state.redemptions[fact.condition]
    match fact:
        case RedemptionSent():
            known = msgspec.structs.replace(known, attempts=fact.attempt, under_way=True)
        case RedemptionEnded():
            known = msgspec.structs.replace(known, retry_ns=fact.retry_ns, under_way=False)
    state.redemptions[fact.condition] = known
    _forget_paid(state, fact.condition)


def note(state: State, fact: PositionClosed | PositionCorrected) -> None:
    """Remember a claim that pays, and forget it once it is gone."""
    if isinstance(fact, PositionClosed) and owed(state, fact.condition) > 0:
        made = Redemption(closed=fact.id, root=fact.root, closed_ns=fact.ts_ns)
        state.redemptions.setdefault(fact.condition, made)
    _forget_paid(state, fact.condition)


def _forget_paid(state: State, condition: ConditionId) -> None:
    known = state.redemptions.get(condition)
    if known is not None and not known.under_way and owed(state, condition) <= 0:
        del state.redemptions[condition]
