"""A command is a fact that stands in the ledger, and the answer to it is waited for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final, cast

import msgspec

from services.ctl.errors import CtlError
from services.ctl.governance import Command
from services.ctl.session import USER
from shared.domain.messages import (
    Batch,
    CommandRefused,
    ConfigChanged,
    EndOrder,
    Fact,
    LeaderFollowed,
    LeaderUnfollowed,
    OrderClosed,
    RegimeChanged,
    kind_of,
)
from shared.runtime.ports import Entry, FencedError, Lane, Ledger, subjects_of

LANE: Final = Lane(USER, 0)
DEADLINE_S: Final = 5.0
_APPENDS_MAX: Final = 10
_ANSWERING: Final = (subjects_of("risk"), subjects_of("executor"))
_ANSWERS: Final = (
    RegimeChanged, LeaderUnfollowed, LeaderFollowed, ConfigChanged, CommandRefused, OrderClosed,
)  # fmt: skip
Said = (
    RegimeChanged | LeaderUnfollowed | LeaderFollowed | ConfigChanged | CommandRefused | OrderClosed
)


class UnansweredError(CtlError):
    """The command stands in the ledger, but nobody has said anything to it in time."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    seq: int  # of the command
    said: Said
    facts: tuple[Fact, ...]  # everything that follows from the command, the answer included


async def ask(ledger: Ledger, command: Command, *, deadline_s: float = DEADLINE_S) -> Answer:
    """Publish a command and return what is said to it; raises UnansweredError.

    A refusal is an answer too.
    """
    seq = await publish(ledger, command)
    try:
        async with asyncio.timeout(deadline_s):
            return await _answer(ledger, command, seq)
    except TimeoutError:
        who = "the executor" if isinstance(command, EndOrder) else "risk"
        problem = f"the command stands in the ledger at {seq}, but {who} has not answered"
        raise UnansweredError(
            f"{problem} in {deadline_s:g} s: look at `driftless status`"
        ) from None


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


async def _answer(ledger: Ledger, command: Command, seq: int) -> Answer:
    reading = cast("AsyncGenerator[list[Entry], None]", ledger.read(_ANSWERING, after=seq))
    async with contextlib.aclosing(reading):
        async for run in reading:
            for entry in run:
                facts = tuple(
                    fact
                    for fact in (entry.batch.facts if entry.batch else ())
                    if fact.cause == command.id
                )
                said = next((fact for fact in facts if isinstance(fact, _ANSWERS)), None)
                if said is not None:
                    return Answer(seq=seq, said=said, facts=facts)
    raise AssertionError("an open-ended read never ends")
