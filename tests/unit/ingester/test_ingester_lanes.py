"""A market's books are kept where its lane is held, whoever asks, and move with the lane."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg

from services.ctl.servers import LocalServers
from services.ingester.books import BookKeeper, Outlets
from services.ingester.interest import OVER, WANT
from services.paper_venue.server import Running
from shared.domain.book import Book
from shared.domain.ids import PARTITIONS, TokenId, partition_of
from shared.domain.market import Market
from shared.domain.units import Shares
from shared.domain.views import (
    ExposuresView,
    ExposureView,
    book_key,
    decode,
    encode,
    exposure_key,
    market_key,
)
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import OnCall, Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.clock import SystemClock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryStore
from shared.runtime.rpc import REFRESH
from tests.support.eventually import eventually
from tests.support.servers import nats_client
from tests.unit.ingester.ingester_build import LEADER, MARKET, SETTINGS, a_venue, post


class Process:
    """One ingester process's keeper, and what it said was over."""

    def __init__(self, keeper: BookKeeper, over: list[str], calls: Counter[str]) -> None:
        self.keeper, self.over, self.calls = keeper, over, calls
        self._lanes: dict[int, contextlib.ExitStack] = {}

    def hold(self, *partitions: int) -> None:
        for partition in partitions:
            lane = self._lanes[partition] = contextlib.ExitStack()
            lane.enter_context(self.keeper.holding(partition))

    def give_back(self, *partitions: int) -> None:
        for partition in partitions:
            self._lanes.pop(partition).close()


@contextlib.asynccontextmanager
async def a_process(
    venue: Running,
    servers: LocalServers,
    store: MemoryStore,
    *,
    settings: IngesterConfig = SETTINGS,
) -> AsyncIterator[Process]:
    calls: Counter[str] = Counter()
    count: OnCall = lambda endpoint, *_: calls.update([endpoint])  # noqa: E731
    urls = VenueUrls.local(venue.url)
    patience = Patience(deadline_s=5, attempt_s=5)
    async with (
        open_http(rng=random.Random(1), patience=patience, on_call=count) as http,
        nats_client(servers, "ingester") as client,
    ):
        public = PublicVenue(http, now_ns=SystemClock().now_ns, urls=urls)
        over: list[str] = []
        keeper = BookKeeper(
            public,
            Outlets(store, client, lambda *_: None, over.append),
            SystemClock(),
            settings=settings,
            market_ws=urls.market_ws,
        )
        running = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        await client.flush()
        yield Process(keeper, over, calls)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def two(
    venue: Running, servers: LocalServers
) -> AsyncIterator[tuple[Process, Process, MemoryStore]]:
    store = MemoryStore()
    async with a_process(venue, servers, store) as one, a_process(venue, servers, store) as other:
        yield one, other, store


def trusted(process: Process, count: int) -> Callable[[], bool]:
    return lambda: process.keeper.trust() == (count, 0)


async def shown(store: MemoryStore, token: Any) -> Book | None:
    (found,) = await store.read_views([book_key(token)])
    return decode(found, Book)


async def test_interest_reaches_the_process_that_holds_the_lane(servers: LocalServers) -> None:
    async with a_venue() as venue, two(venue, servers) as (one, other, _):
        market = await post(venue, "market", MARKET)
        lane = partition_of(market["condition"])
        other.hold(lane)
        one.hold(*(set(range(PARTITIONS)) - {lane}))
        one.keeper.want(market["condition"])
        await eventually(trusted(other, 2))
        assert one.keeper.trust() == (0, 0)


async def test_books_move_with_their_lane_and_are_written_by_one_process(
    servers: LocalServers,
) -> None:
    async with a_venue() as venue, two(venue, servers) as (one, other, store):
        market = await post(venue, "market", MARKET)
        condition, token = market["condition"], market["tokens"][0]
        lane = partition_of(condition)
        held = ExposureView(
            leader=LEADER, condition=condition, exposure=Shares(1), yes=Shares(1), no=Shares(0)
        )
        await store.write_views({exposure_key(3): encode(ExposuresView(exposures=(held,)))})
        one.hold(lane)
        await eventually(trusted(one, 2))
        one.give_back(lane)
        other.hold(lane)
        await eventually(trusted(other, 2))
        await eventually(lambda: one.keeper.trust() == (0, 0))
        assert other.calls["/book"] == 0  # the stream's first word is enough
        before = await shown(store, token)
        await post(
            venue, "book", {"condition": condition, "bids": [["0.3", "70"]], "asks": [["0.5", "9"]]}
        )

        async def moved() -> bool:
            book = await shown(store, token)
            return book is not None and book.best_bid == 300_000

        await eventually(moved)
        assert before is not None
        assert before.trusted


async def test_a_request_answered_by_another_process_writes_no_book(servers: LocalServers) -> None:
    async with (
        a_venue() as venue,
        two(venue, servers) as (one, _other, store),
        nats_client(servers, "risk") as risk,
    ):
        market = await post(venue, "market", MARKET)
        token = market["tokens"][0]
        for _ in range(4):  # whoever gets it
            request = msgspec.json.encode({"token": token})
            reply = await risk.request(REFRESH, request, timeout=5)
            book = decode(reply.data, Book)
            assert book is not None
            assert (book.trusted, book.source) == (True, "rest")
        assert await shown(store, token) is None
        known = Book(token=token, condition=market["condition"], volatility=77)
        await store.write_views({book_key(token): encode(known)})
        answer = decode(await one.keeper.desk.answer({"token": token}), Book)
        assert answer is not None
        assert answer.volatility == 77  # which only its keeper can measure
        assert await shown(store, token) == known


