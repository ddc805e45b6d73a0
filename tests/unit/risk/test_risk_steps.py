"""A gap between target and holding is acted on until it is closed, expired or refused."""

import pytest

from services.risk.core import evolve
from services.risk.policy import NEVER_NS
from services.risk.state import Reconsider, State, View, due, gap, key_of
from shared.domain.messages import (
    DriftCleared,
    OrderRefused,
    TargetExpired,
    Tick,
)
from shared.domain.units import Price, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.risk_builders import (
    LEADER,
    NO,
    NOW_NS,
    OTHER,
    YES,
    account,
    approval_in,
    book,
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
    market,
    policy,
    reconsider,
    refusal_in,
    review,
    seconds,
    shares,
    step,
    target_in,
    usd,
    view,
)

KEY = key_of(LEADER, condition())


def target(state: State, key: str = KEY) -> Shares:
    return state.targets[key].target


def looked_at(state: State, now_ns: int = NOW_NS) -> list[str]:
    return due(state, policy().dust, now_ns)


# --- from an intent ---------------------------------------------------------------------------


def test_an_intent_becomes_a_target_and_an_order_in_one_decision() -> None:
    state = State()
    formed = intent(0, 100)
    facts = step(state, review(formed))
    assert kinds(facts) == ["TargetSet", "OrderApproved"]
    aim, order = target_in(facts), approval_in(facts)
    assert (aim.cause, aim.before, aim.target) == (formed.id, 0, shares(20))
    assert (aim.root, order.root, order.cause) == (formed.root, formed.root, aim.id)
    assert (order.token, order.side, order.size, order.limit) == (
        YES, "BUY", shares(20), cents(51),
    )  # fmt: skip
    assert (order.worst_usd, order.reduces, order.leader_price) == (usd(10.2), False, cents(50))
    assert order.expires_ns == NOW_NS + seconds(5)
    assert [each.outcome for each in order.verdicts] == ["pass"] * len(order.verdicts)
    assert (order.quote.best_bid, order.quote.best_ask) == (cents(49), cents(50))
    assert (order.quote.average, order.quote.filled) == (cents(50), shares(20))


def test_a_short_is_bought_as_the_other_outcome_at_its_own_price() -> None:
    order = approval_in(step(State(), review(intent(0, -100, yes_price=cents(49)))))
    assert (order.token, order.side, order.leader_price) == (NO, "BUY", cents(51))
    assert order.limit == cents(52)


def test_an_entry_may_not_be_sent_after_its_target_expires() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    late = NOW_NS + seconds(27)
    rules = policy(entry_age_ns_max=seconds(30))
    order = approval_in(step(state, reconsider(state, late), late, rules=rules))
    assert order.expires_ns == NOW_NS + seconds(30)


def test_an_exit_sells_the_fraction_the_leader_gave_up() -> None:
    state = holding(40)
    order = approval_in(step(state, review(intent(100, 75))))
    assert (order.token, order.side, order.size, order.worst_usd) == (
        YES, "SELL", shares(10), 0,
    )  # fmt: skip
    assert (order.limit, order.reduces) == (cents(49), True)


def test_a_flip_first_sells_then_opens_the_other_side() -> None:
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, -100))))
    assert (sale.token, sale.side, sale.size) == (YES, "SELL", shares(20))
    execute(state, sale, trade="out")
    entry = approval_in(step(state, reconsider(state)))
    assert (entry.token, entry.side, entry.size) == (NO, "BUY", shares(20))
    execute(state, entry, trade="in")
    assert held(state) == (0, shares(20))
    assert looked_at(state) == []


def test_shares_too_few_to_sell_do_not_stand_in_the_way_of_a_flip() -> None:
    """Bought against, they become complete sets: the net is what was wanted."""
    state = holding(20)
    execute(state, approval_in(step(state, review(intent(100, 0)))), shares(17), trade="out")
    step(state, reconsider(state))
    order = approval_in(step(state, review(intent(0, -100, name="flip"))))
    assert (order.token, order.side, order.size) == (NO, "BUY", shares(23))
    execute(state, order, trade="in")
    assert held(state) == (shares(3), shares(23))
    assert looked_at(state) == []


