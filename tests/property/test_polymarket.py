"""Whatever the venue sends, and whatever order is asked for, these laws hold."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.book import Book
from shared.domain.grid import amounts, tradable_size
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.domain.market import CENT, SIZE_STEP, Side
from shared.domain.units import MICRO, Price, Shares
from shared.polymarket import parse, parse_own, wire
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.auth import Credentials
from shared.polymarket.errors import EXCERPT_CHARS_MAX, Garbage, VenueError, WireError, failure
from shared.polymarket.feed import BookMoved, MarketFeed, Resync
from shared.polymarket.parse_own import Me
from shared.polymarket.user_feed import UserFeed

FIXTURES = Path(__file__).parents[1] / "golden" / "polymarket" / "fixtures"
NOW_NS = 1_793_318_410 * 10**9
YES = TokenId("71001234567890123456789012345678901234567890123456789012345678901234567890123")
ME = Me(wallet=Wallet("0x" + "aa" * 20), owner="aaaaaaaa-0000-0000-0000-000000000001")
KEYS = Credentials(api_key="k", secret="AAEC", passphrase="p")

# --- arbitrary and mutated input -------------------------------------------------------------

bodies = st.sampled_from(sorted(path.read_bytes() for path in FIXTURES.glob("*.json")))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "0", "1", "-1", "0.5", "1e400", "NaN", "0x", "9" * 80, "BUY", "TRADE"]),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a message of a known shape with one of its values replaced or removed."""
    body = json.loads(draw(bodies))
    node: Any = body
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and draw(st.booleans()):
            node = node[key]
            continue
        if draw(st.booleans()):
            node[key] = draw(scalars)
        else:
            del node[key]
        break
    return json.dumps(body).encode()


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """Return a message with some of its bytes replaced."""
    body = draw(bodies)
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=12)) + body[start + draw(st.integers(0, 40)) :]


frames = st.one_of(st.binary(max_size=60), st.text(max_size=60), mutated(), spliced())


@given(st.lists(frames, max_size=4))
def test_no_frame_breaks_a_feed(received: list[bytes | str]) -> None:
    market = MarketFeed([YES])
    market.opened(now_ns=NOW_NS)
    market.receive((FIXTURES / "book_event.json").read_bytes(), now_ns=NOW_NS)
    activity, user = ActivityFeed(), UserFeed(KEYS, ME)
    for frame in received:
        for feed in (market, activity, user):
            for event in feed.receive(frame, now_ns=NOW_NS):
                if isinstance(event, Garbage):
                    assert len(event.excerpt) <= EXCERPT_CHARS_MAX
                if isinstance(event, BookMoved) and event.book.trusted:
                    assert is_sound(event.book)


def is_sound(book: Book) -> bool:
    bids, asks = [price for price, _ in book.bids], [price for price, _ in book.asks]
    return (
        bids == sorted(set(bids), reverse=True)
        and asks == sorted(set(asks))
        and all(0 < price < MICRO and size > 0 for price, size in (*book.bids, *book.asks))
        and not book.is_crossed
    )


CONVERSIONS: list[tuple[Any, Callable[[Any], object]]] = [
    (wire.Book, lambda told: parse.book(told, now_ns=NOW_NS)),
    (wire.ClobMarket, lambda told: parse.market(told, as_of_ns=NOW_NS)),
    (wire.ActivityRow, lambda told: parse.activity(told, now_ns=NOW_NS)),
    (wire.RtdsRow, lambda told: parse.activity(told, now_ns=NOW_NS)),
    (wire.PositionRow, parse.position),
    (wire.Trade, lambda told: parse_own.own_fills(told, ME, now_ns=NOW_NS)),
    (wire.Order, parse_own.order_report),
    (wire.Balance, parse_own.balance),
]


def parse_everything(body: bytes) -> None:
    for kind, convert in CONVERSIONS:
        with suppress(WireError):
            convert(wire.decode(body, kind, where="test"))
    with suppress(WireError):
        for row in wire.decode(body, wire.ClobPage, where="test").data or ():
            parse_everything(bytes(row))


@given(st.one_of(st.binary(max_size=60), mutated(), spliced()))
def test_a_body_parses_or_raises_wire_error_only(body: bytes) -> None:
    parse_everything(body)
    with suppress(WireError):
        wire.book_hash(body)
    with suppress(VenueError):
        parse_own.post_answer(body, OrderHash("0x" + "1" * 64))


@given(st.integers(100, 999), st.binary(max_size=80))
def test_any_answer_but_2xx_is_an_error_of_the_tree(status: int, body: bytes) -> None:
    error = failure("/x", status=status, headers={"Retry-After": "soon"}, body=body)
    assert isinstance(error, VenueError)
    assert len(str(error)) < 400


# --- the book is its changes, whatever they are ----------------------------------------------

cents = st.integers(1, 99)
changes = st.lists(
    st.tuples(st.booleans(), cents, st.integers(0, 3), st.booleans()), min_size=1, max_size=30
)


