"""A synthetic market maker: rests an order on each side, follows the price, keeps complete sets."""

from collections.abc import Mapping
from random import Random
from typing import Final

import msgspec

from services.paper_venue.habits import HABITS, MAKER_MARKETS, MAKER_STOCK, Kind
from services.paper_venue.leaders import (
    BAND,
    Action,
    Holding,
    Rest,
    Sight,
    UseSets,
    Withdraw,
    slice_size,
    wallet_named,
)
from shared.domain.ids import ConditionId, Wallet
from shared.domain.market import SIZE_STEP, Side
from shared.domain.units import MICRO, NS_PER_MS, Price, Shares, floor_to

QUOTE_MIN: Final = Shares(5 * MICRO)  # the venue's least order, on any market


class _Quote(msgspec.Struct):
    """What he rests in one market: his prices of outcome 0, and what he held when he did."""

    size: Shares
    prices: tuple[Price, Price] | None = None
    held: Shares = Shares(0)


class Maker:
    """Buys and sells outcome 0 at the best prices, out of a stock of complete sets."""

    def __init__(self, rng: Random, *, name: str = "") -> None:
        self.name = name or "synthetic-maker"
        self.kind: Kind = "maker"
        self.wallet: Wallet = wallet_named(self.name)
        self.wakes_ns = 0
        self._rng = rng
        self._habit = HABITS["maker"]
        self._quotes: dict[ConditionId, _Quote] = {}
        self._left: list[ConditionId] = []  # quoted before; perhaps again, else redeemed

    def next_orders(
        self, now_ns: int, books: Mapping[ConditionId, Sight], holding: Holding
    ) -> list[Action]:
        """Return what he changes: nothing where his quotes still stand at the best prices."""
        if now_ns < self.wakes_ns:
            return []
        self.wakes_ns = now_ns + self._rng.randint(*self._habit.decision_gap_ms) * NS_PER_MS
        actions: list[Action] = []
        for condition in list(self._quotes):
            sight = books.get(condition)
            if sight is None or not _is_quotable(sight):
                del self._quotes[condition]
                self._left = [*(each for each in self._left if each != condition), condition]
                actions.append(Withdraw(self.wallet, condition))
        actions += self._redeem(books, holding)
        self._choose(books)
        for condition, quote in self._quotes.items():
            actions += self._requote(quote, books[condition], holding)
        return actions

    def _choose(self, books: Mapping[ConditionId, Sight]) -> None:
        """Take up markets until he quotes as many as he likes to."""
        free = sorted(
            sight.condition
            for sight in books.values()
            if sight.condition not in self._quotes and _is_quotable(sight)
        )
        for _ in range(min(len(free), MAKER_MARKETS - len(self._quotes))):
            condition = free.pop(self._rng.randrange(len(free)))
            size = slice_size(self._rng, self._habit, books[condition].ask)
            self._quotes[condition] = _Quote(max(QUOTE_MIN, size))

    def _requote(self, quote: _Quote, sight: Sight, holding: Holding) -> list[Action]:
        held = holding(self.wallet, sight.condition, 0)
        prices = (sight.bid, sight.ask)
        if quote.prices == prices and quote.held == held:
            return []
        actions: list[Action] = []
        if quote.prices is not None:
            actions.append(Withdraw(self.wallet, sight.condition))
        stocked = self._restock(quote, sight.condition, holding)
        if stocked is not None:
            actions.append(stocked)
            held = Shares(held + stocked.size * (1 if stocked.kind == "SPLIT" else -1))
        actions += [
            self._rest(sight.condition, "BUY", sight.bid, quote.size),
            self._rest(sight.condition, "SELL", sight.ask, quote.size),
        ]
        quote.prices, quote.held = prices, held
        return actions

    def _restock(self, quote: _Quote, condition: ConditionId, holding: Holding) -> UseSets | None:
        """Split dollars where too little is left to sell; merge pairs beyond twice the stock."""
        stock = Shares(quote.size * MAKER_STOCK)
        held, other = (holding(self.wallet, condition, outcome) for outcome in (0, 1))
        if held < 2 * quote.size:
            return UseSets(wallet=self.wallet, kind="SPLIT", condition=condition, size=stock)
        surplus = Shares(floor_to(max(0, min(held, other) - 2 * stock), SIZE_STEP))
        if not surplus:
            return None
        return UseSets(wallet=self.wallet, kind="MERGE", condition=condition, size=surplus)

    def _redeem(self, books: Mapping[ConditionId, Sight], holding: Holding) -> list[Action]:
        """Turn what is held of resolved markets into dollars."""
        actions: list[Action] = []
        for condition in [each for each in self._left if each in books]:
            if books[condition].is_resolved:
                self._left.remove(condition)
                held = max(holding(self.wallet, condition, outcome) for outcome in (0, 1))
                if held:
                    actions.append(
                        UseSets(wallet=self.wallet, kind="REDEEM", condition=condition, size=held)
                    )
        return actions

    def _rest(self, condition: ConditionId, side: Side, price: Price, size: Shares) -> Rest:
        return Rest(
            wallet=self.wallet, condition=condition, outcome=0, side=side, size=size, price=price
        )


def _is_quotable(sight: Sight) -> bool:
    return BAND[0] <= sight.bid < sight.ask <= BAND[1]
