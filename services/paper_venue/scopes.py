"""Which published limits a request falls under: requests in a sliding window by IP (1.9)."""

from functools import lru_cache
from typing import Final

import msgspec

from shared.domain.units import NS_PER_S

DATA_PREFIX: Final = "/v2/"
GAMMA_PATHS: Final = (
    "/markets/keyset",
    "/markets/slug",
    "/events",
    "/public-search",
    "/tags",
    "/comments",
    "/sports",
    "/series",
)
_LEDGER_READS: Final = ("/data/orders", "/data/trades", "/data/order", "/notifications")
_ELSEWHERE: Final = ("/", "/rtds", "/rpc", "/deployed")  # hosts whose limits are not of here
_TEN_S: Final = 10
_TEN_MINUTES_S: Final = 600


class Scope(msgspec.Struct, frozen=True):
    """A limit: so many requests in so long."""

    name: str
    limit: int
    seconds: int = _TEN_S

    @property
    def length_ns(self) -> int:
        return self.seconds * NS_PER_S


ALL: Final = Scope("all hosts", 15_000)
CLOB: Final = Scope("clob", 9_000)
DATA: Final = Scope("data", 800)
GAMMA: Final = Scope("gamma", 4_000)
LEDGER: Final = Scope("ledger", 900)
AUTH: Final = Scope("auth", 100)
GAMMA_LISTS: Final = Scope("gamma lists", 900)

_READS: Final = {
    "/book": 1_500,
    "/price": 1_500,
    "/midpoint": 1_500,
    "/books": 500,
    "/prices": 500,
    "/midpoints": 500,
    "/prices-history": 1_000,
    "/tick-size": 200,
    "/balance-allowance": 200,
    "/balance-allowance/update": 50,
    "/data/orders": 500,
    "/data/trades": 500,
    "/notifications": 125,
}
_DATA_READS: Final = {
    "/v2/trades": 300,
    "/v2/positions": 200,
    "/v2/activity": 200,
    "/v2/prices-history": 200,
    "/v2/status": 100,
}
_GAMMA_READS: Final = {
    "/events": 500,
    "/markets": 300,
    "/public-search": 350,
    "/comments": 200,
    "/tags": 200,
}
_TRADING: Final = {  # in 10 seconds, in 10 minutes
    ("POST", "/order"): (5_000, 120_000),
    ("DELETE", "/order"): (5_000, 120_000),
    ("POST", "/orders"): (2_000, 21_000),
    ("DELETE", "/orders"): (2_000, 15_000),
    ("DELETE", "/cancel-all"): (250, 6_000),
    ("DELETE", "/cancel-market-orders"): (1_500, 21_000),
}


@lru_cache(maxsize=4_096)
def scopes_of(method: str, path: str, *, cursor: bool) -> tuple[Scope, ...]:
    """Return the limits of a request; ``cursor`` tells the CLOB's ``/markets`` from Gamma's."""
    if path.startswith(("/admin", "/ws/")) or path in _ELSEWHERE:
        return ()
    if path.startswith(DATA_PREFIX):
        return (ALL, DATA, *_named(_DATA_READS, path))
    if path.startswith(GAMMA_PATHS) or (path == "/markets" and not cursor):
        lists = (GAMMA_LISTS,) if path.startswith(("/markets", "/events")) else ()
        return (ALL, GAMMA, *lists, *_named(_GAMMA_READS, "/" + path.split("/")[1]))
    found = [ALL, CLOB]
    trading = _TRADING.get((method, path))
    if trading is not None:
        found.append(Scope(f"{method} {path}", trading[0]))
        found.append(Scope(f"{method} {path} slowly", trading[1], _TEN_MINUTES_S))
        return tuple(found)
    if path.startswith("/auth/"):
        found.append(AUTH)
    if method == "GET" and path.startswith(_LEDGER_READS):
        found.append(LEDGER)
    return (*found, *_named(_READS, path))


def _named(limits: dict[str, int], path: str) -> tuple[Scope, ...]:
    limit = limits.get(path)
    return () if limit is None else (Scope(path, limit),)
