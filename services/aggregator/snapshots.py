"""What the venue says a leader holds, against what his activity adds up to.

The positions lag behind the activity and now and then leave something out, so one snapshot only
raises a doubt: his activity is read again, and what a later snapshot still insists on is believed.
"""

from typing import Final

import msgspec

from services.aggregator.state import (
    NOWHERE,
    REMEMBERED_NS,
    Doubt,
    Leader,
    Policies,
    Policy,
    State,
    Track,
    drop_if_empty,
    enter,
    exposure_of,
)
from services.aggregator.windows import average, is_noise
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    Fact,
    IntentFormed,
    LeaderCorrected,
    LeaderDriftCleared,
    LeaderDriftSuspected,
)
from shared.domain.units import DUST, MICRO, NS_PER_S, Price, Shares, Usd
from shared.domain.views import LeaderView

LAG_NS: Final = 30 * NS_PER_S  # positions may not show what was done this long before
AGE_NS_MAX: Final = REMEMBERED_NS // 2  # behind the lane: markets left since may be forgotten
CONVERSION_NS: Final = 3_600 * NS_PER_S  # a conversion may explain a difference for this long
_HALF: Final = Price(MICRO // 2)

Pair = tuple[Shares, Shares]


class Look(msgspec.Struct, frozen=True):
    """In a tick's place: snapshots that are new, all activity before them having been heard."""

    now_ns: int
    views: tuple[LeaderView, ...]


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One market of a leader, as a snapshot is held against it."""

    wallet: Wallet
    condition: ConditionId
    leader: Leader
    policy: Policy
    now_ns: int

    @property
    def track(self) -> Track:
        return self.leader.tracks.get(self.condition, NOWHERE)


def compare(policies: Policies, state: State, view: LeaderView, now_ns: int) -> list[Fact]:
    """Return what a snapshot of a leader's holdings says of what is believed."""
    leader = state.leaders.get(view.leader)
    if leader is None or not _proves_something(state, view):
        return []
    seen = {condition: (yes, no) for condition, yes, no in view.holdings}
    facts: list[Fact] = []
    for condition in dict.fromkeys((*leader.tracks, *leader.doubts, *seen)):
        market = Market(
            wallet=view.leader,
            condition=condition,
            leader=leader,
            policy=policies.of(view.leader),
            now_ns=now_ns,
        )
        doubt = leader.doubts.get(condition)
        if doubt is not None and view.as_of_ns <= doubt.asked_ns:
            continue
        if condition in state.settled:  # what was not redeemed stays in the positions for ever
            facts += _cleared(market, doubt)
        elif _is_calm(market, view.as_of_ns):
            observed = _observed(market.track, seen.get(condition), complete=view.complete)
            facts += _judge(market, doubt, observed, view.as_of_ns)
    return facts


def _proves_something(state: State, view: LeaderView) -> bool:
    """Tell whether a snapshot may be judged by; an empty one only if its worth says so too."""
    behind = view.as_of_ns < state.newest_ns - AGE_NS_MAX
    return not behind and (bool(view.holdings) or view.value == 0)


def _is_calm(market: Market, as_of_ns: int) -> bool:
    """Tell whether nothing was counted that the positions may not show yet, or did not know."""
    last_ns = market.track.venue_ns or market.leader.left.get(market.condition, 0)
    return last_ns < as_of_ns - LAG_NS


def _observed(track: Track, seen: Pair | None, *, complete: bool) -> Pair:
    """Return what he holds by the snapshot; where it breaks off, what is missing is as believed."""
    yes, no = seen or (Shares(0), Shares(0))
    return (yes, no) if complete else (yes or track.yes, no or track.no)


def _judge(market: Market, doubt: Doubt | None, observed: Pair, as_of_ns: int) -> list[Fact]:
    believed = (market.track.yes, market.track.no)
    beyond = max(market.policy.dust, DUST)
    if all(abs(a - b) < beyond for a, b in zip(believed, observed, strict=True)):
        return _cleared(market, doubt)
    if doubt is not None and (doubt.believed, doubt.observed) == (believed, observed):
        return _corrected(market, doubt, as_of_ns)
    id_ = content_id("leader_drift_suspected", market.wallet, market.condition, as_of_ns)
    return [
        LeaderDriftSuspected(
            id=id_,
            cause="",
            root=id_,
            ts_ns=market.now_ns,
            leader=market.wallet,
            condition=market.condition,
            believed=believed,
            observed=observed,
            probable_cause=_cause(market.leader, as_of_ns),
            as_of_ns=as_of_ns,
        )
    ]


def _cause(leader: Leader, as_of_ns: int) -> str:
    converted = as_of_ns - leader.converted_ns <= CONVERSION_NS
    return "conversion" if converted else "transfer_or_lost_activity"


def _cleared(market: Market, doubt: Doubt | None) -> list[Fact]:
    if doubt is None:
        return []
    return [
        LeaderDriftCleared(
            id=content_id("leader_drift_cleared", doubt.id),
            cause=doubt.id,
            root=doubt.id,
            ts_ns=market.now_ns,
            leader=market.wallet,
            condition=market.condition,
        )
    ]


def _corrected(market: Market, doubt: Doubt, as_of_ns: int) -> list[Fact]:
    """Set the holding to what the venue insists on; what he gave up of the followed is an intent.

    Where he is on the other side by now, he left the followed one first: that is the intent, and
    the rest is taken over, for what he holds there was bought at a price nobody saw.
    """
    track = market.track
    (yes, no), (seen_yes, seen_no) = doubt.believed, doubt.observed
    if track.followed * exposure_of(seen_yes, seen_no) >= 0:
        step = _correction(market, doubt, as_of_ns, (seen_yes - yes, seen_no - no))
        return [step, *_reduction(market, step, as_of_ns)]
    sets = min(seen_yes, seen_no)
    out = _correction(market, doubt, as_of_ns, (sets - yes, sets - no))
    rest = _correction(market, doubt, as_of_ns, (seen_yes - sets, seen_no - sets))
    return [out, *_reduction(market, out, as_of_ns), rest]


def _correction(
    market: Market, doubt: Doubt, as_of_ns: int, change: tuple[int, int]
) -> LeaderCorrected:
    yes, no = change
    id_ = content_id("leader_corrected", doubt.id, as_of_ns, yes, no)
    return LeaderCorrected(
        id=id_,
        cause=doubt.id,
        root=id_,
        ts_ns=market.now_ns,
        leader=market.wallet,
        condition=market.condition,
        yes=Shares(yes),
        no=Shares(no),
        probable_cause=_cause(market.leader, as_of_ns),
        yes_price=market.track.yes_price,
    )


def _reduction(market: Market, step: LeaderCorrected, as_of_ns: int) -> list[Fact]:
    """Return the intent that a correction amounts to, if he holds less of what is followed."""
    track, window = market.track, market.leader.windows.get(market.condition)
    before, after = track.followed, exposure_of(track.yes + step.yes, track.no + step.no)
    side = _sign(before)
    held, holds = max(side * track.exposure, 0), max(side * after, 0)
    if not holds < abs(before) or holds > held or is_noise(market.policy, before, after, gross=0):
        return []
    fills = (*(window.fills if window else ()), step.id)
    return [
        IntentFormed(
            id=content_id("intent_formed", *fills),
            cause=step.id,
            root=window.root if window else step.id,
            ts_ns=market.now_ns,
            leader=market.wallet,
            condition=market.condition,
            before=before,
            after=after,
            yes_price=(
                average(window.weight, window.shares) if window else track.yes_price or _HALF
            ),
            notional=window.notional if window else Usd(0),
            fills=fills,
            opened_ns=window.opened_venue_ns if window else as_of_ns,
            venue_ns=as_of_ns,
            closed_by="reduction",
        )
    ]


def correct(leader: Leader, fact: LeaderCorrected) -> None:
    """Apply a correction: the holding moves, and what he has more of counts as held before."""
    doubt = leader.doubts.pop(fact.condition, None)
    if doubt is not None:
        leader.sure[fact.condition] = doubt.as_of_ns - LAG_NS
    track = enter(leader, fact.condition)
    before = track.exposure
    track.yes, track.no = Shares(track.yes + fact.yes), Shares(track.no + fact.no)
    track.followed = _taken_over(track.followed, before, track.exposure)
    drop_if_empty(leader, fact.condition)


def _taken_over(followed: Shares, before: Shares, after: Shares) -> Shares:
    """Return what counts as followed once an exposure was corrected.

    More of the followed side was held before, and moves with it: an old entry at an unknown price
    is never copied. Less of it is left for an intent. What was not followed yet stays so.
    """
    side = _sign(followed or before or after)
    if side * after < 0:
        return after
    return Shares(followed + side * max(0, side * after - max(side * before, 0)))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
