"""The executor's hands: starts what signs, posts, asks and listens; decides nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.executor.feeds import Feeds
from services.executor.following import Follower, cancel_orphan
from services.executor.posting import place
from services.executor.redeeming import Redeemer
from services.executor.session import Session, World
from services.executor.standing import Watch, watch_clock, watch_region
from services.executor.state import Attempt, Lost, Order, State, known_fill, open_orders
from services.executor.views import positions_view
from shared.domain.messages import (
    CancelRequested,
    Fact,
    FillSettled,
    OrderApproved,
    OrderPrepared,
    OrderResent,
    OrphanFound,
    PositionClosed,
    PositionCorrected,
    RedemptionSent,
)
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import ACCOUNT, POSITIONS, AccountView, encode
from shared.runtime.metrics import CONFIRMED
from shared.runtime.ports import StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell


class Shell(QuietShell[State]):
    def __init__(self, world: World) -> None:
        self._world = world
        self._account_view: AccountView | None = None

    async def start(self, state: State, lane: LaneHandle) -> None:
        """Log in, take up what was left open, and begin to listen."""
        self._lane = lane
        self._session = Session(self._world, state, lane)
        self._follower = Follower(self._session)
        self._feeds = Feeds(self._session, self._follower)
        redeem = self._world.redeem
        self._redeemer = Redeemer(self._session, redeem) if redeem else None
        if self._redeemer:
            lane.spawn(self._redeemer.watch())
        # Only what the log left open: an order prepared from now on is sent, not asked about.
        lane.spawn(self._run(open_orders(state)))

    async def _run(self, left_open: Sequence[Order]) -> None:
        try:
            await self._session.log_in()
            await self._take_up(left_open)
            self._lane.spawn(self._feeds.listen())
            self._watch_standing()
            await self._feeds.poll()
        finally:
            await self._session.close()

    def _watch_standing(self) -> None:
        settings, session = self._world.settings, self._session
        watch = Watch(clock_s=settings.clock_every_s, region_s=settings.standing_every_s)
        self._lane.spawn(watch_clock(session.standing, session.probing(), watch))
        self._lane.spawn(watch_region(session.standing, session.probing(), watch))

    async def _take_up(self, left_open: Sequence[Order]) -> None:
        for order in left_open:
            if order.phase == "prepared":
                await self._lane.submit(Lost(order=order.order, reason="restarted"))
            self._lane.spawn(self._follower.follow(order.order, posts=0))

    async def _place(self, fact: OrderPrepared) -> None:
        if await place(self._session, fact):
            await self._follower.follow(fact.order, posts=1)

    async def prepare(self, state: State, message: Any) -> Any:
        match message:
            case OrderApproved():
                limit_ns = self._world.settings.book_age_ms_max * NS_PER_MS
                try:
                    (book,) = await self._world.books.books([message.token], age_ns_max=limit_ns)
                except StoreAwayError:
                    book = None
                return Attempt(approval=message, book=book)
            case OrphanFound(order=order):
                if not self._session.is_open(order):  # we may know it by now
                    self._lane.spawn(cancel_orphan(self._session, order))
                return message
            case AccountView():
                self._account_view, self._lane.has_news = message, True
                return message
            case _:
                return message

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        for fact in facts:
            match fact:
                case OrderPrepared():
                    self._lane.spawn(self._place(fact))
                case OrderResent():
                    self._follower.resend(fact)
                case CancelRequested():
                    self._follower.nudge(fact.order)
                case RedemptionSent() if self._redeemer:
                    self._lane.spawn(self._redeemer.send(fact))
                case PositionCorrected() | PositionClosed():
                    self._session.look_at_cash()
                case FillSettled(settlement="CONFIRMED"):
                    self._note_confirmed(state, fact)
                case _:
                    pass

    def _note_confirmed(self, state: State, fact: FillSettled) -> None:
        fill = known_fill(state, fact.trade, fact.order)
        if fill is not None:
            lag_ns = max(0, fact.ts_ns - fill.booked_ns)
            self._feeds.confirmed.note(lag_ns)
            self._world.metrics.took(CONFIRMED, lag_ns / NS_PER_S)

    def views(self, state: State) -> Mapping[str, bytes]:
        shown = {POSITIONS: encode(positions_view(state, self._world.account.wallet))}
        return shown | ({ACCOUNT: encode(self._account_view)} if self._account_view else {})
