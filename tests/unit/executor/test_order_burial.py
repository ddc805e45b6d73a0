"""A fill that comes long after its order ended has an owner; what is kept for that is bounded."""

import pytest

from services.executor import burial
from services.executor.state import Order, State
from services.executor.views import positions_view, unsettled
from shared.domain.messages import OrderFilled, OrderPrepared
from shared.domain.observations import Settlement
from shared.domain.units import NS_PER_S
from shared.runtime.runner import encode_state
from tests.support.order_builders import (
    LEADER,
    START_NS,
    TEN,
    WALLET,
    YES,
    approval,
    attempt,
    book,
    feed,
    fill,
    kinds,
    only,
    prepared,
    refusal,
    reported,
    shares,
    step,
)

HOUR_NS = 3_600 * NS_PER_S
DAY_NS = 24 * HOUR_NS


def another(state: State, name: str, now_ns: int) -> Order:
    """Prepare and refuse another order, so that time passes on record."""
    approved = approval(name, expires_ns=now_ns)
    fact = only(step(state, attempt(approved, fresh=book(seen_ns=now_ns)), now_ns), OrderPrepared)
    order = state.orders[fact.order]
    step(state, refusal(order), now_ns)
    return order


@pytest.mark.parametrize("after_ns", [120 * NS_PER_S, 2 * DAY_NS])
def test_a_fill_told_long_after_the_kill_is_booked_to_the_leader_who_caused_it(
    after_ns: int,
) -> None:
    state = State()
    order = prepared(state, approval(fee_rate=20_000))
    step(state, refusal(order))
    another(state, "later", START_NS + after_ns)
    late = fill(order, settlement="CONFIRMED")
    fact = only(step(state, late, START_NS + after_ns), OrderFilled)
    assert (fact.leader, fact.approval, fact.root) == (LEADER, order.approval, order.root)
    assert fact.fee > 0
    assert state.holdings[YES].position.shares == TEN
    assert feed(state, [late, fill(order), late], START_NS + after_ns) == []


def test_an_order_filled_and_settled_may_fill_once_more_and_never_twice() -> None:
    state = State()
    order = prepared(state)
    first = fill(order, "a", "CONFIRMED", size=shares(4))
    step(state, reported(order, first, status="CANCELED"))
    assert state.orders == {}
    facts = feed(state, [first, fill(order, "b", size=shares(2)), first], START_NS + HOUR_NS)
    assert kinds(facts) == ["OrderFilled"]
    assert state.orders[order.order].filled == shares(6)
    step(state, fill(order, "b", "FAILED", size=shares(2)), START_NS + HOUR_NS)
    assert (state.orders, state.fills) == ({}, {})
    assert state.buried[order.order].filled == shares(4)
    assert state.holdings[YES].position.shares == shares(4)


def test_a_late_fill_that_failed_is_booked_and_taken_back() -> None:
    state = State()
    order = prepared(state)
    step(state, refusal(order))
    facts = step(state, fill(order, settlement="FAILED"), START_NS + DAY_NS)
    assert kinds(facts) == ["OrderFilled", "FillSettled"]
    assert state.holdings[YES].position.shares == 0
    assert step(state, fill(order), START_NS + DAY_NS) == []


def test_a_report_of_a_buried_order_books_what_it_lists() -> None:
    state = State()
    order = prepared(state)
    step(state, refusal(order))
    late = reported(order, fill(order, settlement="CONFIRMED"))
    assert kinds(step(state, late, START_NS + DAY_NS)) == ["OrderFilled"]


def test_an_approval_whose_order_is_buried_is_not_used_again() -> None:
    state = State()
    step(state, refusal(prepared(state)))
    assert step(state, attempt()) == []


def test_what_is_kept_is_bounded_in_time() -> None:
    state = State()
    first = prepared(state)
    step(state, refusal(first))
    another(state, "second", START_NS + burial.BURIED_KEPT_NS - 1)
    assert first.order in state.buried
    another(state, "third", START_NS + burial.BURIED_KEPT_NS)
    assert first.order not in state.buried
    assert step(state, fill(first), START_NS + burial.BURIED_KEPT_NS) == []


def test_what_is_kept_is_bounded_in_number_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(burial, "BURIED_MAX", 3)
    state = State()
    orders = [another(state, f"n{n}", START_NS + n) for n in range(6)]
    assert set(state.buried) == {order.order for order in orders[2:]}


def test_a_buried_order_is_small() -> None:
    """The snapshot is written again and again, so its size is a cost: under 700 bytes each."""
    state = State()
    for n in range(50):
        order = another(state, f"n{n}", START_NS + n)
        step(state, fill(order, "5e5e5e5e-5e5e-5e5e-5e5e-5e5e5e5e5e5e", "CONFIRMED"), START_NS + n)
    assert len(state.buried) == 50
    assert len(encode_state(state)) < 50 * 700


@pytest.mark.parametrize("stuck", ["MATCHED", "RETRYING", "MINED"])
def test_a_fill_that_never_settles_excuses_its_token_for_a_bounded_time(stuck: Settlement) -> None:
    state = State()
    order = prepared(state)
    part = fill(order, settlement="MATCHED")
    step(state, reported(order, part))
    step(state, fill(order, settlement=stuck), START_NS + 7)
    (shown,) = positions_view(state, WALLET).positions
    assert (shown.unsettled, shown.unsettled_since_ns) == (TEN, START_NS)
    another(state, "next", START_NS + burial.UNSETTLED_KEPT_NS - 1)
    assert unsettled(state, YES) == TEN
    another(state, "last", START_NS + burial.UNSETTLED_KEPT_NS)
    assert unsettled(state, YES) == 0
    (shown,) = positions_view(state, WALLET).positions
    assert (shown.shares, shown.unsettled_since_ns) == (TEN, 0)
    facts = step(state, fill(order, settlement="FAILED"), START_NS + 2 * DAY_NS)
    assert kinds(facts) == ["FillSettled"]
    assert state.holdings[YES].position.shares == 0
