"""A node of the miniature chain: what it answers over JSON-RPC (protocol.md 8.2, 8.3).

It has the habits of public nodes: a cap on a question's range, a refusal of blocks it does not
have yet, and on request a head that lags.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from services.paper_venue.chain import block_at, block_hash, block_ns
from services.paper_venue.chain_logs import Log, logs_between, transactions_of
from services.paper_venue.eoa import GAS, GAS_PRICE, Keys, Sent
from services.paper_venue.signing import CHAIN_ID
from services.paper_venue.state import Venue
from services.paper_venue.wire import Json
from shared.domain.units import NS_PER_S

RANGE_MAX: Final = 10_000  # blocks of one eth_getLogs
FINAL_DEPTH: Final = 4  # blocks below the head are `safe` and `finalized` (an assumption)
TOPICS_MAX: Final = 4
HASHES_SEARCHED: Final = 1_024  # newest blocks that can be asked for by hash
PARSE_ERROR: Final = -32_700
BAD_REQUEST: Final = -32_600
NO_METHOD: Final = -32_601
BAD_PARAMS: Final = -32_602
SERVER_ERROR: Final = -32_000
LIMIT_EXCEEDED: Final = -32_005
_NOTHING: Final = "0x" + "0" * 64


class RpcError(Exception):
    """What a call is refused with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class LogFilter(msgspec.Struct, frozen=True):
    """Which logs somebody wants; None: any."""

    addresses: frozenset[str] | None
    topics: tuple[frozenset[str] | None, ...]

    def wants(self, log: Log) -> bool:
        if self.addresses is not None and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            wanted is None or topic in wanted
            for wanted, topic in zip(self.topics, log.topics, strict=False)
        )


class Node:
    """The chain as one node knows it: it may lag, and it may refuse to give logs."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.keys = Keys(venue)
        self.lag_blocks = 0
        self.fail_logs = 0  # the next eth_getLogs are refused

    def head(self, now_ns: int) -> int:
        return block_at(self.venue.config, now_ns) - self.lag_blocks

    def call(self, method: str, params: list[Any], now_ns: int) -> Any:
        """Answer one call, or raise RpcError."""
        known = _METHODS.get(method)
        if known is None:
            raise RpcError(NO_METHOD, f"the method {method} does not exist/is not available")
        try:
            return known(self, params, now_ns)
        except (ValueError, IndexError) as error:
            raise RpcError(BAD_PARAMS, f"invalid argument 0: {error}") from None

    def block(self, number: int) -> Json:
        """Return a block as ``eth_getBlockByNumber`` and ``newHeads`` show it."""
        config = self.venue.config
        return {
            "number": hex(number),
            "hash": block_hash(config.seed, number),
            "parentHash": block_hash(config.seed, number - 1),
            "timestamp": hex(block_ns(config, number) // NS_PER_S),
            "nonce": "0x0000000000000000",
            "sha3Uncles": _NOTHING,
            "logsBloom": "0x" + "0" * 512,
            "transactionsRoot": _NOTHING,
            "stateRoot": _NOTHING,
            "receiptsRoot": _NOTHING,
            "miner": "0x" + "0" * 40,
            "difficulty": "0x1",
            "extraData": "0x",
            "size": "0x0",
            "gasLimit": "0x2aea540",
            "gasUsed": "0x0",
            "baseFeePerGas": "0x6fc23ac00",
            "mixHash": _NOTHING,
        }

    def log(self, log: Log) -> Json:
        config = self.venue.config
        return {
            "address": log.address,
            "topics": list(log.topics),
            "data": log.data,
            "blockNumber": hex(log.block),
            "transactionHash": log.tx,
            "transactionIndex": hex(log.tx_index),
            "blockHash": block_hash(config.seed, log.block),
            "blockTimestamp": hex(block_ns(config, log.block) // NS_PER_S),
            "logIndex": hex(log.index),
            "removed": False,
        }


def log_filter(given: object) -> LogFilter:
    """Read the ``address`` and ``topics`` of a filter, or raise RpcError."""
    if not isinstance(given, dict):
        raise RpcError(BAD_PARAMS, "invalid argument 0: a filter is an object")
    topics = given.get("topics") or []
    if not isinstance(topics, list) or len(topics) > TOPICS_MAX:
        raise RpcError(BAD_PARAMS, f"topics is a list of at most {TOPICS_MAX}")
    return LogFilter(
        _choice(given.get("address"), 42), tuple(_choice(topic, 66) for topic in topics)
    )


def _choice(given: object, length: int) -> frozenset[str] | None:
    """Read one value or a list of alternatives; nothing, or an empty list, is any."""
    items: list[Any] = given if isinstance(given, list) else [] if given is None else [given]
    for item in items:
        if not isinstance(item, str) or len(item) != length or not item.startswith("0x"):
            raise RpcError(BAD_PARAMS, f"invalid argument 0: hex of {length} characters expected")
    return frozenset(item.lower() for item in items) or None


def _get_logs(node: Node, params: list[Any], now_ns: int) -> list[Json]:
    if node.fail_logs:
        node.fail_logs -= 1
        raise RpcError(SERVER_ERROR, "service temporarily unavailable")
    wanted = log_filter(params[0] if params else None)
    head = node.head(now_ns)
    first, last = _range(node, params[0], head)
    if first > last or last > head:
        raise RpcError(SERVER_ERROR, "invalid block range params")
    if last - first >= RANGE_MAX:
        raise RpcError(LIMIT_EXCEEDED, f"block range is too large, max is {RANGE_MAX}")
    return [node.log(log) for log in logs_between(node.venue, first, last) if wanted.wants(log)]


def _range(node: Node, given: Json, head: int) -> tuple[int, int]:
    named = given.get("blockHash")
    if named is None:
        return _number(given.get("fromBlock"), head), _number(given.get("toBlock"), head)
    if given.get("fromBlock") is not None or given.get("toBlock") is not None:
        raise RpcError(BAD_PARAMS, "cannot specify both blockHash and fromBlock/toBlock")
    for number in range(head, head - HASHES_SEARCHED, -1):
        if block_hash(node.venue.config.seed, number) == named:
            return number, number
    raise RpcError(SERVER_ERROR, "unknown block")


def _number(given: object, head: int) -> int:
    """Read a block's number or tag; nothing is the newest block."""
    if given in (None, "latest", "pending"):
        return head
    if given in ("safe", "finalized"):
        return head - FINAL_DEPTH
    if given == "earliest":
        return 0
    if isinstance(given, str) and given.startswith("0x"):
        try:
            return int(given, 16)
        except ValueError:
            pass
    raise RpcError(BAD_PARAMS, f"invalid argument: not a block: {str(given)[:80]}")


