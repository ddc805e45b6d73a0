"""The one loop that drives every service's core, lane by lane.

The order is the guarantee:

1. load the snapshot;
2. fold the lane's own log after it: what was said is never decided again, so a policy that
   changed between crash and restart cannot put a state in memory that the log does not describe;
3. consume: take what waits, ledger messages and the shell's observations;
4. decide: the core judges each, on what the shell fetched for it;
5. publish: all facts of the run in one durable message, which also says how far the lane has
   heard, so a crash after it resumes behind and a crash before it changes nothing;
6. evolve and save: the state moves in memory as facts are decided, for the next decision of the
   same run needs it; should publishing fail, the process dies and that memory with it;
7. effects: the shell sees facts only once they are durable.

Nothing is caught here: an unexpected exception ends the process and the next start recovers.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from shared.domain.messages import Batch, Fact, IntentFormed, Tick
from shared.domain.units import NS_PER_S
from shared.runtime.clock import Clock
from shared.runtime.digests import Digests
from shared.runtime.ports import (
    Entry,
    Epoch,
    GapError,
    Lane,
    Ledger,
    Saved,
    Store,
    StoreAwayError,
    UndecodableError,
)
from shared.runtime.shape import shape_of

S = TypeVar("S")
_C = TypeVar("_C", contravariant=True)

RUN_MAX: Final = 256  # inputs taken at a time
FACTS_MAX: Final = 200  # facts in one ledger message, unless one input yields more
INBOX_MAX: Final = 4_096  # inputs that may wait in memory before their senders do
SAVE_EVERY_S: Final = 0.1  # a snapshot of a small state is at most this much behind
SAVE_SHARE: Final = 100  # encoding snapshots takes at most one part in so many of a lane's time
KEEP_S: Final = 5.0  # a lane at rest saves again all the same: the store may have been emptied
PUBLISH_AFTER_S: Final = 0.01  # facts do not wait longer for what the rest of their run needs
TICKS_SKIPPED_MAX: Final = 4  # under load time is told this much less often, not never

log = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder(order="deterministic")


class Service(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """A service's core and what the runner must know of it."""

    name: str
    state: type[S]
    decide: Callable[[S, Any, int], list[Fact]]  # (state, message, now_ns)
    evolve: Callable[[S, Fact], None]
    inputs: Callable[[int], tuple[str, ...]]  # partition -> ledger filters
    key: str = "facts"  # last token of the subjects it publishes under
    moves_money: bool = False  # an input that cannot be read stops the lane
    tick_ms: int = 0


class Shell(Protocol[_C]):
    """A service's driver of effects. ``QuietShell`` has the empty default of each method."""

    async def start(self, state: _C, lane: "LaneHandle") -> None:
        """Begin watching the world; called once, after recovery."""
        ...

    async def prepare(self, state: _C, message: Any) -> Any:
        """Return the message with what its decision needs fetched into it."""
        ...

    def recorded(self, state: _C, facts: Sequence[Fact]) -> None:
        """Start the effects of facts that are durable now."""
        ...

    def views(self, state: _C) -> Mapping[str, bytes]:
        """Return what people and other services may read of the state."""
        ...


class QuietShell(Generic[S]):
    """The shell of a core that needs nothing from the world but its inputs."""

    async def start(self, state: S, lane: "LaneHandle") -> None:
        return None

    async def prepare(self, state: S, message: Any) -> Any:
        return message

    def recorded(self, state: S, facts: Sequence[Fact]) -> None:
        return None

    def views(self, state: S) -> Mapping[str, bytes]:
        return {}


class Observer(Protocol):
    """Sees each fact once it is durable: tracing."""

    def record(
        self, fact: Fact, *, start_ns: int, end_ns: int, links: Sequence[str] = ()
    ) -> None: ...


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    ledger: Ledger
    store: Store
    clock: Clock
    observer: Observer | None = None


class Input(msgspec.Struct, frozen=True):
    """One unit of work: a ledger message with its sequence, or one local observation."""

    messages: tuple[Any, ...]
    seq: int | None
    taken_ns: int


