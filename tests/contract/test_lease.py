"""Leases on a real server: one holder, a growing epoch, and a takeover nobody has to arrange."""

import asyncio

import pytest

from services.ctl.servers import LocalServers
from shared.runtime.bus import provision
from shared.runtime.lease import TTL_S, LeaseLostError, NatsLeases
from shared.runtime.ports import Lane
from tests.support.eventually import eventually
from tests.support.servers import nats_client, wipe

LANE = Lane("risk", 5)


async def test_a_lane_has_one_holder_and_the_next_has_a_higher_epoch(servers: LocalServers) -> None:
    await wipe(servers, provision)
    async with nats_client(servers, "risk") as client:
        one = NatsLeases(client, service="risk", instance="one")
        two = NatsLeases(client, service="risk", instance="two")
        first = await one.take(LANE)
        assert first is not None
        assert await two.take(LANE) is None
        await first.release()
        second = await two.take(LANE)
        assert second is not None
        assert second.epoch > first.epoch


async def test_a_holder_that_stopped_renewing_is_replaced_and_learns_it(
    servers: LocalServers,
) -> None:
    await wipe(servers, provision)
    async with nats_client(servers, "risk") as client:
        one = NatsLeases(client, service="risk", instance="one")
        two = NatsLeases(client, service="risk", instance="two")
        stale = await one.take(LANE)
        assert stale is not None

        async def taken() -> bool:
            return await two.take(LANE) is not None

        await eventually(taken, deadline_s=TTL_S + 3)
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(stale.hold(), TTL_S + 2)


async def test_members_counts_the_instances_that_are_alive(servers: LocalServers) -> None:
    await wipe(servers, provision)
    async with nats_client(servers, "risk") as client:
        for name in ("one", "two", "three"):
            await NatsLeases(client, service="risk", instance=name).announce()
        assert await NatsLeases(client, service="risk", instance="one").members() == 3
