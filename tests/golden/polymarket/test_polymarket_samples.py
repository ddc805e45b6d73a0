"""Every recorded or documented sample decodes to the domain value one expects of it.

The samples are not part of the repository; without them the fixtures beside this file make
the same claims. The last test holds the list of samples against the files there are.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.domain.ids import OrderHash, TokenId, TxHash, Wallet, condition_id
from shared.domain.observations import Activity, OrderReport, OwnFill, PostAnswer
from shared.polymarket import parse, parse_own, wire
from shared.polymarket.activity_feed import ActivityFeed
from shared.polymarket.auth import Credentials
from shared.polymarket.errors import (
    Garbage,
    Mode,
    NotFound,
    RejectCode,
    Rejected,
    Throttled,
    Unavailable,
    VenueError,
    WireError,
    failure,
)
from shared.polymarket.feed import BookMoved, MarketFeed, Resolved, Resync, TickChanged, Traded
from shared.polymarket.parse_own import Me
from shared.polymarket.user_feed import UserFeed
from tests.unit.polymarket.polymarket_fake import Fake

SAMPLES = Path(__file__).parents[3].parent / "shared" / "polymarket" / "samples"
NOW_NS = 1_793_400_000 * 10**9
YES = TokenId("71321045679252212594626385532706912750332728571942532289631379312455583992563")
HASH = "0x" + "0" * 63 + "1"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
claimed: set[str] = set()


def read(name: str) -> bytes:
    claimed.add(name)
    return (SAMPLES / name).read_bytes()


def load(name: str) -> Any:
    return json.loads(read(name))


@pytest.fixture(scope="module", autouse=True)
def _every_sample_is_claimed() -> Iterator[None]:
    """Fail the module when all its tests ran and a sample was read by none of them."""
    yield
    unread = {
        "chain/order-filled-v2-log.json",  # a template with placeholders
        "clob/heartbeat.json",  # the dead-man switch is never armed
        "gamma/events-keyset-skeleton.json",  # a template with placeholders
        "streams/polybolt-frames.json",  # prices of other markets
        # Read by test_polymarket_vectors.py:
        "clob/post-order-request.json",
        "orders/auth-vectors.json",
        "orders/eip712-order-vectors.json",
    }
    files = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.json*")}
    if len(claimed) > 40:  # all tests ran, not a selection of them
        assert files - claimed - unread == set()


def test_recorded_books_carry_their_own_hash() -> None:
    for name in ("book-v1-market", "book-v2-market-empty", "book-small-synthetic-valid-hash"):
        body = read(f"clob/{name}.json")
        assert wire.book_hash(body) == json.loads(body)["hash"]


def test_a_recorded_book() -> None:
    book = parse.rest_book(read("clob/book-v1-market.json"), now_ns=NOW_NS)
    assert (len(book.bids), len(book.asks)) == (81, 4)
    assert (book.best_bid, book.best_ask, book.tick) == (950_000, 960_000, 10_000)
    assert book.bids[0] == (950_000, 142_400_000)
    assert book.as_of_ns == 1_791_241_810_525 * 10**6


def test_a_recorded_empty_book_of_protocol_v2() -> None:
    book = parse.rest_book(read("clob/book-v2-market-empty.json"), now_ns=NOW_NS)
    assert (book.bids, book.asks, book.mid) == ((), (), None)
    assert parse.is_position_id(book.token)


@pytest.mark.parametrize(("name", "protocol"), [("v1", "v1"), ("v2", "v2")])
def test_recorded_market_terms(name: str, protocol: str) -> None:
    told = wire.decode(read(f"clob/clob-markets-{name}.json"), wire.ClobMarket, where="test")
    market = parse.market(told, as_of_ns=NOW_NS)
    assert (market.protocol, market.tick, market.size_min) == (protocol, 10_000, 5_000_000)
    assert (market.fee_rate, market.fee_exponent, market.neg_risk) == (70_000, 1, False)
    assert (market.outcomes, market.taker_delay) == (("Up", "Down"), True)


def test_a_recorded_gamma_market_names_the_clob_market() -> None:
    clob = wire.decode(read("clob/clob-markets-v1.json"), wire.ClobMarket, where="test")
    gamma = wire.decode(read("gamma/market-v1-live.json"), wire.GammaMarket, where="test")
    market = parse.market(clob, gamma, as_of_ns=NOW_NS)
    assert market.slug == "btc-updown-15m-1791241200"
    assert market.end_ns == 1_791_242_100 * 10**9
    docs = wire.decode(read("gamma/market-v2-docs-example.json"), wire.GammaMarket, where="test")
    with pytest.raises(WireError):  # it does not say which market it is
        parse.market(clob, docs, as_of_ns=NOW_NS)


def test_a_recorded_stream_of_a_protocol_v2_market() -> None:
    lines = [json.loads(line) for line in read("market-ws/session-v2-market.jsonl").splitlines()]
    token = TokenId(json.loads(lines[1]["data"])["assets_ids"][0])
    feed = MarketFeed([token])
    [frame] = feed.opened(now_ns=NOW_NS)
    assert json.loads(frame) == json.loads(lines[1]["data"])
    received = [line["data"] for line in lines if line["dir"] == "recv"]
    [moved] = feed.receive(received[0], now_ns=NOW_NS)
    assert isinstance(moved, BookMoved)
    assert moved.book.trusted
    assert received[1] == "PONG"
    assert feed.receive(received[1], now_ns=NOW_NS) == []
    assert feed.receive(read("market-ws/new_market.json"), now_ns=NOW_NS) == []


def test_a_streamed_book_and_a_change_of_its_tick() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW_NS)
    [moved] = feed.receive(read("market-ws/book-initial-dump.json"), now_ns=NOW_NS)
    assert isinstance(moved, BookMoved)
    assert (moved.book.best_bid, moved.book.best_ask) == (480_000, 500_000)
    told = feed.receive(read("market-ws/tick_size_change.json"), now_ns=NOW_NS)
    assert told[0] == TickChanged(YES, moved.book.tick)
    assert told[-1] == Resync(YES, "tick changed")


def test_other_market_events() -> None:
    feed = MarketFeed([YES])
    [resolved] = feed.receive(read("market-ws/market_resolved.json"), now_ns=NOW_NS)
    assert isinstance(resolved, Resolved)
    assert (resolved.winning_token or "").startswith("7604307375665367")
    assert feed.receive(read("market-ws/best_bid_ask.json"), now_ns=NOW_NS) == []
    [told] = feed.receive(read("market-ws/last_trade_price.json"), now_ns=NOW_NS)
    assert told == Traded(TxHash("0x" + "0" * 58 + "eeefff"), 1_782_753_357_257 * 10**6)


@pytest.mark.parametrize("name", ["level-removed", "new-schema"])
def test_changes_of_books_not_yet_known_are_kept_for_the_snapshot(name: str) -> None:
    body = read(f"market-ws/price_change.{name}.json")
    token = TokenId(json.loads(body)["price_changes"][0]["asset_id"])
    feed = MarketFeed([token])
    feed.opened(now_ns=NOW_NS)
    assert feed.receive(body, now_ns=NOW_NS) == []
    assert feed.heard_ns == NOW_NS


def test_the_dead_schema_of_changes_is_garbage() -> None:
    body = read("market-ws/price_change.old-schema.json")
    feed = MarketFeed([TokenId(json.loads(body)["asset_id"])])
    [garbage, *_] = feed.receive(body, now_ns=NOW_NS)
    assert isinstance(garbage, Garbage)


def test_the_frames_we_send_are_the_documented_ones() -> None:
    told = load("market-ws/frames-out.json")
    feed = MarketFeed([TokenId("1"), TokenId("2")])
    [first] = feed.opened(now_ns=NOW_NS)
    [add] = feed.subscribe([TokenId("3")], now_ns=NOW_NS)
    [remove] = feed.unsubscribe([TokenId("1")])
    for frame, name in ((first, "subscribe"), (add, "add"), (remove, "remove")):
        assert set(json.loads(frame)) == set(told[name])
    assert json.loads(ActivityFeed().opened(now_ns=NOW_NS)[0])["action"] == "subscribe"
    assert load("rtds/frames-out.json")["subscribe"]["action"] == "subscribe"
    user = load("user-ws/frames-out.json")["subscribe_all"]
    keys = Credentials(api_key="k", secret="AAEC", passphrase="p")
    [auth] = UserFeed(keys, Me(wallet=Wallet("0x"), owner="k")).opened(now_ns=NOW_NS)
    assert (set(json.loads(auth)), set(json.loads(auth)["auth"])) == (set(user), set(user["auth"]))


def our_fills(name: str, wallet: str) -> list[OwnFill]:
    me = Me(wallet=Wallet(wallet.lower()), owner="none of these")
    feed = UserFeed(Credentials(api_key="k", secret="AAEC", passphrase="p"), me)
    frame = load(name)
    fills = feed.receive(json.dumps(frame), now_ns=NOW_NS)
    assert all(isinstance(fill, OwnFill) for fill in fills)
    return [fill for fill in fills if isinstance(fill, OwnFill)]


STATES = ["MATCHED", "MINED", "CONFIRMED", "RETRYING", "FAILED"]
US = "0xa3D82Ed56F4c68d2328Fb8c29e568Ba2cAF7d7c8"


def test_recorded_trades_of_ours() -> None:
    [taken] = our_fills("user-ws/trade-taker-matched.json", US)
    assert (taken.side, taken.price, taken.size) == ("BUY", 520_000, 5_000_000)
    assert taken.taker
    [made] = our_fills("user-ws/trade-maker-multi-leg.json", US)
    assert (made.side, made.price, made.size) == ("SELL", 518_000, 5_000_000)
    both = our_fills("user-ws/trade-maker-two-own-legs.json", US)
    assert [(fill.side, fill.price) for fill in both] == [("BUY", 400_000), ("BUY", 300_000)]
    assert len({fill.order for fill in both}) == 2


def test_a_recorded_leg_on_the_opposite_token_has_the_takers_side() -> None:
    wallet = "0xFfd192468b7a05b38c37C82d09fA941289FaEB23"
    [made] = our_fills("user-ws/trade-maker-multi-leg.json", wallet)
    assert (made.side, made.price, made.size) == ("BUY", 482_000, 10_000_000)
    assert made.token.startswith("4833104333661288")


def test_a_trade_goes_through_its_states() -> None:
    fills = our_fills("user-ws/trade-state-sequence.json", "0x" + "11" * 20)
    assert len({(fill.trade, fill.order) for fill in fills}) == 2
    assert [fill.settlement for fill in fills] == STATES


@pytest.mark.parametrize(
    ("name", "status", "matched"),
    [
        ("order-placement", "LIVE", 0),
        ("order-update-matched", "MATCHED", 100_000_000),
        ("order-cancellation", "MATCHED", 5_000_000),
        ("order-fok-killed-status-suffix", "CANCELED", 0),
        ("order-venue-cancel-invalid", "CANCELED", 0),
    ],
)
def test_recorded_order_events(name: str, status: str, matched: int) -> None:
    """The anonymised ids of some recordings are no ids, so real ones are put in their place."""
    frame = load(f"user-ws/{name}.json") | {"id": HASH, "market": "0x" + "2" * 64}
    me = Me(wallet=Wallet(""), owner="")
    feed = UserFeed(Credentials(api_key="k", secret="AAEC", passphrase="p"), me)
    [report] = feed.receive(json.dumps(frame), now_ns=NOW_NS)
    assert isinstance(report, OrderReport)
    assert (report.status, report.matched) == (status, matched)


def test_pages_of_our_orders_and_trades() -> None:
    orders = wire.decode(read("clob/data-orders-page.json"), wire.ClobPage, where="test")
    [row] = orders.data or []
    assert parse_own.order_report(wire.decode(row, wire.Order, where="test")).status == "LIVE"
    trades = wire.decode(read("clob/data-trades-page.json"), wire.ClobPage, where="test")
    me = Me(wallet=Wallet("0x" + "11" * 20), owner="")
    rows = [wire.decode(row, wire.Trade, where="test") for row in trades.data or ()]
    fills = [parse_own.own_fills(row, me, now_ns=NOW_NS)[0] for row in rows]
    assert [fill.settlement for fill in fills] == ["MATCHED", "MATCHED", "CONFIRMED"]
    assert [bool(fill.tx) for fill in fills] == [False, False, True]


def test_activity_and_positions() -> None:
    page = wire.decode(read("data-v2/activity-page.json"), wire.DataPage, where="test")
    rows = [wire.decode(row, wire.ActivityRow, where="test") for row in page.data or ()]
    told = [parse.activity(row, now_ns=NOW_NS) for row in rows]
    actions = [row.action for row in told if row]
    assert actions == ["TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION"]
    [frame] = ActivityFeed().receive(read("rtds/activity-trade.json"), now_ns=NOW_NS)
    assert isinstance(frame, Activity)
    assert frame == told[0]  # the same fill by both ways is the same value

    trades = wire.decode(read("data-v2/trades-page.json"), wire.DataPage, where="test")
    rows = [wire.decode(row, wire.ActivityRow, where="test") for row in trades.data or ()]
    prices = [row.price for row in (parse.activity(row, now_ns=NOW_NS) for row in rows) if row]
    assert prices == [950_000, 950_000]
    assert trades.pagination.has_more

    held = wire.decode(read("data-v2/positions-page.json"), wire.DataPage, where="test")
    [row] = held.data or []
    position = parse.position(wire.decode(row, wire.PositionRow, where="test"))
    assert position is not None
    assert (position.size, position.average_price) == (125_500_000, 470_000)


async def test_a_recorded_value_and_a_recorded_resolution() -> None:
    wallet = Wallet("0x" + "11" * 20)
    assert await Fake(load("data-v2/value.json")).venue.value(wallet) == 1_523_770_000
    told = load("data-v2/resolutions-v2-resolved.json")
    condition = condition_id(told["data"][0]["condition_id"])
    [settled] = await Fake(told).venue.resolutions([condition])
    assert settled == (condition, (1_000_000, 0))


def test_the_retired_data_api_is_not_understood() -> None:
    for name in ("trades", "positions"):
        for row in load(f"data-v1-legacy/{name}.json"):
            with pytest.raises(WireError):
                wire.decode(json.dumps(row), wire.ActivityRow, where="test")


def answer_to(name: str) -> PostAnswer | VenueError:
    body = json.dumps(load("clob/post-order-responses.json")[name]).encode()
    try:
        return parse_own.post_answer(body, OrderHash(HASH))
    except VenueError as e:
        return e


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("live", "live"),
        ("matched_async_hash_missing", "matched"),
        ("matched_amounts_in_micro_units_variant", "matched"),
        ("delayed_pending", "delayed"),
        ("unmatched_now_resting", "unmatched"),
    ],
)
def test_accepted_orders(name: str, status: str) -> None:
    answer = answer_to(name)
    assert isinstance(answer, PostAnswer)
    assert (answer.order, answer.status) == (HASH, status)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("http200_but_rejected", RejectCode.BALANCE),
        ("batch_leg_success_true_but_rejected", RejectCode.KILLED),
    ],
)
def test_a_200_that_refuses(name: str, code: RejectCode) -> None:
    answer = answer_to(name)
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.definitive) == (code, True)


@pytest.mark.parametrize("name", ["batch_leg_delayed_with_error", "nautilus_async_exec_shape"])
def test_a_200_that_is_neither_yes_nor_no_is_unknown(name: str) -> None:
    answer = answer_to(name)
    assert isinstance(answer, Unavailable)
    assert (answer.mode, answer.definitive) == (Mode.UNCERTAIN, False)


CODES = """auth auth invalid_payload key_pairing key_pairing wallet_kind order_version
order_version tick size_min notional_min duplicated post_only_crosses balance allowance killed
killed not_ready expiration close_only too_many other other""".split()  # noqa: SIM905


def test_every_documented_error_has_its_class() -> None:
    told = [
        failure(
            "POST /order",
            status=entry["http"],
            headers=entry.get("headers", {}),
            body=json.dumps(entry["body"]).encode(),
        )
        for entry in load("clob/error-bodies.json")
    ]
    assert [error.code for error in told if isinstance(error, Rejected)] == CODES
    rest = [error for error in told if not isinstance(error, Rejected)]
    assert isinstance(rest[0], NotFound)
    modes = [error.mode for error in rest if isinstance(error, Unavailable)]
    assert modes == ["restarting", "post_only", "cancel_only", "disabled", "uncertain"]
    waits = [error.retry_after_s for error in rest if isinstance(error, Unavailable)]
    assert waits == [5, 79, None, None, None]
    throttles = [error for error in rest if isinstance(error, Throttled)]
    assert [error.definitive for error in throttles] == [True, False]
    assert [error.retry_after_s for error in throttles] == [1, None]


def test_small_bodies() -> None:
    told = failure("/book", status=404, headers={}, body=read("clob/book-not-found.404.json"))
    assert isinstance(told, NotFound)
    told = failure("/v2", status=400, headers={}, body=read("data-v2/error.json"))
    assert isinstance(told, Rejected)
    for body, balance in zip(
        load("clob/balance-allowance.json").values(),
        (125_430_000, 1_000_000_000, 250_500_000),
        strict=True,
    ):
        read_back = wire.decode(json.dumps(body), wire.Balance, where="test")
        assert parse_own.balance(read_back) == balance
    reads = load("clob/small-reads.json")
    version = wire.decode(json.dumps(reads["GET /version"]), wire.Version, where="test")
    assert version.version == 2
    closed = reads["GET /auth/ban-status/closed-only"]
    assert not wire.decode(json.dumps(closed), wire.ClosedOnly, where="test").closed_only
    keys = wire.decode(json.dumps(reads["GET /auth/derive-api-key"]), wire.ApiKey, where="test")
    assert (keys.api_key[-1], "AAEC" in repr(keys)) == ("1", False)
    for body in load("clob/cancel-responses.json").values():
        assert wire.decode(json.dumps(body), wire.CancelAnswer, where="test").canceled
