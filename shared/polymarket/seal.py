"""The venue's hash of a streamed book, made anew from the message and the market's terms.

It is the hash of the REST body of the same state (protocol.md 3.3), which has two terms that the
stream leaves out. REST bodies are hashed as they are, by ``wire.book_hash``.
"""

import hashlib

import msgspec

from shared.domain.market import Market
from shared.domain.units import format_micro
from shared.polymarket import wire


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """A REST body: its keys in the order in which they are hashed."""

    market: str
    asset_id: str
    timestamp: wire.Stamp
    hash: str = ""
    bids: list[wire.Level] | None
    asks: list[wire.Level] | None
    min_order_size: str
    tick_size: str | None
    neg_risk: bool
    last_trade_price: str | msgspec.UnsetType | None
    version: str | msgspec.UnsetType | None


_encode = msgspec.json.Encoder().encode


def is_intact(told: wire.Book, terms: Market) -> bool:
    """Tell whether a streamed book has the hash it tells; one without a hash tells nothing."""
    return not told.hash or told.hash == streamed_hash(told, terms)


def streamed_hash(told: wire.Book, terms: Market) -> str:
    body = _Body(
        market=told.market,
        asset_id=told.asset_id,
        timestamp=told.timestamp,
        bids=told.bids,
        asks=told.asks,
        min_order_size=format_micro(terms.size_min),
        tick_size=told.tick_size,
        neg_risk=terms.neg_risk,
        last_trade_price=told.last_trade_price,
        version=told.version,
    )
    return hashlib.sha1(_encode(body), usedforsecurity=False).hexdigest()
