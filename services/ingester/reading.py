"""One lane's reads of its leaders over REST: everything since the cursor, oldest first."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from services.ingester.core import (
    Baseline,
    Policy,
    RestRows,
    State,
    is_from_the_future,
    read_from_s,
    row_key,
)
from services.ingester.leaders import holdings_of
from services.ingester.world import World
from shared.domain.ids import Wallet
from shared.domain.observations import Activity, PositionReport
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import Garbage
from shared.runtime.logs import log
from shared.runtime.runner import LaneHandle

_BASELINE_TRIES: Final = 5
_BASELINE_QUIET_S: Final = 15  # positions may lag activity by this much
_logger = logging.getLogger(__name__)


class Reader:
    """Reads the leaders of one lane and hands what they did to its core."""

    def __init__(self, world: World) -> None:
        self._venue, self._dead, self._hub = world.venue, world.dead, world.hub
        self._settings = world.settings
        self._policy = Policy(overlap_s=world.settings.poll_overlap_s)

    def begin(self, state: State, lane: LaneHandle) -> None:
        """Work for a lane that is ours from now on."""
        self._state, self._lane, self._clock = state, lane, lane.clock

    async def read(self, leader: Wallet) -> None:
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


def _second(row: Activity) -> int:
    return row.venue_ns // NS_PER_S
