"""A market's terms: outcomes, the price grid, order amounts without rounding, and the fee."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.domain.grid import TICKS, amounts, tradable_size
from shared.domain.ids import TokenId
from shared.domain.market import CENT, SIZE_STEP, Side, fee_up, price_is_on_grid
from shared.domain.units import MICRO, Price, Shares
from tests.support.builders import NO, YES, a_market, cents, shares

law = settings(max_examples=100, deadline=None)
sides = st.sampled_from(("BUY", "SELL"))
sizes = st.integers(0, 10**11).map(Shares)


@st.composite
def grid_prices(draw: st.DrawFn) -> tuple[Price, Price]:
    """Return a tick and a price on its grid."""
    tick = draw(st.sampled_from(sorted(TICKS)))
    return tick, Price(tick * draw(st.integers(1, MICRO // tick - 1)))


# --- outcomes ---------------------------------------------------------------------------------


def test_each_token_has_its_outcome_and_its_complement() -> None:
    market = a_market()
    assert (market.outcome_of(YES), market.outcome_of(NO)) == (0, 1)
    assert (market.complement(YES), market.complement(NO)) == (NO, YES)


def test_a_foreign_token_has_no_outcome() -> None:
    with pytest.raises(AssertionError, match="not a token of"):
        a_market().outcome_of(TokenId("99"))


# --- the grid ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "tick", "taken"),
    [
        (10_000, 10_000, True),
        (990_000, 10_000, True),
        (0, 10_000, False),
        (1_000_000, 10_000, False),
        (-10_000, 10_000, False),
        (995_000, 10_000, False),
        (995_000, 1_000, True),
        (999_000, 1_000, True),
        (999_900, 1_000, False),
        (999_900, 100, True),
        (502_500, 2_500, True),
        (502_500, 5_000, False),
    ],
)
def test_the_venue_takes_prices_inside_and_on_its_grid(price: int, tick: int, taken: bool) -> None:
    assert price_is_on_grid(Price(price), Price(tick)) is taken


@law
@given(grid_prices(), sides, sizes, st.booleans())
def test_a_tradable_size_is_exact_and_never_more_than_asked(
    priced: tuple[Price, Price], side: Side, size: Shares, marketable: bool
) -> None:
    tick, price = priced
    tradable = tradable_size(side, price, size, tick, marketable=marketable)
    assert 0 <= tradable <= size
    assert tradable % SIZE_STEP == 0
    assume(tradable)
    gives, wants = amounts(side, price, tradable, tick)
    usd, traded = (gives, wants) if side == "BUY" else (wants, gives)
    assert traded == tradable
    assert Fraction(usd, traded) == Fraction(price, MICRO)
    if marketable and side == "BUY":
        assert usd % CENT == 0


@law
@given(grid_prices(), sides, sizes, st.booleans())
def test_a_tradable_size_stays_as_it_is(
    priced: tuple[Price, Price], side: Side, size: Shares, marketable: bool
) -> None:
    tick, price = priced
    once = tradable_size(side, price, size, tick, marketable=marketable)
    assert tradable_size(side, price, once, tick, marketable=marketable) == once


@pytest.mark.parametrize(
    ("side", "marketable", "size", "tradable"),
    [
        ("BUY", True, 12.34, 12),  # whole cents at 0.53: whole shares
        ("BUY", False, 12.34, 12.34),
        ("SELL", True, 12.34, 12.34),
        ("SELL", True, 12.349, 12.34),
        ("BUY", True, 0.99, 0),
        ("SELL", True, 0.009, 0),
        ("SELL", True, -1, 0),
    ],
)
def test_sizes_at_53_cents(side: Side, marketable: bool, size: float, tradable: float) -> None:
    found = tradable_size(side, cents(53), shares(size), cents(1), marketable=marketable)
    assert found == shares(tradable)


def test_an_order_states_what_it_gives_and_what_it_wants() -> None:
    assert amounts("BUY", cents(53), shares(12), cents(1)) == (6_360_000, 12_000_000)
    assert amounts("SELL", cents(53), shares(12), cents(1)) == (12_000_000, 6_360_000)


def test_the_finest_amount_is_a_hundredth_of_a_share_at_a_quarter_cent() -> None:
    assert amounts("BUY", Price(502_500), Shares(10_000), Price(2_500)) == (5_025, 10_000)


@pytest.mark.parametrize(
    ("price", "size", "tick", "refusal"),
    [
        (535_000, 12_000_000, 10_000, "not on the grid of tick"),
        (530_000, 0, 10_000, "not positive"),
        (530_000, -12_000_000, 10_000, "not positive"),
        (530_000, 12_005_000, 10_000, "not on the grid of 10000"),
        (520_000, 12_000_000, 20_000, "no tick"),
    ],
)
def test_amounts_off_the_grid_are_refused(price: int, size: int, tick: int, refusal: str) -> None:
    with pytest.raises(AssertionError, match=refusal):
        amounts("BUY", Price(price), Shares(size), Price(tick))


def test_a_size_for_a_price_off_the_grid_is_refused() -> None:
    with pytest.raises(AssertionError, match="not on the grid of tick"):
        tradable_size("BUY", Price(535_000), shares(12), cents(1), marketable=True)


# --- the fee ----------------------------------------------------------------------------------


def test_the_fee_of_the_worked_example() -> None:
    market = a_market(fee_rate=70_000)
    assert fee_up(market, cents(64), shares(25)) == 403_200  # 25 * 0.07 * 0.64 * 0.36


def test_the_smallest_fee_is_one_step_of_the_venue() -> None:
    market = a_market(fee_rate=70_000)
    assert fee_up(market, cents(1), Shares(1)) == 10


def test_no_rate_and_no_shares_cost_no_fee() -> None:
    assert fee_up(a_market(fee_rate=0), cents(64), shares(25)) == 0
    assert fee_up(a_market(fee_rate=70_000), cents(64), Shares(0)) == 0


def test_the_exponent_bends_the_curve() -> None:
    flat = a_market(fee_rate=70_000, fee_exponent=0)
    assert fee_up(flat, cents(64), shares(25)) == 1_750_000
    bent = a_market(fee_rate=70_000, fee_exponent=2)
    assert fee_up(bent, cents(50), shares(16)) == 70_000  # 16 * 0.07 / 16


@law
@given(
    st.integers(1, 200_000),
    st.integers(0, 3),
    st.integers(1, MICRO - 1).map(Price),
    st.integers(1, 10**11).map(Shares),
)
def test_the_fee_is_rounded_up_to_the_step(
    rate: int, exponent: int, price: Price, size: Shares
) -> None:
    p = Fraction(price, MICRO)
    exact = size * Fraction(rate, MICRO) * (p * (1 - p)) ** exponent
    fee = fee_up(a_market(fee_rate=rate, fee_exponent=exponent), price, size)
    assert fee == max(10, 10 * ceil(exact / 10))


@law
@given(st.integers(1, MICRO - 1).map(Price), sizes)
def test_the_fee_is_the_same_on_both_sides_of_even(price: Price, size: Shares) -> None:
    market = a_market(fee_rate=70_000)
    assert fee_up(market, price, size) == fee_up(market, Price(MICRO - price), size)
