"""Recorded data sets into tapes. pyarrow is a development dependency, so it is imported late."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from services.paper_venue.tape import (
    BookRecord,
    FillRecord,
    Header,
    Levels,
    MarketRecord,
    ResolveRecord,
    Tape,
    TapeError,
    Timed,
    invented_condition,
    invented_token,
    read_tape,
)

RESOLVED_MARKETS_ATTRIBUTION: Final = (
    "Polymarket order-book data from Resolved Markets (https://resolvedmarkets.com)"
)
GABAGOOL_LABEL: Final = (
    "fills of one wallet, 2025-12, with the TOP OF BOOK ONLY: one level a side, so slippage "
    "beyond it is not represented; market and token ids are invented from the slug"
)
CATEGORY: Final = "crypto"  # both sets are of Bitcoin's 15-minute markets
TAGS: Final = ("crypto", "bitcoin", "up-or-down", "15m")
LEAD_MS: Final = 60_000  # the tape begins this long before its first market's window
_UTC_PLUS_ONE_DAY: Final = "20251226"  # this day's top of book was stamped UTC+1, later ones UTC


def load_tape(path: str | Path) -> Tape:
    """Return a tape from a tape file, or from a directory with one of the recorded sets."""
    where = Path(path)
    if not where.is_dir():
        return read_tape(where)
    if (where / "books.parquet").exists():
        return import_resolved_markets(where)
    if (where / "fills.parquet").exists():
        return import_gabagool(where)
    raise TapeError(
        f"{where}: neither a tape file nor a recorded set (books.parquet or fills.parquet)"
    )


def import_resolved_markets(
    folder: Path, *, slugs: Iterable[str] = (), markets_max: int = 4, step_ms: int = 1_000
) -> Tape:
    """Turn one-second, twenty-level books of settled markets into a tape.

    Args:
        folder: where books.parquet and markets.parquet are.
        slugs: the markets to take; none means the first ``markets_max``.
        markets_max: how many, where no slugs are given.
        step_ms: the least time between two books of a market; unchanged books are left out.
    """
    wanted = set(slugs)
    listed = [
        row for row in _rows(folder / "markets.parquet") if not wanted or row["slug"] in wanted
    ][: len(wanted) or markets_max]
    if not listed:
        raise TapeError(f"{folder}: none of the markets {sorted(wanted)} is in the data")
    ids = {row["market_id"] for row in listed}
    books = [
        row
        for row in _rows(folder / "books.parquet")
        if row["market_id"] in ids and row["side"] == "UP"
    ]
    begins_ms = min(row["start_ts"] for row in listed) - LEAD_MS
    records: list[Timed] = [book for book in _thinned(books, step_ms) if book.t_ms >= begins_ms]
    for row in listed:
        ended_ms = max(
            [row["end_ts"], *(b["ts"] for b in books if b["market_id"] == row["market_id"])]
        )
        payouts = (_text(row["payout_up"]), _text(row["payout_down"]))
        records.append(
            ResolveRecord(t_ms=ended_ms + 1_000, condition=row["market_id"], payouts=payouts)
        )
    return Tape(
        header=Header(
            version=1,
            attribution=RESOLVED_MARKETS_ATTRIBUTION,
            label="BTC 15-minute markets of 2026-09, books thinned to 1/s and 20 levels",
        ),
        markets=tuple(_settled_market(row) for row in listed),
        records=tuple(sorted(records, key=lambda record: record.t_ms)),
    )


def import_gabagool(
    folder: Path, *, slugs: Iterable[str] = (), markets_max: int = 2, minutes_max: int = 60
) -> Tape:
    """Turn one wallet's fills and the top of book beside them into a tape.

    Args:
        folder: where fills.parquet and market_top_of_book.parquet are.
        slugs: the markets to take; none means the first ``markets_max`` with both kinds of data.
        markets_max: how many, where no slugs are given.
        minutes_max: records later than this after the first are left out.
    """
    fills = _rows(folder / "fills.parquet")
    tops = _tops_by_slug(_rows(folder / "market_top_of_book.parquet"))
    order = list(dict.fromkeys(row["market_slug"] for row in fills))
    wanted = list(slugs) or [slug for slug in order if slug in tops][:markets_max]
    if not set(wanted) <= set(order):
        raise TapeError(f"{folder}: no fills of {sorted(set(wanted) - set(order))}")
    records: list[Timed] = []
    for slug in wanted:
        records.extend(_top_records(slug, tops.get(slug, [])))
    records.extend(_gabagool_fill(row) for row in fills if row["market_slug"] in wanted)
    records.sort(key=lambda record: record.t_ms)
    until_ms = records[0].t_ms + minutes_max * 60_000 if records else 0
    ends = {row["market_slug"]: int(row["window_end"]) * 1_000 for row in fills}
    return Tape(
        header=Header(
            version=1, attribution="GitHub Borisz42/PolymarketAnalyst", label=GABAGOOL_LABEL
        ),
        markets=tuple(
            MarketRecord(
                condition=invented_condition(slug),
                tokens=(invented_token(slug, 0), invented_token(slug, 1)),
                outcomes=("Up", "Down"),
                slug=slug,
                question=f"Bitcoin Up or Down ({slug})",
                category=CATEGORY,
                tags=TAGS,
                end_ms=ends[slug],
            )
            for slug in wanted
        ),
        records=tuple(record for record in records if record.t_ms <= until_ms),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _settled_market(row: Mapping[str, Any]) -> MarketRecord:
    slug = row["slug"]
    return MarketRecord(
        condition=row["market_id"],
        tokens=(invented_token(slug, 0), invented_token(slug, 1)),
        outcomes=(row["outcome_up"], row["outcome_down"]),
        slug=slug,
        question=row["question"],
        category=CATEGORY,
        tags=TAGS,
        end_ms=row["end_ts"],
    )


def _thinned(books: Iterable[Mapping[str, Any]], step_ms: int) -> Iterable[BookRecord]:
    """Yield sound books of outcome 0, dropping repeats and those closer than the step."""
    last: dict[str, BookRecord] = {}
    for row in sorted(books, key=lambda book: book["ts"]):
        record = BookRecord(
            t_ms=row["ts"],
            condition=row["market_id"],
            bids=_levels(row["bid_px"], row["bid_sz"]),
            asks=_levels(row["ask_px"], row["ask_sz"]),
        )
        before = last.get(record.condition)
        crossed = row["bid_px"] and row["ask_px"] and row["bid_px"][0] >= row["ask_px"][0]
        if crossed or (
            before is not None
            and (
                record.t_ms - before.t_ms < step_ms
                or (record.bids, record.asks) == (before.bids, before.asks)
            )
        ):
            continue
        last[record.condition] = record
        yield record


def _tops_by_slug(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, Any]]]:
    """Group top-of-book rows by market, their stamps corrected to UTC milliseconds."""
    tops: dict[str, list[tuple[int, Any]]] = {}
    for row in rows:
        stamp: datetime = row["Timestamp"].replace(tzinfo=UTC)
        if row["src_day"] == _UTC_PLUS_ONE_DAY:
            stamp -= timedelta(hours=1)
        start: datetime = row["TargetTime"].replace(tzinfo=UTC)
        slug = f"btc-updown-15m-{int(start.timestamp())}"
        tops.setdefault(slug, []).append((int(stamp.timestamp() * 1_000), row))
    return tops


def _top_records(slug: str, tops: Iterable[tuple[int, Any]]) -> Iterable[BookRecord]:
    """Yield one level a side, of outcome 0; a side without price or size stays empty."""
    condition = invented_condition(slug)
    for t_ms, row in sorted(tops, key=lambda top: top[0]):
        bid, ask = row["UpBid"], row["UpAsk"]
        if bid and ask and bid >= ask:
            continue
        yield BookRecord(
            t_ms=t_ms,
            condition=condition,
            bids=_level(bid, row["UpBidLiquidity"]),
            asks=_level(ask, row["UpAskLiquidity"]),
        )


def _gabagool_fill(row: Mapping[str, Any]) -> FillRecord:
    return FillRecord(
        t_ms=int(row["ts"]) * 1_000,
        wallet=row["wallet"],
        condition=invented_condition(row["market_slug"]),
        outcome=0 if row["outcome"] == "Up" else 1,
        side="BUY",
        price=_text(row["price"]),
        size=_text(row["size"]),
    )


def _level(price: float | None, size: float | None) -> Levels:
    if not price or not size or not 0 < price < 1:
        return ()
    return ((_text(price), _text(size)),)


def _levels(prices: Iterable[float], sizes: Iterable[float]) -> Levels:
    return tuple(
        (_text(price), _text(size))
        for price, size in zip(prices, sizes, strict=True)
        if size > 0 and 0 < price < 1
    )


def _text(value: float) -> str:
    """Write a recorded double as the decimal it was, to the micro-unit."""
    rounded = Decimal(repr(value)).quantize(Decimal("0.000001")).normalize()
    return f"{rounded:f}"
