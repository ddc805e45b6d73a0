"""One market's book with price-time priority: recorded depth and resting orders.

A market has one book, in prices of outcome 0: buying outcome 1 at q is selling outcome 0 at 1 - q.
So both tokens' books mirror each other by construction. At one price recorded depth goes first.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from shared.domain.units import Price, Shares


class Resting(Protocol):
    """What the book needs to know of an order."""

    @property
    def is_bid(self) -> bool: ...
    @property
    def left(self) -> Shares: ...


class Slice(NamedTuple):
    """A piece of liquidity a taker can have; no order means recorded depth."""

    price: Price
    size: Shares
    order: object | None


class MarketBook:
    """Recorded depth and resting orders of one market, both keyed by side and price."""

    def __init__(self) -> None:
        self._depth: dict[bool, dict[int, int]] = {False: {}, True: {}}
        self._resting: dict[bool, dict[int, list[Resting]]] = {False: {}, True: {}}

    def replace_depth(
        self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> None:
        """Take a recorded snapshot: what takers had consumed of the one before is restored."""
        self._depth = {False: _sizes(asks), True: _sizes(bids)}

    def levels(self, *, is_bid: bool) -> dict[int, int]:
        """Return the size at each price of one side, in no order."""
        levels = dict(self._depth[is_bid])
        for price, orders in self._resting[is_bid].items():
            levels[price] = levels.get(price, 0) + sum(order.left for order in orders)
        return levels

    def best(self, *, is_bid: bool) -> Price | None:
        prices = self._depth[is_bid].keys() | self._resting[is_bid].keys()
        if not prices:
            return None
        return Price(max(prices) if is_bid else min(prices))

    def depth(self, *, is_bid: bool) -> dict[int, int]:
        """Return the recorded size at each price of one side, without resting orders."""
        return dict(self._depth[is_bid])

    def depth_at(self, price: int, *, is_bid: bool) -> Shares:
        return Shares(self._depth[is_bid].get(price, 0))

    def plan(self, *, takes_bids: bool, limit: int, size: int) -> list[Slice]:
        """Return what a taker would get at ``limit`` or better, best first; nothing changes."""
        depth, resting = self._depth[takes_bids], self._resting[takes_bids]
        prices = sorted(depth.keys() | resting.keys(), reverse=takes_bids)
        slices: list[Slice] = []
        for price in prices:
            beyond = price < limit if takes_bids else price > limit
            if beyond or size <= 0:
                break
            for available, order in _queue(depth, resting, price):
                taken = min(size, available)
                if taken > 0:
                    slices.append(Slice(Price(price), Shares(taken), order))
                    size -= taken
        return slices

    def consume_depth(self, price: int, size: int, *, is_bid: bool) -> None:
        """Take recorded depth away until the next snapshot."""
        depth = self._depth[is_bid]
        left = depth.get(price, 0) - size
        if left > 0:
            depth[price] = left
        else:
            depth.pop(price, None)

    def rest(self, order: Resting, price: int) -> None:
        """Put an order at the end of its price's queue."""
        self._resting[order.is_bid].setdefault(price, []).append(order)

    def remove(self, order: Resting, price: int) -> None:
        """Take an order off the book, wherever it stands in its queue."""
        queue = self._resting[order.is_bid].get(price, [])
        kept = [other for other in queue if other is not order]
        if kept:
            self._resting[order.is_bid][price] = kept
        else:
            self._resting[order.is_bid].pop(price, None)

    def resting(self, *, is_bid: bool) -> list[tuple[int, Resting]]:
        """Return resting orders in the order in which they trade, with their prices."""
        prices = sorted(self._resting[is_bid], reverse=is_bid)
        return [(price, order) for price in prices for order in self._resting[is_bid][price]]

    def clear(self) -> None:
        """Take everything off: the market is over."""
        self._depth = {False: {}, True: {}}
        self._resting = {False: {}, True: {}}


def _sizes(levels: Iterable[tuple[int, int]]) -> dict[int, int]:
    return {price: size for price, size in levels if size > 0}


def _queue(
    depth: Mapping[int, int], resting: Mapping[int, list[Resting]], price: int
) -> list[tuple[int, Resting | None]]:
    queue: list[tuple[int, Resting | None]] = [(depth.get(price, 0), None)]
    queue.extend((order.left, order) for order in resting.get(price, ()))
    return queue
