"""What the executor says is booked to the leaders who caused it, and nothing is counted twice."""

import msgspec
import pytest

from services.risk.state import UNATTRIBUTED, Group, Held, Reservation, State, View, key_of, usage
from shared.domain.messages import HoldingChanged, OrderApproved, ReservationEnded
from shared.domain.observations import Settlement
from shared.domain.positions import Position
from shared.domain.units import Shares, Usd
from tests.support.risk_builders import (
    LEADER,
    NOW_NS,
    OTHER,
    YES,
    approval_in,
    cents,
    closed,
    condition,
    correction,
    declined,
    execute,
    failed,
    fill,
    held,
    holding,
    intent,
    kinds,
    policy,
    reconsider,
    review,
    seconds,
    shares,
    step,
    target_in,
    usd,
)

KEY = key_of(LEADER, condition())


def entered(state: State) -> OrderApproved:
    """Approve the entry of 20 shares at 51 cents or better."""
    return approval_in(step(state, review(intent(0, 100))))


def reserved(state: State) -> int:
    return sum(each.open_usd(each.worst_usd) for each in state.reserved.values())


def at_risk(state: State) -> Usd:
    return usage(state, LEADER, condition(), Group("", "")).total


# --- reservations -----------------------------------------------------------------------------


def test_an_approval_reserves_its_worst_until_it_ends() -> None:
    state = State()
    order = entered(state)
    assert at_risk(state) == reserved(state) == usd(10.2)
    step(state, fill(order, shares(15), at=cents(50)))
    assert (reserved(state), at_risk(state)) == (usd(2.55), usd(7.5 + 2.55))
    (end,) = step(state, closed(order, shares(15), "killed"))
    assert isinstance(end, ReservationEnded)
    assert (end.filled, end.reason, end.leader) == (shares(15), "killed", LEADER)
    assert (reserved(state), at_risk(state)) == (0, usd(7.5))


def test_an_order_of_unknown_outcome_stays_reserved() -> None:
    state = State()
    entered(state)
    late = NOW_NS + seconds(86_400)
    assert step(state, reconsider(state, late), late) == []
    assert reserved(state) == usd(10.2)


def test_a_declined_approval_frees_all_it_reserved() -> None:
    state = State()
    (end,) = step(state, declined(entered(state)))
    assert isinstance(end, ReservationEnded)
    assert (end.filled, end.retry_ns) == (0, NOW_NS + seconds(1))
    assert reserved(state) == 0


def test_an_order_ends_once() -> None:
    state = State()
    order = entered(state)
    step(state, declined(order))
    assert step(state, declined(order)) == []
    assert step(state, closed(order, Shares(0), "killed")) == []


def test_a_failed_fill_of_an_open_order_is_reserved_again() -> None:
    state = State()
    order = entered(state)
    filled = fill(order, shares(15), at=cents(50))
    step(state, filled)
    step(state, failed(filled))
    assert (held(state), reserved(state)) == ((0, 0), usd(10.2))


def test_a_sale_reserves_shares_and_no_dollars() -> None:
    state = holding(20)
    step(state, review(intent(100, 0)))
    (sale,) = state.reserved.values()
    assert (sale.open_usd(sale.worst_usd), sale.signed_left) == (0, -shares(20))


def test_an_order_that_filled_beyond_its_size_reserves_nothing_more() -> None:
    over = Reservation(
        leader=LEADER, condition=condition(), token=YES, outcome=0, side="BUY",
        size=shares(10), worst_usd=usd(5), leader_usd=usd(5), market_usd=usd(5), filled=shares(12),
    )  # fmt: skip
    assert (over.open_usd(over.worst_usd), over.signed_left) == (0, 0)


# --- fills ------------------------------------------------------------------------------------


def test_a_fill_is_booked_with_its_fee_in_the_cost() -> None:
    state = State()
    (change,) = step(state, fill(entered(state), shares(15), at=cents(50), fee=usd(0.2)))
    assert isinstance(change, HoldingChanged)
    assert (change.leader, change.shares, change.cost, change.realised) == (
        LEADER, shares(15), usd(7.7), 0,
    )  # fmt: skip
    assert state.held[KEY].yes == Position(shares=shares(15), cost=usd(7.7))


