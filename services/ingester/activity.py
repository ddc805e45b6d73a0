"""The process's activity stream: fast rows for the lanes that own their wallets, and its health.

One socket, or two side by side (hot standby). A socket is judged by what it tells; one that is
not worth its place is replaced at once, a good one after some minutes by a successor that
delivers already: the stream was seen to freeze every half hour behind answered PINGs.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from services.ingester.core import Feed, StreamRow, is_from_the_future
from services.ingester.gaps import LaneGap
from services.ingester.letters import DeadLetters
from services.ingester.watch import Limits, Verdict, Watch
from shared.domain.ids import TxHash, Wallet, content_id, partition_of
from shared.domain.messages import Fact, FeedChanged, LeaderFilled
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.errors import Garbage
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log
from shared.runtime.runner import LaneHandle

_PACE: Final = Pace(ping_s=5.0, silence_s_max=1e9)  # the hub judges, by more than silence
_LOOK_EVERY_S: Final = 0.5  # so long before the bound it is looked for the last time
_SUCCESSOR_S: Final = 15.0  # a successor that told nothing by then is given up
_logger = logging.getLogger(__name__)

FeedState = Literal["connected", "lost", "silent"]


class _Socket:
    """One connection, kept up by the driver until it is replaced."""

    def __init__(self, name: str, hub: "ActivityHub") -> None:
        now_ns = hub.clock.now_ns()
        self.name, self._hub = name, hub
        self.watch = Watch(hub.limits, now_ns=now_ns)
        self.state: FeedState = "lost"
        self.since_ns = now_ns
        self.told = asyncio.Event()  # it delivered something
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        host: Host[Activity | Garbage] = Host(
            now_ns=self._hub.clock.now_ns,
            event=lambda event: self._hub.heard(self, event),
            connected=self._connected,
            lost=lambda reason: self._hub.became(self, "lost", reason),
        )
        rng = random.Random()  # noqa: S311 - jitter
        await pump(self._hub.url, ActivityFeed(), host=host, rng=rng, pace=_PACE)

    def _connected(self) -> None:
        self.watch.opened(now_ns=self._hub.clock.now_ns())
        if self.state == "lost":  # after a silence only data proves that it works
            self._hub.became(self, "connected", "")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def failed(self) -> None:
        """Wait for the driver to fail, which it never should; then raise its error."""
        await asyncio.shield(self._task)


class ActivityHub:
    """Hands each leader's rows to the lane that owns him, and says how far to trust the stream."""

    def __init__(
        self,
        leaders: Sequence[Wallet],
        clock: Clock,
        dead: DeadLetters,
        *,
        settings: IngesterConfig,
        url: str,
    ) -> None:
        self._partitions = {leader: partition_of(leader) for leader in leaders}
        self.clock, self.url = clock, url
        self._settings, self._dead = settings, dead
        self.limits = Limits(
            silence_ns=settings.activity_silence_s * NS_PER_S - int(_LOOK_EVERY_S * NS_PER_S),
            grace_ns=settings.activity_grace_ms * NS_PER_MS,
        )
        self.lanes: dict[int, LaneHandle] = {}
        self._gaps: dict[int, LaneGap] = {}
        self.sockets: list[_Socket] = []
        self.heard_ns = 0
        self.rows = 0
        self.rest_rows = 0
        self.read_ns: dict[Wallet, int] = {}  # when each leader of our lanes was last polled

    @property
    def state(self) -> FeedState:
        """Return the state of the best socket."""
        states = {socket.state for socket in self.sockets}
        return "connected" if "connected" in states else "silent" if "silent" in states else "lost"

    # --- lanes ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, leaders: Sequence[Wallet]) -> Iterator[None]:
        """Count the time since leaders were read for as long as their lane is ours."""
        self.read_ns |= dict.fromkeys(leaders, self.clock.now_ns())
        try:
            yield
        finally:
            for leader in leaders:
                self.read_ns.pop(leader, None)

    @contextlib.contextmanager
    def guarding(self, partition: int, *, through_ns: int) -> Iterator[None]:
        """Watch a lane for gaps; the first is the time since it was last read, by whomever."""
        leaders = [who for who, where in self._partitions.items() if where == partition]
        lag_ns = self._settings.index_lag_ms * NS_PER_MS
        gap = self._gaps[partition] = LaneGap(partition, leaders, index_lag_ns=lag_ns)
        now_ns = self.clock.now_ns()
        if through_ns:
            self._tell(partition, gap.begin("taken up", from_ns=through_ns, now_ns=now_ns))
            gap.hears_again(now_ns=now_ns)
        try:
            yield
        finally:
            if self._gaps.get(partition) is gap:
                del self._gaps[partition]

    def oldest_read_ns(self) -> int:
        return min(self.read_ns.values(), default=self.clock.now_ns())

    def recorded(self, partition: int, facts: Iterable[Fact]) -> None:
        """Hold the sockets to what other sources showed, and count what filled a gap."""
        facts = list(facts)
        if partition in self._gaps:
            self._gaps[partition].count(facts)
        for fact in facts:
            if isinstance(fact, LeaderFilled) and fact.source != "stream":
                self.traded(fact.tx, fact.ts_ns)

    def traded(self, tx: TxHash, venue_ns: int) -> None:
        """Take note of a trade that another source showed: every socket must tell it too."""
        now_ns = self.clock.now_ns()
        for socket in self.sockets:
            socket.watch.owed(tx, venue_ns=venue_ns, now_ns=now_ns)

    # --- sockets --------------------------------------------------------------------------

    async def run(self) -> None:
        """Hear the stream until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._settings.activity_sockets):
                    group.create_task(self._keep("activity-standby" if number else "activity"))
                group.create_task(self._close_gaps())
        finally:
            await asyncio.gather(*(socket.close() for socket in self.sockets))

    async def _keep(self, name: str) -> None:
        """Keep one place filled: judge who stands there, and renew him before he freezes."""
        socket = self._open(name)
        renew_ns = self._settings.activity_renew_s * NS_PER_S
        renewed_ns = self.clock.now_ns()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await socket.failed()
            now_ns = self.clock.now_ns()
            verdict = socket.watch.verdict(now_ns=now_ns)
            if verdict is not None and socket.state != "lost":
                socket = await self._replace(socket, verdict)
            elif renew_ns and now_ns - renewed_ns > renew_ns and socket.state == "connected":
                renewed_ns = now_ns
                socket = await self._renew(socket)

    def _open(self, name: str) -> _Socket:
        socket = _Socket(name, self)
        self.sockets.append(socket)
        return socket

    async def _replace(self, old: _Socket, verdict: Verdict) -> _Socket:
        if old.state == "connected":  # told once, however often its successors stay silent
            old.since_ns = verdict.since_ns
        self.became(old, "silent", verdict.reason)
        fresh = self._open(old.name)
        fresh.state, fresh.since_ns = "silent", old.since_ns
        self.sockets.remove(old)
        await old.close()
        return fresh

    async def _renew(self, old: _Socket) -> _Socket:
        """Put a successor beside a working socket, and let it take over once it delivers."""
        fresh = self._open(old.name)
        try:
            async with asyncio.timeout(_SUCCESSOR_S):
                await fresh.told.wait()
        except TimeoutError:
            log(_logger, logging.WARNING, "successor_silent", feed=old.name)
            old, fresh = fresh, old
        self.sockets.remove(old)
        await old.close()
        return fresh

    def heard(self, socket: _Socket, event: Activity | Garbage) -> None:
        """Take what a socket told."""
        now_ns = self.heard_ns = self.clock.now_ns()
        if isinstance(event, Garbage):
            self._dead.bury("activity stream", event.reason, event.excerpt)
            return
        if is_from_the_future(event, now_ns):
            self._dead.bury("activity stream", "stamped in the future", repr(event))
            return
        socket.told.set()
        socket.watch.heard(event.tx, venue_ns=event.venue_ns, now_ns=now_ns)
        for other in self.sockets:
            if other is not socket:
                other.watch.owed(event.tx, venue_ns=event.venue_ns, now_ns=now_ns)
        if socket.state != "connected":
            self.became(socket, "connected", "it delivers")
        lane = self.lanes.get(self._partitions.get(event.wallet, -1))
        if lane is not None:
            self.rows += 1
            if not lane.offer(StreamRow(row=event, seen_ns=now_ns)):
                log(_logger, logging.WARNING, "row_left_to_rest", leader=event.wallet)

    def became(self, socket: _Socket, state: FeedState, detail: str) -> None:
        """Tell a socket's change; where none is left that works, every lane may miss rows."""
        if socket.state == state or (state == "lost" and socket.state == "silent"):
            return
        now_ns = self.clock.now_ns()
        before, heard_ns = self.state, socket.watch.heard_ns or socket.since_ns
        from_ns = min(socket.since_ns, now_ns) if state == "silent" else heard_ns
        duration_ms = (now_ns - socket.since_ns) // NS_PER_MS
        socket.state, socket.since_ns = state, now_ns
        if self.lanes and socket in self.sockets:
            id_ = content_id("feed_changed", socket.name, state, now_ns)
            change = FeedChanged(
                id=id_,
                cause="",
                root=id_,
                ts_ns=now_ns,
                feed=socket.name,
                state=state,
                detail=detail[:200],
                duration_ms=duration_ms,
            )
            self._tell(min(self.lanes), change)
        if before == "connected" != self.state:
            for partition, gap in self._gaps.items():
                self._tell(partition, gap.begin(detail, from_ns=from_ns, now_ns=now_ns))
        elif before != "connected" == self.state:
            for gap in self._gaps.values():
                gap.hears_again(now_ns=now_ns)

    # --- gaps -----------------------------------------------------------------------------

    async def _close_gaps(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now_ns = self.clock.now_ns()
            for partition, gap in self._gaps.items():
                self._tell(partition, gap.end(self.read_ns, now_ns=now_ns))

    def _tell(self, partition: int, change: FeedChanged | None) -> None:
        if change is None:
            return
        log(
            _logger,
            logging.INFO,
            "feed_changed",
            feed=change.feed,
            state=change.state,
            reason=change.detail,
            duration_ms=change.duration_ms,
        )
        if partition in self.lanes:
            self.lanes[partition].offer(Feed(change=change))
