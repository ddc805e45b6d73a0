"""A command is a fact that risk answers; it waits for the answer, not for hope."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from services.ctl.asking import LANE, UnansweredError, ask, publish
from services.ctl.commands import choice, choose, leader_of, order
from services.ctl.errors import CtlError, UsageError
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    Batch,
    CommandRefused,
    Fact,
    FollowLeader,
    HaltTrading,
    LeaderFollowed,
    LeaderUnfollowed,
    ReduceOnly,
    Regime,
    RegimeChanged,
    ResumeTrading,
    TargetSet,
    UnfollowLeader,
)
from shared.domain.units import Price, Shares, Usd
from shared.domain.views import RISK, HeldView, RiskView, encode
from shared.runtime.clock import ManualClock
from shared.runtime.config import AccountConfig, Config, LeaderConfig, VenueConfig
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import FencedError, Lane
from tests.unit.ctl.ctl_facts import CONDITION, LEADER, OTHER

RISK_LANE = Lane("risk", 3)
WANTED: dict[type[Any], Regime] = {
    HaltTrading: "halted",
    ReduceOnly: "reduce_only",
    ResumeTrading: "normal",
}
ANNA, BEN = LEADER, OTHER
STRANGER = Wallet("0x" + "5a" * 20)
CONFIG = Config(
    mode="paper",
    account=AccountConfig(wallet=Wallet("0x" + "22" * 20)),
    venue=VenueConfig(local_url="http://127.0.0.1:1"),
    leaders=(LeaderConfig(wallet=ANNA, name="Anna"), LeaderConfig(wallet=BEN)),
)


def view(regime: Regime, reason: str = "", **fields: Any) -> RiskView:
    return RiskView(
        regime=regime, reason=reason, held=(), caps=(), realised_today=Usd(0), **fields
    )  # fmt: skip


def head(command: Any, kind: str) -> dict[str, Any]:
    return {
        "id": content_id(kind, command.id), "cause": command.id, "root": command.root,
        "ts_ns": command.ts_ns,
    }  # fmt: skip


def changed(command: Any, before: Regime, **fields: Any) -> RegimeChanged:
    said = {"regime": WANTED[type(command)], "reason": f"operator: {command.reason}", **fields}
    return RegimeChanged(**head(command, "regime_changed"), before=before, actor="ctl", **said)


@contextlib.asynccontextmanager
async def risk(ledger: MemoryLedger, *answers: Any) -> AsyncIterator[None]:
    """Be risk: answer each command with the facts that a function makes of it."""

    async def answering() -> None:
        said = 0
        async for run in ledger.read(("driftless.ctl.>",), after=0):
            for entry in run:
                assert entry.batch is not None
                (command,) = entry.batch.facts
                facts: tuple[Fact, ...] = tuple(answer(command) for answer in answers)
                batch = Batch(epoch=1, through=entry.seq, facts=facts)
                said = await ledger.append(RISK_LANE, batch, key="facts", after=said)

    task = asyncio.create_task(answering())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(
    verb: str, held: RiskView | None, *, answers: bool = True, **fields: Any
) -> tuple[MemoryLedger, dict[str, Any]]:
    ledger, store = MemoryLedger(), MemoryStore()
    before: Regime = "normal"
    if held is not None:
        store.views[RISK], before = encode(held), held.regime
    async with contextlib.AsyncExitStack() as stack:
        if answers:
            await stack.enter_async_context(
                risk(ledger, lambda command: changed(command, before, **fields))
            )
        done = await order(ledger, store, verb, "storm", ManualClock(), deadline_s=0.3)
    return ledger, done


# --- regimes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "kind", "before", "text"),
    [
        ("halt", HaltTrading, "normal", "trading normal -> halted (operator: storm)"),
        ("reduce-only", ReduceOnly, "normal", "trading normal -> reduce-only (operator: storm)"),
        ("reduce-only", ReduceOnly, "halted", "trading halted -> reduce-only (operator: storm)"),
        ("resume", ResumeTrading, "reduce_only", "trading reduce-only -> normal (operator: storm)"),
        ("resume", ResumeTrading, "halted", "trading halted -> normal (operator: storm)"),
    ],
)
async def test_an_order_stands_in_the_ledger_and_is_answered(
    verb: str, kind: type[Any], before: Regime, text: str
) -> None:
    ledger, done = await asked(verb, view(before, "drift"))
    entry = await ledger.last(LANE)
    assert entry is not None
    assert entry.batch is not None
    (command,) = entry.batch.facts
    assert isinstance(command, kind)
    assert (command.reason, command.actor) == ("storm", "ctl")
    assert entry.subject == f"driftless.ctl.{command.__struct_config__.tag}.00.commands"
    assert done["text"] == text
    assert set(done) == {"regime", "changed", "before", "text", "command_seq", "fact"}
    assert (done["regime"], done["before"]) == (WANTED[kind], before)
    assert (done["changed"], done["command_seq"]) == (True, entry.seq)


@pytest.mark.parametrize(
    ("verb", "held"),
    [
        ("halt", view("halted", "operator: storm")),
        ("reduce-only", view("reduce_only", "operator: storm")),
        ("resume", view("normal")),
        ("resume", view("normal", "drift over")),
    ],
)
async def test_what_is_so_already_is_not_asked_for(verb: str, held: RiskView) -> None:
    ledger, done = await asked(verb, held, answers=False)
    assert await ledger.head() == 0
    assert not done["changed"]
    assert done["text"].startswith("already ")


@pytest.mark.parametrize(
    ("verb", "held"), [("halt", view("halted", "drift_halt")),
                       ("reduce-only", view("reduce_only", "drift"))],
)  # fmt: skip
async def test_what_only_a_rule_holds_is_ordered_all_the_same(verb: str, held: RiskView) -> None:
    """A rule lets go when its number falls; the operator's word stays."""
    ledger, done = await asked(verb, held, entered=(held.reason,))
    assert await ledger.head() == 2
    assert done["changed"]