def test_a_sale_books_its_profit_to_the_day() -> None:
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, 50))))
    execute(state, sale, at=cents(60), fee=usd(0.1), trade="out")
    assert state.held[KEY].yes == Position(shares=shares(10), cost=usd(5), realised=usd(0.9))
    assert (state.day, state.realised_today) == (NOW_NS // seconds(86_400), usd(0.9))


def test_the_profit_of_a_new_day_begins_at_nothing() -> None:
    state = holding(40)
    sale = approval_in(step(state, review(intent(100, 50))))
    tomorrow = NOW_NS + seconds(86_400)
    step(state, fill(sale, shares(10), at=cents(60), trade="today"))
    assert state.realised_today == usd(1)
    step(state, fill(sale, shares(10), at=cents(45), trade="tomorrow"), tomorrow)
    assert state.realised_today == usd(-0.5)
    assert state.day == NOW_NS // seconds(86_400) + 1


def test_a_fill_after_its_order_ended_is_booked_all_the_same() -> None:
    state = State()
    order = entered(state)
    step(state, closed(order, Shares(0), "killed"))
    step(state, fill(order, shares(6)))
    assert held(state) == (shares(6), 0)
    later = NOW_NS + seconds(1)
    assert approval_in(step(state, reconsider(state, later), later)).size == shares(14)


def test_shares_that_come_after_their_entry_was_given_up_are_sold_again() -> None:
    """A kill that filled all the same: nobody wants the shares, so a target of none is set."""
    state = State()
    order = entered(state)
    step(state, closed(order, Shares(0), "killed"))
    late = NOW_NS + seconds(31)
    step(state, reconsider(state, late), late)
    assert state.targets == {}
    filled = fill(order)
    facts = step(state, filled, late)
    assert kinds(facts) == ["HoldingChanged", "TargetSet"]
    assert (target_in(facts).target, target_in(facts).cause) == (0, filled.id)
    sale = approval_in(step(state, reconsider(state, late), late))
    assert (sale.side, sale.size) == ("SELL", shares(20))


# --- failed settlements -----------------------------------------------------------------------


def test_a_failed_buy_takes_shares_and_cost_back() -> None:
    state = State()
    order = entered(state)
    first, second = fill(order, shares(8), at=cents(50)), fill(order, shares(12), trade="t2")
    for message in (first, second, closed(order, shares(20))):
        step(state, message)
    (change,) = step(state, failed(second))
    assert isinstance(change, HoldingChanged)
    assert (change.shares, change.cost, change.realised) == (-shares(12), -usd(6.12), 0)
    assert state.held[KEY].yes == Position(shares=shares(8), cost=usd(4))


def test_a_failed_sale_returns_its_shares_at_what_they_were_sold_for() -> None:
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, 50))))
    sold = fill(sale, shares(10), at=cents(60), fee=usd(0.1), trade="out")
    for message in (sold, closed(sale, shares(10)), failed(sold)):
        step(state, message)
    position = state.held[KEY].yes
    assert position == Position(shares=shares(20), cost=usd(5 + 5.9), realised=usd(0.9))


def test_after_a_failed_exit_the_shares_are_sold_again() -> None:
    """His target was reached and forgotten; without a new one the shares would stay for ever."""
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, 0))))
    sold = fill(sale, trade="out")
    for message in (sold, closed(sale, sold.size)):
        step(state, message)
    assert (state.targets, state.held) == ({}, {})
    facts = step(state, failed(sold))
    assert kinds(facts) == ["HoldingChanged", "TargetSet"]
    again = approval_in(step(state, reconsider(state)))
    assert (again.side, again.size, again.leader_price) == ("SELL", shares(20), sold.price)
    execute(state, again, trade="again")
    assert (state.targets, state.held, state.reserved) == ({}, {}, {})


