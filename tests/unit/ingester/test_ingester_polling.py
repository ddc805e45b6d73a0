"""Leaders' turns in the process, and what a read may conclude when the venue's edge misbehaves."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import httpx
import msgspec
import pytest

from services.ingester import polling, reading
from services.ingester.activity import ActivityHub, FeedState
from services.ingester.letters import DeadLetters
from services.ingester.polling import AT_ONCE, Poller, Turn, data_api_limits, pace_of
from shared.domain.ids import Wallet
from shared.domain.messages import ActivityRead, FeedChanged, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import FeedsView, FeedView, encode, feed_key
from shared.polymarket.errors import TransportError
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import ACTIVITY, ASKED_MAX
from shared.runtime.clock import SystemClock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from tests.support.eventually import eventually
from tests.unit.ingester.ingester_build import (
    LEADER,
    MARKET,
    SETTINGS,
    System,
    a_system,
    a_venue,
    leader_buys,
    post,
)
from tests.unit.polymarket.polymarket_fake import Fake

QUICK = IngesterConfig(poll_fast_ms=100, poll_interval_ms=200, poll_idle_ms=60_000)
NONE = {"data": {"status": "ok", "lag_ms": 0}}
LAG = {"data": {"status": "ok", "lag_ms": 4_000}}
MINUTE = 60 * NS_PER_S
HOURS = 3_600 * 5 * NS_PER_S  # of quiet: the longest interval


def who(number: int) -> Wallet:
    return Wallet(f"0x{number:040x}")


class Bench:
    """A poller with its hub, whose leaders' turns a test takes itself."""

    def __init__(self, settings: IngesterConfig, *status: Any) -> None:
        self.clock, self.store, self.fake = SystemClock(), MemoryStore(), Fake(*status)
        dead = DeadLetters(MemoryLedger())
        self.hub = ActivityHub([], self.clock, dead, settings=settings, url="ws://none.test")
        self.hears("connected")
        self.pacer = Pacer(data_api_limits(settings), monotonic_ns=self.clock.monotonic_ns)
        self.poller = Poller(
            self.hub,
            self.fake.venue,
            self.clock,
            settings=settings,
            pacer=self.pacer,
            store=self.store,
        )
        self.turns: list[Wallet] = []

    @contextlib.contextmanager
    def lane(
        self, quiet_ns: dict[Wallet, int], take: Callable[[Wallet], Awaitable[Turn]] | None = None
    ) -> Any:
        with self.hub.reading(list(quiet_ns)), self.poller.polling(quiet_ns, take or self.take):
            yield

    def hears(self, state: FeedState) -> None:
        """Put the hub into a state: it has the one of its best socket."""
        self.hub.sockets = [cast("Any", SimpleNamespace(state=state))]

    async def take(self, leader: Wallet) -> Turn:
        self.turns.append(leader)
        return Turn()

    def feed(self, name: str) -> FeedView:
        (feed,) = [each for each in self.poller.feeds() if each.name == name]
        return feed


@contextlib.asynccontextmanager
async def a_bench(
    settings: IngesterConfig = QUICK, *, status: Sequence[Any] = (LAG,)
) -> AsyncIterator[Bench]:
    bench = Bench(settings, *status)
    running = asyncio.create_task(bench.poller.run())
    try:
        yield bench
        assert not running.done() or running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- turns --------------------------------------------------------------------------------------


def test_intervals_that_contradict_each_other_follow_the_usual_one() -> None:
    pace = pace_of(IngesterConfig(poll_interval_ms=300, poll_fast_ms=1_000, poll_idle_ms=200))
    assert (pace.fast_ns, pace.active_ns, pace.idle_ns) == (300 * NS_PER_MS,) * 3


async def test_one_who_cannot_be_read_and_one_who_hangs_hold_up_nobody() -> None:
    async def take(leader: Wallet) -> Turn:
        if leader == who(0):
            raise TransportError(ACTIVITY, "timed out")
        if leader == who(1):
            await asyncio.Event().wait()
        return await bench.take(leader)

    async with a_bench() as bench:
        with bench.lane({who(number): 0 for number in range(3)}, take):
            since_ns = time.time_ns()
            await eventually(lambda: bench.turns.count(who(2)) >= 3)
            assert bench.hub.read_ns[who(2)] > since_ns - 4 * NS_PER_S
            assert max(bench.hub.read_ns[who(0)], bench.hub.read_ns[who(1)]) < since_ns


