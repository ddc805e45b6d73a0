"""A service's snapshots made anew from its own log, whatever was saved before."""

from collections.abc import Callable
from typing import Any

import msgspec

from services.lab.replay import REGISTRY, Difference, first_difference
from shared.domain.ids import PARTITIONS
from shared.runtime.ports import Epoch, Lane, Ledger, Saved, Store, UndecodableError
from shared.runtime.runner import encode_state
from shared.runtime.shape import shape_of


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """One lane before and after."""

    lane: Lane
    before: Saved | None
    after: Saved
    messages: int
    facts: int
    state: Any
    lost: bool  # the old snapshot stood on messages that the ledger does not have

    @property
    def difference(self) -> Difference | None:
        return first_difference(self.before.state, self.after.state) if self.before else None


async def rebuild(
    ledger: Ledger, store: Store, service: str, *, progress: Callable[[Lane], None]
) -> list[Rebuilt]:
    """Fold every lane of a service and return what would be saved; nothing is saved here.

    Raises UndecodableError where a message cannot be read or does not fit.
    """
    found = []
    for lane in (Lane(service, partition) for partition in range(PARTITIONS)):
        before = await store.load(lane)
        last = await ledger.last(lane)
        if before is None and last is None:
            continue
        progress(lane)
        found.append(await _fold(ledger, lane, before, end=last.seq if last else 0))
    return found


async def _fold(ledger: Ledger, lane: Lane, before: Saved | None, *, end: int) -> Rebuilt:
    kind, evolve = REGISTRY[lane.service]
    state, said, cursor, epoch = kind(), 0, 0, before.epoch if before else 0
    messages = facts = 0
    if end:
        async for run in ledger.read((lane.subjects,), after=0, until=end):
            for entry in run:
                if entry.batch is None:
                    raise UndecodableError(f"message {entry.seq} of {lane.name}: {entry.error}")
                for fact in entry.batch.facts:
                    evolve(state, fact)
                said, cursor = entry.seq, max(cursor, entry.batch.through)
                epoch = max(epoch, entry.batch.epoch)
                messages, facts = messages + 1, facts + len(entry.batch.facts)
    after = Saved(encode_state(state), cursor, said, Epoch(epoch), shape_of(kind))
    head = await ledger.head()
    lost = before is not None and (before.said > said or before.cursor > head)
    return Rebuilt(
        lane=lane,
        before=before,
        after=after,
        messages=messages,
        facts=facts,
        state=state,
        lost=lost,
    )


async def save(store: Store, rebuilt: list[Rebuilt]) -> None:
    """Replace the snapshots; FencedError where the service came back meanwhile."""
    for each in rebuilt:
        await store.save(each.lane, each.after, {})
