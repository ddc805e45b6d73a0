"""Each step of a target's arithmetic says its numbers in words; each rule, what it left."""

from typing import Any

import msgspec
import pytest

from services.ctl.arithmetic import steps_json, steps_of, steps_table, verdicts_json, verdicts_table
from services.ctl.figures import measured
from services.risk.policy import Cap, Category, Policy, Sizing
from services.risk.sizing import Entry, desired, sized
from services.risk.state import State, View
from shared.domain import messages as m
from shared.domain.book import Book
from shared.domain.units import NS_PER_S, Bps, Price, Shares, Usd
from tests.unit.ctl.ctl_facts import (
    CONDITION,
    LEADER,
    MARKET,
    START_NS,
    Chain,
    fill,
    intent,
    target,
)
from tests.unit.ctl.test_ctl_show import page_of


def wanted(*steps: m.Verdict, before: int = 0, after: int = 0, yes: int = 500_000) -> m.TargetSet:
    chain = Chain()
    fact = target(chain, intent(chain, [fill(chain, 0)], 1), 2, arithmetic=steps)
    return msgspec.structs.replace(
        fact, before=Shares(before), target=Shares(after), yes_price=Price(yes)
    )


def step(rule: str, size: int, **fields: Any) -> m.Verdict:
    return m.Verdict(**{"rule": rule, "outcome": "pass", "size": Shares(size), **fields})


def how(verdict: m.Verdict, *before: m.Verdict) -> str:
    return steps_of(wanted(*before, verdict))[-1].how


FIRST = step("fixed", 20_000_000, actual=500_000, limit=10_000_000, unit="usd")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (FIRST, "$10.00 an intent, at his $0.50"),
        (step("proportional", 600_000, actual=60_000_000, limit=100, unit="bps"),
         "1.00 % of the 60.00 shares he added"),
        (step("portfolio", 6, actual=30_000_000, limit=1_000_000_000, unit="usd"),
         "he put $30.00 of $1,000.00 (3.00 %), we the same part of our equity"),
        (step("portfolio", 0, limit=1, reason="LEADER_VALUE_UNKNOWN", outcome="refuse"),
         "what his positions are worth is not known"),
        (step("kelly", 6, actual=523_400, limit=550_000, unit="price"),
         "a share costs $0.5234, fee included; believed worth $0.55"),
        (step("kelly", 0, limit=1, reason="EQUITY_UNKNOWN", outcome="refuse"),
         "what our account is worth is not known"),
        (step("kelly", 0, actual=560_000, limit=550_000, unit="price", reason="NO_EDGE",
              outcome="refuse"), "a share costs $0.56, fee included; believed worth $0.55"),
        (step("exit", 5_000_000, actual=60_000_000, limit=100_000_000, unit="shares"),
         "he keeps 60.00 of 100.00 shares (60.00 %)"),
        (step("exit", 0, unit="shares"), "he keeps 0.00 of 0.00 shares (nothing)"),
    ],
)  # fmt: skip
def test_a_first_step_says_what_it_was_sized_by(verdict: m.Verdict, words: str) -> None:
    assert how(verdict) == words


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (step("tier", 30_000_000, actual=300_000_000, limit=100_000_000, unit="usd"),
         "his $300.00 are in the tier from $100.00: times 150.00 %"),
        (step("category_scale", 10_000_000, actual=5_000, limit=10_000, unit="bps"),
         "its category is copied at 50.00 %"),
        (step("leader_added", 15_000_000, actual=20_000_000, limit=15_000_000, unit="shares"),
         "no more than the 15.00 shares he added"),
        (step("trade_cap", 10_000_000, actual=10_000_000, limit=5_000_000, unit="usd"),
         "$10.00 at his price, at most $5.00 a trade"),
        (step("volatility", 10_000_000, actual=-1, limit=20_000, unit="volatility"),
         "how much the mid moves is not known yet, calm is 0.02 log-odds/√s: times 50.00 %"),
        (step("volatility", 20_000_000, actual=10_000, limit=20_000, unit="volatility"),
         "the mid moves 0.01 log-odds/√s, calm is 0.02 log-odds/√s"),
        (step("slippage", 17_000_000, actual=40, limit=100, unit="bps"),
         "orders came 0.40 % worse than estimated, budget 1.00 %: times 85.00 %"),
        (step("slippage", 20_000_000, actual=0, limit=100, unit="bps"),
         "orders came as estimated, budget 1.00 %"),
        (step("depth_share", 9_000_000, actual=18_000_000, limit=9_000_000, unit="shares"),
         "18.00 shares offered near the best, our share 9.00"),
        (step("a_later_rule", 9_000_000, actual=1_500_000_000, limit=3 * NS_PER_S, unit="ns"),
         "1,500 ms of 3,000 ms"),
    ],
)  # fmt: skip
def test_a_later_step_says_what_it_did_to_the_size(verdict: m.Verdict, words: str) -> None:
    assert how(verdict, FIRST) == words


