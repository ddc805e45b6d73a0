"""The venue's JSON, field by field: text stays text, numbers are Decimals, nothing is judged.

A field that was ever seen as null or absent has a default here; `parse` says what that means.
"""

import hashlib
from decimal import Decimal
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from shared.polymarket.errors import WireError

T = TypeVar("T")

Stamp = str | int | None  # seconds, ms or ISO text: the magnitude tells


class Level(msgspec.Struct, frozen=True):
    price: str
    size: str


class Book(msgspec.Struct, frozen=True, tag_field="event_type", tag="book"):
    """A book over REST or the market stream; the stream leaves the market's terms out."""

    market: str
    asset_id: str
    timestamp: Stamp
    bids: list[Level] | None = None
    asks: list[Level] | None = None
    hash: str | None = None
    tick_size: str | None = None
    last_trade_price: str | msgspec.UnsetType | None = msgspec.UNSET  # only hashed, as told
    version: str | msgspec.UnsetType | None = msgspec.UNSET


class LevelChange(msgspec.Struct, frozen=True):
    asset_id: str
    price: str
    size: str  # the new absolute size; "0" removes the level
    side: str
    best_bid: str | None = None
    best_ask: str | None = None


class PriceChange(msgspec.Struct, frozen=True, tag_field="event_type", tag="price_change"):
    timestamp: Stamp
    price_changes: list[LevelChange]


class TickSizeChange(msgspec.Struct, frozen=True, tag_field="event_type", tag="tick_size_change"):
    asset_id: str
    new_tick_size: str
    timestamp: Stamp


class LastTrade(msgspec.Struct, frozen=True, tag_field="event_type", tag="last_trade_price"):
    asset_id: str = ""
    transaction_hash: str | None = None
    timestamp: Stamp = None


class BestBidAsk(msgspec.Struct, frozen=True, tag_field="event_type", tag="best_bid_ask"):
    asset_id: str = ""


class NewMarket(msgspec.Struct, frozen=True, tag_field="event_type", tag="new_market"):
    market: str = ""


class MarketResolved(msgspec.Struct, frozen=True, tag_field="event_type", tag="market_resolved"):
    market: str
    winning_asset_id: str | None = None


MarketEvent = (
    Book | PriceChange | TickSizeChange | LastTrade | BestBidAsk | NewMarket | MarketResolved
)


class ProbedChange(msgspec.Struct, frozen=True):
    asset_id: str = ""


class Probe(msgspec.Struct, frozen=True):
    """What is still readable of an event that does not decode: whom it was about."""

    event_type: str = ""
    asset_id: str = ""
    price_changes: list[ProbedChange] = []


class ClobToken(msgspec.Struct, frozen=True):
    t: str
    o: str = ""


class FeeTerms(msgspec.Struct, frozen=True):
    r: Decimal | None = None
    e: Decimal | None = None


class ClobMarket(msgspec.Struct, frozen=True):
    """GET /clob-markets/{condition}: the venue's one-letter keys (protocol.md 1.4)."""

    c: str
    t: list[ClobToken]
    mos: Decimal
    mts: Decimal
    nr: bool | None = None
    ao: bool | None = None
    fd: FeeTerms | None = None
    itode: bool | None = None
    v: str | None = None


class GammaTag(msgspec.Struct, frozen=True):
    slug: str | None = None
    label: str | None = None


GammaTags = list[GammaTag | str] | str | None


class GammaEvent(msgspec.Struct, frozen=True):
    """What a market is listed under; a series is the event that it repeats."""

    slug: str | None = None
    category: str | None = None
    tags: GammaTags = None
    series: GammaTags = None


class GammaMarket(msgspec.Struct, frozen=True, rename="camel"):
    condition_id: str | None = None
    question: str | None = None
    slug: str | None = None
    end_date: str | None = None
    seconds_delay: Decimal | None = None
    neg_risk_market: str | None = msgspec.field(default=None, name="negRiskMarketID")
    events: list[GammaEvent] | None = None
    category: str | None = None
    tags: GammaTags = None
    version: str | None = None
    clob_token_ids: str | list[str] | None = None  # a JSON list, as text


class GammaPage(msgspec.Struct, frozen=True):
    markets: list[GammaMarket] | None = None


class TokenMarket(msgspec.Struct, frozen=True):
    """GET /markets-by-token/{token}."""

    condition_id: str


class ActivityRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of /v2/activity."""

    proxy_wallet: str
    timestamp: Stamp
    transaction_hash: str
    type: str = "TRADE"
    condition_id: str | None = None
    size: Decimal | None = None
    price: Decimal | None = None
    token_id: str | None = None
    side: str | None = None
    outcome_index: int | None = None
    is_combo: bool | None = None


class RtdsRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The payload of an RTDS activity message: a trade in camelCase."""

    proxy_wallet: str
    timestamp: Stamp
    transaction_hash: str
    condition_id: str | None = None
    size: Decimal | None = None
    price: Decimal | None = None
    token_id: str | None = msgspec.field(default=None, name="asset")
    side: str | None = None
    outcome_index: int | None = None


