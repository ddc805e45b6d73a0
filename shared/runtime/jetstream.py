"""JetStream's own interface, asked directly; and whether the ledger has every message it had."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from shared.runtime.ports import GapError
from shared.runtime.streams import STREAM

REPLY_DEADLINE_S: Final = 2.0
_HOLES_TOLD: Final = 5
_CURE: Final = "stop everything and restore it: `driftless restore DIR`, or a copy of NATS's files"


async def api(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.request(
        f"$JS.API.{subject}", msgspec.json.encode(body), timeout=REPLY_DEADLINE_S
    )
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    return answer


async def check_whole(client: Client) -> None:
    """Raise GapError where the ledger lacks a message: nothing that stands on it can be trusted.

    It refuses deletions and drops nothing by itself, so a missing number is a lost disk block, a
    stream restored in part, or one made anew: what follows it was decided on what is not there.
    """
    answer = await api(client, f"STREAM.INFO.{STREAM}", {"deleted_details": True})
    if "error" in answer:
        return  # not up yet: whatever needs the ledger waits for it
    state = answer["state"]
    if state["messages"] != state["last_seq"]:
        first = state["first_seq"]  # of a stream that lost all it had, the next to come
        holes = [(1, first - 1)] if first > 1 else []
        holes += runs_of(number for number in state.get("deleted") or () if number >= first)
        raise GapError(f"the ledger has lost messages {holes_text(holes)}; {_CURE}")


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return rising numbers as runs without a gap: first and last of each."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def holes_text(holes: Sequence[tuple[int, int]]) -> str:
    """Return runs of missing numbers as people read them, the first few of many."""
    told = [str(first) if first == last else f"{first} to {last}" for first, last in holes]
    more = f" and {len(told) - _HOLES_TOLD} more" if len(told) > _HOLES_TOLD else ""
    return ", ".join(told[:_HOLES_TOLD]) + more
