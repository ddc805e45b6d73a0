"""Each port in each of its implementations, behind one fixture."""

from collections.abc import AsyncIterator

import pytest

from services.ctl.servers import LocalServers
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Ledger, Store
from shared.runtime.store import RedisStore
from tests.support.servers import nats_client, redis_client, wipe


@pytest.fixture(params=["memory", "nats"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    servers: LocalServers = request.getfixturevalue("servers")
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        yield NatsLedger(client)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    servers: LocalServers = request.getfixturevalue("servers")
    await wipe(servers)
    async with redis_client(servers) as client:
        yield RedisStore(client)
