"""A datum is fresh, stale or dead by its age; one from the future is as old as it is ahead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.freshness import Grade, age_ns, grade


@pytest.mark.parametrize(
    ("age", "word"),
    [(0, "fresh"), (10, "fresh"), (11, "stale"), (30, "stale"), (31, "dead"), (10**18, "dead")],
)
def test_a_grade_ends_after_its_last_nanosecond(age: int, word: Grade) -> None:
    assert grade(age, stale_ns=10, dead_ns=30) == word


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**19), st.integers(0, 10**12))
def test_the_future_is_as_old_as_it_is_ahead(now_ns: int, apart_ns: int) -> None:
    assert age_ns(now_ns + apart_ns, now_ns) == age_ns(now_ns, now_ns + apart_ns) == apart_ns


def test_a_datum_from_far_ahead_is_dead() -> None:
    assert grade(age_ns(as_of_ns=1_000, now_ns=100), stale_ns=10, dead_ns=30) == "dead"


def test_equal_limits_leave_nothing_stale() -> None:
    assert grade(10, stale_ns=10, dead_ns=10) == "fresh"
    assert grade(11, stale_ns=10, dead_ns=10) == "dead"


@pytest.mark.parametrize(("stale_ns", "dead_ns"), [(0, 10), (-1, 10), (11, 10)])
def test_limits_that_make_no_sense_are_refused(stale_ns: int, dead_ns: int) -> None:
    with pytest.raises(AssertionError):
        grade(5, stale_ns=stale_ns, dead_ns=dead_ns)
