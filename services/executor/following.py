"""Open orders are asked for until nothing more can come of them; unknown ones are cancelled."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from services.executor.session import Session
from services.executor.state import Missing, Reported
from shared.domain.ids import OrderHash
from shared.domain.observations import OrderReport, OwnFill
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import VenueError
from shared.runtime.logs import log

_FIRST_LOOK_S: Final = 0.05  # the answer to a marketable order is usually final at once
_CANCEL_RETRY_S: Final = 1.0
_CANCELS_MAX: Final = 10
_logger = logging.getLogger(__name__)


class Follower:
    """Asks REST for each open order, sooner when the user stream has news of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._nudges: dict[OrderHash, asyncio.Event] = {}

    def nudge(self, order: OrderHash) -> None:
        """Have an order that is followed asked for at once."""
        if order in self._nudges:
            self._nudges[order].set()

    async def follow(self, order: OrderHash, prepared_ns: int, expires_ns: int) -> None:
        """Ask for an order until nothing more can come of it.

        That the venue does not know it counts only once it cannot arrive any more: it is sent
        before it expires, and is under way for at most a deadline, with us and again with them.
        """
        session, settings = self._session, self._session.world.settings
        arrived_ns = expires_ns + 2 * settings.post_deadline_s * NS_PER_S
        nudge = self._nudges[order] = asyncio.Event()
        wait_s, missing = _FIRST_LOOK_S, 0
        longest_s = settings.lookup_interval_ms / 1_000
        while session.is_open(order):
            # The user stream tells a marketable order's fills at once; REST confirms them.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await nudge.wait()
            nudge.clear()
            wait_s, asked_ns = min(longest_s, wait_s * 2), session.clock.now_ns()
            try:
                report = await session.venue.order(order)
                fills = await self._missing_fills(report, order, prepared_ns)
            except VenueError as e:
                log(_logger, logging.WARNING, "lookup_failed", order=order, reason=str(e))
            else:
                if report is not None:
                    missing = 0
                elif fills or asked_ns > arrived_ns:
                    missing += 1
                for message in _said_of(order, report, fills, missing):
                    await session.lane.submit(message)
        del self._nudges[order]

    async def _missing_fills(
        self, report: OrderReport | None, order: OrderHash, prepared_ns: int
    ) -> list[OwnFill]:
        """Read the fills of an order, unless the user stream has told them all already."""
        known = self._session.state.orders.get(order)
        if report is not None and known is not None and known.filled >= report.matched:
            return []
        return await self._session.fills_of(order, prepared_ns)


def _said_of(
    order: OrderHash, report: OrderReport | None, fills: Sequence[OwnFill], missing: int
) -> list[Any]:
    if report is not None:
        return [Reported(report=report, fills=tuple(fills))]
    return [*fills, Missing(order=order, attempts=missing)]


async def cancel_orphan(session: Session, order: OrderHash) -> None:
    """Cancel an order at the venue that is not ours to follow, trying a bounded number of times."""
    await session.ready.wait()
    for tries in range(_CANCELS_MAX):
        try:
            answer = await session.venue.cancel(order)
        except VenueError as e:
            log(_logger, logging.WARNING, "cancel_failed", order=order, reason=str(e))
            await asyncio.sleep(_CANCEL_RETRY_S * 2**tries)
        else:
            log(_logger, logging.INFO, "orphan_cancelled", order=order, done=answer.canceled)
            return
