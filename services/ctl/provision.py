"""`driftless provision`: the ledger's streams exist, with their limits."""

import asyncio
from pathlib import Path

from services.ctl.errors import AwayError, CtlError
from services.ctl.figures import json_text
from services.ctl.options import ConfigOption, JsonOption
from services.ctl.session import connect_nats, find_place
from shared.runtime import bus
from shared.runtime.streams import STREAMS


def provision(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Create the streams of the ledger, or bring existing ones up to their limits.

    Only the user ctl may. Running it again changes nothing; `up` and `demo` do it by themselves.

    Example: driftless provision --config deploy/config/paper.toml

    Exit codes: 0 done, 1 refused by the server, 2 configuration, 3 NATS away.
    """
    asyncio.run(_provision(config, as_json))


async def _provision(config: Path | None, as_json: bool) -> None:
    place = find_place(config)
    client = await connect_nats(place.load(), place.environ)
    try:
        await bus.provision(client)
    except RuntimeError as e:
        raise CtlError(f"{e}: correct the stream, or move its data away") from e
    except TimeoutError as e:
        raise AwayError("NATS runs without JetStream, or is not ready: see its log") from e
    finally:
        await client.close()
    names = [stream["name"] for stream in STREAMS]
    print(json_text({"streams": names}) if as_json else f"streams ready: {', '.join(names)}")
