"""Clocks: the system's for services, one that moves when told for tests."""

import pytest

from shared.runtime.clock import Clock, ManualClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_durations_never_go_back(clock: Clock) -> None:
    readings = [clock.monotonic_ns() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.now_ns() > 1_600_000_000_000_000_000


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(1_000)
    assert (clock.now_ns(), clock.now_ns()) == (1_000, 1_000)
    assert clock.advance(5) == 1_005
    assert clock.monotonic_ns() == 5


def test_a_step_of_the_wall_clock_leaves_durations_alone() -> None:
    clock = ManualClock(1_000)
    clock.advance(10)
    clock.set_wall(500)
    assert (clock.now_ns(), clock.monotonic_ns()) == (500, 10)
