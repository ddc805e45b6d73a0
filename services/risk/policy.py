"""What risk is told to allow: every limit and every sizing, in the core's units."""

from typing import Final, Literal

import msgspec

from shared.domain.ids import Wallet
from shared.domain.market import Market
from shared.domain.messages import OrderPolicy
from shared.domain.units import BPS, NS_PER_S, Bps, Price, Shares, Usd, scale_down

NEVER_NS: Final = 1 << 62
FULL: Final = Bps(BPS)
NO_LIMIT: Final = Usd(1 << 62)


class Cap(msgspec.Struct, frozen=True):
    """A cap in dollars, in percent of equity, or both: the smaller holds."""

    usd: Usd
    equity_bps: Bps = Bps(0)  # 0: in dollars alone

    def limit(self, equity: Usd | None, scale: Bps = FULL) -> Usd:
        """Return the dollars allowed; a percentage of what nobody knows is nothing."""
        most = self.usd
        if self.equity_bps:
            most = min(most, Usd(scale_down(max(0, equity or 0), self.equity_bps, BPS)))
        return Usd(scale_down(most, scale, BPS))


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one leader we copy."""

    mode: Literal["fixed", "proportional", "portfolio", "kelly"] = "fixed"
    trade_usd: Usd = Usd(10_000_000)  # fixed: dollars an intent
    ratio_bps: Bps = Bps(100)  # proportional: of what he added
    share_bps: Bps = FULL  # portfolio: of the share of his portfolio that he added
    kelly_bps: Bps = Bps(2_500)  # kelly: of the full Kelly stake
    edge: Price = Price(0)  # dollars a share by which he is believed to know better
    tiers: tuple[tuple[Usd, Bps], ...] = ()  # from how many of his dollars, scaled how; rising
    entry_age_ns_max: int | None = None  # None: as for everybody
    leader_usd_max: Usd = Usd(500_000_000)


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """What differs for the markets of one category or tag."""

    name: str
    scale_bps: Bps = FULL
    usd_max: Usd | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit, in the unit of its name; durations in nanoseconds."""

    sizing: Sizing
    leaders: dict[Wallet, Sizing] = {}
    entry_age_ns_max: int
    order_ttl_ns: int
    book_age_ns_max: int
    book_dead_ns: int
    market_age_ns_max: int
    account_age_ns_max: int
    slippage_bps_max: Bps
    price_moved_bps_max: Bps
    price_min: Price
    price_max: Price
    trade: Cap
    leader_equity_bps: Bps = Bps(0)
    market: Cap
    event: Cap
    category: Cap
    total: Cap
    daily_loss_usd_max: Usd
    drift_usd_max: Usd
    rejects_max: int
    rejects_window_ns: int
    retry_ns: int
    dust: Shares
    allowed_markets: frozenset[str] = frozenset()  # conditions, slugs, events; empty: all
    blocked_markets: frozenset[str] = frozenset()
    allowed_categories: frozenset[str] = frozenset()
    blocked_categories: frozenset[str] = frozenset()
    categories: tuple[Category, ...] = ()
    refuses_taker_delay: bool = False
    # What the world scales. The defaults scale nothing; dynamics.py has the formulas.
    depth_share_bps: Bps = FULL
    volatility_calm: int = 0
    volatility_unknown_bps: Bps = FULL
    slippage_budget_bps: Bps = FULL
    slippage_floor_bps: Bps = FULL
    slippage_weight_bps: Bps = Bps(2_000)
    daily_loss_free_usd: Usd = NO_LIMIT
    drawdown_free_usd: Usd = NO_LIMIT
    drawdown_usd_max: Usd = NO_LIMIT
    feed_fresh_ns: int = NEVER_NS
    feed_dead_ns: int = NEVER_NS
    end_ns_min: int = 0
    end_full_ns: int = 0
    equity_ns: int = 5 * NS_PER_S
    # How orders trade.
    entry_order: OrderPolicy = "fill_and_kill"
    exit_order: OrderPolicy = "fill_and_kill"
    rest_ns: int = 20 * NS_PER_S
    reprice_ticks: int = 1
    takes_after_rest: bool = False
    exit_depth_bps: Bps = FULL
    exit_slice_ns: int = 10 * NS_PER_S

    def sizing_of(self, leader: Wallet) -> Sizing:
        return self.leaders.get(leader, self.sizing)

    def category_of(self, market: Market) -> Category | None:
        """Return the settings of the first configured category that a market is in."""
        return next((each for each in self.categories if each.name in labels(market)), None)


def labels(market: Market) -> frozenset[str]:
    """Return what a market is filed under: its category and its tags."""
    return frozenset({market.category, *market.tags} - {""})
