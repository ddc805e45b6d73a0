"""The chain's logs become rows, whole transactions of them, or a reason; a node's refusals too."""

import json
from typing import Any

import httpx
import msgspec
import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import MICRO, NS_PER_S
from shared.polymarket import chain
from shared.polymarket.chain import EXCHANGES, ORDER_FILLED, UNVERIFIED, Filled, Log, Mined
from shared.polymarket.chain_feed import ChainFeed, Sighted, batches
from shared.polymarket.chain_node import Head, Node, NodeRefused
from shared.polymarket.errors import Garbage, Unavailable, WireError
from shared.polymarket.parse import is_position_id
from tests.unit.polymarket.polymarket_fake import Fake

LEADER, OTHER = Wallet("0x" + "1e" * 20), Wallet("0x" + "2f" * 20)
SIGNATURE = (
    "OrderFilled(bytes32,address,address,uint8,uint256,uint256,uint256,uint256,bytes32,bytes32)"
)
BLOCK, BLOCK_S = 95_020_670, 1_791_236_156
COMBO = (3 << 248) | 7
TOKEN = 71 * 10**70
UINT = (1 << 256) - 1


def data(*words: int) -> str:
    return "0x" + "".join(f"{word:064x}" for word in words)


def a_log(**changed: Any) -> dict[str, Any]:
    """Return a log of a BUY of 20 shares for 9 dollars, as a node writes it."""
    told = {
        "address": EXCHANGES[0],
        "topics": [
            ORDER_FILLED,
            "0x" + "0a" * 32,
            chain.address_word(LEADER),
            chain.address_word(EXCHANGES[0]),
        ],
        "data": data(0, TOKEN, 9 * MICRO, 20 * MICRO, 4, 0, 0),
        "blockNumber": hex(BLOCK),
        "transactionHash": "0x" + "ab" * 32,
        "transactionIndex": "0x1",
        "blockHash": "0x" + "cd" * 32,
        "logIndex": "0x1a",
        "blockTimestamp": hex(BLOCK_S),
        "removed": False,
    }
    return {key: value for key, value in (told | changed).items() if value is not None}


def raws(*logs: object) -> list[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(log)) for log in logs]


def decoded(**changed: Any) -> Filled:
    told = chain.fill(msgspec.convert(a_log(**changed), Log))
    assert isinstance(told, Filled)
    return told


# --- one log ----------------------------------------------------------------------------------


def test_the_event_is_known_by_the_hash_of_its_signature() -> None:
    assert "0x" + keccak(text=SIGNATURE).hex() == ORDER_FILLED


def test_a_buy_gives_dollars_and_gets_shares() -> None:
    told = decoded()
    assert (told.wallet, told.token, told.side) == (LEADER, str(TOKEN), "BUY")
    assert (told.size, told.price) == (20 * MICRO, 450_000)
    assert (told.tx, told.block, told.index) == ("0x" + "ab" * 32, BLOCK, 26)
    assert (told.exchange, told.venue_ns) == (EXCHANGES[0], BLOCK_S * NS_PER_S)


def test_a_sale_gives_shares_and_gets_dollars() -> None:
    told = decoded(data=data(1, TOKEN, 20 * MICRO, 9 * MICRO, 0, 0, 0))
    assert (told.side, told.size, told.price) == ("SELL", 20 * MICRO, 450_000)


def test_a_maker_s_log_is_his_whoever_took_it() -> None:
    topics = [ORDER_FILLED, "0x" + "0a" * 32, chain.address_word(OTHER), chain.address_word(LEADER)]
    assert decoded(topics=topics).wallet == OTHER


def test_a_price_is_the_nearest_micro_dollar() -> None:
    assert decoded(data=data(0, TOKEN, 1 * MICRO, 3 * MICRO, 0, 0, 0)).price == 333_333
    assert decoded(data=data(0, TOKEN, 2 * MICRO, 3 * MICRO, 0, 0, 0)).price == 666_667


def test_letter_case_means_nothing() -> None:
    upper = decoded(
        address="0xE111180000d2663C0091e4f400237545B87B996B",
        topics=[topic.replace("e", "E") for topic in a_log()["topics"]],
        transactionHash="0x" + "AB" * 32,
    )
    assert upper == decoded()


