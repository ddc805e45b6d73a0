"""One executor lane against the local venue over real HTTP; its ledger can be held or deadly."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal, cast

import httpx
import msgspec
from eth_account import Account
from nats.aio.client import Client

from services.executor.core import decide, evolve
from services.executor.sdk import Redeem
from services.executor.session import World, terms_of
from services.executor.shell import Shell
from services.executor.state import Draft, Policy, State
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from shared.domain.ids import OrderHash, TokenId, Wallet
from shared.domain.market import Side
from shared.domain.messages import (
    Batch,
    Fact,
    OrderApproved,
    Quote,
)
from shared.domain.units import NS_PER_S, Price, Shares, Usd
from shared.domain.views import ACCOUNT, AccountView, book_key, decode, encode
from shared.polymarket.orders import Signer, order_hash
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.books import Books
from shared.runtime.clock import SystemClock
from shared.runtime.config import AccountConfig, ExecutorConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.metrics import Metrics
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, Service, run_until_stopped
from shared.runtime.telemetry import Tracing

KEY = "0x" + "5b" * 32  # a throw-away key: never funded anywhere but in the local venue
WALLET = Wallet(Account.from_key(KEY).address.lower())
LEADER = Wallet("0x" + "1e" * 20)
LANE, RISK = Lane("executor", 0), Lane("risk", 0)
MARKET = {"slug": "one", "bids": [["0.47", "120"]], "asks": [["0.5", "250"]]}
SETTINGS = ExecutorConfig(
    poll_interval_ms=100, lookup_interval_ms=100, post_deadline_s=1, redeem_after_s=1
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KilledError(Exception):
    """What a kill -9 looks like from inside."""


class GatedLedger(MemoryLedger):
    """A ledger whose disk can be stopped under the executor, or that kills it once at a fact."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.is_held = asyncio.Event(), False
        self.gate.set()
        self.fuse: tuple[type[Any], Literal["before", "after"]] | None = None

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        if lane != LANE:
            return await super().append(lane, batch, key=key, after=after)
        self.is_held = not self.gate.is_set()
        await self.gate.wait()
        self._burn(batch, "before")
        seq = await super().append(lane, batch, key=key, after=after)
        self._burn(batch, "after")
        return seq

    def _burn(self, batch: Batch, when: Literal["before", "after"]) -> None:
        if (
            self.fuse
            and self.fuse[1] == when
            and any(isinstance(f, self.fuse[0]) for f in batch.facts)
        ):
            self.fuse = None
            raise KilledError


