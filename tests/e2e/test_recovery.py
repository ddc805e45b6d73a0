"""What an operator does when something is lost: each step of the runbook, with real processes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.lab.archive import Archive
from services.lab.replay import verify
from shared.domain.messages import LeaderFilled, OrderPrepared, PositionCorrected, RegimeChanged
from shared.runtime.bus import provision
from tests.e2e.test_pipeline import leader_trades, open_market
from tests.support.eventually import eventually
from tests.support.servers import STREAM_NAMES_API
from tests.support.stack import Stack, running

pytestmark = pytest.mark.xdist_group("e2e")


def driftless(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its user does, in the system's environment."""
    environ = {**os.environ, **stack.servers.endpoints.environ("ctl")}
    command = [sys.executable, "-m", "services.ctl", *arguments, "--config", str(stack.config)]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


async def copied(stack: Stack) -> None:
    market = await open_market(stack)
    await leader_trades(stack, market, "BUY", "100")

    async def held() -> bool:
        return bool(await stack.believed()) and await stack.in_step()

    await eventually(held, deadline_s=30)


async def lose_the_ledger(stack: Stack) -> None:
    """Take the streams away, as a lost disk does; a new NATS is provisioned."""
    await stack.client.request("$JS.API.STREAM.DELETE.LEDGER", b"")
    await stack.client.request("$JS.API.STREAM.DELETE.KV_leases", b"")
    names = await stack.client.request(STREAM_NAMES_API, b"{}")
    assert b"LEDGER" not in names.data
    await provision(stack.client)


async def stopped(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that services must not run beside, once their last word has expired."""
    done = await asyncio.to_thread(driftless, stack, *arguments)
    for _ in range(8):
        if " run: stop every service" not in done.stderr and "must not run" not in done.stderr:
            break
        await asyncio.sleep(1)
        done = await asyncio.to_thread(driftless, stack, *arguments)
    return done


async def test_a_lost_ledger_comes_back_from_its_archive(tmp_path: Path) -> None:
    """Redis is lost with it: everything there is comes out of the archive."""
    folder = tmp_path / "archive"
    async with running(tmp_path) as stack:
        await copied(stack)
        refused = await asyncio.to_thread(driftless, stack, "restore", str(tmp_path / "none"))
        assert (refused.returncode, "is no archive" in refused.stderr) == (1, True)
        stack.processes.stop()
        done = await asyncio.to_thread(driftless, stack, "archive", str(folder))
        assert done.returncode == 0, done.stderr
        before = await stack.entries()
        assert Archive(folder).manifest.last == len(before)
        done = await stopped(stack, "restore", str(folder))
        assert done.returncode == 1
        assert "nothing is written over it" in done.stderr

        await lose_the_ledger(stack)
        await stack.redis.flushall()
        done = await stopped(stack, "restore", str(folder))
        assert done.returncode == 0, done.stderr
        assert [(e.seq, e.data, e.time_ns) for e in await stack.entries()] == [
            (e.seq, e.data, e.time_ns) for e in before
        ]
        orders, fills = await stack.of(OrderPrepared), await stack.of(LeaderFilled)
        await stack.start_services()
        await eventually(stack.in_step, deadline_s=30)
        assert await stack.believed()
        assert await stack.of(OrderPrepared) == orders, "nothing was bought again"
        assert await stack.of(LeaderFilled) == fills, "nothing was said again"
        assert await stack.of(PositionCorrected) == []
        assert all(lane.identical for lane in await verify(stack.ledger, stack.store))


async def test_a_ledger_that_is_gone_for_good_begins_anew_from_the_venue(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await copied(stack)
        held = await stack.believed()
        stack.processes.stop()
        await lose_the_ledger(stack)
        done = await stopped(stack, "rebuild", "all")
        assert done.returncode == 1
        assert "the ledger lacks what" in done.stderr
        assert "--from-venue" in done.stderr
        done = await stopped(stack, "rebuild", "all", "--from-venue")
        assert done.returncode == 0, done.stderr
        assert "To be corrected at the next start" in done.stdout
        posted = len((await stack.admin("orders"))["orders"])

        await stack.start_services()

        async def adopted() -> bool:
            corrected = [fact.shares for fact in await stack.of(PositionCorrected)]
            assert corrected == [*held.values()], corrected
            assert await stack.believed() == held
            return await stack.in_step()

        await eventually(adopted, deadline_s=30)
        (fill,) = await stack.of(LeaderFilled)
        assert fill.seen_ns, "what the leader did lately is said again"
        assert len((await stack.admin("orders"))["orders"]) == posted, "and not copied again"
        (regime,) = await stack.of(RegimeChanged)
        assert (regime.regime, "begun anew" in regime.reason) == ("reduce_only", True)
        done = await asyncio.to_thread(driftless, stack, "resume")
        assert "reduce-only -> normal" in done.stdout
        assert all(lane.identical for lane in await verify(stack.ledger, stack.store))


async def test_a_spoiled_snapshot_is_made_anew_while_the_others_run(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        await copied(stack)
        done = await asyncio.to_thread(driftless, stack, "rebuild", "risk")
        assert (done.returncode, "risk must not run" in done.stderr) == (1, True)
        stack.processes.stop_one("risk")
        keys = [key async for key in stack.redis.scan_iter("driftless:risk:*")]
        (key,) = keys
        state = await stack.redis.hget(key, "state")
        spoiled = state.replace(b'"regime":"normal"', b'"regime":"halted"')
        await stack.redis.hset(key, "state", spoiled)
        (wrong,) = [each for each in await verify(stack.ledger, stack.store) if not each.identical]
        assert (wrong.service, wrong.verdict) == ("risk", "differs")
        done = await stopped(stack, "rebuild", "risk")
        assert done.returncode == 0, done.stderr
        assert "$.regime" in done.stdout
        stack.processes.start_one("risk")
        await eventually(stack.in_step, deadline_s=30)
        assert all(each.identical for each in await verify(stack.ledger, stack.store))
