"""Open orders are asked for until nothing more can come of them; unknown ones are cancelled."""

import asyncio
import contextlib
import logging
from typing import Final

import msgspec

from services.executor.posting import place_again
from services.executor.session import Session
from services.executor.state import Asked, Missing, Refusal, Reported, Resting, Unreadable
from shared.domain.ids import OrderHash
from shared.domain.messages import OrderResent
from shared.domain.observations import OrderReport, OwnFill
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import VenueError
from shared.runtime.logs import log

_FIRST_LOOK_S: Final = 0.05  # the answer to a marketable order is usually final at once
_SURRENDERED_LOOK_S: Final = 60.0  # between looks at an order that nobody expects to end soon
_CANCEL_RETRY_S: Final = 1.0
_CANCELS_MAX: Final = 10
_logger = logging.getLogger(__name__)


class _Watch:
    """One order as it is followed by this process."""

    def __init__(self, order: OrderHash, *, posts: int, resends: int) -> None:
        self.order = order
        self.nudge = asyncio.Event()
        self.resend: OrderResent | None = None  # on record, and to be made
        self.resends = resends  # on record that were made, and not refused
        self.missing = 0  # looks in a row that count against the order
        self.asked = Asked(posts=posts)

    def note(self, last: str, *, missing: int = 0, unreadable: int = 0) -> None:
        """Count a look and keep what it showed, for whoever has to judge."""
        self.asked = Asked(
            posts=self.asked.posts,
            looks=self.asked.looks + 1,
            missing=self.asked.missing + missing,
            unreadable=self.asked.unreadable + unreadable,
            last=last,
        )


class Follower:
    """Asks REST for each open order, sooner when the user stream has news of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._watched: dict[OrderHash, _Watch] = {}

    def nudge(self, order: OrderHash) -> None:
        """Have an order that is followed asked for at once."""
        if order in self._watched:
            self._watched[order].nudge.set()

    def resend(self, fact: OrderResent) -> None:
        """Have an order sent again, between two looks at it."""
        watch = self._watched.get(fact.order)
        if watch is not None:
            watch.resend = fact
            watch.nudge.set()

    async def follow(self, order: OrderHash, *, posts: int) -> None:
        """Ask for an order until nothing more can come of it.

        ``posts`` is how often this process has sent it.
        """
        known = self._session.state.orders.get(order)
        if known is None:
            return
        watch = self._watched[order] = _Watch(order, posts=posts, resends=known.resends)
        wait_s, longest_s = _FIRST_LOOK_S, self._session.world.settings.lookup_interval_ms / 1_000
        while self._session.is_open(order):
            # The user stream tells a marketable order's fills at once; REST confirms them.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await watch.nudge.wait()
            watch.nudge.clear()
            known = self._session.state.orders.get(order)
            if known is None or known.phase == "closed":  # meanwhile
                break
            wait_s = _SURRENDERED_LOOK_S if known.surrendered_ns else min(longest_s, wait_s * 2)
            await self._send_again(watch)
            await self._look(watch)
        del self._watched[order]

    async def _send_again(self, watch: _Watch) -> None:
        """Make a re-send that is on record. After a definite no there is none any more."""
        fact, watch.resend = watch.resend, None
        known = self._session.state.orders.get(watch.order)
        if fact is None or known is None or known.phase == "closed":
            return
        outcome = await place_again(self._session, known, fact)
        if outcome is not None:
            watch.asked = msgspec.structs.replace(watch.asked, posts=watch.asked.posts + 1)
            await self._session.lane.submit(outcome)
        if not isinstance(outcome, Refusal):
            watch.resends = fact.resend

    async def _look(self, watch: _Watch) -> None:
        """Ask for the order by its hash, then for our trades, and say what that shows.

        That the venue does not know it counts only once it cannot arrive any more: it is sent
        before it expires, and is under way for at most a deadline, with us and again with them.
        """
        session, asked_ns = self._session, self._session.clock.now_ns()
        known = session.state.orders.get(watch.order)
        if known is None:
            return
        under_way_ns = 2 * session.world.settings.post_deadline_s * NS_PER_S
        try:
            report = await session.venue.order(watch.order)
            fills = await self._missing_fills(report, watch.order, known.prepared_ns)
        except VenueError as e:
            log(_logger, logging.WARNING, "lookup_failed", order=watch.order, reason=str(e))
            watch.note(str(e), unreadable=1)
            await session.lane.submit(Unreadable(order=watch.order, asked=watch.asked))
            return
        if report is not None:
            watch.missing = 0
            watch.note(f"{report.status}, {report.matched} of {report.size} matched")
            said = Reported(report=report, fills=tuple(fills), asked=watch.asked)
            await session.lane.submit(said)
            if report.status == "LIVE":
                await self._tend(watch.order)
            return
        watch.missing += bool(fills) or asked_ns > known.expires_ns + under_way_ns
        watch.note(f"order not known, {len(fills)} trades of it", missing=not fills)
        for fill in fills:
            await session.lane.submit(fill)
        await session.lane.submit(
            Missing(
                order=watch.order,
                attempts=watch.missing,
                resends=watch.resends,
                asked=watch.asked,
            )
        )

    async def _tend(self, name: OrderHash) -> None:
        """Cancel a resting order that is to end; say of another what it is measured by."""
        session, order = self._session, self._session.state.orders.get(name)
        if order is None or order.phase == "closed":
            return
        if order.cancel:
            await self._cancel(name)
            return
        near = None
        if order.policy == "post_only" and order.reprice_ticks:
            near = await session.near_side(order.token, order.side)
        await session.lane.submit(Resting(order=name, near=near))

    async def _cancel(self, order: OrderHash) -> None:
        try:
            answer = await self._session.venue.cancel(order)
        except VenueError as e:  # the next look tries again
            log(_logger, logging.WARNING, "cancel_failed", order=order, reason=str(e))
        else:
            log(_logger, logging.INFO, "order_cancelled", order=order, done=answer.canceled)
            self.nudge(order)  # its numbers tell what became of it

    async def _missing_fills(
        self, report: OrderReport | None, order: OrderHash, prepared_ns: int
    ) -> list[OwnFill]:
        """Read the fills of an order, unless the user stream has told them all already."""
        known = self._session.state.orders.get(order)
        if report is not None and known is not None and known.filled >= report.matched:
            return []
        return await self._session.fills_of(order, prepared_ns)


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
