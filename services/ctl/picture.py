"""Everything a person asks of a running system at one moment, read from snapshots and views."""

import asyncio
from typing import Final, TypeVar

import msgspec

from shared.domain.ids import PARTITIONS, ConditionId, Wallet
from shared.domain.units import NS_PER_S, Shares, Usd
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    ENDPOINTS_PREFIX,
    FEEDS_PREFIX,
    POSITIONS,
    RISK,
    SURRENDERED,
    AccountView,
    DriftView,
    EndpointsView,
    ExposuresView,
    FeedsView,
    OpenOrderView,
    PositionsView,
    RiskView,
    decode,
    exposure_key,
)
from shared.runtime.clock import Clock
from shared.runtime.ports import Lane, Ledger, Store

_KEPT_NS: Final = 30 * NS_PER_S  # a process silent for longer is gone: an ingester is no feed
_SHARDED: Final = ("ingester", "aggregator")
_ACCOUNTED: Final = ("risk", "executor", "reconciler")
V = TypeVar("V", FeedsView, EndpointsView)
# Whom each service hears (its ``inputs``), as far as it hears the ledger at all.
HEARD: Final[dict[str, tuple[str, ...]]] = {
    "ingester": (),
    "aggregator": ("ingester", "ctl"),
    "risk": ("aggregator", "executor", "ctl"),
    "executor": ("risk", "reconciler", "ctl"),
    "reconciler": (),
}


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    epoch: int
    cursor: int
    said: int
    behind: int  # ledger sequences between what it heard and the newest it has to hear


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One leader in one market; None where one side knows nothing of it."""

    leader: Wallet
    condition: ConditionId
    exposure: Shares | None
    target: Shares | None
    held: Shares | None
    cost: Usd | None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    now_ns: int
    head: int
    risk: RiskView | None
    account: AccountView | None
    drift: DriftView | None
    feeds: tuple[FeedsView, ...]
    rows: tuple[Row, ...]
    lanes: tuple[LaneStatus, ...]
    held: PositionsView | None = None
    endpoints: tuple[EndpointsView, ...] = ()  # how the venue answers each of our processes

    @property
    def surrendered(self) -> tuple[OpenOrderView, ...]:
        """Return the orders whose end nobody could find."""
        orders = self.held.orders if self.held else ()
        return tuple(order for order in orders if order.status == SURRENDERED)


class Reader:
    """Reads pictures of one account's system."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        *,
        partition: int,
        clock: Clock,
    ) -> None:
        self._ledger, self._store = ledger, store
        self._partition, self._clock = partition, clock

    async def read(self, *, lanes: bool = True) -> Picture:
        """Return the picture now; ``lanes`` costs some forty questions to the ledger."""
        head = await self._ledger.head()
        keys = [RISK, ACCOUNT, DRIFT, POSITIONS]
        risk, account, drift, positions = await self._store.read_views(keys)
        risk_view = decode(risk, RiskView)
        return Picture(
            now_ns=self._clock.now_ns(),
            head=head,
            risk=risk_view,
            account=decode(account, AccountView),
            drift=decode(drift, DriftView),
            feeds=await self._newest(FEEDS_PREFIX, FeedsView),
            rows=joined(await self._exposures(), risk_view),
            lanes=await self._lanes() if lanes else (),
            held=decode(positions, PositionsView),
            endpoints=await self._newest(ENDPOINTS_PREFIX, EndpointsView),
        )

    async def _newest(self, prefix: str, kind: type[V]) -> tuple[V, ...]:
        """Return what each process says of itself; the newest however old, no others that ended."""
        keys = await self._store.find_views(prefix)
        told = await self._store.read_views(keys) if keys else []
        found = [view for data in told if (view := decode(data, kind)) is not None]
        found.sort(key=lambda view: view.as_of_ns, reverse=True)
        oldest_ns = self._clock.now_ns() - _KEPT_NS
        return tuple(v for at, v in enumerate(found) if at == 0 or v.as_of_ns >= oldest_ns)

    async def _exposures(self) -> list[ExposuresView]:
        keys = [exposure_key(partition) for partition in range(PARTITIONS)]
        found = [decode(data, ExposuresView) for data in await self._store.read_views(keys)]
        return [view for view in found if view is not None]

    def _partitions(self, service: str) -> tuple[int, ...]:
        if service == "ctl":
            return (0,)
        return tuple(range(PARTITIONS)) if service in _SHARDED else (self._partition,)

    async def _lanes(self) -> tuple[LaneStatus, ...]:
        sources = [Lane(s, p) for s in (*HEARD, "ctl") for p in self._partitions(s)]
        last = await asyncio.gather(*(self._ledger.last(lane) for lane in sources))
        ends = {lane: entry.seq if entry else 0 for lane, entry in zip(sources, last, strict=True)}
        lanes = [lane for lane in sources if lane.service != "ctl"]
        saved = await asyncio.gather(*(self._store.load(lane) for lane in lanes))
        return tuple(
            LaneStatus(
                name=lane.name,
                epoch=snapshot.epoch if snapshot else 0,
                cursor=snapshot.cursor if snapshot else 0,
                said=snapshot.said if snapshot else 0,
                behind=behind(lane, snapshot.cursor if snapshot else 0, ends),
            )
            for lane, snapshot in zip(lanes, saved, strict=True)
        )


def behind(lane: Lane, cursor: int, ends: dict[Lane, int]) -> int:
    """Return how far a lane's cursor is from the newest message that it has to hear."""
    shards = lane.service in _SHARDED
    newest = max(
        (
            seq
            for source, seq in ends.items()
            if source.service in HEARD[lane.service]
            and (not shards or source.service == "ctl" or source.partition == lane.partition)
        ),
        default=0,
    )
    return max(0, newest - cursor)


def joined(exposures: list[ExposuresView], risk: RiskView | None) -> tuple[Row, ...]:
    """Return leaders' exposures and our holdings side by side, the largest cost first."""
    theirs = {(line.leader, line.condition): line for view in exposures for line in view.exposures}
    ours = {(held.leader, held.condition): held for held in (risk.held if risk else ())}
    rows = []
    for key in theirs.keys() | ours.keys():
        line, held = theirs.get(key), ours.get(key)
        rows.append(
            Row(
                leader=key[0],
                condition=key[1],
                exposure=line.exposure if line else None,
                target=held.target if held else None,
                held=Shares(held.yes - held.no) if held else None,
                cost=held.cost if held else None,
            )
        )
    rows.sort(
        key=lambda row: (-(row.cost or 0), -abs(row.exposure or 0), row.condition, row.leader)
    )
    return tuple(rows)
