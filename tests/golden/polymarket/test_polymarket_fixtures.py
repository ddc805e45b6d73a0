"""Messages of every recorded shape decode to exactly the domain value they stand for.

The fixtures are our own, of the shapes the venue was recorded to send.
"""

import json
from pathlib import Path

import msgspec
import pytest

from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet
from shared.domain.market import Market
from shared.domain.observations import Activity, OrderReport, OwnFill, PositionReport
from shared.domain.units import Price, Shares
from shared.polymarket import parse, parse_own, wire
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.auth import Account, Credentials, l2_headers
from shared.polymarket.feed import BookMoved, MarketFeed, Resolved, Resync, TickChanged, Traded
from shared.polymarket.orders import OrderTerms, Signer, order_hash
from shared.polymarket.parse_own import Me
from shared.polymarket.user_feed import UserFeed

FIXTURES = Path(__file__).parent / "fixtures"
YES = TokenId("71001234567890123456789012345678901234567890123456789012345678901234567890123")
NO = TokenId("52009876543210987654321098765432109876543210987654321098765432109876543210987")
MARKET = ConditionId("0x" + "c1" * 32)
TX = TxHash("0x" + "7a" * 32)
US = Wallet("0x" + "aa" * 20)
OWNER = "aaaaaaaa-0000-0000-0000-000000000001"
ME = Me(wallet=US, owner=OWNER)
NOW_NS = 1_793_318_410 * 10**9
AT_NS = 1_793_318_400 * 10**9
MS = 10**6


def read(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def order(digit: str) -> OrderHash:
    return OrderHash("0x" + digit * 64)


def levels(*pairs: tuple[int, int]) -> tuple[tuple[Price, Shares], ...]:
    return tuple((Price(price), Shares(size)) for price, size in pairs)


BOOK = Book(
    token=YES,
    condition=MARKET,
    bids=levels((470_000, 120_500_000), (400_000, 10_000_000)),
    asks=levels((500_000, 25_000_000), (530_000, 60_000_000)),
    tick=Price(10_000),
    as_of_ns=AT_NS + 123 * MS,
    seen_ns=NOW_NS,
    trusted=True,
)


def test_a_rest_book_is_sorted_best_first() -> None:
    assert parse.rest_book(read("book.json"), now_ns=NOW_NS) == BOOK


def test_a_book_carries_the_hash_of_its_own_text() -> None:
    body = read("book.json")
    assert wire.book_hash(body) == json.loads(body)["hash"]


def test_a_streamed_book_has_the_hash_of_its_rest_form() -> None:
    event = json.loads(read("book_event.json"))[0]
    body = json.dumps(event).encode()
    assert wire.book_hash(body, min_order_size="5", neg_risk=False) == event["hash"]


def test_a_stream_of_every_event_gives_the_books_they_stand_for() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW_NS)
    streamed = msgspec.structs.replace(BOOK, source="stream")
    assert feed.receive(read("book_event.json"), now_ns=NOW_NS) == [BookMoved(streamed)]

    [moved] = feed.receive(read("price_change.json"), now_ns=NOW_NS)
    assert isinstance(moved, BookMoved)
    assert moved.book.best_bid == 480_000
    assert moved.book.bids[0] == (480_000, 7_250_000)
    assert moved.book.as_of_ns == AT_NS + 1_000 * MS

    [moved] = feed.receive(read("price_change_removed.json"), now_ns=NOW_NS)
    assert isinstance(moved, BookMoved)
    assert (moved.book.bids, moved.book.trusted) == (BOOK.bids, True)

    told = feed.receive(read("last_trade_price.json"), now_ns=NOW_NS)
    assert told == [Traded(TxHash("0x" + "7a" * 32), 1_793_318_403_001 * 10**6)]
    for quiet in ("best_bid_ask.json", "new_market.json"):
        assert feed.receive(read(quiet), now_ns=NOW_NS) == []

    told = feed.receive(read("tick_size_change.json"), now_ns=NOW_NS)
    assert told[0] == TickChanged(YES, Price(1_000))
    assert told[-1] == Resync(YES, "tick changed")
    book = feed.book(YES)
    assert book is not None
    assert (book.bids, book.asks, book.trusted) == ((), (), False)

    assert feed.receive(read("market_resolved.json"), now_ns=NOW_NS) == [Resolved(MARKET, YES)]


