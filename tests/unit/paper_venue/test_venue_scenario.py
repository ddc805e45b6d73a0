"""Scenarios and storms: lists of faults by the second."""

import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.paper_venue.config import VenueConfig
from services.paper_venue.kinds import KINDS
from services.paper_venue.rules import RuleError, read_rule
from services.paper_venue.scenario import ends_s, load_scenario, read_scenario
from services.paper_venue.server import running
from services.paper_venue.storm import STEPS_MAX, Storm, storm_steps

DOCS = Path(__file__).parents[3] / "docs/paper-venue.md"
FILE = """
seed = 5

[[step]]  # the stream stops, PONG goes on
at_s = 10
for_s = 30
kind = "silent"
socket = "stream"

[[step]]
at_s = 60
kind = "server_error"
path = "/v2/*"
status = 503
share_bps = 5000
count = 20
"""


def written(folder: Path, text: str) -> str:
    path = folder / "scenario.toml"
    path.write_text(text)
    return str(path)


def test_a_file_becomes_rules_with_seeds_of_their_own(tmp_path: Path) -> None:
    silent, errors = load_scenario(written(tmp_path, FILE))
    assert (silent.kind, silent.socket, silent.after_s, silent.for_s) == (
        "silent",
        "stream",
        10,
        30,
    )
    assert (errors.kind, errors.path, errors.status, errors.count) == (
        "server_error",
        "/v2/*",
        503,
        20,
    )
    assert silent.seed != errors.seed
    assert load_scenario(written(tmp_path, FILE)) == (silent, errors)
    other = load_scenario(written(tmp_path, FILE.replace("seed = 5", "seed = 6")))
    assert {rule.seed for rule in other}.isdisjoint({silent.seed, errors.seed})
    assert ends_s((silent, errors)) is None, "errors stay until they are used up"
    assert ends_s((silent,)) == 40


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing to do"),
        ("step = 5", r"\$\.step"),
        ("[[step]]\nat_s = 1\nkind =\nn = 1", "not TOML.*line 3"),
        ('[[step]]\nkind = "close"', "step 1: `at_s` is missing"),
        ('[[step]]\nat_s = 1\nafter_s = 1\nkind = "close"', "step 1.*use `at_s`"),
        ('[[step]]\nat_s = -1\nkind = "close"', r"step 1: close: .*\$\.at_s"),
        (FILE + '[[step]]\nat_s = 1\nkind = "sloow"', "step 3.*did you mean 'slow'"),
        (FILE + '[[step]]\nat_s = 1\nkind = "slow"\nwait = 1', "step 3: slow takes no `wait`"),
        ("[storm]\nfor_s = 10\nkinds = 'none'", r"\$\.storm\.kinds"),
        ("[storm]\nkinds = ['close', 'hail']", "hail"),
        ("[storm]\nevery_s = 0.001\nfor_s = 1000", "lower `for_s` or raise `every_s`"),
        ("weather = 1\n" + FILE, "weather"),
    ],
)
def test_a_bad_file_says_where_and_what_to_do(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RuleError, match=words) as bad:
        load_scenario(path)
    assert path in str(bad.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"nowhere\.toml: No such file"):
        load_scenario(str(tmp_path / "nowhere.toml"))


storms = st.builds(
    Storm,
    seed=st.integers(0, 10_000),
    for_s=st.floats(1, 600),
    every_s=st.floats(0.5, 20),
    kinds=st.sampled_from(["feeds", "all"]),
)


@settings(max_examples=60)
@given(storms)
def test_a_storm_is_its_seed_and_is_over_in_time(storm: Storm) -> None:
    steps = storm_steps(storm)
    assert steps == storm_steps(storm)
    assert [step["at_s"] for step in steps] == sorted(step["at_s"] for step in steps)
    for step in steps:
        rule = read_rule({key: step[key] for key in step if key != "at_s"})
        over_s = step["at_s"] + (rule.for_s or 0) + rule.ms / 1_000
        assert over_s <= storm.for_s + 0.001, step
        assert rule.for_s is not None or rule.kind in ("close", "close_1013", "half_open")
    if storm.kinds == "feeds":
        assert {KINDS[str(step["kind"])].group for step in steps} <= {"socket", "rest"}
        assert "user" not in {step.get("socket") for step in steps}
        assert not any("order" in str(step.get("path")) for step in steps)


def test_storms_differ_by_seed_and_a_long_one_has_everything() -> None:
    long = storm_steps(Storm(for_s=3_000, every_s=1, kinds="all"))
    assert {step["kind"] for step in long} == set(KINDS)
    assert 2_700 < len(long) < 3_300
    assert long != storm_steps(Storm(seed=2, for_s=3_000, every_s=1, kinds="all"))
    assert storm_steps(Storm(for_s=STEPS_MAX, every_s=1, kinds=("drop",)))
    only = storm_steps(Storm(for_s=100, kinds=("drop", "close")))
    assert {step["kind"] for step in only} == {"drop", "close"}


def test_a_storm_ends_with_a_calm() -> None:
    storm = Storm(for_s=60, calm_s=20)
    rules = read_scenario({"storm": {"for_s": 60, "calm_s": 20}})
    last_s = ends_s(rules)
    assert last_s is not None
    assert last_s <= storm.for_s < storm.ends_s == 80


async def test_a_venue_starts_with_its_scenario(tmp_path: Path) -> None:
    config = VenueConfig(scenario=written(tmp_path, FILE))
    async with running(config) as venue:
        kinds = [armed.rule.kind for armed in venue.shell.rules.listed()]
    assert kinds == ["silent", "server_error"]


async def test_the_command_line_refuses_a_bad_scenario(tmp_path: Path) -> None:
    path = written(tmp_path, '[[step]]\nat_s = 1\nkind = "hail"')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.paper_venue", "--tape", "none", "--scenario", path),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    _, told = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert told.decode().startswith(f"refused: {path}: step 1: `kind` is 'hail'")


def test_the_docs_name_every_kind_and_show_a_scenario_that_loads() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert {kind for kind in KINDS if f"`{kind}`" not in text} == set()
    shown = re.findall(r"```toml\n(.+?)```", text, re.DOTALL)
    assert [rule.kind for rule in read_scenario(tomllib.loads(shown[0]))] == ["silent", "truncated"]
