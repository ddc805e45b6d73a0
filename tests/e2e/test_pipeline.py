"""All processes against the local venue: a leader trades, we hold the copy, all agree."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.lab.replay import verify
from shared.domain.messages import (
    FillCounted,
    LeaderFilled,
    OrderAccepted,
    OrderFilled,
    OrderPrepared,
    PositionCorrected,
)
from tests.support.eventually import eventually
from tests.support.stack import LEADER, WALLET, Stack, running

pytestmark = pytest.mark.xdist_group("e2e")

BIDS = [["0.49", "4000"], ["0.48", "4000"], ["0.47", "4000"]]
ASKS = [["0.51", "4000"], ["0.52", "4000"], ["0.53", "4000"]]


async def open_market(stack: Stack, slug: str = "will-it-rain") -> dict[str, Any]:
    market: dict[str, Any] = await stack.admin(
        "market", {"slug": slug, "bids": BIDS, "asks": ASKS, "question": "Will it rain?"}
    )
    return market


async def leader_trades(
    stack: Stack, market: dict[str, Any], side: str, size: str, *, outcome: int = 0
) -> None:
    done = await stack.admin(
        "fill",
        {
            "wallet": LEADER,
            "condition": market["condition"],
            "outcome": outcome,
            "side": side,
            "size": size,
        },
    )
    assert done["tx"], done


async def restock(stack: Stack, market: dict[str, Any]) -> None:
    await stack.admin("book", {"condition": market["condition"], "bids": BIDS, "asks": ASKS})


async def test_a_leader_trades_and_we_hold_the_copy(tmp_path: Path) -> None:
    """Entry and full exit are copied; ledger, Redis and the venue tell one story throughout."""
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        yes = market["tokens"][0]
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            return (await stack.believed()).get(yes, 0) > 0 and await stack.in_step()

        await eventually(copied, deadline_s=30)
        (prepared,) = await stack.of(OrderPrepared)
        assert prepared.token == yes
        assert prepared.side == "BUY"
        posted = (await stack.admin("orders"))["orders"]
        assert [order["order"] for order in posted] == [prepared.order]
        assert (await stack.drift()).drift_usd == 0

        await restock(stack, market)
        await leader_trades(stack, market, "SELL", "100")

        async def left() -> bool:
            return not await stack.believed() and await stack.in_step()

        await eventually(left, deadline_s=30)
        assert await stack.observed() == {}
        report = await verify(stack.ledger, stack.store)
        assert all(lane.identical for lane in report), report
        assert len(report) >= 4


async def test_the_two_sources_of_a_leaders_activity_give_one_fact(tmp_path: Path) -> None:
    """Stream and REST both show every fill; identical rows of one transaction count each."""
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        fills = [
            {
                "wallet": LEADER, "condition": market["condition"], "outcome": 0,
                "side": "BUY", "size": "7", "price": "0.51", "exact": True, "tx": "0x" + "ee" * 32,
            }
            for _ in range(3)
        ]  # fmt: skip
        await stack.admin("fills", {"fills": fills})

        async def all_said() -> bool:
            return len(await stack.of(LeaderFilled)) == 3

        await eventually(all_said, deadline_s=30)
        said = await stack.of(LeaderFilled)
        assert sorted(fact.ordinal for fact in said) == [0, 1, 2]
        assert {fact.source for fact in said} == {"stream", "rest"}


async def test_a_trade_by_hand_is_found_and_corrected(tmp_path: Path) -> None:
    """Drift made behind the bot's back is found, explained, corrected, and gone."""
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        yes = market["tokens"][0]
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            return (await stack.believed()).get(yes, 0) > 0 and await stack.in_step()

        await eventually(copied, deadline_s=30)
        await stack.admin(
            "trade-outside",
            {
                "wallet": WALLET, "condition": market["condition"], "outcome": 0,
                "side": "SELL", "size": "10",
            },
        )  # fmt: skip

        async def corrected() -> bool:
            return bool(await stack.of(PositionCorrected)) and await stack.in_step()

        await eventually(corrected, deadline_s=40)
        (correction,) = await stack.of(PositionCorrected)
        assert correction.shares == -10_000_000

        async def calm() -> bool:
            return (await stack.drift()).drift_usd == 0

        await eventually(calm, deadline_s=20)


async def test_a_lost_answer_is_not_a_second_order(tmp_path: Path) -> None:
    """The venue takes the order and the answer is lost: it is asked about, never sent again."""
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        yes = market["tokens"][0]
        await stack.admin("faults", {"lost_answer": 1})
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            return (await stack.believed()).get(yes, 0) > 0 and await stack.in_step()

        await eventually(copied, deadline_s=30)
        posted = (await stack.admin("orders"))["orders"]
        assert len(posted) == 1
        assert len(await stack.of(OrderFilled)) >= 1
        assert await stack.of(OrderAccepted) == []


