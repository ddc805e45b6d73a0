"""Each scaling at its corners and at one point between, by numbers worked out by hand."""

import pytest

from services.risk import dynamics
from shared.domain.units import NS_PER_S, Bps, Shares
from tests.support.risk_builders import shares, usd


@pytest.mark.parametrize(
    ("depth", "share_bps", "allowed"),
    [
        (1_000_000, 2_500, 250_000),
        (1_000_000, 10_000, 1_000_000),
        (1_000_000, 0, 0),
        (3, 5_000, 1),  # 1.5 micro-shares round down
        (0, 5_000, 0),
        (-7, 5_000, 0),  # no depth
        (1_000_000, 12_000, 1_000_000),  # never more than there is
        (1_000_000, -1, 0),
    ],
)
def test_at_most_a_share_of_the_depth_is_taken(depth: int, share_bps: int, allowed: int) -> None:
    assert dynamics.depth_allowed(Shares(depth), Bps(share_bps)) == allowed


def test_a_quarter_of_forty_shares_is_ten() -> None:
    assert dynamics.depth_allowed(shares(40), Bps(2_500)) == shares(10)


@pytest.mark.parametrize(
    ("volatility", "calm", "unknown_bps", "factor"),
    [
        (0, 20_000, 5_000, 10_000),
        (20_000, 20_000, 5_000, 10_000),
        (20_001, 20_000, 5_000, 9_999),
        (40_000, 20_000, 5_000, 5_000),
        (60_000, 20_000, 5_000, 3_333),  # a third, rounded down
        (200_000_001, 20_000, 5_000, 0),  # ten thousand times calm
        (None, 20_000, 5_000, 5_000),
        (None, 20_000, 12_000, 10_000),
        (None, 20_000, -1, 0),
        (40_000, 0, 5_000, 10_000),  # turned off
        (None, 0, 5_000, 10_000),
        (40_000, -1, 5_000, 10_000),
    ],
)
def test_what_moves_twice_as_much_is_half_as_large(
    volatility: int | None, calm: int, unknown_bps: int, factor: int
) -> None:
    assert dynamics.volatility_factor(volatility, calm, Bps(unknown_bps)) == factor


@pytest.mark.parametrize(
    ("loss", "free", "limit", "factor"),
    [
        (-50, 100, 400, 10_000),  # a gain
        (0, 100, 400, 10_000),
        (100, 100, 400, 10_000),
        (175, 100, 400, 7_500),
        (250, 100, 400, 5_000),
        (300, 100, 400, 3_333),
        (399.999999, 100, 400, 0),  # a third of a hundredth of a bps
        (400, 100, 400, 0),
        (1_000, 100, 400, 0),
        (99.999999, 100, 100, 10_000),  # nothing between: a step
        (100, 100, 100, 0),
        (0, 0, 0, 10_000),  # no loss is bearable, and there is none
        (0.000001, 0, 0, 0),
        (5, 10, 2, 0),  # free beyond the limit: the limit wins
    ],
)
def test_a_loss_beyond_what_is_free_shrinks_to_nothing_at_the_limit(
    loss: float, free: float, limit: float, factor: int
) -> None:
    assert dynamics.drawdown_factor(usd(loss), usd(free), usd(limit)) == factor


@pytest.mark.parametrize(
    ("age_s", "fresh_s", "dead_s", "factor"),
    [
        (-3, 15, 60, 10_000),  # stamped by a clock ahead of ours
        (0, 15, 60, 10_000),
        (15, 15, 60, 10_000),
        (24, 15, 60, 8_000),
        (45, 15, 60, 3_333),
        (60, 15, 60, 0),
        (99, 15, 60, 0),
        (14, 15, 15, 10_000),
        (15, 15, 15, 0),
        (12, 15, 10, 0),  # dead before it is stale: dead wins
        (9, 15, 10, 10_000),
    ],
)
def test_a_feed_is_full_while_fresh_and_nothing_when_dead(
    age_s: int, fresh_s: int, dead_s: int, factor: int
) -> None:
    seconds = (age_s * NS_PER_S, fresh_s * NS_PER_S, dead_s * NS_PER_S)
    assert dynamics.feed_factor(*seconds) == factor


