"""The tape: recorded markets as JSON Lines, one record a line, in the order of time.

The format is described in docs/paper-venue.md. A line that breaks it is refused with its number
and what to do about it.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from services.paper_venue.core import Fill
from shared.domain.ids import ConditionId, TokenId, condition_id, token_id, tx_hash, wallet
from shared.domain.market import Market, Side
from shared.domain.units import MICRO, NS_PER_MS, Price, Shares, parse_micro

VERSION: Final = 1
_Result = TypeVar("_Result")
Levels = tuple[tuple[str, str], ...]


class TapeError(ValueError):
    """A tape that cannot be played: where, and what to fix."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    pass


class Header(_Record, frozen=True, kw_only=True, tag="tape", omit_defaults=False):
    version: int
    attribution: str = ""
    label: str = ""


class MarketRecord(_Record, frozen=True, kw_only=True, tag="market"):
    """A market's terms; it opens at ``t_ms`` (0: when its first book or fill comes)."""

    condition: str
    tokens: tuple[str, str]
    outcomes: tuple[str, str]
    slug: str = ""
    question: str = ""
    event: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    tick: str = "0.01"
    size_min: str = "5"
    fee_rate: str = "0.07"
    fee_exponent: int = 1
    neg_risk: bool = False
    protocol: Literal["v1", "v2"] = "v1"
    taker_delay: bool = False
    end_ms: int = 0
    t_ms: int = 0


class BookRecord(_Record, frozen=True, kw_only=True, tag="book"):
    """Everything that stands in outcome 0's book at a moment; the order of levels is free."""

    t_ms: int
    condition: str
    bids: Levels = ()
    asks: Levels = ()


class FillRecord(_Record, frozen=True, kw_only=True, tag="fill"):
    """A fill of a leader, as it happened."""

    t_ms: int
    wallet: str
    condition: str
    outcome: Literal[0, 1]
    side: Side
    price: str
    size: str
    tx: str | None = None  # fills with the same text share a transaction


class ActivityRecord(_Record, frozen=True, kw_only=True, tag="activity"):
    t_ms: int
    wallet: str
    type: Literal["SPLIT", "MERGE", "REDEEM"]
    condition: str
    size: str


class ResolveRecord(_Record, frozen=True, kw_only=True, tag="resolve"):
    t_ms: int
    condition: str
    payouts: tuple[str, str]


Record = Header | MarketRecord | BookRecord | FillRecord | ActivityRecord | ResolveRecord
Timed = BookRecord | FillRecord | ActivityRecord | ResolveRecord


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """A validated tape."""

    header: Header
    markets: tuple[MarketRecord, ...]
    records: tuple[Timed, ...]  # in the order of t_ms

    @property
    def start_ms(self) -> int:
        return self.records[0].t_ms if self.records else 0

    @property
    def end_ms(self) -> int:
        return self.records[-1].t_ms if self.records else 0


def read_tape(path: Path) -> Tape:
    """Read a ``.jsonl`` or ``.jsonl.gz`` tape, or raise TapeError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise TapeError(f"{path}: not a gzip file: {error}") from error
    return parse_tape(raw.splitlines(), name=path.name)


def parse_tape(lines: Iterable[bytes], name: str = "tape") -> Tape:
    """Return the tape these lines are, or raise TapeError with the first bad line."""
    header: Header | None = None
    markets: dict[str, MarketRecord] = {}
    records: list[Timed] = []
    for number, record in _decoded(lines, name):
        where = f"{name}:{number}"
        if isinstance(record, Header):
            if record.version != VERSION:
                raise TapeError(f"{where}: tape version {record.version}; this reads {VERSION}")
            header = record
        elif header is None:
            raise TapeError(f'{where}: the first line must be the header {{"kind":"tape",...}}')
        elif isinstance(record, MarketRecord):
            market = _check(where, partial(market_of, record))
            markets[market.condition] = record
        else:
            _check_timed(where, record, markets, records[-1].t_ms if records else 0)
            records.append(record)
    if header is None:
        raise TapeError(f"{name}: is empty; a tape begins with its header line")
    return Tape(header=header, markets=tuple(markets.values()), records=tuple(records))


def write_tape(tape: Tape, path: Path) -> None:
    """Write a tape; the same tape always gives the same bytes, compressed ones too."""
    lines = [msgspec.json.encode(record) for record in (tape.header, *tape.markets, *tape.records)]
    raw = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def market_of(record: MarketRecord) -> Market:
    """Return a record's terms in domain units, or raise ValueError."""
    return Market(
        condition=condition_id(record.condition),
        tokens=(token_id(record.tokens[0]), token_id(record.tokens[1])),
        outcomes=record.outcomes,
        tick=Price(parse_micro(record.tick)),
        size_min=Shares(parse_micro(record.size_min)),
        neg_risk=record.neg_risk,
        protocol=record.protocol,
        fee_rate=parse_micro(record.fee_rate),
        fee_exponent=record.fee_exponent,
        taker_delay=record.taker_delay,
        slug=record.slug,
        question=record.question,
        event=record.event,
        category=record.category,
        tags=record.tags,
        end_ns=record.end_ms * NS_PER_MS,
    )


