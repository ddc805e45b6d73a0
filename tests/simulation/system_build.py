"""The five services as their composition roots build them, in one loop: killed, cut off, doubled.

What is real: cores, shells, runners, clients, HTTP and WebSockets, the local venue, its signatures.
What is not: the broker, the store and the kernel, whose promises ``MemoryLedger``, ``MemoryStore``
and the virtual loop keep. A process that died writes nothing any more, whatever its tasks still do.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from nats.aio.client import Client

from services.aggregator.__main__ import build as build_aggregator
from services.executor.__main__ import assemble as assemble_executor
from services.ingester.__main__ import build as build_ingester
from services.reconciler.__main__ import build as build_reconciler
from services.risk.__main__ import build as build_risk
from shared.domain.ids import Wallet, partition_of
from shared.domain.messages import Batch
from shared.domain.units import NS_PER_MS, Bps
from shared.polymarket.orders import Signer
from shared.runtime.config import Config, load
from shared.runtime.endpoints import Endpoints
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.metrics import Metrics
from shared.runtime.ports import Entry, Epoch, FencedError, Lane, Saved, StoreAwayError
from shared.runtime.runner import LaneRunner, Ports
from shared.runtime.serve import Built, Context
from shared.runtime.telemetry import Tracing
from tests.simulation.feeds_build import VirtualClock
from tests.simulation.hub_build import Hub, Wire
from tests.support.virtual import OWNER, VirtualLoop

Roots = dict[str, Callable[[Context], Built[Any]]]
_RESTART_S: Final = 1.0
_PATIENCE_S: Final = 10.0  # of an append, as of the ledger on NATS
_AGAIN_S: Final = 2.0  # after which it says the same again


def roots(signer: Signer) -> Roots:
    """Return how each service is built; only the executor is given a key."""
    return {
        "ingester": build_ingester,
        "aggregator": build_aggregator,
        "risk": build_risk,
        "executor": partial(assemble_executor, signer=signer),
        "reconciler": build_reconciler,
    }


def settings(directory: Path, text: str) -> Config:
    path = directory / "simulated.toml"
    path.write_text(text)
    return load(path, environ={})


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the seed whatever jitter nobody gave a seed, as that of reconnecting streams."""
    real, source = random.Random, random.Random(f"jitter-{seed}")

    class Seeded(real):  # type: ignore[misc, valid-type]
        def __init__(self, given: Any = None) -> None:
            super().__init__(source.getrandbits(64) if given is None else given)

    random.Random = Seeded  # type: ignore[misc]
    try:
        yield
    finally:
        random.Random = real  # type: ignore[misc]


class Weather:
    """What the broker and the store do to everybody, and how often each befell somebody."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.seen = rng, Counter[str]()
        self.ledger = asyncio.Event()
        self.ledger.set()
        self.store_away = False
        self.lost_ack = 0.0  # share of appends whose acknowledgement is lost


class GaveUpError(TimeoutError):
    """An append found no end within its patience: whether it is stored, its caller cannot know."""


class Disk:
    """A process's view of the ledger: far, away for a while, deaf, or gone with the process.

    ``fuse`` kills the process at its next append: before the message is stored, or after it is
    stored and before it is acknowledged.
    """

    def __init__(self, inner: MemoryLedger, weather: Weather, kill: Callable[[], None]) -> None:
        self._inner, self._weather, self._kill = inner, weather, kill
        self.alive, self.fuse = True, ""

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        rng, seen = self._weather.rng, self._weather.seen
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    await self._ready("ledger_away")
                    await self._travel("before")
                    seq = await self._inner.append(lane, batch, key=key, after=after)
                    await self._travel("after")
                    if rng.random() >= self._weather.lost_ack:
                        return seq
                    seen["lost_ack"] += 1
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            seen["append_given_up"] += 1
            raise GaveUpError(f"{lane.name} after {_PATIENCE_S} s") from None

    async def _travel(self, where: str) -> None:
        """Take a message one way; a process that died on the way hears and says nothing more."""
        await asyncio.sleep(self._weather.rng.uniform(0.0005, 0.01))
        if self.fuse == where:
            self._weather.seen[f"killed {where} an append"] += 1
            self._kill()
        if not self.alive:
            raise asyncio.CancelledError

    async def _ready(self, name: str) -> None:
        if not self._weather.ledger.is_set():
            self._weather.seen[name] += 1
            await self._weather.ledger.wait()

    async def last(self, lane: Lane) -> Entry | None:
        await self._ready("ledger_away")
        return await self._inner.last(lane)

    async def head(self) -> int:
        await self._ready("ledger_away")
        return await self._inner.head()

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        async for run in self._inner.read(filters, after=after, until=until):
            await self._ready("ledger_away")
            yield run

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        await self._inner.dead_letter(lane, reason=reason, data=data, source=source)


class Shelf:
    """A process's view of the store."""

    def __init__(self, inner: MemoryStore, weather: Weather) -> None:
        self._inner, self._weather, self.alive = inner, weather, True

    def _check(self) -> None:
        if not self.alive:
            raise asyncio.CancelledError
        if self._weather.store_away:
            self._weather.seen["store_away"] += 1
            raise StoreAwayError("simulated")

    async def load(self, lane: Lane) -> Saved | None:
        self._check()
        return await self._inner.load(lane)

    async def save(self, lane: Lane, saved: Saved, views: Mapping[str, bytes]) -> None:
        self._check()
        await self._inner.save(lane, saved, views)

    async def read_views(self, keys: Sequence[str]) -> list[bytes | None]:
        self._check()
        return await self._inner.read_views(keys)

    async def find_views(self, prefix: str) -> list[str]:
        self._check()
        return await self._inner.find_views(prefix)

    async def write_views(self, views: Mapping[str, bytes]) -> None:
        self._check()
        await self._inner.write_views(views)


