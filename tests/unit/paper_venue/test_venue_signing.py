"""Signatures: the official client's are accepted for what they are, forged ones for nothing."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_clob_client_v2.clob_types import CreateOrderOptions, OrderArgsV2
from py_clob_client_v2.order_builder.builder import OrderBuilder
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2
from py_clob_client_v2.signer import Signer
from py_clob_client_v2.signing import sign_clob_auth_message
from py_clob_client_v2.signing.hmac import build_hmac_signature
from venue_build import MARKET, TOKENS

from services.paper_venue.signing import (
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    EXCHANGE_V3,
    SignedOrder,
    credentials_for,
    key_request_signer,
    order_hash,
    order_signer,
    request_signature,
)
from shared.domain.ids import Wallet
from shared.domain.market import Market

KEY = "0x" + "42" * 32  # a key for tests; nothing is behind it
SIGNER = Signer(KEY, 137)
OWNER = Wallet(SIGNER.address().lower())
PROXY = "0x" + "1" * 40
NEG_RISK = msgspec.structs.replace(MARKET, neg_risk=True)
PROTOCOL_V2 = msgspec.structs.replace(MARKET, protocol="v2")


def signed(signature_type: int, *, neg_risk: bool = False, version: int = 2) -> SignedOrder:
    """Return an order built and signed by the official client."""
    funder = SIGNER.address() if signature_type == 0 else PROXY
    builder = OrderBuilder(SIGNER, signature_type, funder)
    arguments = OrderArgsV2(token_id=TOKENS[0], price=0.53, size=21.5, side="BUY")
    built = builder.build_order(
        arguments, CreateOrderOptions(tick_size="0.01", neg_risk=neg_risk), version=version
    )
    return SignedOrder(
        salt=int(built.salt),
        maker=built.maker,
        signer=built.signer,
        tokenId=built.tokenId,
        makerAmount=built.makerAmount,
        takerAmount=built.takerAmount,
        side="BUY",
        signatureType=int(built.signatureType),
        timestamp=built.timestamp,
        signature=built.signature,
    )


def official_hash(order: SignedOrder, contract: str, version: str) -> str:
    builder = ExchangeOrderBuilderV2(contract, 137, SIGNER, domain_version=version)
    typed = builder.build_order_typed_data(
        msgspec.structs.replace(order, side=0)  # type: ignore[arg-type]
    )
    return str(builder.build_order_hash(typed))


CASES = [
    (0, MARKET, EXCHANGE_V2, 2),
    (1, MARKET, EXCHANGE_V2, 2),
    (2, NEG_RISK, EXCHANGE_V2_NEG_RISK, 2),
    (3, MARKET, EXCHANGE_V2, 2),
    (0, PROTOCOL_V2, EXCHANGE_V3, 3),
    (3, PROTOCOL_V2, EXCHANGE_V3, 3),
]


@pytest.mark.parametrize(("kind", "market", "contract", "version"), CASES)
def test_orders_of_the_official_client_verify(
    kind: int, market: Market, contract: str, version: int
) -> None:
    order = signed(kind, neg_risk=market.neg_risk, version=version)
    assert order_hash(order, market) == official_hash(order, contract, str(version))
    assert order_signer(order, market) == OWNER


@pytest.mark.parametrize(("kind", "market", "contract", "version"), CASES)
def test_any_change_of_an_order_changes_its_signer(
    kind: int, market: Market, contract: str, version: int
) -> None:
    order = signed(kind, neg_risk=market.neg_risk, version=version)
    changes = {
        "salt": order.salt + 1,
        "makerAmount": "1",
        "takerAmount": "999999999",
        "side": "SELL",
        "tokenId": TOKENS[1],
        "timestamp": "1",
        "builder": "0x" + "01" * 32,
    }
    for field, value in changes.items():
        forged = msgspec.structs.replace(order, **{field: value})
        assert signer_or_none(forged, market) != OWNER, field


@pytest.mark.parametrize("kind", [0, 3])
def test_a_signature_for_another_exchange_is_worth_nothing(kind: int) -> None:
    assert signer_or_none(signed(kind), NEG_RISK) != OWNER
    assert signer_or_none(signed(kind), PROTOCOL_V2) != OWNER


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 64), st.integers(1, 255))
def test_a_flipped_byte_of_the_signature_loses_the_owner(place: int, flip: int) -> None:
    order = signed(0)
    raw = bytearray.fromhex(order.signature[2:])
    raw[place] ^= flip
    assert signer_or_none(msgspec.structs.replace(order, signature="0x" + raw.hex()), MARKET) != (
        OWNER
    )


@pytest.mark.parametrize("signature", ["0x", "0xzz", "", "0x" + "00" * 65, "0x" + "ff" * 400])
def test_nonsense_is_refused_not_crashed_on(signature: str) -> None:
    assert signer_or_none(msgspec.structs.replace(signed(0), signature=signature), MARKET) is None
    assert signer_or_none(msgspec.structs.replace(signed(3), signature=signature), MARKET) is None


def signer_or_none(order: SignedOrder, market: Market) -> Wallet | None:
    try:
        return order_signer(order, market)
    except ValueError:
        return None


def test_level_one_headers_prove_their_address_time_and_nonce() -> None:
    signature = sign_clob_auth_message(SIGNER, 1_793_318_400, 7)
    address = SIGNER.address()
    assert key_request_signer(address, "1793318400", "7", signature) == OWNER
    assert key_request_signer(address, "1793318401", "7", signature) != OWNER
    assert key_request_signer(address, "1793318400", "8", signature) != OWNER


def test_level_two_signatures_are_the_official_clients() -> None:
    secret = credentials_for(1, OWNER, 0).secret
    body = '{"orderID":"0x01"}'
    expected = build_hmac_signature(secret, "1793318400", "DELETE", "/order", body)
    assert request_signature(secret, "1793318400", "DELETE", "/order", body.encode()) == expected


def test_credentials_are_a_function_of_seed_address_and_nonce() -> None:
    first = credentials_for(1, OWNER, 0)
    assert first == credentials_for(1, OWNER, 0)
    others = [credentials_for(2, OWNER, 0), credentials_for(1, OWNER, 1)]
    assert first.key not in [other.key for other in others]
    assert first.secret not in [other.secret for other in others]