async def test_a_sign_of_an_end_reaches_every_process_once(servers: LocalServers) -> None:
    async with a_venue() as venue, two(venue, servers) as (one, other, store):
        shut = await post(venue, "market", MARKET | {"accepting_orders": False})
        one.hold(*range(PARTITIONS))
        one.keeper.want(shut["condition"])
        await eventually(lambda: other.over)
        assert set(one.over) == set(other.over) == {shut["condition"]}
        (terms,) = await store.read_views([market_key(shut["condition"])])
        assert decode(terms, Market) is not None


async def test_nonsense_on_the_bus_is_passed_over(servers: LocalServers) -> None:
    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore()) as process,
        nats_client(servers, "ingester") as client,
    ):
        process.hold(*range(PARTITIONS))
        for subject in (WANT, OVER):
            for data in (b"", b"{", b'["x"]', b'{"origin":"y","conditions":["0x1"]}'):
                await client.publish(subject, data)
        market = await post(venue, "market", MARKET)
        told = {"origin": "y", "conditions": [market["condition"]]}
        await client.publish(WANT, msgspec.json.encode(told))
        await eventually(trusted(process, 2))
        assert process.over == []


async def test_what_others_have_to_know_is_told_once(servers: LocalServers) -> None:
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore()) as process,
        nats_client(servers, "ingester") as client,
    ):
        await client.subscribe(WANT, cb=hear)
        await client.flush()
        market = await post(venue, "market", MARKET)
        for _ in range(50):
            process.keeper.want(market["condition"])
        await eventually(lambda: heard)
        await asyncio.sleep(0.1)
        assert len(heard) == 1


async def test_a_lost_connection_of_many_books_costs_a_few_requests(servers: LocalServers) -> None:
    """The new socket begins with all books; REST is asked for those it leaves out, together."""
    settings = msgspec.structs.replace(SETTINGS, book_snapshot_s=1)
    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore(), settings=settings) as process,
    ):
        process.hold(*range(PARTITIONS))
        for number in range(100):
            market = await post(venue, "market", MARKET | {"slug": f"m{number}"})
            process.keeper.want(market["condition"])
        await eventually(trusted(process, 200), deadline_s=20)
        reads = process.calls["/book"] + process.calls["/books"]
        await post(venue, "faults", {"close_sockets": "market"})
        await eventually(lambda: process.keeper.evidence.get("connection lost") == 200)
        await eventually(trusted(process, 200), deadline_s=20)
        assert process.calls["/book"] + process.calls["/books"] - reads <= 6


async def test_while_streams_are_silent_books_are_confirmed_over_rest_together(
    servers: LocalServers,
) -> None:
    settings = msgspec.structs.replace(
        SETTINGS, book_silence_s=1, book_snapshot_s=1, book_trust_s=5
    )
    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore(), settings=settings) as process,
    ):
        process.hold(*range(PARTITIONS))
        markets = [await post(venue, "market", MARKET | {"slug": f"s{n}"}) for n in range(10)]
        for market in markets:
            process.keeper.want(market["condition"])
        await eventually(trusted(process, 20), deadline_s=20)
        await post(venue, "faults", {"market_silence_s": 60})
        frozen = markets[0]
        depth = {"bids": [["0.2", "70"]], "asks": [["0.5", "9"]]}
        await post(venue, "book", {"condition": frozen["condition"]} | depth)

        def rescued() -> bool:
            book = process.keeper._streams.book(frozen["tokens"][0])
            return book is not None and book.trusted and book.best_bid == 200_000

        await eventually(rescued, deadline_s=20)
        await eventually(lambda: process.keeper.evidence.get("frozen"), deadline_s=20)
        assert process.keeper.evidence["rescue: resubscribe"] >= 1
        assert process.calls["/books"] >= 1
        quiet = process.keeper._streams.book(markets[1]["tokens"][0])
        assert quiet is not None
        assert (quiet.trusted, quiet.source) == (True, "rest")


async def test_a_book_asked_for_does_not_wait_behind_resyncs_and_is_read_once(
    servers: LocalServers,
) -> None:
    settings = msgspec.structs.replace(SETTINGS, book_resyncs_per_s=1, book_resyncs_burst=1)
    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore(), settings=settings) as process,
    ):
        process.hold(*range(PARTITIONS))
        market = await post(venue, "market", MARKET)
        keeper, token = process.keeper, market["tokens"][0]
        for number in range(50):
            keeper._resyncs.ask(TokenId(str(7_000 + number)), alone=True)
        keeper._asked.set()
        await eventually(lambda: process.calls["/book"] == 1)
        books = await asyncio.wait_for(
            asyncio.gather(*(keeper.desk.refresh(token) for _ in range(20))), timeout=1
        )
        assert all(book.trusted for book in books)
        assert process.calls["/book"] <= 3  # one resync a second, and one for all who asked


async def test_more_is_asked_for_than_the_venue_bears_and_the_rest_goes_without(
    servers: LocalServers,
) -> None:
    settings = msgspec.structs.replace(SETTINGS, book_refreshes_per_s=1, refresh_deadline_ms=1_500)
    async with (
        a_venue() as venue,
        a_process(venue, servers, MemoryStore(), settings=settings) as process,
    ):
        market = [await post(venue, "market", MARKET | {"slug": f"r{n}"}) for n in range(3)]
        tokens = [token for each in market for token in each["tokens"]]
        asked = (process.keeper.desk.refresh(token) for token in tokens)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Book) for answer in answers] == [True] * 3 + [False] * 3
        assert {str(answer) for answer in answers[3:]} == {"/book: too many requests for books"}
