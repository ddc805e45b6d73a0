"""How the world scales sizes and caps: pure, total and monotone functions on integers.

A factor is in bps of the full size, 0 to 10_000, rounded down, whatever the arguments; nothing
here makes anything larger. docs/dynamics.md has the formula, the settings and a plot of each.
"""

from shared.domain.units import BPS, Bps, Shares, Usd, scale_down

_FULL = Bps(BPS)
_NONE = Bps(0)


def depth_allowed(depth: Shares, share_bps: Bps) -> Shares:
    """Return at most this share of a depth in micro-shares, rounded down.

    ``depth`` is what the book offers inside the slippage budget.
    """
    return Shares(max(0, depth) * _within(share_bps) // BPS)


def volatility_factor(volatility: int | None, calm: int, unknown_bps: Bps) -> Bps:
    """Return calm / volatility, full up to ``calm``: what moves twice as much is half as large.

    Both are of the mid, in micro-log-odds per square root of a second. A volatility not observed
    long enough (None) gives ``unknown_bps``, whatever is calm; ``calm`` 0 turns all of it off.
    """
    if calm <= 0:
        return _FULL
    if volatility is None:
        return _within(unknown_bps)
    return _FULL if volatility <= calm else Bps(BPS * calm // volatility)


def drawdown_factor(loss: Usd, free: Usd, limit: Usd) -> Bps:
    """Return full up to a loss of ``free``, then linearly less, nothing from ``limit`` on.

    All three are micro-dollars, a loss is positive. No loss at all is always full, so ``limit`` 0
    bears none: full without a loss, nothing with one. Where ``free`` is ``limit`` it is a step.
    """
    if loss <= 0:
        return _FULL
    return _falling(loss, free, limit)


def feed_factor(age_ns: int, fresh_ns: int, dead_ns: int) -> Bps:
    """Return full while a feed was heard within ``fresh_ns``, linearly nothing at ``dead_ns``.

    ``age_ns`` is of the feed heard least lately; one from the future is fresh.
    """
    return _falling(age_ns, fresh_ns, dead_ns)


def time_factor(left_ns: int | None, none_ns: int, full_ns: int) -> Bps:
    """Return nothing with ``none_ns`` or less left to the end, linearly full at ``full_ns``.

    An unknown end (None) is full; with ``full_ns`` at or below ``none_ns`` it is a step.
    """
    if left_ns is None:
        return _FULL
    if left_ns <= none_ns:
        return _NONE
    if left_ns >= full_ns:
        return _FULL
    return Bps(BPS * (left_ns - none_ns) // (full_ns - none_ns))


def slippage_factor(excess_bps: int, budget_bps: Bps, floor_bps: Bps) -> Bps:
    """Return full where orders trade as estimated, linearly down to the floor at the budget.

    ``excess_bps`` is the average of slippage realised minus estimated, positive when worse for us.
    """
    floor = _within(floor_bps)
    if excess_bps <= 0:
        return _FULL
    if excess_bps >= budget_bps:
        return floor
    return Bps(floor + (BPS - floor) * (budget_bps - excess_bps) // budget_bps)


def combined(*factors: Bps) -> Bps:
    """Return the product of factors, rounded down once, so their order does not matter."""
    product, whole = BPS, 1
    for factor in factors:
        product, whole = product * _within(factor), whole * BPS
    return Bps(product // whole)


def scaled(amount: int, factor: Bps) -> int:
    """Return an amount in any unit times a factor, rounded towards zero, keeping the sign."""
    return scale_down(amount, _within(factor), BPS)


def next_average(old: int, new: int, weight_bps: Bps) -> int:
    """Return an exponential moving average, in the unit of ``old`` and ``new``.

    The step is the weight's part of the distance, rounded down but at least 1, so that the average
    arrives where it is going instead of stopping short; it never goes past it.
    """
    distance = abs(new - old)
    step = min(distance, max(1, distance * _within(weight_bps) // BPS))
    return old + step if new > old else old - step


def _falling(value: int, full_at: int, none_at: int) -> Bps:
    """Return full up to ``full_at``, linearly nothing at ``none_at``; nothing wins."""
    if value >= none_at:
        return _NONE
    if value <= full_at:
        return _FULL
    return Bps(BPS * (none_at - value) // (none_at - full_at))


def _within(part: Bps) -> Bps:
    return Bps(max(0, min(BPS, part)))
