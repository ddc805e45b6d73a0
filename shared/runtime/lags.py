"""How long something took lately: the newest durations, their median and the worst."""

from collections import deque
from typing import Final

from shared.domain.units import NS_PER_MS
from shared.domain.views import Lag

_KEPT: Final = 200  # durations


class Lags:
    """The newest durations of one thing."""

    def __init__(self) -> None:
        self._newest: deque[int] = deque(maxlen=_KEPT)
        self._count = 0

    def note(self, duration_ns: int) -> None:
        self._newest.append(max(0, duration_ns))
        self._count += 1

    def view(self) -> Lag:
        """Return how many there ever were, and how the newest fared."""
        if not self._newest:
            return Lag()
        ordered = sorted(self._newest)
        return Lag(
            count=self._count,
            median_ms=ordered[len(ordered) // 2] // NS_PER_MS,
            worst_ms=ordered[-1] // NS_PER_MS,
        )
