"""One value of text means one value, or nothing at all."""

import json
from decimal import Decimal
from typing import Any

import pytest

from shared.domain.ids import TokenId, Wallet
from shared.domain.units import Price
from shared.polymarket import parse, parse_own, scalars, wire
from shared.polymarket.activity_feed import ActivityFeed, TakerRow
from shared.polymarket.auth import Credentials
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.parse_own import Me
from shared.polymarket.user_feed import UserFeed

NOW_NS = 1_793_318_400 * 10**9
DAY_NS = 86_400 * 10**9
H1, H2, MARKET = "0x" + "1" * 64, "0x" + "2" * 64, "0x" + "c1" * 32
YES, NO, COMBO = "71" + "0" * 70, "52" + "0" * 70, str(3 << 248 | 7 << 120)
ME = Me(wallet=Wallet("0x" + "aa" * 20), owner="our-key")


def d(text: str) -> Decimal:
    return Decimal(text)


@pytest.mark.parametrize(
    ("text", "micro"), [("0.47", 470_000), ("0.0025", 2_500), (".5", 500_000), ("5e-1", 500_000)]
)
def test_an_exact_price(text: str, micro: int) -> None:
    assert scalars.price(text, where="t") == micro


@pytest.mark.parametrize("text", ["0", "1", "1.0", "-0.1", "0.1234567", "", "NaN", "x", None])
def test_what_is_no_price_is_refused(text: str | None) -> None:
    with pytest.raises(WireError):
        scalars.price(text, where="t")


@pytest.mark.parametrize(
    ("number", "micro"),
    [
        ("0.51", 510_000),
        ("0.3333333333333333", 333_333),
        ("0.5000005", 500_000),  # halves to even
        ("0.5000015", 500_002),
        ("0.50000050000001", 500_001),
    ],
)
def test_a_derived_price_is_rounded_half_even(number: str, micro: int) -> None:
    assert scalars.price_derived(d(number), where="t") == micro


@pytest.mark.parametrize("number", ["0", "1", "0.9999999", "0.0000004", "1e400", "NaN"])
def test_a_derived_price_is_never_rounded_onto_the_edge(number: str) -> None:
    with pytest.raises(WireError):
        scalars.price_derived(d(number), where="t")


@pytest.mark.parametrize(
    ("number", "micro"),
    [
        ("25", 25_000_000),
        ("219.217767", 219_217_767),
        ("25.000000000000004", 25_000_000),
        ("0.30000000000000004", 300_000),
        ("1234567.8912340001", 1_234_567_891_234),
        ("0", 0),
    ],
)
def test_the_tail_of_a_double_is_dropped(number: str, micro: int) -> None:
    assert scalars.size_from_double(d(number), where="t") == micro


@pytest.mark.parametrize("number", ["0.1234567", "25.0000004", "-1", "Infinity", "1e20"])
def test_a_size_that_is_really_finer_is_refused(number: str) -> None:
    with pytest.raises(WireError):
        scalars.size_from_double(d(number), where="t")


@pytest.mark.parametrize(
    "stamp",
    [
        1_793_318_399,
        "1793318399",
        1_793_318_399_000,
        "1793318399000",
        1_793_318_399_000_000,
        1_793_318_399_000_000_000,
        "2026-10-29T23:59:59Z",
        "2026-10-30T00:59:59+01:00",
        "2026-10-29T23:59:59",
    ],
)
def test_a_time_is_told_by_its_magnitude(stamp: str | int) -> None:
    assert scalars.moment_ns(stamp, now_ns=NOW_NS, where="t") == 1_793_318_399 * 10**9


@pytest.mark.parametrize("stamp", [None, "", 0, -5, "soon", "9" * 5_000, "0001-01-01"])
def test_what_is_no_time_is_refused(stamp: str | int | None) -> None:
    with pytest.raises(WireError):
        scalars.moment_ns(stamp, now_ns=NOW_NS, where="t")


