"""`driftless check`: is everything that a run needs there, and right; each line with its cure."""

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import nats
import typer
from nats.aio.client import Client
from redis.exceptions import RedisError
from rich.table import Table
from rich.text import Text

from services.ctl.check_venue import venue
from services.ctl.errors import AWAY, FINDING, OK, AwayError
from services.ctl.figures import json_text
from services.ctl.lines import Line
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import connect_nats, connect_redis, find_place
from shared.runtime.config import Config, ConfigError
from shared.runtime.secrets import PRIVATE_KEY, RELAYER_KEY, SecretError
from shared.runtime.streams import STREAMS

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
WithKey = Annotated[
    bool,
    typer.Option("--with-key", help="Read the signing key, and make the probes that need it."),
]


def check(
    config: ConfigOption = None, with_key: WithKey = False, as_json: JsonOption = False
) -> None:
    """Check the configuration, NATS and its streams, Redis, the key's file, and the venue.

    Of the venue everything is looked at that the executor looks at before it trades live. Without
    --with-key the key is not read: only that its file is there and that nobody else can read it.
    With it, API credentials are derived, and the venue looks at the balance again; no order is
    made.

    Example: driftless check --config deploy/config/live.example.toml

    Exit codes: 0 nothing fails, 1 something fails, 2 no usable configuration, 3 NATS or Redis away.
    """
    code = asyncio.run(_check(config, with_key=with_key, as_json=as_json))
    if code:
        raise typer.Exit(code)


async def _check(path: Path | None, *, with_key: bool, as_json: bool) -> int:
    place = find_place(path)
    config = place.load()
    environ = dict(place.environ)
    if place.run is not None and place.run.key_file:
        environ[f"{PRIVATE_KEY}_FILE"] = place.run.key_file
    lines = await examine(config, environ, str(place.config_path), with_key=with_key)
    if as_json:
        print(json_text({"ok": code_of(lines) == OK, "checks": [_json(line) for line in lines]}))
    else:
        console().print(table(lines))
    return code_of(lines)


async def examine(
    config: Config, environ: Mapping[str, str], path: str = "", *, with_key: bool = False
) -> list[Line]:
    """Return what was found of everything a run of a configuration needs."""
    lines = [Line(name="configuration", outcome="ok", found=f"{path} ({config.mode} mode)")]
    lines.append(leaders(config))
    lines += await _guard("NATS", _nats(config, environ))
    lines += await _guard("Redis", _redis(config, environ))
    lines.append(key(config, environ))
    if config.executor.redeem:
        lines.append(relayer_key(config, environ))
    return lines + await _guard("key", venue(config, environ, with_key=with_key))


def code_of(lines: list[Line]) -> int:
    """Return the exit code: 3 where NATS or Redis is away, 1 where anything else fails."""
    failed = {line.name for line in lines if line.outcome == "fail"}
    if failed & {"NATS", "Redis"}:
        return AWAY
    return FINDING if failed else OK


def leaders(config: Config) -> Line:
    count = len(config.leaders)
    if not count:
        cure = "add a [[leaders]] table with his wallet"
        return Line(name="leaders", outcome="warn", found="none: nothing is copied", cure=cure)
    names = ", ".join(leader.name or leader.wallet[:10] for leader in config.leaders[:5])
    return Line(name="leaders", outcome="ok", found=f"{count}: {names}")


async def _guard(name: str, looking: Any) -> list[Line]:
    try:
        found: list[Line] = await looking
    except (AwayError, ConfigError, SecretError) as e:
        problem, _, cure = str(e).rpartition(": ")
        return [Line(name=name, outcome="fail", found=problem or cure, cure=cure)]
    return found


async def _nats(config: Config, environ: Mapping[str, str]) -> list[Line]:
    client = await connect_nats(config, environ)
    try:
        lines = [Line(name="NATS", outcome="ok", found=config.nats.url)]
        return lines + [await _stream(client, wanted) for wanted in STREAMS]
    finally:
        await client.close()


async def _stream(client: Client, wanted: dict[str, Any]) -> Line:
    name = f"stream {wanted['name']}"
    cure = "run `driftless provision`"
    try:
        reply = await client.request(f"$JS.API.STREAM.INFO.{wanted['name']}", b"{}", timeout=2)
        answer = msgspec.json.decode(reply.data)
    except (TimeoutError, nats.errors.Error) as e:
        found = f"no answer ({type(e).__name__})"
        return Line(name=name, outcome="fail", found=found, cure="is JetStream on? see NATS's log")
    if "error" in answer:
        return Line(name=name, outcome="fail", found="does not exist", cure=cure)
    config, state = answer["config"], answer["state"]
    wrong = [key for key, value in wanted.items() if config.get(key) != value]
    if wrong:
        return Line(name=name, outcome="fail", found=f"differs in {', '.join(wrong)}", cure=cure)
    used, limit = state["bytes"], wanted["max_bytes"]
    found = f"{state['messages']:,} messages, {used * 100 / limit:.1f} % of {limit >> 20:,} MiB"
    if used * 10 > limit * 9:
        cure = "raise max_bytes or archive: a full ledger stops all trading"
        return Line(name=name, outcome="warn", found=found, cure=cure)
    return Line(name=name, outcome="ok", found=found)


