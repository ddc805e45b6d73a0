"""Recorded fills of real wallets, from whatever files they came in, as one kind of row."""

import csv
import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from shared.domain.units import MICRO, Price, Shares

UNKNOWN: Final = -1  # of an outcome that a set does not name
_OUTCOMES: Final = {"Up": 0, "Yes": 0, "Down": 1, "No": 1}


class WindowsError(Exception):
    """What was asked for cannot be measured; the message says why and what to do."""


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution of a wallet, as a set recorded it."""

    wallet: str
    market: str
    outcome: int  # 0, 1 or UNKNOWN
    side: str  # BUY, SELL, or "" where the set does not say
    price: Price
    size: Shares
    at_s: int
    tx: str  # "" where the set has none

    @property
    def token(self) -> str:
        return f"{self.market}/{self.outcome}"

    @property
    def notional(self) -> float:
        """Return dollars."""
        return self.price * self.size / (MICRO * MICRO)


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Where a set keeps what; an empty name is a column that it does not have."""

    wallet: str
    market: str
    at: str
    outcome: str = ""
    side: str = ""
    tx: str = ""
    always: str = ""  # the side of every fill, where there is no column
    kind: str = ""  # the column that tells trades from other activity


class Set(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded set: its file or files below the data folder, and how to read them."""

    name: str
    folder: str
    file: str  # without its suffix; may be a pattern
    columns: Columns
    about: str


_DATA_API: Final = Columns(
    wallet="proxyWallet", market="conditionId", at="timestamp", outcome="outcomeIndex",
    side="side", tx="transactionHash",
)  # fmt: skip

SETS: Final = (
    Set(
        name="pair builder",
        folder="gabagool22-fills-2025-12",
        file="fills",
        columns=Columns(
            wallet="wallet", market="market_slug", at="ts", outcome="outcome", always="BUY"
        ),
        about="one machine that buys both outcomes of Bitcoin's 15-minute markets, 4 days",
    ),
    Set(
        name="sweepers",
        folder="sweeper-wallets-2026-02",
        file="trades",
        columns=Columns(
            wallet="wallet", market="condition_id", at="timestamp", outcome="outcome",
            side="side", tx="transaction_hash",
        ),
        about="two wallets that buy near-certain outcomes in size, 13 days",
    ),
    Set(
        name="small bots",
        folder="data-api-activity-raw-2026-02",
        file="*_activity",
        columns=msgspec.structs.replace(_DATA_API, kind="type"),
        about="three small machines, one page of their activity each",
    ),
    Set(
        name="news takers",
        folder="data-api-trades-nobel2025",
        file="trades_unique",
        columns=_DATA_API,
        about="everyone who took in the markets of one event, 3.8 hours",
    ),
    Set(
        name="whole venue",
        folder="realtime-trades-2025-12",
        file="market_wide_*",
        columns=Columns(
            wallet="user_id", market="market_id", at="timestamp", side="side", tx="id"
        ),
        about="everyone who took in any market, 8 minutes; outcomes are not named",
    ),
    Set(
        name="activity stream",
        folder="realtime-trades-2025-12",
        file="realtime_trades",
        columns=Columns(wallet="wallet", market="market", at="timestamp", tx="tx_hash"),
        about="rows of makers and takers, larger trades, 3 hours; neither outcomes nor sides",
    ),
)  # fmt: skip


def read(of: Set, data: Path) -> list[Fill] | None:
    """Return a set's fills in the order of time, or None where its files are absent."""
    found = sorted((data / of.folder).glob(f"{of.file}.*"))
    if not found:
        return None
    fills = [
        _fill(row, of.columns, path)
        for path in found
        for row in _rows(path)
        if not of.columns.kind or row[of.columns.kind] == "TRADE"
    ]
    return sorted(fills, key=lambda fill: fill.at_s)


def _fill(row: dict[str, Any], names: Columns, path: Path) -> Fill:
    try:
        return Fill(
            wallet=row[names.wallet],
            market=row[names.market],
            outcome=_outcome(row[names.outcome]) if names.outcome else UNKNOWN,
            side=row[names.side] if names.side else names.always,
            price=Price(round(float(row["price"]) * MICRO)),
            size=Shares(round(float(row["size"]) * MICRO)),
            at_s=_seconds(row[names.at]),
            tx=row[names.tx] if names.tx else "",
        )
    except (KeyError, TypeError, ValueError) as e:
        raise WindowsError(f"{path}: not a row of fills ({e!r}): {str(row)[:200]}") from e


def _outcome(told: str | int) -> int:
    index = int(told) if str(told).isdigit() else _OUTCOMES[str(told)]
    if index not in (0, 1):
        raise ValueError(f"outcome {told}")
    return index


def _seconds(told: int | str | datetime) -> int:
    return int(told.timestamp()) if isinstance(told, datetime) else int(told)


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if path.name.endswith(".parquet"):
        return _parquet(path)
    if path.name.endswith(".json.gz"):
        return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=list[dict[str, Any]])
    if path.name.endswith(".csv.gz"):
        return _csv(path)
    raise WindowsError(f"{path}: neither .parquet nor .csv.gz nor .json.gz")


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise WindowsError(
            f"{path}: reading parquet needs pyarrow, which is a development dependency: "
            "pip install -e '.[dev]'"
        ) from e
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows
