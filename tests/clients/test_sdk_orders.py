"""`polymarket-client`, unchanged, trades against the running venue."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal

import pytest
from polymarket import SecureClient
from polymarket.errors import RequestRejectedError, TransactionFailedError, UserInputError
from polymarket.models.clob import AssetType, OpenOrder
from polymarket.models.clob.order_book import OrderBook
from polymarket.models.clob.order_response import AcceptedOrder, OrderResponse, RejectedOrder

from tests.clients.local_venue import KINDS, SIGNATURE_TYPES, Kind, Listed, LocalVenue
from tests.clients.sdk import connect
from tests.support.eventually import eventually_sync

LIVE_S = 600  # seconds: how far ahead the tests' GTD orders expire
pytestmark = pytest.mark.xdist_group("sdk_orders")  # one venue, four connections
WALLETS = ("EOA", "POLY_PROXY", "GNOSIS_SAFE", "DEPOSIT_WALLET")


@pytest.fixture(scope="module")
def clients(venue: LocalVenue) -> Iterator[dict[int, SecureClient]]:
    """One client a signature type: what it caches belongs to each test's own market."""
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(connect(venue, venue.account(kind)))
            for kind in SIGNATURE_TYPES
        }


@pytest.fixture
def client(clients: dict[int, SecureClient]) -> SecureClient:
    """A deposit wallet's: what new accounts are."""
    return clients[3]


@pytest.fixture
def alone(venue: LocalVenue) -> Iterator[SecureClient]:
    """A client of an account that nothing else has touched."""
    with connect(venue, venue.account(3)) as connected:
        yield connected


def accepted(answer: OrderResponse) -> AcceptedOrder:
    assert isinstance(answer, AcceptedOrder), answer
    return answer


def rest(client: SecureClient, token: str, price: str = "0.45", size: str = "10") -> AcceptedOrder:
    return accepted(client.place_limit_order(asset_id=token, price=price, size=size, side="BUY"))


def rests_until_cancelled(client: SecureClient, listed: Listed) -> None:
    """GTC: on the book and among the open orders, then neither."""
    placed = rest(client, listed.tokens[0])
    assert (placed.status, placed.trade_ids) == ("live", ())
    (found,) = client.list_open_orders(market=listed.condition).first_page().items
    assert (found.id, found.status, found.price) == (placed.order_id, "LIVE", Decimal("0.45"))
    assert (found.maker_address.lower(), found.order_type) == (client.wallet.lower(), "GTC")
    assert Decimal("0.45") in {level.price for level in book_of(client, listed).bids}
    cancelled = client.cancel_order(order_id=placed.order_id)
    assert (cancelled.canceled, cancelled.not_canceled) == ((placed.order_id,), {})
    assert client.get_order(order_id=placed.order_id).status == "CANCELED"
    again = client.cancel_order(order_id=placed.order_id)
    assert again.not_canceled == {placed.order_id: "already canceled or matched"}


def rests_until_a_time(client: SecureClient, listed: Listed) -> None:
    """GTD: keeps its expiration."""
    until = int(time.time()) + LIVE_S
    placed = client.place_limit_order(
        asset_id=listed.tokens[1], price="0.45", size="10", side="BUY", expiration=until
    )
    found = client.get_order(order_id=accepted(placed).order_id)
    assert (found.status, found.order_type) == ("LIVE", "GTD")
    assert found.expires_at is not None
    assert found.expires_at.timestamp() == until


def fills_or_dies(client: SecureClient, listed: Listed) -> None:
    """FOK: all of it at once, or nothing and a kill on record."""
    token = listed.tokens[0]
    filled = accepted(
        client.place_market_order(
            asset_id=token, side="BUY", amount="5", max_price="0.5", order_type="FOK"
        )
    )
    assert (filled.status, filled.making_amount, filled.taking_amount) == ("matched", 5, 10)
    assert client.get_order(order_id=filled.order_id).size_matched == 10
    with pytest.raises(RequestRejectedError, match="FOK orders are fully filled or killed") as kill:
        client.place_market_order(
            asset_id=token, side="BUY", amount="250", max_price="0.5", order_type="FOK"
        )
    assert kill.value.status == 400
    assert client.list_open_orders(market=listed.condition).first_page().items == ()


