"""`driftless what-if`: the recorded intents under other settings, and what would be different."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from services.ctl.errors import UsageError
from services.ctl.figures import Names, decimal, json_text, usd
from services.ctl.figures import shares as shares_text
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import find_place, session
from services.lab.whatif import Choice, Line, Outcome, Record, record, replayed
from services.risk.settings import policy_from
from shared.domain.ids import Wallet
from shared.domain.messages import Fact, IntentFormed
from shared.domain.units import Usd
from shared.runtime.config import Config, load
from shared.runtime.ports import Ledger, subjects_of

SUBJECTS: Final = (subjects_of("aggregator"), subjects_of("risk"), subjects_of("ctl"))
_MONEY: Final = ("bought", "sold", "fees", "realised", "held", "value")
_HEADS: Final = ("intents", "orders", "bought", "sold", "fees", "realised", "open at cost",
                 "open at bid", "refused")  # fmt: skip


def what_if(
    other: Annotated[
        Path, typer.Argument(help="The settings to try, a whole file.", show_default=False)
    ],
    config: ConfigOption = None,
    show: Annotated[
        int, typer.Option("--show", min=0, help="How many differing intents to list.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Ask again what to do with every recorded intent, under other settings, and compare.

    Both the present settings and the other ones are run over the same intents, each on the ladder
    that the recorded decision saw; orders fill from that ladder as far as they reach. Nothing is
    sent or written. What the market would have done next is not known: this compares sizes,
    refusals and costs, and is no backtest of profit.

    Example: driftless what-if cautious.toml

    Exit codes: 0 compared, 2 usage or bad settings, 3 NATS or Redis away.
    """
    tried = load(other, environ=os.environ)
    asyncio.run(_what_if(tried, other.name, config, show, as_json))


async def _what_if(tried: Config, name: str, config: Path | None, show: int, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        if tried.account.wallet != at.config.account.wallet:
            raise UsageError(f"{name}: account.wallet is another account: its ledger is elsewhere")
        facts = await read(at.ledger)
        present = at.config
    found = record(facts)
    outcomes = [replayed(found, policy_from(each)) for each in (present, tried)]
    leaders = {leader.wallet: leader.name for leader in (*tried.leaders, *present.leaders)}
    names = Names(leaders, brief=True)
    for seen in found.seen.values():
        names.learn(seen.market)
    if as_json:
        print(json_text(comparison_json(found, outcomes)))
        return
    for line in comparison(found, outcomes, name, names, show):
        console().print(line)


async def read(ledger: Ledger) -> list[Fact]:
    """Return all that was intended, decided and commanded, in the ledger's order."""
    facts: list[Fact] = []
    async for run in ledger.read(SUBJECTS, after=0, until=await ledger.head()):
        for entry in run:
            facts += entry.batch.facts if entry.batch else ()
    return facts


def comparison(
    of: Record, outcomes: Sequence[Outcome], name: str, names: Names, show: int
) -> list[Table | str]:
    """Return the tables and sentences, top to bottom."""
    present, tried = outcomes
    intents = [fact for fact in of.events if isinstance(fact, IntentFormed)]
    if not intents:
        return ["nothing to ask again: no intent is on record"]
    shown: list[Table | str] = [_lines_table(outcomes, name, names)]
    differing = [fact for fact in intents if _differs(present, tried, fact.id)]
    if differing and show:
        shown.append(_choices_table(differing[:show], present, tried, name, names))
    asked = len(intents) - present.unseen
    same = asked - len(differing)
    shown.append(f"{same:,} of {asked:,} intents come to the same under both settings")
    shown.append(_agreement(of, present))
    if tried.approximate or tried.unseen:
        aside = f"{tried.approximate:,} were judged on an older ladder of their market"
        shown.append(f"{aside}; {tried.unseen:,} had none and were left out")
    return shown


def _lines_table(outcomes: Sequence[Outcome], name: str, names: Names) -> Table:
    table = Table(title="The same intents under both settings")
    table.add_column("leader")
    table.add_column("settings")
    for head in _HEADS:
        table.add_column(head, justify="left" if head == "refused" else "right")
    present, tried = outcomes
    wallets = sorted({*present.leaders, *tried.leaders})
    for wallet in wallets:
        who = names.leader(wallet)
        _add(table, who, present.leaders.get(wallet, Line()), tried.leaders.get(wallet, Line()),
             name)  # fmt: skip
    if len(wallets) > 1:
        _add(table, "all", present.total(), tried.total(), name)
    return table


def _add(table: Table, who: str, present: Line, tried: Line, name: str) -> None:
    table.add_row(who, "present", *_cells(present))
    table.add_row("", name, *_cells(tried))
    difference = [f"{tried.orders - present.orders:+,}"]
    difference += [_signed(getattr(tried, key) - getattr(present, key)) for key in _MONEY]
    table.add_row("", "difference", "", *difference, "", end_section=True, style="bold")


def _cells(line: Line) -> list[str]:
    money = [usd(getattr(line, key)) for key in _MONEY]
    refused = ", ".join(f"{reason} {count:,}" for reason, count in line.refused.most_common(3))
    return [f"{line.intents:,}", f"{line.orders:,}", *money, refused]


def _signed(micro: int) -> str:
    return f"+{usd(micro)}" if micro > 0 else usd(micro)


def _choices_table(
    intents: Sequence[IntentFormed],
    present: Outcome,
    tried: Outcome,
    name: str,
    names: Names,
) -> Table:
    table = Table(title=f"The first {len(intents)} that come out differently")
    for head in ("leader", "market", "his change", "present", name):
        table.add_column(head, justify="right" if head == "his change" else "left")
    for fact in intents:
        table.add_row(
            names.leader(fact.leader),
            names.market(fact.condition),
            shares_text(fact.after - fact.before, signed=True),
            _choice(present.choices.get(fact.id)),
            _choice(tried.choices.get(fact.id)),
        )
    return table


def _choice(choice: Choice | None) -> str:
    if choice is None:
        return "not asked"
    parts = [f"target {shares_text(choice.target, signed=True)}"]
    if choice.bought:
        parts.append(f"bought {usd(choice.bought)}")
    if choice.sold:
        parts.append(f"sold {usd(choice.sold)}")
    if choice.reason:
        parts.append(choice.reason)
    return ", ".join(parts)


def _differs(present: Outcome, tried: Outcome, intent: str) -> bool:
    return present.choices.get(intent) != tried.choices.get(intent)


def _agreement(of: Record, present: Outcome) -> str:
    """Say how far the present settings, asked again, do what is on record."""
    recorded = [intent for intent in of.recorded if intent in present.choices]
    agreed = sum(
        1
        for intent in recorded
        if (of.recorded[intent] > 0)
        == bool(present.choices[intent].bought or present.choices[intent].sold)
    )
    text = f"{agreed:,} of {len(recorded):,} recorded decisions are taken the same way again"
    return f"{text} by the present settings; the rest differ by what was held or had changed"


def comparison_json(of: Record, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    present, tried = outcomes
    return {
        "intents": sum(1 for fact in of.events if isinstance(fact, IntentFormed)),
        "approximate": tried.approximate,
        "unseen": tried.unseen,
        "present": _outcome_json(present),
        "other": _outcome_json(tried),
        "differing": [intent for intent in tried.choices if _differs(present, tried, intent)],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    lines = {**outcome.leaders, Wallet("all"): outcome.total()}
    return {
        wallet: {
            "intents": line.intents,
            "orders": line.orders,
            **{key: decimal(Usd(getattr(line, key))) for key in _MONEY},
            "refused": dict(line.refused),
        }
        for wallet, line in lines.items()
    }
