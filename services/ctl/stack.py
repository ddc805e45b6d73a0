"""The whole system on this machine: servers, the local venue, five services; and its end.

What starts here stops here: whatever ends the command, no process of its is left.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from services.ctl.errors import UsageError
from services.ctl.rundir import BASE, Run, forget, record, runs
from services.ctl.servers import Endpoints, LocalServers, ServersError, alive, reap
from services.ctl.session import connect_nats
from services.ctl.supervise import Processes, ProcessesError, Program, service_programs
from shared.runtime import bus
from shared.runtime.config import Config, load
from shared.runtime.secrets import NATS_PASSWORD, PRIVATE_KEY, REDIS_PASSWORD, RELAYER_KEY

LOCAL_URL: Final = "DRIFTLESS_LOCAL_URL"
RECORDINGS: Final = Path(__file__).resolve().parents[1] / "paper_venue" / "recordings"
# The wallet of the private key 1, which everybody knows: worth nothing but at the local venue.
KNOWN_WALLET: Final = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
_KNOWN_KEY: Final = f"{1:064x}"
_START_S: Final = 60.0
_INHERITED: Final = tuple(
    f"{name}{suffix}"
    for name in (NATS_PASSWORD, REDIS_PASSWORD, PRIVATE_KEY, RELAYER_KEY)
    for suffix in ("", "_FILE")
)

Say = Callable[[str], None]


class VenuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the local venue is started."""

    tape: str
    leaders: Literal["synthetic", "none"]
    speed: float = 1.0
    seed: int = 1
    fund_usd: int = 10_000
    settings: Mapping[str, int] = msgspec.field(default_factory=dict)  # of its VenueConfig


def bundled_tape() -> Path:
    """Return the recording that comes with the project."""
    return min(RECORDINGS.glob("*.tape.jsonl.gz"))


class LocalStack:
    """One run's servers and processes, from ``start`` to ``stop``."""

    def __init__(self, directory: Path, kind: Literal["up", "demo"], *, base: Path = BASE) -> None:
        self.directory, self._kind, self._base = directory.absolute(), kind, base
        self._servers = LocalServers(self.directory / "servers")
        self.processes = Processes(self.directory / "services")
        self.venue_url = ""
        self.run: Run | None = None
        self._pids: set[int] = set()

    @property
    def endpoints(self) -> Endpoints:
        return self._servers.endpoints

    @property
    def logs(self) -> Path:
        return self.directory / "services" / "logs"

    def start(
        self,
        config_path: Path,
        say: Say,
        *,
        venue: VenuePlan | None,
        executor_environ: Mapping[str, str],
    ) -> Config:
        """Start everything and wait until it runs; raises ServersError or ProcessesError."""
        for name in _INHERITED:  # each process is given its own, and no other's
            os.environ.pop(name, None)
        say("starting NATS and Valkey")
        self._servers.start()
        environ: dict[str, str] = {}
        programs: list[Program] = []
        port = 0
        if venue is not None:
            port = free_port()
            self.venue_url = environ[LOCAL_URL] = f"http://127.0.0.1:{port}"
        mine = {**self.endpoints.environ("ctl"), **environ}
        config = load(config_path, environ={**os.environ, **mine})
        if venue is not None:
            programs.append(self._venue_program(venue, port, config))
        say("creating the ledger")
        asyncio.run(_provision(config, mine))
        for program in service_programs(config_path, self.endpoints, environ=environ):
            given = {**program.environ}
            if program.name == "executor":
                given |= executor_environ
            programs.append(msgspec.structs.replace(program, environ=given))
        say("starting the venue and the five services" if venue else "starting the five services")
        self.processes = Processes(self.directory / "services", programs)
        self.processes.start(deadline_s=_START_S)
        self.run = Run(
            pid=os.getpid(),
            kind=self._kind,
            directory=str(self.directory),
            config=str(config_path.absolute()),
            environ=mine,
            key_file=executor_environ.get(f"{PRIVATE_KEY}_FILE", ""),
            venue=self.venue_url,
        )
        record(self.run, self._base)
        return config

    def _venue_program(self, plan: VenuePlan, port: int, config: Config) -> Program:
        ready = self.directory / "venue.json"
        ready.unlink(missing_ok=True)
        settings = self.directory / "venue-settings.json"
        settings.write_bytes(msgspec.json.encode(plan.settings))
        command = [
            sys.executable, "-m", "services.paper_venue", "--port", str(port),
            "--tape", plan.tape, "--speed", f"{plan.speed:g}", "--seed", str(plan.seed),
            "--leaders", plan.leaders, "--fund", f"{config.account.wallet}={plan.fund_usd}",
            "--config", str(settings), "--ready-file", str(ready),
        ]  # fmt: skip
        return Program(name="venue", command=tuple(command), priority=10, ready=ready)

    def stop(self) -> list[str]:
        """Stop everything; return what is left all the same, which should be nothing."""
        with _undisturbed():
            self._pids |= descendants(os.getpid())
            self.processes.stop()
            self._servers.stop()
            if self.run is not None:
                forget(self.run, self._base)
            return [f"{pid} {command_of(pid)}" for pid in sorted(self._pids) if alive(pid)]

    def pids(self) -> dict[str, int]:
        """Return the process ids of the services and the venue."""
        return self.processes.pids()