class Fuse(msgspec.Struct):
    """Kills a process at what it writes to a socket: the ``count``-th write from ``what`` on."""

    what: bytes
    count: int
    lit: bool = False

    def burns_down(self, data: bytes) -> bool:
        self.lit = self.lit or data.startswith(self.what)
        self.count -= self.lit
        return self.count == 0


_EXPECTED: Final = (FencedError, GaveUpError, asyncio.CancelledError)


class Process:
    """One service, started again by a supervisor whenever it ends."""

    def __init__(self, name: str, system: "System") -> None:
        self.name, self._system = name, system
        self.deaths: list[BaseException] = []
        self._copies: list[tuple[str, Disk, Shelf, Wire, asyncio.Task[None]]] = []

    def start(self) -> None:
        system = self._system
        epoch = Epoch(next(system.epochs))
        owner = f"{self.name}#{epoch}"
        disk = Disk(system.ledger, system.weather, self.kill)
        shelf = Shelf(system.store, system.weather)
        wire = Wire(system.hub)
        context = copy_context()
        context.run(OWNER.set, owner)
        work = self._run(epoch, disk, shelf, wire)
        task = system.loop.create_task(work, context=context)
        self._copies.append((owner, disk, shelf, wire, task))

    def doom(self, where: str) -> None:
        """Kill it at its next append, "before" or "after" it is stored, or as it "writes"."""
        rng = self._system.weather.rng
        for owner, disk, *_ in self._copies:
            if where == "writes":
                what = rng.choice([b"POST /order", b"POST /order", b"DELETE /order", b""])
                self._system.fuses[owner] = Fuse(what, rng.randint(1, 2))  # a head, then its body
            else:
                disk.fuse = where

    def kill(self) -> None:
        """End every copy at whatever await it stands; connections are reset, nothing is said."""
        for owner, disk, shelf, wire, task in self._copies:
            disk.alive = shelf.alive = wire.alive = False
            self._system.fuses.pop(owner, None)
            self._system.loop.die(owner)
            task.cancel()

    async def end(self) -> None:
        self.kill()
        await asyncio.gather(*(task for *_, task in self._copies), return_exceptions=True)
        self._copies.clear()

    @property
    def owner(self) -> str:
        return self._copies[-1][0] if self._copies else ""

    async def supervise(self) -> None:
        """Take away what ended, and start one where none is left."""
        while True:
            await asyncio.sleep(0.25)
            for copy in [each for each in self._copies if each[4].done()]:
                self._copies.remove(copy)
                self._bury(copy[4])
                for part in copy[1:4]:
                    part.alive = False
                self._system.loop.die(copy[0])
            if not self._copies:
                await asyncio.sleep(_RESTART_S)
                self.start()

    def _bury(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        for leaf in _leaves(error) if error else ():
            self._system.weather.seen[f"ended by {type(leaf).__name__}"] += 1
            if not isinstance(leaf, _EXPECTED):
                self.deaths.append(leaf)

    async def _run(self, epoch: Epoch, disk: Disk, shelf: Shelf, wire: Wire) -> None:
        system = self._system
        clock = VirtualClock(system.loop)
        ports = Ports(ledger=disk, store=shelf, clock=clock)
        metrics = Metrics(self.name)
        endpoints = Endpoints(
            self.name, clock, objective_bps=Bps(9_900), slow_ns=2_000 * NS_PER_MS, metrics=metrics
        )
        context = Context(
            config=system.config,
            client=cast("Client", wire),
            ports=ports,
            store=shelf,
            tracing=Tracing(self.name),
            metrics=metrics,
            endpoints=endpoints,
            instance=f"{self.name}-{epoch}",
            rng=random.Random(f"{system.seed}-{self.name}-{epoch}"),
        )
        built = system.roots[self.name](context)
        async with asyncio.TaskGroup() as group:
            for work in built.background:
                group.create_task(work())
            for partition in system.partitions(self.name):
                lane = Lane(self.name, partition)
                runner = LaneRunner(built.service, lane, built.make_shell(lane), ports, epoch)
                group.create_task(runner.run(asyncio.Event()))


class System:
    """Five processes on one ledger and one store."""

    def __init__(self, loop: VirtualLoop, config: Config, signer: Signer, seed: int) -> None:
        self.loop, self.config, self.seed = loop, config, seed
        self.roots = roots(signer)
        self.ledger, self.store, self.hub = MemoryLedger(), MemoryStore(), Hub()
        self.weather = Weather(random.Random(seed))
        self.epochs = iter(range(1, 1_000_000))
        self.processes = {name: Process(name, self) for name in self.roots}
        self.fuses: dict[str, Fuse] = {}  # by copy
        loop.sends = self._sent

    def _sent(self, owner: str, data: bytes) -> None:
        fuse = self.fuses.get(owner)
        if fuse is not None and fuse.burns_down(data):
            self.weather.seen[f"killed writing {fuse.what.decode()}".strip()] += 1
            self.loop.call_soon(self.processes[owner.partition("#")[0]].kill)

    def partitions(self, name: str) -> list[int]:
        """Return the lanes that have work: the leaders', or the account's."""
        if name in ("ingester", "aggregator"):
            return sorted({partition_of(leader.wallet) for leader in self.config.leaders})
        return [partition_of(Wallet(self.config.account.wallet))]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for process in self.processes.values():
            process.start()
        watching = [asyncio.create_task(p.supervise()) for p in self.processes.values()]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            for process in self.processes.values():
                await process.end()


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
