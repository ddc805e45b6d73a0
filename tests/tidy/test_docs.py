"""What the documents name exists."""

import re
from pathlib import Path

import pytest

from shared.domain.messages import Fact

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`(tests/[\w/.-]+)(?:::(\w+))?`")
LINKED = re.compile(r"\]\(([\w./-]+)\)")
MAKE = re.compile(r"^make ([a-z-]+)|`make ([a-z-]+)", re.MULTILINE)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(path: Path) -> None:
    for file, test in NAMED.findall(path.read_text()):
        target = ROOT / file
        assert target.exists(), f"{path.name} names {file}"
        if test:
            assert f"def {test}(" in target.read_text(), f"{path.name} names {file}::{test}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in LINKED.findall(path.read_text()):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCS:
        for named in MAKE.findall(path.read_text()):
            assert set(named) - {""} <= targets, f"{path.name}: make {named}"


def test_every_fact_stands_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tags = {str(kind.__struct_config__.tag) for kind in Fact.__args__}  # type: ignore[attr-defined]
    assert {tag for tag in tags if f"`{tag}`" not in text} == set()
