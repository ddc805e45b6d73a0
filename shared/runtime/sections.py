"""A TOML table becomes a checked struct; what cannot be used is refused with its key's path.

Only what any settings file needs belongs here; the settings themselves are in ``config.py``.
"""

import difflib
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from shared.domain.units import Price, Shares, Usd, format_micro, parse_micro

_Section = TypeVar("_Section", bound="Section")
_MONEY: Final = (Usd, Price, Shares)


class ConfigError(Exception):
    """A setting that cannot be used: which key, what it holds, and what to write instead."""

    def __init__(self, key: str, value: object, problem: str, file: str = "") -> None:
        shown = "" if value is None else f" = {value!s:.80}"
        super().__init__(f"{file}{': ' if file else ''}{key}{shown}: {problem}")
        self.key = key
        self.value = value
        self.problem = problem


class Range(NamedTuple):
    """The inclusive bounds of a number, in the unit of the struct's field."""

    low: int
    high: int


class FieldError(ValueError):
    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(f"{field} = {value}: {problem}")
        self.field, self.value, self.problem = field, value, problem


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; constructing one checks the range of each number in it."""

    def __post_init__(self) -> None:
        for name, bounds, money in _bounds(type(self)):
            for key, value in _numbers(name, getattr(self, name)):
                if not bounds.low <= value <= bounds.high:
                    low, high = (format_micro(b) if money else str(b) for b in bounds)
                    shown = format_micro(value) if money else value
                    raise FieldError(key, shown, f"must be between {low} and {high}")


def build(kind: type[_Section], table: object, path: str = "") -> _Section:
    """Return the struct a table describes; ``path`` is where the table stands in the file."""
    if not isinstance(table, dict):
        raise ConfigError(path.rstrip("."), table, "must be a table, with keys below its name")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            raise ConfigError(f"{path}{key}", None, f"unknown key{_suggest(key, list(fields))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(table[name], field.type, f"{path}{name}")
        elif field.required and not _is_section(field.type):
            raise ConfigError(f"{path}{name}", None, "is missing and has no default: add it")
        elif field.required:
            values[name] = _value({}, field.type, f"{path}{name}")
    try:
        return kind(**values)
    except FieldError as e:
        raise ConfigError(f"{path}{e.field}", e.value, e.problem) from None


def _value(value: object, annotation: Any, path: str) -> object:
    kind, _ = _unwrap(annotation)
    if _is_section(kind):
        return build(kind, value, f"{path}.")
    if get_origin(kind) is tuple:
        (item, _) = get_args(kind)
        if not isinstance(value, list):
            cure = f"write [[{path}]] before each" if _is_section(item) else "write [a, b]"
            raise ConfigError(path, value, f"must be a list: {cure}")
        return tuple(_value(each, item, f"{path}[{at}]") for at, each in enumerate(value))
    if kind in _MONEY:
        return _micro(value, path)
    if kind is float and isinstance(value, Decimal | int) and not isinstance(value, bool):
        return float(value)
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ConfigError(path, value, f"must be one of {', '.join(get_args(kind))}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        problem = str(e).replace("`", "").replace("Decimal", "decimal number")
        raise ConfigError(path, value, problem) from None


def _micro(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ConfigError(path, value, 'must be a decimal number such as 12.5 or "12.5"')
    try:
        return parse_micro(str(value))
    except ValueError:
        raise ConfigError(path, value, "must be a decimal number, at most 6 decimals") from None


def _unwrap(annotation: Any) -> tuple[Any, Range | None]:
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    if get_origin(annotation) is Annotated:
        kind, bounds = get_args(annotation)
        return kind, bounds
    return annotation, None


def is_money(annotation: Any) -> bool:
    """Tell whether a setting is written in dollars or shares, and kept in micro-units."""
    return _unwrap(annotation)[0] in _MONEY


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


@cache
def _bounds(kind: type[Section]) -> tuple[tuple[str, Range, bool], ...]:
    found = ((field.name, *_number(field.type)) for field in msgspec.structs.fields(kind))
    return tuple((name, bounds, base in _MONEY) for name, base, bounds in found if bounds)


def _number(annotation: Any) -> tuple[Any, Range | None]:
    """Return the kind of a field and its bounds; of a list, those of each of its items."""
    kind, bounds = _unwrap(annotation)
    return _unwrap(get_args(kind)[0]) if get_origin(kind) is tuple else (kind, bounds)


def _numbers(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return what a field holds, each with its key: nothing, one number, or those of a list."""
    if isinstance(value, tuple):
        return [(f"{name}[{at}]", each) for at, each in enumerate(value)]
    return [] if value is None else [(name, value)]


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": known here are {', '.join(known)}"
