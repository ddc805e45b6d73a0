"""`driftless demo` as a user runs it: it copies, agrees with the venue, and leaves no process."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.support.eventually import eventually_sync

pytestmark = pytest.mark.xdist_group("e2e")

ROOT: Final = Path(__file__).resolve().parents[2]
RECORDED: Final = ROOT.parent / "shared" / "data" / "gabagool22-fills-2025-12"
SPEED: Final = "20"
ENDS_S: Final = 120.0  # starting, half a minute of copying, rebuilding and stopping
STOPS_S: Final = 40.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a working directory with a short name: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="dl-demo-") as name:
        yield Path(name).resolve()
        for pid in left_in(Path(name).resolve()):  # of a test that failed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def start(folder: Path, *options: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start a demonstration in a directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.ctl", "demo", "--speed", SPEED, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def left_in(folder: Path) -> dict[int, str]:
    """Return the live processes whose command lines name the directory."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/" in text:
            found[int(path.parent.name)] = text
    return found


def await_line(process: subprocess.Popen[bytes], wanted: bytes) -> None:
    """Read the plain output up to a line that says something."""
    assert process.stdout is not None
    for line in process.stdout:
        assert b"\x1b" not in line, line
        if wanted in line:
            return
    raise AssertionError(f"it ended without {wanted!r}: {process.communicate()[1]!r}")


def summary_of(folder: Path, *options: str, minutes: float = 0.5) -> dict[str, Any]:
    """Return the summary of a while, whose processes have all ended."""
    process = start(folder, "--minutes", str(minutes), "--json", *options)
    try:
        out, err = process.communicate(timeout=ENDS_S)
    finally:
        stop(process)
    assert process.returncode == 0, err.decode()
    assert left_in(folder) == {}
    told: dict[str, Any] = msgspec.json.decode(out)
    return told


def stop(process: subprocess.Popen[bytes]) -> None:
    """End what a failed test would leave, and its pipes."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(STOPS_S)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()


def assert_it_worked(told: dict[str, Any]) -> None:
    assert told["leader_fills"] > 0
    assert told["intents"] > 0
    assert told["orders"] > 0
    assert told["fills"] > 0
    assert told["drift_usd"] == 0
    assert told["verified"]["identical"]
    assert told["restarts"] == {}
    assert told["processes_left"] == 0


def test_synthetic_leaders_are_copied_and_nothing_is_left(folder: Path) -> None:
    told = summary_of(folder)
    assert_it_worked(told)
    assert "synthetic, not real traders" in told["attribution"]
    assert "resolvedmarkets.com" in told["attribution"]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded set is not on this machine")
def test_a_recorded_leader_is_copied_and_nothing_is_left(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    told = summary_of(folder, "--tape", str(RECORDED), minutes=1)  # its books begin late
    assert_it_worked(told)
    assert "recorded ones" in told["attribution"]


def test_ctrl_c_ends_it_with_the_summary(folder: Path) -> None:
    process = start(folder, "--minutes", "5", stderr=subprocess.DEVNULL)
    try:
        await_line(process, b"leader ")
        assert len(left_in(folder)) >= 8  # two servers, the venue, five services
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=STOPS_S)[0]
    finally:
        stop(process)
    assert process.returncode == 0
    assert b"seconds of copying" in rest
    assert left_in(folder) == {}


def test_a_reader_that_leaves_does_not_keep_it_from_stopping(folder: Path) -> None:
    """As `driftless demo | head` does: writing fails from then on, stopping must not."""
    process = start(folder, "--minutes", "5", stderr=subprocess.DEVNULL)
    try:
        await_line(process, b"leader ")
        assert process.stdout is not None
        process.stdout.close()
        process.wait(STOPS_S)
    finally:
        stop(process)
    assert process.returncode != 0
    eventually_sync(lambda: not left_in(folder), deadline_s=1)


def test_a_missing_tape_is_one_line(folder: Path) -> None:
    process = start(folder, "--tape", "nowhere.jsonl")
    out, err = process.communicate(timeout=STOPS_S)
    assert process.returncode == 2, err.decode()
    assert out == b""
    assert err.count(b"\n") == 1
    assert b"nowhere.jsonl: cannot be read" in err
    assert left_in(folder) == {}
