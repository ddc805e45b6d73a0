"""`driftless config`: every setting as it holds, where it is from, and what two files differ in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from services.ctl.errors import FINDING
from services.ctl.figures import json_text, short
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import Place, find_place
from shared.domain.changes import Change, difference
from shared.runtime.config import (
    ADDRESSES,
    COLLECTOR,
    AccountConfig,
    Config,
    LeaderConfig,
    RiskConfig,
    VenueConfig,
    load,
    read_table,
)
from shared.runtime.presets import PRESETS, with_preset
from shared.runtime.sections import Section, build
from shared.runtime.settings import lines

_STEP: Final = re.compile(r"(\w+)(?:\[(\d+)\])?")
_EMPTY: Final = "-"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it holds; values as a person writes them."""

    key: str
    value: str
    origin: str  # file, environment, preset NAME or default
    otherwise: str  # what it were if the file did not hold it; "" where it must


def config(
    config: ConfigOption = None,
    other: Annotated[
        Path | None,
        typer.Option("--diff", help="Show what this file has different.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every setting as it holds, after preset and defaults, and where it is from.

    A setting is from the file, from the environment (addresses alone), from the preset that [risk]
    names, or it is the default. Where the file holds something else than it would be without, that
    stands beside it. A leader's keys that follow [aggregator] or [risk] are not listed. With
    --diff, two files are compared key by key, preset and defaults included, without the
    environment.

    Example: driftless config --config paper.toml --diff cautious.toml

    Exit codes: 0 shown, or no difference, 1 the files differ, 2 no usable configuration.
    """
    place = find_place(config)
    if other is None:
        found = settings(place)
        if as_json:
            print(json_text(settings_json(place.config_path, found)))
        else:
            console().print(settings_table(place.config_path, found))
        return
    changes = compare(place.config_path, other)
    if as_json:
        print(json_text(changes_json(changes)))
    elif changes:
        console().print(changes_table(place.config_path, other, changes))
    else:
        print(f"{place.config_path} and {other} come to the same settings")
    if changes:
        raise typer.Exit(FINDING)


def settings(place: Place) -> list[Setting]:
    """Return every setting that holds, in the order of the sections; raises ConfigError."""
    loaded, table = place.load(), read_table(place.config_path)
    values, left_out = everything(loaded), _left_out(loaded)
    found = []
    for key, value in values.items():
        origin = _origin(key, _written(key, table, loaded), loaded, place.environ)
        otherwise = left_out.get(key, "")
        found.append(Setting(key=key, value=value, origin=origin, otherwise=otherwise))
    return found


def compare(one: Path, other: Path) -> tuple[Change, ...]:
    """Return what two files differ in, whatever the environment; raises ConfigError."""
    before, after = (everything(load(path, environ={})) for path in (one, other))
    return difference(before, after)


def everything(config: Config) -> dict[str, str]:
    """Return every setting by its path, addresses included."""
    found: dict[str, str] = {"mode": config.mode}
    for field in msgspec.structs.fields(config):
        section = getattr(config, field.name)
        if isinstance(section, Section):
            found |= lines(field.name, section)
    for leader in config.leaders:
        found |= lines(f"leaders.{leader.wallet}", leader)
    return found


def _left_out(config: Config) -> dict[str, str]:
    """Return what each setting would be if the file did not hold it, where it need not."""
    risk = with_preset({"risk": {"preset": config.risk.preset}})["risk"]
    account = AccountConfig(wallet=config.account.wallet)
    plain = Config(
        mode=config.mode,
        account=account,
        venue=VenueConfig(local_url=config.venue.local_url),
        leaders=tuple(LeaderConfig(wallet=leader.wallet) for leader in config.leaders),
        risk=build(RiskConfig, risk, "risk."),
    )
    needed = {"mode", "account.wallet", "risk.preset", "venue.local_url"}
    return {
        key: value
        for key, value in everything(plain).items()
        if key not in needed and not key.endswith(".wallet")
    } | {"risk.preset": RiskConfig().preset}


def _written(key: str, table: Mapping[str, Any], config: Config) -> Any:
    """Return what a file holds at a path, None where nothing; its leaders stand by number."""
    for at, leader in enumerate(config.leaders):
        key = key.replace(f"leaders.{leader.wallet}", f"leaders[{at}]")
    inside: Any = table
    for name, at_ in _STEP.findall(key):
        if name not in inside:
            return None
        inside = inside[name][int(at_)] if at_ else inside[name]
    return inside


def _origin(key: str, written: Any, config: Config, environ: Mapping[str, str]) -> str:
    section, _, name = key.partition(".")
    replaced = environ.get(ADDRESSES.get(key, ""))
    named = key == "telemetry.otlp_endpoint" and not written and environ.get(COLLECTOR)
    if replaced or named:
        return "environment"
    if written is not None:
        return "file"
    if section == "risk" and name in PRESETS[config.risk.preset]:
        return f"preset {config.risk.preset}"
    return "default"


# --- for people and for machines --------------------------------------------------------------


def settings_table(path: Path, found: list[Setting]) -> Table:
    """Return the settings, section by section; what is as by default is dim."""
    table = Table(title=f"Settings of {path}", title_justify="left")
    for head in ("setting", "value", "from", "left out, it is"):
        table.add_column(head)
    names = _names(found)
    before = ""
    for each in found:
        if _section(each.key) != before:
            table.add_section()
        before = _section(each.key)
        table.add_row(
            Text(_shown(each.key, names)),
            Text(each.value or _EMPTY),
            Text(each.origin),
            Text("" if each.otherwise == each.value else each.otherwise),
            style="dim" if each.origin == "default" else "",
        )
    return table


def changes_table(one: Path, other: Path, changes: tuple[Change, ...]) -> Table:
    """Return what differs; a key that a file has nothing for shows a dash."""
    table = Table(title=f"What {other} has different", title_justify="left")
    for head in ("setting", str(one), str(other)):
        table.add_column(Text(head))
    for key, before, after in changes:
        table.add_row(Text(_shown(key, {})), Text(before or _EMPTY), Text(after or _EMPTY))
    return table


def settings_json(path: Path, found: list[Setting]) -> dict[str, Any]:
    return {"file": str(path), "settings": [msgspec.structs.asdict(each) for each in found]}


def changes_json(changes: tuple[Change, ...]) -> dict[str, Any]:
    told = [{"key": key, "before": before, "after": after} for key, before, after in changes]
    return {"same": not changes, "differences": told}


def _section(key: str) -> str:
    return ".".join(key.split(".")[: 2 if key.startswith("leaders.") else 1])


def _names(found: list[Setting]) -> dict[str, str]:
    named = (each for each in found if re.fullmatch(r"leaders\.\w+\.name", each.key))
    return {each.key.split(".")[1]: each.value for each in named if each.value}


def _shown(key: str, names: Mapping[str, str]) -> str:
    """Return a key with a leader's name, or the beginning of his wallet, for the whole of it."""
    if not key.startswith("leaders."):
        return key
    section, wallet, name = key.split(".", 2)
    return f"{section}.{names.get(wallet, short(wallet))}.{name}"
