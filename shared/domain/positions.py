"""Fills become positions: shares, what they cost, and exposure in YES-equivalents."""

import msgspec

from shared.domain.market import Side
from shared.domain.units import MICRO, Shares, Usd, scale_down


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one outcome token, their cost basis, and the profit realised so far."""

    shares: Shares = Shares(0)
    cost: Usd = Usd(0)
    realised: Usd = Usd(0)


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What one fill did: a side, shares, and the dollars that moved, fee apart."""

    side: Side
    size: Shares
    notional: Usd
    fee: Usd = Usd(0)


def apply(position: Position, execution: Execution) -> Position:
    """Return the position after a fill; a sale takes its share of the cost, rounded down.

    The fee of a buy is part of its cost, the fee of a sale reduces its proceeds (protocol.md
    2.8). A sale beyond the shares held leaves them negative: drift, which only the reconciler
    may mend, so it is represented and never clipped.
    """
    if execution.side == "BUY":
        return Position(
            shares=Shares(position.shares + execution.size),
            cost=Usd(position.cost + execution.notional + execution.fee),
            realised=position.realised,
        )
    released = cost_released(position, execution.size)
    return Position(
        shares=Shares(position.shares - execution.size),
        cost=Usd(position.cost - released),
        realised=Usd(position.realised + execution.notional - execution.fee - released),
    )


def cost_released(position: Position, size: Shares) -> Usd:
    """Return the part of the cost basis that leaves with ``size`` shares; all with the last."""
    if position.shares <= 0:
        return Usd(0)
    if size >= position.shares:
        return position.cost
    return Usd(scale_down(position.cost, size, position.shares))


def exposure(yes: Shares, no: Shares) -> Shares:
    """Return signed YES-equivalents: one share of each outcome is a dollar, not exposure."""
    return Shares(yes - no)


def yes_price(outcome: int, price: int) -> int:
    """Return a price in terms of outcome 0: buying NO at q is selling YES at 1 - q."""
    return price if outcome == 0 else MICRO - price
