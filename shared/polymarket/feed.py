"""The market stream without its socket: frames and times in, book events and frames out.

Trust in a book is lost only by evidence and regained only by a snapshot, from the stream or
from REST. PONG proves a socket, never data (protocol.md 3.5).
"""

from collections.abc import Iterable
from typing import Final, assert_never

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import NS_PER_S, Price
from shared.polymarket import parse, scalars, wire
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.frames import Frame, documents
from shared.polymarket.ladder import Change, Ladder

TOKENS_MAX: Final = 200  # a connection; beyond this snapshots were seen to stop (protocol.md 3.5)


class BookMoved(msgspec.Struct, frozen=True):
    book: Book


class Resync(msgspec.Struct, frozen=True):
    """A snapshot of this token is needed: fetch it and give it to ``MarketFeed.snapshot``."""

    token: TokenId
    reason: str


class Resolved(msgspec.Struct, frozen=True):
    condition: ConditionId
    winning_token: TokenId | None  # None: not one token won (a 50/50 resolution)


class TickChanged(msgspec.Struct, frozen=True):
    token: TokenId
    tick: Price


FeedEvent = BookMoved | Resync | Resolved | TickChanged | Garbage


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """How long silence is believed. Beyond each limit a snapshot is asked for."""

    snapshot_ns: int = 5 * NS_PER_S  # for the snapshot of an untrusted token; asked again then
    token_ns: int = 30 * NS_PER_S  # for one token; its book stays trusted, but it is checked
    connection_ns: int = 30 * NS_PER_S  # for all tokens together; then all lose trust


_EVENTS: Final = msgspec.json.Decoder(wire.MarketEvent | list[wire.MarketEvent])
_EVENT: Final = msgspec.json.Decoder(wire.MarketEvent)
_DECODING: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_BOOK_BEARING: Final = frozenset({"", "book", "price_change", "tick_size_change"})


