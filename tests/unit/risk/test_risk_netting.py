"""Leaders who disagree: the account trades their difference, each keeps a book of his own."""

from typing import Any

import msgspec
import pytest

from services.risk.policy import Policy, Sizing
from services.risk.state import UNATTRIBUTED, Marks, Reconsider, State, at_risk, tradable
from shared.domain.messages import EquityMarked, HoldingChanged, LeadersNetted
from shared.domain.units import Price
from tests.support.risk_builders import (
    HEARD,
    LEADER,
    NO,
    NOW_NS,
    OTHER,
    YES,
    approval_in,
    book,
    cents,
    condition,
    correction,
    execute,
    failed,
    fill,
    held,
    holding,
    intent,
    kinds,
    policy,
    reconsider,
    reduce_only,
    refusal_in,
    review,
    seconds,
    shares,
    step,
    usd,
    view,
)

BIG = Sizing(mode="proportional", ratio_bps=10_000, leader_usd_max=usd(1_000))  # type: ignore[arg-type]
WHOLE: Policy = policy(
    sizing=BIG, trade_usd_max=usd(1_000), market_usd_max=usd(1_000), event_usd_max=usd(1_000)
)


def asked(state: State, now_ns: int = NOW_NS) -> list[Any]:
    return step(state, reconsider(state, now_ns, rules=WHOLE), now_ns, rules=WHOLE)


def books(*, bid: float = 49, ask: float = 52) -> Any:
    yes = book(bid=bid, ask=ask)
    no = book(bid=100 - ask, ask=100 - bid, token=NO)
    return view(books=(yes, no))


def cash(facts: list[Any]) -> int:
    """Return realised - cost + sets of what facts moved: the dollars that came in."""
    moved = [fact for fact in facts if isinstance(fact, HoldingChanged)]
    return sum(fact.realised - fact.cost + fact.crossed for fact in moved)


def anna_and_ben() -> tuple[State, list[Any]]:
    """Anna holds 100 YES at 50 cents; Ben is to hold 60 NO because of what he bought."""
    state = holding(100)
    facts = step(
        state,
        review(intent(0, -60, name="ben", leader=OTHER, yes_price=cents(48)), books()),
        rules=WHOLE,
    )
    return state, facts


def test_an_entry_against_another_leader_is_a_sale_of_what_he_holds() -> None:
    """The example of docs/risk.md, to the cent."""
    state, facts = anna_and_ben()
    order = approval_in(facts)
    assert (order.token, order.side, order.size, order.nets) == (YES, "SELL", shares(60), True)
    assert (order.worst_usd, order.market_usd, order.reduces) == (0, 0, False)
    assert order.leader_usd == shares(60) - 60 * order.limit  # a set is a dollar
    moved = execute(state, order, at=cents(49))
    assert held(state) == (shares(100), 0)
    assert held(state, leader=OTHER) == (0, shares(60))
    assert state.held[f"{OTHER}|{condition()}"].cost == usd(30.60)
    assert state.crossed == {condition(): shares(60)}
    assert tradable(state, condition(), 0) == shares(40)
    assert tradable(state, condition(), 1) == 0
    assert at_risk(state) == {condition(): usd(20.60)}
    assert cash(moved) == usd(29.40)


def test_an_exit_is_sold_as_far_as_it_is_there_and_bought_for_the_rest() -> None:
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    sale = approval_in(step(state, review(intent(100, 0, name="out"), books()), rules=WHOLE))
    assert (sale.token, sale.side, sale.size, sale.nets) == (YES, "SELL", shares(40), False)
    execute(state, sale, at=cents(49), trade="out")
    later = NOW_NS + seconds(2)
    buy = approval_in(asked(state, later))
    assert (buy.token, buy.side, buy.size) == (NO, "BUY", shares(60))
    assert (buy.nets, buy.reduces) == (True, True)
    moved = execute(state, buy, at=cents(51), trade="ends")
    assert cash(moved) == -usd(30.60)
    assert (held(state), held(state, leader=OTHER)) == ((0, 0), (0, shares(60)))
    assert state.crossed == {}
    assert tradable(state, condition(), 1) == shares(60)  # Ben's side is real now


