"""Leaders' activity from two sources into one core: the stream pushes, REST polls and counts."""

import asyncio
import contextlib
import logging
import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from services.ingester.books import BookKeeper
from services.ingester.core import (
    Baseline,
    Feed,
    Policy,
    RestRows,
    State,
    StreamRow,
    is_from_the_future,
    read_from_s,
    row_key,
)
from services.ingester.leaders import Observatory, Rereads, Snapshots, holdings_of
from services.ingester.resolutions import Resolutions, Watched
from shared.domain.ids import Wallet, content_id, partition_of
from shared.domain.messages import (
    Fact,
    FeedChanged,
    LeaderActed,
    LeaderFilled,
)
from shared.domain.observations import Activity, PositionReport
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import FeedsView, FeedView, encode, feed_key
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.errors import Garbage, VenueError
from shared.polymarket.public import PublicVenue
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.ports import Lane, Ledger, Store, StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell

_BASELINE_TRIES: Final = 5
_BASELINE_QUIET_S: Final = 15  # positions may lag activity by this much
_FAST_POLLS: Final = 5  # times faster while the stream is not to be trusted
_BURIED_MAX: Final = 1_000
_NO_LANE: Final = Lane("ingester", 0)  # dead letters of the process, not of one lane
_logger = logging.getLogger(__name__)

T = TypeVar("T")
FeedState = Literal["connected", "lost", "silent"]


