"""`py_clob_client_v2`, unchanged, against the running venue."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    BalanceAllowanceParams,
    BookParams,
    CreateOrderOptions,
    MarketOrderArgsV2,
    OpenOrderParams,
    OrderArgsV2,
    OrderMarketCancelParams,
    OrderPayload,
    PostOrdersV2Args,
    TradeParams,
)
from py_clob_client_v2.exceptions import PolyApiException

from tests.clients.local_venue import KINDS, SIGNATURE_TYPES, Account, Kind, Listed, LocalVenue
from tests.support.eventually import eventually_sync

LIVE_S = 600  # seconds: how far ahead the tests' GTD orders expire
Json = dict[str, Any]
pytestmark = pytest.mark.xdist_group("clob_client_v2")  # one venue, four connections


def connect(venue: LocalVenue, account: Account) -> ClobClient:
    client = ClobClient(
        venue.url,
        137,
        account.key,
        signature_type=account.signature_type,
        funder=account.wallet,
        retry_on_error=False,
    )
    client.set_api_creds(client.create_or_derive_api_key())
    return client


@pytest.fixture(scope="module")
def clients(venue: LocalVenue) -> dict[int, ClobClient]:
    """One client a signature type: what it caches belongs to each test's own market."""
    return {kind: connect(venue, venue.account(kind)) for kind in SIGNATURE_TYPES}


@pytest.fixture
def client(venue: LocalVenue) -> ClobClient:
    return connect(venue, venue.account())


def asset(token: str) -> dict[str, str]:
    """Name a token as this client wants it: by its argument it chooses the exchange."""
    reserved = ((1 << 64) - 1) << 40
    return {"position_id": token} if int(token) & reserved == 0 else {"token_id": token}


def sign(
    client: ClobClient,
    token: str,
    price: float,
    size: float,
    *,
    side: str = "BUY",
    expiration: int = 0,
) -> Any:
    return client.create_order(
        OrderArgsV2(price=price, size=size, side=side, expiration=expiration, **asset(token))
    )


def post(client: ClobClient, token: str, price: float, size: float, kind: str = "GTC") -> Json:
    answer: Json = client.post_order(sign(client, token, price, size), kind)
    return answer


def rests_until_cancelled(client: ClobClient, listed: Listed) -> None:
    """GTC: on the book and among the open orders, then neither."""
    placed = post(client, listed.tokens[0], 0.45, 10)
    assert (placed["status"], placed["success"], placed["errorMsg"]) == ("live", True, "")
    (open_order,) = client.get_open_orders(OpenOrderParams(market=listed.condition))
    assert (open_order["id"], open_order["status"]) == (placed["orderID"], "LIVE")
    assert (open_order["price"], open_order["original_size"]) == ("0.45", "10")
    assert {"price": "0.45", "size": "10"} in client.get_order_book(listed.tokens[0])["bids"]
    cancelled = client.cancel_order(OrderPayload(orderID=placed["orderID"]))
    assert cancelled == {"canceled": [placed["orderID"]], "not_canceled": {}}
    assert client.get_order(placed["orderID"])["status"] == "CANCELED"
    again = client.cancel_order(OrderPayload(orderID=placed["orderID"]))
    assert again == {
        "canceled": [],
        "not_canceled": {placed["orderID"]: "already canceled or matched"},
    }


def rests_until_a_time(client: ClobClient, listed: Listed) -> None:
    """GTD: keeps its expiration; one too near is refused."""
    until = int(time.time()) + LIVE_S
    order = sign(client, listed.tokens[1], 0.45, 10, expiration=until)
    placed = client.post_order(order, "GTD")
    found = client.get_order(placed["orderID"])
    assert (found["status"], found["order_type"]) == ("LIVE", "GTD")
    assert found["expiration"] == str(until)
    near = sign(client, listed.tokens[1], 0.45, 10, expiration=int(time.time()) + 30)
    with pytest.raises(PolyApiException, match="invalid expiration"):
        client.post_order(near, "GTD")


def fills_or_dies(client: ClobClient, listed: Listed) -> None:
    """FOK: all of it at once, or nothing and a kill on record."""
    filled = post(client, listed.tokens[0], 0.5, 10, "FOK")
    assert (filled["status"], filled["makingAmount"], filled["takingAmount"]) == (
        "matched",
        "5",
        "10",
    )
    assert client.get_order(filled["orderID"])["size_matched"] == "10"
    with pytest.raises(PolyApiException, match="FOK orders are fully filled or killed") as kill:
        post(client, listed.tokens[0], 0.5, 500, "FOK")
    assert kill.value.status_code == 400
    assert client.get_open_orders(OpenOrderParams(market=listed.condition)) == []


