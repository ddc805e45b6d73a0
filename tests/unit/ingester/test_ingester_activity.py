"""The activity stream against the local venue: stalls found, sockets replaced, gaps filled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import websockets

from services.paper_venue.server import Running
from shared.domain.ids import TokenId
from shared.domain.messages import FeedChanged, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_S
from shared.polymarket.feed import MarketFeed, Traded
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

QUICK = msgspec.structs.replace(
    SETTINGS,
    activity_silence_s=1,
    activity_grace_ms=300,
    index_lag_ms=500,
    activity_renew_s=0,
    backfill_s=600,
)
PATIENT = msgspec.structs.replace(QUICK, activity_silence_s=600)
STRANGER = "0x" + "55" * 20


@contextlib.asynccontextmanager
async def hearing(system: System) -> AsyncIterator[None]:
    task = asyncio.create_task(system.hub.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def strangers(venue: Running, market: Any) -> AsyncIterator[None]:
    """Let somebody trade ten times a second: the stream is never silent by itself."""

    async def trade() -> None:
        fill = {"wallet": STRANGER, "condition": market["condition"], "outcome": 0}
        while True:
            await post(venue, "fill", {**fill, "side": "BUY", "size": 5})
            await asyncio.sleep(0.1)

    task = asyncio.create_task(trade())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def steps(system: System, feed: str = "activity") -> list[FeedChanged]:
    return [fact for fact in await system.of(FeedChanged) if fact.feed == feed]


async def states(system: System) -> list[str]:
    return [step.state for step in await steps(system)]


@contextlib.asynccontextmanager
async def a_watched_leader(
    settings: Any = QUICK, *, busy: bool = True
) -> AsyncIterator[tuple[Running, System, Any]]:
    async with (
        a_venue() as venue,
        a_system(venue, settings=settings) as system,
        system.lane(),
        hearing(system),
    ):
        market = await post(venue, "market", MARKET)
        await eventually(lambda: system.of(LeaderBaselineRead))
        async with strangers(venue, market) if busy else contextlib.nullcontext():
            await eventually(lambda: system.hub.state == "connected")
            yield venue, system, market


async def test_a_silent_stall_is_found_the_socket_replaced_and_the_gap_filled() -> None:
    async with a_watched_leader() as (venue, system, market):
        await post(venue, "faults", {"ws_silence_s": 3})
        await leader_buys(venue, market, 10, 20)

        async def is_filled() -> bool:
            return (await states(system))[-2:] == ["connected", "resynced"]

        await eventually(is_filled, deadline_s=20)
        told = await steps(system)
        silent, gap = (next(s for s in told if s.state == name) for name in ("silent", "gap"))
        assert silent.detail.startswith("no data for ")
        assert 500 <= silent.duration_ms <= 4_000  # time to detect
        assert gap.from_ns <= silent.ts_ns - NS_PER_S // 2
        assert told[-1].rows >= 2
        assert [fill.source for fill in await system.of(LeaderFilled)] == ["rest", "rest"]
        assert len([s for s in told if s.state == "silent"]) == 1  # once, however often replaced


async def test_takers_rows_stand_in_while_all_trades_are_off() -> None:
    """`trades` was once off for days while `orders_matched` went on."""
    async with a_watched_leader() as (venue, system, market):
        await post(venue, "rules", [{"kind": "silent", "socket": "stream", "type": "trades"}])
        await eventually(lambda: any_silent(system), deadline_s=10)

        async def streamed() -> bool:
            await leader_buys(venue, market, 10)
            return any(fill.source == "stream" for fill in await system.of(LeaderFilled))

        await eventually(streamed, deadline_s=20, every_s=0.5)
        assert system.hub.state == "silent", "takers alone prove nothing"


async def test_a_leaders_trades_that_only_rest_shows_are_a_stall() -> None:
    """The stream loses rows, and is not silent for long enough to be found by that."""
    async with a_watched_leader(PATIENT, busy=False) as (venue, system, market):
        (socket,) = system.hub.sockets
        listening_ns = socket.watch.opened_ns + 2 * NS_PER_S  # rows are stamped in whole seconds
        await eventually(lambda: system.clock.now_ns() > listening_ns)
        for size in (10, 20, 30, 40):
            await only_rest_shows(system, venue, market, size)
        await eventually(lambda: any_silent(system), deadline_s=15)
        (silent,) = [step for step in await steps(system) if step.state == "silent"]
        assert f"trades in a row of {LEADER} were shown elsewhere and not told" in silent.detail


async def only_rest_shows(system: System, venue: Running, market: Any, size: int) -> None:
    """Let the leader buy while the stream drops frames, until REST has shown it."""
    before = len(await system.of(LeaderFilled))
    await post(venue, "faults", {"drop_frames": 2})
    fill = {"wallet": LEADER, "condition": market["condition"], "outcome": 0}
    await post(venue, "fill", {**fill, "side": "BUY", "size": size})

    async def is_said() -> bool:
        return len(await system.of(LeaderFilled)) > before

    await eventually(is_said)
    assert (await system.of(LeaderFilled))[-1].source == "rest"


async def any_silent(system: System) -> bool:
    return "silent" in await states(system)


async def test_a_trade_the_market_stream_shows_must_be_told_too() -> None:
    """Strangers trade, the market stream says so, the activity stream loses it: no leader acts."""
    async with a_watched_leader(PATIENT, busy=False) as (venue, system, market):
        feed = MarketFeed([TokenId(market["tokens"][0])])
        async with websockets.connect(f"{venue.ws_url}/ws/market") as socket:
            for frame in feed.opened(now_ns=system.clock.now_ns()):
                await socket.send(frame)
            (activity,) = system.hub.sockets
            listening_ns = activity.watch.opened_ns + 2 * NS_PER_S
            await eventually(lambda: system.clock.now_ns() > listening_ns)
            await post(venue, "rules", [{"kind": "drop", "socket": "stream"}])
            told = 0
            fill = {"wallet": STRANGER, "condition": market["condition"], "outcome": 0}
            for _ in range(3):
                await post(venue, "fill", {**fill, "side": "BUY", "size": 5})
            while told < 3:
                frame = await socket.recv()
                for event in feed.receive(frame, now_ns=system.clock.now_ns()):
                    if isinstance(event, Traded):
                        system.hub.traded(event.tx, event.venue_ns)
                        told += 1
        await eventually(lambda: any_silent(system), deadline_s=15)


async def test_a_lost_socket_comes_back_and_what_it_missed_is_read() -> None:
    async with a_watched_leader(PATIENT) as (venue, system, market):
        await post(venue, "faults", {"close_sockets": "stream", "drop_frames": 0})
        await leader_buys(venue, market, 10)

        async def is_whole() -> bool:
            seen = await states(system)
            return "lost" in seen and seen[-1] == "resynced"

        await eventually(is_whole, deadline_s=20)
        assert len(await system.of(LeaderFilled)) == 1


async def test_with_a_standby_the_loss_of_one_socket_is_no_gap() -> None:
    settings = msgspec.structs.replace(PATIENT, activity_sockets=2)
    async with a_watched_leader(settings) as (_venue, system, _market):
        hub = system.hub
        await eventually(lambda: len(hub.sockets) == 2)
        await eventually(lambda: all(s.state == "connected" for s in hub.sockets))
        first = hub.sockets[0]
        before = await states(system)
        hub.became(first, "lost", "a test took it away")
        assert hub.state == "connected"
        assert (await states(system)).count("gap") == before.count("gap")


async def test_a_good_socket_gets_a_successor_without_a_gap() -> None:
    settings = msgspec.structs.replace(PATIENT, activity_renew_s=1)
    async with a_watched_leader(settings) as (_venue, system, _market):
        first = system.hub.sockets[0]
        await eventually(lambda: first not in system.hub.sockets, deadline_s=15)
        assert system.hub.state == "connected"
        assert "lost" not in await states(system)


async def test_a_restart_says_since_when_rows_may_be_missing_and_when_they_are_read() -> None:
    async with a_venue() as venue, a_system(venue, settings=QUICK) as system:
        market = await post(venue, "market", MARKET)
        async with system.lane(), hearing(system):
            await leader_buys(venue, market, 10)
            await eventually(lambda: system.of(LeaderFilled))
        await leader_buys(venue, market, 20, 30)
        before = len(await steps(system))
        async with system.lane(), hearing(system):

            async def is_resynced() -> bool:
                return "resynced" in [s.state for s in (await steps(system))[before:]]

            await eventually(is_resynced, deadline_s=15)
        told = (await steps(system))[before:]
        gap = next(step for step in told if step.state == "gap")
        assert gap.detail == "taken up"
        assert len(await system.of(LeaderFilled)) == 3
        assert next(step for step in told if step.state == "resynced").rows == 2