def test_what_is_too_little_to_sell_is_not_hedged_either() -> None:
    state = holding(20)
    execute(state, approval_in(step(state, review(intent(100, 0)))), shares(17), trade="out")
    refused = refusal_in(step(state, reconsider(state)))
    assert (refused.side, refused.size, refused.reason) == ("SELL", shares(3), "BELOW_MINIMUM")


def test_an_exit_leaves_nothing_too_small_to_sell_later() -> None:
    state = holding(20)
    order = approval_in(step(state, review(intent(100, 20))))
    assert order.size == shares(20)  # four would have been left, five are the least
    other = holding(25)
    assert approval_in(step(other, review(intent(100, 20)))).size == shares(20)


def test_a_leader_who_leaves_takes_all_of_ours() -> None:
    state = holding(20)
    order = approval_in(step(state, review(intent(100, 0))))
    assert order.size == shares(20)
    execute(state, order, trade="out")
    assert (state.targets, state.held, state.reserved, state.groups) == ({}, {}, {}, {})


def test_an_exit_from_what_we_never_entered_leaves_no_trace() -> None:
    state = State()
    assert kinds(step(state, review(intent(100, 0)))) == ["TargetSet"]
    assert encode_state(state) == encode_state(State())


def test_the_exit_of_one_leader_never_sells_the_shares_of_another() -> None:
    state = holding(20, state=holding(20, leader=OTHER))
    order = approval_in(step(state, review(intent(100, 0))))
    assert order.size == shares(20)
    execute(state, order, trade="out")
    assert held(state) == (0, 0)
    assert held(state, leader=OTHER) == (shares(20), 0)
    assert step(state, review(intent(100, 0, name="again")))[1:] == []
    assert held(state, leader=OTHER) == (shares(20), 0)


# --- one order at a time ----------------------------------------------------------------------


def test_a_market_with_an_order_in_flight_takes_no_second_one() -> None:
    state = State()
    step(state, review(intent(0, 100)))
    assert kinds(step(state, review(intent(0, -100, name="b", leader=OTHER)))) == ["TargetSet"]
    assert looked_at(state) == []
    assert kinds(step(state, review(intent(0, 100, name="c", number=2), view(of=market(2))))) == [
        "TargetSet", "OrderApproved",
    ]  # fmt: skip


def test_when_the_order_ends_the_next_leader_has_his_turn() -> None:
    state = State()
    first = approval_in(step(state, review(intent(0, 100))))
    step(state, review(intent(0, -100, name="b", leader=OTHER)))
    execute(state, first)
    order = approval_in(step(state, reconsider(state)))
    assert (order.leader, order.token, order.side) == (OTHER, YES, "SELL")
    assert (order.nets, order.reduces) == (True, False)  # he is short against what the first holds


def test_one_decision_approves_one_order() -> None:
    state = State()
    for number, leader in ((1, LEADER), (1, OTHER), (2, LEADER)):
        step(state, review(intent(0, 100, number=number, leader=leader), View()))
    later = NOW_NS + seconds(1)
    assert len(looked_at(state, later)) == 3
    assert kinds(step(state, reconsider(state, later), later)) == ["OrderApproved"]


def test_what_is_in_flight_counts_as_held_already() -> None:
    state = State()
    step(state, review(intent(0, 100)))
    assert gap(state, state.targets[KEY]) == 0
    step(state, review(intent(100, 50, name="out")))
    assert gap(state, state.targets[KEY]) == -shares(10)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sale_in_flight_counts_as_sold(sign: int) -> None:
    state = State()
    execute(state, approval_in(step(state, review(intent(0, sign * 100)))), trade="in")
    step(state, review(intent(sign * 100, 0, name="out")))
    assert gap(state, state.targets[KEY]) == 0


# --- until it is closed -----------------------------------------------------------------------


