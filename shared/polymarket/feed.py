"""The market stream without its socket: frames and times in, book events and frames out.

Trust in a book is lost only by evidence and regained only by a snapshot, from the stream or
from REST. PONG proves a socket, never data (protocol.md 3.5).
"""

from collections.abc import Iterable
from typing import Final, assert_never

import msgspec

from shared.domain.book import Book
from shared.domain.ids import TokenId
from shared.domain.market import Market
from shared.polymarket import parse, scalars, seal, wire
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.evidence import Checks, Counts, Reason
from shared.polymarket.feed_events import BookMoved as BookMoved
from shared.polymarket.feed_events import FeedEvent as FeedEvent
from shared.polymarket.feed_events import Flowing as Flowing
from shared.polymarket.feed_events import Resolved as Resolved
from shared.polymarket.feed_events import Resync as Resync
from shared.polymarket.feed_events import Silence as Silence
from shared.polymarket.feed_events import Stuck as Stuck
from shared.polymarket.feed_events import TickChanged as TickChanged
from shared.polymarket.feed_events import Traded as Traded
from shared.polymarket.frames import Frame, documents
from shared.polymarket.ladder import Ladder
from shared.polymarket.market_messages import (
    FUTURE,
    change_of,
    check_stamp,
    resolution_of,
    tokens_in,
    tokens_of,
    traded,
)

TOKENS_MAX: Final = 200  # a connection; beyond this snapshots were seen to stop (protocol.md 3.5)


_EVENTS: Final = msgspec.json.Decoder(wire.MarketEvent | list[wire.MarketEvent])
_EVENT: Final = msgspec.json.Decoder(wire.MarketEvent)
_DECODING: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


