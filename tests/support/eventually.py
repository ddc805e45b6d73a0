"""Wait for something that other processes bring about: by polling, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    check: Callable[[], T | Awaitable[T]], *, deadline_s: float = 10.0, every_s: float = 0.02
) -> T:
    """Return the first truthy result of ``check``; AssertionErrors count as "not yet".

    Raises AssertionError with the last failure when the deadline passes.
    """
    end = time.monotonic() + deadline_s
    while True:
        last: object
        try:
            found = check()
            result = await found if inspect.isawaitable(found) else found
            if result:
                return result
            last = result
        except AssertionError as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {last!r}")
        await asyncio.sleep(every_s)


def eventually_sync(
    check: Callable[[], T], *, deadline_s: float = 10.0, every_s: float = 0.02
) -> T:
    """Like ``eventually``, for tests without an event loop."""

    async def wait() -> T:
        return await eventually(check, deadline_s=deadline_s, every_s=every_s)

    return asyncio.run(wait())
