"""Requests wait for their turn at each endpoint that has a limit, first come, first served.

A limit may be of one endpoint or of a group of them; a request waits for both.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from shared.domain.units import NS_PER_S
from shared.polymarket.buckets import Bucket
from shared.polymarket.errors import Throttled, TransportError, VenueError
from shared.polymarket.throttle import Throttle

_RETRY_S: Final = 1.0  # a 429 that names no time is left alone for this long
_logger = logging.getLogger(__name__)


class Limited:
    """One endpoint: how many requests go, and how they fare."""

    def __init__(self, per_10s: int) -> None:
        self.total = per_10s  # of all processes together
        self.throttle = Throttle(per_10s)
        self.bucket = Bucket(per_10s)
        self.turn = asyncio.Lock()


class Pacer:
    """The rates of one process; endpoints that it was given no limit for go as they come."""

    def __init__(
        self,
        per_10s: Mapping[str, int],
        groups: Mapping[tuple[str, ...], int] | None = None,
        *,
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._limited = {endpoint: Limited(limit) for endpoint, limit in per_10s.items()}
        self._groups = [(names, Bucket(limit)) for names, limit in (groups or {}).items()]
        self._monotonic_ns = monotonic_ns

    def of(self, endpoint: str) -> Throttle:
        return self._limited[endpoint].throttle

    def rate(self, endpoint: str) -> int:
        """Return how many requests may go there in ten seconds, as things are."""
        return self._limited[endpoint].throttle.rate(self._monotonic_ns())

    def share(self, processes: int) -> None:
        """Take one part of every limit: the venue counts all processes behind one address."""
        for limited in self._limited.values():
            share = max(1, limited.total // processes)
            if share != limited.throttle.full:
                limited.throttle.set_full(share)

    async def turn(self, endpoint: str) -> None:
        """Wait until a request may go, and count it."""
        limited = self._limited.get(endpoint)
        if limited is None:
            return
        async with limited.turn:
            while True:
                now_ns = self._monotonic_ns()
                limited.bucket.per_10s = limited.throttle.rate(now_ns)
                wait_ns = max(bucket.wait_ns(now_ns) for bucket in self._buckets(endpoint))
                if wait_ns == 0:
                    break
                await asyncio.sleep(wait_ns / NS_PER_S)
            self.spend(endpoint)

    def spend(self, endpoint: str) -> None:
        """Count a repetition, which goes without waiting; whoever comes next waits for it."""
        now_ns = self._monotonic_ns()
        for bucket in self._buckets(endpoint):
            bucket.spend(now_ns)

    def went(self, endpoint: str, seconds: float, error: VenueError | None) -> None:
        """Take how a request fared: how long it took, and what came of it."""
        limited = self._limited.get(endpoint)
        if limited is None:
            return
        now_ns, cuts = self._monotonic_ns(), limited.throttle.cuts
        if isinstance(error, Throttled):
            limited.throttle.refused(now_ns)
            told_s = _RETRY_S if error.retry_after_s is None else error.retry_after_s
            limited.bucket.hold(now_ns + int(told_s * NS_PER_S))
        elif error is None or isinstance(error, TransportError):
            limited.throttle.answered(int(seconds * NS_PER_S), now_ns)
        if limited.throttle.cuts != cuts:
            detail = limited.throttle.describe()
            _logger.warning("throttled", extra={"fields": {"endpoint": endpoint, "detail": detail}})

    def told(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Hear what an answer says beside its body: nothing of an address's limits."""

    def held_back(self) -> tuple[str, ...]:
        """Return what people read of each endpoint whose answers say that it throttles us."""
        described = ((name, each.throttle.describe()) for name, each in self._limited.items())
        return tuple(f"{name}: {words}" for name, words in described if words)

    def _buckets(self, endpoint: str) -> list[Bucket]:
        limited = self._limited.get(endpoint)
        own = [] if limited is None else [limited.bucket]
        return own + [bucket for names, bucket in self._groups if endpoint in names]