def test_after_a_partial_fill_the_rest_is_bought_at_once() -> None:
    state = State()
    execute(state, approval_in(step(state, review(intent(0, 100)))), shares(12), trade="a")
    order = approval_in(step(state, reconsider(state)))
    assert order.size == shares(8)
    execute(state, order, trade="b")
    assert held(state) == (shares(20), 0)
    assert looked_at(state) == []


@pytest.mark.parametrize("end", ["killed", "declined"])
def test_an_order_that_did_nothing_is_tried_again_after_twice_as_long_each_time(end: str) -> None:
    state = State()
    step(state, review(intent(100, 0, name="seen before")))
    execute(state, approval_in(step(state, review(intent(0, 100)))), trade="in")
    order = approval_in(step(state, review(intent(100, 0))))
    now_ns, waits = NOW_NS, []
    for _ in range(9):
        message = closed(order, Shares(0), "killed") if end == "killed" else declined(order)
        step(state, message, now_ns)
        waits.append((state.targets[KEY].retry_ns - now_ns) // seconds(1))
        assert looked_at(state, state.targets[KEY].retry_ns - 1) == []
        now_ns = state.targets[KEY].retry_ns
        order = approval_in(step(state, reconsider(state, now_ns), now_ns))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    step(state, fill(order, shares(8), trade="some"), now_ns)
    step(state, closed(order, shares(8), "killed"), now_ns)
    assert state.targets[KEY].retry_ns == now_ns
    assert state.targets[KEY].failures == 0


def test_orders_of_one_target_have_names_of_their_own() -> None:
    state = State()
    names = set()
    facts = step(state, review(intent(0, 100)))
    for at in range(4):
        order = approval_in(facts)
        names.add(order.id)
        execute(state, order, shares(1), trade=str(at))
        facts = step(state, reconsider(state))
    assert len(names) == 4


def test_more_than_wanted_is_sold_again() -> None:
    state = State()
    order = approval_in(step(state, review(intent(0, 100))))
    execute(state, order, trade="in")
    step(state, fill(order, shares(10), trade="after the close"))
    sale = approval_in(step(state, reconsider(state)))
    assert (sale.side, sale.size) == ("SELL", shares(10))


def test_an_entry_not_made_in_time_is_written_off_to_what_is_held() -> None:
    state = State()
    execute(state, approval_in(step(state, review(intent(0, 100)))), shares(12), trade="a")
    late = NOW_NS + seconds(30) + 1
    (fact,) = step(state, reconsider(state, late), late)
    assert isinstance(fact, TargetExpired)
    assert (fact.target, fact.held) == (shares(20), shares(12))
    assert target(state) == shares(12)
    assert looked_at(state, late) == []


def test_an_entry_of_which_nothing_was_made_is_forgotten_when_it_expires() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    late = NOW_NS + seconds(30) + 1
    assert kinds(step(state, reconsider(state, late), late)) == ["TargetExpired"]
    assert encode_state(state) == encode_state(State())


def test_a_target_that_expires_twice_says_so_under_two_names() -> None:
    """A settlement that failed can open a gap again long after the entry was written off."""
    state = State()
    order = approval_in(step(state, review(intent(0, 100))))
    filled, more = fill(order, shares(6), trade="a"), fill(order, shares(6), trade="b")
    for message in (filled, more, closed(order, shares(12), "killed")):
        step(state, message)
    late = NOW_NS + seconds(31)
    (first,) = step(state, reconsider(state, late), late)
    step(state, failed(filled), late)
    later = late + seconds(1)
    (second,) = step(state, reconsider(state, later), later)
    assert isinstance(first, TargetExpired)
    assert isinstance(second, TargetExpired)
    assert (first.held, second.held) == (shares(12), shares(6))
    assert first.id != second.id


def test_a_reduction_never_expires() -> None:
    state = holding(20)
    step(state, review(intent(100, 0), View()))
    much_later = NOW_NS + seconds(86_400)
    order = approval_in(step(state, reconsider(state, much_later), much_later))
    assert (order.side, order.size) == ("SELL", shares(20))
    assert order.expires_ns == much_later + seconds(5)


def test_what_the_leader_gave_up_renews_no_entry() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    half = intent(100, 50, name="half", venue_ns=NOW_NS + seconds(29))
    step(state, review(half, View()), NOW_NS + seconds(29))
    assert target(state) == shares(10)
    late = NOW_NS + seconds(30) + 1
    assert kinds(step(state, reconsider(state, late), late)) == ["TargetExpired"]


def test_what_the_leader_adds_renews_the_entry() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    more = intent(100, 200, name="more", venue_ns=NOW_NS + seconds(29))
    step(state, review(more, View()), NOW_NS + seconds(29))
    late = NOW_NS + seconds(59)
    order = approval_in(step(state, reconsider(state, late), late))
    assert (order.side, order.size) == ("BUY", shares(40))


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (View(), "MARKET_UNKNOWN"),
        (view(books=(None, None)), "BOOK_MISSING"),
        (view(books=(book(trusted=False), None)), "BOOK_UNTRUSTED"),
        (view(books=(book(seen_ns=NOW_NS - seconds(6)), None)), "BOOK_STALE"),
        (view(books=(book(ask=60), None)), "PRICE_MOVED"),
        (view(market=market(as_of_ns=0)), "MARKET_STALE"),
        (view(account=None), "ACCOUNT_UNKNOWN"),
        (view(account=account(as_of_ns=0)), "ACCOUNT_STALE"),
    ],
)
def test_a_refusal_that_time_may_mend_is_said_once_and_tried_again(seen: View, reason: str) -> None:
    state = State()
    refused = refusal_in(step(state, review(intent(0, 100), seen)))
    assert (refused.reason, refused.final, refused.retry_ns) == (
        reason, False, NOW_NS + seconds(1),
    )  # fmt: skip
    assert (refused.side, refused.size) == ("BUY", shares(20))
    assert looked_at(state, NOW_NS + seconds(1) - 1) == []
    later = NOW_NS + seconds(1)
    assert looked_at(state, later) == [KEY]
    order = approval_in(step(state, reconsider(state, later), later))
    assert order.size == shares(20)


