"""When an order is sent again, given up, or surrendered with what was tried."""

import msgspec
import pytest

from services.executor.core import decide
from services.executor.state import NEVER_NS, Asked, State, open_orders
from services.executor.views import positions_view
from shared.domain.messages import EndOrder, OrderClosed, OrderFilled, OrderResent, OrderSurrendered
from shared.domain.views import SURRENDERED
from tests.support.order_builders import (
    START_NS,
    TEN,
    WALLET,
    answered,
    duplicated,
    feed,
    fill,
    kinds,
    lost,
    missing,
    only,
    policy,
    prepared,
    reported,
    shares,
    step,
    unreadable,
)

PATIENCE_NS, DAY_NS = policy().patience_ns, policy().surrendered_kept_ns


# --- sent again ---------------------------------------------------------------------------------


def test_an_order_the_venue_does_not_know_goes_out_again_while_its_time_lasts() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    fact = only(step(state, missing(order, 0), order.expires_ns), OrderResent)
    assert (fact.resend, fact.expires_ns) == (1, order.expires_ns)
    assert state.orders[order.order].resends == 1
    assert state.orders[order.order].phase == "unknown"


@pytest.mark.parametrize("when", ["prepared", "accepted", "filled", "surrendered"])
def test_nothing_but_an_unknown_outcome_is_sent_again(when: str) -> None:
    state = State()
    order = prepared(state)
    said = {
        "prepared": [],
        "accepted": [lost(order), duplicated(order)],
        "filled": [lost(order), fill(order, size=shares(1))],
        "surrendered": [lost(order)],
    }
    feed(state, said[when])
    if when == "surrendered":
        step(state, unreadable(order), order.expires_ns + PATIENCE_NS + 1)
    now_ns = order.expires_ns + PATIENCE_NS + 2 if when == "surrendered" else START_NS
    assert step(state, missing(order, 0), now_ns) == []


def test_a_stale_order_is_not_sent_again() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    assert step(state, missing(order, 0), order.expires_ns + 1) == []


def test_the_venue_is_left_alone_for_as_long_as_it_asked() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order, retry_ns=START_NS + 5))
    assert step(state, missing(order, 0), START_NS + 4) == []
    assert kinds(step(state, missing(order, 0), START_NS + 5)) == ["OrderResent"]


def test_a_refused_order_of_unknown_outcome_is_never_sent_again() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order, retry_ns=NEVER_NS))
    assert step(state, missing(order, 0)) == []


def test_a_resend_on_record_is_made_before_there_is_another_and_there_are_few() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    for made in range(policy().resends_max):
        assert kinds(step(state, missing(order, 0, resends=made))) == ["OrderResent"]
        assert step(state, missing(order, 0, resends=made)) == []
    assert step(state, missing(order, 0, resends=policy().resends_max)) == []


def test_no_order_is_sent_again_where_that_is_switched_off() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    never = msgspec.structs.replace(policy(), resends_max=0)
    assert decide(never, state, missing(order, 0), START_NS) == []


# --- surrendered --------------------------------------------------------------------------------


def test_an_order_without_an_end_is_surrendered_with_what_was_asked() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    late_ns = order.expires_ns + PATIENCE_NS
    assert step(state, unreadable(order, 300), late_ns) == []
    fact = only(step(state, unreadable(order, 301), late_ns + 1), OrderSurrendered)
    assert (fact.state, fact.filled, fact.waited_ns) == ("unknown", 0, late_ns + 1 - START_NS)
    assert (fact.posts, fact.looks, fact.missing, fact.unreadable) == (1, 301, 0, 301)
    assert fact.last == "time-out"
    assert step(state, unreadable(order, 302), late_ns + 2) == []


def test_a_surrendered_order_stays_open_and_is_shown_as_such() -> None:
    """Its token takes no second order, and risk's reservation of it does not end."""
    state = State()
    order = prepared(state)
    step(state, lost(order))
    step(state, unreadable(order), order.expires_ns + PATIENCE_NS + 1)
    assert [each.order for each in open_orders(state)] == [order.order]
    (shown,) = positions_view(state, WALLET).orders
    assert (shown.status, shown.since_ns) == (SURRENDERED, START_NS)