def levels_of(levels: Levels) -> list[tuple[int, int]]:
    return [(parse_micro(price), parse_micro(size)) for price, size in levels]


def fill_of(record: FillRecord) -> Fill:
    """Return a recorded fill as the exchange takes it: exact, in domain units."""
    return Fill(
        wallet=wallet(record.wallet),
        condition=condition_id(record.condition),
        outcome=record.outcome,
        side=record.side,
        size=Shares(parse_micro(record.size)),
        price=Price(parse_micro(record.price)),
        exact=True,
    )


def payouts_of(record: ResolveRecord) -> tuple[int, int]:
    first, second = (parse_micro(text) for text in record.payouts)
    if min(first, second) < 0 or first + second != MICRO:
        raise ValueError(f"payouts {record.payouts} do not add up to 1")
    return first, second


def invented_condition(slug: str) -> ConditionId:
    """Return a condition id for data that has none: a function of the slug."""
    digest = blake2b(f"condition/{slug}".encode(), digest_size=32)
    return ConditionId("0x" + digest.hexdigest())


def invented_token(slug: str, outcome: int) -> TokenId:
    """Return a token id for data that has none: a function of the slug, above 2^255."""
    digest = blake2b(f"token/{slug}/{outcome}".encode(), digest_size=32)
    return TokenId(str(int.from_bytes(digest.digest(), "big") | 1 << 255))


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, Record]]:
    decoder = msgspec.json.Decoder(Record)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TapeError(f"{name}:{number}: {error}; fix or remove this line") from error


def _check_timed(where: str, record: Timed, markets: dict[str, MarketRecord], last_ms: int) -> None:
    if record.t_ms < last_ms:
        raise TapeError(
            f"{where}: t_ms {record.t_ms} is before {last_ms}; sort the records by t_ms"
        )
    if _check(where, lambda: condition_id(record.condition)) not in markets:
        raise TapeError(
            f"{where}: condition {record.condition[:18]}… has no market record above this line"
        )
    _check(where, lambda: _content_of(record))


def _content_of(record: Timed) -> object:
    """Convert everything in a record, so that playing it cannot fail."""
    if isinstance(record, BookRecord):
        bids, asks = levels_of(record.bids), levels_of(record.asks)
        if bids and asks and max(bids)[0] >= min(asks)[0]:
            raise ValueError("the book is crossed: best bid is not below best ask")
        if not all(0 < price < MICRO and size >= 0 for price, size in (*bids, *asks)):
            raise ValueError("a level has a price outside (0, 1) or a negative size")
        return None
    if isinstance(record, FillRecord):
        fill = fill_of(record)
        if fill.price is None or not 0 < fill.price < MICRO or fill.size <= 0:
            raise ValueError("a fill has a price outside (0, 1) or no size")
        return tx_hash(record.tx) if record.tx and record.tx.startswith("0x") else None
    if isinstance(record, ActivityRecord):
        return wallet(record.wallet), parse_micro(record.size)
    return payouts_of(record)


def _check(where: str, convert: Callable[[], _Result]) -> _Result:
    try:
        return convert()
    except ValueError as error:
        raise TapeError(f"{where}: {error}") from error
