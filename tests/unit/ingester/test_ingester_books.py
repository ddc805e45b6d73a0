"""The volatility a book is told with: measured while the book is trusted, forgotten with it."""

import asyncio
from contextlib import ExitStack
from typing import cast

import msgspec
import pytest
from nats.aio.client import Client

from services.ingester.books import BookKeeper, Outlets
from shared.domain.book import Book
from shared.domain.ids import PARTITIONS, TokenId
from shared.domain.units import NS_PER_S, Price
from shared.domain.views import book_key, decode
from shared.domain.volatility import Volatility
from shared.polymarket.feed import BookMoved
from shared.polymarket.public import PublicVenue
from shared.runtime.clock import ManualClock
from shared.runtime.config import IngesterConfig
from shared.runtime.memory import MemoryStore
from tests.support.builders import CONDITION, T0_NS, YES, a_book, a_market, level
from tests.support.eventually import eventually

HORIZON_S = 10
SETTINGS = IngesterConfig(book_flush_ms=1, volatility_horizons_s=(HORIZON_S, 20))
EVEN, ABOVE = 50, 52  # cents


class Bus:
    """The messages published, by subject."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}

    async def publish(self, subject: str, data: bytes) -> None:
        self.sent[subject] = data


class Rest:
    """Answers with the book it was given."""

    def __init__(self) -> None:
        self.answer = book_at(EVEN)

    async def book(self, token: str) -> Book:
        assert token == self.answer.token
        return self.answer


class Desk:
    """A keeper whose stream is the test, with one token subscribed."""

    def __init__(self) -> None:
        self.clock, self.store, self.bus, self.rest = (
            ManualClock(T0_NS),
            MemoryStore(),
            Bus(),
            Rest(),
        )
        outlets = Outlets(self.store, cast("Client", self.bus), lambda *_: None)
        venue = cast("PublicVenue", self.rest)
        self.keeper = BookKeeper(venue, outlets, self.clock, settings=SETTINGS, market_ws="")
        self._lanes = ExitStack()
        for partition in range(PARTITIONS):
            self._lanes.enter_context(self.keeper.holding(partition))
        self.keeper._follow(a_market())

    def move(self, cents: int, *, trusted: bool = True) -> None:
        book = book_at(cents)
        now_ns = self.clock.now_ns()
        moved = msgspec.structs.replace(book, trusted=trusted, as_of_ns=now_ns, seen_ns=now_ns)
        self.keeper._heard(BookMoved(moved))

    def wait(self, seconds: float) -> None:
        self.clock.advance(round(seconds * NS_PER_S))

    async def told(self) -> int | None:
        """Return the volatility in the view and in the message, which are the same bytes."""
        self.store.views.clear()
        flushing = asyncio.create_task(self.keeper._flush())
        key = book_key(YES)
        await eventually(lambda: key in self.store.views and not self.keeper._moved)
        await asyncio.sleep(0)
        flushing.cancel()
        assert self.bus.sent[f"md.book.{YES}"] == self.store.views[key]
        book = decode(self.store.views[key], Book)
        assert book is not None
        return book.volatility


def book_at(mid_cents: int) -> Book:
    return a_book(bids=[level(mid_cents - 1, 100)], asks=[level(mid_cents + 1, 100)])


def measured(*moves: tuple[float, int | None], at_s: float) -> int | None:
    """Return what an estimator says that saw these mids at these seconds."""
    watch = Volatility(SETTINGS.volatility_horizons_s)
    for seconds, cents in moves:
        mid = None if cents is None else Price(cents * 10_000)
        watch.observe(mid, T0_NS + round(seconds * NS_PER_S))
    return watch.value(T0_NS + round(at_s * NS_PER_S))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_book_is_told_with_the_volatility_of_its_mid(desk: Desk) -> None:
    desk.move(EVEN)
    assert await desk.told() is None  # nobody has watched it for long enough
    desk.wait(HORIZON_S)
    desk.move(EVEN)
    assert await desk.told() == 0
    desk.wait(3)
    desk.move(ABOVE)
    expected = measured((0, EVEN), (10, EVEN), (13, ABOVE), at_s=13)
    assert expected
    assert await desk.told() == expected


async def test_it_is_that_of_the_moment_the_book_is_told(desk: Desk) -> None:
    desk.move(EVEN)
    desk.wait(12)
    desk.move(ABOVE)
    desk.wait(15)
    assert await desk.told() == measured((0, EVEN), (12, ABOVE), at_s=27)


async def test_changes_between_two_flushes_are_all_seen(desk: Desk) -> None:
    """The books are merged; the mid that was sampled in between is not lost."""
    for cents in (EVEN, ABOVE, EVEN, ABOVE, EVEN):
        desk.move(cents)
        desk.wait(5)
    there_and_back = [(5.0 * at, (EVEN, ABOVE)[at % 2]) for at in range(5)]
    expected = measured(*there_and_back, at_s=25)
    assert expected
    assert await desk.told() == expected


async def test_what_moves_while_the_book_is_not_trusted_is_no_change(desk: Desk) -> None:
    desk.move(EVEN)
    desk.wait(20)
    desk.move(EVEN, trusted=False)
    desk.wait(5)
    desk.move(70)
    assert await desk.told() == 0


async def test_a_side_that_is_empty_has_no_mid(desk: Desk) -> None:
    desk.move(EVEN)
    desk.wait(20)
    now_ns = desk.clock.now_ns()
    empty = msgspec.structs.replace(book_at(90), asks=(), trusted=True, seen_ns=now_ns)
    desk.keeper._heard(BookMoved(empty))
    desk.move(90)
    assert await desk.told() == 0


async def test_a_book_asked_for_tells_it_too(desk: Desk) -> None:
    desk.move(EVEN)
    desk.wait(20)
    now_ns = desk.clock.now_ns()
    desk.rest.answer = msgspec.structs.replace(
        book_at(ABOVE), trusted=True, as_of_ns=now_ns, seen_ns=now_ns
    )
    answer = decode(await desk.keeper.desk.answer({"token": YES}), Book)
    assert answer is not None
    assert answer.volatility == measured((0, EVEN), (20, ABOVE), at_s=20)
    assert desk.store.views[book_key(YES)] == msgspec.json.encode(answer)


async def test_a_token_that_is_not_subscribed_is_not_watched(desk: Desk) -> None:
    other = TokenId("7200")
    desk.rest.answer = msgspec.structs.replace(book_at(EVEN), token=other, trusted=True)
    for _ in range(2):
        answer = decode(await desk.keeper.desk.answer({"token": other}), Book)
        assert answer is not None
        assert answer.volatility is None
        desk.wait(60)
    assert desk.keeper._volatility == {}


async def test_a_market_that_is_dropped_is_forgotten(desk: Desk) -> None:
    desk.move(EVEN)
    assert set(desk.keeper._volatility) == {YES}
    desk.keeper._drop(CONDITION)
    assert desk.keeper._volatility == {}
    desk.move(ABOVE)  # the last of what was under way
    assert desk.keeper._volatility == {}
