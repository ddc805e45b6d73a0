"""Orders that are to fill whole, or to rest: how they are made, and when they are called off."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.executor.state import Resting, State
from shared.domain.book import Book
from shared.domain.ids import TokenId
from shared.domain.market import Side
from shared.domain.messages import (
    ApprovalWithdrawn,
    CancelRequested,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderPrepared,
    OrderRejected,
)
from shared.domain.units import NS_PER_S, Shares
from shared.domain.views import ACCOUNT
from tests.support.eventually import eventually
from tests.support.order_builders import (
    CONDITION,
    HUNDRED,
    START_NS,
    TEN,
    YES,
    answered,
    approval,
    attempt,
    fill,
    lost,
    missing,
    only,
    prepared,
    price,
    refusal,
    reported,
    shares,
    step,
)
from tests.support.order_lane import System

TICK = 10_000


def resting(side: Side = "BUY", *, limit: int, ticks: int = 1, **more: Any) -> OrderApproved:
    said = approval(side=side, limit=price(limit))
    return msgspec.structs.replace(said, policy="post_only", reprice_ticks=ticks, **more)


def book(bid: int | None, ask: int | None) -> Book:
    return Book(
        token=YES, condition=CONDITION, seen_ns=START_NS, trusted=True,
        bids=((price(bid), HUNDRED),) if bid else (), asks=((price(ask), HUNDRED),) if ask else (),
    )  # fmt: skip


def made(said: OrderApproved, seen: Book) -> OrderPrepared | OrderDeclined:
    (fact,) = step(State(), attempt(said, fresh=seen))
    assert isinstance(fact, OrderPrepared | OrderDeclined)
    return fact


# --- how they are made ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "limit", "at"),
    [("BUY", 55, 45), ("BUY", 40, 40), ("SELL", 30, 49), ("SELL", 60, 60)],
    ids=["joins the bid", "no dearer than approved", "joins the ask", "no cheaper than approved"],
)
def test_a_resting_order_joins_its_side_within_the_limit(side: Side, limit: int, at: int) -> None:
    fact = made(resting(side, limit=limit), book(45, 49))
    assert isinstance(fact, OrderPrepared)
    assert (fact.price, fact.policy, fact.fee) == (price(at), "post_only", 0)
    worth = fact.price * fact.size // 10**6
    assert sorted((fact.maker_amount, fact.taker_amount)) == sorted((worth, fact.size))
    assert fact.quote.average == fact.price


@pytest.mark.parametrize(("side", "seen"), [("BUY", book(None, 49)), ("SELL", book(45, None))])
def test_where_nobody_stands_there_is_no_price_to_join(side: Side, seen: Book) -> None:
    fact = made(resting(side, limit=47), seen)
    assert isinstance(fact, OrderDeclined)
    assert fact.reason == "NO_NEAR_SIDE"


def test_the_venue_removes_it_by_itself_should_we_not_be_there_to_cancel() -> None:
    """It wants three minutes at least, and removes an order a minute early."""
    soon = made(resting(limit=50, expires_ns=START_NS + 20 * NS_PER_S), book(45, 49))
    late = made(resting(limit=50, expires_ns=START_NS + 900 * NS_PER_S), book(45, 49))
    taker = made(approval(), book(45, 49))
    start_s = START_NS // NS_PER_S
    told = [fact.expiration_s for fact in (soon, late, taker) if isinstance(fact, OrderPrepared)]
    assert told == [start_s + 240, start_s + 990, 0]


def test_what_must_fill_whole_is_not_sent_where_it_cannot() -> None:
    thin = msgspec.structs.replace(book(45, 49), asks=((price(49), Shares(TEN - 1)),))
    whole = msgspec.structs.replace(approval(limit=price(49)), policy="fill_or_kill")
    fact = made(whole, thin)
    assert isinstance(fact, OrderDeclined)
    assert (fact.reason, fact.actual, fact.limit, fact.unit) == (
        "NOT_WHOLE",
        TEN - 1,
        TEN,
        "shares",
    )
    sent = made(whole, book(45, 49))
    assert isinstance(sent, OrderPrepared)
    assert sent.policy == "fill_or_kill"


def test_how_an_order_trades_is_in_its_name() -> None:
    """The same approval with another policy is other bytes, so it may not have the same hash."""
    names = {
        only(step(State(), attempt(msgspec.structs.replace(approval(), policy=how))),
             OrderPrepared).order
        for how in ("fill_and_kill", "fill_or_kill")
    }  # fmt: skip
    assert len(names) == 2


# --- when they are called off -----------------------------------------------------------------


def rested(side: Side = "BUY", *, ticks: int = 2) -> tuple[State, Any]:
    state = State()
    limit = 60 if side == "BUY" else 30
    step(state, attempt(resting(side, limit=limit, ticks=ticks), fresh=book(45, 49)))
    (order,) = state.orders.values()
    step(state, answered(order, "live"))
    return state, order


@pytest.mark.parametrize(
    ("side", "near", "off"),
    [("BUY", 46, False), ("BUY", 47, True), ("BUY", 40, False),
     ("SELL", 48, False), ("SELL", 47, True), ("SELL", 55, False), ("BUY", None, False)],
)  # fmt: skip
def test_it_follows_the_best_price_but_not_away_from_it(
    side: Side, near: int | None, off: bool
) -> None:
    state, order = rested(side)
    seen = Resting(order=order.order, near=price(near) if near else None)
    facts = step(state, seen)
    assert bool(facts) == off
    if off:
        fact = only(facts, CancelRequested)
        assert (fact.reason, fact.near) == ("repriced", price(near or 0))


def test_it_stays_where_it_is_if_it_is_not_to_follow() -> None:
    state, order = rested(ticks=0)
    assert step(state, Resting(order=order.order, near=price(48))) == []


@pytest.mark.parametrize("policy", ["post_only", "fill_and_kill"])
def test_whatever_rests_longer_than_approved_is_called_off_once(policy: str) -> None:
    """A marketable order rests too, after a matching delay that found nobody."""
    state = State()
    if policy == "post_only":
        state, order = rested()
    else:
        order = prepared(state)
        step(state, answered(order, "unmatched"))
    look = Resting(order=order.order)
    assert step(state, look, order.expires_ns) == []
    fact = only(step(state, look, order.expires_ns + 1), CancelRequested)
    assert fact.reason == "rest_over"
    assert step(state, look, order.expires_ns + 2) == []
    assert state.orders[order.order].phase == "resting", "it may still fill"
    late = fill(order, size=shares(4))
    ended = step(state, reported(order, late, status="CANCELED"))
    assert [type(f) for f in ended][:2] == [OrderFilled, OrderClosed]
    closed = only(ended, OrderClosed)
    assert (closed.reason, closed.filled) == ("rest_over", shares(4))


def test_what_filled_whole_after_all_is_filled() -> None:
    state, order = rested()
    step(state, Resting(order=order.order), order.expires_ns + 1)
    ended = step(state, reported(order, fill(order)))
    assert only(ended, OrderClosed).reason == "filled"


def withdrawal(order: Any) -> ApprovalWithdrawn:
    return ApprovalWithdrawn(
        id="w", cause=order.approval, root="r", ts_ns=START_NS, approval=order.approval,
        condition=order.condition, token=order.token, reason="target_changed",
    )  # fmt: skip


@pytest.mark.parametrize("told", [None, answered, lost], ids=["prepared", "resting", "unknown"])
def test_what_risk_withdraws_is_called_off_whatever_is_known_of_it(told: Any) -> None:
    state = State()
    step(state, attempt(resting(limit=60), fresh=book(45, 49)))
    (order,) = state.orders.values()
    if told:
        step(state, told(order, "live") if told is answered else told(order))
    fact = only(step(state, withdrawal(order)), CancelRequested)
    assert (fact.reason, fact.cause) == ("withdrawn", "w")
    assert step(state, withdrawal(order)) == []
    assert step(state, missing(order, 0)) == [], "what is not wanted is not sent again"


def test_a_withdrawal_of_what_has_ended_is_no_matter() -> None:
    state, order = rested()
    step(state, reported(order, status="CANCELED"))
    assert step(state, withdrawal(order)) == []


def test_crossing_is_no_refusal_to_be_alarmed_by() -> None:
    state = State()
    step(state, attempt(resting(limit=60), fresh=book(45, 49)))
    (order,) = state.orders.values()
    facts = step(state, refusal(order, "post_only_crosses"))
    assert only(facts, OrderRejected).reason == "post_only_crosses"
    assert only(facts, OrderClosed).reason == "crossed: post_only_crosses"


# --- at the venue -----------------------------------------------------------------------------


class Floor(System):
    """A venue with one market, 0.47 to 0.50, whose book is moved by hand and never too old."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = msgspec.structs.replace(self.settings, book_age_ms_max=60_000)

    async def open(self) -> None:
        self.token = TokenId(await self.open_market())
        self.terms = await self.market(self.token)

    async def move(self, bid: str, ask: str) -> None:
        condition = self.terms.condition
        await self.admin("book", condition=condition, bids=[[bid, "120"]], asks=[[ask, "250"]])
        await self.market(self.token)

    async def rest(self, *, ttl_s: float = 30, **more: Any) -> OrderApproved:
        said = await self.approve(
            self.terms, ttl_s=ttl_s, limit=490_000, policy="post_only", reprice_ticks=1, **more
        )
        await eventually(lambda: ACCOUNT in self.store.views and self.account().orders)
        return said

    async def is_gone(self) -> bool:
        """Tell whether the venue's list of open orders is empty, by a later look."""
        await eventually(lambda: ACCOUNT in self.store.views and not self.account().orders)
        return True

    async def ended(self) -> OrderClosed:
        async def last() -> OrderClosed | None:
            ends = await self.of(OrderClosed)
            return ends[-1] if ends else None

        closed = await eventually(last, deadline_s=15)
        assert closed is not None
        return closed


