"""The three WebSockets: market, user and the activity stream; who subscribed to what."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, assert_never

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from services.paper_venue.connections import until_gone
from services.paper_venue.delivery import Delivery, Peer
from services.paper_venue.fates import rescue
from services.paper_venue.matching import MarketBook
from services.paper_venue.public import (
    new_market_frame,
    resolved_frame,
    stream_frame,
    stream_payload,
)
from services.paper_venue.rules import Place, Rules
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
from shared.domain.ids import TokenId
from shared.domain.units import NS_PER_MS, NS_PER_S, format_micro

STREAM_KINDS: Final = ("trades", "orders_matched")
PAST_KEPT: Final = 32  # old books a market, while a rule asks for one
PAST_EVERY_NS: Final = 250 * NS_PER_MS
Past = tuple[int, tuple[dict[int, int], dict[int, int]]]  # since when, bids and asks


class Hub:
    """Turns events into frames, each encoded once, for the sockets that want them."""

    def __init__(self, venue: Venue, rules: Rules, now_ns: Callable[[], int]) -> None:
        self._venue = venue
        self._rules = rules
        self.delivery = Delivery(rules, now_ns, venue.config)
        self._past: dict[str, deque[Past]] = {}

    def publish(self, events: Iterable[Event], now_ns: int) -> None:
        """Send what follows from events."""
        told = list(events)
        self._remember(told)
        if not self.delivery.peers:
            return
        for event in told:
            if isinstance(event, RowsShown):
                self._rows(event, now_ns)
            elif isinstance(event, OrderMoved | TradeMoved):
                self._own(event)
            else:
                self._market(event)

    def _peers(self, wanted: Callable[[Peer], bool]) -> list[Peer]:
        return [peer for peer in self.delivery.peers.values() if wanted(peer)]

    def _remember(self, events: list[Event]) -> None:
        """Keep old books while a rule asks for them."""
        if not self._rules.standing("stale_dump"):
            self._past.clear()
            return
        if not self._past:
            for condition, listing in self._venue.listings.items():
                self._past[condition] = deque([(listing.changed_ns, listing.published)], PAST_KEPT)
        for event in events:
            if isinstance(event, BookMoved):
                listing = self._venue.listings[event.condition]
                past = self._past.setdefault(event.condition, deque(maxlen=PAST_KEPT))
                if not past or listing.changed_ns - past[-1][0] >= PAST_EVERY_NS:
                    past.append((listing.changed_ns, listing.published))
            elif isinstance(event, MarketResolved):
                self._past.pop(event.condition, None)

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
                listing = listings[event.condition]
                frame = new_market_frame(listing, event.ts_ns)
                self._to_extras(frame, listing.market.tokens)
            case MarketResolved():
                listing = listings[event.condition]
                self._to_extras(resolved_frame(listing, event.ts_ns), listing.market.tokens)
            case _:
                assert_never(event)

    def books(self, peer: Peer, tokens: Iterable[str]) -> None:
        """Send a peer the books it has just subscribed to: one array."""
        frames, told = [], []
        now_ns = self.delivery.now_ns()
        for token in tokens:
            place = peer.place((token,))
            if not self._rules.idle and (late := self._rules.fire("late_dump", place, now_ns)):
                build = partial(self._late_book, peer, token)
                self.delivery.later(peer, build, now_ns + late.delay_ns)
                continue
            frame = self._book_frame(token, place, now_ns)
            if frame is not None:
                frames.append(frame)
                told.append(token)
        if frames:
            self.delivery.tell([peer], _text(frames) + "\n", tuple(told))

    def ignores(self, peer: Peer, tokens: tuple[str, ...] = ()) -> bool:
        """Tell whether a subscription is taken and then forgotten; else it may wake an asset."""
        if self._rules.idle:
            return False
        place, now_ns = peer.place(tokens), self.delivery.now_ns()
        rescue(self._rules, place, now_ns)
        return self._rules.fire("ignored_subscription", place, now_ns) is not None

    def _late_book(self, peer: Peer, token: str) -> str:
        frame = self._book_frame(token) if token in peer.tokens else None
        return "" if frame is None else _text([frame]) + "\n"

    def _book_frame(self, token: str, place: Place | None = None, now_ns: int = 0) -> Json | None:
        """Return a token's book, or an old one where a rule takes its chance at the place."""
        condition = self._venue.by_token.get(TokenId(token))
        if condition is None or self._venue.listings[condition].payouts is not None:
            return None
        listing = self._venue.listings[condition]
        past = self._past.get(condition)
        if place is not None and past:
            stale = self._rules.fire("stale_dump", place, now_ns)
            if stale:
                listing = _as_it_was(
                    listing, past, now_ns - int((stale.rule.age_s or 0) * NS_PER_S)
                )
        return book_frame(listing, listing.market.outcome_of(TokenId(token)))

    def _rows(self, event: RowsShown, now_ns: int) -> None:
        wanted = {kind for peer in self.delivery.peers.values() for kind in peer.stream_kinds}
        if not wanted:
            return
        config = self._venue.config
        for row in event.rows:
            payload = stream_payload(self._venue, row)
            for kind in STREAM_KINDS:
                if kind in wanted and (kind == "trades" or row.taker):
                    text = _text(stream_frame(payload, kind, now_ns, bare=config.rtds_bare))
                    peers = self._peers(partial(_hears, kind, now_ns, config.rtds_idle_s))
                    self.delivery.tell(peers, text, (row.token or "",), (row.wallet,), kind=kind)

    def _book(self, moved: BookMoved) -> None:
        """Tell levels as changes, or whole books after a trade, as the venue does."""
        listing = self._venue.listings[moved.condition]
        tokens = listing.market.tokens
        watching = self._peers(lambda peer: bool(peer.tokens.intersection(tokens)))
        if not watching:
            return
        if moved.traded:
            for outcome, token in enumerate(tokens):
                self._to_token(token, partial(_alone, listing, outcome))
        else:
            self.delivery.tell(watching, _text(price_change_frame(listing, moved)), tokens)
        for outcome, token in enumerate(tokens):
            asking = [peer for peer in watching if peer.extras and token in peer.tokens]
            if asking:
                self.delivery.tell(asking, _text(best_bid_ask_frame(listing, outcome)), (token,))

    def _order(self, event: OrderMoved) -> None:
        order = event.order
        peers = self._users(order.owner, order.condition)
        if peers:
            text = _text(order_frame(self._venue, order, event.change, event.ts_ns))
            self.delivery.tell(peers, text, (order.token,), (order.wallet,))

    def _trade(self, event: TradeMoved) -> None:
        trade = event.trade
        parties = {trade.taker_owner: False}
        for leg in trade.legs:
            parties.setdefault(leg.owner, True)
        tokens = tuple(dict.fromkeys((trade.token, *(leg.token for leg in trade.legs))))
        wallets = tuple(dict.fromkeys((trade.taker, *(leg.wallet for leg in trade.legs))))
        for owner, maker in parties.items():
            peers = self._users(owner, trade.condition)
            if peers:
                frame = trade_frame(self._venue, trade, event.status, event.ts_ns, maker=maker)
                self.delivery.tell(peers, _text(frame), tokens, wallets)

    def _users(self, owner: str, condition: str) -> list[Peer]:
        if not owner:
            return []
        return self._peers(
            lambda peer: (
                owner in peer.owners and (peer.markets is None or condition in peer.markets)
            )
        )

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
        peers = self._peers(lambda peer: token in peer.tokens)
        if peers:
            self.delivery.tell(peers, _text(build()), (token,))

    def _to_extras(self, frame: Json, tokens: tuple[str, ...]) -> None:
        self.delivery.tell(self._peers(lambda peer: peer.extras), _text(frame), tokens)


