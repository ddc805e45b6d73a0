"""Keys that read, keys that are gone, accounts that may only close, and what an account is told."""

import pytest
from py_clob_client_v2.signing.eip712 import sign_clob_auth_message
from venue_bench import NOW_S, OWNER, SIGNER, Bench
from venue_caller import KEYS, Told, call, order_of, post

from services.paper_venue.signing import Credentials
from shared.domain.units import MICRO, NS_PER_S

UNAUTHORIZED = {"error": "Unauthorized/Invalid api key"}


def keys_in(told: Told) -> Credentials:
    body = told.body
    return Credentials(key=body["apiKey"], secret=body["secret"], passphrase=body["passphrase"])


async def level_1(bench: Bench, method: str, path: str) -> Told:
    signature = sign_clob_auth_message(SIGNER, NOW_S, 0)
    headers = {
        "POLY_ADDRESS": SIGNER.address(),
        "POLY_SIGNATURE": signature,
        "POLY_TIMESTAMP": str(NOW_S),
        "POLY_NONCE": "0",
    }
    async with bench.session.request(method, bench.url + path, headers=headers) as answer:
        return Told(answer.status, await answer.json(), dict(answer.headers))


async def test_a_deleted_key_opens_nothing_until_another_is_created(bench: Bench) -> None:
    assert (await call(bench, "GET", "/auth/api-keys")).body == {"apiKeys": [KEYS.key]}
    resting = (await post(bench)).body["orderID"]
    assert (await call(bench, "DELETE", "/auth/api-key"))[:2] == (200, "OK")
    for method, path in (("GET", "/data/orders"), ("DELETE", "/cancel-all")):
        assert (await call(bench, method, path))[:2] == (401, UNAUTHORIZED)
    derived = await level_1(bench, "GET", "/auth/derive-api-key")
    assert derived[:2] == (400, {"error": "Could not derive api key"})
    created = await level_1(bench, "POST", "/auth/api-key")
    fresh = keys_in(created)
    assert fresh.key != KEYS.key
    assert (await level_1(bench, "POST", "/auth/api-key")).status == 400
    assert keys_in(await level_1(bench, "GET", "/auth/derive-api-key")) == fresh
    assert (await call(bench, "GET", "/auth/api-keys", keys=fresh)).body == {"apiKeys": [fresh.key]}
    assert bench.shell.venue.orders[resting].status == "LIVE"


async def test_a_deleted_key_cannot_listen_either(bench: Bench) -> None:
    await call(bench, "DELETE", "/auth/api-key")
    async with bench.socket("/ws/user") as socket:
        auth = {"apiKey": KEYS.key, "secret": KEYS.secret, "passphrase": KEYS.passphrase}
        await socket.send_json({"type": "user", "auth": auth})
        assert (await socket.receive(timeout=5)).data is not None
        assert socket.closed


async def test_a_read_only_key_reads_and_does_nothing_else(bench: Bench) -> None:
    resting = (await post(bench)).body["orderID"]
    reader = keys_in(await call(bench, "POST", "/auth/readonly-api-key"))
    listed = await call(bench, "GET", "/auth/readonly-api-keys", keys=reader)
    assert listed.body == {"readonlyApiKeys": [reader.key]}
    assert (await call(bench, "GET", "/auth/api-keys")).body == {"apiKeys": [KEYS.key]}
    orders = await call(bench, "GET", "/data/orders", keys=reader)
    assert [each["id"] for each in orders.body["data"]] == [resting]
    assert (await call(bench, "GET", "/balance-allowance", keys=reader)).status == 200
    for method, path, body in (
        ("POST", "/order", order_of(bench)),
        ("POST", "/orders", [order_of(bench)]),
        ("DELETE", "/order", {"orderID": resting}),
        ("DELETE", "/orders", [resting]),
        ("DELETE", "/cancel-all", None),
        ("DELETE", "/cancel-market-orders", {"market": bench.condition}),
        ("POST", "/v1/heartbeats", {"heartbeat_id": ""}),
        ("POST", "/auth/readonly-api-key", None),
        ("DELETE", "/auth/api-key", None),
    ):
        refused = await call(bench, method, path, body, keys=reader)
        assert refused[:2] == (401, UNAUTHORIZED), path
    assert bench.shell.venue.orders[resting].status == "LIVE"
    gone = await call(bench, "DELETE", "/auth/readonly-api-key", {"key": reader.key})
    assert gone[:2] == (200, "OK")
    assert (await call(bench, "GET", "/data/orders", keys=reader)).status == 401
    again = await call(bench, "DELETE", "/auth/readonly-api-key", {"key": reader.key})
    assert again.status == 404


