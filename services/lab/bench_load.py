"""The loads: fills one by one for latency and memory, fills in bulk for throughput."""

import asyncio
import contextlib
import os
import random
from collections.abc import Mapping
from pathlib import Path as File
from typing import Final

import msgspec

from services.ctl.supervise import SERVICES
from services.lab.bench_hops import (
    TIMED,
    Hop,
    Path,
    Recorded,
    Sample,
    Spread,
    Step,
    hops,
    judged,
    paths,
    spread,
)
from services.lab.bench_stack import Plan, System
from shared.domain.ids import TxHash
from shared.domain.messages import FillCounted
from shared.domain.units import NS_PER_S
from shared.runtime.clock import SystemClock
from shared.runtime.ports import subjects_of

LEADERS: Final = 20
MARKETS: Final = 20
# A window closes with its first fill: how long one waits for more is policy, not latency.
ONE_BY_ONE: Final = "[aggregator]\nflush_usd = 0.000001\n"
MANY: Final = 200
RAMP: Final = (500, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000)
_WARM: Final = 3  # fills a market before anything is measured
_SETTLE_S: Final = 6.0  # the last orders reach their end
_BULK_S: Final = 0.05
_SAMPLE_S: Final = 0.25
_DRAIN_S: Final = 30.0

_clock = SystemClock()


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one process used while the load ran."""

    name: str
    rss_mib: float  # resident, pages shared with others included
    pss_mib: float  # resident, shared pages divided among those who share them
    cpu: float  # of one core


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Leader fill matched at the venue -> our order's bytes at the venue."""

    fsync: bool
    rate: float
    fills: int
    total: Spread
    hops: list[Hop]
    unsent: Mapping[str, int]
    sources: Mapping[str, int]
    usage: list[Usage]


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """The ramp, and what was left of it: every executed fill counted exactly once."""

    fsync: bool
    leaders: int
    steps: list[Step]
    sustained: int
    executed: int
    counted: int
    drain_s: float
    usage: list[Usage]


async def latency(directory: File, *, fsync: bool, rate: float, seconds: float) -> Latency:
    """Send fills at random moments, each to a leader and a market whose turn it is."""
    plan = Plan(fsync=fsync, leaders=LEADERS, markets=MARKETS, settings=ONE_BY_ONE)
    async with System(directory, plan) as system:
        await _fills(system, rate, MARKETS * _WARM / rate)
        await asyncio.sleep(_SETTLE_S)
        before = await system.ledger.head()
        sent = (await system.admin("ledger"))["count"]
        watch = Watch(system.pids())
        await _fills(system, rate, seconds)
        usage = watch.read()
        await asyncio.sleep(_SETTLE_S)
        found, unsent = await _paths(system, before, sent)
    return Latency(
        fsync=fsync,
        rate=rate,
        fills=len(found),
        total=spread([path.total_ns for path in found]),
        hops=hops(found),
        unsent=unsent,
        sources={source: sum(path.source == source for path in found) for source in _SOURCES},
        usage=usage,
    )


_SOURCES: Final = ("stream", "rest")


async def _fills(system: System, rate: float, seconds: float) -> None:
    """Let leaders buy, on an open schedule: a slow system is not waited for."""
    rng, loop = random.Random(7), asyncio.get_running_loop()
    start = at = loop.time()
    number = 0
    async with asyncio.TaskGroup() as group:
        while at - start < seconds:
            at += rng.expovariate(rate)
            await asyncio.sleep(max(0.0, at - loop.time()))
            group.create_task(_fill(system, number))
            number += 1


