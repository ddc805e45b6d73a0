"""Whose turn it is: who trades is read often, a sleeper seldom, and nobody is forgotten."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingester.schedule import HOT_NS, Pace, Schedule
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S
from shared.polymarket.buckets import WINDOW_NS, Bucket

S = NS_PER_S
PACE = Pace(fast_ns=1 * S, active_ns=5 * S, idle_ns=60 * S)
T0 = 1_000_000 * S
HOUR = 3_600 * S


def who(number: int) -> Wallet:
    return Wallet(f"0x{number:040x}")


def a_schedule(*quiet_s: int, per_10s: int = 150, now_ns: int = T0) -> Schedule:
    """Follow leaders who were quiet for so long, each read once already."""
    schedule = Schedule(PACE, per_10s=per_10s)
    for number, quiet in enumerate(quiet_s):
        schedule.follow(who(number), quiet_ns=quiet * S, now_ns=now_ns)
    for followed in [schedule.pick(now_ns) for _ in quiet_s]:
        assert followed is not None
        schedule.done(followed, now_ns)
    return schedule


def take(schedule: Schedule, now_ns: int) -> list[int]:
    """Return who is due, in the order of their turns, each of which ends at once and well."""
    turns = []
    while (followed := schedule.pick(now_ns)) is not None:
        turns.append(int(followed.leader, 16))
        schedule.done(followed, now_ns)
    return turns


def wait_s(schedule: Schedule, now_ns: int = T0) -> float:
    wait_ns = schedule.wait_ns(now_ns)
    assert wait_ns is not None
    return wait_ns / S


# --- how often ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quiet_s", "interval_s"),
    [(0, 1), (120, 1), (121, 5), (300, 5), (600, 10), (1_800, 30), (3_600, 60), (10**7, 60)],
)
def test_the_interval_follows_how_long_he_was_quiet(quiet_s: int, interval_s: int) -> None:
    assert wait_s(a_schedule(quiet_s)) == interval_s


@pytest.mark.parametrize(
    ("quiet_s", "interval_s"), [(0, 1), (121, 1), (600, 2), (3_600, 12), (10**7, 12)]
)
def test_everybody_is_due_sooner_while_the_stream_is_suspect(quiet_s: int, interval_s: int) -> None:
    schedule = a_schedule(quiet_s)
    schedule.healthy = False
    now_ns = T0 + 60 * S
    assert take(schedule, now_ns) == [0]
    assert wait_s(schedule, now_ns) == pytest.approx(interval_s, abs=1)


def test_who_acts_is_read_soon() -> None:
    schedule = a_schedule(36_000)
    schedule.acted(who(0), quiet_ns=2 * S, now_ns=T0)
    assert wait_s(schedule) == 1
    schedule.acted(who(0), quiet_ns=HOUR, now_ns=T0)  # an old row says nothing new
    schedule.acted(who(7), quiet_ns=0, now_ns=T0)  # nobody we follow
    assert wait_s(schedule) == 1


def test_a_thousand_sleepers_take_half_of_what_the_venue_bears() -> None:
    schedule = a_schedule(*[36_000] * 1_000)
    assert schedule.longest_ns() == pytest.approx(133.3 * S, rel=0.001)
    assert schedule.bound_ns() == pytest.approx(200 * S, rel=0.001)
    cost_per_10s = 1_000 * WINDOW_NS / schedule.longest_ns()
    assert cost_per_10s == pytest.approx(75, rel=0.001)
    few = a_schedule(*[36_000] * 100)
    assert few.longest_ns() == PACE.idle_ns


# --- the order ----------------------------------------------------------------------------------


def test_the_earliest_due_comes_first() -> None:
    schedule = a_schedule(3_600, 600, 0, 1_800)
    assert take(schedule, T0 + 61 * S) == [2, 1, 3, 0]


def test_after_trouble_everybody_is_read_once_the_last_to_act_first() -> None:
    schedule = a_schedule(3_600, 0, 36_000, 600)
    schedule.rouse(T0 + 1)
    assert take(schedule, T0 + 1) == [1, 3, 0, 2]
    assert take(schedule, T0 + 1) == []


def test_a_read_that_began_before_the_trouble_was_noticed_does_not_count() -> None:
    schedule = a_schedule(3_600)
    followed = schedule.pick(T0 + 60 * S)
    assert followed is not None
    schedule.rouse(T0 + 61 * S)
    schedule.done(followed, T0 + 62 * S)
    assert take(schedule, T0 + 62 * S) == [0]
    assert wait_s(schedule, T0 + 62 * S) >= 60


def test_trouble_that_comes_again_and_again_starves_nobody() -> None:
    """Each time the active ones would come first; who waits already keeps his place."""
    schedule = a_schedule(0, 1, 2, 36_000)
    turns = []
    for second in range(4):
        now_ns = T0 + second * S + 1
        schedule.rouse(now_ns)
        followed = schedule.pick(now_ns)
        assert followed is not None
        turns.append(int(followed.leader, 16))
        schedule.done(followed, now_ns)
    assert turns == [0, 1, 2, 3]


@pytest.mark.parametrize(("quiet_s", "most_s"), [(3_600, 60), (0, 10)])
def test_one_who_cannot_be_read_is_tried_later_each_time_and_holds_up_nobody(
    quiet_s: int, most_s: int
) -> None:
    schedule = a_schedule(quiet_s, 3_600)
    now_ns, waits = T0 + 60 * S, []
    for _ in range(40):
        schedule.acted(who(0), quiet_ns=quiet_s * S, now_ns=now_ns)
        followed = schedule.pick(now_ns)
        assert followed is not None
        if followed.leader == who(0):
            schedule.failed(followed, now_ns)
            waits.append((followed.due_ns - now_ns) // S)
        else:
            schedule.done(followed, now_ns)
        now_ns += schedule.wait_ns(now_ns) or 0
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) == most_s


def test_who_has_more_to_read_waits_behind_those_who_are_due() -> None:
    schedule = a_schedule(3_600, 3_600, 3_600)
    now_ns, turns = T0 + 60 * S, []
    for _ in range(6):
        followed = schedule.pick(now_ns)
        if followed is None:
            break
        turns.append(int(followed.leader, 16))
        more = followed.leader == who(0)
        now_ns += 1
        schedule.done(followed, now_ns, again_ns=0 if more else None)
    assert turns == [0, 1, 2, 0, 0, 0]


# --- coming and going ---------------------------------------------------------------------------


def test_one_who_is_dropped_is_read_no_more_and_his_last_turn_counts_for_nothing() -> None:
    schedule = Schedule(PACE, per_10s=150)
    first = schedule.follow(who(0), quiet_ns=0, now_ns=T0)
    other = schedule.follow(who(1), quiet_ns=0, now_ns=T0)
    assert schedule.pick(T0) is first
    schedule.drop(first)
    schedule.drop(other)
    schedule.done(first, T0)
    schedule.failed(first, T0)
    assert (len(schedule), schedule.wait_ns(T0 + HOUR)) == (0, None)


def test_one_who_is_taken_up_again_is_due_at_once() -> None:
    schedule = Schedule(PACE, per_10s=150)
    before = schedule.follow(who(0), quiet_ns=0, now_ns=T0)
    assert schedule.pick(T0) is before
    again = schedule.follow(who(0), quiet_ns=0, now_ns=T0)
    schedule.drop(before)  # the lane that was given back ends after it was taken again
    schedule.done(before, T0)
    assert len(schedule) == 1
    assert schedule.pick(T0) is again
    assert schedule.pick(T0 + HOUR) is None  # he is being read


def test_places_that_were_given_up_do_not_pile_up() -> None:
    schedule = a_schedule(*[HOT_NS // S + 1] * 10)
    for second in range(1_000):
        schedule.rouse(T0 + second)
        take(schedule, T0 + second)
    assert len(schedule._queue) <= 2 * 10 + 64


# --- nobody starves -----------------------------------------------------------------------------


class Happening(msgspec.Struct, frozen=True):
    """Something between two reads: after how long, what, and to whom."""

    after_ms: int
    what: str
    leader: int


happenings = st.lists(
    st.builds(
        Happening,
        after_ms=st.integers(0, 3_000),
        what=st.sampled_from(("acted", "acted", "rouse", "lost", "connected", "fails", "more")),
        leader=st.integers(0, 39),
    ),
    max_size=300,
)


class Reads:
    """A schedule served as the bucket lets it: between two reads of one is at most the bound."""

    def __init__(self, quiet_s: list[int], per_10s: int) -> None:
        self.schedule, self._bucket = Schedule(PACE, per_10s=per_10s), Bucket(per_10s)
        for number, quiet in enumerate(quiet_s):
            self.schedule.follow(who(number), quiet_ns=quiet * S, now_ns=T0)
        self._read_ns = dict.fromkeys((who(number) for number in range(len(quiet_s))), T0)
        self._bound_ns = self.schedule.bound_ns()
        self.now_ns = T0
        self.failing, self.long = set[Wallet](), set[Wallet]()

    def serve(self, until_ns: int) -> None:
        while True:
            wait_ns = self.schedule.wait_ns(self.now_ns)
            assert wait_ns is not None
            at_ns = self.now_ns + max(wait_ns, self._bucket.wait_ns(self.now_ns))
            if at_ns > until_ns:
                break
            self.now_ns = at_ns
            self._read()
        self.now_ns = until_ns
        assert max(until_ns - last_ns for last_ns in self._read_ns.values()) <= self._bound_ns

    def _read(self) -> None:
        followed = self.schedule.pick(self.now_ns)
        assert followed is not None
        self._bucket.spend(self.now_ns)
        assert self.now_ns - self._read_ns[followed.leader] <= self._bound_ns
        self._read_ns[followed.leader] = self.now_ns
        if followed.leader in self.failing:
            self.schedule.failed(followed, self.now_ns)
        else:
            again_ns = 1 if followed.leader in self.long else None
            self.schedule.done(followed, self.now_ns, again_ns=again_ns)

    def happen(self, what: str, leader: Wallet) -> None:
        if what == "acted":
            self.schedule.acted(leader, quiet_ns=0, now_ns=self.now_ns)
        elif what in ("lost", "connected"):
            self.schedule.healthy = what == "connected"
        elif what == "rouse":
            self.schedule.rouse(self.now_ns)
        else:
            turned = self.failing if what == "fails" else self.long
            turned ^= {leader}


@settings(max_examples=150, deadline=None)
@given(
    quiet_s=st.lists(st.integers(0, 100_000), min_size=1, max_size=40),
    per_10s=st.integers(10, 200),
    story=happenings,
)
def test_everybody_is_read_within_the_bound_whatever_happens(
    quiet_s: list[int], per_10s: int, story: list[Happening]
) -> None:
    reads = Reads(quiet_s, per_10s)
    for each in story:
        reads.serve(reads.now_ns + each.after_ms * S // 1_000)
        reads.happen(each.what, who(each.leader))
    reads.serve(reads.now_ns + 200 * S)