def test_a_market_joins_the_clob_and_gamma() -> None:
    told = wire.decode(read("clob_market.json"), wire.ClobMarket, where="test")
    gamma = wire.decode(read("gamma_market.json"), wire.GammaMarket, where="test")
    plain = Market(
        condition=MARKET,
        tokens=(YES, NO),
        outcomes=("Yes", "No"),
        tick=Price(1_000),
        size_min=Shares(5_000_000),
        neg_risk=True,
        protocol="v1",
        fee_rate=70_000,
        fee_exponent=1,
        accepting_orders=True,
        taker_delay=True,
        delay_ns=250_000_000,
        as_of_ns=NOW_NS,
    )
    assert parse.market(told, as_of_ns=NOW_NS) == plain
    assert parse.market(told, gamma, as_of_ns=NOW_NS) == msgspec.structs.replace(
        plain,
        slug="will-it",
        question="Will it?",
        event="0x" + "9e" * 32,
        end_ns=1_798_718_400 * 10**9,
    )


def test_activity_rows_are_what_moves_exposure() -> None:
    page = wire.decode(read("activity_page.json"), wire.DataPage, where="test")
    rows = [wire.decode(row, wire.ActivityRow, where="test") for row in page.data or ()]
    told = [parse.activity(row, now_ns=NOW_NS) for row in rows]
    whole = Activity(
        wallet=US, action="SPLIT", condition=MARKET, size=Shares(100_000_000), tx=TX, venue_ns=AT_NS
    )
    changed = msgspec.structs.replace
    assert told == [
        changed(
            whole,
            action="TRADE",
            size=Shares(12_500_000),
            token=YES,
            outcome=0,
            side="SELL",
            price=Price(500_000),
        ),
        whole,
        changed(whole, action="MERGE", size=Shares(40_250_000)),
        changed(whole, action="REDEEM", size=Shares(60_000_000)),
        changed(whole, action="CONVERSION", size=Shares(10_000_000)),
        None,  # a reward
        None,  # a combo
    ]


def test_a_position_keeps_its_size_exactly() -> None:
    page = wire.decode(read("positions_page.json"), wire.DataPage, where="test")
    [row] = page.data or []
    assert parse.position(wire.decode(row, wire.PositionRow, where="test")) == PositionReport(
        wallet=US,
        condition=MARKET,
        token=YES,
        outcome=0,
        size=Shares(125_500_000),
        average_price=Price(471_235),
        current_price=Price(1_000_000),
    )


def test_an_activity_frame_is_a_trade_of_its_wallet() -> None:
    feed = ActivityFeed()
    assert feed.receive(read("rtds_trade.json"), now_ns=NOW_NS) == [
        Activity(
            wallet=Wallet("0x" + "bb" * 20),
            action="TRADE",
            condition=MARKET,
            size=Shares(25_000_000),
            tx=TX,
            venue_ns=AT_NS,
            token=NO,
            outcome=1,
            side="BUY",
            price=Price(250_000),
        )
    ]
    assert feed.heard_ns == NOW_NS


TAKEN = OwnFill(
    trade="trade-1",
    order=order("1"),
    condition=MARKET,
    token=YES,
    side="BUY",
    price=Price(80_000),
    size=Shares(40_000_000),
    settlement="MATCHED",
    taker=True,
    venue_ns=AT_NS,
)


def user_feed() -> UserFeed:
    keys = Credentials(api_key=OWNER, secret="AAEC", passphrase="p")
    return UserFeed(keys, ME)


def test_as_taker_ours_is_the_top_level_of_a_trade() -> None:
    assert user_feed().receive(read("trade_taker.json"), now_ns=NOW_NS) == [TAKEN]


def test_as_maker_ours_are_the_legs_on_their_own_token_and_side() -> None:
    leg = msgspec.structs.replace(TAKEN, trade="trade-2", settlement="MINED", taker=False, tx=TX)
    changed = msgspec.structs.replace
    assert user_feed().receive(read("trade_maker_legs.json"), now_ns=NOW_NS) == [
        # The taker bought YES: on his token the maker sold it, on the complement bought too.
        changed(leg, order=order("3"), side="SELL", size=Shares(10_000_000)),
        changed(
            leg,
            order=order("4"),
            side="BUY",
            token=NO,
            price=Price(920_000),
            size=Shares(5_000_000),
        ),
        changed(leg, order=order("5"), side="SELL", price=Price(79_000), size=Shares(2_500_000)),
    ]


