"""Synthetic prices and books: a walk of log-odds, and the levels that stand around its mid.

Pure: elapsed seconds and what was taken come in, prices and sizes go out; the numbers are in
`habits.Liquidity`. Probabilities are floats; prices and sizes are integers on the venue's grids.
"""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from services.paper_venue.habits import Liquidity
from shared.domain.market import SIZE_STEP
from shared.domain.units import MICRO, Price, floor_to

LEVEL_MIN: Final = MICRO  # micro-shares; what is left of a level below one share is nothing
Depth = Mapping[int, int]  # size at each price, of outcome 0
Levels = list[tuple[int, int]]


class Walk:
    """What the outcomes of one event are worth: weights whose shares are the probabilities.

    A single market is an event of two outcomes, the market's "yes" and nothing else; the markets
    of a neg-risk group are the outcomes of one event, so their prices add up to one.
    """

    def __init__(self, rng: Random, terms: Liquidity, markets: int, life_s: float) -> None:
        self._rng = rng
        self._terms = terms
        self._life_s = life_s
        self._is_single = markets == 1
        self._weights = [rng.gauss(0, 0.8) for _ in range(markets)]
        if self._is_single:
            self._weights.append(0.0)  # of "no": the other one walks against it
        # A market moves so much over its life, however long that is.
        pace_s = terms.volatility_life_s / life_s
        self._move = terms.volatility_per_sqrt_s * math.sqrt(terms.move_gap_s)
        self._move *= math.sqrt(pace_s)
        self._moves_per_s = 1 / terms.move_gap_s
        self._jumps_per_s = pace_s / terms.jump_gap_s
        self.winner: int | None = None  # drawn when the end begins, by the odds of that moment

    def probabilities(self) -> list[float]:
        """Return each market's probability of "yes"."""
        top = max(self._weights)
        parts = [math.exp(weight - top) for weight in self._weights]
        shares = [part / sum(parts) for part in parts]
        return shares[:1] if self._is_single else shares

    def step(self, step_s: float, left_s: float) -> None:
        """Let ``step_s`` seconds pass; ``left_s`` remain of the markets' life after them."""
        moving = 1 if self._is_single else len(self._weights)
        for place in range(moving):
            if self._rng.random() < -math.expm1(-step_s * self._moves_per_s):
                self._weights[place] += self._rng.gauss(0, self._move)
            if self._rng.random() < -math.expm1(-step_s * self._jumps_per_s):
                self._weights[place] += self._rng.gauss(0, self._terms.jump_size)
        if left_s <= self._terms.ending * self._life_s:
            self._drift(step_s, left_s)

    def _drift(self, step_s: float, left_s: float) -> None:
        """Move the winner's log-odds towards the end so that they arrive in time."""
        if self.winner is None:
            shares = self.probabilities()
            odds = [*shares, 1 - shares[0]] if self._is_single else shares
            (self.winner,) = self._rng.choices(range(len(odds)), odds)
        others = [weight for place, weight in enumerate(self._weights) if place != self.winner]
        top = max(others)
        rest = top + math.log(sum(math.exp(weight - top) for weight in others))
        log_odds = self._weights[self.winner] - rest
        missing = max(self._terms.end_log_odds - log_odds, 0.0)
        gained = missing if left_s <= 0 else missing * min(1.0, step_s / (left_s + step_s))
        self._weights[self.winner] += gained
        if self._is_single:  # "no" stays where it is: only the difference counts
            self._weights = [self._weights[0] - self._weights[1], 0.0]


class Ladder:
    """One market's levels: where they should be, and how what was taken comes back."""

    def __init__(self, rng: Random, terms: Liquidity) -> None:
        self._rng = rng
        self._terms = terms
        self._wanted: tuple[dict[int, int], dict[int, int]] = ({}, {})  # asks, bids
        self._shown: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._spread = 1

    def best(self, probability: float, tick: Price) -> tuple[int, int]:
        """Return the best bid and ask around a probability, inside the grid."""
        steps = MICRO // tick
        low = round((probability * MICRO - self._spread * tick / 2) / tick)
        low = min(max(low, 1), steps - 1 - self._spread)
        return low * tick, (low + self._spread) * tick

    def quote(
        self, probability: float, tick: Price, depth: tuple[Depth, Depth], step_s: float
    ) -> tuple[Levels, Levels] | None:
        """Return bids and asks ``step_s`` after the last time; None where nothing is new.

        ``depth`` is the book's present recorded depth, bids and asks: less than was shown where
        somebody took some.
        """
        chance = -math.expm1(-step_s / self._terms.requote_s)
        if self._rng.random() < chance:
            weights = self._terms.spread_weights
            self._spread = self._rng.choices(range(1, len(weights) + 1), weights)[0]
        bid, ask = self.best(probability, tick)
        shown = (
            self._side(ask, tick, depth[1], step_s, is_bid=False),
            self._side(bid, tick, depth[0], step_s, is_bid=True),
        )
        self._shown = shown
        bids, asks = (
            {price: size for price, size in side.items() if size >= LEVEL_MIN}
            for side in (shown[True], shown[False])
        )
        if (bids, asks) == (dict(depth[0]), dict(depth[1])):
            return None
        return list(bids.items()), list(asks.items())

    def _side(
        self, best: int, tick: Price, left: Depth, step_s: float, *, is_bid: bool
    ) -> dict[int, int]:
        wanted, shown = self._wanted[is_bid], self._shown[is_bid]
        away = -tick if is_bid else tick
        prices = [best + away * place for place in range(self._terms.levels)]
        prices = [price for price in prices if tick <= price <= MICRO - tick]
        chance = -math.expm1(-step_s / self._terms.requote_s)
        back = 1 - 0.5 ** (step_s / self._terms.refill_half_life_s)
        fresh: dict[int, int] = {}
        sizes: dict[int, int] = {}
        for place, price in enumerate(prices):
            if price not in wanted:  # the mid moved: somebody quotes here now
                fresh[price] = sizes[price] = self._size(place)
                continue
            hidden = shown[price] if shown[price] < LEVEL_MIN else 0
            present = left.get(price, hidden)
            if present >= wanted[price] and self._rng.random() < chance:
                fresh[price] = sizes[price] = self._size(place)
                continue
            missing = max(0, wanted[price] - present)
            fresh[price] = wanted[price]
            if missing > LEVEL_MIN:  # the last share comes back as a whole
                missing = floor_to(int(missing * back), SIZE_STEP)
            sizes[price] = present + missing
        self._wanted[is_bid].clear()
        self._wanted[is_bid].update(fresh)
        return sizes

    def _size(self, place: int) -> int:
        depth: Sequence[int] = self._terms.depth
        median = depth[min(place, len(depth) - 1)]
        shares = median * math.exp(self._rng.gauss(0, self._terms.depth_deviation))
        return max(LEVEL_MIN, floor_to(int(shares * MICRO), SIZE_STEP))