def _get_block(node: Node, params: list[Any], now_ns: int) -> Json | None:
    if not params:
        raise RpcError(BAD_PARAMS, "missing value for required argument 0")
    head = node.head(now_ns)
    number = _number(params[0], head)
    if number > head:
        return None
    if len(params) > 1 and params[1] is True:
        raise RpcError(BAD_PARAMS, "full transactions are not kept here")
    transactions = transactions_of(node.venue, number)
    return {**node.block(number), "transactions": transactions, "uncles": []}


def _get_receipt(node: Node, params: list[Any], now_ns: int) -> Json | None:
    """Return what a transaction left; None while it is in no block, and for ever if it failed."""
    named = str(params[0]).lower() if params else ""
    head = node.head(now_ns)
    if sent := node.keys.sent.get(named):
        return _receipt_of(node, sent, head)
    for sealed in reversed(node.venue.sealed):
        if sealed.trade.tx == named and sealed.block <= head:
            number = sealed.block
            logs = [log for log in logs_between(node.venue, number, number) if log.tx == named]
            return {
                "transactionHash": named,
                "transactionIndex": hex(logs[0].tx_index),
                "blockHash": block_hash(node.venue.config.seed, number),
                "blockNumber": hex(number),
                "status": "0x1",
                "to": logs[0].address,
                "logs": [node.log(log) for log in logs],
            }
    return None


def _receipt_of(node: Node, sent: Sent, head: int) -> Json | None:
    """Return what a key's own transaction left; its transfers are not told as logs here."""
    number = node.keys.block_of(sent)
    if number > head:
        return None
    return {
        "transactionHash": sent.tx,
        "transactionIndex": "0x0",
        "blockHash": block_hash(node.venue.config.seed, number),
        "blockNumber": hex(number),
        "status": "0x1" if sent.succeeded else "0x0",
        "from": sent.sender,
        "to": sent.target,
        "logs": [],
    }


_METHODS: Final[dict[str, Callable[[Node, list[Any], int], Any]]] = {
    "eth_chainId": lambda node, params, now_ns: hex(CHAIN_ID),
    "net_version": lambda node, params, now_ns: str(CHAIN_ID),
    "eth_blockNumber": lambda node, params, now_ns: hex(node.head(now_ns)),
    "eth_getBlockByNumber": _get_block,
    "eth_getLogs": _get_logs,
    "eth_getTransactionReceipt": _get_receipt,
    "eth_getTransactionCount": lambda node, params, now_ns: node.keys.count(params),
    "eth_gasPrice": lambda node, params, now_ns: hex(GAS_PRICE),
    "eth_estimateGas": lambda node, params, now_ns: hex(GAS),
    "eth_sendRawTransaction": lambda node, params, now_ns: node.keys.send(params, now_ns),
    "eth_call": lambda node, params, now_ns: node.keys.call(params),
}