async def test_a_garbage_frame_is_kept_with_its_reason_and_disturbs_nothing(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        await stack.admin("faults", {"garbage_frames": 2})
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            held = (await stack.believed()).get(market["tokens"][0], 0)
            return held > 0 and await stack.in_step()

        await eventually(copied, deadline_s=30)
        kept = await stack.client.jetstream().get_last_msg("DEAD_LETTERS", "deadletter.ingester.00")
        assert kept.headers
        assert kept.headers["Driftless-Source"] == "activity stream"
        assert kept.headers["Driftless-Reason"]


SERVICES = ["ingester", "aggregator", "risk", "executor", "reconciler"]


async def test_killing_each_service_in_turn_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """kill -9 while the leader trades; at the end his fills, our orders and holdings all agree."""
    async with running(tmp_path) as stack:
        markets = [await open_market(stack, f"market-{n}") for n in range(len(SERVICES))]
        for service, market in zip(SERVICES, markets, strict=True):
            await leader_trades(stack, market, "BUY", "60")
            stack.kill(service)
            await leader_trades(stack, market, "BUY", "40")

        async def all_copied() -> bool:
            believed = await stack.believed()
            tokens = {market["tokens"][0] for market in markets}
            assert tokens <= believed.keys(), f"held: {len(believed)} of {len(tokens)}"
            executed = (await stack.admin(f"ledger?wallet={LEADER}"))["fills"]
            said, counted = await stack.of(LeaderFilled), await stack.of(FillCounted)
            assert len(said) == len({fact.id for fact in said}) == len(executed)
            assert len(counted) == len({fact.cause for fact in counted}) == len(executed)
            return await stack.in_step()

        await eventually(all_copied, deadline_s=90)
        posted = [order["order"] for order in (await stack.admin("orders"))["orders"]]
        assert len(posted) == len(set(posted))
        assert set(posted) <= {fact.order for fact in await stack.of(OrderPrepared)}
        facts = await stack.facts()
        assert len(facts) == len({fact.id for fact in facts})
        report = await verify(stack.ledger, stack.store)
        assert all(lane.identical for lane in report), report


async def test_a_flushed_store_loses_nothing(tmp_path: Path) -> None:
    """FLUSHALL while running: views and snapshots come back, the next copy is made, all agree."""
    async with running(tmp_path) as stack:
        first, second = await open_market(stack, "one"), await open_market(stack, "two")
        await leader_trades(stack, first, "BUY", "100")

        async def holds(market: dict[str, Any]) -> bool:
            believed = await stack.believed()
            return believed.get(market["tokens"][0], 0) > 0 and await stack.in_step()

        await eventually(lambda: holds(first), deadline_s=30)
        await stack.redis.flushall()
        await leader_trades(stack, second, "BUY", "100")
        await eventually(lambda: holds(second), deadline_s=40)
        assert await holds(first)
        for service in SERVICES:
            stack.kill(service)
        await restock(stack, second)
        await leader_trades(stack, second, "SELL", "100")

        async def left_the_second() -> bool:
            assert second["tokens"][0] not in await stack.believed()
            return await stack.in_step()

        await eventually(left_the_second, deadline_s=60)
        report = await verify(stack.ledger, stack.store)
        assert all(lane.identical for lane in report), report


async def test_a_killed_broker_loses_nothing(tmp_path: Path) -> None:
    """kill -9 of NATS between two fills: services come back with it and copy both, once."""
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        await leader_trades(stack, market, "BUY", "60")
        stack.servers.stop_nats(kill=True)
        await leader_trades(stack, market, "BUY", "40")
        stack.servers.start_nats()

        async def all_counted() -> bool:
            assert len(await stack.of(LeaderFilled)) == 2
            counted = await stack.of(FillCounted)
            assert len(counted) == len({fact.cause for fact in counted}) == 2
            assert market["tokens"][0] in await stack.believed()
            return await stack.in_step()

        await eventually(all_counted, deadline_s=90)
        posted = [order["order"] for order in (await stack.admin("orders"))["orders"]]
        assert len(posted) == len(set(posted))
        report = await verify(stack.ledger, stack.store)
        assert all(lane.identical for lane in report), report


# --- one trace -----------------------------------------------------------------------------------


class Collector:
    """An OTLP endpoint that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, str, str]] = []  # name, trace, span, parent

    async def receive(self, request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest()
        told.ParseFromString(await request.read())
        for resource in told.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        (
                            span.name, span.trace_id.hex(), span.span_id.hex(),
                            span.parent_span_id.hex(),
                        )
                    )  # fmt: skip
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield collector, f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_one_trace_reaches_from_the_leaders_fill_to_ours(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    """Every hop is a span of the leader fill's own trace, each the child of its cause."""
    spans, url = collector
    async with running(tmp_path, otlp=url) as stack:
        market = await open_market(stack)
        await leader_trades(stack, market, "BUY", "100")

        async def whole() -> bool:
            fills = await stack.of(OrderFilled)
            assert fills, "not filled"
            root = fills[0].root
            names = {name for name, trace, _, _ in spans.spans if trace == root}
            wanted = {
                "leader_filled", "fill_counted", "intent_formed", "target_set", "order_approved",
                "order_prepared", "POST /order", "order_accepted", "order_filled",
                "holding_changed",
            }  # fmt: skip
            assert wanted <= names, wanted - names
            return True

        await eventually(whole, deadline_s=40)
        (leader_fill,) = await stack.of(LeaderFilled)
        trace = {s: (name, parent) for name, t, s, parent in spans.spans if t == leader_fill.root}
        fill = (await stack.of(OrderFilled))[0]
        path, at = [], fill.id[:16]
        while at in trace:
            name, at = trace[at]
            path.append(name)
        assert path[::-1][:1] == ["leader_filled"]
        assert {"intent_formed", "target_set", "order_approved", "order_prepared"} <= set(path)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = _children()
    yield
    assert _children() <= before


def _children() -> set[str]:
    """Return the command lines of this test process's live descendants."""
    found: set[str] = set()
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(stat.parent.name)
            parents[pid] = int(stat.read_text().rpartition(")")[2].split()[1])
            names[pid] = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    for pid, name in names.items():
        at = pid
        while at in parents and at != os.getpid():
            at = parents[at]
        if at == os.getpid() and pid != at and ("services." in name or "server" in name):
            found.add(f"{pid} {name}")
    return found
