"""What happens to an account behind the bot's back: found, named, corrected, and gone."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.ids import COLLATERAL
from shared.domain.messages import CashCorrected, DriftFound, PositionClosed, PositionCorrected
from tests.e2e.test_pipeline import leader_trades, open_market
from tests.support.eventually import eventually
from tests.support.stack import WALLET, Stack, running

pytestmark = pytest.mark.xdist_group("e2e")


class Doings:
    """What is done to the account, and how the system takes it."""

    def __init__(self, stack: Stack, market: dict[str, Any]) -> None:
        self._stack, self._market = stack, market
        self._told = 0

    async def trade(self, side: str, size: str) -> None:
        body = {"wallet": WALLET, "condition": self._market["condition"], "outcome": 0}
        await self._stack.admin("trade-outside", {**body, "side": side, "size": size})

    async def act(self, kind: str, size: str) -> None:
        body = {"wallet": WALLET, "condition": self._market["condition"], "size": size}
        await self._stack.admin("activity", {**body, "type": kind})

    async def corrected(self, causes: dict[str, str]) -> None:
        """Wait until drifts of these causes were found, each corrected once, and none stands."""

        async def done() -> bool:
            found = (await self._stack.of(DriftFound))[self._told :]
            assert {self._name(fact): fact.probable_cause for fact in found} == causes
            assert len(found) == len(causes)
            told = await self._stack.of(PositionCorrected) + await self._stack.of(CashCorrected)
            told = [fact for fact in told if fact.cause]  # the opening balance has none
            assert len(told) == self._told + len(found)
            assert await self._stack.in_step()
            drift = await self._stack.drift()
            return drift.drift_usd == 0 and not drift.lines

        await eventually(done, deadline_s=60)
        self._told += len(causes)

    def _name(self, fact: DriftFound) -> str:
        return "cash" if fact.token == COLLATERAL else ("yes", "no")[fact.outcome]


async def test_each_thing_done_behind_our_back_is_called_by_its_name(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        await leader_trades(stack, market, "BUY", "100")

        async def copied() -> bool:
            return bool(await stack.believed()) and await stack.in_step()

        await eventually(copied, deadline_s=30)
        doings = Doings(stack, market)
        await doings.trade("BUY", "7")
        await doings.corrected({"yes": "bought_outside", "cash": "traded_outside"})
        await doings.trade("SELL", "6")
        await doings.corrected({"yes": "sold_outside", "cash": "traded_outside"})
        await doings.act("SPLIT", "11")
        await doings.corrected({"yes": "split", "no": "split", "cash": "split"})
        await doings.act("MERGE", "5")
        await doings.corrected({"yes": "merged", "no": "merged", "cash": "merged"})
        await stack.admin("resolve", {"condition": market["condition"], "payouts": ["0.5", "0.5"]})
        await doings.act("REDEEM", "1000")
        await doings.corrected({"yes": "redeemed", "no": "redeemed"})
        assert await stack.believed() == {}
        (last, _) = (await stack.of(DriftFound))[-2:]
        assert "the market paid 0.5/0.5" in last.evidence
        (closed,) = await stack.of(PositionClosed)
        assert closed.payouts == (500_000, 500_000)
