"""The miniature chain: whose logs say what, in which block, and that they agree with the rows."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from venue_build import ANN, ASKS, BIDS, BOB, CONDITION, MARKET, T0, TOKENS, order, post, venue

from services.paper_venue.chain import ANCHOR_BLOCK, ANCHOR_NS, block_at, block_from, block_ns
from services.paper_venue.chain_logs import ORDER_FILLED, Log, address_word, logs_between
from services.paper_venue.chain_node import Node, RpcError
from services.paper_venue.config import VenueConfig
from services.paper_venue.core import Fill, advance, execute_fill, set_depth
from services.paper_venue.state import ANONYMOUS, Trouble, Venue
from shared.domain.ids import Wallet
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares

LEADER = Wallet("0x" + "d" * 40)
V2 = "0xe111180000d2663c0091e4f400237545b87b996b"
LATER = T0 + 60 * NS_PER_S
CONFIG = VenueConfig()
SHARED = Path(__file__).parents[3].parent / "shared"
SAMPLE = SHARED / "polymarket/samples/chain/order-filled-v2-log.json"


def all_logs(built: Venue) -> list[Log]:
    return list(logs_between(built, 0, 1 << 62))


def words(data: str) -> list[int]:
    assert data.startswith("0x")
    assert len(data) == 2 + 7 * 64
    return [int(data[start : start + 64], 16) for start in range(2, len(data), 64)]


def test_blocks_are_a_function_of_the_time() -> None:
    assert block_at(CONFIG, ANCHOR_NS) == ANCHOR_BLOCK
    for ns in (T0, T0 + 1, T0 + 1_499_999_999):
        number = block_at(CONFIG, ns)
        assert block_ns(CONFIG, number) <= ns < block_ns(CONFIG, number + 1)
        assert block_from(CONFIG, block_ns(CONFIG, number)) == number
        assert block_from(CONFIG, block_ns(CONFIG, number) + 1) == number + 1


def test_a_trade_has_a_log_for_each_maker_order_and_one_for_the_takers() -> None:
    built = venue()
    resting = order("0.5", "10", wallet=BOB, side="BUY", outcome=1)  # beyond the 25 recorded
    post(built, resting)
    taking = order("0.5", "30", kind="FAK")
    (trade,) = post(built, taking).trades
    advance(built, LATER)
    depth, bob, taker = all_logs(built)
    assert {log.address for log in (depth, bob, taker)} == {V2}
    assert {log.tx for log in (depth, bob, taker)} == {trade.tx}
    assert bob.topics == (ORDER_FILLED, resting.id, address_word(BOB), address_word(ANN))
    assert taker.topics == (ORDER_FILLED, taking.id, address_word(ANN), address_word(V2))
    assert depth.topics[2] == address_word(ANONYMOUS)
    assert words(bob.data) == [0, int(TOKENS[1]), 2_500_000, 5 * MICRO, 0, 0, 0]
    fee = trade.fee
    assert fee > 0
    assert words(taker.data) == [0, int(TOKENS[0]), 15 * MICRO, 30 * MICRO, fee, 0, 0]
    assert words(depth.data) == [1, int(TOKENS[0]), 25 * MICRO, 12_500_000, 0, 0, 0]
    assert depth.index < bob.index < taker.index


def test_logs_come_with_the_block_in_which_the_trade_is_mined() -> None:
    built, node = venue(), None
    node = Node(built)
    start = T0 + 550 * NS_PER_MS
    (trade,) = post(built, order("0.5", "10", kind="FAK"), start).trades
    mined_ns = T0 + 3_500 * NS_PER_MS
    advance(built, mined_ns - 1)
    assert (trade.status, all_logs(built)) == ("MATCHED", [])
    head = node.head(mined_ns - 1)
    advance(built, mined_ns)
    assert trade.status == "MINED"
    assert node.head(mined_ns) == head + 1
    assert {log.block for log in all_logs(built)} == {head + 1}
    (row,) = built.rows_of[ANN]
    assert row.block_s == block_ns(built.config, head + 1) // NS_PER_S
    assert row.seen_ns == mined_ns, "the index never knows a block that is not there"


def test_what_does_not_wait_for_a_block_never_enters_one_that_was_seen() -> None:
    built = venue()
    node = Node(built)
    for after_ms in (0, 1, 2_000):
        now_ns = T0 + after_ms * NS_PER_MS
        advance(built, now_ns)
        fill = Fill(
            wallet=LEADER,
            condition=CONDITION,
            outcome=0,
            side="BUY",
            size=Shares(MICRO),
            immediate=True,
        )
        execute_fill(built, fill, now_ns)
        advance(built, now_ns)
        assert built.sealed[-1].block == node.head(now_ns) + 1


@pytest.mark.skipif(not SAMPLE.exists(), reason="the recorded samples are not here")
def test_a_log_has_the_shape_of_the_sample() -> None:
    built = venue()
    post(built, order("0.5", "10", kind="FAK"))
    advance(built, LATER)
    recorded = json.loads(SAMPLE.read_text())
    log = Node(built).log(all_logs(built)[-1])
    assert set(recorded) - {"data_words"} <= set(log)
    assert (log["address"], log["topics"][0]) == (recorded["address"], recorded["topics"][0])
    assert len(log["topics"]) == len(recorded["topics"])
    assert len(words(log["data"])) == len(recorded["data_words"])
    assert all(len(topic) == 66 for topic in log["topics"])
    assert len(log["transactionHash"]) == len(recorded["transactionHash"])
    for name in ("blockNumber", "logIndex"):
        assert log[name] == hex(int(log[name], 16))


def test_a_failed_trade_leaves_no_log() -> None:
    built = venue()
    built.trouble = lambda trade: Trouble()
    post(built, order("0.5", "10", kind="FAK"))
    advance(built, LATER)
    assert all_logs(built) == []


def test_a_retried_trade_is_mined_in_a_later_block() -> None:
    built = venue()
    built.trouble = lambda trade: Trouble(retry_ns=4 * NS_PER_S)
    post(built, order("0.5", "10", kind="FAK"))
    mined_ns = T0 + 6_500 * NS_PER_MS  # the first block from 6 s on
    advance(built, mined_ns - 1)
    assert all_logs(built) == []
    advance(built, mined_ns)
    assert {log.block for log in all_logs(built)} == {block_at(built.config, mined_ns)}
    assert built.rows_of[ANN][0].block_s == mined_ns // NS_PER_S


@pytest.mark.parametrize(
    ("terms", "address"),
    [
        ({"neg_risk": True}, "0xe2222d279d744050d28e00520010520000310f59"),
        ({"protocol": "v2"}, "0xe3333700ca9d93003f00f0f71f8515005f6c00aa"),
        ({"protocol": "v2", "neg_risk": True}, "0xe3333700ca9d93003f00f0f71f8515005f6c00aa"),
    ],
)
def test_each_kind_of_market_has_its_exchange(terms: dict, address: str) -> None:
    built = venue(msgspec.structs.replace(MARKET, **terms))
    execute_fill(built, Fill(wallet=LEADER, condition=CONDITION, **BUY_ONE), T0)
    advance(built, LATER)
    logs = all_logs(built)
    assert {log.address for log in logs} == {address}
    assert logs[-1].topics[3] == address_word(address)


BUY_ONE = {"outcome": 0, "side": "BUY", "size": Shares(MICRO)}
fills = st.lists(
    st.tuples(
        st.sampled_from([LEADER, ANN, BOB]),
        st.sampled_from([0, 1]),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 40_000_000),
        st.integers(1, 99).map(lambda cents: cents * 10_000 + 3_333),
        st.booleans(),
        st.integers(0, 2_500),
    ),
    min_size=1,
    max_size=12,
)


@given(fills)
@settings(max_examples=60, deadline=None)
def test_the_logs_of_a_wallet_in_a_transaction_are_its_rows(made: list) -> None:
    """As multisets: wallet, transaction, token, side, shares and dollars, digit for digit."""
    built = venue()
    now_ns = T0
    post(built, order("0.45", "50", wallet=BOB))
    post(built, order("0.4", "50", wallet=ANN, outcome=1))
    for wallet, outcome, side, size, price, exact, later_ms in made:
        now_ns += later_ms * NS_PER_MS
        advance(built, now_ns)
        execute_fill(
            built,
            Fill(
                wallet=wallet,
                condition=CONDITION,
                outcome=outcome,
                side=side,
                size=Shares(size),
                price=Price(price),
                exact=exact,
            ),
            now_ns,
        )
    advance(built, now_ns + 60 * NS_PER_S)
    told: Counter[tuple] = Counter()
    for log in all_logs(built):
        side_word, token, gave, got, *_ = words(log.data)
        dollars, shares = (gave, got) if side_word == 0 else (got, gave)
        block_s = block_ns(built.config, log.block) // NS_PER_S
        side = "BUY" if side_word == 0 else "SELL"
        told[log.topics[2], log.tx, str(token), side, shares, dollars, block_s] += 1
    rows = Counter(
        (address_word(row.wallet), row.tx, row.token, row.side, row.size, row.usd, row.block_s)
        for row in built.rows
    )
    assert told == rows
    places = [(log.block, log.index) for log in all_logs(built)]
    assert places == sorted(set(places)), "in order, each index once a block"


def a_node() -> tuple[Node, int]:
    """Return a node with three trades of LEADER in two blocks, and its head."""
    built = venue()
    for after_ms in (0, 0, 3_000):
        now_ns = T0 + after_ms * NS_PER_MS
        advance(built, now_ns)
        execute_fill(built, Fill(wallet=LEADER, condition=CONDITION, **BUY_ONE), now_ns)
    advance(built, LATER)
    return Node(built), block_at(built.config, LATER)


def found(node: Node, **given: object) -> list[dict]:
    return node.call("eth_getLogs", [given], LATER)


def test_logs_are_found_by_address_topics_and_range() -> None:
    node, head = a_node()
    everything = {"fromBlock": hex(head - 100), "toBlock": "latest"}
    assert len(found(node, **everything)) == 6
    mine = [[ORDER_FILLED], None, [address_word(LEADER), address_word(BOB)]]
    logs = found(node, **everything, topics=mine, address=[V2, "0x" + "9" * 40])
    assert len(logs) == 3
    assert {log["topics"][2] for log in logs} == {address_word(LEADER)}
    assert found(node, **everything, topics=[None, None, address_word(BOB)]) == []
    assert found(node, **everything, address="0x" + "9" * 40) == []
    first = int(logs[0]["blockNumber"], 16)
    assert [log["blockNumber"] for log in logs] == [hex(first), hex(first), hex(first + 2)]
    assert len(found(node, fromBlock=hex(first), toBlock=hex(first + 1), topics=mine)) == 2
    assert found(node, topics=mine) == [], "without a range only the newest block"
    assert found(node, blockHash=logs[0]["blockHash"], topics=mine) == logs[:2]
    assert logs[0]["blockTimestamp"] == hex(T0 // NS_PER_S + 2)
    assert [log["transactionIndex"] for log in logs] == ["0x0", "0x1", "0x0"]
    assert [log["removed"] for log in logs] == [False] * 3


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"fromBlock": "+1", "toBlock": "latest"}, "invalid block range"),
        ({"fromBlock": "latest", "toBlock": "+1"}, "invalid block range"),
        ({"fromBlock": "+0", "toBlock": "-1"}, "invalid block range"),
        ({"fromBlock": "-10000", "toBlock": "latest"}, "block range is too large"),
        ({"fromBlock": "soon"}, "not a block"),
        ({"topics": ["0x12"]}, "hex of 66"),
        ({"address": ["me"]}, "hex of 42"),
        ({"topics": [None] * 5}, "at most 4"),
    ],
)
def test_a_node_refuses_what_public_nodes_refuse(filters: dict, text: str) -> None:
    node, head = a_node()

    def number(value: object) -> object:
        relative = isinstance(value, str) and value[0] in "+-"
        return hex(head + int(str(value))) if relative else value

    with pytest.raises(RpcError, match=text):
        found(node, **{name: number(value) for name, value in filters.items()})
    assert len(found(node, fromBlock=hex(head - 9_999), toBlock=hex(head))) == 6


def test_a_lagging_node_answers_an_older_head_and_refuses_what_it_has_not() -> None:
    node, head = a_node()
    node.lag_blocks = 50
    assert node.call("eth_blockNumber", [], LATER) == hex(head - 50)
    assert found(node, fromBlock=hex(head - 100), toBlock="latest") == []
    with pytest.raises(RpcError, match="invalid block range"):
        found(node, fromBlock=hex(head - 100), toBlock=hex(head))
    assert node.call("eth_getBlockByNumber", [hex(head), False], LATER) is None
    node.lag_blocks, node.fail_logs = 0, 1
    with pytest.raises(RpcError):
        found(node, fromBlock=hex(head - 100))
    assert len(found(node, fromBlock=hex(head - 100))) == 6


def test_a_block_names_its_transactions_and_its_parent() -> None:
    node, head = a_node()
    logs = found(node, fromBlock=hex(head - 100))
    number = int(logs[0]["blockNumber"], 16)
    block = node.call("eth_getBlockByNumber", [hex(number), False], LATER)
    assert block["hash"] == logs[0]["blockHash"]
    assert block["transactions"] == list(dict.fromkeys(log["transactionHash"] for log in logs[:4]))
    child = node.call("eth_getBlockByNumber", [hex(number + 1), False], LATER)
    assert (child["parentHash"], child["transactions"]) == (block["hash"], [])
    receipt = node.call("eth_getTransactionReceipt", [block["transactions"][1]], LATER)
    assert (receipt["status"], receipt["logs"]) == ("0x1", logs[2:4])
    assert node.call("eth_getTransactionReceipt", ["0x" + "1" * 64], LATER) is None


def test_the_chain_remembers_a_bounded_number_of_trades() -> None:
    built = venue(trades_kept=8)
    for step in range(40):
        now_ns = T0 + step * NS_PER_S
        advance(built, now_ns)
        execute_fill(built, Fill(wallet=LEADER, condition=CONDITION, **BUY_ONE), now_ns)
        if step == 24:
            set_depth(built, CONDITION, BIDS, ASKS, now_ns)
    advance(built, LATER)
    assert 0 < len(built.sealed) <= 8
