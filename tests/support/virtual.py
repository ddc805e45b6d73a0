"""One process, no clock and no network: an event loop whose time jumps, and TCP in memory.

Servers and clients run as they are (aiohttp, httpx, websockets): connections are pairs of
transports in this loop, and when nothing is ready time jumps to the next timer. An hour takes
as long as its work does, and what happens is a function of the seeds. Connections belong to the
process in whose context they were made: it can be cut off, and it can die without a goodbye.
"""

import asyncio
import selectors
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from shared.domain.units import NS_PER_S

T = TypeVar("T")
START_NS = 1_800_000_000 * NS_PER_S  # of the virtual clock: 2027-01-15
LATENCY_S = 0.0005  # one way between two ends
OWNER: ContextVar[str] = ContextVar("OWNER", default="")  # the process that a task belongs to


class _Task(asyncio.Task[T]):
    """A task with a number for its hash: sets of tasks are in the same order in every run."""

    def __init__(self, *args: Any, number: int, **options: Any) -> None:
        self._number = number  # first: to be registered it is hashed
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Selector(selectors.BaseSelector):
    """A selector that waits for nothing: it moves the loop's time to its next timer."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.advance: Callable[[float], None] = lambda _: None

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = self._real.select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("nothing is ready and nothing is due: the simulation is stuck")
        if timeout > 0:
            self.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        return self._real.unregister(fileobj)

    def get_map(self) -> Any:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with its own time and its own network."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.advance = self._advance
        self._now = 0.0  # small numbers: a double must tell microseconds apart
        self._listening: dict[int, Callable[[], asyncio.BaseProtocol]] = {}
        self._ports = 20_000
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM
        )  # stands for all: never read
        self._tasks = 0
        self._owned: defaultdict[str, list[_Transport]] = defaultdict(list)
        self._cut: dict[str, asyncio.Event] = {}  # set once the process is heard again
        self._dead: set[str] = set()
        self.sends: Callable[[str, bytes], None] = lambda _owner, _data: None
        self.set_task_factory(self._new_task)

    def _new_task(
        self, _: asyncio.AbstractEventLoop, work: Any, context: Context | None = None
    ) -> asyncio.Task[Any]:
        self._tasks += 1
        return _Task(work, loop=self, context=context, number=self._tasks)

    # --- processes ------------------------------------------------------------------------

    def die(self, owner: str) -> None:
        """Reset every connection of a process; it makes none any more."""
        self._dead.add(owner)
        self.heal(owner)
        for transport in self._owned.pop(owner, []):
            transport.abort()

    def cut(self, owner: str) -> None:
        """Let nothing pass to or from a process until it is healed; nothing is lost."""
        self._cut[owner] = asyncio.Event()
        for transport in self._owned[owner]:
            transport.freeze(frozen=True)

    def heal(self, owner: str) -> None:
        if owner in self._cut:
            self._cut.pop(owner).set()
            for transport in self._owned[owner]:
                transport.freeze(frozen=False)

    async def heard(self, owner: str) -> None:
        """Wait until a process is not cut off."""
        while owner in self._cut:
            await self._cut[owner].wait()

    def time(self) -> float:
        return self._now

    def now_ns(self) -> int:
        return START_NS + int(self._now * 1_000_000) * 1_000

    def _advance(self, seconds: float) -> None:
        self._now = max(self._now + seconds, self._now + 1e-9)

    def close(self) -> None:
        self._socket.close()
        super().close()

    async def create_server(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        self._ports += 1
        self._listening[self._ports] = protocol_factory
        return _Server(self._ports, self._listening)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        await asyncio.sleep(LATENCY_S)
        owner = OWNER.get()
        await self.heard(owner)
        if owner in self._dead:
            raise ConnectionRefusedError("this process has died")
        accept = self._listening.get(int(port))
        if accept is None:
            raise ConnectionRefusedError(f"nobody listens on {host}:{port}")
        self._ports += 1
        here = _Transport(self, (host, self._ports), (host, port), self._socket)
        there = _Transport(self, (host, port), (host, self._ports), self._socket)
        here.peer, there.peer = there, here
        if owner:
            here.owner = owner
            self._owned[owner] = [t for t in self._owned[owner] if not t.is_closing()] + [here]
        server, client = accept(), protocol_factory()
        there.set_protocol(server)
        here.set_protocol(client)
        server.connection_made(there)
        client.connection_made(here)
        return here, client


class _Server:
    def __init__(self, port: int, listening: dict[int, Any]) -> None:
        self._port, self._listening = port, listening
        self.sockets = [_Bound(port)]

    def close(self) -> None:
        self._listening.pop(self._port, None)

    async def wait_closed(self) -> None:
        return None

    def is_serving(self) -> bool:
        return self._port in self._listening


class _Bound:
    def __init__(self, port: int) -> None:
        self._port = port

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", self._port)


class _Transport(asyncio.Transport):
    """One end of a connection; bytes reach the other end in order, after the latency."""

    peer: "_Transport"
    owner = ""

    def __init__(self, loop: VirtualLoop, mine: Any, other: Any, sock: socket.socket) -> None:
        super().__init__({"sockname": mine, "peername": other, "socket": sock})
        self._loop = loop
        self._closing = self._gone = self._paused = self._frozen = False
        self._inbox: deque[bytes | None] = deque()  # None: the other end has closed
        self._on_the_way: deque[bytes | None] = deque()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: Any) -> None:
        if not self._closing and data:
            self._send(bytes(data))

    def _send(self, data: bytes | None) -> None:
        """Put bytes on the way; timers of one moment have no order, so the way is a queue."""
        self._on_the_way.append(data)
        self._loop.call_later(LATENCY_S, self._arrive)
        if self.owner and data:
            self._loop.sends(self.owner, data)

    def _arrive(self) -> None:
        self.peer.deliver(self._on_the_way.popleft())

    def deliver(self, data: bytes | None) -> None:
        if self._gone:
            return
        self._inbox.append(data)
        self._empty()

    def _empty(self) -> None:
        while self._inbox and not self._paused and not self._frozen and not self._gone:
            data = self._inbox.popleft()
            if data is None:
                self._protocol.eof_received()
                self._lose(None)
            else:
                self._protocol.data_received(data)

    def freeze(self, *, frozen: bool) -> None:
        """Hold what comes at both ends, or let it through."""
        for end in (self, self.peer):
            end._frozen = frozen
            if not frozen:
                self._loop.call_soon(end._empty)

    def _lose(self, error: Exception | None) -> None:
        if not self._gone:
            self._closing = self._gone = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(None)
            self._lose(None)

    def abort(self) -> None:
        if not self._gone:
            self._loop.call_later(LATENCY_S, self.peer.reset)
            self._lose(None)

    def reset(self) -> None:
        self._lose(ConnectionResetError("reset by the other end"))

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._empty)

    def is_reading(self) -> bool:
        return not self._paused

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 1 << 16)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return None


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(loop))
