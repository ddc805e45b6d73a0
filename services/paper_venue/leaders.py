"""Synthetic leaders: seeded wallets whose fills have the shape of measured ones. Not real traders.

Pure: a leader is given the time, the books and its own holdings, and says what it does now. Each
number is in `habits`, with the statistic that it follows. Who quotes is in `makers`.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import Final, Literal, Protocol

import msgspec

from services.paper_venue.core import Fill
from services.paper_venue.habits import CLASSIC, CROWD_GAP_MS, HABITS, Habit, Kind
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
NOTHING_OPEN_MS: Final = (1_000, 5_000)  # until a leader looks again for a market to trade


class Sight(msgspec.Struct, frozen=True):
    """What a leader sees of a market: best prices of outcome 0, its grid, whether it is over."""

    condition: ConditionId
    bid: Price
    ask: Price
    tick: Price = Price(10_000)
    is_resolved: bool = False  # both prices are 0 then
    group: str = ""  # the neg-risk event whose outcomes this market is one of


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """An order that a leader rests on the book: post-only, until cancelled."""

    wallet: Wallet
    condition: ConditionId
    outcome: Outcome
    side: Side
    size: Shares
    price: Price


class Withdraw(msgspec.Struct, frozen=True):
    """All that a leader rests in a market is cancelled."""

    wallet: Wallet
    condition: ConditionId


class UseSets(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars become complete sets, sets dollars, or tokens their payout."""

    wallet: Wallet
    kind: Literal["SPLIT", "MERGE", "REDEEM"]
    condition: ConditionId
    size: Shares


class Convert(msgspec.Struct, frozen=True, kw_only=True):
    """NO of markets of one neg-risk group becomes YES of the others, and dollars."""

    wallet: Wallet
    conditions: tuple[ConditionId, ...]
    size: Shares  # of each


Action = Fill | Rest | Withdraw | UseSets | Convert