def _alone(error: BaseException) -> BaseException:
    """Return the one exception that a lane's task groups wrap."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class System:
    """One executor lane; its ledger, its store, and the address of a venue that may be away."""

    def __init__(
        self,
        *,
        mined_ms: int = 0,
        confirmed_ms: int = 0,
        post_deadline_s: int = 1,
        poll_overlap_s: int = 120,
    ) -> None:
        self._mined_ms, self._confirmed_ms = mined_ms, confirmed_ms
        self.settings = msgspec.structs.replace(
            SETTINGS, post_deadline_s=post_deadline_s, poll_overlap_s=poll_overlap_s
        )
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger, self.store, self.clock = GatedLedger(), MemoryStore(), SystemClock()
        self.redeem: Redeem | None = None
        self.redeem_after_s = 1.0
        self._risk_said = 0
        self._epoch = 0

    def venue(self) -> contextlib.AbstractAsyncContextManager[Any]:
        funded = (Funded(wallet=WALLET, usd=Usd(1_000_000_000)),)
        config = VenueConfig(
            port=self.port,
            accounts=funded,
            mined_delay_ms=self._mined_ms,
            confirmed_delay_ms=self._confirmed_ms,
        )
        return running(config)

    @contextlib.asynccontextmanager
    async def lane(
        self, *, resends_max: int = 3, patience_s: float = 600
    ) -> AsyncIterator[LaneRunner[State]]:
        account, signer = AccountConfig(wallet=WALLET), Signer.from_hex(KEY)

        def hash_of(draft: Draft) -> OrderHash:
            return order_hash(terms_of(draft, account, WALLET))

        policy = Policy(
            wallet=WALLET, book_age_ns_max=60 * NS_PER_S, lookup_attempts=2,
            resends_max=resends_max, patience_ns=int(patience_s * NS_PER_S), hash_of=hash_of,
            redeem_after_ns=int(self.redeem_after_s * NS_PER_S) if self.redeem else None,
        )  # fmt: skip
        service = Service(
            name="executor",
            state=State,
            decide=partial(decide, policy),
            evolve=evolve,
            inputs=lambda _: ("driftless.risk.>", "driftless.reconciler.>"),
            moves_money=True,
        )
        nobody = cast("Client", None)  # books are in the store: the ingester is never asked
        world = World(
            account=account,
            settings=self.settings,
            urls=VenueUrls.local(self.url),
            signer=signer,
            books=Books(self.store, nobody, self.clock, deadline_s=1),
            tracing=Tracing("executor"),
            metrics=Metrics("executor"),
            redeem=self.redeem,
        )
        ports = Ports(ledger=self.ledger, store=self.store, clock=self.clock)
        self._epoch += 1
        runner = LaneRunner(service, LANE, Shell(world), ports, Epoch(self._epoch))
        stopping = asyncio.Event()
        self.serving = asyncio.create_task(run_until_stopped(runner.run(stopping)))
        try:
            yield runner
        finally:
            stopping.set()
            with contextlib.suppress(asyncio.CancelledError, KilledError):
                try:
                    await self.serving
                except BaseExceptionGroup as group:
                    raise _alone(group) from None

    def kill(self) -> None:
        """End the lane at whatever it awaits, its requests included."""
        self.serving.cancel()

    async def market(self, token: str) -> Any:
        """Put the venue's book where the executor looks, and return the market's terms."""
        async with open_http(rng=random.Random(1)) as http:
            public = PublicVenue(http, now_ns=self.clock.now_ns, urls=VenueUrls.local(self.url))
            book = await public.book(TokenId(token))
            market = await public.market(book.condition)
        trusted = msgspec.structs.replace(book, trusted=True, seen_ns=self.clock.now_ns())
        await self.store.write_views({book_key(book.token): encode(trusted)})
        return market

    async def approve(
        self, market: Any, *, ttl_s: float, side: Side = "BUY", limit: int = 500_000, **more: Any
    ) -> OrderApproved:
        now_ns = self.clock.now_ns()
        name = f"{now_ns:032x}"
        approval = OrderApproved(
            id=name, cause="", root=name, ts_ns=now_ns, leader=LEADER,
            condition=market.condition, token=market.tokens[0], side=side,
            size=Shares(10_000_000), limit=Price(limit), leader_price=Price(500_000),
            worst_usd=Usd(6_000_000), reduces=False, market=market,
            expires_ns=now_ns + int(ttl_s * NS_PER_S),
            quote=Quote(best_bid=None, best_ask=None, depth=Shares(0), book_age_ns=0), **more,
        )  # fmt: skip
        await self._say(RISK, approval)
        return approval

    async def say_risk(self, fact: Fact) -> None:
        await self._say(RISK, fact)

    async def _say(self, lane: Lane, fact: Fact) -> None:
        batch = Batch(epoch=1, through=0, facts=(fact,))
        self._risk_said = await self.ledger.append(lane, batch, key="k", after=self._risk_said)

    async def of(self, kind: type[Any]) -> list[Any]:
        head = await self.ledger.head()
        runs = [run async for run in self.ledger.read((LANE.subjects,), after=0, until=head)]
        facts = [fact for run in runs for entry in run if entry.batch for fact in entry.batch.facts]
        return [fact for fact in facts if isinstance(fact, kind)]

    async def orders(self) -> list[Any]:
        async with httpx.AsyncClient() as http:
            told: dict[str, list[Any]] = (await http.get(f"{self.url}/admin/orders")).json()
            return told["orders"]

    def account(self) -> AccountView:
        view = decode(self.store.views[ACCOUNT], AccountView)
        assert view is not None
        return view

    async def open_market(self) -> str:
        async with httpx.AsyncClient() as http:
            told: dict[str, Any] = (await http.post(f"{self.url}/admin/market", json=MARKET)).json()
            return str(told["tokens"][0])

    async def fault(self, **faults: Any) -> None:
        async with httpx.AsyncClient() as http:
            (await http.post(f"{self.url}/admin/faults", json=faults)).raise_for_status()

    async def rule(self, **rule: Any) -> None:
        async with httpx.AsyncClient() as http:
            (await http.post(f"{self.url}/admin/rules", json=[rule])).raise_for_status()

    async def admin(self, what: str, **body: Any) -> None:
        async with httpx.AsyncClient() as http:
            (await http.post(f"{self.url}/admin/{what}", json=body)).raise_for_status()

    async def end_rules(self) -> None:
        async with httpx.AsyncClient() as http:
            (await http.delete(f"{self.url}/admin/rules")).raise_for_status()

    async def mode(self, mode: str) -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{self.url}/admin/mode", json={"mode": mode})
            answer.raise_for_status()

    async def fired(self) -> int:
        async with httpx.AsyncClient() as http:
            told: dict[str, Any] = (await http.get(f"{self.url}/admin/firings")).json()
            return int(told["count"])
