"""The market streams of a process: who is subscribed where, and the rescue of who is stuck."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from shared.domain.book import Book
from shared.domain.ids import TokenId
from shared.domain.market import Market
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket.evidence import Checks, Counts
from shared.polymarket.feed import (
    TOKENS_MAX,
    BookMoved,
    FeedEvent,
    Flowing,
    MarketFeed,
    Resync,
    Silence,
    Stuck,
    TickChanged,
)
from shared.polymarket.rescue import Bounds, Move, Recovered, Rescue
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log

_WATCH_S: Final = 0.25  # how often time alone may demand something
_logger = logging.getLogger(__name__)


class _Connection:
    """One market stream and its at most ``TOKENS_MAX`` tokens."""

    def __init__(self, number: int, feed: MarketFeed) -> None:
        self.number, self.feed = number, feed
        self.outbox: asyncio.Queue[str] = asyncio.Queue()
        self.connected = False
        self.task: asyncio.Task[None] | None = None

    def send(self, frames: list[str]) -> None:
        for frame in frames:
            self.outbox.put_nowait(frame)


class Streams:
    """Subscribes tokens, tells what their feeds say, and moves them where they are delivered.

    A token has one home, whose word counts. A spare connection may be tried beside it; it becomes
    the home when it delivers.
    """

    def __init__(
        self,
        clock: Clock,
        told: Callable[[FeedEvent], None],
        *,
        settings: IngesterConfig,
        url: str,
    ) -> None:
        self._clock, self._told, self._url = clock, told, url
        self._settings = settings
        self._silence = Silence(
            snapshot_ns=settings.book_snapshot_s * NS_PER_S,
            token_ns=settings.book_silence_s * NS_PER_S,
            trust_ns=settings.book_trust_s * NS_PER_S,
            poll_ns=settings.book_poll_s * NS_PER_S,
            audit_ns=settings.book_audit_s * NS_PER_S,
        )
        self._checks = Checks(rest=settings.book_hash_rest, stream=settings.book_hash_stream)
        self.counts = Counts()
        self.rescue = Rescue(Bounds(reopen_every_ns=settings.book_reopen_s * NS_PER_S))
        self._connections: dict[int, _Connection] = {}
        self._opened = 0
        self._home: dict[TokenId, _Connection] = {}
        self._spare: dict[TokenId, _Connection] = {}
        self._markets: dict[TokenId, Market] = {}
        self._rng = random.Random()  # noqa: S311 - jitter
        self._group: asyncio.TaskGroup | None = None

    def __contains__(self, token: object) -> bool:
        return token in self._home

    @property
    def is_connected(self) -> bool:
        return all(connection.connected for connection in self._home.values())

    def trust(self) -> tuple[int, int]:
        """Return how many books are trusted and how many are not."""
        books = [connection.feed.book(token) for token, connection in self._home.items()]
        trusted = sum(1 for book in books if book is not None and book.trusted)
        return trusted, len(books) - trusted

    def book(self, token: TokenId) -> Book | None:
        connection = self._home.get(token)
        return connection.feed.book(token) if connection else None

    async def run(self) -> None:
        """Keep the connections until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for connection in self._connections.values():
                self._start(connection)
            while True:
                await asyncio.sleep(_WATCH_S)
                self.poll()

    def poll(self) -> None:
        """Do what time alone demands: a connection that is lost has no driver to ask it."""
        now_ns = self._clock.now_ns()
        for connection in list(self._connections.values()):
            for event in connection.feed.poll(now_ns=now_ns):
                self._heard(connection, event)
        for move in self.rescue.poll(now_ns=now_ns):
            self._make(move)
        self._close_empty()

    # --- subscriptions ----------------------------------------------------------------------

    def subscribe(self, market: Market) -> None:
        for token in market.tokens:
            self._markets[token] = market
            connection = self._home.get(token)
            if connection is None:
                connection = self._home[token] = self._roomy()
                connection.send(connection.feed.subscribe([token], now_ns=self._clock.now_ns()))
            connection.feed.know(market)

    def unsubscribe(self, token: TokenId) -> None:
        self._leave_spare(token)
        self.rescue.forget(token)
        self._markets.pop(token, None)
        connection = self._home.pop(token, None)
        if connection is not None:
            connection.send(connection.feed.unsubscribe([token]))

    def snapshot(self, book: Book, *, asked_ns: int) -> None:
        """Give a book read over REST to the stream's book."""
        connection = self._home.get(book.token)
        if connection is not None:
            now_ns = self._clock.now_ns()
            for event in connection.feed.snapshot(book, now_ns=now_ns, asked_ns=asked_ns):
                self._heard(connection, event)

    def _roomy(self, *, besides: _Connection | None = None) -> _Connection:
        """Return a connection with room; a second one for a token is as new as there is."""
        for connection in self._connections.values():
            full = len(connection.feed.tokens) >= TOKENS_MAX
            if not full and (besides is None or connection.number > besides.number):
                return connection
        self._opened += 1
        feed = MarketFeed(silence=self._silence, checks=self._checks, counts=self.counts)
        connection = self._connections[self._opened] = _Connection(self._opened, feed)
        self._start(connection)
        return connection

    def _close_empty(self) -> None:
        for number, connection in list(self._connections.items()):
            if not connection.feed.tokens:
                del self._connections[number]
                self.rescue.forget_home(number)
                if connection.task is not None:
                    connection.task.cancel()

    # --- sockets ----------------------------------------------------------------------------

    def _start(self, connection: _Connection) -> None:
        if self._group is not None:
            connection.task = self._group.create_task(self._pump(connection, connection.task))

    async def _pump(self, connection: _Connection, before: asyncio.Task[None] | None) -> None:
        """Drive a connection, after the driver before has closed the feed."""
        if before is not None:
            before.cancel()
            await asyncio.wait([before])

        def connected() -> None:
            connection.connected = True

        def lost(reason: str) -> None:
            connection.connected = False
            log(_logger, logging.WARNING, "market_stream_lost", reason=reason)

        host: Host[FeedEvent] = Host(
            now_ns=self._clock.now_ns,
            event=lambda event: self._heard(connection, event),
            connected=connected,
            lost=lost,
        )
        await pump(
            self._url,
            connection.feed,
            host=host,
            rng=self._rng,
            pace=Pace(poll_s=_WATCH_S, silence_s_max=2 * self._settings.book_trust_s),
            outbox=connection.outbox,
        )

    # --- what they say ----------------------------------------------------------------------

    def _heard(self, connection: _Connection, event: FeedEvent) -> None:
        match event:
            case BookMoved(book=book):
                token = book.token
                if self._spare.get(token) is connection and _delivers(book):
                    self._take_over(token, connection)
            case Resync(token=token) | TickChanged(token=token):
                pass
            case Stuck(token=token):
                if self._home.get(token) is connection:
                    self._is_stuck(event, connection)
                return
            case Flowing(token=token):
                if self._home.get(token) is connection:
                    self._flows(token)
                return
            case _:
                self._told(event)
                return
        if self._home.get(token) is connection:
            self._told(event)

    def _is_stuck(self, event: Stuck, home: _Connection) -> None:
        log(_logger, logging.INFO, "book_stuck", token=event.token, reason=event.reason)
        now_ns = self._clock.now_ns()
        for move in self.rescue.stuck(event.token, home=home.number, now_ns=now_ns):
            self._make(move)

    def _flows(self, token: TokenId) -> None:
        for recovered in self.rescue.flowing(token, now_ns=self._clock.now_ns()):
            _log_recovered(recovered)
        self._leave_spare(token)

    def _make(self, move: Move) -> None:
        """Make one move of a rescue."""
        token, now_ns = move.token, self._clock.now_ns()
        home = self._home.get(token)
        if home is None:
            return
        level = logging.WARNING if move.step == "polling" else logging.INFO
        log(_logger, level, "book_rescue", token=token, step=move.step)
        if move.step == "resubscribe":
            frames, events = home.feed.resubscribe(token, now_ns=now_ns)
            home.send(frames)
            for event in events:
                self._heard(home, event)
        elif move.step == "reopen":
            self._reopen(home)
        elif move.step == "parallel":
            self._leave_spare(token)
            spare = self._spare[token] = self._roomy(besides=home)
            spare.send(spare.feed.subscribe([token], now_ns=now_ns))
            spare.feed.know(self._markets[token])
        else:
            self._leave_spare(token)

    def _reopen(self, connection: _Connection) -> None:
        """End a connection's socket, and with it its driver: another one begins."""
        connection.connected = False
        self._start(connection)

    def _take_over(self, token: TokenId, spare: _Connection) -> None:
        home = self._home[token]
        self._home[token] = spare
        del self._spare[token]
        home.send(home.feed.unsubscribe([token]))
        self._flows(token)

    def _leave_spare(self, token: TokenId) -> None:
        spare = self._spare.pop(token, None)
        if spare is not None:
            spare.send(spare.feed.unsubscribe([token]))


def _delivers(book: Book) -> bool:
    return book.trusted and book.source == "stream"


def _log_recovered(told: Recovered) -> None:
    took_ms = told.took_ns // NS_PER_MS
    log(_logger, logging.INFO, "book_recovered", token=told.token, step=told.step, took_ms=took_ms)
