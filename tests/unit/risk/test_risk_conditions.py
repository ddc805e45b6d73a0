"""The account's worth, its losses, and how well the venue is heard: what they do to caps."""

from typing import Any

import msgspec
import pytest

from services.risk.caps import fee_worst, hearing, risked_by_leader
from services.risk.cases import daily_loss
from services.risk.policy import Cap, Category, Policy, Sizing
from services.risk.rules import WORTH, review
from services.risk.shell import feeds_from
from services.risk.state import Equity, Feeds, Group, Marks, Reconsider, State, usage
from shared.domain.messages import EquityMarked, Fact, Verdict
from shared.domain.units import Bps, Price, Usd
from shared.domain.views import FeedsView, FeedView
from tests.support.risk_builders import (
    HEARD,
    LEADER,
    NOW_NS,
    account,
    book,
    case,
    cents,
    condition,
    correction,
    holding,
    market,
    policy,
    seconds,
    shares,
    step,
    usd,
)

DAY_NS = seconds(86_400)
MIDNIGHT_NS = NOW_NS - NOW_NS % DAY_NS + DAY_NS


def told(of: Any, rule: str) -> tuple[str, str, int, int, str]:
    _, verdicts = review(of, WORTH)
    (found,) = [each for each in verdicts if each.rule == rule]
    return found.outcome, found.reason, found.actual, found.limit, found.unit


# --- equity -----------------------------------------------------------------------------------


def marked(state: State, now_ns: int, bid: float | None, collateral: float = 990) -> list[Fact]:
    bids: dict[Any, Any] = {}
    if bid is not None:
        bids = {condition(): (cents(bid), Price(0))}
    marks = Marks(collateral=usd(collateral), bids=bids)
    return step(state, Reconsider(now_ns=now_ns, views={}, feeds=HEARD, marks=marks), now_ns)


def mark_in(facts: list[Fact]) -> EquityMarked:
    (found,) = [fact for fact in facts if isinstance(fact, EquityMarked)]
    return found


def test_profit_is_what_is_held_at_the_bid_less_what_it_cost() -> None:
    state = holding(20)  # twenty shares for ten dollars
    mark = mark_in(marked(state, NOW_NS, 45))
    assert (mark.collateral, mark.value, mark.profit, mark.peak) == (usd(990), usd(9), -usd(1), 0)
    assert state.equity is not None
    assert (state.equity.usd, state.equity.drawdown) == (usd(999), usd(1))


def test_what_nobody_caused_is_worth_something_and_is_no_profit() -> None:
    state = State()
    step(state, correction(10))
    mark = mark_in(marked(state, NOW_NS, 50))
    assert (mark.value, mark.profit) == (usd(5), 0)


def test_what_nobody_quotes_is_worth_what_it_cost() -> None:
    mark = mark_in(marked(holding(20), NOW_NS, None))
    assert (mark.value, mark.profit) == (usd(10), 0)


def test_a_mark_is_said_again_when_it_moved_or_long_after() -> None:
    state = holding(20)
    marked(state, NOW_NS, 50)
    assert marked(state, NOW_NS + seconds(5), 50) == []
    assert marked(state, NOW_NS + seconds(10), 49) == []  # 20 cents of a thousand dollars
    assert mark_in(marked(state, NOW_NS + seconds(15), 30)).profit == -usd(4)
    assert marked(state, NOW_NS + seconds(314), 30) == []
    assert mark_in(marked(state, NOW_NS + seconds(315), 30))


def test_a_deposit_is_no_profit() -> None:
    state = holding(20)
    marked(state, NOW_NS, 50)
    mark = mark_in(marked(state, NOW_NS + seconds(5), 50, collateral=5_000))
    assert (mark.profit, mark.peak) == (0, 0)


def test_a_day_begins_with_the_profit_of_the_last_mark() -> None:
    state = holding(20)
    marked(state, MIDNIGHT_NS - seconds(5), 30)
    mark = mark_in(marked(state, MIDNIGHT_NS, 25))
    assert (mark.profit, mark.day_profit, mark.peak) == (-usd(5), -usd(4), 0)
    again = mark_in(marked(state, MIDNIGHT_NS + seconds(5), 0))
    assert (again.profit, again.day_profit) == (-usd(10), -usd(4))


