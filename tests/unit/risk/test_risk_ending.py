"""A market that is over: everybody's shares are closed at what they pay, and wanted no more."""

import pytest

from services.risk.state import UNATTRIBUTED, Marks, Reconsider, State
from shared.domain.messages import EquityMarked, HoldingChanged, PositionCorrected, TargetSet
from shared.domain.units import Price, Shares
from tests.support.risk_builders import (
    HEARD,
    LEADER,
    NOW_NS,
    OTHER,
    YES,
    approval_in,
    book,
    cents,
    condition,
    correction,
    ended,
    execute,
    held,
    holding,
    intent,
    kinds,
    market,
    policy,
    reconsider,
    review,
    seconds,
    shares,
    step,
    usd,
    view,
)

WON, LOST = (cents(100), cents(0)), (cents(0), cents(100))
HALVES = (cents(50), cents(50))


def end(
    state: State, pays: tuple[Price, Price], yes: float = 0, no: float = 0
) -> list[HoldingChanged]:
    facts = step(state, ended(market(), pays, (shares(yes), shares(no))))
    return [fact for fact in facts if isinstance(fact, HoldingChanged)]


@pytest.mark.parametrize(("pays", "made"), [(WON, 10), (LOST, -10), (HALVES, 0)])
def test_a_leader_gets_what_his_shares_pay(pays: tuple[Price, Price], made: float) -> None:
    state = holding(20)
    cost = state.held[f"{LEADER}|{condition()}"].yes.cost
    (fact,) = end(state, pays, yes=20)
    assert (fact.leader, fact.shares, fact.cost) == (LEADER, shares(-20), -cost)
    assert fact.realised == state.realised == usd(made)
    assert held(state) == (0, 0)


def netted() -> State:
    """Return a state in which Ben's NO was had by selling the YES that Anna holds."""
    state = holding(100)
    yes, no = market().tokens
    books = (book(bid=49, ask=51, token=yes), book(bid=49, ask=51, token=no))
    formed = intent(0, -60, name="ben", leader=OTHER)
    wide = policy(trade_usd_max=usd(1_000), market_usd_max=usd(1_000))
    facts = step(state, review(formed, view(books=books)), rules=wide)
    order = approval_in(facts)
    assert order.nets
    execute(state, order, at=cents(50))
    assert state.crossed[condition()] == order.size
    return state


def test_leaders_netted_against_each_other_end_with_both_sides_and_no_set_is_left() -> None:
    state = netted()
    (_, no) = held(state, leader=OTHER)
    (yes, _) = held(state)
    facts = end(state, WON, yes=(yes - no) / 1_000_000)
    assert {fact.leader: fact.shares for fact in facts} == {LEADER: -yes, OTHER: -no}
    assert sum(fact.crossed for fact in facts) == -no
    assert state.crossed == {}
    made = {fact.leader: fact.realised for fact in facts}
    assert made[LEADER] == yes // 2
    assert made[OTHER] < 0


def test_what_nobody_caused_ends_without_profit() -> None:
    state = State()
    step(state, correction(20))
    (fact,) = end(state, WON, yes=20)
    assert (fact.leader, fact.shares, fact.realised) == (UNATTRIBUTED, shares(-20), 0)


def test_what_was_closed_is_not_bought_again() -> None:
    state = holding(20)
    facts = step(state, ended(market(), WON, (shares(20), Shares(0))))
    (target,) = [fact for fact in facts if isinstance(fact, TargetSet)]
    assert (target.leader, target.target) == (LEADER, 0)
    later = NOW_NS + seconds(5)
    assert "OrderApproved" not in kinds(step(state, reconsider(state, later), later))


def test_another_market_is_left_alone_and_a_second_end_says_nothing() -> None:
    state = holding(20)
    step(state, ended(market(2), WON, (Shares(0), Shares(0))))
    assert held(state) == (shares(20), 0)
    end(state, WON, yes=20)
    assert end(state, WON) == []


def test_a_redeemed_claim_is_nobodys_loss() -> None:
    """The correction names shares of the claim alone: risk closed them before."""
    state = holding(20)
    end(state, WON, yes=20)
    paid = PositionCorrected(
        id="paid", cause="drift", root="drift", ts_ns=NOW_NS, condition=condition(), token=YES,
        outcome=0, shares=Shares(0), reason="redeemed", claim=shares(-20),
    )  # fmt: skip
    assert step(state, paid) == []


def test_claims_are_worth_what_they_pay() -> None:
    state = holding(20)
    end(state, WON, yes=20)
    marks = Marks(collateral=usd(90), claims=usd(20), bids={})
    (mark,) = step(state, Reconsider(now_ns=NOW_NS, views={}, feeds=HEARD, marks=marks))
    assert isinstance(mark, EquityMarked)
    assert (mark.collateral, mark.value, mark.profit) == (usd(90), usd(20), usd(10))
