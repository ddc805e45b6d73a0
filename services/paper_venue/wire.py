"""The CLOB's JSON: bodies and frames, field for field as recorded (protocol.md 1, 3, 4)."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from services.paper_venue.state import BookMoved, Leg, Listing, Order, Trade, Venue
from services.paper_venue.trading import Placed
from shared.domain.ids import TokenId
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, format_micro

Json = dict[str, Any]
encode = msgspec.json.Encoder().encode
LEGACY_FEE: Final = 1000  # the base fee production reports and does not charge
REWARD_SIZE_MIN: Final = 50 * MICRO  # what a resting order needs to score: micro-shares,
REWARD_SPREAD_MAX: Final = 45_000  # micro-dollars from the mid,
REWARD_AGE_S: Final = 30  # seconds since it was placed


def number(micro: int) -> msgspec.Raw:
    """Write micro-units as a JSON number, digit for digit: no float on the way."""
    return msgspec.Raw(format_micro(micro).encode())


def ms_text(ns: int) -> str:
    return str(ns // NS_PER_MS)


def book_body(listing: Listing, outcome: int) -> Json:
    """Return the REST book of one token, with the venue's hash; best levels last."""
    market = listing.market
    bids, asks = sides(listing, outcome)
    body: Json = {
        "market": market.condition,
        "asset_id": market.tokens[outcome],
        "timestamp": ms_text(listing.changed_ns),
        "hash": "",
        "bids": [_level(price, bids[price]) for price in sorted(bids)],
        "asks": [_level(price, asks[price]) for price in sorted(asks, reverse=True)],
        "min_order_size": format_micro(market.size_min),
        "tick_size": format_micro(market.tick),
        "neg_risk": market.neg_risk,
        "last_trade_price": last_price_text(listing, outcome),
    }
    if market.protocol == "v2":
        body["version"] = "v2"
    body["hash"] = book_hash(body)
    return body


def book_hash(body: Json) -> str:
    """Return the venue's hash of a book body: SHA-1 of it with an empty hash, keys in order."""
    return hashlib.sha1(encode({**body, "hash": ""}), usedforsecurity=False).hexdigest()


def book_frame(listing: Listing, outcome: int) -> Json:
    """Return the socket's book: the REST body without the market's terms."""
    body = book_body(listing, outcome)
    left_out = ("min_order_size", "neg_risk")
    frame = {key: value for key, value in body.items() if key not in left_out}
    return {"event_type": "book", **frame}


def sides(listing: Listing, outcome: int) -> tuple[dict[int, int], dict[int, int]]:
    """Return a token's bids and asks; those of outcome 1 mirror those of outcome 0."""
    bids = listing.book.levels(is_bid=True)
    asks = listing.book.levels(is_bid=False)
    if outcome == 0:
        return bids, asks
    return _mirrored(asks), _mirrored(bids)


def best_prices(listing: Listing, outcome: int) -> tuple[Price | None, Price | None]:
    """Return a token's best bid and best ask."""
    bid, ask = listing.book.best(is_bid=True), listing.book.best(is_bid=False)
    if outcome == 0:
        return bid, ask
    return (
        None if ask is None else Price(MICRO - ask),
        None if bid is None else Price(MICRO - bid),
    )


def last_price(listing: Listing, outcome: int) -> Price | None:
    price = listing.last_price
    if price is None or outcome == 0:
        return price
    return Price(MICRO - price)


def last_price_text(listing: Listing, outcome: int) -> str:
    """Write the last price with production's three decimals, four where it needs them."""
    price = last_price(listing, outcome)
    if price is None:
        return ""
    digits = f"{price // MICRO}.{price % MICRO:06d}"
    return digits[:5] if price % 1_000 == 0 else digits[:6]


def price_change_frame(listing: Listing, moved: BookMoved) -> Json:
    """Return the levels that changed, each for both tokens, with their new absolute sizes."""
    stamp = ms_text(listing.changed_ns)
    entries = []
    for outcome in (0, 1):
        bids, asks = sides(listing, outcome)
        best_bid, best_ask = best_prices(listing, outcome)
        token = listing.market.tokens[outcome]
        for canonical_bid, canonical_price in moved.changes:
            is_bid = canonical_bid == (outcome == 0)
            price = canonical_price if outcome == 0 else MICRO - canonical_price
            entry = {
                "asset_id": token,
                "price": format_micro(price),
                "size": format_micro((bids if is_bid else asks).get(price, 0)),
                "side": "BUY" if is_bid else "SELL",
            }
            seal = encode([entry, stamp])
            entry["hash"] = hashlib.sha1(seal, usedforsecurity=False).hexdigest()
            entry["best_bid"] = format_micro(best_bid or 0)
            entry["best_ask"] = format_micro(MICRO if best_ask is None else best_ask)
            entries.append(entry)
    return {
        "event_type": "price_change",
        "market": listing.market.condition,
        "price_changes": entries,
        "timestamp": stamp,
    }