def test_the_peak_stays_and_the_drawdown_counts_from_it() -> None:
    state = holding(20)
    assert mark_in(marked(state, NOW_NS, 90)).peak == usd(8)
    mark = mark_in(marked(state, NOW_NS + seconds(5), 40))
    assert (mark.peak, mark.profit) == (usd(8), -usd(2))
    assert state.equity is not None
    assert state.equity.drawdown == usd(10)


# --- caps in percent and by category ----------------------------------------------------------


@pytest.mark.parametrize(
    ("equity", "limit"),
    [(usd(10_000), usd(50)), (usd(100), usd(2)), (Usd(0), 0), (None, 0), (-usd(5), 0)],
)
def test_a_cap_in_percent_and_dollars_is_the_smaller_and_nothing_where_nobody_knows(
    equity: Usd | None, limit: int
) -> None:
    assert Cap(usd(50), Bps(200)).limit(equity) == limit


def test_a_cap_in_dollars_alone_needs_no_equity() -> None:
    assert Cap(usd(50)).limit(None) == usd(50)
    assert Cap(usd(50)).limit(None, Bps(2_500)) == usd(12.5)


def test_the_market_of_a_category_is_capped_by_its_own_dollars_first() -> None:
    sports = Category(name="sports", usd_max=usd(3))
    rules = policy(categories=(sports, Category(name="crypto")), category_usd_max=usd(7))
    of = case(policy=rules, market=market(category="sports"))
    assert told(of, "category")[3] == usd(3)
    assert told(case(policy=rules, market=market(tags=("sports",))), "category")[3] == usd(3)
    assert told(case(policy=rules, market=market(category="crypto")), "category")[3] == usd(7)
    assert told(case(policy=rules), "category")[3] == usd(7)


def test_markets_of_one_category_share_its_cap() -> None:
    state = holding(20)
    state.groups = {condition(): Group("", "sports")}
    found = usage(state, LEADER, condition(2), Group("", "sports"))
    assert (found.category, found.event, found.market) == (usd(10), 0, 0)
    assert usage(state, LEADER, condition(2), Group("", "")).category == 0


# --- losses, feeds, time ----------------------------------------------------------------------

SCALED: Policy = policy(
    daily_loss_free_usd=usd(100),
    drawdown_free_usd=usd(100),
    drawdown_usd_max=usd(200),
    end_ns_min=seconds(60),
    end_full_ns=seconds(360),
)


@pytest.mark.parametrize(
    ("changes", "bps"),
    [
        ({}, 10_000),
        ({"daily_loss": usd(150)}, 5_000),  # half way from 100 to 200
        ({"drawdown": usd(175)}, 2_500),
        ({"daily_loss": usd(150), "drawdown": usd(150)}, 2_500),
        ({"feed_bps": Bps(4_000)}, 4_000),
        ({"market": market(end_ns=NOW_NS + seconds(210))}, 5_000),
        ({"market": market(end_ns=NOW_NS + seconds(500))}, 10_000),
        ({"market": market(end_ns=NOW_NS + seconds(210)), "opens": False}, 10_000),
    ],
)
def test_caps_shrink_with_the_world(changes: dict[str, Any], bps: int) -> None:
    of = case(policy=SCALED, **changes)
    assert of.caps_bps == bps
    assert told(of, "trade")[3] == usd(50) * bps // 10_000


def test_without_a_distance_the_end_scales_nothing() -> None:
    assert case(market=market(end_ns=NOW_NS - 5)).caps_bps == 10_000


@pytest.mark.parametrize(
    ("changes", "rule", "verdict"),
    [
        ({"drawdown": usd(200)}, "drawdown", ("refuse", "DRAWDOWN", usd(200), usd(200), "usd")),
        ({"feed_bps": None}, "feed", ("refuse", "FEED_UNKNOWN", 1, 0, "")),
        ({"feed_bps": Bps(0)}, "feed", ("refuse", "FEED_DEAD", 0, 10_000, "bps")),
    ],
)
def test_what_adds_nothing_is_asked_for_none_of_it(
    changes: dict[str, Any], rule: str, verdict: tuple[Any, ...]
) -> None:
    assert told(case(policy=SCALED, **changes), rule) == verdict
    exit_ = case(side="SELL", policy=SCALED, **changes)
    assert {each.outcome for each in review(exit_, WORTH)[1]} == {"pass"}
    bought = case(policy=SCALED, opens=False, nets=True, **changes)  # an exit that must be bought
    assert told(bought, rule) == verdict


