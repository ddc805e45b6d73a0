"""Fills as the chain tells them: the exchanges' OrderFilled logs to rows of activity, without IO.

Every order that got something has a log of its own in which its wallet stands as ``maker``, the
taker's order too; there ``taker`` is the exchange (protocol.md 8.2). So all logs with a wallet as
maker are all its fills, and the blocks of an answer hold whole transactions.

The event of ExchangeV3 was never seen: it is taken to be that of the other two. What does not
look like it is garbage, and its fills stay to be told over REST.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet
from shared.domain.market import Side
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_S, Price, Shares, Usd
from shared.polymarket import scalars, wire
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.parse import is_combo

ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
UNVERIFIED: Final = "0xe3333700ca9d93003f00f0f71f8515005f6c00aa"  # ExchangeV3
EXCHANGES: Final = (
    "0xe111180000d2663c0091e4f400237545b87b996b",  # CTFExchangeV2
    "0xe2222d279d744050d28e00520010520000310f59",  # its neg-risk sister
    UNVERIFIED,
)
BLOCKS_MAX: Final = 10_000  # of one question; public nodes give no more
WALLETS_MAX: Final = 500  # of one question; nodes cap the alternatives of a topic at about 1,000
_WHERE: Final = "OrderFilled"
_WORDS: Final = 7  # side, token, two amounts, fee, builder, metadata
_WORD_CHARS: Final = 64
_AMOUNT_MAX: Final = 1 << 63  # micro-units; more is no amount of anything that exists
_RATIO: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)
_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
_PADDING: Final = "0" * 24

Skipped = Literal["removed", "another event", "another contract", "a combo"]


class Log(msgspec.Struct, frozen=True, rename="camel"):
    """A log as eth_getLogs and eth_subscribe show it; numbers are hex text."""

    address: str
    topics: list[str]
    data: str
    block_number: str | None = None  # None: in no block yet
    transaction_hash: str | None = None
    log_index: str | None = None
    block_timestamp: str | None = None  # newer nodes only
    removed: bool = False


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What one order got; its identity is (tx, index)."""

    wallet: Wallet
    token: TokenId
    side: Side
    size: Shares
    price: Price
    tx: TxHash
    block: int
    index: int
    exchange: str
    venue_ns: int  # of its block; 0: the node does not say


class Mined(NamedTuple):
    """What an answer says: whole transactions, in the chain's order."""

    transactions: list[tuple[Filled, ...]]
    skipped: Counter[Skipped]
    garbage: list[Garbage]
    left: int  # transactions with a log that cannot be read: none of their fills is told


def number(text: str | None, *, where: str) -> int:
    """Return a number written as a node does, 0x and hex digits."""
    if text is None or not _NUMBER.fullmatch(text):  # int alone takes "1_000" and signs
        raise WireError("not a hex number", where=where, seen=text)
    return int(text, 16)


def address_word(address: str) -> str:
    """Return an address as the topic it is searched by."""
    return f"0x{_PADDING}{address[2:].lower()}"


def fills_filter(wallets: Sequence[Wallet]) -> dict[str, object]:
    """Return the filter of what these wallets' orders got, on any exchange."""
    assert 0 < len(wallets) <= WALLETS_MAX, "a filter without wallets would be of everybody"
    words = [address_word(wallet) for wallet in wallets]
    return {"address": list(EXCHANGES), "topics": [ORDER_FILLED, None, words]}


def fill(log: Log) -> Filled | Skipped:
    """Return what a log says an order got, or why it says nothing to us; raises WireError."""
    if log.removed:
        return "removed"  # its block is no longer part of the chain
    if log.address.lower() not in EXCHANGES:
        return "another contract"
    if not log.topics or log.topics[0].lower() != ORDER_FILLED:
        return "another event"
    if len(log.topics) != 4:
        raise WireError("not four topics", where=_WHERE, seen=log.topics)
    side, token_word, gave, got = _words(log.data)[:4]
    token = scalars.token(str(token_word), where=_WHERE)
    if is_combo(token):
        return "a combo"
    if side not in {0, 1}:
        raise WireError("neither BUY nor SELL", where=_WHERE, seen=side)
    if not 0 < gave < _AMOUNT_MAX or not 0 < got < _AMOUNT_MAX:
        raise WireError("not an amount", where=_WHERE, seen=(gave, got))
    usd, size = (Usd(gave), Shares(got)) if side == 0 else (Usd(got), Shares(gave))
    stamp = log.block_timestamp
    return Filled(
        wallet=_wallet(log.topics[2]),
        token=token,
        side="BUY" if side == 0 else "SELL",
        size=size,
        price=scalars.price_derived(_RATIO.divide(Decimal(usd), Decimal(size)), where=_WHERE),
        tx=scalars.tx_hash(log.transaction_hash, where=_WHERE),
        block=number(log.block_number, where=_WHERE),
        index=number(log.log_index, where=_WHERE),
        exchange=log.address.lower(),
        venue_ns=0 if stamp is None else number(stamp, where=_WHERE) * NS_PER_S,
    )


def mined(raws: Iterable[msgspec.Raw]) -> Mined:
    """Return the fills of an answer by transaction; of one that is not whole, none.

    A log that tells not even its transaction may be of any of them, so then nothing is told.
    """
    found: dict[TxHash, dict[int, Filled]] = {}
    spoilt: set[TxHash | None] = set()
    skipped: Counter[Skipped] = Counter()
    garbage: list[Garbage] = []
    for raw in raws:
        tx: TxHash | None = None
        try:
            log = wire.decode(raw, Log, where=_WHERE)
            tx = _tx(log)
            told = fill(log)
        except WireError as e:
            garbage.append(Garbage.of(e))
            spoilt.add(tx)
            continue
        if isinstance(told, Filled):
            found.setdefault(told.tx, {})[told.index] = told
        else:
            skipped[told] += 1
    spoilt |= {
        tx for tx, fills in found.items() if len({each.block for each in fills.values()}) > 1
    }
    whole = [] if None in spoilt else [fills for tx, fills in found.items() if tx not in spoilt]
    transactions = [tuple(fills[index] for index in sorted(fills)) for fills in whole]
    transactions.sort(key=lambda fills: (fills[0].block, fills[0].index))
    left = len(found.keys() | spoilt) - len(transactions)
    return Mined(transactions, skipped, garbage, left)


def activity(filled: Filled, condition: ConditionId, outcome: Literal[0, 1]) -> Activity:
    """Return a fill as a row of what its wallet did."""
    return Activity(
        wallet=filled.wallet,
        action="TRADE",
        condition=condition,
        size=filled.size,
        tx=filled.tx,
        venue_ns=filled.venue_ns,
        token=filled.token,
        outcome=outcome,
        side=filled.side,
        price=filled.price,
    )


def _tx(log: Log) -> TxHash | None:
    try:
        return scalars.tx_hash(log.transaction_hash, where=_WHERE)
    except WireError:
        return None


def _words(data: str) -> list[int]:
    if not data.startswith("0x") or len(data) != 2 + _WORDS * _WORD_CHARS:
        raise WireError(f"not {_WORDS} words", where=_WHERE, seen=data)
    starts = range(2, len(data), _WORD_CHARS)
    return [number(f"0x{data[at : at + _WORD_CHARS]}", where=_WHERE) for at in starts]


def _wallet(word: str) -> Wallet:
    if not word.lower().startswith(f"0x{_PADDING}"):
        raise WireError("not an address", where=_WHERE, seen=word)
    return scalars.wallet(f"0x{word[2 + len(_PADDING) :]}", where=_WHERE)
