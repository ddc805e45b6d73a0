"""What a POST without a clear answer means, and what the venue sees of us after it."""

import asyncio
from typing import Any

import pytest

from services.executor import following
from services.executor.posting import unclear
from services.executor.state import NEVER_NS, Lost, Refusal
from shared.domain.ids import OrderHash
from shared.domain.messages import (
    OrderClosed,
    OrderFilled,
    OrderFound,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderResent,
    OrderSurrendered,
)
from shared.domain.units import NS_PER_S
from shared.polymarket.errors import (
    Mode,
    NotFound,
    Throttled,
    TransportError,
    Unavailable,
    VenueError,
    WireError,
    failure,
)
from tests.support.eventually import eventually
from tests.support.order_lane import System

ORDER = OrderHash("0x" + "ab" * 32)
NOW_NS = 1_000 * NS_PER_S


def unavailable(mode: Mode, retry_after_s: float | None = None) -> Unavailable:
    return Unavailable("POST /order", status=503, mode=mode, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("error", "retry_ns"),
    [
        (TransportError("POST /order", "timed out"), 0),
        (WireError("nonsense", where="POST /order"), 0),
        (unavailable(Mode.FAULT), 0),
        (unavailable(Mode.UNCERTAIN), 0),
        (unavailable(Mode.RESTARTING), NOW_NS + NS_PER_S),
        (unavailable(Mode.RESTARTING, 7), NOW_NS + 7 * NS_PER_S),
        (unavailable(Mode.POST_ONLY, 79), NEVER_NS),
        (unavailable(Mode.CANCEL_ONLY), NEVER_NS),
        (unavailable(Mode.DISABLED), NEVER_NS),
        (Throttled("POST /order", definitive=False, retry_after_s=None), NOW_NS + NS_PER_S),
        (Throttled("POST /order", definitive=False, retry_after_s=0.5), NOW_NS + NS_PER_S // 2),
    ],
    ids=str,
)
def test_whatever_is_neither_yes_nor_no_is_unknown(error: VenueError, retry_ns: int) -> None:
    said = unclear(ORDER, error, NOW_NS)
    assert isinstance(said, Lost)
    assert said.retry_ns == retry_ns


@pytest.mark.parametrize(
    "error",
    [
        Throttled("POST /order", definitive=True, retry_after_s=2),
        NotFound("POST /order", "No orderbook exists"),
    ],
    ids=str,
)
def test_what_was_surely_not_executed_is_refused(error: VenueError) -> None:
    assert isinstance(unclear(ORDER, error, NOW_NS), Refusal)


@pytest.mark.parametrize(
    ("status", "headers", "body", "lost"),
    [
        (429, {}, b"", True),
        (429, {"Poly-RateLimit-Remaining": "0"}, b"", False),
        (425, {}, b"", True),
        (500, {}, b"{}", True),
        (400, {}, b'{"error":"order timed out"}', True),
        (404, {}, b'{"error":"market not found"}', False),
    ],
)
def test_http_answers_are_classed_as_the_protocol_says(
    status: int, headers: dict[str, str], body: bytes, *, lost: bool
) -> None:
    error = failure("POST /order", status=status, headers=headers, body=body)
    assert isinstance(unclear(ORDER, error, NOW_NS), Lost) == lost


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "rate_limited", "signer": False, "retry_after_s": 1},
        {"kind": "too_early"},
        {"kind": "server_error", "status": 500},
        {"kind": "drop_before"},
    ],
    ids=lambda rule: str(rule["kind"]),
)
async def test_an_order_that_did_not_get_through_goes_out_again(rule: dict[str, Any]) -> None:
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await system.rule(**rule, path="/order", method="POST", count=1)
        await system.approve(market, ttl_s=20)
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
        assert closed.reason == "filled"
        assert len(await system.of(OrderOutcomeUnknown)) == 1
        assert len(await system.of(OrderResent)) == 1
        assert len(await system.orders()) == 1


