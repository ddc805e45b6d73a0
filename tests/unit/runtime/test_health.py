"""Liveness: young means alive, old or absent means not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.runtime.clock import ManualClock
from shared.runtime.health import Liveness, liveness, main


def test_a_beat_makes_it_alive(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    assert main([str(path), "20"]) == 1
    Liveness(path).beat()
    assert main([str(path), "20"]) == 0


def test_silence_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alive"
    Liveness(path).beat()
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
    assert main([str(path), "20"]) == 1
    assert "last beat 60 s ago, limit 20 s" in capsys.readouterr().err
    Liveness(path).beat()
    assert main([str(path), "20"]) == 0


@pytest.mark.parametrize("arguments", [[], ["x"], ["x", "soon"], ["x", "1", "2"]])
def test_asked_wrongly_it_says_how(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_where_nobody_watches_nothing_is_written() -> None:
    assert liveness({}).path is None
    liveness({}).beat()
    assert liveness({"DRIFTLESS_HEALTH_FILE": "/x/y"}).path == Path("/x/y")


def test_the_age_is_told_by_the_clock_given(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    Liveness(path).beat()
    clock = ManualClock(path.stat().st_mtime_ns + 5_000)
    assert Liveness(path).age_ns(clock) == 5_000


def test_the_container_asks_by_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shared.runtime.health", str(tmp_path / "no"), "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "never came up" in done.stderr
