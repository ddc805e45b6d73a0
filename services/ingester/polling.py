"""The process's reads of leaders over REST: in the schedule's order, as fast as the venue bears."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import msgspec

from services.ingester.activity import ActivityHub, FeedState
from services.ingester.schedule import Followed, Pace, Schedule
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import FEEDS_PREFIX, FeedsView, FeedView, decode
from shared.polymarket.errors import VenueError
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import ACTIVITY, POSITIONS, PublicVenue
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError

AT_ONCE: Final = 16  # leaders being read at a time; their snapshots, two at a time, come on top
_POLLS_NUM: Final = 8  # eight parts ...
_POLLS_DEN: Final = 9  # ... of nine of the rate are polls, where both wait in one line
_LOOK_S: Final = 0.25  # how often the stream's state is looked at
_COUNT_EVERY_S: Final = 10.0  # how often the ingesters that share the venue's limits are counted
_ROUSE_SLACK_NS: Final = 1 * NS_PER_S  # the index's lag is not the same at every moment
_PRESENT_NS: Final = 10 * NS_PER_S  # an ingester that has said nothing for longer is gone
_STATUS_MISSED_MAX: Final = 3  # of the index's status, before its lag counts as unknown
_LATE_NS_MAX: Final = 15 * NS_PER_S  # beyond the bound, for a read takes time: somebody is unread
_LAST_WORD_NS: Final = 30 * NS_PER_S  # reads that fail for longer: the Data API is lost
_logger = logging.getLogger(__name__)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader's turn ended that went well."""

    newest_ns: int = 0  # venue time of what he did last; 0: he did nothing that was shown
    again_ns: int | None = None  # when he has to be read on; None: all was read


TakeTurn = Callable[[Wallet], Awaitable[Turn]]  # raises VenueError where nothing can be concluded


def data_api_limits(settings: IngesterConfig) -> dict[str, int]:
    """Return how many requests an endpoint may get in ten seconds: both have the same limit."""
    return dict.fromkeys((ACTIVITY, POSITIONS), settings.activity_reads_per_10s)


def pace_of(settings: IngesterConfig) -> Pace:
    """Return the intervals; where two contradict each other ``poll_interval_ms`` counts."""
    active_ms = settings.poll_interval_ms
    return Pace(
        fast_ns=min(settings.poll_fast_ms, active_ms) * NS_PER_MS,
        active_ns=active_ms * NS_PER_MS,
        idle_ns=max(settings.poll_idle_ms, active_ms) * NS_PER_MS,
    )


