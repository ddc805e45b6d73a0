"""A difference is believed when it lasts, reported once, and cleared when it is gone."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reconciler.causes import Known
from services.reconciler.core import (
    Observation,
    Policy,
    State,
    Suspect,
    decide,
    difference,
    evolve,
    view,
)
from services.reconciler.shell import Shell, World
from shared.domain.ids import OrderHash, TokenId
from shared.domain.messages import (
    DriftCleared,
    DriftFound,
    DriftSuspected,
    Fact,
    HaltTrading,
    OrphanFound,
    Tick,
)
from shared.domain.observations import OrderReport, PositionReport
from shared.domain.units import NS_PER_MS, NS_PER_S, Price, Shares, Usd
from shared.domain.views import OpenOrderView, OutsideTrade, PositionsView, PositionView
from shared.runtime.metrics import Metrics
from shared.runtime.runner import encode_state
from tests.support.order_builders import (
    CONDITION,
    NO,
    START_NS,
    WALLET,
    YES,
    kinds,
    only,
    price,
    shares,
)

GRACE_NS = 10 * NS_PER_S
DUST = Shares(10_000)
OTHER = TokenId("99")


def policy(*, confirmations: int = 2) -> Policy:
    return Policy(
        confirmations=confirmations,
        grace_ns=GRACE_NS,
        excuse_ns_max=600 * NS_PER_S,
        dust=DUST,
    )


def held(
    size: int,
    token: TokenId = YES,
    *,
    cost: int = 0,
    unsettled: int = 0,
    changed_ns: int = 0,
    since_ns: int = START_NS,
) -> PositionView:
    return PositionView(
        condition=CONDITION,
        token=token,
        outcome=0 if token == YES else 1,
        shares=Shares(size),
        cost=Usd(cost),
        realised=Usd(0),
        unsettled=Shares(unsettled),
        changed_ns=changed_ns,
        unsettled_since_ns=since_ns if unsettled else 0,
    )


def venue(size: int, token: TokenId = YES, *, at: int = 0, outcome: int = 0) -> PositionReport:
    return PositionReport(
        wallet=WALLET,
        condition=CONDITION,
        token=token,
        outcome=outcome,
        size=Shares(size),
        current_price=Price(at),
    )


def ours(name: str, token: TokenId = YES, *, since_ns: int = START_NS) -> OpenOrderView:
    return OpenOrderView(
        order=OrderHash(name),
        token=token,
        side="BUY",
        price=price(50),
        size=shares(10),
        filled=Shares(0),
        status="accepted",
        since_ns=since_ns,
    )


def theirs(name: str, token: TokenId = YES) -> OrderReport:
    return OrderReport(
        order=OrderHash(name),
        condition=CONDITION,
        token=token,
        side="BUY",
        price=price(50),
        size=shares(10),
        matched=Shares(0),
        status="LIVE",
    )


def seen(
    believed: Iterable[PositionView] = (),
    observed: Iterable[PositionReport] = (),
    *,
    orders: Iterable[OpenOrderView] = (),
    resting: Iterable[OrderReport] = (),
    agreed: int = 1,
    as_of_ns: int = START_NS,
    account_ns: int | None = None,
) -> Observation:
    """Build an observation in which every token's difference was seen ``agreed`` times."""
    believed, observed = tuple(believed), tuple(observed)
    tokens = [entry.token for entry in believed] + [entry.token for entry in observed]
    return Observation(
        as_of_ns=as_of_ns,
        believed=PositionsView(wallet=WALLET, positions=believed, orders=tuple(orders)),
        observed=observed,
        open_orders=tuple(resting),
        agreed=dict.fromkeys(tokens, agreed),
        account_ns=as_of_ns if account_ns is None else account_ns,
    )


def step(state: State, message: object, now_ns: int = START_NS) -> list[Fact]:
    facts = decide(policy(), state, message, now_ns)
    for fact in facts:
        evolve(state, fact)
    return facts


# --- the difference -----------------------------------------------------------------------------


def test_the_difference_is_over_the_union_both_ways() -> None:
    entries = difference(
        policy(),
        seen(
            [held(shares(3), YES), held(shares(5), OTHER)],
            [venue(shares(7), NO, outcome=1), venue(shares(5), OTHER)],
        ),
    )
    assert [(e.token, e.believed, e.observed, e.outcome) for e in entries] == [
        (YES, shares(3), 0, 0),
        (NO, 0, shares(7), 1),
    ]
    assert {e.condition for e in entries} == {CONDITION}


