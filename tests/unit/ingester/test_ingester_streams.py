"""Real sockets that fail one token: each step of a rescue is made, and the one that helps holds."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from services.ingester.connections import Streams
from shared.domain.ids import TokenId
from shared.domain.units import NS_PER_MS
from shared.polymarket.feed import BookMoved, FeedEvent
from shared.polymarket.rescue import Bounds, Rescue, Step
from shared.runtime.clock import SystemClock
from shared.runtime.config import IngesterConfig
from tests.support.builders import NO, YES, a_market
from tests.support.eventually import eventually

QUICK = Bounds(
    resubscribe_ns=300 * NS_PER_MS,
    reopen_ns=700 * NS_PER_MS,
    parallel_ns=700 * NS_PER_MS,
    retry_ns=500 * NS_PER_MS,
)


class Sockets:
    """A market stream that leaves one token out, until it has been asked in the given way."""

    def __init__(self, helps: Step) -> None:
        self.helps, self.is_well = helps, False
        self.asked: list[tuple[int, str, list[str]]] = []  # connection, kind, tokens
        self.peers: list[ServerConnection] = []

    async def serve(self, socket: ServerConnection) -> None:
        number = len(self.peers)
        self.peers.append(socket)
        async for text in socket:
            if text == "PING":
                continue
            asked = json.loads(text)
            kind = asked.get("operation", "first")
            self.asked.append((number, kind, asked["assets_ids"]))
            if kind != "unsubscribe":
                told = [token for token in asked["assets_ids"] if self.delivers(token, kind)]
                await socket.send(json.dumps([book(token) for token in told]))

    def delivers(self, token: str, kind: str) -> bool:
        if token != YES or self.is_well:
            return True
        opened = sum(1 for _, how, _ in self.asked if how == "first")
        match self.helps:
            case "resubscribe":
                return kind == "subscribe"
            case "reopen":
                return opened == 2
            case "parallel":
                return opened == 3
            case "polling":
                return False


def book(token: str) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": a_market().condition,
        "asset_id": token,
        "timestamp": str(SystemClock().now_ns() // NS_PER_MS),
        "bids": [{"price": "0.4", "size": "5"}],
        "asks": [{"price": "0.6", "size": "5"}],
        "tick_size": "0.01",
    }


@contextlib.asynccontextmanager
async def streaming(sockets: Sockets) -> AsyncIterator[tuple[Streams, list[FeedEvent]]]:
    told: list[FeedEvent] = []
    async with serve(sockets.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = IngesterConfig(book_snapshot_s=1)
        url = f"ws://127.0.0.1:{port}"
        streams = Streams(SystemClock(), told.append, settings=settings, url=url)
        streams.rescue = Rescue(QUICK)
        running = asyncio.create_task(streams.run())
        await asyncio.sleep(0)
        streams.subscribe(a_market())
        try:
            yield streams, told
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def is_trusted(streams: Streams, token: TokenId) -> bool:
    shown = streams.book(token)
    return shown is not None and shown.trusted and shown.source == "stream"


@pytest.mark.parametrize(("helps", "opened"), [("resubscribe", 1), ("reopen", 2), ("parallel", 3)])
async def test_the_step_that_helps_ends_the_rescue(helps: Step, opened: int) -> None:
    sockets = Sockets(helps)
    async with streaming(sockets) as (streams, told):
        await eventually(lambda: is_trusted(streams, NO))
        await eventually(lambda: is_trusted(streams, YES))
        await eventually(lambda: is_trusted(streams, NO))
        assert streams.rescue.step(YES) is None
        assert streams.rescue.counts["recovered"] == 1
        assert streams.rescue.counts[helps] == 1
        assert len(sockets.peers) == opened
        assert streams.is_connected
        if helps == "parallel":  # the old home is not asked for it any more
            await eventually(lambda: sockets.asked[-1][1:] == ("unsubscribe", [YES]))
            assert sockets.asked[-1][0] != sockets.asked[-2][0]
        streams.unsubscribe(YES)
        streams.unsubscribe(NO)
        await eventually(lambda: not streams._connections)
        moved = [event.book.token for event in told if isinstance(event, BookMoved)]
        assert set(moved) == {YES, NO}


async def test_what_no_step_helps_is_tried_again_beside_its_home() -> None:
    sockets = Sockets("polling")
    async with streaming(sockets) as (streams, _):
        await eventually(lambda: streams.rescue.counts["parallel"] >= 2)
        assert streams.rescue.counts["polling"] >= 1
        assert is_trusted(streams, NO)  # its neighbour lives on
        sockets.is_well = True
        await eventually(lambda: is_trusted(streams, YES))
        assert streams.rescue.step(YES) is None
