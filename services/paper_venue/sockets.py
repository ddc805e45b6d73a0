"""The three WebSockets: market, user and the activity stream; who subscribed to what."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, assert_never

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from services.paper_venue.faults import Faults, SocketKind
from services.paper_venue.public import (
    new_market_frame,
    resolved_frame,
    stream_frame,
    stream_payload,
)
from services.paper_venue.state import (
    BookMoved,
    Event,
    Listing,
    MarketEvent,
    MarketOpened,
    MarketResolved,
    OrderMoved,
    RowsShown,
    TickChanged,
    Traded,
    TradeMoved,
    Venue,
)
from services.paper_venue.wire import (
    Json,
    best_bid_ask_frame,
    book_frame,
    encode,
    last_trade_frame,
    ms_text,
    order_frame,
    price_change_frame,
    trade_frame,
)
from shared.domain.ids import TokenId, Wallet
from shared.domain.units import NS_PER_S, format_micro

QUEUE_MAX: Final = 50_000  # frames waiting for a slow reader; then it is cut, as in production
STREAM_KINDS: Final = ("trades", "orders_matched")
SOCKET_KINDS: Final[tuple[SocketKind, ...]] = ("market", "user", "stream")


class Peer:
    """One open socket, its subscriptions, and the frames it has not taken yet."""

    def __init__(self, kind: SocketKind) -> None:
        self.kind = kind
        self.abort: Callable[[], None] = lambda: None  # ends the connection without a goodbye
        self.tokens: set[str] = set()
        self.extras = False  # custom_feature_enabled
        self.address: Wallet | None = None
        self.owners: set[str] = set()
        self.markets: set[str] | None = None  # None: all of the account's
        self.stream_kinds: set[str] = set()
        self.queue: deque[str] = deque()
        self.ready = asyncio.Event()
        self.too_slow = False
        self.pinged = True  # since the last activity frame; connecting counts
        self.pinged_ns = 0

    def is_awake(self, now_ns: int, idle_s: int) -> bool:
        """Tell whether the activity stream still speaks to a socket: it falls asleep unpinged."""
        if self.pinged:
            self.pinged, self.pinged_ns = False, now_ns
        return now_ns - self.pinged_ns < idle_s * NS_PER_S

    def send(self, text: str) -> None:
        if len(self.queue) >= QUEUE_MAX:
            self.too_slow = True
        else:
            self.queue.append(text)
        self.ready.set()


class Hub:
    """Turns events into frames, each encoded once, for the sockets that want them."""

    def __init__(self, venue: Venue, faults: Faults) -> None:
        self._venue = venue
        self._faults = faults
        self.peers: set[Peer] = set()

    def publish(self, events: Iterable[Event], now_ns: int) -> None:
        """Send what follows from events, except to sockets that are silent on request."""
        if not self.peers:
            return
        silent = {kind for kind in SOCKET_KINDS if self._faults.is_silent(kind, now_ns)}
        for event in events:
            if isinstance(event, RowsShown):
                if "stream" not in silent:
                    self._rows(event, now_ns)
            elif isinstance(event, OrderMoved | TradeMoved):
                if "user" not in silent:
                    self._own(event)
            elif "market" not in silent:
                self._market(event)

    def cut(self, kind: str) -> None:
        """End sockets without a goodbye; ``all`` ends every one."""
        for peer in self.peers:
            if kind in ("all", peer.kind):
                peer.abort()

    def _own(self, event: OrderMoved | TradeMoved) -> None:
        if isinstance(event, OrderMoved):
            self._order(event)
        else:
            self._trade(event)

    def _market(self, event: MarketEvent) -> None:
        listings = self._venue.listings
        match event:
            case BookMoved():
                self._book(event)
            case Traded():
                self._to_token(event.trade.token, partial(last_trade_frame, event.trade))
            case TickChanged():
                self._tick(event)
            case MarketOpened():
                self._to_extras(new_market_frame(listings[event.condition], event.ts_ns))
            case MarketResolved():
                self._to_extras(resolved_frame(listings[event.condition], event.ts_ns))
            case _:
                assert_never(event)

    def books(self, peer: Peer, tokens: Iterable[str]) -> None:
        """Send a peer the books it has just subscribed to: one array."""
        frames = []
        for token in tokens:
            condition = self._venue.by_token.get(TokenId(token))
            if condition is not None and self._venue.listings[condition].payouts is None:
                listing = self._venue.listings[condition]
                frames.append(book_frame(listing, listing.market.outcome_of(TokenId(token))))
        if frames:
            peer.send(_text(frames) + "\n")

    def _rows(self, event: RowsShown, now_ns: int) -> None:
        wanted = {kind for peer in self.peers for kind in peer.stream_kinds}
        if not wanted:
            return
        for row in event.rows:
            payload = stream_payload(self._venue, row)
            for kind in STREAM_KINDS:
                if kind in wanted and (kind == "trades" or row.taker):
                    bare = self._venue.config.rtds_bare
                    text = _text(stream_frame(payload, kind, now_ns, bare=bare))
                    self._to_stream(kind, text, now_ns)

    def _to_stream(self, kind: str, text: str, now_ns: int) -> None:
        faults, idle_s = self._faults, self._venue.config.rtds_idle_s
        lost, twice = faults.spend("drop_frames"), faults.spend("twice_frames")
        garbage = faults.spend("garbage_frames")
        for peer in self.peers:
            if kind in peer.stream_kinds and peer.is_awake(now_ns, idle_s):
                if garbage:
                    peer.send('{"topic":"activity","type":')
                if not lost:
                    peer.send(text)
                if twice:
                    peer.send(text)

    def _book(self, moved: BookMoved) -> None:
        """Tell levels as changes, or whole books after a trade, as the venue does."""
        listing = self._venue.listings[moved.condition]
        tokens = listing.market.tokens
        watching = [peer for peer in self.peers if peer.tokens.intersection(tokens)]
        if not watching:
            return
        if moved.traded:
            for outcome, token in enumerate(tokens):
                self._to_token(token, partial(_alone, listing, outcome))
        else:
            text = _text(price_change_frame(listing, moved))
            for peer in watching:
                peer.send(text)
        for outcome, token in enumerate(tokens):
            frame = None
            for peer in watching:
                if peer.extras and token in peer.tokens:
                    frame = frame or _text(best_bid_ask_frame(listing, outcome))
                    peer.send(frame)

    def _order(self, event: OrderMoved) -> None:
        frame = None
        for peer in self._users(event.order.owner, event.order.condition):
            frame = frame or _text(order_frame(self._venue, event.order, event.change, event.ts_ns))
            peer.send(frame)

    def _trade(self, event: TradeMoved) -> None:
        trade = event.trade
        parties = {trade.taker_owner: False}
        for leg in trade.legs:
            parties.setdefault(leg.owner, True)
        for owner, maker in parties.items():
            for peer in self._users(owner, trade.condition):
                peer.send(
                    _text(trade_frame(self._venue, trade, event.status, event.ts_ns, maker=maker))
                )

    def _users(self, owner: str, condition: str) -> list[Peer]:
        return [
            peer
            for peer in self.peers
            if owner
            and owner in peer.owners
            and (peer.markets is None or condition in peer.markets)
        ]

    def _tick(self, event: TickChanged) -> None:
        for token in self._venue.listings[event.condition].market.tokens:
            frame = {
                "event_type": "tick_size_change",
                "market": event.condition,
                "asset_id": token,
                "old_tick_size": format_micro(event.old),
                "new_tick_size": format_micro(event.new),
                "timestamp": ms_text(event.ts_ns),
            }
            self._to_token(token, partial(dict, frame))

    def _to_token(self, token: str, build: Callable[[], Json | list[Json]]) -> None:
        text = None
        for peer in self.peers:
            if token in peer.tokens:
                text = text or _text(build())
                peer.send(text)

    def _to_extras(self, frame: Json) -> None:
        text = _text(frame)
        for peer in self.peers:
            if peer.extras:
                peer.send(text)


def hear_market(hub: Hub, peer: Peer, message: dict[str, Any]) -> str | None:
    """Apply a market socket's frame; wrong keys are taken silently, as production does."""
    operation = message.get("operation", "subscribe" if message.get("type") else "")
    tokens = [token for token in _texts(message.get("assets_ids")) if token]
    if operation == "unsubscribe":
        peer.tokens.difference_update(tokens)
        return None
    if operation != "subscribe":
        return "INVALID OPERATION"
    peer.extras = peer.extras or message.get("custom_feature_enabled") is True
    fresh = [token for token in tokens if token not in peer.tokens]
    if not fresh:
        return "NO NEW ASSETS" if tokens else None
    peer.tokens.update(fresh)
    if message.get("initial_dump", True):
        hub.books(peer, fresh)
    return None


