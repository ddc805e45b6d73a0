"""Reads belief and venue at the same time, over and over."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.reconciler.causes import Known, by_market
from services.reconciler.comparing import Observation, Policy, difference
from services.reconciler.core import State, view
from services.reconciler.ends import Ends
from shared.domain.freshness import age_ns
from shared.domain.ids import COLLATERAL, OrderHash, TokenId, Wallet
from shared.domain.messages import DriftCleared, DriftFound, DriftSuspected, Fact
from shared.domain.observations import Activity
from shared.domain.units import MICRO, NS_PER_S, Shares
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
from shared.runtime.metrics import CORRECTED, DETECTED, DRIFT_USD, Metrics
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell

_LATELY_NS: Final = 3_600 * NS_PER_S  # how far back a cause is looked for
_logger = logging.getLogger(__name__)


class _Agreed(NamedTuple):
    believed: Shares
    observed: Shares
    first_ns: int  # of the observation that showed it first
    times: int


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell is built from."""

    venue: PublicVenue
    store: Store
    metrics: Metrics
    wallet: Wallet
    interval_s: float
    account_age_ns_max: int  # an older account view may lack fills that will still be booked


class Shell(QuietShell[State]):
    def __init__(self, policy: Policy, world: World) -> None:
        self._policy, self._world = policy, world
        self._venue, self._store = world.venue, world.store
        self._agreed: dict[TokenId, _Agreed] = {}
        self._resting: set[OrderHash] = set()
        self._told: set[TokenId] = set()
        self._ends = Ends(world.venue)
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
            await asyncio.sleep(self._world.interval_s)

    async def _observe(self) -> Observation | None:
        """Read the venue between two reads of belief: what moved meanwhile is not compared."""
        (before,) = await self._store.read_views([POSITIONS])
        observed = await self._venue.positions(self._world.wallet)
        after, account, risk = await self._store.read_views([POSITIONS, ACCOUNT, RISK])
        believed = decode(after, PositionsView)
        told = decode(account, AccountView)
        booked = decode(risk, RiskView)
        if believed is None or before != after or told is None:
            return None
        if age_ns(told.as_of_ns, self._lane.clock.now_ns()) > self._world.account_age_ns_max:
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
            account_ns=told.as_of_ns,
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
            async for page in self._venue.activity(self._world.wallet, start_s=start_s):
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
        """Count how many observations in a row showed each difference as it is now.

        One confirms only if the account in it was read after the first: what explains the
        difference, as a trade by hand, is in the account by then.
        """
        now: dict[TokenId, _Agreed] = {}
        for entry in difference(self._policy, seen):
            if entry.excused:
                continue
            before = self._agreed.get(entry.token)
            if before is None or before[:2] != (entry.believed, entry.observed):
                now[entry.token] = _Agreed(entry.believed, entry.observed, seen.as_of_ns, 1)
            else:
                newer = seen.account_ns >= before.first_ns
                now[entry.token] = before._replace(times=before.times + newer)
        self._agreed = now
        return {token: each.times for token, each in now.items()}

    async def prepare(self, state: State, message: Any) -> Any:
        if isinstance(message, Observation):
            self._latest = message
            await self._publish(state, message)
        return message

    async def _publish(self, state: State, message: Observation) -> None:
        shown = view(self._policy, state, message)
        self._world.metrics.stands_at(DRIFT_USD, shown.drift_usd / MICRO)
        try:
            await self._store.write_views({DRIFT: encode(shown)})
        except StoreAwayError as e:
            log(_logger, logging.WARNING, "store_away", reason=str(e))

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        for fact in facts:
            match fact:
                case DriftSuspected():
                    self._told.discard(fact.token)  # suspected anew, it is explained anew
                case DriftFound():
                    self._world.metrics.took(DETECTED, state.last_detect_ms / 1_000)
                case DriftCleared(found=True):
                    self._world.metrics.took(CORRECTED, fact.duration_ms / 1_000)
                case _:
                    pass

    def views(self, state: State) -> Mapping[str, bytes]:
        if self._latest is None:
            return {}
        return {DRIFT: encode(view(self._policy, state, self._latest))}
