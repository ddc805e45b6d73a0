"""Lanes on real servers: leases that end in time, stores that are away, emptied or foreign."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from services.ctl.servers import LocalServers
from shared.domain.messages import Batch, Fact, HaltTrading, ResumeTrading, Tick
from shared.runtime import runner
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.clock import SystemClock
from shared.runtime.lease import TTL_S, LeaseLostError, NatsLease, NatsLeases
from shared.runtime.ports import Epoch, GapError, Lane, Ledger, Saved, StoreAwayError
from shared.runtime.runner import (
    Input,
    LaneHandle,
    LaneRunner,
    Ports,
    QuietShell,
    Service,
    run_until_stopped,
)
from shared.runtime.store import RedisStore, snapshot_key
from shared.runtime.streams import LEASES
from tests.support.eventually import eventually
from tests.support.servers import nats_client, redis_client, wipe

LANE = Lane("ctl", 3)  # the tests' user may publish under this prefix
UPSTREAM = Lane("ctl", 4)
VIEW = "driftless:view:count"


class Count(msgspec.Struct):
    total: int = 0


def _decide(state: Count, message: object, now_ns: int) -> list[Fact]:
    if not isinstance(message, HaltTrading):
        return []
    name = f"resumed-{message.id}"
    return [ResumeTrading(id=name, cause=message.id, root=name, ts_ns=1, reason="", actor="")]


def _evolve(state: Count, fact: Fact) -> None:
    state.total += 1


class Shell(QuietShell[Count]):
    """Shows the count; can be told to be slow."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.ticks = 0
        self.recorded_ids: list[str] = []

    async def start(self, state: Count, lane: LaneHandle) -> None:
        self.lane = lane

    async def prepare(self, state: Count, message: Any) -> Any:
        self.ticks += isinstance(message, Tick)
        if isinstance(message, HaltTrading) and message.reason == "slow":
            await self.gate.wait()
        return message

    def recorded(self, state: Count, facts: Sequence[Fact]) -> None:
        self.recorded_ids += [fact.id for fact in facts]

    def views(self, state: Count) -> Mapping[str, bytes]:
        return {VIEW: str(state.total).encode()}


class World:
    """One lane on real servers."""

    def __init__(self, ledger: NatsLedger, store: RedisStore, redis: Any) -> None:
        self.ledger, self.store, self.redis = ledger, store, redis
        self.shell = Shell()
        self.upstream = 0

    def lane(self, *, tick_ms: int = 0, epoch: int = 1) -> LaneRunner[Count]:
        service = Service(
            name="ctl",
            state=Count,
            decide=_decide,
            evolve=_evolve,
            inputs=lambda _: (UPSTREAM.subjects,),
            tick_ms=tick_ms,
        )
        ports = Ports(ledger=self.ledger, store=self.store, clock=SystemClock())
        return LaneRunner(service, LANE, self.shell, ports, Epoch(epoch))

    async def say(self, *names: str, reason: str = "") -> None:
        for name in names:
            fact = HaltTrading(id=name, cause="", root=name, ts_ns=1, reason=reason, actor="")
            batch = Batch(epoch=1, through=0, facts=(fact,))
            self.upstream = await self.ledger.append(UPSTREAM, batch, key="k", after=self.upstream)

    async def view(self) -> int | None:
        (data,) = await self.store.read_views([VIEW])
        return None if data is None else int(data)

    async def shows(self, count: int, *, deadline_s: float = 10) -> None:
        async def shown() -> bool:
            return await self.view() == count

        await eventually(shown, deadline_s=deadline_s)


@contextlib.asynccontextmanager
async def serving(lane: LaneRunner[Count]) -> AsyncIterator[None]:
    """Run a lane while the block lasts, and stop it in order."""
    stopping = asyncio.Event()
    running = asyncio.create_task(run_until_stopped(lane.run(stopping)))
    try:
        yield
    finally:
        stopping.set()
        await running


@contextlib.contextmanager
def frozen(servers: LocalServers) -> Iterator[None]:
    """Stop the broker as a stalled machine does: sockets stay open, nothing answers."""
    pid = servers.pids()["nats"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
async def world(servers: LocalServers) -> AsyncIterator[World]:
    await wipe(servers, provision)
    async with nats_client(servers) as client, redis_client(servers) as redis:
        yield World(NatsLedger(client), RedisStore(redis), redis)


@pytest.fixture
async def leases(servers: LocalServers) -> AsyncIterator[NatsLeases]:
    await wipe(servers, provision)
    async with nats_client(servers, "risk") as client:
        yield NatsLeases(client, service="risk", instance="one")


async def taken(leases: NatsLeases) -> NatsLease:
    lease = await leases.take(Lane("risk", 5))
    assert lease is not None
    return lease


# --- leases -----------------------------------------------------------------------------------


async def test_a_bucket_of_leases_made_anew_gives_higher_epochs(
    leases: NatsLeases, servers: LocalServers
) -> None:
    """The store remembers the epochs of the bucket that was lost, and must not bar us for ever."""
    before = await taken(leases)
    async with nats_client(servers) as ctl:
        await provision(ctl)  # again, over existing streams: changes nothing
        await ctl.request(f"$JS.API.STREAM.DELETE.{LEASES}", b"")
        await provision(ctl)
    assert (await taken(leases)).epoch > before.epoch


async def test_a_renewal_whose_answer_was_lost_does_not_end_the_lease(leases: NatsLeases) -> None:
    lease = await taken(leases)
    assert await leases.put("risk.05", after=lease.epoch)  # stored, and nobody was told
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lease.hold(), TTL_S + 1)


