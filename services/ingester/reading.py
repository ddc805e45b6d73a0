"""One lane's reads of its leaders over REST: everything since the cursor, oldest first, in turns.

A read is evidence of what it shows, and of nothing else, unless it is fresh: an answer from a cache
and an index that shows less than it did are heard, but move no cursor and count as no read.
"""

import contextlib
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from services.ingester.core import (
    Baseline,
    Feed,
    Policy,
    RestRows,
    State,
    is_from_the_future,
    read_from_s,
    row_key,
)
from services.ingester.leaders import holdings_of
from services.ingester.polling import Turn
from services.ingester.world import World
from shared.domain.ids import Wallet, content_id
from shared.domain.messages import FeedChanged
from shared.domain.observations import Activity, PositionReport
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import Garbage, Outdated
from shared.polymarket.public import ACTIVITY
from shared.runtime.logs import log
from shared.runtime.runner import LaneHandle

TURN_PAGES: Final = 4  # of 500 rows, that a leader reads before the others have their turns
SECOND_PAGES_MAX: Final = 50  # of one second of one leader; what is beyond is a gap
BACK_MAX: Final = 20  # times in a row that the index may show less, before it is believed
_BASELINE_TRIES: Final = 5
_BASELINE_QUIET_S: Final = 15  # positions may lag activity by this much
_AT_ONCE_NS: Final = 0
_logger = logging.getLogger(__name__)


class Slice(msgspec.Struct, kw_only=True):
    """One listing of a leader's activity from ``from_s`` on, as far as it was read."""

    from_s: int
    shown_s: int  # the newest second that was read before it was asked for
    newest_s: int = 0
    pages: int = 0
    fresh: bool = True  # False: some of it was from a cache
    ended: bool = False  # the listing has no more than was read
    waiting: list[Activity] = []  # of the newest second, which may go on

    @property
    def is_enough(self) -> bool:
        """Tell whether to stop: after the pages of a turn, but within one second only at its end.

        The next listing begins with the newest second: whatever a turn's pages hold, it is
        narrower by all the seconds before.
        """
        within_one_second = self.newest_s <= self.from_s
        return self.pages >= (SECOND_PAGES_MAX if within_one_second else TURN_PAGES)


