"""A command's connection to a running system: its configuration, ledger, snapshots and views."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import nats
import redis.asyncio as redis
from nats.aio.client import Client
from redis.exceptions import RedisError

from services.ctl.errors import AwayError, UsageError
from services.ctl.rundir import BASE, Run, current
from shared.domain.ids import partition_of
from shared.runtime import bus
from shared.runtime.config import Config, load, nats_password, redis_password
from shared.runtime.secrets import NATS_PASSWORD, REDIS_PASSWORD
from shared.runtime.store import RedisStore

USER: Final = "ctl"
CONFIG: Final = "DRIFTLESS_CONFIG"
CONNECT_S: Final = 5.0
_PASSWORDS: Final = tuple(
    f"{name}{suffix}" for name in (NATS_PASSWORD, REDIS_PASSWORD) for suffix in ("", "_FILE")
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a command looks: the configuration and the environment it is read in."""

    config_path: Path
    environ: Mapping[str, str]
    run: Run | None = None

    def load(self) -> Config:
        """Return the checked configuration; raises ConfigError."""
        return load(self.config_path, environ=self.environ)


def find_place(
    config_path: Path | None, environ: Mapping[str, str] | None = None, base: Path = BASE
) -> Place:
    """Return --config, else $DRIFTLESS_CONFIG, else what runs here; raises UsageError."""
    variables = dict(os.environ if environ is None else environ)
    named = config_path or (Path(variables[CONFIG]) if variables.get(CONFIG) else None)
    run = current(named, base)
    if run is not None:
        return place_of(run, variables)
    if named is None:
        problem = "nothing runs here: start it with `driftless up`, or pass --config PATH"
        raise UsageError(f"{problem} (or set {CONFIG})")
    return Place(config_path=named, environ=variables)


def place_of(run: Run, environ: Mapping[str, str]) -> Place:
    """Return where a run is reached, whatever passwords the environment has for another."""
    others = {name: value for name, value in environ.items() if name not in _PASSWORDS}
    return Place(config_path=Path(run.config), environ={**others, **run.environ}, run=run)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An open connection; ``session`` closes it."""

    config: Config
    client: Client
    ledger: bus.NatsLedger
    store: RedisStore

    @property
    def partition(self) -> int:
        """The lane of the account: risk's, the executor's and the reconciler's."""
        return partition_of(self.config.account.wallet)


@contextlib.asynccontextmanager
async def session(place: Place) -> AsyncIterator[Session]:
    """Connect as the user ctl; raises AwayError naming what does not answer."""
    config = place.load()
    async with contextlib.AsyncExitStack() as stack:
        client = await connect_nats(config, place.environ)
        stack.push_async_callback(client.close)
        store = await connect_redis(config, place.environ)
        stack.push_async_callback(store.aclose)
        yield Session(
            config=config,
            client=client,
            ledger=bus.NatsLedger(client),
            store=RedisStore(store),
        )


async def connect_nats(config: Config, environ: Mapping[str, str]) -> Client:
    """Return a connected client; raises AwayError."""
    password = nats_password(environ)
    url = config.nats.url
    said: list[str] = []
    try:
        async with asyncio.timeout(CONNECT_S):
            return await bus.connect(
                url,
                service=USER,
                password=password.reveal() if password else None,
                on_error=lambda e: said.append(str(e) or type(e).__name__),
            )
    except (TimeoutError, OSError, nats.errors.Error) as e:
        why = said[-1] if said else str(e) or "no answer"
        if "authorization" in why.lower():
            cure = f"the password of user {USER} is wrong: set {NATS_PASSWORD}(_FILE)"
            raise AwayError(f"NATS at {url} refused us: {cure}") from e
        cure = "start it with `driftless up`, or correct nats.url"
        raise AwayError(f"cannot reach NATS at {url} ({why}): {cure}") from e


async def connect_redis(config: Config, environ: Mapping[str, str]) -> "redis.Redis":
    """Return a client that was answered once; raises AwayError."""
    password = redis_password(environ)
    client = redis.Redis.from_url(
        config.redis.url,
        password=password.reveal() if password else None,
        socket_timeout=5,
        socket_connect_timeout=2,
    )
    try:
        await client.ping()
    except (RedisError, OSError) as e:
        await client.aclose()
        cure = f"start it with `driftless up`, or correct redis.url and {REDIS_PASSWORD}(_FILE)"
        raise AwayError(f"cannot reach Redis at {config.redis.url} ({e}): {cure}") from e
    return client
