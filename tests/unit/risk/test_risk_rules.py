"""Each rule passes, trims or refuses, with its numbers; both sides of every limit are tried."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk import rules
from services.risk.caps import Case, limit_price, worst_usd
from services.risk.policy import Sizing
from services.risk.state import Usage
from shared.domain.book import Book
from shared.domain.grid import TICKS, amounts
from shared.domain.market import Side, fee_up, price_is_on_grid
from shared.domain.messages import Verdict
from shared.domain.units import MICRO, Bps, Price, Shares, Usd, cost_up
from tests.support.risk_builders import (
    NOW_NS,
    account,
    book,
    case,
    cents,
    market,
    policy,
    seconds,
    shares,
    usd,
)

law = settings(max_examples=150)


def verdict(of: Case, rule: str) -> Verdict:
    """Return one rule's verdict; every rule before it must let the order pass."""
    _, verdicts = rules.review(of)
    (found,) = [each for each in verdicts if each.rule == rule]
    return found


def told(of: Case, rule: str) -> tuple[str, str, int, int, str]:
    found = verdict(of, rule)
    return found.outcome, found.reason, found.actual, found.limit, found.unit


def used(**dollars: Usd) -> Usage:
    nothing = Usage(
        leader=Usd(0), market=Usd(0), event=Usd(0), category=Usd(0), total=Usd(0), reserved=Usd(0)
    )
    return msgspec.structs.replace(nothing, **dollars)


def test_an_order_that_breaks_nothing_passes_every_rule_untouched() -> None:
    reviewed, verdicts = rules.review(case())
    assert reviewed == case()
    assert [each.outcome for each in verdicts] == ["pass"] * len(rules.RULES)


def test_the_rules_stop_at_the_first_refusal() -> None:
    halted = case(regime="halted", book=book(seen_ns=0))
    _, verdicts = rules.review(halted)
    assert [each.reason for each in verdicts] == ["REGIME_HALTED"]


# --- the price --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "leader", "limit"),
    [
        (50, 50, 51),  # 2 % above the best
        (50, 48, 50),  # 5 % above the leader's price, on the grid
        (97, 97, 98),  # the band's end, before 2 % above the best
        (98, 97, 98),
    ],
)
def test_a_buy_pays_at_most_what_slippage_the_leaders_price_and_the_band_allow(
    ask: float, leader: float, limit: float
) -> None:
    assert limit_price(case(book=book(ask=ask), leader_price=cents(leader))) == cents(limit)


def test_a_buy_on_a_fine_grid_is_limited_at_a_whole_cent_if_that_reaches_the_best() -> None:
    fine = market(tick=Price(1_000))
    assert limit_price(case(market=fine, book=book(ask=50.3))) == cents(51)
    beyond = case(market=fine, book=book(ask=50.1), leader_price=cents(48))
    assert limit_price(beyond) == cents(50.4)


@pytest.mark.parametrize(("bid", "limit"), [(49, 49), (51, 50), (100, 98), (1, 1)])
def test_a_sale_takes_at_least_the_best_less_slippage(bid: float, limit: float) -> None:
    assert limit_price(case(side="SELL", book=book(bid=bid, ask=None))) == cents(limit)


def test_an_empty_side_has_no_price() -> None:
    assert limit_price(case(book=book(ask=None))) == 0
    assert limit_price(case(side="SELL", book=book(bid=None))) == 0
    assert case().limit == cents(51)


def test_the_worst_cost_holds_the_dearest_fee_below_the_limit() -> None:
    fees = market(fee_rate=70_000)
    assert worst_usd(fees, "BUY", cents(64), shares(25)) == usd(16) + 437_500  # the fee at 0.50
    assert worst_usd(fees, "BUY", cents(30), shares(25)) == usd(7.5) + 367_500  # the fee at 0.30
    assert worst_usd(fees, "SELL", cents(64), shares(25)) == 0


# --- one rule after another -------------------------------------------------------------------

NEAR = policy(end_ns_min=seconds(60))
OLD = NOW_NS - seconds(900)