async def test_it_rests_at_the_bid_and_fills_when_somebody_comes_down_without_a_fee() -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        await floor.rest()
        (order,) = floor.account().orders
        assert order.price == 470_000
        await floor.move("0.45", "0.47")
        closed = await floor.ended()
        assert (closed.reason, closed.filled) == ("filled", 10_000_000)
        (filled,) = await floor.of(OrderFilled)
        assert (filled.price, filled.fee) == (470_000, 0)


async def test_it_is_cancelled_when_the_book_moves_on() -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        await floor.rest()
        await floor.move("0.48", "0.5")
        closed = await floor.ended()
        assert (closed.reason, closed.filled) == ("repriced", 0)
        assert await floor.is_gone()
        (asked,) = await floor.of(CancelRequested)
        assert asked.near == 480_000


async def test_it_is_cancelled_when_its_time_is_over() -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        said = await floor.rest(ttl_s=2)
        closed = await floor.ended()
        assert (closed.reason, closed.ts_ns > said.expires_ns) == ("rest_over", True)
        assert await floor.is_gone()


async def test_it_is_cancelled_when_risk_wants_it_no_more() -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        said = await floor.rest()
        (order,) = await floor.of(OrderPrepared)
        await floor.say_risk(withdrawal(order))
        closed = await floor.ended()
        assert (closed.approval, closed.reason) == (said.id, "withdrawn")
        assert await floor.is_gone()


