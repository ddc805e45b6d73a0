"""The process's watch of the chain: leaders' fills of whole blocks, for the lanes that own them.

A third witness, and optional: it begins at the head, keeps its place in memory, and forgets what
it cannot pass on. What happened before, while it was down or where it could not read a log is
told over REST, whose cursor is durable. A stream, where there is one, only says when to read.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, Literal, NamedTuple

import msgspec

from services.ingester.core import ChainRows, Feed
from services.ingester.resolutions import Watched
from services.ingester.said import Leader, differing, row_key
from services.ingester.world import World
from shared.domain.ids import ConditionId, TokenId, Wallet, content_id, partition_of
from shared.domain.messages import FeedChanged
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import FeedView
from shared.polymarket.chain import UNVERIFIED, Filled, Mined, activity
from shared.polymarket.chain_feed import ChainEvent, ChainFeed, Sighted, batches
from shared.polymarket.chain_node import Head, Node, NodeRefused
from shared.polymarket.errors import Garbage, VenueError
from shared.polymarket.public import PublicVenue
from shared.polymarket.stream import Host, Pace, pump
from shared.runtime.clock import Clock
from shared.runtime.logs import log

BEHIND_MAX: Final = 10_000  # blocks; further behind, what they hold was long told over REST
BACK_MAX: Final = 1_000  # blocks that a head may go back before the node counts as another
TOKENS_MAX: Final = 20_000  # whose market is remembered
WAITING_MAX: Final = 1_000  # transactions with a token whose market is not known yet
ROWS_MAX: Final = 200  # passed on together, but for a transaction that has more
READS_MAX: Final = 50  # questions for blocks before the head is looked at again
TRIES_MAX: Final = 8  # questions for a token's market, about four minutes; then REST tells
_AT_ONCE: Final = 4  # markets being asked for
_EAGER_S: Final = 0.5  # between two looks while a fill that was sighted is not deep enough
_BACKOFF_S_MAX: Final = 60.0
_logger = logging.getLogger(__name__)

ChainState = Literal["connected", "lost", "silent"]
Place = tuple[ConditionId, Literal[0, 1]]


class Markets:
    """Which market and outcome a token is of, as far as it was asked for."""

    def __init__(self, venue: PublicVenue) -> None:
        self._venue = venue
        self._known: OrderedDict[TokenId, Place] = OrderedDict()
        self._places = asyncio.Semaphore(_AT_ONCE)

    def place(self, token: TokenId) -> Place | None:
        return self._known.get(token)

    async def learn(self, tokens: Iterable[TokenId]) -> None:
        """Ask for what is not known; what the venue does not say stays unknown."""
        unknown = [token for token in dict.fromkeys(tokens) if token not in self._known]
        await asyncio.gather(*(self._ask(token) for token in unknown))
        while len(self._known) > TOKENS_MAX:
            self._known.popitem(last=False)

    async def _ask(self, token: TokenId) -> None:
        async with self._places:
            if token in self._known:
                return  # its other side was asked for
            try:
                market = await self._venue.market(await self._venue.markets_by_token(token))
            except VenueError as e:
                log(_logger, logging.WARNING, "token_unread", token=token, reason=str(e))
                return
        if token in market.tokens:
            first, second = market.tokens
            self._known |= {first: (market.condition, 0), second: (market.condition, 1)}


class Waiting(NamedTuple):
    """A transaction that is not passed on yet."""

    fills: tuple[Filled, ...]
    due_ns: int  # monotonic
    tries: int


class Counts(msgspec.Struct):
    """What was met since the start."""

    rows: int = 0  # passed on
    first: int = 0  # of them, that no other source had shown
    reshaped: int = 0  # fills that other sources cut into other rows, with the same sum
    contradicted: int = 0  # fills whose sum is another than what was said
    unverified: int = 0  # rows of ExchangeV3, whose event nobody has confirmed
    skipped: int = 0  # logs of other events, of combos, or taken back
    left: int = 0  # transactions left to REST: unreadable, of no market, or no room for them


class ChainWatcher:
    """Reads the chain for all lanes of a process, as far as it is certain enough."""

    def __init__(self, world: World, node: Node, clock: Clock, *, ws_url: str = "") -> None:
        self._hub, self._dead, self._leaders = world.hub, world.dead, world.leaders
        self._settings, self._lanes = world.settings, world.resolutions.lanes
        self._markets = Markets(world.venue)
        self._node, self._clock, self._ws_url = node, clock, ws_url
        self.counts = Counts()
        self._next: int | None = None  # the first block that is not read yet
        self._behind = False  # there are more blocks than one turn reads
        self._span = world.settings.chain_blocks_max
        self._waiting: deque[Waiting] = deque()
        self._sighted = 0  # the newest block that the stream showed a fill in
        self._wake = asyncio.Event()
        self._failures = 0
        self._head = Head(0, 0)
        self._answered_ns: int | None = None  # monotonic
        self._state: ChainState = "lost"
        self._since_ns = clock.now_ns()

    def view(self) -> FeedView:
        """Return what people see of it."""
        told = self.counts
        detail = f"block {self._head.number}, {told.rows} rows, {told.first} first here"
        if told.contradicted or told.left:
            detail += f", {told.contradicted} contradicted, {told.left} left to REST"
        if told.unverified:
            detail += f", {told.unverified} of ExchangeV3, whose event is unverified"
        return FeedView(
            name="chain", state=self._judged(), heard_ns=self._head.venue_ns, detail=detail
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._ws_url and self._leaders:
                group.create_task(self._listen())
            await self._serve()

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.turn()
                self._failures = 0
            except VenueError as e:
                self._failures += 1
                log(_logger, logging.WARNING, "chain_unread", reason=str(e))
            self._become(self._judged())
            pause_s = self._settings.chain_poll_ms / 1_000
            if self._failures:
                await asyncio.sleep(min(_BACKOFF_S_MAX, pause_s * 2 ** min(self._failures, 10)))
                continue
            if self._behind:
                continue
            if self._next is not None and self._sighted >= self._next:
                pause_s = min(pause_s, _EAGER_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def turn(self) -> None:
        """Read on to the newest block that is deep enough, or raise VenueError."""
        self._head = await self._node.head()
        self._answered_ns = self._clock.monotonic_ns()
        last = self._head.number - self._settings.chain_confirmations
        wallets = [who for who in self._leaders if partition_of(who) in self._lanes]
        due = last + 1 - self._next if self._next is not None and wallets else None
        if due is None or not -BACK_MAX <= due <= BEHIND_MAX:
            if due is not None:
                log(_logger, logging.WARNING, "chain_blocks_left", blocks=due, head=last)
            self._next = last + 1
        assert self._next is not None
        for _ in range(READS_MAX):
            if self._next > last:
                break
            self._next = await self._read(wallets, self._next, last) + 1
        self._behind = self._next <= last
        await self._settle()

    async def _read(self, wallets: list[Wallet], first: int, last: int) -> int:
        """Take blocks from ``first`` on, as many as the node gives at once; return the last."""
        while True:
            upto = min(last, first + self._span - 1)
            try:
                answers = [await self._node.fills(b, first, upto) for b in batches(wallets)]
            except NodeRefused as e:
                if not e.wants_less or upto == first:
                    raise
                self._span = (upto - first + 1) // 2
                continue
            if upto - first + 1 == self._span:
                self._span = min(2 * self._span, self._settings.chain_blocks_max)
            for answer in answers:
                self._take(answer)
            return upto

    def _take(self, answer: Mined) -> None:
        for each in answer.garbage:
            self._dead.bury("chain", each.reason, each.excerpt)
        self.counts.skipped += answer.skipped.total()
        self.counts.left += answer.left
        self._waiting += [Waiting(fills, 0, 0) for fills in answer.transactions]
        while len(self._waiting) > WAITING_MAX:
            self._leave(self._waiting.popleft().fills, "too many are waiting")

    async def _settle(self) -> None:
        """Pass on the transactions whose tokens are known, each lane its own."""
        now_ns = self._clock.monotonic_ns()
        due = [each for each in self._waiting if each.due_ns <= now_ns]
        await self._markets.learn(fill.token for each in due for fill in each.fills)
        self._waiting = deque(each for each in self._waiting if each.due_ns > now_ns)
        ready: dict[int, list[Filled]] = {}
        for each in due:
            if all(self._markets.place(fill.token) for fill in each.fills):
                for fill in each.fills:
                    ready.setdefault(partition_of(fill.wallet), []).append(fill)
            elif each.tries + 1 < TRIES_MAX:
                later_ns = now_ns + (NS_PER_S << each.tries)
                self._waiting.append(Waiting(each.fills, later_ns, each.tries + 1))
            else:
                self._leave(each.fills, "a token of no market that is known")
        for partition, fills in ready.items():
            watched = self._lanes.get(partition)
            if watched is not None:  # else another process reads them
                for some in _portions(fills):
                    self._pass_on(some, watched)

    def _pass_on(self, fills: list[Filled], watched: Watched) -> None:
        rows = tuple(row for fill in fills if (row := self._row(fill)) is not None)
        blocks = min(fill.block for fill in fills), max(fill.block for fill in fills)
        read = ChainRows(rows=rows, blocks=blocks, seen_ns=self._clock.now_ns())
        self._count(watched, fills, rows)
        if not watched.lane.offer(read):
            self._leave(tuple(fills), "the lane has no room")

    def _row(self, fill: Filled) -> Activity | None:
        place = self._markets.place(fill.token)
        return None if place is None else activity(fill, *place)

    def _count(self, watched: Watched, fills: list[Filled], rows: tuple[Activity, ...]) -> None:
        self.counts.rows += len(rows)
        self.counts.unverified += sum(fill.exchange == UNVERIFIED for fill in fills)
        for wallet in dict.fromkeys(row.wallet for row in rows):
            known = watched.state.leaders.get(wallet)
            if known is not None:
                self._compare(known, [row for row in rows if row.wallet == wallet])

    def _compare(self, known: Leader, rows: list[Activity]) -> None:
        shown = Counter(row_key(row) for row in rows)
        said = {key: known.seen[key].count for key in shown if key in known.seen}
        other = differing(known, rows)
        agreed = [each for each in other.values() if each.told == each.said]
        self.counts.reshaped += len(agreed)
        self.counts.contradicted += len(other) - len(agreed)
        if not other:
            self.counts.first += sum(max(0, n - said.get(key, 0)) for key, n in shown.items())

    def _leave(self, fills: tuple[Filled, ...], reason: str) -> None:
        self.counts.left += len({fill.tx for fill in fills})
        log(_logger, logging.WARNING, "chain_left_to_rest", tx=fills[0].tx, reason=reason)

    async def _listen(self) -> None:
        host: Host[ChainEvent] = Host(now_ns=self._clock.now_ns, event=self._heard)
        pace = Pace(ping_s=0, silence_s_max=self._settings.chain_silence_s)
        rng = random.Random()  # noqa: S311 - jitter
        await pump(self._ws_url, ChainFeed(self._leaders), host=host, rng=rng, pace=pace)

    def _heard(self, event: ChainEvent) -> None:
        if isinstance(event, Garbage):
            self._dead.bury("chain stream", event.reason, event.excerpt)
        elif isinstance(event, Sighted) and event.block <= self._head.number + BACK_MAX:
            self._sighted = max(self._sighted, event.block)
        depth = self._settings.chain_confirmations
        if isinstance(event, Head) and self._next is not None:
            if self._next <= self._sighted <= event.number - depth:
                self._wake.set()
        elif isinstance(event, Sighted) and not depth:
            self._wake.set()

    def _judged(self) -> ChainState:
        """Return how it stands: a node that answers, but is behind, is silent."""
        limit_ns = self._settings.chain_silence_s * NS_PER_S
        answered_ns = self._answered_ns
        if answered_ns is None or self._clock.monotonic_ns() - answered_ns > limit_ns:
            return "lost"
        behind_ns = self._clock.now_ns() - self._head.venue_ns
        return "silent" if behind_ns > limit_ns else "connected"

    def _become(self, state: ChainState) -> None:
        before, self._state = self._state, state
        if before == state or not self._hub.lanes:
            return
        now_ns = self._clock.now_ns()
        duration_ms = (now_ns - self._since_ns) // NS_PER_MS
        self._since_ns = now_ns
        id_ = content_id("feed_changed", "chain", state, now_ns)
        change = FeedChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=now_ns,
            feed="chain",
            state=state,
            detail=f"block {self._head.number}",
            duration_ms=duration_ms,
        )
        self._hub.lanes[min(self._hub.lanes)].offer(Feed(change=change))


def _portions(fills: list[Filled]) -> Iterator[list[Filled]]:
    """Yield the fills in portions of whole transactions."""
    some: list[Filled] = []
    for _, same in groupby(fills, key=lambda fill: fill.tx):
        transaction = list(same)
        if some and len(some) + len(transaction) > ROWS_MAX:
            yield some
            some = []
        some += transaction
    if some:
        yield some