class RtdsFrame(msgspec.Struct, frozen=True):
    payload: msgspec.Raw = msgspec.Raw()
    type: str | None = None


class Pagination(msgspec.Struct, frozen=True):
    has_more: bool = False
    next_cursor: str | None = None


class DataPage(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw] | None
    pagination: Pagination


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    proxy_wallet: str
    token_id: str
    condition_id: str
    current_size: Decimal
    outcome_index: int
    avg_price: Decimal | None = None
    current_price: Decimal | None = None


class Value(msgspec.Struct, frozen=True):
    proxy_wallet: str
    value: Decimal


class DataValue(msgspec.Struct, frozen=True):
    """GET /v2/value: one object, or null."""

    data: Value | None


class ResolutionRow(msgspec.Struct, frozen=True):
    """A row of /v2/resolutions; payouts are micro-dollars a share, by outcome."""

    condition_id: str
    status: str
    payouts: list[int] | None = None


class DataList(msgspec.Struct, frozen=True):
    """A Data API answer that is one page by nature."""

    data: list[msgspec.Raw] | None


class ClobPage(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw] | None
    next_cursor: str | None = None


class MakerLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One maker order of a trade; 2024 recordings lack ``side``."""

    order_id: str | None = None
    owner: str | None = None
    maker_address: str | None = None
    matched_amount: str | None = None
    price: str | None = None
    asset_id: str | None = None
    side: str | None = None


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One of our trades, over REST or the user stream."""

    id: str
    status: str
    market: str
    asset_id: str
    side: str
    size: str
    price: str
    taker_order_id: str | None = None
    trader_side: str | None = None
    owner: str | None = None
    maker_address: str | None = None
    match_time: Stamp = None
    matchtime: Stamp = None
    last_update: Stamp = None
    timestamp: Stamp = None
    transaction_hash: str | None = None
    maker_orders: list[MakerLeg] | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One of our orders, over REST or the user stream."""

    id: str
    market: str
    asset_id: str
    side: str
    price: str
    original_size: str
    size_matched: str | None = None
    status: str | None = None
    type: str | None = None  # on the stream: PLACEMENT, UPDATE, CANCELLATION
    order_type: str | None = None


class UserProbe(msgspec.Struct, frozen=True):
    event_type: str | None = None
    type: str | None = None


class PostOrderAnswer(msgspec.Struct, frozen=True):
    success: bool | None = None
    error_msg: str | None = msgspec.field(default=None, name="errorMsg")
    order_id: str | None = msgspec.field(default=None, name="orderID")
    status: str | None = None
    trade_ids: list[str] | None = msgspec.field(default=None, name="tradeIDs")


class CancelAnswer(msgspec.Struct, frozen=True):
    canceled: list[str] | None = None
    not_canceled: dict[str, str] | None = None


class Balance(msgspec.Struct, frozen=True):
    balance: str
    allowances: dict[str, str] | None = None


class ClosedOnly(msgspec.Struct, frozen=True):
    closed_only: bool


class Geoblock(msgspec.Struct, frozen=True):
    """What the site's host says of where we are."""

    blocked: bool
    country: str = ""
    region: str = ""


class Version(msgspec.Struct, frozen=True):
    version: int


class ApiKey(msgspec.Struct, frozen=True):
    api_key: str = msgspec.field(name="apiKey")
    secret: str
    passphrase: str

    def __repr__(self) -> str:
        return "ApiKey(<hidden>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


_HASH_ORDER: Final = (
    *("market", "asset_id", "timestamp", "hash", "bids", "asks"),
    *("min_order_size", "tick_size", "neg_risk", "last_trade_price", "version"),
)


def decode(body: bytes | str | msgspec.Raw, kind: type[T], *, where: str) -> T:
    """Decode a body, or raise WireError whatever it is."""
    try:
        decoded: T = _decoder(kind).decode(body)  # type: ignore[arg-type]  # types do hash
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        seen = bytes(body) if isinstance(body, msgspec.Raw) else body
        raise WireError(str(e), where=where, seen=seen) from None
    return decoded


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def book_hash(
    body: bytes, *, min_order_size: str | None = None, neg_risk: bool | None = None
) -> str:
    """Return the hash the venue gives a book: SHA-1 of its REST body with an empty ``hash``.

    A body of the stream lacks ``min_order_size`` and ``neg_risk``: give both to hash one.
    """
    told = decode(body, dict[str, Any], where="book")
    told.pop("event_type", None)
    hashed: dict[str, Any] = {}
    known = {"min_order_size": min_order_size, "neg_risk": neg_risk}
    missing = {key: value for key, value in known.items() if key not in told and value is not None}
    for key in (*_HASH_ORDER, *told):
        if key in told or key in missing:
            hashed[key] = "" if key == "hash" else told.get(key, missing.get(key))
    return hashlib.sha1(msgspec.json.encode(hashed), usedforsecurity=False).hexdigest()
