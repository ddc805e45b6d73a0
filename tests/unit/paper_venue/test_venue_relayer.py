"""The relayer and the node refuse what nobody signed, and words that are no transaction."""

from typing import Any

import pytest
from eth_account import Account

from tests.unit.paper_venue.data_bench import Bench, a_bench

KEY = "0x" + "5c" * 32  # a throw-away key
OWNER = Account.from_key(KEY).address
WALLET = "0x" + "d1" * 20
HEADERS = {"RELAYER_API_KEY": "any"}
BATCH: dict[str, Any] = {
    "type": "WALLET",
    "from": OWNER,
    "to": "0x" + "00" * 20,
    "nonce": "0",
    "signature": "0x" + "11" * 65,
    "depositWalletParams": {"depositWallet": WALLET, "deadline": "9999999999", "calls": []},
}
SAFE: dict[str, Any] = {**BATCH, "type": "SAFE", "proxyWallet": WALLET, "data": "0x1234"}


async def submit(bench: Bench, body: object, **headers: str) -> tuple[int, str]:
    async with bench.session.post(
        f"{bench.url}/submit", json=body, headers=headers or HEADERS
    ) as answer:
        told: dict[str, Any] = await answer.json()
        return answer.status, str(told.get("error"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "invalid transaction"),
        ({**BATCH, "type": "SAFE-CREATE"}, "invalid transaction"),
        ({**BATCH, "nonce": "1"}, "batch nonce 1 does not match on-chain nonce 0"),
        ({**BATCH, "nonce": "one"}, "invalid transaction"),
        ({**BATCH, "from": "0x12"}, "invalid transaction"),
        ({**BATCH, "from": "0x" + "77" * 20}, "no wallet of"),
        ({**BATCH, "depositWalletParams": None}, "depositWalletParams is missing"),
        ({**BATCH, "signature": "0x12"}, "invalid transaction"),
        ({**BATCH, "signature": "zz"}, "invalid transaction"),
        (BATCH, "invalid"),
        ({**SAFE, "signature": "0x"}, "invalid transaction"),
        ({**SAFE, "signatureParams": {"operation": "-1"}}, "invalid transaction"),
        ({**SAFE, "type": "PROXY"}, "does not act for wallets of this type"),
        ({**SAFE, "data": "0xzz"}, "invalid transaction"),
    ],
)
async def test_what_nobody_signed_is_refused(body: object, says: str) -> None:
    async with a_bench() as bench:
        await bench.admin("fund", wallet=WALLET, owner=OWNER, usd="10")
        status, error = await submit(bench, body)
        assert status == 400, error
        assert says in error


async def test_without_a_key_nothing_is_relayed() -> None:
    async with a_bench() as bench:
        assert await submit(bench, BATCH, X="y") == (401, "invalid authorization")


@pytest.mark.parametrize("raw", ["", "0x", "0xzz", "0x1234", "0x02c0", "0xc0", 7])
async def test_a_node_refuses_what_is_no_signed_transaction(raw: object) -> None:
    async with a_bench() as bench:
        assert (await bench.rpc("eth_sendRawTransaction", raw))["error"]["code"] == -32602
        assert "error" in await bench.rpc("eth_call", {"to": WALLET, "data": "0x12345678"})
        assert "error" in await bench.rpc("eth_getTransactionCount", "nobody")
        assert "error" in await bench.rpc("eth_getTransactionCount")


async def test_a_nonce_is_used_once() -> None:
    async with a_bench() as bench:
        made = await bench.admin("market", slug="m", bids=[["0.4", "5"]], asks=[["0.5", "5"]])
        await bench.admin("fund", wallet=OWNER, usd="10")
        await bench.admin("resolve", condition=made["condition"], payouts=["1", "0"])
        sent = await bench.rpc("eth_sendRawTransaction", redemption(made["condition"], nonce=0))
        assert sent["result"].startswith("0x")
        assert (await bench.rpc("eth_getTransactionCount", OWNER))["result"] == "0x1"
        again = await bench.rpc("eth_sendRawTransaction", redemption(made["condition"], nonce=0))
        assert "nonce too low" in again["error"]["message"]
        ahead = await bench.rpc("eth_sendRawTransaction", redemption(made["condition"], nonce=5))
        assert "nonce too high" in ahead["error"]["message"]


def redemption(condition: str, nonce: int) -> str:
    selector = "01b7037c"  # redeemPositions(address,bytes32,bytes32,uint256[])
    words = ["00" * 32, "00" * 32, condition[2:], f"{128:064x}", f"{0:064x}"]
    transaction = {
        "to": "0xAdA100Db00Ca00073811820692005400218FcE1f",
        "data": "0x" + selector + "".join(words),
        "value": 0,
        "gas": 200_000,
        "gasPrice": 1,
        "nonce": nonce,
        "chainId": 137,
    }
    return "0x" + Account.sign_transaction(transaction, KEY).raw_transaction.hex()
