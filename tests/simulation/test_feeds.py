"""The ingester and the venue as they are, in virtual time, under every fault of the feeds.

Leaders fill with equal rows in one transaction, books change, a seeded storm breaks sockets and
answers, the process is killed and loses its store. When the storm is over, the ledger says each
row the venue executed exactly once, and every book is the venue's and trusted.
"""

import asyncio
import random
from collections import Counter
from typing import Any

import httpx
import msgspec
import pytest

from services.lab.feeds_world import Admin, Crowd, Market, Served, kept_in_view, said
from services.lab.replay import LaneReport, verify
from services.paper_venue.config import VenueConfig
from services.paper_venue.server import running
from shared.domain.book import Book
from shared.domain.ids import Wallet
from shared.domain.messages import Fact, FeedChanged
from shared.domain.views import decode
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.runner import Ports
from tests.simulation.feeds_build import Bus, Process, VirtualClock
from tests.support.virtual import VirtualLoop, run_virtually

SEEDS = range(6)
STORM_S = 200
CALM_S = 200  # idle leaders are read once a minute, and the index lags
ASTRAY_S_MAX = 60.0  # what no evidence can show is found by asking REST
SETTINGS = IngesterConfig(poll_interval_ms=2_000, backfill_s=3_600)
VENUE = VenueConfig(
    book_history=1_000_000,
    rtds_delay_ms=500,
    data_api_delay_ms=1_500,
    index_jitter_ms=3_000,
    mined_delay_ms=1_000,
)
LEADERS = [Wallet(f"0x{n:040x}") for n in range(1, 6)]


class Told:
    """What one storm left behind."""

    def __init__(self) -> None:
        self.missing: Counter[Any] = Counter()
        self.extra: Counter[Any] = Counter()
        self.astray_s = 0.0
        self.behind: list[str] = []
        self.rows = self.kills = self.trusted = 0
        self.fired: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.log: list[str] = []
        self.lanes: list[LaneReport] = []


async def storm(loop: VirtualLoop, seed: int) -> Told:
    rng, told = random.Random(seed), Told()
    ledger, store, bus, served = MemoryLedger(), MemoryStore(), Bus(), Served()

    async def take(message: Any) -> None:
        book = decode(message.data, Book)
        assert book is not None
        served.take(book)

    await bus.subscribe("md.book.*", cb=take)
    async with (
        running(VENUE, now_ns=loop.now_ns) as venue,
        httpx.AsyncClient(base_url=venue.url, timeout=60) as http,
    ):
        admin = Admin(http)
        markets = [await open_market(admin, number) for number in range(3)]
        process = Process(
            LEADERS,
            venue.url,
            settings=msgspec.structs.replace(SETTINGS, activity_sockets=1 + seed % 2),
            with_chain=seed % 3 == 0,
            ports=Ports(ledger=ledger, store=store, clock=VirtualClock(loop)),
            bus=bus,
        )
        process.start()
        crowd = asyncio.create_task(Crowd(admin, LEADERS, markets, seed).run(0.5))
        weather = {"seed": seed, "for_s": STORM_S, "every_s": 1.0, "calm_s": 0, "kinds": "feeds"}
        await admin.post("scenario", {"seed": seed, "storm": weather})
        ends_s = loop.time() + STORM_S
        while loop.time() < ends_s:
            await asyncio.sleep(rng.expovariate(1 / 15))
            process.check()
            await process.kill()
            told.kills += 1
            if rng.random() < 0.3:
                store.snapshots.clear()
                store.views.clear()
            await asyncio.sleep(rng.uniform(0, 5))
            process.start()
        crowd.cancel()
        await asyncio.gather(crowd, return_exceptions=True)
        await store.write_views(kept_in_view(markets))
        await asyncio.sleep(CALM_S)
        process.check()
        await judge(told, admin, markets, ledger=ledger, served=served)
        await process.kill()
        told.lanes = await verify(ledger, store, services=("ingester",))
    return told


async def open_market(admin: Admin, number: int) -> Market:
    made = await admin.post(
        "market", {"slug": f"m-{number}", "bids": [["0.4", "500"]], "asks": [["0.5", "500"]]}
    )
    return Market(made["condition"], tuple(made["tokens"]))


async def judge(
    told: Told, admin: Admin, markets: list[Market], *, ledger: MemoryLedger, served: Served
) -> None:
    facts: list[Fact] = []
    async for run in ledger.read(("driftless.>",), after=0, until=await ledger.head()):
        facts += [fact for entry in run if entry.batch for fact in entry.batch.facts]
    truth: Counter[Any] = Counter()
    for leader in LEADERS:
        truth += await admin.truth(leader)
    rows = said(facts)
    told.rows, told.missing, told.extra = rows.total(), truth - rows, rows - truth
    history: dict[str, dict[int, Any]] = {}
    for market in markets:
        history |= await admin.books(market)
    told.trusted, told.behind = served.trusted, served.behind(history)
    told.astray_s = max(served.astray_s(history), default=0.0)
    for rule in (await admin.get("/admin/rules"))["rules"]:
        told.fired[rule["kind"]] += rule["fired"]
    told.steps.update(fact.state for fact in facts if isinstance(fact, FeedChanged))
    told.log = [fact.id for fact in facts]


@pytest.mark.parametrize("seed", SEEDS)
def test_after_any_storm_nothing_is_lost_doubled_or_wrong(seed: int) -> None:
    survived(run_virtually(lambda loop: storm(loop, seed)))


def survived(told: Told) -> None:
    assert told.missing == Counter()
    assert told.extra == Counter()
    assert told.behind == []
    assert told.astray_s <= ASTRAY_S_MAX
    assert all(lane.identical for lane in told.lanes), told.lanes
    assert sum(lane.digests for lane in told.lanes), "no state was compared on the way"
    assert told.rows > 20
    assert told.trusted > 20
    assert sum(told.fired.values()) > 20


def test_the_storms_of_all_seeds_together_break_everything() -> None:
    """A fault that never fires proves nothing."""
    fired: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    for seed in (101, 102, 103):
        told = run_virtually(lambda loop, seed=seed: storm(loop, seed))  # type: ignore[misc]
        fired += told.fired
        steps += told.steps
    assert {"drop", "twice", "reorder", "garbage", "close", "half_open", "stale"} <= set(fired)
    assert {"silent", "lost", "connected", "gap", "resynced"} <= set(steps)
