"""Answers, user stream and REST in any order, any number of times: one state in the end."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.executor.lifecycle import PHASES
from services.executor.state import NEVER_NS, Order, State, known_order
from services.executor.views import unsettled
from shared.domain.ids import TokenId, Wallet
from shared.domain.messages import OrderClosed, OrderFilled
from shared.domain.observations import OrderStatus, OwnFill, Settlement
from shared.domain.units import MICRO, Shares
from shared.polymarket import parse_own, wire
from shared.polymarket.parse_own import Me
from shared.runtime.runner import encode_state
from tests.support.order_builders import (
    CONDITION,
    NO,
    START_NS,
    TEN,
    YES,
    answered,
    approval,
    duplicated,
    feed,
    fill,
    kinds,
    lost,
    missing,
    prepared,
    refusal,
    reported,
    shares,
    step,
    unreadable,
)

Word = tuple[str, int]  # a trade and how far its settlement has come
# How settlement may go on: each path's every prefix is a time at which somebody may read it.
PATHS: list[tuple[Settlement, ...]] = [
    ("MATCHED", "MINED", "CONFIRMED"),
    ("MATCHED", "RETRYING", "MINED", "CONFIRMED"),
    ("MATCHED", "RETRYING", "FAILED"),
    ("MATCHED", "RETRYING"),
    ("MATCHED",),
]


@st.composite
def truths(draw: st.DrawFn) -> tuple[tuple[Settlement, ...], ...]:
    """Draw what became of an order of ten shares: how each trade of two shares settled."""
    return tuple(draw(st.lists(st.sampled_from(PATHS), max_size=5)))


def words(draw: Any, order: Order, truth: tuple[tuple[Settlement, ...], ...]) -> list[Any]:
    """Draw all that may be said of an order, some of it twice, shuffled; the end is among it."""
    last = [_fill(order, n, path[-1]) for n, path in enumerate(truth)]
    early = [_fill(order, n, word) for n, path in enumerate(truth) for word in path]
    matched = Shares(sum(each.size for each in last))
    ended: OrderStatus = draw(st.sampled_from(["MATCHED", "CANCELED"])) if truth else "CANCELED"
    end = reported(order, *last, matched=matched, status=ended)
    partial = reported(order, *early[:2], matched=matched, status="LIVE")
    noise = [
        answered(order, draw(st.sampled_from(["live", "matched", "delayed", "unmatched"]))),
        duplicated(order),
        lost(order),
        lost(order, retry_ns=NEVER_NS),
        missing(order, 1),
        missing(order, 9),
        unreadable(order),
        reported(order, status="DELAYED", matched=Shares(0)),
        partial,
    ]
    if not any(path[-1] != "FAILED" for path in truth):
        noise.append(refusal(order))  # believed only where no execution stands
    said = [end, *last, *draw(st.lists(st.sampled_from(noise), max_size=8))]
    said += draw(st.lists(st.sampled_from(early), max_size=8)) if early else []
    said += draw(st.lists(st.sampled_from(said), max_size=4))
    return draw(st.permutations(said))


def _fill(order: Order, n: int, settlement: Settlement) -> OwnFill:
    return fill(order, f"t{n}", settlement, size=shares(2))


def told(draw: Any, truth: tuple[tuple[Settlement, ...], ...]) -> tuple[State, list[Any]]:
    state = State()
    order = prepared(state, approval(fee_rate=20_000))
    return state, feed(state, words(draw, order, truth))


@given(truths(), st.data())
@settings(max_examples=300, deadline=None)
def test_the_same_truth_told_in_two_ways_ends_in_the_same_state(
    truth: tuple[tuple[Settlement, ...], ...], data: st.DataObject
) -> None:
    one, first = told(data.draw, truth)
    two, second = told(data.draw, truth)
    assert encode_state(one) == encode_state(two)
    stands = sum(2 for path in truth if path[-1] != "FAILED")
    held = one.holdings.get(YES)
    assert (held.position.shares if held else 0) == shares(stands)
    waits = sum(2 for path in truth if path[-1] not in ("CONFIRMED", "FAILED"))
    assert unsettled(one, YES) == shares(waits)
    for facts in (first, second):
        assert kinds(facts).count("OrderClosed") == 1
        booked = [fact.trade for fact in facts if isinstance(fact, OrderFilled)]
        assert sorted(booked) == [f"t{n}" for n in range(len(truth))]


@given(truths(), st.data())
@settings(max_examples=150, deadline=None)
def test_what_was_proved_of_an_order_is_never_unproved(
    truth: tuple[tuple[Settlement, ...], ...], data: st.DataObject
) -> None:
    state = State()
    order = prepared(state)
    at = 0
    for word in words(data.draw, order, truth):
        closed_before = at == PHASES.index("closed")
        facts = step(state, word)
        known = known_order(state, order.order)
        assert known is not None
        assert PHASES.index(known.phase) >= at
        at = PHASES.index(known.phase)
        assert not (closed_before and any(isinstance(fact, OrderClosed) for fact in facts))


# --- our legs of others' trades -----------------------------------------------------------------

ME = Me(wallet=Wallet("0x" + "aa" * 20), owner="me")


def leg(order: Order, size: int, *, with_side: bool) -> wire.MakerLeg:
    return wire.MakerLeg(
        order_id=order.order,
        owner=ME.owner,
        matched_amount=f"{size}",
        price=f"{order.price / MICRO:.2f}",
        asset_id=order.token,
        side=order.side if with_side else None,
    )


def foreign(size: int) -> wire.MakerLeg:
    """Return the leg of somebody else in the same trade."""
    return wire.MakerLeg(
        order_id="0x" + "fe" * 32, owner="other", maker_address="0x" + "0e" * 20,
        matched_amount=f"{size}", price="0.50", asset_id=YES, side="SELL",
    )  # fmt: skip


def trade(status: str, legs: list[wire.MakerLeg], *, token: TokenId, side: str) -> wire.Trade:
    """Return a trade in which we made: its top level is the taker's."""
    return wire.Trade(
        id="t1", status=status, market=CONDITION, asset_id=token, side=side, size="20",
        price="0.51", taker_order_id="0x" + "ba" * 32, trader_side="MAKER", owner="taker",
        match_time=f"{START_NS // 10**9}", maker_orders=legs,
    )  # fmt: skip


