"""The local venue and the five services as supervised processes: what dies is started again.

supervisord does the supervising; this module writes its configuration, talks to it over its
socket, and says in words what is wrong with a process that will not stay up. Any terminal can
reach the processes of a directory: ``Processes(directory)``.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import msgspec
from supervisor.xmlrpc import SupervisorTransport

from services.ctl.servers import Endpoints, alive, socket_path, tail

SERVICES: Final = ("ingester", "aggregator", "risk", "executor", "reconciler")
START_S: Final = 1  # a process that lives this long counts as started
RETRIES: Final = 20  # each waits a second longer than the last: about three and a half minutes
STOP_S: Final = 10  # from SIGTERM to SIGKILL
LOG_BYTES: Final = 20_000_000
LOG_COPIES: Final = 3

_DAEMON_DEADLINE_S: Final = 10.0
_POLL_S: Final = 0.05
_UNREACHABLE: Final = (OSError, HTTPException, xmlrpc.client.Error)


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to keep running: a command, with variables beside the inherited ones."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = msgspec.field(default_factory=dict)
    priority: int = 100  # lower starts earlier and stops later
    ready: Path | None = None  # a file it writes once it is at work: others start after that


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one process is; ``state`` is supervisord's word, such as RUNNING or BACKOFF."""

    name: str
    state: str
    pid: int  # 0 unless it runs
    uptime_s: int
    detail: str
    log: str


class ProcessesError(Exception):
    """Processes that are not up: which, why, their last words, and what to do."""


def service_programs(
    config: Path,
    endpoints: Endpoints,
    *,
    environ: Mapping[str, str] | None = None,
    services: Sequence[str] = SERVICES,
) -> list[Program]:
    """Return the five services of a configuration file, each let in as its own user."""
    return [
        Program(
            name=name,
            command=(sys.executable, "-m", f"services.{name}", "--config", str(config.absolute())),
            environ={**endpoints.environ(name), **(environ or {})},
        )
        for name in services
    ]


