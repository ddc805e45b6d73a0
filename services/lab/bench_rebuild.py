"""How fast a service's state is rebuilt from the ledger: the runner's own recovery, timed."""

import asyncio
from pathlib import Path as File
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from services.ctl.servers import LocalServers
from services.lab.bench_facts import Log, by_lane, day, in_lots
from services.lab.bench_stack import ledger_client, servers
from services.lab.replay import REGISTRY
from shared.domain.messages import Batch, Fact, encode_batch, kind_of
from shared.domain.units import NS_PER_S
from shared.runtime.bus import NatsLedger, connect
from shared.runtime.clock import SystemClock
from shared.runtime.memory import MemoryStore
from shared.runtime.ports import Epoch, Lane
from shared.runtime.runner import LaneRunner, Ports, QuietShell, Service

FACTS: Final = 100_000
LOT: Final = 25  # facts a message: what a lane under load puts into one
_DEADLINE_S: Final = 30.0
_AHEAD: Final = 500  # messages sent without hearing that the ledger has them

_clock = SystemClock()


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """One service's log of one shape, folded from its first message."""

    service: str
    lot: int  # facts a message
    facts: int
    messages: int
    lanes: int
    seconds: float
    facts_per_s: int
    fold_per_s: int  # facts a second of ``evolve`` alone, without reading


async def rebuild(directory: File, *, facts: int = FACTS) -> list[Rebuild]:
    """Write each service's log in lots and in single facts, and recover every lane from it."""
    logs = day(facts)
    found: list[Rebuild] = []
    for lot in (LOT, 1):
        # How the log was synced when written does not matter to who reads it.
        with servers(directory / f"lot-{lot}", fsync=False) as running:
            operator = await ledger_client(running)
            try:
                for service, log in logs.items():
                    found.append(await _one(running, service, log, lot))
            finally:
                await operator.close()
    return found


async def _one(running: LocalServers, service: str, log: Log, lot: int) -> Rebuild:
    """Write and recover one service's log, as that service: nobody else may write it."""
    ends = running.endpoints
    client = await connect(
        ends.nats_url,
        service=service,
        password=ends.password(service).reveal(),
        on_error=lambda _: None,
    )
    try:
        await _write(client, service, log, lot)
        return await _recovered(client, service, log, lot)
    finally:
        await client.close()


async def _write(client: Client, service: str, log: Log, lot: int) -> None:
    """Append a log as fast as the broker takes it, without the expectations of a live lane."""
    sent, ledger = 0, NatsLedger(client)
    before = await ledger.head()
    for partition, facts in by_lane(log).items():
        lane = Lane(service, partition)
        for batch in in_lots(facts, lot):
            subject = lane.subject(kind_of(batch[0]) if lot == 1 else "several", "facts")
            await client.publish(subject, encode_batch(Batch(epoch=1, through=0, facts=batch)))
            sent += 1
            if sent % _AHEAD == 0:
                await _arrived(ledger, before + sent)
    await _arrived(ledger, before + sent)


async def _arrived(ledger: NatsLedger, seq: int) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while await ledger.head() < seq:  # noqa: ASYNC110 - the broker tells nobody when
            await asyncio.sleep(0.001)


async def _recovered(client: Client, service: str, log: Log, lot: int) -> Rebuild:
    """Time the recovery of every lane, one after the other, from an empty store."""
    ports = Ports(ledger=NatsLedger(client), store=MemoryStore(), clock=_clock)
    lanes = by_lane(log)
    began_ns = _clock.monotonic_ns()
    for partition in lanes:
        core = _Counting(service)
        runner = LaneRunner(
            core.service(), Lane(service, partition), QuietShell[Any](), ports, Epoch(1)
        )
        await runner.recover()
        assert core.folded == len(lanes[partition]), "the ledger lacks facts that were written"
    took_ns = _clock.monotonic_ns() - began_ns
    return Rebuild(
        service=service,
        lot=lot,
        facts=len(log),
        messages=sum(-(-len(facts) // lot) for facts in lanes.values()),
        lanes=len(lanes),
        seconds=round(took_ns / NS_PER_S, 3),
        facts_per_s=len(log) * NS_PER_S // took_ns,
        fold_per_s=len(log) * NS_PER_S // _folding_ns(service, lanes),
    )


def _folding_ns(service: str, lanes: dict[int, list[Fact]]) -> int:
    kind, evolve = REGISTRY[service]
    began_ns = _clock.monotonic_ns()
    for facts in lanes.values():
        state = kind()
        for fact in facts:
            evolve(state, fact)
    return max(1, _clock.monotonic_ns() - began_ns)


class _Counting:
    """A service's core that counts what it folds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kind, self._evolve = REGISTRY[name]
        self.folded = 0

    def service(self) -> Service[Any]:
        return Service(
            name=self._name,
            state=self._kind,
            decide=lambda state, message, now_ns: [],
            evolve=self._apply,
            inputs=lambda _: (),
        )

    def _apply(self, state: Any, fact: Fact) -> None:
        self._evolve(state, fact)
        self.folded += 1
