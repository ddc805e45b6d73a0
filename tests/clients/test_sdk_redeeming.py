"""`polymarket-client`, unchanged: what a market paid is redeemed, by each kind of wallet."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from polymarket import SecureClient
from polymarket._internal.actions.relayer.calls import ctf_redeem_positions_call
from polymarket.auth import RelayerApiKey
from polymarket.environments import PRODUCTION
from polymarket.errors import (
    RequestRejectedError,
    TransactionFailedError,
    UnexpectedResponseError,
    UserInputError,
)

from shared.domain.units import MICRO
from tests.clients.local_venue import (
    KINDS,
    SIGNATURE_TYPES,
    Account,
    Kind,
    Listed,
    LocalVenue,
    local_venue,
)
from tests.clients.sdk import connect

pytestmark = pytest.mark.xdist_group("sdk_redeeming")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVenue]:
    """A venue whose Gamma knows at once that a market is over."""
    with local_venue(tmp_path_factory.mktemp("venue"), gamma_close_delay_s=0) as running:
        yield running


@pytest.fixture(params=SIGNATURE_TYPES, ids=("eoa", "proxy", "safe", "deposit"))
def account(request: pytest.FixtureRequest, venue: LocalVenue) -> Account:
    return venue.account(request.param)


@pytest.fixture
def client(venue: LocalVenue, account: Account) -> Iterator[SecureClient]:
    with connect(venue, account, key_of(account)) as connected:
        yield connected


def key_of(account: Account) -> RelayerApiKey:
    return RelayerApiKey(key="a-relayer-key", address=account.owner)


def buy(client: SecureClient, listed: Listed) -> None:
    token = listed.tokens[0]
    client.place_market_order(asset_id=token, side="BUY", amount="10", max_price="0.5")


def cash_of(venue: LocalVenue, account: Account) -> int:
    owner = account.owner if account.signature_type else ""
    told = venue.admin("fund", wallet=account.wallet, usd="0", owner=owner)
    return int(told["usd_micro"]) // MICRO


@pytest.mark.parametrize("kind", KINDS)
def test_a_winner_is_paid_once(
    venue: LocalVenue, client: SecureClient, account: Account, kind: Kind
) -> None:
    listed = venue.market(kind)
    buy(client, listed)
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    before = cash_of(venue, account)
    outcome = client.redeem_positions(condition_id=listed.condition).wait()
    assert outcome.transaction_hash.startswith("0x")
    assert cash_of(venue, account) - before == 20
    rows = client.list_activity(user=account.wallet, activity_types=["REDEEM"]).first_page().items
    assert [(row.condition_id, row.amount) for row in rows] == [(listed.condition, Decimal(20))]


def test_redeeming_again_moves_nothing(
    venue: LocalVenue, client: SecureClient, account: Account
) -> None:
    listed = venue.market()
    buy(client, listed)
    venue.admin("resolve", condition=listed.condition, payouts=["0.5", "0.5"])
    client.redeem_positions(condition_id=listed.condition).wait()
    paid = cash_of(venue, account)
    client.redeem_positions(condition_id=listed.condition).wait()
    assert cash_of(venue, account) == paid


def test_a_market_that_is_not_over_is_not_redeemed(
    venue: LocalVenue, client: SecureClient, account: Account
) -> None:
    listed = venue.market()
    buy(client, listed)
    with pytest.raises(UserInputError, match="No market found"):  # it asks for closed ones
        client.redeem_positions(condition_id=listed.condition)


def test_the_chain_undoes_a_redemption_before_the_result(
    venue: LocalVenue, client: SecureClient
) -> None:
    listed = venue.market()
    call = ctf_redeem_positions_call(
        ctf=PRODUCTION._config.collateral_adapter,
        collateral=PRODUCTION._config.collateral_token,
        condition_id=listed.condition,
    )
    with pytest.raises(TransactionFailedError, match="reverted"):
        client.execute_transaction(calls=[call]).wait()


def test_nothing_but_redeeming_is_done_for_a_wallet(client: SecureClient) -> None:
    token = PRODUCTION._config.collateral_token
    with pytest.raises((RequestRejectedError, UnexpectedResponseError), match="redemptions"):
        client.approve_erc20(token_address=token, spender_address=token, amount=1)


@pytest.mark.parametrize("account", [3], indirect=True)
def test_the_relayer_wants_a_key(venue: LocalVenue, account: Account) -> None:
    listed = venue.market()
    with connect(venue, account) as client:
        buy(client, listed)
        venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
        with pytest.raises(UserInputError, match="Relayer API Key"):
            client.redeem_positions(condition_id=listed.condition)


@pytest.mark.parametrize("account", [1, 2, 3], indirect=True)
def test_a_strangers_signature_moves_nobodys_wallet(venue: LocalVenue, account: Account) -> None:
    listed = venue.market()
    with connect(venue, account, key_of(account)) as client:
        buy(client, listed)
        venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
        client._ctx.signer._private_key = b"f" * 32
        with pytest.raises(RequestRejectedError, match="invalid signature"):
            client.redeem_positions(condition_id=listed.condition)