class Processes:
    """The supervised processes of one run directory, started here or in another terminal."""

    def __init__(self, directory: Path, programs: Sequence[Program] = ()) -> None:
        self._directory = directory.absolute()
        self._programs = tuple(programs)
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self, *, deadline_s: float = 30.0) -> None:
        """Start everything and wait until it runs; raises ProcessesError and leaves nothing."""
        if set(str(self._directory)) & set("%;\n"):
            problem = "supervisord cannot take a path with % or ; in it: choose another directory"
            raise ProcessesError(f"{self._directory}: {problem}")
        if self._answers():
            raise ProcessesError(f"already running in {self._directory}: `driftless down` first")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self._directory / "supervisord.conf"
        config.write_text(self._render(), encoding="utf-8")
        config.chmod(0o600)
        self._socket.unlink(missing_ok=True)
        with self._daemon_log.open("ab") as output:
            self._daemon = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop them in order
            )
        try:
            self._wait(_DAEMON_DEADLINE_S, self._answers)
            if any(program.ready for program in self._programs):
                self._wait(deadline_s, self._first_are_ready)
                self._call("supervisor.startAllProcesses", False)
            self._wait(deadline_s, self._all_up)
        except BaseException:
            self.stop()
            raise

    def status(self) -> list[ProcessStatus]:
        """Return how each process is, in the order they start; raises ProcessesError."""
        rows = self._call("supervisor.getAllProcessInfo")
        return [
            ProcessStatus(
                name=row["name"],
                state=row["statename"],
                pid=row["pid"],
                uptime_s=max(0, row["now"] - row["start"]) if row["pid"] else 0,
                detail=row["spawnerr"] or row["description"],
                log=row["stdout_logfile"],
            )
            for row in rows
        ]

    def pids(self) -> dict[str, int]:
        """Return the process ids of those that run."""
        return {row.name: row.pid for row in self.status() if row.pid}

    def restart(self, name: str, *, deadline_s: float = 30.0) -> None:
        """Stop one process, start it, and wait until it runs."""
        self.stop_one(name)
        self.start_one(name, deadline_s=deadline_s)

    def stop_one(self, name: str) -> None:
        with contextlib.suppress(xmlrpc.client.Fault):  # it may not be running
            self._call("supervisor.stopProcess", name, True)

    def start_one(self, name: str, *, deadline_s: float = 30.0) -> None:
        """Start a stopped process and wait until it runs."""
        self._call("supervisor.startProcess", name, False)
        self._wait(deadline_s, lambda: self._up(name))

    def troubles(self) -> list[str]:
        """Return, for each process that is not up, its state, its last words and what to do."""
        return [_trouble(row) for row in self.status() if row.state in ("FATAL", "BACKOFF")]

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what stays; afterwards nothing of ours is left."""
        daemon = self._daemon_pid()
        if daemon is None:
            return
        children = [-pid for pid in self.pids().values()] if self._answers() else []
        _signal(daemon, signal.SIGTERM)
        end = time.monotonic() + STOP_S + 5
        while alive(daemon) and time.monotonic() < end:
            if self._daemon is not None:
                self._daemon.poll()  # take its exit status, or it stays as a zombie
            time.sleep(_POLL_S)
        if alive(daemon):
            for pid in (daemon, *children):
                _signal(pid, signal.SIGKILL)
        if self._daemon is not None:
            self._daemon.wait()
            self._daemon = None
        self._socket.unlink(missing_ok=True)

    @property
    def _socket(self) -> Path:
        return socket_path(self._directory, "supervisor.sock")

    @property
    def _daemon_log(self) -> Path:
        return self._directory / "supervisord.log"

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            return getattr(server, method)(*arguments)
        except xmlrpc.client.Fault:
            raise
        except _UNREACHABLE as e:
            problem = "nothing is supervised there: start it with `driftless up`"
            raise ProcessesError(f"{self._directory}: {problem}") from e
        finally:
            transport.close()

    def _answers(self) -> bool:
        try:
            self._call("supervisor.getState")
        except ProcessesError:
            return False
        return True

    def _daemon_pid(self) -> int | None:
        if self._daemon is not None:
            return self._daemon.pid
        try:
            return int(self._call("supervisor.getPID"))
        except ProcessesError:
            return None

    def _up(self, name: str) -> bool:
        row = next(row for row in self.status() if row.name == name)
        if row.state == "FATAL":
            raise ProcessesError(_trouble(row))
        return row.state == "RUNNING"

    def _first_are_ready(self) -> bool:
        """Tell whether all that others wait for is at work; raises ProcessesError."""
        return all(
            self._up(program.name) and program.ready.exists()
            for program in self._programs
            if program.ready is not None
        )

    def _all_up(self) -> bool:
        return all(self._up(row.name) for row in self.status())

    def _wait(self, deadline_s: float, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + deadline_s
        while not ready():
            if self._daemon is not None and self._daemon.poll() is not None:
                raise ProcessesError(f"supervisord ended:\n{tail(self._daemon_log)}")
            if time.monotonic() > end:
                late = "\n".join(self.troubles()) if self._answers() else tail(self._daemon_log)
                raise ProcessesError(f"not up after {deadline_s:g} s:\n{late}")
            time.sleep(_POLL_S)

    def _render(self) -> str:
        logs = self._directory / "logs"
        logs.mkdir(exist_ok=True)
        head = f"""
[unix_http_server]
file = {_escape(self._socket)}
chmod = 0700

[supervisord]
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {_escape(self._directory / "supervisord.pid")}
childlogdir = {_escape(logs)}
nodaemon = true
directory = {_escape(Path.cwd())}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
        waited_for = [program for program in self._programs if program.ready]
        return head + "".join(
            _section(program, logs, autostart=not waited_for or program in waited_for)
            for program in self._programs
        )


def _section(program: Program, logs: Path, *, autostart: bool) -> str:
    command = " ".join(_quote(word) for word in program.command)
    environ = ",".join(f"{key}={_quote(value)}" for key, value in program.environ.items())
    return f"""
[program:{program.name}]
command = {command}
environment = {environ}
priority = {program.priority}
autostart = {str(autostart).lower()}
autorestart = true
startsecs = {START_S}
startretries = {RETRIES}
stopsignal = TERM
stopwaitsecs = {STOP_S}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = {_escape(logs / f"{program.name}.log")}
stdout_logfile_maxbytes = {LOG_BYTES}
stdout_logfile_backups = {LOG_COPIES}
"""


def _escape(text: object) -> str:
    return str(text).replace("%", "%%")


def _quote(word: str) -> str:
    if '"' in word or "\n" in word:
        raise ProcessesError(f"a quote or a line break cannot be passed on: {word[:60]!r}")
    return f'"{_escape(word)}"'


def _trouble(row: ProcessStatus) -> str:
    if row.state == "FATAL":
        advice = "it was started again and again and did not stay: fix what its log says, then"
        advice += f" `driftless up` or restart {row.name}"
    else:
        advice = "it is being started again; if this stays, its log says why"
    return (
        f"{row.name} is {row.state}: {row.detail}\n{tail(Path(row.log))}\n-> {advice} ({row.log})"
    )


def _signal(pid: int, number: int) -> None:
    """Signal a process, or with a negative id its group, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
