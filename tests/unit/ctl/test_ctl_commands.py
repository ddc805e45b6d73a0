"""A halt is a fact that risk answers; the command waits for the answer, not for hope."""

import asyncio
from typing import Any

import pytest

from services.ctl.commands import LANE, order, publish
from services.ctl.errors import CtlError
from shared.domain.ids import content_id
from shared.domain.messages import (
    Batch,
    HaltTrading,
    Regime,
    RegimeChanged,
    ResumeTrading,
)
from shared.domain.units import Usd
from shared.domain.views import RISK, RiskView, encode
from shared.runtime.clock import ManualClock
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import FencedError, Lane

RISK_LANE = Lane("risk", 3)


def view(regime: Regime, reason: str = "") -> bytes:
    return encode(RiskView(regime=regime, reason=reason, held=(), caps=(), realised_today=Usd(0)))


async def answer(ledger: MemoryLedger, before: Regime) -> None:
    """Be risk: turn each command into a change of the regime."""
    said = 0
    async for run in ledger.read(("driftless.ctl.>",), after=0):
        for entry in run:
            assert entry.batch is not None
            (command,) = entry.batch.facts
            regime: Regime = "halted" if isinstance(command, HaltTrading) else "normal"
            changed = RegimeChanged(
                id=content_id("regime_changed", command.id), cause=command.id, root=command.root,
                ts_ns=command.ts_ns, before=before, regime=regime, reason="operator: storm",
                actor="ctl",
            )  # fmt: skip
            batch = Batch(epoch=1, through=entry.seq, facts=(changed,))
            said = await ledger.append(RISK_LANE, batch, key="facts", after=said)


async def asked(verb: str, regime: Regime, *, risk: bool = True) -> tuple[MemoryLedger, Any]:
    ledger, store = MemoryLedger(), MemoryStore()
    store.views[RISK] = view(regime)
    answering = asyncio.create_task(answer(ledger, regime)) if risk else None
    try:
        done = await order(ledger, store, verb, "storm", ManualClock(), deadline_s=0.3)
    finally:
        if answering is not None:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
    return ledger, done


async def test_a_halt_stands_in_the_ledger_and_is_answered() -> None:
    ledger, done = await asked("halt", "normal")
    entry = await ledger.last(LANE)
    assert entry is not None
    assert entry.subject == "driftless.ctl.halt_trading.00.commands"
    assert entry.batch is not None
    (command,) = entry.batch.facts
    assert isinstance(command, HaltTrading)
    assert (command.reason, command.actor) == ("storm", "ctl")
    assert done["text"] == "trading normal -> halted (operator: storm)"
    assert set(done) == {"regime", "changed", "before", "text", "command_seq", "fact"}
    assert (done["regime"], done["changed"], done["command_seq"]) == ("halted", True, entry.seq)


async def test_a_resume_ends_reduced_trading_too() -> None:
    ledger, done = await asked("resume", "reduce_only")
    entry = await ledger.last(LANE)
    assert entry is not None
    assert entry.batch is not None
    assert isinstance(entry.batch.facts[0], ResumeTrading)
    assert done["text"] == "trading reduce-only -> normal (operator: storm)"


@pytest.mark.parametrize(("verb", "regime"), [("halt", "halted"), ("resume", "normal")])
async def test_what_is_so_already_is_not_asked_for(verb: str, regime: Regime) -> None:
    ledger, done = await asked(verb, regime, risk=False)
    assert await ledger.head() == 0
    assert not done["changed"]
    assert done["text"].startswith("already ")


async def test_no_answer_from_risk_is_said_with_where_to_look() -> None:
    with pytest.raises(CtlError, match=r"risk has not answered .*driftless status"):
        await asked("halt", "normal", risk=False)


async def test_a_rule_that_was_faster_is_an_answer() -> None:
    ledger, store = MemoryLedger(), MemoryStore()
    store.views[RISK] = view("normal")

    async def by_rule() -> None:
        while await ledger.head() == 0:
            await asyncio.sleep(0)
        store.views[RISK] = view("halted", "daily loss")

    changing = asyncio.create_task(by_rule())
    done = await order(ledger, store, "halt", "storm", ManualClock(), deadline_s=0.1)
    await changing
    assert done["text"] == "already halted: daily loss"


async def test_before_risk_ever_ran_a_halt_is_asked_for_all_the_same() -> None:
    ledger, store = MemoryLedger(), MemoryStore()
    with pytest.raises(CtlError, match="risk has not answered"):
        await order(ledger, store, "halt", "storm", ManualClock(), deadline_s=0.05)
    assert await ledger.head() == 1


def command(number: int) -> HaltTrading:
    id_ = content_id("halt", number)
    return HaltTrading(id=id_, cause="", root=id_, ts_ns=number, reason="", actor="ctl")


async def test_operators_who_command_at_once_are_all_heard() -> None:
    ledger = MemoryLedger()
    seqs = await asyncio.gather(*(publish(ledger, command(n)) for n in range(8)))
    assert sorted(seqs) == list(range(1, 9))


async def test_a_command_that_is_always_overtaken_gives_up() -> None:
    class Busy(MemoryLedger):
        async def append(self, *args: Any, **kwargs: Any) -> int:
            raise FencedError("somebody was faster")

    with pytest.raises(CtlError, match="try again"):
        await publish(Busy(), command(1))
