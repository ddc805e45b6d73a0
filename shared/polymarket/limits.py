"""The venue's published limits, and the part of them that one process may spend.

Requests are counted by address, all processes behind it together (protocol.md 1.9 a); orders and
cancels by signer besides (1.9 b). A part of each is left unspent, for the time a request takes to
arrive varies: what was sent evenly may arrive in bunches.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.domain.units import BPS

POST_ORDER: Final = "POST /order"
CANCEL_ORDER: Final = "DELETE /order"
ORDER_BY_HASH: Final = "/data/order/{hash}"

# Requests in ten seconds, by the names that calls have here.
_TRADING: Final = {POST_ORDER: 2_000, CANCEL_ORDER: 2_000}  # 120,000 in ten minutes, kept evenly
_ENDPOINTS: Final = {
    **_TRADING,
    "/data/orders": 500,
    "/data/trades": 500,
    ORDER_BY_HASH: 900,
    "/balance-allowance": 200,
    "/balance-allowance/update": 50,
    "/auth/ban-status/closed-only": 100,
    "/auth/derive-api-key": 100,
    "POST /auth/api-key": 100,
}
# Endpoints that share one limit.
_GROUPS: Final = {
    ("/data/orders", "/data/trades", ORDER_BY_HASH): 900,
    ("/auth/ban-status/closed-only", "/auth/derive-api-key", "POST /auth/api-key"): 100,
}


class Tier(msgspec.Struct, frozen=True):
    """What a signer may do, in tokens: so many a second, so many at once."""

    orders_per_s: int
    orders_burst: int
    cancels_per_s: int
    cancels_burst: int


STANDARD: Final = "standard"
TIERS: Final[Mapping[str, Tier]] = {
    STANDARD: Tier(40, 60, 80, 120),
    "copper": Tier(60, 90, 120, 180),
    "bronze": Tier(80, 120, 160, 240),
    "silver": Tier(200, 300, 400, 600),
    "gold": Tier(400, 600, 800, 1_200),
    "platinum": Tier(450, 675, 900, 1_350),
    "diamond": Tier(525, 787, 1_050, 1_575),
    "elite": Tier(600, 900, 1_200, 1_800),
}


class Limits(msgspec.Struct, frozen=True):
    """Requests in ten seconds that a process may make: of each endpoint, and of groups of them."""

    endpoints: Mapping[str, int]
    groups: Mapping[tuple[str, ...], int] = {}


def account_limits(share_bps: int) -> Limits:
    """Return the limits of the calls that need an account, as far as a process may spend them."""
    return Limits(
        {name: _part(limit, share_bps) for name, limit in _ENDPOINTS.items()},
        {names: _part(limit, share_bps) for names, limit in _GROUPS.items()},
    )


def _part(limit: int, share_bps: int) -> int:
    return max(1, limit * share_bps // BPS)