def fills_what_it_can(client: ClobClient, listed: Listed) -> None:
    """FAK: what stands there, the rest is cancelled; nothing there is a kill."""
    partly = post(client, listed.tokens[0], 0.5, 40, "FAK")
    assert (partly["status"], partly["takingAmount"]) == ("matched", "25")
    assert len(partly["transactionsHashes"]) == len(partly["tradeIDs"]) == 1
    found = client.get_order(partly["orderID"])
    assert (found["status"], found["size_matched"]) == ("CANCELED", "25")
    (trade,) = client.get_trades(TradeParams(id=partly["tradeIDs"][0]))
    assert (trade["size"], trade["price"], trade["trader_side"]) == ("25", "0.5", "TAKER")
    assert trade["status"] == "TRADE_STATUS_CONFIRMED"
    assert trade["transaction_hash"] == partly["transactionsHashes"][0]
    sold = sign(client, listed.tokens[0], 0.48, 10, side="SELL")
    assert client.post_order(sold, "FAK")["takingAmount"] == "4.8"
    with pytest.raises(PolyApiException, match="no orders found to match with FAK order"):
        post(client, listed.tokens[0], 0.4, 10, "FAK")


def makes_only(client: ClobClient, listed: Listed) -> None:
    """Post-only: rests, or is refused where it would take."""
    order = sign(client, listed.tokens[0], 0.49, 10)
    assert client.post_order(order, "GTC", post_only=True)["status"] == "live"
    crossing = sign(client, listed.tokens[0], 0.5, 10)
    with pytest.raises(PolyApiException, match="invalid post-only order: order crosses book"):
        client.post_order(crossing, "GTC", post_only=True)


LIVES = (rests_until_cancelled, rests_until_a_time, fills_or_dies, fills_what_it_can, makes_only)


@pytest.mark.parametrize("live", LIVES, ids=lambda live: live.__name__)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_every_order_of_every_wallet_lives_in_every_market(
    venue: LocalVenue,
    clients: dict[int, ClobClient],
    signature_type: int,
    kind: Kind,
    live: Callable[[ClobClient, Listed], None],
) -> None:
    live(clients[signature_type], venue.market(kind))


def test_it_names_the_exchange_by_argument_not_by_the_id(
    venue: LocalVenue, client: ClobClient
) -> None:
    order = OrderArgsV2(token_id=venue.market("v2").tokens[0], price=0.45, size=10, side="BUY")
    with pytest.raises(PolyApiException, match="invalid signature"):
        client.post_order(client.create_order(order), "GTC")


def book_hash(body: Json) -> str:
    """Hash a book as protocol.md 1.3 says, its version too."""
    text = json.dumps({**body, "hash": ""}, separators=(",", ":"))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_a_market(venue: LocalVenue, client: ClobClient, kind: Kind) -> None:
    listed = venue.market(kind)
    first, second = listed.tokens
    info = client.get_clob_market_info(listed.condition)
    assert [each["t"] for each in info["t"]] == [first, second]
    assert (info["mts"], info["mos"], info["v"]) == (0.01, 5, "v2" if kind == "v2" else "v1")
    assert info.get("nr", False) is client.get_neg_risk(first) is (kind == "neg-risk")
    assert client.get_tick_size(first) == "0.01"
    assert client.get_fee_rate_bps(first) == 1000
    assert client.get_fee_exponent(first) == 1
    market = client.get_market(listed.condition)
    assert [each["token_id"] for each in market["tokens"]] == [first, second]
    assert (market["minimum_tick_size"], market["accepting_orders"]) == (0.01, True)
    book, mirror = client.get_order_book(first), client.get_order_book(second)
    assert (book["bids"][-1]["price"], book["asks"][-1]["price"]) == ("0.48", "0.5")
    assert (mirror["bids"][-1]["price"], mirror["asks"][-1]["price"]) == ("0.5", "0.52")
    assert book["hash"] == book_hash(book)
    its_own = client.get_order_book_hash(book)  # leaves the version out: wrong for v2 books
    assert (its_own == book["hash"]) is (kind != "v2")
    both = client.get_order_books([BookParams(token_id=first), BookParams(token_id=second)])
    assert both == [book, mirror]
    assert client.get_price(first, "BUY") == {"price": "0.48"}
    assert client.get_price(first, "SELL") == {"price": "0.5"}
    assert client.get_midpoint(first) == {"mid": "0.49"}
    assert client.get_spread(first) == {"spread": "0.02"}
    assert client.get_last_trade_price(first) == {"price": "0.5", "side": ""}


