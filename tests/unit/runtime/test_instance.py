"""Who is dead: only a process that this machine had and has no more."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.runtime.instance import instance_name, is_dead

_NAMED = (
    "import sys; from shared.runtime.instance import instance_name;"
    "print(instance_name('risk'), flush=True); sys.stdin.read()"
)


@pytest.fixture
def other() -> "Iterator[tuple[subprocess.Popen[str], str]]":
    with subprocess.Popen(
        [sys.executable, "-c", _NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_living_process_is_not_dead(other: "tuple[subprocess.Popen[str], str]") -> None:
    assert not is_dead(instance_name("risk"))
    assert not is_dead(other[1])


def test_a_frozen_process_is_not_dead(other: "tuple[subprocess.Popen[str], str]") -> None:
    process, name = other
    process.send_signal(signal.SIGSTOP)
    try:
        assert not is_dead(name)
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_killed_process_is_dead_before_and_after_its_parent_knows(
    other: "tuple[subprocess.Popen[str], str]",
) -> None:
    process, name = other
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(name)  # a zombie
    process.wait()
    assert is_dead(name)


def test_another_process_with_its_number_does_not_keep_it_alive() -> None:
    service, pid, started, *rest = instance_name("risk").split("-")
    assert is_dead("-".join((service, pid, str(int(started) - 1), *rest)))


@pytest.mark.parametrize(
    "name", ["one", "", "risk-1-2-3", "risk-999999999-1-elsewhere-00", "risk-x-1-{home}-00"]
)
def test_of_a_stranger_nothing_is_known(name: str) -> None:
    home = instance_name("risk").split("-")[3]
    assert not is_dead(name.format(home=home))


def test_names_differ() -> None:
    assert instance_name("risk") != instance_name("risk")
