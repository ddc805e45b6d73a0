"""`driftless up` and `down`: the system on this machine, in the foreground, until Ctrl-C."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from services.ctl import check
from services.ctl.check_venue import venue
from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import json_text
from services.ctl.options import ConfigOption, JsonOption
from services.ctl.rundir import BASE, Run, runs
from services.ctl.servers import DEPLOY
from services.ctl.session import CONFIG
from services.ctl.stack import (
    LocalStack,
    VenuePlan,
    bundled_tape,
    executor_keys,
    interruptible,
    sweep,
)
from shared.runtime.config import Config, load

DIRECTORY: Final = "up"
_WATCH_S: Final = 1.0
_STOP_S: Final = 40.0


def up(
    config: ConfigOption = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode", help="demo or paper: the configuration that comes with it, without --config."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start NATS, Redis, the local venue if the configuration asks for it, and the five services.

    Runs in the foreground; what dies is started again; Ctrl-C stops everything. Other terminals
    in this folder then need no --config. Logs and data are in .driftless/up. A local venue begins
    empty, so the ledger does too: the last run's is kept in .driftless/up-previous.

    Example: driftless up --mode demo

    Exit codes: 0 stopped in order, 1 something did not start or stop, 2 usage or configuration.
    """
    path = _config_path(config, mode)
    settings = load(path, environ=os.environ)
    if mode is not None and settings.mode != mode:
        raise UsageError(f"--mode {mode}, but {path} says mode = {settings.mode!r}: drop one")
    directory = BASE / DIRECTORY
    _refuse_a_second()
    sweep(_say)
    if settings.venue.local_url is not None:
        _set_aside(directory)
    key = executor_keys(settings, os.environ, directory)
    if settings.mode == "live":
        _refuse_unready(settings)
    stack = LocalStack(directory, "up")
    left: list[str] = []
    with interruptible():
        try:
            _start(stack, path, settings, key)
            _tell(stack, as_json)
            _watch(stack)
        except KeyboardInterrupt:
            _say("stopping")
        finally:
            left = stack.stop()
    if left:
        raise CtlError(f"still running: {'; '.join(left)}")
    _say("everything stopped")


def _config_path(config: Path | None, mode: str | None) -> Path:
    if mode not in (None, "demo", "paper"):
        raise UsageError(f"--mode {mode}: demo or paper (live needs --config with mode = 'live')")
    named = config or (Path(os.environ[CONFIG]) if os.environ.get(CONFIG) else None)
    return named or DEPLOY / "config" / f"{mode or 'demo'}.toml"


def _refuse_a_second() -> None:
    running = next((run for run in runs() if run.is_alive and run.kind == "up"), None)
    if running is not None:
        raise CtlError(f"already up (process {running.pid}): `driftless down` first")


def _refuse_unready(settings: Config) -> None:
    """Let real money start only where the venue answers, the clocks agree and the key is safe."""
    lines = [*asyncio.run(venue(settings, os.environ)), check.key(settings, os.environ)]
    failed = [
        f"{line.name}: {line.found} ({line.cure})" for line in lines if line.outcome == "fail"
    ]
    if failed:
        raise CtlError(f"live mode does not start: {'; '.join(failed)}")


def _set_aside(directory: Path) -> None:
    """Keep the last run's data under another name: its venue is gone, so its ledger is history."""
    if directory.exists():
        previous = directory.with_name(f"{directory.name}-previous")
        shutil.rmtree(previous, ignore_errors=True)
        directory.rename(previous)


def _start(stack: LocalStack, path: Path, settings: Config, key: dict[str, str]) -> None:
    plan = None
    if settings.venue.local_url is not None:
        plan = VenuePlan(tape=str(bundled_tape()), leaders="synthetic")
    stack.start(path, _say, venue=plan, executor_environ=key)


def _tell(stack: LocalStack, as_json: bool) -> None:
    told = {
        "pid": os.getpid(),
        "nats": stack.endpoints.nats_url,
        "redis": stack.endpoints.redis_url,
        "venue": stack.venue_url or None,
        "logs": str(stack.logs),
    }
    if as_json:
        print(json_text(told), flush=True)
        return
    for name, value in told.items():
        if value is not None:
            print(f"{name:8}{value}")
    print("ready: `driftless status --watch` in another terminal; Ctrl-C stops everything")


def _watch(stack: LocalStack) -> None:
    """Tell what dies and what comes back, until interrupted."""
    told: dict[str, str] = {}
    while True:
        time.sleep(_WATCH_S)
        for row in stack.processes.status():
            if row.state != told.get(row.name, "RUNNING"):
                detail = f": {row.detail}" if row.detail else ", it ended and is started again"
                _say(f"{row.name} is {row.state}{detail} (log: {Path(row.log).name})")
            told[row.name] = row.state


def _say(text: str) -> None:
    typer.echo(f"driftless: {text}", err=True)


def down(as_json: JsonOption = False) -> None:
    """Stop the `driftless up` or `demo` that runs in this folder, from another terminal.

    Example: driftless down

    Exit codes: 0 stopped, or nothing ran; 1 it did not stop.
    """
    running = [run for run in runs() if run.is_alive]
    for run in running:
        os.kill(run.pid, signal.SIGTERM)
        _await_end(run)
    sweep(_say)
    stopped = [run.pid for run in running]
    print(json_text({"stopped": stopped}) if as_json else f"stopped: {stopped or 'nothing ran'}")


def _await_end(run: Run) -> None:
    end = time.monotonic() + _STOP_S
    while run.is_alive:
        if time.monotonic() > end:
            raise CtlError(f"{run.kind} (process {run.pid}) did not stop in {_STOP_S:g} s")
        time.sleep(0.1)
