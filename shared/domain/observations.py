"""What the venue tells us, in domain units: inputs of the cores, not yet facts.

`shared.polymarket.parse` builds these from the wire; a core turns them into facts.
"""

from typing import Literal

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet
from shared.domain.market import Market, Side
from shared.domain.units import Price, Shares, Usd

Action = Literal["TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION"]
Settlement = Literal["MATCHED", "MINED", "CONFIRMED", "RETRYING", "FAILED"]
OrderStatus = Literal["LIVE", "DELAYED", "MATCHED", "CANCELED"]
Source = Literal["stream", "rest", "chain"]


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One row of what a wallet did. TRADE has token, outcome, side and price; others may not."""

    wallet: Wallet
    action: Action
    condition: ConditionId
    size: Shares  # shares, or complete sets for SPLIT, MERGE, REDEEM
    tx: TxHash
    venue_ns: int
    token: TokenId | None = None
    outcome: Literal[0, 1] | None = None
    side: Side | None = None
    price: Price | None = None


class OwnFill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of one of our orders; its identity is (trade, order)."""

    trade: str
    order: OrderHash
    condition: ConditionId
    token: TokenId
    side: Side
    price: Price
    size: Shares
    settlement: Settlement
    taker: bool
    venue_ns: int
    tx: TxHash | None = None


class OrderReport(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's word on one order; decide by the sizes, statuses have been seen to lie."""

    order: OrderHash
    condition: ConditionId
    token: TokenId
    side: Side
    price: Price
    size: Shares
    matched: Shares
    status: OrderStatus
    detail: str = ""  # the venue's own status text


class PositionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's holding of one outcome token as the Data API reports it."""

    wallet: Wallet
    condition: ConditionId
    token: TokenId
    outcome: int
    size: Shares
    average_price: Price = Price(0)
    current_price: Price = Price(0)


class PostAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The venue took the order: what its answer claims, never the base of a fill."""

    order: OrderHash
    status: str  # live, matched, delayed, unmatched
    trades: tuple[str, ...] = ()


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """A book as Redis serves it to people and to decisions, with its market."""

    book: Book
    source: Source


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """Our collateral as the venue's CLOB sees it (it caches; protocol.md 1.7)."""

    collateral: Usd
    as_of_ns: int


__all__ = [
    "Action",
    "Activity",
    "Balances",
    "BookView",
    "Market",
    "OrderReport",
    "OrderStatus",
    "OwnFill",
    "PositionReport",
    "PostAnswer",
    "Settlement",
    "Source",
]
