"""The table of an order's states is what the code obeys, and what the docs show."""

from pathlib import Path
from typing import Any

import pytest

from services.executor import lifecycle
from services.executor.lifecycle import EVENTS, PHASES, TABLE, Event, Phase, after, proves
from services.executor.state import NEVER_NS, Resting, State, known_order
from shared.domain.messages import (
    Fact,
    OrderAccepted,
    OrderClosed,
    OrderFound,
    OrderOutcomeUnknown,
    OrderRejected,
)
from shared.domain.units import NS_PER_S, Shares
from tests.support.order_builders import (
    TEN,
    answered,
    duplicated,
    feed,
    fill,
    kinds,
    lost,
    missing,
    only,
    prepared,
    refusal,
    reported,
    shares,
    step,
    unreadable,
)

DOCS = Path(__file__).parents[3] / "docs" / "orders.md"
DAY_NS = 86_400 * NS_PER_S
RANK = {phase: at for at, phase in enumerate(PHASES)}


# --- the table itself ---------------------------------------------------------------------------


def test_every_state_and_event_stands_in_the_table_and_has_a_meaning() -> None:
    assert tuple(TABLE) == PHASES
    assert set(lifecycle.STATES_MEAN) == set(PHASES)
    assert set(lifecycle.EVENTS_MEAN) == set(EVENTS)
    assert {event for row in TABLE.values() for event in row} == set(EVENTS)


def test_every_arrow_leads_on_and_every_open_state_has_a_way_to_the_end() -> None:
    for phase, row in TABLE.items():
        assert all(RANK[to] >= RANK[phase] for to in row.values()), phase
        if phase != "closed":
            assert {"completed", "abandoned", "surrendered"} <= row.keys()


def test_the_order_in_which_words_come_makes_no_difference_to_what_they_prove() -> None:
    """Of any two words that both prove something, the state after both is the same."""
    proofs: list[Event] = ["duplicated", "delayed", "live", "matched", "filled"]
    for phase in ("prepared", "unknown"):
        for one in proofs:
            for two in proofs:
                ends = []
                for words in ((one, two), (two, one)):
                    at: Phase = phase  # type: ignore[assignment]
                    for word in words:
                        at = after(at, word) or at
                    ends.append(at)
                assert ends[0] == ends[1], (phase, one, two)


def test_only_an_unknown_outcome_is_sent_again() -> None:
    assert [phase for phase in PHASES if after(phase, "resent")] == ["unknown"]


def test_what_the_venue_has_had_is_never_called_never_placed() -> None:
    assert [phase for phase in PHASES if after(phase, "never_placed")] == ["prepared", "unknown"]
    assert not proves("resting", "delayed")
    assert proves("delayed", "live")


def test_the_docs_show_the_table_the_code_obeys() -> None:
    text = DOCS.read_text()
    for part in (lifecycle.diagram(), lifecycle.grid(), lifecycle.glossary()):
        assert part in text, f"docs/orders.md lacks:\n{part}"


def test_the_diagram_has_an_arrow_for_every_entry_of_the_table() -> None:
    arrows = {
        (at, to, event)
        for line in lifecycle.diagram().splitlines()[2:-1]
        for at, _, rest in [line.strip().partition(" --> ")]
        for to, _, events in [rest.partition(": ")]
        for event in events.split(", ")
    }
    assert arrows == {(at, to, event) for at, row in TABLE.items() for event, to in row.items()}


# --- the code obeys it --------------------------------------------------------------------------


def order_in(phase: Phase) -> tuple[State, Any]:
    """Return a state with one order in a phase, reached as the venue's words lead there."""
    state = State()
    order = prepared(state)
    ways: dict[Phase, list[object]] = {
        "prepared": [],
        "unknown": [lost(order, retry_ns=NEVER_NS)],
        "accepted": [duplicated(order)],
        "delayed": [answered(order, "delayed")],
        "resting": [answered(order, "unmatched")],
        "matched": [answered(order, "matched")],
        "closed": [reported(order, status="CANCELED")],
    }
    feed(state, ways[phase])
    return state, order


def phase_of(state: State, order: Any) -> Phase:
    known = known_order(state, order.order)
    assert known is not None
    return known.phase


