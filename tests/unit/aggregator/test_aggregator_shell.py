"""The aggregator's lane: which snapshots it compares, what it asks for, what it shows."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import nats
import pytest
from nats.aio.client import Client

from services.aggregator.__main__ import policies
from services.aggregator.core import Look, Policies, Policy, State, decide, evolve
from services.aggregator.shell import Current, Shell
from shared.domain.ids import Wallet, content_id
from shared.domain.messages import (
    ActivityRead,
    Batch,
    Fact,
    FeedChanged,
    IntentFormed,
    LeaderCorrected,
    LeaderDriftSuspected,
    MarketResolved,
    ReloadConfig,
    Tick,
)
from shared.domain.units import DUST, MICRO, NS_PER_MS, NS_PER_S, ZERO_SHARES, Bps, Price, Usd
from shared.domain.views import (
    ExposuresView,
    ExposureView,
    LeaderView,
    decode,
    encode,
    exposure_key,
    leader_key,
)
from shared.runtime import settings
from shared.runtime.clock import ManualClock
from shared.runtime.config import AccountConfig, AggregatorConfig, Config, LeaderConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Epoch, Lane, StoreAwayError, subjects_of
from shared.runtime.rpc import REREAD
from shared.runtime.runner import Input, LaneHandle, LaneRunner, Ports, Service
from tests.support.builders import (
    CONDITION,
    LEADER,
    OTHER_CONDITION,
    OTHER_LEADER,
    T0_NS,
    a_baseline,
    a_fill,
    an_act,
    shares,
)
from tests.unit.aggregator.aggregator_told import POLICY

CONFIG = Config(mode="live", account=AccountConfig(wallet=Wallet("0x" + "99" * 20)))
LANE, INGESTER = Lane("aggregator", 3), Lane("ingester", 3)
LATER_NS = T0_NS + 120 * NS_PER_S


class Bus:
    """A client that remembers what was published, or is closed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.is_closed = False

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        self.asked.append((subject, msgspec.json.decode(payload)))


