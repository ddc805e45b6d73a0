"""Snapshots of leaders against the local venue: what is in them, when they come, and who asks."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from nats.aio.msg import Msg

from services.ingester import leaders
from services.ingester.core import Leader, State
from services.ingester.leaders import Observatory, Snapshots, holdings_of
from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.messages import LeaderBaselineRead, LeaderFilled
from shared.domain.observations import PositionReport
from shared.domain.units import Price, Shares, Usd
from shared.domain.views import LeaderView
from shared.polymarket.errors import TransportError
from shared.polymarket.public import PublicVenue
from shared.runtime.clock import SystemClock
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Lane
from shared.runtime.rpc import REREAD
from shared.runtime.runner import LaneHandle
from tests.support.eventually import eventually
from tests.unit.ingester.ingester_build import (
    LEADER,
    MARKET,
    SETTINGS,
    System,
    a_system,
    a_venue,
    leader_buys,
    post,
)

OFTEN = msgspec.structs.replace(SETTINGS, leader_snapshot_s=1)
ONCE = msgspec.structs.replace(SETTINGS, leader_snapshot_s=3_600)


@contextlib.asynccontextmanager
async def following(
    settings: Any, ledger: MemoryLedger | None = None
) -> AsyncIterator[tuple[Any, Any, System]]:
    """Run a lane that has its leader's baseline; give the venue, a market and the lane."""
    async with a_venue() as venue, a_system(venue, settings=settings) as system:
        system.ledger = ledger or system.ledger
        market = await post(venue, "market", MARKET)
        async with system.lane(), system.asking():
            await eventually(lambda: system.of(LeaderBaselineRead))
            yield venue, market, system


def a_request(data: bytes) -> Msg:
    return cast("Msg", SimpleNamespace(data=data))


async def ask(system: System, leader: str = LEADER) -> None:
    await system.rereads.take(a_request(msgspec.json.encode({"leader": leader})))


async def a_view(system: System, *, after_ns: int = 0) -> LeaderView:
    """Return the leader's view that was begun after a moment."""

    async def written() -> LeaderView | None:
        view = await system.view()
        return view if view is not None and view.as_of_ns > after_ns else None

    view = await eventually(written)
    assert view is not None
    return view


# --- what is in a snapshot --------------------------------------------------------------------


async def test_a_snapshot_holds_what_he_holds_and_what_it_is_worth() -> None:
    async with following(OFTEN) as (venue, market, system):
        assert (await a_view(system)).holdings == ()
        before_ns = time.time_ns()
        await leader_buys(venue, market, 10)
        fill = {"wallet": LEADER, "condition": market["condition"], "outcome": 1, "side": "BUY"}
        await post(venue, "fill", fill | {"size": "2.5"})

        async def complete() -> LeaderView | None:
            view = await system.view()
            return view if view is not None and view.value == 5_875_000 else None

        view = await eventually(complete)  # 10 x 0.45 and 2.5 x 0.55, at the mid
        assert view is not None
        assert view.leader == LEADER
        assert view.holdings == ((market["condition"], 10_000_000, 2_500_000),)
        assert view.complete
        assert before_ns < view.as_of_ns <= view.read_ns < time.time_ns()


async def test_a_snapshot_comes_after_his_activity_is_in_the_ledger() -> None:
    """The ledger is slow: as long as it has not recorded his fill, there is no view of it."""

    class SlowLedger(MemoryLedger):
        gate = asyncio.Event()

        async def append(self, *args: Any, **kwargs: Any) -> int:
            await self.gate.wait()
            return await super().append(*args, **kwargs)

    SlowLedger.gate.set()
    async with following(OFTEN, SlowLedger()) as (venue, market, system):
        await a_view(system)
        SlowLedger.gate.clear()
        await leader_buys(venue, market, 10)
        since_ns = time.time_ns()
        await asyncio.sleep(1.6)
        view = await system.view()
        SlowLedger.gate.set()
        assert view is not None
        assert view.as_of_ns < since_ns
        view = await a_view(system, after_ns=since_ns)
        assert view.holdings != ()
        assert len(await system.of(LeaderFilled)) == 1


