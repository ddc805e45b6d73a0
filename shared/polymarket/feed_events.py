"""What a market feed tells, and how long it believes silence."""

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, TxHash
from shared.domain.units import NS_PER_S, Price
from shared.polymarket.errors import Garbage
from shared.polymarket.evidence import Reason


class BookMoved(msgspec.Struct, frozen=True):
    book: Book


class Resync(msgspec.Struct, frozen=True):
    """A snapshot of this token is needed: fetch it and give it to ``MarketFeed.snapshot``."""

    token: TokenId
    reason: Reason


class Stuck(msgspec.Struct, frozen=True):
    """The stream fails this token, or cannot be told from one that does: it needs rescue."""

    token: TokenId
    reason: Reason


class Flowing(msgspec.Struct, frozen=True):
    """The stream told what it owed of this token."""

    token: TokenId


class Resolved(msgspec.Struct, frozen=True):
    condition: ConditionId
    winning_token: TokenId | None  # None: not one token won (a 50/50 resolution)


class TickChanged(msgspec.Struct, frozen=True):
    token: TokenId
    tick: Price


class Traded(msgspec.Struct, frozen=True):
    """A settlement transaction, 0.1 s after its match: it names no wallet."""

    tx: TxHash
    venue_ns: int


FeedEvent = BookMoved | Resync | Stuck | Flowing | Resolved | TickChanged | Traded | Garbage


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """How long silence is believed."""

    snapshot_ns: int = 5 * NS_PER_S  # for what the stream or REST owes; asked again then
    retry_ns: int = NS_PER_S  # before a snapshot is asked for after one that was of no use
    token_ns: int = 30 * NS_PER_S  # for one token; its book stays trusted, but it is checked
    trust_ns: int = 45 * NS_PER_S  # for one token that no check confirmed either: no trust
    poll_ns: int = 2 * NS_PER_S  # for one token while no stream delivers it
    audit_ns: int = 60 * NS_PER_S  # between comparisons of a lively token's book with REST
