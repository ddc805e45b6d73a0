"""Whom we copy, how much of him, and what all of it may cost: [[leaders]] and [risk].

Money is in micro-units here and in dollars in the file; ``config.py`` has the other tables.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from shared.domain import ids
from shared.domain.ids import Wallet
from shared.domain.units import MICRO, Bps, Price, Shares, Usd, format_micro
from shared.runtime.sections import FieldError, Range, Section

_USD_MAX: Final = 1_000_000_000 * MICRO  # a billion dollars is a typing error
_CONDITION: Final = re.compile(r"0x[0-9a-f]{64}")
_SLUG: Final = re.compile(r"(?!0x)[a-z0-9-]+")
_LABEL: Final = re.compile(r"\w+(-\w+)*")

Ms = Annotated[int, Range(1, 86_400_000)]
Seconds = Annotated[int, Range(1, 31_536_000)]
Count = Annotated[int, Range(1, 1_000)]
BpsOf = Annotated[Bps, Range(0, 10_000)]
SomeBpsOf = Annotated[Bps, Range(1, 10_000)]
ScaleBps = Annotated[Bps, Range(0, 100_000)]
PositiveUsd = Annotated[Usd, Range(1, _USD_MAX)]
CapUsd = Annotated[Usd, Range(0, _USD_MAX)]
DustShares = Annotated[Shares, Range(0, 1_000 * MICRO)]
Probability = Annotated[Price, Range(0, MICRO)]
Until = Annotated[int, Range(0, 31_536_000)]


class TierConfig(Section, frozen=True):
    """Entries of at least this many of the leader's dollars are scaled so."""

    from_usd: PositiveUsd
    scale_bps: ScaleBps


class CategoryConfig(Section, frozen=True):
    """What differs in one category of markets; a market is in it by its category or a tag."""

    name: str
    scale_bps: ScaleBps = Bps(10_000)
    usd_max: CapUsd | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(self, "name", _label("name", self.name))


class LeaderConfig(Section, frozen=True):
    wallet: Wallet
    name: str = ""
    sizing: Literal["fixed", "proportional", "portfolio", "kelly"] = "fixed"
    trade_usd: PositiveUsd = Usd(10 * MICRO)  # fixed: dollars an intent
    ratio_bps: Annotated[Bps, Range(1, 100_000)] = Bps(100)  # proportional: of the leader's
    share_bps: Annotated[Bps, Range(1, 100_000)] = Bps(10_000)  # portfolio: of his share
    kelly_bps: SomeBpsOf = Bps(2_500)  # kelly: of the full Kelly stake
    edge: Probability = Price(0)  # dollars a share he is believed to know
    tiers: tuple[TierConfig, ...] = ()
    entry_age_max_ms: Ms | None = None
    quiet_ms: Ms | None = None
    age_max_ms: Ms | None = None
    flush_usd: PositiveUsd | None = None
    flush_on_reduction: bool | None = None
    dust_shares: DustShares | None = None
    net_share_bps_min: BpsOf | None = None
    churn_share_bps_max: BpsOf | None = None
    leader_usd_max: CapUsd | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        canonical_wallet(self, self.wallet)
        if self.sizing == "kelly" and self.edge == 0:
            problem = 'must be above 0 where sizing = "kelly": without an edge Kelly stakes nothing'
            raise FieldError("edge", "0", problem)
        for at, (lower, tier) in enumerate(zip(self.tiers, self.tiers[1:], strict=False), 1):
            if tier.from_usd <= lower.from_usd:
                shown, below = format_micro(tier.from_usd), format_micro(lower.from_usd)
                problem = f"must be above the tier before it ({below}): write tiers in rising order"
                raise FieldError(f"tiers[{at}].from_usd", shown, problem)