async def test_a_bounded_number_of_leaders_is_read_at_a_time() -> None:
    reading_now, most = 0, 0

    async def take(_: Wallet) -> Turn:
        nonlocal reading_now, most
        reading_now += 1
        most = max(most, reading_now)
        await asyncio.sleep(0.05)
        reading_now -= 1
        done.append(_)
        return Turn()

    done: list[Wallet] = []
    async with a_bench() as bench:
        with bench.lane({who(number): HOURS for number in range(40)}, take):
            await eventually(lambda: len(done) == 40)
    assert most == AT_ONCE


async def test_a_lane_given_back_is_read_no_more_and_taken_again_it_is() -> None:
    ended: list[Wallet] = []

    async def hang(leader: Wallet) -> Turn:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(leader)
        return Turn()

    async with a_bench() as bench:
        with bench.lane({who(0): 0}, hang):
            await eventually(lambda: bench.poller._running)
        assert bench.hub.read_ns == {}
        await eventually(lambda: ended == [who(0)])
        assert bench.poller._running == {}
        await asyncio.sleep(0.3)
        with bench.lane({who(0): 0, who(1): 0}):
            await eventually(lambda: bench.turns.count(who(0)) >= 2)


async def test_after_trouble_everybody_is_read_once_the_last_to_act_first() -> None:
    quiet_ns = {who(number): HOURS - number * MINUTE for number in range(5)}
    states: tuple[FeedState, ...] = ("lost", "connected", "silent")
    async with a_bench() as bench:
        with bench.lane(quiet_ns):
            await eventually(lambda: len(bench.turns) == 5)
            bench.turns.clear()
            for state in states:
                bench.hears(state)
                await eventually(lambda: len(bench.turns) >= 5)
                await asyncio.sleep(0.3)
                assert bench.turns == [who(number) for number in (4, 3, 2, 1, 0)]
                bench.turns.clear()


async def test_after_trouble_everybody_is_read_again_when_the_index_must_show_it() -> None:
    async with a_bench(msgspec.structs.replace(QUICK, index_lag_ms=1_000), status=(NONE,)) as bench:
        with bench.lane({who(0): HOURS}):
            began_ns = time.time_ns()
            await eventually(lambda: len(bench.turns) == 2)  # it was not read before
            assert time.time_ns() - began_ns >= NS_PER_S
            bench.hears("lost")
            await eventually(lambda: len(bench.turns) == 3)
            noticed_ns = time.time_ns()
            await eventually(lambda: len(bench.turns) == 4)
            assert time.time_ns() - noticed_ns >= NS_PER_S


async def test_who_is_seen_to_act_is_read_soon() -> None:
    async with a_bench() as bench:
        with bench.lane({who(0): HOURS, who(1): HOURS}):
            await eventually(lambda: len(bench.turns) == 2)
            bench.poller.acted(who(1), time.time_ns() - NS_PER_S)
            await eventually(lambda: len(bench.turns) >= 5)
            assert set(bench.turns[2:]) == {who(1)}


async def test_ingesters_that_are_alive_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_COUNT_EVERY_S", 0.02)
    async with a_bench() as bench:
        now_ns = time.time_ns()
        for name, age_ns in (("a", 0), ("b", NS_PER_S), ("gone", MINUTE)):
            view = FeedsView(as_of_ns=now_ns - age_ns, feeds=())
            await bench.store.write_views({feed_key(name): encode(view)})
        await eventually(lambda: bench.pacer.rate(ACTIVITY) == 75)
        gone = FeedsView(as_of_ns=now_ns - MINUTE, feeds=())
        await bench.store.write_views({feed_key("b"): encode(gone)})
        await eventually(lambda: bench.pacer.rate(ACTIVITY) == 150)


# --- what people see ----------------------------------------------------------------------------


