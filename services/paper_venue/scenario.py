"""Scenarios: faults by the second, from a file, a body, or drawn at random."""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

from services.paper_venue.rules import Rule, RuleError, read_rule
from services.paper_venue.storm import Storm, storm_steps

Told = dict[str, object]
STEP_SEED: Final = 1_000_003  # spreads a scenario's seed over its steps


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps as told, or a storm, or both; ``at_s`` of a step counts from the scenario's start."""

    seed: int = 1
    step: tuple[Told, ...] = ()
    storm: Storm | None = None


def read_scenario(told: object) -> tuple[Rule, ...]:
    """Return the rules of a scenario in the order of its steps, or raise RuleError.

    Every step has draws of its own: a function of the scenario's seed and the step's place.
    """
    try:
        scenario = msgspec.convert(told, Scenario)
    except msgspec.ValidationError as error:
        raise RuleError(
            f"scenario: {error}: it has `seed`, `[[step]]` tables, `[storm]`"
        ) from error
    steps = [*scenario.step, *(storm_steps(scenario.storm) if scenario.storm else ())]
    if not steps:
        raise RuleError("scenario: nothing to do: give `[[step]]` tables or `[storm]`")
    return tuple(_rule(step, number, scenario.seed) for number, step in enumerate(steps, 1))


def load_scenario(path: str) -> tuple[Rule, ...]:
    """Return the rules of a TOML file, or raise RuleError with the file, the step and the field."""
    try:
        return read_scenario(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise RuleError(f"{path}: {error.strerror}: name a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: not TOML: {error}") from error
    except RuleError as error:
        raise RuleError(f"{path}: {error}") from error


def ends_s(rules: tuple[Rule, ...]) -> float | None:
    """Return when the last rule ends by itself, in seconds; None: one has no end."""
    if any(rule.for_s is None and rule.kind not in _MOMENTS for rule in rules):
        return None
    return max(rule.after_s + (rule.for_s or 0) for rule in rules)


_MOMENTS = ("close", "close_1013", "half_open")


def _rule(step: Told, number: int, seed: int) -> Rule:
    if "at_s" not in step:
        raise RuleError(f"step {number}: `at_s` is missing: say when it begins, in seconds")
    if "after_s" in step:
        raise RuleError(f"step {number}: `after_s` is no field of a step: use `at_s`")
    told = {name: value for name, value in step.items() if name != "at_s"}
    try:
        return read_rule({"seed": seed * STEP_SEED + number, **told, "after_s": step["at_s"]})
    except RuleError as error:
        raise RuleError(f"step {number}: {_as_of_step(str(error))}") from error


def _as_of_step(text: str) -> str:
    return text.replace("after_s", "at_s")