class DeadLetters:
    """Keeps what could not be read or believed, each thing once, however often it is served."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: OrderedDict[str, None] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self.count = 0

    def bury(self, source: str, reason: str, excerpt: str) -> None:
        """Take something out of the flow, with the reason; it is counted every time."""
        self.count += 1
        name = content_id("garbage", source, reason, excerpt)
        if name in self._known or self._waiting.qsize() >= _BURIED_MAX:
            return
        self._known[name] = None
        if len(self._known) > _BURIED_MAX:
            self._known.popitem(last=False)
        log(_logger, logging.WARNING, "dead_letter", source=source, reason=reason)
        self._waiting.put_nowait((source, reason, excerpt))

    async def run(self) -> None:
        while True:
            source, reason, excerpt = await self._waiting.get()
            await self._ledger.dead_letter(
                _NO_LANE, reason=reason, data=excerpt.encode(), source=source
            )


class ActivityHub:
    """The process's one activity stream: hands each leader's rows to the lane that owns him."""

    def __init__(
        self,
        leaders: Sequence[Wallet],
        clock: Clock,
        dead: DeadLetters,
        *,
        settings: IngesterConfig,
        url: str,
    ) -> None:
        self._partitions = {leader: partition_of(leader) for leader in leaders}
        self._clock, self._settings, self._url = clock, settings, url
        self._dead = dead
        self._feed = ActivityFeed()
        self.lanes: dict[int, LaneHandle] = {}
        self.state: FeedState = "lost"
        self.heard_ns = 0
        self._since_ns = clock.now_ns()
        self.rows = 0
        self.rest_rows = 0
        self.read_ns: dict[Wallet, int] = {}  # when each leader of our lanes was last polled

    @contextlib.contextmanager
    def reading(self, leaders: Sequence[Wallet]) -> Iterator[None]:
        """Count the time since leaders were read for as long as their lane is ours."""
        self.read_ns |= dict.fromkeys(leaders, self._clock.now_ns())
        try:
            yield
        finally:
            for leader in leaders:
                self.read_ns.pop(leader, None)

    def oldest_read_ns(self) -> int:
        return min(self.read_ns.values(), default=self._clock.now_ns())

    async def run(self) -> None:
        host: Host[Activity | Garbage] = Host(
            now_ns=self._clock.now_ns,
            event=self._heard,
            connected=lambda: self._became("connected", ""),
            lost=lambda reason: self._became("lost", reason),
        )
        pace = Pace(ping_s=5.0, silence_s_max=self._settings.activity_silence_s)
        await pump(
            self._url,
            self._feed,
            host=host,
            rng=random.Random(),  # noqa: S311 - jitter
            pace=pace,
        )

    def _heard(self, event: Activity | Garbage) -> None:
        now_ns = self.heard_ns = self._clock.now_ns()
        if isinstance(event, Garbage):
            self._dead.bury("activity stream", event.reason, event.excerpt)
            return
        if is_from_the_future(event, now_ns):
            self._dead.bury("activity stream", "stamped in the future", repr(event))
            return
        lane = self.lanes.get(self._partitions.get(event.wallet, -1))
        if lane is not None:
            self.rows += 1
            if not lane.offer(StreamRow(row=event, seen_ns=now_ns)):
                log(_logger, logging.WARNING, "row_left_to_rest", leader=event.wallet)

    def _became(self, state: FeedState, detail: str) -> None:
        now_ns = self._clock.now_ns()
        before, self.state = self.state, state
        if before == state or not self.lanes:
            return
        duration_ms = (now_ns - self._since_ns) // NS_PER_MS
        self._since_ns = now_ns
        id_ = content_id("feed_changed", "activity", state, now_ns)
        change = FeedChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=now_ns,
            feed="activity",
            state=state,
            detail=detail[:200],
            duration_ms=duration_ms,
        )
        self.lanes[min(self.lanes)].offer(Feed(change=change))


class World(NamedTuple):
    """What the lanes of a process share."""

    hub: ActivityHub
    books: BookKeeper
    venue: PublicVenue
    dead: DeadLetters
    leaders: Sequence[Wallet]
    settings: IngesterConfig
    observatory: Observatory
    rereads: Rereads
    resolutions: Resolutions


class Shell(QuietShell[State]):
    """One lane: its leaders' REST reads, and what the process's watchers have for it."""

    def __init__(self, lane: Lane, world: World) -> None:
        self._lane_id, self._settings = lane, world.settings
        self._hub, self._books = world.hub, world.books
        self._venue, self._dead = world.venue, world.dead
        self._rereads, self._resolutions = world.rereads, world.resolutions
        self._leaders = [who for who in world.leaders if partition_of(who) == lane.partition]
        self._policy = Policy(overlap_s=world.settings.poll_overlap_s)
        self._snapshots = Snapshots(self._leaders, world.observatory, self._read)

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._state, self._lane, self._clock = state, lane, lane.clock
        lane.spawn(self._live())

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, LeaderFilled | LeaderActed):
                self._books.want(fact.condition)
            if isinstance(fact, LeaderActed) and fact.action == "REDEEM":
                self._resolutions.suspect(fact.condition)

    async def _live(self) -> None:
        """Take what the process hears for as long as the lane is ours, and read its leaders."""
        partition = self._lane_id.partition
        watched = Watched(self._state, self._lane)
        with (
            _present(self._hub.lanes, partition, self._lane),
            _present(self._resolutions.lanes, partition, watched),
            _present(self._rereads.lanes, partition, self._snapshots),
            self._hub.reading(self._leaders),
        ):
            if not self._leaders:
                await asyncio.Event().wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._poll())
                group.create_task(self._snapshots.run(self._state, self._lane))

    async def _poll(self) -> None:
        """Read every leader in turn, at a pace that rises while the stream is suspect."""
        interval_s = self._settings.poll_interval_ms / 1_000
        while True:
            for leader in self._leaders:
                try:
                    await self._read(leader)
                    self._hub.read_ns[leader] = self._clock.now_ns()
                except VenueError as e:
                    log(_logger, logging.WARNING, "read_failed", leader=leader, reason=str(e))
            healthy = self._hub.state == "connected"
            await asyncio.sleep(interval_s if healthy else interval_s / _FAST_POLLS)

    async def _read(self, leader: Wallet) -> None:
        """Hand over what a leader did since his cursor, whole seconds of it, as pages come.

        Equal rows share their second, so they are counted together; and a long absence is read in
        steps that last. How far a read is complete follows from the newest row, not from our clock
        alone: a clock that runs ahead would skip what he does until then.
        """
        known = self._state.leaders.get(leader)
        if known is None:
            await self._lane.submit(await self._baseline(leader))
            return
        clock_s, newest_s = self._clock.now_ns() // NS_PER_S, 0
        waiting: list[Activity] = []
        async for page in self._venue.activity(leader, start_s=read_from_s(known, self._policy)):
            waiting += self._readable(leader, page)
            newest_s = max((_second(row) for row in waiting), default=newest_s)
            whole = [row for row in waiting if _second(row) < newest_s]
            waiting = [row for row in waiting if _second(row) == newest_s]
            await self._tell(leader, whole, newest_s=min(newest_s, clock_s))
        await self._tell(leader, waiting, newest_s=min(newest_s, clock_s))

    async def _tell(self, leader: Wallet, rows: Sequence[Activity], *, newest_s: int) -> None:
        if not rows:
            return
        known = self._state.leaders[leader]
        self._hub.rest_rows += sum(1 for row in rows if row_key(row) not in known.seen)
        await self._lane.submit(
            RestRows(
                leader=leader,
                rows=tuple(rows),
                through_s=newest_s - self._settings.poll_overlap_s,
                seen_ns=self._clock.now_ns(),
            )
        )

    async def _rows(self, leader: Wallet, from_s: int) -> list[Activity]:
        rows: list[Activity] = []
        async for page in self._venue.activity(leader, start_s=from_s):
            rows += self._readable(leader, page)
        return rows

    def _readable(self, leader: Wallet, page: Sequence[Activity | Garbage]) -> list[Activity]:
        rows: list[Activity] = []
        for row in page:
            if isinstance(row, Garbage):
                self._dead.bury(f"activity of {leader}", row.reason, row.excerpt)
            elif is_from_the_future(row, self._clock.now_ns()):
                self._dead.bury(f"activity of {leader}", "stamped in the future", repr(row))
            else:
                rows.append(row)
        return rows

    async def _baseline(self, leader: Wallet) -> Baseline:
        """Read what a leader holds, at a moment when nothing of his is in flight.

        With ``backfill_s`` his recent activity is counted instead, from an empty beginning.
        """
        if self._settings.backfill_s:
            from_s = await self._now_s() - self._settings.backfill_s
            return self._baseline_of(leader, [], [], from_s=from_s)
        tries = 0
        while True:
            tries += 1
            from_s = await self._now_s() - self._settings.poll_overlap_s
            before = await self._rows(leader, from_s)
            positions = await self._venue.positions(leader)
            after = await self._rows(leader, from_s)
            newest_s = max((row.venue_ns // NS_PER_S for row in after), default=0)
            quiet_s = await self._now_s() - newest_s
            if len(before) == len(after) and quiet_s >= _BASELINE_QUIET_S:
                break
            if tries == _BASELINE_TRIES:
                log(_logger, logging.WARNING, "baseline_while_busy", leader=leader)
                break
            await asyncio.sleep(1)
        return self._baseline_of(leader, positions, after, from_s=from_s)

    async def _now_s(self) -> int:
        """Return the time, the venue's if ours is ahead of it: rows carry the venue's."""
        return min(self._clock.now_ns(), await self._venue.time()) // NS_PER_S

    def _baseline_of(
        self,
        leader: Wallet,
        positions: Sequence[PositionReport],
        rows: Sequence[Activity],
        *,
        from_s: int,
    ) -> Baseline:
        return Baseline(
            leader=leader,
            holdings=holdings_of(leader, positions).lines,
            rows=tuple(rows),
            from_s=from_s,
            through_s=from_s,
            seen_ns=self._clock.now_ns(),
        )


@contextlib.contextmanager
def _present(lanes: dict[int, T], partition: int, mine: T) -> Iterator[None]:
    """Stand among a process's lanes; a lane given back and taken again is another one."""
    lanes[partition] = mine
    try:
        yield
    finally:
        if lanes.get(partition) is mine:
            del lanes[partition]


def _second(row: Activity) -> int:
    return row.venue_ns // NS_PER_S


class FeedReport:
    """Writes the age of every feed where people and ``driftless status`` look."""

    def __init__(self, world: World, store: Store, clock: Clock, instance: str) -> None:
        self._hub, self._books, self._dead = world.hub, world.books, world.dead
        self._store, self._clock, self._instance = store, clock, instance

    async def run(self) -> None:
        while True:
            trusted, untrusted = self._books.trust()
            view = FeedsView(
                as_of_ns=self._clock.now_ns(),
                feeds=(
                    FeedView(name="activity", state=self._hub.state, heard_ns=self._hub.heard_ns),
                    FeedView(
                        name="books",
                        state="connected" if self._books.is_connected else "lost",
                        heard_ns=self._books.heard_ns,
                    ),
                    FeedView(name="polls", state="connected", heard_ns=self._hub.oldest_read_ns()),
                ),
                books_trusted=trusted,
                books_untrusted=untrusted,
                stream_rows=self._hub.rows,
                rest_rows=self._hub.rest_rows,
                garbage=self._dead.count,
            )
            try:
                await self._store.write_views({feed_key(self._instance): encode(view)})
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))
            await asyncio.sleep(0.5)
