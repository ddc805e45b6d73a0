"""The ends of TCP connections that faults bring about."""

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

from aiohttp import web

GONE_CHECK_S: Final = 0.05  # how often a hung request looks whether its client has given up


def hang_up(request: web.Request) -> web.Response:
    """End the connection without a goodbye; the response returned can reach nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def reset(request: web.Request) -> web.Response:
    """End the connection with a TCP reset, as a port where nobody listens does."""
    if request.transport is not None:
        at_once = struct.pack("ii", 1, 0)
        request.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, at_once)
    return hang_up(request)


async def until_gone(request: web.Request) -> None:
    """Wait until the client has closed its connection."""
    # aiohttp tells no handler that its client has gone, and cancels none either
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(GONE_CHECK_S)
