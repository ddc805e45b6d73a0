"""A market's real frames under every fault: what is trusted is the venue's book of that moment.

The venue is the local one and renders its own frames and bodies; connections, REST and time are
the test's. Frames are dropped, doubled, delayed past each other and cut; first snapshots come
late or not at all; REST answers late, not at all, or with a book of a while ago.
"""

import heapq
import json
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingester.connections import Streams, _Connection
from services.ingester.resyncs import Budget, Resyncs
from services.paper_venue import core, wire
from services.paper_venue.config import VenueConfig
from services.paper_venue.state import BookMoved as VenueMoved
from services.paper_venue.state import Listing
from services.paper_venue.state import TickChanged as VenueTick
from shared.domain.book import Book, Level
from shared.domain.ids import TokenId, Wallet
from shared.domain.units import NS_PER_MS, NS_PER_S, Price, Shares, format_micro
from shared.polymarket import parse
from shared.polymarket.feed import BookMoved, FeedEvent, Resync
from shared.runtime.clock import ManualClock
from shared.runtime.config import IngesterConfig
from tests.support.builders import T0_NS, a_market

STEP_MS = 50
CONFIG = IngesterConfig()
RECOVERED_S = 90  # an audit, the longest wait for a snapshot, and one more try of each
SOMEBODY = Wallet("0x" + "5b" * 20)
Levels = tuple[tuple[Level, ...], tuple[Level, ...]]


class Faults(NamedTuple):
    """Out of a hundred frames or answers."""

    drop: int = 0
    twice: int = 0
    delay: int = 0
    cut: int = 0
    late_dump: int = 0
    no_dump: int = 0
    stale_rest: int = 0
    no_rest: int = 0
    slow_rest: int = 0
    lost_connection: int = 0  # a second
    lying_stamp: int = 0