def test_a_target_of_nothing_is_kept_while_its_sale_is_in_flight() -> None:
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, 0))))
    sold = fill(sale, trade="out")
    step(state, sold)
    assert KEY in state.targets
    assert kinds(step(state, failed(sold))) == ["HoldingChanged"]
    step(state, closed(sale, Shares(0), "killed"))
    assert state.targets[KEY].target == 0
    assert held(state) == (shares(20), 0)


def test_a_target_of_nothing_is_kept_while_its_entry_is_in_flight() -> None:
    state = State()
    order = entered(state)
    step(state, review(intent(100, 0, name="out"), View()))
    assert KEY in state.targets
    execute(state, order, trade="in")
    assert approval_in(step(state, reconsider(state))).side == "SELL"
    other = State()
    order = entered(other)
    step(other, review(intent(100, 0, name="out"), View()))
    step(other, closed(order, Shares(0), "killed"))
    assert (other.targets, other.reserved, other.groups) == ({}, {}, {})


def test_shares_of_a_failed_buy_that_he_sold_were_another_leaders() -> None:
    state = holding(20, leader=OTHER)
    order = entered(state)
    filled = fill(order, at=cents(50), trade="in")
    for message in (filled, closed(order, filled.size)):
        step(state, message)
    execute(state, approval_in(step(state, review(intent(100, 50)))), at=cents(60), trade="out")
    step(state, failed(filled))
    assert held(state) == (0, 0)
    assert held(state, leader=OTHER) == (shares(10), 0)


def test_what_he_sold_beyond_his_own_was_another_leaders_at_that_leaders_cost() -> None:
    """A kill that filled all the same sells twice; the dollars still add up."""
    state = holding(20, state=holding(20, leader=OTHER))
    first = approval_in(step(state, review(intent(100, 0))))
    step(state, closed(first, Shares(0), "killed"))
    later = NOW_NS + seconds(1)
    second = approval_in(step(state, reconsider(state, later), later))
    execute(state, second, at=cents(60), trade="second")
    step(state, fill(first, at=cents(60), trade="first, late"))
    assert (held(state), held(state, leader=OTHER)) == ((0, 0), (0, 0))
    assert state.realised_today == usd(24 - 20)  # all was bought for 20 and sold for 24


def test_nobody_owes_shares_while_somebody_has_them() -> None:
    state = holding(20, state=holding(8, leader=OTHER))
    step(state, correction(4))
    sale = approval_in(step(state, review(intent(100, 0))))
    execute(state, sale, trade="out")
    step(state, fill(sale, shares(15), trade="again"))
    assert held(state, leader=UNATTRIBUTED) == (0, 0)  # what nobody caused goes first
    assert held(state, leader=OTHER) == (0, 0)
    assert held(state) == (-shares(3), 0)  # of 32 shares 35 were sold


# --- corrections ------------------------------------------------------------------------------


def test_what_appeared_is_nobodys_and_costs_nothing() -> None:
    state = holding(20)
    (change,) = step(state, correction(7))
    assert isinstance(change, HoldingChanged)
    assert (change.leader, change.shares, change.cost) == (UNATTRIBUTED, shares(7), 0)
    assert held(state) == (shares(20), 0)
    assert held(state, leader=UNATTRIBUTED) == (shares(7), 0)
    later = NOW_NS + seconds(3_600)
    assert step(state, reconsider(state, later), later) == []  # nobody's shares are not traded


def test_what_vanished_was_nobodys_before_it_was_a_leaders() -> None:
    state = holding(20)
    step(state, correction(7, name="bought by hand"))
    step(state, correction(-7, name="sold by hand"))
    assert held(state) == (shares(20), 0)
    assert held(state, leader=UNATTRIBUTED) == (0, 0)


