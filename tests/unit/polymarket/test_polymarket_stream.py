"""The driver keeps a protocol connected, whatever the socket does, and says so."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from shared.domain.ids import TokenId
from shared.polymarket.feed import BookMoved, FeedEvent, MarketFeed
from shared.polymarket.frames import Frame
from shared.polymarket.stream import Host, Pace, pump

QUICK = Pace(ping_s=60, poll_s=60, backoff_base_s=0, backoff_cap_s=0)
YES = TokenId("71")
PATIENCE_S = 10


class Script:
    """A protocol that records what it is told and echoes frames as events."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.silent = False
        self.fails = False

    def opened(self, *, now_ns: int) -> list[str]:
        self.calls.append(f"opened {now_ns}")
        return ["hello"]

    def closed(self, *, now_ns: int) -> list[str]:
        self.calls.append(f"closed {now_ns}")
        return ["closed"]

    def receive(self, frame: Frame, *, now_ns: int) -> list[str]:
        if self.fails:
            raise RuntimeError("a defect")
        return [frame if isinstance(frame, str) else frame.decode()]

    def poll(self, *, now_ns: int) -> list[str]:
        return ["polled"]

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        return self.silent


class Told:
    """What the driver reported, as one queue."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[object] = asyncio.Queue()
        self.host: Host[object] = Host(
            now_ns=lambda: 7,
            event=self.queue.put_nowait,
            connected=lambda: self.queue.put_nowait("connected"),
            lost=lambda reason: self.queue.put_nowait(f"lost {reason}"),
        )

    async def next(self) -> object:
        async with asyncio.timeout(PATIENCE_S):
            return await self.queue.get()

    async def until(self, prefix: str) -> list[object]:
        seen: list[object] = []
        while not seen or not str(seen[-1]).startswith(prefix):
            seen.append(await self.next())
        return seen


@asynccontextmanager
async def server(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, ping_interval=None) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws/market"


@asynccontextmanager
async def pumping(
    url: str,
    told: Told,
    protocol: object,
    *,
    pace: Pace = QUICK,
    outbox: asyncio.Queue[str] | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(
        pump(url, protocol, host=told.host, rng=random.Random(1), pace=pace, outbox=outbox)  # type: ignore[arg-type]
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_frames_go_both_ways() -> None:
    async def venue(socket: ServerConnection) -> None:
        async for frame in socket:
            await socket.send(f"echo {frame!s}")

    told, protocol, outbox = Told(), Script(), asyncio.Queue[str]()
    outbox.put_nowait("from before the connection")
    async with server(venue) as url, pumping(url, told, protocol, outbox=outbox):
        assert await told.next() == "connected"
        outbox.put_nowait("more")
        assert [await told.next(), await told.next()] == ["echo hello", "echo more"]
    assert protocol.calls == ["opened 7", "closed 7"]


async def test_no_log_level_shows_frames(caplog: pytest.LogCaptureFixture) -> None:
    async def venue(socket: ServerConnection) -> None:
        await socket.send(f"echo {await socket.recv()!s}")
        await socket.wait_closed()

    caplog.set_level(logging.INFO, logger="websockets.server")
    caplog.set_level(logging.DEBUG, logger="websockets.client")
    told = Told()
    async with server(venue) as url, pumping(url, told, Script()):
        assert await told.until("echo") == ["connected", "echo hello"]
    assert "hello" not in caplog.text


async def test_a_lost_connection_is_reported_and_made_again() -> None:
    connections = 0

    async def venue(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.recv()
        if connections < 3:
            await socket.close(1013, "slow consumer: send buffer full")
        else:
            await socket.wait_closed()

    told, protocol = Told(), Script()
    async with server(venue) as url, pumping(url, told, protocol):
        for _ in range(2):
            seen = await told.until("lost")
            assert seen[:2] == ["connected", "closed"]
            assert "1013" in str(seen[-1])
        assert await told.next() == "connected"


async def test_a_venue_that_is_not_there_is_tried_again_without_end() -> None:
    told, protocol = Told(), Script()
    async with pumping("ws://127.0.0.1:1/", told, protocol):
        for _ in range(3):
            assert str(await told.next()).startswith("lost ")
    assert protocol.calls == []


async def test_a_silent_socket_is_closed_and_opened_again() -> None:
    """PONGs arrive, so the socket is alive; only data counts."""

    async def venue(socket: ServerConnection) -> None:
        async for frame in socket:
            if frame == "PING":
                await socket.send("PONG")

    told, protocol = Told(), Script()
    protocol.silent = True
    pace = Pace(ping_s=0.001, poll_s=0.01, silence_s_max=30, backoff_base_s=0, backoff_cap_s=0)
    async with server(venue) as url, pumping(url, told, protocol, pace=pace):
        seen = await told.until("lost")
        assert (seen[0], seen[-1]) == ("connected", "lost no data for 30 s")
        assert "polled" in seen
        assert await told.next() == "connected"


async def test_the_venue_is_pinged_in_its_own_way() -> None:
    frames: asyncio.Queue[object] = asyncio.Queue()

    async def venue(socket: ServerConnection) -> None:
        async for frame in socket:
            frames.put_nowait(frame)

    pace = Pace(ping_s=0.001, poll_s=60, backoff_base_s=0)
    async with server(venue) as url, pumping(url, Told(), Script(), pace=pace):
        async with asyncio.timeout(PATIENCE_S):
            assert [await frames.get() for _ in range(3)] == ["hello", "PING", "PING"]


async def test_a_defect_in_a_protocol_is_not_a_lost_connection() -> None:
    async def venue(socket: ServerConnection) -> None:
        await socket.send("x")
        await socket.wait_closed()

    told, protocol = Told(), Script()
    protocol.fails = True
    async with server(venue) as url, pumping(url, told, protocol) as task:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(RuntimeError, match="a defect"):
                await asyncio.shield(task)


async def test_waits_grow_and_are_random_below_their_bound() -> None:
    bounds: list[float] = []

    class Dice(random.Random):
        def uniform(self, a: float, b: float) -> float:
            bounds.append(b)
            return a

    told = Told()
    task = asyncio.create_task(
        pump(
            "ws://127.0.0.1:1/",
            Script(),  # type: ignore[misc]
            host=told.host,
            rng=Dice(),
            pace=Pace(backoff_base_s=0.25, backoff_cap_s=3),
        )
    )
    for _ in range(7):
        await told.next()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bounds[:6] == [0.25, 0.5, 1, 2, 3, 3]


async def test_a_market_feed_lives_through_a_reconnect() -> None:
    """The book is lost with the connection and trusted again from the next snapshot."""
    level = {"price": "0.4", "size": "1"}
    book: dict[str, object] = {"event_type": "book", "market": "0x" + "c1" * 32, "asset_id": YES}
    book |= {"timestamp": "1", "tick_size": "0.01", "bids": [level], "asks": []}

    async def venue(socket: ServerConnection) -> None:
        assert json.loads(await socket.recv())["assets_ids"] == [YES]
        await socket.send(json.dumps([book]) + "\n")
        await socket.close()

    told, feed = Told(), MarketFeed([YES])
    async with server(venue) as url, pumping(url, told, feed):
        events: list[FeedEvent] = []
        while len(events) < 3:
            event = await told.next()
            if not isinstance(event, str):
                events.append(event)  # type: ignore[arg-type]
    first, doubted, again = events
    assert isinstance(first, BookMoved)
    assert isinstance(doubted, BookMoved)
    assert isinstance(again, BookMoved)
    assert [moved.book.trusted for moved in (first, doubted, again)] == [True, False, True]
