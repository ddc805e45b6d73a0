"""Keeps the books and terms of the markets of our lanes that somebody cares about, and serves them.

A market belongs to the lane of its condition, so every book has one writer, whoever's leaders
trade it. Trust is the streams' business; what they doubt is read over REST, within a budget.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, assert_never

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.ingester.connections import Streams
from services.ingester.interest import Interest
from services.ingester.resyncs import Budget, Resyncs
from services.ingester.serving import Desk
from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, TxHash
from shared.domain.market import Market
from shared.domain.units import NS_PER_S
from shared.domain.views import book_key, decode, encode, market_key
from shared.domain.volatility import Volatility
from shared.polymarket.errors import Garbage, NotFound, VenueError
from shared.polymarket.feed import (
    BookMoved,
    FeedEvent,
    Flowing,
    Resolved,
    Resync,
    Stuck,
    TickChanged,
    Traded,
)
from shared.polymarket.public import PublicVenue
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.rpc import REFRESH

_INTEREST_EVERY_S: Final = 1.0
_RETRY_NS: Final = 5 * NS_PER_S  # before terms that could not be read are asked for again
_READS_AT_ONCE: Final = 4  # of books, and as many of terms, whatever the streams ask for
_logger = logging.getLogger(__name__)


class Outlets(NamedTuple):
    """Where books go, and what could not be read."""

    store: Store
    client: Client
    bury: Callable[[str, str, str], None]  # source, reason, excerpt
    over: Callable[[ConditionId], None] = lambda _: None  # a market shows a sign of its end
    traded: Callable[[TxHash, int], None] = lambda *_: None  # a settlement, and the venue's time


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
        self._venue, self._clock, self._settings = venue, clock, settings
        self._store, self._client, self._bury, over, self._traded = outlets
        self._interest = Interest(clock, over)
        self._streams = Streams(clock, self._heard, settings=settings, url=market_ws)
        now_ns = clock.now_ns()
        per_s, burst = settings.book_resyncs_per_s, settings.book_resyncs_burst
        self._resyncs = Resyncs(Budget(per_s, burst, now_ns=now_ns))
        self.desk = Desk(self, clock, settings=settings)
        self._asked = asyncio.Event()  # something waits in the queue of resyncs
        self._markets: dict[ConditionId, Market] = {}
        self._terms: asyncio.Queue[ConditionId] = asyncio.Queue()
        self._terms_asked: set[ConditionId] = set()  # waiting in the queue, or being read
        self._moved: dict[TokenId, Book] = {}
        self._volatility: dict[TokenId, Volatility] = {}  # of the subscribed tokens
        self.heard_ns = 0

    # --- life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._client.subscribe(REFRESH, queue="ingester", cb=self._serve)
            await self._interest.listen(self._client)
            group.create_task(self._streams.run())
            group.create_task(self._flush())
            for _ in range(_READS_AT_ONCE):
                group.create_task(self._resync())
                group.create_task(self._read_terms())
            group.create_task(self._follow_interest())

    def want(self, condition: ConditionId) -> None:
        """Say that a market matters now; the process that holds its lane will hear of it."""
        self._interest.want(condition)

    def holding(self, partition: int) -> contextlib.AbstractContextManager[None]:
        """Keep the books of a lane's markets for as long as the lane is ours."""
        return self._interest.holding(partition)

    def trust(self) -> tuple[int, int]:
        """Return how many books are trusted and how many are not."""
        return self._streams.trust()

    @property
    def is_connected(self) -> bool:
        return self._streams.is_connected

    @property
    def evidence(self) -> dict[str, int]:
        """Return how often each reason spoke against a book, and each step of a rescue was made."""
        steps = {f"rescue: {step}": count for step, count in self._streams.rescue.counts.items()}
        return {**{str(reason): n for reason, n in self._streams.counts.items()}, **steps}

    @property
    def polled(self) -> int:
        """Return how many books live on REST alone, because no stream delivers them."""
        return self._streams.rescue.polled

    # --- interest -------------------------------------------------------------------------

    async def _follow_interest(self) -> None:
        while True:
            with contextlib.suppress(StoreAwayError):
                await self._interest.read(self._store)
                await self._adopt()
            for condition in self._interest.gone():
                self._drop(condition)
            for condition in self._interest.wanted:
                if not self._interest.rests(condition) and self._is_old(condition):
                    self._ask_terms(condition)
            await asyncio.sleep(_INTEREST_EVERY_S)

    async def _adopt(self) -> None:
        """Subscribe new markets by the terms that another process read: it may just have died."""
        new = [condition for condition in self._interest.wanted if condition not in self._markets]
        found = await self._store.read_views([market_key(each) for each in new]) if new else []
        for data in found:
            market = decode(data, Market)
            if market is not None and market.condition in self._interest:
                self._follow(market)

    def _is_old(self, condition: ConditionId) -> bool:
        market = self._markets.get(condition)
        refresh_ns = self._settings.market_refresh_s * NS_PER_S
        return market is None or self._clock.now_ns() - market.as_of_ns > refresh_ns

    def _ask_terms(self, condition: ConditionId) -> None:
        if condition not in self._terms_asked:
            self._terms_asked.add(condition)
            self._terms.put_nowait(condition)

    async def _read_terms(self) -> None:
        while True:
            condition = await self._terms.get()
            if await self._load(condition) is None:
                self._interest.rest(condition, _RETRY_NS)
            self._terms_asked.discard(condition)

    async def _load(self, condition: ConditionId) -> Market | None:
        """Read a market's terms, publish them, and subscribe to its books while it is wanted."""
        try:
            market = await self._venue.market(condition)
        except VenueError as e:
            log(_logger, logging.WARNING, "market_unread", condition=condition, reason=str(e))
            return None
        if self._interest.owns(condition):
            with contextlib.suppress(StoreAwayError):
                await self._store.write_views({market_key(condition): encode(market)})
        if not market.accepting_orders:
            self._interest.over(condition)
        if condition in self._interest:  # it may have been dropped while it was read
            self._follow(market)
        return market

    def _follow(self, market: Market) -> None:
        self._markets[market.condition] = market
        self._streams.subscribe(market)

    def _drop(self, condition: ConditionId) -> None:
        self._interest.leave(condition)
        market = self._markets.pop(condition, None)
        for token in market.tokens if market else ():
            self._streams.unsubscribe(token)
            self._resyncs.forget(token)
            self._volatility.pop(token, None)

    # --- the stream -----------------------------------------------------------------------

    def _heard(self, event: FeedEvent) -> None:
        match event:
            case BookMoved(book=book):
                self.heard_ns = self._clock.now_ns()
                self._watch(book)
                self._moved[book.token] = book
            case Resync(token=token, reason=reason):
                log(_logger, logging.DEBUG, "book_resync", token=token, reason=reason)
                self._resyncs.ask(token)
                self._asked.set()
            case Resolved(condition=condition):
                self._interest.over(condition)
                if condition in self._markets:  # the venue tells of every market there is
                    self._ask_terms(condition)
            case TickChanged(token=token):
                self._ask_terms_with(token)
            case Garbage(reason=reason):
                self._bury("market stream", reason, event.excerpt)
            case Traded(tx=tx, venue_ns=venue_ns):
                self._traded(tx, venue_ns)
            case Stuck() | Flowing():
                pass  # the streams see to it
            case _:
                assert_never(event)

    def _ask_terms_with(self, token: TokenId) -> None:
        for market in self._markets.values():
            if token in market.tokens:
                self._ask_terms(market.condition)

    def _watch(self, book: Book) -> None:
        """Take the mid into the volatility; while the book is not trusted there is none."""
        if book.token in self._streams:
            if book.token not in self._volatility:
                self._volatility[book.token] = Volatility(self._settings.volatility_horizons_s)
            mid = book.mid if book.trusted else None
            self._volatility[book.token].observe(mid, book.seen_ns)

    async def _resync(self) -> None:
        """Read what the streams could not vouch for, the longest waiting first."""
        while True:
            wait_ns = self._resyncs.wait_ns(now_ns=self._clock.now_ns())
            if wait_ns is None:
                self._asked.clear()
                await self._asked.wait()
            elif wait_ns:
                await asyncio.sleep(wait_ns / NS_PER_S)
            elif tokens := self._resyncs.take(now_ns=self._clock.now_ns()):
                try:
                    await self._read_some(tokens)
                finally:
                    self._resyncs.done(tokens)

    async def _read_some(self, tokens: Sequence[TokenId]) -> None:
        try:
            if len(tokens) == 1:
                await self.read(tokens[0])
            else:
                await self._read_many(tokens)
        except NotFound as e:
            log(_logger, logging.INFO, "book_gone", token=tokens[0], reason=str(e))
            await self._close(tokens[0])
        except VenueError as e:
            log(_logger, logging.WARNING, "book_unread", tokens=len(tokens), reason=str(e))

    async def read(self, token: TokenId) -> Book:
        """Read a book, give it to the stream's book, and return what is believed."""
        asked_ns = self._clock.now_ns()
        book = await self._venue.book(token)
        self._take_book(book, asked_ns=asked_ns)
        return self._streams.book(token) or self._judged(book)

    async def _read_many(self, tokens: Sequence[TokenId]) -> None:
        """Read books together; whether one that is missing is gone, only its own answer tells."""
        asked_ns, missing = self._clock.now_ns(), dict.fromkeys(tokens)
        for book in await self._venue.books(tokens):
            if isinstance(book, Garbage):
                self._bury("/books", book.reason, book.excerpt)
            elif book.token in missing:
                del missing[book.token]
                self._take_book(book, asked_ns=asked_ns)
        for token in missing:
            if token in self._streams:
                self._resyncs.ask(token, alone=True)
                self._asked.set()

    def _take_book(self, book: Book, *, asked_ns: int) -> None:
        if book.token in self._streams:
            self._streams.snapshot(book, asked_ns=asked_ns)
        else:
            self._moved[book.token] = self._judged(book)

    def _judged(self, book: Book) -> Book:
        """Return a book that no stream keeps: what its hash costs is a setting."""
        if self._settings.book_hash_rest == "count":
            return msgspec.structs.replace(book, trusted=True)
        return book

    async def _close(self, token: TokenId) -> None:
        """Stop watching a market without a book; its terms are read once more, for the record."""
        for market in list(self._markets.values()):
            if token in market.tokens:
                await self._load(market.condition)
                self._interest.over(market.condition)
                self._interest.rest(market.condition, self._settings.market_refresh_s * NS_PER_S)
                self._drop(market.condition)

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
            await self._interest.tell(self._client)
            if not self._moved:
                continue
            moved, self._moved = self._moved, {}
            encoded = {
                token: self._encoded(book)
                for token, book in moved.items()
                if self._interest.owns(book.condition)
            }
            if not encoded:
                continue
            try:
                await self._store.write_views({book_key(t): data for t, data in encoded.items()})
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))
            with contextlib.suppress(nats.errors.Error):  # for whoever listens; the store has them
                for token, data in encoded.items():
                    await self._client.publish(f"md.book.{token}", data)

    async def _serve(self, message: Msg) -> None:
        """Serve requests side by side: one that waits for the venue must not hold up the others."""
        self._group.create_task(self.desk.serve(message))

    async def answer_terms(self, condition: ConditionId) -> bytes:
        """Return a market's terms for who asks for them, and take it as a sign of interest."""
        self.want(condition)
        market = self._markets.get(condition) or await self._load(condition)
        return encode(market) if market else b""

    async def answer_book(self, book: Book) -> bytes:
        """Return a book that was read on demand as it is told, and show it if it is of ours."""
        if not self._interest.owns(book.condition):
            return await self._of_another(book)
        encoded = self._encoded(book)
        with contextlib.suppress(StoreAwayError):
            await self._store.write_views({book_key(book.token): encoded})
        return encoded

    async def _of_another(self, book: Book) -> bytes:
        """Return a book of another lane, with the volatility that its keeper measured."""
        shown = None
        with contextlib.suppress(StoreAwayError):
            (found,) = await self._store.read_views([book_key(book.token)])
            shown = decode(found, Book)
        volatility = shown.volatility if shown else None
        return encode(msgspec.structs.replace(book, volatility=volatility))