def test_a_day_ahead_is_a_wrong_clock() -> None:
    edge = (NOW_NS + DAY_NS) // 10**6
    assert scalars.moment_ns(edge, now_ns=NOW_NS, where="t") == edge * 10**6
    with pytest.raises(WireError):
        scalars.moment_ns(edge + 1, now_ns=NOW_NS, where="t")


@pytest.mark.parametrize("text", ["", "0", "007", "-1", "1e3", "0x1", "9" * 78, "١٢", None])
def test_a_token_id_is_canonical_or_refused(text: str | None) -> None:
    with pytest.raises(WireError):
        scalars.token(text, where="t")


def activity_row(**fields: Any) -> wire.ActivityRow:
    whole: dict[str, Any] = {
        "proxy_wallet": "0x" + "AA" * 20,
        "timestamp": 1_793_318_400,
        "condition_id": MARKET,
        "type": "TRADE",
        "size": 2,
        "price": 0.5,
        "transaction_hash": H1,
        "token_id": YES,
        "side": "BUY",
        "outcome_index": 0,
    }
    return wire.decode(json.dumps(whole | fields), wire.ActivityRow, where="t")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "DANCE"},
        {"side": ""},
        {"side": "buy"},
        {"token_id": ""},
        {"size": 0},
        {"size": None},
        {"price": 0},
        {"price": None},
        {"outcome_index": 2},
        {"condition_id": ""},
        {"transaction_hash": ""},
        {"proxy_wallet": "me"},
        {"timestamp": 1_793_318_400 + 86_401},
    ],
)
def test_a_trade_that_lacks_something_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        parse.activity(activity_row(**fields), now_ns=NOW_NS)


@pytest.mark.parametrize(
    "fields",
    [{"is_combo": True}, {"token_id": COMBO}, {"type": "TIP"}, {"type": "DEPOSIT", "size": None}],
)
def test_what_moves_no_exposure_is_none(fields: dict[str, Any]) -> None:
    assert parse.activity(activity_row(**fields), now_ns=NOW_NS) is None


def test_a_worthless_redemption_has_no_size() -> None:
    row = parse.activity(activity_row(type="REDEEM", size=0, price=0, side=""), now_ns=NOW_NS)
    assert row is not None
    assert (row.size, row.price, row.side) == (0, None, None)


def clob_market(**fields: Any) -> wire.ClobMarket:
    tokens = [{"t": YES, "o": "Yes"}, {"t": NO, "o": "No"}]
    whole = {"c": MARKET, "t": tokens, "mos": 5, "mts": 0.01}
    return wire.decode(json.dumps(whole | fields), wire.ClobMarket, where="t")


def test_a_market_without_more_has_no_fees_and_takes_no_orders() -> None:
    market = parse.market(clob_market(), as_of_ns=1)
    assert (market.fee_rate, market.fee_exponent, market.accepting_orders) == (0, 1, False)
    assert (market.protocol, market.neg_risk, market.event, market.end_ns) == ("v1", False, "", 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"t": [{"t": YES}]},
        {"t": [{"t": YES}, {"t": YES}]},
        {"mts": 0},
        {"mts": 1},
        {"mos": -1},
        {"fd": {"r": 0.07, "e": 1.5}},
        {"fd": {"r": -0.07, "e": 1}},
        {"c": "0x12"},
    ],
)
def test_terms_that_make_no_market_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        parse.market(clob_market(**fields), as_of_ns=1)


def test_the_event_of_a_market_is_its_neg_risk_group_or_its_event() -> None:
    named = wire.GammaMarket(condition_id=MARKET, events=[wire.GammaEvent(slug="an-event")])
    assert parse.market(clob_market(), named, as_of_ns=1).event == "an-event"
    short = wire.GammaMarket(condition_id="0x" + "c1" * 31)
    padded = clob_market(c="0x" + "c1" * 31 + "00")
    assert parse.market(padded, short, as_of_ns=1).condition.endswith("c100")


