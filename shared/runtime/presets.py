"""What a preset of [risk] writes where the file does not: values as they stand in a file.

A preset is what an account can bear, and nothing else: it names limits, not what is watched how
often. "balanced" is the defaults themselves.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

Value = int | str | Decimal

PRESETS: Final[Mapping[str, Mapping[str, Value]]] = {
    "cautious": {
        "entry_age_ms_max": 15_000,
        "book_age_ms_max": 3_000,
        "market_age_s_max": 600,
        "account_age_ms_max": 30_000,
        "slippage_bps_max": 100,
        "price_moved_bps_max": 200,
        "price_min": Decimal("0.05"),
        "price_max": Decimal("0.95"),
        "taker_delay": "refuse",
        "trade_usd_max": 10,
        "leader_usd_max": 100,
        "market_usd_max": 40,
        "event_usd_max": 80,
        "category_usd_max": 200,
        "total_usd_max": 400,
        "trade_equity_bps_max": 200,
        "leader_equity_bps_max": 1_000,
        "market_equity_bps_max": 500,
        "event_equity_bps_max": 1_000,
        "category_equity_bps_max": 2_000,
        "total_equity_bps_max": 4_000,
        "depth_share_bps_max": 2_500,
        "volatility_calm": 10_000,
        "volatility_unknown_bps": 2_500,
        "slippage_budget_bps": 50,
        "slippage_floor_bps": 1_000,
        "daily_loss_free_usd": 10,
        "daily_loss_usd_max": 40,
        "drawdown_free_usd": 20,
        "drawdown_usd_max": 80,
        "feed_fresh_ms": 10_000,
        "feed_dead_ms": 45_000,
        "end_s_min": 60,
        "end_full_s": 600,
        "drift_usd_max": 10,
        "rejects_max": 5,
    },
    "balanced": {},
    "aggressive": {
        "entry_age_ms_max": 60_000,
        "market_age_s_max": 1_800,
        "slippage_bps_max": 400,
        "price_moved_bps_max": 1_000,
        "price_min": Decimal("0.01"),
        "price_max": Decimal("0.99"),
        "trade_usd_max": 200,
        "leader_usd_max": 2_000,
        "market_usd_max": 800,
        "event_usd_max": 1_600,
        "category_usd_max": 4_000,
        "total_usd_max": 8_000,
        "depth_share_bps_max": 7_500,
        "volatility_calm": 40_000,
        "volatility_unknown_bps": 7_500,
        "slippage_budget_bps": 200,
        "slippage_floor_bps": 5_000,
        "daily_loss_free_usd": 200,
        "daily_loss_usd_max": 800,
        "drawdown_free_usd": 400,
        "drawdown_usd_max": 1_600,
        "feed_fresh_ms": 20_000,
        "feed_dead_ms": 90_000,
        "drift_usd_max": 200,
        "rejects_max": 20,
    },
}


def with_preset(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's tables with the preset of [risk] beneath what the file itself says.

    What is no table, or names no preset, is left for the check that says so.
    """
    risk = table.get("risk")
    if not isinstance(risk, dict) or not isinstance(risk.get("preset"), str):
        return dict(table)
    return {**table, "risk": {**PRESETS.get(risk["preset"], {}), **risk}}