@pytest.mark.parametrize("proof", [duplicated, answered, lambda o: answered(o, "delayed")])
def test_an_order_the_venue_had_and_forgot_is_surrendered_not_called_never_placed(
    proof: object,
) -> None:
    state = State()
    order = prepared(state)
    step(state, proof(order))  # type: ignore[operator]
    assert step(state, missing(order, 99), order.expires_ns + PATIENCE_NS) == []
    fact = only(
        step(state, missing(order, 100), order.expires_ns + PATIENCE_NS + 1), OrderSurrendered
    )
    assert fact.missing == 100


def test_more_matched_than_any_trade_shows_is_surrendered() -> None:
    state = State()
    order = prepared(state)
    told = msgspec.structs.replace(
        reported(order, fill(order, size=shares(4)), matched=TEN),
        asked=Asked(posts=1, looks=7, last="MATCHED"),
    )
    assert kinds(step(state, told)) == ["OrderFilled"]
    late_ns = order.expires_ns + PATIENCE_NS + 1
    fact = only(step(state, told, late_ns), OrderSurrendered)
    assert (fact.state, fact.filled, fact.looks, fact.last) == ("matched", shares(4), 7, "MATCHED")


def test_an_order_that_is_seen_to_rest_is_not_surrendered() -> None:
    state = State()
    order = prepared(state)
    step(state, answered(order, "live"))
    late_ns = order.expires_ns + PATIENCE_NS + DAY_NS
    assert step(state, reported(order, status="LIVE"), late_ns) == []


def test_a_fill_found_after_the_surrender_is_booked_and_the_order_closed() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    late_ns = order.expires_ns + PATIENCE_NS + 1
    step(state, unreadable(order), late_ns)
    facts = feed(state, [fill(order, size=shares(4))], late_ns + 1)
    assert only(facts, OrderFilled).size == shares(4)
    part = fill(order, size=shares(4))
    facts = step(state, reported(order, part, status="CANCELED"), late_ns + 2)
    assert only(facts, OrderClosed).reason == "killed"


def test_a_surrendered_order_the_venue_turns_out_not_to_know_was_never_placed() -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order))
    late_ns = order.expires_ns + PATIENCE_NS + 1
    step(state, unreadable(order), late_ns)
    assert only(step(state, missing(order, 3), late_ns + 1), OrderClosed).reason == "never_placed"


def test_a_surrendered_order_is_followed_for_a_bounded_time() -> None:
    state = State()
    order = prepared(state)
    step(state, duplicated(order))
    late_ns = order.expires_ns + PATIENCE_NS + 1
    step(state, missing(order, 9), late_ns)
    assert step(state, missing(order, 9), late_ns + DAY_NS) == []
    closed = only(step(state, unreadable(order), late_ns + DAY_NS + 1), OrderClosed)
    assert closed.reason == "abandoned"
    facts = step(state, fill(order, size=shares(2)), late_ns + DAY_NS + 2)
    assert kinds(facts) == ["OrderFilled"]


def test_looks_at_an_order_that_is_gone_say_nothing() -> None:
    state = State()
    order = prepared(state)
    step(state, reported(order, fill(order)))
    late_ns = order.expires_ns + PATIENCE_NS + DAY_NS
    assert feed(state, [unreadable(order), missing(order, 9)], late_ns) == []
    assert feed(State(), [unreadable(order), missing(order, 9)], late_ns) == []


def test_a_surrendered_order_ends_by_the_operators_word_and_no_other_does() -> None:
    state = State()
    order = prepared(state)
    step(state, fill(order, size=shares(4)))
    told = EndOrder(
        id="by-hand", cause="", root="by-hand", ts_ns=START_NS, order=order.order,
        reason="not at the venue", actor="ctl",
    )  # fmt: skip
    assert step(state, told) == [], "it is still followed"
    late_ns = order.expires_ns + policy().patience_ns + 1
    assert kinds(step(state, unreadable(order), late_ns)) == ["OrderSurrendered"]
    closed = only(step(state, told, late_ns), OrderClosed)
    assert (closed.reason, closed.filled, closed.cause) == ("given_up", shares(4), "by-hand")
    assert step(state, told, late_ns) == []
    assert kinds(step(state, fill(order, "b", size=shares(6)), late_ns)) == ["OrderFilled"]
