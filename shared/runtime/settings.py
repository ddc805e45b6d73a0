"""Settings as they travel and as they are compared: whole, key by key, as a person writes them."""

from typing import Any, Final

import msgspec

from shared.domain.units import format_micro
from shared.runtime.config import Config
from shared.runtime.sections import ConfigError, FieldError, Section, is_money

# Addresses and the account are not here: they decide nothing, or everything.
_DECIDING: Final = ("ingester", "aggregator", "risk", "executor", "reconciler")


def encode(config: Config) -> str:
    """Return the whole configuration as canonical JSON; no secret is in it."""
    return msgspec.json.encode(config, order="deterministic").decode()


def decode_config(text: str) -> Config:
    """Return an encoded configuration, checked as a file is, or raise ConfigError."""
    try:
        return msgspec.json.decode(text, type=Config)
    except (msgspec.ValidationError, FieldError) as e:
        problem, _, path = str(e).replace("`", "").rpartition(" - at $")
        key = path.removeprefix(".") if problem else ""
        raise ConfigError(key or "settings", None, problem or str(e)) from e
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise ConfigError("settings", None, f"must be what encode returned: {e}") from e


def flat(config: Config) -> dict[str, str]:
    """Return every setting that changes decisions, by its path, as a person writes it.

    What is empty or follows another setting has no line.
    """
    found: dict[str, str] = {"mode": config.mode}
    for name in _DECIDING:
        found |= lines(name, getattr(config, name))
    for leader in config.leaders:
        found |= lines(f"leaders.{leader.wallet}", leader)
    return {key: value for key, value in found.items() if value}


def lines(path: str, section: Section) -> dict[str, str]:
    """Return each key of a section below a path, with its value as a person writes it.

    A key that follows another setting (None) has no line; the tables of a list are counted.
    """
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        key = f"{path}.{field.name}"
        if isinstance(value, tuple) and value and isinstance(value[0], Section):
            for at, each in enumerate(value):
                found |= lines(f"{key}[{at}]", each)
        elif value is not None:
            found[key] = _text(value, money=is_money(field.type))
    return found


def _text(value: Any, *, money: bool) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_micro(value) if money else str(value)
