"""What a thousand leaders and a thousand books cost one ingester, and how quickly it heals."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from rich.table import Table

from services.lab.bench_load import Usage, Watch
from services.lab.bench_stack import Plan, System
from shared.domain.book import Book
from shared.domain.messages import Fact, FeedChanged, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_S
from shared.domain.views import decode
from shared.runtime.clock import SystemClock

LEADERS: Final = 1_000
MARKETS: Final = 500  # two books each
RATE: Final = 20.0  # fills a second, and as many books that change
HOUR_ROWS: Final = 20_000  # of all leaders together: 20 each
SILENCE_S: Final = 60
_LOT: Final = 500
_WAIT_S: Final = 300.0
_SETTINGS: Final = "[ingester]\nbackfill_s = 7200\n"
_clock = SystemClock()


class Feeds(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of the ingester alone."""

    leaders: int
    books_trusted: int
    books_served_per_s: float
    first_read_s: float  # from the start until every leader was read
    usage: list[Usage]
    detect_s: float  # from the silence's beginning until it was told
    refill_s: float  # from then until every leader was read again
    hour_rows: int
    hour_s: float  # from the restart until every missed row was in the ledger


async def feeds(directory: Path, *, seconds: float) -> Feeds:
    """Start one ingester, load it, silence its stream, stop it and let it catch up."""
    began_ns = _clock.monotonic_ns()
    plan = Plan(
        fsync=True, leaders=LEADERS, markets=MARKETS, settings=_SETTINGS, services=("ingester",),
        venue={"rtds_delay_ms": 500, "data_api_delay_ms": 1_500},
    )  # fmt: skip
    async with System(directory, plan) as system:
        first_read_s = _since(began_ns)
        books: dict[str, Book] = {}
        served = 0

        async def take(message: Msg) -> None:
            nonlocal served
            book = decode(message.data, Book)
            if book is not None:
                books[book.token] = book
                served += 1

        await system.client.subscribe("md.book.*", cb=take)
        load = asyncio.create_task(_load(system))
        await _until(lambda: _said(len(books) >= 2 * MARKETS))
        served, watch, loaded_ns = 0, Watch(system.pids()), _clock.monotonic_ns()
        await asyncio.sleep(seconds)
        usage, per_s = watch.read(), served / _since(loaded_ns)
        detect_s, refill_s = await _stall(system)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        hour_s = await _catch_up(system)
    return Feeds(
        leaders=LEADERS,
        books_trusted=sum(book.trusted for book in books.values()),
        books_served_per_s=round(per_s, 1),
        first_read_s=round(first_read_s, 1),
        usage=[each for each in usage if each.name in ("ingester", "venue")],
        detect_s=round(detect_s, 1),
        refill_s=round(refill_s, 1),
        hour_rows=HOUR_ROWS,
        hour_s=round(hour_s, 1),
    )


async def _load(system: System) -> None:
    """Let leaders fill and books change, each market in turn."""
    rng, number = random.Random(5), 0
    loop = asyncio.get_running_loop()
    at = loop.time()
    while True:
        at += 1 / RATE
        await asyncio.sleep(max(0.0, at - loop.time()))
        condition = system.markets[number % MARKETS]
        await system.admin("fills", {"fills": [_fill(system, number, condition, rng)]})
        mid = rng.randint(40, 60)
        side = [[f"0.{mid - 1}", "50000000"]], [[f"0.{mid + 1}", "50000000"]]
        await system.admin("book", {"condition": condition, "bids": side[0], "asks": side[1]})
        number += 1


def _fill(system: System, number: int, condition: str, rng: random.Random) -> dict[str, Any]:
    return {
        "wallet": system.leaders[number % LEADERS],
        "condition": condition,
        "outcome": number % 2,
        "side": "BUY",
        "size": rng.randint(5, 500),
        "price": "0.5",
        "exact": True,
    }


async def _stall(system: System) -> tuple[float, float]:
    """Silence the stream behind its PONG; return how long until told, and until all was read."""
    after, began_ns = await system.ledger.head(), _clock.now_ns()
    rule = {"kind": "silent", "socket": "stream", "for_s": SILENCE_S}
    await system.admin("rules", [rule])

    async def told(state: str) -> int:
        steps = [fact for fact in await _facts(system, after) if isinstance(fact, FeedChanged)]
        return next((step.ts_ns for step in steps if step.state == state), 0)

    silent_ns = await _until(lambda: told("silent"))
    back_ns = await _until(lambda: told("resynced"))
    return (silent_ns - began_ns) / NS_PER_S, (back_ns - silent_ns) / NS_PER_S


async def _catch_up(system: System) -> float:
    """Stop the ingester, let every leader trade for an hour's worth, and start it again."""
    said = len(await _fills(system, 0))
    before = int((await system.admin("ledger"))["count"])
    system.processes.stop_one("ingester")
    rng = random.Random(6)
    executed = 0
    for lot in range(HOUR_ROWS // _LOT):
        fills = [
            _fill(system, number, system.markets[number % MARKETS], rng)
            for number in range(lot * _LOT, (lot + 1) * _LOT)
        ]
        executed += (await system.admin("fills", {"fills": fills}))["executed"]
    assert executed == HOUR_ROWS
    began_ns = _clock.monotonic_ns()
    system.processes.start_one("ingester")

    async def all_said() -> bool:
        return len(await _fills(system, 0)) >= min(before, said) + HOUR_ROWS

    await _until(all_said)
    return _since(began_ns)


async def _fills(system: System, after: int) -> list[Fact]:
    return [fact for fact in await _facts(system, after) if isinstance(fact, LeaderFilled)]


async def _facts(system: System, after: int) -> list[Fact]:
    return [
        fact
        async for entry in system.entries(after)
        if entry.batch
        for fact in entry.batch.facts
        if not isinstance(fact, LeaderBaselineRead)
    ]


async def _said(value: bool) -> bool:  # noqa: FBT001 - a condition is all it is
    return value


async def _until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for a truthy answer, for minutes at most."""
    async with asyncio.timeout(_WAIT_S):
        while not (found := await check()):  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.25)
    return found


def _since(began_ns: int) -> float:
    return (_clock.monotonic_ns() - began_ns) / NS_PER_S


def feeds_table(told: Feeds) -> Table:
    """Return the measurement as people read it."""
    table = Table(title=f"one ingester, {told.leaders:,} leaders, {told.books_trusted:,} books")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for each in told.usage:
        table.add_row(
            f"{each.name}: resident MiB, of a core", f"{each.rss_mib:.0f}, {each.cpu:.0%}"
        )
    for name, value in (
        ("books served a second", f"{told.books_served_per_s}"),
        ("every leader read for the first time", f"{told.first_read_s} s"),
        ("a silent stall is told after", f"{told.detect_s} s"),
        ("and every leader read again after another", f"{told.refill_s} s"),
        (f"{told.hour_rows:,} missed rows are in the ledger after", f"{told.hour_s} s"),
    ):
        table.add_row(name, value)
    return table