@pytest.mark.parametrize("version", ["v3", "V2", "", "2"])
def test_a_market_of_an_unknown_protocol_is_readable(version: str) -> None:
    market = parse.market(clob_market(v=version), as_of_ns=1)
    assert (market.protocol, market.tick, market.tokens) == ("unknown", 10_000, (YES, NO))


def gamma_market(**fields: Any) -> wire.GammaMarket:
    whole = {"conditionId": MARKET} | fields
    return wire.decode(json.dumps(whole), wire.GammaMarket, where="t")


@pytest.mark.parametrize(
    ("fields", "category", "tags"),
    [
        ({}, "", ()),
        ({"category": None, "tags": None, "events": None}, "", ()),
        ({"category": "", "tags": [], "events": []}, "", ()),
        ({"category": "US-current-affairs"}, "us-current-affairs", ()),
        ({"category": "Pop Culture!"}, "pop-culture", ()),
        ({"events": [{"category": "Crypto"}]}, "crypto", ()),
        ({"category": "a", "events": [{"category": "b"}]}, "a", ()),
        ({"tags": [{"id": "21", "label": "Crypto", "slug": "crypto"}]}, "", ("crypto",)),
        ({"tags": [{"label": "Up or Down"}, {"id": "1"}, {}]}, "", ("up-or-down",)),
        ({"tags": ["Sports", "NBA"]}, "", ("sports", "nba")),
        ({"tags": "Sports"}, "", ("sports",)),
        (
            {
                "tags": [{"slug": "Crypto"}],
                "events": [
                    {"slug": "e", "tags": [{"slug": "crypto"}, {"slug": "bitcoin"}]},
                    {"series": [{"slug": "btc-up-or-down-15m", "title": "BTC"}]},
                ],
            },
            "",
            ("crypto", "bitcoin", "btc-up-or-down-15m"),
        ),
    ],
)
def test_a_market_is_filed_under_what_gamma_says(
    fields: dict[str, Any], category: str, tags: tuple[str, ...]
) -> None:
    market = parse.market(clob_market(), gamma_market(**fields), as_of_ns=1)
    assert (market.category, market.tags) == (category, tags)


def test_labels_without_end_are_cut() -> None:
    told = gamma_market(category="c" * 1_000, tags=[f"{n}" * 100 for n in range(100)])
    market = parse.market(clob_market(), told, as_of_ns=1)
    assert (len(market.category), len(market.tags)) == (64, 32)
    assert max(map(len, market.tags)) == 64


def resolution(**fields: Any) -> parse.Resolution | None:
    whole = {"condition_id": MARKET, "status": "resolved", "payouts": [1_000_000, 0]}
    return parse.resolution(wire.decode(json.dumps(whole | fields), wire.ResolutionRow, where="t"))


@pytest.mark.parametrize("payouts", [[1_000_000, 0], [0, 1_000_000], [500_000, 500_000]])
def test_a_settled_market_pays_a_dollar_in_all(payouts: list[int]) -> None:
    assert resolution(payouts=payouts) == (MARKET, tuple(payouts))


@pytest.mark.parametrize("status", ["initialized", "proposed", "disputed", "active", ""])
def test_only_a_resolved_market_is_settled(status: str) -> None:
    assert resolution(status=status) is None
    assert resolution(status=status, payouts=[]) is None


@pytest.mark.parametrize(
    "payouts",
    [None, [], [1_000_000], [1, 0], [1_000_000, 1_000_000], [2_000_000, -1_000_000], [1, 2, 3]],
)
def test_payouts_that_make_no_dollar_are_refused(payouts: list[int] | None) -> None:
    with pytest.raises(WireError):
        resolution(payouts=payouts)


def test_a_fee_rate_is_exact_millionths() -> None:
    told = clob_market(fd={"r": 0.0725, "e": 2, "to": True})
    market = parse.market(told, as_of_ns=1)
    assert (market.fee_rate, market.fee_exponent) == (72_500, 2)


