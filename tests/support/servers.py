"""Real servers for tests: one pair a session, a clean slate a test.

In ``conftest.py``::

    @pytest.fixture(scope="session")
    def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
        with session_servers(tmp_path_factory.mktemp("servers")) as running:
            yield running
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import redis.asyncio
from nats.aio.client import Client

from services.ctl.servers import LocalServers

STREAM_NAMES_API = "$JS.API.STREAM.NAMES"


@contextlib.contextmanager
def session_servers(directory: Path) -> Iterator[LocalServers]:
    """Run NATS and Valkey, with the deployed configuration, until the context ends."""
    with LocalServers(directory) as servers:
        yield servers


@contextlib.asynccontextmanager
async def nats_client(
    servers: LocalServers, user: str = "ctl", **options: Any
) -> AsyncIterator[Client]:
    """Connect as one of the users, with its private inbox; closed when the context ends."""
    client = await nats.connect(
        servers.endpoints.nats_url,
        user=user,
        password=servers.endpoints.password(user).reveal(),
        inbox_prefix=f"_INBOX_{user}".encode(),
        **options,
    )
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def redis_client(servers: LocalServers) -> AsyncIterator["redis.asyncio.Redis"]:
    """Connect to the store; closed when the context ends."""
    password = servers.endpoints.password("redis").reveal()
    async with redis.asyncio.Redis.from_url(
        servers.endpoints.redis_url, password=password
    ) as client:
        yield client


async def wipe(
    servers: LocalServers, provision: Callable[[Client], Awaitable[None]] | None = None
) -> None:
    """Delete every stream and key; with ``provision``, create the streams afresh."""
    async with nats_client(servers) as client, redis_client(servers) as store:
        await store.flushall()
        answer = msgspec.json.decode((await client.request(STREAM_NAMES_API, b"{}")).data)
        for name in answer.get("streams") or ():
            await client.request(f"$JS.API.STREAM.DELETE.{name}", b"")
        if provision is not None:
            await provision(client)
