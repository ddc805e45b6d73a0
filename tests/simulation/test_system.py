"""The whole system in virtual time against everything at once, seed by seed.

Leaders trade, books move, somebody trades our account by hand and moves its money; sockets,
answers, orders and settlements break as the venue's storms have them; processes are killed at
whatever await they stand, cut off and started twice; the broker and the store go away,
acknowledgements are lost, the store is emptied. When all that is over the promises are judged:
what was said and sent, what is believed, what is held because of whom, and that every state is
what its log says.
"""

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

from services.executor.core import State as ExecutorState
from services.executor.core import evolve as executor_evolve
from services.lab.chaos_journal import Caps, Journal
from services.lab.feeds_world import Admin, Crowd, Market, Swings, kept_in_view
from services.lab.replay import verify
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.kinds import KINDS
from services.paper_venue.server import Running, running
from shared.domain.ids import COLLATERAL, TokenId, Wallet, content_id
from shared.domain.messages import (
    Batch,
    DriftFound,
    Fact,
    FeedChanged,
    FillSettled,
    HaltTrading,
    OrderFilled,
    OrderPrepared,
    RegimeChanged,
    ResumeTrading,
    kind_of,
)
from shared.domain.units import MICRO, Usd
from shared.domain.views import DRIFT, DriftView, decode
from shared.polymarket.orders import Signer
from shared.runtime.ports import Entry, Lane
from tests.simulation.system_build import System, seeded, settings
from tests.support.virtual import VirtualLoop, run_virtually

SEEDS = range(3)
STORM_S = 120
CALM_S = 420.0  # idle leaders are polled each minute, the balance is looked at each five
KEY = "0x" + "7c" * 32  # a throw-away key: never funded anywhere but in the local venue
WALLET = Wallet(Account.from_key(KEY).address.lower())
LEADERS = [Wallet(f"0x{n:040x}") for n in (1, 2)]
DUST_USD = Usd(10_000)  # what the reconciler lets be
# A leader's fills settle together, in one transaction that the crowd named before; ours need not.
SETTLEMENTS = ("fail_settlement", "retry_settlement")
KINDS_OF_STORM = tuple(kind for kind in KINDS if kind not in SETTLEMENTS)
CTL = Lane("ctl", 0)
VENUE = VenueConfig(
    accounts=(Funded(wallet=WALLET, usd=Usd(5_000 * MICRO)),),
    rtds_delay_ms=300,
    data_api_delay_ms=800,
    index_jitter_ms=1_000,
    mined_delay_ms=1_000,
    confirmed_delay_ms=2_000,
)
CONFIG = """
mode = "demo"
[account]
wallet = "{wallet}"
[venue]
local_url = "{venue}"
[[leaders]]
wallet = "{first}"
[[leaders]]
wallet = "{second}"
sizing = "proportional"
ratio_bps = 3000
[ingester]
poll_interval_ms = 2000
backfill_s = 3600
[aggregator]
tick_ms = 250
[risk]
tick_ms = 500
price_moved_bps_max = 3000
slippage_bps_max = 1000
market_usd_max = 300
total_usd_max = 400
drift_usd_max = 40
daily_loss_usd_max = 5000
daily_loss_free_usd = 5000
drawdown_usd_max = 5000
drawdown_free_usd = 5000
entry_order = "{entry}"
rest_s = 10
[executor]
poll_interval_ms = 2000
lookup_interval_ms = 500
patience_s = 60
[reconciler]
interval_ms = 2000
grace_ms = 6000
"""
CAPS = Caps(leader=Usd(500 * MICRO), market=Usd(300 * MICRO), total=Usd(400 * MICRO))