REFUSED: list[tuple[str, dict[str, Any], tuple[str, int, int, str]]] = [
    ("regime", {"regime": "halted"}, ("REGIME_HALTED", 1, 0, "")),
    ("regime", {"regime": "reduce_only"}, ("REGIME_REDUCE_ONLY", 1, 0, "")),
    ("market_open", {"market": market(accepting_orders=False)}, ("MARKET_CLOSED", 0, 1, "")),
    ("market_open", {"market": market(tick=Price(20_000))}, ("TICK_UNKNOWN", 20_000, 0, "price")),
    (
        "end",
        {"policy": NEAR, "market": market(end_ns=NOW_NS + seconds(60) - 1)},
        ("NEAR_RESOLUTION", seconds(60) - 1, seconds(60), "ns"),
    ),
    (
        "end",
        {"policy": NEAR, "market": market(end_ns=NOW_NS - 5)},
        ("NEAR_RESOLUTION", -5, seconds(60), "ns"),
    ),
    (
        "market_age",
        {"market": market(as_of_ns=OLD - 1)},
        ("MARKET_STALE", seconds(900) + 1, seconds(900), "ns"),
    ),
    (
        "market_age",
        {"market": market(as_of_ns=NOW_NS + seconds(900) + 1)},
        ("MARKET_STALE", seconds(900) + 1, seconds(900), "ns"),
    ),
    (
        "book_age",
        {"book": book(seen_ns=NOW_NS - seconds(5) - 1)},
        ("BOOK_STALE", seconds(5) + 1, seconds(5), "ns"),
    ),
    (
        "book_age",
        {"book": book(seen_ns=NOW_NS + seconds(5) + 1)},
        ("BOOK_STALE", seconds(5) + 1, seconds(5), "ns"),
    ),
    ("book_age", {"book": book(trusted=False)}, ("BOOK_UNTRUSTED", 0, 1, "")),
    (
        "fill_age",
        {"venue_ns": NOW_NS - seconds(30) - 1},
        ("FILL_TOO_OLD", seconds(30) + 1, seconds(30), "ns"),
    ),
    ("price_band", {"book": book(ask=None)}, ("BOOK_SIDE_EMPTY", 0, 1, "")),
    ("price_band", {"book": book(ask=1.9)}, ("PRICE_TOO_LOW", 19_000, 20_000, "price")),
    ("price_band", {"book": book(ask=98.1)}, ("PRICE_TOO_HIGH", 981_000, 980_000, "price")),
    ("price_moved", {"book": book(ask=53)}, ("PRICE_MOVED", 600, 500, "bps")),
    ("price_moved", {"book": book(ask=52.5)}, ("PRICE_MOVED", 500, 500, "bps")),  # off the grid
    ("account_age", {"account": None}, ("ACCOUNT_UNKNOWN", 0, 1, "")),
    (
        "account_age",
        {"account": account(as_of_ns=NOW_NS - seconds(60) - 1)},
        ("ACCOUNT_STALE", seconds(60) + 1, seconds(60), "ns"),
    ),
    ("account_age", {"account": account(closed_only=True)}, ("CLOSED_ONLY", 1, 0, "")),
    ("daily_loss", {"daily_loss": usd(200)}, ("DAILY_LOSS", usd(200), usd(200), "usd")),
    ("trade", {"policy": policy(trade_usd_max=Usd(0))}, ("TRADE_CAP", usd(10.2), 0, "usd")),
    ("leader", {"usage": used(leader=usd(500))}, ("LEADER_CAP", usd(510.2), usd(500), "usd")),
    ("market", {"usage": used(market=usd(200))}, ("MARKET_CAP", usd(210.2), usd(200), "usd")),
    ("event", {"usage": used(event=usd(401))}, ("EVENT_CAP", usd(411.2), usd(400), "usd")),
    ("total", {"usage": used(total=usd(2_000))}, ("TOTAL_CAP", usd(2_010.2), usd(2_000), "usd")),
    ("balance", {"account": account(collateral=Usd(0))}, ("BALANCE_CAP", usd(10.2), 0, "usd")),
    (
        "balance",
        {"account": account(collateral=usd(30)), "usage": used(reserved=usd(30))},
        ("BALANCE_CAP", usd(40.2), usd(30), "usd"),
    ),
    ("minimum", {"size": 4}, ("BELOW_MINIMUM", shares(4), shares(5), "shares")),
    ("minimum", {"size": 4.999999}, ("BELOW_MINIMUM", shares(4), shares(5), "shares")),
    (
        "minimum",
        {"size": 9, "book": book(ask=10), "leader_price": cents(10)},
        ("BELOW_MINIMUM", usd(0.9), usd(1), "usd"),
    ),
]


