"""The only clock reads: everything else is given the time."""

import time
from datetime import datetime
from typing import Protocol

from shared.domain.units import NS_PER_S


class Clock(Protocol):
    def now_ns(self) -> int:
        """Return nanoseconds since the epoch, UTC; may step when the machine's clock is set."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds from an arbitrary start that never go back: for durations."""
        ...


def stamp_ns(text: str) -> int:
    """Read the broker's time stamps, UTC with up to nine decimals of a second."""
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * NS_PER_S + int(part.ljust(9, "0") or 0)


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class ManualClock:
    """A clock that moves only when told: for simulation and tests."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._elapsed_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_ns(self) -> int:
        return self._elapsed_ns

    def advance(self, ns: int) -> int:
        """Let time pass on both clocks and return the new wall time."""
        assert ns >= 0
        self._now_ns += ns
        self._elapsed_ns += ns
        return self._now_ns

    def set_wall(self, now_ns: int) -> None:
        """Step the wall clock, also backwards, as an operator or NTP may; durations go on."""
        self._now_ns = now_ns
