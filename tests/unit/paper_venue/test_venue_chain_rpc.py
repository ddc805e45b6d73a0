"""JSON-RPC over the running venue: single calls, batches, errors, subscriptions."""

import json
from typing import Any

import aiohttp
import pytest
from data_bench import a_bench
from venue_bench import LEADER

from services.paper_venue.chain_logs import ORDER_FILLED, address_word

MINE = {"topics": [ORDER_FILLED, None, [address_word(LEADER)]]}


async def test_single_calls_batches_and_notifications() -> None:
    async with a_bench() as bench:
        assert (await bench.rpc("eth_chainId"))["result"] == "0x89"
        assert (await bench.rpc("net_version"))["result"] == "137"
        calls = [
            {"jsonrpc": "2.0", "id": "a", "method": "eth_blockNumber", "params": []},
            {"jsonrpc": "2.0", "method": "eth_chainId"},
            {"jsonrpc": "2.0", "id": 7, "method": "eth_mine"},
            5,
        ]
        async with bench.session.post(f"{bench.url}/rpc", json=calls) as answer:
            head, unknown, broken = await answer.json()
        assert (head["id"], head["result"]) == ("a", (await bench.rpc("eth_blockNumber"))["result"])
        assert (unknown["id"], unknown["error"]["code"]) == (7, -32_601)
        assert (broken["id"], broken["error"]["code"]) == (None, -32_600)
        async with bench.session.post(f"{bench.url}/rpc", data=b"{") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (200, -32_700)


async def test_the_leaders_logs_are_found_after_their_block() -> None:
    async with a_bench() as bench:
        start = (await bench.rpc("eth_blockNumber"))["result"]
        done = await bench.fill()
        await bench.pass_ms(1_999)
        wanted = {**MINE, "fromBlock": start, "toBlock": "latest"}
        assert (await bench.rpc("eth_getLogs", wanted))["result"] == []
        await bench.pass_ms(1)
        (log,) = (await bench.rpc("eth_getLogs", wanted))["result"]
        assert log["transactionHash"] == done["tx"]
        assert set(log) == {
            *("address", "topics", "data", "blockNumber", "transactionHash", "transactionIndex"),
            *("blockHash", "blockTimestamp", "logIndex", "removed"),
        }
        await bench.admin("chain", fail_logs=1, lag_blocks=1)
        assert "error" in await bench.rpc("eth_getLogs", wanted)
        assert (await bench.rpc("eth_getLogs", wanted))["result"] == []


async def heard(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return json.loads(await socket.receive_str(timeout=5))


async def asked(socket: aiohttp.ClientWebSocketResponse, method: str, *params: object) -> Any:
    await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return (await heard(socket))["result"]


async def test_subscribers_hear_each_block_once_and_their_logs() -> None:
    async with a_bench() as bench, bench.session.ws_connect(f"{bench.url}/rpc") as socket:
        heads = await asked(socket, "eth_subscribe", "newHeads")
        logs = await asked(socket, "eth_subscribe", "logs", MINE)
        start = int(await asked(socket, "eth_blockNumber"), 16)
        done = await bench.fill()
        await bench.pass_ms(2_000)
        first, second, told = [(await heard(socket))["params"] for _ in range(3)]
        assert {first["subscription"], second["subscription"]} == {heads}
        numbers = [int(head["result"]["number"], 16) for head in (first, second)]
        assert numbers == [start + 1, start + 2]
        assert (told["subscription"], told["result"]["transactionHash"]) == (logs, done["tx"])
        assert int(told["result"]["blockNumber"], 16) == start + 2
        assert await asked(socket, "eth_unsubscribe", logs) is True
        assert await asked(socket, "eth_unsubscribe", logs) is False
        await bench.pass_ms(1_500)
        assert (await heard(socket))["params"]["subscription"] == heads
        await bench.admin("chain", close_sockets=True)
        assert (await socket.receive(timeout=5)).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )


async def test_a_block_is_told_when_the_clock_says_so_without_anybody_asking() -> None:
    async with (
        a_bench(block_ms=20) as bench,
        bench.session.ws_connect(f"{bench.url}/rpc") as socket,
    ):
        await asked(socket, "eth_subscribe", "newHeads")
        bench.clock.ns += 20 * 1_000_000
        assert (await heard(socket))["method"] == "eth_subscription"


@pytest.mark.parametrize("params", [[], ["syncing"], ["logs", {"topics": ["0x1"]}], {"a": 1}])
async def test_a_bad_subscription_is_refused(params: object) -> None:
    async with a_bench() as bench, bench.session.ws_connect(f"{bench.url}/rpc") as socket:
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": params}
        await socket.send_json(call)
        assert (await heard(socket))["error"]["code"] == -32_602