async def test_a_holder_gives_up_before_the_server_lets_another_in(
    leases: NatsLeases, servers: LocalServers
) -> None:
    lease = await taken(leases)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with frozen(servers), pytest.raises(LeaseLostError):
        await asyncio.wait_for(lease.hold(), 10)
    assert loop.time() - began < TTL_S + 0.5


async def test_a_lease_given_back_while_the_broker_is_away_runs_out(
    leases: NatsLeases, servers: LocalServers
) -> None:
    lease = await taken(leases)
    with frozen(servers):
        await lease.release()


# --- the store --------------------------------------------------------------------------------


async def test_a_lane_at_rest_fills_a_store_that_was_emptied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing happens on the lane: who compares its view with the venue must still find it."""
    monkeypatch.setattr(runner, "KEEP_S", 0.2)
    async with serving(world.lane()):
        await world.say("a", "b")
        await world.shows(2)
        await world.redis.flushall()
        await world.shows(2, deadline_s=5)
        assert await world.store.load(LANE) is not None


async def test_a_view_may_change_without_a_fact(world: World) -> None:
    async with serving(world.lane()):
        await world.say("a")
        await world.shows(1)
        await world.redis.delete(VIEW)
        world.shell.lane.has_news = True
        await world.shell.lane.submit(object())
        await world.shows(1, deadline_s=2)


async def test_a_lane_starts_from_the_ledger_while_the_store_is_away(
    world: World, servers: LocalServers
) -> None:
    async with serving(world.lane()):
        await world.say("a", "b")
        await world.shows(2)
    servers.stop_redis(kill=True)
    try:
        with pytest.raises(StoreAwayError):
            await world.store.load(LANE)
        lane = world.lane(epoch=2)
        await lane.recover()
    finally:
        servers.start_redis()
    assert lane.state == Count(total=2)


async def test_a_snapshot_that_is_no_json_is_discarded(world: World) -> None:
    async with serving(world.lane()):
        await world.say("a", "b")
        await world.shows(2)
    await world.redis.hset(snapshot_key(LANE), "state", b'{"total":2')
    lane = world.lane(epoch=2)
    await lane.recover()
    assert lane.state == Count(total=2)


async def test_a_snapshot_of_another_version_is_built_anew(world: World) -> None:
    async with serving(world.lane()):
        await world.say("a", "b")
        await world.shows(2)
    await world.redis.hset(snapshot_key(LANE), "shape", b"older")
    await world.redis.hset(snapshot_key(LANE), "state", b'{"total":99}')
    lane = world.lane(epoch=2)
    await lane.recover()
    assert lane.state == Count(total=2)


async def test_a_snapshot_that_heard_more_than_the_ledger_holds_is_refused(world: World) -> None:
    """It never spoke, so only its cursor tells that messages it heard are gone."""
    await world.say("a")
    await world.store.save(LANE, Saved(b"{}", 500, 0, Epoch(1)), {})
    with pytest.raises(GapError):
        await world.lane(epoch=2).recover()


async def test_views_that_nobody_writes_any_more_are_dropped_in_the_end(world: World) -> None:
    """Books of markets that are over would fill a store that may not evict."""
    await world.store.write_views({VIEW: b"1"})
    assert 0 < await world.redis.ttl(VIEW) <= 86_400
    await world.store.save(LANE, Saved(b"{}", 0, 0, Epoch(1)), {VIEW: b"2"})
    assert await world.redis.ttl(VIEW) == -1


async def test_a_library_of_an_older_version_is_replaced(world: World) -> None:
    old = "#!lua name=driftless\nredis.register_function('driftless_save', function() return 1 end)"
    await world.redis.function_load(old, replace=True)
    await world.store.write_views({VIEW: b"1"})
    assert await world.view() == 1
    assert await world.store.load(LANE) is None


# --- the loop ---------------------------------------------------------------------------------


async def test_facts_do_not_wait_for_a_slow_neighbour(world: World) -> None:
    """An order decided first is sent first, though the next approval waits for the venue."""
    await world.say("quick")
    await world.say("slow", reason="slow")
    lane = world.lane()
    await lane.recover()
    world.shell.gate.clear()
    processing = asyncio.create_task(lane.process(await _inputs(world.ledger)))
    await eventually(lambda: world.shell.recorded_ids == ["resumed-quick"])
    last = await world.ledger.last(LANE)
    assert last is not None
    assert last.batch is not None
    assert last.batch.through == 1, "a crash now resumes with the slow one"
    world.shell.gate.set()
    await processing
    assert world.shell.recorded_ids == ["resumed-quick", "resumed-slow"]


async def _inputs(ledger: Ledger) -> list[Input]:
    head = await ledger.head()
    found = [e async for run in ledger.read((UPSTREAM.subjects,), after=0, until=head) for e in run]
    return [Input(e.batch.facts, e.seq, 0) for e in found if e.batch]


async def test_time_is_told_to_a_lane_that_is_never_idle(world: World) -> None:
    async with serving(world.lane(tick_ms=10)):
        await world.shows(0)
        loop = asyncio.get_running_loop()
        end = loop.time() + 1
        before = world.shell.ticks
        while loop.time() < end:
            while world.shell.lane.is_idle or len(world.shell.lane._waiting) < 600:
                world.shell.lane.offer(object())
            await asyncio.sleep(0)
        assert world.shell.ticks - before >= 5
