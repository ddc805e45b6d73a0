"""The pull loop and the append of the ledger against everything a real server can do to them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import nats
import pytest

from services.ctl.servers import LocalServers
from shared.domain.messages import Batch, HaltTrading
from shared.runtime import bus
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.ports import Entry, FencedError, Lane, Ledger
from shared.runtime.streams import STREAM
from tests.support.eventually import eventually
from tests.support.servers import nats_client, wipe

CTL = Lane("ctl", 3)  # the tests' user may publish under this prefix
OTHER = Lane("ctl", 4)
EPOCH = 1


def halt(name: str, *, reason: str = "r") -> HaltTrading:
    return HaltTrading(id=name, cause="", root=name, ts_ns=1, reason=reason, actor="a")


def batch(*names: str, epoch: int = EPOCH, reason: str = "r") -> Batch:
    return Batch(epoch=epoch, through=0, facts=tuple(halt(name, reason=reason) for name in names))


def ids(found: list[Entry]) -> list[str]:
    return [fact.id for entry in found for fact in (entry.batch.facts if entry.batch else ())]


async def entries(ledger: Ledger, *filters: str, after: int = 0) -> list[Entry]:
    until = await ledger.head()
    return [e async for run in ledger.read(filters, after=after, until=until) for e in run]


async def consumers(servers: LocalServers) -> list[str]:
    async with nats_client(servers) as client:
        reply = await client.request(f"$JS.API.CONSUMER.NAMES.{STREAM}", b"{}")
        names: list[str] = msgspec.json.decode(reply.data)["consumers"]
        return names


class Reader:
    """A task that reads for ever and keeps what it saw."""

    def __init__(self, ledger: Ledger, *filters: str) -> None:
        self.seen: list[str] = []
        self._task = asyncio.create_task(self._read(ledger, filters))

    async def _read(self, ledger: Ledger, filters: tuple[str, ...]) -> None:
        async for run in ledger.read(filters, after=0):
            self.seen += ids(run)

    async def saw(self, *names: str, deadline_s: float = 10.0) -> None:
        def all_of_them() -> bool:
            if self._task.done():
                self._task.result()
            assert self.seen == list(names), self.seen
            return True

        await eventually(all_of_them, deadline_s=deadline_s)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


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
async def clean(servers: LocalServers) -> AsyncIterator[NatsLedger]:
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        yield NatsLedger(client)


# --- append -----------------------------------------------------------------------------------


async def test_two_writers_of_the_same_facts_are_two_writers(ledger: Ledger) -> None:
    """Content ids are equal, so only the epoch tells whose message it is: one of them dies."""
    await ledger.append(CTL, batch("a", epoch=1), key="k", after=0)
    with pytest.raises(FencedError):
        await ledger.append(CTL, batch("a", epoch=2), key="k", after=0)
    assert ids(await entries(ledger, "driftless.>")) == ["a"]


async def test_facts_too_large_for_one_message_are_stored_together(ledger: Ledger) -> None:
    first = await ledger.append(CTL, batch("first"), key="k", after=0)
    names = [f"{n:04}" for n in range(2_500)]  # of 1,100 bytes each: three messages' worth
    large = batch(*names, reason="x" * 1_000)
    last = await ledger.append(CTL, large, key="k", after=first)
    found = await entries(ledger, CTL.subjects, after=first)
    assert ids(found) == names
    assert found[-1].seq == last == await ledger.head()
    assert all(entry.batch is not None and entry.batch.epoch == EPOCH for entry in found)
    assert await ledger.append(CTL, large, key="k", after=first) == last  # said once
    with pytest.raises(FencedError):
        await ledger.append(CTL, batch(*names, reason="y" * 1_000), key="k", after=first)
    assert await ledger.head() == last


async def test_one_fact_too_large_for_any_message_is_refused_at_once(clean: NatsLedger) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(nats.errors.Error):
            await clean.append(CTL, batch("a", reason="x" * 2_000_000), key="k", after=0)
    assert await clean.head() == 0


async def test_an_append_is_stored_once_although_its_answer_is_lost(
    clean: NatsLedger, servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is frozen while it has the message: the retry finds it there."""
    monkeypatch.setattr(bus, "REPLY_DEADLINE_S", 0.3)
    async with nats_client(servers) as client:
        ledger = NatsLedger(client)
        with frozen(servers):
            appending = asyncio.create_task(ledger.append(CTL, batch("a"), key="k", after=0))
            await asyncio.sleep(0.8)  # at least two tries wait in its socket
        assert await appending == 1
    assert ids(await entries(clean, "driftless.>")) == ["a"]


