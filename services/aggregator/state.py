"""What the aggregator believes: leaders, what they hold, their open windows, their doubts."""

from typing import Final, TypeVar

import msgspec

from shared.domain.ids import ConditionId, Wallet
from shared.domain.messages import FillCounted
from shared.domain.units import NS_PER_S, Bps, Price, Shares, Usd

K = TypeVar("K", bound=str)

REMEMBERED_NS: Final = 600 * NS_PER_S  # ids of counted fills are kept this long, in venue time
SETTLED_NS: Final = 7 * 86_400 * NS_PER_S  # a market is known to be over for this long
SURE_NS: Final = 86_400 * NS_PER_S  # a correction keeps out what it already holds for this long
_FORGET_EVERY_NS: Final = 120 * NS_PER_S


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When a leader's window closes, and what of it is not worth following."""

    quiet_ns: int  # this long without a fill
    age_ns_max: int  # this long after its first fill: a busy wallet never goes quiet
    flush_usd: Usd  # a net change worth this much closes it at once; 0 closes on every fill
    flush_on_reduction: bool  # a net change that gives up exposure closes it at the next tick
    dust: Shares  # net changes smaller than this wait for more
    net_share: Bps = Bps(0)  # so do those below this share of what the window turned over
    # Who keeps turning and ends up with less of his turnover than this churns: there only what
    # longer windows leave of it is followed. 0: nobody does.
    churn_share: Bps = Bps(0)
    churn_quiet_ns: int = 0
    churn_age_ns: int = 0


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of each leader, and of everyone else."""

    default: Policy
    leaders: dict[Wallet, Policy] = {}

    def of(self, leader: Wallet) -> Policy:
        return self.leaders.get(leader, self.default)


class Window(msgspec.Struct, kw_only=True):
    """What a leader did in a market since he was last judged; only ``evolve`` changes it."""

    root: str
    opened_venue_ns: int
    venue_ns: int
    opened_ns: int  # our time: windows close by our clock, fills are aged by the venue's
    last_ns: int
    fills: list[str] = []
    weight: int = 0  # sum of shares times YES-price, for the average
    shares: Shares = Shares(0)  # sum of shares, whatever their side
    notional: Usd = Usd(0)


class Track(msgspec.Struct, kw_only=True):
    """One leader in one market; only ``evolve`` changes it."""

    yes: Shares = Shares(0)
    no: Shares = Shares(0)
    followed: Shares = Shares(0)  # exposure as of the last intent: dust stays in the difference
    yes_price: Price = Price(0)  # of the last window; 0 before the first
    venue_ns: int = 0  # of his newest activity here
    # His last windows, each counting an eighth less than the next:
    turnover: Shares = Shares(0)  # what they traded
    moved: Shares = Shares(0)  # what they came to, signed
    turns: int = 0  # how often one went the other way than the one before, in 1,024ths
    side: int = 0  # where the last one went: 1, -1, or 0 before the first

    @property
    def exposure(self) -> Shares:
        return exposure_of(self.yes, self.no)


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A difference that a snapshot showed, until another one settles it."""

    id: str
    believed: tuple[Shares, Shares]
    observed: tuple[Shares, Shares]
    as_of_ns: int
    asked_ns: int  # when his activity was asked for again: what was read before proves nothing


class Leader(msgspec.Struct):
    """A leader of whom something was counted: before that, nothing is known to compare."""

    tracks: dict[ConditionId, Track] = {}
    windows: dict[ConditionId, Window] = {}  # each in a market of ``tracks``
    left: dict[ConditionId, int] = {}  # venue time of the last activity in markets just left
    doubts: dict[ConditionId, Doubt] = {}
    sure: dict[ConditionId, int] = {}  # corrected: fills up to this venue time are already inside
    converted_ns: int = 0  # venue time of his last conversion


class State(msgspec.Struct, forbid_unknown_fields=True):
    """All of it. A snapshot of another shape is refused, so that the log is folded instead."""

    leaders: dict[Wallet, Leader] = {}
    counted: dict[str, int] = {}  # id of a counted activity -> its venue time
    settled: dict[ConditionId, int] = {}  # markets that are over -> when that was counted
    newest_ns: int = 0
    forgot_ns: int = 0


NOTHING: Final = Leader()  # of whom nothing was counted yet; never changed
NOWHERE: Final = Track()  # what he has in a market that he never was in; never changed


def exposure_of(yes: int, no: int) -> Shares:
    """Return exposure; nobody can hold less than nothing, so a deficit is history unseen."""
    return Shares((yes if yes > 0 else 0) - (no if no > 0 else 0))


def is_conversion(fact: FillCounted) -> bool:
    """Tell a conversion, which says neither what it took nor what it gave, from all else."""
    return not (fact.yes or fact.no or fact.notional or fact.baseline)


def drop_if_empty(leader: Leader, condition: ConditionId) -> None:
    """Forget a market that the leader left; for a while yet, when that was."""
    track = leader.tracks[condition]
    if track.yes == track.no == track.followed == 0 and condition not in leader.windows:
        del leader.tracks[condition]
        leader.left[condition] = track.venue_ns


def enter(leader: Leader, condition: ConditionId) -> Track:
    """Return the leader's track in a market, a new one where there is none."""
    track = leader.tracks.get(condition)
    if track is None:
        track = leader.tracks[condition] = Track(venue_ns=leader.left.pop(condition, 0))
    return track


def remember(state: State, fact: FillCounted) -> None:
    """Keep a counted activity from being counted again, and forget what is long over."""
    state.counted[fact.cause] = fact.venue_ns
    if fact.venue_ns > state.newest_ns:
        state.newest_ns = fact.venue_ns
        if state.newest_ns - state.forgot_ns >= _FORGET_EVERY_NS:
            _forget(state)


def _forget(state: State) -> None:
    now_ns = state.forgot_ns = state.newest_ns
    state.counted = _since(state.counted, now_ns - REMEMBERED_NS)
    state.settled = _since(state.settled, now_ns - SETTLED_NS)
    for leader in state.leaders.values():
        leader.left = _since(leader.left, now_ns - REMEMBERED_NS)
        leader.sure = _since(leader.sure, now_ns - SURE_NS)


def _since(times: dict[K, int], horizon_ns: int) -> dict[K, int]:
    return {key: at_ns for key, at_ns in times.items() if at_ns >= horizon_ns}
