"""Given a leader's exposure and what he did, or time alone: exactly these facts."""

import msgspec
import pytest

from services.aggregator import core
from services.aggregator.core import Policies, State
from services.aggregator.state import REMEMBERED_NS, SETTLED_NS, is_conversion
from shared.domain.ids import content_id
from shared.domain.messages import (
    FillCounted,
    IntentFormed,
    LeaderActed,
    LeaderFilled,
    MarketResolved,
    WindowNetted,
)
from shared.domain.units import DUST, NS_PER_S, ZERO_SHARES, Price, Shares
from shared.runtime.runner import encode_state
from tests.support.builders import (
    CONDITION,
    LEADER,
    OTHER_CONDITION,
    OTHER_LEADER,
    T0_NS,
    a_baseline,
    a_fill,
    an_act,
    shares,
)
from tests.unit.aggregator.aggregator_told import (
    AGE_NS,
    POLICY,
    QUIET_NS,
    a_policy,
    closed,
    hear,
    holding,
    kinds,
    tick,
    tracks,
)

# --- counting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill", "yes", "no", "price"),
    [
        (a_fill(price=Price(640_000)), 10, 0, 640_000),
        (a_fill(price=Price(640_000), side="SELL"), -10, 0, 640_000),
        (a_fill(price=Price(640_000), outcome=1), 0, 10, 360_000),
        (a_fill(price=Price(640_000), outcome=1, side="SELL"), 0, -10, 360_000),
    ],
)
def test_a_fill_moves_its_outcome_at_the_price_of_yes(
    fill: LeaderFilled, yes: float, no: float, price: int
) -> None:
    (fact,) = hear(holding(100, 100), fill, 7)
    assert isinstance(fact, FillCounted)
    assert (fact.yes, fact.no, fact.yes_price) == (shares(yes), shares(no), price)
    assert (fact.notional, fact.baseline) == (6_400_000, False)
    assert (fact.cause, fact.root) == (fill.id, fill.root)
    assert (fact.ts_ns, fact.venue_ns) == (T0_NS + 7, T0_NS)


@pytest.mark.parametrize(
    ("act", "yes", "no"),
    [
        (an_act("SPLIT"), 10, 10),
        (an_act("MERGE"), -10, -10),
        (an_act("CONVERSION"), 0, 0),
    ],
)
def test_complete_sets_are_cash(act: LeaderActed, yes: float, no: float) -> None:
    state = holding(30, 20)
    (fact,) = hear(state, act)
    assert isinstance(fact, FillCounted)
    assert (fact.yes, fact.no, fact.notional, fact.baseline) == (shares(yes), shares(no), 0, False)
    assert tracks(state)[CONDITION].exposure == shares(10)
    assert tick(state, AGE_NS) == []


def test_a_redemption_ends_the_exposure_and_is_not_copied() -> None:
    state = holding(30, 20)
    (fact,) = hear(state, an_act("REDEEM"))
    assert isinstance(fact, FillCounted)
    assert (fact.yes, fact.no, fact.baseline) == (shares(-30), shares(-20), True)
    assert tracks(state) == {}
    assert tick(state, AGE_NS) == []


def test_a_redemption_of_nothing_known_leaves_nothing() -> None:
    state = State()
    hear(state, an_act("REDEEM"))
    assert tracks(state) == {}


def test_a_redemption_takes_an_open_window_with_it() -> None:
    state = State()
    hear(state, a_fill())
    hear(state, an_act("REDEEM"))
    assert kinds(tick(state)) == [WindowNetted]
    assert tracks(state) == {}


def test_an_activity_counts_once() -> None:
    state = State()
    assert len(hear(state, a_fill("one"))) == 1
    assert hear(state, a_fill("one")) == []
    assert len(hear(state, an_act("SPLIT", "one"))) == 1
    assert hear(state, an_act("SPLIT", "one")) == []


def test_counted_activities_are_remembered_for_ten_minutes_of_venue_time() -> None:
    state = State()
    hear(state, a_fill("one"))
    hear(state, a_fill("in time", ts_ns=T0_NS + REMEMBERED_NS))
    assert hear(state, a_fill("one")) == []
    hear(state, a_fill("later", ts_ns=T0_NS + REMEMBERED_NS + 120 * NS_PER_S))
    assert set(state.counted) == {a_fill("in time").id, a_fill("later").id}