@given(changes, st.integers(0, 30))
def test_a_trusted_book_equals_its_replayed_changes(
    told: list[tuple[bool, int, int, bool]], seen: int
) -> None:
    """A venue's book is replayed through the stream; the REST snapshot comes late by any time.

    Best prices are told by the venue, so the feed may only disagree where the venue is crossed.
    """
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW_NS)
    book: dict[bool, dict[int, int]] = {True: {1: 1}, False: {99: 1}}
    history = [{side: dict(levels) for side, levels in book.items()}]
    sent = []
    for at, (is_bid, price, wanted, _) in enumerate(told, start=1):
        side = book[is_bid]
        crossing = (
            price >= min(book[False], default=100)
            if is_bid
            else price <= max(book[True], default=0)
        )
        size = 0 if crossing else wanted
        if size:
            side[price] = size
        else:
            side.pop(price, None)
        sent.append(change_frame(at, is_bid=is_bid, price=price, size=size, book=book))
        history.append({side: dict(levels) for side, levels in book.items()})
    snapshot_at = max(1, min(seen, len(told)))
    read_at = max(1, snapshot_at - 3)  # not before what was heard first
    events = []
    for at, frame in enumerate(sent, start=1):
        events += feed.receive(frame, now_ns=NOW_NS)
        if at == snapshot_at:
            events += feed.snapshot(rest_book(read_at, history[read_at]), now_ns=NOW_NS)
    assert not [event for event in events if isinstance(event, Resync)]
    final = feed.book(YES)
    assert final is not None
    assert final.trusted
    assert dict(final.bids) == {price * 10_000: size * MICRO for price, size in book[True].items()}
    assert dict(final.asks) == {price * 10_000: size * MICRO for price, size in book[False].items()}


def change_frame(
    at: int, *, is_bid: bool, price: int, size: int, book: dict[bool, dict[int, int]]
) -> str:
    bid, ask = max(book[True], default=0), min(book[False], default=100)
    entry = {
        "asset_id": YES,
        "price": f"{price / 100:.2f}",
        "size": str(size),
        "side": "BUY" if is_bid else "SELL",
        "best_bid": f"{bid / 100:.2f}",
        "best_ask": f"{ask / 100:.2f}",
    }
    return json.dumps(
        {
            "event_type": "price_change",
            "timestamp": 1_793_318_400_000 + at,
            "price_changes": [entry],
        }
    )


def rest_book(at: int, levels: dict[bool, dict[int, int]]) -> Book:
    def side(is_bid: bool) -> tuple[tuple[Price, Shares], ...]:
        priced = sorted(levels[is_bid].items(), reverse=is_bid)
        return tuple((Price(price * 10_000), Shares(size * MICRO)) for price, size in priced)

    return Book(
        token=YES,
        condition=ConditionId("0x" + "c1" * 32),
        bids=side(True),
        asks=side(False),
        as_of_ns=(1_793_318_400_000 + at) * 10**6,
        seen_ns=NOW_NS,
        trusted=True,
    )


# --- the grid of order amounts ---------------------------------------------------------------

TICKS = (100_000, 10_000, 5_000, 2_500, 1_000, 100)
AMOUNT_DECIMALS = {100_000: 3, 10_000: 4, 5_000: 5, 2_500: 6, 1_000: 5, 100: 6}
sides = st.sampled_from(["BUY", "SELL"])


@st.composite
def priced(draw: st.DrawFn) -> tuple[Price, Price]:
    tick = draw(st.sampled_from(TICKS))
    return Price(draw(st.integers(1, MICRO // tick - 1)) * tick), Price(tick)


@given(sides, priced(), st.integers(-MICRO, 10**12), st.booleans())
def test_a_tradable_size_has_exact_amounts(
    side: Side, grid: tuple[Price, Price], wanted: int, marketable: bool
) -> None:
    price, tick = grid
    size = tradable_size(side, price, Shares(wanted), tick, marketable=marketable)
    assert 0 <= size <= max(0, wanted)
    if size == 0:
        return
    gives, wants = amounts(side, price, size, tick)
    usd, shares = (gives, wants) if side == "BUY" else (wants, gives)
    assert shares == size
    assert shares % SIZE_STEP == 0
    assert usd * MICRO == price * shares  # the implied price is the limit itself
    assert usd % 10 ** (6 - AMOUNT_DECIMALS[tick]) == 0
    if marketable and side == "BUY":
        assert usd % CENT == 0


@given(sides, priced(), st.integers(0, 10**10), st.booleans())
def test_a_tradable_size_is_the_largest_there_is(
    side: Side, grid: tuple[Price, Price], wanted: int, marketable: bool
) -> None:
    price, tick = grid
    size = tradable_size(side, price, Shares(wanted), tick, marketable=marketable)
    assert tradable_size(side, price, size, tick, marketable=marketable) == size
    step = CENT if marketable and side == "BUY" else 10 ** (6 - AMOUNT_DECIMALS[tick])
    larger = range(size + SIZE_STEP, min(wanted, size + 200 * SIZE_STEP) + 1, SIZE_STEP)
    assert not [other for other in larger if price * other % (step * MICRO) == 0]


@given(priced(), st.integers(0, 10**12))
def test_only_a_marketable_buy_is_coarser_than_a_hundredth_share(
    grid: tuple[Price, Price], wanted: int
) -> None:
    price, tick = grid
    floored = wanted - wanted % SIZE_STEP
    assert tradable_size("SELL", price, Shares(wanted), tick, marketable=True) == floored
    assert tradable_size("BUY", price, Shares(wanted), tick, marketable=False) == floored
