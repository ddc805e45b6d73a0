"""Several leaders through all processes: netted, unfollowed, and judged by other settings."""

from pathlib import Path
from typing import Any

import pytest

from services.ctl.asking import publish
from services.lab.replay import verify
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    CommandRefused,
    ConfigChanged,
    LeaderUnfollowed,
    OrderApproved,
    OrderPrepared,
    ReloadConfig,
    UnfollowLeader,
)
from shared.domain.views import RISK, RiskView, decode
from shared.runtime.clock import SystemClock
from shared.runtime.config import load
from shared.runtime.settings import encode
from tests.support.eventually import eventually
from tests.support.stack import LEADER, OTHER_LEADER, Stack, running

pytestmark = pytest.mark.xdist_group("e2e")

BIDS = [["0.49", "4000"], ["0.48", "4000"], ["0.47", "4000"]]
ASKS = [["0.51", "4000"], ["0.52", "4000"], ["0.53", "4000"]]


async def open_market(stack: Stack) -> dict[str, Any]:
    body = {"slug": "will-it-snow", "bids": BIDS, "asks": ASKS, "question": "Will it snow?"}
    market: dict[str, Any] = await stack.admin("market", body)
    return market


async def trades(
    stack: Stack, market: dict[str, Any], wallet: str, side: str, size: str, *, outcome: int = 0
) -> None:
    condition = market["condition"]
    await stack.admin("book", {"condition": condition, "bids": BIDS, "asks": ASKS})
    body = {"wallet": wallet, "condition": condition, "outcome": outcome, "side": side,
            "size": size}  # fmt: skip
    assert (await stack.admin("fill", body))["tx"]
    await stack.admin("book", {"condition": condition, "bids": BIDS, "asks": ASKS})


async def booked(stack: Stack, wallet: str, condition: str) -> tuple[int, int]:
    """Return what is booked to a leader, YES and NO."""
    (data,) = await stack.store.read_views([RISK])
    view = decode(data, RiskView)
    assert view is not None
    lines = {(line.leader, line.condition): line for line in view.held}
    line = lines.get((Wallet(wallet), ConditionId(condition)))
    return (line.yes, line.no) if line else (0, 0)


async def says(stack: Stack, command: Any) -> None:
    await publish(stack.ledger, command)


def envelope(kind: str) -> dict[str, Any]:
    now_ns = SystemClock().now_ns()
    id_ = content_id(kind, now_ns)
    return {"id": id_, "cause": "", "root": id_, "ts_ns": now_ns, "reason": "test", "actor": "ctl"}


async def test_leaders_who_disagree_are_netted_and_each_leaves_alone(tmp_path: Path) -> None:
    """The second leader's short is a sale of what the first holds; the venue never sees a pair."""
    async with running(tmp_path, leaders=(LEADER, OTHER_LEADER)) as stack:
        market = await open_market(stack)
        yes, no = market["tokens"]
        await trades(stack, market, LEADER, "BUY", "100")

        async def first_copied() -> bool:
            return (await booked(stack, LEADER, market["condition"]))[0] > 0 and (
                await stack.in_step()
            )

        await eventually(first_copied, deadline_s=30)
        await trades(stack, market, OTHER_LEADER, "BUY", "15", outcome=1)

        async def second_copied() -> bool:
            (_, against) = await booked(stack, OTHER_LEADER, market["condition"])
            return against >= 5_000_000 and await stack.in_step()  # more than rounding left open

        await eventually(second_copied, deadline_s=30)
        (_, against) = await booked(stack, OTHER_LEADER, market["condition"])
        (whole, _) = await booked(stack, LEADER, market["condition"])
        held = await stack.observed()
        assert held == {yes: whole - against}, "the account holds the difference, and no pair"
        last = (await stack.of(OrderApproved))[-1]
        assert (last.side, last.token, last.nets) == ("SELL", yes, True)
        assert (await stack.drift()).drift_usd == 0

        await says(stack, UnfollowLeader(**envelope("unfollow"), leader=Wallet(LEADER), keep=False))

        async def first_gone() -> bool:
            return await booked(stack, LEADER, market["condition"]) == (0, 0) and (
                await stack.in_step()
            )

        await eventually(first_gone, deadline_s=30)
        assert await booked(stack, OTHER_LEADER, market["condition"]) == (0, against)
        assert await stack.observed() == {no: against}, "his side stands alone now"
        assert [fact.leader for fact in await stack.of(LeaderUnfollowed)] == [LEADER]
        report = await verify(stack.ledger, stack.store)
        assert all(lane.identical for lane in report), report


async def test_a_reload_is_a_fact_and_the_next_decision_obeys_it(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        text = stack.config.read_text().replace(
            "[risk]", "[risk]\nblocked_markets = ['will-it-snow']"
        )
        changed = tmp_path / "changed.toml"
        changed.write_text(text)
        config = encode(load(changed, environ={}))
        await says(stack, ReloadConfig(**envelope("reload"), config=config))

        async def said() -> bool:
            facts: list[ConfigChanged] = await stack.of(ConfigChanged)
            return any(fact.actor == "ctl" for fact in facts)

        await eventually(said, deadline_s=10)
        (fact,) = [f for f in await stack.of(ConfigChanged) if f.actor == "ctl"]
        assert fact.changes == (("risk.blocked_markets", "", "will-it-snow"),)
        await trades(stack, market, LEADER, "BUY", "100")

        async def refused() -> bool:
            (data,) = await stack.store.read_views([RISK])
            kinds = [f.__struct_config__.tag for f in await stack.facts()]
            return data is not None and "order_refused" in kinds

        await eventually(refused, deadline_s=20)
        assert await stack.of(OrderPrepared) == []

        await says(stack, ReloadConfig(**envelope("reload"), config='{"mode":"demo"}'))

        async def answered() -> bool:
            return bool(await stack.of(CommandRefused))

        await eventually(answered, deadline_s=10)
        (refusal,) = await stack.of(CommandRefused)
        assert "account" in refusal.reason
