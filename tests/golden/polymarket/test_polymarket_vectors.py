"""Hashes, signatures and headers are those that the venue's own clients computed."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.domain.ids import TokenId, Wallet
from shared.domain.units import Price, Shares
from shared.polymarket.auth import Account, Credentials, l2_headers
from shared.polymarket.orders import OrderTerms, Signer, order_hash

SAMPLES = Path(__file__).parents[3].parent / "shared" / "polymarket" / "samples"

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")


def load(name: str) -> Any:
    return json.loads((SAMPLES / name).read_bytes())


def terms_of(vector: dict[str, Any]) -> OrderTerms:
    told, exchange = vector["order"], vector["domain"]["verifyingContract"]
    return OrderTerms(
        maker=Wallet(told["maker"].lower()),
        signer=Wallet(told["signer"].lower()),
        token=TokenId(told["tokenId"]),
        side="SELL" if told["side"] else "BUY",
        price=Price(500_000),
        size=Shares(1_000_000),
        maker_amount=int(told["makerAmount"]),
        taker_amount=int(told["takerAmount"]),
        salt=int(told["salt"]),
        timestamp_ms=int(told["timestamp"]),
        signature_type=told["signatureType"],
        neg_risk=exchange.startswith("0xe2222"),
        protocol="v2" if vector["domain"]["version"] == "3" else "v1",
        metadata=told["metadata"],
        builder=told["builder"],
    )


def test_all_order_vectors() -> None:
    vectors = load("orders/eip712-order-vectors.json")
    assert len(vectors) == 8
    for vector in vectors:
        terms = terms_of(vector)
        assert order_hash(terms) == vector["order_hash"]
        signed = Signer.from_hex(vector["private_key_anvil_0"]).sign(terms, owner="k")
        assert json.loads(signed.body)["order"]["signature"] == vector["signature"]


def test_an_order_body_has_the_documented_form() -> None:
    example = load("clob/post-order-request.json")
    vector = load("orders/eip712-order-vectors.json")[5]
    terms = terms_of(vector)
    body = Signer.from_hex(vector["private_key_anvil_0"]).sign(terms, owner="k").body
    told = json.loads(body)
    assert body == json.dumps(told, separators=(",", ":")).encode()
    assert [list(told), list(told["order"])] == [list(example), list(example["order"])]
    for name, value in example["order"].items():
        assert type(told["order"][name]) is type(value)


def test_all_auth_vectors() -> None:
    vectors = load("orders/auth-vectors.json")
    l1 = vectors["l1"]
    headers = Signer.from_hex(l1["private_key"]).l1_headers(timestamp_s=l1["timestamp"])
    assert headers["POLY_SIGNATURE"] == l1["POLY_SIGNATURE"]
    assert headers["POLY_ADDRESS"] == l1["address"]
    for l2 in vectors["l2"]:
        keys = Credentials(api_key="k", secret=l2["secret"], passphrase="p")
        account = Account(address=l1["address"], wallet=Wallet(""), credentials=keys)
        body = (l2["body"] or "").encode()
        signed = l2_headers(
            account, l2["method"], l2["path"], body=body, timestamp_s=l2["timestamp"]
        )
        assert signed["POLY_SIGNATURE"] == l2["POLY_SIGNATURE"]
