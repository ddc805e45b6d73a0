"""What the venue says a leader holds against the fold: doubted first, then believed."""

from typing import Any, Literal

import pytest

from services.aggregator.core import Look, Policies, State
from services.aggregator.snapshots import AGE_NS_MAX, CONVERSION_NS, LAG_NS
from services.aggregator.state import NOWHERE, SURE_NS, is_conversion
from shared.domain.ids import ConditionId, content_id
from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderCorrected,
    LeaderDriftCleared,
    LeaderDriftSuspected,
    MarketResolved,
    WindowNetted,
)
from shared.domain.units import DUST, NS_PER_S, ZERO_SHARES, Price, Shares, Usd
from shared.domain.views import LeaderView
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
    POLICY,
    a_policy,
    closed,
    hear,
    holding,
    kinds,
    tick,
    tracks,
)

FIRST_NS = 120 * NS_PER_S  # after the beginning, as all times here
SECOND_NS = 240 * NS_PER_S
PATIENT = a_policy(quiet_ns=600 * NS_PER_S, flush_on_reduction=False)

Held = tuple[ConditionId, float, float]


def a_view(*holdings: Held, after_ns: int = FIRST_NS, **fields: Any) -> LeaderView:
    """Return a snapshot that was taken ``after_ns`` from the beginning."""
    told: dict[str, Any] = {
        "leader": LEADER,
        "as_of_ns": T0_NS + after_ns,
        "read_ns": T0_NS + after_ns,
        "value": None if holdings else Usd(0),
        "holdings": tuple((c, shares(yes), shares(no)) for c, yes, no in holdings),
        "complete": True,
    }
    return LeaderView(**(told | fields))


def look(
    state: State,
    *holdings: Held,
    after_ns: int = FIRST_NS,
    policies: Policies = POLICY,
    **fields: Any,
) -> list[Fact]:
    """Compare a snapshot a moment after it was taken."""
    view = a_view(*holdings, after_ns=after_ns, **fields)
    now_ns = after_ns + NS_PER_S
    return hear(state, Look(T0_NS + now_ns, (view,)), now_ns, policies=policies)


def insist(state: State, *holdings: Held, policies: Policies = POLICY) -> list[Fact]:
    """Return what the second of two equal snapshots leads to."""
    assert kinds(look(state, *holdings, policies=policies)) == [LeaderDriftSuspected]
    return look(state, *holdings, after_ns=SECOND_NS, policies=policies)


def corrections(facts: list[Fact]) -> list[tuple[int, int]]:
    return [(f.yes, f.no) for f in facts if isinstance(f, LeaderCorrected)]


# --- doubt ------------------------------------------------------------------------------------


def test_what_agrees_is_not_worth_a_word() -> None:
    state = holding(30, 20)
    assert look(state, (CONDITION, 30, 20)) == []
    assert look(State(), (CONDITION, 30, 20)) == []  # of whom nothing was counted yet


def test_a_difference_is_doubted_first() -> None:
    state = holding(30, 20)
    (fact,) = look(state, (CONDITION, 30, 5))
    assert isinstance(fact, LeaderDriftSuspected)
    assert (fact.leader, fact.condition) == (LEADER, CONDITION)
    assert fact.believed == (shares(30), shares(20))
    assert fact.observed == (shares(30), shares(5))
    assert (fact.probable_cause, fact.as_of_ns) == ("transfer_or_lost_activity", T0_NS + FIRST_NS)
    assert (fact.cause, fact.root) == ("", fact.id)
    assert tracks(state)[CONDITION].no == shares(20)


def test_a_snapshot_taken_before_the_doubt_settles_nothing() -> None:
    state = holding(30)
    look(state, (CONDITION, 10, 0))
    for holdings in ((CONDITION, 10, 0), (CONDITION, 30, 0), (CONDITION, 5, 0)):
        assert look(state, holdings) == []
        assert look(state, holdings, after_ns=FIRST_NS + NS_PER_S) == []
    assert kinds(look(state, (CONDITION, 10, 0), after_ns=FIRST_NS + NS_PER_S + 1)) == [
        LeaderCorrected, IntentFormed,
    ]  # fmt: skip