async def test_a_rule_that_is_stricter_is_named() -> None:
    _, done = await asked(
        "reduce-only", view("halted", "drift_halt"), regime="halted", entered=("drift_halt",)
    )
    assert done["text"] == "trading stays halted while drift_halt holds it there, then reduce-only"
    assert done["regime"] == "halted"


async def test_no_answer_from_risk_is_said_with_where_to_look() -> None:
    with pytest.raises(CtlError, match=r"risk has not answered .*driftless status"):
        await asked("halt", view("normal"), answers=False)


async def test_a_rule_that_was_faster_is_an_answer() -> None:
    ledger, store = MemoryLedger(), MemoryStore()
    store.views[RISK] = encode(view("normal"))

    async def by_rule() -> None:
        while await ledger.head() == 0:
            await asyncio.sleep(0)
        store.views[RISK] = encode(view("halted", "daily loss"))

    changing = asyncio.create_task(by_rule())
    done = await order(ledger, store, "halt", "storm", ManualClock(), deadline_s=0.1)
    await changing
    assert done["text"] == "already halted: daily loss"


async def test_before_risk_ever_ran_a_halt_is_asked_for_all_the_same() -> None:
    ledger, store = MemoryLedger(), MemoryStore()
    with pytest.raises(CtlError, match="risk has not answered"):
        await order(ledger, store, "halt", "storm", ManualClock(), deadline_s=0.05)
    assert await ledger.head() == 1


async def test_what_risk_says_to_another_command_is_no_answer() -> None:
    ledger = MemoryLedger()
    async with risk(ledger, lambda _: changed(command(2), "normal")):
        with pytest.raises(UnansweredError, match=r"stands in the ledger at 1, .* in 0.05 s"):
            await ask(ledger, command(1), deadline_s=0.05)


# --- leaders ----------------------------------------------------------------------------------


def unfollowed(command: Any) -> LeaderUnfollowed:
    return LeaderUnfollowed(
        **head(command, "leader_unfollowed"), leader=command.leader, keep=command.keep, actor="ctl"
    )


def sold(command: Any) -> TargetSet:
    return TargetSet(
        **head(command, "target_set"), leader=command.leader, condition=CONDITION,
        before=Shares(20), target=Shares(0), yes_price=Price(1), venue_ns=0, expires_ns=0,
    )  # fmt: skip


def followed(command: Any) -> LeaderFollowed:
    return LeaderFollowed(
        **head(command, "leader_followed"), leader=command.leader, actor="ctl"
    )  # fmt: skip