class MarketFeed:
    """The books of one connection's tokens. It never reads a clock or touches a socket."""

    def __init__(self, tokens: Iterable[TokenId] = (), *, silence: Silence | None = None) -> None:
        self.heard_ns = 0  # our time of the last message about one of our tokens
        self._silence = silence or Silence()
        self._ladders = {token: Ladder(token, now_ns=0) for token in tokens}
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

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection: nothing from before it is believed. Return the frames to send."""
        self._is_open, self._has_greeted, self.heard_ns = True, False, now_ns
        for ladder in self._ladders.values():
            ladder.forget(now_ns=now_ns)
        return self._ask(list(self._ladders))

    def closed(self, *, now_ns: int) -> list[FeedEvent]:
        """End a connection: all books lose trust until they are read over REST."""
        self._is_open = self._has_greeted = False
        events: list[FeedEvent] = []
        for ladder in self._ladders.values():
            ladder.forget(now_ns=now_ns)
            events += self._doubted(ladder, "connection lost", now_ns=now_ns)
        return events

    def subscribe(self, tokens: Iterable[TokenId], *, now_ns: int) -> list[str]:
        """Add tokens; return the frames to send, none where ``opened`` will do it."""
        new = [token for token in dict.fromkeys(tokens) if token not in self._ladders]
        assert len(self._ladders) + len(new) <= TOKENS_MAX, "too many tokens for one connection"
        self.heard_ns = self.heard_ns if self._ladders else now_ns
        self._ladders.update({token: Ladder(token, now_ns=now_ns) for token in new})
        return self._ask(new)

    def unsubscribe(self, tokens: Iterable[TokenId]) -> list[str]:
        gone = [token for token in dict.fromkeys(tokens) if self._ladders.pop(token, None)]
        if not gone or not self._has_greeted:
            return []
        return [_frame({"operation": "unsubscribe", "assets_ids": gone})]

    def snapshot(self, book: Book, *, now_ns: int) -> list[FeedEvent]:
        """Take a book read over REST; it restores trust unless it contradicts the stream."""
        ladder = self._ladders.get(book.token)
        return self._load(ladder, book, now_ns=now_ns) if ladder else []

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
        frozen = self._is_open and self.is_silent(now_ns=now_ns, limit_ns=wait.connection_ns)
        for ladder in self._ladders.values():
            since_asked = now_ns - ladder.asked_ns
            unseen = now_ns - ladder.seen_ns > wait.connection_ns  # not over REST either
            if frozen and ladder.trusted and unseen:
                ladder.distrust("silent connection")
                events += self._doubted(ladder, "silent connection", now_ns=now_ns)
            elif not ladder.trusted and since_asked > wait.snapshot_ns:
                events += self._doubted(ladder, "no snapshot", now_ns=now_ns)
            elif now_ns - max(ladder.seen_ns, ladder.asked_ns) > wait.token_ns:
                ladder.asked_ns = now_ns
                events.append(Resync(ladder.token, "silent token"))
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
                about = _tokens_in(piece)
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
                case wire.LastTrade() | wire.BestBidAsk():
                    if event.asset_id in self._ladders:
                        self.heard_ns = now_ns
                    return []
                case wire.MarketResolved():
                    return [_resolved(event)]
                case wire.NewMarket():
                    return []
                case _:
                    assert_never(event)
        except WireError as e:
            return [Garbage.of(e), *self._doubt(_tokens_of(event), now_ns=now_ns)]

    def _take_book(self, event: wire.Book, *, now_ns: int) -> list[FeedEvent]:
        ladder = self._ladders.get(TokenId(event.asset_id))
        if ladder is None:
            return []
        self.heard_ns = now_ns
        return self._load(ladder, parse.book(event, now_ns=now_ns, tick=ladder.tick), now_ns=now_ns)

    def _take_changes(self, event: wire.PriceChange, *, now_ns: int) -> list[FeedEvent]:
        by_token: dict[str, list[wire.LevelChange]] = {}
        for entry in event.price_changes:
            if entry.asset_id in self._ladders:
                by_token.setdefault(entry.asset_id, []).append(entry)
        if not by_token:
            return []
        self.heard_ns = now_ns
        at_ns = scalars.moment_ns(event.timestamp, now_ns=now_ns, where="price_change.timestamp")
        events: list[FeedEvent] = []
        for token, entries in by_token.items():
            ladder = self._ladders[TokenId(token)]
            try:
                change = _change(entries, at_ns=at_ns)
            except WireError as e:
                ladder.lose(at_ns, now_ns=now_ns)
                events += [Garbage.of(e), *self._doubt([token], now_ns=now_ns)]
                continue
            was_trusted = ladder.trusted
            reason = ladder.apply(change, now_ns=now_ns)
            if reason:
                events += self._doubted(ladder, reason, now_ns=now_ns)
            elif was_trusted:
                events += _moved(ladder)
        return events

    def _take_tick(self, event: wire.TickSizeChange, *, now_ns: int) -> list[FeedEvent]:
        ladder = self._ladders.get(TokenId(event.asset_id))
        if ladder is None:
            return []
        self.heard_ns = now_ns
        where = "tick_size_change"
        tick = scalars.price(event.new_tick_size, where=f"{where}.new_tick_size")
        at_ns = scalars.moment_ns(event.timestamp, now_ns=now_ns, where=f"{where}.timestamp")
        ladder.set_tick(tick, at_ns=at_ns, now_ns=now_ns)
        told = TickChanged(ladder.token, tick)
        return [told, *self._doubted(ladder, "tick changed", now_ns=now_ns)]

    def _load(self, ladder: Ladder, book: Book, *, now_ns: int) -> list[FeedEvent]:
        reason = ladder.load(book, now_ns=now_ns)
        return self._doubted(ladder, reason, now_ns=now_ns) if reason else _moved(ladder)

    def _doubted(self, ladder: Ladder, reason: str, *, now_ns: int) -> list[FeedEvent]:
        ladder.asked_ns = now_ns
        return [*_moved(ladder), Resync(ladder.token, reason)]

    def _doubt(self, tokens: Iterable[str], *, now_ns: int) -> list[FeedEvent]:
        """Take trust from those of the tokens that have it: a message of theirs was lost."""
        events: list[FeedEvent] = []
        for token in dict.fromkeys(tokens):
            ladder = self._ladders.get(TokenId(token))
            if ladder and ladder.trusted:
                events += self._doubted(ladder, ladder.distrust("unreadable"), now_ns=now_ns)
        return events

    def _ask(self, tokens: list[TokenId]) -> list[str]:
        if not self._is_open or not tokens:
            return []
        kind = {"operation": "subscribe"} if self._has_greeted else {"type": "market"}
        self._has_greeted = True
        return [_frame({**kind, "assets_ids": tokens, "custom_feature_enabled": True})]


def _frame(content: dict[str, object]) -> str:
    return msgspec.json.encode(content).decode()


def _moved(ladder: Ladder) -> list[FeedEvent]:
    book = ladder.book()
    return [BookMoved(book)] if book else []


def _change(entries: list[wire.LevelChange], *, at_ns: int) -> Change:
    levels = []
    for entry in entries:
        is_bid = scalars.side(entry.side, where="price_change.side") == "BUY"
        levels.append((is_bid, *parse.level(entry.price, entry.size, where="price_change")))
    return Change(
        at_ns=at_ns,
        levels=tuple(levels),
        best_bid=parse.best_price(entries[-1].best_bid, where="price_change.best_bid"),
        best_ask=parse.best_price(entries[-1].best_ask, where="price_change.best_ask"),
    )


def _resolved(event: wire.MarketResolved) -> Resolved:
    winner = event.winning_asset_id
    return Resolved(
        condition=scalars.condition(event.market, where="market_resolved.market"),
        winning_token=scalars.token(winner, where="market_resolved.winner") if winner else None,
    )


def _tokens_of(event: wire.MarketEvent) -> list[str]:
    if isinstance(event, wire.PriceChange):
        return [entry.asset_id for entry in event.price_changes]
    return [event.asset_id] if isinstance(event, wire.Book | wire.TickSizeChange) else []


def _tokens_in(piece: msgspec.Raw) -> list[str] | None:
    """Return whom an undecodable event was about; None where it does not even say that."""
    try:
        probe = wire.decode(piece, wire.Probe, where="market stream")
    except WireError:
        return None
    if probe.event_type not in _BOOK_BEARING:
        return []
    about = [probe.asset_id, *(entry.asset_id for entry in probe.price_changes)]
    return about if any(about) else None
