"""Money is exact on the wire, and every rounding goes against us."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.units import (
    BPS,
    MICRO,
    Price,
    Shares,
    Usd,
    average_price_up,
    bps_worse,
    ceil_to,
    cost_up,
    floor_to,
    format_micro,
    parse_micro,
    proceeds_down,
    scale_down,
    shares_for,
)

prices = st.integers(1, MICRO - 1).map(Price)
sizes = st.integers(1, 10**14).map(Shares)
law = settings(max_examples=100, deadline=None)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", 0),
        ("0.53", 530_000),
        ("0.000001", 1),
        ("-2.5", -2_500_000),
        ("1e3", 1_000 * MICRO),
        ("1.5000000000000", 1_500_000),
        ("123456789012345.678901", 123_456_789_012_345_678_901),
        (Decimal("0.07"), 70_000),
    ],
)
def test_an_amount_is_parsed_exactly(text: str | Decimal, micro: int) -> None:
    assert parse_micro(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        "0.0000001",
        "1.0000005",
        "1e-7",
        "1e999999999",
        "-1e999999999",
        "1e-999999999",
        "1" * 50,
        "0." + "1" * 50,
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "",
        "0x10",
        "1,5",
        "one",
        Decimal("NaN"),
        Decimal("0.0000001"),
    ],
)
def test_what_is_no_whole_number_of_micro_units_is_refused(text: str | Decimal) -> None:
    with pytest.raises(ValueError, match="not a whole number of micro-units"):
        parse_micro(text)


def test_a_refusal_quotes_at_most_the_beginning_of_the_text() -> None:
    with pytest.raises(ValueError, match="micro-units") as refused:
        parse_micro("9" * 100_000)
    assert len(str(refused.value)) < 120


@law
@given(st.integers(-(10**20), 10**20))
def test_what_is_written_is_read_back(amount: int) -> None:
    assert parse_micro(format_micro(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1, "0.000001"), (-1, "-0.000001"), (100 * MICRO, "100"), (-2_500_000, "-2.5")],
)
def test_an_amount_is_written_as_the_shortest_text(amount: int, text: str) -> None:
    assert format_micro(amount) == text


@law
@given(prices, sizes)
def test_a_cost_rounds_up_and_proceeds_round_down_by_less_than_a_micro(
    price: Price, size: Shares
) -> None:
    exact = Fraction(price * size, MICRO)
    assert exact <= cost_up(price, size) < exact + 1
    assert exact - 1 < proceeds_down(price, size) <= exact


@law
@given(st.integers(0, 10**14).map(Usd), prices)
def test_a_budget_is_never_overspent_and_one_share_more_would_overspend_it(
    budget: Usd, price: Price
) -> None:
    size = shares_for(budget, price)
    assert cost_up(price, size) <= budget
    assert price * (size + 1) > budget * MICRO


@law
@given(st.integers(0, 10**14).map(Usd), sizes)
def test_an_average_price_never_makes_what_we_paid_look_cheaper(cost: Usd, size: Shares) -> None:
    exact = Fraction(cost * MICRO, size)
    assert exact <= average_price_up(cost, size) < exact + 1


@law
@given(st.integers(0, 10**14), st.integers(1, 10**9))
def test_floor_and_ceil_are_the_nearest_multiples_on_their_side(amount: int, step: int) -> None:
    low, high = floor_to(amount, step), ceil_to(amount, step)
    assert low % step == high % step == 0
    assert amount - step < low <= amount <= high < amount + step


@law
@given(st.integers(-(10**14), 10**14), st.integers(0, 10**6), st.integers(1, 10**6))
def test_scaling_rounds_towards_zero_and_keeps_the_sign(
    amount: int, numerator: int, denominator: int
) -> None:
    exact = Fraction(amount * numerator, denominator)
    scaled = scale_down(amount, numerator, denominator)
    assert scaled == int(exact)  # int() of a fraction truncates
    assert scale_down(-amount, numerator, denominator) == -scaled


@pytest.mark.parametrize(
    ("is_buy", "price", "reference", "bps"),
    [
        (True, 510_000, 500_000, 200),  # paid more: worse
        (True, 490_000, 500_000, -200),
        (False, 490_000, 500_000, 200),  # got less: worse
        (False, 510_000, 500_000, -200),
        (True, 500_000, 500_000, 0),
        (True, 333_334, 333_333, 1),  # 0.03 bps worse is told as 1
        (True, 333_332, 333_333, 0),  # 0.03 bps better is told as none
    ],
)
def test_slippage_is_positive_when_worse_for_us(
    is_buy: bool, price: int, reference: int, bps: int
) -> None:
    assert bps_worse(is_buy, Price(price), Price(reference)) == bps


@law
@given(st.booleans(), prices, prices)
def test_slippage_is_never_told_better_than_it_is(
    is_buy: bool, price: Price, reference: Price
) -> None:
    worse = Fraction((price - reference) * (1 if is_buy else -1) * BPS, reference)
    assert worse <= bps_worse(is_buy, price, reference) < worse + 1


@pytest.mark.parametrize("wrong", [(-1, 10), (10, 0), (10, -1)])
def test_grids_refuse_what_has_no_meaning(wrong: tuple[int, int]) -> None:
    for step_to in (floor_to, ceil_to):
        with pytest.raises(AssertionError):
            step_to(*wrong)


@pytest.mark.parametrize("text", ["1_000", " 1", "1 ", "1\n", "\uff11", "0x10", "", ".", "1e"])
def test_only_a_plain_decimal_number_is_an_amount(text: str) -> None:
    with pytest.raises(ValueError, match="whole number of micro-units"):
        parse_micro(text)
