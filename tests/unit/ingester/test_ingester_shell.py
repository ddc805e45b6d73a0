"""The ingester's lane and its books against the local venue: clocks, pages, requests, interest."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import httpx
import msgspec
import pytest
from nats.aio.client import Client

from services.ctl.servers import LocalServers
from services.ingester.books import BookKeeper, Outlets
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.shell import ActivityHub, DeadLetters, Shell, World
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import Running, running
from shared.domain.book import Book
from shared.domain.ids import Wallet, partition_of
from shared.domain.messages import ActivityRead, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_S, Usd
from shared.domain.views import book_key, decode, market_key
from shared.polymarket.feed import BookMoved, Resolved
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Http, Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.books import REFRESH
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, Service, run_until_stopped
from tests.support.builders import a_book, a_market
from tests.support.eventually import eventually
from tests.support.servers import nats_client

LEADER = Wallet("0x" + "1e" * 20)
LANE = Lane("ingester", partition_of(LEADER))
MARKET = {"slug": "one", "bids": [["0.4", "900000"]], "asks": [["0.5", "9000000"]]}
NOBODY = cast("Client", None)  # for lanes that nobody asks anything
SETTINGS = IngesterConfig(poll_interval_ms=100, poll_overlap_s=60, book_flush_ms=10)


class AheadClock(SystemClock):
    """A clock that was set ten minutes ahead."""

    def now_ns(self) -> int:
        return super().now_ns() + 600 * NS_PER_S


@contextlib.asynccontextmanager
async def a_venue(now_ns: Callable[[], int] = time.time_ns) -> AsyncIterator[Running]:
    config = VenueConfig(
        accounts=(Funded(wallet=LEADER, usd=Usd(1_000_000_000_000)),),
        rtds_delay_ms=0,
        data_api_delay_ms=0,
        mined_delay_ms=0,
        confirmed_delay_ms=0,
    )
    async with running(config, now_ns=now_ns) as venue:
        yield venue


async def post(venue: Running, path: str, body: object) -> Any:
    async with httpx.AsyncClient(base_url=venue.url) as http:
        answer = await http.post(f"/admin/{path}", json=body)
        answer.raise_for_status()
        return answer.json()


async def leader_buys(venue: Running, market: Any, *sizes: int) -> None:
    fills = [
        {
            "wallet": LEADER, "condition": market["condition"], "outcome": 0,
            "side": "BUY", "size": size,
        }
        for size in sizes
    ]  # fmt: skip
    assert (await post(venue, "fills", {"fills": fills}))["executed"] == len(sizes)


class System:
    """One ingester lane that reads over REST; the stream is not running."""

    def __init__(self, venue: Running, http: Http, clock: Clock, settings: IngesterConfig) -> None:
        self.clock, self.settings = clock, settings
        self.ledger, self.store = MemoryLedger(), MemoryStore()
        urls = VenueUrls.local(venue.url)
        public = PublicVenue(http, now_ns=clock.now_ns, urls=urls)
        dead = DeadLetters(self.ledger)
        self.hub = ActivityHub([LEADER], clock, dead, settings=settings, url=urls.activity_ws)
        books = BookKeeper(
            public, Outlets(self.store, NOBODY, dead.bury), clock, settings=settings, market_ws=""
        )
        self._world = World(self.hub, books, public, dead, [LEADER], settings)

    @contextlib.asynccontextmanager
    async def lane(self) -> AsyncIterator[LaneRunner[State]]:
        service = Service(
            name="ingester",
            state=State,
            decide=partial(decide, Policy(overlap_s=self.settings.poll_overlap_s)),
            evolve=evolve,
            inputs=lambda _: (),
        )
        ports = Ports(ledger=self.ledger, store=self.store, clock=self.clock)
        runner = LaneRunner(service, LANE, Shell(LANE, self._world), ports, Epoch(1))
        stopping = asyncio.Event()
        serving = asyncio.create_task(run_until_stopped(runner.run(stopping)))
        try:
            yield runner
        finally:
            stopping.set()
            await serving

    async def of(self, kind: type[Any]) -> list[Any]:
        head = await self.ledger.head()
        runs = [run async for run in self.ledger.read((LANE.subjects,), after=0, until=head)]
        facts = [fact for run in runs for entry in run if entry.batch for fact in entry.batch.facts]
        return [fact for fact in facts if isinstance(fact, kind)]


@contextlib.asynccontextmanager
async def a_system(
    venue: Running, *, clock: Clock | None = None, settings: IngesterConfig = SETTINGS
) -> AsyncIterator[System]:
    async with open_http(rng=random.Random(1)) as http:
        yield System(venue, http, clock or SystemClock(), settings)


# --- the lane ---------------------------------------------------------------------------------


async def test_a_clock_that_runs_ahead_skips_nothing_a_leader_does() -> None:
    async with a_venue() as venue, a_system(venue, clock=AheadClock()) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await eventually(lambda: system.of(LeaderBaselineRead))
        for count in (1, 2, 3):
            await leader_buys(venue, market, 10 * count)

            async def said(count: int = count) -> bool:
                return len(await system.of(LeaderFilled)) == count

            await eventually(said)


async def test_a_long_absence_is_read_page_by_page_oldest_first() -> None:
    """1,500 fills over five minutes are three pages; the cursor moves while they come."""
    now_ns = SystemClock().now_ns()
    at_ns = [now_ns - 400 * NS_PER_S]
    settings = msgspec.structs.replace(SETTINGS, backfill_s=600)
    async with a_venue(lambda: at_ns[0]) as venue:
        market = await post(venue, "market", MARKET)
        for part in range(5):
            at_ns[0] = now_ns - (400 - 80 * part) * NS_PER_S
            await leader_buys(venue, market, *range(10 + 300 * part, 310 + 300 * part))
        at_ns[0] = now_ns
        async with a_system(venue, settings=settings) as system, system.lane() as lane:

            async def all_said() -> bool:
                return len(await system.of(LeaderFilled)) >= 1_500

            await eventually(all_said, deadline_s=20)
            said = await system.of(LeaderFilled)
            sizes = [fact.size // 1_000_000 for fact in said]
            assert sorted(sizes) == list(range(10, 1_510))
            assert [fact.ts_ns for fact in said] == sorted(fact.ts_ns for fact in said)
            assert len(await system.of(ActivityRead)) >= 2
            known = lane.state.leaders[LEADER]
            assert known.through_s <= said[-1].ts_ns // NS_PER_S - settings.poll_overlap_s


async def test_a_lane_given_back_hears_the_stream_no_more() -> None:
    async with a_venue() as venue, a_system(venue) as system:
        async with system.lane():
            await eventually(lambda: LANE.partition in system.hub.lanes)
        assert system.hub.lanes == {}


# --- books ------------------------------------------------------------------------------------


class Keeping:
    """A keeper of books that serves requests on a real bus."""

    def __init__(self, keeper: BookKeeper, store: MemoryStore, risk: Client) -> None:
        self.keeper, self.store, self._risk = keeper, store, risk

    async def ask(self, **request: str) -> bytes:
        reply = await self._risk.request(REFRESH, msgspec.json.encode(request), timeout=5)
        return reply.data


@contextlib.asynccontextmanager
async def a_keeper(venue: Running, servers: LocalServers) -> AsyncIterator[Keeping]:
    store, urls = MemoryStore(), VenueUrls.local(venue.url)
    patience = Patience(deadline_s=5, attempt_s=5)
    async with (
        open_http(rng=random.Random(1), patience=patience) as http,
        nats_client(servers, "ingester") as client,
        nats_client(servers, "risk") as risk,
    ):
        public = PublicVenue(http, now_ns=SystemClock().now_ns, urls=urls)
        outlets = Outlets(store, client, lambda *_: None)
        keeper = BookKeeper(
            public, outlets, SystemClock(), settings=SETTINGS, market_ws=urls.market_ws
        )
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        await client.flush()
        yield Keeping(keeper, store, risk)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_slow_book_does_not_hold_up_the_others(servers: LocalServers) -> None:
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        market = await post(venue, "market", MARKET)
        await post(venue, "faults", {"slow": 1, "slow_ms": 1_000})
        slow = asyncio.create_task(keeping.ask(token=market["tokens"][0]))
        await asyncio.sleep(0.2)
        quick = decode(await keeping.ask(token=market["tokens"][1]), Book)
        assert quick is not None
        assert not slow.done()
        assert decode(await slow, Book) is not None


async def test_markets_that_nobody_watches_are_not_taken_up(servers: LocalServers) -> None:
    """The venue tells of every market that resolves; a market read late may be dropped by then."""
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        market = await post(venue, "market", MARKET)
        keeping.keeper._heard(Resolved(condition=market["condition"], winning_token=None))
        await asyncio.sleep(0.3)
        assert await keeping.store.read_views([market_key(market["condition"])]) == [None]
        assert keeping.keeper.trust() == (0, 0)
        await keeping.ask(condition=market["condition"])
        assert await keeping.store.read_views([market_key(market["condition"])]) != [None]

        async def both_known() -> bool:
            return sum(keeping.keeper.trust()) == 2

        await eventually(both_known)


@pytest.mark.parametrize("behind_s", [0, 30])
async def test_a_late_frame_is_no_evidence_for_the_book_now(
    servers: LocalServers, behind_s: int
) -> None:
    """A backlog of the stream arrives at once: seen now, true half a minute ago."""
    market, now_ns = a_market(), SystemClock().now_ns()
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        book = msgspec.structs.replace(
            a_book(), as_of_ns=now_ns - behind_s * NS_PER_S, seen_ns=now_ns, trusted=True
        )
        keeping.keeper._streamed(BookMoved(book))
        key = book_key(market.tokens[0])
        await eventually(lambda: key in keeping.store.views)
        shown = decode(keeping.store.views[key], Book)
        assert shown is not None
        assert shown.seen_ns == now_ns - behind_s * NS_PER_S
