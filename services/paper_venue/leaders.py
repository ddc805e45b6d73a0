"""Synthetic leaders: seeded wallets whose fills have the shape of measured ones. Not real traders.

Pure: a leader is given the time, the books and its own holdings, and says what it sends now. The
numbers come from recorded activity; each parameter names the statistic it follows.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from random import Random
from typing import Final, Literal

import msgspec

from services.paper_venue.core import Fill
from shared.domain.ids import ConditionId, Wallet
from shared.domain.market import SIZE_STEP, Side
from shared.domain.units import (
    MICRO,
    NS_PER_MS,
    Price,
    Shares,
    Usd,
    floor_to,
    scale_down,
    shares_for,
)

Outcome = Literal[0, 1]
Holding = Callable[[Wallet, ConditionId, Outcome], Shares]
REACH: Final = 20_000  # micro-dollars beyond the best price a leader pays: two cents
BAND: Final = (100_000, 900_000)  # best prices outside are left alone: little is traded there
SLICE_MIN: Final = Shares(1_000_000)  # one share; 4-14 % of measured fills are under a dollar


class Sight(msgspec.Struct, frozen=True):
    """What a leader sees of a market: best prices of outcome 0."""

    condition: ConditionId
    bid: Price
    ask: Price


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader trades. Times in milliseconds, money in micro-dollars."""

    decision_gap_ms: tuple[int, int]  # from the end of one decision to the next
    notional: tuple[int, int]  # of one decision, log-uniform
    fills: tuple[int, int]  # slices of one decision
    slice_gap_ms: int  # mean time between slices
    same_moment_percent: int  # slices sent together with the one before


# Sweepers: median fill $10.7, 99 % under $7,450; 65 % of fills in bursts of two or more within
# 5 s, 99 % of bursts up to 20 fills; 32 % of consecutive fills in the same second.
SPLITTER: Final = Habit(
    decision_gap_ms=(8_000, 45_000),
    notional=(40_000_000, 900_000_000),
    fills=(2, 20),
    slice_gap_ms=700,
    same_moment_percent=32,
)
# Fed set: 14.3 % of fills reverse the one before within 60 s, mostly small round trips.
FLIPPER: Final = Habit(
    decision_gap_ms=(10_000, 60_000),
    notional=(7_000_000, 120_000_000),
    fills=(1, 3),
    slice_gap_ms=1_500,
    same_moment_percent=39,
)
FLIP_AFTER_MS: Final = (5_000, 60_000)
# gabagool22: median fill $5.66, 99 % under $78; 73 % of fills share a second with another, up to
# 37 in one second on one outcome; 43 % of shares paired within 5 s, 92 % within 60 s.
PAIR_BUILDER: Final = Habit(
    decision_gap_ms=(2_000, 12_000),
    notional=(20_000_000, 400_000_000),
    fills=(4, 37),
    slice_gap_ms=400,
    same_moment_percent=73,
)
PAIRED_PERCENT: Final = 92


class _Slice(msgspec.Struct, frozen=True):
    due_ns: int
    condition: ConditionId
    outcome: Outcome
    side: Side
    size: Shares


