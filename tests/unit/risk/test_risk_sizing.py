"""Entries are sized, exits follow the fraction the leader gave up, flips do both."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk import sizing
from services.risk.policy import Category, Policy, Sizing
from services.risk.state import Equity, State, View
from shared.domain.messages import IntentFormed
from shared.domain.units import MICRO, Bps, Price, Shares, Usd
from tests.support.risk_builders import (
    LEADER,
    OTHER,
    book,
    cents,
    intent,
    market,
    policy,
    shares,
    usd,
    view,
)

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


# --- by portfolio, by edge, in tiers ----------------------------------------------------------


def sized(
    rules: Policy, formed: IntentFormed, seen: View, *, equity: Usd | None = None, target: int = 0
) -> tuple[Shares, dict[str, tuple[Shares, str]]]:
    """Return the target and, by step, the size it left and its reason."""
    state = State()
    if equity is not None:
        state.equity = Equity(
            collateral=equity, value=Usd(0), profit=Usd(0), peak=Usd(0), day=0,
            day_profit=Usd(0), marked_ns=0,
        )  # fmt: skip
    wanted, steps = sizing.desired(rules, state, formed, seen, Shares(target))
    return wanted, {each.rule: (each.size, each.reason) for each in steps}


PORTFOLIO = policy(sizing=Sizing(mode="portfolio", share_bps=Bps(5_000)), trade_usd_max=usd(10_000))
KELLY = policy(
    sizing=Sizing(mode="kelly", kelly_bps=Bps(2_500), edge=cents(5)), trade_usd_max=usd(10_000)
)


def deep(**changes: Any) -> View:
    return view(size=10**9, **changes)


def test_a_portfolio_copy_stakes_the_share_that_he_staked() -> None:
    """He puts 50 of his 1,000 dollars: half of that twentieth of our 800 is 20 dollars."""
    wanted, steps = sized(PORTFOLIO, intent(0, 100), deep(leader_value=usd(1_000)), equity=usd(800))
    assert wanted == shares(40)
    assert steps["portfolio"] == (shares(40), "")


def test_a_portfolio_share_is_never_more_than_all() -> None:
    wanted, _ = sized(PORTFOLIO, intent(0, 100), deep(leader_value=usd(1)), equity=usd(800))
    assert wanted == shares(800)  # half of 800 dollars at 50 cents
    free = intent(0, 100, yes_price=Price(0))
    assert sized(PORTFOLIO, free, deep(leader_value=Usd(0)), equity=usd(800))[0] == 0


@pytest.mark.parametrize(
    ("value", "equity", "reason"),
    [(None, usd(800), "LEADER_VALUE_UNKNOWN"), (usd(1_000), None, "EQUITY_UNKNOWN")],
)
def test_a_share_of_what_nobody_knows_is_nothing(
    value: Usd | None, equity: Usd | None, reason: str
) -> None:
    wanted, steps = sized(PORTFOLIO, intent(0, 100), deep(leader_value=value), equity=equity)
    assert (wanted, steps["portfolio"]) == (0, (0, reason))


def test_a_kelly_stake_is_a_fraction_of_what_grows_fastest() -> None:
    """At 50 cents, believed worth 55: f = 5 / 50 of 1,000 dollars, a quarter of it: 25 dollars."""
    wanted, _ = sized(KELLY, intent(0, 1_000), deep(), equity=usd(1_000))
    assert wanted == shares(50)


def test_a_kelly_stake_counts_what_is_held_and_the_fee() -> None:
    wanted, _ = sized(KELLY, intent(100, 1_000), deep(), equity=usd(1_000), target=shares(30))
    assert wanted == shares(50)
    fees = deep(of=market(fee_rate=50_000))  # 1.25 cents a share at one half
    wanted, steps = sized(KELLY, intent(0, 1_000), fees, equity=usd(1_000))
    # f = 3.75 / 48.75 of 1,000 dollars; a quarter is $19.23, which buys 37.52 at 51.25 cents.
    assert wanted == Shares(37_523_451)
    assert steps["kelly"][1] == ""


@pytest.mark.parametrize(
    ("equity", "ask", "reason"),
    [(None, 50, "EQUITY_UNKNOWN"), (usd(1_000), 55, "NO_EDGE"), (usd(1_000), 60, "NO_EDGE")],
)
def test_without_an_edge_left_nothing_is_staked(
    equity: Usd | None, ask: float, reason: str
) -> None:
    dear = view(books=(book(bid=49, ask=ask), None))
    wanted, steps = sized(KELLY, intent(0, 1_000), dear, equity=equity)
    assert (wanted, steps["kelly"]) == (0, (0, reason))


def test_without_a_book_the_leaders_price_is_the_cost() -> None:
    blind = view(books=(None, None), market=None)
    wanted, steps = sized(KELLY, intent(0, 1_000), blind, equity=usd(1_000))
    assert wanted == shares(50)
    assert "depth_share" not in steps


def test_the_highest_tier_that_he_reached_scales() -> None:
    tiers = ((usd(10), Bps(5_000)), (usd(50), Bps(20_000)), (usd(1_000), Bps(0)))
    rules = policy(sizing=Sizing(trade_usd=usd(10), tiers=tiers))
    assert sized(rules, intent(0, 10), deep())[1].get("tier") is None  # five of his dollars
    assert sized(rules, intent(0, 60), deep())[1]["tier"] == (shares(10), "")
    assert sized(rules, intent(0, 100), deep())[0] == shares(40)


def test_a_category_scales_by_its_name_or_tag() -> None:
    rules = policy(categories=(Category(name="nba", scale_bps=Bps(2_500)),))
    assert sized(rules, intent(0, 100), deep(of=market(tags=("nba",))))[0] == shares(5)
    assert sized(rules, intent(0, 100), deep(of=market(category="news")))[0] == shares(20)


def test_the_world_takes_its_part_of_an_entry_and_says_which() -> None:
    rules = policy(
        volatility_calm=20_000, slippage_budget_bps=Bps(100), slippage_floor_bps=Bps(0),
        depth_share_bps=Bps(5_000),
    )  # fmt: skip
    seen = view(books=(book(ask=50, size=12, volatility=40_000), None))
    state = State(slippage={LEADER: 20, intent(0, 1).condition: 50})
    wanted, steps = sizing.desired(rules, state, intent(0, 100), seen, Shares(0))
    told = {each.rule: (each.size, each.actual, each.limit) for each in steps}
    assert told["volatility"] == (shares(10), 40_000, 20_000)
    assert told["slippage"] == (shares(5), 50, 100)
    assert told["depth_share"] == (shares(5), shares(12), shares(6))
    assert wanted == shares(5)
    unknown = msgspec.structs.replace(rules, volatility_unknown_bps=Bps(1_000))
    _, steps = sizing.desired(unknown, State(), intent(0, 100), deep(), Shares(0))
    assert next(each.actual for each in steps if each.rule == "volatility") == -1


def test_an_exit_says_the_fraction_it_follows() -> None:
    wanted, steps = sizing.desired(FIXED, State(), intent(100, 30), deep(), shares(20))
    (only,) = steps
    assert (wanted, only.rule, only.actual, only.limit) == (
        shares(6), "exit", shares(30), shares(100),
    )  # fmt: skip
    _, steps = sizing.desired(FIXED, State(), intent(100, -30), deep(), shares(20))
    assert [each.rule for each in steps][:2] == ["exit", "fixed"]


def test_every_step_of_the_arithmetic_says_its_numbers_in_their_units() -> None:
    tiers = ((usd(10), Bps(15_000)),)
    rules = policy(
        sizing=Sizing(trade_usd=usd(10), tiers=tiers), trade_usd_max=usd(6),
        categories=(Category(name="news", scale_bps=Bps(8_000)),),
        volatility_calm=20_000, slippage_budget_bps=Bps(100), slippage_floor_bps=Bps(0),
    )  # fmt: skip
    seen = view(
        of=market(category="news"), books=(book(ask=50, size=1_000, volatility=25_000), None)
    )
    state = State(slippage={LEADER: 10})
    _, steps = sizing.desired(rules, state, intent(0, 100), seen, Shares(0))
    told = [
        (each.rule, each.outcome, each.actual, each.limit, each.unit, each.size) for each in steps
    ]
    assert told == [
        ("fixed", "trim", cents(50), usd(10), "usd", shares(20)),
        ("tier", "trim", usd(50), usd(10), "usd", shares(30)),
        ("category_scale", "trim", 8_000, 10_000, "bps", shares(24)),
        ("leader_added", "pass", shares(24), shares(100), "shares", shares(24)),
        ("trade_cap", "trim", usd(12), usd(6), "usd", shares(12)),
        ("volatility", "trim", 25_000, 20_000, "volatility", shares(9.6)),
        ("slippage", "trim", 10, 100, "bps", shares(8.64)),
        ("depth_share", "pass", shares(1_000), shares(1_000), "shares", shares(8.64)),
    ]


def test_the_arithmetic_of_a_share_or_an_edge_says_what_it_stands_on() -> None:
    _, steps = sizing.desired(
        PORTFOLIO, State(equity=None), intent(0, 100), deep(leader_value=None), Shares(0)
    )
    first = steps[0]
    assert (first.rule, first.outcome, first.limit) == ("portfolio", "refuse", 1)
    state = State(
        equity=Equity(
            collateral=usd(1_000), value=Usd(0), profit=Usd(0), peak=Usd(0), day=0,
            day_profit=Usd(0), marked_ns=0,
        )
    )  # fmt: skip
    _, steps = sizing.desired(
        PORTFOLIO, state, intent(0, 100), deep(leader_value=usd(500)), Shares(0)
    )
    assert (steps[0].actual, steps[0].limit, steps[0].unit) == (usd(50), usd(500), "usd")
    _, steps = sizing.desired(KELLY, state, intent(0, 100), deep(), Shares(0))
    assert (steps[0].actual, steps[0].limit, steps[0].unit) == (cents(50), cents(55), "price")
    _, steps = sizing.desired(FIXED, State(), intent(100, 30), deep(), shares(20))
    assert steps[0].unit == "shares"
