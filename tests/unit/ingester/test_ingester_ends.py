"""Given the markets leaders were in and the end of one: said once a lane, and remembered."""

import msgspec
import pytest

from services.ingester import core
from services.ingester.core import Settled, State
from shared.domain.ids import ConditionId, content_id
from shared.domain.messages import Fact, MarketResolved
from shared.domain.observations import Activity
from shared.domain.units import Price
from shared.runtime.runner import encode_state
from tests.support.builders import (
    CONDITION,
    OTHER_CONDITION,
    OTHER_LEADER,
    a_baseline,
    a_trade,
    an_action,
    shares,
)
from tests.unit.ingester.test_ingester_core import POLICY, SEEN_NS, a_read, a_state, frame, hear

WON = (Price(1_000_000), Price(0))


def the_end(condition: ConditionId = CONDITION, seen_ns: int = SEEN_NS) -> Settled:
    return Settled(partition=7, condition=condition, payouts=WON, seen_ns=seen_ns)


def a_market_number(number: int) -> ConditionId:
    return ConditionId(f"0x{number:064x}")


def test_the_end_of_a_leader_s_market_is_said_once() -> None:
    state = a_state()
    hear(state, frame(a_trade()))
    assert state.open == {CONDITION}
    (fact,) = hear(state, the_end())
    assert isinstance(fact, MarketResolved)
    assert (fact.condition, fact.payouts, fact.ts_ns) == (CONDITION, WON, SEEN_NS)
    assert fact.id == fact.root == content_id("market_resolved", 7, CONDITION)
    assert (state.open, state.resolved) == (set(), {CONDITION: SEEN_NS})
    assert hear(state, the_end()) == []


def test_the_end_of_a_market_that_no_leader_was_in_is_not_said() -> None:
    assert hear(a_state(), the_end()) == []
    assert hear(State(), the_end()) == []


@pytest.mark.parametrize("action", ["SPLIT", "MERGE", "REDEEM", "CONVERSION"])
def test_whatever_a_leader_does_in_a_market_its_end_matters(action: str) -> None:
    state = a_state()
    hear(state, frame(an_action(action)))  # type: ignore[arg-type]
    assert len(hear(state, the_end())) == 1


def test_the_end_of_what_was_held_from_the_start_matters() -> None:
    state = State()
    core.evolve(state, a_baseline((CONDITION, shares(1), shares(0))))
    assert len(hear(state, the_end())) == 1


def test_a_leader_s_next_market_is_waited_for_too() -> None:
    state = a_state()
    hear(state, a_read(a_trade(), a_trade(condition=OTHER_CONDITION, number=1)))
    assert state.open == {CONDITION, OTHER_CONDITION}
    hear(state, the_end())
    assert state.open == {OTHER_CONDITION}


@pytest.mark.parametrize("late", [a_trade(number=2), an_action("REDEEM"), an_action("MERGE")])
def test_what_comes_after_the_end_does_not_reopen_a_market(late: Activity) -> None:
    state = a_state()
    hear(state, frame(a_trade()))
    hear(state, the_end())
    assert len(hear(state, a_read(late))) == 1
    core.evolve(state, a_baseline((CONDITION, shares(1), shares(0)), leader=OTHER_LEADER))
    assert hear(state, the_end()) == []


def test_a_restart_says_no_end_twice() -> None:
    """The state is folded from what was said, or decoded from a snapshot: both know it."""
    state, log = a_state(), list[Fact]()
    log += hear(state, frame(a_trade()))
    log += hear(state, the_end())
    folded = a_state()
    for fact in log:
        core.evolve(folded, fact)
    for known in (folded, msgspec.json.decode(encode_state(state), type=State)):
        assert known == state
        assert hear(known, the_end()) == []


def test_a_crash_before_the_end_was_recorded_loses_nothing() -> None:
    state = a_state()
    hear(state, frame(a_trade()))
    (lost,) = core.decide(POLICY, state, the_end(), SEEN_NS)
    (again,) = hear(state, the_end())
    assert again == lost


def test_only_the_latest_ends_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "RESOLVED_MAX", 4)
    state = a_state()
    for number in (3, 1, 5, 2, 4):
        condition = a_market_number(number)
        hear(state, frame(a_trade(condition=condition, number=number)))
        hear(state, the_end(condition, seen_ns=number))
    assert state.resolved == {a_market_number(5): 5, a_market_number(4): 4}


def test_open_markets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "OPEN_MAX", 2)
    state = a_state()
    for number in range(4):
        condition = a_market_number(number)
        assert len(hear(state, frame(a_trade(condition=condition, number=number)))) == 1
    assert state.open == {a_market_number(0), a_market_number(1)}
