"""Everything at once over real processes: ``python -m services.lab.chaos``, or ``make chaos``.

Leaders trade; in every round a process is killed, and often something else happens too: another
is frozen past its lease, a second copy is started, NATS or Valkey dies or is emptied, the venue
loses answers, fails settlements, drops frames. After each round the system must find back to the
venue's truth. At the end every promise is checked. Exits with 1 where one is broken.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from services.ctl.stack import stopping_event
from services.lab.bench_stack import System
from services.lab.chaos_blows import Blow, Struck, Thrower, draw
from services.lab.chaos_told import Round, Told, line_of, report
from services.lab.chaos_world import AWAY, PLAN, World, evidence_of, seconds_since
from shared.domain.units import MICRO, NS_PER_S
from shared.runtime.clock import SystemClock

BASE: Final = Path(".driftless/chaos")
_ACT_EVERY_S: Final = 0.12
_WITHIN_S: Final = (0.2, 1.2)  # of a round: when a blow falls
_TRADE_S: Final = 0.8  # leaders go on trading so long after the last blow, ...
_ACTING_S: Final = 6.0  # ... and until the killed one acts again, so long at most
_LOOK_S: Final = 0.15
_ZERO_S_MAX: Final = 90.0
_clock = SystemClock()


class NotInStepError(Exception):
    """The system did not find back to the venue's truth: what is open, still."""


class Run:
    """The rounds of one run."""

    def __init__(self, world: World, thrower: Thrower, seed: int) -> None:
        self.world, self.thrower = world, thrower
        self._rng = random.Random(seed)
        self._names = sorted(n for n in world.system.processes.pids())
        self.rounds: list[Round] = []
        self._struck: Struck | None = None  # of the round that runs
        self._acting_ns: int | None = None

    def now(self, asked: int, spent_s: float) -> str:
        """Return in words where the run is."""
        journal = self.world.journal
        return (
            f"round {len(self.rounds) + 1} of {asked}, {spent_s / 60:.1f} minutes: leaders' rows "
            f"{journal.rows.total():,}, orders {len(journal.prepared):,}, facts {journal.facts:,}, "
            f"promises broken {len(journal.faults)}"
        )

    async def round(self) -> None:
        """Trade, strike, wait for the truth; raises NotInStepError."""
        began_ns = _clock.monotonic_ns()
        blows = draw(self._rng, self._names)
        self._forget()
        async with trading(self.world):
            await self._strike(blows)
            await self._until_acting()
        struck = self._struck
        await self.thrower.calm()
        try:
            zero_s = await in_step(self.world)
        except NotInStepError as e:
            told = ", ".join(map(str, blows))
            raise NotInStepError(f"round {len(self.rounds) + 1} ({told}): {e}") from None
        self.rounds.append(
            Round(
                number=len(self.rounds) + 1,
                blows=tuple(map(str, blows)),
                killed=struck.service if struck else "",
                held=len(struck.lanes) if struck else 0,
                acting_s=self._acting_s,
                zero_s=round(zero_s, 2),
                drift_usd_max=self.world.drift_usd_max / MICRO,
                took_s=round(seconds_since(began_ns), 2),
            )
        )

    def _forget(self) -> None:
        self._struck = self._acting_ns = None
        self.world.forget_drift()

    async def _strike(self, blows: list[Blow]) -> None:
        """Let each blow fall at a moment of its own, and watch meanwhile."""

        async def fall(blow: Blow, after_s: float) -> None:
            await asyncio.sleep(after_s)
            struck = await self.thrower.throw(blow)
            self._struck = struck or self._struck

        falling = [asyncio.create_task(fall(blow, self._rng.uniform(*_WITHIN_S))) for blow in blows]
        try:
            while not all(task.done() for task in falling):
                await self._watch()
                await asyncio.wait(falling, timeout=_LOOK_S)
            for task in falling:
                task.result()
        finally:
            for task in falling:
                task.cancel()
            await asyncio.gather(*falling, return_exceptions=True)

    async def _until_acting(self) -> None:
        """Wait until the killed one's work goes on, if it had any."""
        waited_ns = _clock.monotonic_ns()
        while True:
            await self._watch()
            spent_s, struck = seconds_since(waited_ns), self._struck
            is_over = struck is None or not struck.lanes or self._acting_ns is not None
            if (is_over and spent_s > _TRADE_S) or spent_s > _ACTING_S:
                return
            await asyncio.sleep(_LOOK_S)

    async def _watch(self) -> None:
        await self.world.look()
        struck = self._struck
        if struck is not None and struck.lanes and self._acting_ns is None:
            with contextlib.suppress(*AWAY):
                self._acting_ns = await self.world.acting_ns(struck)

    @property
    def _acting_s(self) -> float | None:
        if self._struck is None or self._acting_ns is None:
            return None
        return round((self._acting_ns - self._struck.at_ns) / NS_PER_S, 3)


