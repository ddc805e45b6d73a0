"""How much a mid moves: its realised volatility in log-odds, over several horizons at once.

For each horizon of half-life h the path of x = ln(p / (1 - p)) is sampled every h / 10, and

    volatility = sqrt(sum w_i * r_i**2 / sum w_i * t_i),    w_i = 2 ** (-age_i / h)

where r_i is what x changed in a step and t_i how long the step took: realised variance (Andersen
and Bollerslev 1998), weighted exponentially (RiskMetrics 1996), divided by the weight of the time
observed instead of its limit, so a young estimate is not too small. A step without a change
counts as one, so a market that falls quiet halves its variance every h. Log-odds, because a move
from 0.97 to 0.99 is about as large as one from 0.50 to 0.75, and an outcome moves as much as its
opposite.

Against bounce: trades do not enter, only mids, and of the mids in a step only the last counts: a
best price that goes and comes back within h / 10 leaves no trace (sparse sampling; Zhang, Mykland
and Ait-Sahalia 2005). A mid that flickers more slowly than that is counted as moving; the shortest
horizon sees most of it. The step that is not over counts as it stands, so a jump is seen at once.

What remains is luck: a horizon rests on about 29 effective steps, so one value is within 13 %
(one standard deviation) of the truth. The largest of several is above it on average.
"""

import math
from collections.abc import Iterable
from typing import Final

from shared.domain.units import MICRO, NS_PER_S, Price

EDGE: Final = Price(1_000)  # a mid beyond this, or beyond its opposite, is taken to be there

_STEPS: Final = 10  # in a half-life
_BITS: Final = 32
_FADED: Final = (  # 2 ** (_BITS - steps / 10), rounded
    4294967296, 4007346185, 3738986199, 3488597478, 3254976542,
    3037000500, 2833621662, 2643862496, 2466810934, 2301615985,
)  # fmt: skip


class _Horizon:
    """Squares of changes and the time they took, both fading with one half-life."""

    __slots__ = ("base", "begun_ns", "squares", "step_ns", "time_ns")

    def __init__(self, step_ns: int) -> None:
        self.step_ns = step_ns
        self.squares = 0  # of micro-log-odds, over the steps that are over
        self.time_ns = 0  # that they took
        self.base = 0  # micro-log-odds where the step in progress began
        self.begun_ns = 0  # when it did

    def begin(self, odds: int, at_ns: int) -> None:
        self.base, self.begun_ns = odds, at_ns

    def advance(self, odds: int, at_ns: int) -> None:
        """End the steps that are over, at odds that stood since the last of them began."""
        steps = (at_ns - self.begun_ns) // self.step_ns
        if steps > 0:
            self.squares, self.time_ns = self._after(steps, odds)
            self.begin(odds, self.begun_ns + steps * self.step_ns)

    def read(self, odds: int, at_ns: int) -> tuple[int, int]:
        """Return squares and time with the step in progress, as far as it is."""
        elapsed_ns = at_ns - self.begun_ns
        steps = elapsed_ns // self.step_ns
        if steps == 0:
            return self.squares + (odds - self.base) ** 2, self.time_ns + elapsed_ns
        squares, time_ns = self._after(steps, odds)
        return squares, time_ns + elapsed_ns - steps * self.step_ns

    def end(self, odds: int, at_ns: int) -> None:
        """End the step in progress early, if it has begun at all."""
        if at_ns > self.begun_ns:
            self.squares, self.time_ns = self.read(odds, at_ns)

    def _after(self, steps: int, odds: int) -> tuple[int, int]:
        """Return squares and time after steps of which all but the first changed nothing."""
        squares = _faded(self.squares, 1) + (odds - self.base) ** 2
        limit_ns = (self.step_ns << _BITS) // (_FADED[0] - _FADED[1])
        return _faded(squares, steps - 1), limit_ns - _faded(limit_ns - self.time_ns, steps)


class Volatility:
    """The volatility of one mid; its memory is four numbers a horizon, however long it watches.

    Time is an argument and never goes back: an observation stamped before the last one is taken
    to be of the same moment. Of several at one moment the last counts.
    """

    __slots__ = ("_at_ns", "_horizons", "_observed_ns", "_odds")

    def __init__(self, horizons_s: Iterable[int]) -> None:
        """Take the half-lives in seconds; without any, nothing is ever known."""
        self._horizons = tuple(_Horizon(each * NS_PER_S // _STEPS) for each in horizons_s)
        self._odds: int | None = None  # micro-log-odds that stand; None: unknown
        self._at_ns = 0  # of the last observation
        self._observed_ns = 0  # for how long the mid was known until then

    def observe(self, mid: Price | None, at_ns: int) -> None:
        """Take the mid from now on; None while it is not known, time that then does not count.

        What it is after such a gap is no change: nobody saw when and how it came there.
        """
        at_ns = max(at_ns, self._at_ns)
        odds = None if mid is None else log_odds(mid)
        for horizon in self._horizons:
            if self._odds is not None:
                horizon.advance(self._odds, at_ns)
                if odds is None:
                    horizon.end(self._odds, at_ns)
            elif odds is not None:
                horizon.begin(odds, at_ns)
        if self._odds is not None:
            self._observed_ns += at_ns - self._at_ns
        self._odds, self._at_ns = odds, at_ns

    def value(self, now_ns: int) -> int | None:
        """Return the largest over the horizons, in micro-log-odds per square root of a second.

        Rounded down. A horizon counts once the mid was known for as long as it is; None while
        none of them does.
        """
        now_ns = max(now_ns, self._at_ns)
        observed_ns = self._observed_ns
        if self._odds is not None:
            observed_ns += now_ns - self._at_ns
        variance: int | None = None
        for horizon in self._horizons:
            if observed_ns < horizon.step_ns * _STEPS:
                continue
            squares, time_ns = horizon.squares, horizon.time_ns
            if self._odds is not None:
                squares, time_ns = horizon.read(self._odds, now_ns)
            variance = max(variance or 0, squares * NS_PER_S // time_ns)
        return None if variance is None else math.isqrt(variance)


def log_odds(price: Price) -> int:
    """Return ln(p / (1 - p)) in millionths, rounded; ``EDGE`` at most from nothing and from one."""
    inside = max(EDGE, min(MICRO - EDGE, price))
    return round(MICRO * (math.log(inside) - math.log(MICRO - inside)))


def _faded(amount: int, steps: int) -> int:
    """Return what is left of an amount after so many tenths of a half-life, rounded down."""
    return amount * _FADED[steps % _STEPS] >> (_BITS + steps // _STEPS)
