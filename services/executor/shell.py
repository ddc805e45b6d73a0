"""The executor's hands: signs, posts, asks, and listens; decides nothing."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from services.executor.state import (
    RANK,
    TERMINAL,
    Answered,
    Attempt,
    Draft,
    Lost,
    Missing,
    Order,
    Refusal,
    Reported,
    State,
    open_orders,
)
from shared.domain.ids import OrderHash, Wallet
from shared.domain.messages import Fact, OrderApproved, OrderPrepared, OrphanFound
from shared.domain.observations import OrderReport, OwnFill
from shared.domain.units import NS_PER_MS, NS_PER_S, Shares
from shared.domain.views import (
    ACCOUNT,
    POSITIONS,
    AccountView,
    OpenOrderView,
    PositionsView,
    PositionView,
    encode,
)
from shared.polymarket.auth import Account, SignedOrder
from shared.polymarket.errors import Garbage, RejectCode, Rejected, VenueError
from shared.polymarket.orders import OrderTerms, Signer
from shared.polymarket.parse_own import Me
from shared.polymarket.rest import Venue, derive_credentials
from shared.polymarket.stream import Host, pump
from shared.polymarket.transport import Http, Patience, connect_http
from shared.polymarket.urls import VenueUrls
from shared.polymarket.user_feed import UserFeed
from shared.runtime.books import Books
from shared.runtime.config import AccountConfig, ExecutorConfig
from shared.runtime.logs import log
from shared.runtime.ports import StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell
from shared.runtime.telemetry import Tracing

_FIRST_LOOK_S: Final = 0.05  # the answer to a marketable order is usually final at once
_LOOKBACK_NS: Final = 60 * NS_PER_S  # before an order was prepared: the venue's clock may differ
_START_RETRY_S: Final = 1.0
_CANCELS_MAX: Final = 10
_logger = logging.getLogger(__name__)


def terms_of(order: Draft | OrderPrepared, account: AccountConfig, signer: Wallet) -> OrderTerms:
    """Return what will be signed for an order on record; the same fact gives the same bytes."""
    return OrderTerms(
        maker=account.wallet,
        signer=account.wallet if account.signature_type == 3 else signer,
        token=order.token,
        side=order.side,
        price=order.price,
        size=order.size,
        maker_amount=order.maker_amount,
        taker_amount=order.taker_amount,
        salt=order.salt,
        timestamp_ms=order.timestamp_ms,
        signature_type=account.signature_type,  # type: ignore[arg-type] # checked by the config
        neg_risk=order.market.neg_risk,
        protocol=order.market.protocol,
        metadata=order.metadata,
    )


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell is built from."""

    account: AccountConfig
    settings: ExecutorConfig
    urls: VenueUrls
    signer: Signer
    books: Books
    tracing: Tracing