def test_sizes_are_marked_by_what_they_came_from() -> None:
    steps = steps_of(
        wanted(
            FIRST,
            step("tier", 30_000_000),
            step("trade_cap", 30_000_000),
            step("slippage", 10_000_000),
        )
    )
    assert [(each.mark, each.change) for each in steps] == [
        ("sized", None), ("more", 10_000_000), ("pass", 0), ("less", -20_000_000),
    ]  # fmt: skip


def test_who_crosses_zero_exits_first_and_is_sized_anew() -> None:
    """Ten held, all given up; then twenty of the other outcome, at what it cost him."""
    fact = wanted(step("exit", 0, limit=50_000_000, unit="shares"), FIRST,
                  before=10_000_000, after=-20_000_000, yes=600_000)  # fmt: skip
    assert [(each.rule, each.mark, each.change) for each in steps_of(fact)] == [
        ("exit", "less", -10_000_000), ("fixed", "sized", None),
    ]  # fmt: skip
    assert "20.00" in page_of(steps_table(fact))
    assert "$8.00" in page_of(steps_table(fact))


def test_an_exit_to_nothing_is_priced_by_what_was_held() -> None:
    fact = wanted(step("exit", 0, limit=50_000_000), before=-10_000_000, after=0, yes=600_000)
    half = msgspec.structs.replace(fact, arithmetic=(step("exit", 5_000_000, limit=2),))
    assert "$2.00" in page_of(steps_table(half))


def test_an_older_target_has_no_arithmetic() -> None:
    assert steps_of(wanted()) == []
    assert steps_json(wanted()) == []


# --- the words against what risk really says ----------------------------------------------------


def policy(sizing: Sizing) -> Policy:
    cap, age_ns = Cap(Usd(50_000_000)), 60 * NS_PER_S
    return Policy(
        sizing=sizing, entry_age_ns_max=age_ns, order_ttl_ns=age_ns, book_age_ns_max=age_ns,
        book_dead_ns=age_ns, market_age_ns_max=age_ns, account_age_ns_max=age_ns,
        slippage_bps_max=Bps(200), price_moved_bps_max=Bps(500), price_min=Price(0),
        price_max=Price(1_000_000), trade=cap, market=cap, event=cap, category=cap, total=cap,
        daily_loss_usd_max=Usd(0), drift_usd_max=Usd(0), rejects_max=1, rejects_window_ns=1,
        retry_ns=1, dust=Shares(1), volatility_calm=20_000, slippage_budget_bps=Bps(100),
        slippage_floor_bps=Bps(2_500), depth_share_bps=Bps(5_000),
        categories=(Category(name="weather", scale_bps=Bps(5_000)),),
    )  # fmt: skip


MODES = ("fixed", "proportional", "portfolio", "kelly")


