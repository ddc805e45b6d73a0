"""Fills in a window become one intent: the net change of a leader's exposure in a market."""

from typing import Final

import msgspec

from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    ClosedBy,
    Fact,
    FillCounted,
    IntentFormed,
    LeaderActed,
    LeaderBaselineRead,
    LeaderFilled,
    Tick,
    WindowNetted,
)
from shared.domain.positions import exposure, yes_price
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd, cost_up

REMEMBERED_NS: Final = 600 * NS_PER_S  # ids of counted fills are kept this long, in venue time
_FORGET_EVERY_NS: Final = 60 * NS_PER_S


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When a leader's window closes."""

    quiet_ns: int  # this long without a fill
    age_ns_max: int  # this long after its first fill: a busy wallet never goes quiet
    flush_usd: Usd  # a net change worth this much closes it at once; 0 closes on every fill
    flush_on_reduction: bool  # a net change that gives up exposure closes it at the next tick
    dust: Shares  # net changes smaller than this wait for more


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of each leader, and of everyone else."""

    default: Policy
    leaders: dict[Wallet, Policy] = {}

    def of(self, leader: Wallet) -> Policy:
        return self.leaders.get(leader, self.default)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    fills: tuple[str, ...]
    root: str
    weight: int  # sum of shares times YES-price, for the average
    shares: Shares  # sum of shares, whatever their side
    notional: Usd
    opened_venue_ns: int
    venue_ns: int
    opened_ns: int  # our time: windows close by our clock, fills are aged by the venue's
    last_ns: int


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One leader in one market."""

    leader: Wallet
    condition: ConditionId
    yes: Shares = Shares(0)
    no: Shares = Shares(0)
    followed: Shares = Shares(0)  # exposure as of the last intent: dust stays in the difference
    yes_price: Price = Price(0)  # of the last window; 0 before the first
    window: Window | None = None

    @property
    def exposure(self) -> Shares:
        return exposure_of(self.yes, self.no)


class State(msgspec.Struct):
    tracks: dict[str, Track] = {}
    counted: dict[str, int] = {}  # id of a counted activity -> its venue time
    newest_ns: int = 0
    forgot_ns: int = 0


def exposure_of(yes: Shares, no: Shares) -> Shares:
    """Return exposure; nobody can hold less than nothing, so a deficit is history unseen."""
    return exposure(Shares(max(yes, 0)), Shares(max(no, 0)))


def track_key(leader: Wallet, condition: ConditionId) -> str:
    return f"{leader}|{condition}"


