"""The one place that opens WebSockets: connect, feed a protocol, watch, reconnect, for ever."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Generic, Protocol, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException

from shared.domain.units import NS_PER_S
from shared.polymarket.frames import Frame

E = TypeVar("E")


class FrameProtocol(Protocol[E]):
    """A sans-IO feed, as the driver sees it."""

    def opened(self, *, now_ns: int) -> list[str]: ...
    def closed(self, *, now_ns: int) -> list[E]: ...
    def receive(self, frame: Frame, *, now_ns: int) -> list[E]: ...
    def poll(self, *, now_ns: int) -> list[E]: ...
    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool: ...


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The driver's limits; the venue wants a PING every 10 s, on RTDS every 5 s."""

    ping_s: float = 10.0  # 0: none, where the other side does not speak it
    poll_s: float = 1.0  # how often time alone may demand something
    silence_s_max: float = 60.0  # without data for longer, the socket is closed and reopened
    open_s_max: float = 10.0
    close_s_max: float = 2.0
    steady_s: float = 10.0  # a connection that lasted this long was good: back-off starts again
    backoff_base_s: float = 0.25
    backoff_cap_s: float = 30.0
    frames_max: int = 1_024  # read ahead of us; beyond it the venue has to wait
    frame_bytes_max: int = 16 * 2**20


def _nothing(*_: object) -> None:
    return None


class Host(Generic[E]):
    """What the driver needs from the process around it. Every callback is sync and quick."""

    def __init__(
        self,
        *,
        now_ns: Callable[[], int],
        event: Callable[[E], None],
        connected: Callable[[], None] = _nothing,
        lost: Callable[[str], None] = _nothing,
    ) -> None:
        self.now_ns = now_ns
        self.event = event
        self.connected = connected
        self.lost = lost


async def pump(
    url: str,
    protocol: FrameProtocol[E],
    *,
    host: Host[E],
    rng: random.Random,
    pace: Pace | None = None,
    outbox: asyncio.Queue[str] | None = None,
) -> None:
    """Keep a connection to ``url`` and feed it to the protocol, until cancelled.

    Frames put into ``outbox`` are sent while connected; on a new connection it is emptied,
    because ``opened`` says everything anew. Reconnects wait a random time below a bound that
    doubles with every connection that did not last.
    """
    pace, outbox = pace or Pace(), outbox or asyncio.Queue()
    clock, failures = asyncio.get_running_loop().time, 0
    while True:
        link = _Link(protocol, host, pace, outbox)
        began_s = clock()
        try:
            reason = await link.run(url)
        finally:
            if link.is_open:
                _deliver(host, protocol.closed(now_ns=host.now_ns()))
        host.lost(reason)
        failures = 0 if clock() - began_s >= pace.steady_s else failures
        bound_s = min(pace.backoff_cap_s, pace.backoff_base_s * 2 ** min(failures, 16))
        failures += 1
        await asyncio.sleep(rng.uniform(0, bound_s))


class _Link(Generic[E]):
    """One connection's life."""

    def __init__(
        self,
        protocol: FrameProtocol[E],
        host: Host[E],
        pace: Pace,
        outbox: asyncio.Queue[str],
    ) -> None:
        self.protocol, self.host, self.pace, self.outbox = protocol, host, pace, outbox
        self.is_open = False

    async def run(self, url: str) -> str:
        """Live until the connection ends; return why it did."""
        pace = self.pace
        try:
            async with connect(
                url,
                ping_interval=None,  # the venue wants its own text PING, and answers no other
                open_timeout=pace.open_s_max,
                close_timeout=pace.close_s_max,
                max_queue=pace.frames_max,
                max_size=pace.frame_bytes_max,
                logger=quiet_logger(),
            ) as socket:
                return await self._converse(socket)
        except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as e:
            return _told(e)

    async def _converse(self, socket: ClientConnection) -> str:
        while not self.outbox.empty():
            self.outbox.get_nowait()
        self.is_open = True
        frames = self.protocol.opened(now_ns=self.host.now_ns())
        for frame in frames:
            await socket.send(frame)
        self.host.connected()
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(socket), self._ping(socket), self._send(socket), self._watch())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> str:
        try:
            while True:
                frame = await socket.recv(decode=False)
                _deliver(self.host, self.protocol.receive(frame, now_ns=self.host.now_ns()))
        except ConnectionClosed as e:
            return _told(e)

    async def _ping(self, socket: ClientConnection) -> str:
        with suppress(ConnectionClosed):
            while self.pace.ping_s:
                await asyncio.sleep(self.pace.ping_s)
                await socket.send("PING")
        return await _never()

    async def _send(self, socket: ClientConnection) -> str:
        with suppress(ConnectionClosed):
            while True:
                await socket.send(await self.outbox.get())
        return await _never()

    async def _watch(self) -> str:
        limit_ns = int(self.pace.silence_s_max * NS_PER_S)
        while True:
            await asyncio.sleep(self.pace.poll_s)
            now_ns = self.host.now_ns()
            _deliver(self.host, self.protocol.poll(now_ns=now_ns))
            if self.protocol.is_silent(now_ns=now_ns, limit_ns=limit_ns):
                return f"no data for {self.pace.silence_s_max:g} s"


@cache
def quiet_logger() -> logging.Logger:
    """Return a logger that never shows frames: one of them carries the credentials."""
    logger = logging.getLogger("websockets.client.quiet")
    logger.setLevel(logging.WARNING)
    return logger


def _deliver(host: Host[E], events: list[E]) -> None:
    for event in events:
        host.event(event)


async def _never() -> str:
    """Wait for the reader, which knows why the connection ended."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
