"""The end of leaders' markets against the local venue: whatever showed it, it is said once."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
import msgspec
import pytest

from services.ctl.servers import LocalServers
from services.ingester import resolutions
from services.ingester.core import Settled, State
from services.ingester.resolutions import Pace, Resolutions, Watched
from services.paper_venue.server import Running
from shared.domain.ids import ConditionId, content_id
from shared.domain.messages import LeaderActed, LeaderFilled
from shared.runtime.clock import SystemClock
from shared.runtime.runner import LaneHandle
from tests.support.eventually import eventually
from tests.support.servers import nats_client
from tests.unit.ingester.ingester_build import (
    LANE,
    LEADER,
    MARKET,
    SETTINGS,
    System,
    a_system,
    a_venue,
    leader_buys,
    post,
)
from tests.unit.polymarket.polymarket_fake import Fake, refused

ROUNDS = Pace(request_s=0.05, round_s=0.2)


async def leader_in(venue: Running, system: System) -> Any:
    """Open a market and have the leader buy there; return it once that is in the ledger."""
    market = await post(venue, "market", MARKET)
    await eventually(lambda: system.hub.lanes and LEADER in system_state(system).leaders)
    await leader_buys(venue, market, 10)
    await eventually(lambda: system.of(LeaderFilled))
    return market


def system_state(system: System) -> State:
    return system.resolutions.lanes[LANE.partition].state


async def after_the_round(system: System) -> None:
    """Wait until the only round has asked about what is open: from now on there are only signs."""
    await eventually(lambda: system.resolutions._next_round_ns and not system.resolutions._round)
    await asyncio.sleep(0.2)
    assert await system.resolved() == []


async def resolve(venue: Running, market: Any, first: str = "1", second: str = "0") -> None:
    body = {"condition": market["condition"], "payouts": [first, second]}
    await post(venue, "resolve", body)


# --- signs ------------------------------------------------------------------------------------


async def test_a_resolution_on_the_stream_leads_to_one_fact(servers: LocalServers) -> None:
    async with (
        a_venue() as venue,
        nats_client(servers, "ingester") as client,
        a_system(venue, client=client) as system,
        system.lane() as lane,
        system.asking(),
    ):
        market = await leader_in(venue, system)
        await after_the_round(system)
        await eventually(lambda: system.books.trust() == (2, 0))
        await resolve(venue, market)
        (fact,) = await eventually(system.resolved)
        assert (fact.condition, fact.payouts) == (market["condition"], (1_000_000, 0))
        assert fact.id == content_id("market_resolved", LANE.partition, market["condition"])
        assert lane.state.open == set()
        await asyncio.sleep(0.3)
        assert len(await system.resolved()) == 1


async def test_terms_that_take_no_orders_are_a_sign(servers: LocalServers) -> None:
    """The stream is not heard; the terms are read again in their turn, every second here."""
    settings = msgspec.structs.replace(SETTINGS, market_refresh_s=1)
    async with (
        a_venue() as venue,
        nats_client(servers, "ingester") as client,
        a_system(venue, client=client, settings=settings) as system,
        system.lane(),
        system.asking(),
    ):
        market = await leader_in(venue, system)
        await after_the_round(system)
        await post(venue, "faults", {"market_silence_s": 60})
        await resolve(venue, market, "0", "1")
        (fact,) = await eventually(system.resolved)
        assert fact.payouts == (0, 1_000_000)


async def test_a_redemption_is_a_sign() -> None:
    async with (
        a_venue() as venue,
        a_system(venue) as system,
        system.lane(),
        system.asking(),
    ):
        market = await leader_in(venue, system)
        await after_the_round(system)
        await resolve(venue, market, "0.5", "0.5")
        await asyncio.sleep(0.3)
        assert await system.resolved() == []
        redeemed = {"wallet": LEADER, "type": "REDEEM", "condition": market["condition"]}
        await post(venue, "activity", redeemed | {"size": "10"})
        await eventually(lambda: system.of(LeaderActed))
        (fact,) = await eventually(system.resolved)
        assert fact.payouts == (500_000, 500_000)


async def test_what_showed_no_sign_is_found_by_a_round() -> None:
    async with (
        a_venue() as venue,
        a_system(venue, pace=ROUNDS) as system,
        system.lane(),
        system.asking(),
    ):
        market = await leader_in(venue, system)
        await resolve(venue, market)
        await eventually(system.resolved)
        await asyncio.sleep(0.5)
        assert len(await system.resolved()) == 1


async def test_after_a_restart_an_end_is_not_said_again() -> None:
    async with a_venue() as venue, a_system(venue, pace=ROUNDS) as system, system.asking():
        async with system.lane():
            market = await leader_in(venue, system)
            await resolve(venue, market)
            await eventually(system.resolved)
        assert system.resolutions.lanes == {}
        system.store.snapshots.clear()  # from the ledger alone
        async with system.lane() as lane:
            await eventually(lambda: LANE.partition in system.resolutions.lanes)
            system.resolutions.suspect(market["condition"])
            await post(
                venue,
                "activity",
                {"wallet": LEADER, "type": "REDEEM", "condition": market["condition"], "size": "9"},
            )
            await eventually(lambda: system.of(LeaderActed))
            await asyncio.sleep(0.3)
            assert len(await system.resolved()) == 1
            assert list(lane.state.resolved) == [market["condition"]]


# --- asking -----------------------------------------------------------------------------------


def a_condition(number: int) -> ConditionId:
    return ConditionId(f"0x{number:064x}")


def asked_in(request: httpx.Request) -> list[str]:
    return request.url.params["condition_id"].split(",")


class Asking:
    """The question desk, with lanes that only listen, before a venue that answers as told."""

    def __init__(self, answer: Callable[[list[str]], object], *, count: int, pace: Pace) -> None:
        def handle(request: httpx.Request) -> httpx.Response:
            told = answer(asked_in(request))
            return told if isinstance(told, httpx.Response) else httpx.Response(200, json=told)

        self.fake = Fake(handle)
        self.buried: list[tuple[str, str, str]] = []
        self.desk = Resolutions(
            self.fake.venue, SystemClock(), lambda *it: self.buried.append(it), pace=pace
        )
        self.state = State(open={a_condition(number) for number in range(1, count + 1)})
        group = cast("asyncio.TaskGroup", None)
        self.lanes = [LaneHandle(LANE, group, SystemClock()) for _ in range(2)]
        for partition, lane in enumerate(self.lanes):
            self.desk.lanes[partition] = Watched(self.state, lane)

    async def __aenter__(self) -> "Asking":
        self._task = asyncio.create_task(self.desk.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def asked(self) -> list[list[str]]:
        return [asked_in(request) for request in self.fake.requests]

    def told(self, lane: int = 0) -> list[Settled]:
        return [work.messages[0] for work in self.lanes[lane]._waiting]


def settled(*conditions: str) -> dict[str, Any]:
    rows = [
        {"condition_id": name, "status": "resolved", "payouts": [1_000_000, 0]}
        for name in conditions
    ]
    return {"data": rows}


async def test_a_round_asks_about_twenty_markets_at_a_time_and_no_faster_than_its_pace() -> None:
    began_s = time.monotonic()
    pace = Pace(request_s=0.1, round_s=3_600)
    async with Asking(lambda _: settled(), count=45, pace=pace) as asking:
        await eventually(lambda: len(asking.asked) == 3)
        assert time.monotonic() - began_s >= 0.2
        assert [len(names) for names in asking.asked] == [20, 20, 5]
        assert {name for names in asking.asked for name in names} == asking.state.open
        for number in range(1, 46):
            asking.desk.suspect(a_condition(number))
        await eventually(lambda: len(asking.asked) == 6)
        await asyncio.sleep(0.3)
        assert len(asking.asked) == 6
        assert asking.told() == []


async def test_every_lane_of_the_process_is_told() -> None:
    async with Asking(lambda names: settled(*names), count=1, pace=ROUNDS) as asking:
        await eventually(lambda: asking.told(0) and asking.told(1))
        assert [asking.told(lane)[0].partition for lane in (0, 1)] == [0, 1]
        assert asking.told()[0].payouts == (1_000_000, 0)


async def test_no_answer_is_asked_for_again_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolutions, "_AGAIN_NS", 100_000_000)
    at_s: list[float] = []

    def answer(_: list[str]) -> object:
        at_s.append(time.monotonic())
        return refused(404, "not found")

    pace = Pace(request_s=0.01, round_s=3_600)
    async with Asking(answer, count=1, pace=pace) as asking:
        await eventually(lambda: len(at_s) == 1)
        asking.desk.suspect(a_condition(1))
        await eventually(lambda: len(at_s) == 5)
        apart_s = [then - now for now, then in itertools.pairwise(at_s[1:])]
        assert apart_s[0] >= 0.09
        assert apart_s[1] >= 0.18
        assert apart_s[2] >= 0.36
        asking.state.open.clear()
        await asyncio.sleep(0.05)
        assert asking.desk._signs == {}


async def test_one_market_that_is_refused_does_not_hide_the_others() -> None:
    def answer(names: list[str]) -> object:
        if a_condition(3) in names:
            return refused(400, "invalid condition_id")
        return settled(*names)

    pace = Pace(request_s=0.01, round_s=3_600)
    async with Asking(answer, count=5, pace=pace) as asking:
        await eventually(lambda: len(asking.told()) == 4)
        assert len(asking.asked) == 6
        assert a_condition(3) not in {told.condition for told in asking.told()}


async def test_answers_that_are_none_are_buried_or_left() -> None:
    answers = iter(
        [
            refused(500, "down"),
            httpx.Response(200, text="<html>"),
            {"data": [{"condition_id": a_condition(1), "status": "resolved", "payouts": [7]}]},
            settled(a_condition(99), a_condition(1)),
        ]
    )
    pace = Pace(request_s=0.01, round_s=0.01)
    async with Asking(lambda _: next(answers, settled()), count=1, pace=pace) as asking:
        await eventually(asking.told)
        assert [source for source, _, _ in asking.buried] == ["resolutions"]
        assert {told.condition for told in asking.told()} == {a_condition(1)}


async def test_a_sign_of_a_market_that_no_leader_was_in_is_ignored() -> None:
    async with Asking(lambda _: settled(), count=0, pace=ROUNDS) as asking:
        asking.desk.suspect(a_condition(1))
        await asyncio.sleep(0.2)
        assert asking.asked == []


async def test_a_lane_without_room_hears_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = iter([False, False])
    pace = Pace(request_s=0.01, round_s=3_600)
    monkeypatch.setattr(resolutions, "_AGAIN_NS", 10_000_000)
    async with Asking(lambda names: settled(*names), count=1, pace=pace) as asking:
        offer = asking.lanes[0].offer
        monkeypatch.setattr(
            asking.lanes[0],
            "offer",
            lambda message: next(refusals, None) is None and offer(message),
        )
        await eventually(asking.told)
