"""An executor lane and a reconciler lane on one ledger, against the local venue over real HTTP."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx

from services.executor.session import Session
from services.executor.shell import Shell as ExecutorShell
from services.executor.state import State as ExecutorState
from services.executor.views import positions_view
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from services.reconciler.comparing import Policy
from services.reconciler.core import State, decide, evolve
from services.reconciler.shell import Shell, World
from shared.domain.messages import DriftFound, OrderClosed, OrderFilled
from shared.domain.observations import OwnFill
from shared.domain.units import NS_PER_S, Price, Shares, Usd
from shared.domain.views import DRIFT, POSITIONS, DriftView, PositionsView, decode
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.metrics import Metrics
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, Service
from tests.support.eventually import eventually
from tests.support.order_lane import WALLET, System

RECONCILER = Lane("reconciler", 0)
POLICY = Policy(
    confirmations=2, grace_ns=NS_PER_S // 2, excuse_ns_max=3 * NS_PER_S, dust=Shares(10_000)
)
START_USD = 1_000_000_000
_EVERY_S = 0.1


class Reconciled(System):
    """The executor's system with a reconciler beside it; ``market`` is where it trades."""

    executor: LaneRunner[ExecutorState]

    def venue(self) -> contextlib.AbstractAsyncContextManager[Any]:
        config = VenueConfig(
            port=self.port, accounts=(Funded(wallet=WALLET, usd=Usd(START_USD)),), fee_rate=0,
            mined_delay_ms=0, confirmed_delay_ms=200, rtds_delay_ms=0, data_api_delay_ms=100,
            block_ms=100, cdn=False, gamma_close_delay_s=0,
        )  # fmt: skip
        return running(config)

    @contextlib.asynccontextmanager
    async def reconciling(self) -> AsyncIterator[LaneRunner[State]]:
        """Run both lanes against a venue with one open market."""
        async with (
            self.venue(), self.lane() as self.executor, open_http(rng=random.Random(1)) as http
        ):  # fmt: skip
            urls = VenueUrls.local(self.url)
            public = PublicVenue(http, now_ns=self.clock.now_ns, urls=urls)
            world = World(
                venue=public, store=self.store, metrics=Metrics("reconciler"), wallet=WALLET,
                interval_s=_EVERY_S, account_age_ns_max=10 * NS_PER_S,
            )  # fmt: skip
            service = Service(
                name="reconciler", state=State, decide=partial(decide, POLICY), evolve=evolve,
                inputs=lambda _: (),
            )  # fmt: skip
            ports = Ports(ledger=self.ledger, store=self.store, clock=self.clock)
            runner = LaneRunner(service, RECONCILER, Shell(POLICY, world), ports, Epoch(1))
            self.terms = await self.market(await self.open_market())
            serving = asyncio.create_task(runner.run())
            try:
                yield runner
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    # --- what is done -----------------------------------------------------------------------

    async def buy(self) -> None:
        """Buy ten shares of the first outcome and wait until nothing is in motion."""
        count = len(await self.of(OrderClosed))
        await self.approve(self.terms, ttl_s=5)

        async def closed() -> bool:
            return len(await self.of(OrderClosed)) > count and await self.is_quiet()

        await eventually(closed)

    async def post(self, what: str, **body: Any) -> Any:
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{self.url}/admin/{what}", json=body)
            answer.raise_for_status()
            return answer.json()

    async def act(self, kind: str, size: str) -> None:
        """Split, merge or redeem by hand."""
        body = {"wallet": WALLET, "condition": self.terms.condition, "size": size}
        await self.post("activity", type=kind, **body)

    async def by_hand(self, side: str, size: str) -> None:
        body = {"wallet": WALLET, "condition": self.terms.condition, "outcome": 0}
        await self.post("trade-outside", side=side, size=size, **body)

    async def resolve(self, yes: str, no: str) -> None:
        await self.post("resolve", condition=self.terms.condition, payouts=[yes, no])

    def look(self) -> None:
        """Have the venue look at our dollars, as the executor does now and then."""
        self.session().look_at_cash()

    def session(self) -> Session:
        shell = self.executor._shell
        assert isinstance(shell, ExecutorShell)
        return shell._session

    async def tell(self, fill: OrderFilled, *, price: Price) -> None:
        """Have the user stream tell a fill of another name, as good as one that happened."""
        told = OwnFill(
            trade="never-heard-of", order=fill.order, condition=fill.condition, token=fill.token,
            side=fill.side, price=price, size=fill.size, settlement="CONFIRMED", taker=True,
            venue_ns=fill.venue_ns,
        )  # fmt: skip
        await self.session().lane.submit(told)

    # --- what is seen -----------------------------------------------------------------------

    async def said(self, kind: type[Any]) -> list[Any]:
        """Return the reconciler's facts of a kind."""
        head = await self.ledger.head()
        runs = [r async for r in self.ledger.read((RECONCILER.subjects,), after=0, until=head)]
        facts = [fact for run in runs for entry in run if entry.batch for fact in entry.batch.facts]
        return [fact for fact in facts if isinstance(fact, kind)]

    def believed(self) -> PositionsView:
        return positions_view(self.executor.state, WALLET)

    def held(self) -> dict[int, int]:
        """Return shares by outcome, claims not counted, where there are any."""
        return {p.outcome: p.shares for p in self.believed().positions if p.shares}

    async def is_quiet(self) -> bool:
        view = self.believed()
        assert not view.orders
        assert not any(p.unsettled for p in view.positions)
        assert view.cash is not None
        return True

    async def drift(self) -> DriftView:
        data = self.store.views.get(DRIFT)
        assert data is not None
        view = decode(data, DriftView)
        assert view is not None
        return view

    async def is_in_step(self) -> bool:
        """Tell whether the reconciler sees no difference at all, in cash neither, by a new look."""
        view = await self.drift()
        assert not view.lines, view.lines
        believed = self.believed()
        assert decode(self.store.views[POSITIONS], PositionsView) == believed, "not shown yet"
        changed = [believed.cash_changed_ns, *(p.changed_ns for p in believed.positions)]
        return view.as_of_ns > max(changed)

    async def found(self, count: int) -> dict[str, list[str]]:
        """Wait for so many drifts and for agreement after them; return causes by token."""

        async def done() -> bool:
            assert len(await self.said(DriftFound)) >= count, await self.said(DriftFound)
            return await self.is_in_step()

        await eventually(done, deadline_s=20)
        causes: dict[str, list[str]] = {}
        for fact in await self.said(DriftFound):
            causes.setdefault(fact.token, []).append(fact.probable_cause)
        return causes
