"""Rebuild any service's state from the ledger alone, and compare it with what was saved."""

import importlib
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from shared.domain.ids import PARTITIONS
from shared.domain.messages import Fact
from shared.runtime.ports import Entry, Lane, Ledger, Saved, Store
from shared.runtime.runner import encode_state

SERVICES: Final = ("ingester", "aggregator", "risk", "executor", "reconciler")
_PATHS_SHOWN: Final = 5


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """A lane's state as its own log describes it."""

    state: Any
    facts: int
    said: int  # sequence of the last message folded
    through: int  # how far the lane had heard, by its own word
    trouble: str = ""  # why the log itself cannot be trusted, if so


class LaneReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one lane."""

    service: str
    partition: int
    identical: bool
    facts: int
    size: int  # bytes of the saved state
    said: int
    facts_per_s: int
    trouble: str = ""
    differences: tuple[str, ...] = ()


def core_of(service: str) -> tuple[type[Any], Callable[[Any, Fact], None]]:
    """Return a service's State and its ``evolve``."""
    core = importlib.import_module(f"services.{service}.core")
    return core.State, core.evolve


async def rebuild(ledger: Ledger, lane: Lane, *, until: int) -> Rebuilt:
    """Fold a lane's own log, from its beginning, up to a sequence."""
    kind, evolve = core_of(lane.service)
    state, facts, said, through, epoch = kind(), 0, 0, 0, 0
    async for run in ledger.read((lane.subjects,), after=0, until=until):
        for entry in run:
            trouble = _trouble(entry, epoch)
            if trouble or entry.batch is None:
                return Rebuilt(
                    state=state, facts=facts, said=said, through=through, trouble=trouble
                )
            for fact in entry.batch.facts:
                evolve(state, fact)
            facts += len(entry.batch.facts)
            said, epoch = entry.seq, entry.batch.epoch
            through = max(through, entry.batch.through)
    return Rebuilt(state=state, facts=facts, said=said, through=through)


def _trouble(entry: Entry, epoch: int) -> str:
    if entry.batch is None:
        return f"message {entry.seq} does not decode: {entry.error}"
    if entry.batch.epoch < epoch:
        return f"message {entry.seq} has epoch {entry.batch.epoch} after {epoch}: two writers"
    return ""


async def verify(ledger: Ledger, store: Store) -> list[LaneReport]:
    """Compare every saved snapshot, byte for byte, with the state its log describes."""
    reports = []
    for service in SERVICES:
        for partition in range(PARTITIONS):
            lane = Lane(service, partition)
            saved = await store.load(lane)
            if saved is not None:
                reports.append(await _verify_lane(ledger, lane, saved))
    return reports


async def _verify_lane(ledger: Ledger, lane: Lane, saved: Saved) -> LaneReport:
    began = time.perf_counter()
    rebuilt = await rebuild(ledger, lane, until=saved.said)
    elapsed = time.perf_counter() - began
    trouble, differences = rebuilt.trouble, tuple[str, ...]()
    expected = encode_state(rebuilt.state)
    if not trouble and rebuilt.said != saved.said:
        trouble = f"the snapshot stands on message {saved.said}, the log has {rebuilt.said}"
    if not trouble and saved.cursor < rebuilt.through:
        trouble = f"the snapshot heard to {saved.cursor}, its log says {rebuilt.through}"
    if expected != saved.state:
        differences = tuple(differing(saved.state, expected))
    return LaneReport(
        service=lane.service,
        partition=lane.partition,
        identical=not trouble and not differences,
        facts=rebuilt.facts,
        size=len(saved.state),
        said=saved.said,
        facts_per_s=round(rebuilt.facts / elapsed) if rebuilt.facts else 0,
        trouble=trouble,
        differences=differences,
    )


def differing(saved: bytes, rebuilt: bytes) -> list[str]:
    """Return the first paths at which two encoded states differ, with both values."""
    try:
        ours = msgspec.json.decode(saved)
    except msgspec.DecodeError as e:
        return [f"the snapshot is not JSON: {e}"]
    found: list[str] = []
    _compare("$", ours, msgspec.json.decode(rebuilt), found)
    return found or ["the bytes differ, the values do not"]


def _compare(path: str, ours: Any, theirs: Any, found: list[str]) -> None:
    if len(found) >= _PATHS_SHOWN or ours == theirs:
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            _compare(f"{path}.{key}", ours.get(key), theirs.get(key), found)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            _compare(f"{path}[{at}]", mine, other, found)
    else:
        found.append(f"{path}: saved {ours!r:.80}, rebuilt {theirs!r:.80}")
