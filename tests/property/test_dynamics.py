"""Whatever the world and the settings are: in range, monotone, exact where it begins and ends."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk import dynamics
from shared.domain.units import BPS, Bps, Shares, Usd

law = settings(max_examples=150, deadline=None)

anything = st.integers(-(10**12), 10**12) | st.integers(-3, 30)  # the small ones meet often
positive = st.integers(1, 10**12) | st.integers(1, 30)
bps = st.integers(0, BPS).map(Bps)
any_bps = bps | st.integers(-30, 30_000).map(Bps)
FULL = Bps(BPS)

# Each function, what its arguments may be, and the way it goes as each of them grows.
Law = tuple[Callable[..., int], tuple[st.SearchStrategy[int], ...], tuple[int, ...]]
LAWS: dict[str, Law] = {
    "depth": (dynamics.depth_allowed, (anything, any_bps), (1, 1)),
    "volatility": (dynamics.volatility_factor, (anything, positive, any_bps), (-1, 1, 1)),
    "drawdown": (dynamics.drawdown_factor, (anything, anything, anything), (-1, 1, 1)),
    "feed": (dynamics.feed_factor, (anything, anything, anything), (-1, 1, 1)),
    "time": (dynamics.time_factor, (anything, anything, anything), (1, -1, -1)),
    "slippage": (dynamics.slippage_factor, (anything, any_bps, any_bps), (-1, 1, 1)),
    "average": (dynamics.next_average, (anything, anything, bps), (1, 1, 0)),
    "combined": (dynamics.combined, (any_bps, any_bps, any_bps), (1, 1, 1)),
    "scaled": (dynamics.scaled, (st.integers(0, 10**15), any_bps), (1, 1)),
}
FACTORS = ("volatility", "drawdown", "feed", "time", "slippage", "combined")
CASES = [(name, at) for name, (_, _, ways) in LAWS.items() for at, way in enumerate(ways) if way]


@pytest.mark.parametrize(("name", "at"), CASES)
@law
@given(data=st.data())
def test_each_argument_moves_the_result_one_way(name: str, at: int, data: st.DataObject) -> None:
    function, strategies, ways = LAWS[name]
    values: list[Any] = [data.draw(each) for each in strategies]
    less, more = sorted((values[at], data.draw(strategies[at])))
    before = function(*values[:at], less, *values[at + 1 :])
    after = function(*values[:at], more, *values[at + 1 :])
    assert (after - before) * ways[at] >= 0


@pytest.mark.parametrize("name", FACTORS)
@law
@given(data=st.data())
def test_a_factor_is_a_part_of_the_whole(name: str, data: st.DataObject) -> None:
    function, strategies, _ = LAWS[name]
    assert 0 <= function(*(data.draw(each) for each in strategies)) <= BPS


@law
@given(calm=anything, unknown=any_bps)
def test_an_unknown_volatility_is_a_part_of_the_whole(calm: int, unknown: Bps) -> None:
    factor = dynamics.volatility_factor(None, calm, unknown)
    assert factor == (FULL if calm <= 0 else max(0, min(unknown, BPS)))


@law
@given(none=anything, full=anything)
def test_an_unknown_end_is_far(none: int, full: int) -> None:
    assert dynamics.time_factor(None, none, full) == BPS


@law
@given(depth=st.integers(0, 10**15).map(Shares), share=bps)
def test_no_more_than_the_share_of_the_depth_and_less_than_one_below_it(
    depth: Shares, share: Bps
) -> None:
    allowed = dynamics.depth_allowed(depth, share)
    assert 0 <= depth * share - allowed * BPS < BPS


@law
@given(volatility=positive, calm=positive)
def test_size_times_volatility_is_what_a_calm_market_has(volatility: int, calm: int) -> None:
    factor = dynamics.volatility_factor(volatility, calm, FULL)
    assert factor * volatility <= BPS * calm
    assert factor == BPS or (factor + 1) * volatility > BPS * calm


@law
@given(free=st.integers(0, 10**9), slope=st.integers(0, 10**9), gain=st.integers(0, 10**9))
def test_a_loss_is_full_up_to_what_is_free_and_nothing_at_the_limit(
    free: int, slope: int, gain: int
) -> None:
    limit = free + slope
    corners = [
        dynamics.drawdown_factor(Usd(loss), Usd(free), Usd(limit))
        for loss in (-gain, min(free, limit - 1), free + slope // 2, limit, limit + gain)
    ]
    middle = BPS * (slope - slope // 2) // slope if slope else 0
    assert corners[:2] == [BPS, BPS]
    if limit > 0:
        assert corners[2:] == [middle, 0, 0]


@law
@given(fresh=st.integers(0, 10**12), slope=positive)
def test_a_feed_is_full_up_to_fresh_and_nothing_from_dead_on(fresh: int, slope: int) -> None:
    dead = fresh + slope
    ages = (fresh, fresh + slope // 2, dead - 1, dead, dead + 1)
    found = [dynamics.feed_factor(age, fresh, dead) for age in ages]
    assert found[:2] == [BPS, BPS * (slope - slope // 2) // slope]
    assert found[2:] == [BPS // slope, 0, 0]


@law
@given(none=st.integers(0, 10**12), slope=positive)
def test_the_time_left_is_full_from_full_on_and_nothing_at_none(none: int, slope: int) -> None:
    full = none + slope
    left = (none - 1, none, none + 1, none + slope // 2, full, full + 1)
    found = [dynamics.time_factor(each, none, full) for each in left]
    assert found == [0, 0, BPS // slope, BPS * (slope // 2) // slope, BPS, BPS]


@law
@given(excess=anything, budget=any_bps, floor=bps)
def test_slippage_never_goes_below_its_floor(excess: int, budget: Bps, floor: Bps) -> None:
    factor = dynamics.slippage_factor(excess, budget, floor)
    assert factor >= floor
    if excess <= 0:
        assert factor == BPS
    elif excess >= budget:
        assert factor == floor


@law
@given(factors=st.lists(bps, max_size=6), data=st.data())
def test_a_product_exceeds_no_factor_and_has_no_order(
    factors: list[Bps], data: st.DataObject
) -> None:
    product = dynamics.combined(*factors)
    assert product <= min(factors, default=FULL)
    assert product == dynamics.combined(*data.draw(st.permutations(factors)))
    assert product == dynamics.combined(*factors, FULL)


@law
@given(amount=anything, factor=any_bps)
def test_scaling_never_makes_larger_nor_turns_around(amount: int, factor: Bps) -> None:
    result = dynamics.scaled(amount, factor)
    assert abs(result) * BPS <= abs(amount) * max(0, min(factor, BPS))
    assert result * amount >= 0
    assert dynamics.scaled(amount, FULL) == amount


@law
@given(old=anything, new=anything, weight=any_bps)
def test_an_average_goes_towards_what_is_new_and_not_past_it(
    old: int, new: int, weight: Bps
) -> None:
    average = dynamics.next_average(old, new, weight)
    assert min(old, new) <= average <= max(old, new)
    assert (average == old) is (old == new)  # it cannot get stuck


@law
@given(old=anything, new=anything, low=bps, high=bps)
def test_more_weight_goes_further(old: int, new: int, low: Bps, high: Bps) -> None:
    low, high = min(low, high), max(low, high)
    near, far = (dynamics.next_average(old, new, weight) for weight in (low, high))
    assert abs(far - new) <= abs(near - new)
    assert dynamics.next_average(old, new, FULL) == new
