"""Keeps the books and terms of the markets somebody cares about, and serves them fresh."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.domain import ids
from shared.domain.book import Book
from shared.domain.ids import PARTITIONS, ConditionId, TokenId
from shared.domain.market import Market
from shared.domain.units import NS_PER_S
from shared.domain.views import (
    POSITIONS,
    ExposuresView,
    PositionsView,
    book_key,
    decode,
    encode,
    exposure_key,
    market_key,
)
from shared.domain.volatility import Volatility
from shared.polymarket.errors import Garbage, NotFound, VenueError
from shared.polymarket.feed import (
    TOKENS_MAX,
    BookMoved,
    FeedEvent,
    MarketFeed,
    Resolved,
    Resync,
    Silence,
    TickChanged,
)
from shared.polymarket.public import PublicVenue
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.rpc import REFRESH

_KEPT_NS: Final = 120 * NS_PER_S  # a market stays of interest this long after the last reason
_INTEREST_EVERY_S: Final = 1.0
_RETRY_NS: Final = 5 * NS_PER_S  # before terms that could not be read are asked for again
_LATE_NS: Final = 2 * NS_PER_S  # a frame this far behind the venue's own stamp is late
_READS_AT_ONCE: Final = 4  # of books and terms over REST, whatever the streams ask for
_MARKETS_MAX: Final = 2_000
_logger = logging.getLogger(__name__)


class _Connection:
    """One market stream and its at most ``TOKENS_MAX`` tokens."""

    def __init__(self, feed: MarketFeed) -> None:
        self.feed = feed
        self.outbox: asyncio.Queue[str] = asyncio.Queue()
        self.connected = False


class Outlets(NamedTuple):
    """Where books go, and what could not be read."""

    store: Store
    client: Client
    bury: Callable[[str, str, str], None]  # source, reason, excerpt
    over: Callable[[ConditionId], None] = lambda _: None  # a market shows a sign of its end


class BookKeeper:
    """Subscribes, resynchronises and publishes books; one for each ingester process."""

    def __init__(
        self,
        venue: PublicVenue,
        outlets: Outlets,
        clock: Clock,
        *,
        settings: IngesterConfig,
        market_ws: str,
    ) -> None:
        self._venue, self._clock = venue, clock
        self._store, self._client, self._bury, self._over = outlets
        self._settings, self._url = settings, market_ws
        self._markets: dict[ConditionId, Market] = {}
        self._wanted: dict[ConditionId, int] = {}
        self._resting: dict[ConditionId, int] = {}  # no book, or no answer: left alone until when
        self._connections: list[_Connection] = []
        self._home: dict[TokenId, _Connection] = {}
        self._moved: dict[TokenId, Book] = {}
        self._volatility: dict[TokenId, Volatility] = {}  # of the subscribed tokens
        self._asked: set[TokenId | ConditionId] = set()  # waiting in the queue, or being read
        self._to_read: asyncio.Queue[Resync | ConditionId] = asyncio.Queue()
        self._rng = random.Random()  # noqa: S311 - jitter
        self.heard_ns = 0

    # --- life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._client.subscribe(REFRESH, queue="ingester", cb=self._take)
            group.create_task(self._flush())
            for _ in range(_READS_AT_ONCE):
                group.create_task(self._read_asked())
            group.create_task(self._follow_interest())

    def want(self, condition: ConditionId) -> None:
        """Say that a market matters now."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._resting.get(condition, 0):
            self._wanted[condition] = now_ns

    def trust(self) -> tuple[int, int]:
        """Return how many books are trusted and how many are not."""
        books = [connection.feed.book(token) for token, connection in self._home.items()]
        trusted = sum(1 for book in books if book is not None and book.trusted)
        return trusted, len(books) - trusted

    @property
    def is_connected(self) -> bool:
        return all(connection.connected for connection in self._connections)

    # --- interest -------------------------------------------------------------------------

    async def _follow_interest(self) -> None:
        while True:
            with contextlib.suppress(StoreAwayError):
                await self._read_interest()
            now_ns = self._clock.now_ns()
            for condition in list(self._wanted):
                market = self._markets.get(condition)
                if now_ns - self._wanted[condition] > _KEPT_NS:
                    self._drop(condition)
                elif condition in self._resting or not self._is_old(market, now_ns):
                    continue
                elif await self._load(condition) is None:
                    self._resting[condition] = now_ns + _RETRY_NS
            self._resting = {c: until for c, until in self._resting.items() if until > now_ns}
            await asyncio.sleep(_INTEREST_EVERY_S)

    async def _read_interest(self) -> None:
        """Take what we hold and what leaders hold as reasons to watch a market."""
        keys = [POSITIONS, *(exposure_key(p) for p in range(PARTITIONS))]
        found = await self._store.read_views(keys)
        positions = decode(found[0], PositionsView)
        for position in positions.positions if positions else ():
            self.want(position.condition)
        for data in found[1:]:
            exposures = decode(data, ExposuresView)
            for line in exposures.exposures if exposures else ():
                if len(self._wanted) < _MARKETS_MAX:
                    self.want(line.condition)

    def _is_old(self, market: Market | None, now_ns: int) -> bool:
        if market is None:
            return True
        return now_ns - market.as_of_ns > self._settings.market_refresh_s * NS_PER_S

    async def _load(self, condition: ConditionId) -> Market | None:
        """Read a market's terms, publish them, and subscribe to its books while it is wanted."""
        try:
            market = await self._venue.market(condition)
        except VenueError as e:
            log(_logger, logging.WARNING, "market_unread", condition=condition, reason=str(e))
            return None
        with contextlib.suppress(StoreAwayError):
            await self._store.write_views({market_key(condition): encode(market)})
        if not market.accepting_orders:
            self._over(condition)
        if condition in self._wanted:  # it may have been dropped while it was read
            self._markets[condition] = market
            self._subscribe(market.tokens)
        return market

    def _drop(self, condition: ConditionId) -> None:
        self._wanted.pop(condition, None)
        market = self._markets.pop(condition, None)
        for token in market.tokens if market else ():
            connection = self._home.pop(token, None)
            self._volatility.pop(token, None)
            if connection is not None:
                for frame in connection.feed.unsubscribe([token]):
                    connection.outbox.put_nowait(frame)

    def _subscribe(self, tokens: Iterable[TokenId]) -> None:
        for token in tokens:
            if token in self._home:
                continue
            connection = self._roomy()
            self._home[token] = connection
            frames = connection.feed.subscribe([token], now_ns=self._clock.now_ns())
            for frame in frames:
                connection.outbox.put_nowait(frame)

    def _roomy(self) -> _Connection:
        for connection in self._connections:
            if len(connection.feed.tokens) < TOKENS_MAX:
                return connection
        silence = Silence(token_ns=self._settings.book_silence_s * NS_PER_S)
        connection = _Connection(MarketFeed(silence=silence))
        self._connections.append(connection)
        self._group.create_task(self._pump(connection))
        return connection

    # --- the stream -----------------------------------------------------------------------

    async def _pump(self, connection: _Connection) -> None:
        def connected() -> None:
            connection.connected = True

        def lost(reason: str) -> None:
            connection.connected = False
            log(_logger, logging.WARNING, "market_stream_lost", reason=reason)

        host: Host[FeedEvent] = Host(
            now_ns=self._clock.now_ns, event=self._streamed, connected=connected, lost=lost
        )
        await pump(
            self._url,
            connection.feed,
            host=host,
            rng=self._rng,
            pace=Pace(poll_s=0.25),
            outbox=connection.outbox,
        )

    def _streamed(self, event: FeedEvent) -> None:
        """Take an event of the stream: a frame that comes late is no evidence for the book now."""
        if isinstance(event, BookMoved) and event.book.seen_ns - event.book.as_of_ns > _LATE_NS:
            late = msgspec.structs.replace(event.book, seen_ns=event.book.as_of_ns)
            event = BookMoved(late)
        self._heard(event)

    def _heard(self, event: FeedEvent) -> None:
        match event:
            case BookMoved(book=book):
                self.heard_ns = self._clock.now_ns()
                self._watch(book)
                self._moved[book.token] = book
            case Resync(token=token):
                self._ask(token, event)
            case Resolved(condition=condition):
                self._over(condition)
                if condition in self._markets:  # the venue tells of every market there is
                    self._ask(condition, condition)
            case TickChanged(token=token):
                for market in self._markets.values():
                    if token in market.tokens:
                        self._ask(market.condition, market.condition)
            case Garbage(reason=reason):
                self._bury("market stream", reason, event.excerpt)

    def _watch(self, book: Book) -> None:
        """Take the mid into the volatility; while the book is not trusted there is none."""
        if book.token in self._home:
            if book.token not in self._volatility:
                self._volatility[book.token] = Volatility(self._settings.volatility_horizons_s)
            mid = book.mid if book.trusted else None
            self._volatility[book.token].observe(mid, book.seen_ns)

    def _ask(self, name: TokenId | ConditionId, request: Resync | ConditionId) -> None:
        if name not in self._asked:
            self._asked.add(name)
            self._to_read.put_nowait(request)

    async def _read_asked(self) -> None:
        """Read what the streams could not vouch for, a few at a time."""
        while True:
            request = await self._to_read.get()
            if isinstance(request, Resync):
                await self._resync(request.token, request.reason)
                self._asked.discard(request.token)
            else:
                await self._load(request)
                self._asked.discard(request)

    async def _resync(self, token: TokenId, reason: str) -> None:
        log(_logger, logging.DEBUG, "book_resync", token=token, reason=reason)
        try:
            await self.refresh(token)
        except NotFound as e:
            log(_logger, logging.INFO, "book_gone", token=token, reason=str(e))
            await self._close(token)
        except VenueError as e:
            log(_logger, logging.WARNING, "book_unread", token=token, reason=str(e))

    async def _close(self, token: TokenId) -> None:
        """Stop watching a market without a book; its terms are read once more, for the record."""
        until_ns = self._clock.now_ns() + self._settings.market_refresh_s * NS_PER_S
        for market in list(self._markets.values()):
            if token in market.tokens:
                await self._load(market.condition)
                self._over(market.condition)
                self._resting[market.condition] = until_ns
                self._drop(market.condition)

    async def refresh(self, token: TokenId) -> Book:
        """Read a book over REST, give it to the stream's book, and return what is believed."""
        book = await self._venue.book(token)
        connection = self._home.get(token)
        if connection is None:
            self._moved[token] = book
            return book
        for event in connection.feed.snapshot(book, now_ns=self._clock.now_ns()):
            self._heard(event)
        return connection.feed.book(token) or book

    # --- out ------------------------------------------------------------------------------

    def _encoded(self, book: Book) -> bytes:
        """Return a book as it is told, with the volatility of its mid as of now."""
        watched = self._volatility.get(book.token)
        if watched is None:
            return encode(book)
        now_ns = self._clock.now_ns()
        return encode(msgspec.structs.replace(book, volatility=watched.value(now_ns)))

    async def _flush(self) -> None:
        """Publish the books that moved, each once however often it did."""
        while True:
            await asyncio.sleep(self._settings.book_flush_ms / 1_000)
            if not self._moved:
                continue
            moved, self._moved = self._moved, {}
            encoded = {token: self._encoded(book) for token, book in moved.items()}
            try:
                await self._store.write_views({book_key(t): data for t, data in encoded.items()})
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))
            with contextlib.suppress(nats.errors.Error):  # for whoever listens; the store has them
                for token, data in encoded.items():
                    await self._client.publish(f"md.book.{token}", data)

    async def _take(self, message: Msg) -> None:
        """Serve requests side by side: one that waits for the venue must not hold up the others."""
        self._group.create_task(self._serve(message))

    async def _serve(self, message: Msg) -> None:
        """Answer a refresh request: ``{"token"}`` with the Book, ``{"condition"}`` the Market."""
        answer = b""
        try:
            request: dict[str, Any] = msgspec.json.decode(message.data)
            async with asyncio.timeout(self._settings.refresh_deadline_ms / 1_000):
                answer = await self._answer(request)
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as e:
            log(_logger, logging.WARNING, "refresh_malformed", reason=str(e))
        except (VenueError, TimeoutError) as e:
            log(_logger, logging.WARNING, "refresh_unanswered", reason=str(e))
        with contextlib.suppress(nats.errors.Error):  # who asked has stopped waiting long ago
            await message.respond(answer)

    async def _answer(self, request: dict[str, Any]) -> bytes:
        if "condition" in request:
            condition = ids.condition_id(request["condition"])
            self.want(condition)
            market = self._markets.get(condition) or await self._load(condition)
            return encode(market) if market else b""
        token = ids.token_id(request["token"])
        encoded = self._encoded(await self.refresh(token))
        with contextlib.suppress(StoreAwayError):
            await self._store.write_views({book_key(token): encoded})
        return encoded