# "resent" depends on time, "forgotten" and "abandoned" on what was before: tested for themselves.
PLAIN = [e for e in EVENTS if e not in ("resent", "forgotten", "abandoned", "given_up")]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("event", PLAIN)
def test_every_word_moves_an_order_as_the_table_says(phase: Phase, event: Event) -> None:
    """Each event is said to an order in each state: where it lands is the table's entry."""
    state, order = order_in(phase)
    past_ns = order.expires_ns + 1
    said: dict[Event, tuple[object, int]] = {
        "lost": (lost(order), 0),
        "refused": (refusal(order), 0),
        "duplicated": (duplicated(order), 0),
        "delayed": (reported(order, status="DELAYED"), 0),
        "live": (reported(order, status="LIVE"), 0),
        "matched": (reported(order, matched=TEN), 0),
        "filled": (fill(order, size=shares(4)), 0),
        "cancelled": (Resting(order=order.order), past_ns),
        "surrendered": (unreadable(order), past_ns + DAY_NS),
        "never_placed": (missing(order, 3), past_ns),
        "completed": (reported(order, status="CANCELED"), 0),
    }
    message, now_ns = said[event]
    step(state, message, now_ns or order.prepared_ns)
    assert phase_of(state, order) == (after(phase, event) or phase)


@pytest.mark.parametrize(
    ("status", "phase"),
    [("live", "resting"), ("unmatched", "resting"), ("delayed", "delayed"), ("matched", "matched")],
)
def test_an_answer_puts_the_order_where_its_status_says(status: str, phase: Phase) -> None:
    state = State()
    order = prepared(state)
    assert only(step(state, answered(order, status)), OrderAccepted).status == status
    assert state.orders[order.order].phase == phase


def test_an_answer_that_a_fill_overtook_is_still_put_on_record_once() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [fill(order), answered(order), answered(order, "live"), duplicated(order)])
    assert kinds(facts) == ["OrderFilled", "OrderAccepted"]
    assert state.orders[order.order].phase == "matched"


def test_a_duplicate_proves_that_it_arrived_and_nothing_else() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [lost(order, retry_ns=NEVER_NS), duplicated(order)])
    assert only(facts, OrderAccepted).status == "duplicated"
    assert state.orders[order.order].phase == "accepted"
    assert state.orders[order.order].filled == 0
    assert step(state, missing(order, 99), order.expires_ns + 1) == []


def test_a_no_to_a_later_sending_says_nothing_of_the_first() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [lost(order), missing(order, 0), refusal(order, "balance")])
    assert kinds(facts) == ["OrderOutcomeUnknown", "OrderResent"]
    assert state.orders[order.order].phase == "unknown"


def test_a_look_up_that_finds_an_unknown_order_says_so_once() -> None:
    state = State()
    order = prepared(state)
    open_ = reported(order, status="LIVE")
    facts = feed(state, [lost(order), open_, open_, reported(order, status="DELAYED"), open_])
    assert kinds(facts) == ["OrderOutcomeUnknown", "OrderFound"]
    assert only(facts, OrderFound).status == "live"


def test_an_order_in_its_delay_that_comes_to_rest_is_found_resting() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [answered(order, "delayed"), reported(order, status="LIVE")])
    assert kinds(facts) == ["OrderAccepted", "OrderFound"]


# --- statuses that lie --------------------------------------------------------------------------


def closing(facts: list[Fact]) -> tuple[str, int]:
    closed = only(facts, OrderClosed)
    return closed.reason, closed.filled


def test_a_cancelled_order_that_filled_in_full_is_filled() -> None:
    state = State()
    order = prepared(state)
    facts = step(state, reported(order, fill(order), status="CANCELED"))
    assert closing(facts) == ("filled", TEN)


def test_an_order_called_open_whose_every_share_matched_is_over() -> None:
    state = State()
    order = prepared(state)
    assert closing(step(state, reported(order, fill(order), status="LIVE"))) == ("filled", TEN)


def test_an_order_called_matched_of_which_nothing_is_counted_is_not_over() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [reported(order, matched=Shares(0))] * 2)
    assert kinds(facts) == ["OrderFound"]
    assert state.orders[order.order].phase == "matched"


def test_a_killed_order_whose_fills_are_not_told_yet_waits_for_them() -> None:
    state = State()
    order = prepared(state)
    facts = step(state, reported(order, matched=shares(4), status="CANCELED"))
    assert kinds(facts) == ["OrderFound"]
    part = fill(order, size=shares(4))
    facts = step(state, reported(order, part, status="CANCELED"))
    assert closing(facts) == ("killed", shares(4))


def test_a_refusal_first_and_the_fill_after_it_are_both_on_record() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [refusal(order), fill(order, size=shares(4))])
    assert kinds(facts) == ["OrderRejected", "OrderClosed", "OrderFilled"]
    assert only(facts, OrderRejected).reason == "killed"
    assert state.orders[order.order].filled == shares(4)


def test_an_unknown_outcome_keeps_when_the_venue_may_be_tried_again() -> None:
    state = State()
    order = prepared(state)
    fact = only(step(state, lost(order, retry_ns=7)), OrderOutcomeUnknown)
    assert (fact.retry_ns, state.orders[order.order].retry_ns) == (7, 7)
