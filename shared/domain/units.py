"""Money as integers: every amount is in micro-units (1e-6), the resolution the venue settles in.

Only rounding whose direction is named by who pays belongs here; no other module divides money.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final, NewType

Price = NewType("Price", int)  # micro-dollars per share; a live quote is 0 < price < MICRO
Shares = NewType("Shares", int)  # micro-shares of one outcome token; signed where it is a change
Usd = NewType("Usd", int)  # micro-dollars of collateral; signed where it is a change
Bps = NewType("Bps", int)  # hundredths of a percent; slippage is positive when worse for us

MICRO: Final = 1_000_000
BPS: Final = 10_000
ZERO_SHARES: Final = Shares(0)
ZERO_USD: Final = Usd(0)
DUST: Final = Shares(10_000)  # 0.01 share: the venue's size grid; nothing smaller can be traded
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,12})?", re.ASCII)
_NOT_MICRO: Final = "not a whole number of micro-units: {!r}"
_EXACT: Final = Context(prec=40, Emin=-40, Emax=40, traps=[InvalidOperation, Inexact])


def parse_micro(text: str | Decimal) -> int:
    """Convert a decimal amount from the wire to micro-units, exactly, or raise ValueError."""
    if isinstance(text, str) and not _NUMBER.fullmatch(text):  # Decimal alone takes "1_000"
        raise ValueError(_NOT_MICRO.format(text[:60]))
    try:
        amount = _EXACT.scaleb(_EXACT.create_decimal(text), 6)
        return int(_EXACT.to_integral_exact(amount))
    except (ArithmeticError, ValueError, OverflowError):
        raise ValueError(_NOT_MICRO.format(str(text)[:60])) from None


def format_micro(amount: int) -> str:
    """Write micro-units as the shortest decimal text: the inverse of ``parse_micro``."""
    sign, whole, part = "-" if amount < 0 else "", abs(amount) // MICRO, abs(amount) % MICRO
    return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".")


def cost_up(price: Price, size: Shares) -> Usd:
    """Return the most a buy can cost: money that leaves us rounds up."""
    return Usd(-(-price * size // MICRO))


def proceeds_down(price: Price, size: Shares) -> Usd:
    """Return the least a sale can bring: money that reaches us rounds down."""
    return Usd(price * size // MICRO)


def floor_to(amount: int, step: int) -> int:
    """Return the largest multiple of ``step`` not above ``amount``; both non-negative."""
    assert amount >= 0 < step
    return amount // step * step


def ceil_to(amount: int, step: int) -> int:
    """Return the smallest multiple of ``step`` not below ``amount``; both non-negative."""
    assert amount >= 0 < step
    return -(-amount // step) * step


def scale_down(amount: int, numerator: int, denominator: int) -> int:
    """Return ``amount * numerator / denominator`` rounded towards zero, keeping the sign."""
    assert numerator >= 0 < denominator
    scaled = abs(amount) * numerator // denominator
    return scaled if amount >= 0 else -scaled


def shares_for(budget: Usd, price: Price) -> Shares:
    """Return the shares a budget buys at a price, rounded down: never spend more than allowed."""
    assert budget >= 0 < price
    return Shares(budget * MICRO // price)


def average_price_up(cost: Usd, size: Shares) -> Price:
    """Return the price a share of a total, rounded up: what we paid never looks cheaper."""
    assert size > 0
    return Price(-(-cost * MICRO // size))


def bps_worse(side_is_buy: bool, price: Price, reference: Price) -> Bps:  # noqa: FBT001
    """Return how much worse ``price`` is than ``reference`` for us, rounded against us."""
    assert reference > 0
    worse = price - reference if side_is_buy else reference - price
    return Bps(-(-worse * BPS // reference))