async def test_a_trading_key_is_no_read_only_key_to_delete(bench: Bench) -> None:
    told = await call(bench, "DELETE", "/auth/readonly-api-key", {"key": KEYS.key})
    assert told.status == 404
    assert (await call(bench, "GET", "/data/orders")).status == 200


async def test_in_closed_only_mode_only_sales_of_what_is_held_pass(bench: Bench) -> None:
    assert (await post(bench, "FAK", 0.5)).status == 200
    await bench.admin("account", address=OWNER, closed_only=True)
    path = "/auth/ban-status/closed-only"
    assert (await call(bench, "GET", path)).body == {"closed_only": True}
    refused = await post(bench)
    assert refused[:2] == (400, {"error": f"'{OWNER}' address in closed only mode"})
    assert (await post(bench, "FAK", 0.48, side="SELL")).body["status"] == "matched"
    naked = await post(bench, "FAK", 0.48, side="SELL")
    assert "the balance is not enough" in naked.body["error"]
    await bench.admin("account", address=OWNER, closed_only=False)
    assert (await post(bench)).status == 200


async def test_a_banned_address_trades_nothing(bench: Bench) -> None:
    await bench.admin("account", address=OWNER, banned=True)
    assert (await post(bench))[:2] == (400, {"error": f"'{OWNER}' address banned"})


async def test_an_order_scores_when_it_is_big_old_and_near_the_mid(bench: Bench) -> None:
    near = (await post(bench, price=0.47, size=60)).body["orderID"]
    far = (await post(bench, price=0.4, size=60)).body["orderID"]
    small = (await post(bench, price=0.47, size=49)).body["orderID"]
    young = await call(bench, "GET", "/order-scoring", order_id=near)
    assert young.body == {"scoring": False}
    bench.clock.ns += 30 * NS_PER_S
    scored = await call(bench, "POST", "/orders-scoring", [near, far, small, "0x00"])
    assert scored.body == {near: True, far: False, small: False, "0x00": False}


async def test_there_are_no_orders_from_before_the_migration(bench: Bench) -> None:
    told = await call(bench, "GET", "/data/pre-migration-orders")
    assert told.body == {"limit": 500, "count": 0, "next_cursor": "LTE=", "data": []}


async def test_notices_tell_cancels_fills_failures_resolutions_and_redemptions(
    bench: Bench,
) -> None:
    resting = (await post(bench)).body["orderID"]
    await call(bench, "DELETE", "/order", {"orderID": resting})
    filled = (await post(bench, "FAK", 0.5)).body
    await bench.pass_ms(6_000)
    await bench.rule("fail_settlement", count=1)
    await post(bench, "FAK", 0.5)
    await bench.pass_ms(6_000)
    await bench.admin("resolve", condition=bench.condition, payouts=["1", "0"])
    await bench.admin("activity", wallet=OWNER, type="REDEEM", condition=bench.condition, size="10")
    notices = (await call(bench, "GET", "/notifications", signature_type="0")).body
    assert [each["type"] for each in notices] == [1, 2, 8, 4, 9]
    assert {each["owner"] for each in notices} == {KEYS.key}
    cancelled, fill, _, resolved, redeemed = (each["payload"] for each in notices)
    assert (cancelled["order_id"], cancelled["matched_size"]) == (resting, "0")
    assert (fill["order_id"], fill["trade_id"]) == (filled["orderID"], filled["tradeIDs"][0])
    assert fill["transaction_hash"].startswith("0x")
    assert [token["winner"] for token in resolved["tokens"]] == [True, False]
    assert (redeemed["amount"], redeemed["conditionId"]) == ("10", bench.condition)
    first = str(notices[0]["id"])
    assert (await call(bench, "DELETE", "/notifications", ids=first)).body == "OK"
    left = (await call(bench, "GET", "/notifications")).body
    assert [each["type"] for each in left] == [2, 8, 4, 9]
    await call(bench, "DELETE", "/notifications")
    assert (await call(bench, "GET", "/notifications")).body == []
    assert (await call(bench, "DELETE", "/notifications", ids="x")).status == 400