def decide(policies: Policies, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what follows from a leader's activity or from time alone."""
    match message:
        case LeaderFilled() | LeaderActed():
            return _count(policies, state, message, now_ns)
        case LeaderBaselineRead():
            return _baseline(state, message, now_ns)
        case Tick(now_ns=tick_ns):
            return _close_due(policies, state, tick_ns)
        case _:
            return []


def _count(
    policies: Policies, state: State, activity: LeaderFilled | LeaderActed, now_ns: int
) -> list[Fact]:
    if activity.id in state.counted:
        return []
    key = track_key(activity.leader, activity.condition)
    before = state.tracks.get(key) or Track(leader=activity.leader, condition=activity.condition)
    counted = _counted(activity, before, now_ns)
    after = _with(before, counted)
    reason = _closes_at_once(policies.of(activity.leader), after)
    if reason is None:
        return [counted]
    return [counted, _close(policies.of(activity.leader), after, now_ns, reason, counted.id)]


def _counted(activity: LeaderFilled | LeaderActed, track: Track, now_ns: int) -> FillCounted:
    yes, no, notional, price, settles = 0, 0, 0, 0, False
    match activity:
        case LeaderFilled(outcome=outcome, side=side, size=size):
            change = size if side == "BUY" else -size
            yes, no = (change, 0) if outcome == 0 else (0, change)
            notional = cost_up(activity.price, size)
            price = yes_price(outcome, activity.price)
        case LeaderActed(action="SPLIT", size=size):
            yes, no = size, size
        case LeaderActed(action="MERGE", size=size):
            yes, no = -size, -size
        case LeaderActed(action="REDEEM"):
            yes, no, settles = -track.yes, -track.no, True  # the market is over: nothing to copy
        case _:
            pass  # a conversion moves several markets at once; their own rows tell what changed
    return FillCounted(
        id=content_id("fill_counted", activity.id),
        cause=activity.id,
        root=activity.root,
        ts_ns=now_ns,
        leader=activity.leader,
        condition=activity.condition,
        yes=Shares(yes),
        no=Shares(no),
        notional=Usd(notional),
        yes_price=Price(price),
        venue_ns=activity.ts_ns,
        baseline=settles,
    )


def _baseline(state: State, read: LeaderBaselineRead, now_ns: int) -> list[Fact]:
    """Take over what a leader held when we began to follow: it moves exposure, not intents."""
    if read.id in state.counted:
        return []
    return [
        FillCounted(
            id=content_id("fill_counted", read.id, condition),
            cause=read.id,
            root=read.root,
            ts_ns=now_ns,
            leader=read.leader,
            condition=condition,
            yes=yes,
            no=no,
            notional=Usd(0),
            yes_price=Price(0),
            venue_ns=read.ts_ns,
            baseline=True,
        )
        for condition, yes, no in read.holdings
        if track_key(read.leader, condition) not in state.tracks
    ]


def _closes_at_once(policy: Policy, track: Track) -> ClosedBy | None:
    if track.window is None:
        return None
    before, after = track.followed, track.exposure
    change = abs(after - before)
    if _is_dust(policy, track):
        return None
    average = _average(track.window)
    price = average if after > before else Price(MICRO - average)
    if cost_up(price, Shares(change)) >= policy.flush_usd:
        return "notional"
    return None


def _is_dust(policy: Policy, track: Track) -> bool:
    """Tell whether the net change is nothing to follow: less than dust, or none at all."""
    change = abs(track.exposure - track.followed)
    return change == 0 or change < policy.dust


def _close_due(policies: Policies, state: State, now_ns: int) -> list[Fact]:
    """Close what time closes. A reduction waits for a tick, so that a split exit is one intent."""
    facts: list[Fact] = []
    for track in state.tracks.values():
        window = track.window
        if window is None:
            continue
        policy = policies.of(track.leader)
        if policy.flush_on_reduction and _reduces(policy, track):
            facts.append(_close(policy, track, now_ns, "reduction", window.fills[-1]))
        elif now_ns - window.last_ns >= policy.quiet_ns:
            facts.append(_close(policy, track, now_ns, "quiet", window.fills[-1]))
        elif now_ns - window.opened_ns >= policy.age_ns_max:
            facts.append(_close(policy, track, now_ns, "max_age", window.fills[-1]))
    return facts


def _reduces(policy: Policy, track: Track) -> bool:
    before, after = track.followed, track.exposure
    if before == 0 or _is_dust(policy, track):
        return False
    return after * before < 0 or abs(after) < abs(before)


def _close(policy: Policy, track: Track, now_ns: int, reason: ClosedBy, cause: str) -> Fact:
    window = track.window
    assert window is not None
    before, after = track.followed, track.exposure
    if _is_dust(policy, track):
        return WindowNetted(
            id=content_id("window_netted", *window.fills),
            cause=cause,
            root=window.root,
            ts_ns=now_ns,
            leader=track.leader,
            condition=track.condition,
            before=before,
            after=after,
            fills=window.fills,
        )
    return IntentFormed(
        id=content_id("intent_formed", *window.fills),
        cause=cause,
        root=window.root,
        ts_ns=now_ns,
        leader=track.leader,
        condition=track.condition,
        before=before,
        after=after,
        yes_price=_average(window),
        notional=window.notional,
        fills=window.fills,
        opened_ns=window.opened_venue_ns,
        venue_ns=window.venue_ns,
        closed_by=reason,
    )


def _average(window: Window) -> Price:
    """Return the window's volume-weighted YES-price, rounded to the nearest micro-dollar."""
    return Price((2 * window.weight + window.shares) // (2 * window.shares))


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the aggregator's own facts."""
    match fact:
        case FillCounted():
            key = track_key(fact.leader, fact.condition)
            track = state.tracks.get(key) or Track(leader=fact.leader, condition=fact.condition)
            _keep(state, key, _with(track, fact))
            _remember(state, fact)
        case IntentFormed() | WindowNetted():
            key = track_key(fact.leader, fact.condition)
            followed = fact.after if isinstance(fact, IntentFormed) else fact.before
            _keep(state, key, _closed(state.tracks[key], followed))
        case _:
            raise AssertionError(f"not a fact of the aggregator: {fact}")


def _keep(state: State, key: str, track: Track) -> None:
    if track.yes == track.no == track.followed == 0 and track.window is None:
        state.tracks.pop(key, None)
    else:
        state.tracks[key] = track


def _closed(track: Track, followed: Shares) -> Track:
    assert track.window is not None
    price = _average(track.window)
    return msgspec.structs.replace(track, followed=followed, yes_price=price, window=None)


def _with(track: Track, fact: FillCounted) -> Track:
    """Return the track with an activity in its exposure and, if it traded, in its window.

    Half of a set may be seen sold before its split is: the sale alone is a deficit and no
    exposure, so the split that makes it one opens a window, at the price of the last one.
    """
    yes, no = Shares(track.yes + fact.yes), Shares(track.no + fact.no)
    if fact.baseline:
        return msgspec.structs.replace(track, yes=yes, no=no, followed=exposure_of(yes, no))
    window, price = track.window, fact.yes_price
    moved = Shares(abs(fact.yes - fact.no))
    if not moved and window is None and track.yes_price:
        moved, price = Shares(abs(exposure_of(yes, no) - track.exposure)), track.yes_price
    if moved:
        old = window or Window(
            fills=(),
            root=fact.root,
            weight=0,
            shares=Shares(0),
            notional=Usd(0),
            opened_venue_ns=fact.venue_ns,
            venue_ns=fact.venue_ns,
            opened_ns=fact.ts_ns,
            last_ns=fact.ts_ns,
        )
        window = Window(
            fills=(*old.fills, fact.cause),
            root=old.root,
            weight=old.weight + moved * price,
            shares=Shares(old.shares + moved),
            notional=Usd(old.notional + fact.notional),
            opened_venue_ns=min(old.opened_venue_ns, fact.venue_ns),
            venue_ns=max(old.venue_ns, fact.venue_ns),
            opened_ns=old.opened_ns,
            last_ns=max(old.last_ns, fact.ts_ns),
        )
    return msgspec.structs.replace(track, yes=yes, no=no, window=window)


def _remember(state: State, fact: FillCounted) -> None:
    state.counted[fact.cause] = fact.venue_ns
    state.newest_ns = max(state.newest_ns, fact.venue_ns)
    if state.newest_ns - state.forgot_ns >= _FORGET_EVERY_NS:
        horizon = state.newest_ns - REMEMBERED_NS
        state.counted = {id_: at for id_, at in state.counted.items() if at >= horizon}
        state.forgot_ns = state.newest_ns