class Reader:
    """Reads the leaders of one lane and hands what they did to its core."""

    def __init__(self, world: World) -> None:
        self._venue, self._dead, self._hub = world.venue, world.dead, world.hub
        self._poller = world.poller
        self._settings = world.settings
        self._policy = Policy(overlap_s=world.settings.poll_overlap_s)
        self._resume_s: dict[Wallet, int] = {}  # where a read that takes several turns goes on
        self._shown_s: dict[Wallet, int] = {}  # the newest second that was read of each
        self._back: dict[Wallet, int] = {}  # reads in a row that showed less
        self._gaps: dict[Wallet, int] = {}  # a second of each that could not be read whole
        self._tries: dict[Wallet, int] = {}  # of his baseline

    def begin(self, state: State, lane: LaneHandle) -> None:
        """Work for a lane that is ours from now on."""
        self._state, self._lane, self._clock = state, lane, lane.clock

    def quiet_ns(self, leader: Wallet) -> int:
        """Return for how long a leader did nothing, as far as his cursor tells."""
        known = self._state.leaders.get(leader)
        if known is None:
            return 0
        newest_s = known.through_s + self._settings.poll_overlap_s
        return max(0, self._clock.now_ns() - newest_s * NS_PER_S)

    async def read(self, leader: Wallet) -> None:
        """Hand over all that a leader did since his cursor, or raise VenueError."""
        while (await self.turn(leader)).again_ns is not None:
            pass

    async def turn(self, leader: Wallet) -> Turn:
        """Hand over what a leader did since his cursor, whole seconds of it, as pages come.

        Equal rows share their second, so they are counted together; and a long absence is read in
        steps that last, a few pages a turn. How far a read is complete follows from the newest row
        and from what the index has, not from our clock alone: a clock that runs ahead would skip
        what he does until then.
        """
        known = self._state.leaders.get(leader)
        if known is None:
            return await self._begin(leader)
        begin_s = read_from_s(known, self._policy)
        part = Slice(
            from_s=max(begin_s, self._resume_s.pop(leader, 0)),
            shown_s=self._shown_s.get(leader, 0),
        )
        listing = self._venue.activity(leader, start_s=part.from_s)
        async with contextlib.aclosing(listing) as pages:
            async for page in pages:
                part.pages += 1
                part.fresh, part.ended = part.fresh and not page.is_old, page.is_last
                part.waiting += self._readable(leader, page.rows)
                part.newest_s = max((_second(row) for row in part.waiting), default=part.newest_s)
                whole = [row for row in part.waiting if _second(row) < part.newest_s]
                part.waiting = [row for row in part.waiting if _second(row) == part.newest_s]
                await self._tell(leader, whole, part)
                if part.is_enough:
                    break
        return await self._end(leader, part)

    async def _end(self, leader: Wallet, part: Slice) -> Turn:
        """Conclude from a slice what may be concluded."""
        newest_ns = part.newest_s * NS_PER_S
        if part.ended or not part.fresh:
            await self._tell(leader, part.waiting, part)
            self._must_be_evidence(leader, part)
            await self._close_gap(leader, part)
            return Turn(newest_ns=newest_ns)
        if part.newest_s > part.from_s:
            await self._close_gap(leader, part)
            self._resume_s[leader] = part.newest_s
        else:
            await self._tell(leader, part.waiting, part)
            await self._open_gap(leader, part)
            self._resume_s[leader] = part.from_s + 1
        return Turn(newest_ns=newest_ns, again_ns=_AT_ONCE_NS)

    def _must_be_evidence(self, leader: Wallet, part: Slice) -> None:
        """Raise Outdated unless what is not in a read did not happen, as far as the index goes.

        Every read overlaps the one before, so it shows its newest row again. Where an index shows
        less for long a row was taken back, and that is believed.
        """
        if not part.fresh:
            raise Outdated(ACTIVITY, "from a cache")
        newest_s = max(part.newest_s, part.from_s - 1)
        times = self._back.get(leader, 0)
        if newest_s < part.shown_s and times < BACK_MAX:
            self._back[leader] = times + 1
            self._poller.went_back += 1
            raise Outdated(ACTIVITY, f"newest row of {newest_s}, after one of {part.shown_s}")
        self._back.pop(leader, None)
        believed_s = 0 if newest_s < part.shown_s else self._shown_s.get(leader, 0)
        self._shown_s[leader] = max(newest_s, believed_s)

    async def _tell(self, leader: Wallet, rows: Sequence[Activity], part: Slice) -> None:
        if not rows:
            return
        known = self._state.leaders[leader]
        self._hub.rest_rows += sum(1 for row in rows if row_key(row) not in known.seen)
        now_ns = self._clock.now_ns()
        bounds = (part.newest_s, now_ns // NS_PER_S, self._indexed_s())
        through_s = min(s for s in bounds if s is not None) - self._settings.poll_overlap_s
        await self._lane.submit(
            RestRows(
                leader=leader,
                rows=tuple(rows),
                through_s=through_s if part.fresh else known.through_s,
                seen_ns=now_ns,
            )
        )

    async def _open_gap(self, leader: Wallet, part: Slice) -> None:
        """Say that a second holds more than is read of one: it may hide rows, this once."""
        if self._gaps.get(leader) == part.from_s:
            return
        self._gaps[leader] = part.from_s
        detail = f"more than {part.pages} pages of one second of {leader}"
        await self._say("gap", leader, part.from_s, detail)

    async def _close_gap(self, leader: Wallet, part: Slice) -> None:
        """Say that a second that could not be read whole was, if the slice went past it."""
        gap_s = self._gaps.get(leader)
        if gap_s is None or gap_s < part.from_s:
            return
        if part.ended or gap_s < part.newest_s:
            del self._gaps[leader]
            await self._say("resynced", leader, gap_s, f"{leader} was read past it")

    async def _say(self, state: str, leader: Wallet, from_s: int, detail: str) -> None:
        now_ns = self._clock.now_ns()
        id_ = content_id("feed_changed", "activity", state, leader, from_s, now_ns)
        log(_logger, logging.WARNING, f"activity_{state}", leader=leader, from_s=from_s)
        change = FeedChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=now_ns,
            feed="activity",
            state="gap" if state == "gap" else "resynced",
            detail=detail,
            from_ns=from_s * NS_PER_S,
            leader=leader,
        )
        await self._lane.submit(Feed(change=change))

    async def _rows(self, leader: Wallet, from_s: int) -> list[Activity]:
        rows: list[Activity] = []
        async for page in self._venue.activity(leader, start_s=from_s):
            if page.is_old:
                raise Outdated(ACTIVITY, "from a cache")
            rows += self._readable(leader, page.rows)
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

    async def _begin(self, leader: Wallet) -> Turn:
        """Read what a leader holds, at a moment when nothing of his is in flight.

        A busy one is tried again a few times, a second apart. With ``backfill_s`` his recent
        activity is counted instead, from an empty beginning.
        """
        now_ns = self._clock.now_ns()
        if self._settings.backfill_s:
            from_s = await self._now_s() - self._settings.backfill_s
            await self._lane.submit(self._baseline_of(leader, [], [], from_s=from_s))
            return Turn(newest_ns=now_ns)
        tries = self._tries.get(leader, 0) + 1
        from_s = await self._now_s() - self._settings.poll_overlap_s
        before = await self._rows(leader, from_s)
        positions = await self._venue.positions(leader)
        after = await self._rows(leader, from_s)
        newest_s = max((_second(row) for row in after), default=0)
        quiet_s = await self._now_s() - newest_s
        if len(before) != len(after) or quiet_s < _BASELINE_QUIET_S:
            if tries < _BASELINE_TRIES:
                self._tries[leader] = tries
                return Turn(newest_ns=now_ns, again_ns=NS_PER_S)
            log(_logger, logging.WARNING, "baseline_while_busy", leader=leader)
        self._tries.pop(leader, None)
        await self._lane.submit(self._baseline_of(leader, positions, after, from_s=from_s))
        return Turn(newest_ns=now_ns)

    async def _now_s(self) -> int:
        """Return up to when the venue shows all, by its own time if our clock is ahead of it."""
        now_s = min(self._clock.now_ns(), await self._venue.time()) // NS_PER_S
        indexed_s = self._indexed_s()
        return now_s if indexed_s is None else min(now_s, indexed_s)

    def _indexed_s(self) -> int | None:
        indexed_ns = self._poller.indexed_ns()
        return None if indexed_ns is None else indexed_ns // NS_PER_S

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