def fills_what_it_can(client: SecureClient, listed: Listed) -> None:
    """FAK: what stands there, the rest is cancelled; nothing there is a kill."""
    token = listed.tokens[0]
    partly = accepted(
        client.place_market_order(asset_id=token, side="BUY", amount="20", max_price="0.5")
    )
    assert (partly.status, partly.taking_amount) == ("matched", 25)
    found = client.get_order(order_id=partly.order_id)
    assert (found.status, found.size_matched) == ("CANCELED", 25)
    (tx,) = client.wait_for_order_fill_settlement(partly)
    (trade,) = client.list_account_trades(id=partly.trade_ids[0]).first_page().items
    assert (trade.size, trade.price, trade.trader_side) == (25, Decimal("0.5"), "TAKER")
    assert (trade.status, trade.transaction_hash) == ("CONFIRMED", tx)
    sold = client.place_market_order(asset_id=token, side="SELL", shares="10", min_price="0.48")
    assert accepted(sold).taking_amount == Decimal("4.8")
    with pytest.raises(RequestRejectedError, match="no orders found to match with FAK order"):
        client.place_market_order(asset_id=token, side="BUY", amount="4", max_price="0.4")


def makes_only(client: SecureClient, listed: Listed) -> None:
    """Post-only: rests, or is refused where it would take."""
    terms = {"asset_id": listed.tokens[0], "size": "10", "side": "BUY", "post_only": True}
    assert accepted(client.place_limit_order(price="0.49", **terms)).status == "live"
    with pytest.raises(RequestRejectedError, match="post-only order: order crosses book"):
        client.place_limit_order(price="0.5", **terms)


LIVES = (rests_until_cancelled, rests_until_a_time, fills_or_dies, fills_what_it_can, makes_only)


@pytest.mark.parametrize("live", LIVES, ids=lambda live: live.__name__)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_every_order_of_every_wallet_lives_in_every_market(
    venue: LocalVenue,
    clients: dict[int, SecureClient],
    signature_type: int,
    kind: Kind,
    live: Callable[[SecureClient, Listed], None],
) -> None:
    live(clients[signature_type], venue.market(kind))


@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_it_connects_as_every_wallet(clients: dict[int, SecureClient], signature_type: int) -> None:
    client = clients[signature_type]
    assert client.wallet_type == WALLETS[signature_type]
    assert (client.signer == client.wallet) is (signature_type == 0)
    assert client.credentials.key in client.fetch_api_keys()
    assert client.get_closed_only_mode() is False


def test_its_keys_are_made_once_and_derived_after(venue: LocalVenue) -> None:
    account = venue.account()
    with connect(venue, account) as made, connect(venue, account) as derived:
        assert derived.credentials == made.credentials
        given = SecureClient.create(
            private_key=account.key,
            wallet=account.wallet,
            environment=venue.environment,
            credentials=made.credentials,
        )
        with given:
            assert given.credentials == made.credentials


def test_a_wallet_that_does_not_exist_is_not_traded_with(venue: LocalVenue) -> None:
    account = venue.account(1)
    stranger = venue.account(0)._replace(wallet=account.wallet)
    unfunded = account._replace(key="0x" + "77" * 32)
    with pytest.raises(UserInputError, match=r"does not match the expected Deposit Wallet"):
        connect(venue, unfunded._replace(wallet="0x" + "7" * 40))
    with connect(venue, stranger) as client, pytest.raises(RequestRejectedError) as refused:
        rest(client, venue.market().tokens[0])
    assert refused.value.status == 400


