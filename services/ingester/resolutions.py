"""Which markets are over and what they pay: signs come from anywhere, the answer from one place.

A resolution frame, terms that take no orders, a book that is gone and a redemption are signs. What
counts is the Data API's word on payouts, and it may come much later. As signs get lost, every open
market is asked about now and then without one.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from services.ingester.core import OPEN_MAX, Settled, State
from shared.domain.ids import ConditionId
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import Garbage, Rejected, VenueError
from shared.polymarket.parse import Resolution
from shared.polymarket.public import CONDITIONS_MAX, PublicVenue
from shared.runtime.clock import Clock
from shared.runtime.logs import log
from shared.runtime.runner import LaneHandle

_BAD_REQUEST: Final = 400
_AGAIN_NS: Final = 5 * NS_PER_S  # after the first question without an answer, then doubling
_AGAIN_NS_MAX: Final = 300 * NS_PER_S
_logger = logging.getLogger(__name__)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often the Data API is asked, whatever happens."""

    request_s: float = 1.0  # between two requests, of at most CONDITIONS_MAX markets each
    round_s: float = 600.0  # between two rounds of all open markets


class Watched(NamedTuple):
    """A lane that is told of its markets' ends."""

    state: State
    lane: LaneHandle


class _Sign(msgspec.Struct, frozen=True):
    due_ns: int
    delay_ns: int


class Resolutions:
    """Asks for all lanes of a process together."""

    def __init__(
        self,
        venue: PublicVenue,
        clock: Clock,
        bury: Callable[[str, str, str], None],
        *,
        pace: Pace | None = None,
    ) -> None:
        self._venue, self._clock, self._bury = venue, clock, bury
        self._pace = pace or Pace()
        self.lanes: dict[int, Watched] = {}
        self._signs: dict[ConditionId, _Sign] = {}
        self._round: list[ConditionId] = []
        self._next_round_ns = 0
        self._alone: dict[ConditionId, None] = {}  # of a question that was refused
        self._refused: set[ConditionId] = set()  # even alone, in this round

    def suspect(self, condition: ConditionId) -> None:
        """Take a sign that a market may be over; one that no leader of ours was in is ignored."""
        if condition not in self._signs and self._is_open(condition):
            self._signs[condition] = _Sign(due_ns=0, delay_ns=_AGAIN_NS)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            asked = self._next()
            if asked:
                await self._ask(asked)
            await asyncio.sleep(self._pace.request_s)

    def _is_open(self, condition: ConditionId) -> bool:
        return any(condition in watched.state.open for watched in self.lanes.values())

    def _next(self) -> list[ConditionId]:
        """Return what to ask about now: signs first, and the round fills up the question."""
        now_ns = self._clock.monotonic_ns()
        self._signs = {c: sign for c, sign in self._signs.items() if self._is_open(c)}
        while self._alone:
            condition = next(iter(self._alone))
            del self._alone[condition]
            if self._is_open(condition):
                return [condition]
        asked = [c for c, sign in self._signs.items() if sign.due_ns <= now_ns][:CONDITIONS_MAX]
        for condition in asked:
            delay_ns = self._signs[condition].delay_ns
            later = min(2 * delay_ns, _AGAIN_NS_MAX)
            self._signs[condition] = _Sign(due_ns=now_ns + delay_ns, delay_ns=later)
        if not self._round and now_ns >= self._next_round_ns:
            self._begin_round(now_ns)
        while self._round and len(asked) < CONDITIONS_MAX:
            condition = self._round.pop()
            if condition not in self._signs and self._is_open(condition):
                asked.append(condition)
        return [condition for condition in asked if condition not in self._refused]

    def _begin_round(self, now_ns: int) -> None:
        for partition, watched in self.lanes.items():
            if len(watched.state.open) >= OPEN_MAX:
                log(_logger, logging.WARNING, "too_many_open_markets", partition=partition)
        self._refused.clear()
        self._round = sorted({c for watched in self.lanes.values() for c in watched.state.open})
        if self._round:
            self._next_round_ns = now_ns + int(self._pace.round_s * NS_PER_S)

    async def _ask(self, asked: list[ConditionId]) -> None:
        try:
            answers = await self._venue.resolutions(asked)
        except VenueError as e:
            log(_logger, logging.WARNING, "resolution_unread", asked=len(asked), reason=str(e))
            if isinstance(e, Rejected) and e.status == _BAD_REQUEST:
                self._set_apart(asked)
            return
        for answer in answers:
            if isinstance(answer, Garbage):
                self._bury("resolutions", answer.reason, answer.excerpt)
            else:
                self._tell(answer)

    def _set_apart(self, asked: list[ConditionId]) -> None:
        """Find out which market of a refused question is to blame, and leave it for this round."""
        if len(asked) == 1:
            self._refused.update(asked)
        else:
            self._alone.update(dict.fromkeys(asked))

    def _tell(self, resolution: Resolution) -> None:
        """Hand a resolution to every lane that waits for it; a lane without room hears it again."""
        for partition, watched in self.lanes.items():
            if resolution.condition not in watched.state.open:
                continue
            settled = Settled(
                partition=partition,
                condition=resolution.condition,
                payouts=resolution.payouts,
                seen_ns=self._clock.now_ns(),
            )
            if not watched.lane.offer(settled):
                self.suspect(resolution.condition)
