"""What everything that reads the venue must do with whatever arrives, as functions of bytes.

A target takes one frame or body, and fails an assertion if an exception escapes, or if what was
told is not in the message: each number of each fact is found again by an independent reading with
the standard library. What cannot be read must come out as garbage with a reason.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from shared.domain.book import Book
from shared.domain.ids import OrderHash, TokenId, Wallet
from shared.domain.observations import Activity, OwnFill
from shared.domain.units import MICRO
from shared.polymarket import parse, parse_own, wire
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.auth import Credentials
from shared.polymarket.errors import EXCERPT_CHARS_MAX, Garbage, VenueError, WireError
from shared.polymarket.feed import BookMoved, MarketFeed
from shared.polymarket.parse_own import Me
from shared.polymarket.user_feed import UserFeed

Target = Callable[[bytes], int]  # returns how many facts it told

NOW_NS: Final = 1_793_318_410 * 10**9
YES: Final = TokenId(
    "71001234567890123456789012345678901234567890123456789012345678901234567890123"
)
WALLET: Final = Wallet("0x" + "aa" * 20)
OWNER: Final = "aaaaaaaa-0000-0000-0000-000000000001"
ME: Final = Me(wallet=WALLET, owner=OWNER)
KEYS: Final = Credentials(api_key="k", secret="AAEC", passphrase="p")


# --- the independent reading ------------------------------------------------------------------


def objects(frame: bytes) -> Iterator[dict[str, Any]]:
    """Yield every object of a message, at any depth."""
    text = frame.decode(errors="replace").strip()
    with suppress(ValueError, RecursionError):
        yield from _objects(json.loads(text, parse_float=Decimal, parse_int=Decimal))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def micro(value: Any) -> int | None:
    """Return an amount in micro-units, halves to even; None for what is none."""
    try:
        number = Decimal(str(value))
        if not number.is_finite() or abs(number) > 10**16:
            return None
        return int((number * 10**6).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    except (ArithmeticError, ValueError):
        return None


def says_activity(told: dict[str, Any], row: Activity) -> bool:
    """Tell whether an object of the message says what a row says."""
    camel = "proxyWallet" in told
    name = {"wallet": "proxyWallet", "tx": "transactionHash", "token": "asset"} if camel else {}
    seen = {
        key: told.get(name.get(key, plain))
        for key, plain in (
            ("wallet", "proxy_wallet"), ("tx", "transaction_hash"), ("token", "token_id"),
        )
    }  # fmt: skip
    condition = str(told.get("conditionId" if camel else "condition_id", "")).lower()
    return (
        str(seen["wallet"]).lower() == row.wallet
        and str(seen["tx"]).lower() == row.tx
        and condition.ljust(66, "0") == row.condition
        and (row.token is None or seen["token"] == row.token)
        and micro(told.get("size") or 0) == row.size
        and (row.price is None or micro(told.get("price")) == row.price)
        and (row.side is None or told.get("side") == row.side)
        and (camel or told.get("type", "TRADE") == row.action)
    )


def is_sane(row: Activity) -> bool:
    amounts = row.size >= 0 and (row.price is None or 0 < row.price < MICRO)
    return amounts and 0 < row.venue_ns <= NOW_NS + 86_400 * 10**9


# --- targets ----------------------------------------------------------------------------------


def activity_stream(frame: bytes) -> int:
    return _rows(frame, ActivityFeed().receive(frame, now_ns=NOW_NS))


def activity_page(body: bytes) -> int:
    told: list[Activity | Garbage] = []
    try:
        page = wire.decode(body, wire.DataPage, where="page")
    except WireError:
        return 0
    for piece in page.data or ():
        try:
            row = wire.decode(piece, wire.ActivityRow, where="row")
            activity = parse.activity(row, now_ns=NOW_NS)
        except WireError as e:
            told.append(Garbage.of(e))
        else:
            told += [activity] if activity else []
    return _rows(body, told)


def _rows(message: bytes, told: list[Activity | Garbage]) -> int:
    said = list(objects(message))
    rows = [row for row in told if isinstance(row, Activity)]
    for row in rows:
        assert is_sane(row), row
        assert any(says_activity(each, row) for each in said), row
    _check_garbage(told)
    return len(rows)


def market_stream(frame: bytes, *, snapshot: bytes) -> int:
    """A trusted book holds only levels that a message named, and is a book."""
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW_NS)
    feed.receive(snapshot, now_ns=NOW_NS)
    events = feed.receive(frame, now_ns=NOW_NS)
    _check_garbage(events)
    books = [e.book for e in events if isinstance(e, BookMoved) and e.book.trusted]
    named = _levels(snapshot) | _levels(frame)
    for book in books:
        check_book(book, named)
    return len(books)


def rest_book(body: bytes) -> int:
    try:
        book = parse.rest_book(body, now_ns=NOW_NS)
    except WireError:
        return 0
    check_book(book, _levels(body))
    return 1


def check_book(book: Book, named: set[tuple[int | None, int | None]]) -> None:
    bids, asks = [price for price, _ in book.bids], [price for price, _ in book.asks]
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    for price, size in (*book.bids, *book.asks):
        assert 0 < price < MICRO
        assert size > 0
        assert (price, size) in named, (price, size)


def _levels(message: bytes) -> set[tuple[int | None, int | None]]:
    return {
        (micro(told["price"]), micro(told["size"]))
        for told in objects(message)
        if "price" in told and "size" in told
    }


def user_stream(frame: bytes) -> int:
    told = UserFeed(KEYS, ME).receive(frame, now_ns=NOW_NS)
    _check_garbage(told)
    fills = [fill for fill in told if isinstance(fill, OwnFill)]
    said = list(objects(frame))
    for fill in fills:
        assert fill.size > 0
        assert 0 < fill.price < MICRO
        assert any(_says_fill(each, fill) for each in said), fill
    return len(told)


def _says_fill(told: dict[str, Any], fill: OwnFill) -> bool:
    """As taker the trade itself says it, as maker one of its legs."""
    sizes = {micro(told.get("size")), micro(told.get("matched_amount"))}
    ours = {str(told.get(key, "")).lower() for key in ("taker_order_id", "order_id")}
    return fill.size in sizes and fill.order in ours and micro(told.get("price")) == fill.price


def account_body(body: bytes) -> int:
    """Everything else that is read: none of it may raise anything but an error of the tree."""
    for kind, convert in (
        (wire.ClobMarket, lambda it: parse.market(it, as_of_ns=NOW_NS)),
        (wire.PositionRow, parse.position),
        (wire.ResolutionRow, parse.resolution),
        (wire.Trade, lambda it: parse_own.own_fills(it, ME, now_ns=NOW_NS)),
        (wire.Order, parse_own.order_report),
        (wire.Balance, parse_own.balance),
    ):
        with suppress(WireError):
            convert(wire.decode(body, kind, where="fuzz"))  # type: ignore[operator]
    with suppress(WireError):
        wire.book_hash(body)
    with suppress(VenueError):
        parse_own.post_answer(body, OrderHash("0x" + "1" * 64))
    return 0


def _check_garbage(told: list[Any]) -> None:
    for each in told:
        if isinstance(each, Garbage):
            assert each.reason
            assert len(each.excerpt) <= EXCERPT_CHARS_MAX
