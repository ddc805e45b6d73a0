"""What happens to an account behind the bot's back: found, named, corrected, and gone."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.messages import DriftFound, PositionCorrected
from tests.e2e.test_pipeline import leader_trades, open_market
from tests.support.eventually import eventually
from tests.support.stack import WALLET, Stack, running

pytestmark = pytest.mark.xdist_group("e2e")


async def corrected(stack: Stack, causes: set[str], before: int) -> None:
    """Wait until new drifts of these causes were found and corrected, and drift is zero."""

    async def done() -> bool:
        found = (await stack.of(DriftFound))[before:]
        assert {fact.probable_cause for fact in found} == causes, found
        assert len(await stack.of(PositionCorrected)) == before + len(found)
        assert await stack.in_step()
        return (await stack.drift()).drift_usd == 0

    await eventually(done, deadline_s=40)


async def act(stack: Stack, kind: str, market: dict[str, Any], size: str) -> None:
    body = {"wallet": WALLET, "condition": market["condition"], "type": kind, "size": size}
    await stack.admin("activity", body)


async def test_each_thing_done_behind_our_back_is_called_by_its_name(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            return bool(await stack.believed()) and await stack.in_step()

        await eventually(copied, deadline_s=30)
        by_hand = {"wallet": WALLET, "condition": market["condition"], "outcome": 0}
        await stack.admin("trade-outside", {**by_hand, "side": "BUY", "size": "7"})
        await corrected(stack, {"bought_outside"}, 0)
        await stack.admin("trade-outside", {**by_hand, "side": "SELL", "size": "6"})
        await corrected(stack, {"sold_outside"}, 1)
        await act(stack, "SPLIT", market, "11")
        await corrected(stack, {"split"}, 2)
        await act(stack, "MERGE", market, "5")
        await corrected(stack, {"merged"}, 4)
        await stack.admin("resolve", {"condition": market["condition"], "payouts": ["0.5", "0.5"]})
        await act(stack, "REDEEM", market, "1000")
        await corrected(stack, {"redeemed"}, 6)
        assert await stack.believed() == {}
        (last, _) = (await stack.of(DriftFound))[-2:]
        assert "the market paid 0.5/0.5" in last.evidence