@pytest.mark.parametrize(("gap", "count"), [(DUST - 1, 0), (DUST, 1), (1 - DUST, 0), (-DUST, 1)])
def test_dust_is_no_difference(gap: int, count: int) -> None:
    size = shares(1)
    assert len(difference(policy(), seen([held(size)], [venue(size + gap)]))) == count


def test_an_outcome_beyond_the_two_is_the_second() -> None:
    (entry,) = difference(policy(), seen([], [venue(shares(1), outcome=5)]))
    assert entry.outcome == 1


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)))
@settings(max_examples=50, deadline=None)
def test_belief_never_differs_from_itself_in_any_order_of_pages(
    sizes: dict[str, int],
) -> None:
    rows = [(TokenId(name), shares(size)) for name, size in sizes.items()]
    believed = [held(size, token) for token, size in rows]
    observed = [venue(size, token) for token, size in reversed(rows) if size]
    assert difference(policy(), seen(believed, observed)) == []


# --- what is excused ----------------------------------------------------------------------------


def excused(observation: Observation) -> bool:
    (entry,) = difference(policy(), observation)
    return entry.excused


def test_an_open_order_excuses_its_token_and_no_other() -> None:
    assert excused(seen([], [venue(shares(1))], orders=[ours("a")]))
    assert not excused(seen([], [venue(shares(1))], orders=[ours("a", NO)]))


@pytest.mark.parametrize("unsettled", [shares(1), -shares(1)])
def test_unsettled_fills_excuse_a_difference(unsettled: int) -> None:
    assert excused(seen([held(shares(1), unsettled=unsettled)]))


@pytest.mark.parametrize("age_s", [0, 599, 600, 86_400])
def test_what_never_ends_excuses_nothing_for_ever(age_s: int) -> None:
    """A fill that is retried without end, an order whose end nobody can find."""
    now_ns = START_NS + age_s * NS_PER_S
    stuck = seen([held(shares(5), unsettled=shares(5))], [], as_of_ns=now_ns)
    resting = seen([held(shares(5))], [], orders=[ours("a")], as_of_ns=now_ns)
    assert [excused(stuck), excused(resting)] == [age_s < 600] * 2


def test_a_move_excuses_a_difference_for_the_grace_period() -> None:
    moved = START_NS - GRACE_NS
    assert excused(seen([held(shares(1), changed_ns=moved + 1)]))
    assert not excused(seen([held(shares(1), changed_ns=moved)]))


def test_a_token_sold_out_a_moment_ago_is_excused() -> None:
    assert excused(seen([held(0, changed_ns=START_NS)], [venue(shares(5))]))


def test_a_token_never_heard_of_is_not_excused() -> None:
    assert not excused(seen([], [venue(shares(1))]))


# --- what it is worth ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("believed", "observed", "usd"),
    [
        (held(shares(2), cost=1), venue(shares(6), at=price(25)), 1_000_000),
        (held(shares(4), cost=2_000_000), venue(shares(2)), 1_000_000),
        (held(shares(4), cost=2_000_000), None, 2_000_000),
        (None, venue(shares(3)), 3_000_000),
        (held(0), venue(shares(3)), 3_000_000),
        (held(-shares(3), cost=5), None, 3_000_000),
    ],
)
def test_a_difference_is_priced_by_the_venue_else_by_our_cost_else_at_a_dollar(
    believed: PositionView | None, observed: PositionReport | None, usd: int
) -> None:
    (entry,) = difference(
        policy(), seen([believed] if believed else [], [observed] if observed else [])
    )
    assert entry.usd == usd


# --- suspected, found, cleared ------------------------------------------------------------------


def test_a_difference_is_first_suspected_then_found_once() -> None:
    state = State()
    first = only(step(state, seen([], [venue(shares(5))])), DriftSuspected)
    assert (first.believed, first.observed, first.cause) == (0, shares(5), "")
    again = seen([], [venue(shares(5), at=price(50))], agreed=2)
    found = only(step(state, again, START_NS + 1), DriftFound)
    assert (found.cause, found.root) == (first.id, first.id)
    assert (found.usd, found.first_seen_ns) == (2_500_000, START_NS)
    assert step(state, again) == []
    assert state.corrections == 1


def test_too_few_agreeing_observations_find_nothing() -> None:
    state = State()
    for _ in range(5):
        step(state, seen([], [venue(shares(5))], agreed=1))
    assert state.suspects[YES] == Suspect(
        believed=Shares(0), observed=shares(5), first_seen_ns=START_NS
    )


def test_a_single_observation_is_never_enough() -> None:
    rules = policy(confirmations=1)
    facts = decide(rules, State(), seen([], [venue(shares(5))], agreed=9), START_NS)
    assert kinds(facts) == ["DriftSuspected"]