async def test_a_value_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def value(_: PublicVenue, wallet: Wallet) -> Usd:
        raise TransportError("/v2/value", f"no value of {wallet}")

    monkeypatch.setattr(PublicVenue, "value", value)
    async with following(OFTEN) as (_, _, system):
        assert (await a_view(system)).value is None


async def test_a_failed_read_is_tried_at_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    positions, failures = PublicVenue.positions, list[Wallet]()

    async def failing(venue: PublicVenue, wallet: Wallet) -> list[PositionReport]:
        if len(failures) < 2:
            failures.append(wallet)
            raise TransportError("/v2/positions", "gone")
        return await positions(venue, wallet)

    async with following(ONCE) as (venue, market, system):
        first = await a_view(system)
        monkeypatch.setattr(PublicVenue, "positions", failing)
        for count in (1, 2):
            await ask(system)
            await eventually(lambda count=count: len(failures) == count)
        await leader_buys(venue, market, 5)
        await ask(system)
        assert (await a_view(system, after_ns=first.as_of_ns)).holdings != ()


def a_position(number: int, size: int, price: int, outcome: int = 0) -> PositionReport:
    return PositionReport(
        wallet=LEADER,
        condition=ConditionId(f"0x{number:064x}"),
        token=TokenId(str(2 * number + outcome + 1)),
        outcome=outcome,
        size=Shares(size),
        average_price=Price(0),
        current_price=Price(price),
    )


def test_beyond_the_bound_the_worthless_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaders, "HOLDINGS_MAX", 3)
    rich = [a_position(9, 5, 500_000), a_position(1, 7, 900_000, 1), a_position(1, 8, 100_000)]
    held = holdings_of(LEADER, rich)
    first, ninth = rich[1].condition, rich[0].condition
    assert (held.lines, held.complete) == (((first, 8, 7), (ninth, 5, 0)), True)
    cut = holdings_of(LEADER, [a_position(3, 10**9, 0), *rich])
    assert cut == (held.lines, False)


class Told:
    """A venue and a lane's reads that note what is asked of them, in order."""

    def __init__(self, *held: PositionReport) -> None:
        self.held, self.calls = list(held), list[str]()

    async def read(self, _: Wallet) -> None:
        self.calls.append("activity")

    async def positions(self, _: Wallet) -> list[PositionReport]:
        self.calls.append("positions")
        return self.held

    async def value(self, _: Wallet) -> Usd:
        self.calls.append("value")
        return Usd(7)

    def snapshots(self) -> Snapshots:
        venue = cast("PublicVenue", self)
        return Snapshots([LEADER], Observatory(venue, MemoryStore(), every_s=1), self.read)


@pytest.mark.parametrize(("most", "complete"), [(1, False), (2, True)])
async def test_a_snapshot_stands_between_two_reads_of_his_activity(
    most: int, complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaders, "HOLDINGS_MAX", most)
    told = Told(a_position(1, 5, 500_000), a_position(2, 5, 400_000))
    async with a_lane() as lane:
        looking = asyncio.create_task(told.snapshots()._look(LEADER, lane))
        assert await lane._take(wait_s=5)
        view = await looking
    assert told.calls == ["activity", "positions", "value", "activity"]
    assert (len(view.holdings), view.complete, view.value) == (most, complete, 7)


async def test_what_was_handed_over_is_recorded_once_the_next_run_begins() -> None:
    """A run that was taken is not recorded yet: only the next one shows that it is."""
    async with a_lane() as lane:
        assert lane.offer("a row")
        waiting = asyncio.create_task(Told().snapshots()._recorded(lane))
        await asyncio.sleep(0.05)
        assert len(await lane._take(wait_s=1)) == 1
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert len(await lane._take(wait_s=1)) == 1
        await waiting


