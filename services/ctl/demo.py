"""`driftless demo`: everything at work against the local venue, watched live, then summed up."""

import asyncio
import contextlib
import os
import secrets
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from eth_account import Account

from services.ctl.errors import EXPECTED, FINDING, CtlError, UsageError
from services.ctl.figures import json_text
from services.ctl.options import JsonOption, console
from services.ctl.rundir import BASE
from services.ctl.session import place_of
from services.ctl.stack import (
    LocalStack,
    Say,
    VenuePlan,
    bundled_tape,
    interruptible,
    sweep,
    write_private,
)
from services.ctl.summary import Summary, summary_json, summary_table
from services.ctl.watching import Watching, watch
from services.paper_venue.config import VenueConfig
from services.paper_venue.importers import load_tape
from services.paper_venue.leaders import crowd
from services.paper_venue.tape import FillRecord, Tape, TapeError, market_of
from shared.domain import ids
from shared.domain.ids import Wallet
from shared.domain.market import Market
from shared.runtime.secrets import PRIVATE_KEY

LEADERS_MAX: Final = 50  # of a tape's wallets: those with the most fills
QUIET_MS: Final = 500
_DELAYS: Final = ("rtds_delay_ms", "data_api_delay_ms", "mined_delay_ms", "confirmed_delay_ms")
_DELAY_MS_MIN: Final = 20
# Large enough that a share of a typical decision is above the venue's least size.
_RATIO_BPS: Final = {"synthetic-splitter": 2_000, "synthetic-pair-builder": 2_000}
_RATIO_BPS_RECORDED: Final = 5_000

_CONFIG: Final = """# Written by `driftless demo`; what is not here has its default.
mode = "demo"

[account]
wallet = "{wallet}"

[venue]
local_url = "http://127.0.0.1:8700" # DRIFTLESS_LOCAL_URL says which port it really has

[ingester]
poll_interval_ms = 1000
backfill_s = 600 # the venue began with us, so all of a leader's activity is read

[aggregator]
quiet_ms = {quiet_ms}
age_max_ms = 3000
churn_quiet_ms = 3000 # recordings run faster than life
churn_age_max_ms = 12000

[risk]
volatility_calm = 80000 # markets that live for fifteen minutes are never as calm as others

[executor]
poll_interval_ms = 1000
lookup_interval_ms = 500

[reconciler]
interval_ms = 1000
grace_ms = 5000
{leaders}"""


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who is followed in a demonstration, and on what recording."""

    tape_path: str
    leaders: tuple[tuple[Wallet, str], ...]
    markets: tuple[Market, ...]
    is_synthetic: bool
    attribution: str


def demo(
    tape: Annotated[
        str | None,
        typer.Option("--tape", metavar="FILE|DIR", help="Tape or recorded set to play instead."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.1, max=1000, help="Recorded seconds a real second.")
    ] = 10,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.1, max=1440, help="How long it runs.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of the synthetic leaders.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Watch the whole system work: no account, no key, no network.

    Starts NATS, Redis, a local venue on recorded order books and the five services, follows
    leaders on it, and shows what they do, what we decide and why, what it costs, and whether we
    are in step. Leaders are synthetic, unless the given tape has recorded fills. The venue's
    delays are divided by the speed, so the market moves as much meanwhile as it did in reality.
    Where the output is not a terminal there is one line an event. Afterwards no process is left.

    Example: driftless demo --minutes 1 --seed 7

    Exit codes: 0 it worked, 1 a service died for good, a state differs from its log or a process
    was left, 2 usage, 130 stopped before it began. Ctrl-C ends it early, with the summary.
    """
    cast = cast_of(tape, seed)
    say = _say(as_json)
    sweep(say)
    plan = VenuePlan(
        tape=cast.tape_path,
        leaders="synthetic" if cast.is_synthetic else "none",
        speed=speed,
        seed=seed,
        settings=delays_at(speed),
    )
    live = not as_json and console().is_terminal
    watching = Watching(
        minutes=minutes,
        speed=speed,
        leaders=dict(cast.leaders),
        markets=cast.markets,
        attribution=cast.attribution,
        quiet_ms=QUIET_MS,
        mode="live" if live else "silent" if as_json else "lines",
    )
    summary = _run(cast, plan, watching, say)
    print(json_text(summary_json(summary))) if as_json else console().print(summary_table(summary))
    if summary.processes_left:
        raise CtlError(f"{summary.processes_left} processes are still running")
    if not summary.identical:
        raise typer.Exit(FINDING)


