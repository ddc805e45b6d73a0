"""`driftless venue`: the local venue on its own, with a funded test key, for any client."""

import asyncio
import errno
import signal
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import json_text
from services.ctl.introduction import introduction, show
from services.ctl.options import JsonOption, console
from services.ctl.stack import bundled_tape
from services.paper_venue.__main__ import funded
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.importers import load_tape
from services.paper_venue.keyring import Keyring, keyring
from services.paper_venue.rules import RuleError
from services.paper_venue.server import Running, running
from services.paper_venue.tape import Tape, TapeError
from shared.domain.units import Usd, parse_micro

PORT: Final = 8400

TapeOption = Annotated[
    str | None,
    typer.Option(
        "--tape",
        metavar="FILE|DIR|none",
        help="Tape or recorded set to play; none: markets by /admin/market only. Without "
        "--tape and --markets: the bundled recording.",
    ),
]
FundOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fund",
        metavar="0xWALLET=USD",
        help="Fund a wallet of yours; 0xWALLET@0xOWNER=USD where another key signs for it. "
        "May be repeated.",
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="JSON: settings that have no option here."),
]


def venue(  # noqa: PLR0913, PLR0917 - each parameter is an option of the command line
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = PORT,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the test key, the markets and the leaders.")
    ] = 1,
    speed: Annotated[
        float, typer.Option("--speed", min=0.01, max=10_000, help="Venue seconds a real second.")
    ] = 1,
    tape: TapeOption = None,
    markets: Annotated[
        int, typer.Option("--markets", min=0, max=1_000, help="So many synthetic ones instead.")
    ] = 0,
    leaders: Annotated[
        str,
        typer.Option(
            "--leaders", metavar="none|synthetic[:all|:KIND,...]", help="Who trades besides you."
        ),
    ] = "synthetic",
    crowd: Annotated[
        int, typer.Option("--crowd", min=0, max=100_000, help="So many leaders; 0: one a kind.")
    ] = 0,
    fund: FundOption = None,
    dollars: Annotated[
        str, typer.Option("--usd", help="Dollars of the test key and of each of its wallets.")
    ] = "10000",
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="FILE", help="Faults by the second, TOML.")
    ] = "",
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a local Polymarket for your own bot, in the foreground, until Ctrl-C.

    CLOB, WebSockets, activity stream, Data API, Gamma and JSON-RPC answer on one port, and every
    address a client needs is printed, with a funded test key and snippets to paste. Nothing in it
    is real money and it reaches no network. It listens on the loopback interface only, and there
    is no option to open it: whoever reaches it controls it.

    Example: driftless venue --markets 20 --leaders synthetic:all --seed 7

    Example: driftless venue --tape none --port 0 --json

    Exit codes: 0 stopped in order, 1 the port is taken, 2 a wrong option, tape or scenario.
    """
    ring = keyring(seed)
    chosen: dict[str, Any] = {
        **_read(settings),
        "port": port,
        "seed": seed,
        "speed": speed,
        "tape": _tape_of(tape, markets),
        "markets": markets,
        "leaders": leaders,
        "crowd_size": crowd,
        "scenario": scenario,
    }
    config = _config(chosen, ring, _dollars(dollars), fund or [])
    asyncio.run(_serve(config, _tape(config), ring, as_json))


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as e:
        raise UsageError(f"--settings {path}: a JSON object of settings: {e}") from e


def _tape_of(given: str | None, markets: int) -> str:
    if markets and given not in (None, "none"):
        raise UsageError("--markets makes markets instead of a tape: drop --tape or --markets")
    return "" if markets or given == "none" else given or str(bundled_tape())


def _config(settings: dict[str, Any], ring: Keyring, each: Usd, given: list[str]) -> VenueConfig:
    try:
        config = msgspec.convert(settings, VenueConfig)
    except msgspec.ValidationError as e:
        raise UsageError(str(e)) from e
    accounts = (*ring.accounts(each), *(_funded(text) for text in given))
    return msgspec.structs.replace(config, accounts=accounts)


def _dollars(text: str) -> Usd:
    try:
        micro = parse_micro(text)
    except ValueError as e:
        raise UsageError(f"--usd {text}: dollars, as 10000 or 2.50") from e
    if micro < 0:
        raise UsageError(f"--usd {text}: not less than 0")
    return Usd(micro)


def _funded(text: str) -> Funded:
    try:
        return funded(text)
    except ValueError as e:
        raise UsageError(f"--fund {text}: 0xWALLET=USD or 0xWALLET@0xOWNER=USD ({e})") from e


def _tape(config: VenueConfig) -> Tape | None:
    try:
        return load_tape(config.tape) if config.tape else None
    except (TapeError, ImportError, OSError) as e:
        raise UsageError(f"--tape {config.tape}: {e}") from e


async def _serve(config: VenueConfig, tape: Tape | None, ring: Keyring, as_json: bool) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    try:
        async with running(config, tape) as listening:
            told = introduction(config, ring, listening.url, listening.ws_url)
            if as_json:
                print(json_text(told), flush=True)
            else:
                show(told, config, console())
                print("ready: Ctrl-C stops it", flush=True)
            await _until(stop, listening)
    except RuleError as e:
        raise UsageError(f"--scenario {config.scenario}: {e}") from e
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise CtlError(
                f"port {config.port} is taken: --port N, or --port 0 for a free one"
            ) from e
        raise CtlError(f"--port {config.port}: cannot be listened on: {e.strerror}") from e


async def _until(stop: asyncio.Event, listening: Running) -> None:
    """Wait for the signal; what plays tape, world and leaders may only end before it by failing."""
    stopped = asyncio.create_task(stop.wait())
    playing = [listening.replay] if listening.replay is not None else []
    await asyncio.wait([stopped, *playing], return_when=asyncio.FIRST_COMPLETED)
    for task in playing:
        if task.done():
            task.result()
    await stopped
