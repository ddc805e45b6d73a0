"""The venue's official client, unchanged, against the running server."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    BalanceAllowanceParams,
    BookParams,
    DropNotificationParams,
    MarketOrderArgsV2,
    OpenOrderParams,
    OrderArgsV2,
    OrderPayload,
    OrderScoringParams,
    OrdersScoringParams,
    OrderType,
    PostOrdersV2Args,
    PricesHistoryParams,
    TradeParams,
)
from py_clob_client_v2.exceptions import PolyApiException
from py_clob_client_v2.signer import Signer

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.keyring import deposit_wallet, proxy_wallet, safe_wallet
from services.paper_venue.server import running
from shared.domain.ids import Wallet
from shared.domain.units import MICRO, Usd

KEY = "0x" + "42" * 32  # a key for tests; nothing is behind it
OWNER = Wallet(Signer(KEY, 137).address().lower())
PROXY = Wallet("0x" + "1" * 40)
CONFIG = VenueConfig(
    accounts=(
        Funded(wallet=OWNER, usd=Usd(1_000 * MICRO)),
        Funded(wallet=PROXY, usd=Usd(1_000 * MICRO), owner=OWNER),
    ),
    mined_delay_ms=0,
    confirmed_delay_ms=0,
    rtds_delay_ms=0,
    data_api_delay_ms=0,
)
BOOK = {
    "slug": "one",
    "bids": [["0.47", "120"], ["0.48", "30.5"]],
    "asks": [["0.5", "25"], ["0.53", "60"]],
}


def talk(conversation: Callable[[ClobClient, str], None], signature_type: int = 0) -> None:
    """Run a conversation of the synchronous client with a fresh venue, in a thread."""

    def speak(url: str) -> None:
        token = httpx.post(f"{url}/admin/market", json=BOOK).json()["tokens"][0]
        funder = None if signature_type == 0 else PROXY
        client = ClobClient(url, 137, KEY, signature_type=signature_type, funder=funder)
        client.set_api_creds(client.create_or_derive_api_key())
        conversation(client, token)

    async def serve() -> None:
        async with running(CONFIG) as venue:
            await asyncio.to_thread(speak, venue.url)

    asyncio.run(serve())


def buy(client: ClobClient, token: str, price: float, size: float, kind: str) -> dict:
    order = client.create_order(OrderArgsV2(token_id=token, price=price, size=size, side="BUY"))
    return client.post_order(order, kind)


@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
def test_it_buys_rests_looks_up_and_cancels(signature_type: int) -> None:
    def conversation(client: ClobClient, token: str) -> None:
        book = client.get_order_book(token)
        assert book["bids"][-1] == {"price": "0.48", "size": "30.5"}
        assert client.get_order_book_hash(book) == book["hash"]

        bought = buy(client, token, 0.5, 10, OrderType.FAK)
        assert (bought["status"], bought["takingAmount"]) == ("matched", "10")
        assert len(bought["transactionsHashes"]) == 1
        found = client.get_order(bought["orderID"])
        assert (found["status"], found["size_matched"]) == ("MATCHED", "10")
        (trade,) = client.get_trades(TradeParams(id=bought["tradeIDs"][0]))
        assert (trade["price"], trade["size"], trade["trader_side"]) == ("0.5", "10", "TAKER")
        balance = client.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))
        assert balance["balance"] == "994825000"  # 1000 - 5 - 10 x 0.07 x 0.25

        resting = buy(client, token, 0.45, 10, OrderType.GTC)
        assert resting["status"] == "live"
        assert [each["id"] for each in client.get_open_orders()] == [resting["orderID"]]
        answer = client.cancel_order(OrderPayload(orderID=resting["orderID"]))
        assert answer == {"canceled": [resting["orderID"]], "not_canceled": {}}
        assert client.get_open_orders(OpenOrderParams(asset_id=token)) == []
        assert client.get_order(resting["orderID"])["status"] == "CANCELED"

    talk(conversation, signature_type)


def test_market_orders_kills_and_duplicates() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        order = client.create_market_order(MarketOrderArgsV2(token_id=token, amount=5, side="BUY"))
        filled = client.post_order(order, OrderType.FOK)
        assert (filled["status"], filled["makingAmount"]) == ("matched", "5")
        with pytest.raises(PolyApiException, match=r"is invalid\. Duplicated\.") as again:
            client.post_order(order, OrderType.FOK)
        assert again.value.status_code == 400
        with pytest.raises(PolyApiException, match="FOK orders are fully filled or killed"):
            buy(client, token, 0.5, 500, OrderType.FOK)
        with pytest.raises(PolyApiException, match="no orders found to match with FAK order"):
            buy(client, token, 0.4, 10, OrderType.FAK)
        sold = client.create_order(OrderArgsV2(token_id=token, price=0.48, size=10, side="SELL"))
        assert client.post_order(sold, OrderType.FAK)["takingAmount"] == "4.8"

    talk(conversation)


def test_batches_and_cancelling_everything() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        orders = [
            client.create_order(OrderArgsV2(token_id=token, price=price, size=5, side="BUY"))
            for price in (0.41, 0.42)
        ]
        killed = client.create_order(OrderArgsV2(token_id=token, price=0.43, size=5, side="BUY"))
        batch = [PostOrdersV2Args(order=each, orderType=OrderType.GTC) for each in orders]
        batch.append(PostOrdersV2Args(order=killed, orderType=OrderType.FAK))
        answers = client.post_orders(batch)
        assert [each["status"] for each in answers] == ["live", "live", ""]
        assert "no orders found" in answers[2]["errorMsg"]
        assert len(client.cancel_all()["canceled"]) == 2

    talk(conversation)


def test_market_terms_and_small_reads() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        assert client.get_ok() == "OK"
        assert client.get_version() == 2
        assert client.get_tick_size(token) == "0.01"
        assert client.get_neg_risk(token) is False
        assert client.get_fee_rate_bps(token) == 1000
        assert client.get_fee_exponent(token) == 1
        assert client.get_price(token, "BUY") == {"price": "0.48"}
        assert client.get_midpoint(token) == {"mid": "0.49"}
        assert client.get_spread(token) == {"spread": "0.02"}
        assert client.get_last_trade_price(token) == {"price": "0.5", "side": ""}
        buy(client, token, 0.5, 10, OrderType.FAK)
        assert client.get_last_trade_price(token) == {"price": "0.5", "side": "BUY"}

    talk(conversation)


def test_an_account_sees_only_its_own_orders() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        resting = buy(client, token, 0.45, 10, OrderType.GTC)
        other = ClobClient(client.host, 137, "0x" + "43" * 32)
        other.set_api_creds(other.create_or_derive_api_key())
        with pytest.raises(PolyApiException, match="order not found"):
            other.get_order(resting["orderID"])
        assert other.get_open_orders() == []
        answer = other.cancel_order(OrderPayload(orderID=resting["orderID"]))
        assert answer["canceled"] == []
        assert client.get_order(resting["orderID"])["status"] == "LIVE"

    talk(conversation)


def test_keys_of_another_wallet_sign_nothing_here() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        thief = ClobClient(client.host, 137, "0x" + "43" * 32, signature_type=2, funder=PROXY)
        thief.set_api_creds(thief.create_or_derive_api_key())
        with pytest.raises(PolyApiException, match="maker address not allowed"):
            buy(thief, token, 0.5, 10, OrderType.FAK)
        client.set_api_creds(thief.creds)
        with pytest.raises(PolyApiException, match="Unauthorized/Invalid api key"):
            client.get_open_orders()

    talk(conversation)


@pytest.mark.parametrize(
    ("right", "derive"), [(1, proxy_wallet), (2, safe_wallet), (3, deposit_wallet)]
)
def test_a_wallet_takes_orders_of_its_own_signature_type_only(
    right: int, derive: Callable[[bytes], str]
) -> None:
    """The usual mistake of a new bot is another type than its wallet's: it must fail here too."""

    def conversation(client: ClobClient, token: str) -> None:
        owner = client.get_address()
        wallet = derive(bytes.fromhex(owner[2:]))
        funds = {"wallet": wallet, "usd": "100", "owner": owner}
        httpx.post(f"{client.host}/admin/fund", json=funds).raise_for_status()
        for kind in (1, 2, 3):
            each = ClobClient(client.host, 137, KEY, signature_type=kind, funder=wallet)
            each.set_api_creds(client.creds)
            if kind == right:
                assert buy(each, token, 0.5, 10, OrderType.FAK)["status"] == "matched"
                continue
            with pytest.raises(PolyApiException, match="invalid signature"):
                buy(each, token, 0.5, 10, OrderType.FAK)

    talk(conversation)


