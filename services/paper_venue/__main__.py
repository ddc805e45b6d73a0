"""Run the local venue: ``python -m services.paper_venue --port 8400 --leaders synthetic``."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.importers import load_tape
from services.paper_venue.server import running
from services.paper_venue.tape import TapeError
from shared.domain.ids import wallet
from shared.domain.units import Usd, parse_micro

RECORDED = Path(__file__).parent / "recordings" / "btc15m-2026-09.tape.jsonl.gz"


def funded(text: str) -> Funded:
    """Read ``0xWALLET=USD`` or ``0xWALLET@0xOWNER=USD``."""
    name, _, usd = text.partition("=")
    who, _, owner = name.partition("@")
    return Funded(
        wallet=wallet(who), usd=Usd(parse_micro(usd)), owner=wallet(owner) if owner else None
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.paper_venue", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--tape", default=str(RECORDED), help="tape file or data folder, or 'none'")
    parser.add_argument("--speed", type=float, default=1.0, help="recorded ms a real ms")
    parser.add_argument("--once", action="store_true", help="do not start the tape again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leaders", choices=["synthetic", "none"], default="none")
    parser.add_argument("--fund", type=funded, nargs="*", default=[], metavar="0xWALLET=USD")
    parser.add_argument("--config", type=Path, help="JSON file with further VenueConfig settings")
    parser.add_argument("--ready-file", type=Path, help="written with the url once listening")
    return parser.parse_args()


def configuration(given: argparse.Namespace) -> VenueConfig:
    """Return the settings file's values, overridden by the command line's."""
    settings = json.loads(given.config.read_text()) if given.config else {}
    named = {name: getattr(given, name) for name in ("host", "port", "speed", "seed", "leaders")}
    return VenueConfig(
        **{**settings, **named, "loop": not given.once, "accounts": tuple(given.fund)}
    )


async def serve(given: argparse.Namespace) -> None:
    """Listen until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    tape = None if given.tape == "none" else load_tape(given.tape)
    async with running(configuration(given), tape) as venue:
        ready = {"event": "paper_venue_ready", "url": venue.url, "ws_url": venue.ws_url}
        if given.ready_file:
            given.ready_file.write_text(json.dumps(ready))
        sys.stdout.write(json.dumps({**ready, "seed": given.seed, "tape": given.tape}) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve(arguments()))
    except TapeError as error:
        sys.exit(f"tape refused: {error}")
