"""Market and user sockets that do not ping, or never say who they are, are closed."""

import asyncio

import aiohttp
import pytest
from venue_bench import OWNER, Bench, frame
from venue_caller import KEYS

MARKET, USER = "/ws/market", "/ws/user"
AUTH = {"apiKey": KEYS.key, "secret": KEYS.secret, "passphrase": KEYS.passphrase}


async def is_closed(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """Tell whether the venue ended a socket; one that stands answers a PING."""
    try:
        await socket.send_str("PING")
    except ConnectionError:
        return True
    told = await asyncio.wait_for(socket.receive(), 5)
    if told.type is aiohttp.WSMsgType.TEXT:
        assert told.data == "PONG"
        return False
    assert told.type is aiohttp.WSMsgType.CLOSE, told
    return True


async def greet(bench: Bench, path: str, socket: aiohttp.ClientWebSocketResponse) -> None:
    if path == USER:
        bench.shell.credentials(OWNER, 0)
        await socket.send_json({"type": "user", "auth": AUTH})
    else:
        await socket.send_json({"type": "market", "assets_ids": [], "initial_dump": False})
    await socket.send_str("PING")
    assert await frame(socket) == "PONG"


@pytest.mark.parametrize("path", [MARKET, USER])
async def test_a_socket_that_does_not_ping_is_closed(bench: Bench, path: str) -> None:
    limit_ms = bench.shell.venue.config.socket_idle_s * 1_000
    async with bench.socket(path) as socket:
        await greet(bench, path, socket)
        await bench.pass_ms(limit_ms - 1)
        assert not await is_closed(socket), "that was a PING, so it begins again"
        await bench.pass_ms(limit_ms - 1)
        assert not await is_closed(socket)
        await bench.pass_ms(limit_ms)
        assert await is_closed(socket)


async def test_a_user_socket_that_says_not_who_it_is_is_closed_though_it_pings(
    bench: Bench,
) -> None:
    limit_ms = bench.shell.venue.config.socket_auth_s * 1_000
    async with bench.socket(USER) as socket, bench.socket(MARKET) as other:
        for each in (socket, other):
            await each.send_str("PING")
            assert await frame(each) == "PONG"
        await bench.pass_ms(limit_ms - 1)
        assert not await is_closed(socket)
        await bench.pass_ms(1)
        assert await is_closed(socket)
        assert not await is_closed(other), "the market socket has nobody to be"


async def test_what_is_told_does_not_stand_for_a_ping(bench: Bench) -> None:
    limit_ms = bench.shell.venue.config.socket_idle_s * 1_000
    async with bench.socket(MARKET) as socket:
        await socket.send_json({"type": "market", "assets_ids": bench.tokens[:1]})
        assert isinstance(await frame(socket), list)
        await bench.pass_ms(limit_ms - 1)
        await bench.move(31)
        assert isinstance(await frame(socket), dict)
        await bench.pass_ms(1)
        assert await is_closed(socket)


async def test_the_activity_stream_is_never_closed_for_silence(bench: Bench) -> None:
    async with bench.socket("/rtds") as socket:
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"
        await bench.pass_ms(3_600_000)
        assert not await is_closed(socket)