class Line:
    """A connection of the client's, as the venue and the network see it."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.is_open = False
        self.tokens: set[str] = set()
        self.unheard: dict[str, set[int]] = {}  # by token: times of frames sent and not delivered


class Lines(Streams):
    """The real streams; what would be a socket's driver is the world's."""

    def __init__(self, world: "World") -> None:
        self.world = world
        super().__init__(world.clock, world.told, settings=CONFIG, url="")

    def _start(self, connection: _Connection) -> None:
        self.world.connect(connection)


class World:
    def __init__(self, seed: int, faults: Faults) -> None:
        self.rng, self.faults = random.Random(seed), faults
        self.clock = ManualClock(T0_NS)
        self.venue = core.new_venue(VenueConfig())
        self.listing: Listing = core.open_market(self.venue, a_market(), T0_NS)
        self.tokens: tuple[TokenId, TokenId] = self.listing.market.tokens
        self.history: dict[TokenId, dict[int, Levels]] = {token: {} for token in self.tokens}
        self.bodies: dict[TokenId, list[tuple[int, bytes]]] = {token: [] for token in self.tokens}
        self.lines: dict[int, Line] = {}
        self.due: list[tuple[int, int, Any]] = []  # what arrives when, in order of sending
        self.sent = 0
        self.lied = False
        self.newest: dict[TokenId, int] = {}  # the latest book that was ever trusted
        self.resyncs = Resyncs(Budget(20, 40, now_ns=T0_NS))
        self.set_depth({40: 5}, {60: 5})
        self.streams = Lines(self)
        self.streams.subscribe(self.listing.market)

    # --- the venue --------------------------------------------------------------------------

    def set_depth(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        levels = [[(p * 10_000, s * 1_000_000) for p, s in side.items()] for side in (bids, asks)]
        core.set_depth(self.venue, self.listing.market.condition, *levels, self.now_ns)
        self.publish()

    def fill(self, size: int, *, buys: bool) -> None:
        fill = core.Fill(
            wallet=SOMEBODY,
            condition=self.listing.market.condition,
            outcome=0,
            side="BUY" if buys else "SELL",
            size=Shares(size * 1_000_000),
        )
        core.execute_fill(self.venue, fill, self.now_ns)
        self.publish()

    def publish(self) -> None:
        for event in core.drain(self.venue, self.now_ns):
            if isinstance(event, VenueTick):
                for token in self.tokens:
                    self.broadcast(tick_frame(event, token, self.now_ns), (token,))
            elif isinstance(event, VenueMoved) and event.traded:
                for outcome, token in enumerate(self.tokens):
                    self.broadcast([wire.book_frame(self.listing, outcome)], (token,))
            elif isinstance(event, VenueMoved):
                self.broadcast(wire.price_change_frame(self.listing, event), self.tokens)
        for outcome, token in enumerate(self.tokens):
            sides = wire.sides(self.listing, outcome)
            self.history[token][self.listing.changed_ns // NS_PER_MS * NS_PER_MS] = levels_of(sides)
            body = wire.encode(wire.book_body(self.listing, outcome))
            self.bodies[token].append((self.now_ns, body))

    # --- the network ------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    def happens(self, percent: int) -> bool:
        return self.rng.random() * 100 < percent

    def connect(self, connection: _Connection) -> None:
        self.hang_up(connection)
        self.lines[connection.number] = Line(connection)
        self.later(200, lambda: self.open(connection))

    def open(self, connection: _Connection) -> None:
        line = self.lines.get(connection.number)
        if line is None or line.connection is not connection or line.is_open:
            return
        while not connection.outbox.empty():
            connection.outbox.get_nowait()
        line.is_open = connection.connected = True
        for frame in connection.feed.opened(now_ns=self.now_ns):
            self.hear(line, frame)

    def hang_up(self, connection: _Connection) -> None:
        line = self.lines.pop(connection.number, None)
        if line is not None and line.is_open:
            for event in connection.feed.closed(now_ns=self.now_ns):
                self.streams._heard(connection, event)

    def later(self, ms: int, what: Any) -> None:
        self.sent += 1
        heapq.heappush(self.due, (self.now_ns + ms * NS_PER_MS, self.sent, what))

    def broadcast(self, content: Any, tokens: Iterable[TokenId]) -> None:
        for line in self.lines.values():
            if line.tokens.intersection(tokens):
                self.send(line, content, tokens)

    def send(self, line: Line, content: Any, tokens: Iterable[TokenId], delay_ms: int = 0) -> None:
        text, at_ns = wire.encode(content).decode(), self.listing.changed_ns
        for token in tokens:
            line.unheard.setdefault(token, set()).add(at_ns // NS_PER_MS * NS_PER_MS)
        faults = self.faults
        if self.happens(faults.drop):
            return
        if self.happens(faults.cut):
            text = text[: self.rng.randrange(len(text))] + "#"
        elif self.happens(faults.lying_stamp):
            text = shifted(text)
            self.lied = True
        if self.happens(faults.delay):
            delay_ms += self.rng.randrange(1, 2_000)
        for _ in range(2 if self.happens(faults.twice) else 1):
            self.later(delay_ms + 20, lambda: self.deliver(line, text, tokens, at_ns))

    def deliver(self, line: Line, text: str, tokens: Iterable[TokenId], at_ns: int) -> None:
        if not line.is_open or self.lines.get(line.connection.number) is not line:
            return
        for token in tokens:  # a frame that was cut is heard too: the client knows of its loss
            line.unheard[token].discard(at_ns // NS_PER_MS * NS_PER_MS)
        for event in line.connection.feed.receive(text, now_ns=self.now_ns):
            self.streams._heard(line.connection, event)

    def hear(self, line: Line, frame: str) -> None:
        asked = json.loads(frame)
        if asked.get("operation") == "unsubscribe":
            line.tokens.difference_update(asked["assets_ids"])
            return
        fresh = [token for token in asked["assets_ids"] if token not in line.tokens]
        line.tokens.update(fresh)
        for token in fresh:
            line.unheard[token] = set()
        fresh = [token for token in fresh if not self.happens(self.faults.no_dump)]
        frames = [wire.book_frame(self.listing, self.tokens.index(token)) for token in fresh]
        late_ms = 3_000 if self.happens(self.faults.late_dump) else 0
        if frames:
            self.send(line, frames, fresh, late_ms)

    # --- the client -------------------------------------------------------------------------

    def told(self, event: FeedEvent) -> None:
        if isinstance(event, Resync):
            self.resyncs.ask(event.token)
        elif isinstance(event, BookMoved):
            self.check(event.book)

    def check(self, book: Book) -> None:
        """What is trusted is true, unless frames of its time are still under way, or were lost."""
        if not book.trusted or (self.lied and book.as_of_ns not in self.history[book.token]):
            return
        assert not book.is_crossed
        if not self.lied:  # what REST said a while ago never replaces what is newer
            assert book.as_of_ns >= self.newest.get(book.token, 0)
            self.newest[book.token] = book.as_of_ns
        assert book.seen_ns <= self.now_ns
        home = self.streams._home[book.token]
        ladder = home.feed._ladders[book.token]
        line = self.lines.get(home.number)
        unheard = line.unheard.get(book.token, set()) if line else set()
        owed = [at_ns for at_ns in unheard if ladder.base_ns < at_ns <= book.as_of_ns]
        if not owed and not self.lied:
            assert (book.bids, book.asks) == self.history[book.token][book.as_of_ns]

    def read(self) -> None:
        """Answer over REST what the client asks for now."""
        tokens = self.resyncs.take(now_ns=self.now_ns)
        if not tokens:
            return
        asked_ns = self.now_ns
        slow_ms = 1_500 if self.happens(self.faults.slow_rest) else 50
        if self.happens(self.faults.no_rest):
            self.later(slow_ms, lambda: self.resyncs.done(tokens))
            return
        age_ms = self.rng.randrange(20_000) if self.happens(self.faults.stale_rest) else 0
        at_ns = asked_ns - age_ms * NS_PER_MS
        told = {token: self.body(token, at_ns) for token in tokens}

        def answer() -> None:
            self.resyncs.done(tokens)
            for body in told.values():
                book = parse.rest_book(body, now_ns=self.now_ns)
                assert book.trusted
                self.streams.snapshot(book, asked_ns=asked_ns)

        self.later(slow_ms, answer)

    def body(self, token: TokenId, at_ns: int) -> bytes:
        known = [body for since_ns, body in self.bodies[token] if since_ns <= at_ns]
        return known[-1] if known else self.bodies[token][0][1]

    def pass_ms(self, duration_ms: int) -> None:
        for _ in range(max(1, duration_ms // STEP_MS)):
            self.clock.advance(STEP_MS * NS_PER_MS)
            while self.due and self.due[0][0] <= self.now_ns:
                heapq.heappop(self.due)[2]()
            for line in list(self.lines.values()):
                if line.is_open and self.rng.random() * 2_000 < self.faults.lost_connection:
                    self.connect(line.connection)
                while line.is_open and not line.connection.outbox.empty():
                    self.hear(line, line.connection.outbox.get_nowait())
            self.streams.poll()
            self.read()

    def is_well(self) -> bool:
        for token in self.tokens:
            book = self.streams.book(token)
            if book is None or not book.trusted:
                return False
            if (book.bids, book.asks) != list(self.history[token].values())[-1]:
                return False
        return True


def levels_of(sides: tuple[dict[int, int], dict[int, int]]) -> Levels:
    bids, asks = ([(Price(p), Shares(s)) for p, s in side.items()] for side in sides)
    return tuple(sorted(bids, reverse=True)), tuple(sorted(asks))


def tick_frame(event: VenueTick, token: TokenId, now_ns: int) -> Any:
    return {
        "event_type": "tick_size_change",
        "market": event.condition,
        "asset_id": token,
        "old_tick_size": format_micro(event.old),
        "new_tick_size": format_micro(event.new),
        "timestamp": wire.ms_text(now_ns),
    }


def shifted(text: str) -> str:
    """Return a frame whose stamp is half a minute ahead of its time."""
    content = json.loads(text)
    for event in content if isinstance(content, list) else [content]:
        event["timestamp"] = str(int(event["timestamp"]) + 30_000)
    return msgspec.json.encode(content).decode()


PERCENTS = (0, 0, 5, 20, 60)
sides = st.dictionaries(st.integers(1, 49), st.integers(1, 3), max_size=4)
moves = st.lists(
    st.tuples(
        st.sampled_from([50, 100, 1_000, 7_000, 40_000]),
        st.one_of(
            st.tuples(st.just("depth"), sides, sides),
            st.tuples(st.just("fill"), st.integers(1, 4), st.booleans()),
        ),
    ),
    max_size=25,
)


def some_faults(rng: random.Random) -> Faults:
    return Faults(
        *(rng.choice(PERCENTS) for _ in range(5)),
        no_dump=rng.choice((0, 0, 50, 100)),
        stale_rest=rng.choice(PERCENTS),
        no_rest=rng.choice(PERCENTS),
        slow_rest=rng.choice(PERCENTS),
        lost_connection=rng.choice((0, 0, 1, 10)),
    )


def some_moves(rng: random.Random, count: int) -> list[Any]:
    """Return a lively history: levels close together, often one right after the other."""

    def side() -> dict[int, int]:
        return {rng.randrange(40, 50): rng.randrange(1, 4) for _ in range(rng.randrange(5))}

    return [
        (
            rng.choice((50, 50, 100, 1_000, 7_000, 40_000)),
            rng.choice(
                (("depth", side(), side()), ("fill", rng.randrange(1, 5), rng.random() < 0.5))
            ),
        )
        for _ in range(count)
    ]


def play(world: World, moves: list[Any]) -> None:
    """Let it all happen, then no fault any more: every book has to be right again."""
    for wait_ms, (kind, *rest) in moves:
        world.pass_ms(wait_ms)
        if kind == "depth":
            bids, asks = rest
            world.set_depth(bids, {100 - price: size for price, size in asks.items()})
        else:
            world.fill(rest[0], buys=rest[1])
    world.faults = Faults()
    world.pass_ms(RECOVERED_S * 1_000)
    assert world.is_well()


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)


@SLOW
@given(st.randoms(use_true_random=False), moves)
def test_what_is_trusted_is_true_and_all_is_well_in_the_end(
    rng: random.Random, moves: list[Any]
) -> None:
    play(World(rng.randrange(2**32), some_faults(rng)), moves)


@pytest.mark.parametrize("seed", range(60))
def test_long_lively_histories(seed: int) -> None:
    rng = random.Random(seed)
    play(World(seed, some_faults(rng)), some_moves(rng, 60))


@pytest.mark.parametrize("seed", range(15))
def test_stamps_that_lie_bar_nothing_for_long(seed: int) -> None:
    rng = random.Random(seed)
    faults = some_faults(rng)._replace(lying_stamp=rng.choice((10, 50)))
    play(World(seed, faults), some_moves(rng, 30))


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_token_that_no_stream_delivers_lives_on_rest_and_goes_back(outcome: int) -> None:
    world = World(1, Faults(no_dump=100, drop=100))
    token = world.tokens[outcome]
    world.pass_ms(40_000)
    assert world.streams.rescue.step(token) == "polling"
    for bid in range(30, 40):
        world.set_depth({bid: 7}, {60: 5})
        world.pass_ms(3_000)
        assert world.is_well()
        book = world.streams.book(token)
        assert book is not None
        assert (book.source, world.now_ns - book.seen_ns <= 3 * NS_PER_S) == ("rest", True)
    world.faults = Faults()
    world.pass_ms(60_000)
    assert world.streams.rescue.step(token) is None
    reads = world.streams.counts["polling"]
    world.pass_ms(20_000)
    assert world.streams.counts["polling"] == reads
    assert world.is_well()
