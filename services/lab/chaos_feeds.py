"""Every fault of the feeds at random over real processes: ``python -m services.lab.chaos_feeds``.

Leaders trade, books change, a seeded storm breaks sockets and answers, ingesters are killed. At
the end the journal of what leaders did equals, as a multiset, what the venue executed, and each
book that was served as trusted is one that the venue had. Exits with 1 where it does not.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from rich.console import Console
from rich.table import Table

from services.lab.bench_stack import Plan, System
from services.lab.feeds_world import Admin, Crowd, Handovers, Market, Row, Served, said
from shared.domain.book import Book
from shared.domain.messages import Fact, FeedChanged, LeaderFilled
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import decode
from shared.runtime.clock import SystemClock
from shared.runtime.streams import LEASES

BASE: Final = Path(".driftless/chaos-feeds")
_SETTINGS: Final = """
[ingester]
poll_interval_ms = 2000
backfill_s = 3600
activity_silence_s = 15
"""
_CALM_S: Final = 45.0  # the last gap closes: the index lags, idle leaders are read once a minute
_WHOLE_S_MAX: Final = 150.0
_ACT_EVERY_S: Final = 0.12
_FAULT_EVERY_S: Final = 1.5
_KILL_EVERY_S: Final = 12.0
_EXPIRED: Final = "Nats-Marker-Reason"  # of a message by which the server says that a key ran out
_clock = SystemClock()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one storm, as it is saved."""

    seed: int
    minutes: float
    fills: int
    identical: int
    rows: int
    missing: int
    extra: int
    sources: dict[str, int]
    books_trusted: int
    books_untrusted: int
    astray_s: list[float]  # stretches in which a trusted book was not the venue's
    books_behind: int  # trusted at the end, and not the venue's book
    kills: int
    moved_ms: list[int]  # how long a lane had no holder when it went to another process
    fired: dict[str, int]
    steps: dict[str, int]
    detect_ms: list[int]
    fill_ms: list[int]
    whole_s: float  # from the end of the storm until nothing was missing

    @property
    def is_good(self) -> bool:
        return not (self.missing or self.extra or self.books_behind)


