"""A crash after any await of the runner changes nothing: no fact lost, none doubled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import pytest

from services.aggregator import core
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet
from shared.domain.messages import Batch, Fact, LeaderFilled, ResumeTrading
from shared.domain.units import Price, Shares, Usd
from shared.runtime.clock import ManualClock
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import (
    Entry,
    Epoch,
    FencedError,
    GapError,
    Lane,
    Ledger,
    Saved,
    Store,
    UndecodableError,
)
from shared.runtime.runner import (
    Input,
    LaneRunner,
    Ports,
    QuietShell,
    Service,
    encode_state,
    run_until_stopped,
)

LANE = Lane("aggregator", 0)
UPSTREAM = Lane("ingester", 0)
POLICY = core.Policies(
    default=core.Policy(
        quiet_ns=1, age_ns_max=1, flush_usd=Usd(20_000_000), flush_on_reduction=True,
        dust=Shares(10_000),
    )
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_input_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more runs, the more places to die."""
    monkeypatch.setattr("shared.runtime.runner.RUN_MAX", 1)


class BlownError(Exception):
    """The fuse: what a kill -9 looks like from inside."""


class Fuse:
    """Blows at the n-th await of a port, before it acts or after."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after, self.count = at, after, 0

    def step(self, *, after: bool) -> None:
        if after != self.after:
            return
        self.count += 1
        if self.count == self.left:
            raise BlownError


class FusedLedger:
    def __init__(self, inner: Ledger, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        self._fuse.step(after=False)
        seq = await self._inner.append(lane, batch, key=key, after=after)
        self._fuse.step(after=True)
        return seq

    async def last(self, lane: Lane) -> Entry | None:
        self._fuse.step(after=False)
        return await self._inner.last(lane)

    async def head(self) -> int:
        return await self._inner.head()

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        async for run in self._inner.read(filters, after=after, until=until):
            for entry in run:  # one at a time: more runs, more places to die
                self._fuse.step(after=False)
                yield [entry]

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        await self._inner.dead_letter(lane, reason=reason, data=data, source=source)


class FusedStore:
    def __init__(self, inner: Store, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    async def load(self, lane: Lane) -> Saved | None:
        self._fuse.step(after=False)
        return await self._inner.load(lane)

    async def save(self, lane: Lane, saved: Saved, views: Mapping[str, bytes]) -> None:
        self._fuse.step(after=False)
        await self._inner.save(lane, saved, views)
        self._fuse.step(after=True)

    async def read_views(self, keys: list[str]) -> list[bytes | None]:
        return await self._inner.read_views(keys)

    async def write_views(self, views: Mapping[str, bytes]) -> None:
        await self._inner.write_views(views)


def fill(n: int) -> LeaderFilled:
    name = f"{n:032x}"
    return LeaderFilled(
        id=name, cause="", root=name, ts_ns=n, leader=Wallet("0x" + "a" * 40),
        condition=ConditionId("0x" + "b" * 64), token=TokenId("7"), outcome=0,
        side="BUY" if n % 3 else "SELL", price=Price(500_000), size=Shares(10_000_000 + n),
        tx=TxHash("0x" + "c" * 64), row=name, ordinal=0, seen_ns=n, source="rest",
    )  # fmt: skip


def aggregator() -> Service[core.State]:
    return Service(
        name="aggregator",
        state=core.State,
        decide=partial(core.decide, POLICY),
        evolve=core.evolve,
        inputs=lambda _: (UPSTREAM.subjects,),
    )


class Count(msgspec.Struct):
    total: int = 0


def _count(state: Count, message: object, now_ns: int) -> list[Fact]:
    """Say how many inputs there were, remembering no ids: only the runner can prevent doubles."""
    if not isinstance(message, LeaderFilled):
        return []
    name = f"{state.total + 1:032x}"
    return [ResumeTrading(id=name, cause=message.id, root=name, ts_ns=1, reason="", actor="")]


def _counted(state: Count, fact: Fact) -> None:
    state.total += 1


def counter() -> Service[Count]:
    return Service(
        name="aggregator",
        state=Count,
        decide=_count,
        evolve=_counted,
        inputs=lambda _: (UPSTREAM.subjects,),
    )


SERVICES: dict[str, Callable[[], Service[Any]]] = {"aggregator": aggregator, "counter": counter}


@pytest.fixture(params=list(SERVICES))
def service(request: pytest.FixtureRequest) -> Service[Any]:
    """A core that ignores what it has counted, and one that relies on the runner alone."""
    return SERVICES[str(request.param)]()


async def upstream(count: int) -> MemoryLedger:
    ledger, at = MemoryLedger(), 0
    for n in range(1, count + 1):
        batch = Batch(epoch=1, through=0, facts=(fill(n),))
        at = await ledger.append(UPSTREAM, batch, key="k", after=at)
    return ledger


async def run_lane(
    service: Service[Any], ledger: Ledger, store: Store, *, until: int, epoch: int
) -> Any:
    ports = Ports(ledger=ledger, store=store, clock=ManualClock(1))
    runner = LaneRunner(service, LANE, QuietShell(), ports, Epoch(epoch))
    stopping = asyncio.Event()
    running = asyncio.create_task(run_until_stopped(runner.run(stopping)))
    while runner.cursor < until and not running.done():
        await asyncio.sleep(0)
    stopping.set()
    await running
    return runner.state


async def said(ledger: MemoryLedger) -> list[Fact]:
    found: list[Fact] = []
    async for run in ledger.read((LANE.subjects,), after=0, until=await ledger.head()):
        for entry in run:
            assert entry.batch is not None
            found += entry.batch.facts
    return found


async def undisturbed(service: Service[Any]) -> tuple[list[Fact], bytes]:
    ledger = await upstream(9)
    state = await run_lane(service, ledger, MemoryStore(), until=9, epoch=1)
    return await said(ledger), encode_state(state)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 41))
async def test_a_crash_at_any_step_changes_nothing(
    service: Service[Any], at: int, *, after: bool
) -> None:
    """Blow the fuse once, start again, and compare facts and state with the undisturbed run."""
    expected_facts, expected_state = await undisturbed(service)
    ledger, store = await upstream(9), MemoryStore()
    fuse = Fuse(at, after=after)
    try:
        await run_lane(
            service, FusedLedger(ledger, fuse), FusedStore(store, fuse), until=9, epoch=1
        )
    except* BlownError:
        pass
    state = await run_lane(service, ledger, store, until=9, epoch=2)
    facts = await said(ledger)
    assert [fact.id for fact in facts] == [fact.id for fact in expected_facts]
    assert encode_state(state) == expected_state


async def test_the_fuse_reaches_every_kind_of_step(service: Service[Any]) -> None:
    """Without a blow the fuse counts its steps: the range above must cover them all."""
    counts = []
    for after in (False, True):
        fuse = Fuse(0, after=after)
        ledger = await upstream(9)
        await run_lane(
            service, FusedLedger(ledger, fuse), FusedStore(MemoryStore(), fuse), until=9, epoch=1
        )
        counts.append(fuse.count)
    assert min(counts) >= 10
    assert max(counts) <= 40


async def test_a_lost_store_is_rebuilt_from_the_ledger_alone(service: Service[Any]) -> None:
    expected_facts, expected_state = await undisturbed(service)
    ledger = await upstream(9)
    await run_lane(service, ledger, MemoryStore(), until=9, epoch=1)
    state = await run_lane(service, ledger, MemoryStore(), until=9, epoch=2)
    assert encode_state(state) == expected_state
    assert [f.id for f in await said(ledger)] == [f.id for f in expected_facts]


async def test_a_policy_changed_between_crash_and_restart_does_not_rewrite_what_was_said() -> None:
    ledger, store = await upstream(9), MemoryStore()
    fuse = Fuse(3, after=True)
    try:
        await run_lane(
            aggregator(), FusedLedger(ledger, fuse), FusedStore(store, fuse), until=9, epoch=1
        )
    except* BlownError:
        pass
    before = [fact.id for fact in await said(ledger)]
    changed = core.Policies(
        default=core.Policy(
            quiet_ns=1, age_ns_max=1, flush_usd=Usd(1), flush_on_reduction=False, dust=Shares(1)
        )
    )
    ports = Ports(ledger=ledger, store=MemoryStore(), clock=ManualClock(1))
    strange = Service(
        name="aggregator", state=core.State, decide=partial(core.decide, changed),
        evolve=core.evolve, inputs=lambda _: (UPSTREAM.subjects,),
    )  # fmt: skip
    runner = LaneRunner(strange, LANE, QuietShell(), ports, Epoch(2))
    await runner.recover()
    folded = core.State()
    for fact in await said(ledger):
        core.evolve(folded, fact)
    assert encode_state(runner.state) == encode_state(folded)
    assert [fact.id for fact in await said(ledger)] == before


async def test_a_second_writer_is_fenced_by_the_ledger(service: Service[Any]) -> None:
    """Two copies of one lane: the one that fell behind dies instead of writing."""
    ledger = await upstream(9)
    ports = Ports(ledger=ledger, store=MemoryStore(), clock=ManualClock(1))
    sleeper = LaneRunner(service, LANE, QuietShell(), ports, Epoch(1))
    await sleeper.recover()
    await run_lane(service, ledger, MemoryStore(), until=9, epoch=2)
    before = await said(ledger)
    with pytest.raises(FencedError):
        await sleeper.process([Input((fill(1),), seq=1, taken_ns=1)])
    assert await said(ledger) == before


class Door(msgspec.Struct):
    is_open: bool = False


def _pushed(door: Door, message: object, now_ns: int) -> list[Fact]:
    """Open at a purchase; at a sale close, if open."""
    if not isinstance(message, LeaderFilled) or door.is_open is (message.side == "BUY"):
        return []
    id_ = f"{message.side} {message.id}"
    return [ResumeTrading(id=id_, cause="", root=id_, ts_ns=1, reason="", actor="")]


def _moved(door: Door, fact: Fact) -> None:
    door.is_open = not door.is_open


async def test_what_the_writer_before_said_late_is_not_passed_over() -> None:
    """A message of its reaches the ledger when the next has recovered, but before that one writes.

    The next is fenced at its first message; what it heard until then, and found to be of no
    consequence, is heard again with what was said late.
    """
    door = Service(
        name="aggregator", state=Door, decide=_pushed, evolve=_moved,
        inputs=lambda _: (UPSTREAM.subjects,),
    )  # fmt: skip
    ledger, store, clock = MemoryLedger(), MemoryStore(), ManualClock(1)
    runners = [
        LaneRunner(
            door, LANE, QuietShell(), Ports(ledger=ledger, store=store, clock=clock), Epoch(epoch)
        )
        for epoch in (1, 2)
    ]
    for runner in runners:
        await runner.recover()
    former, following = runners
    await former.process([Input((fill(1),), seq=None, taken_ns=1)])
    batch = Batch(epoch=1, through=0, facts=(fill(3),))
    seq = await ledger.append(UPSTREAM, batch, key="k", after=0)
    await following.process([Input(batch.facts, seq=seq, taken_ns=1)])
    await following._save(force=True)
    state = await run_lane(door, ledger, store, until=seq, epoch=3)
    assert [fact.id[:4] for fact in await said(ledger)] == ["BUY ", "SELL"]
    assert not state.is_open


async def test_an_unreadable_message_is_buried_and_the_lane_goes_on() -> None:
    ledger = await upstream(2)
    ledger.inject(UPSTREAM.subject("unheard_of", "k"), b'{"epoch":1,"facts":"?"}')
    batch = Batch(epoch=1, through=0, facts=(fill(3),))
    await ledger.append(UPSTREAM, batch, key="k", after=3)
    state = await run_lane(aggregator(), ledger, MemoryStore(), until=4, epoch=1)
    assert set(state.counted) == {fill(n).id for n in (1, 2, 3)}
    ((source, reason, data),) = ledger.dead
    assert source.endswith("@3")
    assert "facts" in reason
    assert data == b'{"epoch":1,"facts":"?"}'


async def test_an_unreadable_message_stops_a_lane_where_money_moves() -> None:
    ledger = await upstream(1)
    ledger.inject(UPSTREAM.subject("unheard_of", "k"), b"{}")
    money = msgspec.structs.replace(aggregator(), moves_money=True)
    with pytest.raises(ExceptionGroup) as stopped:
        await run_lane(money, ledger, MemoryStore(), until=2, epoch=1)
    assert stopped.group_contains(UndecodableError)
    assert ledger.dead == []


async def test_a_snapshot_ahead_of_the_ledger_is_refused() -> None:
    """A ledger that lost facts is not built upon, whatever the snapshot says."""
    ledger, store = await upstream(9), MemoryStore()
    await run_lane(aggregator(), ledger, store, until=9, epoch=1)
    shorter = await upstream(9)
    ports = Ports(ledger=shorter, store=store, clock=ManualClock(1))
    with pytest.raises(GapError):
        await LaneRunner(aggregator(), LANE, QuietShell(), ports, Epoch(2)).recover()