async def _provision(config: Config, environ: Mapping[str, str]) -> None:
    client = await connect_nats(config, environ)
    try:
        await bus.provision(client)
    finally:
        await client.close()


def executor_keys(config: Config, environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the variables that name the executor's key files; raises UsageError."""
    for name in (PRIVATE_KEY, RELAYER_KEY):
        if environ.get(name):
            cure = f"put the key into a file, chmod 600, and name it in {name}_FILE"
            raise UsageError(f"{name} would be inherited by every process: {cure}")
    relayer = environ.get(f"{RELAYER_KEY}_FILE")
    named = {f"{RELAYER_KEY}_FILE": str(Path(relayer).absolute())} if relayer else {}
    return named | _signing_key(config, environ, directory)


def _signing_key(config: Config, environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    named = environ.get(f"{PRIVATE_KEY}_FILE")
    if named:
        return {f"{PRIVATE_KEY}_FILE": str(Path(named).absolute())}
    if config.account.key_file:
        return {}
    if config.venue.local_url is None or config.account.wallet != KNOWN_WALLET:
        cure = f"set account.key_file, or {PRIVATE_KEY}_FILE"
        raise UsageError(f"no key for {config.account.wallet}: {cure}")
    return {f"{PRIVATE_KEY}_FILE": str(write_private(directory / "key", _KNOWN_KEY))}


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def free_port() -> int:
    """Return a port that is free now; the venue keeps it when it is started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def sweep(say: Say, base: Path = BASE) -> None:
    """End what runs that were killed have left: their processes, records and demo folders."""
    for run in runs(base):
        if run.is_alive:
            continue
        directory = Path(run.directory)
        say(f"clearing up after a {run.kind} that was killed")
        with contextlib.suppress(ProcessesError, ServersError):
            Processes(directory / "services").stop()
            reap(directory / "servers")
        forget(run, base)
        if run.kind == "demo":
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end the block as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C not interrupt the stopping, which is bounded."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopping_event() -> asyncio.Event:
    """Return an event that the endings set, for the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, stopping.set)
    return stopping


def descendants(pid: int) -> set[int]:
    """Return the live processes that a process started, directly or not."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(words[1])
    found: set[int] = set()
    for child in parents:
        at = child
        while at in parents and at != pid:
            at = parents[at]
        if at == pid and child != pid:
            found.add(child)
    return found


def command_of(pid: int) -> str:
    """Return a process's command line, "" where it is gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        return text.replace("\0", " ").strip()
    return ""


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory, 0 where it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0