def best_bid_ask_frame(listing: Listing, outcome: int) -> Json:
    best_bid, best_ask = best_prices(listing, outcome)
    bid, ask = best_bid or 0, MICRO if best_ask is None else best_ask
    return {
        "event_type": "best_bid_ask",
        "market": listing.market.condition,
        "asset_id": listing.market.tokens[outcome],
        "best_bid": format_micro(bid),
        "best_ask": format_micro(ask),
        "spread": format_micro(ask - bid),
        "timestamp": ms_text(listing.changed_ns),
    }


def last_trade_frame(trade: Trade) -> Json:
    return {
        "event_type": "last_trade_price",
        "market": trade.condition,
        "asset_id": trade.token,
        "price": format_micro(trade.price),
        "size": format_micro(trade.size),
        "fee_rate_bps": "0",
        "side": trade.side,
        "timestamp": ms_text(trade.match_ns),
        "transaction_hash": trade.tx,
    }


def market_info(listing: Listing) -> Json:
    """Return ``/clob-markets/{id}``: the compact terms (protocol.md 1.4)."""
    market = listing.market
    info: Json = {
        "r": {
            "mi": number(REWARD_SIZE_MIN),
            "ma": number(100 * REWARD_SPREAD_MAX),
            "moas": REWARD_AGE_S,
        },
        "t": [
            {"t": token, "o": name}
            for token, name in zip(market.tokens, market.outcomes, strict=True)
        ],
        "c": market.condition,
        "mos": number(market.size_min),
        "mts": number(market.tick),
        "mbf": LEGACY_FEE,
        "tbf": LEGACY_FEE,
        "ao": market.accepting_orders,
        "aot": iso(listing.opened_ns),
        "itode": market.taker_delay,
    }
    if market.neg_risk:
        info["nr"] = True
    if listing.clear_on_start:
        info["cbos"] = True
    if market.fee_rate:
        info["fd"] = {"r": number(market.fee_rate), "e": market.fee_exponent, "to": True}
    info["v"] = market.protocol
    return info


