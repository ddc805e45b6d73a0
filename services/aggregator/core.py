"""Fills in a window become one intent: the net change of a leader's exposure in a market."""

from services.aggregator.snapshots import Look, compare, correct
from services.aggregator.state import (
    NOTHING,
    NOWHERE,
    Doubt,
    Leader,
    Policies,
    Policy,
    State,
    Track,
    drop_if_empty,
    enter,
    is_conversion,
    remember,
)
from services.aggregator.windows import (
    average,
    close_due,
    closed_at_once,
    join,
    learn,
    opened,
    weigh,
)
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderActed,
    LeaderBaselineRead,
    LeaderCorrected,
    LeaderDriftCleared,
    LeaderDriftSuspected,
    LeaderFilled,
    MarketResolved,
    Tick,
    WindowNetted,
)
from shared.domain.positions import yes_price
from shared.domain.units import Price, Shares, Usd, cost_up


def decide(policies: Policies, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what follows from a leader's activity, from what the venue says, or from time."""
    match message:
        case LeaderFilled() | LeaderActed():
            return _count(policies, state, message, now_ns)
        case LeaderBaselineRead():
            return _baseline(state, message, now_ns)
        case MarketResolved():
            return _resolved(state, message, now_ns)
        case Tick(now_ns=tick_ns):
            return close_due(policies, state, tick_ns)
        case Look(now_ns=tick_ns, views=views):
            return [fact for view in views for fact in compare(policies, state, view, tick_ns)]
        case _:
            return []


def _count(
    policies: Policies, state: State, activity: LeaderFilled | LeaderActed, now_ns: int
) -> list[Fact]:
    if activity.id in state.counted:
        return []
    leader = state.leaders.get(activity.leader, NOTHING)
    track = leader.tracks.get(activity.condition, NOWHERE)
    counted = _counted(activity, leader, track, now_ns)
    window = leader.windows.get(activity.condition)
    closed = closed_at_once(policies.of(activity.leader), track, window, counted)
    return [counted] if closed is None else [counted, closed]


def _counted(
    activity: LeaderFilled | LeaderActed, leader: Leader, track: Track, now_ns: int
) -> FillCounted:
    yes, no, notional, price, settles = 0, 0, Usd(0), 0, False
    if isinstance(activity, LeaderFilled):
        change = activity.size if activity.side == "BUY" else -activity.size
        if activity.ts_ns <= leader.sure.get(activity.condition, -1):
            change = 0  # the holding was corrected since, with this already inside
        yes, no = (change, 0) if activity.outcome == 0 else (0, change)
        notional = cost_up(activity.price, activity.size)
        price = yes_price(activity.outcome, activity.price)
    elif activity.action == "SPLIT":
        yes, no = activity.size, activity.size
    elif activity.action == "MERGE":
        yes, no = -activity.size, -activity.size
    elif activity.action == "REDEEM":
        yes, no, settles = -track.yes, -track.no, True  # the market is over: nothing to copy
    # What is left is a conversion: it does not tell what it moved, the next snapshots do.
    return FillCounted(
        id=content_id("fill_counted", activity.id),
        cause=activity.id,
        root=activity.root,
        ts_ns=now_ns,
        leader=activity.leader,
        condition=activity.condition,
        yes=Shares(yes),
        no=Shares(no),
        notional=notional,
        yes_price=Price(price),
        venue_ns=activity.ts_ns,
        baseline=settles,
    )


def _baseline(state: State, read: LeaderBaselineRead, now_ns: int) -> list[Fact]:
    """Take over what a leader held when we began to follow: it moves exposure, not intents."""
    if read.id in state.counted:
        return []
    tracks = state.leaders.get(read.leader, NOTHING).tracks
    return [
        _silent(read, read.leader, condition, (yes, no), now_ns, condition)
        for condition, yes, no in read.holdings
        if condition not in tracks
    ]


def _resolved(state: State, end: MarketResolved, now_ns: int) -> list[Fact]:
    """End what leaders of the lane hold in a market that is over: there is nothing to copy."""
    if end.id in state.counted:
        return []
    tracks = (
        (wallet, leader.tracks[end.condition])
        for wallet, leader in state.leaders.items()
        if end.condition in leader.tracks
    )
    return [
        _silent(end, wallet, end.condition, (-track.yes, -track.no), now_ns, wallet)
        for wallet, track in tracks
    ]


def _silent(
    message: LeaderBaselineRead | MarketResolved,
    wallet: Wallet,
    condition: ConditionId,
    change: tuple[int, int],
    now_ns: int,
    named: str,
) -> FillCounted:
    yes, no = change
    return FillCounted(
        id=content_id("fill_counted", message.id, named),
        cause=message.id,
        root=message.root,
        ts_ns=now_ns,
        leader=wallet,
        condition=condition,
        yes=Shares(yes),
        no=Shares(no),
        notional=Usd(0),
        yes_price=Price(0),
        venue_ns=message.ts_ns,
        baseline=True,
    )


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the aggregator's own facts."""
    match fact:
        case FillCounted():
            _enter(state, fact)
        case IntentFormed() | WindowNetted():
            _judged(state.leaders[fact.leader], fact)
        case LeaderDriftSuspected():
            state.leaders[fact.leader].doubts[fact.condition] = Doubt(
                id=fact.id,
                believed=fact.believed,
                observed=fact.observed,
                as_of_ns=fact.as_of_ns,
                asked_ns=fact.ts_ns,
            )
        case LeaderDriftCleared():
            state.leaders[fact.leader].doubts.pop(fact.condition)
        case LeaderCorrected():
            correct(state.leaders[fact.leader], fact)
        case _:
            raise AssertionError(f"not a fact of the aggregator: {fact}")


def _enter(state: State, fact: FillCounted) -> None:
    """Move the exposure by an activity and, if it traded, take it into the window."""
    leader = state.leaders.get(fact.leader)
    if leader is None:
        leader = state.leaders[fact.leader] = Leader()
    condition = fact.condition
    track = leader.tracks.get(condition) or enter(leader, condition)
    if fact.baseline:
        _take_over(state, track, fact)
    else:
        window = leader.windows.get(condition)
        moved, price = weigh(track, window, fact)
        if moved:
            if window is None:
                window = leader.windows[condition] = opened(fact)
            join(window, fact, moved, price)
        elif is_conversion(fact):
            leader.converted_ns = max(leader.converted_ns, fact.venue_ns)
        track.yes, track.no = Shares(track.yes + fact.yes), Shares(track.no + fact.no)
    track.venue_ns = max(track.venue_ns, fact.venue_ns)
    if not (track.yes or track.no):
        drop_if_empty(leader, condition)
    remember(state, fact)


def _take_over(state: State, track: Track, fact: FillCounted) -> None:
    """Move the exposure with nothing to follow; where nothing is left, the market is over."""
    track.yes, track.no = Shares(track.yes + fact.yes), Shares(track.no + fact.no)
    track.followed = track.exposure
    if track.yes == track.no == 0 and (fact.yes or fact.no):
        state.settled[fact.condition] = fact.venue_ns


def _judged(leader: Leader, fact: IntentFormed | WindowNetted) -> None:
    """Close the window; an intent that a correction made may have had none."""
    track, window = leader.tracks[fact.condition], leader.windows.pop(fact.condition, None)
    if isinstance(fact, IntentFormed):
        track.followed = fact.after
    if window is not None:
        track.yes_price = average(window.weight, window.shares)
        learn(track, window, Shares(fact.after - fact.before))
    drop_if_empty(leader, fact.condition)


__all__ = ["Look", "Policies", "Policy", "State", "decide", "evolve"]