def test_a_row_has_the_block_s_time_and_the_market_s_outcome() -> None:
    row = chain.activity(decoded(), ConditionId("0x" + "c1" * 32), 1)
    assert (row.action, row.condition, row.outcome) == ("TRADE", "0x" + "c1" * 32, 1)
    assert (row.venue_ns, row.price) == (BLOCK_S * NS_PER_S, 450_000)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"removed": True}, "removed"),
        ({"address": "0x4bfb41d5b3570defd03c39a9a4d8de6bd8b8982e"}, "another contract"),
        ({"topics": ["0x" + "55" * 32]}, "another event"),
        ({"topics": []}, "another event"),
        ({"data": data(0, COMBO, 1, 2, 0, 0, 0)}, "a combo"),
    ],
)
def test_what_is_none_of_our_fills_is_skipped(changed: dict[str, Any], why: str) -> None:
    assert is_position_id(str(COMBO))  # type: ignore[arg-type]
    assert chain.fill(msgspec.convert(a_log(**changed), Log)) == why


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"topics": a_log()["topics"][:3]}, "not four topics"),
    ({"topics": [*a_log()["topics"][:2], "0x" + "1e" * 32, "0x"]}, "not an address"),
    ({"topics": [*a_log()["topics"][:2], "0x" + "0" * 24 + "1e" * 19, "0x"]}, "not a wallet"),
    ({"data": "0x"}, "not 7 words"),
    ({"data": data(0, TOKEN, 1, 2, 0, 0)}, "not 7 words"),
    ({"data": data(0, TOKEN, 1, 2, 0, 0, 0, 0)}, "not 7 words"),
    ({"data": data(0, TOKEN, 1, 2, 0, 0, 0)[:-1] + "g"}, "not a hex number"),
    ({"data": data(2, TOKEN, 1, 2, 0, 0, 0)}, "neither BUY nor SELL"),
    ({"data": data(0, 0, 1, 2, 0, 0, 0)}, "not a canonical decimal token"),
    ({"data": data(0, TOKEN, 0, 2, 0, 0, 0)}, "not an amount"),
    ({"data": data(0, TOKEN, 1, 0, 0, 0, 0)}, "not an amount"),
    ({"data": data(0, TOKEN, 1, UINT, 0, 0, 0)}, "not an amount"),
    ({"data": data(0, TOKEN, 2, 1, 0, 0, 0)}, "not strictly between"),
    ({"data": data(1, TOKEN, 2, 2, 0, 0, 0)}, "not strictly between"),
    ({"blockNumber": None}, "not a hex number"),
    ({"blockNumber": "0x1_0"}, "not a hex number"),
    ({"logIndex": "26"}, "not a hex number"),
    ({"blockTimestamp": "0x"}, "not a hex number"),
    ({"transactionHash": "0x12"}, "not a transaction hash"),
    ({"topics": "0x"}, "Expected `array`"),
]


@pytest.mark.parametrize(("changed", "why"), BROKEN)
def test_what_cannot_be_read_is_garbage_with_its_reason(changed: dict[str, Any], why: str) -> None:
    found = chain.mined(raws(a_log(**changed)))
    (garbage,) = found.garbage
    assert why in garbage.reason
    assert (found.transactions, found.left) == ([], 1)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(a_log())),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=5),
    )
)
def test_no_log_whatever_is_an_exception(changed: dict[str, Any]) -> None:
    found = chain.mined(raws(a_log() | changed))
    assert len(found.transactions) + found.skipped.total() + len(found.garbage) == 1


# --- transactions -----------------------------------------------------------------------------


def shown(found: Mined) -> list[list[int]]:
    return [[fill.index for fill in fills] for fills in found.transactions]


def test_a_transaction_s_logs_are_together_in_the_chain_s_order_once() -> None:
    later = {"transactionHash": "0x" + "ac" * 32, "blockNumber": hex(BLOCK + 1), "logIndex": "0x2"}
    logs = [a_log(**later), a_log(logIndex="0x9"), a_log(), a_log(logIndex="0x9")]
    assert shown(chain.mined(raws(*logs))) == [[9, 26], [2]]


