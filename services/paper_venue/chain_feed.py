"""Whom the miniature chain tells of new blocks and logs, and what each has not taken yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from services.paper_venue.chain import block_at, block_ns
from services.paper_venue.chain_logs import Log, logs_between
from services.paper_venue.chain_node import BAD_PARAMS, LogFilter, Node, RpcError, log_filter
from services.paper_venue.wire import Json, encode

SUBSCRIPTIONS_MAX: Final = 100  # of one socket
QUEUE_MAX: Final = 20_000  # frames waiting for a slow reader; then it is cut
HEADS_MAX: Final = 1_000  # blocks told at once, after a jump of the clock


class Subscriber:
    """One open socket, what it wants to be told, and what it has not taken yet."""

    def __init__(self) -> None:
        self.wanted: dict[str, LogFilter | None] = {}  # None: new heads
        self.queue: deque[bytes] = deque()
        self.ready = asyncio.Event()
        self.too_slow = False
        self.abort: Callable[[], None] = lambda: None

    def send(self, frame: bytes) -> None:
        if len(self.queue) >= QUEUE_MAX:
            self.too_slow = True
        else:
            self.queue.append(frame)
        self.ready.set()

    def tell(self, subscription: str, result: Json) -> None:
        params = {"subscription": subscription, "result": result}
        self.send(encode({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}))


class Feed:
    """Tells subscribers of each block once, in order, as soon as the node has it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.subscribers: set[Subscriber] = set()
        self._told = 0  # the newest block that was told
        self._count = 0

    def publish(self, now_ns: int) -> None:
        head = self.node.head(now_ns)
        if not self.subscribers or head <= self._told:
            return
        first = max(self._told + 1, head - HEADS_MAX)
        logs: dict[int, list[Log]] = {}
        for log in logs_between(self.node.venue, first, head):
            logs.setdefault(log.block, []).append(log)
        for number in range(first, head + 1):
            self._tell(number, logs.get(number, []))
        self._told = head

    def next_due_ns(self, now_ns: int) -> int | None:
        """Return when somebody has to hear of the next block; None: nobody listens."""
        if not self.subscribers:
            return None
        config = self.node.venue.config
        return block_ns(config, block_at(config, now_ns) + 1)

    def cut(self) -> None:
        """End every subscriber's socket without a goodbye."""
        for subscriber in self.subscribers:
            subscriber.abort()

    def call(self, subscriber: Subscriber, method: str, params: list[Any], now_ns: int) -> Any:
        """Answer a socket's call: a subscription's, or the node's."""
        if method == "eth_unsubscribe":
            return subscriber.wanted.pop(str(params[0]) if params else "", self) is not self
        if method != "eth_subscribe":
            return self.node.call(method, params, now_ns)
        kind = params[0] if params else None
        if kind not in ("logs", "newHeads"):
            raise RpcError(BAD_PARAMS, f'no "{str(kind)[:40]}" subscription in eth namespace')
        if len(subscriber.wanted) >= SUBSCRIPTIONS_MAX:
            raise RpcError(BAD_PARAMS, f"at most {SUBSCRIPTIONS_MAX} subscriptions")
        wanted = log_filter(params[1] if len(params) > 1 else {}) if kind == "logs" else None
        if not any(other.wanted for other in self.subscribers):
            self._told = self.node.head(now_ns)  # nobody heard what came before
        self._count += 1
        name = hex((self._count << 96) + 0xD81F7)
        subscriber.wanted[name] = wanted
        return name

    def _tell(self, number: int, logs: list[Log]) -> None:
        head = self.node.block(number)
        for subscriber in self.subscribers:
            for name, wanted in subscriber.wanted.items():
                if wanted is None:
                    subscriber.tell(name, head)
                    continue
                for log in logs:
                    if wanted.wants(log):
                        subscriber.tell(name, self.node.log(log))