def test_the_same_refusal_is_not_said_again_but_another_is() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    for at in (1, 2, 3):
        now_ns = NOW_NS + seconds(at)
        assert step(state, reconsider(state, now_ns, seen=View()), now_ns) == []
    now_ns = NOW_NS + seconds(4)
    blind = view(now_ns=now_ns, books=(None, None))
    assert refusal_in(step(state, reconsider(state, now_ns, seen=blind), now_ns)).reason == (
        "BOOK_MISSING"
    )


def test_a_refusal_is_said_again_once_an_order_came_between() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    later = NOW_NS + seconds(1)
    order = approval_in(step(state, reconsider(state, later), later))
    step(state, declined(order), later)
    again = later + seconds(1)
    refused = refusal_in(step(state, reconsider(state, again, seen=View()), again))
    assert refused.reason == "MARKET_UNKNOWN"


def test_a_refusal_is_said_again_of_what_was_written_off() -> None:
    state = State()
    order = approval_in(step(state, review(intent(0, 100))))
    execute(state, order, shares(12), trade="a part")
    step(state, reconsider(state, seen=View()))
    late = NOW_NS + seconds(31)
    assert kinds(step(state, reconsider(state, late), late)) == ["TargetExpired"]
    step(state, fill(order, shares(8), trade="late"), late)
    refused = refusal_in(step(state, reconsider(state, late, seen=View()), late))
    assert (refused.side, refused.size, refused.reason) == ("SELL", shares(8), "MARKET_UNKNOWN")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view(of=market(accepting_orders=False)), "MARKET_CLOSED"),
        (view(books=(book(ask=1), None)), "PRICE_TOO_LOW"),
        (view(account=account(collateral=Usd(0))), "BALANCE_CAP"),
        (view(account=account(closed_only=True)), "CLOSED_ONLY"),
    ],
)
def test_a_refusal_that_time_does_not_mend_writes_the_entry_off(seen: View, reason: str) -> None:
    state = State()
    refused = refusal_in(step(state, review(intent(0, 100), seen)))
    assert (refused.reason, refused.final) == (reason, True)
    assert refused.verdicts[-1].outcome == "refuse"
    assert encode_state(state) == encode_state(State())