def test_the_worst_feed_counts_and_polls_only_where_the_stream_is_lost() -> None:
    feeds = Feeds(report_ns=1, stream_lost=False, polls_ns=9, books_ns=3)
    assert feeds.worst_ns == 3
    assert msgspec.structs.replace(feeds, stream_lost=True).worst_ns == 9


def a_report(as_of_ns: int, **ages: int) -> FeedsView:
    lines = (
        FeedView(name="activity", state="lost" if "lost" in ages else "connected", heard_ns=0),
        FeedView(name="polls", state="connected", heard_ns=NOW_NS - ages.get("polls", 0)),
        FeedView(
            name="books",
            state="lost" if "books" in ages else "connected",
            heard_ns=NOW_NS - ages.get("books", 99),
        ),
    )
    return FeedsView(as_of_ns=as_of_ns, feeds=lines)


def test_feeds_are_as_good_as_the_worst_ingester_that_still_reports() -> None:
    gone = a_report(NOW_NS - seconds(31), books=seconds(900))
    good, bad = a_report(NOW_NS - 5), a_report(NOW_NS - 7, polls=11, books=13)
    found = feeds_from([gone, good, bad], NOW_NS)
    assert found == Feeds(report_ns=7, stream_lost=False, polls_ns=11, books_ns=13)
    assert feeds_from([a_report(NOW_NS, lost=1)], NOW_NS).stream_lost
    assert feeds_from([good], NOW_NS).books_ns == 0  # connected: its ingester watches it


# --- filters and the edge ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"blocked_markets": frozenset({"will-it-rain"})}, "MARKET_BLOCKED"),
        ({"blocked_markets": frozenset({condition()})}, "MARKET_BLOCKED"),
        ({"blocked_markets": frozenset({"event-1"})}, "MARKET_BLOCKED"),
        ({"allowed_markets": frozenset({"another"})}, "MARKET_NOT_ALLOWED"),
        ({"blocked_categories": frozenset({"sports"})}, "CATEGORY_BLOCKED"),
        ({"blocked_categories": frozenset({"nba"})}, "CATEGORY_BLOCKED"),
        ({"allowed_categories": frozenset({"crypto"})}, "CATEGORY_NOT_ALLOWED"),
        ({"allowed_categories": frozenset({"nba"}), "allowed_markets": frozenset({"event-1"})}, ""),
    ],
)
def test_entries_are_held_to_the_lists(rules: dict[str, Any], reason: str) -> None:
    of = market(slug="will-it-rain", category="sports", tags=("nba",))
    assert told(case(policy=policy(**rules), market=of), "market_filter")[1] == reason
    exit_ = case(side="SELL", policy=policy(**rules), market=of)
    assert told(exit_, "market_filter")[1] == ""


@pytest.mark.parametrize(
    ("terms", "rules", "reason"),
    [
        ({"taker_delay": True}, {"refuses_taker_delay": True}, "TAKER_DELAY"),
        ({"taker_delay": True}, {}, ""),
        ({"protocol": "unknown"}, {}, "EXCHANGE_UNKNOWN"),
    ],
)
def test_a_market_we_cannot_trade_well_is_not_entered(
    terms: dict[str, Any], rules: dict[str, Any], reason: str
) -> None:
    of = case(market=market(**terms), policy=policy(**rules))
    assert told(of, "market_open")[1] == reason


