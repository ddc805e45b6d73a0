"""Leases on a real server: one holder, a growing epoch, and a takeover nobody has to arrange."""

import asyncio
import subprocess
import sys

import pytest

from services.ctl.servers import LocalServers
from shared.runtime.bus import provision
from shared.runtime.instance import instance_name
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


async def test_a_dead_holder_is_not_waited_for(servers: LocalServers) -> None:
    """Its process is gone from this machine: the lane is free at once, and it counts no more."""
    await wipe(servers, provision)
    ours = instance_name("risk")
    service, _, *rest = ours.split("-")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        dead = "-".join((service, str(ended.pid), *rest))
    async with nats_client(servers, "risk") as client:
        gone = NatsLeases(client, service="risk", instance=dead)
        stale = await gone.take(LANE)
        await gone.announce()
        assert stale is not None
        heir = NatsLeases(client, service="risk", instance=ours)
        await heir.announce()
        assert await heir.members() == 1
        taken = await heir.take(LANE)
        assert taken is not None
        assert taken.epoch > stale.epoch
        assert await NatsLeases(client, service="risk", instance="other").take(LANE) is None
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(stale.hold(), TTL_S + 2)


async def test_a_key_that_the_broker_should_have_dropped_is_void(servers: LocalServers) -> None:
    """A killed broker brought back what had expired, for good: its age tells, not its presence."""
    await wipe(servers, provision)
    async with nats_client(servers, "risk") as client:
        js = client.jetstream()
        await js.publish("$KV.leases.risk.member.ghost", b"ghost")  # without a time to live
        await js.publish(f"$KV.leases.{LANE.name}", b"ghost")
        heir = NatsLeases(client, service="risk", instance="heir")
        await heir.announce()
        assert await heir.members() == 2
        assert await heir.take(LANE) is None

        async def taken() -> bool:  # the lane's key is a moment younger than the member's
            await heir.announce()
            return await heir.members() == 1 and await heir.take(LANE) is not None

        await eventually(taken, deadline_s=TTL_S + 3)
        other = NatsLeases(client, service="risk", instance="other")
        await other.announce()
        assert await other.members() == 2
        assert await other.take(LANE) is None
