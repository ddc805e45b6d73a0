"""What recorded fills look like: how they are split, how they flip, how they pair.

A *burst* is the fills of one wallet, token and side with gaps of at most W seconds: an order that
was split. A *window* opens with the first fill of a wallet in a market and lasts W seconds, as the
aggregator's does at its greatest age. Fills of one second belong together at W = 0.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from services.lab.bench_hops import quantile
from services.lab.window_sets import UNKNOWN, Fill

SMALL_USD: Final = 5  # about what the venue's least order costs: 5 shares


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large a set is, and how many fills come at once."""

    fills: int
    wallets: int
    markets: int
    notional: float
    by: str  # of what the next two count the fills: a wallet's transaction or his second
    at_once: float
    at_once_most: int
    small_fills: float  # share below SMALL_USD
    small_notional: float


class Splits(msgspec.Struct, frozen=True, kw_only=True):
    """How much came in bursts of two fills or more."""

    window_s: int
    fills: float
    notional: float
    a_burst: float  # fills a burst, single ones included
    p99: int
    most: int


class Flips(msgspec.Struct, frozen=True, kw_only=True):
    """How much undid what had just been done in the same token."""

    window_s: int
    fills: float  # that reverse the wallet's previous fill in the token within the window
    cancelled: float  # of notional, bought against sold in one window


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the shares are left of windows, netted by token and by market."""

    window_s: int
    by_token: float
    by_market: float

    @property
    def paired(self) -> float:
        """Return the share of all shares that the market's other outcome cancels."""
        return self.by_token - self.by_market


def shape(fills: Sequence[Fill]) -> Shape:
    """Return how large a set is."""
    by_tx = bool(fills[0].tx)
    together = Counter((fill.wallet, fill.tx if by_tx else fill.at_s) for fill in fills)
    small = [fill.notional for fill in fills if fill.notional < SMALL_USD]
    notional = sum(fill.notional for fill in fills)
    return Shape(
        fills=len(fills),
        wallets=len({fill.wallet for fill in fills}),
        markets=len({fill.market for fill in fills}),
        notional=notional,
        by="transaction" if by_tx else "second",
        at_once=len(fills) / len(together),
        at_once_most=max(together.values()),
        small_fills=len(small) / len(fills),
        small_notional=sum(small) / notional,
    )


def splits(fills: Sequence[Fill], window_s: int) -> Splits:
    """Return what came in bursts; fills are in the order of time."""
    bursts: list[list[Fill]] = []
    for chain in _grouped(fills, lambda fill: (fill.wallet, fill.token, fill.side)):
        last_s = None
        for fill in chain:
            if last_s is None or fill.at_s - last_s > window_s:
                bursts.append([])
            bursts[-1].append(fill)
            last_s = fill.at_s
    split = [fill for burst in bursts if len(burst) > 1 for fill in burst]
    sizes = [len(burst) for burst in bursts]
    return Splits(
        window_s=window_s,
        fills=len(split) / len(fills),
        notional=sum(fill.notional for fill in split) / sum(fill.notional for fill in fills),
        a_burst=len(fills) / len(bursts),
        p99=quantile(sizes, 0.99),
        most=max(sizes),
    )


def flips(fills: Sequence[Fill], window_s: int) -> Flips | None:
    """Return what undid the fill before it, or None where a set tells no sides."""
    if not all(fill.side for fill in fills):
        return None
    flipped, cancelled = 0, 0.0
    for chain in _grouped(fills, lambda fill: (fill.wallet, fill.token)):
        for before, after in pairwise(chain):
            flipped += before.side != after.side and after.at_s - before.at_s <= window_s
        for window in _windows(chain, window_s):
            bought = sum(fill.notional for fill in window if fill.side == "BUY")
            sold = sum(fill.notional for fill in window if fill.side == "SELL")
            cancelled += 2 * min(bought, sold)
    return Flips(
        window_s=window_s,
        fills=flipped / len(fills),
        cancelled=cancelled / sum(fill.notional for fill in fills),
    )


def pairs(fills: Sequence[Fill], window_s: int) -> Pairs | None:
    """Return what netting leaves of windows, or None where a set names no outcomes or sides."""
    if not all(fill.side and fill.outcome != UNKNOWN for fill in fills):
        return None
    by_token = by_market = 0
    for chain in _grouped(fills, lambda fill: (fill.wallet, fill.market)):
        for window in _windows(chain, window_s):
            net = [0, 0]
            for fill in window:
                net[fill.outcome] += fill.size if fill.side == "BUY" else -fill.size
            by_token += abs(net[0]) + abs(net[1])
            by_market += abs(net[0] - net[1])
    gross = sum(fill.size for fill in fills)
    return Pairs(window_s=window_s, by_token=by_token / gross, by_market=by_market / gross)


def _grouped(fills: Sequence[Fill], key: Callable[[Fill], Hashable]) -> Iterator[list[Fill]]:
    chains: defaultdict[Hashable, list[Fill]] = defaultdict(list)
    for fill in fills:
        chains[key(fill)].append(fill)
    yield from chains.values()


def _windows(chain: Sequence[Fill], window_s: int) -> Iterator[list[Fill]]:
    window: list[Fill] = []
    for fill in chain:
        if window and fill.at_s - window[0].at_s > window_s:
            yield window
            window = []
        window.append(fill)
    yield window