def test_what_one_gives_up_another_takes_and_no_dollar_moves() -> None:
    state = holding(100)
    blind = view(books=(None, None))
    step(state, review(intent(100, 50, name="out"), blind), rules=WHOLE)
    facts = step(
        state,
        review(intent(0, 30, name="in", leader=OTHER, yes_price=cents(51)), books(bid=49, ask=52)),
        rules=WHOLE,
    )
    assert kinds(facts) == ["TargetSet", "LeadersNetted", "HoldingChanged", "HoldingChanged"]
    netted = facts[1]
    assert (netted.more, netted.less, netted.shares) == (OTHER, LEADER, shares(30))
    assert netted.yes_price == Price(505_000)
    assert cash(facts) == 0
    assert held(state) == (shares(70), 0)
    assert held(state, leader=OTHER) == (shares(30), 0)
    gains = {fact.leader: fact.realised for fact in facts[2:]}
    assert gains == {OTHER: 0, LEADER: usd(0.15)}  # half a cent above what they had cost
    assert state.crossed == {}


def test_two_exits_end_the_sets_that_they_held_together() -> None:
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    blind = view(books=(None, None))
    step(state, review(intent(100, 0, name="out"), blind), rules=WHOLE)
    facts = step(state, review(intent(-60, 0, name="off", leader=OTHER), books()), rules=WHOLE)
    netted = next(fact for fact in facts if isinstance(fact, LeadersNetted))
    assert netted.shares == shares(60)
    assert cash(facts) == 0
    assert state.crossed == {}
    assert (held(state), held(state, leader=OTHER)) == ((shares(40), 0), (0, 0))


@pytest.mark.parametrize("bid", [None, 49])
def test_nothing_is_settled_between_leaders_without_two_sides_to_a_mid(bid: float | None) -> None:
    state = holding(100)
    blind = view(books=(None, None))
    step(state, review(intent(100, 50, name="out"), blind), rules=WHOLE)
    one_sided = view(books=(book(bid=bid, ask=None if bid else 52), book(bid=48, ask=51, token=NO)))
    formed = intent(0, 30, name="in", leader=OTHER, yes_price=cents(51))
    facts = step(state, review(formed, one_sided), rules=WHOLE)
    assert "LeadersNetted" not in kinds(facts)


def test_an_entry_that_may_not_be_made_is_not_made_of_another_leader_either() -> None:
    state = holding(100)
    blind = view(books=(None, None))
    step(state, review(intent(100, 50, name="out"), blind), rules=WHOLE)
    old = intent(0, 30, name="in", leader=OTHER, venue_ns=NOW_NS - seconds(31))
    facts = step(state, review(old, books()), rules=WHOLE)
    assert kinds(facts) == ["TargetSet", "OrderRefused"]
    assert refusal_in(facts).reason == "FILL_TOO_OLD"


def test_an_expired_entry_is_no_side_to_trade_with() -> None:
    state = holding(100)
    blind = view(books=(None, None))
    step(state, review(intent(0, -50, name="ben", leader=OTHER), blind), rules=WHOLE)
    later = NOW_NS + seconds(60)
    formed = intent(100, 150, name="more", venue_ns=later)
    facts = step(state, review(formed, view(now_ns=later)), later, rules=WHOLE)
    assert "LeadersNetted" not in kinds(facts)
    assert approval_in(facts).side == "BUY"


def test_only_reducing_lets_exits_settle_and_no_entry() -> None:
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    step(state, reduce_only())
    blind = view(books=(None, None))
    step(state, review(intent(100, 0, name="out"), blind), rules=WHOLE)
    facts = step(state, review(intent(-60, 0, name="off", leader=OTHER), books()), rules=WHOLE)
    assert "LeadersNetted" in kinds(facts)
    refused = refusal_in(
        step(state, review(intent(0, 20, name="in", leader=OTHER), books()), rules=WHOLE)
    )
    assert refused.reason == "REGIME_REDUCE_ONLY"


def test_an_exit_that_must_be_bought_waits_while_only_reducing() -> None:
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    step(state, reduce_only())
    formed = intent(-60, 0, name="off", leader=OTHER)
    refused = refusal_in(step(state, review(formed, books()), rules=WHOLE))
    assert (refused.reason, refused.side, refused.final) == ("REGIME_REDUCE_ONLY", "BUY", False)


def test_a_failed_settlement_takes_the_set_back() -> None:
    state, facts = anna_and_ben()
    order = approval_in(facts)
    filled = fill(order, at=cents(49))
    execute(state, order, at=cents(49))
    undone = step(state, failed(filled), rules=WHOLE)
    assert cash(undone) == -usd(29.40)
    assert (state.crossed, held(state), held(state, leader=OTHER)) == ({}, (shares(100), 0), (0, 0))