def test_an_entry_that_is_written_off_keeps_what_is_held() -> None:
    state = holding(20)
    seen = view(account=account(collateral=Usd(0)))
    assert refusal_in(step(state, review(intent(100, 200), seen))).final
    assert target(state) == shares(20)
    assert approval_in(step(state, review(intent(200, 100, name="out")))).size == shares(10)


def test_a_sale_is_never_written_off() -> None:
    state = holding(20)
    seen = view(of=market(accepting_orders=False))
    refused = refusal_in(step(state, review(intent(100, 0), seen)))
    assert (refused.reason, refused.final) == ("MARKET_CLOSED", False)
    assert looked_at(state, NOW_NS + seconds(1)) == [KEY]


def test_a_sale_is_judged_without_an_account_and_on_a_book_that_is_not_yet_dead() -> None:
    state = holding(20)
    old = NOW_NS + seconds(60)
    seen = view(now_ns=NOW_NS, account=None)
    order = approval_in(step(state, review(intent(100, 0), seen), old))
    assert order.size == shares(20)
    dead = holding(20)
    refused = refusal_in(step(dead, review(intent(100, 0), seen), old + 1))
    assert (refused.reason, refused.actual) == ("BOOK_STALE", seconds(60) + 1)


def test_dust_waits_for_the_next_intent_and_is_not_lost() -> None:
    state = State()
    refused = refusal_in(step(state, review(intent(0, 3))))
    assert (refused.reason, refused.final, refused.retry_ns) == ("BELOW_MINIMUM", False, NEVER_NS)
    assert looked_at(state, NOW_NS + seconds(86_400)) == []
    order = approval_in(step(state, review(intent(3, 6, name="more"))))
    assert order.size == shares(6)


def test_a_thin_book_does_not_turn_an_exit_into_dust() -> None:
    """What was cut below the minimum is tried again; only what is small by itself waits."""
    state = holding(20)
    refused = refusal_in(step(state, review(intent(100, 0), view(size=3))))
    assert (refused.reason, refused.retry_ns) == ("BELOW_MINIMUM", NOW_NS + seconds(1))
    later = NOW_NS + seconds(1)
    assert approval_in(step(state, reconsider(state, later), later)).size == shares(20)


def test_dust_is_looked_at_again_when_the_holding_changes() -> None:
    """A failed settlement returns shares to a target that had only dust to wait for."""
    state = holding(20)
    sale = approval_in(step(state, review(intent(100, 0))))
    sold = fill(sale, shares(17), trade="out")
    for message in (sold, closed(sale, shares(17), "killed")):
        step(state, message)
    assert refusal_in(step(state, reconsider(state))).retry_ns == NEVER_NS
    step(state, failed(sold))
    order = approval_in(step(state, reconsider(state)))
    assert (order.side, order.size) == ("SELL", shares(20))


def test_an_open_gap_that_was_refused_does_not_starve_the_others() -> None:
    """The shell looks at a few gaps at a time: the first of a full list change in turns."""
    state = State()
    for number in range(1, 6):
        step(state, review(intent(0, 100, number=number), View()))
    facts = step(state, review(intent(0, 100, number=6), view(of=market(6))))
    execute(state, approval_in(facts), shares(8), trade="a part")
    firsts = [looked_at(state, NOW_NS + seconds(second))[:2] for second in range(1, 6)]
    fresh = key_of(LEADER, condition(6))
    assert {first for first, _ in firsts} == {fresh}
    assert len({second for _, second in firsts}) == 5


# --- prices at the edge -----------------------------------------------------------------------


