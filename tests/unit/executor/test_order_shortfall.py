"""What an order cost against the leader's price: each part by hand, and the parts the whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.shortfall import delay_move
from services.executor.state import State
from shared.domain.book import Book
from shared.domain.market import Side
from shared.domain.messages import (
    Fact,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderPrepared,
    Quote,
    ShortfallMeasured,
)
from shared.domain.units import NS_PER_S, Price, Shares
from tests.support.order_builders import (
    CONDITION,
    HUNDRED,
    START_NS,
    TEN,
    YES,
    approval,
    attempt,
    fill,
    market,
    only,
    price,
    refusal,
    reported,
    step,
)


def book(bid: int, ask: int, *, volatility: int | None = None) -> Book:
    return Book(
        token=YES, condition=CONDITION,
        bids=((price(bid), HUNDRED),), asks=((price(ask), HUNDRED),),
        seen_ns=START_NS, trusted=True, volatility=volatility,
    )  # fmt: skip


def approved(side: Side = "BUY", *, bid: int, ask: int, limit: int, **more: Any) -> OrderApproved:
    """Approve on a book of this best bid and ask; the leader traded at 50 cents."""
    quote = Quote(best_bid=price(bid), best_ask=price(ask), depth=HUNDRED, book_age_ns=0)
    said = approval(side=side, limit=price(limit))
    return msgspec.structs.replace(said, quote=quote, **more)


def send(state: State, said: OrderApproved, seen: Book) -> OrderPrepared:
    (fact,) = step(state, attempt(said, fresh=seen))
    assert isinstance(fact, OrderPrepared)
    return fact


def cost(facts: list[Fact]) -> tuple[int, ...]:
    """Return waiting, latency, execution, fee and total, in cents."""
    told: ShortfallMeasured = only(facts, ShortfallMeasured)
    parts = (told.waiting, told.latency, told.execution, told.fee, told.total)
    return tuple(part // 10_000 for part in parts)


def test_a_purchase_is_split_at_the_mids() -> None:
    """Ten shares: he paid 50, the mid was 52 when risk decided and 54 when it went out; 56 paid."""
    state = State()
    send(state, approved(bid=51, ask=53, limit=56), book(53, 55))
    (order,) = state.orders.values()
    facts = step(state, reported(order, fill(order, at=price(56))))
    assert cost(facts) == (20, 20, 20, 0, 60)
    told = only(facts, ShortfallMeasured)
    assert (told.size, told.paid) == (TEN, 5_600_000)
    assert told.expected_execution == 100_000, "the ask was a cent above the mid"
    closed = only(facts, OrderClosed)
    assert told.cause == closed.id


def test_a_sale_is_split_with_the_other_sign() -> None:
    """He sold at 50; the mid fell to 48 and 46; 45 received: every part is against us."""
    state = State()
    send(state, approved("SELL", bid=47, ask=49, limit=44), book(45, 47))
    (order,) = state.orders.values()
    facts = step(state, reported(order, fill(order, at=price(45))))
    assert cost(facts) == (20, 20, 10, 0, 50)


def test_what_comes_cheaper_is_negative() -> None:
    state = State()
    send(state, approved(bid=47, ask=49, limit=50), book(47, 49))
    (order,) = state.orders.values()
    assert cost(step(state, reported(order, fill(order, at=price(47))))) == (-20, 0, -10, 0, -30)


def test_the_fee_is_part_of_it_and_only_takers_pay() -> None:
    state = State()
    said = approved(bid=49, ask=51, limit=52, market=market(fee_rate=40_000))
    send(state, said, book(49, 51))
    (order,) = state.orders.values()
    half = Shares(TEN // 2)
    fills = (fill(order, "a", at=price(51), size=half),
             fill(order, "b", at=price(51), size=half, taker=False))  # fmt: skip
    told = only(step(state, reported(order, *fills)), ShortfallMeasured)
    assert told.fee == 49_980, "5 shares x 0.04 x 0.51 x 0.49"
    assert told.total == told.execution + told.fee == 100_000 + 49_980


def test_a_mid_that_is_not_known_leaves_its_part_to_the_next() -> None:
    state = State()
    bare = Quote(best_bid=None, best_ask=price(53), depth=HUNDRED, book_age_ns=0)
    said = msgspec.structs.replace(approved(bid=51, ask=53, limit=56), quote=bare)
    send(state, said, book(53, 55))
    (order,) = state.orders.values()
    facts = step(state, reported(order, fill(order, at=price(55))))
    assert only(facts, ShortfallMeasured).decision_mid is None
    assert cost(facts) == (0, 40, 10, 0, 50)


def test_an_order_that_did_not_fill_cost_nothing() -> None:
    state = State()
    send(state, approved(bid=49, ask=50, limit=50), book(49, 50))
    (order,) = state.orders.values()
    assert not any(isinstance(f, ShortfallMeasured) for f in step(state, refusal(order)))


@pytest.mark.parametrize("kept_ns", [0, 60 * NS_PER_S])
def test_what_a_closed_order_fills_or_loses_later_is_measured_again(kept_ns: int) -> None:
    state = State()
    send(state, approved(bid=49, ask=51, limit=52), book(49, 51))
    (order,) = state.orders.values()
    half = Shares(TEN // 2)
    first = fill(order, "a", "CONFIRMED", at=price(51), size=half)
    facts = step(state, reported(order, first, matched=half, status="CANCELED"))
    assert cost(facts) == (0, 0, 5, 0, 5)
    late = fill(order, "b", at=price(52), size=half)
    facts = step(state, late, START_NS + kept_ns)
    assert cost(facts) == (0, 0, 15, 0, 15)
    gone = fill(order, "b", "FAILED", at=price(52), size=half)
    again = step(state, gone, START_NS + kept_ns + 1)
    assert cost(again) == (0, 0, 5, 0, 5)
    assert only(again, ShortfallMeasured).id != only(facts, ShortfallMeasured).id
    assert not step(state, gone, START_NS + kept_ns + 2)


@given(
    side=st.sampled_from(["BUY", "SELL"]),
    mids=st.tuples(*[st.integers(2, 97)] * 2),
    fills=st.lists(
        st.tuples(st.integers(1, 99), st.integers(1, 5 * 10**6)), min_size=1, max_size=5
    ),
    leader=st.integers(1, 10**6 - 1),
)
def test_the_parts_are_the_whole(
    side: Side, mids: tuple[int, int], fills: list[tuple[int, int]], leader: int
) -> None:
    state = State()
    decision, arrival = mids
    said = approved(
        side, bid=decision - 1, ask=decision + 1, limit=99 if side == "BUY" else 1,
        leader_price=Price(leader), market=market(fee_rate=70_000), size=HUNDRED,
    )  # fmt: skip
    send(state, said, book(arrival - 1, arrival + 1))
    (order,) = state.orders.values()
    done = [fill(order, str(n), at=price(at), size=Shares(size))
            for n, (at, size) in enumerate(fills)]  # fmt: skip
    told = only(step(state, reported(order, *done, status="CANCELED")), ShortfallMeasured)
    assert told.total == told.waiting + told.latency + told.execution + told.fee
    sign = 1 if side == "BUY" else -1
    exact = sum((at * 10_000 - leader) * size for at, size in fills) * sign / 10**6
    assert abs(told.total - told.fee - exact) <= len(fills) + 1


# --- the venue's delay of takers ------------------------------------------------------------


def test_a_delay_is_expected_to_cost_what_the_mid_moves_in_it() -> None:
    """2 % of log-odds in a second, four seconds, half: 0.04 x 0.25 x 0.3989 = 0.003989."""
    held = msgspec.structs.replace(market(), delay_ns=4 * NS_PER_S)
    assert delay_move(held, book(49, 51, volatility=20_000)) == 3_990
    assert delay_move(market(), book(49, 51, volatility=20_000)) == 0
    assert delay_move(held, book(49, 51)) == 0, "not known"
    near_the_end = book(97, 99, volatility=20_000)
    assert delay_move(held, near_the_end) == 313, "0.98 x 0.02 x 0.04 x 0.3989"


def delayed(**more: Any) -> OrderApproved:
    held = msgspec.structs.replace(market(), delay_ns=4 * NS_PER_S)
    return approved(bid=49, ask=51, limit=51, market=held, **more)


def test_the_delay_is_in_the_estimate() -> None:
    (sent,) = step(State(), attempt(delayed(), fresh=book(49, 51, volatility=20_000)))
    assert isinstance(sent, OrderPrepared), "less than a tick moves no price"
    assert (sent.quote.average, sent.quote.delay_move) == (513_990, 3_990)


def test_an_entry_that_the_delay_makes_too_dear_is_given_back_and_an_exit_is_not() -> None:
    wild = book(49, 51, volatility=60_000)
    (fact,) = step(State(), attempt(delayed(), fresh=wild))
    assert isinstance(fact, OrderDeclined)
    assert (fact.reason, fact.actual, fact.limit) == ("DELAY_COST", 521_969, 510_000)
    roomy = msgspec.structs.replace(delayed(), limit=price(53))
    assert isinstance(step(State(), attempt(roomy, fresh=wild))[0], OrderPrepared)
    assert isinstance(step(State(), attempt(delayed(reduces=True), fresh=wild))[0], OrderPrepared)