def test_a_fill_that_comes_after_the_sets_ended_otherwise_is_booked_as_what_it_is() -> None:
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    sale = approval_in(step(state, review(intent(100, 0, name="out"), books()), rules=WHOLE))
    execute(state, sale, at=cents(49), trade="out")
    buy = approval_in(asked(state, NOW_NS + seconds(2)))
    execute(state, buy, at=cents(51), trade="ends")
    late = step(state, fill(buy, shares(5), at=cents(51), trade="late"), rules=WHOLE)
    change = late[0]
    assert (change.token, change.shares, change.crossed) == (NO, shares(5), 0)
    assert held(state) == (0, shares(5))  # to be sold again: nobody wanted it


def test_what_nobody_caused_is_never_sold_for_anyone() -> None:
    state = State()
    step(state, correction(100))
    assert held(state, leader=UNATTRIBUTED) == (shares(100), 0)
    facts = step(
        state, review(intent(0, -60, leader=OTHER, yes_price=cents(48)), books()), rules=WHOLE
    )
    order = approval_in(facts)
    assert (order.token, order.side, order.nets) == (NO, "BUY", False)


def test_an_entry_never_leaves_another_too_few_to_sell() -> None:
    """Of 62 shares 60 could be sold, but the two that stay could never be."""
    state = holding(62)
    formed = intent(0, -60, name="ben", leader=OTHER, yes_price=cents(48))
    order = approval_in(step(state, review(formed, books()), rules=WHOLE))
    assert (order.token, order.side, order.nets) == (NO, "BUY", False)


def test_an_exit_that_is_bought_counts_the_side_that_stands_alone() -> None:
    """Anna's gain is realised, so Ben's cost is what the market may still lose."""
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    tight = msgspec.structs.replace(
        WHOLE, market=msgspec.structs.replace(WHOLE.market, usd=usd(25))
    )
    sale = approval_in(step(state, review(intent(100, 0, name="out"), books()), rules=WHOLE))
    execute(state, sale, at=cents(49), trade="out")
    assert at_risk(state) == {condition(): usd(0.60)}
    later = NOW_NS + seconds(2)
    buy = approval_in(step(state, reconsider(state, later, rules=tight), later, rules=tight))
    assert buy.size < shares(60)
    assert buy.market_usd is not None
    assert at_risk(state)[condition()] <= usd(25)


def test_the_estimate_of_an_order_that_nets_is_compared_in_its_own_price() -> None:
    state, facts = anna_and_ben()
    order = approval_in(facts)
    assert order.quote.average == cents(49)
    ended = execute(state, order, at=cents(48))[-1]
    assert ended.slippage_bps == 205  # a cent of 49, rounded against us
    assert dict(ended.slippage)[OTHER] > 0


@pytest.mark.parametrize("change", [(-60, 0), (-60, -100)])
def test_a_side_whose_book_nobody_has_does_not_trade(change: tuple[int, int]) -> None:
    """Neither as the one who leaves his NO, nor as the one who adds to it."""
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    blind = view(books=(None, None))
    step(state, review(intent(100, 0 if change[1] == 0 else 200, name="a"), blind), rules=WHOLE)
    half_blind = view(books=(book(bid=49, ask=52), None))
    formed = intent(*change, name="b", leader=OTHER, yes_price=cents(48))
    facts = step(state, review(formed, half_blind), rules=WHOLE)
    assert "LeadersNetted" not in kinds(facts)


def test_only_so_many_ended_orders_are_remembered() -> None:
    state, facts = anna_and_ben()
    state.netting = {f"older {n}": NO for n in range(1_000)}
    order = approval_in(facts)
    execute(state, order, at=cents(49))
    assert len(state.netting) == 1_000
    assert order.id in state.netting
    assert "older 0" not in state.netting


def test_profit_counts_both_sides_and_the_sets_between_them() -> None:
    """40 YES are left at 49 cents; of $80.60 paid for both books 60 are sets: a dollar is lost."""
    state, facts = anna_and_ben()
    execute(state, approval_in(facts), at=cents(49))
    marks = Marks(collateral=usd(900), bids={condition(): (cents(49), cents(48))})
    (mark,) = step(state, Reconsider(now_ns=NOW_NS, views={}, feeds=HEARD, marks=marks))
    assert isinstance(mark, EquityMarked)
    assert (mark.value, mark.profit) == (usd(19.60), -usd(1))
