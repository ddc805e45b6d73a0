"""Every service's state as it was: the ledger folded up to a message, or up to a moment."""

from collections import deque
from typing import Any, Final

import msgspec

from services.lab.replay import REGISTRY, lane_of
from shared.domain.market import Market
from shared.domain.messages import Fact, kind_of
from shared.runtime.ports import Entry, Lane, Ledger, UndecodableError

_ALL: Final = ("driftless.>",)
RECENT_MAX: Final = 1_000


class Said(msgspec.Struct, frozen=True):
    """A fact, where it stands in the ledger, and when that was stored."""

    seq: int
    stored_ns: int
    fact: Fact


class Past(msgspec.Struct, kw_only=True):
    """What stood in the ledger through message ``seq``, and what it made of each lane's state."""

    seq: int = 0
    stored_ns: int = 0
    head: int = 0  # of the whole ledger
    first_ns: int = 0  # when its first message was stored
    last_ns: int = 0  # and its last, if the fold went so far
    states: dict[Lane, Any] = {}
    markets: dict[str, Market] = {}
    recent: deque[Said] = msgspec.field(default_factory=lambda: deque(maxlen=RECENT_MAX))

    def of(self, service: str) -> list[Any]:
        """Return the states of a service's lanes."""
        return [state for lane, state in self.states.items() if lane.service == service]


async def fold(ledger: Ledger, *, until: int | None = None, until_ns: int | None = None) -> Past:
    """Fold the ledger up to a sequence and a time, both included; either may be left out.

    Raises UndecodableError where a message of a lane cannot be read or does not fit its state:
    what follows would stand on nothing.
    """
    past = Past(head=await ledger.head())
    end = past.head if until is None else min(until, past.head)
    if end < 1:
        return past
    async for run in ledger.read(_ALL, after=0, until=end):
        for entry in run:
            past.first_ns = past.first_ns or entry.time_ns
            past.last_ns = entry.time_ns
            if until_ns is not None and entry.time_ns > until_ns:
                return past
            _take(past, entry)
    return past


def _take(past: Past, entry: Entry) -> None:
    past.seq, past.stored_ns = entry.seq, entry.time_ns
    lane = lane_of(entry.subject)
    if entry.batch is None:
        if lane is not None:
            raise UndecodableError(f"message {entry.seq} ({entry.subject}): {entry.error}")
        return
    for fact in entry.batch.facts:
        past.recent.append(Said(entry.seq, entry.time_ns, fact))
        market = getattr(fact, "market", None)
        if isinstance(market, Market):
            past.markets[market.condition] = market
        if lane is None:
            continue
        kind, evolve = REGISTRY[lane.service]
        state = past.states.setdefault(lane, kind())
        try:
            evolve(state, fact)
        except (AssertionError, LookupError, ValueError, TypeError, AttributeError) as e:
            raise UndecodableError(
                f"message {entry.seq} ({kind_of(fact)}) does not fit the state of {lane.name}: {e}"
            ) from e
