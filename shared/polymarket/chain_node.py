"""What a node of the chain is asked over HTTP: its head, a block's time, wallets' fills."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S
from shared.polymarket import chain, wire
from shared.polymarket.chain import Filled, Mined
from shared.polymarket.errors import Rejected, VenueError, WireError, excerpt
from shared.polymarket.transport import Call, Http

_JSON: Final = {"Content-Type": "application/json"}
_TIMES_MAX: Final = 1_000  # blocks whose time is remembered
# What nodes say when an answer would be too large; none has a code of its own for it. "invalid
# block range" is said of blocks that a node does not have yet, and to ask for fewer does not help.
_TOO_MUCH: Final = ("range", "too many", "more than", "too large", "max results", "timeout")
_NOT_THERE: Final = ("invalid block range", "beyond", "unknown block", "rate limit", "request rate")


class NodeRefused(VenueError):  # noqa: N818 - named for what happened to us
    """The node answered that it does not answer this."""

    def __init__(self, method: str, *, code: int, text: str) -> None:
        self.text = excerpt(text)
        super().__init__(method, f"{code}: {self.text}")
        self.code = code

    @property
    def wants_less(self) -> bool:
        """Tell whether a narrower question may be answered."""
        lowered = self.text.lower()
        if any(phrase in lowered for phrase in _NOT_THERE):
            return False
        return any(phrase in lowered for phrase in _TOO_MUCH)


class Head(NamedTuple):
    """A block, and when it was made."""

    number: int
    venue_ns: int


class Block(msgspec.Struct, frozen=True):
    """The part of a block that is asked for; also what newHeads shows."""

    number: str
    timestamp: str


class _Failure(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Reply(msgspec.Struct, frozen=True):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: _Failure | None = None


def head(block: Block, *, where: str) -> Head:
    made_s = chain.number(block.timestamp, where=where)
    return Head(chain.number(block.number, where=where), made_s * NS_PER_S)


def request(method: str, params: Sequence[Any], *, id_: int = 1) -> bytes:
    """Return a call as JSON-RPC 2.0 writes it."""
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}
    )


class Node:
    """Calls of one node; each raises a VenueError instead of guessing."""

    def __init__(self, http: Http, url: str) -> None:
        self._http, self._url = http, url
        self._times: OrderedDict[int, int] = OrderedDict()

    async def head(self) -> Head:
        """Return the newest block the node has."""
        return await self._block("latest")

    async def fills(self, wallets: Sequence[Wallet], first: int, last: int) -> Mined:
        """Return what these wallets' orders got in blocks ``first`` to ``last``, both included.

        A node that lacks the last of them may show less without a word, but never part of a
        block: what it shows are whole transactions.
        """
        span = {"fromBlock": hex(first), "toBlock": hex(last)}
        asked = chain.fills_filter(wallets) | span
        logs = wire.decode(
            await self._ask("eth_getLogs", asked), list[msgspec.Raw], where="eth_getLogs"
        )
        found = chain.mined(logs)
        dated = [await self._dated(fills) for fills in found.transactions]
        for fills in dated:
            if not first <= fills[0].block <= last:
                raise WireError("a block not asked for", where="eth_getLogs", seen=fills[0].block)
            if any(fill.wallet not in wallets for fill in fills):
                raise WireError("another wallet", where="eth_getLogs", seen=fills[0].tx)
        return found._replace(transactions=dated)

    async def _dated(self, fills: tuple[Filled, ...]) -> tuple[Filled, ...]:
        """Return a transaction's fills with the time of their block."""
        if all(fill.venue_ns for fill in fills):
            return fills
        number = fills[0].block
        if number not in self._times:
            self._times[number] = (await self._block(hex(number))).venue_ns
            if len(self._times) > _TIMES_MAX:
                self._times.popitem(last=False)
        made_ns = self._times[number]
        return tuple(msgspec.structs.replace(fill, venue_ns=made_ns) for fill in fills)

    async def _block(self, name: str) -> Head:
        where = "eth_getBlockByNumber"
        told = await self._ask(where, name, False)  # noqa: FBT003 - without its transactions
        if bytes(told) == b"null":
            raise WireError("no such block", where=where, seen=name)
        return head(wire.decode(told, Block, where=where), where=where)

    async def _ask(self, method: str, *params: Any) -> msgspec.Raw:
        """Ask, and return the result as it came; the address may hold a key, so no error has it."""
        body = request(method, params)
        call = Call(endpoint=method, url=self._url, method="POST", headers=_JSON, body=body)
        try:
            answer = await self._http.send(call)
        except Rejected as e:
            raise NodeRefused(method, code=e.status, text=e.text) from None
        reply = wire.decode(answer, _Reply, where=method)
        if reply.error is not None:
            raise NodeRefused(method, code=reply.error.code, text=reply.error.message)
        if not bytes(reply.result):
            raise WireError("neither result nor error", where=method, seen=answer)
        return reply.result