def test_a_doubt_is_cleared_by_the_snapshot_that_agrees() -> None:
    state = holding(30)
    (doubt,) = look(state, (CONDITION, 10, 0))
    (fact,) = look(state, (CONDITION, 30, 0), after_ns=SECOND_NS)
    assert isinstance(fact, LeaderDriftCleared)
    assert (fact.cause, fact.root, fact.leader) == (doubt.id, doubt.id, LEADER)
    assert state.leaders[LEADER].doubts == {}
    assert look(state, (CONDITION, 30, 0), after_ns=2 * SECOND_NS) == []


def test_a_doubt_is_cleared_by_the_activity_that_was_missing() -> None:
    state = holding(30)
    look(state, (CONDITION, 10, 0))
    hear(state, a_fill(side="SELL", size=shares(20)))
    tick(state)
    assert kinds(look(state, (CONDITION, 10, 0), after_ns=SECOND_NS)) == [LeaderDriftCleared]


@pytest.mark.parametrize("change", ["observed", "believed"])
def test_what_changes_between_two_snapshots_is_doubted_anew(change: str) -> None:
    state = holding(30)
    look(state, (CONDITION, 10, 0))
    if change == "believed":
        hear(state, a_fill(side="SELL"))
    second = (CONDITION, 10 if change == "believed" else 12, 0)
    assert kinds(look(state, second, after_ns=SECOND_NS)) == [LeaderDriftSuspected]
    assert kinds(look(state, second, after_ns=2 * SECOND_NS))[0] is LeaderCorrected


def test_dust_is_no_difference() -> None:
    almost = shares(30) - DUST + 1
    for policies, held in ((POLICY, almost / 1e6), (a_policy(dust=shares(5)), 26)):
        assert look(holding(30), (CONDITION, held, 0), policies=policies) == []
    for policies, held in ((POLICY, 29.99), (a_policy(dust=ZERO_SHARES), 29.99)):
        assert len(look(holding(30), (CONDITION, held, 0), policies=policies)) == 1


@pytest.mark.parametrize(
    ("filled_ns", "is_told"),
    [
        (FIRST_NS - LAG_NS - 1, True),
        (FIRST_NS - LAG_NS, False),
        (FIRST_NS - 1, False),
        (FIRST_NS + 1, False),
    ],
)
@pytest.mark.parametrize("leaves", [False, True])
def test_what_was_just_traded_is_not_compared(
    filled_ns: int, *, is_told: bool, leaves: bool
) -> None:
    state = holding(30)
    size = shares(30 if leaves else 10)
    hear(state, a_fill(side="SELL", size=size, ts_ns=T0_NS + filled_ns))
    tick(state)
    assert (CONDITION in tracks(state)) is not leaves
    assert bool(look(state, (CONDITION, 77, 0))) is is_told


def test_a_snapshot_far_behind_the_lane_proves_nothing() -> None:
    for behind_ns, told in ((AGE_NS_MAX, 1), (AGE_NS_MAX + 1, 0)):
        state = holding(30)
        hear(state, a_fill(leader=OTHER_LEADER, ts_ns=T0_NS + FIRST_NS + behind_ns))
        assert len(look(state, (CONDITION, 10, 0))) == told


def test_a_snapshot_that_breaks_off_proves_only_what_it_holds() -> None:
    state = holding(30, 20)
    hear(state, a_fill(condition=OTHER_CONDITION))
    assert look(state, (CONDITION, 30, 0), complete=False) == []
    assert look(state, (CONDITION, 0, 20), complete=False) == []
    (fact,) = look(state, (CONDITION, 10, 0), complete=False)
    assert isinstance(fact, LeaderDriftSuspected)
    assert fact.observed == (shares(10), shares(20))


def test_an_empty_snapshot_is_believed_only_if_it_is_worth_nothing_too() -> None:
    state = holding(30)
    assert look(state, value=None) == []
    assert look(state, value=Usd(1)) == []
    assert kinds(look(state, value=Usd(0))) == [LeaderDriftSuspected]