class Poller:
    """Gives each leader of the process his turns, for as long as his lane is ours."""

    def __init__(
        self,
        hub: ActivityHub,
        venue: PublicVenue,
        clock: Clock,
        *,
        settings: IngesterConfig,
        pacer: Pacer,
        store: Store,
    ) -> None:
        self._hub, self._venue, self._clock = hub, venue, clock
        self._settings, self._pacer, self._store = settings, pacer, store
        self._schedule = Schedule(pace_of(settings), per_10s=self._rate())
        self._turns: dict[Wallet, TakeTurn] = {}
        self._running: dict[Followed, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._lag_ns: int | None = None
        self._status_ns = 0  # wall time of the last status
        self._answered_ns = 0  # wall time at which the last turn that went well ended
        self._trying_ns = 0  # monotonic, since when no turn went well; 0: the last one did
        self._processes = 1
        self._rouse_ns = 0  # monotonic: when everybody is roused again; 0: nothing is waited for
        self.went_back = 0  # reads that showed less than earlier ones

    @contextlib.contextmanager
    def polling(self, quiet_ns: Mapping[Wallet, int], turn: TakeTurn) -> Iterator[None]:
        """Read a lane's leaders, each quiet for so long already, until the lane is given back."""
        now_ns = self._clock.monotonic_ns()
        mine: list[Followed] = []
        for leader, quiet in quiet_ns.items():
            self._turns[leader] = turn
            mine.append(self._schedule.follow(leader, quiet_ns=quiet, now_ns=now_ns))
        self._rouse_later(now_ns)
        self._wake.set()
        try:
            yield
        finally:
            for followed in mine:
                self._schedule.drop(followed)
                if self._turns.get(followed.leader) is turn:
                    del self._turns[followed.leader]
                running = self._running.pop(followed, None)
                if running is not None:
                    running.cancel()

    def acted(self, leader: Wallet, venue_ns: int) -> None:
        """Hear, from whichever source, that a leader did something at a time of the venue's."""
        quiet_ns = max(0, self._clock.now_ns() - venue_ns)
        self._schedule.acted(leader, quiet_ns=quiet_ns, now_ns=self._clock.monotonic_ns())

    def rouse(self) -> None:
        """Read everybody once as soon as the venue bears it: something may have been missed."""
        self._schedule.rouse(self._clock.monotonic_ns())
        self._wake.set()

    def indexed_ns(self) -> int | None:
        """Return up to when the venue's index has everything; None where it does not say."""
        kept_ns = _STATUS_MISSED_MAX * self._settings.status_every_s * NS_PER_S
        if self._lag_ns is None or self._clock.now_ns() - self._status_ns > kept_ns:
            return None
        return self._status_ns - self._lag_ns

    def feeds(self) -> tuple[FeedView, FeedView]:
        """Return what people and risk see: how old the reads are, how the Data API does."""
        oldest_ns = self._hub.oldest_read_ns()
        bound_ns = self._schedule.bound_ns()
        late_ns = self._clock.now_ns() - oldest_ns - bound_ns - (self._lag_ns or 0)
        if self._hub.state != "connected":  # until it fell silent the stream told of everybody
            oldest_ns = max(oldest_ns, self._hub.heard_ns)
        polls = FeedView(
            name="polls",
            state="silent" if late_ns > _LATE_NS_MAX else "connected",
            heard_ns=oldest_ns,
            detail=f"{len(self._schedule)} leaders, each within {bound_ns / NS_PER_S:.0f} s",
        )
        return polls, self._data_api()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_index())
            group.create_task(self._share())
            await self._serve(group)

    async def _serve(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            self._look()
            now_ns = self._clock.monotonic_ns()
            while len(self._running) < AT_ONCE:
                followed = self._schedule.pick(now_ns)
                if followed is None:
                    break
                turn = self._turns[followed.leader]
                task = group.create_task(self._take(followed, turn))
                self._running[followed] = task
            wait_ns = self._schedule.wait_ns(now_ns)
            full = len(self._running) >= AT_ONCE
            wait_s = _LOOK_S if full or wait_ns is None else min(wait_ns / NS_PER_S, _LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _look(self) -> None:
        """Take the stream's state and the venue's rate as they are now."""
        healthy = self._hub.state == "connected"
        self._schedule.per_10s = self._rate()
        now_ns = self._clock.monotonic_ns()
        if healthy != self._schedule.healthy:
            self._schedule.healthy = healthy
            self._schedule.rouse(now_ns)
            self._rouse_later(now_ns)
        if 0 < self._rouse_ns <= now_ns:
            self._rouse_ns = 0
            self._schedule.rouse(now_ns)

    def _rouse_later(self, now_ns: int) -> None:
        """Read everybody once more when the index must show all that was missed until now."""
        index_lag_ns = self._settings.index_lag_ms * NS_PER_MS + (self._lag_ns or 0)
        self._rouse_ns = now_ns + index_lag_ns + _ROUSE_SLACK_NS

    def _rate(self) -> int:
        """Return how many polls may be made in ten seconds."""
        return max(1, self._pacer.rate(ACTIVITY) * _POLLS_NUM // _POLLS_DEN)

    async def _take(self, followed: Followed, take: TakeTurn) -> None:
        leader, began_ns = followed.leader, self._clock.now_ns()
        try:
            turn = await take(leader)
        except VenueError as e:
            log(_logger, logging.WARNING, "read_failed", leader=leader, reason=str(e))
            self._trying_ns = self._trying_ns or self._clock.monotonic_ns()
            self._schedule.failed(followed, self._clock.monotonic_ns())
        else:
            self._went_well(followed, turn, began_ns)
        self._running.pop(followed, None)
        self._wake.set()

    def _went_well(self, followed: Followed, turn: Turn, began_ns: int) -> None:
        now_ns = self._clock.monotonic_ns()
        self._answered_ns, self._trying_ns = self._clock.now_ns(), 0
        if turn.newest_ns:
            self.acted(followed.leader, turn.newest_ns)
        self._schedule.done(followed, now_ns, again_ns=turn.again_ns)
        if turn.again_ns is None and followed.leader in self._hub.read_ns:
            lag_ns = 0 if self.indexed_ns() is None else self._lag_ns or 0
            before_ns = self._hub.read_ns[followed.leader]
            self._hub.read_ns[followed.leader] = max(before_ns, began_ns - lag_ns)

    async def _watch_index(self) -> None:
        """Ask how far the index is behind; a venue that does not say leaves it unknown."""
        while True:
            try:
                self._lag_ns = await self._venue.index_lag_ns()
                self._status_ns = self._clock.now_ns()
            except VenueError as e:
                log(_logger, logging.INFO, "index_status_unread", reason=str(e))
            await asyncio.sleep(self._settings.status_every_s)

    async def _share(self) -> None:
        """Divide the venue's limits among the ingesters that are alive."""
        while True:
            try:
                self._processes = await self._count()
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))
            self._pacer.share(self._processes)
            await asyncio.sleep(_COUNT_EVERY_S)

    async def _count(self) -> int:
        keys = await self._store.find_views(FEEDS_PREFIX)
        found = await self._store.read_views(keys) if keys else []
        told = [view.as_of_ns for data in found if (view := decode(data, FeedsView)) is not None]
        newest_ns = max(told, default=0)
        return max(1, sum(1 for as_of_ns in told if newest_ns - as_of_ns <= _PRESENT_NS))

    def _data_api(self) -> FeedView:
        throttle = self._pacer.of(ACTIVITY)
        trying_ns = self._clock.monotonic_ns() - self._trying_ns if self._trying_ns else 0
        said = [throttle.describe()]
        if self.indexed_ns() is None:
            said.append("index lag unknown")
        elif self._lag_ns:
            said.append(f"index {self._lag_ns / NS_PER_S:.0f} s behind")
        if self._venue.old_answers:
            said.append(f"{self._venue.old_answers} answers from caches")
        if self.went_back:
            said.append(f"{self.went_back} reads went back")
        state: FeedState = "silent" if throttle.is_throttled else "connected"
        return FeedView(
            name="data-api",
            state="lost" if trying_ns > _LAST_WORD_NS else state,
            heard_ns=max(self._answered_ns, self._status_ns),
            detail="; ".join(part for part in said if part),
        )
