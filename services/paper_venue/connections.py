"""The ends of TCP connections that faults bring about."""

import asyncio
from typing import Final, NoReturn

from aiohttp import web

GONE_CHECK_S: Final = 0.05  # how often a hung request looks whether its client has given up


def hang_up(request: web.Request) -> NoReturn:
    """End the connection without a goodbye."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the connection was dropped on request")


async def until_gone(request: web.Request) -> None:
    """Wait until the client has closed its connection."""
    # aiohttp tells no handler that its client has gone, and cancels none either
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(GONE_CHECK_S)
