"""`polymarket-client`, unchanged: an account beside its orders, and prices by the batch."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from polymarket import SecureClient
from polymarket.errors import OrderHeartbeatMismatchError, RequestRejectedError
from polymarket.models.clob import PriceRequest
from polymarket.models.clob.notifications import (
    OrderCancellationNotification,
    OrderFillNotification,
)

from tests.clients.local_venue import SIGNATURE_TYPES, LocalVenue
from tests.clients.sdk import connect

pytestmark = pytest.mark.xdist_group("sdk_account")


@pytest.fixture
def client(venue: LocalVenue) -> Iterator[SecureClient]:
    with connect(venue, venue.account(3)) as connected:
        yield connected


def rest(client: SecureClient, token: str) -> str:
    placed = client.place_limit_order(asset_id=token, price="0.45", size="10", side="BUY")
    assert placed.ok, placed
    return str(placed.order_id)


def test_prices_come_by_the_batch(venue: LocalVenue, client: SecureClient) -> None:
    listed, other = venue.market(), venue.market("v2")
    tokens = [*listed.tokens, other.tokens[0]]
    assert client.get_midpoints(asset_ids=tokens) == {
        listed.tokens[0]: Decimal("0.49"),
        listed.tokens[1]: Decimal("0.51"),
        other.tokens[0]: Decimal("0.49"),
    }
    assert client.get_spreads(asset_ids=tokens) == dict.fromkeys(tokens, Decimal("0.02"))
    asked = [PriceRequest(token, side) for token in listed.tokens for side in ("BUY", "SELL")]
    assert client.get_prices(requests=asked) == {
        listed.tokens[0]: {"BUY": Decimal("0.48"), "SELL": Decimal("0.5")},
        listed.tokens[1]: {"BUY": Decimal("0.5"), "SELL": Decimal("0.52")},
    }
    client.place_market_order(asset_id=listed.tokens[0], side="BUY", amount="5", max_price="0.5")
    traded = client.get_last_trade_prices(asset_ids=[listed.tokens[0]])
    assert [(each.asset_id, each.price, each.side) for each in traded] == [
        (listed.tokens[0], Decimal("0.5"), "BUY")
    ]


def test_a_heartbeat_names_the_next_one(client: SecureClient) -> None:
    first = client.send_order_heartbeat()
    second = client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
    assert second.heartbeat_id != first.heartbeat_id
    with pytest.raises(OrderHeartbeatMismatchError) as stale:
        client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
    third = client.send_order_heartbeat(heartbeat_id=stale.value.heartbeat_id)
    assert third.heartbeat_id not in (first.heartbeat_id, second.heartbeat_id)


def test_fills_and_cancels_are_notified_until_dropped(
    venue: LocalVenue, client: SecureClient
) -> None:
    token = venue.market().tokens[0]
    cancelled = rest(client, token)
    client.cancel_order(order_id=cancelled)
    bought = client.place_market_order(asset_id=token, side="BUY", amount="5", max_price="0.5")
    assert bought.ok
    notes = {type(note): note for note in client.get_notifications()}
    assert notes[OrderCancellationNotification].payload.order_id == cancelled
    filled = notes[OrderFillNotification]
    assert (filled.payload.order_id, filled.payload.matched_size) == (bought.order_id, 10)
    assert filled.owner == client.credentials.key
    client.drop_notifications(ids=[filled.id])
    assert filled.id not in {note.id for note in client.get_notifications()}


def test_scoring_is_told_of_each_order(venue: LocalVenue, client: SecureClient) -> None:
    order = rest(client, venue.market().tokens[0])
    one = client.get_order_scoring(order_id=order)
    assert client.get_orders_scoring(order_ids=[order]) == {order: one}


@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_a_deleted_key_opens_nothing_any_more(venue: LocalVenue, signature_type: int) -> None:
    with connect(venue, venue.account(signature_type)) as client:
        assert client.credentials.key in client.fetch_api_keys()
        client.delete_api_key()
        with pytest.raises(RequestRejectedError) as refused:
            client.fetch_api_keys()
    assert refused.value.status == 401
