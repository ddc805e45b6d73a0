"""A limit of requests in ten seconds, kept evenly: who must wait, and for how long."""

from typing import Final

from shared.domain.units import NS_PER_S

WINDOW_NS: Final = 10 * NS_PER_S  # the venue counts in sliding windows of this (protocol.md 1.9)
BURST_PART: Final = 15  # one part in so many of a window's requests may go at once


class Bucket:
    """Lets at most ``per_10s`` requests go in ten seconds, and a burst of them on top at once.

    The burst is a fifteenth of them unless another is given. It keeps one number, the time at
    which all that went would have gone had it gone evenly, so a rate that changes holds from the
    next request on.
    """

    def __init__(self, per_10s: int, burst: int | None = None) -> None:
        assert per_10s > 0
        self.per_10s = per_10s
        self._burst = burst
        self._even_ns = 0
        self._held_ns = 0

    @property
    def step_ns(self) -> int:
        """Return the time between two requests that go evenly."""
        return WINDOW_NS // self.per_10s

    @property
    def burst(self) -> int:
        return max(1, self.per_10s // BURST_PART if self._burst is None else self._burst)

    def left(self, now_ns: int) -> int:
        """Return how many requests may go at once; below zero: so many are owed."""
        owed_ns = max(0, self._even_ns - now_ns)
        return self.burst - -(-owed_ns // self.step_ns)

    def change(self, per_10s: int, burst: int, now_ns: int) -> None:
        """Take another rate and burst; no more may go at once for that."""
        left = self.left(now_ns)
        self.per_10s, self._burst = per_10s, burst
        self.correct(left, now_ns)

    def correct(self, left: int, now_ns: int) -> None:
        """Let so many requests go at once from here on, whatever went before."""
        self._even_ns = now_ns + (self.burst - min(left, self.burst)) * self.step_ns

    def wait_ns(self, now_ns: int) -> int:
        """Return how long the next request has to wait; 0: it may go."""
        ready_ns = self._even_ns - (self.burst - 1) * self.step_ns
        return max(0, ready_ns - now_ns, self._held_ns - now_ns)

    def spend(self, now_ns: int) -> None:
        """Count a request that goes now, whether or not it had to wait."""
        self._even_ns = max(self._even_ns, now_ns) + self.step_ns

    def hold(self, until_ns: int) -> None:
        """Let nothing go before a moment: the venue said so."""
        self._held_ns = max(self._held_ns, until_ns)