def test_it_reads_the_venue(venue: LocalVenue, client: ClobClient) -> None:
    listed = venue.market()
    assert client.get_ok() == "OK"
    assert client.get_version() == 2
    assert abs(client.get_server_time() - time.time()) < 5
    markets = client.get_markets()
    assert markets["next_cursor"] == "LTE="
    assert listed.condition in {each["condition_id"] for each in markets["data"]}
    with pytest.raises(PolyApiException, match="No orderbook exists") as unknown:
        client.get_order_book("1")
    assert unknown.value.status_code == 404
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    with pytest.raises(PolyApiException, match="No orderbook exists"):
        client.get_order_book(listed.tokens[0])
    winners = [each["winner"] for each in client.get_market(listed.condition)["tokens"]]
    assert winners == [True, False]


@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_its_keys_are_made_once_and_derived_after(venue: LocalVenue, signature_type: int) -> None:
    account = venue.account(signature_type)
    client = ClobClient(
        venue.url, 137, account.key, signature_type=signature_type, funder=account.wallet
    )
    made = client.create_api_key()
    with pytest.raises(PolyApiException) as again:
        client.create_api_key()
    assert again.value.status_code == 400
    assert client.derive_api_key() == made
    assert client.create_api_key(nonce=7) != made
    client.set_api_creds(made)
    assert made.api_key in client.get_api_keys()["apiKeys"]
    assert client.get_closed_only_mode() == {"closed_only": False}


@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_its_balance_follows_its_fills(venue: LocalVenue, signature_type: int) -> None:
    client, listed = connect(venue, venue.account(signature_type)), venue.market()
    collateral = BalanceAllowanceParams(asset_type="COLLATERAL")
    held = BalanceAllowanceParams(asset_type="CONDITIONAL", token_id=listed.tokens[0])
    assert client.get_balance_allowance(collateral)["balance"] == "1000000000"
    post(client, listed.tokens[0], 0.5, 10, "FAK")
    client.update_balance_allowance(held)
    after = client.get_balance_allowance(collateral)
    assert after["balance"] == "994825000"  # 1000 - 5 - 10 x 0.07 x 0.25
    assert len(after["allowances"]) >= 3
    assert client.get_balance_allowance(held)["balance"] == "10000000"


def test_a_batch_answers_for_every_leg(venue: LocalVenue, client: ClobClient) -> None:
    listed = venue.market()
    token = listed.tokens[0]
    wanted = [(0.41, "GTC"), (0.5, "FOK"), (0.43, "FAK"), (0.5, "FOK")]
    sizes = (10, 10, 10, 500)
    legs = [
        PostOrdersV2Args(order=sign(client, token, price, size), orderType=kind)
        for (price, kind), size in zip(wanted, sizes, strict=True)
    ]
    answers = client.post_orders(legs)
    assert [each["status"] for each in answers][:2] == ["live", "matched"]
    assert "no orders found" in answers[2]["errorMsg"]
    assert "fully filled or killed" in answers[3]["errorMsg"]
    many = [PostOrdersV2Args(order=sign(client, token, 0.4, 5), orderType="GTC") for _ in range(16)]
    with pytest.raises(PolyApiException, match="Too many orders in payload: 16, max allowed: 15"):
        client.post_orders(many)


def test_cancels_reach_what_they_name(venue: LocalVenue, client: ClobClient) -> None:
    one, other = venue.market(), venue.market("neg-risk")
    mine = [
        post(client, token, 0.41, 5)["orderID"]
        for token in (*one.tokens, *one.tokens, *other.tokens)
    ]
    several = client.cancel_orders([mine[0], "0x" + "0" * 64])
    assert several["canceled"] == [mine[0]]
    assert list(several["not_canceled"]) == ["0x" + "0" * 64]
    of_token = client.cancel_market_orders(OrderMarketCancelParams(asset_id=one.tokens[1]))
    assert sorted(of_token["canceled"]) == sorted([mine[1], mine[3]])
    of_market = client.cancel_market_orders(OrderMarketCancelParams(market=one.condition))
    assert of_market["canceled"] == [mine[2]]
    assert sorted(client.cancel_all()["canceled"]) == sorted(mine[4:])
    assert client.get_open_orders() == []