def test_of_a_transaction_with_an_unreadable_log_nothing_is_told() -> None:
    other = a_log(transactionHash="0x" + "ac" * 32)
    found = chain.mined(raws(a_log(), a_log(logIndex="0x1b", data="0x"), other))
    assert [fills[0].tx for fills in found.transactions] == ["0x" + "ac" * 32]
    assert (found.left, len(found.garbage)) == (1, 1)


def test_a_log_of_no_transaction_may_be_of_any() -> None:
    found = chain.mined(raws(a_log(), {"topics": 5}))
    assert (found.transactions, found.left) == ([], 2)


def test_a_transaction_in_two_blocks_was_being_replaced() -> None:
    found = chain.mined(raws(a_log(), a_log(blockNumber=hex(BLOCK + 1), logIndex="0x1")))
    assert (found.transactions, found.left, found.garbage) == ([], 1, [])


def test_logs_of_other_events_take_nothing_away() -> None:
    found = chain.mined(raws(a_log(), a_log(topics=["0x" + "55" * 32], logIndex="0x1b")))
    assert shown(found) == [[26]]
    assert found.skipped == {"another event": 1}


# --- a node -----------------------------------------------------------------------------------


def ok(result: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def no(code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": text}}


def a_node(*answers: Any) -> tuple[Node, Fake]:
    fake = Fake(*answers)
    return Node(fake.http, "http://node.test/v2/hidden"), fake


def asked(fake: Fake) -> list[tuple[str, Any]]:
    bodies = [json.loads(request.content) for request in fake.requests]
    return [(body["method"], body["params"]) for body in bodies]


async def test_the_head_is_a_block_with_its_time() -> None:
    node, fake = a_node(ok({"number": hex(BLOCK), "timestamp": hex(BLOCK_S), "hash": "0x"}))
    assert await node.head() == Head(BLOCK, BLOCK_S * NS_PER_S)
    assert asked(fake) == [("eth_getBlockByNumber", ["latest", False])]


async def test_fills_are_asked_for_by_wallet_on_every_exchange() -> None:
    node, fake = a_node(ok([a_log()]))
    found = await node.fills([LEADER, OTHER], BLOCK, BLOCK + 1)
    assert shown(found) == [[26]]
    ((method, (sent,)),) = asked(fake)
    assert method == "eth_getLogs"
    words = [chain.address_word(LEADER), chain.address_word(OTHER)]
    assert sent == {
        "address": list(EXCHANGES),
        "topics": [ORDER_FILLED, None, words],
        "fromBlock": hex(BLOCK),
        "toBlock": hex(BLOCK + 1),
    }


async def test_a_time_that_no_log_has_is_the_block_s_and_asked_for_once() -> None:
    block = ok({"number": hex(BLOCK), "timestamp": hex(BLOCK_S)})
    logs = ok([a_log(blockTimestamp=None), a_log(blockTimestamp=None, logIndex="0x1b")])
    node, fake = a_node(logs, block, logs)
    for _ in range(2):
        found = await node.fills([LEADER], BLOCK, BLOCK)
        assert {fill.venue_ns for fill in found.transactions[0]} == {BLOCK_S * NS_PER_S}
    assert asked(fake)[1] == ("eth_getBlockByNumber", [hex(BLOCK), False])
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("logs", "why"),
    [
        ([a_log(blockNumber=hex(BLOCK + 9))], "a block not asked for"),
        ([a_log(topics=[*a_log()["topics"][:2], chain.address_word(OTHER), "0x"])], "another wall"),
        ({"a": 1}, "Expected `array`"),
    ],
)
async def test_an_answer_to_another_question_is_none(logs: object, why: str) -> None:
    node, _ = a_node(ok(logs))
    with pytest.raises(WireError, match=why):
        await node.fills([LEADER], BLOCK, BLOCK)


@pytest.mark.parametrize(
    ("answer", "less"),
    [
        (no(-32_005, "block range is too large, max is 10000"), True),
        (no(-32_005, "query returned more than 10000 results"), True),
        (no(-32_614, "eth_getLogs is limited to a 10,000 range"), True),
        (no(-32_602, "Log response size exceeded. this block range should work: [1, 2]"), True),
        (no(-32_000, "query exceeds max results 20000"), True),
        (no(-32_000, "query timeout exceeded"), True),
        (httpx.Response(400, json=no(35, "ranges over 10000 blocks are not supported")), True),
        (no(-32_000, "invalid block range params"), False),
        (no(-32_602, "block range extends beyond current head block"), False),
        (no(-32_000, "service temporarily unavailable"), False),
        (no(-32_005, "daily request count exceeded, request rate limited"), False),
    ],
)
async def test_a_refusal_says_whether_less_may_be_asked(answer: Any, less: bool) -> None:
    node, fake = a_node(answer)
    with pytest.raises(NodeRefused) as caught:
        await node.fills([LEADER], BLOCK, BLOCK + 9)
    assert caught.value.wants_less is less
    assert "hidden" not in str(caught.value)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        (ok(None), WireError, "no such block"),
        ({"jsonrpc": "2.0", "id": 1}, WireError, "neither result nor error"),
        ([], WireError, "Expected `object`"),
        (httpx.Response(502), Unavailable, "502"),
    ],
)
async def test_an_answer_without_a_block_is_an_error(answer: Any, kind: Any, why: str) -> None:
    node, _ = a_node(answer)
    with pytest.raises(kind, match=why) as caught:
        await node.head()
    assert "hidden" not in str(caught.value)


