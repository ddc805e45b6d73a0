"""A decision's numbers, step by step: how a target was sized, and what each rule said of an order.

A rule's ``actual`` and ``limit`` are in its unit; what they are is known by the rule's name.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from services.ctl.figures import (
    decimal,
    measured,
    notional,
    number,
    number_unit,
    percent,
    price,
    shares,
    usd,
)
from shared.domain.messages import TargetSet, Verdict
from shared.domain.units import BPS, MICRO, Price, Shares

_STYLES: Final = {
    "pass": "green", "sized": "green", "less": "yellow", "more": "cyan", "trim": "yellow",
    "refuse": "red",
}  # fmt: skip
_MODES: Final = ("fixed", "proportional", "portfolio", "kelly")
_UNKNOWN: Final = {
    "LEADER_VALUE_UNKNOWN": "what his positions are worth is not known",
    "EQUITY_UNKNOWN": "what our account is worth is not known",
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the arithmetic behind a target."""

    rule: str
    mark: str  # sized: a size of its own; less, more, pass: against the step before; refuse
    reason: str
    how: str  # the numbers, in words
    size: Shares  # after the step
    change: Shares | None  # None where nothing comes before


def steps_of(fact: TargetSet) -> list[Step]:
    """Return how a target came about; nothing where an older decision did not say."""
    found: list[Step] = []
    size: int | None = None
    for verdict in fact.arithmetic:
        if verdict.rule == "exit":
            size = abs(fact.before)
        elif verdict.rule in _MODES:
            size = None  # an entry is sized anew, whatever was left of an exit
        before, size = size, int(verdict.size)
        found.append(
            Step(
                rule=verdict.rule,
                mark=_mark(verdict, before),
                reason=verdict.reason,
                how=_how(verdict, before),
                size=verdict.size,
                change=None if before is None else Shares(size - before),
            )
        )
    return found


def _mark(verdict: Verdict, before: int | None) -> str:
    if verdict.outcome == "refuse":
        return "refuse"
    if before is None:
        return "sized"
    if verdict.size == before:
        return "pass"
    return "less" if verdict.size < before else "more"


def _how(step: Verdict, before: int | None) -> str:
    """Return a sizing step's numbers in words: what each is depends on the rule."""
    actual, limit = step.actual, step.limit
    if step.reason in _UNKNOWN:
        return _UNKNOWN[step.reason]
    match step.rule:
        case "exit":
            kept = percent(actual * BPS // limit) if limit else "nothing"
            return f"he keeps {shares(actual)} of {shares(limit)} shares ({kept})"
        case "fixed":
            return f"{usd(limit)} an intent, at his {price(actual)}"
        case "proportional":
            return f"{percent(limit)} of the {shares(actual)} shares he added"
        case "portfolio":
            part = percent(actual * BPS // limit)
            return f"he put {usd(actual)} of {usd(limit)} ({part}), we the same part of our equity"
        case "kelly":
            return f"a share costs {price(actual)}, fee included; believed worth {price(limit)}"
        case "leader_added":
            return f"no more than the {shares(limit)} shares he added"
        case _:
            return _scaled(step, before)


def _scaled(step: Verdict, before: int | None) -> str:
    actual, limit = step.actual, step.limit
    match step.rule:
        case "tier":
            return f"his {usd(actual)} are in the tier from {usd(limit)}{_factor(step, before)}"
        case "category_scale":
            return f"its category is copied at {percent(actual)}"
        case "trade_cap":
            return f"{usd(actual)} at his price, at most {usd(limit)} a trade"
        case "volatility":
            calm = measured(limit, "volatility")
            seen = f"the mid moves {measured(actual, 'volatility')}"
            if actual < 0:
                seen = "how much the mid moves is not known yet"
            return f"{seen}, calm is {calm}{_factor(step, before)}"
        case "slippage":
            came = f"{percent(abs(actual))} {'worse' if actual > 0 else 'better'} than estimated"
            told = f"orders came {came if actual else 'as estimated'}, budget {percent(limit)}"
            return f"{told}{_factor(step, before)}"
        case "depth_share":
            return f"{shares(actual)} shares offered near the best, our share {shares(limit)}"
        case _:
            return f"{measured(actual, step.unit)} of {measured(limit, step.unit)}"


def _factor(step: Verdict, before: int | None) -> str:
    """Return the factor that made the size, rounded to what the sizes show."""
    if not before or step.size == before:
        return ""
    return f": times {percent(round(step.size * BPS / before))}"


# --- for people ---------------------------------------------------------------------------


def steps_table(fact: TargetSet) -> Table:
    """Return how a target was sized: each step, its numbers, and the size it left."""
    table = _table("sized by", "", "how", "shares", "change", "at his price", "reason")
    yes = (fact.target or fact.before) >= 0
    bought = fact.yes_price if yes else Price(MICRO - fact.yes_price)
    for step in steps_of(fact):
        table.add_row(
            step.rule,
            Text(step.mark, style=_STYLES[step.mark]),
            step.how,
            shares(step.size),
            shares(step.change, signed=True) if step.change else "",
            usd(notional(bought, step.size)),
            step.reason,
        )
    return table


def verdicts_table(verdicts: Sequence[Verdict]) -> Table:
    """Return each rule's word in order, with its numbers and the size it left; trims stand out."""
    table = _table("rule", "outcome", "actual", "limit", "shares", "change", "reason")
    before = None
    for verdict in verdicts:
        told = (measured(verdict.actual, verdict.unit), measured(verdict.limit, verdict.unit))
        trims = verdict.outcome == "trim"
        change = _change(verdict, before)
        table.add_row(
            verdict.rule,
            Text(verdict.outcome, style=_STYLES[verdict.outcome]),
            *(told if verdict.unit else ("", "")),
            "" if verdict.outcome == "refuse" else shares(verdict.size),
            shares(change, signed=True) if change else "",
            verdict.reason,
            style="bold" if trims else "",
        )
        before = verdict.size
    return table


def _change(verdict: Verdict, before: Shares | None) -> Shares | None:
    """Return by how much a rule changed the size, as far as its own numbers or the last's tell."""
    if verdict.outcome != "trim":
        return None
    if before is None and verdict.unit != "shares":
        return None
    return Shares(verdict.size - (verdict.actual if before is None else before))


def _table(*heads: str) -> Table:
    right = {"actual", "limit", "shares", "change", "at his price"}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left")
    return table


# --- for machines -------------------------------------------------------------------------


def steps_json(fact: TargetSet) -> list[dict[str, Any]]:
    """Return how a target was sized: sizes are exact decimals, the numbers stand in ``text``."""
    return [
        {
            "rule": step.rule,
            "mark": step.mark,
            "reason": step.reason,
            "text": step.how,
            "size": decimal(step.size),
            "change": None if step.change is None else decimal(step.change),
        }
        for step in steps_of(fact)
    ]


def verdicts_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return each rule's word: dollars, shares and prices are exact decimals, ages are in ms."""
    return [
        {
            "rule": verdict.rule,
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "actual": number(verdict.actual, verdict.unit),
            "limit": number(verdict.limit, verdict.unit),
            "unit": number_unit(verdict.unit),
            "size": None if verdict.outcome == "refuse" else decimal(verdict.size),
        }
        for verdict in verdicts
    ]
