"""The running server over plain HTTP and WebSockets: feeds, paging, control API, faults."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest
from venue_bench import BOOK, LEADER, NOW_S, OWNER, SUBSCRIBE, Bench, frame, subscribe

from services.paper_venue.signing import credentials_for
from shared.domain.units import MICRO


async def test_the_activity_stream_tells_fills_after_its_delay(bench: Bench) -> None:
    for path in ("/", "/rtds"):
        async with bench.socket(path) as socket:
            await subscribe(socket, SUBSCRIBE)
            assert await frame(socket) == "PONG"
            done = await bench.fill(size="30")
            assert done["filled_micro"] == 30 * MICRO
            await bench.pass_ms(1_999)
            await socket.send_str("PING")
            assert await frame(socket) == "PONG", "nothing before its time"
            await bench.pass_ms(1)
            frames = [await frame(socket) for _ in range(4)]
            assert [
                (each["type"], each["payload"]["proxyWallet"] == LEADER) for each in frames
            ] == [
                ("trades", True),
                ("orders_matched", True),
                ("trades", False),
                ("trades", False),
            ]
            assert {each["payload"]["transactionHash"] for each in frames} == {done["tx"]}
            await bench.admin(
                "book", condition=bench.condition, bids=BOOK["bids"], asks=BOOK["asks"]
            )


async def test_a_subscription_without_action_or_with_an_unknown_topic_hears_nothing(
    bench: Bench,
) -> None:
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, {"subscriptions": SUBSCRIBE["subscriptions"]})
        assert await frame(socket) == "PONG"
        poisoned = [*SUBSCRIBE["subscriptions"], {"topic": "nonsense", "type": "*"}]
        await subscribe(socket, {"action": "subscribe", "subscriptions": poisoned})
        assert await frame(socket) == "PONG"
        await bench.fill(immediate=True)
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"


async def test_silence_keeps_answering_pings_and_loses_what_happened(bench: Bench) -> None:
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, SUBSCRIBE)
        assert await frame(socket) == "PONG"
        await bench.admin("faults", ws_silence_s=30)
        await bench.fill(immediate=True)
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"
        await bench.pass_ms(30_000)
        await bench.fill(immediate=True, size="7")
        assert (await frame(socket))["payload"]["size"] == 7
    rows = (await bench.get("/v2/activity", user=LEADER))["data"]
    assert [row["size"] for row in rows] == [7, 10], "the Data API knows both"


async def test_the_market_socket_dumps_books_then_tells_changes_and_trades(bench: Bench) -> None:
    async with bench.socket("/ws/market") as socket:
        ask = {"type": "market", "assets_ids": bench.tokens, "custom_feature_enabled": True}
        await subscribe(socket, ask)
        dump = await frame(socket)
        assert [book["event_type"] for book in dump] == ["book", "book"]
        assert dump[1]["bids"] == [{"price": "0.47", "size": "60"}, {"price": "0.5", "size": "25"}]
        rest = await bench.get("/book", token_id=bench.tokens[0])
        assert dump[0]["hash"] == rest["hash"]
        assert await frame(socket) == "PONG"

        await bench.admin(
            "book", condition=bench.condition, bids=[["0.49", "5"]], asks=BOOK["asks"]
        )
        change = await frame(socket)
        assert [
            (each["asset_id"], each["price"], each["size"], each["side"], each["best_bid"])
            for each in change["price_changes"]
        ] == [
            (bench.tokens[0], "0.48", "0", "BUY", "0.49"),
            (bench.tokens[0], "0.49", "5", "BUY", "0.49"),
            (bench.tokens[1], "0.52", "0", "SELL", "0.5"),
            (bench.tokens[1], "0.51", "5", "SELL", "0.5"),
        ]
        assert [(await frame(socket))["event_type"] for _ in range(2)] == ["best_bid_ask"] * 2

        done = await bench.fill(size="25")
        last = await frame(socket)
        assert (last["event_type"], last["transaction_hash"]) == ("last_trade_price", done["tx"])
        books = [(await frame(socket))[0] for _ in range(2)]
        assert books[0]["asks"] == [{"price": "0.53", "size": "60"}]
        assert books[1]["last_trade_price"] == "0.500"


async def test_odd_frames_are_taken_as_production_takes_them(bench: Bench) -> None:
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "asset_ids": bench.tokens})
        assert await frame(socket) == "PONG", "a wrong key is accepted and yields nothing"
        await socket.send_str("nonsense")
        assert await frame(socket) == "INVALID OPERATION"
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        assert len(await frame(socket)) == 1
        assert await frame(socket) == "PONG"
        await socket.send_json({"operation": "subscribe", "assets_ids": bench.tokens[:1]})
        assert await frame(socket) == "NO NEW ASSETS"
        await subscribe(socket, {"operation": "unsubscribe", "assets_ids": bench.tokens})
        assert await frame(socket) == "PONG"
        await bench.fill()
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"


async def test_the_user_socket_follows_an_order_and_its_trade_to_the_end(bench: Bench) -> None:
    async with bench.socket("/ws/user") as socket:
        keys = credentials_for(1, OWNER, 0)
        await bench.post(bench.order_body(price=0.4, size=5, kind="GTC"))  # makes the key known
        auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
        await subscribe(socket, {"type": "user", "auth": auth, "markets": [bench.condition]})
        assert await frame(socket) == "PONG"
        status, answer = await bench.post(bench.order_body(size=30))
        assert (status, answer["status"], answer["makingAmount"]) == (200, "matched", "12.5")
        await bench.pass_ms(2_000)
        await bench.pass_ms(3_000)
        seen = [await frame(socket) for _ in range(5)]
    assert [(each["event_type"], each["status"]) for each in seen] == [
        ("trade", "MATCHED"),
        ("order", "LIVE"),
        ("order", "CANCELED"),
        ("trade", "MINED"),
        ("trade", "CONFIRMED"),
    ]
    assert [each["transaction_hash"] != "" for each in seen if "size" in each] == [
        False,
        True,
        True,
    ]
    assert seen[2]["size_matched"] == "25"


async def test_wrong_credentials_close_the_user_socket(bench: Bench) -> None:
    async with bench.socket("/ws/user") as socket:
        auth = {"apiKey": "no", "secret": "no", "passphrase": "no"}
        await socket.send_json({"type": "user", "auth": auth})
        assert (await socket.receive(timeout=5)).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        )


async def test_activity_pages_in_both_directions_without_gap_or_repeat(bench: Bench) -> None:
    for number in range(23):
        await bench.fill(exact=True, price="0.5", size=str(number + 1))
        await bench.pass_ms(400)
    await bench.pass_ms(3_000)
    for direction, sizes in (("DESC", range(23, 0, -1)), ("ASC", range(1, 24))):
        found, cursor = [], None
        while True:
            query = {"user": LEADER, "limit": 5, "sort_direction": direction}
            page = await bench.get(
                "/v2/activity", **query, **({"cursor": cursor} if cursor else {})
            )
            found += [row["size"] for row in page["data"]]
            cursor = page["pagination"]["next_cursor"]
            assert page["pagination"]["has_more"] == (cursor is not None)
            if cursor is None:
                break
        assert found == list(sizes)
    recent = await bench.get("/v2/activity", user=LEADER, start=NOW_S + 9, end=NOW_S + 9)
    assert {row["timestamp"] for row in recent["data"]} == {NOW_S + 9}


async def test_trades_hide_makers_and_positions_hide_dust_unless_asked(bench: Bench) -> None:
    await bench.post(bench.order_body(kind="GTC", price=0.49, size=10))
    await bench.fill(side="SELL", size="10")
    await bench.fill(wallet="0x" + "e" * 40, size="0.05")
    await bench.pass_ms(3_000)
    hidden = await bench.get("/v2/trades", user=OWNER)
    shown = await bench.get("/v2/trades", user=OWNER, taker_only="false")
    assert (len(hidden["data"]), len(shown["data"])) == (0, 1)
    assert (await bench.get("/v2/trades", user=f"{OWNER},{LEADER}"))["data"] == []
    small = {"user": "0x" + "e" * 40}
    assert (await bench.get("/v2/positions", **small))["data"] == []
    dust = await bench.get("/v2/positions", **small, filter_amount=0)
    assert [row["current_size"] for row in dust["data"]] == [0.05]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v2/activity", "user"),
        ("/v2/activity?user=me", "user"),
        (f"/v2/activity?user={LEADER}&offset=5", "offset"),
        (f"/v2/activity?user={LEADER}&cursor=abc", "cursor"),
        (f"/v2/activity?user={LEADER}&limit=many", "limit"),
        ("/v2/positions", "user"),
        ("/v2/trades?start=1", "start"),
        ("/v2/resolutions?condition_id=0x12", "condition_id"),
        (f"/v2/resolutions?condition_id=0x{'01' * 31}", "condition"),
    ],
)
async def test_the_data_api_names_the_bad_parameter(
    bench: Bench, path: str, parameter: str
) -> None:
    async with bench.session.get(bench.url + path) as answer:
        body = await answer.json()
    assert answer.status == 400
    assert (body["parameter"], body["code"]) == (parameter, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/book", None, 400),
        ("GET", "/book?token_id=5", None, 404),
        ("GET", "/clob-markets/0x12", None, 404),
        ("POST", "/books", b"{", 400),
        ("POST", "/order", b"\xff\xfe", 401),
        ("POST", "/admin/fill", b"[]", 400),
        ("POST", "/admin/fill", b'{"wallet":1}', 400),
        ("POST", "/admin/market", b'{"slug":"x","tick":"abc"}', 400),
        ("POST", "/admin/book", b'{"condition":"0x12"}', 400),
        ("GET", "/auth/derive-api-key", None, 401),
        ("GET", "/data/orders", None, 401),
        ("PUT", "/order", None, 405),
    ],
)
async def test_bad_requests_get_json_and_do_no_harm(
    bench: Bench, method: str, path: str, body: bytes | None, status: int
) -> None:
    async with bench.session.request(method, bench.url + path, data=body) as answer:
        assert answer.status == status
        assert "error" in await answer.json()
    assert await bench.get("/ok") == "OK"


async def test_malformed_orders_with_good_headers_are_refused(bench: Bench) -> None:
    good = json.loads(bench.order_body())
    for field, value in (("makerAmount", "x"), ("tokenId", 5), ("maker", "0x1"), ("side", "HOLD")):
        bad = {**good, "order": {**good["order"], field: value}}
        status, answer = await bench.post(json.dumps(bad, separators=(",", ":")))
        assert status in (400, 404), field
        assert answer["error"]
    wrong = {**good, "order": {**good["order"], "signature": "0x" + "11" * 65}}
    assert await bench.post(json.dumps(wrong)) == (400, {"error": "invalid signature"})
    other = {**good, "owner": "somebody"}
    assert "owner of the API KEY" in (await bench.post(json.dumps(other)))[1]["error"]


async def test_a_lost_answer_is_an_order_that_stands(bench: Bench) -> None:
    await bench.admin("faults", lost_answer=1)
    body = bench.order_body()
    with pytest.raises(aiohttp.ClientError):
        await bench.post(body)
    assert "Duplicated" in (await bench.post(body))[1]["error"]
    posted = await bench.get("/admin/orders")
    assert [order["status"] for order in posted["orders"]] == [200, 400]
    assert posted["orders"][0]["received_ns"] == bench.clock.ns


async def test_requested_refusals_and_server_errors_run_out(bench: Bench) -> None:
    await bench.admin("faults", reject_next=1, status=503, body={"error": "trading is disabled"})
    assert await bench.post(bench.order_body()) == (503, {"error": "trading is disabled"})
    await bench.admin("faults", rest_5xx=2)
    assert "error" in await bench.get("/ok")
    assert "error" in await bench.get("/ok")
    assert (await bench.post(bench.order_body()))[0] == 200


async def test_an_outside_trade_moves_the_accounts_real_balances(bench: Bench) -> None:
    trade = {"wallet": OWNER, "condition": bench.condition, "outcome": 0, "side": "BUY"}
    done = await bench.admin("trade-outside", **trade, size="10")
    await bench.pass_ms(3_000)
    rows = await bench.get("/v2/activity", user=OWNER)
    assert [row["transaction_hash"] for row in rows["data"]] == [done["tx"]]
    headers = bench.signed("GET", "/balance-allowance")
    async with bench.session.get(f"{bench.url}/balance-allowance", headers=headers) as answer:
        assert (await answer.json())["balance"] == "994825000"


async def test_bulk_fills_splits_and_resolution(bench: Bench) -> None:
    each = {
        "wallet": LEADER,
        "condition": bench.condition,
        "outcome": 1,
        "side": "BUY",
        "size": "2",
        "price": "0.6",
        "exact": True,
    }
    done = await bench.admin("fills", fills=[each] * 50, immediate=True)
    assert done["executed"] == 50
    await bench.admin("activity", wallet=LEADER, type="SPLIT", condition=bench.condition, size="10")
    await bench.admin("resolve", condition=bench.condition, payouts=["0", "1"])
    async with bench.session.get(f"{bench.url}/book", params={"token_id": bench.tokens[0]}) as gone:
        assert gone.status == 404
    await bench.admin(
        "activity", wallet=LEADER, type="REDEEM", condition=bench.condition, size="500"
    )
    await bench.pass_ms(3_000)
    kinds = await bench.get("/v2/activity", user=LEADER, type="SPLIT,REDEEM")
    assert [(row["type"], row["usdc_size"]) for row in kinds["data"]] == [
        ("REDEEM", 110),
        ("SPLIT", 10),
    ]
    resolved = await bench.get("/v2/resolutions", condition_id=bench.condition)
    assert resolved["data"][0]["payouts"] == [0, MICRO]
    assert (await bench.get("/admin/ledger"))["count"] == 50
    (market,) = await bench.get("/markets", condition_ids=bench.condition)
    assert (market["closed"], market["acceptingOrders"]) == (False, False)
    await bench.pass_ms(300_000)
    (market,) = await bench.get("/markets", condition_ids=bench.condition)
    assert (market["closed"], json.loads(market["clobTokenIds"])) == (True, bench.tokens)


async def test_as_a_process_it_says_where_it_is_and_stops_on_a_signal(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.paper_venue", "--speed", "500", "--leaders", "synthetic"),
        *("--fund", f"{OWNER}=100", "--ready-file", str(ready)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert process.stdout is not None
    line = msgspec.json.decode(await asyncio.wait_for(process.stdout.readline(), 30))
    assert json.loads(ready.read_text())["url"] == line["url"]
    async with aiohttp.ClientSession() as session, session.ws_connect(line["ws_url"]) as socket:
        await socket.send_json(SUBSCRIBE)
        told = json.loads(await socket.receive_str(timeout=30))
        assert told["payload"]["slug"].startswith("btc-updown-15m-")
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), 10)
    assert process.returncode == 0


async def test_frames_are_lost_doubled_and_garbled_on_request(bench: Bench) -> None:
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, {**SUBSCRIBE, "subscriptions": SUBSCRIBE["subscriptions"][:1]})
        assert await frame(socket) == "PONG"
        await bench.admin("faults", drop_frames=1)
        await bench.fill(immediate=True)
        assert (await frame(socket))["payload"]["proxyWallet"] != LEADER, "the taker's was lost"
        await bench.admin("faults", twice_frames=1, garbage_frames=1)
        await bench.fill(immediate=True)
        assert await frame(socket) == '{"topic":"activity","type":'
        assert await frame(socket) == await frame(socket)


async def test_sockets_can_be_cut_without_a_goodbye(bench: Bench) -> None:
    async with bench.socket("/rtds") as stream, bench.socket("/ws/market") as market:
        for socket in (stream, market):
            await subscribe(socket, {})
        await stream.receive(timeout=5)
        await bench.admin("faults", close_sockets="stream")
        ended = await stream.receive(timeout=5)
        assert ended.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert not market.closed


async def test_stale_data_and_broken_answers_on_request(bench: Bench) -> None:
    await bench.admin("faults", stale_data_s=60)
    await bench.pass_ms(10)
    await bench.fill(immediate=True)
    assert (await bench.get("/v2/activity", user=LEADER))["data"] == []
    await bench.pass_ms(60_000)
    assert len((await bench.get("/v2/activity", user=LEADER))["data"]) == 1
    for fault, status, text in (("rest_429", 429, "rate limit"), ("rest_empty", 200, "")):
        await bench.admin("faults", **{fault: 1})
        async with bench.session.get(f"{bench.url}/time") as answer:
            assert answer.status == status
            assert text in await answer.text()


async def test_a_lost_request_leaves_nothing_behind(bench: Bench) -> None:
    await bench.admin("faults", lost_request=1)
    body = bench.order_body()
    with pytest.raises(aiohttp.ClientError):
        await bench.post(body)
    assert (await bench.post(body))[0] == 200


async def test_a_failed_settlement_gives_the_dollars_back(bench: Bench) -> None:
    await bench.admin("faults", fail_settlement=1)
    _, answer = await bench.post(bench.order_body())
    await bench.pass_ms(6_000)
    headers = bench.signed("GET", "/data/trades")
    async with bench.session.get(f"{bench.url}/data/trades", headers=headers) as page:
        (trade,) = (await page.json())["data"]
    assert (trade["id"], trade["status"]) == (answer["tradeIDs"][0], "TRADE_STATUS_FAILED")
    assert (await bench.get("/v2/positions", user=OWNER))["data"] == []


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("POLY_SIGNATURE", "A" * 43 + "="),
        ("POLY_PASSPHRASE", "0" * 64),
        ("POLY_API_KEY", "00000000-0000-0000-0000-000000000000"),
        ("POLY_ADDRESS", LEADER),
        ("POLY_TIMESTAMP", str(NOW_S + 1)),
        ("POLY_TIMESTAMP", "soon"),
    ],
)
async def test_account_calls_need_every_header_right(bench: Bench, header: str, value: str) -> None:
    url, good = f"{bench.url}/data/orders", bench.signed("GET", "/data/orders")
    async with bench.session.get(url, headers=good, params={"market": "0x1"}) as answer:
        assert answer.status == 200, "the query is no part of what is signed"
    async with bench.session.get(url, headers={**good, header: value}) as answer:
        assert answer.status == 401
        assert await answer.json() == {"error": "Unauthorized/Invalid api key"}


async def test_a_signature_covers_the_body_and_is_not_good_for_ever(bench: Bench) -> None:
    body = bench.order_body()
    headers = bench.signed("POST", "/order", body)
    url = f"{bench.url}/order"
    async with bench.session.post(url, data=body + " ", headers=headers) as answer:
        assert answer.status == 401
    await bench.pass_ms(301_000)
    async with bench.session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 401


async def test_the_data_api_is_behind_the_stream(bench: Bench) -> None:
    await bench.fill()
    await bench.pass_ms(2_899)
    assert (await bench.get("/v2/activity", user=LEADER))["data"] == []
    assert (await bench.get("/v2/trades", user=LEADER))["data"] == []
    assert len((await bench.get("/v2/positions", user=LEADER))["data"]) == 1, "settled at MINED"
    await bench.pass_ms(1)
    assert len((await bench.get("/v2/activity", user=LEADER))["data"]) == 1
    assert len((await bench.get("/v2/trades", user=LEADER))["data"]) == 1