def test_a_difference_that_changes_starts_over() -> None:
    state = State()
    step(state, seen([], [venue(shares(5))]))
    assert kinds(step(state, seen([], [venue(shares(6))], agreed=2), START_NS + 1)) == [
        "DriftSuspected"
    ]
    assert state.suspects[YES].first_seen_ns == START_NS + 1
    assert kinds(step(state, seen([held(1 * DUST)], [venue(shares(6))]))) == ["DriftSuspected"]


def found(state: State) -> None:
    step(state, seen([], [venue(shares(5))]))
    step(state, seen([], [venue(shares(5))], agreed=2))
    assert state.suspects[YES].found


def test_a_found_drift_is_not_reported_again_until_the_owner_applied_it() -> None:
    state = State()
    found(state)
    assert step(state, seen([], [venue(shares(7))], agreed=9)) == []
    applied = seen([held(shares(5))], [venue(shares(7))])
    assert kinds(step(state, applied)) == ["DriftSuspected"]
    assert not state.suspects[YES].found


def test_a_report_that_met_another_belief_is_made_again() -> None:
    """A fill was booked before the owner heard of it, so he passed over it, and failed after."""
    state = State()
    found(state)
    later = START_NS + GRACE_NS + NS_PER_S
    back = held(0, changed_ns=START_NS + NS_PER_S)
    again = seen([back], [venue(shares(5))], agreed=9, as_of_ns=later)
    first = only(step(state, again, later), DriftSuspected)
    second = only(step(state, again, later + 1), DriftFound)
    assert second.cause == first.id
    assert step(state, again, later + 2) == []


@pytest.mark.parametrize(("waited_s", "said"), [(599, []), (600, ["DriftSuspected"])])
def test_a_report_that_had_no_effect_is_made_again_in_the_end(
    waited_s: int, said: list[str]
) -> None:
    state = State()
    found(state)
    now_ns = START_NS + waited_s * NS_PER_S
    assert kinds(step(state, seen([], [venue(shares(5))], agreed=9), now_ns)) == said


def test_two_drifts_of_a_token_have_different_names() -> None:
    state, names = State(), set()
    for at in (START_NS, START_NS + NS_PER_S):
        step(state, seen([], [venue(shares(5))]), at)
        names.add(only(step(state, seen([], [venue(shares(5))], agreed=2), at), DriftFound).id)
        step(state, seen(), at)
    assert len(names) == 2


@pytest.mark.parametrize("was_found", [True, False])
def test_a_drift_that_is_gone_is_cleared_with_how_long_it_stood(
    was_found: bool,
) -> None:
    state = State()
    if was_found:
        found(state)
    else:
        step(state, seen([], [venue(shares(5))]))
    later = START_NS + 1_500 * NS_PER_MS
    fact = only(step(state, seen([held(shares(5))], [venue(shares(5))]), later), DriftCleared)
    assert (fact.found, fact.duration_ms) == (was_found, 1_500)
    assert state.suspects == {}
    assert state.last_clear_ms == (1_500 if was_found else 0)
    assert step(state, seen()) == []


def test_an_excused_difference_neither_suspects_nor_clears() -> None:
    state = State()
    assert step(state, seen([], [venue(shares(5))], orders=[ours("a")])) == []
    step(state, seen([], [venue(shares(5))]))
    assert step(state, seen([], [venue(shares(5))], orders=[ours("a")], agreed=9)) == []
    assert YES in state.suspects


def test_a_drift_names_its_probable_cause_with_the_evidence() -> None:
    state = State()
    observation = seen([held(shares(5))], [venue(shares(12))], agreed=2)
    by_hand = OutsideTrade(trade="t", token=YES, shares=shares(7), venue_ns=START_NS)
    known = {YES: Known(outside=(by_hand,))}
    step(state, seen([held(shares(5))], [venue(shares(12))]))
    (fact,) = step(state, msgspec.structs.replace(observation, known=known))
    assert isinstance(fact, DriftFound)
    assert fact.probable_cause == "bought_outside"
    assert fact.evidence == "1 trades of orders that are not ours, 7"


def test_a_drift_of_which_nothing_could_be_read_is_found_all_the_same() -> None:
    state = State()
    step(state, seen([held(shares(5))], []))
    (fact,) = step(state, seen([held(shares(5))], [], agreed=2))
    assert isinstance(fact, DriftFound)
    assert fact.probable_cause == "unexplained"
    assert "could not be read" in fact.evidence


# --- orphans ------------------------------------------------------------------------------------