# --- read -------------------------------------------------------------------------------------


async def test_nothing_is_asked_for_where_nothing_can_be(
    clean: NatsLedger, servers: LocalServers
) -> None:
    at = await clean.append(CTL, batch("a"), key="k", after=0)
    assert [run async for run in clean.read(("driftless.>",), after=at, until=at)] == []
    assert [run async for run in clean.read(("driftless.risk.>",), after=0, until=at)] == []

    async def none_left() -> bool:
        return await consumers(servers) == []

    await eventually(none_left)


async def test_a_read_ends_although_only_later_messages_match(clean: NatsLedger) -> None:
    at = await clean.append(CTL, batch("a"), key="k", after=0)
    at = await clean.append(CTL, batch("b"), key="k", after=at)
    await clean.append(OTHER, batch("c"), key="k", after=0)
    found = [e async for run in clean.read((OTHER.subjects,), after=0, until=2) for e in run]
    assert found == []


async def test_several_filters_are_one_sequence_without_gaps(
    clean: NatsLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of no interest lie between, and every pull is used up many times."""
    monkeypatch.setattr(bus, "_PULL", 3)
    tails = dict.fromkeys((CTL, OTHER, Lane("ctl", 5)), 0)
    for n in range(30):
        lane = list(tails)[n % 3]
        tails[lane] = await clean.append(lane, batch(str(n)), key="k", after=tails[lane])
    found = await entries(clean, CTL.subjects, OTHER.subjects)
    assert ids(found) == [str(n) for n in range(30) if n % 3 != 2]


async def test_a_quiet_reader_goes_on_after_its_requests_have_expired(
    clean: NatsLedger, servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "_PULL_EXPIRES_S", 1)
    monkeypatch.setattr(bus, "_HEARTBEAT_S", 0.4)
    reader = Reader(clean, "driftless.>")
    at = await clean.append(CTL, batch("a"), key="k", after=0)
    await reader.saw("a")
    before = await consumers(servers)
    await asyncio.sleep(2.5)  # two requests expire, and silence would be noticed
    await clean.append(CTL, batch("b"), key="k", after=at)
    await reader.saw("a", "b")
    assert await consumers(servers) == before, "it was the same consumer all the time"
    await reader.stop()


async def test_a_reader_survives_its_consumer(clean: NatsLedger, servers: LocalServers) -> None:
    reader = Reader(clean, "driftless.>")
    at = await clean.append(CTL, batch("a"), key="k", after=0)
    await reader.saw("a")
    async with nats_client(servers) as client:
        for name in await consumers(servers):
            await client.request(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", b"")
    await clean.append(CTL, batch("b"), key="k", after=at)
    await reader.saw("a", "b")
    await reader.stop()


async def test_a_reader_resumes_after_a_broker_that_was_killed(tmp_path: Path) -> None:
    with LocalServers(tmp_path) as own:
        async with nats_client(own) as setup:
            await provision(setup)
        password = own.endpoints.password("ctl").reveal()
        client = await bus.connect(
            own.endpoints.nats_url, service="ctl", password=password, on_error=lambda _: None
        )
        ledger = NatsLedger(client)
        reader = Reader(ledger, "driftless.>")
        at = await ledger.append(CTL, batch("a"), key="k", after=0)
        await reader.saw("a")
        own.stop_nats(kill=True)
        own.start_nats()
        at = await ledger.append(CTL, batch("b"), key="k", after=at)
        await ledger.append(CTL, batch("c"), key="k", after=at)
        await reader.saw("a", "b", "c", deadline_s=20)
        await reader.stop()
        await client.close()