class Trader(Protocol):
    """A synthetic wallet that is asked from time to time what it does now."""

    name: str
    kind: Kind
    wallet: Wallet

    @property
    def wakes_ns(self) -> int:
        """Return the moment before which it need not be asked."""
        ...

    def next_orders(
        self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> Sequence[Action]:
        """Return what it does now."""
        ...


class _Slice(msgspec.Struct, frozen=True):
    due_ns: int
    condition: ConditionId
    outcome: Outcome
    side: Side
    size: Shares


class Leader:
    """One synthetic wallet that takes; all of its randomness is the generator it was given."""

    def __init__(self, kind: Kind, rng: Random, *, name: str = "", activity: float = 0) -> None:
        """Take a name and, in a large crowd, how much more often it decides than the laziest."""
        self.name = name or f"synthetic-{kind}"
        self.kind: Kind = kind
        self.wallet = wallet_named(self.name)
        self._rng = rng
        self._slices: list[_Slice] = []
        self._sets: list[UseSets | Convert] = []
        self._sets_in: list[ConditionId] = []  # where it used complete sets, and may redeem
        self._habit: Habit = HABITS[kind]
        self._gap_ms = self._habit.decision_gap_ms
        self._idle_until_ns = 0
        if activity:
            self._idle_until_ns = -1  # a crowd does not begin all at once
            if kind != "sleeper":
                self._gap_ms = (int(CROWD_GAP_MS[0] / activity), int(CROWD_GAP_MS[1] / activity))

    @property
    def wakes_ns(self) -> int:
        """Return the moment before which it does nothing; 0 where it was never asked."""
        return min((piece.due_ns for piece in self._slices), default=max(0, self._idle_until_ns))

    def next_orders(
        self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> list[Fill | UseSets | Convert]:
        """Return what the leader sends now: fill-and-kill, a little beyond the best price."""
        if self._idle_until_ns < 0:
            self._idle_until_ns = now_ns + self._rng.randint(0, self._gap_ms[1]) * NS_PER_MS
        if not self._slices and now_ns >= self._idle_until_ns:
            self._decide(now_ns, books, holding)
        due = [piece for piece in self._slices if piece.due_ns <= now_ns]
        self._slices = [piece for piece in self._slices if piece.due_ns > now_ns]
        sets, self._sets = self._sets, []
        orders = [self._order(piece, books, holding) for piece in due]
        return [*sets, *(order for order in orders if order is not None)]

    def _decide(self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding) -> None:
        if self._sets_in:
            self._redeem(books, holding)
        open_markets = sorted(
            sight.condition
            for sight in books.values()
            if BAND[0] <= sight.bid < sight.ask <= BAND[1]
            and (sight.group or self.kind != "converter")
        )
        if not open_markets:
            self._idle_until_ns = now_ns + self._rng.randint(*NOTHING_OPEN_MS) * NS_PER_MS
            return
        sight = books[self._rng.choice(open_markets)]
        if self.kind == "converter":
            group = [books[name] for name in open_markets if books[name].group == sight.group]
            self._convert(now_ns, group, holding)
        else:
            self._plan(now_ns, sight, holding)
        last_ns = max((piece.due_ns for piece in self._slices), default=now_ns)
        self._idle_until_ns = last_ns + self._rng.randint(*self._gap_ms) * NS_PER_MS

    def _plan(self, now_ns: int, sight: Sight, holding: Holding) -> None:
        match self.kind:
            case "flipper" | "scalper":
                self._flip(now_ns, sight)
            case "pair-builder":
                self._build_pairs(now_ns, sight)
            case "set-trader":
                self._use_sets(now_ns, sight, holding)
            case _:
                self._split(now_ns, sight, holding)

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
        """Buy, and sell the same again within seconds to a minute."""
        outcome = self._outcome()
        size = self._size(sight, outcome)
        self._slice(now_ns, sight, outcome, "BUY", size)
        back_ns = now_ns + self._rng.randint(*self._habit.back_after_ms) * NS_PER_MS
        self._slice(back_ns, sight, outcome, "SELL", size)

    def _build_pairs(self, now_ns: int, sight: Sight) -> None:
        """Buy both outcomes in about equal shares, interleaved."""
        first = self._outcome()
        second: Outcome = 1 if first == 0 else 0
        size = self._size(sight, first)
        paired = Shares(scale_down(size, self._habit.paired_percent, 100))
        self._slice(now_ns, sight, first, "BUY", size)
        self._slice(now_ns, sight, second, "BUY", paired)

    def _use_sets(self, now_ns: int, sight: Sight, holding: Holding) -> None:
        """Split dollars and sell one side, or merge the pairs that are held."""
        pairs = min(holding(self.wallet, sight.condition, side) for side in (0, 1))
        if pairs >= SLICE_MIN and self._rng.random() < 0.5:
            self._sets.append(self._sets_of("MERGE", sight.condition, pairs))
            return
        outcome = self._outcome()
        size = self._size(sight, outcome)
        self._sets.append(self._sets_of("SPLIT", sight.condition, size))
        self._slice(now_ns, sight, outcome, "SELL", size)
        if sight.condition not in self._sets_in:
            self._sets_in.append(sight.condition)

    def _convert(self, now_ns: int, group: Sequence[Sight], holding: Holding) -> None:
        """Convert the NO that is held of two markets or more, else buy NO of two."""
        held = {each.condition: holding(self.wallet, each.condition, 1) for each in group}
        given = tuple(name for name, shares in held.items() if shares >= SLICE_MIN)
        if len(given) > 1:
            size = min(held[name] for name in given)
            self._sets.append(Convert(wallet=self.wallet, conditions=given, size=size))
            for other in (each for each in group if each.condition not in given):
                self._slice(now_ns, other, 0, "SELL", size)
        elif len(group) > 1:
            first, second = self._rng.sample(group, 2)
            size = self._size(first, 1)
            for sight in (first, second):
                self._slice(now_ns, sight, 1, "BUY", size)
                if sight.condition not in self._sets_in:
                    self._sets_in.append(sight.condition)

    def _redeem(self, books: Mapping[ConditionId, Sight], holding: Holding) -> None:
        """Turn what is left of resolved markets into dollars."""
        over = [name for name in self._sets_in if name not in books or books[name].is_resolved]
        for condition in over:
            self._sets_in.remove(condition)
            held = max(holding(self.wallet, condition, side) for side in (0, 1))
            if held and condition in books:
                self._sets.append(self._sets_of("REDEEM", condition, held))

    def _sets_of(
        self, kind: Literal["SPLIT", "MERGE", "REDEEM"], condition: ConditionId, size: Shares
    ) -> UseSets:
        return UseSets(wallet=self.wallet, kind=kind, condition=condition, size=size)

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
        price = sight.ask if outcome == 0 else Price(MICRO - sight.bid)
        return slice_size(self._rng, self._habit, price)

    def _outcome(self) -> Outcome:
        return 0 if self._rng.random() < 0.5 else 1

    def _order(
        self, piece: _Slice, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> Fill | None:
        sight = books.get(piece.condition)
        if sight is None or sight.is_resolved:
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


def wallet_named(name: str) -> Wallet:
    """Return the address of a synthetic wallet: a function of its name."""
    return Wallet("0x" + blake2b(name.encode(), digest_size=20).hexdigest())


def slice_size(rng: Random, habit: Habit, price: Price) -> Shares:
    """Return the shares of one decision: log-uniform dollars at a price."""
    low, high = habit.notional
    usd = Usd(int(low * (high / low) ** rng.random()))
    return Shares(max(SLICE_MIN, floor_to(shares_for(usd, price), SIZE_STEP)))


def crowd(seed: int) -> list[Leader]:
    """Return one leader of each classic kind, reproducible from the seed."""
    return [Leader(kind, Random(f"{seed}/{kind}")) for kind in CLASSIC]
