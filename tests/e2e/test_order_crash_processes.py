"""kill -9 of the executor's process around a POST: the venue has the order exactly once."""

from pathlib import Path
from typing import Any

import pytest

from services.lab.replay import verify
from shared.domain.messages import OrderDeclined, OrderFilled, OrderPrepared, OrderRefused
from tests.e2e.test_pipeline import leader_trades, open_market
from tests.support.eventually import eventually
from tests.support.stack import Stack, running

pytestmark = pytest.mark.xdist_group("e2e")

LONG_LIVED = "order_ttl_ms = 60000"  # longer than a restart takes


async def copied_once(stack: Stack, market: dict[str, Any]) -> None:
    token = market["tokens"][0]

    async def copied() -> bool:
        return (await stack.believed()).get(token, 0) > 0 and await stack.in_step()

    await eventually(copied, deadline_s=60)
    (prepared,) = await stack.of(OrderPrepared)
    posted = (await stack.admin("orders"))["orders"]
    assert [order["order"] for order in posted if not order["error"]] == [prepared.order]
    fills = await stack.of(OrderFilled)
    assert len({(fill.trade, fill.order) for fill in fills}) == len(fills)
    assert (await stack.believed())[token] == sum(fill.size for fill in fills)
    report = await verify(stack.ledger, stack.store)
    assert all(lane.identical for lane in report), report


async def fired(stack: Stack, kind: str) -> bool:
    firings = (await stack.admin("firings"))["firings"]
    return any(firing["kind"] == kind for firing in firings)


async def test_a_kill_between_the_record_and_the_post(tmp_path: Path) -> None:
    """The venue refuses logins, so the order is on record and cannot be sent; then kill -9."""
    async with running(tmp_path, executor=LONG_LIVED) as stack:
        market = await open_market(stack)
        no_login = {"kind": "server_error", "status": 500, "path": "/auth/derive-api-key"}
        await stack.admin("rules", [no_login])
        stack.kill("executor")
        await eventually(lambda: fired(stack, "server_error"), deadline_s=40)
        await leader_trades(stack, market, "BUY", "100")

        async def on_record() -> bool:
            against = await stack.of(OrderRefused) + await stack.of(OrderDeclined)
            assert await stack.of(OrderPrepared), [fact.reason for fact in against]
            return True

        await eventually(on_record, deadline_s=40)
        assert (await stack.admin("orders"))["orders"] == []
        stack.kill("executor")
        (await stack.http.delete("/admin/rules")).raise_for_status()
        await copied_once(stack, market)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "slow", "ms": 3_000},  # the request is held up, and arrives after the kill
        {"kind": "delayed_answer", "ms": 3_000},  # the venue has it, the answer is held up
    ],
    ids=["between the post and the venue", "between the venue and the answer"],
)
async def test_a_kill_between_the_post_and_the_answer(tmp_path: Path, rule: dict[str, Any]) -> None:
    async with running(tmp_path, executor=LONG_LIVED) as stack:
        market = await open_market(stack)
        held_up = {**rule, "path": "/order", "method": "POST", "count": 1}
        await stack.admin("rules", [held_up])
        await leader_trades(stack, market, "BUY", "100")
        await eventually(lambda: fired(stack, rule["kind"]), deadline_s=20)
        stack.kill("executor")
        await copied_once(stack, market)
