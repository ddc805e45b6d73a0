"""Entries are sized, exits follow the fraction the leader gave up, flips do both."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk import sizing
from services.risk.policy import Policy, Sizing
from services.risk.state import State
from shared.domain.messages import IntentFormed
from shared.domain.units import MICRO, Bps, Price, Shares
from tests.support.risk_builders import LEADER, OTHER, cents, intent, policy, shares, usd, view

law = settings(max_examples=100)


def desired(rules: Policy, formed: IntentFormed, target: Shares) -> Shares:
    """Return the target alone, in a calm and deep world."""
    wanted, _ = sizing.desired(rules, State(), formed, view(size=10**9), target)
    return wanted


FIXED = policy()  # 10 dollars an entry
TENTH = policy(sizing=Sizing(mode="proportional", ratio_bps=Bps(1_000)))


@pytest.mark.parametrize(
    ("before", "after", "held", "wanted"),
    [
        (0, 100, 0, 20),  # 10 dollars at 50 cents
        (0, -100, 0, -20),
        (100, 200, 20, 40),
        (-100, -200, -20, -40),
        (0, 7, 0, 7),  # never more than he added himself
        (100, 107, 20, 27),
        (100, 200, 0, 20),  # an entry we declined leaves the next one whole
        (100, 50, 20, 10),  # half of his is half of ours
        (100, 75, 12, 9),  # whatever part of his entry we have
        (-100, -25, -20, -5),
        (100, 0, 20, 0),
        (-100, 0, -20, 0),
        (100, 50, 0, 0),
        (0, 0, 20, 0),
        (100, -100, 20, -20),  # a flip closes ours and opens the other side
        (-100, 7, -20, 7),
        (100, 100, 20, 20),
        (100, 50, -20, 0),  # ours stands against his: nothing of it follows him
        (100, 120, -20, 20),
    ],
)
def test_a_change_of_his_becomes_a_target_of_ours(
    before: float, after: float, held: float, wanted: float
) -> None:
    assert desired(FIXED, intent(before, after), shares(held)) == shares(wanted)


def test_a_proportional_entry_is_a_part_of_what_he_added() -> None:
    assert desired(TENTH, intent(0, 123.456), Shares(0)) == shares(12.3456)
    assert desired(TENTH, intent(50, 123.456), shares(5)) == shares(5 + 7.3456)


@pytest.mark.parametrize("sized", [FIXED, TENTH])
def test_no_entry_is_worth_more_than_a_trade_may_be(sized: Policy) -> None:
    assert desired(sized, intent(0, 1_000_000), Shares(0)) <= shares(100)
    tight = policy(sizing=sized.sizing, trade_usd_max=usd(3))
    assert desired(tight, intent(0, 1_000_000), Shares(0)) == shares(6)


def test_an_entry_is_priced_on_the_side_it_buys() -> None:
    dear = intent(0, 1_000, yes_price=cents(80))
    cheap = intent(0, -1_000, yes_price=cents(80))
    assert desired(FIXED, dear, Shares(0)) == shares(12.5)
    assert desired(FIXED, cheap, Shares(0)) == shares(-50)


def test_a_leader_may_have_a_sizing_of_his_own() -> None:
    rules = policy(leaders={OTHER: Sizing(mode="fixed", trade_usd=usd(5))})
    assert desired(rules, intent(0, 100, leader=OTHER), Shares(0)) == shares(10)
    assert desired(rules, intent(0, 100, leader=LEADER), Shares(0)) == shares(20)


exposures = st.integers(-(10**10), 10**10)


@law
@given(exposures, exposures, exposures, st.integers(1, MICRO - 1), st.sampled_from([FIXED, TENTH]))
def test_a_target_never_stands_against_the_leader(
    before: int, after: int, held: int, price: int, sized: Policy
) -> None:
    formed = intent(before / MICRO, after / MICRO, yes_price=Price(price))
    wanted = desired(sized, formed, Shares(held))
    assert wanted * formed.after >= 0
    if formed.after == 0:
        assert wanted == 0


@law
@given(exposures, st.integers(0, 100), exposures, st.integers(1, MICRO - 1))
def test_a_reduction_never_adds_and_never_turns(
    before: int, percent: int, held: int, price: int
) -> None:
    formed = intent(before / MICRO, before * percent / 100 / MICRO, yes_price=Price(price))
    wanted = desired(FIXED, formed, Shares(held))
    assert abs(wanted) <= abs(held)
    assert wanted * held >= 0