def test_a_book_needs_a_tick_from_somewhere() -> None:
    told = wire.Book(market=MARKET, asset_id=YES, timestamp=1)
    with pytest.raises(WireError):
        parse.book(told, now_ns=NOW_NS)
    assert parse.book(told, now_ns=NOW_NS, tick=Price(100)).tick == 100


def test_a_position_of_a_combo_is_of_no_market() -> None:
    row = wire.PositionRow(
        proxy_wallet=ME.wallet,
        token_id=COMBO,
        condition_id="0x" + "0c" * 31,
        current_size=d("1"),
        outcome_index=999,
    )
    assert parse.position(row) is None
    assert not parse.is_combo(TokenId(YES))


def trade(**fields: Any) -> wire.Trade:
    whole: dict[str, Any] = {
        "id": "t",
        "status": "MATCHED",
        "taker_order_id": H1,
        "market": MARKET,
        "asset_id": YES,
        "side": "BUY",
        "size": "4",
        "price": "0.5",
        "trader_side": "TAKER",
        "match_time": "1793318400",
    }
    return wire.decode(json.dumps(whole | fields), wire.Trade, where="t")


LEG = {
    "order_id": H2,
    "owner": "our-key",
    "matched_amount": "1",
    "price": "0.5",
    "asset_id": YES,
}


@pytest.mark.parametrize(
    ("fields", "roles"),
    [
        ({}, [True]),
        ({"trader_side": None, "owner": "our-key"}, [True]),
        ({"trader_side": "", "maker_address": "0x" + "AA" * 20}, [True]),
        ({"trader_side": "MAKER", "maker_orders": [LEG]}, [False]),
        ({"trader_side": None, "maker_orders": [LEG]}, [False]),
        ({"maker_orders": [LEG]}, [True, False]),  # our own orders met
    ],
)
def test_our_part_of_a_trade(fields: dict[str, Any], roles: list[bool]) -> None:
    fills = parse_own.own_fills(trade(**fields), ME, now_ns=NOW_NS)
    assert [fill.taker for fill in fills] == roles


@pytest.mark.parametrize(
    ("taker", "token", "side"),
    [("BUY", YES, "SELL"), ("SELL", YES, "BUY"), ("BUY", NO, "BUY"), ("SELL", NO, "SELL")],
)
def test_the_untold_side_of_a_leg(taker: str, token: str, side: str) -> None:
    leg = LEG | {"asset_id": token}
    told = trade(trader_side="MAKER", side=taker, maker_orders=[leg])
    [fill] = parse_own.own_fills(told, ME, now_ns=NOW_NS)
    assert (fill.side, fill.token) == (side, token)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "DANCING"},
        {"trader_side": "BOTH"},
        {"trader_side": "MAKER"},
        {"trader_side": "MAKER", "maker_orders": [LEG | {"owner": "x"}]},
        {"trader_side": "MAKER", "maker_orders": [LEG | {"price": None}]},
        {"trader_side": "MAKER", "maker_orders": [LEG | {"matched_amount": ""}]},
        {"taker_order_id": None},
        {"size": "0"},
        {"match_time": None},
        {"id": ""},
        {"transaction_hash": "0x12"},
    ],
)
def test_a_trade_without_our_part_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        parse_own.own_fills(trade(**fields), ME, now_ns=NOW_NS)


def order(**fields: Any) -> wire.Order:
    whole: dict[str, Any] = {
        "id": H1,
        "market": MARKET,
        "asset_id": YES,
        "side": "BUY",
        "price": "0.5",
        "original_size": "10",
        "size_matched": "4",
    }
    return wire.decode(json.dumps(whole | fields), wire.Order, where="t")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "LIVE"}, "LIVE"),
        ({"status": "UNMATCHED"}, "LIVE"),
        ({"status": "delayed"}, "DELAYED"),
        ({"status": "ORDER_STATUS_CANCELED_MARKET_RESOLVED"}, "CANCELED"),
        ({"status": "MATCHED", "order_type": "FAK"}, "MATCHED"),
        ({"status": "MATCHED", "order_type": "GTC"}, "LIVE"),
        ({"status": "LIVE", "type": "CANCELLATION"}, "CANCELED"),
        ({"type": "PLACEMENT"}, "LIVE"),
        ({"status": "CANCELED", "size_matched": "10"}, "MATCHED"),
        ({"status": "DANCING", "size_matched": "10"}, "MATCHED"),
    ],
)
def test_the_status_of_an_order(fields: dict[str, Any], status: str) -> None:
    assert parse_own.order_report(order(**fields)).status == status


