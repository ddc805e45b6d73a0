"""The volatility of a mid: exact where it can be worked out, near the truth where it is known."""

import math
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain import volatility
from shared.domain.units import MICRO, NS_PER_S, Price
from shared.domain.volatility import EDGE, Volatility, log_odds

law = settings(max_examples=100, deadline=None)
HALF = Price(500_000)
START_NS = 1_800_000_000 * NS_PER_S  # not on a boundary of anything
STEP = 10  # seconds in a step of a half-life of 100 seconds

moments = st.lists(st.integers(0, 400 * NS_PER_S), min_size=1, max_size=30).map(sorted)


def at(seconds: float) -> int:
    return START_NS + round(seconds * NS_PER_S)


def price(odds: float) -> Price:
    """Return the mid at log-odds, to the nearest millionth."""
    return Price(round(MICRO / (1 + math.exp(-odds))))


def watched(path: list[tuple[float, Price | None]], *horizons_s: int) -> Volatility:
    watch = Volatility(horizons_s or (100,))
    for seconds, mid in path:
        watch.observe(mid, at(seconds))
    return watch


def walk(seed: int, *, sigma: float, seconds: int, every_s: float) -> list[tuple[float, Price]]:
    """Return a random walk of log-odds, its sigma per square root of a second, held near even."""
    rng, odds, path = Random(seed), 0.0, []
    for step in range(round(seconds / every_s)):
        path.append((step * every_s, price(odds)))
        move = rng.gauss(0, sigma * math.sqrt(every_s))
        odds += -abs(move) if odds > 3 else abs(move) if odds < -3 else move
    return path


# --- by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mid", "odds"),
    [
        (500_000, 0),
        (750_000, 1_098_612),  # ln 3
        (250_000, -1_098_612),
        (900_000, 2_197_225),  # ln 9
        (999_000, 6_906_755),  # ln 999
        (999_999, 6_906_755),
        (1_000_000, 6_906_755),
        (0, -6_906_755),
        (-5, -6_906_755),
    ],
)
def test_log_odds_end_one_tick_inside(mid: int, odds: int) -> None:
    assert log_odds(Price(mid)) == odds


def test_a_mid_that_stands_still_has_none() -> None:
    path: list[tuple[float, Price | None]] = [(s, Price(613_500)) for s in range(0, 301, 7)]
    assert watched(path, 10, 60, 300).value(at(301)) == 0
    assert watched([(0, HALF)]).value(at(100)) == 0


def test_one_change_is_its_square_over_the_weighted_time() -> None:
    """ln 3 in the first of ten steps: (ln 3)**2 * 2**-0.9 / (10 s * sum of 2**-(k/10)) ."""
    watch = watched([(0, HALF), (4, Price(750_000))])
    weights = [2 ** (-k / 10) for k in range(10)]
    expected = 1_098_612 * math.sqrt(weights[9] / (STEP * sum(weights)))
    assert expected == pytest.approx(93_074, abs=1)
    assert watch.value(at(100)) == pytest.approx(expected, abs=1)


def test_the_step_in_progress_counts_as_it_stands() -> None:
    watch = watched([(0, HALF)])
    assert watch.value(at(105)) == 0
    watch.observe(Price(750_000), at(105))
    time_s = STEP * sum(2 ** (-k / 10) for k in range(10)) + 5
    assert watch.value(at(105)) == pytest.approx(1_098_612 / math.sqrt(time_s), abs=1)
    watch.observe(HALF, at(105.1))  # and it went back
    assert watch.value(at(106)) == 0


def test_a_quiet_market_halves_its_variance_every_half_life() -> None:
    path = walk(7, sigma=0.02, seconds=2_000, every_s=0.5)
    watch = watched([*path], 100)
    then = watch.value(at(2_000))
    assert then
    for halvings in (1, 2, 6):
        assert watch.value(at(2_000 + 100 * halvings)) == pytest.approx(
            then / math.sqrt(2**halvings), rel=0.002
        )
    assert watch.value(at(1_000_000)) == 0  # after days without a word


def test_it_is_not_known_before_the_shortest_horizon() -> None:
    watch = watched([(0, HALF), (3, Price(520_000))], 60, 10)
    assert [watch.value(at(s)) for s in (3, 9.999999)] == [None, None]
    assert watch.value(at(10)) is not None
    assert Volatility((10,)).value(at(50)) is None
    assert watched([(0, None)], 10).value(at(50)) is None
    none_at_all = Volatility(())
    none_at_all.observe(HALF, at(0))
    assert none_at_all.value(at(1_000)) is None