async def test_the_balance_is_what_the_clob_saw_last(bench: Bench) -> None:
    async def balance() -> int:
        return int((await call(bench, "GET", "/balance-allowance")).body["balance"])

    assert await balance() == 1_000 * MICRO  # who is there from the start has been looked at
    await bench.admin("fund", wallet=OWNER, usd="50")
    assert await balance() == 1_000 * MICRO
    await call(bench, "GET", "/balance-allowance/update", asset_type="COLLATERAL")
    assert await balance() == 1_050 * MICRO
    await bench.admin("fund", wallet=OWNER, usd="-100")
    assert await balance() == 950 * MICRO


async def test_split_shares_cannot_be_sold_before_a_look(bench: Bench) -> None:
    await bench.admin("activity", wallet=OWNER, type="SPLIT", condition=bench.condition, size="20")
    unseen = await post(bench, "FAK", 0.48, side="SELL")
    assert "the balance is not enough -> balance: 0" in unseen.body["error"]
    token = {"asset_type": "CONDITIONAL", "token_id": bench.tokens[0]}
    assert (await call(bench, "GET", "/balance-allowance", **token)).body["balance"] == "0"
    await call(bench, "GET", "/balance-allowance/update", **token)
    told = await call(bench, "GET", "/balance-allowance", **token)
    assert told.body["balance"] == str(20 * MICRO)
    assert (await post(bench, "FAK", 0.48, side="SELL")).body["status"] == "matched"


async def test_a_revoked_allowance_stops_orders_of_its_exchange(bench: Bench) -> None:
    exchange = "0xE111180000d2663C0091e4f400237545B87B996B"
    await bench.admin("allowance", wallet=OWNER, spender=exchange, amount="0")
    refused = await post(bench, price=0.25)
    assert refused[:2] == (
        400,
        {
            "error": "not enough balance / allowance: the allowance is not enough -> "
            f"spender: {exchange}, allowance: 0, order amount: 2500000"
        },
    )
    allowances = (await call(bench, "GET", "/balance-allowance")).body["allowances"]
    assert allowances.pop(exchange) == "0"
    assert set(allowances.values()) == {str(2**256 - 1)}
    await bench.admin("allowance", wallet=OWNER, amount="unlimited")
    assert (await post(bench, price=0.25)).status == 200


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"owner": "another"}, 400, "the order owner has to be the owner of the API KEY"),
        (
            {"signer": "0x" + "1" * 40},
            400,
            "the order signer address has to be the address of the API KEY",
        ),
        (
            {"maker": "0x" + "1" * 40},
            400,
            "maker address not allowed, please use the deposit wallet flow",
        ),
        ({"salt": "salt"}, 400, "Invalid order payload"),
        ({"makerAmount": "-1"}, 400, "Invalid order payload"),
        ({"signatureType": 9}, 400, "Invalid order payload"),
        ({"orderType": "IOC"}, 400, "Invalid order payload"),
        ({"makerAmount": "5"}, 400, "invalid signature"),
        ({"tokenId": "1"}, 404, "No orderbook exists for the requested token id"),
    ],
)
async def test_wrong_orders_are_refused_in_the_venues_words(
    bench: Bench, change: dict, status: int, text: str
) -> None:
    body = order_of(bench)
    for name, value in change.items():
        (body if name in body else body["order"])[name] = value
    assert (await call(bench, "POST", "/order", body))[:2] == (status, {"error": text})


async def test_an_old_clients_order_is_told_to_update(bench: Bench) -> None:
    body = order_of(bench)
    del body["order"]["timestamp"]
    body["order"] |= {"nonce": "0", "feeRateBps": "0", "taker": "0x" + "0" * 40}
    refused = await call(bench, "POST", "/order", body)
    text = "invalid order version, please use the latest clob-client"
    assert refused[:2] == (400, {"error": text})
    assert (await call(bench, "POST", "/orders", [body])).body == {"error": text}


async def test_an_order_signed_for_the_other_exchange_has_an_invalid_signature(
    bench: Bench,
) -> None:
    bench.tokens = (await bench.admin("market", slug="three", protocol="v2"))["tokens"]
    refused = await call(bench, "POST", "/order", order_of(bench))  # signed under V2's domain
    assert refused[:2] == (400, {"error": "invalid signature"})