def hear_stream(peer: Peer, message: dict[str, Any]) -> None:
    """Apply an activity socket's frame; without ``action`` nothing happens, as in production."""
    kinds: set[str] = set()
    for subscription in message.get("subscriptions") or ():
        if not isinstance(subscription, dict) or subscription.get("topic") != "activity":
            return  # one unknown topic poisons the whole request
        kind = subscription.get("type")
        kinds.update(STREAM_KINDS if kind == "*" else (str(kind),))
    if message.get("action") == "subscribe":
        peer.stream_kinds |= kinds
    elif message.get("action") == "unsubscribe":
        peer.stream_kinds -= kinds


def hear_user(
    peer: Peer, message: dict[str, Any], find: Callable[[dict[str, Any]], set[str]]
) -> bool:
    """Apply a user socket's frame; False where the credentials are wrong."""
    markets = {market.lower() for market in _texts(message.get("markets"))}
    operation = message.get("operation")
    if operation is None:
        auth = message.get("auth")
        peer.owners = find(auth) if isinstance(auth, dict) else set()
        peer.markets = markets or None
        return bool(peer.owners)
    if operation == "subscribe":
        peer.markets = (peer.markets or set()) | markets
    elif operation == "unsubscribe" and peer.markets is not None:
        peer.markets -= markets
    return True