async def _fill(system: System, number: int) -> None:
    body = {
        "wallet": system.leaders[(number // MARKETS) % LEADERS],
        "condition": system.markets[number % MARKETS],
        "outcome": 0,
        "side": "BUY",
        "size": str(100 + number % 50),
        "immediate": True,
    }
    done = await system.admin("fill", body)
    assert done["tx"], "the venue's book was empty"


async def _paths(system: System, after: int, sent: int) -> tuple[list[Path], Mapping[str, int]]:
    recorded = []
    async for entry in system.entries(after):
        wanted = [f for f in (entry.batch.facts if entry.batch else ()) if isinstance(f, TIMED)]
        if wanted:
            stored_ns = await system.stored_ns(entry.seq)
            recorded += [Recorded(fact, stored_ns) for fact in wanted]
    fills = (await system.admin(f"ledger?after={sent}"))["fills"]
    matched = {TxHash(fill["transaction_hash"]): int(fill["match_ns"]) for fill in fills}
    posted = (await system.admin("orders"))["orders"]
    received = {order["order"]: int(order["received_ns"]) for order in posted}
    found, unsent = paths(recorded, matched, received)
    return found, unsent.marks


# --- throughput -------------------------------------------------------------------------------


class _Tally:
    """Counts executed and counted fills while the ramp runs."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.executed = self.counted = 0

    async def read(self) -> None:
        async for run in self._system.ledger.read((subjects_of("aggregator"),), after=0):
            for entry in run:
                for fact in entry.batch.facts if entry.batch else ():
                    self.counted += isinstance(fact, FillCounted)

    def sample(self) -> Sample:
        return Sample(_clock.monotonic_ns(), self.executed, self.counted)


async def throughput(directory: File, *, fsync: bool, seconds: float) -> Throughput:
    """Offer more and more fills a second until the ledger falls behind the venue."""
    plan = Plan(fsync=fsync, leaders=MANY, markets=MARKETS)
    async with System(directory, plan) as system:
        tally = _Tally(system)
        reading = asyncio.create_task(tally.read())
        await _bulk(system, tally, 200, 3.0)
        steps: list[Step] = []
        watch = Watch(system.pids())
        for rate in RAMP:
            # A busy moment of the machine fails a step too: a rate is given up at its second try.
            for _ in range(2):
                steps.append(judged(rate, await _bulk(system, tally, rate, seconds)))
                if steps[-1].sustained:
                    break
                await _drained(tally)
            if not steps[-1].sustained:
                break
        usage = watch.read()
        drain_s = await _drained(tally)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    return Throughput(
        fsync=fsync,
        leaders=MANY,
        steps=steps,
        sustained=max((step.executed for step in steps if step.sustained), default=0),
        executed=tally.executed,
        counted=tally.counted,
        drain_s=drain_s,
        usage=usage,
    )


async def _bulk(system: System, tally: _Tally, rate: int, seconds: float) -> list[Sample]:
    """Offer a rate for a while, in small lots on an open schedule; return samples on the way."""
    loop = asyncio.get_running_loop()
    start = at = sampled = loop.time()
    samples, owed = [tally.sample()], 0.0
    while at - start < seconds:
        at += _BULK_S
        owed += rate * _BULK_S
        lot, owed = int(owed), owed - int(owed)
        answer = await system.admin("fills", {"fills": _lot(system, lot), "immediate": True})
        tally.executed += answer["executed"]
        await asyncio.sleep(max(0.0, at - loop.time()))
        if loop.time() - sampled >= _SAMPLE_S:
            sampled = loop.time()
            samples.append(tally.sample())
    samples.append(tally.sample())
    return samples


def _lot(system: System, size: int) -> list[dict[str, object]]:
    """Return so many splits of the leaders' orders: each trades in one market at a time."""
    rng = random.Random(size)
    chosen = [rng.randrange(MANY) for _ in range(size)]
    return [
        {
            "wallet": system.leaders[leader],
            "condition": system.markets[leader % MARKETS],
            "outcome": 0,
            "side": "BUY",
            "size": "5",
        }
        for leader in chosen
    ]


async def _drained(tally: _Tally) -> float:
    """Wait until all executed fills are counted; return how long that took."""
    began_ns = _clock.monotonic_ns()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while tally.counted < tally.executed:  # noqa: ASYNC110 - two plain counters
                await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)  # a fill counted twice would show now
    return round((_clock.monotonic_ns() - began_ns) / NS_PER_S - 1.0, 2)


# --- memory and processor ---------------------------------------------------------------------


class Watch:
    """What processes use from now until they are read."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._began_ns = _clock.monotonic_ns()
        self._ticks = {name: _ticks(pid) for name, pid in pids.items()}

    def read(self) -> list[Usage]:
        took_s = (_clock.monotonic_ns() - self._began_ns) / NS_PER_S
        hertz = os.sysconf("SC_CLK_TCK")
        found = []
        for name, pid in self._pids.items():
            rss, pss = _resident(pid)
            used_s = (_ticks(pid) - self._ticks[name]) / hertz
            found.append(Usage(name=name, rss_mib=rss, pss_mib=pss, cpu=round(used_s / took_s, 3)))
        return found


def _ticks(pid: int) -> int:
    fields = File(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # user and system time


def _resident(pid: int) -> tuple[float, float]:
    """Return resident and proportional MiB; of a process that hides its memory twice the first."""
    try:
        return _rolled_up(pid)
    except PermissionError:  # the executor lets nobody look inside
        pages = int(File(f"/proc/{pid}/statm").read_text().split()[1])
        mib = round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
        return mib, mib


def _rolled_up(pid: int) -> tuple[float, float]:
    found = {}
    for line in File(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return round(found["Rss"] / 1024, 1), round(found["Pss"] / 1024, 1)


def services_of(usage: list[Usage]) -> list[Usage]:
    """Return the five services of a list that also names servers and the venue."""
    return [each for each in usage if each.name in SERVICES]