def hear_market(hub: Hub, peer: Peer, message: dict[str, Any]) -> str | None:
    """Apply a market socket's frame; wrong keys are taken silently, as production does."""
    operation = message.get("operation", "subscribe" if message.get("type") else "")
    tokens = [token for token in _texts(message.get("assets_ids")) if token]
    if operation == "unsubscribe":
        peer.tokens.difference_update(tokens)
        peer.ignored.difference_update(tokens)
        return None
    if operation != "subscribe":
        return "INVALID OPERATION"
    peer.extras = peer.extras or message.get("custom_feature_enabled") is True
    fresh = [token for token in tokens if token not in peer.tokens | peer.ignored]
    if not fresh:
        return "NO NEW ASSETS" if tokens else None
    peer.ignored.update(token for token in fresh if hub.ignores(peer, (token,)))
    heard = [token for token in fresh if token not in peer.ignored]
    peer.tokens.update(heard)
    if message.get("initial_dump", True):
        hub.books(peer, heard)
    return None


def hear_stream(hub: Hub, peer: Peer, message: dict[str, Any]) -> None:
    """Apply an activity socket's frame; without ``action`` nothing happens, as in production."""
    kinds: set[str] = set()
    for subscription in message.get("subscriptions") or ():
        if not isinstance(subscription, dict) or subscription.get("topic") != "activity":
            return  # one unknown topic poisons the whole request
        kind = subscription.get("type")
        kinds.update(STREAM_KINDS if kind == "*" else (str(kind),))
    if message.get("action") == "subscribe" and kinds and not hub.ignores(peer):
        peer.stream_kinds |= kinds
    elif message.get("action") == "unsubscribe":
        peer.stream_kinds -= kinds


