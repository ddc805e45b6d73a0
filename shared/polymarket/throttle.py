"""Whether the venue holds our requests back, and what rate it bears: told by how long it takes.

Requests over a limit are delayed first and refused only later (protocol.md 1.9), so answers that
take several times as long as usual are the first sign. The rate is then halved; while answers come
at their usual pace it grows again by equal steps. Where even the least rate is answered slowly the
venue itself is slow, and that becomes usual.
"""

from collections import deque
from typing import Final

from shared.domain.units import NS_PER_MS, NS_PER_S

RECENT: Final = 9  # answers whose median counts as how long the venue takes now
SLOW_FACTOR: Final = 4  # times the usual, and ...
SLOW_NS: Final = 400 * NS_PER_MS  # ... this much more than the usual: held back
CUT_EVERY_NS: Final = 5 * NS_PER_S  # answers to what went before a cut say nothing about it
STEP_EVERY_NS: Final = 5 * NS_PER_S
STEPS: Final = 20  # from nothing to the full rate
LEAST_PART: Final = 15  # one part in so many of the full rate is always spent
_FALL_PART: Final = 64  # how slowly the usual follows quicker answers
_RISE_PART: Final = 4_096  # and slower ones: delays that creep up over minutes are no new usual
_OWN_PACE_PART: Final = 16  # and those at the least rate


class Throttle:
    """One endpoint's usual and present latency, and the rate that follows. Durations in ns."""

    def __init__(self, per_10s: int) -> None:
        self.full = self._rate = per_10s
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._usual_ns = 0
        self._cut_ns = -CUT_EVERY_NS
        self._cut_at_ns = 0  # the median that led to the last cut
        self._stepped_ns = 0
        self.cuts = 0

    @property
    def least(self) -> int:
        return max(1, self.full // LEAST_PART)

    @property
    def is_throttled(self) -> bool:
        return self._rate < self.full

    @property
    def usual_ns(self) -> int:
        return self._usual_ns

    def set_full(self, per_10s: int) -> None:
        """Change the rate that is spent in good times; a cut stays as deep as it is."""
        self._rate = max(1, self._rate * per_10s // self.full)
        self.full = per_10s

    def rate(self, now_ns: int) -> int:
        """Return how many requests may go in ten seconds."""
        if not self.is_throttled or self.is_slow():
            self._stepped_ns = now_ns
            return self._rate
        steps = (now_ns - self._stepped_ns) // STEP_EVERY_NS
        if steps > 0:
            self._stepped_ns += steps * STEP_EVERY_NS
            self._rate = min(self.full, self._rate + steps * max(1, self.full // STEPS))
        return self._rate

    def is_slow(self) -> bool:
        """Tell whether most of the recent answers took far longer than usual."""
        return len(self._recent) == RECENT and self._is_beyond(self.median_ns())

    def median_ns(self) -> int:
        """Return how long the venue takes now; 0 as long as nothing is known."""
        return sorted(self._recent)[len(self._recent) // 2] if self._recent else 0

    def answered(self, took_ns: int, now_ns: int) -> None:
        """Take how long an answer, or waiting for one in vain, has taken."""
        self._recent.append(took_ns)
        if self._usual_ns == 0:
            self._usual_ns = self.median_ns() if len(self._recent) == RECENT else 0
        elif not self.is_slow():
            if not self._is_beyond(took_ns):
                part = _FALL_PART if took_ns < self._usual_ns else _RISE_PART
                self._usual_ns += (took_ns - self._usual_ns) // part
        elif self._rate > self.least:
            self._cut(now_ns)
        else:
            self._usual_ns += (took_ns - self._usual_ns) // _OWN_PACE_PART

    def refused(self, now_ns: int) -> None:
        """Take a 429."""
        self._cut(now_ns)

    def describe(self) -> str:
        """Return what people read; nothing as long as nothing is held back."""
        if not self.is_throttled:
            return ""
        seen_ns = self.median_ns() or self._cut_at_ns
        usual, now = (ns / NS_PER_S for ns in (self._usual_ns, seen_ns))
        return f"throttled: p50 {now:.2g} s against {usual:.2g} s, {self._rate} reads/10 s"

    def _is_beyond(self, took_ns: int) -> bool:
        usual_ns = self._usual_ns
        return usual_ns > 0 and took_ns > max(SLOW_FACTOR * usual_ns, usual_ns + SLOW_NS)

    def _cut(self, now_ns: int) -> None:
        if now_ns - self._cut_ns < CUT_EVERY_NS:
            return
        self._cut_ns = self._stepped_ns = now_ns
        self._cut_at_ns = self.median_ns()
        self._rate = max(self.least, self._rate // 2)
        self.cuts += 1
        self._recent.clear()  # the next cut wants answers to the new rate
