"""Corrections converge, copy no entry, and believe nothing that one snapshot alone says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.snapshots import LAG_NS
from shared.domain.ids import ConditionId
from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderCorrected,
    LeaderDriftSuspected,
)
from shared.domain.units import DUST, MICRO, NS_PER_S, Shares
from tests.support.builders import CONDITION, LEADER, OTHER_CONDITION, T0_NS
from tests.unit.aggregator.aggregator_lives import (
    AMPLE,
    POLICIES,
    Deed,
    Live,
    live,
    lives,
    look,
)

law = settings(max_examples=100, deadline=None)
LIVED_NS = T0_NS + 3_600 * NS_PER_S  # every life is over by then, and has been for long
PERIOD_NS = 120 * NS_PER_S

deeds_of_a_life = lives("BUY", "SELL", "SPLIT", "MERGE", "CONVERSION")
begun_with = st.sampled_from((Shares(0), Shares(30 * MICRO), AMPLE))
held = st.one_of(st.just(0), st.integers(1, 2 * DUST), st.integers(1, 60 * MICRO)).map(Shares)
Holdings = list[tuple[ConditionId, Shares, Shares]]
snapshots = st.tuples(held, held, held, held).map(
    lambda four: [(CONDITION, *four[:2]), (OTHER_CONDITION, *four[2:])]
)


def seen(life: Live, holdings: Holdings, period: int, *, complete: bool = True) -> list[Fact]:
    """Compare the snapshot of a period with what is believed."""
    now_ns = LIVED_NS + period * PERIOD_NS
    shown = [each for each in holdings if each[1] or each[2]]
    return life.hear(look(now_ns, *shown, leader=LEADER, complete=complete), now_ns)


def believed(life: Live) -> Holdings:
    tracks = ((each, life.track(LEADER, each)) for each in (CONDITION, OTHER_CONDITION))
    return [(condition, track.yes, track.no) for condition, track in tracks]


def followed(life: Live) -> list[int]:
    return [life.track(LEADER, each).followed for each in (CONDITION, OTHER_CONDITION)]


@law
@given(deeds_of_a_life, begun_with, snapshots)
def test_two_equal_snapshots_are_believed_and_the_third_is_silent(
    deeds: list[Deed], begun: Shares, holdings: Holdings
) -> None:
    life = live(deeds, begun)
    assert all(isinstance(fact, LeaderDriftSuspected) for fact in seen(life, holdings, 0))
    seen(life, holdings, 1)
    for (_, yes, no), (_, held_yes, held_no) in zip(believed(life), holdings, strict=True):
        assert abs(yes - held_yes) < DUST
        assert abs(no - held_no) < DUST
    assert seen(life, holdings, 2) == []
    assert life.state.leaders[LEADER].doubts == {}


@law
@given(deeds_of_a_life, begun_with, snapshots, snapshots)
def test_one_snapshot_moves_nothing(
    deeds: list[Deed], begun: Shares, one: Holdings, another: Holdings
) -> None:
    life = live(deeds, begun)
    before = believed(life)
    seen(life, one, 0)
    seen(life, another, 1)
    for was, now, first, second in zip(before, believed(life), one, another, strict=True):
        assert was == now or first == second


@law
@given(deeds_of_a_life, begun_with, snapshots)
def test_a_correction_never_leads_into_a_position(
    deeds: list[Deed], begun: Shares, holdings: Holdings
) -> None:
    life = live(deeds, begun)
    for period in (0, 1):
        for fact in seen(life, holdings, period):
            if isinstance(fact, IntentFormed):
                assert fact.before * fact.after >= 0
                assert abs(fact.after) < abs(fact.before)
                assert fact.closed_by == "reduction"


@law
@given(deeds_of_a_life, begun_with, snapshots)
def test_who_holds_less_of_what_is_followed_is_followed(
    deeds: list[Deed], begun: Shares, holdings: Holdings
) -> None:
    """After a correction, no more is followed than he holds, but for what was left before."""
    life = live(deeds, begun)
    left = [
        abs(life.track(LEADER, each).exposure - was)
        for each, was in zip((CONDITION, OTHER_CONDITION), followed(life), strict=True)
    ]
    seen(life, holdings, 0)
    seen(life, holdings, 1)
    dust = POLICIES.of(LEADER).dust
    for condition, now, rest in zip(
        (CONDITION, OTHER_CONDITION), followed(life), left, strict=True
    ):
        exposure = life.track(LEADER, condition).exposure
        assert abs(exposure - now) < max(dust, rest + 1)


@law
@given(deeds_of_a_life, begun_with, snapshots)
def test_what_was_counted_and_what_was_corrected_is_all_there_is(
    deeds: list[Deed], begun: Shares, holdings: Holdings
) -> None:
    life = live(deeds, begun)
    seen(life, holdings, 0)
    seen(life, holdings, 1)
    for condition, yes, no in believed(life):
        moves = [
            (fact.yes, fact.no)
            for fact in life.said
            if isinstance(fact, FillCounted | LeaderCorrected)
            and (fact.leader, fact.condition) == (LEADER, condition)
        ]
        assert (sum(m[0] for m in moves), sum(m[1] for m in moves)) == (yes, no)


@law
@given(deeds_of_a_life, begun_with, snapshots)
def test_a_snapshot_that_breaks_off_takes_nothing_away_that_it_does_not_show(
    deeds: list[Deed], begun: Shares, holdings: Holdings
) -> None:
    life = live(deeds, begun)
    before = believed(life)
    for period in (0, 1):
        seen(life, holdings, period, complete=False)
    for (_, yes, no), (_, now_yes, now_no), (_, shown_yes, shown_no) in zip(
        before, believed(life), holdings, strict=True
    ):
        assert shown_yes or now_yes == yes
        assert shown_no or now_no == no


@law
@given(deeds_of_a_life, snapshots, st.integers(-LAG_NS, LAG_NS))
def test_what_is_just_done_is_not_compared(
    deeds: list[Deed], holdings: Holdings, off_ns: int
) -> None:
    """Neither shortly before the snapshot was taken, nor after."""
    life = live(deeds, AMPLE)
    for condition in (CONDITION, OTHER_CONDITION):
        life.track(LEADER, condition).venue_ns = LIVED_NS - 1 + off_ns
    assert seen(life, holdings, 0) == []