async def test_the_signers_own_limit_refuses_for_certain() -> None:
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await system.rule(kind="rate_limited", signer=True, path="/order", method="POST", count=1)
        await system.approve(market, ttl_s=20)
        (rejected,) = await eventually(lambda: system.of(OrderRejected))
        assert rejected.reason == "Throttled"
        assert await system.of(OrderResent) == []


async def test_a_venue_that_lets_no_taker_in_gets_nothing_again() -> None:
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await system.mode("post-only")
        await system.approve(market, ttl_s=1)
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
        assert closed.reason == "never_placed"
        assert await system.of(OrderResent) == []


async def test_an_order_that_cannot_be_asked_for_is_surrendered_and_booked_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The venue took it, the answer was lost, and every look-up fails for longer than patience."""
    monkeypatch.setattr(following, "_SURRENDERED_LOOK_S", 0.1)
    system = System()
    async with system.venue(), system.lane(patience_s=0.5) as lane:
        market = await system.market(await system.open_market())
        await system.fault(lost_answer=1, user_silence_s=60)
        await system.rule(kind="server_error", status=500, path="/data", name="unreadable")
        await system.approve(market, ttl_s=1)
        (fact,) = await eventually(lambda: system.of(OrderSurrendered), deadline_s=20)
        assert (fact.state, fact.posts, fact.filled) == ("unknown", 1, 0)
        assert fact.unreadable == fact.looks > 0
        assert "500" in fact.last
        await system.end_rules()
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
        assert (closed.reason, closed.filled) == ("filled", 10_000_000)
        assert len(await system.of(OrderFilled)) >= 1
        assert await system.of(OrderFound) == []
        assert [held.position.shares for held in lane.state.holdings.values()] == [10_000_000]


async def test_an_order_refused_at_its_second_sending_is_not_sent_a_third_time() -> None:
    """The no is of the copy; the first sending may still arrive, so it stays unknown meanwhile."""
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        no = {"error": "not enough balance / allowance"}
        await system.fault(lost_request=1, reject_next=9, status=400, body=no)
        await system.approve(market, ttl_s=1.5)
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
        assert closed.reason == "never_placed"
        assert len(await system.of(OrderResent)) == 1
        assert await system.of(OrderRejected) == []


async def test_a_refusal_that_cannot_be_checked_is_unknown_and_not_sent_again() -> None:
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        killed = {"error": "no orders found to match with FAK order"}
        await system.fault(reject_next=1, status=400, body=killed)
        await system.rule(kind="server_error", status=500, path="/data", for_s=1)
        await system.approve(market, ttl_s=3)
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
        assert closed.reason == "never_placed"
        (unknown,) = await system.of(OrderOutcomeUnknown)
        assert unknown.reason == "refused and unreadable: killed"
        assert await system.of(OrderResent) == []


async def test_an_order_that_arrives_after_it_was_given_up_is_booked_from_rest_alone() -> None:
    """A gateway holds the request for longer than anybody waits; nothing is told by the stream.

    The executor is down meanwhile, for longer than a poll looks back: the start reads further.
    """
    system = System(poll_overlap_s=1)
    async with system.venue():
        async with system.lane(resends_max=0):
            market = await system.market(await system.open_market())
            await system.fault(user_silence_s=60)
            await system.rule(kind="slow", ms=4_500, path="/order", method="POST", count=1)
            await system.approve(market, ttl_s=0.3)
            (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=20)
            assert (closed.reason, closed.filled) == ("never_placed", 0)
            assert await system.orders() == []
        await eventually(system.orders)
        await asyncio.sleep(2.1)  # the venue tells whole seconds
        async with system.lane() as lane:
            fills = await eventually(lambda: system.of(OrderFilled), deadline_s=20)
            assert sum(fill.size for fill in fills) == 10_000_000
            assert [held.position.shares for held in lane.state.holdings.values()] == [10_000_000]