@pytest.mark.parametrize(("kind", "asset_type"), [("v1", "CONDITIONAL"), ("v2", "CONDITIONAL-V2")])
@pytest.mark.parametrize("signature_type", SIGNATURE_TYPES)
def test_its_balance_follows_its_fills(
    venue: LocalVenue,
    clients: dict[int, SecureClient],
    signature_type: int,
    kind: Kind,
    asset_type: AssetType,
) -> None:
    client, token = clients[signature_type], venue.market(kind).tokens[0]
    before = client.get_balance_allowance(asset_type="COLLATERAL")
    client.place_market_order(asset_id=token, side="BUY", amount="5", max_price="0.5")
    after = client.get_balance_allowance(asset_type="COLLATERAL")
    assert before.balance - after.balance == 5_175_000  # 5 + 10 x 0.07 x 0.25
    assert len(after.allowances) >= 3
    held = client.get_balance_allowance(asset_type=asset_type, asset_id=token)
    assert held.balance == 10_000_000


def test_a_batch_answers_for_every_leg(venue: LocalVenue, client: SecureClient) -> None:
    token = venue.market().tokens[0]
    small = {"asset_id": token, "side": "BUY", "max_price": "0.5"}
    legs = [
        client.create_limit_order(asset_id=token, price="0.41", size="10", side="BUY"),
        client.create_market_order(amount="5", order_type="FOK", **small),
        client.create_market_order(amount="250", order_type="FOK", **small),
        client.create_market_order(asset_id=token, side="BUY", amount="4", max_price="0.4"),
    ]
    live, matched, fok, fak = client.post_orders(legs)
    assert (accepted(live).status, accepted(matched).status) == ("live", "matched")
    assert isinstance(fok, RejectedOrder)
    assert isinstance(fak, RejectedOrder)
    assert (fok.code, fak.code) == ("fok_not_filled", "fak_not_filled")


def test_cancels_reach_what_they_name(venue: LocalVenue, alone: SecureClient) -> None:
    one, other = venue.market(), venue.market("v2")
    tokens = (*one.tokens, *one.tokens, *other.tokens)
    mine = [rest(alone, token, "0.41", "5").order_id for token in tokens]
    unknown = "0x" + "0" * 64
    several = alone.cancel_orders(order_ids=[mine[0], unknown])
    assert (several.canceled, list(several.not_canceled)) == ((mine[0],), [unknown])
    of_token = alone.cancel_market_orders(asset_id=one.tokens[1])
    assert sorted(of_token.canceled) == sorted([mine[1], mine[3]])
    of_market = alone.cancel_market_orders(market=one.condition)
    assert of_market.canceled == (mine[2],)
    assert sorted(alone.cancel_all().canceled) == sorted(mine[4:])
    assert alone.list_open_orders().first_page().items == ()


def test_refusals_are_in_the_venues_words(venue: LocalVenue, client: SecureClient) -> None:
    token = venue.market().tokens[0]
    terms = {"asset_id": token, "price": "0.45", "side": "BUY"}
    order = client.create_limit_order(size="10", **terms)
    assert accepted(client.post_order(order)).status == "live"
    with pytest.raises(RequestRejectedError, match=r"is invalid\. Duplicated\."):
        client.post_order(order)
    with pytest.raises(RequestRejectedError, match=r"Size \(4\) lower than the minimum: 5"):
        client.place_limit_order(size="4", **terms)
    with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
        client.place_limit_order(size="10000", **terms)
    with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
        client.place_limit_order(asset_id=token, price="0.55", size="10", side="SELL")
    with pytest.raises(UserInputError, match=r"must conform to tick size 0\.01"):
        client.place_limit_order(asset_id=token, price="0.455", size="10", side="BUY")


def test_a_finer_tick_is_read_again(venue: LocalVenue, client: SecureClient) -> None:
    listed = venue.market()
    rest(client, listed.tokens[0])
    venue.admin("book", condition=listed.condition, bids=[["0.965", "50"]], asks=[["0.975", "50"]])
    assert book_of(client, listed).tick_size == Decimal("0.001")
    assert rest(client, listed.tokens[0], "0.966").status == "live"


