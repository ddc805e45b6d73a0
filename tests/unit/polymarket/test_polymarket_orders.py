"""An order's hash and body are those of the venue's own SDK, and its key stays hidden."""

import copy
import json
import pickle

import msgspec
import pytest
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2, OrderV2, Side, SignatureTypeV2
from py_clob_client_v2.signer import Signer as SdkSigner

from shared.domain.ids import TokenId, Wallet
from shared.domain.units import Price, Shares
from shared.polymarket.auth import Credentials
from shared.polymarket.orders import OrderTerms, Signer, order_hash

KEY = "0x" + "01" * 32
SIGNER = Signer.from_hex(KEY)
EOA = Wallet(SIGNER.address.lower())
TERMS = OrderTerms(
    maker=EOA,
    signer=EOA,
    token=TokenId("71" + "0" * 70),
    side="BUY",
    price=Price(530_000),
    size=Shares(10_000_000),
    maker_amount=5_300_000,
    taker_amount=10_000_000,
    salt=12345,
    timestamp_ms=1_793_318_400_000,
)


def changed(**fields: object) -> OrderTerms:
    return msgspec.structs.replace(TERMS, **fields)


def sdk_hash(terms: OrderTerms, chain_id: int) -> str:
    config = get_contract_config(chain_id)
    address, version = config.exchange_v2, "2"
    if terms.neg_risk:
        address = config.neg_risk_exchange_v2
    if terms.protocol == "v2":
        address, version = config.exchange_v3, "3"
    builder = ExchangeOrderBuilderV2(
        address, chain_id, SdkSigner(KEY, chain_id), domain_version=version
    )
    order = OrderV2(
        salt=str(terms.salt),
        maker=terms.maker,
        signer=terms.signer,
        tokenId=terms.token,
        makerAmount=str(terms.maker_amount),
        takerAmount=str(terms.taker_amount),
        side=Side.BUY if terms.side == "BUY" else Side.SELL,
        signatureType=SignatureTypeV2(terms.signature_type),
        timestamp=str(terms.timestamp_ms),
        metadata=terms.metadata,
        builder=terms.builder,
    )
    told: str = builder.build_order_hash(builder.build_order_typed_data(order))
    return told


@pytest.mark.parametrize("chain_id", [137, 80_002])
@pytest.mark.parametrize(
    "terms",
    [
        TERMS,
        changed(side="SELL", neg_risk=True),
        changed(protocol="v2"),
        changed(protocol="v2", neg_risk=True),
        changed(maker=Wallet("0x" + "ab" * 20), signature_type=2, salt=2**53),
        changed(maker_amount=1, taker_amount=2, timestamp_ms=3, salt=0),
        changed(metadata="0x" + "01" * 32, builder="0x" + "fe" * 32),
    ],
)
def test_the_hash_is_the_sdks(terms: OrderTerms, chain_id: int) -> None:
    assert order_hash(terms, chain_id) == sdk_hash(terms, chain_id)


def test_what_is_not_signed_does_not_change_the_hash() -> None:
    other = changed(expiration=9, order_type="GTD", post_only=True, price=Price(1), size=Shares(1))
    assert order_hash(other) == order_hash(TERMS)
    assert order_hash(changed(salt=12346)) != order_hash(TERMS)


def test_the_same_terms_give_the_same_bytes() -> None:
    assert SIGNER.sign(TERMS, owner="o") == SIGNER.sign(TERMS, owner="o")


def test_the_body_is_compact_and_says_what_the_terms_say() -> None:
    resting = changed(order_type="GTC", post_only=True)
    told = json.loads(SIGNER.sign(resting, owner="key-1").body)
    assert (told["orderType"], told["postOnly"], told["owner"]) == ("GTC", True, "key-1")
    assert told["deferExec"] is False
    order = told["order"]
    assert (order["salt"], order["makerAmount"], order["side"]) == (12345, "5300000", "BUY")
    assert order["maker"] == SIGNER.address
    assert "postOnly" not in json.loads(SIGNER.sign(TERMS, owner="o").body)
    assert b": " not in SIGNER.sign(TERMS, owner="o").body


def test_a_deposit_wallet_signs_for_itself() -> None:
    wallet = Wallet("0x" + "ab" * 20)
    terms = changed(maker=wallet, signer=wallet, signature_type=3)
    signed = SIGNER.sign(terms, owner="o")
    assert signed.hash == order_hash(terms)
    assert json.loads(signed.body)["order"]["signature"].endswith("00ba")


@pytest.mark.parametrize(
    "terms",
    [
        changed(signer=Wallet("0x" + "ab" * 20)),
        changed(maker=Wallet("0x" + "ab" * 20), signature_type=3),
        changed(salt=2**53 + 1),
        changed(salt=-1),
        changed(builder="0x05"),
    ],
)
def test_terms_that_cannot_be_signed_are_refused(terms: OrderTerms) -> None:
    with pytest.raises(ValueError, match=r"signer is|salt|32 bytes"):
        SIGNER.sign(terms, owner="o")


@pytest.mark.parametrize("neg_risk", [False, True])
def test_nothing_is_signed_for_a_protocol_we_do_not_know(neg_risk: bool) -> None:
    terms = changed(protocol="unknown", neg_risk=neg_risk)
    with pytest.raises(ValueError, match="cannot be signed for"):
        SIGNER.sign(terms, owner="o")
    with pytest.raises(ValueError, match="cannot be signed for"):
        order_hash(terms)


@pytest.mark.parametrize("text", ["", "0x12", "secret-key", "0x" + "zz" * 32, "0x" + "00" * 32])
def test_a_bad_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="not a private key") as caught:
        Signer.from_hex(text)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_neither_printed_nor_serialised() -> None:
    keys = Credentials(api_key="a", secret="c2VjcmV0", passphrase="hidden")
    for holder in (SIGNER, keys):
        shown = f"{holder} {holder!r}"
        for secret in (KEY[2:], "c2VjcmV0", "hidden>,"):
            assert secret not in shown
        with pytest.raises(TypeError):
            pickle.dumps(holder)
        with pytest.raises(TypeError):
            copy.copy(holder)
        with pytest.raises(TypeError):
            msgspec.json.encode(holder)


def test_a_secret_that_is_no_base64_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="base64") as caught:
        Credentials(api_key="a", secret="x", passphrase="p")
    assert "x'" not in str(caught.value)
