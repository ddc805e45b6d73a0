"""How old a datum is, and what may still be done with it."""

from typing import Literal

Grade = Literal["fresh", "stale", "dead"]


def age_ns(as_of_ns: int, now_ns: int) -> int:
    """Return the age of a datum; one from the future is as old as it is ahead.

    A datum stamped later than now means that a clock is wrong, so it must not look fresh.
    """
    return abs(now_ns - as_of_ns)


def grade(age: int, *, stale_ns: int, dead_ns: int) -> Grade:
    """Return fresh (usable), stale (usable only to reduce risk) or dead (unusable)."""
    assert 0 < stale_ns <= dead_ns
    if age <= stale_ns:
        return "fresh"
    return "stale" if age <= dead_ns else "dead"