@pytest.mark.parametrize(
    ("left", "none", "full", "factor"),
    [
        (None, 30, 120, 10_000),
        (-5, 30, 120, 0),  # over
        (30, 30, 120, 0),
        (60, 30, 120, 3_333),
        (75, 30, 120, 5_000),
        (120, 30, 120, 10_000),
        (500, 30, 120, 10_000),
        (0, 0, 120, 0),
        (30, 30, 30, 0),  # a step
        (31, 30, 30, 10_000),
        (31, 30, 10, 10_000),
        (0, 0, 0, 0),
        (1, 0, 0, 10_000),
    ],
)
def test_near_the_end_it_shrinks_to_nothing(
    left: int | None, none: int, full: int, factor: int
) -> None:
    assert dynamics.time_factor(left, none, full) == factor


@pytest.mark.parametrize(
    ("excess", "budget", "floor", "factor"),
    [
        (-80, 100, 2_500, 10_000),  # better than estimated
        (-5, 100, 2_500, 10_000),
        (0, 100, 2_500, 10_000),
        (1, 100, 2_500, 9_925),
        (40, 100, 2_500, 7_000),
        (100, 100, 2_500, 2_500),
        (900, 100, 2_500, 2_500),
        (50, 100, 0, 5_000),
        (100, 100, 0, 0),
        (1, 3, 1_000, 7_000),
        (2, 7, 1_000, 7_428),  # 1_000 + 9_000 * 5 / 7 = 7428.57
        (1, 0, 2_500, 2_500),  # no budget
        (100, 100, 12_000, 10_000),
        (100, 100, -1, 0),
    ],
)
def test_worse_fills_than_estimated_shrink_to_the_floor(
    excess: int, budget: int, floor: int, factor: int
) -> None:
    assert dynamics.slippage_factor(excess, Bps(budget), Bps(floor)) == factor


@pytest.mark.parametrize(
    ("factors", "product"),
    [
        ((), 10_000),
        ((7_777,), 7_777),
        ((5_000, 5_000), 2_500),
        ((9_999, 9_999), 9_998),  # 9998.0001
        ((10_000, 0, 10_000), 0),
        ((1, 9_999), 0),
        ((150, 100, 6_667), 1),  # 1.00005; rounded at each step it would be nothing
        ((12_000, 5_000), 5_000),  # a factor beyond full is full
        ((-1, 5_000), 0),
    ],
)
def test_factors_multiply(factors: tuple[int, ...], product: int) -> None:
    assert dynamics.combined(*(Bps(factor) for factor in factors)) == product


@pytest.mark.parametrize(
    ("amount", "factor", "result"),
    [
        (1_000_001, 5_000, 500_000),
        (3, 3_333, 0),
        (-3, 5_000, -1),  # towards zero: never larger
        (7, 10_000, 7),
        (7, 11_000, 7),
        (7, -1, 0),
    ],
)
def test_an_amount_is_scaled_towards_zero(amount: int, factor: int, result: int) -> None:
    assert dynamics.scaled(amount, Bps(factor)) == result


@pytest.mark.parametrize(
    ("old", "new", "weight_bps", "average"),
    [
        (0, 100, 2_000, 20),
        (100, 0, 2_000, 80),
        (20, -80, 2_000, 0),
        (0, 4, 2_000, 1),  # 0.8 would never leave 0
        (0, -4, 2_000, -1),
        (3, 4, 2_000, 4),
        (7, 7, 2_000, 7),
        (0, 104, 2_000, 20),  # 20.8 rounds down
        (0, 100, 10_000, 100),
        (0, 100, 0, 1),  # even without a weight it creeps
        (0, 100, 20_000, 100),  # never past what is new
    ],
)
def test_the_average_moves_by_its_weight_and_at_least_by_one(
    old: int, new: int, weight_bps: int, average: int
) -> None:
    assert dynamics.next_average(old, new, Bps(weight_bps)) == average


def test_the_average_arrives() -> None:
    averages = [0]
    while averages[-1] != 100:
        averages.append(dynamics.next_average(averages[-1], 100, Bps(2_000)))
    fast = [0, 20, 36, 48, 58, 66, 72, 77, 81, 84, 87, 89, 91]
    assert averages == [*fast, *range(92, 101)]
