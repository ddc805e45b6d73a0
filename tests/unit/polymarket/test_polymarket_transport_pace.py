"""Limits are kept in every window, and a venue that holds requests back is given fewer."""

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket.buckets import WINDOW_NS, Bucket
from shared.polymarket.errors import Throttled, TransportError
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import ACTIVITY
from shared.polymarket.throttle import CUT_EVERY_NS, RECENT, STEP_EVERY_NS, Throttle
from shared.polymarket.transport import Call
from tests.unit.polymarket.polymarket_fake import Fake, refused

MS, S = NS_PER_MS, NS_PER_S
USUAL = 120 * MS


# --- the bucket -------------------------------------------------------------------------------


@given(
    per_10s=st.integers(1, 200),
    pauses_ms=st.lists(st.integers(0, 5_000), max_size=50),
)
def test_no_window_of_ten_seconds_gets_more_than_the_limit_and_its_burst(
    per_10s: int, pauses_ms: list[int]
) -> None:
    bucket, now_ns, went = Bucket(per_10s), 0, []
    for pause_ms in pauses_ms + [0] * 400:
        now_ns += pause_ms * MS
        now_ns += bucket.wait_ns(now_ns)
        bucket.spend(now_ns)
        went.append(now_ns)
    most = per_10s + bucket.burst
    assert most <= max(per_10s * 16 // 15, per_10s + 1)
    for at, first_ns in enumerate(went[:-most]):
        assert went[at + most] - first_ns >= WINDOW_NS - most  # whole ns are rounded down


def test_a_bucket_that_is_held_lets_nothing_go_before_that() -> None:
    bucket = Bucket(150)
    bucket.hold(7 * S)
    assert (bucket.wait_ns(0), bucket.wait_ns(7 * S)) == (7 * S, 0)


# --- throttling, from latency alone -------------------------------------------------------------


def a_throttle(per_10s: int = 150) -> Throttle:
    throttle = Throttle(per_10s)
    hear(throttle, USUAL, 40, from_ns=0)
    return throttle


def hear(throttle: Throttle, took_ns: int, times: int, *, from_ns: int) -> int:
    """Let answers come in, ten a second; return the time of the last."""
    for number in range(times):
        throttle.answered(took_ns, from_ns + number * S // 10)
    return from_ns + times * S // 10


def test_answers_at_the_usual_pace_cut_nothing() -> None:
    throttle = a_throttle()
    hear(throttle, 300 * MS, 500, from_ns=10 * S)
    assert (throttle.rate(60 * S), throttle.cuts, throttle.describe()) == (150, 0, "")


def test_one_slow_answer_is_no_throttling() -> None:
    throttle = a_throttle()
    for second in range(20):
        now_ns = hear(throttle, USUAL, 5, from_ns=(10 + second) * S)
        throttle.answered(3 * S, now_ns)
    assert throttle.cuts == 0


def test_a_quick_venue_may_become_several_times_slower_below_the_floor() -> None:
    throttle = Throttle(150)
    hear(throttle, 20 * MS, 40, from_ns=0)
    hear(throttle, 300 * MS, 40, from_ns=10 * S)
    assert throttle.cuts == 0


def test_several_slow_answers_halve_the_rate_before_any_429() -> None:
    throttle = a_throttle()
    hear(throttle, 1_900 * MS, RECENT, from_ns=10 * S)
    assert (throttle.rate(11 * S), throttle.cuts) == (75, 1)
    assert throttle.describe().startswith("throttled: p50 ")
    assert throttle.describe().endswith(" s against 0.12 s, 75 reads/10 s")


def test_delays_that_creep_up_are_noticed_too() -> None:
    throttle, now_ns = a_throttle(), 10 * S
    for second in range(120):
        now_ns = hear(throttle, USUAL + second * 15 * MS, 10, from_ns=now_ns)
    assert throttle.cuts >= 1


def test_a_venue_that_stays_slow_is_given_less_and_less_down_to_the_least() -> None:
    throttle = a_throttle()
    hear(throttle, 1_900 * MS, 200, from_ns=10 * S)
    assert throttle.rate(30 * S) == throttle.least == 10


def test_the_next_cut_wants_answers_to_the_new_rate() -> None:
    throttle = a_throttle()
    hear(throttle, 1_900 * MS, 5, from_ns=10 * S)
    assert throttle.cuts == 1
    hear(throttle, 1_900 * MS, RECENT - 1, from_ns=20 * S)
    assert throttle.cuts == 1
    throttle.answered(1_900 * MS, 21 * S)
    assert throttle.cuts == 2


def test_the_rate_grows_again_by_equal_steps() -> None:
    throttle = a_throttle()
    now_ns = hear(throttle, 1_900 * MS, 5, from_ns=10 * S)
    assert throttle.rate(now_ns) == 75
    hear(throttle, USUAL, RECENT, from_ns=now_ns)
    rates = [throttle.rate(now_ns + step * STEP_EVERY_NS) for step in range(12)]
    assert rates == [min(150, 75 + 7 * step) for step in range(12)]
    assert not throttle.is_throttled


def test_nothing_grows_while_answers_are_slow() -> None:
    throttle = a_throttle()
    for _ in range(RECENT):
        throttle.answered(2 * S, 10 * S)
    assert throttle.rate(10 * S) == 75
    for _ in range(RECENT):
        throttle.answered(2 * S, 10 * S + 1)  # too soon for another cut
    assert throttle.rate(10 * S + CUT_EVERY_NS - 1) == 75
    assert throttle.rate(600 * S) == 75


def test_a_venue_that_is_slow_by_itself_becomes_the_usual() -> None:
    """At the least rate it cannot be us: the pace is the venue's own, and the rate recovers."""
    throttle = a_throttle()
    now_ns = 10 * S
    for _ in range(400):
        now_ns = hear(throttle, 900 * MS, 5, from_ns=now_ns)
        throttle.rate(now_ns)
    assert throttle.rate(now_ns) == 150
    assert throttle.usual_ns > 225 * MS


def test_a_429_cuts_once_for_all_that_were_under_way() -> None:
    throttle = a_throttle()
    for number in range(16):
        throttle.refused(10 * S + number)
    assert throttle.rate(10 * S) == 75
    throttle.refused(10 * S + CUT_EVERY_NS)
    assert throttle.rate(15 * S) == 37


def test_a_share_keeps_the_depth_of_a_cut() -> None:
    throttle = a_throttle()
    throttle.refused(10 * S)
    throttle.set_full(50)
    assert (throttle.rate(10 * S), throttle.full, throttle.least) == (25, 50, 3)


# --- the requests themselves --------------------------------------------------------------------


class Time:
    """A clock that the sleeps of a test move, so waiting costs nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns, self.slept = 0, list[float]()
        yield_once = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now_ns += round(seconds * S)
            await yield_once(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)

    def monotonic_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def test_requests_wait_for_their_turn_in_the_order_they_came(time: Time) -> None:
    pacer = Pacer({ACTIVITY: 30}, monotonic_ns=time.monotonic_ns)
    went: list[tuple[int, int]] = []

    async def ask(number: int) -> None:
        await pacer.turn(ACTIVITY)
        went.append((number, time.now_ns))

    await asyncio.gather(*(ask(number) for number in range(62)))
    assert [number for number, _ in went] == list(range(62))
    assert went[-1][1] == pytest.approx(20 * S, rel=0.001)  # two at once, then three a second


async def test_other_endpoints_wait_for_nothing(time: Time) -> None:
    pacer = Pacer({ACTIVITY: 1}, monotonic_ns=time.monotonic_ns)
    for _ in range(100):
        await pacer.turn("/v2/value")
    pacer.spend("/v2/value")
    pacer.went("/v2/value", 9.0, None)
    assert time.slept == []


async def test_processes_share_the_limit(time: Time) -> None:
    pacer = Pacer({ACTIVITY: 150}, monotonic_ns=time.monotonic_ns)
    pacer.share(3)
    assert pacer.rate(ACTIVITY) == 50
    pacer.share(1)
    assert pacer.rate(ACTIVITY) == 150


async def send(fake: Fake, pacer: Pacer) -> None:
    fake.http._gate = pacer
    await fake.http.send(Call(endpoint=ACTIVITY, url="http://venue.test/v2/activity"))


async def test_a_429_is_honoured_by_whoever_comes_next(time: Time) -> None:
    fake = Fake(refused(429, "slow down", Retry_After="7"), {"data": []})
    pacer = Pacer({ACTIVITY: 150}, monotonic_ns=time.monotonic_ns)
    with pytest.raises(Throttled):
        await send(fake, pacer)
    await send(fake, pacer)
    assert time.slept == [7.0]
    assert pacer.rate(ACTIVITY) == 82  # half, and a step up after five seconds


async def test_repetitions_count_against_the_limit(time: Time) -> None:
    fake = Fake(refused(500, "down"), refused(500, "down"), {"data": []})
    pacer = Pacer({ACTIVITY: 10}, monotonic_ns=time.monotonic_ns)
    await send(fake, pacer)
    assert pacer._limited[ACTIVITY].bucket.wait_ns(time.now_ns) == 3 * S


async def test_waiting_in_vain_counts_as_slow(time: Time) -> None:
    pacer = Pacer({ACTIVITY: 150}, monotonic_ns=time.monotonic_ns)
    for _ in range(40):
        pacer.went(ACTIVITY, 0.12, None)
    for _ in range(RECENT):
        pacer.went(ACTIVITY, 3.0, TransportError(ACTIVITY, "timed out"))
    assert pacer.rate(ACTIVITY) == 75


async def test_a_venue_that_is_down_is_not_slow(time: Time) -> None:
    pacer = Pacer({ACTIVITY: 150}, monotonic_ns=time.monotonic_ns)
    fake = Fake({"data": []}, httpx.ConnectError("refused"))
    await send(fake, pacer)
    for _ in range(RECENT):
        with pytest.raises(TransportError):
            await send(fake, pacer)
    assert pacer.rate(ACTIVITY) == 150