async def test_a_read_is_as_old_as_the_index_and_an_unfinished_one_is_none() -> None:
    turn = Turn(again_ns=NS_PER_S)

    async def take(leader: Wallet) -> Turn:
        bench.turns.append(leader)
        return turn

    async with a_bench() as bench:
        await eventually(bench.poller.indexed_ns)
        with bench.lane({who(0): 0}, take):
            bench.hub.read_ns[who(0)] = 0
            await eventually(lambda: bench.turns)
            await asyncio.sleep(0.1)
            assert bench.hub.read_ns[who(0)] == 0
            turn = Turn()
            await eventually(lambda: bench.hub.read_ns[who(0)] > 0)
            age_ns = time.time_ns() - bench.hub.read_ns[who(0)]
            assert 4 * NS_PER_S <= age_ns < 5 * NS_PER_S
        assert "index 4 s behind" in bench.feed("data-api").detail


async def test_an_index_that_does_not_say_how_it_is_is_unknown() -> None:
    status = (LAG, httpx.Response(404, json={"error": "gone"}))
    async with a_bench(msgspec.structs.replace(QUICK, status_every_s=1), status=status) as bench:
        await eventually(bench.poller.indexed_ns)
        assert bench.poller.indexed_ns()
        await eventually(lambda: bench.poller.indexed_ns() is None)
        assert "index lag unknown" in bench.feed("data-api").detail


async def test_throttling_is_shown_before_the_venue_refuses_anything() -> None:
    async with a_bench() as bench:
        with bench.lane({who(0): 0}):
            await eventually(lambda: bench.turns)
            assert bench.feed("data-api").state == "connected"
            for seconds in [0.12] * 40 + [1.9] * 9:
                bench.pacer.went(ACTIVITY, seconds, None)
            feed = bench.feed("data-api")
            assert feed.state == "silent"
            assert feed.detail.startswith("throttled: p50 1.9 s against 0.12 s, 75 reads/10 s")