def hear_user(
    hub: Hub, peer: Peer, message: dict[str, Any], find: Callable[[dict[str, Any]], set[str]]
) -> bool:
    """Apply a user socket's frame; False where the credentials are wrong."""
    markets = {market.lower() for market in _texts(message.get("markets"))}
    operation = message.get("operation")
    if operation is None:
        auth = message.get("auth")
        owners = find(auth) if isinstance(auth, dict) else set()
        peer.owners = set() if hub.ignores(peer) else owners
        peer.named = bool(owners)
        peer.markets = markets or None
        return bool(owners)
    if operation == "subscribe":
        peer.markets = (peer.markets or set()) | markets
    elif operation == "unsubscribe" and peer.markets is not None:
        peer.markets -= markets
    return True


async def serve_socket(
    request: web.Request, hub: Hub, peer: Peer, hear: Callable[[dict[str, Any]], str | None]
) -> web.WebSocketResponse:
    """Run one socket to its end: a reader that applies frames, a writer that empties the queue."""
    socket = web.WebSocketResponse(
        autoping=False, autoclose=False, max_msg_size=4 << 20, compress=False
    )
    await socket.prepare(request)
    if request.transport is not None:
        peer.abort = request.transport.abort
    hub.delivery.join(peer)
    writer = asyncio.create_task(_write(socket, peer))
    try:
        await _read(socket, peer, hear, hub.delivery.now_ns)
        if peer.half_open:
            await until_gone(request)
    finally:
        hub.delivery.leave(peer)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    await socket.close(drain=False)
    return socket


async def _read(
    socket: web.WebSocketResponse,
    peer: Peer,
    hear: Callable[[dict[str, Any]], str | None],
    now_ns: Callable[[], int],
) -> None:
    async for message in socket:
        if peer.half_open:
            continue
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        if message.type is not WSMsgType.TEXT:
            continue
        if message.data.strip() == "PING":
            peer.pinged = True
            peer.heard_ns = now_ns()
            peer.send("PONG")
            continue
        reply = _heard(message.data, hear)
        if reply == "close":
            return
        if reply:
            peer.send(reply)


def _heard(text: str, hear: Callable[[dict[str, Any]], str | None]) -> str | None:
    try:
        message = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return "INVALID OPERATION"
    return hear(message) if isinstance(message, dict) else "INVALID OPERATION"


async def _write(socket: web.WebSocketResponse, peer: Peer) -> None:
    while not peer.is_over():
        await peer.ready.wait()
        peer.ready.clear()
        while peer.queue and not peer.is_over():
            try:
                await socket.send_str(peer.queue.popleft())
            except (ConnectionError, RuntimeError):  # the other side has gone
                return
    if peer.over:
        await socket.close(code=WSCloseCode.OK, message=peer.over.encode())
        return
    await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"slow consumer: send buffer full")


def _as_it_was(listing: Listing, past: deque[Past], as_of_ns: int) -> Listing:
    """Return a market with the newest book of a time, or the oldest that is kept."""
    since_ns, (bids, asks) = next((old for old in reversed(past) if old[0] <= as_of_ns), past[0])
    book = MarketBook()
    book.replace_depth(bids.items(), asks.items())
    return msgspec.structs.replace(listing, book=book, changed_ns=since_ns)


def _hears(kind: str, now_ns: int, idle_s: int, peer: Peer) -> bool:
    return kind in peer.stream_kinds and peer.is_awake(now_ns, idle_s)


def _alone(listing: Listing, outcome: int) -> list[Json]:
    return [book_frame(listing, outcome)]


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(frame: Json | list[Json]) -> str:
    return encode(frame).decode()