def test_a_longer_horizon_counts_once_it_was_observed_for_as_long() -> None:
    """The jump is forgotten by ten seconds at once, and by a hundred slowly."""
    watch = watched([(0, HALF), (1, Price(750_000))], 10, 100)
    alone = watched([(0, HALF), (1, Price(750_000))], 10)
    slow = watched([(0, HALF), (1, Price(750_000))], 100)
    assert watch.value(at(99)) == alone.value(at(99))
    assert watch.value(at(100)) == slow.value(at(100)) != alone.value(at(100))
    assert watched([(0, HALF), (1, Price(750_000))], 100, 10).value(at(200)) == watch.value(at(200))


def test_the_largest_of_the_horizons_is_told() -> None:
    path = walk(3, sigma=0.02, seconds=1_000, every_s=0.5)
    each = [watched([*path], h).value(at(1_000)) for h in (10, 60, 300)]
    assert watched([*path], 10, 60, 300).value(at(1_000)) == max(v for v in each if v is not None)
    assert len(set(each)) == 3


# --- what a feed may do -----------------------------------------------------------------------


def test_of_changes_at_one_moment_the_last_counts() -> None:
    calm = watched([(0, HALF), (50, Price(600_000))])
    busy = watched([(0, HALF), (50, Price(900_000)), (50, Price(100_000)), (50, Price(600_000))])
    assert calm.value(at(200)) == busy.value(at(200))


def test_time_that_goes_back_stands_still() -> None:
    straight = watched([(0, HALF), (150, Price(600_000)), (150, Price(700_000))])
    bent = watched([(0, HALF), (150, Price(600_000)), (20, Price(700_000))])
    for seconds in (150, 160, 400):
        assert straight.value(at(seconds)) == bent.value(at(seconds))
    assert bent.value(at(20)) == bent.value(at(150))


def test_a_best_price_that_comes_and_goes_within_a_step_leaves_no_trace() -> None:
    path: list[tuple[float, Price | None]] = []
    for second in range(300):
        path += [(second + 0.2, Price(520_000)), (second + 0.7, HALF)]
    assert watched([(0, HALF), *path], 100).value(at(301)) == 0


def test_what_was_not_seen_is_no_change() -> None:
    gap = watched([(0, HALF), (120, None), (500, Price(900_000))])
    assert gap.value(at(130)) == 0
    assert gap.value(at(900)) == 0


def test_a_gap_neither_adds_nor_fades_nor_counts_as_watching() -> None:
    jump: list[tuple[float, Price | None]] = [(0, HALF), (85, Price(600_000)), (88, None)]
    watch = watched(jump)
    assert watch.value(at(5_000)) is None  # 88 of 100 seconds were watched
    watch.observe(Price(600_000), at(1_000))
    assert watch.value(at(1_011)) is None
    fade = 2**-0.1  # one step was over since
    time_s = (STEP * sum(fade**k for k in range(8)) + 8) * fade + 12
    assert watch.value(at(1_012)) == pytest.approx(405_465 * math.sqrt(fade / time_s), abs=1)


def test_the_change_just_before_a_gap_is_not_lost() -> None:
    watch = watched([(0, HALF), (104, Price(750_000)), (105, None)])
    seen = watch.value(at(105))
    assert seen
    assert watch.value(at(9_999)) == seen
    watch.observe(Price(750_000), at(9_999))
    assert watch.value(at(9_999)) == seen


def test_a_gap_at_the_moment_of_a_change_is_no_change() -> None:
    path: list[tuple[float, Price | None]] = [(0, HALF), (100, None)]
    for _ in range(50):
        path += [(150, HALF), (150, Price(900_000)), (150, None)]
    assert watched(path).value(at(200)) == 0


def test_its_memory_is_a_few_numbers_however_long_it_watches() -> None:
    watch = Volatility((10, 60, 300))
    for seconds, mid in walk(1, sigma=0.02, seconds=2_000, every_s=0.5):
        watch.observe(mid, at(seconds))
    parts = [watch, *watch._horizons]
    held = [getattr(part, name) for part in parts for name in type(part).__slots__]
    assert sum(sys.getsizeof(each) for each in [*parts, *held]) < 1_500


def test_the_fading_is_that_of_the_formula() -> None:
    assert [each / 2**32 for each in volatility._FADED] == [
        pytest.approx(2 ** (-steps / 10), abs=2**-32) for steps in range(10)
    ]


