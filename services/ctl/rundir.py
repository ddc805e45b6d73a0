"""Which `driftless up` or `demo` runs here: small records that other terminals find.

A record is ``.driftless/run/<pid>.json``, readable by its owner alone. It holds addresses and the
names of files, never a password.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from services.ctl.servers import alive

BASE: Final = Path(".driftless")
_RUNS: Final = "run"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One `driftless up` or `demo`: where its things are and how to reach them."""

    pid: int
    kind: Literal["up", "demo"]
    directory: str  # of its servers, logs and passwords
    config: str
    environ: dict[str, str]  # addresses and names of password files, for the user ctl
    key_file: str = ""  # the executor's: named so that its permissions can be checked
    venue: str = ""  # the local venue's address, if there is one

    @property
    def is_alive(self) -> bool:
        return alive(self.pid)


def record(run: Run, base: Path = BASE) -> Path:
    """Write a run's record and return its path."""
    folder = base / _RUNS
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, draft = folder / f"{run.pid}.json", folder / f".{run.pid}.json"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(run))
    draft.replace(path)
    return path


def forget(run: Run, base: Path = BASE) -> None:
    (base / _RUNS / f"{run.pid}.json").unlink(missing_ok=True)


def runs(base: Path = BASE) -> list[Run]:
    """Return every record, the newest first; of runs that were killed too."""
    found: list[tuple[int, Run]] = []
    for path in (base / _RUNS).glob("*.json"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            run = msgspec.json.decode(path.read_bytes(), type=Run)
            found.append((path.stat().st_mtime_ns, run))
    return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]


def current(config: Path | None = None, base: Path = BASE) -> Run | None:
    """Return the newest run that is alive; of a configuration file, if one is named."""
    wanted = None if config is None else config.resolve()
    alive_ones = (run for run in runs(base) if run.is_alive)
    return next((r for r in alive_ones if wanted in (None, Path(r.config).resolve())), None)