def test_each_leader_is_compared_with_his_own() -> None:
    state = holding(30)
    hear(state, a_baseline((CONDITION, shares(5), ZERO_SHARES), leader=OTHER_LEADER))
    assert look(state, (CONDITION, 5, 0), leader=OTHER_LEADER) == []
    views = (a_view((CONDITION, 1, 0)), a_view((CONDITION, 2, 0), leader=OTHER_LEADER))
    facts = hear(state, Look(T0_NS + FIRST_NS, views))
    assert [f.leader for f in facts if isinstance(f, LeaderDriftSuspected)] == [
        LEADER, OTHER_LEADER,
    ]  # fmt: skip


def test_a_market_that_is_over_is_not_compared_and_its_doubt_is_cleared() -> None:
    state = holding(30)
    look(state, (CONDITION, 10, 0))
    hear(state, an_act("REDEEM"))
    assert kinds(look(state, (CONDITION, 10, 0), after_ns=SECOND_NS)) == [LeaderDriftCleared]
    assert look(state, (CONDITION, 10, 0), after_ns=2 * SECOND_NS) == []


# --- corrections ------------------------------------------------------------------------------


def test_less_than_believed_is_an_intent_of_its_own() -> None:
    state = State()
    hear(state, a_fill("in", size=shares(30), price=Price(640_000)))
    tick(state)
    correction, intent = insist(state, (CONDITION, 10, 0))
    assert isinstance(correction, LeaderCorrected)
    assert (correction.yes, correction.no) == (shares(-20), 0)
    assert (correction.yes_price, correction.root) == (640_000, correction.id)
    assert correction.probable_cause == "transfer_or_lost_activity"
    assert isinstance(intent, IntentFormed)
    assert (intent.before, intent.after, intent.closed_by) == (shares(30), shares(10), "reduction")
    assert (intent.cause, intent.root) == (correction.id, correction.id)
    assert intent.fills == (correction.id,)
    assert (intent.yes_price, intent.notional) == (640_000, 0)
    assert intent.venue_ns == intent.opened_ns == T0_NS + SECOND_NS
    assert tracks(state)[CONDITION].followed == shares(10)
    assert look(state, (CONDITION, 10, 0), after_ns=2 * SECOND_NS) == []


def test_a_reduction_without_a_price_is_judged_at_half_a_dollar() -> None:
    correction, intent = insist(holding(30), (CONDITION, 10, 0))
    assert isinstance(correction, LeaderCorrected)
    assert isinstance(intent, IntentFormed)
    assert (correction.yes_price, intent.yes_price) == (0, 500_000)


def test_a_reduction_takes_the_open_window_with_it() -> None:
    state = holding(30)
    fill = a_fill(size=shares(5), price=Price(640_000))
    hear(state, fill, policies=PATIENT)
    correction, intent = insist(state, (CONDITION, 10, 0), policies=PATIENT)
    assert isinstance(intent, IntentFormed)
    assert (intent.before, intent.after) == (shares(30), shares(10))
    assert (intent.root, intent.fills) == (fill.id, (fill.id, correction.id))
    assert (intent.yes_price, intent.notional) == (640_000, 3_200_000)
    assert (intent.opened_ns, intent.venue_ns) == (T0_NS, T0_NS + SECOND_NS)
    assert state.leaders[LEADER].windows == {}
    assert tick(state, 600 * NS_PER_S, policies=PATIENT) == []


def test_a_holding_that_is_gone_is_an_exit() -> None:
    state = holding(30)
    facts = insist(state)
    assert corrections(facts) == [(shares(-30), 0)]
    assert closed(facts) == [(shares(30), 0, "reduction")]
    assert tracks(state) == {}


def test_more_than_believed_was_held_before() -> None:
    state = State()
    hear(state, a_fill("in"))
    tick(state)
    hear(state, a_fill("dust", size=Shares(7)))
    tick(state, 9 * NS_PER_S)
    facts = insist(state, (CONDITION, 100, 3))
    assert corrections(facts) == [(shares(90) - 7, shares(3))]
    assert closed(facts) == []
    track = tracks(state)[CONDITION]
    assert (track.exposure, track.followed) == (shares(97), shares(97) - 7)
    hear(state, a_fill("more", ts_ns=T0_NS + SECOND_NS), SECOND_NS)
    assert closed(tick(state, 2 * SECOND_NS)) == [(shares(97) - 7, shares(107), "quiet")]


