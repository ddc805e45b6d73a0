"""The settings file in the core's units."""

from services.risk.policy import Cap, Category, Policy, Sizing
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.runtime.config import Config, LeaderConfig


def policy_from(config: Config) -> Policy:
    """Return every limit in the core's units."""
    risk = config.risk
    return Policy(
        sizing=Sizing(leader_usd_max=risk.leader_usd_max),
        leaders={leader.wallet: _sizing(config, leader) for leader in config.leaders},
        entry_age_ns_max=risk.entry_age_ms_max * NS_PER_MS,
        order_ttl_ns=config.executor.order_ttl_ms * NS_PER_MS,
        book_age_ns_max=risk.book_age_ms_max * NS_PER_MS,
        book_dead_ns=risk.book_dead_ms * NS_PER_MS,
        market_age_ns_max=risk.market_age_s_max * NS_PER_S,
        account_age_ns_max=risk.account_age_ms_max * NS_PER_MS,
        slippage_bps_max=risk.slippage_bps_max,
        price_moved_bps_max=risk.price_moved_bps_max,
        price_min=risk.price_min,
        price_max=risk.price_max,
        trade=Cap(risk.trade_usd_max, risk.trade_equity_bps_max),
        leader_equity_bps=risk.leader_equity_bps_max,
        market=Cap(risk.market_usd_max, risk.market_equity_bps_max),
        event=Cap(risk.event_usd_max, risk.event_equity_bps_max),
        category=Cap(risk.category_usd_max, risk.category_equity_bps_max),
        total=Cap(risk.total_usd_max, risk.total_equity_bps_max),
        daily_loss_usd_max=risk.daily_loss_usd_max,
        drift_usd_max=risk.drift_usd_max,
        rejects_max=risk.rejects_max,
        rejects_window_ns=risk.rejects_window_s * NS_PER_S,
        retry_ns=risk.retry_ms * NS_PER_MS,
        dust=config.aggregator.dust_shares,
        allowed_markets=frozenset(risk.allowed_markets),
        blocked_markets=frozenset(risk.blocked_markets),
        allowed_categories=frozenset(risk.allowed_categories),
        blocked_categories=frozenset(risk.blocked_categories),
        categories=tuple(
            Category(name=each.name, scale_bps=each.scale_bps, usd_max=each.usd_max)
            for each in risk.categories
        ),
        refuses_taker_delay=risk.taker_delay == "refuse",
        depth_share_bps=risk.depth_share_bps_max,
        volatility_calm=risk.volatility_calm,
        volatility_unknown_bps=risk.volatility_unknown_bps,
        slippage_budget_bps=risk.slippage_budget_bps,
        slippage_floor_bps=risk.slippage_floor_bps,
        slippage_weight_bps=risk.slippage_weight_bps,
        daily_loss_free_usd=risk.daily_loss_free_usd,
        drawdown_free_usd=risk.drawdown_free_usd,
        drawdown_usd_max=risk.drawdown_usd_max,
        feed_fresh_ns=risk.feed_fresh_ms * NS_PER_MS,
        feed_dead_ns=risk.feed_dead_ms * NS_PER_MS,
        end_ns_min=risk.end_s_min * NS_PER_S,
        end_full_ns=risk.end_full_s * NS_PER_S,
        equity_ns=risk.equity_ms * NS_PER_MS,
        entry_order=risk.entry_order,
        exit_order=risk.exit_order,
        rest_ns=risk.rest_s * NS_PER_S,
        reprice_ticks=risk.reprice_ticks,
        takes_after_rest=risk.rest_then == "take",
        exit_depth_bps=risk.exit_depth_bps_max,
        exit_slice_ns=risk.exit_slice_s * NS_PER_S,
    )


def _sizing(config: Config, leader: LeaderConfig) -> Sizing:
    cap, age_ms = leader.leader_usd_max, leader.entry_age_max_ms
    return Sizing(
        mode=leader.sizing,
        trade_usd=leader.trade_usd,
        ratio_bps=leader.ratio_bps,
        share_bps=leader.share_bps,
        kelly_bps=leader.kelly_bps,
        edge=leader.edge,
        tiers=tuple((tier.from_usd, tier.scale_bps) for tier in leader.tiers),
        entry_age_ns_max=None if age_ms is None else age_ms * NS_PER_MS,
        leader_usd_max=config.risk.leader_usd_max if cap is None else cap,
    )
