"""``/v2/status``: how far the index is behind the chain, as production describes it.

The shape is the documented one (docs.polymarket.com, Get data freshness, autumn 2026); which
projections and cursors there are is cut down to three and one.
"""

from typing import Final

from services.paper_venue.chain import block_at
from services.paper_venue.config import VenueConfig
from services.paper_venue.signing import CHAIN_ID
from services.paper_venue.wire import Json, iso
from shared.domain.units import NS_PER_MS, NS_PER_S

SNAPSHOT_S: Final = 5  # a snapshot is computed so often, never on request (the period is a guess)
SOURCE: Final = "exchange/OrderFilled"


def status_body(config: VenueConfig, as_of_ns: int, now_ns: int) -> Json:
    """Return the freshness of an index that knows nothing newer than ``as_of_ns``."""
    computed_ns = now_ns - now_ns % (SNAPSHOT_S * NS_PER_S)
    known_ns = min(as_of_ns, computed_ns) - config.data_api_delay_ms * NS_PER_MS
    behind_s = max(0, computed_ns - known_ns) // NS_PER_S
    head, block = block_at(config, computed_ns), block_at(config, known_ns)
    cursor = {"source": SOURCE, "block": block, "behind_max": head - block}
    return {
        "computed_at": iso(computed_ns),
        "age_seconds": (now_ns - computed_ns) // NS_PER_S,
        "serving": {
            "lag_seconds": behind_s,
            "worst": "activity_feed",
            "mechanisms": [
                {"name": "activity_feed", "age_seconds": behind_s, "blocks_behind": head - block},
                {"name": "custody_balances", "age_seconds": 0, "blocks_behind": 0},
                {"name": "pnl", "age_seconds": 0, "blocks_behind": 0},
            ],
        },
        "ingestion": {
            "network": "polygon",
            "chain_id": CHAIN_ID,
            "cursors": 1,
            "max_synced_block": block,
            "min_synced_block": block,
            "most_lagged": cursor,
            "lagging": [cursor] if behind_s else [],
        },
    }
