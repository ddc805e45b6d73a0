"""Every command teaches, speaks JSON where asked, and fails in one line with its exit code."""

import os
import re
import socket
from pathlib import Path

import msgspec
import pytest

from services.ctl.__main__ import _COMMANDS, flowed, name_of, run
from services.ctl.errors import AWAY, FINDING, OK, USAGE, AwayError, CtlError, code_of, text_of
from services.ctl.rundir import Run, current, forget, record, runs
from services.ctl.session import CONFIG, find_place
from services.ctl.verify import finding, reports_json, reports_table, verdict
from services.lab.replay import Difference
from shared.runtime.ports import StoreAwayError
from shared.runtime.secrets import NATS_PASSWORD
from shared.runtime.sections import ConfigError
from tests.unit.ctl.test_ctl_show import page_of
from tests.unit.ctl.test_ctl_tally import report

NAMES = [name_of(command) for commands in _COMMANDS.values() for command in commands]
WALLET = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, without anybody's configuration or passwords."""
    for name in list(os.environ):
        if name.startswith("DRIFTLESS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration whose servers are not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path / "config.toml"
    path.write_text(
        f'mode = "demo"\n[account]\nwallet = "{WALLET}"\n'
        f'[nats]\nurl = "nats://127.0.0.1:{port}"\n[redis]\nurl = "redis://127.0.0.1:{port}/0"\n'
        f'[venue]\nlocal_url = "http://127.0.0.1:{port}"\n'
    )
    return path


def test_every_command_that_was_promised_is_there() -> None:
    promised = {
        "demo", "up", "down", "venue", "status", "risk", "why", "config", "what-if", "verify",
        "replay", "archive", "restore", "rebuild",
        "check", "halt", "reduce-only", "resume", "unfollow", "follow", "end-order",
        "reload", "provision",
    }  # fmt: skip
    assert set(NAMES) == promised


def test_every_command_is_documented_and_none_that_is_not_there() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    titled = [name for title in re.findall(r"^### (.+)$", page, re.M) for name in title.split(", ")]
    assert sorted(titled) == sorted(NAMES)
    assert set(re.findall(r"(?:^\$ |^|`)driftless ([a-z][a-z-]*)", page, re.M)) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_it_shows_with_an_example_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == OK
    page = " ".join(capsys.readouterr().out.split())
    assert f"Example: driftless {name}" in page
    assert "Exit codes: 0 " in page
    assert "--json" in page


def test_no_arguments_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == OK
    page = capsys.readouterr().out
    assert all(f" {name} " in page for name in NAMES)


def test_halt_and_reduce_only_say_what_they_leave(capsys: pytest.CaptureFixture[str]) -> None:
    run(["halt", "--help"])
    assert "no order at all from now on, not even to reduce" in " ".join(
        capsys.readouterr().out.split()
    )
    run(["reduce-only", "--help"])
    assert "what reduces is still done" in " ".join(capsys.readouterr().out.split())


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("driftless: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nope"], "No such command 'nope'. (see `driftless --help`)"),
        (["why"], "(see `driftless why --help`)"),
        (["why", "0xab"], "is too short: give an order hash"),
        (["status", "--nope"], "No such option"),
        (["reduce-only", "--nope"], "(see `driftless reduce-only --help`)"),
        (["unfollow"], "(see `driftless unfollow --help`)"),
        (["reload"], "nothing runs here"),
        (["reload", "--config", "absent.toml"], "absent.toml: cannot be read"),
        (["verify", "--service", "nope"], "no service nope: one of ingester, aggregator"),
        (["rebuild", "nope"], "no service nope: one of ingester, aggregator"),
        (["replay", "--until", "yesterday"], "--until 'yesterday': give a message's number (1234)"),
        (["replay", "--until", "25:00"], "--until '25:00': give a message's number"),
        (["replay", "--until", "9999-01-01"], "ahead of now"),
        (["status"], "nothing runs here: start it with `driftless up`, or pass --config PATH"),
        (["up", "--mode", "live"], "--mode live: demo or paper"),
        (["check", "--config", "absent.toml"], "absent.toml: cannot be read"),
        (["demo", "--tape", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["demo", "--speed", "0"], "0.1"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == USAGE
    assert part in one_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"], ["why", "0x123456"], ["verify"], ["halt"], ["resume"], ["provision"], ["risk"],
        ["reduce-only"], ["unfollow", "anna"], ["follow", "anna"], ["end-order", "0x9f"],
        ["reload"], ["rebuild", "risk"],
        ["replay"], ["archive"],
    ],
)  # fmt: skip
def test_servers_that_are_away_are_one_line_and_code_3(
    arguments: list[str],
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.ctl.session.CONNECT_S", 0.2)
    assert run([*arguments, "--config", str(config)]) == AWAY
    line = one_line(capsys)
    assert "cannot reach NATS at nats://127.0.0.1:" in line
    assert "`driftless up`" in line


def test_check_tells_everything_that_is_wrong_at_once(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ctl.session.CONNECT_S", 0.2)
    assert run(["check", "--config", str(config)]) == AWAY
    page = capsys.readouterr().out
    assert "Traceback" not in page
    for line in (
        "ok    configuration",
        "warn  leaders",
        "fail  NATS",
        "fail  Redis",
        "fail  venue",
    ):
        assert line in page, line


def test_check_speaks_json(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ctl.session.CONNECT_S", 0.2)
    assert run(["check", "--json", "--config", str(config)]) == AWAY
    told = msgspec.json.decode(capsys.readouterr().out)
    assert set(told) == {"ok", "checks"}
    assert not told["ok"]
    assert set(told["checks"][0]) == {"name", "outcome", "found", "cure"}


def test_down_with_nothing_running_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--json"]) == OK
    assert '"stopped": []' in capsys.readouterr().out


def test_a_wrong_configuration_names_the_key(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + "[risk]\ntrade_usd_max = -1\n")
    assert run(["status", "--config", str(config)]) == USAGE
    assert "risk.trade_usd_max" in one_line(capsys)


def test_codes_of_errors() -> None:
    assert code_of(CtlError("x")) == FINDING
    assert code_of(AwayError("x")) == code_of(StoreAwayError("x")) == AWAY
    assert code_of(ConfigError("a", 1, "b")) == USAGE
    assert "driftless check" in text_of(StoreAwayError("gone"))


def test_paragraphs_flow() -> None:
    assert flowed("One\n    line.\n\n    Next\n    one.\n    ") == "One line.\n\nNext one."


# --- which run a command speaks to -----------------------------------------------------------


def a_run(tmp_path: Path, config: Path, pid: int = 0) -> Run:
    return Run(
        pid=pid or os.getpid(), kind="up", directory=str(tmp_path), config=str(config),
        environ={f"{NATS_PASSWORD}_FILE": str(tmp_path / "ctl"), "DRIFTLESS_NATS_URL": "nats://a:1"},
    )  # fmt: skip


def test_without_a_config_the_run_here_is_meant(tmp_path: Path, config: Path) -> None:
    path = record(a_run(tmp_path, config), tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    place = find_place(None, {NATS_PASSWORD: "another's"}, tmp_path)
    assert place.config_path == config
    assert place.environ["DRIFTLESS_NATS_URL"] == "nats://a:1"
    assert NATS_PASSWORD not in place.environ
    assert place.load().nats.url == "nats://a:1"


def test_another_configuration_is_not_the_run_here(tmp_path: Path, config: Path) -> None:
    record(a_run(tmp_path, config), tmp_path)
    other = tmp_path / "other.toml"
    place = find_place(other, {NATS_PASSWORD: "mine"}, tmp_path)
    assert (place.config_path, place.run) == (other, None)
    assert place.environ[NATS_PASSWORD] == "mine"
    named = find_place(None, {CONFIG: str(config)}, tmp_path)
    assert named.run is not None


def test_a_run_that_was_killed_is_not_found(tmp_path: Path, config: Path) -> None:
    gone = a_run(tmp_path, config, pid=2**22 - 1)
    record(gone, tmp_path)
    assert current(base=tmp_path) is None
    assert runs(tmp_path) == [gone]
    forget(gone, tmp_path)
    assert runs(tmp_path) == []


def test_a_spoiled_record_is_passed_over(tmp_path: Path, config: Path) -> None:
    path = record(a_run(tmp_path, config), tmp_path)
    path.write_text("{")
    assert runs(tmp_path) == []


# --- what verify says -------------------------------------------------------------------------


def test_verify_says_what_differs_and_where() -> None:
    wrong = report(
        "differs", problem="first difference at $.a",
        difference=Difference(path="$.a", saved="1", rebuilt="2"),
    )  # fmt: skip
    reports = [report(service="ledger"), wrong, report(service="executor")]
    assert verdict(reports).startswith("1 of 2 lanes are not what their log says")
    assert finding(wrong) == ("risk.00: first difference at $.a\n  saved:   1\n  rebuilt: 2")
    told = reports_json(reports)
    assert not told["identical"]
    assert told["lanes"][1]["difference"] == {"path": "$.a", "saved": "1", "rebuilt": "2"}
    assert set(told["lanes"][0]) == {
        "service", "partition", "verdict", "messages", "facts", "facts_per_s", "bytes", "said",
        "digests", "problem", "difference",
    }  # fmt: skip
    assert "differs" in page_of(reports_table(reports))


def test_verify_of_nothing_says_so() -> None:
    assert verdict([]).startswith("nothing to verify")


def test_holes_in_the_ledger_come_first() -> None:
    assert "holes" in verdict([report("broken", service="ledger"), report("differs")])


def test_lanes_without_a_word_are_one_line() -> None:
    quiet = [report(service="ingester", partition=n, messages=0, facts=0) for n in range(5)]
    page = page_of(reports_table([report(service="ledger"), *quiet]))
    assert "5 that said nothing" in page