@pytest.mark.parametrize("fields", [{}, {"status": "DANCING"}, {"original_size": ""}])
def test_an_order_of_no_known_status_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        parse_own.order_report(order(**fields))


def rtds(**fields: Any) -> dict[str, Any]:
    whole = {"proxyWallet": "0x" + "AA" * 20, "timestamp": 1_793_318_400, "conditionId": MARKET}
    whole |= {"asset": YES, "side": "BUY", "size": 2, "price": 0.5, "transactionHash": H1}
    return whole | fields


def test_an_activity_is_known_by_its_shape_not_its_topic() -> None:
    feed = ActivityFeed()
    for frame in ({"payload": rtds()}, rtds(), [{"topic": "x", "payload": rtds()}]):
        [told] = feed.receive(json.dumps(frame), now_ns=NOW_NS)
        assert not isinstance(told, Garbage)
        assert told.token == YES


def test_what_the_activity_stream_says_otherwise() -> None:
    feed = ActivityFeed()
    feed.opened(now_ns=5)
    for quiet in ("", "PONG", b"", json.dumps({"type": "orders_matched", "payload": rtds()})):
        assert feed.receive(quiet, now_ns=NOW_NS) == []
    for bad in ('{"statusCode":401}', '{"payload":null}', json.dumps({"payload": rtds(size="x")})):
        [garbage] = feed.receive(bad, now_ns=NOW_NS)
        assert isinstance(garbage, Garbage)
    assert feed.heard_ns == 5
    assert feed.is_silent(now_ns=16, limit_ns=10)
    combo = json.dumps({"payload": rtds(asset=COMBO)})
    assert feed.receive(combo, now_ns=NOW_NS) == []
    assert feed.heard_ns == NOW_NS
    assert feed.poll(now_ns=NOW_NS) == feed.closed(now_ns=NOW_NS) == []


def test_takers_rows_stand_in_until_all_rows_are_told_again() -> None:
    feed = ActivityFeed(fallback=True)
    [subscription] = feed.opened(now_ns=5)
    kinds = [each["type"] for each in json.loads(subscription)["subscriptions"]]
    assert kinds == ["trades", "orders_matched"]
    taker = json.dumps({"type": "orders_matched", "payload": rtds()})
    [told] = feed.receive(taker, now_ns=NOW_NS)
    assert isinstance(told, TakerRow)
    assert told.row.token == YES
    assert feed.heard_ns == 5, "takers' rows do not prove that the stream tells all"
    [row] = feed.receive(json.dumps({"type": "trades", "payload": rtds()}), now_ns=NOW_NS)
    assert row == told.row
    assert feed.receive(taker, now_ns=NOW_NS) == []
    feed.opened(now_ns=NOW_NS)
    assert feed.receive(taker, now_ns=NOW_NS) == [told]


def test_a_user_stream_is_never_silent_and_tells_garbage_apart() -> None:
    feed = UserFeed(Credentials(api_key="k", secret="AAEC", passphrase="p"), ME)
    assert not feed.is_silent(now_ns=NOW_NS, limit_ns=1)
    assert feed.receive("PONG", now_ns=NOW_NS) == []
    [garbage] = feed.receive('{"event_type":"weather"}', now_ns=NOW_NS)
    assert isinstance(garbage, Garbage)
    assert feed.poll(now_ns=NOW_NS) == feed.closed(now_ns=NOW_NS) == []
