"""Reads belief and venue at the same time, over and over."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.reconciler.causes import Known, by_market
from services.reconciler.comparing import Observation, Policy, difference
from services.reconciler.core import State, view
from services.reconciler.ends import Ends
from shared.domain.freshness import age_ns
from shared.domain.ids import COLLATERAL, OrderHash, TokenId, Wallet
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_S, Shares
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    POSITIONS,
    RISK,
    AccountView,
    PositionsView,
    RiskView,
    decode,
    encode,
)
from shared.polymarket.errors import VenueError
from shared.polymarket.public import PublicVenue
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell

_LATELY_NS: Final = 3_600 * NS_PER_S  # how far back a cause is looked for
_logger = logging.getLogger(__name__)


class Shell(QuietShell[State]):
    def __init__(
        self,
        policy: Policy,
        venue: PublicVenue,
        store: Store,
        *,
        wallet: Wallet,
        interval_s: float,
        account_age_ns_max: int,
    ) -> None:
        self._policy, self._venue, self._store = policy, venue, store
        self._wallet, self._interval_s = wallet, interval_s
        self._account_age_ns_max = account_age_ns_max
        self._agreed: dict[TokenId, tuple[Shares, Shares, int]] = {}
        self._resting: set[OrderHash] = set()
        self._told: set[TokenId] = set()
        self._ends = Ends(venue)
        self._latest: Observation | None = None

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._lane = lane
        lane.spawn(self._watch())

    async def _watch(self) -> None:
        while True:
            try:
                observation = await self._observe()
            except (VenueError, StoreAwayError) as e:
                log(_logger, logging.WARNING, "observation_failed", reason=str(e))
            else:
                if observation is not None:
                    await self._lane.submit(observation)
            await asyncio.sleep(self._interval_s)

    async def _observe(self) -> Observation | None:
        """Read the venue between two reads of belief: what moved meanwhile is not compared."""
        (before,) = await self._store.read_views([POSITIONS])
        observed = await self._venue.positions(self._wallet)
        after, account, risk = await self._store.read_views([POSITIONS, ACCOUNT, RISK])
        believed = decode(after, PositionsView)
        told = decode(account, AccountView)
        booked = decode(risk, RiskView)
        if believed is None or before != after or told is None:
            return None
        if age_ns(told.as_of_ns, self._lane.clock.now_ns()) > self._account_age_ns_max:
            log(_logger, logging.WARNING, "executor_behind", reason="it has not read its fills")
            return None  # its belief may lack fills it will still book: a correction would double
        resting = {order.order: order for order in told.orders}
        both = tuple(order for name, order in resting.items() if name in self._resting)
        self._resting = set(resting)
        seen = Observation(
            as_of_ns=self._lane.clock.now_ns(),
            believed=believed,
            observed=tuple(observed),
            open_orders=both,  # one just posted is not an orphan: it must be seen twice
            collateral=told.collateral,
            collateral_ns=told.as_of_ns,
            booked=frozenset(held.condition for held in (booked.held if booked else ())),
        )
        seen = await self._ends.look(self._policy, seen)
        agreed = self._count(seen)
        due = {token for token, times in agreed.items() if times >= self._policy.confirmations}
        known = await self._explain(seen, due, told) if due - self._told else {}
        self._told = due  # what was told with its cause is not read about again and again
        return msgspec.structs.replace(seen, agreed=agreed, known=known)

    async def _explain(
        self, seen: Observation, tokens: set[TokenId], account: AccountView
    ) -> dict[TokenId, Known]:
        """Read what the venue tells of the account lately; nothing where it cannot be read."""
        gaps = difference(self._policy, seen)
        markets = {each.token: each.condition for each in gaps if each.token in tokens}
        start_s = (seen.as_of_ns - _LATELY_NS) // NS_PER_S
        rows: list[Activity] = []
        try:
            async for page in self._venue.activity(self._wallet, start_s=start_s):
                rows += [row for row in page.rows if isinstance(row, Activity)]
        except VenueError as e:
            log(_logger, logging.WARNING, "account_unread", reason=str(e))
            return {}
        of_market = by_market(rows)
        return {
            token: Known(
                rows=tuple(rows) if token == COLLATERAL else of_market.get(markets[token], ()),
                outside=account.outside,
                unlisted=account.unlisted,
                payouts=seen.payouts.get(markets[token]),
            )
            for token in tokens
        }

    def _count(self, seen: Observation) -> dict[TokenId, int]:
        """Count how many observations in a row showed each difference as it is now."""
        now: dict[TokenId, tuple[Shares, Shares, int]] = {}
        for entry in difference(self._policy, seen):
            if entry.excused:
                continue
            believed, observed, times = self._agreed.get(entry.token, (Shares(0), Shares(0), 0))
            same = (believed, observed) == (entry.believed, entry.observed)
            now[entry.token] = (entry.believed, entry.observed, times + 1 if same else 1)
        self._agreed = now
        return {token: times for token, (_, _, times) in now.items()}

    async def prepare(self, state: State, message: Any) -> Any:
        if isinstance(message, Observation):
            self._latest = message
            await self._publish(state, message)
        return message

    async def _publish(self, state: State, message: Observation) -> None:
        try:
            await self._store.write_views({DRIFT: encode(view(self._policy, state, message))})
        except StoreAwayError as e:
            log(_logger, logging.WARNING, "store_away", reason=str(e))

    def views(self, state: State) -> Mapping[str, bytes]:
        if self._latest is None:
            return {}
        return {DRIFT: encode(view(self._policy, state, self._latest))}