def test_what_vanished_leaves_those_who_held_it_with_its_cost() -> None:
    state = holding(20, state=holding(10, leader=OTHER))
    step(state, correction(4, name="more"))
    facts = step(state, correction(-22, name="less"))
    changes = [fact for fact in facts if isinstance(fact, HoldingChanged)]
    assert [(each.leader, each.shares, each.cost, each.realised) for each in changes] == [
        (OTHER, -shares(10), -usd(5), 0),
        (LEADER, -shares(8), -usd(4), 0),
        (UNATTRIBUTED, -shares(4), 0, 0),
    ]
    assert len({fact.id for fact in facts}) == 3
    assert state.held[KEY].yes == Position(shares=shares(12), cost=usd(6))


def test_what_vanished_beyond_all_holdings_is_a_deficit_of_nobodys() -> None:
    state = holding(20)
    step(state, correction(4, name="more"))
    facts = step(state, correction(-28, name="less"))
    assert len({fact.id for fact in facts}) == len(facts) == 2
    assert held(state) == (0, 0)
    assert held(state, leader=UNATTRIBUTED) == (-shares(4), 0)
    step(state, correction(4, name="back"))
    assert state.held == {}


def test_what_appeared_ends_a_deficit_first() -> None:
    state = State()
    order = entered(state)
    filled = fill(order, trade="in")
    for message in (filled, closed(order, filled.size)):
        step(state, message)
    execute(state, approval_in(step(state, review(intent(100, 50)))), trade="out")
    step(state, failed(filled))
    assert held(state) == (-shares(10), 0)
    step(state, correction(12))
    assert held(state) == (0, 0)
    assert held(state, leader=UNATTRIBUTED) == (shares(2), 0)


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_correction_touches_one_outcome_of_one_market(outcome: int) -> None:
    state = holding(20)
    step(state, correction(3, number=2, outcome=1))
    step(state, correction(-5, number=2, outcome=1 if outcome else 0))
    assert held(state) == (shares(20), 0)


# --- usage ------------------------------------------------------------------------------------


def test_usage_is_what_is_held_and_the_worst_of_what_is_in_flight_by_each_limit() -> None:
    state = State()
    for number, leader, cost in ((1, LEADER, 1), (1, OTHER, 2), (2, LEADER, 4), (3, OTHER, 8)):
        position = Position(shares=shares(9), cost=usd(cost))
        line = Held(leader=leader, condition=condition(number), no=position)
        state.held[key_of(leader, condition(number))] = line
        state.costs[line.condition] = Usd(state.costs.get(line.condition, 0) + line.cost)
        state.leader_costs[leader] = Usd(state.leader_costs.get(leader, 0) + line.cost)
    cup = Group("cup", "sports")
    state.groups = {condition(1): cup, condition(2): cup, condition(3): Group("", "sports")}
    state.reserved["a"] = Reservation(
        leader=LEADER, condition=condition(3), token=YES, outcome=0, side="BUY",
        size=shares(10), filled=shares(5),
        worst_usd=usd(16), leader_usd=usd(16), market_usd=usd(16),
    )  # fmt: skip
    found = usage(state, LEADER, condition(1), cup)
    assert (found.leader, found.market, found.event) == (usd(13), usd(3), usd(7))
    assert (found.category, found.total, found.reserved) == (usd(23), usd(23), usd(8))
    alone = usage(state, LEADER, condition(3), Group("", ""))
    assert (alone.market, alone.event) == (usd(16), usd(16))


def test_rounding_never_frees_what_is_still_in_flight() -> None:
    third = Reservation(
        leader=LEADER, condition=condition(), token=YES, outcome=0, side="BUY",
        size=Shares(3), worst_usd=Usd(10), leader_usd=Usd(10), market_usd=Usd(10), filled=Shares(1),
    )  # fmt: skip
    assert third.open_usd(third.worst_usd) == 7


def test_leaders_have_limits_of_their_own() -> None:
    rules = policy()
    assert rules.sizing_of(OTHER) is rules.sizing


@pytest.mark.parametrize("settlement", ["MINED", "RETRYING", "CONFIRMED"])
def test_a_settlement_that_goes_on_moves_nothing(settlement: Settlement) -> None:
    state = State()
    filled = fill(entered(state))
    step(state, filled)
    moved = msgspec.structs.replace(failed(filled), settlement=settlement)
    assert step(state, moved) == []
