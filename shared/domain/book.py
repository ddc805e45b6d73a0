"""One outcome token's order book, and what walking it would cost."""

from typing import Literal

import msgspec

from shared.domain.ids import ConditionId, TokenId
from shared.domain.market import Side
from shared.domain.units import MICRO, Price, Shares, Usd, average_price_up

Level = tuple[Price, Shares]
BookSource = Literal["stream", "rest"]


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A book at one moment: bids from the best down, asks from the best up, sizes positive."""

    token: TokenId
    condition: ConditionId
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    tick: Price = Price(10_000)
    as_of_ns: int = 0  # the venue's time of the last change
    seen_ns: int = 0  # our time of the last evidence that it still stands
    trusted: bool = False
    source: BookSource = "rest"  # whose word the last evidence was
    volatility: int | None = None  # of the mid: micro-log-odds per square root of a second

    @property
    def best_bid(self) -> Price | None:
        return self.bids[0][0] if self.bids else None

    @property
    def best_ask(self) -> Price | None:
        return self.asks[0][0] if self.asks else None

    @property
    def mid(self) -> Price | None:
        """Return the middle of the best prices, rounded down, or None when a side is empty."""
        if not self.bids or not self.asks:
            return None
        return Price((self.bids[0][0] + self.asks[0][0]) // 2)

    @property
    def is_crossed(self) -> bool:
        return bool(self.bids and self.asks and self.bids[0][0] >= self.asks[0][0])


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """What taking liquidity would do: shares filled, their dollars, average and worst price."""

    filled: Shares
    notional: Usd
    average: Price | None
    worst: Price | None


def walk(book: Book, side: Side, size: Shares, limit: Price) -> Walk:
    """Take up to ``size`` from the book at ``limit`` or better; dollars round against us."""
    levels = book.asks if side == "BUY" else book.bids
    left, micro_notional, worst = size, 0, None
    for price, available in levels:
        beyond = price > limit if side == "BUY" else price < limit
        if beyond or left == 0:
            break
        taken = min(left, available)
        micro_notional += price * taken
        left = Shares(left - taken)
        worst = price
    filled = Shares(size - left)
    notional = -(-micro_notional // MICRO) if side == "BUY" else micro_notional // MICRO
    average = None
    if filled:
        exact_up = average_price_up(Usd(notional), filled)
        average = exact_up if side == "BUY" else Price(micro_notional // filled)
    return Walk(filled=filled, notional=Usd(notional), average=average, worst=worst)


def depth_within(book: Book, side: Side, limit: Price) -> Shares:
    """Return the shares that can be taken at ``limit`` or better."""
    if side == "BUY":
        return Shares(sum(size for price, size in book.asks if price <= limit))
    return Shares(sum(size for price, size in book.bids if price >= limit))