async def serve_socket(
    request: web.Request, hub: Hub, peer: Peer, hear: Callable[[dict[str, Any]], str | None]
) -> web.WebSocketResponse:
    """Run one socket to its end: a reader that applies frames, a writer that empties the queue."""
    socket = web.WebSocketResponse(autoping=True, max_msg_size=4 << 20, compress=False)
    await socket.prepare(request)
    if request.transport is not None:
        peer.abort = request.transport.abort
    hub.peers.add(peer)
    writer = asyncio.create_task(_write(socket, peer))
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            if message.data.strip() == "PING":
                peer.pinged = True
                peer.send("PONG")
                continue
            reply = _heard(message.data, hear)
            if reply == "close":
                break
            if reply:
                peer.send(reply)
    finally:
        hub.peers.discard(peer)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    await socket.close()
    return socket


def _heard(text: str, hear: Callable[[dict[str, Any]], str | None]) -> str | None:
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return "INVALID OPERATION"
    return hear(message) if isinstance(message, dict) else "INVALID OPERATION"


async def _write(socket: web.WebSocketResponse, peer: Peer) -> None:
    while not peer.too_slow:
        await peer.ready.wait()
        peer.ready.clear()
        while peer.queue and not peer.too_slow:
            try:
                await socket.send_str(peer.queue.popleft())
            except (ConnectionError, RuntimeError):  # the other side has gone
                return
    await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"slow consumer: send buffer full")


def _alone(listing: Listing, outcome: int) -> list[Json]:
    return [book_frame(listing, outcome)]


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(frame: Json | list[Json]) -> str:
    return encode(frame).decode()