class CountingStore(MemoryStore):
    """A store that counts what is read of it, or is away."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.is_away = False

    async def read_views(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        if self.is_away:
            raise StoreAwayError
        return await super().read_views(keys)


class World:
    """A lane with its shell, driven by hand."""

    def __init__(self) -> None:
        self.bus, self.store, self.ledger = Bus(), CountingStore(), MemoryLedger()
        self.clock = ManualClock(T0_NS)
        service = Service(
            name="aggregator",
            state=State,
            decide=lambda state, message, now_ns: decide(POLICY, state, message, now_ns),
            evolve=evolve,
            inputs=lambda partition: (subjects_of("ingester", partition),),
        )
        self.current = Current(CONFIG, policies)
        self.shell = Shell(LANE, self.store, cast("Client", self.bus), self.current)
        ports = Ports(ledger=self.ledger, store=self.store, clock=self.clock)
        self.runner = LaneRunner(service, LANE, self.shell, ports, Epoch(1))

    @property
    def state(self) -> State:
        return self.runner.state

    async def hear(self, *messages: Any) -> None:
        await self.runner.process([Input(messages, None, T0_NS)])
        for _ in range(3):
            await asyncio.sleep(0)

    async def tick(self, now_ns: int) -> None:
        self.clock.set_wall(now_ns)
        await self.hear(Tick(now_ns))

    async def look(self, now_ns: int) -> Any:
        """Return what the core is handed instead of a tick."""
        return await self.shell.prepare(self.state, Tick(now_ns))

    async def show(self, *, as_of_ns: int, yes: float, leader: str = LEADER) -> None:
        view = LeaderView(
            leader=cast("Any", leader),
            as_of_ns=as_of_ns,
            read_ns=as_of_ns + 5,
            value=None,
            holdings=((CONDITION, shares(yes), ZERO_SHARES),),
            complete=True,
        )
        await self.store.write_views({leader_key(view.leader): encode(view)})

    async def said(self) -> list[Fact]:
        found: list[Fact] = []
        async for run in self.ledger.read((LANE.subjects,), after=0, until=10**6):
            found += [fact for entry in run for fact in cast("Batch", entry.batch).facts]
        return found


@pytest.fixture
async def world() -> Any:
    world = World()
    async with asyncio.TaskGroup() as group:
        await world.shell.start(world.state, LaneHandle(LANE, group, world.clock))
        yield world


def read(at_ns: int) -> ActivityRead:
    id_ = content_id("activity_read", at_ns)
    return ActivityRead(
        id=id_, cause="", root=id_, ts_ns=at_ns, leader=LEADER, through_s=0, kept_s=0
    )


def resolved(at_ns: int) -> MarketResolved:
    id_ = content_id("market_resolved", at_ns)
    payouts = (Price(MICRO), Price(0))
    return MarketResolved(
        id=id_, cause="", root=id_, ts_ns=at_ns, condition=OTHER_CONDITION, payouts=payouts
    )


async def test_a_snapshot_waits_until_all_activity_before_it_was_heard(world: World) -> None:
    await world.hear(a_fill())
    await world.show(as_of_ns=LATER_NS, yes=3)
    assert await world.look(LATER_NS + 6) == Tick(LATER_NS + 6)
    await world.hear(read(LATER_NS + 4))
    assert isinstance(await world.look(LATER_NS + 4 * NS_PER_S), Tick)
    await world.hear(read(LATER_NS + 5))
    found = await world.look(LATER_NS + 8 * NS_PER_S)
    assert isinstance(found, Look)
    assert [view.as_of_ns for view in found.views] == [LATER_NS]
    assert isinstance(await world.look(LATER_NS + 12 * NS_PER_S), Tick)  # compared once


@pytest.mark.parametrize(
    ("message", "proves"),
    [
        (a_fill("seen", condition=OTHER_CONDITION, ts_ns=LATER_NS + 5), True),
        (an_act("SPLIT", condition=OTHER_CONDITION, ts_ns=LATER_NS + 5), True),
        (resolved(LATER_NS + 5), True),
        (
            FeedChanged(
                id="", cause="", root="", ts_ns=LATER_NS + 5, feed="polls", state="connected"
            ),
            False,
        ),
    ],
)
async def test_what_the_ingester_said_later_proves_that_all_before_was_heard(
    world: World, message: Any, *, proves: bool
) -> None:
    await world.hear(a_fill())
    await world.show(as_of_ns=LATER_NS, yes=3)
    await world.hear(message)
    assert isinstance(await world.look(LATER_NS + NS_PER_S), Look) is proves


async def test_a_snapshot_that_waits_is_not_overtaken_by_the_next(world: World) -> None:
    await world.hear(a_fill())
    for second in range(0, 28, 4):
        await world.show(as_of_ns=LATER_NS + second * NS_PER_S, yes=3)
        assert isinstance(await world.look(LATER_NS + second * NS_PER_S + 9), Tick)
    await world.hear(read(LATER_NS + 5))
    first = await world.look(LATER_NS + 28 * NS_PER_S)
    await world.hear(read(LATER_NS + 28 * NS_PER_S))
    second = await world.look(LATER_NS + 32 * NS_PER_S)
    assert [look.views[0].as_of_ns for look in (first, second)] == [
        LATER_NS, LATER_NS + 24 * NS_PER_S,
    ]  # fmt: skip


async def test_a_leader_who_does_nothing_is_compared_after_a_while_all_the_same(
    world: World,
) -> None:
    await world.hear(a_fill())
    await world.show(as_of_ns=LATER_NS, yes=3)
    for second in range(0, 30, 5):
        assert isinstance(await world.look(LATER_NS + second * NS_PER_S + 9), Tick)
    assert isinstance(await world.look(LATER_NS + 31 * NS_PER_S), Look)


async def test_it_looks_every_few_seconds_and_only_at_leaders_it_knows(world: World) -> None:
    await world.hear(a_fill())
    await world.show(as_of_ns=LATER_NS, yes=3, leader=OTHER_LEADER)
    await world.hear(read(LATER_NS + NS_PER_S))
    assert isinstance(await world.look(LATER_NS + NS_PER_S), Tick)
    for ms in range(50, 3_000, 50):
        assert isinstance(await world.look(LATER_NS + NS_PER_S + ms * NS_PER_MS), Tick)
    assert world.store.reads == 1
    await world.hear(a_fill("his", leader=OTHER_LEADER))
    assert isinstance(await world.look(LATER_NS + 4 * NS_PER_S), Look)
    assert world.store.reads == 2


async def test_while_the_store_is_away_nothing_is_compared(world: World) -> None:
    await world.hear(a_fill(), read(LATER_NS + NS_PER_S))
    await world.show(as_of_ns=LATER_NS, yes=3)
    world.store.is_away = True
    assert isinstance(await world.look(LATER_NS + NS_PER_S), Tick)
    world.store.is_away = False
    assert isinstance(await world.look(LATER_NS + 4 * NS_PER_S), Look)


async def test_what_is_doubted_is_asked_for_again_and_then_believed(world: World) -> None:
    await world.hear(a_baseline((CONDITION, shares(10), ZERO_SHARES)))
    for at_ns in (LATER_NS, 2 * LATER_NS - T0_NS):
        await world.show(as_of_ns=at_ns, yes=3)
        await world.hear(read(at_ns + 5))
        await world.tick(at_ns + NS_PER_S)
    assert world.bus.asked == [(REREAD, {"leader": LEADER})]
    kinds = [type(fact) for fact in await world.said()]
    assert kinds[1:] == [LeaderDriftSuspected, LeaderCorrected, IntentFormed]


async def test_a_conversion_is_a_reason_to_read_again(world: World) -> None:
    await world.hear(an_act("SPLIT"), a_fill())
    assert world.bus.asked == []
    await world.hear(
        an_act("CONVERSION"), an_act("CONVERSION", 2), an_act("CONVERSION", 3, leader=OTHER_LEADER)
    )
    assert world.bus.asked == [(REREAD, {"leader": each}) for each in (LEADER, OTHER_LEADER)]


async def test_a_request_that_cannot_be_sent_is_let_go(world: World) -> None:
    world.bus.is_closed = True
    await world.hear(an_act("CONVERSION"))
    await world.hear(a_fill())
    assert world.bus.asked == []
    assert len(await world.said()) == 2


async def test_exposures_are_shown(world: World) -> None:
    await world.hear(a_baseline((CONDITION, shares(10), shares(4))))
    shown = world.shell.views(world.state)
    assert list(shown) == [exposure_key(3)]
    assert decode(shown[exposure_key(3)], ExposuresView) == ExposuresView(
        exposures=(
            ExposureView(
                leader=LEADER, condition=CONDITION, yes=shares(10), no=shares(4), exposure=shares(6)
            ),
        )
    )


# --- settings ---------------------------------------------------------------------------------


def test_a_leader_has_the_settings_of_the_service_where_he_has_none_of_his_own() -> None:
    common = AggregatorConfig(
        quiet_ms=2_000,
        age_max_ms=10_000,
        flush_usd=Usd(500 * MICRO),
        flush_on_reduction=True,
        dust_shares=DUST,
        net_share_bps_min=Bps(300),
    )
    own = LeaderConfig(
        wallet=LEADER,
        quiet_ms=7,
        age_max_ms=8,
        flush_usd=Usd(9),
        flush_on_reduction=False,
        dust_shares=ZERO_SHARES,
        net_share_bps_min=Bps(400),
        churn_share_bps_max=Bps(0),
    )
    config = Config(
        mode="live",
        account=AccountConfig(wallet=Wallet("0x" + "99" * 20)),
        leaders=(own, LeaderConfig(wallet=OTHER_LEADER)),
        aggregator=common,
    )
    default = Policy(
        quiet_ns=2 * NS_PER_S,
        age_ns_max=10 * NS_PER_S,
        flush_usd=Usd(500 * MICRO),
        flush_on_reduction=True,
        dust=DUST,
        net_share=Bps(300),
        churn_share=Bps(3_000),
        churn_quiet_ns=30 * NS_PER_S,
        churn_age_ns=120 * NS_PER_S,
    )
    his = Policy(
        quiet_ns=7 * NS_PER_MS,
        age_ns_max=8 * NS_PER_MS,
        flush_usd=Usd(9),
        flush_on_reduction=False,
        dust=ZERO_SHARES,
        net_share=Bps(400),
        churn_quiet_ns=30 * NS_PER_S,
        churn_age_ns=120 * NS_PER_S,
    )
    assert policies(config) == Policies(
        default=default, leaders={LEADER: his, OTHER_LEADER: default}
    )


def a_reload(config: str) -> ReloadConfig:
    return ReloadConfig(
        id="reload", cause="", root="reload", ts_ns=T0_NS, config=config, reason="", actor="me"
    )


async def test_a_reload_replaces_the_windows_of_every_lane() -> None:
    world = World()
    calm = msgspec.structs.replace(CONFIG, aggregator=AggregatorConfig(quiet_ms=9_000))
    await world.hear(a_reload(settings.encode(calm)))
    assert world.current.policies.default.quiet_ns == 9 * NS_PER_S


@pytest.mark.parametrize("config", ["", "{}", '{"mode":"demo"}', "[" * 5_000])
async def test_settings_that_cannot_be_read_change_nothing(config: str) -> None:
    world = World()
    before = world.current.policies
    await world.hear(a_reload(config))
    assert world.current.policies is before