async def test_a_data_api_that_fails_for_long_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(leader: Wallet) -> Turn:
        bench.turns.append(leader)
        raise TransportError(ACTIVITY, "timed out")

    monkeypatch.setattr(polling, "_LAST_WORD_NS", NS_PER_S // 5)
    async with a_bench() as bench:
        with bench.lane({who(0): 0}, take):
            await eventually(lambda: bench.turns)
            assert bench.feed("data-api").state == "connected"
            await eventually(lambda: bench.feed("data-api").state == "lost")


async def test_a_leader_who_is_overdue_is_shown() -> None:
    async with a_bench() as bench:
        with bench.lane({who(0): HOURS}):
            await eventually(lambda: bench.turns)
            assert bench.feed("polls").detail == "1 leaders, each within 60 s"
            assert bench.feed("polls").state == "connected"
            bench.hub.read_ns[who(0)] -= MINUTE
            assert bench.feed("polls").state == "connected"
            bench.hub.read_ns[who(0)] -= 20 * NS_PER_S
            assert bench.feed("polls").state == "silent"


async def test_until_the_stream_was_lost_it_told_of_everybody() -> None:
    """A sleeper who is read once a minute is not unheard for a minute when the stream is lost."""
    async with a_bench() as bench:
        now_ns = time.time_ns()
        bench.hub.read_ns[who(0)] = now_ns - MINUTE
        bench.hub.heard_ns = now_ns - NS_PER_S
        assert bench.feed("polls").heard_ns == now_ns - MINUTE
        bench.hears("lost")
        assert bench.feed("polls").heard_ns == now_ns - NS_PER_S


# --- what a read may conclude -------------------------------------------------------------------


class Edge(httpx.AsyncBaseTransport):
    """What stands between us and the venue: it may answer of its own for a while."""

    def __init__(self) -> None:
        self._venue = httpx.AsyncHTTPTransport()
        self.answer: Callable[[httpx.Request, Any], httpx.Response | None] = lambda *_: None
        self.altered = 0
        self.held: asyncio.Event | None = None  # the next answer of activity waits for it

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._venue.handle_async_request(request)
        body = await response.aread()
        await response.aclose()
        if request.url.path == ACTIVITY and self.held is not None:
            held, self.held = self.held, None
            await held.wait()
        told = self.answer(request, msgspec.json.decode(body) if body else None)
        if told is not None:
            self.altered += 1
            return told
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def aclose(self) -> None:
        await self._venue.aclose()


def activity_as(alter: Callable[[Any], Any], **headers: str) -> Any:
    """Return an edge's way of answering activity reads with something else."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(request: httpx.Request, told: Any) -> httpx.Response | None:
        if request.url.path != ACTIVITY:
            return None
        return httpx.Response(200, json=alter(told), headers=named)

    return answer


def without_rows(told: Any) -> Any:
    return told | {"data": [], "pagination": {"has_more": False, "next_cursor": None}}


@contextlib.asynccontextmanager
async def following(
    settings: IngesterConfig = SETTINGS,
) -> AsyncIterator[tuple[Edge, Any, Any, System]]:
    """Run a lane behind an edge, with its leader's baseline."""
    edge = Edge()
    async with (
        a_venue() as venue,
        a_system(venue, settings=settings, transport=edge) as system,
        system.lane(),
    ):
        market = await post(venue, "market", MARKET)
        await eventually(lambda: system.of(LeaderBaselineRead))
        yield edge, venue, market, system


async def count(system: System) -> int:
    return len(await system.of(LeaderFilled))


async def said(system: System, fills: int) -> None:
    async def so_many() -> bool:
        return await count(system) == fills

    await eventually(so_many)


async def test_what_a_cache_does_not_show_may_have_happened() -> None:
    async with following() as (edge, venue, market, system):
        edge.answer = activity_as(without_rows, Age="9", X_Cache="Hit from cloudfront")
        await eventually(lambda: edge.altered > ASKED_MAX)  # one turn is over
        read_ns = system.hub.read_ns[LEADER]
        await leader_buys(venue, market, 10)
        await eventually(lambda: edge.altered > 2 * ASKED_MAX)  # and another
        assert system.hub.read_ns[LEADER] == read_ns
        assert await count(system) == 0
        (_, data_api) = system.poller.feeds()
        assert "answers from caches" in data_api.detail
        edge.answer = lambda *_: None
        await said(system, 1)
        await eventually(lambda: system.hub.read_ns[LEADER] > read_ns)


async def test_what_a_cache_shows_happened_but_moves_no_cursor() -> None:
    settings = msgspec.structs.replace(SETTINGS, poll_overlap_s=1, backfill_s=300)
    async with following(settings) as (edge, venue, market, system):
        edge.answer = activity_as(lambda told: told, Age="9")
        await leader_buys(venue, market, 10)
        await said(system, 1)
        assert await system.of(ActivityRead) == []
        edge.answer = lambda *_: None
        await eventually(lambda: system.of(ActivityRead))


async def test_an_index_that_goes_back_is_no_news_until_it_stays_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "BACK_MAX", 1)
    async with following() as (edge, venue, market, system):
        await leader_buys(venue, market, 10)
        await said(system, 1)
        read_ns = system.hub.read_ns[LEADER]
        await eventually(lambda: system.hub.read_ns[LEADER] > read_ns)
        edge.answer = activity_as(without_rows)
        await eventually(lambda: system.poller.went_back == 1)
        read_ns = system.hub.read_ns[LEADER]
        await eventually(lambda: system.hub.read_ns[LEADER] > read_ns)
        assert system.poller.went_back == 1
        assert await count(system) == 1


async def test_an_answer_that_another_overtook_did_not_go_back() -> None:
    """A snapshot reads his activity too: a poll that was asked before it may end after it."""
    async with following() as (edge, venue, market, system):
        await leader_buys(venue, market, 10)
        await said(system, 1)
        released = edge.held = asyncio.Event()
        await eventually(lambda: edge.held is None)
        at_s = int(time.time())
        await eventually(lambda: int(time.time()) > at_s)  # his next row has a later second
        await leader_buys(venue, market, 11)
        await system.shells[-1]._reader.read(LEADER)
        await said(system, 2)
        read_ns = system.hub.read_ns[LEADER]
        released.set()
        await eventually(lambda: system.hub.read_ns[LEADER] > read_ns)
        await leader_buys(venue, market, 12)
        await said(system, 3)
        assert system.poller.went_back == 0


async def test_a_page_that_lacks_rows_is_made_good_by_the_reads_that_overlap_it() -> None:
    """Nothing in the page tells: it says that there is no more, and every other row is missing."""
    async with following() as (edge, venue, market, system):
        edge.answer = activity_as(lambda told: told | {"data": told["data"][::2]})
        await leader_buys(venue, market, 10, 11, 12, 13)
        await said(system, 2)
        edge.answer = lambda *_: None
        await said(system, 4)


