"""The executor dies at every point of an order's life: the venue has the order exactly once.

The lane runs against the local venue over real HTTP and is ended as a kill ends it: at a fact
that is or is not durable yet, or while a request of its own is under way or answered late. Then
the next process takes over its ledger.
"""

import asyncio
import contextlib
from typing import Any, Literal

import pytest

from services.executor.core import evolve
from services.executor.state import State
from shared.domain.messages import (
    FillSettled,
    OrderAccepted,
    OrderClosed,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderPrepared,
    OrderResent,
)
from shared.runtime.runner import LaneRunner, encode_state
from tests.support.eventually import eventually
from tests.support.order_lane import LANE, KilledError, System

TTL_S = 20.0
TEN = 10_000_000


async def lived_once(system: System, lane: LaneRunner[State]) -> None:
    """Check that the order came to its end, once, and that the ledger tells that very state."""
    (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=30)
    assert (closed.reason, closed.filled) == ("filled", TEN)
    (prepared,) = await system.of(OrderPrepared)
    taken = [each["order"] for each in await system.orders() if each["order"]]
    assert taken == [prepared.order]
    fills = await system.of(OrderFilled)
    assert sum(fill.size for fill in fills) == TEN
    assert len({fill.trade for fill in fills}) == len(fills)
    assert [each.position.shares for each in lane.state.holdings.values()] == [TEN]

    async def settled() -> bool:
        return not lane.state.orders and not lane.state.fills

    await eventually(settled)
    rebuilt = State()
    head = await system.ledger.head()
    async for run in system.ledger.read((LANE.subjects,), after=0, until=head):
        for entry in run:
            for fact in entry.batch.facts if entry.batch else ():
                evolve(rebuilt, fact)
    assert encode_state(rebuilt) == encode_state(lane.state)


FUSES: list[tuple[type[Any], dict[str, int], list[str]]] = [
    (OrderPrepared, {}, ["before", "after"]),
    (OrderAccepted, {}, ["before", "after"]),
    (OrderFilled, {}, ["before", "after"]),
    (FillSettled, {}, ["before", "after"]),
    (OrderClosed, {}, ["before", "after"]),
    # The user stream is silent, else its fill is there before the answer is known to be lost.
    (OrderOutcomeUnknown, {"lost_answer": 1, "user_silence_s": 60}, ["before", "after"]),
    (OrderOutcomeUnknown, {"lost_request": 1}, ["before", "after"]),
    (OrderResent, {"lost_request": 1}, ["before", "after"]),
    (OrderAccepted, {"lost_request": 1}, ["before", "after"]),
]
POINTS = [(kind, faults, when) for kind, faults, whens in FUSES for when in whens]


@pytest.mark.parametrize(
    ("kind", "faults", "when"),
    POINTS,
    ids=[f"{w}-{k.__name__}-{'-'.join(f)}" for k, f, w in POINTS],
)
async def test_a_crash_beside_any_fact_leaves_one_order_at_the_venue(
    kind: type[Any], faults: dict[str, int], when: Literal["before", "after"]
) -> None:
    system = System(mined_ms=30, confirmed_ms=60)
    async with system.venue():
        market = await system.market(await system.open_market())
        if faults:
            await system.fault(**faults)
        system.ledger.fuse = (kind, when)
        async with system.lane():
            await system.approve(market, ttl_s=TTL_S)
            await eventually(system.serving.done, deadline_s=15)
        assert system.ledger.fuse is None, "it did not die where it was to"
        async with system.lane() as lane:
            await lived_once(system, lane)


async def test_a_crash_before_the_login_sends_the_order_after_it() -> None:
    """On record and not yet sent: the next process does not know, asks, and sends it."""
    system = System()
    async with system.venue():
        market = await system.market(await system.open_market())
    async with system.lane():
        await system.approve(market, ttl_s=TTL_S)
        await eventually(lambda: system.of(OrderPrepared))
        system.kill()
    async with system.venue():
        await system.open_market()
        async with system.lane() as lane:
            await lived_once(system, lane)
            assert len(await system.of(OrderResent)) == 1


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "delayed_answer", "ms": 2_000},  # the venue has it, the answer is under way
        {"kind": "slow", "ms": 1_000},  # the request is under way, and arrives after the crash
    ],
    ids=["answer", "request"],
)
async def test_a_crash_while_something_is_under_way_leaves_one_order(rule: dict[str, Any]) -> None:
    system = System()
    async with system.venue():
        market = await system.market(await system.open_market())
        await system.rule(**rule, path="/order", method="POST", count=1)
        async with system.lane():
            await system.approve(market, ttl_s=TTL_S)
            await eventually(system.fired)
            system.kill()
        async with system.lane() as lane:
            await lived_once(system, lane)


async def test_a_copy_that_arrives_late_is_the_same_order() -> None:
    """The request is held up, the same bytes overtake it: the venue calls the late one double."""
    system = System(post_deadline_s=1)
    async with system.venue(), system.lane() as lane:
        market = await system.market(await system.open_market())
        await system.rule(kind="slow", ms=1_500, path="/order", method="POST", count=1)
        await system.approve(market, ttl_s=TTL_S)
        await lived_once(system, lane)
        (resent,) = await system.of(OrderResent)
        assert resent.resend == 1
        await asyncio.sleep(1)  # by now the late one has arrived
        await lived_once(system, lane)


async def test_the_fuse_kills_as_it_says() -> None:
    system = System()
    system.ledger.fuse = (OrderPrepared, "before")
    async with system.venue():
        market = await system.market(await system.open_market())
        with contextlib.suppress(KilledError):
            async with system.lane():
                await system.approve(market, ttl_s=TTL_S)
                await eventually(system.serving.done)
        assert await system.of(OrderPrepared) == []
