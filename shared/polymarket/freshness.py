"""How far the Data API's index is behind the chain, in its own words: ``/v2/status``.

The venue measures what it serves (``serving``), each projection with its own age, as of a snapshot
that has an age too (``age_seconds``). What wallets did comes from the projection named
``activity_feed``; where that is not named, the worst of all counts.
"""

from decimal import Decimal
from typing import Final

import msgspec

from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket import wire
from shared.polymarket.errors import WireError

STATUS: Final = "/v2/status"
_ACTIVITY: Final = "activity_feed"
_LAG_S_MAX: Final = 31_536_000  # a year: anything beyond is no measurement


class Projection(msgspec.Struct, frozen=True):
    name: str = ""
    age_seconds: Decimal | None = None


class Serving(msgspec.Struct, frozen=True):
    lag_seconds: Decimal | None = None
    mechanisms: list[Projection] = []


class Status(msgspec.Struct, frozen=True):
    age_seconds: Decimal = Decimal(0)
    serving: Serving | None = None
    lag_ms: int | None = None  # the local venue's way to say it


class DataStatus(msgspec.Struct, frozen=True):
    data: Status | None = None


def index_lag_ns(body: bytes) -> int:
    """Return how old the newest activity is that the Data API can show, or raise WireError."""
    told = wire.decode(body, DataStatus, where=STATUS).data
    lag_ns = None if told is None else _lag_ns(told)
    if lag_ns is None or not 0 <= lag_ns <= _LAG_S_MAX * NS_PER_S:
        raise WireError("no lag", where=STATUS, seen=body)
    return lag_ns


def _lag_ns(told: Status) -> int | None:
    if told.serving is None:
        return None if told.lag_ms is None else told.lag_ms * NS_PER_MS
    ages = (each.age_seconds for each in told.serving.mechanisms if each.name == _ACTIVITY)
    lag_s = next((age for age in ages if age is not None), told.serving.lag_seconds)
    return None if lag_s is None else int((told.age_seconds + lag_s) * NS_PER_S)
