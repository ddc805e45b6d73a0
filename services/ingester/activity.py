"""The process's activity stream: fast rows for the lanes that own their wallets, and its health."""

import contextlib
import logging
import random
from collections.abc import Iterator, Sequence
from typing import Literal

from services.ingester.core import Feed, StreamRow, is_from_the_future
from services.ingester.letters import DeadLetters
from shared.domain.ids import Wallet, content_id, partition_of
from shared.domain.messages import FeedChanged
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_MS
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.errors import Garbage
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.runner import LaneHandle

_logger = logging.getLogger(__name__)

FeedState = Literal["connected", "lost", "silent"]


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
