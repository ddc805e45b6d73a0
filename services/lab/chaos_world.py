"""A running system under chaos, what is true at its venue, and whether the two are in step."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import msgspec
import nats
import redis.asyncio as redis

from services.lab.bench_stack import Plan, System
from services.lab.chaos_blows import Struck
from services.lab.chaos_journal import Caps, Journal
from services.lab.feeds_world import Admin, Crowd, Market, Swings
from services.lab.replay import verify
from shared.domain.ids import TokenId
from shared.domain.units import MICRO, NS_PER_S, Usd, format_micro, parse_micro
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    POSITIONS,
    AccountView,
    DriftView,
    PositionsView,
    decode,
)
from shared.runtime.clock import SystemClock
from shared.runtime.ports import Lane, StoreAwayError

CAPS: Final = Caps(leader=Usd(120 * MICRO), market=Usd(150 * MICRO), total=Usd(700 * MICRO))
LEADERS: Final = 8
MARKETS: Final = 8
_READ_S: Final = 10.0
_SWINGS: Final = Swings(mids=(49, 51), prices=(48, 52))
AWAY: Final = (TimeoutError, OSError, nats.errors.Error, redis.RedisError, StoreAwayError)
_WORTH: Final = MICRO // 2  # dollars a share of a difference: every market is near half a dollar

# What makes a person wait is shortened; what protects money is as deployed.
_SETTINGS: Final = """
[ingester]
poll_interval_ms = 500
poll_fast_ms = 500
poll_idle_ms = 1000
backfill_s = 3600
index_lag_ms = 2000
activity_grace_ms = 1000
leader_snapshot_s = 10
[aggregator]
quiet_ms = 200
age_max_ms = 1000
churn_quiet_ms = 200
churn_age_max_ms = 1000
[executor]
poll_interval_ms = 500
lookup_interval_ms = 300
post_deadline_s = 1
order_ttl_ms = 2000
[reconciler]
interval_ms = 300
grace_ms = 2500
confirmations = 3
"""
_RISK: Final = f"""
[risk]
equity_ms = 1000
retry_ms = 200
trade_usd_max = 20
leader_usd_max = {CAPS.leader // MICRO}
market_usd_max = {CAPS.market // MICRO}
event_usd_max = 10000000
category_usd_max = 10000000
total_usd_max = {CAPS.total // MICRO}
slippage_bps_max = 1000
price_moved_bps_max = 2000
daily_loss_free_usd = 10000000
daily_loss_usd_max = 10000000
drawdown_free_usd = 10000000
drawdown_usd_max = 10000000
drift_usd_max = 10000000
rejects_max = 1000
entry_age_ms_max = 10000
"""
PLAN: Final = Plan(
    fsync=True,
    leaders=LEADERS,
    markets=MARKETS,
    settings=_SETTINGS,
    risk=_RISK,
    copies=2,
    singles=("reconciler",),
    venue={
        "rtds_delay_ms": 50, "data_api_delay_ms": 150, "mined_delay_ms": 200, "block_ms": 200,
        "confirmed_delay_ms": 500, "cdn": False,
    },
)  # fmt: skip
T = TypeVar("T")
_clock = SystemClock()


class World:
    """The system, its leaders, its venue's truth, and its ledger as it grows."""

    def __init__(self, system: System, markets: list[Market], seed: int) -> None:
        self.system, self.admin = system, Admin(system.http)
        self.crowd = Crowd(self.admin, system.leaders, markets, seed, _SWINGS)
        tokens = {
            (market.condition, outcome): TokenId(token)
            for market in markets
            for outcome, token in enumerate(market.tokens)
        }
        self.journal = Journal(CAPS, tokens, system.entries)
        self.truth = Truth(self.admin, str(system.wallet))
        self.drift_usd = Usd(0)  # now
        self.drift_usd_max = Usd(0)  # since ``forget_drift``
        self._believed: PositionsView | None = None
        self._drift: DriftView | None = None
        self._account: AccountView | None = None

    @classmethod
    async def over(cls, system: System, seed: int) -> "World":
        admin = Admin(system.http)
        markets = []
        for condition in system.markets:
            told = await admin.get(f"/clob-markets/{condition}")
            first, second = (str(each["t"]) for each in told["t"])
            markets.append(Market(condition, (first, second)))
        return cls(system, markets, seed)

    async def look(self) -> None:
        """Read venue, views and ledger; whoever is away is read the next time."""
        await self.truth.read()
        await _tolerant(self._views())
        await _tolerant(self.journal.read())
        held: dict[TokenId, int] | None = (
            {p.token: p.shares for p in self._believed.positions} if self._believed else None
        )
        if held is not None:
            true = self.truth.positions
            gap = sum(abs(held.get(t, 0) - true.get(t, 0)) for t in held.keys() | true.keys())
            self.drift_usd = Usd(gap * _WORTH // MICRO)
            self.drift_usd_max = max(self.drift_usd, self.drift_usd_max)

    def forget_drift(self) -> None:
        self.drift_usd_max = Usd(0)

    async def _views(self) -> None:
        self._believed = None
        found = await self.system.store.read_views([POSITIONS, DRIFT, ACCOUNT])
        self._believed = decode(found[0], PositionsView)
        self._drift, self._account = decode(found[1], DriftView), decode(found[2], AccountView)

    def doubts(self, since_ns: int) -> list[str]:
        """Return why the system is not in step yet; views from before ``since_ns`` say nothing."""
        found = self.journal.open_things(self.crowd.rows)
        if self._believed is None:
            return [*found, "the executor shows no positions"]
        if self.drift_usd:
            found.append(f"belief is ${format_micro(self.drift_usd)} from the venue")
        if self._believed.orders:
            found.append(f"{len(self._believed.orders)} orders are shown open")
        if any(position.unsettled for position in self._believed.positions):
            found.append("fills are not settled")
        if self._drift is None or self._drift.as_of_ns <= since_ns:
            found.append("the reconciler has not looked")
        elif self._drift.lines:
            found.append(f"the reconciler sees ${format_micro(self._drift.drift_usd)} of drift")
        if self._account is None or self._account.as_of_ns <= since_ns:
            found.append("the executor has not read its account")
        elif self._account.orders:
            found.append(f"{len(self._account.orders)} orders rest at the venue")
        return found

    async def acting_ns(self, struck: Struck) -> int | None:
        """Return when the killed process's work was done again by a living one, if it is.

        That is its first fact in a lane the dead one held, under a later lease; of the reconciler
        and the executor, who may have nothing to say, also the first view they show.
        """
        head = self.journal.first_after(struck.seq, struck.lanes)
        if head is not None:
            return await self.system.stored_ns(head.seq)
        view = {"reconciler": self._drift, "executor": self._account}.get(struck.service)
        if view is not None and view.as_of_ns > struck.at_ns:
            return view.as_of_ns
        return None

    async def broken(self) -> list[str]:
        """Return every promise that does not hold now that all is calm, with its evidence."""
        found = [*self.journal.faults]
        told = {token: n for token, n in self.journal.positions.items() if n}
        true = {token: n for token, n in self.truth.positions.items() if n}
        if told != true:
            found.append(f"the ledger's holdings {told} are not the venue's {true}")
        if self.journal.attributed() != told:
            found.append(f"attributed {self.journal.attributed()} is not what is held: {told}")
        if self.journal.corrections:
            found.append(f"{self.journal.corrections} positions had to be corrected")
        if self.journal.orphans:
            found.append(f"{self.journal.orphans} orders were orphans")
        found += await self._posted_wrongly()
        for lane in await verify(self.system.ledger, self.system.store):
            if not lane.identical:
                found.append(f"verify: {lane}")
        return found

    async def _posted_wrongly(self) -> list[str]:
        """Hold every order that reached the venue against the approvals on record."""
        times: Counter[str] = Counter()
        while page := (await self.system.admin(f"orders?after={times.total()}"))["orders"]:
            times.update(str(order["metadata"]) for order in page)
        again = [f"{name} reached the venue {n} times" for name, n in times.items() if n > 1]
        strange = [name for name in times if name not in self.journal.named]
        return again + [f"{name} at the venue is no order on record" for name in strange]


class Truth:
    """What the account holds by the venue's own book of trades; a failed one never was."""

    def __init__(self, admin: Admin, wallet: str) -> None:
        self._admin, self._wallet = admin, wallet
        self._read = 0  # trades that are final, and everything before them
        self._final: Counter[TokenId] = Counter()  # shares by token
        self.positions: dict[TokenId, int] = {}
        self.trades = self.failed = 0

    async def read(self) -> None:
        told = await self._admin.get("/admin/ledger", after=str(self._read))
        open_: Counter[TokenId] = Counter()
        is_final = True
        for trade in told["fills"]:
            is_final = is_final and trade["status"] in ("CONFIRMED", "FAILED")
            shares = self._ours(trade)
            (self._final if is_final else open_).update(shares)
            if is_final:
                self._read += 1
                self.trades += trade["taker"] == self._wallet
                self.failed += trade["taker"] == self._wallet and trade["status"] == "FAILED"
        both = Counter(self._final)
        both.update(open_)
        self.positions = {token: shares for token, shares in both.items() if shares}

    def _ours(self, trade: dict[str, Any]) -> dict[TokenId, int]:
        if trade["taker"] != self._wallet or trade["status"] == "FAILED":
            return {}
        size = parse_micro(trade["size"])
        return {TokenId(trade["token_id"]): size if trade["side"] == "BUY" else -size}


async def _tolerant(work: Awaitable[None]) -> None:
    with contextlib.suppress(*AWAY):
        async with asyncio.timeout(_READ_S):
            await work


def seconds_since(began_ns: int) -> float:
    """Return the seconds since a reading of the monotonic clock."""
    return (_clock.monotonic_ns() - began_ns) / NS_PER_S


def lanes_told(lanes: dict[Lane, int]) -> str:
    return ", ".join(f"{lane.partition}" for lane in lanes) or "none"


def evidence_of(world: World) -> bytes:
    """Return what is open by name, for who wants to know why nothing converged."""
    told = {
        "open": world.journal.evidence(world.crowd.rows),
        "believed": world._believed,
        "venue": world.truth.positions,
        "drift": world._drift,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2)
