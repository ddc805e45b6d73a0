"""An ingester process in one loop: its lanes, its streams, its books, killed and started again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from nats.aio.client import Client

from services.ingester.chain import ChainWatcher
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.polling import data_api_limits
from services.ingester.shell import Shell
from services.ingester.world import World, assemble
from shared.domain.ids import Wallet, partition_of
from shared.polymarket.chain_node import Node
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
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
        ports: Ports,
        bus: Bus,
        with_chain: bool,
    ) -> None:
        self._with_chain = with_chain
        self._leaders, self._url, self._settings = leaders, url, settings
        self._ports, self._bus, self._clock = ports, bus, ports.clock
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
        clock, settings = self._clock, self._settings
        pacer = Pacer(data_api_limits(settings), monotonic_ns=clock.monotonic_ns)
        patience = Patience(deadline_s=10.0, attempt_s=5.0)
        async with open_http(rng=random.Random(epoch), patience=patience, gate=pacer) as http:
            urls = VenueUrls.local(self._url)
            venue = PublicVenue(http, now_ns=clock.now_ns, urls=urls)
            world = assemble(
                self._leaders,
                settings,
                venue=venue,
                pacer=pacer,
                ports=self._ports,
                client=cast("Client", self._bus),
            )
            works = [*world.background]
            if self._with_chain:
                node = Node(http, f"{self._url}/rpc")
                socket = f"{self._url.replace('http', 'ws', 1)}/rpc"
                works.append(ChainWatcher(world, node, clock, ws_url=socket).run)
            async with asyncio.TaskGroup() as group:
                for work in works:
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
        runner = LaneRunner(service, lane, Shell(lane, world), self._ports, Epoch(epoch))
        await runner.run(asyncio.Event())