def test_refusals_are_in_the_venues_words(venue: LocalVenue, client: ClobClient) -> None:
    listed = venue.market()
    token = listed.tokens[0]
    order = sign(client, token, 0.45, 10)
    assert client.post_order(order, "GTC")["status"] == "live"
    with pytest.raises(PolyApiException, match=r"is invalid\. Duplicated\."):
        client.post_order(order, "GTC")
    with pytest.raises(PolyApiException, match=r"Size \(4\) lower than the minimum: 5"):
        post(client, token, 0.45, 4)
    finer = client.builder.build_order(
        OrderArgsV2(token_id=token, price=0.455, size=10, side="BUY"),
        CreateOrderOptions(tick_size="0.001", neg_risk=False),
    )
    with pytest.raises(PolyApiException, match=r"breaks minimum tick size rule: 0\.01"):
        client.post_order(finer, "GTC")
    with pytest.raises(PolyApiException, match="not enough balance / allowance"):
        post(client, token, 0.45, 10_000)
    with pytest.raises(PolyApiException, match="not enough balance / allowance"):
        client.post_order(sign(client, token, 0.55, 10, side="SELL"), "GTC")


def test_a_market_order_takes_dollars(venue: LocalVenue, client: ClobClient) -> None:
    token = venue.market().tokens[0]
    order = client.create_market_order(MarketOrderArgsV2(token_id=token, amount=5, side="BUY"))
    filled = client.post_order(order, "FOK")
    assert (filled["status"], filled["makingAmount"], filled["takingAmount"]) == (
        "matched",
        "5",
        "10",
    )
    sale = client.create_market_order(MarketOrderArgsV2(token_id=token, amount=10, side="SELL"))
    assert client.post_order(sale, "FAK")["takingAmount"] == "4.8"


def test_a_delayed_order_is_neither_filled_nor_refused(
    venue: LocalVenue, client: ClobClient
) -> None:
    token = venue.market(taker_delay=True).tokens[0]
    placed = post(client, token, 0.5, 10)
    assert (placed["status"], placed["takingAmount"], placed["tradeIDs"]) == ("delayed", "0", [])
    refused = client.cancel_order(OrderPayload(orderID=placed["orderID"]))
    assert list(refused["not_canceled"]) == [placed["orderID"]]
    eventually_sync(lambda: client.get_order(placed["orderID"])["status"] == "MATCHED")


def test_trades_come_in_pages_and_by_filter(venue: LocalVenue, client: ClobClient) -> None:
    one, other = venue.market(), venue.market()
    taken = post(client, one.tokens[0], 0.5, 10, "FAK")
    resting = post(client, other.tokens[0], 0.49, 10)
    venue.admin(
        "fill",
        wallet="0x" + "9" * 40,
        condition=other.condition,
        outcome=0,
        side="SELL",
        size="6",
        price="0.49",
    )
    as_taker, as_maker = (
        client.get_trades(TradeParams(market=listed.condition)) for listed in (one, other)
    )
    assert [each["trader_side"] for each in as_taker] == ["TAKER"]
    assert as_taker[0]["taker_order_id"] == taken["orderID"]
    (trade,) = as_maker
    assert (trade["trader_side"], trade["side"]) == ("MAKER", "SELL")  # the taker's side
    (leg,) = trade["maker_orders"]
    assert (leg["order_id"], leg["matched_amount"], leg["side"]) == (
        resting["orderID"],
        "6",
        "BUY",
    )
    assert {each["id"] for each in client.get_trades()} == {as_taker[0]["id"], trade["id"]}
    page = client.get_trades_paginated(TradeParams(asset_id=one.tokens[0]))
    assert (page["count"], page["next_cursor"]) == (1, "LTE=")
    assert client.get_trades(TradeParams(before=1)) == []
    assert client.get_order(resting["orderID"])["size_matched"] == "6"


def test_an_account_sees_and_touches_only_its_own(venue: LocalVenue, client: ClobClient) -> None:
    listed = venue.market()
    resting = post(client, listed.tokens[0], 0.45, 10)
    other = connect(venue, venue.account())
    with pytest.raises(PolyApiException) as unknown:
        other.get_order(resting["orderID"])
    assert unknown.value.status_code == 404
    assert other.get_open_orders() == []
    assert other.cancel_order(OrderPayload(orderID=resting["orderID"]))["canceled"] == []
    other.set_api_creds(client.creds)
    with pytest.raises(PolyApiException, match="Unauthorized/Invalid api key") as refused:
        other.get_open_orders()
    assert refused.value.status_code == 401
