"""The style as tests: what a machine can check is not left to review."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal, get_args

import msgspec
import pytest

from services.paper_venue.leaders import Leader
from shared.runtime.config import Config, load

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "deploy/config/demo.toml"
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PARAMETERS_MAX = 6
LINE_MAX = 100

# What stands above a limit, and why; the number is the limit that holds for it instead.
LONG_MODULES = {
    "shared/domain/messages.py": 900,  # the vocabulary is one union; splitting it hides half
}
CLOCK_READERS = ("shared/runtime/clock.py", "services/paper_venue/server", "services/ctl/")
CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
PRINTERS = ("services/ctl/",)
CORES = ("ingester", "aggregator", "risk", "executor", "reconciler")
TEXT_SUFFIXES = {".py", ".toml", ".md", ".yml", ".yaml", ".conf", ".sh", ".cfg", ".html", ".lua"}
SKIPPED = {".venv", ".git", ".driftless", "__pycache__", "build", "dist", "node_modules"}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")


Habit = Literal["splitter", "flipper", "pair-builder"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def every_text() -> Iterator[Path]:
    for path in ROOT.rglob("*"):
        wanted = path.suffix in TEXT_SUFFIXES or path.name in ("Dockerfile", "Makefile")
        inside = path.relative_to(ROOT).parts
        if (
            wanted
            and path.is_file()
            and not any(p in SKIPPED or p.endswith("_cache") for p in inside)
        ):
            yield path


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def pure_modules() -> list[Path]:
    """Return the domain, and each service's core with the modules of its own that it imports."""
    found = set(sources("shared/domain"))
    waiting = [ROOT / f"services/{service}/core.py" for service in CORES]
    while waiting:
        path = waiting.pop()
        if path.exists() and path not in found:
            found.add(path)
            waiting += [ROOT / f"{name.replace('.', '/')}.py" for name in imports(path)]
    return sorted(found)


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of the same service that a module imports."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(package):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in sources("shared", "services")
        for node in functions(tree_of(path))
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_functions_take_few_parameters() -> None:
    many = []
    for path in sources("shared", "services"):
        for node in functions(tree_of(path)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [each for each in arguments if each.arg not in ("self", "cls")]
            printed = name_of(path).startswith("services/ctl/")  # options of the command line
            if len(named) > PARAMETERS_MAX and not printed:
                many.append(f"{name_of(path)}:{node.lineno} {node.name}: {len(named)}")
    assert many == []


def test_modules_have_one_subject() -> None:
    long = [
        f"{name_of(path)}: {lines} lines"
        for path in sources("shared", "services")
        if (lines := len(path.read_text().splitlines()))
        > LONG_MODULES.get(name_of(path), MODULE_LINES_MAX)
    ]
    assert long == []


def test_modules_say_what_belongs_in_them() -> None:
    silent = [
        name_of(path)
        for path in sources("shared", "services")
        if path.name != "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


def test_the_pure_part_knows_no_floats() -> None:
    """Money is an integer: no float literal, no ``float``, no true division in a decision."""
    found = []
    for path in pure_modules():
        for node in ast.walk(tree_of(path)):
            literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
            named = isinstance(node, ast.Name) and node.id == "float"
            divided = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
            if literal or named or divided:
                found.append(f"{name_of(path)}:{node.lineno}")
    assert found == []


def test_only_the_clock_module_reads_the_clock() -> None:
    found = []
    for path in sources("shared", "services"):
        if name_of(path).startswith(CLOCK_READERS):
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if node.attr in CLOCKS.get(owner, ()):
                    found.append(f"{name_of(path)}:{node.lineno} {owner}.{node.attr}")
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                taken = {alias.name for alias in node.names} & CLOCKS["time"]
                found += [f"{name_of(path)}:{node.lineno} {name}" for name in sorted(taken)]
    assert found == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources("shared", "services")
        if not name_of(path).startswith(PRINTERS)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert found == []


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in every_text()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def test_lines_of_configuration_fit_too() -> None:
    found = [
        f"{name_of(path)}:{number}"
        for path in (*(ROOT / "deploy").rglob("*.*"), *ROOT.glob("*.yml"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LINE_MAX
    ]
    assert found == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "deploy/config").glob("*.toml")), ids=lambda path: path.name
)
def test_every_key_of_a_deployed_file_is_a_setting(path: Path) -> None:
    load(path, environ={})


def test_the_demonstration_follows_leaders_that_its_venue_has() -> None:
    followed = {leader.wallet for leader in load(DEMO, environ={}).leaders}
    habits: tuple[Habit, ...] = ("splitter", "flipper", "pair-builder")
    assert followed == {Leader(habit, Random(1)).wallet for habit in habits}


def keys_of(kind: type[msgspec.Struct], path: str) -> Iterator[str]:
    """Yield the path of every key below a table of the settings, those of lists of tables too."""
    for field in msgspec.structs.fields(kind):
        for inner in (field.type, *get_args(field.type)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from keys_of(inner, f"{path}{field.name}.")
                break
        else:
            yield f"{path}{field.name}"


def test_every_setting_stands_in_the_paper_file_with_a_comment() -> None:
    """Written or in a comment, in its own table, with a word on what it does beside or above."""
    table, above, found, silent = "", "", set(), []
    for line in (ROOT / "deploy/config/paper.toml").read_text().splitlines():
        if header := re.match(r"(# )?\[+([\w.]+)\]+", line):
            table = f"{header[2]}."
        elif key := re.match(r"(# )?(\w+) = [^#]+(# \w.*)?", line):
            found.add(f"{table}{key[2]}")
            if not key[3] and not above.startswith("# "):
                silent.append(f"{table}{key[2]}")
        above = line
    assert found == set(keys_of(Config, ""))
    assert silent == []