def test_an_order_nobody_owns_is_an_orphan_reported_once() -> None:
    state = State()
    resting = [theirs("a"), theirs("b"), theirs("b")]
    observation = seen(orders=[ours("a")], resting=resting)
    assert only(step(state, observation), OrphanFound).order == "b"
    assert step(state, observation) == []


def test_the_orphans_remembered_are_bounded() -> None:
    state = State()
    step(state, seen(resting=[theirs(str(n)) for n in range(105)]))
    assert len(state.orphans) == 100


# --- the view -----------------------------------------------------------------------------------


def test_the_view_counts_the_dollars_that_are_not_excused() -> None:
    state = State()
    found(state)
    observation = seen(
        [held(shares(3), OTHER, cost=900_000, changed_ns=START_NS)],
        [venue(shares(5)), venue(shares(2), NO)],
    )
    shown = view(policy(), state, observation)
    assert {line.token: line.state for line in shown.lines} == {
        YES: "found",
        NO: "suspected",
        OTHER: "excused",
    }
    assert shown.drift_usd == 7_000_000
    assert (shown.corrections, shown.as_of_ns) == (1, START_NS)


def test_the_view_of_agreement_is_empty_and_keeps_the_last_clearing() -> None:
    state = State()
    found(state)
    step(state, seen(), START_NS + 2_000 * NS_PER_MS)
    shown = view(policy(), state, seen())
    assert (shown.drift_usd, shown.lines, shown.last_clear_ms) == (0, (), 2_000)


# --- the core's form ----------------------------------------------------------------------------


SIZES = st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())


@given(st.lists(SIZES, max_size=20))
@settings(max_examples=150, deadline=None)
def test_an_observation_decided_again_says_nothing_and_the_facts_rebuild_the_state(
    told: list[tuple[int, int, bool]],
) -> None:
    state, rebuilt, counting = State(), State(), shell()
    for n, (believed, observed, is_open) in enumerate(told):
        plain = seen(
            [held(shares(believed))],
            [venue(shares(observed))],
            orders=[ours("a")] if is_open else [],
        )
        message = msgspec.structs.replace(plain, agreed=counting._count(plain))
        before = encode_state(state)
        facts = decide(policy(), state, message, START_NS + n)
        assert encode_state(state) == before
        for fact in facts:
            evolve(state, fact)
            evolve(rebuilt, fact)
        assert step(state, message, START_NS + n) == []
    assert encode_state(state) == encode_state(rebuilt)


def test_messages_of_others_say_nothing() -> None:
    assert step(State(), Tick(now_ns=START_NS)) == []


def test_facts_of_others_are_refused() -> None:
    foreign = HaltTrading(id="h", cause="", root="h", ts_ns=START_NS, reason="", actor="")
    with pytest.raises(AssertionError, match="not a fact of the reconciler"):
        evolve(State(), foreign)


# --- the shell's count --------------------------------------------------------------------------


def shell() -> Shell:
    """Build a shell that is only asked to count: it needs no venue and no store."""
    nothing: Any = None
    world = World(
        venue=nothing, store=nothing, metrics=Metrics("reconciler"), wallet=WALLET,
        interval_s=1.0, account_age_ns_max=NS_PER_S,
    )  # fmt: skip
    return Shell(policy(), world)


def test_observations_that_agree_in_a_row_are_counted_by_token() -> None:
    counting = shell()
    same = seen([held(shares(1))], [venue(shares(2), NO)])
    assert [counting._count(same) for _ in range(3)] == [{YES: n, NO: n} for n in (1, 2, 3)]
    assert counting._count(seen([held(shares(1))], [venue(shares(3), NO)])) == {YES: 4, NO: 1}


def test_an_account_read_before_the_first_sign_confirms_nothing() -> None:
    """A trade by hand may not be in it yet, and would be called a fill that we missed."""
    counting, (mine, theirs) = shell(), ([held(shares(1))], [venue(shares(2))])
    counting._count(seen(mine, theirs, account_ns=START_NS - 1))
    assert counting._count(seen(mine, theirs, account_ns=START_NS - 1)) == {YES: 1}
    assert counting._count(seen(mine, theirs, account_ns=START_NS)) == {YES: 2}


@pytest.mark.parametrize(
    "between",
    [
        seen([held(shares(1))], [venue(shares(1))]),
        seen([held(shares(1))], orders=[ours("a")]),
        seen([held(shares(1))], [venue(shares(3))]),
    ],
    ids=["agreement", "an excuse", "another difference"],
)
def test_whatever_comes_between_starts_the_count_again(between: Observation) -> None:
    counting = shell()
    same = seen([held(shares(1))])
    counting._count(same)
    counting._count(between)
    assert counting._count(same) == {YES: 1}
