"""One ingester lane over REST against the local venue, in one process."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import httpx
from nats.aio.client import Client

from services.ingester.activity import ActivityHub
from services.ingester.books import BookKeeper, Outlets
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.leaders import Observatory, Rereads
from services.ingester.letters import DeadLetters
from services.ingester.polling import Poller, data_api_limits
from services.ingester.resolutions import Pace, Resolutions
from services.ingester.shell import Shell
from services.ingester.world import World
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import Running, running
from shared.domain.ids import Wallet, partition_of
from shared.domain.messages import MarketResolved
from shared.domain.units import Usd
from shared.domain.views import LeaderView, decode, leader_key
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Http
from shared.polymarket.urls import VenueUrls
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, Service, run_until_stopped

LEADER = Wallet("0x" + "1e" * 20)
LANE = Lane("ingester", partition_of(LEADER))
MARKET = {"slug": "one", "bids": [["0.4", "900000"]], "asks": [["0.5", "9000000"]]}
NOBODY = cast("Client", None)  # for lanes that nobody asks anything
PACE = Pace(request_s=0.05, round_s=3_600)  # one round at the start, then signs alone
SETTINGS = IngesterConfig(poll_interval_ms=100, poll_overlap_s=60, book_flush_ms=10)


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
    """One ingester lane that reads over REST; the activity stream is not running."""

    def __init__(
        self,
        venue: Running,
        http: Http,
        clock: Clock,
        settings: IngesterConfig,
        pace: Pace,
        client: Client | None,
        pacer: Pacer,
    ) -> None:
        self.clock, self.settings, self._client = clock, settings, client
        bus = client or NOBODY
        self.ledger, self.store = MemoryLedger(), MemoryStore()
        urls = VenueUrls.local(venue.url)
        public = PublicVenue(http, now_ns=clock.now_ns, urls=urls)
        self.dead = DeadLetters(self.ledger)
        self.shells: list[Shell] = []  # of the lanes, one after the other
        self.hub = ActivityHub([LEADER], clock, self.dead, settings=settings, url=urls.activity_ws)
        self.resolutions = Resolutions(public, clock, self.dead.bury, pace=pace)
        outlets = Outlets(self.store, bus, self.dead.bury, self.resolutions.suspect)
        self.books = BookKeeper(public, outlets, clock, settings=settings, market_ws=urls.market_ws)
        self.rereads = Rereads(bus, self.dead.bury)
        self.observatory = Observatory(public, self.store, every_s=settings.leader_snapshot_s)
        self.poller = Poller(
            self.hub, public, clock, settings=settings, pacer=pacer, store=self.store
        )
        self._world = World(
            self.hub,
            self.books,
            public,
            self.dead,
            [LEADER],
            settings,
            self.observatory,
            self.rereads,
            self.resolutions,
            self.poller,
        )

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
        self.shells.append(Shell(LANE, self._world))
        runner = LaneRunner(service, LANE, self.shells[-1], ports, Epoch(1))
        stopping = asyncio.Event()
        serving = asyncio.create_task(run_until_stopped(runner.run(stopping)))
        polling = asyncio.create_task(self.poller.run())
        try:
            yield runner
        finally:
            stopping.set()
            await serving
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask about resolutions, and keep the dead letters; with a bus, watch books too."""
        works = [self.resolutions.run(), self.dead.run()]
        if self._client is not None:
            works += [self.books.run(), self.rereads.run()]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def resolved(self) -> list[MarketResolved]:
        return await self.of(MarketResolved)

    async def view(self) -> LeaderView | None:
        return decode(self.store.views.get(leader_key(LEADER)), LeaderView)

    async def of(self, kind: type[Any]) -> list[Any]:
        head = await self.ledger.head()
        runs = [run async for run in self.ledger.read((LANE.subjects,), after=0, until=head)]
        facts = [fact for run in runs for entry in run if entry.batch for fact in entry.batch.facts]
        return [fact for fact in facts if isinstance(fact, kind)]


@contextlib.asynccontextmanager
async def a_system(
    venue: Running,
    *,
    clock: Clock | None = None,
    settings: IngesterConfig = SETTINGS,
    pace: Pace = PACE,
    client: Client | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[System]:
    """Give a system of one lane; ``transport`` may stand between it and the venue."""
    clock = clock or SystemClock()
    pacer = Pacer(data_api_limits(settings), monotonic_ns=clock.monotonic_ns)
    async with httpx.AsyncClient(transport=transport, timeout=3) as connections:
        http = Http(connections, rng=random.Random(1), gate=pacer)
        yield System(venue, http, clock, settings, pace, client, pacer)