async def test_a_lane_that_is_busy_for_long_has_no_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaders, "_SETTLE_S_MAX", 0.05)
    async with a_lane() as lane:
        assert lane.offer("a row")
        with pytest.raises(TimeoutError):
            await Told().snapshots()._recorded(lane)


# --- when it comes ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def a_lane() -> AsyncIterator[LaneHandle]:
    async with asyncio.TaskGroup() as group:
        yield LaneHandle(Lane("ingester", 0), group, SystemClock())


async def test_leaders_are_spread_over_the_interval_and_a_failure_holds_up_nobody() -> None:
    wallets = [Wallet(f"0x{number:040x}") for number in range(5)]
    state = State(leaders={who: Leader(through_s=0, kept_s=0) for who in wallets[:4]})
    begun: list[tuple[Wallet, float]] = []

    async def read(leader: Wallet) -> None:
        begun.append((leader, time.monotonic()))
        raise TransportError("/v2/activity", "gone")

    venue = cast("PublicVenue", None)
    snapshots = Snapshots(wallets, Observatory(venue, MemoryStore(), every_s=1), read)
    async with a_lane() as lane:
        running = asyncio.create_task(snapshots.run(state, lane))
        await eventually(lambda: len(begun) >= 8)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [leader for leader, _ in begun] == wallets[:4] * 2  # the fifth has no baseline
    apart_s = [then - now for (_, now), (_, then) in itertools.pairwise(begun)]
    assert min(apart_s) > 0.1
    again_s = [begun[at + 4][1] - begun[at][1] for at in range(4)]
    assert min(again_s) > 0.9


async def test_a_request_is_served_at_once() -> None:
    async with following(ONCE) as (venue, market, system):
        first = await a_view(system)
        await leader_buys(venue, market, 10)
        await ask(system)
        assert (await a_view(system, after_ns=first.as_of_ns)).holdings != ()


async def test_requests_for_a_leader_who_waits_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come while he is read are owed one more snapshot: it began before them."""
    looks = 0
    positions = PublicVenue.positions

    async def counted(venue: PublicVenue, wallet: Wallet) -> list[PositionReport]:
        nonlocal looks
        looks += 1
        return await positions(venue, wallet)

    async with following(ONCE) as (_, _, system):
        await a_view(system)
        monkeypatch.setattr(PublicVenue, "positions", counted)
        for _ in range(10):
            await ask(system)
        await eventually(lambda: looks == 1)
        for _ in range(10):
            await ask(system)
        await eventually(lambda: looks == 2)
        await asyncio.sleep(0.3)
        assert looks == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"leader":1}',
        b'{"leader":"0x12"}',
        b'{"wallet":"0x12"}',
        b'{"leader":"me","x":' + b"[" * 100_000,
    ],
)
async def test_a_request_that_is_none_is_buried(data: bytes) -> None:
    async with following(ONCE) as (_, _, system):
        await system.rereads.take(a_request(data))
        ((source, _, seen),) = await eventually(lambda: system.ledger.dead)
        assert source.endswith(REREAD)
        assert len(seen) <= 200 * 3
        first = await a_view(system)
        await ask(system)  # and the next one is served
        await a_view(system, after_ns=first.as_of_ns)


async def test_a_request_for_somebody_else_s_leader_is_left_to_others() -> None:
    async with following(ONCE) as (_, _, system):
        first = await a_view(system)
        for number in range(64):  # some of them would be in this lane
            await ask(system, f"0x{number:040x}")
        await asyncio.sleep(0.2)
        assert await system.view() == first
        assert system.dead.count == 0
        assert system.ledger.dead == []


async def test_a_lane_given_back_serves_no_requests() -> None:
    async with a_venue() as venue, a_system(venue, settings=ONCE) as system:
        async with system.lane():
            await a_view(system)
        assert system.rereads.lanes == {}
        await ask(system)
