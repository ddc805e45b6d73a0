"""The chain's stream without its socket: that there is a new block, or a fill in one.

Only a sign that reading is worth while: a subscription has no replay, drops with its socket, and
shows blocks that may yet be replaced. New blocks are asked for so that silence has a meaning.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from shared.domain.ids import Wallet
from shared.polymarket import chain, wire
from shared.polymarket.chain import WALLETS_MAX, Log
from shared.polymarket.chain_node import Block, Head, head, request
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.frames import Frame, documents

_WHERE: Final = "chain stream"


class Sighted(NamedTuple):
    """A wallet of ours got something in this block."""

    block: int


ChainEvent = Head | Sighted | Garbage


class _Told(msgspec.Struct, frozen=True):
    result: msgspec.Raw


class _Message(msgspec.Struct, frozen=True):
    """A notification has ``params``, the answer to a subscription ``result`` or ``error``."""

    params: _Told | None = None
    error: dict[str, Any] | None = None


class _Shape(msgspec.Struct, frozen=True):
    topics: list[str] | None = None


def batches(wallets: Sequence[Wallet]) -> Iterator[Sequence[Wallet]]:
    """Yield the wallets in portions that one question may hold."""
    for start in range(0, len(wallets), WALLETS_MAX):
        yield wallets[start : start + WALLETS_MAX]


class ChainFeed:
    """New blocks, and the fills of some wallets. It never reads a clock or touches a socket."""

    def __init__(self, wallets: Sequence[Wallet]) -> None:
        self._wallets = wallets
        self.heard_ns = 0  # our time of the last block

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection; return the frames to send."""
        self.heard_ns = now_ns
        asked: list[list[object]] = [["newHeads"]]
        asked += [["logs", chain.fills_filter(some)] for some in batches(self._wallets)]
        return [
            request("eth_subscribe", params, id_=at).decode() for at, params in enumerate(asked, 1)
        ]

    def closed(self, *, now_ns: int) -> list[ChainEvent]:
        return []

    def poll(self, *, now_ns: int) -> list[ChainEvent]:
        return []

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        """Tell whether there was no new block for longer than the limit."""
        return now_ns - self.heard_ns > limit_ns

    def receive(self, frame: Frame, *, now_ns: int) -> list[ChainEvent]:
        """Take one frame."""
        pieces, garbage = documents(frame, where=_WHERE)
        told: list[ChainEvent] = list(garbage)
        for piece in pieces:
            try:
                event = _event(piece)
            except WireError as e:
                told.append(Garbage.of(e))
                continue
            if isinstance(event, Head):
                self.heard_ns = now_ns
            if event is not None:
                told.append(event)
        return told


def _event(piece: msgspec.Raw) -> Head | Sighted | None:
    message = wire.decode(piece, _Message, where=_WHERE)
    if message.error is not None:
        raise WireError("refused", where=_WHERE, seen=message.error)
    if message.params is None:
        return None  # a subscription's name
    result = message.params.result
    if wire.decode(result, _Shape, where=_WHERE).topics is None:
        return head(wire.decode(result, Block, where=_WHERE), where=_WHERE)
    log = wire.decode(result, Log, where=_WHERE)
    return None if log.removed else Sighted(chain.number(log.block_number, where=_WHERE))