def test_a_market_that_was_never_seen_was_held_before() -> None:
    state = holding(30)
    facts = insist(state, (CONDITION, 30, 0), (OTHER_CONDITION, 0, 8))
    assert corrections(facts) == [(0, shares(8))]
    track = tracks(state)[OTHER_CONDITION]
    assert (track.exposure, track.followed) == (shares(-8), shares(-8))
    assert tick(state, SECOND_NS) == []


def test_on_the_other_side_he_left_the_followed_one_and_the_rest_was_held_before() -> None:
    state = holding(30)
    first, intent, second = facts = insist(state, (CONDITION, 2, 10))
    assert corrections(facts) == [(shares(-28), shares(2)), (0, shares(8))]
    assert closed(facts) == [(shares(30), 0, "reduction")]
    assert isinstance(intent, IntentFormed)
    assert intent.fills == (first.id,)
    assert second.id != first.id
    track = tracks(state)[CONDITION]
    assert (track.yes, track.no, track.followed) == (shares(2), shares(10), shares(-8))
    assert look(state, (CONDITION, 2, 10), after_ns=2 * SECOND_NS) == []


def test_sets_that_are_gone_are_no_intent() -> None:
    state = holding(30, 20)
    facts = insist(state, (CONDITION, 10, 0))
    assert corrections(facts) == [(shares(-20), shares(-20))]
    assert closed(facts) == []


def test_a_deficit_is_mended_and_is_no_intent() -> None:
    state = State()
    hear(state, a_fill(side="SELL"))
    assert kinds(tick(state)) == [WindowNetted]
    facts = insist(state)
    assert corrections(facts) == [(shares(10), 0)]
    assert closed(facts) == []
    assert tracks(state) == {}


@pytest.mark.parametrize(
    ("held", "pending", "observed", "intent", "followed"),
    [
        # (followed, then bought or sold in an open window, then seen) -> intent; followed after
        (10, 4, 12, None, 10),  # the rest of what is pending is still an entry
        (10, 4, 8, (10, 8), 8),
        (10, 4, 20, None, 16),  # the pending entry is all there, six more were held before
        (10, -3, 5, (10, 5), 5),
        (10, -3, 15, None, 18),  # the pending exit is all there
        (10, -15, -2, (10, 0), -2),
        (10, -15, -7, (10, 0), -7),
        (10, -15, 3, None, 13),
        (10, -15, 0, (10, 0), 0),
        (10, -10, -4, (10, 0), -4),
        (0, 4, 6, None, 2),
        (0, 4, 3, None, 0),
        (0, 4, 0, None, 0),
        (0, 4, -3, None, -3),
    ],
)
def test_what_was_not_followed_yet_stays_so(
    held: float,
    pending: float,
    observed: float,
    intent: tuple[float, float] | None,
    followed: float,
) -> None:
    """The same on both sides of the market."""
    for side in (1, -1):
        state = holding(*_pair(side * held))
        outcome: Literal[0, 1] = 0 if side * pending > 0 else 1
        hear(state, a_fill(outcome=outcome, size=shares(abs(pending))), policies=PATIENT)
        facts = insist(state, (CONDITION, *_pair(side * observed)), policies=PATIENT)
        expected = [] if intent is None else [tuple(side * shares(each) for each in intent)]
        assert [(before, after) for before, after, _ in closed(facts)] == expected
        track = tracks(state).get(CONDITION, NOWHERE)
        assert (track.exposure, track.followed) == (
            side * shares(observed),
            side * shares(followed),
        )


def _pair(exposure: float) -> tuple[float, float]:
    return (exposure, 0) if exposure > 0 else (0, -exposure)


