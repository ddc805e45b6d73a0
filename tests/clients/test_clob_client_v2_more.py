"""`py_clob_client_v2`, unchanged: lists, batches of prices, and an account beside its orders."""

from typing import Any

import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    BookParams,
    DropNotificationParams,
    OrderArgsV2,
    OrderPayload,
    OrderScoringParams,
    OrdersScoringParams,
    PricesHistoryParams,
)
from py_clob_client_v2.exceptions import PolyApiException

from tests.clients.local_venue import LocalVenue

pytestmark = pytest.mark.xdist_group("clob_client_v2_more")


@pytest.fixture
def client(venue: LocalVenue) -> ClobClient:
    account = venue.account()
    connected = ClobClient(venue.url, 137, account.key, retry_on_error=False)
    connected.set_api_creds(connected.create_or_derive_api_key())
    return connected


def buy(client: ClobClient, token: str, price: float, kind: str) -> dict[str, Any]:
    order = client.create_order(OrderArgsV2(token_id=token, price=price, size=10, side="BUY"))
    answer: dict[str, Any] = client.post_order(order, kind)
    return answer


def test_prices_come_by_the_batch(venue: LocalVenue, client: ClobClient) -> None:
    first, second = venue.market().tokens
    both = [BookParams(token_id=first), BookParams(token_id=second)]
    assert client.get_midpoints(both) == {first: "0.49", second: "0.51"}
    assert client.get_spreads(both) == {first: "0.02", second: "0.02"}
    asked = [BookParams(token_id=first, side=side) for side in ("BUY", "SELL")]
    assert client.get_prices(asked) == {first: {"BUY": "0.48", "SELL": "0.5"}}
    buy(client, first, 0.5, "FAK")
    (traded,) = client.get_last_trades_prices([BookParams(token_id=first)])
    assert (traded["token_id"], traded["price"], traded["side"]) == (first, "0.5", "BUY")
    history = client.get_prices_history(PricesHistoryParams(market=first, interval="1h"))
    assert [point["p"] for point in history["history"]] == [0.5]


def test_every_list_of_markets_has_pages(venue: LocalVenue, client: ClobClient) -> None:
    listed = venue.market()
    simplified = client.get_simplified_markets()
    assert listed.condition in {each["condition_id"] for each in simplified["data"]}
    assert simplified["next_cursor"] == "LTE="
    for read in (client.get_sampling_markets, client.get_sampling_simplified_markets):
        page = read()
        assert {"limit", "count", "next_cursor", "data"} <= set(page)
    assert client.get_pre_migration_orders() == []


def test_a_heartbeat_names_the_next_one(client: ClobClient) -> None:
    first = client.post_heartbeat()["heartbeat_id"]
    second = client.post_heartbeat(first)["heartbeat_id"]
    assert second not in ("", first)
    with pytest.raises(PolyApiException) as stale:
        client.post_heartbeat(first)
    assert stale.value.status_code == 400
    assert stale.value.error_msg["heartbeat_id"] == second


def test_fills_and_cancels_are_notified_until_dropped(
    venue: LocalVenue, client: ClobClient
) -> None:
    token = venue.market().tokens[0]
    resting = buy(client, token, 0.45, "GTC")
    client.cancel_order(OrderPayload(orderID=resting["orderID"]))
    buy(client, token, 0.5, "FAK")
    notes = client.get_notifications()
    assert {1, 2} <= {note["type"] for note in notes}
    client.drop_notifications(DropNotificationParams(ids=[str(note["id"]) for note in notes]))
    assert client.get_notifications() == []


def test_scoring_is_told_of_each_order(venue: LocalVenue, client: ClobClient) -> None:
    order = buy(client, venue.market().tokens[0], 0.45, "GTC")["orderID"]
    one = client.is_order_scoring(OrderScoringParams(orderId=order))
    assert isinstance(one["scoring"], bool)
    many = client.are_orders_scoring(OrdersScoringParams(orderIds=[order]))
    assert many == {order: one["scoring"]}


def test_a_key_that_only_reads_comes_and_goes(venue: LocalVenue, client: ClobClient) -> None:
    made = client.create_readonly_api_key()
    key = made["apiKey"]
    assert key in str(client.get_readonly_api_keys())
    client.delete_readonly_api_key(key)
    assert key not in str(client.get_readonly_api_keys())


def test_a_deleted_key_opens_nothing_any_more(client: ClobClient) -> None:
    client.delete_api_key()
    with pytest.raises(PolyApiException, match="Unauthorized/Invalid api key") as refused:
        client.get_api_keys()
    assert refused.value.status_code == 401