class RiskConfig(Section, frozen=True):
    """Every limit; the defaults are the preset "balanced" (``presets.py``)."""

    preset: Literal["cautious", "balanced", "aggressive"] = "balanced"
    tick_ms: Ms = 250
    equity_ms: Ms = 5_000
    entry_age_ms_max: Ms = 30_000
    book_age_ms_max: Ms = 5_000
    book_dead_ms: Ms = 60_000
    market_age_s_max: Seconds = 900
    account_age_ms_max: Ms = 60_000
    slippage_bps_max: BpsOf = Bps(200)
    price_moved_bps_max: BpsOf = Bps(500)
    price_min: Probability = Price(20_000)
    price_max: Probability = Price(980_000)
    taker_delay: Literal["allow", "refuse"] = "allow"
    allowed_markets: tuple[str, ...] = ()
    blocked_markets: tuple[str, ...] = ()
    allowed_categories: tuple[str, ...] = ()
    blocked_categories: tuple[str, ...] = ()
    categories: tuple[CategoryConfig, ...] = ()
    trade_usd_max: CapUsd = Usd(50 * MICRO)
    leader_usd_max: CapUsd = Usd(500 * MICRO)
    market_usd_max: CapUsd = Usd(200 * MICRO)
    event_usd_max: CapUsd = Usd(400 * MICRO)
    category_usd_max: CapUsd = Usd(1_000 * MICRO)
    total_usd_max: CapUsd = Usd(2_000 * MICRO)
    trade_equity_bps_max: BpsOf = Bps(0)
    leader_equity_bps_max: BpsOf = Bps(0)
    market_equity_bps_max: BpsOf = Bps(0)
    event_equity_bps_max: BpsOf = Bps(0)
    category_equity_bps_max: BpsOf = Bps(0)
    total_equity_bps_max: BpsOf = Bps(0)
    depth_share_bps_max: SomeBpsOf = Bps(5_000)
    volatility_calm: Annotated[int, Range(0, 10_000_000)] = 20_000
    volatility_unknown_bps: BpsOf = Bps(5_000)
    slippage_budget_bps: SomeBpsOf = Bps(100)
    slippage_floor_bps: BpsOf = Bps(2_500)
    slippage_weight_bps: SomeBpsOf = Bps(2_000)
    daily_loss_free_usd: CapUsd = Usd(50 * MICRO)
    daily_loss_usd_max: CapUsd = Usd(200 * MICRO)
    drawdown_free_usd: CapUsd = Usd(100 * MICRO)
    drawdown_usd_max: CapUsd = Usd(400 * MICRO)
    feed_fresh_ms: Ms = 15_000
    feed_dead_ms: Ms = 60_000
    end_s_min: Until = 0
    end_full_s: Until = 0
    drift_usd_max: CapUsd = Usd(50 * MICRO)
    rejects_max: Count = 10
    rejects_window_s: Seconds = 60
    retry_ms: Ms = 1_000
    entry_order: Literal["fill_and_kill", "fill_or_kill", "post_only"] = "fill_and_kill"
    exit_order: Literal["fill_and_kill", "fill_or_kill", "post_only"] = "fill_and_kill"
    rest_s: Seconds = 20
    rest_then: Literal["drop", "take"] = "drop"
    reprice_ticks: Annotated[int, Range(0, 100)] = 1
    exit_depth_bps_max: SomeBpsOf = Bps(10_000)
    exit_slice_s: Seconds = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_pairs()
        for name in ("allowed_markets", "blocked_markets"):
            self._rename(name, [_market(*each) for each in _items(name, getattr(self, name))])
        for name in ("allowed_categories", "blocked_categories"):
            self._rename(name, [_label(*each) for each in _items(name, getattr(self, name))])
        _check_apart("allowed_markets", self.allowed_markets, self.blocked_markets)
        _check_apart("allowed_categories", self.allowed_categories, self.blocked_categories)
        names = [category.name for category in self.categories]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise FieldError(f"categories[{at}].name", name, "is listed twice: keep one table")

    def _check_pairs(self) -> None:
        if self.price_min >= self.price_max:
            problem = f"must be below price_max = {format_micro(self.price_max)}"
            raise FieldError("price_min", format_micro(self.price_min), problem)
        for low, high in (("daily_loss_free_usd", "daily_loss_usd_max"),
                          ("drawdown_free_usd", "drawdown_usd_max")):  # fmt: skip
            loss, limit = getattr(self, low), getattr(self, high)
            if loss > limit:
                problem = f"must not exceed {high} = {format_micro(limit)}"
                raise FieldError(low, format_micro(loss), problem)
        for fresh, dead in (("book_age_ms_max", "book_dead_ms"), ("feed_fresh_ms", "feed_dead_ms")):
            if getattr(self, fresh) > getattr(self, dead):
                problem = f"must not exceed {dead} = {getattr(self, dead)}: stale comes before dead"
                raise FieldError(fresh, getattr(self, fresh), problem)
        if self.entry_order == "post_only" and self.rest_s * 1_000 >= self.entry_age_ms_max:
            problem = (
                f"must be below entry_age_ms_max = {self.entry_age_ms_max}: an entry older than "
                "that is written off, so it would neither rest so long nor be taken after"
            )
            raise FieldError("rest_s", self.rest_s, problem)
        if self.end_full_s and self.end_full_s < self.end_s_min:
            problem = f"must be 0 (caps do not shrink) or at least end_s_min = {self.end_s_min}"
            raise FieldError("end_full_s", self.end_full_s, problem)

    def _rename(self, name: str, canonical: list[str]) -> None:
        msgspec.structs.force_setattr(self, name, tuple(canonical))


def canonical_wallet(section: Section, written: str) -> None:
    """Put a section's wallet in lower case, or raise FieldError."""
    try:
        msgspec.structs.force_setattr(section, "wallet", ids.wallet(written))
    except ValueError:
        raise FieldError("wallet", written, "must be 0x and 40 hex digits") from None


def _items(name: str, written: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    return ((f"{name}[{at}]", each) for at, each in enumerate(written))


def _market(path: str, written: str) -> str:
    named = written.strip().lower() if written[:2].lower() == "0x" else written
    if _CONDITION.fullmatch(named) or _SLUG.fullmatch(named):
        return named
    problem = "must be a market's 0x and 64 hex digits, or a slug (a-z, 0-9, -) as its address ends"
    raise FieldError(path, repr(written), problem)


def _label(path: str, written: str) -> str:
    named = written.strip().lower()
    if not _LABEL.fullmatch(named):
        slug = re.sub(r"[^\w]+", "-", named).strip("-") or "sports"
        problem = f'must be a category or tag as the venue writes it in addresses, such as "{slug}"'
        raise FieldError(path, repr(written), problem)
    return named


def _check_apart(name: str, allowed: tuple[str, ...], blocked: tuple[str, ...]) -> None:
    for at, each in enumerate(allowed):
        if each in blocked:
            other = name.replace("allowed", "blocked")
            raise FieldError(f"{name}[{at}]", each, f"is in {other} too: take it out of one")