class Told:
    """What one seed left behind."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.seen: Counter[str] = Counter()
        self.log: list[str] = []


class Play:
    """One seed: the world, the system in it, and what is done to both."""

    def __init__(self, loop: VirtualLoop, venue: Running, admin: Admin, seed: int) -> None:
        self.loop, self.venue, self.admin, self.seed = loop, venue, admin, seed
        self.rng, self.told = random.Random(f"system-{seed}"), Told()
        how = {
            "wallet": WALLET, "venue": venue.url, "first": LEADERS[0], "second": LEADERS[1],
            "entry": self.rng.choice(["fill_and_kill"] * 2 + ["fill_or_kill", "post_only"]),
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as directory:
            config = settings(Path(directory), CONFIG.format(**how))
        self.system = System(loop, config, Signer.from_hex(KEY), seed)
        self.markets: list[Market] = []
        self._ctl_seq = 0

    async def run(self) -> Told:
        for number in range(3):
            body = {"slug": f"m-{number}", "bids": [["0.4", "500"]], "asks": [["0.5", "500"]]}
            made = await self.admin.post("market", body)
            self.markets.append(Market(made["condition"], tuple(made["tokens"])))
        swings = Swings(mids=(40, 60), prices=(40, 60))
        self.crowd = Crowd(self.admin, LEADERS, self.markets, self.seed, swings)
        async with self.system.running():
            over = asyncio.Event()
            crowd = asyncio.create_task(self.crowd.run(2.0, over))
            weather = {"seed": self.seed, "for_s": STORM_S, "every_s": 3.0, "calm_s": 0}
            storm = {"seed": self.seed, "storm": {**weather, "kinds": KINDS_OF_STORM}}
            await asyncio.sleep(self.rng.uniform(0, 10))
            await self.admin.post("scenario", storm)
            ours = {"wallet": WALLET, "for_s": STORM_S, "share_bps": 700}
            await self.admin.post("rules", [{"kind": kind, **ours} for kind in SETTLEMENTS])
            ends_s = self.loop.time() + STORM_S
            while self.loop.time() < ends_s:
                await asyncio.sleep(self.rng.expovariate(1 / 6))
                await self.strike()
            over.set()
            await crowd
            self.system.weather.ledger.set()
            self.system.weather.store_away, self.system.weather.lost_ack = False, 0.0
            await self.command("resume")
            await self.settle()
            await self.judge()
        return self.told

    # --- what is done to it ---------------------------------------------------------------

    async def strike(self) -> None:
        deed = self.rng.choice(
            ["kill", "kill", "doom", "doom", "doom", "second", "cut", "ledger", "store", "flush",
             "ack", "hand", "money", "halt"]
        )  # fmt: skip
        self.told.seen[f"did {deed}"] += 1
        name = self.rng.choice(list(self.system.processes))
        process, weather = self.system.processes[name], self.system.weather
        match deed:
            case "kill":
                process.kill()
            case "doom":
                where = self.rng.choice(["before", "after", "writes"])
                if where == "writes":
                    process = self.system.processes["executor"]
                process.doom(where)
            case "second":
                process.start()
            case "cut":
                owner = process.owner
                self.loop.cut(owner)
                self.loop.call_later(self.rng.uniform(1, 15), self.loop.heal, owner)
            case "ledger":
                weather.ledger.clear()
                self.loop.call_later(self.rng.uniform(0.5, 14), weather.ledger.set)
            case "store":
                weather.store_away = True
                self.loop.call_later(self.rng.uniform(0.5, 8), self._store_back)
            case "flush":
                self.system.store.snapshots.clear()
                self.system.store.views.clear()
            case "ack":
                weather.lost_ack = self.rng.choice([0.0, 0.2, 0.5])
            case _:
                await self.meddle(deed)

    def _store_back(self) -> None:
        self.system.weather.store_away = False

    async def meddle(self, deed: str) -> None:
        """Do what the owner of an account may do at any time."""
        market = self.rng.choice(self.markets).condition
        match deed:
            case "hand":
                body = {"wallet": WALLET, "condition": market, "outcome": self.rng.randrange(2),
                        "side": "BUY", "size": str(self.rng.randint(5, 30))}  # fmt: skip
                with contextlib.suppress(httpx.HTTPStatusError):  # closed, or no money left
                    await self.admin.post("trade-outside", body)
            case "money":
                usd = str(self.rng.choice([-200, -50, 100, 400]))
                await self.admin.post("fund", {"wallet": WALLET, "usd": usd})
            case _:
                await self.command("halt")
                self.loop.call_later(
                    self.rng.uniform(2, 20), lambda: self.loop.create_task(self.command("resume"))
                )

    async def command(self, what: str) -> None:
        id_ = content_id(what, self.loop.now_ns())
        kind = HaltTrading if what == "halt" else ResumeTrading
        fact = kind(
            id=id_, cause="", root=id_, ts_ns=self.loop.now_ns(), reason="drill", actor="me"
        )
        batch = Batch(epoch=1, through=0, facts=(fact,))
        ledger = self.system.ledger
        self._ctl_seq = await ledger.append(CTL, batch, key="facts", after=self._ctl_seq)

    # --- what must be true then -----------------------------------------------------------

    async def settle(self) -> None:
        """Wait until nothing is left to be done, or for as long as that may take."""
        await self.system.store.write_views(kept_in_view(self.markets))
        ends_s = self.loop.time() + CALM_S
        await asyncio.sleep(30)
        while self.loop.time() < ends_s:
            await asyncio.sleep(5)
            journal = await self.journal()
            opened = journal.open_things(self.crowd.rows)
            if not (opened or self.unlike(journal) or await self.cash()):
                return

    async def journal(self) -> Journal:
        tokens = {(m.condition, n): TokenId(m.tokens[n]) for m in self.markets for n in (0, 1)}
        journal = Journal(CAPS, tokens, self.entries)
        await journal.read()
        return journal

    async def entries(self, after: int) -> Any:
        head = await self.system.ledger.head()
        async for run in self.system.ledger.read(("driftless.>",), after=after, until=head):
            for entry in run:
                yield entry

    def unlike(self, journal: Journal) -> list[str]:
        """Return where belief, books and venue differ now."""
        ledger = self.venue.shell.venue.ledger
        truth = {t: p.size for t, p in ledger.positions[WALLET].items() if p.size}
        told = {token: size for token, size in journal.positions.items() if size}
        found = []
        if told != truth:
            found.append(f"believed {told} is not the venue's {truth}")
        booked = {token: size for token, size in journal.attributed().items() if size}
        if booked != told:
            found.append(f"booked {booked} is not what is believed {told}")
        view = decode(self.system.store.views.get(DRIFT), DriftView)
        if view is None or view.lines:
            found.append(f"drift {view}")
        return found

    async def judge(self) -> None:
        journal, told = await self.journal(), self.told
        facts = [f async for entry in self.entries(0) for f in self._facts(entry)]
        told.broken += journal.faults + self.unlike(journal)
        opened = journal.open_things(self.crowd.rows)
        told.broken += opened and [*opened, *journal.evidence(self.crowd.rows)]
        told.broken += self.sent_twice() + self.misfilled(facts)
        told.broken += [
            f"no reason for {fact.regime}"
            for fact in facts
            if isinstance(fact, RegimeChanged) and not fact.reason
        ]
        for name, process in self.system.processes.items():
            told.broken += [f"{name} died of {error!r}" for error in process.deaths]
        told.log = [fact.id for fact in facts]
        told.broken += await self.cash()
        self.count(facts)
        for process in self.system.processes.values():
            await process.end()
        lanes = await verify(self.system.ledger, self.system.store)
        told.broken += [f"{lane} is not its log" for lane in lanes if not lane.identical]

    @staticmethod
    def _facts(entry: Entry) -> tuple[Fact, ...]:
        return entry.batch.facts if entry.batch else ()

    def sent_twice(self) -> list[str]:
        """An approval is one order, whatever was repeated: the venue took one hash for each."""
        bodies: dict[str, set[str]] = {}
        accepted: Counter[str] = Counter()
        for posted in self.venue.shell.posted:
            if posted.metadata.strip("0x"):  # other traders of the venue name nothing
                bodies.setdefault(posted.metadata, set()).add(posted.digest)
                accepted[posted.order] += posted.status == 200 and bool(posted.order)
        found = [f"{name} was {len(all_)} bodies" for name, all_ in bodies.items() if len(all_) > 1]
        return found + [f"{order} was taken {n} times" for order, n in accepted.items() if n > 1]

    def misfilled(self, facts: list[Fact]) -> list[str]:
        """Return the orders whose fills, those that failed apart, are not the venue's trades.

        Positions do not tell: the reconciler puts them right whatever the executor missed.
        """
        told: Counter[str] = Counter()
        ours = {fact.order for fact in facts if isinstance(fact, OrderPrepared)}
        for fact in facts:
            match fact:
                case OrderFilled() if fact.settlement != "FAILED":
                    told[fact.order] += fact.size
                case FillSettled() if fact.settlement == "FAILED":
                    told[fact.order] -= fact.size
                case _:
                    pass
        traded: Counter[str] = Counter()
        for trade in self.venue.shell.venue.trades.values():
            if trade.status != "FAILED":
                traded[trade.taker_order] += trade.size
                traded.update({leg.order: leg.size for leg in trade.legs})
        return [
            f"{order} was filled {told[order]}, at the venue {traded[order]}"
            for order in sorted(ours)
            if told[order] != traded[order]
        ]

    async def cash(self) -> list[str]:
        """Believed cash is the venue's, once anything was believed."""
        state = ExecutorState()
        async for entry in self.entries(0):
            if entry.subject.startswith("driftless.executor."):
                for fact in self._facts(entry):
                    executor_evolve(state, fact)
        truth = self.venue.shell.venue.ledger.settled_cash[WALLET]
        if state.cash is None or abs(state.cash.usd - truth) < DUST_USD:
            return []
        return [f"believed cash {state.cash.usd} is not the venue's {truth}"]

    def count(self, facts: list[Fact]) -> None:
        seen = self.told.seen
        seen += self.system.weather.seen
        for fact in facts:
            match fact:
                case FillSettled():
                    seen[f"fill {fact.settlement}"] += 1
                case RegimeChanged():
                    seen[f"regime {fact.regime}"] += 1
                case FeedChanged():
                    seen[f"feed {fact.state}"] += 1
                case DriftFound():
                    where = "cash" if fact.token == COLLATERAL else "shares"
                    seen[f"drift of {where}: {fact.probable_cause}"] += 1
                case _:
                    seen[kind_of(fact)] += 1


async def play(loop: VirtualLoop, seed: int) -> Told:
    with seeded(seed):
        return await _play(loop, seed)


async def _play(loop: VirtualLoop, seed: int) -> Told:
    async with (
        running(VENUE, now_ns=loop.now_ns) as venue,
        httpx.AsyncClient(base_url=venue.url, timeout=60) as http,
    ):
        return await Play(loop, venue, Admin(http), seed).run()


def survived(told: Told) -> None:
    assert not told.broken, "\n".join(told.broken)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_everything_at_once_every_promise_stands(seed: int) -> None:
    told = run_virtually(lambda loop: play(loop, seed))
    survived(told)
    assert told.seen["order_filled"], "nothing was copied"


def test_the_same_seed_plays_the_same() -> None:
    one, two = (run_virtually(lambda loop: play(loop, 11)) for _ in range(2))
    assert one.log == two.log
    assert one.seen == two.seen