def refused(command: Any) -> CommandRefused:
    return CommandRefused(**head(command, "command_refused"), reason="no leader of these settings")


async def chosen(*answers: Any, keep: bool | None, leader: Wallet = ANNA) -> dict[str, Any]:
    ledger = MemoryLedger()
    async with risk(ledger, *answers):
        wanted = choice(leader, "holiday", 7, keep=keep)
        return await choose(ledger, CONFIG, wanted, deadline_s=0.3)


@pytest.mark.parametrize(
    ("answers", "keep", "text"),
    [
        ((unfollowed, sold), False, "is not followed any more; what is held in 1 market is sold"),
        ((unfollowed, sold, sold), False,
         "is not followed any more; what is held in 2 markets is sold"),
        ((unfollowed,), False, "is not followed any more; nothing is held because of him"),
        ((unfollowed,), True, "is not followed any more; what is held because of him is kept"),
        ((followed,), None, "is followed again, from his next intent on"),
    ],
)  # fmt: skip
async def test_a_leader_is_chosen_and_what_becomes_of_his_share_is_said(
    answers: tuple[Any, ...], keep: bool | None, text: str
) -> None:
    done = await chosen(*answers, keep=keep)
    assert done["text"] == f"Anna ({ANNA}) {text}"
    assert set(done) == {
        "leader", "followed", "keep", "targets", "text", "command_seq", "fact",
    }  # fmt: skip
    assert (done["leader"], done["followed"], done["keep"]) == (ANNA, keep is None, keep)


def test_the_command_says_who_and_whether_to_keep() -> None:
    stop, again = choice(ANNA, "holiday", 7, keep=True), choice(ANNA, "holiday", 7, keep=None)
    assert isinstance(stop, UnfollowLeader)
    assert isinstance(again, FollowLeader)
    assert (stop.leader, stop.keep, stop.reason, stop.actor) == (ANNA, True, "holiday", "ctl")
    assert (again.leader, again.reason, again.ts_ns) == (ANNA, "holiday", 7)
    assert stop.id != again.id


async def test_a_refusal_is_an_error_with_its_reason() -> None:
    with pytest.raises(CtlError, match=f"refused for {BEN}: no leader of these settings"):
        await chosen(refused, keep=None, leader=BEN)


async def test_a_choice_without_an_answer_is_an_error() -> None:
    with pytest.raises(UnansweredError, match="risk has not answered"):
        await choose(MemoryLedger(), CONFIG, choice(ANNA, "", 7, keep=False), deadline_s=0.05)


@pytest.mark.parametrize("written", ["Anna", "anna", ANNA, ANNA.upper().replace("X", "x")])
def test_a_leader_is_meant_by_name_or_wallet(written: str) -> None:
    assert leader_of(written, CONFIG, None) == ANNA


def test_whom_only_risk_knows_is_meant_by_his_wallet() -> None:
    held = HeldView(leader=STRANGER, condition=ConditionId("c"), target=Shares(0), yes=Shares(1),
                    no=Shares(0), cost=Usd(1))  # fmt: skip
    for known in (
        view("normal", unfollowed=(STRANGER,)),
        msgspec.structs.replace(view("normal"), held=(held,)),
    ):
        assert leader_of(STRANGER, CONFIG, known) == STRANGER


@pytest.mark.parametrize("written", [STRANGER, "Zoe", "", "0x12", ANNA[:-1]])
def test_an_unknown_leader_is_an_error_with_those_known(written: str) -> None:
    with pytest.raises(UsageError) as caught:
        leader_of(written, CONFIG, view("normal"))
    assert str(caught.value) == f"no leader {written}: known are Anna ({ANNA}), {BEN}"


def test_a_name_of_two_leaders_is_not_guessed() -> None:
    twins = tuple(LeaderConfig(wallet=wallet, name="Anna") for wallet in (ANNA, BEN))
    with pytest.raises(UsageError, match="name of 2 leaders: give the wallet"):
        leader_of("anna", msgspec.structs.replace(CONFIG, leaders=twins), None)


def test_without_leaders_there_is_none_to_name() -> None:
    with pytest.raises(UsageError, match="known are none, add one to the file"):
        leader_of("anna", msgspec.structs.replace(CONFIG, leaders=()), None)


# --- the ledger -------------------------------------------------------------------------------


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
