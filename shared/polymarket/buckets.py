"""A limit of requests in ten seconds, kept evenly: who must wait, and for how long."""

from typing import Final

from shared.domain.units import NS_PER_S

WINDOW_NS: Final = 10 * NS_PER_S  # the venue counts in sliding windows of this (protocol.md 1.9)
BURST_PART: Final = 15  # one part in so many of a window's requests may go at once


class Bucket:
    """Lets at most ``per_10s`` requests go in ten seconds, and a fifteenth of them on top at once.

    It keeps one number, the time at which all that went would have gone had it gone evenly, so a
    rate that changes holds from the next request on.
    """

    def __init__(self, per_10s: int) -> None:
        assert per_10s > 0
        self.per_10s = per_10s
        self._even_ns = 0
        self._held_ns = 0

    @property
    def step_ns(self) -> int:
        """Return the time between two requests that go evenly."""
        return WINDOW_NS // self.per_10s

    @property
    def burst(self) -> int:
        return max(1, self.per_10s // BURST_PART)

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