@pytest.mark.parametrize("price", [1, 999_999])
@pytest.mark.parametrize("after", [100, -100])
def test_a_price_at_the_very_edge_breaks_nothing(price: int, after: float) -> None:
    state = State()
    facts = step(state, review(intent(0, after, yes_price=Price(price))))
    assert kinds(facts)[0] == "TargetSet"


def test_a_correction_of_his_shares_moves_no_target_by_itself() -> None:
    state = holding(20)
    step(state, correction(-20))
    late = NOW_NS + seconds(31)
    assert kinds(step(state, reconsider(state, late), late)) == ["TargetExpired"]
    assert (state.targets, state.held) == ({}, {})


# --- the envelope -----------------------------------------------------------------------------


def test_messages_of_others_say_nothing() -> None:
    state = State()
    for message in (Tick(NOW_NS), intent(0, 1), object()):
        assert step(state, message) == []


def test_a_view_of_a_target_that_is_gone_says_nothing() -> None:
    assert step(State(), Reconsider(now_ns=NOW_NS, views={KEY: view()})) == []


def test_a_target_that_is_reached_says_nothing() -> None:
    state = holding(20)
    assert step(state, Reconsider(now_ns=NOW_NS, views={KEY: view()})) == []


def test_facts_of_others_are_refused() -> None:
    foreign = DriftCleared(
        id="x", cause="", root="x", ts_ns=0, token=YES, found=False, duration_ms=0
    )
    with pytest.raises(AssertionError, match="not a fact of risk"):
        evolve(State(), foreign)


def test_a_refusal_names_its_token_once_a_case_could_be_made() -> None:
    state = State()
    blind = refusal_in(step(state, review(intent(0, 100), View())))
    assert (blind.token, blind.quote) == (None, None)
    other = refusal_in(step(State(), review(intent(0, 100), view(books=(book(ask=60), None)))))
    assert isinstance(other, OrderRefused)
    assert other.token == YES
    assert other.quote is not None
    assert other.quote.best_ask == cents(60)


def test_positions_of_one_event_share_its_cap() -> None:
    rules = policy(event_usd_max=usd(15))
    one, two, apart = (market(n, event=e) for n, e in ((1, "cup"), (2, "cup"), (3, "rain")))
    state = State()
    order = approval_in(step(state, review(intent(0, 100), view(of=one)), rules=rules))
    execute(state, order, trade="one")
    second = review(intent(0, 100, number=2), view(of=two))
    trimmed = approval_in(step(state, second, rules=rules))
    assert trimmed.worst_usd <= usd(15) - usd(10.2)
    third = review(intent(0, 100, number=3), view(of=apart))
    assert approval_in(step(state, third, rules=rules)).size == shares(20)


def test_what_is_taken_back_beyond_its_cost_frees_no_other_limit() -> None:
    """Shares of a failed buy were sold meanwhile: the deficit in cost is nobody's headroom."""
    state = State()
    order = approval_in(step(state, review(intent(0, 100))))
    filled = fill(order, trade="in")
    for message in (filled, closed(order, filled.size)):
        step(state, message)
    sale = approval_in(step(state, review(intent(100, 50))))
    execute(state, sale, trade="out")
    step(state, failed(filled))
    assert held(state) == (-shares(10), 0)
    assert state.held[KEY].cost == 0
    assert state.held[KEY].net == 0


def test_a_deficit_is_not_traded_against() -> None:
    """Buying for it would buy shares that nobody wants: the reconciler mends it."""
    state = State()
    order = approval_in(step(state, review(intent(0, 100))))
    filled = fill(order, trade="in")
    for message in (filled, closed(order, filled.size)):
        step(state, message)
    execute(state, approval_in(step(state, review(intent(100, 50)))), trade="out")
    step(state, review(intent(50, 0, name="rest"), View()))
    step(state, failed(filled))
    assert held(state) == (-shares(10), 0)
    assert target(state) == 0
    assert looked_at(state, NOW_NS + seconds(600)) == []