# --- against the truth ------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.04])
@pytest.mark.parametrize("horizon_s", [10, 60, 300])
def test_a_known_random_walk_is_measured(sigma: float, horizon_s: int) -> None:
    """The mean of the variance over a long walk is unbiased: within 15 % of what was put in."""
    watch, squares = Volatility((horizon_s,)), []
    every_s = horizon_s / 40
    path = walk(horizon_s, sigma=sigma, seconds=100 * horizon_s, every_s=every_s)
    for seconds, mid in path:
        watch.observe(mid, at(seconds))
        value = watch.value(at(seconds))
        if value is not None and seconds > 5 * horizon_s:
            squares.append(value**2)
    assert math.sqrt(sum(squares) / len(squares)) == pytest.approx(sigma * MICRO, rel=0.15)


def test_one_value_is_within_its_stated_error() -> None:
    """Over 200 walks the values scatter around the truth by the 13 % that the module states."""
    found = []
    for seed in range(200):
        path = walk(seed, sigma=0.01, seconds=600, every_s=1)
        value = watched([*path], 60).value(at(600))
        assert value is not None
        found.append(value / 10_000)
    mean = sum(found) / len(found)
    scatter = math.sqrt(sum((each - mean) ** 2 for each in found) / len(found))
    assert mean == pytest.approx(1, abs=0.04)
    assert scatter == pytest.approx(0.13, abs=0.025)


@law
@given(
    path=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 99)), min_size=2, max_size=40),
    after=st.integers(100, 300),
)
def test_an_outcome_and_its_opposite_move_as_much(path: list[tuple[int, int]], after: int) -> None:
    seconds, yes, no = 0, Volatility((10, 60)), Volatility((10, 60))
    for wait, cents in path:
        seconds += wait
        yes.observe(Price(cents * 10_000), at(seconds))
        no.observe(Price(MICRO - cents * 10_000), at(seconds))
    assert yes.value(at(seconds + after)) == no.value(at(seconds + after)) is not None


@law
@given(moves=st.lists(st.integers(-8, 8), min_size=1, max_size=30), waits=moments)
def test_jumps_twice_as_large_are_twice_the_volatility(moves: list[int], waits: list[int]) -> None:
    values = []
    for scale in (1, 2):
        watch, odds = Volatility((100,)), 0.0
        watch.observe(HALF, START_NS)
        for move, wait_ns in zip(moves, waits, strict=False):
            odds = max(-1.0, min(1.0, odds + move / 20))
            watch.observe(price(odds * scale), START_NS + wait_ns)
        values.append(watch.value(START_NS + 500 * NS_PER_S))
    once, twice = values
    assert once is not None
    assert twice == pytest.approx(2 * once, abs=20)  # mids have six decimals, odds too


@law
@given(
    away=st.lists(st.booleans(), min_size=1, max_size=30),
    waits=moments,
    levels=st.tuples(st.integers(500_000, MICRO), st.integers(500_000, MICRO)),
)
def test_a_wilder_path_is_never_calmer(
    away: list[bool], waits: list[int], levels: tuple[int, int]
) -> None:
    """Two mids leave even odds and return together; the one that goes further moves more."""
    values = []
    for level in sorted(levels):
        watch = Volatility((10, 100))
        watch.observe(HALF, START_NS)
        for is_away, wait_ns in zip(away, waits, strict=False):
            watch.observe(Price(level) if is_away else HALF, START_NS + wait_ns)
        values.append([watch.value(START_NS + s * NS_PER_S) or 0 for s in (100, 400, 444, 999)])
    assert all(calm <= wild for calm, wild in zip(*values, strict=True))


@law
@given(
    path=st.lists(
        st.tuples(
            st.integers(-(10**12), 10**18), st.none() | st.integers(-10, MICRO + 10).map(Price)
        ),
        max_size=20,
    ),
    now_ns=st.integers(0, 10**19),
)
def test_whatever_it_is_told_it_answers(path: list[tuple[int, Price | None]], now_ns: int) -> None:
    watch = Volatility((1, 3_600))
    for at_ns, mid in path:
        watch.observe(mid, at_ns)
    value = watch.value(now_ns)
    assert value == watch.value(now_ns)  # asking changes nothing
    assert value is None or 0 <= value <= 2 * log_odds(Price(MICRO - EDGE)) * 10