def _run(cast: Cast, plan: VenuePlan, watching: Watching, say: Say) -> Summary:
    directory = BASE / f"demo-{os.getpid()}"
    stack = LocalStack(directory, "demo")
    left: list[str] = []
    keep_logs = False
    with interruptible():
        try:
            say(cast.attribution)
            config, environ = _prepare(cast, directory)
            stack.start(config, say, venue=plan, executor_environ=environ)
            assert stack.run is not None
            place = place_of(stack.run, os.environ)
            summary = asyncio.run(watch(stack, place, watching, say))
        except EXPECTED:
            keep_logs = directory.exists()
            raise
        finally:
            say("stopping everything")
            left = stack.stop()
            if keep_logs:
                say(f"logs are kept in {stack.logs}")
            else:
                shutil.rmtree(directory, ignore_errors=True)
    for process in left:
        say(f"still running: {process}")
    return msgspec.structs.replace(summary, processes_left=len(left))


def _say(as_json: bool) -> Say:
    def say(text: str) -> None:
        # A terminal that was closed, or a pipe whose reader left, must not keep us from stopping.
        with contextlib.suppress(OSError):
            typer.echo(f"driftless: {text}", err=as_json)

    return say


def cast_of(tape: str | None, seed: int) -> Cast:
    """Return who is followed: a tape's own wallets, or synthetic leaders; raises UsageError."""
    path = tape or str(bundled_tape())
    try:
        loaded = load_tape(path)
    except (TapeError, ImportError) as e:
        raise UsageError(f"tape {path}: {e}") from e
    recorded = recorded_leaders(loaded)
    header = loaded.header
    books = header.attribution or header.label or Path(path).name
    if recorded:
        leaders = tuple((who, f"recorded {n}") for n, who in enumerate(recorded, start=1))
        who = "the leaders' fills are recorded ones"
    else:
        leaders = tuple((leader.wallet, leader.name) for leader in crowd(seed))
        who = "the leaders are synthetic, not real traders"
    return Cast(
        tape_path=path if tape is None else str(Path(path).absolute()),
        leaders=leaders,
        markets=tuple(market_of(record) for record in loaded.markets),
        is_synthetic=not recorded,
        attribution=f"{books}; {who}",
    )


def recorded_leaders(tape: Tape) -> list[Wallet]:
    """Return the wallets with fills in a tape, the busiest first, at most LEADERS_MAX."""
    fills = Counter(
        ids.wallet(record.wallet) for record in tape.records if isinstance(record, FillRecord)
    )
    return [who for who, _ in fills.most_common(LEADERS_MAX)]


def delays_at(speed: float) -> dict[str, int]:
    """Return the venue's delays in the recording's time."""
    usual = VenueConfig()
    return {name: max(_DELAY_MS_MIN, round(getattr(usual, name) / speed)) for name in _DELAYS}


def _prepare(cast: Cast, directory: Path) -> tuple[Path, dict[str, str]]:
    """Write the configuration and a throw-away key; return where, and who is told of the key."""
    key = secrets.token_hex(32)
    own = ids.wallet(Account.from_key(f"0x{key}").address)
    held = write_private(directory / "key", key)
    config = directory / "config.toml"
    leaders = "\n".join(_leader(who, name, cast) for who, name in cast.leaders)
    text = _CONFIG.format(wallet=own, quiet_ms=QUIET_MS, leaders=leaders)
    config.write_text(text, encoding="utf-8")
    return config, {f"{PRIVATE_KEY}_FILE": str(held.absolute())}


def _leader(who: Wallet, name: str, cast: Cast) -> str:
    ratio_bps = _RATIO_BPS.get(name, _RATIO_BPS_RECORDED)
    sizing = f'sizing = "proportional"\nratio_bps = {ratio_bps} # of what he spends'
    if not cast.is_synthetic:  # a machine's fills are recorded to be watched, whatever it is after
        sizing += "\nchurn_share_bps_max = 0 # even if he makes the market"
    return f'\n[[leaders]]\nwallet = "{who}"\nname = "{name}"\n{sizing}\n'
