"""What the parts of the executor's shell share: settings, the lane, and the venue logged in to."""

import asyncio
import contextlib
import logging
import random
from typing import Final

import msgspec

from services.executor.sdk import Redeem
from services.executor.standing import Standing
from services.executor.state import Draft, Order, State, known_order
from shared.domain.ids import OrderHash, TokenId, Wallet
from shared.domain.market import Protocol, Side
from shared.domain.messages import OrderPolicy, OrderPrepared
from shared.domain.observations import OwnFill
from shared.domain.units import NS_PER_MS, NS_PER_S, Price
from shared.polymarket.auth import Account
from shared.polymarket.errors import VenueError
from shared.polymarket.limits import account_limits
from shared.polymarket.orders import OrderTerms, OrderType, Signer
from shared.polymarket.pacing import Pacer
from shared.polymarket.probing import Probing
from shared.polymarket.rest import Venue, derive_credentials
from shared.polymarket.signer_limit import SignerGate
from shared.polymarket.transport import OnCall, Patience, connect_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.books import Books
from shared.runtime.config import AccountConfig, ExecutorConfig
from shared.runtime.logs import log
from shared.runtime.metrics import Metrics
from shared.runtime.ports import StoreAwayError
from shared.runtime.runner import LaneHandle
from shared.runtime.telemetry import Tracing

LOOKBACK_NS: Final = 60 * NS_PER_S  # before an order was prepared: the venue's clock may differ
LIMITS_SHARE_BPS: Final = 6_000  # of what the venue allows an address; others read with it too
_ORDER_TYPES: Final[dict[OrderPolicy, OrderType]] = {
    "fill_and_kill": "FAK",
    "fill_or_kill": "FOK",
    "post_only": "GTD",
}
_LOOK_S: Final = 1.0  # an exit waits no longer than this for a fresher balance
_START_RETRY_S: Final = 1.0
_logger = logging.getLogger(__name__)


def terms_of(
    order: Draft | OrderPrepared | Order, account: AccountConfig, signer: Wallet
) -> OrderTerms:
    """Return what will be signed for an order on record; the same record gives the same bytes."""
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
        order_type=_ORDER_TYPES[order.policy],
        post_only=order.policy == "post_only",
        expiration=0 if isinstance(order, Draft) else order.expiration_s,
    )


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell is built from."""

    account: AccountConfig
    settings: ExecutorConfig
    urls: VenueUrls
    signer: Signer
    books: Books
    tracing: Tracing
    metrics: Metrics
    called: OnCall | None = None  # hears of every attempt to call the venue
    redeem: Redeem | None = None  # None: nothing is redeemed
    rng: random.Random = msgspec.field(default_factory=random.Random)  # of jitter alone


class Session:
    """One lane's connection to the venue; ``account`` and ``venue`` exist once it is ready."""

    account: Account
    venue: Venue

    def __init__(self, world: World, state: State, lane: LaneHandle) -> None:
        self.world, self.state, self.lane, self.clock = world, state, lane, lane.clock
        self.rng = world.rng
        self.ready = asyncio.Event()
        self._looked_at: set[TokenId] = set()  # tokens that the venue was asked to look at
        limit_s = world.settings.post_deadline_s
        patience = Patience(deadline_s=limit_s, attempt_s=limit_s)
        self.standing = Standing(self.clock.now_ns)
        limits = account_limits(LIMITS_SHARE_BPS)
        self.gate = SignerGate(
            Pacer(limits.endpoints, limits.groups, monotonic_ns=self.clock.monotonic_ns),
            monotonic_ns=self.clock.monotonic_ns,
            now_ns=self.clock.now_ns,
            heard=self.standing.heard,
        )
        self._http = connect_http(
            rng=self.rng, patience=patience, gate=self.gate, on_call=world.called
        )

    async def log_in(self) -> None:
        """Derive the API credentials; until the venue answers, orders wait or expire."""
        self.account = await self._account()
        self.venue = Venue(
            self._http, now_ns=self.clock.now_ns, account=self.account, urls=self.world.urls
        )
        with contextlib.suppress(VenueError):  # it shows a lower balance then, never a higher one
            await self.venue.update_balance()
        self.ready.set()

    def probing(self) -> Probing:
        return Probing(self._http, self.world.urls, now_ns=self.clock.now_ns)

    async def before_sale(self, token: TokenId, protocol: Protocol) -> None:
        """Have the venue look at a token on the chain before its first sale: it caches."""
        if token in self._looked_at:
            return
        self._looked_at.add(token)
        try:
            async with asyncio.timeout(_LOOK_S):
                await self.venue.update_balance(token, protocol)
        except (VenueError, TimeoutError) as e:
            self._looked_at.discard(token)
            log(_logger, logging.WARNING, "balance_not_updated", token=token, reason=str(e))

    async def near_side(self, token: TokenId, side: Side) -> Price | None:
        """Return the best price on a side of the freshest book, or None where it is not known."""
        limit_ns = self.world.settings.book_age_ms_max * NS_PER_MS
        try:
            (book,) = await self.world.books.books([token], age_ns_max=limit_ns)
        except StoreAwayError:
            return None
        if book is None or self.clock.now_ns() - book.seen_ns > limit_ns:
            return None
        return book.best_bid if side == "BUY" else book.best_ask

    def look_at_cash(self) -> None:
        """Have the venue look at our dollars on the chain: redemptions and deposits show then."""
        self.lane.spawn(self._look_at_cash())

    async def _look_at_cash(self) -> None:
        await self.ready.wait()  # a correction may be the first thing that happens
        try:
            await self.venue.update_balance()
        except VenueError as e:
            log(_logger, logging.WARNING, "balance_not_updated", token="", reason=str(e))

    async def close(self) -> None:
        await self._http.aclose()

    def is_open(self, order: OrderHash) -> bool:
        known = known_order(self.state, order)
        return known is not None and known.phase != "closed"

    def knows(self, order: OrderHash) -> bool:
        """Tell whether an order is ours, open or closed some days ago at most."""
        return known_order(self.state, order) is not None

    async def fills_of(self, order: OrderHash, prepared_ns: int) -> list[OwnFill]:
        """Read our fills since an order was prepared and return its own; raises VenueError."""
        after_s = (prepared_ns - LOOKBACK_NS) // NS_PER_S
        fills = await self.venue.own_trades(after_s=after_s)
        return [fill for fill in fills if fill.order == order]

    async def _account(self) -> Account:
        signer, account = self.world.signer, self.world.account
        while True:
            headers = signer.l1_headers(timestamp_s=self.clock.now_ns() // NS_PER_S)
            try:
                credentials = await derive_credentials(
                    self._http, l1_headers=headers, urls=self.world.urls
                )
            except VenueError as e:
                log(_logger, logging.WARNING, "login_failed", reason=str(e))
                await asyncio.sleep(_START_RETRY_S)
                continue
            return Account(
                address=signer.address,
                wallet=account.wallet,
                credentials=credentials,
                signature_type=account.signature_type,  # type: ignore[arg-type]
            )
