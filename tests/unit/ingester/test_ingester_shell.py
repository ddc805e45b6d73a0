"""The ingester's lane and its books against the local venue: clocks, pages, requests, interest."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from services.ctl.servers import LocalServers
from services.ingester.books import BookKeeper, Outlets
from services.paper_venue.server import Running
from shared.domain.book import Book
from shared.domain.ids import PARTITIONS
from shared.domain.market import Market
from shared.domain.messages import ActivityRead, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_S
from shared.domain.views import decode, market_key
from shared.polymarket.feed import Resolved
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.clock import SystemClock
from shared.runtime.memory import MemoryStore
from shared.runtime.rpc import REFRESH
from tests.support.builders import CONDITION
from tests.support.eventually import eventually
from tests.support.servers import nats_client
from tests.unit.ingester.ingester_build import (
    LANE,
    LEADER,
    MARKET,
    SETTINGS,
    a_system,
    a_venue,
    leader_buys,
    post,
)


class AheadClock(SystemClock):
    """A clock that was set ten minutes ahead."""

    def now_ns(self) -> int:
        return super().now_ns() + 600 * NS_PER_S


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

    def __init__(
        self, keeper: BookKeeper, store: MemoryStore, risk: Client, over: list[str]
    ) -> None:
        self.keeper, self.store, self.over, self._risk = keeper, store, over, risk

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
        over: list[str] = []
        outlets = Outlets(store, client, lambda *_: None, over.append)
        keeper = BookKeeper(
            public, outlets, SystemClock(), settings=SETTINGS, market_ws=urls.market_ws
        )
        with contextlib.ExitStack() as lanes:
            for partition in range(PARTITIONS):
                lanes.enter_context(keeper.holding(partition))
            running = asyncio.create_task(keeper.run())
            await asyncio.sleep(0)
            await client.flush()
            yield Keeping(keeper, store, risk, over)
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


async def test_a_resolution_on_the_stream_is_a_sign_whoever_watches(servers: LocalServers) -> None:
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        keeping.keeper._heard(Resolved(condition=CONDITION, winning_token=None))
        assert keeping.over == [CONDITION]


async def test_terms_without_orders_and_a_book_that_is_gone_are_signs(
    servers: LocalServers,
) -> None:
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        market = await post(venue, "market", MARKET)
        await keeping.ask(condition=market["condition"])
        assert keeping.over == []
        shut = await post(venue, "market", MARKET | {"slug": "two", "accepting_orders": False})
        await keeping.ask(condition=shut["condition"])
        assert keeping.over == [shut["condition"]]
        await keeping.keeper._close(market["tokens"][0])
        assert keeping.over == [shut["condition"], market["condition"]]


async def test_a_market_of_an_unknown_protocol_is_served_like_any(servers: LocalServers) -> None:
    """Whether to trade it is for risk to say: not knowing its terms would only hide why."""
    async with a_venue() as venue, a_keeper(venue, servers) as keeping:
        market = await post(venue, "market", MARKET | {"protocol": "unknown", "tags": ["a", "b"]})
        told = decode(await keeping.ask(condition=market["condition"]), Market)
        assert told is not None
        assert (told.protocol, told.tags) == ("unknown", ("a", "b"))
        book = decode(await keeping.ask(token=told.tokens[0]), Book)
        assert book is not None
        assert book.trusted
