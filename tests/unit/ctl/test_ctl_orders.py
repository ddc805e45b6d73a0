"""`driftless end-order`: the operator ends what nobody could find the end of, and nothing else."""

import asyncio
from typing import Any

import pytest

from services.ctl.asking import LANE, UnansweredError
from services.ctl.errors import UsageError
from services.ctl.orders import end
from shared.domain.ids import OrderHash, content_id
from shared.domain.messages import Batch, EndOrder, OrderClosed
from shared.domain.units import Price, Shares
from shared.domain.views import (
    POSITIONS,
    SURRENDERED,
    OpenOrderView,
    PositionsView,
    encode,
)
from shared.runtime.clock import ManualClock
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Lane
from tests.unit.ctl.ctl_facts import LEADER, YES

EXECUTOR = Lane("executor", 3)
LOST, ALIKE, RESTING = (OrderHash(f"0x{head}{'0' * 60}") for head in ("9f3c", "9f3d", "77aa"))


def store() -> MemoryStore:
    found = MemoryStore()
    orders = tuple(
        OpenOrderView(
            order=name, token=YES, side="BUY", price=Price(500_000), size=Shares(20_000_000),
            filled=Shares(4_000_000), status=status,
        )
        for name, status in ((LOST, SURRENDERED), (ALIKE, SURRENDERED), (RESTING, "resting"))
    )  # fmt: skip
    found.views[POSITIONS] = encode(PositionsView(wallet=LEADER, positions=(), orders=orders))
    return found


async def obey(ledger: MemoryLedger) -> None:
    """Close what is asked for, as the executor does."""
    async for run in ledger.read((LANE.subjects,), after=0):
        for entry in run:
            assert entry.batch is not None
            (command,) = entry.batch.facts
            assert isinstance(command, EndOrder)
            closed = OrderClosed(
                id=content_id("order_closed", command.order), cause=command.id, root="r", ts_ns=1,
                order=command.order, approval="a", token=YES, filled=Shares(4_000_000),
                reason="given_up",
            )  # fmt: skip
            batch = Batch(epoch=1, through=0, facts=(closed,))
            await ledger.append(EXECUTOR, batch, key="facts", after=0)


async def ended(written: str, *, deadline_s: float = 5) -> dict[str, Any]:
    ledger = MemoryLedger()
    obeying = asyncio.create_task(obey(ledger)) if deadline_s == 5 else None
    try:
        clock = ManualClock()
        return await end(ledger, store(), written, "looked", clock, deadline_s=deadline_s)
    finally:
        if obeying:
            obeying.cancel()


@pytest.mark.parametrize("written", ["0x9f3c", "0x9F3C", LOST])
async def test_a_surrendered_order_is_ended_by_the_beginning_of_its_hash(written: str) -> None:
    done = await ended(written)
    assert (done["order"], str(done["filled"]), str(done["size"])) == (LOST, "4", "20")
    assert "has ended with 4.00 of 20.00 filled" in done["text"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("0x9f3", "2 open orders begin with 0x9f3: give more"),
        ("0x1234", f"no open order 0x1234: waiting for you are {LOST}, {ALIKE}"),
        ("0x77", f"order {RESTING} is resting: it is still followed"),
    ],
)
async def test_what_is_not_one_surrendered_order_is_refused(written: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        await ended(written)


async def test_an_executor_that_is_away_is_named() -> None:
    with pytest.raises(UnansweredError, match="the executor has not answered"):
        await ended("0x9f3c", deadline_s=0.05)