async def test_a_cancel_that_fails_is_asked_again_until_it_is_true() -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        await floor.rest()
        await floor.rule(kind="server_error", path="/order", method="DELETE", count=2)
        await floor.move("0.48", "0.5")
        assert (await floor.ended()).reason == "repriced"
        assert len(await floor.of(CancelRequested)) == 1


async def test_a_restarted_executor_goes_on_with_what_rests() -> None:
    floor = Floor()
    async with floor.venue():
        async with floor.lane():
            await floor.open()
            await floor.rest()
        assert len(floor.account().orders) == 1
        await floor.move("0.48", "0.5")
        async with floor.lane():
            assert (await floor.ended()).reason == "repriced"
            assert await floor.is_gone()
            assert len(await floor.orders()) == 1


async def test_one_that_would_cross_by_the_time_it_arrives_is_not_an_alarm() -> None:
    """Our view of the book is old by a moment: the venue refuses, and nothing is left of it."""
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        condition = floor.terms.condition
        await floor.admin("book", condition=condition, bids=[["0.4", "9"]], asks=[["0.44", "250"]])
        await floor.approve(floor.terms, ttl_s=5, limit=490_000, policy="post_only")
        assert (await floor.ended()).reason == "crossed: post_only_crosses"
        await asyncio.sleep(0)
        assert await floor.is_gone()


async def test_the_venue_too_fills_it_whole_or_not_at_all() -> None:
    """Our view of the book is old: four shares are left of what it shows."""
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        condition = floor.terms.condition
        await floor.admin("book", condition=condition, bids=[["0.4", "9"]], asks=[["0.5", "4"]])
        await floor.approve(floor.terms, ttl_s=5, policy="fill_or_kill")
        closed = await floor.ended()
        assert (closed.reason, closed.filled) == ("rejected: killed", 0)


# --- windows in which the venue takes nothing --------------------------------------------------


@pytest.mark.parametrize("kind", ["too_early", "server_error"])
async def test_a_copy_that_grew_too_old_in_such_a_window_is_dropped_not_queued(kind: str) -> None:
    floor = Floor()
    async with floor.venue(), floor.lane():
        await floor.open()
        await floor.rule(kind=kind, path="/order", method="POST", for_s=2)
        said = await floor.approve(floor.terms, ttl_s=1)
        closed = await floor.ended()
        assert (closed.approval, closed.filled) == (said.id, 0)
        assert await floor.orders() == [], "nothing reached the book, then or later"
        await floor.market(floor.token)
        young = await floor.approve(floor.terms, ttl_s=5)

        async def followed() -> bool:
            ends = {end.approval: end.filled for end in await floor.of(OrderClosed)}
            return ends.get(young.id) == 10_000_000

        await eventually(followed, deadline_s=15)
        assert len(await floor.orders()) == 1