async def test_how_far_a_read_is_complete_is_bounded_by_the_index() -> None:
    behind = {"data": {"age_seconds": 2, "serving": {"lag_seconds": 298}}}

    def answer(request: httpx.Request, _: Any) -> httpx.Response | None:
        status = request.url.path == "/v2/status"
        return httpx.Response(200, json=behind) if status else None

    settings = msgspec.structs.replace(SETTINGS, poll_overlap_s=1, backfill_s=900)
    edge = Edge()
    edge.answer = answer
    async with (
        a_venue() as venue,
        a_system(venue, settings=settings, transport=edge) as system,
    ):
        market = await post(venue, "market", MARKET)
        await leader_buys(venue, market, 10)
        polling_ = asyncio.create_task(system.poller.run())
        await eventually(system.poller.indexed_ns)
        polling_.cancel()
        async with system.lane() as lane:
            await eventually(lambda: system.of(ActivityRead))
            through_s = lane.state.leaders[LEADER].through_s
            assert time.time() - 330 < through_s <= time.time() - 301


# --- long reads ---------------------------------------------------------------------------------


async def test_a_second_too_full_to_be_read_is_a_gap_until_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "TURN_PAGES", 1)
    monkeypatch.setattr(reading, "SECOND_PAGES_MAX", 2)
    at_ns = [time.time_ns()]
    async with a_venue(lambda: at_ns[0]) as venue:
        settings = msgspec.structs.replace(SETTINGS, backfill_s=600)
        market = await post(venue, "market", MARKET)
        await leader_buys(venue, market, *range(10, 1_510))
        at_ns[0] += 2 * NS_PER_S
        await leader_buys(venue, market, 2_000)
        async with a_system(venue, settings=settings) as system, system.lane():
            await eventually(lambda: system.of(FeedChanged))
            await said(system, 1_001)  # what comes after the gap is read all the same
            (gap,) = await system.of(FeedChanged)
            assert (gap.feed, gap.state, gap.leader) == ("activity", "gap", LEADER)
            assert gap.from_ns // NS_PER_S == at_ns[0] // NS_PER_S - 2
            monkeypatch.setattr(reading, "SECOND_PAGES_MAX", 50)
            await said(system, 1_501)

            async def resynced() -> bool:
                return [each.state for each in await system.of(FeedChanged)] == ["gap", "resynced"]

            await eventually(resynced)


async def test_a_long_read_takes_turns_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice is narrower by what was read; no turn takes more than its pages."""
    monkeypatch.setattr(reading, "TURN_PAGES", 1)
    now_ns = time.time_ns()
    at_ns = [now_ns]
    async with a_venue(lambda: at_ns[0]) as venue:
        market = await post(venue, "market", MARKET)
        for part in range(6):
            at_ns[0] = now_ns - (500 - 60 * part) * NS_PER_S
            await leader_buys(venue, market, *range(10 + 300 * part, 310 + 300 * part))
        at_ns[0] = now_ns
        settings = msgspec.structs.replace(SETTINGS, backfill_s=600)
        async with a_system(venue, settings=settings) as system, system.lane():
            await said(system, 1_800)
            facts = await system.of(LeaderFilled)
            assert [fact.ts_ns for fact in facts] == sorted(fact.ts_ns for fact in facts)
            assert await system.of(FeedChanged) == []


async def test_what_a_sleeper_does_after_months_of_absence_is_read() -> None:
    """His cursor stands where he last did something: everything since is asked for."""
    at_ns = [time.time_ns() - 90 * 86_400 * NS_PER_S]

    class Then(SystemClock):
        def now_ns(self) -> int:
            return at_ns[0]

    async with a_venue(lambda: at_ns[0]) as venue, a_system(venue, clock=Then()) as system:
        market = await post(venue, "market", MARKET)
        async with system.lane():
            await eventually(lambda: system.of(LeaderBaselineRead))
            await leader_buys(venue, market, 10)
            await said(system, 1)
        at_ns[0] += 45 * 86_400 * NS_PER_S
        await leader_buys(venue, market, 11)
        at_ns[0] += 45 * 86_400 * NS_PER_S
        async with system.lane():
            await said(system, 2)
