"""One lane of the ingester: a partition's leaders, read and heard for as long as it is ours."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from services.ingester.core import State
from services.ingester.leaders import Snapshots
from services.ingester.reading import Reader
from services.ingester.resolutions import Watched
from services.ingester.world import World
from shared.domain.ids import partition_of
from shared.domain.messages import Fact, LeaderActed, LeaderFilled
from shared.polymarket.errors import VenueError
from shared.runtime.logs import log
from shared.runtime.ports import Lane
from shared.runtime.runner import LaneHandle, QuietShell

_FAST_POLLS: Final = 5  # times faster while the stream is not to be trusted
_logger = logging.getLogger(__name__)

T = TypeVar("T")


class Shell(QuietShell[State]):
    """One lane: its leaders' REST reads, and what the process's watchers have for it."""

    def __init__(self, lane: Lane, world: World) -> None:
        self._lane_id, self._settings = lane, world.settings
        self._hub, self._books = world.hub, world.books
        self._rereads, self._resolutions = world.rereads, world.resolutions
        self._leaders = [who for who in world.leaders if partition_of(who) == lane.partition]
        self._reader = Reader(world)
        self._snapshots = Snapshots(self._leaders, world.observatory, self._reader.read)

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._state, self._lane, self._clock = state, lane, lane.clock
        self._reader.begin(state, lane)
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
            self._books.holding(partition),
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
                    await self._reader.read(leader)
                    self._hub.read_ns[leader] = self._clock.now_ns()
                except VenueError as e:
                    log(_logger, logging.WARNING, "read_failed", leader=leader, reason=str(e))
            healthy = self._hub.state == "connected"
            await asyncio.sleep(interval_s if healthy else interval_s / _FAST_POLLS)


@contextlib.contextmanager
def _present(lanes: dict[int, T], partition: int, mine: T) -> Iterator[None]:
    """Stand among a process's lanes; a lane given back and taken again is another one."""
    lanes[partition] = mine
    try:
        yield
    finally:
        if lanes.get(partition) is mine:
            del lanes[partition]