@given(
    taken=st.sampled_from([YES, NO]),
    path=st.sampled_from(PATHS[:3]),
    with_side=st.booleans(),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_makers_legs_are_booked_on_their_own_tokens_once_each(
    taken: TokenId, path: tuple[Settlement, ...], data: st.DataObject, *, with_side: bool
) -> None:
    """One trade fills a BUY of ours on each token; the taker's token and side are not ours.

    Two buys mint a set, and a buy meets a sale on its own token: an untold side follows.
    """
    state = State()
    orders = {YES: prepared(state), NO: prepared(state, approval("second", token=NO))}
    legs = [leg(orders[YES], 4, with_side=True), foreign(6), leg(orders[NO], 10, with_side=True)]
    if not with_side:
        alone = NO if taken == YES else YES  # the complement of what was taken: both bought
        legs = [leg(orders[alone], 10, with_side=False)]
    forms = [f"{prefix}{word}" for word in path for prefix in ("", "TRADE_STATUS_")]
    said = data.draw(st.lists(st.sampled_from(forms), max_size=8))
    said = data.draw(st.permutations([*said, path[-1]]))
    facts = []
    for status in said:
        row = trade(status, legs, token=taken, side="BUY")
        facts += feed(state, parse_own.own_fills(row, ME, now_ns=START_NS))
    stands = path[-1] != "FAILED"
    expected = {YES: 4, NO: 10} if with_side else {alone: 10}
    for token, count in expected.items():
        held = state.holdings[token].position
        assert held.shares == (shares(count) if stands else 0)
        booked = [f for f in facts if isinstance(f, OrderFilled) and f.token == token]
        assert len(booked) == 1
        assert (booked[0].side, booked[0].fee) == ("BUY", 0)
    assert set(state.holdings) == set(expected)


@given(st.permutations(["MATCHED", "RETRYING", "MINED", "CONFIRMED"]), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_retried_settlement_keeps_its_shares_waiting_until_it_is_final(
    told: list[Settlement], heard: int
) -> None:
    state = State()
    order = prepared(state)
    for word in told[:heard]:
        step(state, fill(order, settlement=word))
    assert state.holdings[YES].position.shares == TEN
    assert unsettled(state, YES) == (0 if "CONFIRMED" in told[:heard] else TEN)


def test_the_state_is_saved_and_read_back_whole() -> None:
    state = State()
    order = prepared(state)
    feed(state, [fill(order, settlement="CONFIRMED"), reported(order, fill(order))])
    prepared(state, approval("second"))
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