def test_a_market_order_finds_its_price_in_the_book(
    venue: LocalVenue, client: SecureClient
) -> None:
    token = venue.market().tokens[0]
    bought = accepted(client.place_market_order(asset_id=token, side="BUY", amount="5"))
    assert (bought.making_amount, bought.taking_amount) == (5, 10)
    sold = accepted(client.place_market_order(asset_id=token, side="SELL", shares="10"))
    assert sold.taking_amount == Decimal("4.8")


def test_trades_come_in_pages_and_by_filter(venue: LocalVenue, alone: SecureClient) -> None:
    one, other = venue.market(), venue.market()
    taken = alone.place_market_order(asset_id=one.tokens[0], side="BUY", amount="5")
    resting = rest(alone, other.tokens[0], "0.49")
    against = {"wallet": "0x" + "9" * 40, "condition": other.condition, "outcome": 0}
    venue.admin("fill", side="SELL", size="6", price="0.49", **against)
    (as_taker,) = alone.list_account_trades(market=one.condition).first_page().items
    assert (as_taker.trader_side, as_taker.taker_order_id) == ("TAKER", accepted(taken).order_id)
    (as_maker,) = alone.list_account_trades(market=other.condition).first_page().items
    assert (as_maker.trader_side, as_maker.side) == ("MAKER", "SELL")  # the taker's side
    (leg,) = as_maker.maker_orders
    assert (leg.order_id, leg.matched_amount, leg.side) == (resting.order_id, 6, "BUY")
    everything = [trade.id for page in alone.list_account_trades() for trade in page.items]
    assert sorted(everything) == sorted([as_taker.id, as_maker.id])
    assert alone.list_account_trades(before="1").first_page().items == ()


def test_a_fill_that_fails_to_settle_is_no_fill(venue: LocalVenue, alone: SecureClient) -> None:
    token = venue.market().tokens[0]
    venue.admin("faults", fail_settlement=1)
    placed = accepted(alone.place_market_order(asset_id=token, side="BUY", amount="5"))
    with pytest.raises(TransactionFailedError, match="failed execution"):
        alone.wait_for_order_fill_settlement(placed)
    (trade,) = alone.list_account_trades(id=placed.trade_ids[0]).first_page().items
    assert trade.status == "FAILED"
    assert alone.get_balance_allowance(asset_type="COLLATERAL").balance == 1_000_000_000
    everything = {"asset_id": token, "price": "0.4", "size": "2500", "side": "BUY"}
    assert accepted(alone.place_limit_order(**everything)).status == "live"  # not a cent is missing


def test_a_delayed_order_is_neither_filled_nor_refused(
    venue: LocalVenue, client: SecureClient
) -> None:
    token = venue.market(taker_delay=True).tokens[0]
    placed = accepted(client.place_market_order(asset_id=token, side="BUY", amount="5"))
    assert (placed.status, placed.taking_amount, placed.trade_ids) == ("delayed", 0, ())
    assert client.get_order(order_id=placed.order_id).status == "DELAYED"
    refused = client.cancel_order(order_id=placed.order_id)
    assert list(refused.not_canceled) == [placed.order_id]
    found = eventually_sync(lambda: filled_or_none(client, placed.order_id))
    assert (found.size_matched, len(found.associate_trades)) == (10, 1)


def filled_or_none(client: SecureClient, order_id: str) -> OpenOrder | None:
    found = client.get_order(order_id=order_id)
    return found if found.status == "MATCHED" else None


def test_an_account_sees_and_touches_only_its_own(
    venue: LocalVenue, clients: dict[int, SecureClient]
) -> None:
    placed = rest(clients[0], venue.market().tokens[0])
    with pytest.raises(RequestRejectedError) as unknown:
        clients[1].get_order(order_id=placed.order_id)
    assert unknown.value.status == 404
    assert clients[1].cancel_order(order_id=placed.order_id).canceled == ()


def book_of(client: SecureClient, listed: Listed) -> OrderBook:
    return client.get_order_book(asset_id=listed.tokens[0])
