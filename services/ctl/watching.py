"""The course of a demonstration: wait until it is ready, watch it, end it, sum it up."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Final, Literal, cast

import msgspec
from rich.live import Live

from services.ctl.errors import CtlError
from services.ctl.figures import Names
from services.ctl.options import console
from services.ctl.picture import Picture, Reader
from services.ctl.session import Place, Session, session
from services.ctl.show import Show
from services.ctl.stack import LocalStack, Say, resident_bytes, stopping_event
from services.ctl.summary import Summary
from services.ctl.supervise import SERVICES
from services.lab.replay import verify
from shared.domain.ids import Wallet
from shared.domain.market import Market
from shared.domain.messages import LeaderBaselineRead
from shared.domain.units import NS_PER_S
from shared.domain.views import ACCOUNT, DRIFT, POSITIONS, decode, market_key
from shared.runtime.clock import SystemClock
from shared.runtime.ports import Entry

_FRAME_S: Final = 0.25
_CENSUS_EVERY: Final = 4  # frames between two looks at the processes
_READY_S: Final = 60.0
_HEIGHT_MIN: Final = 24
_ALL: Final = ("driftless.>",)


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """How a demonstration is watched."""

    minutes: float
    speed: float
    leaders: dict[Wallet, str]
    markets: tuple[Market, ...]  # of the tape: so that they have names from the first line
    attribution: str
    quiet_ms: int
    mode: Literal["live", "lines", "silent"]


async def watch(stack: LocalStack, place: Place, plan: Watching, say: Say) -> Summary:
    """Watch until the time is over or somebody ends it; raises CtlError if a service gives up."""
    stopping = stopping_event()
    async with session(place) as at:
        say(f"waiting until {len(plan.leaders)} leaders are followed")
        await _until_ready(at, set(plan.leaders), stopping)
        course = _Course(stack, at, plan)
        with _stage(plan) as live:
            await course.run(stopping, live)
        say("rebuilding every state from the ledger")
        return await course.summed_up()


@contextlib.contextmanager
def _stage(plan: Watching) -> Iterator[Live | None]:
    if plan.mode != "live":
        yield None
        return
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        yield live


async def _until_ready(at: Session, leaders: set[Wallet], stopping: asyncio.Event) -> None:
    """Wait until every leader is followed and every service has shown what it knows."""

    async def ready() -> bool:
        views = await at.store.read_views([POSITIONS, DRIFT, ACCOUNT])
        return None not in views and leaders <= await _followed(at)

    end = time.monotonic() + _READY_S
    while not await ready():
        if stopping.is_set():
            raise KeyboardInterrupt
        if time.monotonic() > end:
            raise CtlError(f"not ready after {_READY_S:g} s: the services' logs say why")
        await asyncio.sleep(_FRAME_S)


async def _followed(at: Session) -> set[Wallet]:
    head = await at.ledger.head()
    found: set[Wallet] = set()
    async for run in at.ledger.read(("driftless.ingester.>",), after=0, until=head):
        for fact in (f for entry in run if entry.batch for f in entry.batch.facts):
            if isinstance(fact, LeaderBaselineRead):
                found.add(fact.leader)
    return found


class _Course:
    """One demonstration from ready to over."""

    def __init__(self, stack: LocalStack, at: Session, plan: Watching) -> None:
        self._stack, self._at, self._plan = stack, at, plan
        self._names = Names(plan.leaders, brief=plan.mode == "live")
        for market in plan.markets:
            self._names.learn(market)
        self._show = Show(
            self._names, minutes=plan.minutes, speed=plan.speed, attribution=plan.attribution
        )
        self._clock = SystemClock()
        self._reader = Reader(at.ledger, at.store, partition=at.partition, clock=self._clock)
        self._began_ns = self._clock.monotonic_ns()
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}
        self._memory: dict[str, int] = {}

    @property
    def _elapsed_ns(self) -> int:
        return self._clock.monotonic_ns() - self._began_ns

    async def run(self, stopping: asyncio.Event, live: Live | None) -> None:
        """Show everything until the time is over."""
        tailing = asyncio.create_task(self._tail())
        frame = 0
        try:
            while self._elapsed_ns < self._plan.minutes * 60 * NS_PER_S and not stopping.is_set():
                if tailing.done():
                    await tailing
                if frame % _CENSUS_EVERY == 0:
                    await asyncio.to_thread(self._census)
                await self._look()
                if live is not None:
                    height = max(_HEIGHT_MIN, live.console.size.height)
                    live.update(self._show.screen(self._elapsed_ns, height), refresh=True)
                frame += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FRAME_S):
                        await stopping.wait()
        finally:
            tailing.cancel()
            await asyncio.gather(tailing, return_exceptions=True)

    async def _tail(self) -> None:
        reading = cast("AsyncGenerator[list[Entry], None]", self._at.ledger.read(_ALL, after=0))
        async with contextlib.aclosing(reading):
            async for run in reading:
                for fact in (f for entry in run if entry.batch for f in entry.batch.facts):
                    line = self._show.hear(fact, self._elapsed_ns)
                    if line is not None and self._plan.mode == "lines":
                        print(line.plain, flush=True)

    async def _look(self) -> Picture:
        picture = await self._reader.read(lanes=False)
        unknown = [row.condition for row in picture.rows if not self._names.knows(row.condition)]
        if unknown:
            keys = [market_key(condition) for condition in unknown]
            for data in await self._at.store.read_views(keys):
                market = decode(data, Market)
                if market is not None:
                    self._names.learn(market)
        self._show.see(picture)
        return picture

    def _census(self) -> None:
        """Note the processes' memory and restarts; raises CtlError if one is given up."""
        for row in self._stack.processes.status():
            if row.state == "FATAL":
                troubles = "; ".join(self._stack.processes.troubles())
                raise CtlError(f"a service died for good: {troubles}")
            if not row.pid:
                continue
            if self._pids.get(row.name, row.pid) != row.pid:
                self._restarts[row.name] = self._restarts.get(row.name, 0) + 1
            self._pids[row.name] = row.pid
            if row.name in SERVICES:
                self._memory[row.name] = resident_bytes(row.pid)

    async def summed_up(self) -> Summary:
        """Return what it came to, every state rebuilt and compared."""
        seconds = self._elapsed_ns // NS_PER_S
        picture = await self._look()
        reports = await verify(self._at.ledger, self._at.store)
        return Summary(
            seconds=seconds,
            tally=self._show.tally,
            drift_usd=picture.drift.drift_usd if picture.drift else None,
            memory={name: self._memory[name] for name in SERVICES if name in self._memory},
            restarts=self._restarts,
            reports=tuple(reports),
            attribution=self._plan.attribution,
            quiet_ms=self._plan.quiet_ms,
        )
