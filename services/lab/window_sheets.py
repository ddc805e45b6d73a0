"""Tables of the window statistics: for a terminal, and between the markers of a document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from services.lab.window_runs import Run
from services.lab.window_sets import WindowsError
from services.lab.window_stats import SMALL_USD
from services.lab.window_study import Findings, Study

_TEXT: Final = ("set", "what it is", "policy")  # columns of words, not of numbers
_MARKED: Final = "<!-- begin {} -->\n{}<!-- end {} -->"


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """One table, and the name of its place in the document."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def sheets(found: Findings) -> list[Sheet]:
    """Return every table of what was found."""
    studies = found.studies
    return [
        _sets(studies),
        _splits(studies),
        _flips([study for study in studies if study.flips]),
        _pairs([study for study in studies if study.pairs]),
        *(_runs(study, found.fee_rate) for study in studies if study.runs),
    ]


def _sets(studies: Sequence[Study]) -> Sheet:
    return Sheet(
        name="sets",
        title="recorded sets",
        header=(
            "set", "what it is", "fills", "wallets", "markets", "notional", "fills at once",
            "most", f"fills under ${SMALL_USD}", "their notional",
        ),
        rows=[
            (
                study.name, study.of.about, f"{told.fills:,}", f"{told.wallets:,}",
                f"{told.markets:,}", f"${told.notional:,.0f}",
                f"{told.at_once:.2f} a {told.by}", f"{told.at_once_most}",
                _percent(told.small_fills), _percent(told.small_notional),
            )
            for study in studies
            for told in (study.shape,)
        ],
        note="At once: a wallet's fills in one transaction, or in one second where a set has no "
        "transactions.",
    )  # fmt: skip


def _splits(studies: Sequence[Study]) -> Sheet:
    windows = [f"W = {told.window_s} s" for told in studies[0].splits]
    return Sheet(
        name="splits",
        title="fills in split orders / their notional / fills a burst",
        header=("set", *windows, "largest burst"),
        rows=[
            (
                study.name,
                *(
                    f"{_percent(told.fills)} / {_percent(told.notional)} / {told.a_burst:.2f}"
                    for told in study.splits
                ),
                f"{study.splits[-1].most}",
            )
            for study in studies
        ],
        note="Each cell: the share of fills in bursts of two or more, the share of notional in "
        "them, and the mean fills of a burst, single ones included.",
    )


def _flips(studies: Sequence[Study]) -> Sheet:
    windows = [f"W = {told.window_s} s" for told in studies[0].flips] if studies else []
    return Sheet(
        name="flips",
        title="fills that reverse the previous one / notional cancelled",
        header=("set", *windows),
        rows=[
            (
                study.name,
                *(
                    f"{100 * told.fills:.1f} % / {100 * told.cancelled:.2f} %"
                    for told in study.flips
                ),
            )
            for study in studies
        ],
        note="Reversed is what the same wallet did in the same token at most W earlier; cancelled "
        "is what was both bought and sold in windows of W. Where no outcome is named, a market "
        "counts as one token, which counts some flips too many.",
    )


def _pairs(studies: Sequence[Study]) -> Sheet:
    windows = [f"W = {told.window_s} s" for told in studies[0].pairs] if studies else []
    return Sheet(
        name="pairs",
        title="shares left by token / left by market / paired",
        header=("set", *windows),
        rows=[
            (
                study.name,
                *(
                    f"{_percent(told.by_token)} / {_percent(told.by_market)} / "
                    f"{_percent(told.paired)}"
                    for told in study.pairs
                ),
            )
            for study in studies
        ],
        note="Of all shares in windows of W: what is left when each token is netted by itself, "
        "what is left when the market's two outcomes are netted too, and the difference.",
    )


def _runs(study: Study, fee_rate: float) -> Sheet:
    missing = "" if study.pairs else " The set names no outcomes: each fill is taken as one of YES."
    return Sheet(
        name=f"runs {study.name}",
        title=f"{study.name}: the aggregator's core under other policies",
        header=(
            "policy", "intents", "netted", "orders", "fills an intent", "orders saved",
            "net / gross", "taker fees", "fees saved", "reductions", "median of these",
            "delay p50", "p99", "of the median dollar",
        ),
        rows=[_each(study.runs[0]), *(_run(told) for told in study.runs)],
        note=f"Taker fees are {fee_rate:g} * p * (1 - p) a share.{missing}",
    )  # fmt: skip


def _each(told: Run) -> tuple[str, ...]:
    return (
        "each fill copied", f"{told.fills:,}", "0", f"{told.fills:,}", "1.00", "0 %", "100 %",
        f"${told.fee_each:,.0f}", "0 %", "", "", "0.00 s", "0.00 s", "0.00 s",
    )  # fmt: skip


def _run(told: Run) -> tuple[str, ...]:
    reductions = told.closed_by.get("reduction", 0)
    return (
        told.plan,
        f"{told.intents:,}",
        f"{told.netted:,}",
        f"{told.orders:,}",
        f"{told.fills / max(1, told.intents):.2f}",
        _percent(1 - told.orders / told.fills),
        _percent(told.net / told.gross),
        f"${told.fee_net:,.0f}",
        _percent(1 - told.fee_net / told.fee_each),
        _percent(reductions / max(1, told.intents)),
        f"${told.reduction_p50:,.2f}" if reductions else "",
        f"{told.delay_p50_ms / 1000:.2f} s",
        f"{told.delay_p99_ms / 1000:.2f} s",
        f"{told.delay_dollar_ms / 1000:.2f} s",
    )


def _percent(share: float) -> str:
    return f"{round(100 * share)} %"


def terminal(sheet: Sheet) -> Table:
    """Return a sheet for a terminal."""
    table = Table(title=sheet.title, caption=sheet.note)
    for name in sheet.header:
        table.add_column(name, justify="left" if name in _TEXT else "right")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def markdown(sheet: Sheet) -> str:
    """Return a sheet as a table of Markdown, its note below."""
    rule = tuple("---" if name in _TEXT else "---:" for name in sheet.header)
    lines = [f"| {' | '.join(cells)} |" for cells in (sheet.header, rule, *sheet.rows)]
    return "\n".join(lines) + f"\n\n{sheet.note}\n"


def renew(path: Path, told: Sequence[Sheet]) -> None:
    """Write sheets between their markers in a document; a new one is nothing but them."""
    if not path.exists():
        path.write_text("\n\n".join(_marked(sheet) for sheet in told) + "\n")
        return
    text = path.read_text()
    for sheet in told:
        text = _replaced(path, text, sheet)
    path.write_text(text)


def _marked(sheet: Sheet) -> str:
    return _MARKED.format(sheet.name, markdown(sheet), sheet.name)


def _replaced(path: Path, text: str, sheet: Sheet) -> str:
    begin, end = _MARKED.format(sheet.name, "\0", sheet.name).split("\0")
    before, began, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not began or not ended:
        raise WindowsError(f"{path}: no place for a table: {begin.strip()} ... {end}")
    return before + _marked(sheet) + after
