"""Which of the markets that we are in are over: asked in turn, those that differ first."""

import logging

import msgspec

from services.reconciler.comparing import Observation, Policy, difference
from shared.domain.ids import ConditionId
from shared.domain.units import Price
from shared.polymarket.errors import Garbage, VenueError
from shared.polymarket.public import CONDITIONS_MAX, PublicVenue
from shared.runtime.logs import log

_logger = logging.getLogger(__name__)


class Ends:
    """What ended markets pay, as long as we are in them; a settled market stays settled."""

    def __init__(self, venue: PublicVenue) -> None:
        self._venue = venue
        self._paid: dict[ConditionId, tuple[Price, Price]] = {}
        self._turn: list[ConditionId] = []  # those asked longest ago come first

    async def look(self, policy: Policy, seen: Observation) -> Observation:
        """Ask for some of the markets and return the observation with what is known of all."""
        held = {p.condition for p in seen.believed.positions if p.shares or p.claim} | seen.booked
        differ = {each.condition for each in difference(policy, seen) if each.condition}
        ours = held | differ
        self._paid = {each: paid for each, paid in self._paid.items() if each in ours}
        open_ = ours - self._paid.keys()
        self._turn = [each for each in self._turn if each in open_]
        self._turn += sorted(open_.difference(self._turn))
        asked = sorted(self._turn, key=lambda each: each not in differ)[:CONDITIONS_MAX]
        was_read = await self._ask(asked)
        self._turn = [each for each in self._turn if each not in asked] + asked
        return msgspec.structs.replace(
            seen,
            payouts=dict(self._paid),
            ends_read=was_read and differ - self._paid.keys() <= {*asked},
        )

    async def _ask(self, asked: list[ConditionId]) -> bool:
        if not asked:
            return True
        try:
            told = await self._venue.resolutions(asked)
        except VenueError as e:
            log(_logger, logging.WARNING, "resolutions_unread", reason=str(e))
            return False
        for row in told:
            if not isinstance(row, Garbage):
                self._paid[row.condition] = row.payouts
        return not any(isinstance(row, Garbage) for row in told)
