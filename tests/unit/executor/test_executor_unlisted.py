"""What is booked and missing from the venue's list of our trades is named, and only that."""

import pytest

from services.executor.state import Order, State
from services.executor.unlisted import Unlisted
from shared.domain.observations import OwnFill
from shared.domain.units import NS_PER_S
from tests.support.order_builders import (
    START_NS,
    YES,
    fill,
    prepared,
    reported,
    shares,
    step,
)

BEFORE_NS = START_NS - NS_PER_S


def bought(*fills: str) -> tuple[State, Order]:
    state = State()
    order = prepared(state)
    for name in fills:
        step(state, fill(order, name, size=shares(2)))
    return state, order


def missing(
    state: State, *listed: OwnFill, from_ns: int = BEFORE_NS, after_s: float = 1
) -> list[tuple[str, bool]]:
    unlisted = Unlisted()
    now_ns = START_NS + round(after_s * NS_PER_S)
    unlisted.compare(state, listed, from_ns=from_ns, now_ns=now_ns)
    return [(each.trade, each.is_copy) for each in unlisted.shown()]


def test_a_fill_that_is_listed_is_not_missing() -> None:
    state, order = bought("a")
    assert missing(state, fill(order, "a")) == []


def test_a_fill_that_is_not_listed_is_named_with_what_it_moved() -> None:
    state, order = bought("a", "b")
    unlisted = Unlisted()
    unlisted.compare(
        state, [fill(order, "a", size=shares(3))], from_ns=BEFORE_NS, now_ns=START_NS + NS_PER_S
    )
    (found,) = unlisted.shown()
    assert (found.trade, found.token, found.shares) == ("b", YES, shares(2))
    assert found.usd == -1_000_000
    assert not found.is_copy, "the other is of another size"


def test_an_equal_one_on_the_list_makes_it_a_copy() -> None:
    state, order = bought("a", "b")
    assert missing(state, fill(order, "a", size=shares(2))) == [("b", True)]


@pytest.mark.parametrize(("after_s", "told"), [(0.4, []), (0.6, [("a", False)])])
def test_the_list_may_be_a_little_late(after_s: float, told: list[tuple[str, bool]]) -> None:
    state, _ = bought("a")
    assert missing(state, after_s=after_s) == told


def test_a_list_that_begins_later_says_nothing_of_what_was_before() -> None:
    state, _ = bought("a")
    assert missing(state, from_ns=START_NS) == []


def test_one_that_failed_is_missing_rightly() -> None:
    state, order = bought("a")
    step(state, fill(order, "a", "FAILED", size=shares(2)))
    assert missing(state) == []


def test_what_is_listed_at_last_or_long_ago_is_named_no_more() -> None:
    state, order = bought("a")
    unlisted, at_ns = Unlisted(), START_NS + NS_PER_S
    unlisted.compare(state, [], from_ns=BEFORE_NS, now_ns=at_ns)
    assert unlisted.shown()
    unlisted.compare(state, [], from_ns=at_ns, now_ns=at_ns)
    assert unlisted.shown(), "a shorter list does not clear it"
    unlisted.compare(state, [fill(order, "a")], from_ns=BEFORE_NS, now_ns=at_ns)
    assert unlisted.shown() == ()
    unlisted.compare(state, [], from_ns=BEFORE_NS, now_ns=at_ns)
    unlisted.compare(state, [], from_ns=at_ns, now_ns=START_NS + 3_600 * NS_PER_S)
    assert unlisted.shown() == ()


def test_a_buried_order_is_compared_too() -> None:
    state, order = bought("a")
    step(
        state,
        reported(order, fill(order, "a", "CONFIRMED", size=shares(2)), status="CANCELED"),
    )
    assert order.order in state.buried
    assert missing(state) == [("a", False)]