# --- the stream -------------------------------------------------------------------------------


def told(result: object) -> str:
    params = {"subscription": "0x1", "result": result}
    return json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})


def test_a_connection_asks_for_blocks_and_for_the_fills_of_all_wallets() -> None:
    many = [Wallet(f"0x{number:040x}") for number in range(1_001)]
    frames = [json.loads(frame) for frame in ChainFeed(many).opened(now_ns=5)]
    assert [frame["params"][0] for frame in frames] == ["newHeads", "logs", "logs", "logs"]
    assert len({frame["id"] for frame in frames}) == 4
    words = [word for frame in frames[1:] for word in frame["params"][1]["topics"][2]]
    assert words == [chain.address_word(wallet) for wallet in many]
    assert [len(batch) for batch in batches(many)] == [500, 500, 1]


def test_frames_are_blocks_fills_or_garbage() -> None:
    feed = ChainFeed([LEADER])
    feed.opened(now_ns=0)
    head = {"number": hex(BLOCK), "timestamp": hex(BLOCK_S), "nonce": "0x0"}
    cases = [
        (told(head), Head(BLOCK, BLOCK_S * NS_PER_S)),
        (told(a_log()), Sighted(BLOCK)),
        (told(a_log(removed=True)), None),
        ('{"jsonrpc":"2.0","id":1,"result":"0x9ce5"}', None),
        ("PONG", None),
        ('{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"no"}}', "refused"),
        (told({"number": "5", "timestamp": "0x1"}), "not a hex number"),
        (told(7), "Expected `object`"),
        ("{", "truncated"),
    ]
    for frame, expected in cases:
        events = feed.receive(frame, now_ns=9)
        if isinstance(expected, str):
            (event,) = events
            assert isinstance(event, Garbage)
            assert expected in event.reason
        else:
            assert events == ([] if expected is None else [expected])


def test_only_blocks_break_the_silence() -> None:
    feed = ChainFeed([LEADER])
    feed.opened(now_ns=0)
    feed.receive(told(a_log()), now_ns=50)
    assert feed.is_silent(now_ns=51, limit_ns=50)
    feed.receive(told({"number": "0x1", "timestamp": "0x1"}), now_ns=50)
    assert not feed.is_silent(now_ns=100, limit_ns=50)
    assert (feed.poll(now_ns=1), feed.closed(now_ns=1)) == ([], [])


def test_the_unverified_exchange_is_read_like_the_others() -> None:
    assert decoded(address=UNVERIFIED).exchange == UNVERIFIED
