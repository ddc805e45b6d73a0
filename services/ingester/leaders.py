"""Leaders as the Data API shows them: each in his turn, and at once when somebody asks.

A snapshot stands between two reads of his activity, so whoever compares it with what the ledger
says knows that the ledger has everything the venue showed by then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.ingester.core import State
from shared.domain.ids import ConditionId, Wallet, partition_of, wallet
from shared.domain.messages import Tick
from shared.domain.observations import PositionReport
from shared.domain.units import NS_PER_S, Shares, Usd
from shared.domain.views import LeaderView, encode, leader_key
from shared.polymarket.errors import VenueError, excerpt
from shared.polymarket.public import PublicVenue
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.rpc import REREAD
from shared.runtime.runner import LaneHandle

HOLDINGS_MAX: Final = 5_000  # of one leader: a baseline is one fact in one ledger message
_AT_ONCE: Final = 2  # snapshots of a process, of about seven reads each, one after the other
_AWAIT_S: Final = 0.2  # between two looks for a leader whose turn it is
_SETTLE_S_MAX: Final = 10  # a lane that is busy for longer has no snapshot worth having
_SETTLE_EVERY_S: Final = 0.01
_logger = logging.getLogger(__name__)

Line = tuple[ConditionId, Shares, Shares]  # market, yes, no


class Holdings(NamedTuple):
    lines: tuple[Line, ...]
    complete: bool  # False: he holds more than is kept


def holdings_of(leader: Wallet, positions: Sequence[PositionReport]) -> Holdings:
    """Return what a leader holds by market; beyond the bound the worthless goes first."""
    complete = len(positions) <= HOLDINGS_MAX
    if not complete:
        log(_logger, logging.WARNING, "holdings_cut", leader=leader, positions=len(positions))
        # What is worth nothing, mostly lost and never redeemed, can be left out.
        positions = sorted(positions, key=lambda held: -held.size * held.current_price)
    held: dict[ConditionId, tuple[Shares, Shares]] = {}
    for position in positions[:HOLDINGS_MAX]:
        yes, no = held.get(position.condition, (Shares(0), Shares(0)))
        pair = (position.size, no) if position.outcome == 0 else (yes, position.size)
        held[position.condition] = pair
    return Holdings(tuple((c, yes, no) for c, (yes, no) in sorted(held.items())), complete)


class Observatory:
    """What the snapshots of a process share: where they look, and how many at a time."""

    def __init__(self, venue: PublicVenue, store: Store, *, every_s: int) -> None:
        self.venue, self.store, self.every_s = venue, store, every_s
        self.places = asyncio.Semaphore(_AT_ONCE)


class Snapshots:
    """One lane's leaders, one at a time: those who were asked for before those whose turn it is."""

    def __init__(
        self,
        leaders: Sequence[Wallet],
        observatory: Observatory,
        read: Callable[[Wallet], Awaitable[None]],  # his activity, into the lane
    ) -> None:
        self._leaders, self._observatory, self._read = leaders, observatory, read
        self._venue = observatory.venue
        self._asked: dict[Wallet, None] = {}
        self._due: dict[Wallet, None] = {}
        self._begun_ns: dict[Wallet, int] = {}
        self._some = asyncio.Event()

    def ask(self, leader: Wallet) -> None:
        """Have a leader read next; asking for one who waits already changes nothing."""
        if leader in self._leaders:
            self._asked[leader] = None
            self._some.set()

    async def run(self, state: State, lane: LaneHandle) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_turns(state, lane))
            group.create_task(self._serve(state, lane))

    async def _take_turns(self, state: State, lane: LaneHandle) -> None:
        """Spread the leaders over the interval; one without a baseline is passed over."""
        every_ns = self._observatory.every_s * NS_PER_S
        step_s = self._observatory.every_s / len(self._leaders)
        while True:
            now_ns = lane.clock.monotonic_ns()
            waiting = [
                leader
                for leader in self._leaders
                if leader in state.leaders
                and now_ns - self._begun_ns.get(leader, now_ns - every_ns) >= every_ns
            ]
            if waiting:
                leader = min(waiting, key=lambda who: self._begun_ns.get(who, -1))
                self._begun_ns[leader] = now_ns
                self._due[leader] = None
                self._some.set()
            await asyncio.sleep(step_s if waiting else min(step_s, _AWAIT_S))

    async def _serve(self, state: State, lane: LaneHandle) -> None:
        while True:
            await self._some.wait()
            queue = self._asked or self._due
            if not queue:
                self._some.clear()
                continue
            leader = next(iter(queue))
            self._asked.pop(leader, None)  # whoever asks from here on is owed a later snapshot
            self._due.pop(leader, None)
            if leader not in state.leaders:
                continue  # his baseline comes first, and then his turn
            self._begun_ns[leader] = lane.clock.monotonic_ns()
            try:
                async with self._observatory.places:
                    view = await self._look(leader, lane)
                await self._observatory.store.write_views({leader_key(leader): encode(view)})
            except (VenueError, StoreAwayError, TimeoutError) as e:
                log(_logger, logging.WARNING, "leader_unread", leader=leader, reason=str(e))

    async def _look(self, leader: Wallet, lane: LaneHandle) -> LeaderView:
        """Read a leader's positions between two reads of his activity."""
        await self._read(leader)
        as_of_ns = lane.clock.now_ns()
        held = holdings_of(leader, await self._venue.positions(leader))
        value = await self._value(leader)
        await self._read(leader)
        await self._recorded(lane)
        return LeaderView(
            leader=leader,
            as_of_ns=as_of_ns,
            read_ns=lane.clock.now_ns(),
            value=value,
            holdings=held.lines,
            complete=held.complete,
        )

    async def _value(self, leader: Wallet) -> Usd | None:
        try:
            return await self._venue.value(leader)
        except VenueError as e:
            log(_logger, logging.WARNING, "value_unread", leader=leader, reason=str(e))
            return None

    async def _recorded(self, lane: LaneHandle) -> None:
        """Wait until all that was handed over so far is durable, or raise TimeoutError.

        A lane takes its inbox in runs, and the next only when the last one's facts are in the
        ledger. So once the inbox is empty everything is in a run, and once one more message has
        been taken, that run is recorded.
        """
        async with asyncio.timeout(_SETTLE_S_MAX):
            await self._emptied(lane)
            await lane.submit(Tick(lane.clock.now_ns()))
            await self._emptied(lane)

    async def _emptied(self, lane: LaneHandle) -> None:
        while not lane.is_idle:  # noqa: ASYNC110 - a lane tells nobody that it took its inbox
            await asyncio.sleep(_SETTLE_EVERY_S)


class _Request(msgspec.Struct, frozen=True):
    leader: str


class Rereads:
    """Takes the requests of a process off the bus; every ingester hears each of them."""

    def __init__(self, client: Client, bury: Callable[[str, str, str], None]) -> None:
        self._client, self._bury = client, bury
        self.lanes: dict[int, Snapshots] = {}

    async def run(self) -> None:
        await self._client.subscribe(REREAD, cb=self.take)
        await asyncio.Event().wait()

    async def take(self, message: Msg) -> None:
        """Pass a request to the lane that owns the leader, if it is one of ours."""
        try:
            leader = wallet(msgspec.json.decode(message.data, type=_Request).leader)
        except (msgspec.DecodeError, ValueError, RecursionError) as e:
            self._bury(REREAD, str(e), excerpt(message.data))
            return
        lane = self.lanes.get(partition_of(leader))
        if lane is not None:
            lane.ask(leader)
