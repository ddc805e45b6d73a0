"""Orders are prepared once, followed whatever the venue says when, and forgotten when final."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.executor.core import decide, evolve
from services.executor.state import NEVER_NS, Attempt, Draft, Order, State, fill_key, open_orders
from services.executor.views import unsettled
from shared.domain.ids import OrderHash
from shared.domain.market import fee_up
from shared.domain.messages import (
    FillSettled,
    OrderAccepted,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderPrepared,
    OrphanFound,
    PositionCorrected,
    Tick,
)
from shared.domain.observations import Settlement
from shared.domain.positions import Position
from shared.domain.units import NS_PER_S, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.order_builders import (
    CONDITION,
    NO,
    START_NS,
    YES,
    answered,
    approval,
    attempt,
    book,
    drift,
    feed,
    fill,
    kinds,
    lost,
    market,
    missing,
    name_of,
    only,
    policy,
    prepared,
    price,
    refusal,
    reported,
    shares,
    step,
)

HOUR_NS = 3_600 * NS_PER_S


# --- approvals ----------------------------------------------------------------------------------


def test_an_approval_becomes_an_order_with_its_terms() -> None:
    state = State()
    fact = only(step(state, attempt()), OrderPrepared)
    assert (fact.side, fact.price, fact.size) == ("BUY", price(50), shares(10))
    assert (fact.maker_amount, fact.taker_amount) == (5_000_000, 10_000_000)
    assert fact.metadata == "0x" + fact.approval.ljust(64, "0")
    assert state.orders[fact.order].phase == "prepared"


def test_the_same_approval_gives_the_same_draft_and_hash_on_any_book_at_any_time() -> None:
    drafts: list[Draft] = []

    def hash_of(draft: Draft) -> OrderHash:
        drafts.append(draft)
        return name_of(draft)

    rules = msgspec.structs.replace(policy(), hash_of=hash_of)
    late = START_NS + NS_PER_S
    (one,) = decide(rules, State(), attempt(), START_NS)
    (two,) = decide(rules, State(), attempt(fresh=book(seen_ns=late, size=shares(3))), late)
    assert isinstance(one, OrderPrepared)
    assert isinstance(two, OrderPrepared)
    assert drafts[0] == drafts[1]
    assert (one.id, one.order) == (two.id, two.order)


def test_different_approvals_of_the_same_terms_give_different_orders() -> None:
    first = prepared(State(), approval("first"))
    second = prepared(State(), approval("second"))
    assert first.order != second.order


def test_an_approval_on_record_is_not_prepared_again() -> None:
    state = State()
    prepared(state)
    assert step(state, attempt()) == []
    assert step(state, attempt(), START_NS + HOUR_NS) == []


def test_an_approval_may_still_be_used_in_the_moment_it_expires() -> None:
    approved = approval()
    at = approved.expires_ns
    sent = decide(policy(), State(), attempt(approved, fresh=book(seen_ns=at)), at)
    assert kinds(sent) == ["OrderPrepared"]


def declined(state: State, message: Attempt, now_ns: int = START_NS) -> OrderDeclined:
    before = encode_state(state)
    (fact,) = step(state, message, now_ns)
    assert encode_state(state) == before
    assert isinstance(fact, OrderDeclined)
    return fact


def test_an_expired_approval_is_declined_with_how_late_it_is() -> None:
    fact = declined(State(), attempt(), approval().expires_ns + 7)
    assert (fact.reason, fact.actual, fact.unit) == ("EXPIRED", 7, "ns")


def test_a_token_with_an_open_order_takes_no_second_one_but_its_complement_does() -> None:
    state = State()
    order = prepared(state)
    assert declined(state, attempt(approval("second"))).reason == "ORDER_IN_FLIGHT"
    assert prepared(state, approval("third", token=NO)).outcome == 1
    feed(state, [reported(order, fill(order))])
    assert state.orders[order.order].phase == "closed"  # kept for its fill, but not in flight
    assert prepared(state, approval("second")).phase == "prepared"


def test_an_approval_without_a_book_is_declined() -> None:
    fact = declined(State(), Attempt(approval=approval(), book=None))
    assert fact.reason == "BOOK_MISSING"


def test_a_stale_book_stops_an_entry_but_not_a_reduction() -> None:
    now_ns = START_NS + 5 * NS_PER_S + 1
    fact = declined(State(), attempt(), now_ns)
    assert (fact.reason, fact.actual, fact.limit) == (
        "BOOK_STALE",
        5 * NS_PER_S + 1,
        5 * NS_PER_S,
    )
    reducing = approval(side="SELL", reduces=True)
    assert kinds(step(State(), attempt(reducing), now_ns)) == ["OrderPrepared"]


@pytest.mark.parametrize(("side", "best"), [("BUY", price(50)), ("SELL", price(49))])
def test_a_book_with_nothing_inside_the_limit_is_declined_with_its_best(
    side: Any, best: int
) -> None:
    limit = price(48) if side == "BUY" else price(51)
    fact = declined(State(), attempt(approval(side=side, limit=limit)))
    assert (fact.reason, fact.actual, fact.limit) == ("NO_DEPTH", best, limit)


def test_an_empty_book_is_declined_with_no_price() -> None:
    empty = book(size=Shares(0))
    assert declined(State(), attempt(fresh=empty)).actual == 0


# --- the POST's answer --------------------------------------------------------------------------


def test_an_answer_accepts_an_order_once() -> None:
    state = State()
    order = prepared(state)
    fact = only(step(state, answered(order, "live")), OrderAccepted)
    assert (fact.status, fact.latency_ns) == ("live", 1_000)
    assert step(state, answered(order, "live")) == []
    assert state.orders[order.order].phase == "resting"


def test_an_answer_that_was_lost_may_still_arrive_but_not_the_other_way_round() -> None:
    state = State()
    order = prepared(state)
    assert kinds(step(state, lost(order))) == ["OrderOutcomeUnknown"]
    assert step(state, lost(order)) == []
    assert state.orders[order.order].phase == "unknown"
    assert kinds(step(state, answered(order))) == ["OrderAccepted"]
    assert step(state, lost(order)) == []


def test_a_refusal_closes_an_order_that_never_filled() -> None:
    state = State()
    order = prepared(state)
    facts = step(state, refusal(order, "balance"))
    assert kinds(facts) == ["OrderRejected", "OrderClosed"]
    assert only(facts, OrderClosed).reason == "rejected: balance"
    assert open_orders(state) == []
    assert step(state, refusal(order)) == []


def test_a_kill_with_a_fill_leaves_the_order_to_the_report() -> None:
    state = State()
    order = prepared(state)
    part = fill(order, size=shares(4))
    facts = feed(state, [part, *[refusal(order)] * 3])
    assert kinds(facts) == ["OrderFilled"]
    assert state.orders[order.order].phase == "matched"
    closed = only(feed(state, [reported(order, part, status="CANCELED")]), OrderClosed)
    assert (closed.reason, closed.filled) == ("killed", shares(4))
    assert state.holdings[YES].position.shares == shares(4)


def test_a_refusal_after_a_fill_that_failed_leaves_the_order_to_the_report() -> None:
    state = State()
    order = prepared(state)
    gone = fill(order, settlement="FAILED")
    feed(state, [gone, refusal(order)])
    assert state.orders[order.order].phase == "matched"
    closed = only(step(state, reported(order, gone, status="CANCELED")), OrderClosed)
    assert (closed.reason, closed.filled) == ("killed", 0)
    assert (state.orders, state.fills) == ({}, {})


@pytest.mark.parametrize("say", [answered, refusal, lost])
def test_an_answer_for_an_order_that_is_closed_or_forgotten_says_nothing(
    say: Callable[[Order], object],
) -> None:
    state = State()
    order = prepared(state)
    feed(state, [reported(order, fill(order))])
    assert step(state, say(order)) == []
    assert step(State(), say(order)) == []


# --- fills --------------------------------------------------------------------------------------


def test_a_fill_is_booked_once_with_the_takers_fee_in_its_cost() -> None:
    state = State()
    order = prepared(state, approval(fee_rate=20_000))
    fact = only(feed(state, [fill(order)] * 3), OrderFilled)
    fee = fee_up(market(fee_rate=20_000), price(50), shares(10))
    assert fee > 0
    assert fact.fee == fee
    assert state.holdings[YES].position == Position(shares=shares(10), cost=Usd(5_000_000 + fee))
    assert state.orders[order.order].filled == shares(10)


def test_a_maker_pays_no_fee() -> None:
    state = State()
    order = prepared(state, approval(fee_rate=20_000))
    assert only(step(state, fill(order, taker=False)), OrderFilled).fee == 0


def test_settlement_goes_forward_only() -> None:
    state = State()
    order = prepared(state)
    told: list[Settlement] = ["MINED", "MATCHED", "RETRYING", "MINED", "CONFIRMED", "FAILED"]
    facts = feed(state, [fill(order, settlement=word) for word in told])
    assert kinds(facts) == ["OrderFilled", "FillSettled"]
    assert only(facts, OrderFilled).settlement == "MINED"
    assert only(facts, FillSettled).settlement == "CONFIRMED"
    assert state.holdings[YES].position.shares == shares(10)


def test_a_retried_settlement_is_on_record_before_it_is_mined() -> None:
    state = State()
    order = prepared(state)
    told: list[Settlement] = ["MATCHED", "RETRYING", "MINED"]
    facts = feed(state, [fill(order, settlement=word) for word in told])
    assert kinds(facts) == ["OrderFilled", "FillSettled", "FillSettled"]
    assert len({fact.id for fact in facts}) == 3


def test_a_failed_settlement_takes_its_fill_back_exactly_once() -> None:
    state = State()
    order = prepared(state, approval(fee_rate=20_000))
    feed(state, [fill(order, "kept", size=shares(4)), fill(order, "gone", size=shares(6))])
    failed = fill(order, "gone", "FAILED", size=shares(6))
    facts = feed(state, [failed, failed, fill(order, "gone", size=shares(6)), failed])
    assert kinds(facts) == ["FillSettled"]
    alone = State()
    feed(alone, [fill(prepared(alone, approval(fee_rate=20_000)), "kept", size=shares(4))])
    assert state.holdings[YES].position == alone.holdings[YES].position
    assert state.orders[order.order].filled == shares(4)


def test_a_fill_first_heard_of_as_failed_is_never_booked_by_an_older_word() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [fill(order, settlement="FAILED"), fill(order), fill(order)])
    assert kinds(facts) == ["OrderFilled", "FillSettled"]
    assert state.holdings[YES].position == Position()
    assert state.orders[order.order].filled == 0


def test_what_a_failed_sale_brought_is_given_back() -> None:
    state = State()
    bought = prepared(state, approval("buy"))
    feed(state, [reported(bought, fill(bought, "b", "CONFIRMED"))])
    before = state.holdings[YES].position
    sold = prepared(state, approval("sell", side="SELL"))
    feed(state, [fill(sold, "s"), fill(sold, "s", "FAILED")])
    after = state.holdings[YES].position
    assert after.shares == before.shares
    assert after.cost - after.realised == before.cost - before.realised


def test_one_trade_may_fill_two_of_our_orders() -> None:
    state = State()
    yes = prepared(state)
    no = prepared(state, approval("second", token=NO))
    facts = feed(state, [fill(yes, "same"), fill(no, "same"), fill(yes, "same", "FAILED")])
    assert kinds(facts) == ["OrderFilled", "OrderFilled", "FillSettled"]
    assert len({fact.id for fact in facts}) == 3
    assert state.holdings[YES].position.shares == 0
    assert state.holdings[NO].position.shares == shares(10)


def test_what_settles_is_what_was_booked_whatever_a_later_word_says_of_its_size() -> None:
    state = State()
    order = prepared(state)
    feed(state, [fill(order), fill(order, settlement="FAILED", size=shares(3), at=price(40))])
    assert state.holdings[YES].position == Position()


def test_a_fill_of_an_order_that_is_not_ours_is_not_booked() -> None:
    order = prepared(State())
    assert step(State(), fill(order)) == []


def test_shares_stay_unsettled_until_their_fill_is_final() -> None:
    state = State()
    order = prepared(state)
    feed(state, [fill(order, "a", size=shares(4)), fill(order, "b", "MINED", size=shares(6))])
    assert unsettled(state, YES) == shares(10)
    step(state, fill(order, "a", "FAILED", size=shares(4)))
    assert unsettled(state, YES) == shares(6)
    step(state, fill(order, "b", "CONFIRMED", size=shares(6)))
    assert unsettled(state, YES) == 0
    assert unsettled(state, NO) == 0


def test_a_confirmed_fill_counts_as_a_move_of_its_token() -> None:
    state = State()
    order = prepared(state)
    step(state, fill(order), START_NS)
    step(state, fill(order, settlement="MINED"), START_NS + 1)
    assert state.holdings[YES].changed_ns == START_NS
    step(state, fill(order, settlement="CONFIRMED"), START_NS + 2)
    assert state.holdings[YES].changed_ns == START_NS + 2


# --- reports ------------------------------------------------------------------------------------


def test_a_report_books_what_it_lists_once_and_closes_the_order() -> None:
    state = State()
    order = prepared(state)
    one, two = fill(order, "a", size=shares(4)), fill(order, "b", size=shares(6))
    mined = fill(order, "a", "MINED", size=shares(4))
    facts = step(state, reported(order, one, two, mined, one, matched=shares(10)))
    assert kinds(facts) == ["OrderFilled", "OrderFilled", "OrderClosed"]
    assert (facts[-1].cause, only(facts, OrderClosed).reason) == (facts[-2].id, "filled")
    assert only(facts, OrderClosed).filled == shares(10)
    assert state.fills[fill_key("a", order.order)].settlement == "MINED"


@pytest.mark.parametrize("status", ["LIVE", "DELAYED"])
def test_an_order_the_venue_still_works_on_stays_open(status: Any) -> None:
    state = State()
    order = prepared(state)
    step(state, reported(order, fill(order, size=shares(4)), status=status))
    assert state.orders[order.order].filled == shares(4)
    assert step(state, reported(order, fill(order, size=shares(4)), status=status)) == []


@pytest.mark.parametrize("status", ["MATCHED", "CANCELED"])
def test_an_order_with_more_matched_than_is_booked_stays_open(status: Any) -> None:
    state = State()
    order = prepared(state)
    part = fill(order, "a", size=shares(4))
    facts = step(state, reported(order, part, status=status, matched=shares(10)))
    assert kinds(facts) == ["OrderFilled"]
    rest = fill(order, "b", size=shares(6))
    assert kinds(step(state, rest)) == ["OrderFilled"]
    facts = step(state, reported(order, status=status, matched=shares(10)))
    assert kinds(facts) == ["OrderClosed"]


def test_a_killed_order_without_fills_closes_empty() -> None:
    state = State()
    order = prepared(state)
    closed = only(step(state, reported(order, status="CANCELED")), OrderClosed)
    assert (closed.reason, closed.filled) == ("killed", 0)
    assert (open_orders(state), state.holdings) == ([], {})


@pytest.mark.parametrize("when", ["before the report", "in the report"])
def test_an_order_closes_though_the_venue_still_counts_a_failed_execution(when: str) -> None:
    state = State()
    order = prepared(state)
    kept, gone = fill(order, "a", size=shares(4)), fill(order, "b", size=shares(6))
    failed = fill(order, "b", "FAILED", size=shares(6))
    feed(state, [kept, gone, failed] if when == "before the report" else [])
    facts = step(state, reported(order, kept, failed, matched=shares(10)))
    closed = only(facts, OrderClosed)
    assert (closed.reason, closed.filled) == ("killed", shares(4))
    assert state.holdings[YES].position.shares == shares(4)


def test_an_order_of_unknown_outcome_that_is_found_is_booked_and_closed() -> None:
    state = State()
    order = prepared(state)
    facts = feed(state, [lost(order), missing(order, 2), reported(order, fill(order))])
    assert kinds(facts) == ["OrderOutcomeUnknown", "OrderResent", "OrderFilled", "OrderClosed"]


def test_a_report_of_a_closed_order_still_moves_its_fills_but_closes_nothing() -> None:
    state = State()
    order = prepared(state)
    one, two = fill(order, "a", size=shares(4)), fill(order, "b", size=shares(6))
    step(state, reported(order, one, two))
    late = [
        fill(order, "a", "CONFIRMED", size=shares(4)),
        fill(order, "b", "FAILED", size=shares(6)),
        fill(order, "c", "CONFIRMED", size=shares(1)),
    ]
    facts = step(state, reported(order, *late))
    assert kinds(facts) == ["OrderFilled", "FillSettled", "FillSettled"]
    assert state.orders == {}
    assert state.holdings[YES].position.shares == shares(5)


def test_a_report_of_an_unknown_order_says_nothing() -> None:
    order = prepared(State())
    assert step(State(), reported(order, fill(order))) == []


# --- missing orders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "past_ns", "closes"),
    [(2, 1, False), (3, 0, False), (2, 0, False), (3, 1, True), (9, NS_PER_S, True)],
)
def test_an_order_was_never_placed_only_after_enough_lookups_and_past_its_expiry(
    attempts: int,
    past_ns: int,
    closes: bool,
) -> None:
    state = State()
    order = prepared(state)
    step(state, lost(order, retry_ns=NEVER_NS))
    facts = step(state, missing(order, attempts), order.expires_ns + past_ns)
    assert [only(facts, OrderClosed).reason] == ["never_placed"] if closes else facts == []
    assert (open_orders(state) == []) == closes


def test_an_order_the_venue_forgot_is_closed_with_what_it_filled() -> None:
    """No more can come of it: left open, it would keep its token busy for ever."""
    state = State()
    order = prepared(state)
    step(state, fill(order, size=shares(1)))
    assert step(state, missing(order, 99), order.expires_ns) == []
    closed = only(step(state, missing(order, 99), order.expires_ns + 1), OrderClosed)
    assert (closed.reason, closed.filled) == ("killed", shares(1))


def test_an_order_whose_every_fill_failed_was_placed_all_the_same() -> None:
    state = State()
    order = prepared(state)
    step(state, fill(order, settlement="FAILED"))
    facts = step(state, missing(order, 3), order.expires_ns + 1)
    assert only(facts, OrderClosed).reason == "killed"


def test_a_forgotten_order_is_not_missed() -> None:
    order = prepared(State())
    assert step(State(), missing(order, 99), order.expires_ns + HOUR_NS) == []


# --- forgetting ---------------------------------------------------------------------------------


def test_an_order_is_forgotten_only_when_closed_and_all_its_fills_are_final() -> None:
    state = State()
    order = prepared(state)
    one, two = fill(order, "a", size=shares(4)), fill(order, "b", size=shares(6))
    feed(state, [one, two, fill(order, "a", "CONFIRMED", size=shares(4))])
    step(state, fill(order, "b", "MINED", size=shares(6)))
    assert order.order in state.orders
    step(state, reported(order, matched=shares(10)))
    assert state.orders[order.order].phase == "closed"
    step(state, fill(order, "b", "FAILED", size=shares(6)))
    assert (state.orders, state.fills) == ({}, {})


def test_a_fill_of_a_forgotten_order_is_not_booked_again() -> None:
    state = State()
    order = prepared(state)
    final = fill(order, settlement="CONFIRMED")
    step(state, reported(order, final))
    assert state.orders == {}
    assert feed(state, [fill(order), final, reported(order, final)]) == []
    assert state.holdings[YES].position.shares == shares(10)


def test_a_fill_that_comes_after_its_order_closed_is_booked_while_the_order_is_kept() -> None:
    state = State()
    order = prepared(state)
    step(state, reported(order, fill(order, "a", size=shares(4))))
    assert kinds(step(state, fill(order, "b", size=shares(6)))) == ["OrderFilled"]
    assert state.holdings[YES].position.shares == shares(10)


@pytest.mark.parametrize(
    "say",
    [
        refusal,
        lambda order: reported(order, status="CANCELED"),
    ],
)
def test_a_fill_of_an_order_reported_killed_is_booked_and_then_the_order_forgotten(
    say: Callable[[Order], object],
) -> None:
    state = State()
    order = prepared(state)
    step(state, say(order))
    late = fill(order, settlement="CONFIRMED")
    assert kinds(feed(state, [late, late, fill(order)])) == ["OrderFilled"]
    assert state.holdings[YES].position.shares == shares(10)
    assert (state.orders, state.fills) == ({}, {})


def test_a_closed_order_is_kept_as_long_as_a_fill_of_it_is_not_final() -> None:
    state = State()
    order = prepared(state)
    step(state, reported(order, fill(order)))
    later = START_NS + NS_PER_S * 3_600
    approved = approval("second", expires_ns=later)
    step(state, attempt(approved, fresh=book(seen_ns=later)), later)
    assert order.order in state.orders
    assert kinds(step(state, fill(order, settlement="FAILED"), later)) == ["FillSettled"]
    assert state.holdings[YES].position.shares == 0


def test_forgetting_one_order_keeps_the_fills_of_another() -> None:
    state = State()
    yes = prepared(state)
    no = prepared(state, approval("second", token=NO))
    feed(state, [fill(no, "n"), reported(yes, fill(yes, "y", "CONFIRMED"))])
    assert set(state.orders) == {no.order}
    assert set(state.fills) == {fill_key("n", no.order)}


def test_a_token_sold_out_is_kept_while_its_move_may_excuse_the_venue() -> None:
    state = State()
    bought = prepared(state, approval("buy"))
    feed(state, [reported(bought, fill(bought, "b", "CONFIRMED"))])
    sold = prepared(state, approval("sell", side="SELL"))
    feed(state, [reported(sold, fill(sold, "s", at=price(50)))])
    assert state.holdings[YES].position == Position()
    assert (state.holdings[YES].changed_ns, unsettled(state, YES)) == (START_NS, shares(10))


def test_an_empty_token_is_dropped_in_time_unless_a_fill_of_it_is_unsettled() -> None:
    state = State()
    yes = prepared(state)
    feed(state, [fill(yes, "y", "FAILED"), fill(yes, "z")])
    feed(state, [drift(believed=10, observed=0)])
    no = prepared(state, approval("second", token=NO))
    feed(state, [fill(no, "n", "FAILED"), reported(no, status="CANCELED")])
    assert set(state.holdings) == {YES, NO}

    def prepare_at(name: str, now_ns: int) -> None:
        approved = approval(name, token=NO, expires_ns=now_ns)
        facts = step(state, attempt(approved, fresh=book(token=NO, seen_ns=now_ns)), now_ns)
        order = only(facts, OrderPrepared)
        step(state, missing(state.orders[order.order], 3), now_ns + 1)

    prepare_at("third", START_NS + HOUR_NS - 1)
    assert set(state.holdings) == {YES, NO}
    prepare_at("fourth", START_NS + HOUR_NS)
    assert set(state.holdings) == {YES}
    step(state, reported(yes, fill(yes, "z", "CONFIRMED")), START_NS + 1)
    prepare_at("fifth", START_NS + 3 * HOUR_NS)
    assert state.holdings == {}


# --- corrections --------------------------------------------------------------------------------


def test_a_correction_is_applied_once_by_the_drift_it_answers() -> None:
    state = State()
    assert kinds(feed(state, [drift("d1", believed=0, observed=10)] * 3)) == ["PositionCorrected"]
    assert state.holdings[YES].position == Position(shares=shares(10))
    step(state, drift("d2", believed=10, observed=4))
    assert state.holdings[YES].position.shares == shares(4)
    assert step(state, drift("d1", believed=0, observed=10)) == []


def test_shares_that_vanished_take_their_cost_with_them_and_realise_nothing() -> None:
    state = State()
    order = prepared(state)
    step(state, reported(order, fill(order, settlement="CONFIRMED")))
    fact = only(step(state, drift(believed=10, observed=4)), PositionCorrected)
    assert fact.shares == shares(-6)
    assert state.holdings[YES].position == Position(shares=shares(4), cost=Usd(2_000_000))


def test_the_corrections_remembered_are_bounded() -> None:
    state = State()
    feed(state, [drift(f"d{n}", believed=n % 2, observed=1 - n % 2) for n in range(205)])
    assert len(state.corrected) == 200
    assert step(state, drift("d203", believed=1, observed=0)) == []
    assert kinds(step(state, drift("d4", believed=1, observed=0))) == ["PositionCorrected"]


def test_a_drift_that_a_fill_has_explained_meanwhile_is_not_corrected() -> None:
    """Both would count the same shares; the reconciler measures what is left, if anything."""
    state = State()
    order = prepared(state)
    late = drift(believed=0, observed=10)
    assert kinds(feed(state, [fill(order), late])) == ["OrderFilled"]
    assert state.holdings[YES].position.shares == shares(10)


# --- the core's form ----------------------------------------------------------------------------


def test_messages_of_others_say_nothing() -> None:
    assert step(State(), Tick(now_ns=START_NS)) == []


def test_facts_of_others_are_refused() -> None:
    foreign = OrphanFound(
        id="o",
        cause="",
        root="o",
        ts_ns=START_NS,
        order=OrderHash("0x00"),
        condition=CONDITION,
        token=YES,
    )
    with pytest.raises(AssertionError, match="not a fact of the executor"):
        evolve(State(), foreign)


def test_a_declined_approval_leaves_no_trace_in_the_state() -> None:
    state = State()
    fact = declined(state, Attempt(approval=approval(), book=None))
    assert fact.cause == approval().id
    assert state == State()
