"""`driftless halt` and `resume`: commands are facts too, and risk's answer is waited for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from services.ctl.errors import CtlError
from services.ctl.figures import json_text
from services.ctl.narration import regime_name
from services.ctl.options import ConfigOption, JsonOption
from services.ctl.session import USER, find_place, session
from shared.domain.ids import content_id
from shared.domain.messages import (
    Batch,
    HaltTrading,
    Regime,
    RegimeChanged,
    ResumeTrading,
    kind_of,
)
from shared.domain.views import RISK, RiskView, decode
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.ports import Entry, FencedError, Lane, Ledger, Store, subjects_of

LANE: Final = Lane(USER, 0)
DEADLINE_S: Final = 5.0
_APPENDS_MAX: Final = 10
_RISK: Final = subjects_of("risk")
Command = HaltTrading | ResumeTrading

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the ledger.")]


def halt(
    reason: ReasonOption = "by hand", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Take no new risk from now on. Reducing stays allowed; positions and orders are kept.

    Waits until risk has said in the ledger that trading is halted.

    Example: driftless halt --reason "venue maintenance"

    Exit codes: 0 halted (or it already was), 1 no answer from risk in time, 3 NATS or Redis away.
    """
    asyncio.run(_command("halt", reason, config, as_json))


def resume(
    reason: ReasonOption = "by hand", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let trading be normal again, after a halt or after a rule reduced it.

    Waits until risk has said in the ledger that trading is normal.

    Example: driftless resume --reason "maintenance over"

    Exit codes: 0 normal (or it already was), 1 no answer from risk in time, 3 NATS or Redis away.
    """
    asyncio.run(_command("resume", reason, config, as_json))


async def _command(verb: str, reason: str, config: Path | None, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        done = await order(at.ledger, at.store, verb, reason, SystemClock())
    print(json_text(done) if as_json else done["text"])


async def order(
    ledger: Ledger,
    store: Store,
    verb: str,
    reason: str,
    clock: Clock,
    *,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any]:
    """Publish a command and wait for what risk says to it; raises CtlError when it says nothing."""
    wanted: Regime = "halted" if verb == "halt" else "normal"
    held = await regime(store)
    if held is not None and held.regime == wanted:
        return _answer(wanted, f"already {regime_name(wanted)}: {held.reason or 'as at the start'}")
    command = _command_of(verb, reason, clock.now_ns())
    seq = await publish(ledger, command)
    try:
        async with asyncio.timeout(deadline_s):
            changed = await _answered(ledger, command, seq)
    except TimeoutError:
        held = await regime(store)
        if held is not None and held.regime == wanted:  # a rule or somebody else was there first
            return _answer(wanted, f"already {regime_name(wanted)}: {held.reason}")
        problem = f"the command stands in the ledger at {seq}, but risk has not answered"
        raise CtlError(f"{problem} in {deadline_s:g} s: look at `driftless status`") from None
    before, after = regime_name(changed.before), regime_name(changed.regime)
    return _answer(changed.regime, f"trading {before} -> {after} ({changed.reason})", seq, changed)


async def regime(store: Store) -> RiskView | None:
    """Return what risk says of itself, None before it ever ran."""
    (data,) = await store.read_views([RISK])
    return decode(data, RiskView)


def _answer(
    now: Regime, text: str, seq: int | None = None, changed: RegimeChanged | None = None
) -> dict[str, Any]:
    return {
        "regime": now,
        "changed": changed is not None,
        "before": changed.before if changed else now,
        "text": text,
        "command_seq": seq,
        "fact": changed.id if changed else None,
    }


def _command_of(verb: str, reason: str, now_ns: int) -> Command:
    kind = HaltTrading if verb == "halt" else ResumeTrading
    id_ = content_id(f"{verb}_trading", USER, reason, now_ns)
    return kind(id=id_, cause="", root=id_, ts_ns=now_ns, reason=reason, actor=USER)


async def publish(ledger: Ledger, command: Command) -> int:
    """Append a command behind the last one of any operator, however many give them at once."""
    batch = Batch(epoch=0, through=0, facts=(command,))
    for _ in range(_APPENDS_MAX):
        last = await ledger.last(LANE)
        try:
            return await ledger.append(LANE, batch, key="commands", after=last.seq if last else 0)
        except FencedError:
            continue
    raise CtlError(f"{kind_of(command)}: others keep giving commands, try again")


async def _answered(ledger: Ledger, command: Command, seq: int) -> RegimeChanged:
    reading = cast("AsyncGenerator[list[Entry], None]", ledger.read((_RISK,), after=seq))
    async with contextlib.aclosing(reading):
        async for run in reading:
            for fact in (f for entry in run if entry.batch for f in entry.batch.facts):
                if isinstance(fact, RegimeChanged) and fact.cause == command.id:
                    return fact
    raise AssertionError("an open-ended read never ends")
