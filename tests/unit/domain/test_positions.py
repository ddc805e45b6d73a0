"""Fills become positions: shares and dollars are conserved, and nothing is clipped."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.positions import (
    Execution,
    Position,
    apply,
    cost_released,
    exposure,
    yes_price,
)
from shared.domain.units import MICRO, Shares, Usd
from tests.support.builders import shares

law = settings(max_examples=100, deadline=None)


def a_buy(size: float, usd: int, fee: int = 0) -> Execution:
    return Execution(side="BUY", size=shares(size), notional=Usd(usd), fee=Usd(fee))


def a_sale(size: float, usd: int, fee: int = 0) -> Execution:
    return Execution(side="SELL", size=shares(size), notional=Usd(usd), fee=Usd(fee))


def a_position(size: float, cost: int, realised: int = 0) -> Position:
    return Position(shares=shares(size), cost=Usd(cost), realised=Usd(realised))


executions = st.builds(
    Execution,
    side=st.sampled_from(("BUY", "SELL")),
    size=st.integers(1, 10**9).map(Shares),
    notional=st.integers(0, 10**9).map(Usd),
    fee=st.integers(0, 10**6).map(Usd),
)


def test_a_buy_adds_shares_and_its_fee_is_part_of_the_cost() -> None:
    assert apply(a_position(10, 5_000_000, 7), a_buy(4, 2_000_000, fee=30)) == a_position(
        14, 7_000_030, 7
    )


def test_a_sale_realises_proceeds_less_fee_less_its_share_of_the_cost() -> None:
    assert apply(a_position(10, 5_000_000, 7), a_sale(4, 2_400_000, fee=30)) == a_position(
        6, 3_000_000, 7 + 2_400_000 - 30 - 2_000_000
    )


def test_the_last_share_takes_the_rest_of_the_cost() -> None:
    rest = apply(a_position(3, 1_000_000), a_sale(1, 0))
    assert rest.cost == 666_667
    assert apply(apply(rest, a_sale(1, 0)), a_sale(1, 0)) == a_position(0, 0, -1_000_000)


def test_a_sale_of_more_than_held_leaves_the_shares_negative() -> None:
    after = apply(a_position(2, 1_000_000), a_sale(5, 3_000_000))
    assert after == a_position(-3, 0, 2_000_000)
    assert apply(after, a_sale(1, 500_000)) == a_position(-4, 0, 2_500_000)


@pytest.mark.parametrize(
    ("held", "sold", "released"),
    [(10, 5, 500_000), (10, 10, 1_000_000), (10, 11, 1_000_000), (0, 5, 0), (-1, 5, 0)],
)
def test_the_cost_that_leaves_with_shares(held: float, sold: float, released: int) -> None:
    assert cost_released(a_position(held, 1_000_000), shares(sold)) == released


@law
@given(st.lists(executions, max_size=12))
def test_shares_and_dollars_are_conserved(history: list[Execution]) -> None:
    position = Position()
    for execution in history:
        position = apply(position, execution)
    signed = [(1 if e.side == "BUY" else -1, e) for e in history]
    assert position.shares == sum(sign * e.size for sign, e in signed)
    cash = sum(-sign * e.notional - e.fee for sign, e in signed)
    assert position.realised - position.cost == cash


@law
@given(st.lists(executions, max_size=12))
def test_shares_held_never_have_a_negative_cost(history: list[Execution]) -> None:
    position = Position()
    for execution in history:
        position = apply(position, execution)
        assert position.cost >= 0


def test_a_complete_set_is_cash_and_no_exposure() -> None:
    assert exposure(shares(7), shares(7)) == 0
    assert exposure(shares(7), shares(2)) == shares(5)
    assert exposure(shares(2), shares(7)) == shares(-5)


@law
@given(st.integers(0, MICRO))
def test_a_no_price_is_the_rest_of_a_yes_price(price: int) -> None:
    assert yes_price(0, price) == price
    assert yes_price(0, price) + yes_price(1, price) == MICRO