class Leader:
    """One synthetic wallet; all of its randomness is the generator it was given."""

    def __init__(self, kind: Literal["splitter", "flipper", "pair-builder"], rng: Random) -> None:
        self.name = f"synthetic-{kind}"
        self.kind = kind
        self.wallet = Wallet("0x" + blake2b(self.name.encode(), digest_size=20).hexdigest())
        self._rng = rng
        self._slices: list[_Slice] = []
        self._idle_until_ns = 0
        self._habit = {"splitter": SPLITTER, "flipper": FLIPPER, "pair-builder": PAIR_BUILDER}[kind]

    def next_orders(
        self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> list[Fill]:
        """Return what the leader sends now: fill-and-kill, a little beyond the best price."""
        if not self._slices and now_ns >= self._idle_until_ns:
            self._decide(now_ns, books, holding)
        due = [piece for piece in self._slices if piece.due_ns <= now_ns]
        self._slices = [piece for piece in self._slices if piece.due_ns > now_ns]
        orders = [self._order(piece, books, holding) for piece in due]
        return [order for order in orders if order is not None]

    def _decide(self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding) -> None:
        low, high = self._habit.decision_gap_ms
        open_markets = sorted(
            sight.condition
            for sight in books.values()
            if BAND[0] <= sight.bid < sight.ask <= BAND[1]
        )
        if open_markets:
            sight = books[self._rng.choice(open_markets)]
            if self.kind == "splitter":
                self._split(now_ns, sight, holding)
            elif self.kind == "flipper":
                self._flip(now_ns, sight)
            else:
                self._build_pairs(now_ns, sight)
        last_ns = max((piece.due_ns for piece in self._slices), default=now_ns)
        self._idle_until_ns = last_ns + self._rng.randint(low, high) * NS_PER_MS

    def _split(self, now_ns: int, sight: Sight, holding: Holding) -> None:
        """Buy one outcome in many fills, or give up part or all of what is held."""
        for outcome in (0, 1):
            held = holding(self.wallet, sight.condition, outcome)
            if held >= 2 * SLICE_MIN and self._rng.random() < 0.5:
                sold = scale_down(held, self._rng.choice((50, 100, 100)), 100)
                self._slice(now_ns, sight, outcome, "SELL", Shares(sold))
                return
        outcome = self._outcome()
        self._slice(now_ns, sight, outcome, "BUY", self._size(sight, outcome))

    def _flip(self, now_ns: int, sight: Sight) -> None:
        """Buy, and sell the same again within a minute."""
        outcome = self._outcome()
        size = self._size(sight, outcome)
        self._slice(now_ns, sight, outcome, "BUY", size)
        back_ns = now_ns + self._rng.randint(*FLIP_AFTER_MS) * NS_PER_MS
        self._slice(back_ns, sight, outcome, "SELL", size)

    def _build_pairs(self, now_ns: int, sight: Sight) -> None:
        """Buy both outcomes in about equal shares, interleaved."""
        first = self._outcome()
        second: Outcome = 1 if first == 0 else 0
        size = self._size(sight, first)
        paired = Shares(scale_down(size, PAIRED_PERCENT, 100))
        self._slice(now_ns, sight, first, "BUY", size)
        self._slice(now_ns, sight, second, "BUY", paired)

    def _slice(self, now_ns: int, sight: Sight, outcome: Outcome, side: Side, size: Shares) -> None:
        """Cut a decision into fills: how many and how far apart is the habit's."""
        pieces = min(self._rng.randint(*self._habit.fills), max(1, size // SLICE_MIN))
        weights = [self._rng.randint(1, 10) for _ in range(pieces)]
        due_ns, left = now_ns, size
        for place, weight in enumerate(weights):
            last = place == pieces - 1
            part = left if last else Shares(scale_down(size, weight, sum(weights)))
            part = Shares(floor_to(part, SIZE_STEP))
            left = Shares(left - part)
            if place and self._rng.randrange(100) >= self._habit.same_moment_percent:
                due_ns += int(self._rng.expovariate(1 / self._habit.slice_gap_ms)) * NS_PER_MS
            if part:
                self._slices.append(_Slice(due_ns, sight.condition, outcome, side, part))

    def _size(self, sight: Sight, outcome: Outcome) -> Shares:
        low, high = self._habit.notional
        usd = Usd(int(low * (high / low) ** self._rng.random()))
        price = sight.ask if outcome == 0 else Price(MICRO - sight.bid)
        return Shares(max(SLICE_MIN, floor_to(shares_for(usd, price), SIZE_STEP)))

    def _outcome(self) -> Outcome:
        return 0 if self._rng.random() < 0.5 else 1

    def _order(
        self, piece: _Slice, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> Fill | None:
        sight = books.get(piece.condition)
        if sight is None:
            return None
        size = piece.size
        best = sight.ask if piece.outcome == 0 else Price(MICRO - sight.bid)
        limit = best + REACH
        if piece.side == "SELL":
            size = min(size, holding(self.wallet, piece.condition, piece.outcome))
            best = sight.bid if piece.outcome == 0 else Price(MICRO - sight.ask)
            limit = best - REACH
        if size <= 0 or not 0 < limit < MICRO:
            return None
        return Fill(
            wallet=self.wallet,
            condition=piece.condition,
            outcome=piece.outcome,
            side=piece.side,
            size=size,
            price=Price(limit),
        )


def crowd(seed: int) -> list[Leader]:
    """Return one leader of each kind, reproducible from the seed."""
    return [
        Leader("splitter", Random(f"{seed}/splitter")),
        Leader("flipper", Random(f"{seed}/flipper")),
        Leader("pair-builder", Random(f"{seed}/pair-builder")),
    ]