def test_a_correction_that_leaves_dust_of_the_followed_is_no_intent() -> None:
    state = State()
    policies = a_policy(dust=shares(5))
    hear(state, a_fill("in", size=shares(20)), policies=policies)
    tick(state, policies=policies)
    hear(state, a_fill("more", size=shares(4)), policies=policies)
    tick(state, 9 * NS_PER_S, policies=policies)
    facts = insist(state, (CONDITION, 18, 0), policies=policies)
    assert corrections(facts) == [(shares(-6), 0)]
    assert closed(facts) == []
    assert tracks(state)[CONDITION].followed == shares(20)


# --- conversions ------------------------------------------------------------------------------


def test_a_conversion_explains_differences_for_a_while() -> None:
    for after_ns, cause in ((0, "conversion"), (1, "transfer_or_lost_activity")):
        state = holding(0, 30)
        hear(state, an_act("CONVERSION", ts_ns=T0_NS + FIRST_NS - CONVERSION_NS - after_ns))
        held = ((CONDITION, 0, 20), (OTHER_CONDITION, 10, 0))
        facts = look(state, *held)
        assert [f.probable_cause for f in facts if isinstance(f, LeaderDriftSuspected)] == [
            cause, cause,
        ]  # fmt: skip


def test_a_conversion_is_corrected_as_all_else() -> None:
    state = holding(0, 30)
    hear(state, an_act("CONVERSION"))
    held = ((CONDITION, 0, 20), (OTHER_CONDITION, 10, 0))
    look(state, *held)
    facts = look(state, *held, after_ns=SECOND_NS)
    assert closed(facts) == [(shares(-30), shares(-20), "reduction")]
    assert {f.probable_cause for f in facts if isinstance(f, LeaderCorrected)} == {"conversion"}
    assert tracks(state)[OTHER_CONDITION].followed == shares(10)


# --- what is late -----------------------------------------------------------------------------


def test_a_fill_that_a_correction_already_holds_moves_nothing() -> None:
    state = holding(30)
    insist(state, (CONDITION, 40, 0))
    lost = a_fill("lost", ts_ns=T0_NS + FIRST_NS - LAG_NS)
    (fact,) = hear(state, lost, SECOND_NS)
    assert isinstance(fact, FillCounted)
    assert (fact.yes, fact.no, fact.notional, fact.cause) == (0, 0, 5_000_000, lost.id)
    assert not is_conversion(fact)
    assert tracks(state)[CONDITION].exposure == shares(40)
    assert tick(state, 2 * SECOND_NS) == []
    hear(state, a_fill("new", ts_ns=T0_NS + FIRST_NS - LAG_NS + 1), SECOND_NS)
    assert tracks(state)[CONDITION].exposure == shares(50)


def test_a_fill_that_an_exit_already_holds_moves_nothing() -> None:
    state = holding(30)
    insist(state)
    hear(state, a_fill("lost", side="SELL", size=shares(30)), SECOND_NS)
    assert tracks(state) == {}
    hear(state, a_fill("new", ts_ns=T0_NS + SECOND_NS), SECOND_NS)
    assert closed(tick(state, 2 * SECOND_NS)) == [(0, shares(10), "quiet")]


def test_what_a_correction_holds_is_known_for_a_day() -> None:
    state = holding(30)
    insist(state, (CONDITION, 40, 0))
    assert state.leaders[LEADER].sure == {CONDITION: T0_NS + FIRST_NS - LAG_NS}
    late_ns = T0_NS + FIRST_NS + SURE_NS + 120 * NS_PER_S
    hear(state, a_fill(condition=OTHER_CONDITION, ts_ns=late_ns))
    assert state.leaders[LEADER].sure == {}


def test_a_resolution_after_a_doubt_leaves_nothing_to_correct() -> None:
    state = holding(30)
    look(state, (CONDITION, 10, 0))
    id_ = content_id("market_resolved", CONDITION)
    payouts = (Price(0), Price(1_000_000))
    hear(
        state,
        MarketResolved(
            id=id_, cause="", root=id_, ts_ns=T0_NS, condition=CONDITION, payouts=payouts
        ),
    )
    assert kinds(look(state, after_ns=SECOND_NS)) == [LeaderDriftCleared]