def test_it_reads_many_tokens_and_lists_of_markets() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        wanted = [BookParams(token_id=token, side="BUY"), BookParams(token_id=token, side="SELL")]
        assert client.get_prices(wanted) == {token: {"BUY": "0.48", "SELL": "0.5"}}
        assert client.get_midpoints(wanted[:1]) == {token: "0.49"}
        assert client.get_spreads(wanted[:1]) == {token: "0.02"}
        assert client.get_last_trades_prices(wanted[:1]) == []
        buy(client, token, 0.5, 10, OrderType.FAK)
        (last,) = client.get_last_trades_prices(wanted[:1])
        assert last == {"token_id": token, "price": "0.5", "side": "BUY"}
        history = client.get_prices_history(PricesHistoryParams(market=token, interval="1h"))
        assert [point["p"] for point in history["history"]] == [0.5]
        for read in (
            client.get_simplified_markets,
            client.get_sampling_markets,
            client.get_sampling_simplified_markets,
        ):
            assert len(read()["data"]) == 1
        with pytest.raises(PolyApiException, match="market not found"):
            client.get_market_trades_events("0xab")

    talk(conversation)


def test_it_beats_reads_notices_and_manages_keys() -> None:
    def conversation(client: ClobClient, token: str) -> None:
        named = client.post_heartbeat()["heartbeat_id"]
        assert client.post_heartbeat(named)["heartbeat_id"] != named
        with pytest.raises(PolyApiException, match="Invalid Heartbeat ID"):
            client.post_heartbeat(named)
        resting = buy(client, token, 0.45, 10, OrderType.GTC)["orderID"]
        assert client.is_order_scoring(OrderScoringParams(orderId=resting)) == {"scoring": False}
        assert client.are_orders_scoring(OrdersScoringParams(orderIds=[resting])) == {
            resting: False
        }
        assert client.get_pre_migration_orders() == []
        client.cancel_order(OrderPayload(orderID=resting))
        (notice,) = client.get_notifications()
        assert (notice["type"], notice["payload"]["order_id"]) == (1, resting)
        client.drop_notifications(DropNotificationParams(ids=[str(notice["id"])]))
        assert client.get_notifications() == []
        reader = client.create_readonly_api_key()["apiKey"]
        assert client.get_readonly_api_keys() == {"readonlyApiKeys": [reader]}
        client.delete_readonly_api_key(reader)
        assert client.get_readonly_api_keys() == {"readonlyApiKeys": []}
        assert client.delete_api_key() == "OK"
        with pytest.raises(PolyApiException, match="Unauthorized/Invalid api key"):
            client.get_api_keys()
        client.set_api_creds(client.create_or_derive_api_key())
        assert client.get_closed_only_mode() == {"closed_only": False}

    talk(conversation)
