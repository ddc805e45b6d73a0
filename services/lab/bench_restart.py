"""How long a killed service is away: kill -9 under load, its supervisor, its first new fact."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from services.ctl.supervise import SERVICES
from services.lab.bench_hops import quantile
from services.lab.bench_stack import System
from services.lab.chaos import trading
from services.lab.chaos_blows import Blow, Struck, Thrower, service_of
from services.lab.chaos_world import PLAN, World, seconds_since
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.runtime.clock import SystemClock

KILLS: Final = 10  # of each service
GOAL_S: Final = 3.0
_LOOK_S: Final = 0.02  # how exactly the steps are timed
_ACTING_S_MAX: Final = 30.0
_PAUSE_S: Final = 1.5  # a process that dies within a second of its start is not started at once
_STARTS: Final = 5
_clock = SystemClock()


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """One kill: seconds from it to each step on the way back."""

    service: str
    standby: bool  # another instance was there to take over
    process_s: float  # the supervisor has started a new process
    lane_s: float  # somebody holds the lane again
    acting_s: float  # the first new fact is durable


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a process costs before it connects to anything; medians."""

    service: str
    python_ms: int  # an interpreter that does nothing
    imports_ms: int  # what the service imports


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    kills: list[Restart]
    starts: list[Start]


async def restarts(directory: Path, *, kills: int = KILLS) -> Restarts:
    """Kill each service in turn, alone and with a second instance, while leaders trade."""
    found: list[Restart] = []
    for copies in (1, 2):
        plan = msgspec.structs.replace(PLAN, copies=copies)
        async with System(directory / f"copies-{copies}", plan) as system:
            world = await World.over(system, seed=1)
            thrower = Thrower(system, world.admin, random.Random(1))
            doubled = [name for name in SERVICES if name not in plan.singles]
            async with trading(world):
                for _ in range(kills):
                    for service in SERVICES if copies == 1 else doubled:
                        found.append(await _restart(world, thrower, service, standby=copies > 1))
                        await asyncio.sleep(_PAUSE_S)
    return Restarts(kills=found, starts=[_start(service) for service in SERVICES])


async def _restart(world: World, thrower: Thrower, service: str, *, standby: bool) -> Restart:
    name, before = await _holder(world, thrower, service)
    struck = await thrower.throw(Blow("kill", name))
    assert struck is not None
    assert struck.lanes, f"{name} held nothing"
    process, lane, acting_ns = await asyncio.gather(
        _until_process(world, name, before),
        _until_held(thrower, struck),
        _until_acting(world, struck),
    )
    return Restart(
        service=service,
        standby=standby,
        process_s=_since(struck, process),
        lane_s=_since(struck, lane),
        acting_s=_since(struck, acting_ns),
    )


async def _holder(world: World, thrower: Thrower, service: str) -> tuple[str, int]:
    """Return an instance that holds lanes, with its process id; waits until there is one."""
    began_ns = _clock.monotonic_ns()
    while seconds_since(began_ns) < _ACTING_S_MAX:
        for name, pid in sorted(world.system.processes.pids().items()):
            if service_of(name) == service and await thrower.held_by(service, pid):
                return name, pid
        await asyncio.sleep(_LOOK_S)
    raise TimeoutError(f"no {service} holds a lane")


async def _until_process(world: World, name: str, before: int) -> int:
    while True:
        if world.system.processes.pids().get(name, before) != before:
            return _clock.now_ns()
        await asyncio.sleep(_LOOK_S)


async def _until_held(thrower: Thrower, struck: Struck) -> int:
    """Return when the last of the lanes had another holder."""
    waited_for = [*struck.lanes]
    while True:
        found = [await thrower.lease(lane) for lane in waited_for]
        held = zip(waited_for, found, strict=True)
        waited_for = [lane for lane, (_, holder) in held if holder in ("", struck.holder)]
        if not waited_for:
            return _clock.now_ns()
        await asyncio.sleep(_LOOK_S)


async def _until_acting(world: World, struck: Struck) -> int:
    began_ns = _clock.monotonic_ns()
    while seconds_since(began_ns) < _ACTING_S_MAX:
        await world.look()
        acting_ns = await world.acting_ns(struck)
        if acting_ns is not None:
            return acting_ns
        await asyncio.sleep(_LOOK_S)
    raise TimeoutError(f"{struck.service} did nothing for {_ACTING_S_MAX} s")


def _since(struck: Struck, at_ns: int) -> float:
    return round((at_ns - struck.at_ns) / NS_PER_S, 3)


def _start(service: str) -> Start:
    bare = sorted(_timed_ms("pass") for _ in range(_STARTS))
    whole = sorted(_timed_ms(f"import services.{service}.__main__") for _ in range(_STARTS))
    middle = _STARTS // 2
    return Start(service=service, python_ms=bare[middle], imports_ms=whole[middle] - bare[middle])


def _timed_ms(code: str) -> int:
    began_ns = _clock.monotonic_ns()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own command line
    return (_clock.monotonic_ns() - began_ns) // NS_PER_MS


def restarts_table(told: Restarts) -> Table:
    """Return a row a service, alone and with a second instance."""
    table = Table(title=f"kill -9 under load, {len(told.kills)} times: seconds until ...")
    table.add_column("service")
    for name in ("instances", "kills", "new process", "lane held", "acting p50", "p99", "max"):
        table.add_column(name, justify="right")
    for standby in (False, True):
        for service in SERVICES:
            of = [one for one in told.kills if (one.service, one.standby) == (service, standby)]
            if of:
                table.add_row(service, "2" if standby else "1", str(len(of)), *_figures(of))
        table.add_section()
    for start in told.starts:
        took = f"{start.python_ms} ms + {start.imports_ms} ms"
        table.add_row(start.service, "", "", took, style="dim")
    table.caption = f"below: an interpreter + its imports; goal: p99 {GOAL_S:g} s"
    return table


def _figures(of: list[Restart]) -> list[str]:
    acting = [one.acting_s for one in of]
    numbers = (
        quantile([one.process_s for one in of], 0.5),
        quantile([one.lane_s for one in of], 0.5),
        quantile(acting, 0.5),
        quantile(acting, 0.99),
        max(acting),
    )
    return [f"{number:.2f}" for number in numbers]
