"""Run the local venue: ``python -m services.paper_venue --port 8400 --leaders synthetic``."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.importers import load_tape
from services.paper_venue.rules import RuleError
from services.paper_venue.server import running
from services.paper_venue.tape import TapeError
from shared.domain.ids import wallet
from shared.domain.units import Usd, parse_micro

RECORDED = Path(__file__).parent / "recordings" / "btc15m-2026-09.tape.jsonl.gz"
SETTINGS = ("host", "port", "tape", "speed", "seed", "leaders", "scenario", "markets")


def funded(text: str) -> Funded:
    """Read ``0xWALLET=USD``, ``0xWALLET@0xOWNER=USD`` or ``0xWALLET@0xOWNER/TYPE=USD``."""
    name, _, usd = text.partition("=")
    who, _, signer = name.partition("@")
    owner, _, kind = signer.partition("/")
    told = {"wallet": wallet(who), "usd": Usd(parse_micro(usd))}
    if owner:
        told["owner"] = wallet(owner)
    if kind:
        told["signature_type"] = kind
    return msgspec.convert(told, Funded, strict=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.paper_venue", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, help="JSON file of settings (config.py); options override it")
    add("--host", help="default 127.0.0.1")
    add("--port", type=int, help="0, the default: any free port")
    add("--tape", help="tape file, folder of a recorded set, or 'none'; default: the shipped one")
    add("--speed", type=float, help="recorded milliseconds a real one; default 1")
    add("--once", action="store_true", help="do not start the tape again at its end")
    add("--seed", type=int, help="default 1")
    add("--leaders", metavar="none|synthetic[:all|:KIND,KIND]", help="default none")
    add("--markets", type=int, help="so many synthetic ones at a time, instead of a tape")
    add("--scenario", metavar="FILE", help="faults by the second: TOML, docs/paper-venue.md")
    add("--fund", type=funded, nargs="+", action="extend", default=[], metavar="0xWALLET=USD")
    add("--ready-file", type=Path, help="written with the url once it listens")
    return parser.parse_args()


def configuration(given: argparse.Namespace) -> VenueConfig:
    """Return the settings file's values, overridden by the command line's."""
    settings: dict[str, Any] = json.loads(given.config.read_text()) if given.config else {}
    settings.update(
        {name: value for name in SETTINGS if (value := getattr(given, name)) is not None}
    )
    usual = "" if settings.get("markets") else str(RECORDED)
    config = msgspec.convert({"tape": usual, **settings}, VenueConfig)
    loop = config.loop and not given.once
    return msgspec.structs.replace(config, loop=loop, accounts=(*config.accounts, *given.fund))


async def serve(config: VenueConfig, ready_file: Path | None) -> None:
    """Listen until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    tape = None if config.tape in ("", "none") else load_tape(config.tape)
    async with running(config, tape) as venue:
        ready = {"event": "paper_venue_ready", "url": venue.url, "ws_url": venue.ws_url}
        if ready_file:
            part = ready_file.with_suffix(".part")
            part.write_text(json.dumps(ready))
            part.replace(ready_file)  # whoever sees the file sees all of it
        sys.stdout.write(json.dumps({**ready, "seed": config.seed, "tape": config.tape}) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    given = arguments()
    try:
        asyncio.run(serve(configuration(given), given.ready_file))
    except (TapeError, RuleError, msgspec.ValidationError) as error:
        sys.exit(f"refused: {error}")
