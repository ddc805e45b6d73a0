"""What the venue tells of the account unasked, and what is read in case it did not."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from services.executor.following import Follower
from services.executor.session import LOOKBACK_NS, Session
from services.executor.unlisted import Unlisted
from shared.domain.observations import OrderReport, OwnFill
from shared.domain.units import NS_PER_S, Shares, Usd, cost_up, proceeds_down
from shared.domain.views import CLOSED_ONLY, AccountView, OutsideTrade
from shared.polymarket.errors import Garbage, VenueError
from shared.polymarket.parse_own import Me
from shared.polymarket.stream import Host, pump
from shared.polymarket.user_feed import UserFeed
from shared.runtime.lags import Lags
from shared.runtime.logs import log

_THOROUGH_EVERY_NS: Final = 300 * NS_PER_S
_LATE_NS: Final = 86_400 * NS_PER_S  # how long ago an order may have closed whose fills are read
_OUTSIDE_NS: Final = 3_600 * NS_PER_S  # how long trades of other orders are shown
_logger = logging.getLogger(__name__)


class Feeds:
    """The user stream, and the poll of the truth that the stream may have missed."""

    def __init__(self, session: Session, follower: Follower) -> None:
        self._session, self._follower = session, follower
        self._outside: dict[str, OutsideTrade] = {}  # by trade and order
        self._unlisted = Unlisted()
        self.confirmed = Lags()
        self._thorough_ns = 0  # when to read far back next: at the start, first of all

    async def listen(self) -> None:
        session = self._session
        credentials = session.account.credentials
        me = Me(wallet=session.account.wallet, owner=credentials.api_key)
        feed = UserFeed(credentials, me)
        host: Host[Any] = Host(now_ns=session.clock.now_ns, event=self._heard, lost=_lost)
        await pump(session.world.urls.user_ws, feed, host=host, rng=session.rng)

    def _heard(self, event: OwnFill | OrderReport | Garbage) -> None:
        match event:
            case OwnFill():
                if not self._session.lane.offer(event):
                    log(_logger, logging.WARNING, "fill_left_to_rest", trade=event.trade)
            case OrderReport(order=order):
                self._follower.nudge(order)
            case Garbage():
                log(_logger, logging.WARNING, "user_frame_unreadable", reason=event.reason)

    async def poll(self) -> None:
        """Read the account, open orders and fills, again and again."""
        interval_s = self._session.world.settings.poll_interval_ms / 1_000
        while True:
            try:
                await self._poll_once()
            except VenueError as e:
                log(_logger, logging.WARNING, "poll_failed", reason=str(e))
            with contextlib.suppress(TimeoutError):  # a restriction is told at once
                async with asyncio.timeout(interval_s):
                    await self._session.standing.changed.wait()
            self._session.standing.changed.clear()

    async def _poll_once(self) -> None:
        """Read fills first, and hand the account to the lane after them.

        It is shown together with the positions that hold them: an account view vouches for those.
        """
        session = self._session
        now_ns = session.clock.now_ns()
        after_s = self._read_from_s(now_ns)
        fills = await session.venue.own_trades(after_s=after_s)
        self._unlisted.compare(session.state, fills, from_ns=after_s * NS_PER_S, now_ns=now_ns)
        for fill in reversed(fills):  # the newest is told first (protocol.md 1.6)
            if session.knows(fill.order):
                await session.lane.submit(fill)
            else:
                self._note(fill)
        collateral, closed_only = await session.venue.balance(), await session.venue.closed_only()
        session.standing.saw(CLOSED_ONLY, restricted=closed_only)
        view = AccountView(
            as_of_ns=now_ns,
            collateral=collateral,
            closed_only=closed_only,
            orders=tuple(await session.venue.open_orders()),
            standing=session.standing.view(),
            tier=session.gate.tier,
            throttled=session.gate.pacer.held_back(),
            outside=self._outside_since(now_ns - _OUTSIDE_NS),
            unlisted=self._unlisted.shown(),
            confirmed=self.confirmed.view(),
        )
        await session.lane.submit(view)

    def _note(self, fill: OwnFill) -> None:
        """Keep a trade that is not ours to book: it explains a difference to the venue."""
        bought = fill.side == "BUY"
        shares = fill.size if bought else Shares(-fill.size)
        usd = -cost_up(fill.price, fill.size) if bought else proceeds_down(fill.price, fill.size)
        if fill.settlement != "FAILED":
            self._outside[f"{fill.trade}|{fill.order}"] = OutsideTrade(
                trade=fill.trade,
                token=fill.token,
                shares=shares,
                venue_ns=fill.venue_ns,
                usd=Usd(usd),
            )
        else:
            self._outside.pop(f"{fill.trade}|{fill.order}", None)

    def _outside_since(self, from_ns: int) -> tuple[OutsideTrade, ...]:
        kept = {key: each for key, each in self._outside.items() if each.venue_ns >= from_ns}
        self._outside = kept
        # Times are whole seconds: within one, the order in which they were told is theirs.
        return tuple(sorted(kept.values(), key=lambda each: each.venue_ns))

    def _read_from_s(self, now_ns: int) -> int:
        """Return where to read fills from: an overlap, and every order not yet settled."""
        overlap_ns = self._session.world.settings.poll_overlap_s * NS_PER_S
        began = [order.prepared_ns - LOOKBACK_NS for order in self._session.state.orders.values()]
        if self._is_thorough(now_ns):
            began += [
                entry.prepared_ns - LOOKBACK_NS
                for entry in self._session.state.buried.values()
                if now_ns - entry.closed_ns < _LATE_NS
            ]
        return min([now_ns - overlap_ns, *began]) // NS_PER_S

    def _is_thorough(self, now_ns: int) -> bool:
        """Tell, now and then, to read far back: a fill may be told long after its order ended."""
        if now_ns < self._thorough_ns:
            return False
        self._thorough_ns = now_ns + _THOROUGH_EVERY_NS
        self._session.look_at_cash()  # a deposit shows only after it
        return True


def _lost(reason: str) -> None:
    log(_logger, logging.WARNING, "user_stream_lost", reason=reason)
