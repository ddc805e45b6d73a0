"""The venue's grid of order amounts: which sizes have exact amounts, and what those are.

An order states two integers, what it gives and what it wants, and its limit price is their
quotient. On this grid the quotient is the limit price itself, so nothing is lost to rounding
and no order can execute beyond its limit (protocol.md 2.5).
"""

from math import gcd
from typing import Final

from shared.domain.market import CENT, SIZE_STEP, Side, price_is_on_grid
from shared.domain.units import MICRO, ZERO_SHARES, Price, Shares, floor_to

# Decimals of a USD amount by tick; a step of micro-dollars.
_AMOUNT_STEPS: Final = {
    Price(100_000): 1_000,
    Price(10_000): 100,
    Price(5_000): 10,
    Price(2_500): 1,
    Price(1_000): 10,
    Price(100): 1,
}

TICKS: Final = frozenset(_AMOUNT_STEPS)  # the venue has these; a new one must be learned first


def tradable_size(
    side: Side, price: Price, size: Shares, tick: Price, *, marketable: bool
) -> Shares:
    """Return the largest size not above ``size`` whose amounts are exact on the venue's grid.

    Sizes are whole hundredths of a share. A marketable BUY (FAK, FOK) must besides spend whole
    cents, which at 0.53 only every whole share does; zero where nothing that small is tradable.
    """
    assert price_is_on_grid(price, tick), f"price {price} is not on the grid of tick {tick}"
    usd_step = CENT if marketable and side == "BUY" else _amount_step(tick)
    return Shares(floor_to(max(size, ZERO_SHARES), _size_step(price, usd_step)))


def amounts(side: Side, price: Price, size: Shares, tick: Price) -> tuple[int, int]:
    """Return what an order gives and what it wants (makerAmount, takerAmount), in micro-units.

    The size must be positive and on the grid, as ``tradable_size`` returns it.
    """
    assert price_is_on_grid(price, tick), f"price {price} is not on the grid of tick {tick}"
    assert size > 0, f"size {size} is not positive"
    assert size % SIZE_STEP == 0, f"size {size} is not on the grid of {SIZE_STEP}"
    usd, rest = divmod(price * size, MICRO)
    assert rest == 0, f"{size} at {price} is no whole number of micro-dollars"
    assert usd % _amount_step(tick) == 0, f"{usd} is not on the amount grid of tick {tick}"
    return (usd, size) if side == "BUY" else (size, usd)


def _amount_step(tick: Price) -> int:
    step = _AMOUNT_STEPS.get(tick)
    assert step is not None, f"the venue has no tick {tick}"
    return step


def _size_step(price: Price, usd_step: int) -> int:
    """Return the smallest size, a multiple of 0.01, that costs a multiple of ``usd_step``."""
    whole = usd_step * MICRO
    smallest = whole // gcd(price, whole)
    return smallest * SIZE_STEP // gcd(smallest, SIZE_STEP)
