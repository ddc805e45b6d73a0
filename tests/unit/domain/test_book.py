"""Walking a book takes what is there, at the limit or better, and rounds against us."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.book import Book, Level, depth_within, walk
from shared.domain.market import Side
from shared.domain.units import MICRO, Price, Shares
from tests.support.builders import a_book, cents, level, shares

law = settings(max_examples=100, deadline=None)
sides = st.sampled_from(("BUY", "SELL"))
limits = st.integers(1, MICRO - 1).map(Price)


@st.composite
def books(draw: st.DrawFn) -> Book:
    prices = sorted(draw(st.sets(st.integers(1, MICRO - 1), max_size=8)))
    levels = [(Price(p), Shares(draw(st.integers(1, 10**9)))) for p in prices]
    split = draw(st.integers(0, len(levels)))
    return a_book(bids=levels[:split][::-1], asks=levels[split:])


@st.composite
def books_with_limits(draw: st.DrawFn) -> tuple[Book, Price]:
    """Return a book and a limit: often the price of one of its levels."""
    book = draw(books())
    levels = [price for price, _ in (*book.bids, *book.asks)]
    return book, draw(st.one_of(limits, st.sampled_from(levels)) if levels else limits)


def takeable(book: Book, side: Side, limit: Price) -> list[Level]:
    if side == "BUY":
        return [(price, size) for price, size in book.asks if price <= limit]
    return [(price, size) for price, size in book.bids if price >= limit]


def test_best_prices_and_the_middle_are_read_from_the_top() -> None:
    book = a_book(bids=[level(48, 5), level(47, 9)], asks=[level(51, 1), level(52, 2)])
    assert (book.best_bid, book.best_ask, book.mid) == (cents(48), cents(51), Price(495_000))


def test_the_middle_is_rounded_down() -> None:
    book = a_book(bids=[(Price(3), shares(1))], asks=[(Price(6), shares(1))])
    assert book.mid == 4


def test_an_empty_side_has_no_best_price_and_no_middle() -> None:
    assert (a_book().best_bid, a_book().best_ask, a_book().mid) == (None, None, None)
    assert a_book(bids=[level(48, 5)]).mid is None
    assert a_book(asks=[level(48, 5)]).mid is None


@pytest.mark.parametrize(("bid", "crossed"), [(49, False), (50, True), (51, True)])
def test_a_book_is_crossed_when_its_bid_reaches_its_ask(bid: int, crossed: bool) -> None:
    assert a_book(bids=[level(bid, 1)], asks=[level(50, 1)]).is_crossed is crossed


def test_a_book_with_an_empty_side_is_not_crossed() -> None:
    assert not a_book(bids=[level(99, 1)]).is_crossed
    assert not a_book(asks=[level(1, 1)]).is_crossed


def test_a_buy_takes_the_asks_from_the_best_up() -> None:
    book = a_book(asks=[level(50, 10), level(51, 10), level(60, 10)])
    taken = walk(book, "BUY", shares(15), cents(55))
    assert taken.filled == shares(15)
    assert taken.notional == 7_550_000
    assert taken.average == 503_334  # 0.50333..., up
    assert taken.worst == cents(51)


def test_a_sale_takes_the_bids_from_the_best_down() -> None:
    book = a_book(bids=[level(50, 10), level(49, 10), level(40, 10)])
    taken = walk(book, "SELL", shares(15), cents(45))
    assert taken.filled == shares(15)
    assert taken.notional == 7_450_000
    assert taken.average == 496_666  # 0.49666..., down
    assert taken.worst == cents(49)


def test_a_walk_takes_what_stands_at_the_limit_itself() -> None:
    book = a_book(bids=[level(50, 10), level(49, 10)], asks=[level(51, 10), level(52, 10)])
    cases: tuple[tuple[Side, int, int], ...] = (("BUY", 51, 50), ("SELL", 50, 51))
    for side, limit, worse in cases:
        assert walk(book, side, shares(15), cents(limit)).filled == shares(10)
        assert walk(book, side, shares(15), cents(worse)).filled == 0


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_nothing_within_the_limit_is_a_walk_of_nothing(side: Side) -> None:
    book = a_book(bids=[level(40, 1)], asks=[level(60, 1)])
    taken = walk(book, side, shares(5), cents(50))
    assert (taken.filled, taken.notional, taken.average, taken.worst) == (0, 0, None, None)


@law
@given(books_with_limits(), sides, st.integers(0, 10**10).map(Shares))
def test_a_walk_takes_what_is_there_and_nothing_beyond_the_limit(
    limited: tuple[Book, Price], side: Side, size: Shares
) -> None:
    book, limit = limited
    taken = walk(book, side, size, limit)
    assert taken.filled == min(size, depth_within(book, side, limit))
    assert (taken.worst is None) == (taken.average is None) == (taken.filled == 0)
    if taken.worst is not None:
        assert taken.worst <= limit if side == "BUY" else taken.worst >= limit
        assert taken.worst in [price for price, _ in takeable(book, side, limit)]


@law
@given(books_with_limits(), sides, st.integers(0, 10**10).map(Shares))
def test_the_dollars_of_a_walk_are_its_levels_rounded_against_us(
    limited: tuple[Book, Price], side: Side, size: Shares
) -> None:
    book, limit = limited
    left, exact = int(size), Fraction(0)
    for price, available in takeable(book, side, limit):
        exact += Fraction(price * min(left, available), MICRO)
        left -= min(left, available)
    taken = walk(book, side, size, limit)
    if side == "BUY":
        assert exact <= taken.notional < exact + 1
    else:
        assert exact - 1 < taken.notional <= exact
    if taken.average is not None:
        average = exact * MICRO / taken.filled
        assert taken.average >= average if side == "BUY" else taken.average <= average


@law
@given(books_with_limits(), sides)
def test_depth_is_the_sum_of_the_levels_within_the_limit(
    limited: tuple[Book, Price], side: Side
) -> None:
    book, limit = limited
    assert depth_within(book, side, limit) == sum(s for _, s in takeable(book, side, limit))


def test_depth_counts_the_level_at_the_limit() -> None:
    book = a_book(bids=[level(48, 5), level(47, 9)], asks=[level(51, 1), level(52, 2)])
    assert depth_within(book, "BUY", cents(51)) == shares(1)
    assert depth_within(book, "BUY", cents(52)) == shares(3)
    assert depth_within(book, "SELL", cents(47)) == shares(14)
    assert depth_within(book, "SELL", cents(49)) == 0