class Shell(QuietShell[State]):
    def __init__(self, world: World) -> None:
        self._world = world
        self._signer_wallet = Wallet(world.signer.address.lower())
        self._rng = random.Random()  # noqa: S311 - jitter
        self._nudges: dict[OrderHash, asyncio.Event] = {}
        self._ready = asyncio.Event()
        self._account_view: AccountView | None = None

    # --- life -----------------------------------------------------------------------------

    async def start(self, state: State, lane: LaneHandle) -> None:
        """Log in, take up what was left open, and begin to listen."""
        self._state, self._lane, self._clock = state, lane, lane.clock
        limit_s = self._world.settings.post_deadline_s
        post = Patience(deadline_s=limit_s, attempt_s=limit_s)
        self._http = connect_http(rng=self._rng, patience=post)
        # Only what the log left open: an order prepared from now on is sent, not asked about.
        lane.spawn(self._run(open_orders(state)))

    async def _run(self, left_open: Sequence[Order]) -> None:
        try:
            await self._begin(left_open)
            await self._poll()
        finally:
            await self._http.aclose()

    async def _begin(self, left_open: Sequence[Order]) -> None:
        self._account = await self._log_in(self._http)
        self._venue = Venue(
            self._http, now_ns=self._clock.now_ns, account=self._account, urls=self._world.urls
        )
        self._ready.set()
        for order in left_open:
            if order.phase == "prepared":
                await self._lane.submit(Lost(order=order.order, reason="restarted"))
            self._lane.spawn(self._follow(order.order, order.prepared_ns, order.expires_ns))
        self._lane.spawn(self._listen())

    async def _log_in(self, http: Http) -> Account:
        """Derive the API credentials; until the venue answers, orders wait or expire."""
        while True:
            now_s = self._clock.now_ns() // NS_PER_S
            headers = self._world.signer.l1_headers(timestamp_s=now_s)
            try:
                credentials = await derive_credentials(
                    http, l1_headers=headers, urls=self._world.urls
                )
            except VenueError as e:
                log(_logger, logging.WARNING, "login_failed", reason=str(e))
                await asyncio.sleep(_START_RETRY_S)
                continue
            return Account(
                address=self._world.signer.address,
                wallet=self._world.account.wallet,
                credentials=credentials,
                signature_type=self._world.account.signature_type,  # type: ignore[arg-type]
            )

    # --- the loop's calls -----------------------------------------------------------------

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
                if not self._is_open(order):  # we may know it by now
                    self._lane.spawn(self._cancel(order))
                return message
            case AccountView():
                self._account_view, self._lane.has_news = message, True
                return message
            case _:
                return message

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, OrderPrepared):
                self._lane.spawn(self._place(fact))

    # --- orders ---------------------------------------------------------------------------

    async def _place(self, fact: OrderPrepared) -> None:
        """Send the order on record, once, and say what is now known of it."""
        await self._ready.wait()
        if self._clock.now_ns() > fact.expires_ns:
            late = Refusal(order=fact.order, reason="EXPIRED", detail="not sent in time")
            await self._lane.submit(late)
            return
        terms = terms_of(fact, self._world.account, self._signer_wallet)
        signed = self._world.signer.sign(terms, owner=self._account.credentials.api_key)
        assert signed.hash == fact.order, "the order on record is not the order signed"
        await self._lane.submit(await self._post(fact, signed))
        await self._follow(fact.order, fact.ts_ns, fact.expires_ns)

    async def _post(self, fact: OrderPrepared, signed: SignedOrder) -> Any:
        began_ns, status = self._clock.now_ns(), None
        try:
            answer = await self._venue.post_order(signed)
            status = 200
            latency_ns = self._clock.now_ns() - began_ns
            return Answered(order=fact.order, answer=answer, latency_ns=latency_ns)
        except Rejected as e:
            status = e.status
            return await self._refusal(fact, e)
        except VenueError as e:
            if e.definitive:
                return Refusal(order=fact.order, reason=type(e).__name__, detail=str(e))
            return Lost(order=fact.order, reason=type(e).__name__)
        finally:
            self._world.tracing.http(
                fact, "POST /order", start_ns=began_ns, end_ns=self._clock.now_ns(), status=status
            )

    async def _refusal(self, fact: OrderPrepared, e: Rejected) -> Any:
        """Believe a refusal only if the venue does not know the order: kills have had fills."""
        if e.code is RejectCode.DUPLICATED:
            return Lost(order=fact.order, reason="duplicated")
        try:
            report = await self._venue.order(fact.order)
            fills = await self._fills_of(fact.order, fact.ts_ns)
        except VenueError:
            return Lost(order=fact.order, reason=f"refused and unreadable: {e.code}")
        if fills or (report is not None and report.matched):
            return Lost(order=fact.order, reason=f"refused with fills: {e.code}")
        return Refusal(order=fact.order, reason=str(e.code), detail=e.text)

    async def _follow(self, order: OrderHash, prepared_ns: int, expires_ns: int) -> None:
        """Ask for an order until nothing more can come of it.

        That the venue does not know it counts only once it cannot arrive any more: it is sent
        before it expires, and is under way for at most a deadline, with us and again with them.
        """
        arrived_ns = expires_ns + 2 * self._world.settings.post_deadline_s * NS_PER_S
        nudge = self._nudges[order] = asyncio.Event()
        wait_s, missing = _FIRST_LOOK_S, 0
        longest_s = self._world.settings.lookup_interval_ms / 1_000
        while self._is_open(order):
            # The user stream tells a marketable order's fills at once; REST confirms them.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await nudge.wait()
            nudge.clear()
            wait_s, asked_ns = min(longest_s, wait_s * 2), self._clock.now_ns()
            try:
                report = await self._venue.order(order)
                fills = await self._missing_fills(report, order, prepared_ns)
            except VenueError as e:
                log(_logger, logging.WARNING, "lookup_failed", order=order, reason=str(e))
            else:
                if report is not None:
                    missing = 0
                elif fills or asked_ns > arrived_ns:
                    missing += 1
                for message in self._said_of(order, report, fills, missing):
                    await self._lane.submit(message)
        del self._nudges[order]

    def _said_of(
        self, order: OrderHash, report: OrderReport | None, fills: Sequence[OwnFill], missing: int
    ) -> list[Any]:
        if report is not None:
            return [Reported(report=report, fills=tuple(fills))]
        return [*fills, Missing(order=order, attempts=missing)]

    def _is_open(self, order: OrderHash) -> bool:
        known = self._state.orders.get(order)
        return known is not None and known.phase != "closed"

    async def _missing_fills(
        self, report: OrderReport | None, order: OrderHash, prepared_ns: int
    ) -> list[OwnFill]:
        """Read the fills of an order, unless the user stream has told them all already."""
        known = self._state.orders.get(order)
        if report is not None and known is not None and known.filled >= report.matched:
            return []
        return await self._fills_of(order, prepared_ns)

    async def _fills_of(self, order: OrderHash, prepared_ns: int) -> list[OwnFill]:
        after_s = (prepared_ns - _LOOKBACK_NS) // NS_PER_S
        fills = await self._venue.own_trades(after_s=after_s)
        return [fill for fill in fills if fill.order == order]

    async def _cancel(self, order: OrderHash) -> None:
        await self._ready.wait()
        for tries in range(_CANCELS_MAX):
            try:
                answer = await self._venue.cancel(order)
            except VenueError as e:
                log(_logger, logging.WARNING, "cancel_failed", order=order, reason=str(e))
                await asyncio.sleep(_START_RETRY_S * 2**tries)
            else:
                log(_logger, logging.INFO, "orphan_cancelled", order=order, done=answer.canceled)
                return

    # --- feeds ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        credentials = self._account.credentials
        me = Me(wallet=self._account.wallet, owner=credentials.api_key)
        feed = UserFeed(credentials, me)
        host: Host[Any] = Host(now_ns=self._clock.now_ns, event=self._heard, lost=self._lost)
        await pump(self._world.urls.user_ws, feed, host=host, rng=self._rng)

    def _heard(self, event: OwnFill | OrderReport | Garbage) -> None:
        match event:
            case OwnFill():
                if not self._lane.offer(event):
                    log(_logger, logging.WARNING, "fill_left_to_rest", trade=event.trade)
            case OrderReport(order=order):
                if order in self._nudges:
                    self._nudges[order].set()
            case Garbage():
                log(_logger, logging.WARNING, "user_frame_unreadable", reason=event.reason)

    def _lost(self, reason: str) -> None:
        log(_logger, logging.WARNING, "user_stream_lost", reason=reason)

    async def _poll(self) -> None:
        """Read the truth the stream may have missed: account, open orders, fills."""
        interval_s = self._world.settings.poll_interval_ms / 1_000
        while True:
            try:
                await self._poll_once()
            except VenueError as e:
                log(_logger, logging.WARNING, "poll_failed", reason=str(e))
            await asyncio.sleep(interval_s)

    async def _poll_once(self) -> None:
        """Read fills first, and hand the account to the lane after them.

        It is shown together with the positions that hold them: an account view vouches for those.
        """
        now_ns = self._clock.now_ns()
        for fill in await self._venue.own_trades(after_s=self._read_from_s(now_ns)):
            if fill.order in self._state.orders:
                await self._lane.submit(fill)
        view = AccountView(
            as_of_ns=now_ns,
            collateral=await self._venue.balance(),
            closed_only=await self._venue.closed_only(),
            orders=tuple(await self._venue.open_orders()),
        )
        await self._lane.submit(view)

    def _read_from_s(self, now_ns: int) -> int:
        """Return where to read fills from: an overlap, and every order not yet settled."""
        overlap_ns = self._world.settings.poll_overlap_s * NS_PER_S
        began = [
            order.prepared_ns - _LOOKBACK_NS
            for order in self._state.orders.values()
            if order.phase != "closed" or order.filled
        ]
        return min([now_ns - overlap_ns, *began]) // NS_PER_S

    # --- views ----------------------------------------------------------------------------

    def views(self, state: State) -> Mapping[str, bytes]:
        view = PositionsView(
            wallet=self._world.account.wallet,
            positions=tuple(
                PositionView(
                    condition=holding.condition,
                    token=token,
                    outcome=holding.outcome,
                    shares=holding.position.shares,
                    cost=holding.position.cost,
                    realised=holding.position.realised,
                    unsettled=_unsettled(state, holding.token),
                    changed_ns=holding.changed_ns,
                )
                for token, holding in state.holdings.items()
            ),
            orders=tuple(_open_view(order) for order in open_orders(state)),
        )
        shown = {POSITIONS: encode(view)}
        return shown | ({ACCOUNT: encode(self._account_view)} if self._account_view else {})


def _unsettled(state: State, token: str) -> Shares:
    return Shares(
        sum(
            fill.size
            for fill in state.fills.values()
            if RANK[fill.settlement] < TERMINAL and state.orders[fill.order].token == token
        )
    )


def _open_view(order: Order) -> OpenOrderView:
    return OpenOrderView(
        order=order.order,
        token=order.token,
        side=order.side,
        price=order.price,
        size=order.size,
        filled=order.filled,
        status=order.phase,
    )