class LaneHandle:
    """What a shell may do to its lane: hand it observations, and run tasks that live with it."""

    def __init__(self, lane: Lane, group: asyncio.TaskGroup, clock: Clock) -> None:
        self.lane = lane
        self.clock = clock
        self._group = group
        self._waiting: deque[Input] = deque()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.stopping = False
        self.has_news = False  # a view changed without a fact: it is to be saved all the same

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that ends with the lane; its failure ends the lane."""
        return self._group.create_task(work)

    async def submit(self, message: Any) -> None:
        """Hand an observation to the core; waits while the inbox is full."""
        await self._put(Input((message,), None, self.clock.now_ns()))

    def offer(self, message: Any) -> bool:
        """Hand an observation over unless the inbox is full."""
        if len(self._waiting) >= INBOX_MAX:
            return False
        self._waiting.append(Input((message,), None, self.clock.now_ns()))
        self._some.set()
        return True

    async def _put(self, work: Input) -> None:
        while len(self._waiting) >= INBOX_MAX:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(work)
        self._some.set()

    def stop(self) -> None:
        """Let the loop end after the run it is in; what waits is taken up by the next holder."""
        self.stopping = True
        self._some.set()

    async def _take(self, *, wait_s: float | None) -> list[Input]:
        """Return what waits, once something does; nothing after ``wait_s`` or when stopping."""
        if not self._waiting and not self.stopping:
            self._some.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._some.wait()
        if self.stopping:
            return []
        count = min(RUN_MAX, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        self._room.set()
        return taken

    @property
    def is_idle(self) -> bool:
        return not self._waiting


class LaneRunner(Generic[S]):
    """One lane of one service, from recovery to its end."""

    def __init__(
        self, service: Service[S], lane: Lane, shell: Shell[S], ports: Ports, epoch: Epoch
    ) -> None:
        self._service, self.lane, self._shell = service, lane, shell
        self._ports, self._epoch = ports, epoch
        self.state: S = service.state()
        self._shape = shape_of(service.state)
        self._digests = Digests(self._shape)
        self.cursor = 0
        self.said = 0
        self._saved_ns = 0
        self._save_took_s = 0.0
        self._dirty = False
        self._fetches = getattr(type(shell), "prepare", None) is not QuietShell.prepare

    async def run(self, stopping: asyncio.Event | None = None) -> None:
        """Recover, then serve until stopped; any exception means: die and recover again."""
        await self.recover()
        async with asyncio.TaskGroup() as group:
            handle = LaneHandle(self.lane, group, self._ports.clock)
            tasks = [group.create_task(self._listen(handle))]
            if self._service.tick_ms:
                tasks.append(group.create_task(self._tick(handle)))
            await self._shell.start(self.state, handle)
            await self._save(force=True)  # views exist, and a newer epoch is on record, from now
            serving = group.create_task(self._serve(handle))
            if stopping is not None:
                await stopping.wait()
                handle.stop()
                await serving  # never in the middle of a run: memory would be ahead of the log
                await self._save(force=True)
                raise _StopLane

    def _take(self, saved: Saved) -> None:
        if saved.shape != self._shape:
            log.warning("snapshot_of_another_version", extra={"fields": {"shape": saved.shape}})
            return
        self.state = msgspec.json.decode(saved.state, type=self._service.state)
        self.cursor, self.said = saved.cursor, saved.said

    async def recover(self) -> None:
        """Steps 1 and 2: the state is what the log says, whatever was saved."""
        said = cursor = 0
        try:
            if (saved := await self._ports.store.load(self.lane)) is not None:
                said, cursor = saved.said, saved.cursor
                self._take(saved)
        except (StoreAwayError, msgspec.DecodeError) as e:  # the log alone says the same, slower
            log.warning("snapshot_discarded", extra={"fields": {"reason": str(e)}})
        last = await self._ports.ledger.last(self.lane)
        end, head = last.seq if last else 0, await self._ports.ledger.head()
        if said > end or cursor > head:
            raise GapError(
                f"{self.lane.name}: the snapshot stands on messages {said} and {cursor}, "
                f"the ledger ends at {end} and {head}: it lost facts. Restore it, or rebuild from "
                "the venue."
            )
        async for run in self._ports.ledger.read((self.lane.subjects,), after=self.said, until=end):
            for entry in run:
                self._fold(entry)
        self._dirty = True

    def _fold(self, entry: Entry) -> None:
        if entry.batch is None:
            raise UndecodableError(f"own message {entry.seq} of {self.lane.name}: {entry.error}")
        for fact in entry.batch.facts:
            self._service.evolve(self.state, fact)
        self.said = entry.seq
        # Never the snapshot's, if later: its writer may have heard on in ignorance of this message.
        self.cursor = entry.batch.through

    async def _listen(self, handle: LaneHandle) -> None:
        filters = self._service.inputs(self.lane.partition)
        if not filters:
            return
        async for run in self._ports.ledger.read(filters, after=self.cursor):
            now_ns = self._ports.clock.now_ns()
            for entry in run:
                messages: tuple[Any, ...] = ()
                if entry.batch is None:
                    await self._bury(entry)
                else:
                    messages = entry.batch.facts
                await handle._put(Input(messages, entry.seq, now_ns))

    async def _bury(self, entry: Entry) -> None:
        if self._service.moves_money:
            raise UndecodableError(f"message {entry.seq} on {entry.subject}: {entry.error}")
        log.error("dead_letter", extra={"fields": {"seq": entry.seq, "reason": entry.error}})
        await self._ports.ledger.dead_letter(
            self.lane, reason=entry.error, data=entry.data, source=f"{entry.subject}@{entry.seq}"
        )

    async def _tick(self, handle: LaneHandle) -> None:
        skipped = 0
        while True:
            skipped += 1
            if handle.is_idle or skipped > TICKS_SKIPPED_MAX:
                skipped = 0
                handle.offer(Tick(self._ports.clock.now_ns()))
            await asyncio.sleep(self._service.tick_ms / 1_000)

    async def _serve(self, handle: LaneHandle) -> None:
        while not handle.stopping:
            taken = await handle._take(wait_s=self._save_in_s())
            if taken:
                await self.process(taken)
            self._dirty, handle.has_news = self._dirty or handle.has_news, False
            if self._save_in_s() == 0:
                await self._save(force=True)

    async def process(self, taken: list[Input]) -> None:
        """Steps 3 to 5 and 7 for one run of inputs."""
        facts: list[Fact] = []
        since_ns = taken[0].taken_ns
        for work in taken:
            said: list[Fact] = []
            for message in work.messages:
                prepared = await self._prepare(message, facts, since_ns)
                decided = self._service.decide(self.state, prepared, self._ports.clock.now_ns())
                for fact in decided:
                    self._service.evolve(self.state, fact)
                said += decided
            facts += said
            if work.seq is not None:
                self.cursor = work.seq
                self._dirty = True
            if len(facts) >= FACTS_MAX:
                await self._publish(facts, since_ns)
                facts, since_ns = [], self._ports.clock.now_ns()
        if facts:
            await self._publish(facts, since_ns)

    async def _prepare(self, message: Any, facts: list[Fact], since_ns: int) -> Any:
        """Fetch what a decision needs; what earlier inputs led to does not wait for it for long."""
        if not facts or not self._fetches:
            return await self._shell.prepare(self.state, message)
        fetching = asyncio.ensure_future(self._shell.prepare(self.state, message))
        try:
            await asyncio.wait({fetching}, timeout=PUBLISH_AFTER_S)
            if not fetching.done():
                await self._publish(facts, since_ns)
                facts.clear()
            return await fetching
        finally:
            fetching.cancel()

    async def _publish(self, facts: list[Fact], since_ns: int) -> None:
        digest = self._digests.next(said=self.said)
        batch = Batch(epoch=self._epoch, through=self.cursor, facts=tuple(facts), digest=digest)
        self.said = await self._ports.ledger.append(
            self.lane, batch, key=self._service.key, after=self.said
        )
        self._dirty = True
        self._shell.recorded(self.state, facts)
        if self._ports.observer is not None:
            end_ns = self._ports.clock.now_ns()
            for fact in facts:
                links = fact.fills if isinstance(fact, IntentFormed) else ()
                self._ports.observer.record(fact, start_ns=since_ns, end_ns=end_ns, links=links)

    def _save_in_s(self) -> float:
        """Return how long the next snapshot waits: a lane is not to spend its time on them."""
        since_s = (self._ports.clock.monotonic_ns() - self._saved_ns) / NS_PER_S
        every_s = SAVE_EVERY_S if self._dirty else KEEP_S
        return max(0.0, every_s - since_s, SAVE_SHARE * self._save_took_s - since_s)

    async def _save(self, *, force: bool = False) -> None:
        """Step 6: the snapshot with its anchor; while the store is away, it only grows older."""
        if not self._dirty and not force:
            return
        began_ns = self._ports.clock.monotonic_ns()
        state = _encoder.encode(self.state)
        views = self._shell.views(self.state)
        saved = Saved(state, self.cursor, self.said, self._epoch, self._shape)
        self._saved_ns = self._ports.clock.monotonic_ns()
        self._digests.saw(state, said=self.said, now_ns=self._saved_ns)
        self._save_took_s = (self._saved_ns - began_ns) / NS_PER_S
        try:
            await self._ports.store.save(self.lane, saved, views)
        except StoreAwayError as e:
            log.warning("snapshot_not_saved", extra={"fields": {"reason": str(e)}})
            return
        self._dirty = False


class _StopLane(Exception):  # noqa: N818 - not an error: the way out of the lane's task group
    """The lane was asked to stop."""


async def run_until_stopped(work: Awaitable[None]) -> None:
    """Await a lane, treating its orderly stop as an end."""
    with contextlib.suppress(_StopLane):
        try:
            await work
        except BaseExceptionGroup as group:
            _, others = group.split(_StopLane)
            if others is not None:
                raise others from None


def encode_state(state: object) -> bytes:
    """Return the bytes a snapshot holds; equal states give equal bytes."""
    return _encoder.encode(state)
