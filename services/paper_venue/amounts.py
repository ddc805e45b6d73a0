"""The two signed amounts of an order: how fine they may be, and which price they mean (2.5)."""

from typing import Final

from services.paper_venue.state import Refused
from shared.domain.market import CENT, SIZE_STEP
from shared.domain.units import (
    MICRO,
    Price,
    Shares,
    Usd,
    floor_to,
    scale_down,
)

_DECIMALS: Final = {100_000: 3, 10_000: 4, 5_000: 5, 2_500: 6, 1_000: 5, 100: 6}  # by tick
_FINEST: Final = 6
_NEXT: Final = Price(100)  # the finest grid: a rounded buy must not reach its next price


def amount_decimals(tick: Price) -> int:
    """Return how many decimals the amount beside the size may have on a grid."""
    return _DECIMALS.get(tick, _FINEST)


def check_decimals(dollars: Usd, shares: Shares, tick: Price, *, buys: bool, takes: bool) -> None:
    """Refuse amounts finer than the venue takes.

    A buy that takes is signed in whole cents and asks for shares as fine as the grid allows;
    every other order is in hundredths of a share, and its dollars are as fine as that.
    """
    decimals = amount_decimals(tick)
    unit = 10 ** (_FINEST - decimals)
    market_buy = buys and takes
    steps = (CENT, unit) if market_buy else (unit, SIZE_STEP)
    if dollars % steps[0] == 0 and shares % steps[1] == 0:
        return
    name = "market buy" if market_buy else "buy" if buys else "sell"
    maker, taker = (decimals, 2) if buys and not takes else (2, decimals)
    raise Refused(
        f"invalid amounts, the {name} orders maker amount supports a max accuracy of "
        f"{maker} decimals, taker amount a max of {taker} decimals"
    )


def signed_price(dollars: Usd, shares: Shares, tick: Price, *, rounded: bool) -> Price | None:
    """Return the price two amounts mean, or None where it is no price of the grid.

    Amounts are exact, but for a buy that takes (``rounded``): its shares were rounded down, so its
    dollars a share are a hair above the price that was meant.
    """
    if rounded:
        meant = floor_to(scale_down(MICRO, dollars, shares), tick)
        unit = 10 ** (_FINEST - amount_decimals(tick))
        near = dollars * MICRO < (meant + _NEXT) * shares
        if near or dollars * MICRO < meant * (shares + unit):
            return Price(meant)
        return None
    price, rest = divmod(dollars * MICRO, shares)
    return Price(price) if rest == 0 and price % tick == 0 else None
