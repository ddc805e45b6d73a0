"""An ingester process in one loop: its lanes, its streams, its books, killed and started again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from nats.aio.client import Client

from services.ingester.activity import ActivityHub
from services.ingester.books import BookKeeper, Outlets
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.leaders import Observatory, Rereads
from services.ingester.letters import DeadLetters
from services.ingester.resolutions import Resolutions
from services.ingester.shell import Shell
from services.ingester.world import World
from shared.domain.ids import Wallet, partition_of
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, Service
from tests.support.virtual import VirtualLoop


class Message(NamedTuple):
    """What a subscriber is given, as far as anybody here reads it."""

    data: bytes


class Bus:
    """Core NATS in memory: exact subjects, and ``*`` as the last token."""

    def __init__(self) -> None:
        self._heard: dict[str, list[Callable[[Any], Awaitable[None]]]] = {}

    async def subscribe(
        self, subject: str, *, cb: Callable[[Any], Awaitable[None]], **_: Any
    ) -> None:
        self._heard.setdefault(subject, []).append(cb)

    async def publish(self, subject: str, data: bytes) -> None:
        head = subject.rpartition(".")[0] + ".*"
        for callback in [*self._heard.get(subject, ()), *self._heard.get(head, ())]:
            await callback(Message(data))


class VirtualClock(Clock):
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        return self._loop.now_ns()

    def monotonic_ns(self) -> int:
        return int(self._loop.time() * 1_000_000) * 1_000


class Process:
    """One ingester that holds every lane of its leaders."""

    def __init__(
        self,
        leaders: Sequence[Wallet],
        url: str,
        *,
        settings: IngesterConfig,
        ledger: MemoryLedger,
        store: MemoryStore,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._leaders, self._url, self._settings = leaders, url, settings
        self._ledger, self._store, self._bus, self._clock = ledger, store, bus, clock
        self._epoch = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._epoch += 1
        self._task = asyncio.create_task(self._run(self._epoch))

    async def kill(self) -> None:
        """End it at whatever await it stands."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def check(self) -> None:
        """Raise what ended it, if it ended by itself."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def _run(self, epoch: int) -> None:
        patience = Patience(deadline_s=10.0, attempt_s=5.0)
        async with open_http(rng=random.Random(epoch), patience=patience) as http:
            clock, settings, urls = self._clock, self._settings, VenueUrls.local(self._url)
            venue = PublicVenue(http, now_ns=clock.now_ns, urls=urls)
            dead = DeadLetters(self._ledger)
            hub = ActivityHub(self._leaders, clock, dead, settings=settings, url=urls.activity_ws)
            resolutions = Resolutions(venue, clock, dead.bury)
            client = cast("Client", self._bus)
            outlets = Outlets(self._store, client, dead.bury, resolutions.suspect)
            books = BookKeeper(venue, outlets, clock, settings=settings, market_ws=urls.market_ws)
            observatory = Observatory(venue, self._store, every_s=settings.leader_snapshot_s)
            rereads = Rereads(client, dead.bury)
            world = World(
                hub, books, venue, dead, self._leaders, settings, observatory, rereads, resolutions
            )
            async with asyncio.TaskGroup() as group:
                for work in (hub.run, books.run, dead.run, rereads.run, resolutions.run):
                    group.create_task(work())
                for partition in sorted({partition_of(leader) for leader in self._leaders}):
                    group.create_task(self._lane(Lane("ingester", partition), world, epoch))

    async def _lane(self, lane: Lane, world: World, epoch: int) -> None:
        service = Service(
            name="ingester",
            state=State,
            decide=partial(decide, Policy(overlap_s=self._settings.poll_overlap_s)),
            evolve=evolve,
            inputs=lambda _: (),
        )
        ports = Ports(ledger=self._ledger, store=self._store, clock=self._clock)
        runner = LaneRunner(service, lane, Shell(lane, world), ports, Epoch(epoch))
        await runner.run(asyncio.Event())