@contextlib.asynccontextmanager
async def trading(world: World) -> AsyncIterator[None]:
    """Let leaders trade while the block runs."""
    over = asyncio.Event()
    acting = asyncio.create_task(world.crowd.run(_ACT_EVERY_S, over))
    try:
        yield
        over.set()
        await acting  # what is under way is known, and so counts
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)


async def in_step(world: World) -> float:
    """Wait until belief is the venue's truth and nothing is in motion; return the seconds.

    What was in step and then is not any more did not count.
    """
    began_ns, since_ns = _clock.monotonic_ns(), _clock.now_ns()
    first_s = None
    while True:
        await world.look()
        doubts, spent_s = world.doubts(since_ns), seconds_since(began_ns)
        if doubts:
            first_s = None
        elif first_s is not None:
            return first_s  # and a look later, still
        else:
            first_s = spent_s
        if spent_s > _ZERO_S_MAX:
            raise NotInStepError(f"not in step after {spent_s:.0f} s: {'; '.join(doubts)}")
        await asyncio.sleep(_LOOK_S)


async def chaos(
    directory: Path, *, seed: int, kills: int, minutes: float, console: Console
) -> Told:
    """Run the rounds and judge what is left."""
    began_ns, short = _clock.monotonic_ns(), ""
    broken: list[str] = []
    async with System(directory, PLAN) as system:
        world = await World.over(system, seed)
        thrower = Thrower(system, world.admin, random.Random(seed + 1))
        run = Run(world, thrower, seed)
        try:
            with console.status("") as status:
                while len(run.rounds) < kills and not short:
                    status.update(run.now(kills, seconds_since(began_ns)))
                    await run.round()
                    line = line_of(run.rounds[-1], kills)
                    console.print(line, highlight=False, soft_wrap=True)
                    if minutes and seconds_since(began_ns) > minutes * 60:
                        short = f"after {minutes:g} minutes"
        except NotInStepError as e:
            short = str(e)
            broken.append(short)
            (directory / "open.json").write_bytes(evidence_of(world))
        finally:
            thrower.release()
        broken += await world.broken()
        return Told(
            seed=seed,
            asked=kills,
            cut_short=short,
            rounds=tuple(run.rounds),
            faults_fired=thrower.fired,
            rows=world.journal.rows.total(),
            orders=len(world.journal.prepared),
            fills=world.journal.filled,
            settlements_failed=world.truth.failed,
            facts=world.journal.facts,
            broken=tuple(broken),
            took_s=round(seconds_since(began_ns), 1),
        )


async def _until_stopped(work: Coroutine[None, None, Told]) -> Told | None:
    """Run to the end, or to the first Ctrl-C: everything that was started is stopped."""
    stopping = asyncio.create_task(stopping_event().wait())
    running = asyncio.create_task(work)
    await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        return running.result()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return None


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.lab.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="rounds; default 200")
    parser.add_argument("--seed", type=int, default=1, help="of leaders, kills and faults")
    parser.add_argument("--minutes", type=float, default=0, help="end after so many; 0: never")
    asked = parser.parse_args(given)
    console = Console()
    work = BASE / f"seed-{asked.seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    console.print("starting NATS, Valkey, the local venue and nine processes")
    told = asyncio.run(
        _until_stopped(
            chaos(work, seed=asked.seed, kills=asked.kills, minutes=asked.minutes, console=console)
        )
    )
    if told is None:
        shutil.rmtree(work, ignore_errors=True)
        console.print("stopped; nothing is left running")
        return 130
    (BASE / f"seed-{asked.seed}.json").write_bytes(msgspec.json.encode(told))
    for table in report(told):
        console.print(table)
    for each in told.broken:
        console.print(f"[red]{each}", highlight=False)
    if told.broken:
        console.print(f"[red]a promise is broken; logs and ledger stay in {work}")
        return 1
    shutil.rmtree(work, ignore_errors=True)
    console.print("[green]nothing lost, nothing doubled, no drift left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
