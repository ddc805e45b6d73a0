"""A market's terms: its tokens, grid, minimums, fees, and which exchange settles it."""

from typing import Final, Literal

import msgspec

from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import MICRO, Price, Shares, Usd

Side = Literal["BUY", "SELL"]
Protocol = Literal["v1", "v2", "unknown"]  # which exchange settles; unknown: we cannot sign for it

SIZE_STEP: Final = Shares(10_000)  # 0.01 share (protocol.md 2.5)
CENT: Final = Usd(10_000)
MARKETABLE_BUY_MIN: Final = Usd(1_000_000)  # $1 (protocol.md 2.6)
_FEE_STEP: Final = 10  # fees are rounded to 5 decimals, at least 0.00001 (protocol.md 2.8)


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue says of one binary market; every number mutable at the venue."""

    condition: ConditionId
    tokens: tuple[TokenId, TokenId]  # by outcome index; index 0 is "yes" for exposure
    outcomes: tuple[str, str]
    tick: Price
    size_min: Shares
    neg_risk: bool = False
    protocol: Protocol = "v1"
    fee_rate: int = 0  # millionths; the fee is shares * rate * (p * (1 - p)) ** exponent
    fee_exponent: int = 1
    accepting_orders: bool = True
    taker_delay: bool = False
    delay_ns: int = 0  # how long the venue holds a marketable order back before it matches
    slug: str = ""
    question: str = ""
    event: str = ""  # neg-risk group or event slug: outcomes whose exposure belongs together
    category: str = ""  # what the venue files it under; "" where unknown
    tags: tuple[str, ...] = ()  # the venue's labels of its event, as slugs
    end_ns: int = 0  # scheduled end, 0 where unknown
    as_of_ns: int = 0  # when the venue said so

    def outcome_of(self, token: TokenId) -> Literal[0, 1]:
        """Return the outcome index of one of this market's tokens."""
        assert token in self.tokens, f"{token} is not a token of {self.condition}"
        return 0 if token == self.tokens[0] else 1

    def complement(self, token: TokenId) -> TokenId:
        return self.tokens[1 - self.outcome_of(token)]


def price_is_on_grid(price: Price, tick: Price) -> bool:
    """Tell whether the venue takes this price: inside [tick, 1 - tick], a multiple of tick."""
    return tick <= price <= MICRO - tick and price % tick == 0


def fee_up(market: Market, price: Price, size: Shares) -> Usd:
    """Return the taker fee in micro-dollars, rounded up to the venue's 0.00001 step.

    ``fee = shares * rate * (p * (1 - p)) ** exponent`` (protocol.md 2.8); the venue charges at
    least one step where the market has fees at all.
    """
    if market.fee_rate == 0 or size == 0:
        return Usd(0)
    curve_numerator, curve_denominator = 1, 1
    for _ in range(market.fee_exponent):
        curve_numerator *= price * (MICRO - price)
        curve_denominator *= MICRO * MICRO
    numerator = size * market.fee_rate * curve_numerator
    denominator = MICRO * curve_denominator * _FEE_STEP
    return Usd(max(1, -(-numerator // denominator)) * _FEE_STEP)