@pytest.mark.parametrize(("rule", "changes", "numbers"), REFUSED)
def test_an_entry_is_refused_with_the_number_and_the_limit(
    rule: str, changes: dict[str, Any], numbers: tuple[str, int, int, str]
) -> None:
    assert told(case(**changes), rule) == ("refuse", *numbers)


PASSED: list[tuple[str, dict[str, Any]]] = [
    ("market_open", {"policy": NEAR, "market": market(end_ns=NOW_NS + seconds(60))}),
    ("market_open", {"policy": NEAR, "market": market(end_ns=0)}),
    ("market_open", {"market": market(end_ns=NOW_NS + 1)}),
    ("market_age", {"market": market(as_of_ns=OLD)}),
    ("book_age", {"book": book(seen_ns=NOW_NS - seconds(5))}),
    ("fill_age", {"venue_ns": NOW_NS - seconds(30)}),
    ("price_band", {"book": book(ask=2), "leader_price": cents(2)}),
    ("price_band", {"book": book(ask=98), "leader_price": cents(98)}),
    ("price_moved", {"book": book(ask=52)}),
    ("price_moved", {"market": market(tick=Price(1_000)), "book": book(ask=52.5)}),
    ("price_moved", {"book": book(ask=40)}),
    ("account_age", {"account": account(as_of_ns=NOW_NS - seconds(60))}),
    ("daily_loss", {"daily_loss": Usd(usd(200) - 1)}),
    ("trade", {"policy": policy(trade_usd_max=usd(10.2))}),
    ("leader", {"usage": used(leader=usd(489.8))}),
    ("market", {"usage": used(market=usd(189.8))}),
    ("event", {"usage": used(event=usd(389.8))}),
    ("total", {"usage": used(total=usd(1_989.8))}),
    ("balance", {"account": account(collateral=usd(10.2))}),
    ("minimum", {"size": 5}),
    ("minimum", {"size": 10, "book": book(ask=10), "leader_price": cents(10)}),
]


@pytest.mark.parametrize(("rule", "changes"), PASSED)
def test_an_entry_at_a_limit_passes_it(rule: str, changes: dict[str, Any]) -> None:
    found = verdict(case(**changes), rule)
    assert (found.outcome, found.reason) == ("pass", "")


@pytest.mark.parametrize(
    ("rule", "changes", "reason", "limit", "size"),
    [
        ("depth", {"book": book(size=7)}, "NO_DEPTH", shares(7), shares(7)),
        ("trade", {"policy": policy(trade_usd_max=usd(10.2) - 1)}, "TRADE_CAP", None, 19.99),
        ("trade", {"policy": policy(trade_usd_max=usd(5.1))}, "TRADE_CAP", usd(5.1), 10),
        ("leader", {"usage": used(leader=usd(494.9))}, "LEADER_CAP", usd(500), 10),
        ("market", {"usage": used(market=usd(194.9))}, "MARKET_CAP", usd(200), 10),
        ("event", {"usage": used(event=usd(394.9))}, "EVENT_CAP", usd(400), 10),
        ("total", {"usage": used(total=usd(1_994.9))}, "TOTAL_CAP", usd(2_000), 10),
        ("balance", {"account": account(collateral=usd(5.1))}, "BALANCE_CAP", usd(5.1), 10),
        ("minimum", {"size": 20.5}, "GRID", shares(5), 20),  # whole cents at 51
    ],
)
def test_an_entry_is_trimmed_to_what_a_rule_allows(
    rule: str, changes: dict[str, Any], reason: str, limit: int | None, size: float
) -> None:
    found = verdict(case(**changes), rule)
    assert (found.outcome, found.reason) == ("trim", reason)
    assert found.size == (size if rule == "depth" else shares(size))
    assert limit is None or found.limit == limit


def test_a_trim_is_what_the_next_rules_see() -> None:
    trimmed, verdicts = rules.review(case(book=book(size=7), usage=used(total=usd(1_996.43))))
    assert [each.rule for each in verdicts if each.outcome == "trim"] == ["depth"]
    assert trimmed.size == shares(7)  # 3.57 dollars, which the total still allows