@pytest.mark.parametrize("mode", MODES)
def test_every_step_that_risk_takes_has_words_of_its_own(mode: Any) -> None:
    sizing = Sizing(mode=mode, edge=Price(50_000), tiers=((Usd(1_000_000), Bps(20_000)),))
    book = Book(
        token=MARKET.tokens[0], condition=CONDITION, asks=((Price(500_000), Shares(90_000_000)),),
        as_of_ns=START_NS, seen_ns=START_NS, trusted=True, volatility=40_000,
    )  # fmt: skip
    market = msgspec.structs.replace(MARKET, category="weather")
    entry = Entry(
        policy=policy(sizing), sizing=sizing, added=Shares(60_000_000), price=Price(500_000),
        follows=Shares(0), view=View(market=market, leader_value=Usd(900_000_000)), book=book,
        equity=Usd(1_000_000_000), slippage_bps=40,
    )  # fmt: skip
    _, steps = sized(entry)
    told = steps_of(wanted(*steps))
    assert {each.rule for each in told} >= {
        mode, "tier", "category_scale", "trade_cap", "volatility", "slippage", "depth_share",
    }  # fmt: skip
    assert told[0].mark == "sized"
    for each, verdict in zip(told, steps, strict=True):
        bare = (
            f"{measured(verdict.actual, verdict.unit)} of {measured(verdict.limit, verdict.unit)}"
        )
        assert each.how != bare


def test_an_exit_that_risk_makes_is_told() -> None:
    chain = Chain()
    meant = msgspec.structs.replace(
        intent(chain, [fill(chain, 0)], 1), before=Shares(100_000_000), after=Shares(25_000_000)
    )
    size, steps = desired(policy(Sizing()), State(), meant, View(), Shares(40_000_000))
    told = steps_of(wanted(*steps, before=40_000_000, after=size))
    assert [(each.mark, each.how, each.size, each.change) for each in told] == [
        ("less", "he keeps 25.00 of 100.00 shares (25.00 %)", 10_000_000, -30_000_000),
    ]  # fmt: skip
    assert (meant.leader, meant.condition) == (LEADER, CONDITION)


# --- the rules of an order ------------------------------------------------------------------


VERDICTS = (
    step("regime", 24_000_000),
    step("price_moved", 24_000_000, actual=200, limit=500, unit="bps"),
    step("depth", 22_000_000, outcome="trim", reason="NO_DEPTH", actual=24_000_000,
         limit=22_000_000, unit="shares"),
    step("daily_loss", 22_000_000, actual=0, limit=1 << 62, unit="usd"),
    step("market", 0, outcome="refuse", reason="MARKET_CAP", actual=41_000_000, limit=40_000_000,
         unit="usd"),
)  # fmt: skip


def test_a_trim_stands_out_with_what_it_took() -> None:
    lines = [line.split() for line in page_of(verdicts_table(VERDICTS)).splitlines()]
    assert lines[1] == ["regime", "pass", "24.00"]
    assert lines[3] == ["depth", "trim", "24.00", "22.00", "22.00", "-2.00", "NO_DEPTH"]
    assert lines[4] == ["daily_loss", "pass", "$0.00", "no", "limit", "22.00"]
    assert lines[5] == ["market", "refuse", "$41.00", "$40.00", "MARKET_CAP"]


def test_a_trim_by_the_first_rule_is_told_as_far_as_its_numbers_go() -> None:
    by_shares = page_of(verdicts_table(VERDICTS[2:3])).splitlines()[1].split()
    assert by_shares[-2] == "-2.00"
    by_dollars = step("trade", 20_000_000, outcome="trim", reason="TRADE_CAP", actual=60_000_000,
                      limit=50_000_000, unit="usd")  # fmt: skip
    cells = page_of(verdicts_table((by_dollars,))).splitlines()[1].split()
    assert cells == ["trade", "trim", "$60.00", "$50.00", "20.00", "TRADE_CAP"]


def test_the_rules_for_machines_are_in_units_that_are_named() -> None:
    aged = step("book_age", 5, actual=1_500_000_000, limit=5 * NS_PER_S, unit="ns")
    told = verdicts_json((*VERDICTS, aged))
    assert (told[-1]["actual"], told[-1]["limit"], told[-1]["unit"]) == (1_500, 5_000, "ms")
    assert (told[1]["actual"], told[1]["unit"]) == (200, "bps")
    assert told[4]["size"] is None
