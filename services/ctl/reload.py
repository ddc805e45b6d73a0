"""`driftless reload`: other settings for the running system, checked here, answered by risk."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from services.ctl.asking import DEADLINE_S, ask
from services.ctl.commands import ReasonOption
from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import Names, json_text, short
from services.ctl.options import JsonOption, console
from services.ctl.session import USER, Place, find_place, session
from shared.domain.changes import Change, difference
from shared.domain.ids import Wallet, content_id
from shared.domain.messages import CommandRefused, ConfigChanged, ReloadConfig
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.config import Config
from shared.runtime.ports import Ledger
from shared.runtime.settings import encode, flat

# What is read while a service runs; everything else is read once, when it starts.
_AT_ONCE: Final = re.compile(r"(risk|aggregator)\..+|leaders\.[^.]+\..+")
_AT_START: Final = re.compile(r"(risk|aggregator)\.tick_ms|leaders\.[^.]+\.wallet")
_FILTERS: Final = tuple(f"driftless.risk.{kind}.>" for kind in ("config_changed", "several"))


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decisions are made by, as the ledger tells them."""

    values: dict[str, str]
    hash: str


def reload(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The settings to decide by; else the file that this system was started with.",
            show_default=False,
        ),
    ] = None,
    reason: ReasonOption = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Decide by other settings from now on, without a restart; shows what changes.

    The file is checked here first, and what differs from the settings in force is shown. It goes
    to the `driftless up` or `demo` that runs here, else to the system of $DRIFTLESS_CONFIG, else
    to the one that the file names. Limits, sizing and windows hold from the next decision on; what
    needs a restart is said. A service that restarts reads its own file again: change that one.

    Example: driftless reload --config cautious.toml --reason "news at eight"

    Exit codes: 0 in force (or it already was), 1 refused or no answer from risk, 2 no usable
    configuration, 3 NATS or Redis away.
    """
    asyncio.run(_reload(config, reason, as_json))


async def _reload(path: Path | None, reason: str, as_json: bool) -> None:
    place, file = places(path)
    wanted = file.load()
    async with session(place) as at:
        check(wanted, at.config, file.config_path)
        before = await in_force(at.ledger)
        told = () if as_json else tell_before(before, wanted, file.config_path)
        done = await exchange(at.ledger, before, wanted, reason, SystemClock())
    if as_json:
        print(json_text(done))
        return
    changes = tuple((each["key"], each["before"], each["after"]) for each in done["changes"])
    if changes and changes != told:
        console().print(changes_table("Changed", changes, names_in(wanted)))
    print(done["text"])


def places(path: Path | None) -> tuple[Place, Place]:
    """Return where the running system is, and where its settings are to be read from.

    The addresses and passwords are the running system's for both.
    """
    try:
        running = find_place(None)
    except UsageError:
        running = find_place(path)
    file = running if path is None else msgspec.structs.replace(running, config_path=path)
    return running, file


def check(wanted: Config, running: Config, path: Path) -> None:
    """Refuse what no reload can do; raises UsageError."""
    if wanted.account.wallet != running.account.wallet:
        problem = "account.wallet is another account than that of the running system"
        raise UsageError(f"{path}: {problem}: another account is another ledger, start it anew")
    if wanted.mode != running.mode:
        problem = f"mode = {wanted.mode}, but the running system is in {running.mode} mode"
        raise UsageError(f"{path}: {problem}: stop it and start it anew")


async def in_force(ledger: Ledger) -> Known | None:
    """Return the settings that the ledger says are in force; None where it says nothing."""
    known: Known | None = None
    head = await ledger.head()
    async for run in ledger.read(_FILTERS, after=0, until=head):
        for fact in (fact for entry in run if entry.batch for fact in entry.batch.facts):
            if isinstance(fact, ConfigChanged):
                values = dict(known.values) if known else {}
                values |= {key: after for key, _, after in fact.changes}
                values = {key: value for key, value in values.items() if value}
                known = Known(values=values, hash=fact.hash)
    return known


async def exchange(
    ledger: Ledger,
    before: Known | None,
    wanted: Config,
    reason: str,
    clock: Clock,
    *,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any]:
    """Give the command and return what became of it; raises CtlError where risk refuses."""
    if before is not None and not difference(before.values, flat(wanted)):
        return _done(
            "these settings are in force already: nothing to do", before.hash, (), None, None
        )
    encoded, now_ns = encode(wanted), clock.now_ns()
    id_ = content_id("reload_config", USER, encoded, reason, now_ns)
    command = ReloadConfig(
        id=id_, cause="", root=id_, ts_ns=now_ns, config=encoded, reason=reason, actor=USER
    )
    answer = await ask(ledger, command, deadline_s=deadline_s)
    said = answer.said
    if isinstance(said, CommandRefused):
        raise CtlError(f"risk refused the settings, the old ones hold: {said.reason}")
    assert isinstance(said, ConfigChanged)
    waiting = [key for key, _, _ in said.changes if needs_restart(key)]
    count = f"{len(said.changes)} setting{'' if len(said.changes) == 1 else 's'} changed"
    later = f"; {len(waiting)} of them only after a restart" if waiting else ""
    text = f"{count}{later} (settings {short(said.hash)})"
    return _done(text, said.hash, said.changes, answer.seq, said.id)


def needs_restart(key: str) -> bool:
    """Tell whether a setting is read only when a service starts.

    A leader who is new or gone needs one too: the ingester begins to read him when it starts.
    """
    return not _AT_ONCE.fullmatch(key) or bool(_AT_START.fullmatch(key))


# --- for people and for machines ----------------------------------------------------------


def tell_before(before: Known | None, wanted: Config, path: Path) -> tuple[Change, ...]:
    """Print and return what differs from the settings in force, before anything is asked for."""
    if before is None:
        print("the ledger does not say which settings are in force: all of the file are sent")
        return ()
    changes = difference(before.values, flat(wanted))
    if changes:
        title = f"What {path} has different from what is in force"
        console().print(changes_table(title, changes, names_in(wanted)))
    return changes


def changes_table(title: str, changes: tuple[Change, ...], names: Names) -> Table:
    """Return the changes, key by key; a dash stands for nothing."""
    table = Table(title=Text(title), title_justify="left")
    for head in ("setting", "before", "after", "in force"):
        table.add_column(head, overflow="fold")
    for key, before, after in changes:
        restart = needs_restart(key)
        table.add_row(
            Text(_named(key, names)),
            Text(before or "-"),
            Text(after or "-"),
            Text("after a restart", style="yellow") if restart else Text("at once", style="green"),
        )
    return table


def names_in(config: Config) -> Names:
    return Names({leader.wallet: leader.name for leader in config.leaders if leader.name})


def _named(key: str, names: Names) -> str:
    """Return a key with the leader's name for his wallet."""
    section, _, rest = key.partition(".")
    if section != "leaders":
        return key
    wallet, _, field = rest.partition(".")
    return f"leaders.{names.leader(Wallet(wallet))}.{field}"


def _done(
    text: str, hash_: str, changes: tuple[Change, ...], seq: int | None, fact: str | None
) -> dict[str, Any]:
    return {
        "changed": bool(changes),
        "changes": [
            {"key": key, "before": before, "after": after, "restart": needs_restart(key)}
            for key, before, after in changes
        ],
        "hash": hash_,
        "text": text,
        "command_seq": seq,
        "fact": fact,
    }