async def _redis(config: Config, environ: Mapping[str, str]) -> list[Line]:
    client = await connect_redis(config, environ)
    lines = [Line(name="Redis", outcome="ok", found=config.redis.url)]
    try:
        settings = await client.config_get("maxmemory-policy")
    except RedisError:
        return lines  # a server that hides its settings is not wrong
    finally:
        await client.aclose()
    policy = str(settings.get("maxmemory-policy") or "")
    if policy != "noeviction":
        cure = "set maxmemory-policy noeviction: an evicted snapshot costs a rebuild"
        lines.append(Line(name="Redis eviction", outcome="warn", found=policy, cure=cure))
    return lines


def key(config: Config, environ: Mapping[str, str]) -> Line:
    """Judge where the signing key is and who may read it, without reading it."""
    named = environ.get(f"{PRIVATE_KEY}_FILE") or config.account.key_file
    if environ.get(PRIVATE_KEY):
        cure = f"a file is safer: {PRIVATE_KEY}_FILE, chmod 600"
        found = "in the environment, which child processes inherit"
        return Line(name="key", outcome="warn", found=found, cure=cure)
    if not named:
        cure = f"set account.key_file or {PRIVATE_KEY}_FILE for the executor"
        outcome: Literal["warn", "fail"] = "fail" if config.mode == "live" else "warn"
        return Line(name="key", outcome=outcome, found="none named here", cure=cure)
    path = Path(named)
    try:
        exposed = exposure(path)
    except OSError as e:
        cure = "correct the path"
        return Line(name="key", outcome="fail", found=f"{path}: {e.strerror}", cure=cure)
    if exposed is not None:
        return exposed
    return Line(name="key", outcome="ok", found=f"{path}: only its owner may read it")


def relayer_key(config: Config, environ: Mapping[str, str]) -> Line:
    """Judge what redeeming needs beside the signing key, without reading it."""
    name, account = "relayer key", config.account
    named = environ.get(f"{RELAYER_KEY}_FILE") or account.relayer_key_file
    if account.signature_type == 0:
        found = "not needed: the account sends its redemptions itself, and pays their gas"
        return Line(name=name, outcome="ok", found=found)
    if environ.get(RELAYER_KEY):
        return Line(name=name, outcome="ok", found="in the environment")
    if not named:
        cure = f"set account.relayer_key_file or {RELAYER_KEY}_FILE, or executor.redeem = false"
        return Line(name=name, outcome="fail", found="none named here", cure=cure)
    try:
        exposed = exposure(Path(named))
    except OSError as e:
        return Line(
            name=name, outcome="fail", found=f"{named}: {e.strerror}", cure="correct the path"
        )
    if exposed is not None:
        return msgspec.structs.replace(exposed, name=name)
    return Line(name=name, outcome="ok", found=f"{named}: only its owner may read it")


def exposure(path: Path) -> Line | None:
    """Return how others come to a file, or to put another in its place; None: they do not.

    Links are followed: what counts is the file, and every directory on the way to it.
    """
    real = path.resolve(strict=True)
    shown = str(path) if real == path.absolute() else f"{path} -> {real}"
    info = real.stat()
    mode = stat.S_IMODE(info.st_mode)
    if not stat.S_ISREG(info.st_mode):
        return Line(name="key", outcome="fail", found=f"{shown} is no file", cure="name the file")
    if mode & 0o077:
        found = f"{shown}: mode {mode:04o} lets others read it"
        return Line(name="key", outcome="fail", found=found, cure=f"chmod 600 {real}")
    if info.st_uid not in (os.getuid(), 0):
        found = f"{shown} belongs to user {info.st_uid}"
        return Line(name="key", outcome="warn", found=found, cure="own it yourself")
    for parent in {*real.parents, *path.absolute().parents}:
        above = parent.stat()
        is_sticky = bool(above.st_mode & stat.S_ISVTX)  # others may not replace what is not theirs
        if above.st_mode & 0o022 and not is_sticky:
            found = f"{shown}: others may replace files in {parent}"
            return Line(name="key", outcome="fail", found=found, cure=f"chmod go-w {parent}")
    return None


def table(lines: list[Line]) -> Table:
    found = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for line in lines:
        outcome = Text(line.outcome, style=_STYLES[line.outcome])
        text = Text(line.found)
        if line.outcome != "ok" and line.cure and line.cure != line.found:
            text.append(f"\n-> {line.cure}", style="yellow")
        found.add_row(outcome, line.name, text)
    return found


def _json(line: Line) -> dict[str, str]:
    return {"name": line.name, "outcome": line.outcome, "found": line.found, "cure": line.cure}
