"""One lane of the ingester: a partition's leaders, read and heard for as long as it is ours."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

from services.ingester.core import State
from services.ingester.leaders import Snapshots
from services.ingester.reading import Reader
from services.ingester.resolutions import Watched
from services.ingester.world import World
from shared.domain.ids import partition_of
from shared.domain.messages import Fact, LeaderActed, LeaderFilled
from shared.domain.units import NS_PER_S
from shared.runtime.ports import Lane
from shared.runtime.runner import LaneHandle, QuietShell

T = TypeVar("T")


class Shell(QuietShell[State]):
    """One lane: its leaders' REST reads, and what the process's watchers have for it."""

    def __init__(self, lane: Lane, world: World) -> None:
        self._lane_id, self._poller = lane, world.poller
        self._hub, self._books = world.hub, world.books
        self._rereads, self._resolutions = world.rereads, world.resolutions
        self._leaders = [who for who in world.leaders if partition_of(who) == lane.partition]
        self._reader = Reader(world)
        self._snapshots = Snapshots(self._leaders, world.observatory, self._reader.read)

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._state, self._lane = state, lane
        self._reader.begin(state, lane)
        lane.spawn(self._live())

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        self._hub.recorded(self._lane_id.partition, facts)
        for fact in facts:
            if isinstance(fact, LeaderFilled | LeaderActed):
                self._books.want(fact.condition)
                self._poller.acted(fact.leader, fact.ts_ns)
            if isinstance(fact, LeaderActed) and fact.action == "REDEEM":
                self._resolutions.suspect(fact.condition)

    async def _live(self) -> None:
        """Take what the process hears for as long as the lane is ours, and read its leaders."""
        partition = self._lane_id.partition
        watched = Watched(self._state, self._lane)
        known = [leader.through_s for leader in self._state.leaders.values()]
        through_ns = max(known, default=0) * NS_PER_S  # the lane was alive until then
        with (
            _present(self._hub.lanes, partition, self._lane),
            _present(self._resolutions.lanes, partition, watched),
            _present(self._rereads.lanes, partition, self._snapshots),
            self._hub.reading(self._leaders),
            self._poller.polling(
                {leader: self._reader.quiet_ns(leader) for leader in self._leaders},
                self._reader.turn,
            ),
            self._hub.guarding(partition, through_ns=through_ns),
        ):
            if not self._leaders:
                await asyncio.Event().wait()
            await self._snapshots.run(self._state, self._lane)


@contextlib.contextmanager
def _present(lanes: dict[int, T], partition: int, mine: T) -> Iterator[None]:
    """Stand among a process's lanes; a lane given back and taken again is another one."""
    lanes[partition] = mine
    try:
        yield
    finally:
        if lanes.get(partition) is mine:
            del lanes[partition]