async def storm(directory: Path, *, seed: int, minutes: float, console: Console) -> Told:
    """Run one storm and judge it."""
    plan = Plan(
        fsync=True, leaders=16, markets=8, settings=_SETTINGS, services=("ingester",), copies=2,
        venue={"book_history": 1_000_000, "rtds_delay_ms": 500, "data_api_delay_ms": 1_500,
               "index_jitter_ms": 3_000},
    )  # fmt: skip
    async with System(directory, plan) as system:
        admin, served = Admin(system.http), Served()
        markets = [await _market(admin, condition) for condition in system.markets]

        async def take(message: Msg) -> None:
            book = decode(message.data, Book)
            if book is not None:
                served.take(book)

        handovers = Handovers()
        await system.client.subscribe("md.book.*", cb=take)
        await _listen(system, handovers)
        crowd = Crowd(admin, system.leaders, markets, seed)
        kills = await _rage(system, admin, crowd, seed=seed, minutes=minutes, console=console)
        whole_s, missing, extra, facts = await _calm(system, admin, console)
        history: dict[str, dict[int, Any]] = {}
        for market in markets:
            history |= await admin.books(market)
        astray_s, behind = served.astray_s(history), served.behind(history)
        for row, count in (missing + extra).most_common(10):
            console.print(f"[red]{'missing' if row in missing else 'extra'} {count}: {row}")
        for book in behind:
            console.print(f"[red]the last book of {book.token[:12]} is trusted and wrong: {book}")
        rules = (await admin.get("/admin/rules"))["rules"]
        changes = [fact for fact in facts if isinstance(fact, FeedChanged)]
        fired: Counter[str] = Counter()
        for rule in rules:
            fired[str(rule["kind"])] += int(rule["fired"])
        return Told(
            seed=seed,
            minutes=minutes,
            fills=crowd.fills,
            identical=crowd.identical,
            rows=said(facts).total(),
            missing=missing.total(),
            extra=extra.total(),
            sources=Counter(f.source for f in facts if isinstance(f, LeaderFilled)),
            books_trusted=served.trusted,
            books_untrusted=served.untrusted,
            astray_s=[round(stretch, 1) for stretch in astray_s],
            books_behind=len(behind),
            kills=kills,
            moved_ms=[gap_ns // NS_PER_MS for gap_ns in handovers.gaps_ns],
            fired=dict(sorted(fired.items())),
            steps=Counter(change.state for change in changes),
            detect_ms=[change.duration_ms for change in changes if change.state == "silent"],
            fill_ms=[change.duration_ms for change in changes if change.state == "resynced"],
            whole_s=whole_s,
        )


async def _listen(system: System, handovers: Handovers) -> None:
    async def hear(message: Msg) -> None:
        if _EXPIRED not in (message.headers or {}):
            handovers.take(message.subject, message.data, _clock.monotonic_ns())

    config = ConsumerConfig(deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.NONE)
    leases = system.client.jetstream()
    await leases.subscribe("$KV.leases.ingester.*", stream=LEASES, config=config, cb=hear)


async def _market(admin: Admin, condition: str) -> Market:
    told = await admin.get(f"/clob-markets/{condition}")
    first, second = (str(each["t"]) for each in told["t"])
    return Market(condition, (first, second))


async def _rage(
    system: System, admin: Admin, crowd: Crowd, *, seed: int, minutes: float, console: Console
) -> int:
    """Let leaders act and everything break; return how often a process was killed."""
    seconds = minutes * 60
    weather = {"seed": seed, "for_s": seconds, "every_s": _FAULT_EVERY_S, "calm_s": 0}
    await admin.post("scenario", {"seed": seed, "storm": {**weather, "kinds": "feeds"}})
    rng, kills = random.Random(seed), 0
    acting = asyncio.create_task(crowd.run(_ACT_EVERY_S))
    end_ns = _clock.monotonic_ns() + int(seconds * NS_PER_S)
    try:
        while (left_s := (end_ns - _clock.monotonic_ns()) / NS_PER_S) > 0:
            await asyncio.sleep(min(left_s, rng.expovariate(1 / _KILL_EVERY_S)))
            ingesters = [pid for name, pid in system.pids().items() if "ingester" in name]
            if ingesters and left_s > _KILL_EVERY_S:
                with contextlib.suppress(ProcessLookupError):  # it was being started anew
                    os.kill(rng.choice(ingesters), signal.SIGKILL)
                    kills += 1
            console.print(
                f"{max(0, left_s):4.0f} s left, {crowd.fills} fills, {crowd.books} books, "
                f"{kills} kills", highlight=False,
            )  # fmt: skip
        if acting.done():
            acting.result()
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
    return kills


async def _calm(
    system: System, admin: Admin, console: Console
) -> tuple[float, Counter[Row], Counter[Row], list[Fact]]:
    """Wait until nothing is missing any more, then a little longer for what is too much."""
    began_ns = _clock.monotonic_ns()
    whole_s = 0.0
    while True:
        facts = await _facts(system)
        told = said(facts)
        truth: Counter[Row] = Counter()
        for leader in system.leaders:
            truth += await admin.truth(leader)
        missing, extra = truth - told, told - truth
        spent_s = (_clock.monotonic_ns() - began_ns) / NS_PER_S
        is_whole = not missing and not extra  # the stream is ahead of the Data API for a moment
        whole_s = (whole_s or spent_s) if is_whole else 0.0
        console.print(f"calm {spent_s:4.0f} s: {truth.total()} rows, {missing.total()} missing")
        if (is_whole and spent_s > _CALM_S) or spent_s > _WHOLE_S_MAX:
            return round(whole_s, 1), missing, extra, facts
        await asyncio.sleep(3)


async def _facts(system: System) -> list[Fact]:
    return [fact async for entry in system.entries(0) if entry.batch for fact in entry.batch.facts]


def report(told: Told) -> Table:
    """Return the outcome as people read it."""
    table = Table(title=f"feeds under chaos, seed {told.seed}, {told.minutes:g} minutes")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in (
        ("rows the venue executed and the ledger says", f"{told.rows:,}"),
        ("of them equal to another of their transaction", f"{told.identical:,}"),
        ("missing / said too often", f"{told.missing} / {told.extra}"),
        ("said first by", _counts(told.sources)),
        ("books served trusted / not", f"{told.books_trusted:,} / {told.books_untrusted:,}"),
        ("stretches in which a trusted book was wrong, longest", _astray(told.astray_s)),
        ("trusted books that are wrong at the end", str(told.books_behind)),
        ("ingesters killed", str(told.kills)),
        ("lanes that moved, without a holder for p50 / max", _moved(told.moved_ms)),
        ("steps told", _counts(told.steps)),
        ("time to detect a stall, p50 / max", _spread(told.detect_ms)),
        ("time to fill a gap, p50 / max", _spread(told.fill_ms)),
        ("nothing missing after the storm", f"{told.whole_s} s"),
        ("faults fired", f"{sum(told.fired.values()):,} of {len(told.fired)} kinds"),
    ):  # fmt: skip
        table.add_row(name, value)
    return table


def _counts(told: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(told.items())) or "-"


def _astray(stretches_s: list[float]) -> str:
    return f"{len(stretches_s)}, {stretches_s[-1]:.1f} s" if stretches_s else "none"


def _moved(gaps_ms: list[int]) -> str:
    return f"{len(gaps_ms)}, {_spread(gaps_ms)}" if gaps_ms else "none"


def _spread(durations_ms: list[int]) -> str:
    if not durations_ms:
        return "-"
    return f"{median(durations_ms) / 1_000:.1f} s / {max(durations_ms) / 1_000:.1f} s"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.lab.chaos_feeds", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of storm; default 3")
    parser.add_argument("--seed", type=int, default=1, help="of leaders, faults and kills")
    asked = parser.parse_args(given)
    console = Console()
    work = BASE / f"seed-{asked.seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    told = asyncio.run(storm(work, seed=asked.seed, minutes=asked.minutes, console=console))
    (BASE / f"seed-{asked.seed}.json").write_bytes(msgspec.json.encode(told))
    console.print(report(told))
    console.print("[green]nothing lost, nothing doubled" if told.is_good else "[red]drifted")
    return 0 if told.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