def test_the_least_fee_and_rounding_are_inside_what_a_cap_still_allows() -> None:
    """In proportion 9.70 shares would do; their costs, each rounded up, are a step too dear."""
    cheap = Price(200)
    proposed = case(
        size=2_336,
        policy=policy(price_min=cheap, slippage_bps_max=Bps(0), trade_usd_max=Usd(2_077)),
        market=market(tick=Price(100), fee_rate=70_000),
        book=book(ask=0.02, size=10_000),
        leader_price=cheap,
    )
    found = verdict(proposed, "trade")
    assert (found.outcome, found.size) == ("trim", shares(9.68))
    assert worst_usd(proposed.market, "BUY", cheap, found.size) <= 2_077


# --- reducing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"regime": "reduce_only"},
        {"policy": NEAR, "market": market(end_ns=NOW_NS + 1)},
        {"market": market(as_of_ns=0)},
        {"book": book(seen_ns=NOW_NS - seconds(60))},
        {"venue_ns": 0},
        {"book": book(bid=1)},
        {"book": book(bid=99, ask=None)},
        {"book": book(bid=10)},
        {"account": None},
        {"account": account(as_of_ns=0, collateral=Usd(0), closed_only=True)},
        {"daily_loss": usd(1_000)},
        {
            "policy": policy(trade_usd_max=Usd(0), total_usd_max=Usd(0)),
            "sizing": Sizing(leader_usd_max=Usd(0)),
            "usage": used(
                leader=usd(9e6), market=usd(9e6), event=usd(9e6), total=usd(9e6), reserved=usd(9e6)
            ),
        },
        {"size": 5, "book": book(bid=1)},  # a nickel: no minimum in dollars
    ],
)
def test_nothing_but_a_market_a_book_and_shares_is_asked_of_a_sale(changes: dict[str, Any]) -> None:
    sale = case(side="SELL", **changes)
    reviewed, verdicts = rules.review(sale)
    assert {each.outcome for each in verdicts} == {"pass"}
    assert reviewed.size == sale.size


@pytest.mark.parametrize(
    ("rule", "changes", "numbers"),
    [
        ("market_open", {"market": market(accepting_orders=False)}, ("MARKET_CLOSED", 0, 1, "")),
        (
            "book_age",
            {"book": book(seen_ns=NOW_NS - seconds(60) - 1)},
            ("BOOK_STALE", seconds(60) + 1, seconds(60), "ns"),
        ),
        ("book_age", {"book": book(trusted=False)}, ("BOOK_UNTRUSTED", 0, 1, "")),
        ("price_band", {"book": book(bid=None)}, ("BOOK_SIDE_EMPTY", 0, 1, "")),
        ("holding", {"available": Shares(0)}, ("NOTHING_HELD", shares(20), 0, "shares")),
        ("holding", {"available": shares(-3)}, ("NOTHING_HELD", shares(20), 0, "shares")),
        ("depth", {"book": book(bid=0.5)}, ("NO_DEPTH", shares(20), 0, "shares")),
        ("minimum", {"size": 4.99}, ("BELOW_MINIMUM", shares(4.99), shares(5), "shares")),
    ],
)
def test_a_sale_is_refused_with_the_number_and_the_limit(
    rule: str, changes: dict[str, Any], numbers: tuple[str, int, int, str]
) -> None:
    assert told(case(side="SELL", **changes), rule) == ("refuse", *numbers)


def test_a_sale_is_trimmed_to_what_is_held_because_of_this_leader() -> None:
    found = verdict(case(side="SELL", available=shares(12)), "holding")
    assert (found.outcome, found.actual, found.limit, found.size) == (
        "trim", shares(20), shares(12), shares(12),
    )  # fmt: skip


# --- laws -------------------------------------------------------------------------------------