def test_rest_trades_carry_prefixed_states() -> None:
    page = wire.decode(read("trades_page.json"), wire.ClobPage, where="test")
    rows = [wire.decode(row, wire.Trade, where="test") for row in page.data or ()]
    [[first], [second]] = [parse_own.own_fills(row, ME, now_ns=NOW_NS) for row in rows]
    assert (first.settlement, first.tx) == ("MATCHED", None)
    assert (second.settlement, second.tx) == ("CONFIRMED", TX)


PLACED = OrderReport(
    order=order("6"),
    condition=MARKET,
    token=YES,
    side="BUY",
    price=Price(600_000),
    size=Shares(12_000_000),
    matched=Shares(0),
    status="LIVE",
    detail="LIVE",
)


@pytest.mark.parametrize(
    ("name", "status", "matched"),
    [
        ("order_placement.json", "LIVE", 0),
        ("order_killed.json", "CANCELED", 0),
        ("order_filled_called_canceled.json", "MATCHED", 12_000_000),
        ("order_invalid.json", "CANCELED", 0),
    ],
)
def test_an_order_event_is_decided_by_its_sizes(name: str, status: str, matched: int) -> None:
    [report] = user_feed().receive(read(name), now_ns=NOW_NS)
    assert isinstance(report, OrderReport)
    assert (report.status, report.matched) == (status, matched)
    assert (
        msgspec.structs.replace(report, status="LIVE", matched=Shares(0), detail="LIVE") == PLACED
    )


def test_a_rest_order_may_prefix_its_status() -> None:
    page = wire.decode(read("orders_page.json"), wire.ClobPage, where="test")
    [row] = page.data or []
    report = parse_own.order_report(wire.decode(row, wire.Order, where="test"))
    assert (report.status, report.matched) == ("LIVE", 2_500_000)


VECTORS = json.loads(read("order_vectors.json"))


def terms_of(vector: dict[str, object]) -> OrderTerms:
    told = vector["order"]
    assert isinstance(told, dict)
    return OrderTerms(
        maker=Wallet(told["maker"].lower()),
        signer=Wallet(told["signer"].lower()),
        token=TokenId(told["tokenId"]),
        side="SELL" if told["side"] else "BUY",
        price=Price(500_000),
        size=Shares(1_000_000),
        maker_amount=int(told["makerAmount"]),
        taker_amount=int(told["takerAmount"]),
        salt=int(told["salt"]),
        timestamp_ms=int(told["timestamp"]),
        signature_type=told["signatureType"],
        neg_risk=bool(vector["neg_risk"]),
        protocol="v2" if vector["protocol"] == "v2" else "v1",
        metadata=told["metadata"],
        builder=told["builder"],
    )


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: v["name"])
def test_order_hashes_and_signatures_are_those_of_the_vectors(vector: dict[str, object]) -> None:
    terms = terms_of(vector)
    assert order_hash(terms) == vector["order_hash"]
    signed = Signer.from_hex(VECTORS["private_key"]).sign(terms, owner=OWNER)
    assert signed.hash == vector["order_hash"]
    assert json.loads(signed.body)["order"]["signature"] == vector["signature"]


def test_headers_are_those_of_the_vectors() -> None:
    vectors = json.loads(read("auth_vectors.json"))
    signer = Signer.from_hex(vectors["private_key"])
    l1 = vectors["l1"]
    assert signer.l1_headers(timestamp_s=l1["timestamp"], nonce=l1["nonce"]) == {
        "POLY_ADDRESS": vectors["address"],
        "POLY_SIGNATURE": l1["signature"],
        "POLY_TIMESTAMP": str(l1["timestamp"]),
        "POLY_NONCE": str(l1["nonce"]),
    }
    for l2 in vectors["l2"]:
        keys = Credentials(api_key=OWNER, secret=l2["secret"], passphrase="p")
        account = Account(address=vectors["address"], wallet=US, credentials=keys)
        body = (l2["body"] or "").encode()
        headers = l2_headers(
            account, l2["method"], l2["path"], body=body, timestamp_s=l2["timestamp"]
        )
        assert headers["POLY_SIGNATURE"] == l2["signature"]
