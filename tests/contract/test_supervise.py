"""Supervision: what dies is started again, what cannot start is explained, nothing is left."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.ctl.servers import Endpoints, alive
from services.ctl.supervise import (
    SERVICES,
    Processes,
    ProcessesError,
    Program,
    service_programs,
)
from tests.support.eventually import eventually_sync

WAITS = "import os,time;print('up',os.environ.get('WORD'),flush=True);time.sleep(600)"
DEAF = (
    "import signal,time;signal.signal(15,signal.SIG_IGN);print('deaf',flush=True);time.sleep(600)"
)
PARENT = (
    "import subprocess,sys,time;"
    "p=subprocess.Popen([sys.executable,'-c','import time;time.sleep(600)']);"
    "print('child',p.pid,flush=True);time.sleep(600)"
)


def program(name: str, code: str, **environ: str) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), environ=environ)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(
        tmp_path, [program("one", WAITS, WORD="100%, a=b"), program("two", WAITS, WORD="x")]
    )
    processes.start()
    yield processes
    processes.stop()


def test_a_killed_process_is_started_again(supervised: Processes) -> None:
    before = supervised.pids()
    os.kill(before["one"], signal.SIGKILL)
    after = eventually_sync(
        lambda: (now := supervised.pids()).get("one", before["one"]) != before["one"] and now
    )
    assert after["two"] == before["two"]
    assert not alive(before["one"])


def test_another_terminal_sees_and_restarts_the_same_processes(
    supervised: Processes, tmp_path: Path
) -> None:
    other = Processes(tmp_path)
    before = supervised.pids()
    assert other.pids() == before
    other.restart("two")
    assert supervised.pids()["one"] == before["one"]
    assert supervised.pids()["two"] != before["two"]
    assert [row.state for row in other.status()] == ["RUNNING", "RUNNING"]
    assert other.troubles() == []


def test_variables_arrive_whole_and_logs_are_files(supervised: Processes, tmp_path: Path) -> None:
    assert (tmp_path / "logs" / "one.log").read_text() == "up 100%, a=b\n"


def test_what_others_need_is_at_work_before_they_start(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    first = f"import pathlib,time;time.sleep(1.5);pathlib.Path({str(ready)!r}).touch();{WAITS}"
    second = f"import os;print(os.path.exists({str(ready)!r}),flush=True);{WAITS}"
    needed = msgspec.structs.replace(program("needed", first.replace('"', "'")), ready=ready)
    processes = Processes(tmp_path, [program("needs", second), needed])
    processes.start()
    try:
        log = tmp_path / "logs" / "needs.log"
        assert eventually_sync(lambda: log.read_text().split("\n")[0]) == "True"
        os.kill(processes.pids()["needs"], signal.SIGKILL)
        eventually_sync(lambda: log.read_text().count("True") == 2)
    finally:
        processes.stop()


def test_a_second_start_in_the_same_directory_is_refused(
    supervised: Processes, tmp_path: Path
) -> None:
    with pytest.raises(ProcessesError, match="already running"):
        Processes(tmp_path, [program("one", WAITS)]).start()
    assert len(supervised.pids()) == 2


def test_stopping_leaves_nothing_not_even_grandchildren(tmp_path: Path) -> None:
    processes = Processes(tmp_path, [program("one", WAITS), program("parent", PARENT)])
    processes.start()
    log = tmp_path / "logs" / "parent.log"
    grandchild = int(eventually_sync(lambda: log.read_text().split()[1]))
    pids = [*processes.pids().values(), grandchild]
    processes.stop()
    assert all(not alive(pid) for pid in pids)
    with pytest.raises(ProcessesError, match="nothing is supervised"):
        processes.status()
    processes.stop()  # a second stop has nothing to do


def test_another_terminal_can_stop_everything(supervised: Processes, tmp_path: Path) -> None:
    pids = supervised.pids()
    Processes(tmp_path).stop()
    assert all(not alive(pid) for pid in pids.values())


def test_a_process_that_ignores_the_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ctl.supervise.STOP_S", 1)
    processes = Processes(tmp_path, [program("deaf", DEAF)])
    processes.start()
    pid = processes.pids()["deaf"]
    processes.stop()
    assert not alive(pid)


def test_a_process_that_will_not_stay_is_explained_and_nothing_is_left(tmp_path: Path) -> None:
    processes = Processes(
        tmp_path,
        [program("good", WAITS), program("bad", "raise SystemExit('risk.tick_s: unknown key')")],
    )
    with pytest.raises(ProcessesError) as caught:
        processes.start(deadline_s=3)
    text = str(caught.value)
    assert "bad is BACKOFF" in text
    assert "risk.tick_s: unknown key" in text
    assert "logs/bad.log" in text
    assert "good" not in text
    with pytest.raises(ProcessesError, match="nothing is supervised"):
        processes.status()


def test_a_process_given_up_on_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ctl.supervise.RETRIES", 0)
    with pytest.raises(ProcessesError, match="bad is FATAL") as caught:
        Processes(tmp_path, [program("bad", "raise SystemExit('no key')")]).start()
    assert "no key" in str(caught.value)
    assert "fix what its log says" in str(caught.value)


@pytest.mark.parametrize("name", ["100%", "a;b"])
def test_a_directory_supervisord_cannot_take_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProcessesError, match="choose another directory"):
        Processes(tmp_path / name, [program("one", WAITS)]).start()


def test_each_service_is_let_in_as_itself() -> None:
    endpoints = Endpoints(nats_url="nats://x:1", redis_url="unix:///s", passwords="/p")
    programs = service_programs(Path("/etc/c.toml"), endpoints, environ={"EXTRA": "1"})
    assert tuple(each.name for each in programs) == SERVICES
    for each in programs:
        assert each.command[1:] == ("-m", f"services.{each.name}", "--config", "/etc/c.toml")
        assert each.environ["DRIFTLESS_NATS_PASSWORD_FILE"] == f"/p/{each.name}"
        assert each.environ["EXTRA"] == "1"