prices = st.integers(1, MICRO - 1).map(Price)
sizes = st.integers(1, 10**10).map(Shares)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return any order on any book, on any grid, at any usage; nothing needs to be on the grid."""
    levels = st.lists(st.tuples(prices, sizes), max_size=4, unique_by=lambda level: level[0])
    bids = sorted(draw(levels), reverse=True)
    asks = sorted(draw(levels))
    fees = draw(st.sampled_from([0, 40_000, 70_000]))
    side: Side = draw(st.sampled_from(("BUY", "SELL")))
    tick = draw(st.sampled_from([*sorted(TICKS), Price(20_000)]))
    dollars = st.integers(0, 10**9).map(Usd)
    return case(
        side=side,
        policy=policy(
            slippage_bps_max=Bps(draw(st.integers(0, 3_000))),
            price_moved_bps_max=Bps(draw(st.integers(0, 3_000))),
            trade_usd_max=draw(dollars),
            market_usd_max=draw(dollars),
            total_usd_max=draw(dollars),
        ),
        market=market(tick=tick, fee_rate=fees, fee_exponent=draw(st.integers(0, 2))),
        book=Book(
            token=case().token, condition=market().condition, bids=tuple(bids), asks=tuple(asks),
            seen_ns=NOW_NS, trusted=True,
        ),
        account=account(collateral=draw(dollars)),
        usage=used(
            leader=draw(dollars), market=draw(dollars), total=draw(dollars), reserved=draw(dollars)
        ),
        available=draw(sizes),
        leader_price=draw(prices),
    )  # fmt: skip


@law
@given(cases(), sizes)
def test_what_passes_is_tradable_and_inside_every_limit(proposed: Case, size: Shares) -> None:
    proposed = msgspec.structs.replace(proposed, size=size)
    passed, verdicts = rules.review(proposed)
    if verdicts[-1].outcome == "refuse":
        return
    limit, tick = limit_price(passed), passed.market.tick
    assert passed.market.size_min <= passed.size <= size
    assert price_is_on_grid(limit, tick)
    amounts(passed.side, limit, passed.size, tick)  # raises unless they are exact
    if passed.side == "SELL":
        assert passed.size <= passed.available
        assert passed.book.best_bid is not None
        assert limit <= passed.book.best_bid
        return
    worst = worst_usd(passed.market, "BUY", limit, passed.size)
    rule, usage = passed.policy, passed.usage
    assert worst <= rule.trade.usd
    assert usage.leader + worst <= passed.sizing.leader_usd_max
    assert usage.market + worst <= rule.market.usd
    assert usage.event + worst <= rule.event.usd
    assert usage.total + worst <= rule.total.usd
    assert passed.account is not None
    assert usage.reserved + worst <= passed.account.collateral
    assert passed.book.best_ask is not None
    assert passed.book.best_ask <= limit <= rule.price_max


def allowed(of: Case) -> int:
    reviewed, verdicts = rules.review(of)
    return 0 if verdicts[-1].outcome == "refuse" else reviewed.size


@law
@given(cases(), sizes, st.integers(0, 10**9))
def test_more_at_risk_never_allows_more(proposed: Case, size: Shares, more: int) -> None:
    proposed = msgspec.structs.replace(proposed, size=size)
    usage = proposed.usage
    fuller = msgspec.structs.replace(
        usage, total=Usd(usage.total + more), leader=Usd(usage.leader + more)
    )
    assert allowed(msgspec.structs.replace(proposed, usage=fuller)) <= allowed(proposed)


@law
@given(cases(), sizes, st.integers(1, 100))
def test_a_thinner_book_never_allows_more(proposed: Case, size: Shares, percent: int) -> None:
    proposed = msgspec.structs.replace(proposed, size=size)
    thin = msgspec.structs.replace(
        proposed.book,
        bids=tuple((p, Shares(s * percent // 100)) for p, s in proposed.book.bids),
        asks=tuple((p, Shares(s * percent // 100)) for p, s in proposed.book.asks),
    )
    assert allowed(msgspec.structs.replace(proposed, book=thin)) <= allowed(proposed)


@law
@given(prices, st.integers(1, 10**9).map(Shares), st.integers(0, 2), st.integers(0, MICRO - 1))
def test_no_fill_inside_the_limit_costs_more_than_the_worst(
    limit: Price, size: Shares, exponent: int, better: int
) -> None:
    fees = market(fee_rate=70_000, fee_exponent=exponent)
    paid = Price(max(1, limit - better))
    cost = cost_up(paid, size) + fee_up(fees, paid, size)
    assert cost <= worst_usd(fees, "BUY", limit, size)