# --- baseline ---------------------------------------------------------------------------------


def test_a_baseline_moves_exposure_and_no_intent() -> None:
    state = State()
    read = a_baseline(
        (CONDITION, shares(30), shares(20)), (OTHER_CONDITION, ZERO_SHARES, shares(5))
    )
    facts = hear(state, read)
    assert [(f.yes, f.no) for f in facts if isinstance(f, FillCounted) and f.baseline] == [
        (shares(30), shares(20)), (ZERO_SHARES, shares(5)),
    ]  # fmt: skip
    assert len({fact.id for fact in facts}) == 2
    assert {(fact.cause, fact.root) for fact in facts} == {(read.id, read.id)}
    assert [track.followed for track in tracks(state).values()] == [shares(10), shares(-5)]
    assert tick(state, AGE_NS) == []


def test_a_baseline_counts_once() -> None:
    state = holding(30, 20)
    assert hear(state, a_baseline((CONDITION, shares(30), shares(20)))) == []


def test_a_baseline_counts_once_even_where_the_leader_has_left_since() -> None:
    state = holding(10)
    hear(state, a_fill(side="SELL"))
    assert closed(tick(state)) == [(shares(10), 0, "reduction")]
    assert hear(state, a_baseline((CONDITION, shares(10), ZERO_SHARES))) == []
    assert tracks(state) == {}


def test_what_follows_a_baseline_is_the_change_alone() -> None:
    state = holding(30)
    hear(state, a_fill())
    assert closed(tick(state)) == [(shares(30), shares(40), "quiet")]


# --- closing ----------------------------------------------------------------------------------


def test_an_intent_says_what_its_window_held() -> None:
    state = State()
    hear(state, a_fill("one", price=Price(400_000), ts_ns=T0_NS - 3), 10)
    hear(state, a_fill("two", price=Price(500_000), size=shares(30), ts_ns=T0_NS - 9), 20)
    (fact,) = tick(state, 20 + QUIET_NS)
    assert isinstance(fact, IntentFormed)
    assert (fact.leader, fact.condition) == (LEADER, CONDITION)
    assert (fact.before, fact.after, fact.closed_by) == (0, shares(40), "quiet")
    assert (fact.yes_price, fact.notional) == (475_000, 19_000_000)
    assert fact.fills == (a_fill("one").id, a_fill("two").id)
    assert (fact.opened_ns, fact.venue_ns) == (T0_NS - 9, T0_NS - 3)
    assert (fact.root, fact.cause) == (a_fill("one").id, a_fill("two").id)
    assert fact.ts_ns == T0_NS + 20 + QUIET_NS


def test_the_average_price_is_rounded_to_the_nearest() -> None:
    for cheap, dear, average in ((1, 2, 500_001), (2, 1, 500_000)):
        state = State()
        hear(state, a_fill("cheap", price=Price(500_000), size=shares(cheap)))
        hear(state, a_fill("dear", price=Price(500_001), size=shares(dear)))
        (fact,) = tick(state)
        assert isinstance(fact, IntentFormed)
        assert fact.yes_price == average


def test_quiet_counts_from_the_last_fill() -> None:
    state = State()
    hear(state, a_fill("one"), 0)
    hear(state, a_fill("two"), QUIET_NS - 1)
    assert tick(state, QUIET_NS) == []
    assert tick(state, 2 * QUIET_NS - 2) == []
    assert closed(tick(state, 2 * QUIET_NS - 1)) == [(0, shares(20), "quiet")]
    assert tick(state, 3 * QUIET_NS) == []