class MarketFeed:
    """The books of one connection's tokens. It never reads a clock or touches a socket."""

    def __init__(
        self,
        tokens: Iterable[TokenId] = (),
        *,
        silence: Silence | None = None,
        checks: Checks | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.heard_ns = 0  # our time of the last message about one of our tokens
        self.counts = Counts() if counts is None else counts  # of every reason, by its name
        self._silence, self._checks = silence or Silence(), checks or Checks()
        self._ladders = {token: Ladder(token, now_ns=0) for token in tokens}
        self._terms: dict[TokenId, Market] = {}
        self._is_open = False
        self._has_greeted = False
        assert len(self._ladders) <= TOKENS_MAX, "too many tokens for one connection"

    @property
    def tokens(self) -> frozenset[TokenId]:
        return frozenset(self._ladders)

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        """Tell whether nothing was said of any of our tokens for longer than the limit."""
        return bool(self._ladders) and now_ns - self.heard_ns > limit_ns

    def book(self, token: TokenId) -> Book | None:
        """Return the book as it stands, trusted or not; None where there was no snapshot yet."""
        ladder = self._ladders.get(token)
        return ladder.book() if ladder else None

    def know(self, market: Market) -> None:
        """Learn the terms of a market: with them its streamed books can be verified."""
        self._terms |= {token: market for token in market.tokens if token in self._ladders}

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection: nothing from before it is believed. Return the frames to send."""
        self._is_open, self._has_greeted, self.heard_ns = True, False, now_ns
        for ladder in self._ladders.values():
            ladder.begin(now_ns=now_ns)
        return self._ask(list(self._ladders))

    def closed(self, *, now_ns: int) -> list[FeedEvent]:
        """End a connection: all books lose trust, until the next one's or REST's snapshots."""
        self._is_open = self._has_greeted = False
        events: list[FeedEvent] = []
        for ladder in self._ladders.values():
            ladder.end(now_ns=now_ns)
            self.counts["connection lost"] += 1
            self._ask_soon(ladder, now_ns=now_ns)
            events += _moved(ladder)
        return events

    def subscribe(self, tokens: Iterable[TokenId], *, now_ns: int) -> list[str]:
        """Add tokens; return the frames to send, none where ``opened`` will do it."""
        new = [token for token in dict.fromkeys(tokens) if token not in self._ladders]
        assert len(self._ladders) + len(new) <= TOKENS_MAX, "too many tokens for one connection"
        self.heard_ns = self.heard_ns if self._ladders else now_ns
        self._ladders.update({token: Ladder(token, now_ns=now_ns) for token in new})
        if self._is_open:
            for token in new:
                self._ladders[token].begin(now_ns=now_ns)
        return self._ask(new)

    def unsubscribe(self, tokens: Iterable[TokenId]) -> list[str]:
        gone = [token for token in dict.fromkeys(tokens) if self._ladders.pop(token, None)]
        for token in gone:
            self._terms.pop(token, None)
        if not gone or not self._has_greeted:
            return []
        return [_frame({"operation": "unsubscribe", "assets_ids": gone})]

    def resubscribe(self, token: TokenId, *, now_ns: int) -> tuple[list[str], list[FeedEvent]]:
        """Ask the stream for a token anew; between the two frames changes may pass untold."""
        ladder = self._ladders.get(token)
        if ladder is None or not self._has_greeted:
            return [], []
        ladder.begin(now_ns=now_ns)
        self.counts["resubscribed"] += 1
        gone = _frame({"operation": "unsubscribe", "assets_ids": [token]})
        return [gone, *self._ask([token])], _moved(ladder)

    def snapshot(self, book: Book, *, now_ns: int, asked_ns: int | None = None) -> list[FeedEvent]:
        """Take a book read over REST, asked for at ``asked_ns``.

        It restores trust unless it contradicts the stream, or what we know is newer.
        """
        ladder = self._ladders.get(book.token)
        if ladder is None:
            return []
        if not book.trusted:
            self.counts["hash disagrees"] += 1
            if self._checks.rest == "distrust":
                self._ask_soon(ladder, now_ns=now_ns)
                return _moved(ladder)
        return self._load(ladder, book, now_ns=now_ns, asked_ns=asked_ns)

    def receive(self, frame: Frame, *, now_ns: int) -> list[FeedEvent]:
        """Take one frame of the socket, whatever it is."""
        try:
            decoded = _EVENTS.decode(frame)
        except _DECODING:
            return self._receive_piecewise(frame, now_ns=now_ns)
        events: list[FeedEvent] = []
        for event in decoded if isinstance(decoded, list) else [decoded]:
            events += self._take(event, now_ns=now_ns)
        return events

    def poll(self, *, now_ns: int) -> list[FeedEvent]:
        """Say what time alone demands."""
        wait, events = self._silence, list[FeedEvent]()
        frozen = self._is_open and self.is_silent(now_ns=now_ns, limit_ns=wait.token_ns)
        for ladder in self._ladders.values():
            if not ladder.trusted:
                if now_ns - ladder.asked_ns > wait.snapshot_ns:
                    events += self._doubted(ladder, "no snapshot", now_ns=now_ns)
            elif now_ns - ladder.seen_ns > wait.trust_ns:
                reason = ladder.distrust("silent connection" if frozen else "silent token")
                events += self._doubted(ladder, reason, now_ns=now_ns)
                events += self._stuck(ladder, reason, now_ns=now_ns)
            elif now_ns - max(ladder.seen_ns, ladder.asked_ns) > self._limit_ns(ladder):
                reason = "polling" if self._is_polled(ladder) else "silent token"
                events += self._check(ladder, reason, now_ns=now_ns)
            elif now_ns - max(ladder.audited_ns, ladder.asked_ns) > wait.audit_ns:
                events += self._check(ladder, "audit", now_ns=now_ns)
            if ladder.waits_ns is not None and now_ns - ladder.waits_ns > wait.snapshot_ns:
                reason = "frozen" if ladder.owed_ns else "no snapshot"
                stuck = self._stuck(ladder, reason, now_ns=now_ns)
                self.counts[reason] += len(stuck)
                events += stuck
        return events

    def _receive_piecewise(self, frame: Frame, *, now_ns: int) -> list[FeedEvent]:
        """Save what can be saved of a frame that does not decode as a whole."""
        pieces, garbage = documents(frame, where="market stream")
        events: list[FeedEvent] = list(garbage)
        if garbage:
            events += self._doubt(self._ladders, now_ns=now_ns)
        for piece in pieces:
            try:
                event = _EVENT.decode(piece)
            except _DECODING as e:
                error = WireError(str(e), where="market stream", seen=bytes(piece))
                about = tokens_in(piece)
                events.append(Garbage.of(error))
                events += self._doubt(self._ladders if about is None else about, now_ns=now_ns)
            else:
                events += self._take(event, now_ns=now_ns)
        return events

    def _take(self, event: wire.MarketEvent, *, now_ns: int) -> list[FeedEvent]:
        try:
            match event:
                case wire.Book():
                    return self._take_book(event, now_ns=now_ns)
                case wire.PriceChange():
                    return self._take_changes(event, now_ns=now_ns)
                case wire.TickSizeChange():
                    return self._take_tick(event, now_ns=now_ns)
                case wire.LastTrade():
                    self._noticed(event.asset_id, now_ns)
                    return traded(event, now_ns=now_ns)
                case wire.BestBidAsk():
                    self._noticed(event.asset_id, now_ns)
                    return []
                case wire.MarketResolved():
                    return [resolution_of(event)]
                case wire.NewMarket():
                    return []
                case _:
                    assert_never(event)
        except WireError as e:
            reason: Reason = FUTURE if e.what == FUTURE else "unreadable"
            return [Garbage.of(e), *self._doubt(tokens_of(event), reason, now_ns=now_ns)]

    def _noticed(self, token: str, now_ns: int) -> None:
        if token in self._ladders:
            self.heard_ns = now_ns

    def _take_book(self, event: wire.Book, *, now_ns: int) -> list[FeedEvent]:
        ladder = self._ladders.get(TokenId(event.asset_id))
        if ladder is None:
            return []
        self.heard_ns = now_ns
        book = parse.book(event, now_ns=now_ns, tick=ladder.tick)
        check_stamp(book.as_of_ns, now_ns=now_ns, where="book.timestamp")
        terms = self._terms.get(ladder.token)
        if terms and book.condition != terms.condition:
            return self._lost(ladder, "another market", now_ns=now_ns)
        if terms and not seal.is_intact(event, terms):
            if self._checks.stream == "distrust":
                return self._lost(ladder, "hash disagrees", at_ns=book.as_of_ns, now_ns=now_ns)
            self.counts["hash disagrees"] += 1
        return self._load(ladder, book, now_ns=now_ns)

    def _take_changes(self, event: wire.PriceChange, *, now_ns: int) -> list[FeedEvent]:
        by_token: dict[str, list[wire.LevelChange]] = {}
        for entry in event.price_changes:
            if entry.asset_id in self._ladders:
                by_token.setdefault(entry.asset_id, []).append(entry)
        if not by_token:
            return []
        self.heard_ns = now_ns
        where = "price_change.timestamp"
        at_ns = scalars.moment_ns(event.timestamp, now_ns=now_ns, where=where)
        check_stamp(at_ns, now_ns=now_ns, where=where)
        events: list[FeedEvent] = []
        for token, entries in by_token.items():
            ladder = self._ladders[TokenId(token)]
            try:
                change = change_of(entries, at_ns=at_ns)
            except WireError as e:
                events.append(Garbage.of(e))
                events += self._lost(ladder, "unreadable", at_ns=at_ns, now_ns=now_ns)
                continue
            was_trusted, was_stuck = ladder.trusted, ladder.is_stuck
            reason = ladder.apply(change, now_ns=now_ns)
            if reason:
                events += self._doubted(ladder, reason, now_ns=now_ns)
            elif was_trusted:
                events += _moved(ladder, was_stuck=was_stuck)
        return events

    def _take_tick(self, event: wire.TickSizeChange, *, now_ns: int) -> list[FeedEvent]:
        ladder = self._ladders.get(TokenId(event.asset_id))
        if ladder is None:
            return []
        self.heard_ns = now_ns
        where = "tick_size_change"
        tick = scalars.price(event.new_tick_size, where=f"{where}.new_tick_size")
        at_ns = scalars.moment_ns(event.timestamp, now_ns=now_ns, where=f"{where}.timestamp")
        check_stamp(at_ns, now_ns=now_ns, where=f"{where}.timestamp")
        ladder.set_tick(tick, at_ns=at_ns, now_ns=now_ns)
        told = TickChanged(ladder.token, tick)
        return [told, *self._doubted(ladder, "tick changed", now_ns=now_ns)]

    def _load(
        self, ladder: Ladder, book: Book, *, now_ns: int, asked_ns: int | None = None
    ) -> list[FeedEvent]:
        was_trusted, was_stuck, tick = ladder.trusted, ladder.is_stuck, ladder.tick
        reason = ladder.load(book, now_ns=now_ns, asked_ns=asked_ns)
        told: list[FeedEvent] = []
        if tick not in (None, ladder.tick) and ladder.tick is not None:
            told.append(TickChanged(ladder.token, ladder.tick))
        if reason is None:
            return [*told, *_moved(ladder, was_stuck=was_stuck)]
        if was_trusted and ladder.trusted:  # what we know is newer, and stays
            self.counts[reason] += 1
            return told
        if reason == "stale snapshot":  # REST lags, and if it does for long, the stream is asked
            self._ask_soon(ladder, now_ns=now_ns)
            self.counts[reason] += 1
            lags = now_ns - ladder.hole_ns <= self._silence.snapshot_ns
            stuck = [] if lags else self._stuck(ladder, reason, now_ns=now_ns)
            return [*told, *_moved(ladder), *stuck]
        if book.source == "rest" and reason != "before a loss" and not was_trusted:
            self._ask_soon(ladder, now_ns=now_ns)
            self.counts[reason] += 1
            return [*told, *_moved(ladder)]
        return [*told, *self._doubted(ladder, reason, now_ns=now_ns)]

    def _doubted(self, ladder: Ladder, reason: Reason, *, now_ns: int) -> list[FeedEvent]:
        self.counts[reason] += 1
        ladder.asked_ns = now_ns
        return [*_moved(ladder), Resync(ladder.token, reason)]

    def _check(self, ladder: Ladder, reason: Reason, *, now_ns: int) -> list[FeedEvent]:
        """Compare a book that is trusted with REST."""
        self.counts[reason] += 1
        ladder.asked_ns = ladder.audited_ns = now_ns
        return [Resync(ladder.token, reason)]

    def _stuck(self, ladder: Ladder, reason: Reason, *, now_ns: int) -> list[FeedEvent]:
        if ladder.is_stuck or not self._is_open:
            return []
        ladder.is_stuck = True
        ladder.waits_ns = now_ns if ladder.waits_ns is None else ladder.waits_ns
        return [Stuck(ladder.token, reason)]

    def _is_polled(self, ladder: Ladder) -> bool:
        """Tell whether REST alone keeps a book alive."""
        return ladder.is_stuck or not self._is_open

    def _limit_ns(self, ladder: Ladder) -> int:
        return self._silence.poll_ns if self._is_polled(ladder) else self._silence.token_ns

    def _ask_soon(self, ladder: Ladder, *, now_ns: int) -> None:
        """Have a snapshot asked for after the retry time, not after the long one."""
        ladder.asked_ns = now_ns - self._silence.snapshot_ns + self._silence.retry_ns

    def _lost(
        self, ladder: Ladder, reason: Reason, *, now_ns: int, at_ns: int = 0
    ) -> list[FeedEvent]:
        """Take note that a message was lost, and what trust there was with it."""
        ladder.lose(at_ns, now_ns=now_ns)
        if not ladder.trusted:
            self.counts[reason] += 1
            return []
        return self._doubted(ladder, ladder.distrust(reason), now_ns=now_ns)

    def _doubt(
        self, tokens: Iterable[str], reason: Reason = "unreadable", *, now_ns: int
    ) -> list[FeedEvent]:
        events: list[FeedEvent] = []
        for token in dict.fromkeys(tokens):
            if ladder := self._ladders.get(TokenId(token)):
                events += self._lost(ladder, reason, now_ns=now_ns)
        return events

    def _ask(self, tokens: list[TokenId]) -> list[str]:
        if not self._is_open or not tokens:
            return []
        kind = {"operation": "subscribe"} if self._has_greeted else {"type": "market"}
        self._has_greeted = True
        return [_frame({**kind, "assets_ids": tokens, "custom_feature_enabled": True})]


def _frame(content: dict[str, object]) -> str:
    return msgspec.json.encode(content).decode()


def _moved(ladder: Ladder, *, was_stuck: bool = False) -> list[FeedEvent]:
    book = ladder.book()
    events: list[FeedEvent] = [BookMoved(book)] if book else []
    return [*events, Flowing(ladder.token)] if was_stuck and not ladder.is_stuck else events
