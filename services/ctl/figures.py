"""Numbers and names as people read them: dollars, shares, percentages, durations, short ids."""

from decimal import Decimal
from typing import Final

import msgspec

from shared.domain.ids import COLLATERAL, ConditionId, TokenId, Wallet
from shared.domain.market import Market
from shared.domain.messages import Fact
from shared.domain.units import BPS, MICRO, NS_PER_MS, NS_PER_S, format_micro

MINUTE_S: Final = 60
_ENDLESS: Final = 1 << 61  # no number of ours comes near: a limit that nobody set
_MONEY: Final = ("usd", "shares", "price")
_BRIEF_MAX: Final = 20  # characters of a market's name where space is short
_encoder = msgspec.json.Encoder(decimal_format="number")


def json_text(value: object) -> str:
    """Return JSON for machines; decimals are exact numbers, keys stand in the order given."""
    return msgspec.json.format(_encoder.encode(value), indent=2).decode()


def decimal(micro: int) -> Decimal:
    """Return micro-units as an exact decimal, for JSON."""
    return Decimal(format_micro(micro))


def usd(micro: int) -> str:
    """Write dollars to the cent, or finer where a cent would show as nothing."""
    sign = "-" if micro < 0 else ""
    cents = (abs(micro) + 5_000) // 10_000
    if cents == 0 and micro:
        return f"{sign}${format_micro(abs(micro))}"
    return f"{sign}${cents // 100:,}.{cents % 100:02d}"


def shares(micro: int, *, signed: bool = False) -> str:
    """Write shares to two decimals."""
    hundredths = (abs(micro) + 5_000) // 10_000
    sign = "-" if micro < 0 else "+" if signed and micro > 0 else ""
    return f"{sign}{hundredths // 100:,}.{hundredths % 100:02d}"


def price(micro: int | None) -> str:
    """Write a price a share in dollars: exact on any market's grid, averages to its finest."""
    if micro is None:
        return "none"
    text = format_micro((micro + 50) // 100 * 100)
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


def bps(value: int) -> str:
    return f"{value:+,} bps"


def percent(value: int) -> str:
    """Write basis points as percent."""
    return f"{value * 100 / BPS:,.2f} %"


def duration(ns: int) -> str:
    """Write a duration with the unit that fits it."""
    if abs(ns) < 10 * NS_PER_S:
        ms = ns / NS_PER_MS
        return f"{ms:,.0f} ms" if abs(ms) >= 1 or ns == 0 else f"{ms:.2f} ms"
    seconds = ns / NS_PER_S
    if abs(seconds) < 2 * MINUTE_S:
        return f"{seconds:,.1f} s"
    minutes = int(seconds // MINUTE_S)
    if minutes < 2 * MINUTE_S:
        return f"{minutes} min {int(seconds % MINUTE_S)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def measured(value: int, unit: str) -> str:
    """Write a verdict's number in its own unit."""
    if value >= _ENDLESS:
        return "no limit"
    match unit:
        case "usd":
            return usd(value)
        case "shares":
            return shares(value)
        case "price":
            return price(value)
        case "ns":
            return duration(value)
        case "bps":
            return f"{value:,} bps ({percent(value)})"
        case "volatility":  # of the mid, in micro-log-odds per square root of a second
            return "unknown" if value < 0 else f"{format_micro(value)} log-odds/√s"
        case "":
            return str(value)
        case _:
            return f"{value:,} {unit}"


def number(value: int, unit: str) -> int | Decimal:
    """Return a number for JSON: money and sizes exactly, durations in ms, the rest as it is."""
    if unit in _MONEY:
        return decimal(value)
    return value // NS_PER_MS if unit == "ns" else value


def number_unit(unit: str) -> str:
    """Return the unit that ``number`` returns."""
    return "ms" if unit == "ns" else unit


def notional(price_: int, size: int) -> int:
    """Return price times size in micro-dollars, for display."""
    return price_ * size // MICRO


def short(text: str) -> str:
    """Shorten an id or a hash to what tells it from the others."""
    body = text.removeprefix("0x")
    head = "0x" if body != text else ""
    return f"{head}{body[:8]}" if len(body) > 12 else text


class Names:
    """What people call wallets, markets and tokens; ids where nothing is known.

    With ``brief`` a market's long name is cut in its middle, where names of a series agree.
    """

    def __init__(self, leaders: dict[Wallet, str] | None = None, *, brief: bool = False) -> None:
        self._leaders = dict(leaders or {})
        self._brief = brief
        self._markets: dict[ConditionId, Market] = {}
        self._homes: dict[TokenId, ConditionId] = {}

    def hear(self, fact: Fact) -> None:
        """Learn the market that a fact describes, if it does."""
        market = getattr(fact, "market", None)
        if isinstance(market, Market):
            self.learn(market)

    def learn(self, market: Market) -> None:
        self._markets[market.condition] = market
        for token in market.tokens:
            self._homes[token] = market.condition

    def knows(self, condition: ConditionId) -> bool:
        return condition in self._markets

    def leader(self, wallet: Wallet) -> str:
        if set(wallet) <= set("0x"):
            return "nobody"  # what no leader caused: trades by hand
        return self._leaders.get(wallet) or short(wallet)

    def market(self, condition: ConditionId) -> str:
        market = self._markets.get(condition)
        name = (market.slug or market.question or short(condition)) if market else short(condition)
        if self._brief and len(name) > _BRIEF_MAX:
            return f"{name[: _BRIEF_MAX - 7]}…{name[-6:]}"
        return name

    def outcome(self, condition: ConditionId, outcome: int) -> str:
        market = self._markets.get(condition)
        return market.outcomes[outcome] if market else ("Yes", "No")[outcome]

    def token(self, token: TokenId) -> str:
        if token == COLLATERAL:
            return "cash"
        home = self._homes.get(token)
        if home is None:
            return f"token {token[:8]}"
        market = self._markets[home]
        return f"{market.outcomes[market.outcome_of(token)]} of {self.market(home)}"