def test_a_busy_window_closes_at_its_greatest_age() -> None:
    state, at_ns = State(), 0
    while at_ns + QUIET_NS // 2 < AGE_NS:
        hear(state, a_fill(at_ns), at_ns)
        assert tick(state, at_ns + QUIET_NS // 2 - 1) == []
        at_ns += QUIET_NS // 2
    hear(state, a_fill(at_ns), at_ns)
    assert closed(tick(state, AGE_NS - 1)) == []
    assert closed(tick(state, AGE_NS)) == [(0, shares(100), "max_age")]


def test_a_late_fill_joins_the_next_window() -> None:
    state = State()
    hear(state, a_fill("on time"))
    tick(state)
    hear(state, a_fill("late", ts_ns=T0_NS - 60 * NS_PER_S), 2 * QUIET_NS)
    (fact,) = tick(state, 3 * QUIET_NS)
    assert isinstance(fact, IntentFormed)
    assert (fact.before, fact.after, fact.fills) == (shares(10), shares(20), (a_fill("late").id,))
    assert fact.opened_ns == fact.venue_ns == T0_NS - 60 * NS_PER_S


def test_a_net_change_worth_enough_closes_at_once() -> None:
    policies = a_policy(flush_usd=10)
    state = State()
    assert closed(hear(state, a_fill("one"), policies=policies)) == []  # $5
    facts = hear(state, a_fill("two"), 9, policies=policies)  # $10
    assert kinds(facts) == [FillCounted, IntentFormed]
    assert closed(facts) == [(0, shares(20), "notional")]
    assert facts[1].cause == facts[0].id
    assert tick(state, AGE_NS, policies=policies) == []


def test_what_a_net_sale_is_worth_is_told_by_the_price_of_no() -> None:
    policies = a_policy(flush_usd=7, flush_on_reduction=False)
    for price, at_once in ((300_000, True), (310_000, False)):
        facts = hear(holding(10), a_fill(side="SELL", price=Price(price)), policies=policies)
        assert (len(closed(facts)) == 1) is at_once


def test_turnover_that_nets_to_little_does_not_close_at_once() -> None:
    policies, state = a_policy(flush_usd=10), State()
    for number in range(10):
        assert closed(hear(state, a_fill(2 * number), policies=policies)) == []
        hear(state, a_fill(2 * number + 1, side="SELL"), policies=policies)
    assert kinds(tick(state, policies=policies)) == [WindowNetted]


def test_no_threshold_closes_on_every_fill() -> None:
    policies, state = a_policy(flush_usd=0), State()
    for number in range(3):
        facts = hear(state, a_fill(number), policies=policies)
        assert closed(facts) == [(shares(10 * number), shares(10 * number + 10), "notional")]


def test_a_reduction_closes_at_the_next_tick() -> None:
    state = holding(30)
    assert kinds(hear(state, a_fill("one", side="SELL"))) == [FillCounted]
    assert kinds(hear(state, a_fill("two", side="SELL"))) == [FillCounted]
    assert closed(tick(state, 1)) == [(shares(30), shares(10), "reduction")]


@pytest.mark.parametrize(
    ("held", "fill", "reduces"),
    [
        (30, a_fill(side="SELL"), True),
        (30, a_fill(outcome=1), True),
        (30, a_fill(outcome=1, size=shares(70)), True),  # a flip gives all of it up
        (30, a_fill(), False),
        (0, a_fill(), False),
        (0, a_fill(outcome=1), False),
        (30, a_fill(side="SELL", size=Shares(DUST - 1)), False),
        (30, a_fill(side="SELL", size=DUST), True),
    ],
)
def test_only_giving_up_exposure_is_a_reduction(
    held: float, fill: LeaderFilled, reduces: bool
) -> None:
    state = holding(held)
    hear(state, fill)
    assert (len(tick(state, 1)) == 1) is reduces


def test_a_reduction_may_be_left_to_wait_as_all_else() -> None:
    policies, state = a_policy(flush_on_reduction=False), holding(30)
    hear(state, a_fill(side="SELL"), policies=policies)
    assert tick(state, QUIET_NS - 1, policies=policies) == []
    facts = tick(state, QUIET_NS, policies=policies)
    assert closed(facts) == [(shares(30), shares(20), "quiet")]


# --- dust -------------------------------------------------------------------------------------


def test_a_window_that_nets_to_dust_is_told_and_stays_accounted() -> None:
    state = State()
    hear(state, a_fill("one", size=Shares(DUST - 1)))
    (fact,) = tick(state)
    assert isinstance(fact, WindowNetted)
    assert (fact.before, fact.after, fact.fills) == (0, DUST - 1, (a_fill("one").id,))
    assert (fact.root, fact.cause, fact.condition) == (*[a_fill("one").id] * 2, CONDITION)
    hear(state, a_fill("two", size=Shares(1)), 2 * QUIET_NS)
    assert closed(tick(state, 3 * QUIET_NS)) == [(0, DUST, "quiet")]


def test_dust_alone_never_closes_at_once() -> None:
    policies, state = a_policy(flush_usd=0), State()
    assert kinds(hear(state, a_fill(size=Shares(DUST - 1)), policies=policies)) == [FillCounted]


def test_a_window_that_nets_to_nothing_is_no_intent_whatever_is_dust() -> None:
    for flush_usd in (0, 1_000):
        policies, state = a_policy(dust=ZERO_SHARES, flush_usd=flush_usd), holding(0, 10)
        hear(state, a_fill("unseen before", side="SELL"), policies=policies)
        assert kinds(tick(state, policies=policies)) == [WindowNetted]


# --- history unseen ---------------------------------------------------------------------------


def test_selling_what_was_never_seen_bought_is_no_exposure() -> None:
    state = holding(5)
    hear(state, a_fill(side="SELL"))
    assert closed(tick(state)) == [(shares(5), 0, "reduction")]
    assert tracks(state)[CONDITION].exposure == 0


def test_half_of_a_set_sold_before_its_split_is_seen_is_followed_once_it_is() -> None:
    state = State()
    hear(state, a_fill(outcome=1, side="SELL", price=Price(400_000)))
    assert kinds(tick(state)) == [WindowNetted]
    hear(state, an_act("SPLIT"), 2 * QUIET_NS)
    (fact,) = tick(state, 3 * QUIET_NS)
    assert isinstance(fact, IntentFormed)
    assert (fact.before, fact.after, fact.yes_price) == (0, shares(10), 600_000)
    assert fact.fills == (an_act("SPLIT").id,)


def test_a_split_may_make_an_open_window_worth_closing_at_once() -> None:
    policies, state = a_policy(flush_usd=6), State()
    sale = a_fill(outcome=1, side="SELL", price=Price(400_000))
    assert kinds(hear(state, sale, policies=policies)) == [FillCounted]
    split, intent = hear(state, an_act("SPLIT"), policies=policies)
    assert isinstance(intent, IntentFormed)
    assert (intent.before, intent.after, intent.closed_by) == (0, shares(10), "notional")
    assert (intent.fills, intent.cause) == ((sale.id,), split.id)


# --- leaders, markets, the rest ---------------------------------------------------------------


def test_each_leader_has_his_own_policy() -> None:
    patient = msgspec.structs.replace(POLICY.default, quiet_ns=3 * QUIET_NS)
    policies = Policies(default=POLICY.default, leaders={OTHER_LEADER: patient})
    assert policies.of(OTHER_LEADER) == patient
    state = State()
    hear(state, a_fill("one"), policies=policies)
    hear(state, a_fill("two", leader=OTHER_LEADER), policies=policies)
    first = tick(state, QUIET_NS, policies=policies)
    assert [f.leader for f in first if isinstance(f, IntentFormed)] == [LEADER]
    second = tick(state, 3 * QUIET_NS, policies=policies)
    assert [f.leader for f in second if isinstance(f, IntentFormed)] == [OTHER_LEADER]


def test_markets_and_leaders_do_not_mix() -> None:
    state = State()
    hear(state, a_fill("one"))
    hear(state, a_fill("two", condition=OTHER_CONDITION, outcome=1))
    hear(state, a_fill("three", leader=OTHER_LEADER, size=shares(3)))
    found = {(f.leader, f.condition): f.after for f in tick(state) if isinstance(f, IntentFormed)}
    assert found == {
        (LEADER, CONDITION): shares(10),
        (LEADER, OTHER_CONDITION): shares(-10),
        (OTHER_LEADER, CONDITION): shares(3),
    }


def test_a_market_left_is_forgotten() -> None:
    state = State()
    hear(state, a_fill("in"))
    tick(state)
    hear(state, a_fill("out", side="SELL"), 2 * QUIET_NS)
    tick(state, 3 * QUIET_NS)
    assert tracks(state) == {}


def test_what_it_does_not_know_it_does_not_judge() -> None:
    assert hear(State(), None) == []


def test_a_foreign_fact_is_refused() -> None:
    with pytest.raises(AssertionError, match="not a fact of the aggregator"):
        core.evolve(State(), a_fill())


def test_a_state_survives_its_snapshot() -> None:
    state = holding(30)
    hear(state, a_fill())
    assert msgspec.json.decode(encode_state(state), type=State) == state


# --- noise ------------------------------------------------------------------------------------


def a_quoter(turns: int, *, net: float, policies: Policies, state: State | None = None) -> State:
    """Return the state after so many shares bought and sold again, and so many kept."""
    state = State() if state is None else state
    for turn in range(turns):
        hear(state, a_fill(f"{id(state)} in {turn}"), policies=policies)
        hear(state, a_fill(f"{id(state)} out {turn}", side="SELL"), policies=policies)
    hear(state, a_fill(f"{id(state)} kept {net}", size=shares(net)), policies=policies)
    return state


@pytest.mark.parametrize(("net_share", "is_intent"), [(0, True), (475, True), (477, False)])
def test_a_change_small_beside_its_turnover_is_noise(net_share: int, is_intent: bool) -> None:
    policies = a_policy(net_share=net_share)
    state = a_quoter(10, net=10, policies=policies)  # 10 of 210 shares: 476 bps
    (fact,) = tick(state, policies=policies)
    assert isinstance(fact, IntentFormed if is_intent else WindowNetted)
    assert (fact.before, fact.after) == (0, shares(10))
    assert tracks(state)[CONDITION].followed == (shares(10) if is_intent else 0)


def test_noise_stays_accounted_and_comes_with_the_next_window() -> None:
    policies = a_policy(net_share=1_000)
    state = a_quoter(10, net=10, policies=policies)
    assert kinds(tick(state, policies=policies)) == [WindowNetted]
    hear(state, a_fill("more", size=shares(2)), 2 * QUIET_NS, policies=policies)
    facts = tick(state, 3 * QUIET_NS, policies=policies)
    assert closed(facts) == [(0, shares(12), "quiet")]


def test_noise_closes_neither_at_once_nor_as_a_reduction() -> None:
    policies = a_policy(net_share=1_000, flush_usd=2)
    state = State()
    hear(state, a_baseline((CONDITION, shares(100), ZERO_SHARES)))
    for turn in range(20):
        hear(state, a_fill(f"in {turn}", size=shares(1)), policies=policies)
        hear(state, a_fill(f"out {turn}", size=shares(1), side="SELL"), policies=policies)
    for last in range(3):
        facts = hear(state, a_fill(last, size=shares(1), side="SELL"), policies=policies)
        assert kinds(facts) == [FillCounted]
        assert tick(state, 1, policies=policies) == []
    assert kinds(tick(state, AGE_NS, policies=policies)) == [WindowNetted]
    assert tracks(state)[CONDITION].followed == shares(100)


@pytest.mark.parametrize("net_share", [0, 10_000])
@pytest.mark.parametrize("dust", [DUST, shares(50)])
def test_to_be_all_out_is_never_noise(net_share: int, dust: Shares) -> None:
    policies = a_policy(net_share=net_share, dust=dust)
    state = holding(10)
    for turn in range(20):
        hear(state, a_fill(f"in {turn}"), policies=policies)
        hear(state, a_fill(f"out {turn}", side="SELL"), policies=policies)
    hear(state, a_fill("last", side="SELL"), policies=policies)
    assert closed(tick(state, 1, policies=policies)) == [(shares(10), 0, "reduction")]
    assert tracks(state) == {}


def test_to_come_back_to_nothing_from_nothing_is_no_intent() -> None:
    state = State()
    hear(state, a_fill("in"))
    hear(state, a_fill("out", side="SELL"))
    assert kinds(tick(state)) == [WindowNetted]


# --- markets that are over --------------------------------------------------------------------


def resolved(name: int = 0, *, ts_ns: int = T0_NS) -> MarketResolved:
    id_ = content_id("market_resolved", name, CONDITION)
    payouts = (Price(1_000_000), Price(0))
    return MarketResolved(
        id=id_, cause="", root=id_, ts_ns=ts_ns, condition=CONDITION, payouts=payouts
    )


def test_a_resolution_ends_the_exposures_of_all_leaders_and_is_not_copied() -> None:
    state = holding(30, 20)
    hear(state, a_baseline((CONDITION, ZERO_SHARES, shares(4)), leader=OTHER_LEADER))
    hear(state, a_fill("elsewhere", condition=OTHER_CONDITION))
    end = resolved()
    facts = hear(state, end, 7)
    assert [
        (f.leader, f.yes, f.no, f.cause, f.root, f.baseline, f.ts_ns, f.venue_ns)
        for f in facts
        if isinstance(f, FillCounted)
    ] == [
        (LEADER, shares(-30), shares(-20), end.id, end.id, True, T0_NS + 7, T0_NS),
        (OTHER_LEADER, 0, shares(-4), end.id, end.id, True, T0_NS + 7, T0_NS),
    ]
    assert len({fact.id for fact in facts}) == 2
    assert set(tracks(state)) == {OTHER_CONDITION}
    assert closed(tick(state)) == [(0, shares(10), "quiet")]


def test_a_resolution_counts_once_and_says_nothing_of_what_nobody_held() -> None:
    state = holding(30)
    assert hear(state, a_fill(condition=OTHER_CONDITION)) != []
    assert len(hear(state, resolved())) == 1
    hear(state, a_fill("late"))
    assert hear(state, resolved()) == []
    assert hear(State(), resolved()) == []
    assert len(hear(state, resolved(2))) == 1


def test_a_resolution_takes_an_open_window_with_it() -> None:
    state = State()
    hear(state, a_fill())
    hear(state, resolved())
    assert kinds(tick(state)) == [WindowNetted]
    assert tracks(state) == {}


def test_what_comes_after_a_resolution_still_counts() -> None:
    state = holding(30)
    hear(state, resolved())
    hear(state, an_act("REDEEM"))
    assert tracks(state) == {}
    hear(state, a_fill("late"))
    assert closed(tick(state)) == [(0, shares(10), "quiet")]
    hear(state, an_act("REDEEM", "again"))
    assert tracks(state) == {}


def test_that_a_market_is_over_is_known_for_a_week() -> None:
    state = holding(30)
    hear(state, resolved())
    hear(state, a_fill("later", condition=OTHER_CONDITION, ts_ns=T0_NS + SETTLED_NS))
    assert state.settled == {CONDITION: T0_NS}
    late_ns = T0_NS + SETTLED_NS + 120 * NS_PER_S
    hear(state, a_fill("too late", condition=OTHER_CONDITION, ts_ns=late_ns))
    assert state.settled == {}


# --- conversions ------------------------------------------------------------------------------


def test_a_conversion_is_remembered_by_its_time() -> None:
    state = holding(30)
    (fact,) = hear(state, an_act("CONVERSION", ts_ns=T0_NS + 5))
    hear(state, an_act("CONVERSION", "earlier", ts_ns=T0_NS + 3))
    assert isinstance(fact, FillCounted)
    assert is_conversion(fact)
    assert state.leaders[LEADER].converted_ns == T0_NS + 5
    assert tracks(state)[CONDITION].yes == shares(30)


def test_nothing_else_looks_like_a_conversion() -> None:
    for message in (a_fill(), an_act("SPLIT"), an_act("MERGE"), an_act("REDEEM"), resolved()):
        state = holding(30, 40)
        facts = hear(state, message)
        assert [is_conversion(f) for f in facts if isinstance(f, FillCounted)] == [False]
        assert state.leaders[LEADER].converted_ns == 0


# --- upgrades ----------------------------------------------------------------------------------


def test_a_snapshot_of_another_shape_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `tracks`"):
        msgspec.json.decode(b'{"tracks": {}, "counted": {}}', type=State)