def test_a_leaders_own_age_of_entries_wins() -> None:
    old = NOW_NS - seconds(10)
    own = Sizing(entry_age_ns_max=seconds(9))
    assert told(case(venue_ns=old), "fill_age")[0] == "pass"
    assert told(case(venue_ns=old, sizing=own), "fill_age") == (
        "refuse", "FILL_TOO_OLD", seconds(10), seconds(9), "ns",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "fee_rate", "verdict"),
    [
        (51, 0, ("pass", "", cents(51), cents(52), "price")),
        (52, 0, ("pass", "", cents(52), cents(52), "price")),
        (52, 50_000, ("refuse", "EDGE_GONE", 532_480, cents(52), "price")),  # 0.05 * 0.52 * 0.48
    ],
)
def test_an_entry_must_not_cost_more_than_it_is_believed_worth(
    ask: float, fee_rate: int, verdict: tuple[Any, ...]
) -> None:
    """The leader paid 50 cents and is believed to know two cents better."""
    of = case(
        sizing=Sizing(edge=Price(20_000)), book=book(ask=ask), market=market(fee_rate=fee_rate)
    )
    assert told(of, "edge") == verdict
    assert told(case(side="SELL", sizing=Sizing(edge=Price(1))), "edge")[0] == "pass"


def test_who_paid_nothing_left_no_price_to_move_from() -> None:
    assert told(case(side="SELL", leader_price=Price(0)), "price_moved")[0] == "pass"


def test_only_our_share_of_the_depth_is_entered_and_all_of_it_left() -> None:
    rules = policy(depth_share_bps=Bps(2_500))
    thin = book(ask=50, bid=49, size=40)
    entry = told(case(policy=rules, book=thin), "depth")
    assert entry == ("trim", "NO_DEPTH", shares(20), shares(10), "shares")
    assert told(case(side="SELL", policy=rules, book=thin), "depth")[0] == "pass"


def test_every_verdict_names_its_rule_once() -> None:
    _, verdicts = review(case(account=account()))
    names = [verdict.rule for verdict in verdicts]
    assert len(set(names)) == len(names)
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)


# --- what is lost today, and how well is heard ------------------------------------------------


def an_equity(profit: float, day_profit: float, day: int = NOW_NS // DAY_NS) -> Equity:
    return Equity(
        collateral=usd(100), value=Usd(0), profit=usd(profit), peak=Usd(0), day=day,
        day_profit=usd(day_profit), marked_ns=NOW_NS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("realised", "equity", "loss"),
    [
        (0, None, 0),
        (-3, None, 3),
        (3, None, 0),
        (-3, an_equity(-10, -2), 8),  # the marks say more
        (-9, an_equity(-10, -2), 9),
        (0, an_equity(5, -2), 0),
        (0, an_equity(-10, -2, day=1), 0),  # marked on another day
    ],
)
def test_the_loss_of_today_is_the_worse_of_realised_and_marked(
    realised: float, equity: Equity | None, loss: float
) -> None:
    state = State(realised_today=usd(realised), day=NOW_NS // DAY_NS, equity=equity)
    assert daily_loss(state, NOW_NS) == usd(loss)
    assert daily_loss(State(realised_today=usd(realised), day=1), NOW_NS) == 0


@pytest.mark.parametrize(
    ("feeds", "bps"),
    [
        (None, None),
        (HEARD, 10_000),
        (msgspec.structs.replace(HEARD, stream_lost=True), 5_000),
        (msgspec.structs.replace(HEARD, books_ns=seconds(35)), 5_000),  # half of 10 to 60 s
        (msgspec.structs.replace(HEARD, stream_lost=True, polls_ns=seconds(35)), 2_500),
        (msgspec.structs.replace(HEARD, report_ns=seconds(60)), 0),
    ],
)
def test_caps_are_halved_while_only_polling_tells(feeds: Feeds | None, bps: int | None) -> None:
    rules = policy(feed_fresh_ns=seconds(10), feed_dead_ns=seconds(60))
    assert hearing(rules, feeds) == bps


def test_the_worst_of_an_entry_booked_on_the_other_side_holds_its_fee() -> None:
    """Selling YES at 60 cents is buying NO at 40; the fee of a share peaks at one half."""
    fees = market(fee_rate=50_000)
    sale = case(side="SELL", opens=True, nets=True, market=fees, book=book(bid=60, ask=61))
    limit = sale.limit
    assert limit == cents(60)
    worst = risked_by_leader(sale, shares(20))
    assert worst == shares(20) - 20 * limit + fee_worst(fees, "SELL", limit, shares(20))
    assert fee_worst(fees, "SELL", cents(60), shares(20)) == usd(0.24)  # at 60 cents: dearer below
    assert fee_worst(fees, "SELL", cents(40), shares(20)) == usd(0.25)  # could trade at one half
