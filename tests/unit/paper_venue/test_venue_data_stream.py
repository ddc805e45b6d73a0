"""The activity stream: what a socket hears depends on its pings, and may lack its label."""

import json
from typing import Any

import aiohttp
from data_bench import a_bench
from venue_bench import LEADER

KINDS = ("trades", "orders_matched")
ASK = {"action": "subscribe", "subscriptions": [{"topic": "activity", "type": k} for k in KINDS]}


async def heard(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """Return every frame that is there already, up to the answer to a PING."""
    frames = []
    await socket.send_str("PING")
    while (text := await socket.receive_str(timeout=5)) != "PONG":
        frames.append(json.loads(text))
    return frames


async def test_the_takers_row_is_told_as_a_match_too() -> None:
    async with a_bench() as bench, bench.session.ws_connect(f"{bench.url}/rtds") as socket:
        await socket.send_json(ASK)
        assert await heard(socket) == []
        done = await bench.fill(immediate=True)
        frames = await heard(socket)
        mine = [frame for frame in frames if frame["payload"]["proxyWallet"] == LEADER]
        assert [frame["type"] for frame in mine] == list(KINDS)
        assert {frame["payload"]["transactionHash"] for frame in frames} == {done["tx"]}
        assert [frame["type"] for frame in frames if frame not in mine] == ["trades"]


async def test_a_socket_that_does_not_ping_falls_silent() -> None:
    async with (
        a_bench(rtds_idle_s=60) as bench,
        bench.session.ws_connect(f"{bench.url}/rtds") as socket,
    ):
        await socket.send_json(ASK)
        assert await heard(socket) == []
        await bench.fill(immediate=True, size="1")
        await bench.pass_ms(59_999)
        await bench.fill(immediate=True, size="2")
        await bench.pass_ms(1)
        await bench.fill(immediate=True, size="3")
        frames = await heard(socket)
        assert {frame["payload"]["size"] for frame in frames} == {1, 2}
        await bench.fill(immediate=True, size="4")
        assert {frame["payload"]["size"] for frame in await heard(socket)} == {4}


async def test_a_frame_may_come_without_its_label() -> None:
    async with (
        a_bench(rtds_bare=True) as bench,
        bench.session.ws_connect(f"{bench.url}/rtds") as socket,
    ):
        await socket.send_json(ASK)
        assert await heard(socket) == []
        await bench.fill(immediate=True)
        (frame, *_) = await heard(socket)
        assert set(frame) == {"timestamp", "connection_id", "payload"}
        assert frame["payload"]["proxyWallet"] == LEADER