def market_long(listing: Listing) -> Json:
    """Return ``/markets/{id}``: the long-form terms."""
    market = listing.market
    payouts = listing.payouts
    tokens = []
    for outcome, token in enumerate(market.tokens):
        price = payouts[outcome] if payouts else (last_price(listing, outcome) or MICRO // 2)
        tokens.append(
            {
                "token_id": token,
                "outcome": market.outcomes[outcome],
                "price": number(price),
                "winner": payouts is not None and payouts[outcome] == MICRO,
            }
        )
    return {
        "enable_order_book": payouts is None,
        "active": True,
        "closed": payouts is not None,
        "archived": False,
        "accepting_orders": market.accepting_orders,
        "accepting_order_timestamp": iso(listing.opened_ns),
        "minimum_order_size": number(market.size_min),
        "minimum_tick_size": number(market.tick),
        "condition_id": market.condition,
        "question_id": market.condition,
        "question": market.question,
        "description": "",
        "market_slug": market.slug,
        "end_date_iso": iso(market.end_ns) if market.end_ns else None,
        "game_start_time": None,
        "seconds_delay": listing.seconds_delay,
        "fpmm": "",
        "maker_base_fee": LEGACY_FEE,
        "taker_base_fee": LEGACY_FEE,
        "notifications_enabled": True,
        "neg_risk": market.neg_risk,
        "neg_risk_market_id": market.event if market.neg_risk else "",
        "neg_risk_request_id": "",
        "icon": "",
        "image": "",
        "rewards": rewards(),
        "is_50_50_outcome": payouts is not None and payouts[0] == payouts[1],
        "tokens": tokens,
        "tags": list(market.tags),
    }


def market_short(listing: Listing) -> Json:
    """Return a line of ``/simplified-markets``."""
    long = market_long(listing)
    kept = ("condition_id", "rewards", "tokens", "active", "closed", "archived", "accepting_orders")
    return {key: long[key] for key in kept}


def rewards() -> Json:
    """Return the terms of liquidity rewards, the same for every market; nobody pays any."""
    return {
        "rates": None,
        "min_size": number(REWARD_SIZE_MIN),
        "max_spread": number(100 * REWARD_SPREAD_MAX),
    }


def open_order(venue: Venue, order: Order) -> Json:
    """Return an order as ``/data/order`` and ``/data/orders`` show it."""
    return {
        "id": order.id,
        "status": "CANCELED" if is_kill(order.status) else order.status,
        "market": order.condition,
        "original_size": format_micro(order.size),
        "outcome": venue.listings[order.condition].market.outcomes[order.outcome],
        "maker_address": order.wallet,
        "owner": order.owner,
        "price": format_micro(order.price),
        "side": order.side,
        "size_matched": format_micro(order.matched),
        "asset_id": order.token,
        "expiration": str(order.expiration_s),
        "order_type": order.kind,
        "associate_trades": list(order.trades),
        "created_at": order.created_ns // NS_PER_S,
    }


def is_kill(status: str) -> bool:
    """Tell a status with a sentence after it, which only the user socket shows."""
    return status != status.upper()


def order_frame(venue: Venue, order: Order, change: str, ts_ns: int) -> Json:
    """Return an order event of the user socket."""
    killed = is_kill(order.status) and not order.matched
    return {
        "asset_id": order.token,
        "associate_trades": list(order.trades),
        "created_at": str(order.created_ns // NS_PER_S),
        "event_type": "order",
        "expiration": str(order.expiration_s),
        "id": order.id,
        "maker_address": order.wallet,
        "market": order.condition,
        "order_owner": order.owner,
        "order_type": order.kind,
        "original_size": format_micro(order.size),
        "outcome": venue.listings[order.condition].market.outcomes[order.outcome],
        "owner": order.owner,
        "price": format_micro(order.price),
        "side": order.side,
        "size_matched": "" if killed else format_micro(order.matched),
        "status": order.status,
        "timestamp": ms_text(ts_ns),
        "type": change,
    }


def trade_body(venue: Venue, trade: Trade, *, maker: bool) -> Json:
    """Return a trade as ``/data/trades`` shows it to one of its parties."""
    outcomes = venue.listings[trade.condition].market.outcomes
    return {
        "id": trade.id,
        "taker_order_id": trade.taker_order,
        "market": trade.condition,
        "asset_id": trade.token,
        "side": trade.side,
        "size": format_micro(trade.size),
        "price": format_micro(trade.price),
        "status": f"TRADE_STATUS_{trade.status}",
        "owner": trade.taker_owner,
        "maker_address": trade.taker,
        "outcome": outcomes[trade.outcome],
        "fee_rate_bps": "0",
        "bucket_index": 0,
        "match_time": str(trade.match_ns // NS_PER_S),
        "last_update": str(trade.updated_ns // NS_PER_S),
        "transaction_hash": trade.tx if trade.status in ("MINED", "CONFIRMED") else "",
        "maker_orders": [_maker_order(leg, outcomes) for leg in trade.legs],
        "trader_side": "MAKER" if maker else "TAKER",
    }


def trade_frame(venue: Venue, trade: Trade, status: str, ts_ns: int, *, maker: bool) -> Json:
    """Return a trade event of the user socket, in one of its settlement states."""
    body = trade_body(venue, trade, maker=maker)
    return {
        **body,
        "event_type": "trade",
        "type": "TRADE",
        "status": status,
        "last_update": str(ts_ns // NS_PER_S),
        "timestamp": ms_text(ts_ns),
        "trade_owner": trade.taker_owner,
        "transaction_hash": trade.tx if status in ("MINED", "CONFIRMED") else "",
    }


def placed_body(order: Order, placed: Placed) -> Json:
    """Return the answer to a posted order; hashes come with settlement, not here."""
    shares = sum(trade.size for trade in placed.trades)
    dollars = sum(trade.notional for trade in placed.trades)
    gave, got = (dollars, shares) if order.side == "BUY" else (shares, dollars)
    empty = "0" if placed.status == "delayed" else ""
    return {
        "success": True,
        "errorMsg": "",
        "orderID": placed.order,
        "status": placed.status,
        "makingAmount": format_micro(gave) if placed.trades else empty,
        "takingAmount": format_micro(got) if placed.trades else empty,
        "transactionsHashes": [],
        "tradeIDs": [trade.id for trade in placed.trades],
    }


def _maker_order(leg: Leg, outcomes: tuple[str, str]) -> Json:
    return {
        "order_id": leg.order,
        "owner": leg.owner,
        "maker_address": leg.wallet,
        "matched_amount": format_micro(leg.size),
        "price": format_micro(leg.price),
        "fee_rate_bps": "0",
        "asset_id": leg.token,
        "outcome": outcomes[leg.outcome],
        "side": leg.side,
    }


def iso(ns: int) -> str:
    """Write a time as production does: whole seconds, UTC, with a Z."""
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def token_outcome(listing: Listing, token: str) -> int:
    return listing.market.outcome_of(TokenId(token))


def _level(price: int, size: int) -> Json:
    return {"price": format_micro(price), "size": format_micro(size)}


def _mirrored(levels: dict[int, int]) -> dict[int, int]:
    return {MICRO - price: size for price, size in levels.items()}
