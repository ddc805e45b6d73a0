"""Who has what: dollars and tokens at the match and after settlement, reserves, positions.

A match moves the *working* balances at once, so nothing is spent twice; settlement moves the
*settled* ones, which is what the chain, the Data API and ``/balance-allowance`` show.
"""

from collections import defaultdict

import msgspec

from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.market import Side
from shared.domain.units import (
    MICRO,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    cost_up,
    proceeds_down,
    scale_down,
)


class Move(msgspec.Struct, frozen=True):
    """A change of one wallet: dollars with a sign, and shares of one token with a sign."""

    wallet: Wallet
    cash: Usd
    token: TokenId | None = None
    condition: ConditionId | None = None
    outcome: int = 0
    shares: Shares = Shares(0)
    price: Price = Price(0)  # what a share was worth in this move: the position's cost basis
    fee: Usd = Usd(0)


class Position(msgspec.Struct, kw_only=True):
    """A wallet's settled holding of one token, and its history in sums."""

    condition: ConditionId
    outcome: int
    size: Shares = Shares(0)
    cost: Usd = Usd(0)  # of what is still held
    bought: Shares = Shares(0)  # lifetime
    bought_cost: Usd = Usd(0)  # lifetime
    fees: Usd = Usd(0)
    realized: Usd = Usd(0)
    first_s: int = 0
    last_s: int = 0


class Ledger:
    """Balances of every wallet. Dollars and shares are only ever moved, never made, by trades."""

    def __init__(self) -> None:
        self.cash: defaultdict[Wallet, int] = defaultdict(int)
        self.tokens: defaultdict[tuple[Wallet, TokenId], int] = defaultdict(int)
        self.settled_cash: defaultdict[Wallet, int] = defaultdict(int)
        self.positions: defaultdict[Wallet, dict[TokenId, Position]] = defaultdict(dict)
        self.reserved: defaultdict[tuple[Wallet, TokenId | None], int] = defaultdict(int)

    def fund(self, wallet: Wallet, usd: Usd) -> None:
        """Add dollars from outside, at once and settled; a negative amount withdraws."""
        self.cash[wallet] += usd
        self.settled_cash[wallet] += usd

    def match(self, moves: tuple[Move, ...], *, sign: int = 1) -> None:
        """Apply moves to the working balances; ``sign=-1`` takes a failed settlement back."""
        for move in moves:
            self.cash[move.wallet] += sign * move.cash
            if move.token is not None:
                self.tokens[move.wallet, move.token] += sign * move.shares

    def settle(self, moves: tuple[Move, ...], now_ns: int) -> None:
        """Apply moves to the settled balances and positions."""
        for move in moves:
            self.settled_cash[move.wallet] += move.cash
            if move.token is not None and move.condition is not None and move.shares:
                self._settle_shares(move, now_ns // NS_PER_S)

    def free_cash(self, wallet: Wallet) -> Usd:
        return Usd(self.cash[wallet] - self.reserved[wallet, None])

    def free_tokens(self, wallet: Wallet, token: TokenId) -> Shares:
        return Shares(self.tokens[wallet, token] - self.reserved[wallet, token])

    def holding(self, wallet: Wallet, token: TokenId) -> Shares:
        """Return the settled holding: what the chain would say."""
        position = self.positions[wallet].get(token)
        return position.size if position else Shares(0)

    def _settle_shares(self, move: Move, now_s: int) -> None:
        assert move.token is not None
        assert move.condition is not None
        held = self.positions[move.wallet]
        position = held.get(move.token)
        if position is None:
            position = Position(condition=move.condition, outcome=move.outcome, first_s=now_s)
            held[move.token] = position
        position.last_s = now_s
        position.fees = Usd(position.fees + move.fee)
        if move.shares > 0:
            cost = cost_up(move.price, move.shares)
            position.cost = Usd(position.cost + cost)
            position.bought = Shares(position.bought + move.shares)
            position.bought_cost = Usd(position.bought_cost + cost)
        else:
            sold = Shares(-move.shares)
            held_size = max(position.size, 0)
            basis = scale_down(position.cost, min(sold, held_size), held_size) if held_size else 0
            position.cost = Usd(position.cost - basis)
            position.realized = Usd(position.realized + proceeds_down(move.price, sold) - basis)
        position.size = Shares(position.size + move.shares)


class Party(msgspec.Struct, frozen=True):
    """One side of a match: who, in which token, buying or selling."""

    wallet: Wallet
    token: TokenId
    outcome: int
    side: Side


def match_moves(
    taker: Party, maker: Party, condition: ConditionId, price: Price, size: Shares, fee: Usd
) -> tuple[Move, Move]:
    """Return what a match moves, ``price`` being that of the taker's token.

    Same token: shares change hands. Complementary tokens: two buyers mint complete sets, two
    sellers merge them. A fraction of a micro-dollar goes to the maker, so dollars are conserved.
    """
    buys = taker.side == "BUY"
    notional = cost_up(price, size) if buys else proceeds_down(price, size)
    signed = Shares(size if buys else -size)
    taker_cash = Usd((-notional if buys else notional) - fee)
    minted = taker.token != maker.token
    maker_notional = size - notional if minted else notional
    maker_buys = maker.side == "BUY"
    maker_price = Price(MICRO - price) if minted else price
    return (
        Move(taker.wallet, taker_cash, taker.token, condition, taker.outcome, signed, price, fee),
        Move(
            maker.wallet,
            Usd(-maker_notional if maker_buys else maker_notional),
            maker.token,
            condition,
            maker.outcome,
            Shares(size if maker_buys else -size),
            maker_price,
        ),
    )
