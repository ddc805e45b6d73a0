"""Rebuild and verify: a service's state is the fold of its own log, byte for byte, or it is wrong.

The one package that may know several cores; it reads the ledger and the snapshots, and writes
nothing.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec

from services.aggregator import core as aggregator
from services.executor import core as executor
from services.ingester import core as ingester
from services.reconciler import core as reconciler
from services.risk import core as risk
from shared.domain.ids import PARTITIONS
from shared.domain.messages import Fact, kind_of
from shared.domain.units import NS_PER_S
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.ports import Entry, Lane, Ledger, Saved, Store
from shared.runtime.runner import encode_state

Evolve = Callable[[Any, Fact], None]
Verdict = Literal["identical", "unsaved", "differs", "undecodable", "broken", "ahead", "epoch"]

REGISTRY: Final[dict[str, tuple[type[Any], Evolve]]] = {
    "ingester": (ingester.State, ingester.evolve),
    "aggregator": (aggregator.State, aggregator.evolve),
    "risk": (risk.State, risk.evolve),
    "executor": (executor.State, executor.evolve),
    "reconciler": (reconciler.State, reconciler.evolve),
}
_EXCERPT: Final = 120  # characters of a differing value that are shown
_BREATH: Final = 50  # messages folded between two chances for others to run
# What a core raises on a fact that does not fit its state: a message before it is missing.
_UNFIT: Final = (AssertionError, LookupError, ValueError, TypeError, AttributeError)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place, in the order of keys, where two states are not the same."""

    path: str
    saved: str
    rebuilt: str


class LaneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing one lane's snapshot with its log showed.

    ``verdict`` is identical; unsaved (no snapshot, so nothing to compare: a start rebuilds it);
    differs; undecodable (a message cannot be read); broken (the log does not fold, lacks the
    message the snapshot stands on, or heard further than the snapshot says); ahead (the snapshot
    stands on a message that the ledger has lost); epoch (an older writer wrote after a newer).
    """

    service: str
    partition: int
    verdict: Verdict
    messages: int
    facts: int
    bytes: int  # of the rebuilt state
    said: int  # the last message that is in the snapshot
    duration_ns: int
    problem: str = ""
    difference: Difference | None = None

    @property
    def identical(self) -> bool:
        """Tell whether nothing contradicts the log."""
        return self.verdict in ("identical", "unsaved")

    @property
    def facts_per_s(self) -> int:
        return self.facts * NS_PER_S // self.duration_ns if self.duration_ns else 0


class _FoldError(Exception):
    def __init__(self, verdict: Verdict, problem: str) -> None:
        super().__init__(problem)
        self.verdict: Verdict = verdict
        self.problem = problem


class _Fold:
    """A state as it grows out of a lane's log."""

    def __init__(self, service: str) -> None:
        kind, self._evolve = REGISTRY[service]
        self.state = kind()
        self.last = self.messages = self.facts = self.through = self._epoch = 0

    def apply(self, entry: Entry) -> None:
        """Apply one message; raises _FoldError with its sequence."""
        if entry.batch is None:
            problem = f"message {entry.seq} ({entry.subject}) cannot be read: {entry.error}"
            raise _FoldError("undecodable", problem)
        if entry.batch.epoch < self._epoch:
            problem = f"message {entry.seq} of epoch {entry.batch.epoch} follows {self._epoch}"
            raise _FoldError("epoch", problem)
        for fact in entry.batch.facts:
            try:
                self._evolve(self.state, fact)
            except _UNFIT as e:
                said = f"{type(e).__name__}: {e}"[:_EXCERPT]
                problem = f"message {entry.seq} ({kind_of(fact)}) does not fit its state: {said}"
                raise _FoldError("broken", problem) from e
        self._epoch = entry.batch.epoch
        self.last = entry.seq
        self.through = max(self.through, entry.batch.through)
        self.messages += 1
        self.facts += len(entry.batch.facts)


async def verify(
    ledger: Ledger,
    store: Store,
    *,
    services: Iterable[str] = REGISTRY,
    clock: Clock | None = None,
) -> list[LaneReport]:
    """Return a report for every lane that has a snapshot or a log; safe while services run."""
    reports = []
    for service in services:
        for partition in range(PARTITIONS):
            report = await verify_lane(
                ledger, store, Lane(service, partition), clock or SystemClock()
            )
            if report is not None:
                reports.append(report)
    return reports


async def verify_lane(ledger: Ledger, store: Store, lane: Lane, clock: Clock) -> LaneReport | None:
    """Compare one lane's snapshot with its log, or return None where there is neither."""
    saved = await store.load(lane)
    last = await ledger.last(lane)  # after the snapshot, or a live lane would look ahead
    if saved is None and last is None:
        return None
    end = last.seq if last else 0
    until = end if saved is None else min(saved.said, end)
    fold = _Fold(lane.service)
    started_ns = clock.monotonic_ns()
    verdict: Verdict = "identical"
    problem, difference = "", None
    try:
        await _fold(ledger, lane, fold, until)
        difference = _judged(fold, saved, end)
        if difference is not None:
            verdict, problem = "differs", f"first difference at {difference.path}"
    except _FoldError as e:
        verdict, problem = e.verdict, e.problem
    return LaneReport(
        service=lane.service,
        partition=lane.partition,
        verdict=verdict,
        messages=fold.messages,
        facts=fold.facts,
        bytes=len(encode_state(fold.state)),
        said=saved.said if saved else 0,
        duration_ns=clock.monotonic_ns() - started_ns,
        problem=problem,
        difference=difference,
    )


async def _fold(ledger: Ledger, lane: Lane, fold: _Fold, until: int) -> None:
    if until == 0:
        return
    async for run in ledger.read((lane.subjects,), after=0, until=until):
        for entry in run:
            fold.apply(entry)
            if fold.messages % _BREATH == 0:
                await asyncio.sleep(0)  # the connection's heartbeats must not wait for a long log


def _judged(fold: _Fold, saved: Saved | None, end: int) -> Difference | None:
    if saved is None:
        raise _FoldError("unsaved", "no snapshot: the next start rebuilds it from the log")
    if saved.said > end:
        problem = f"the snapshot stands on message {saved.said}, the lane's log ends at {end}"
        raise _FoldError("ahead", problem)
    if saved.said != fold.last:
        problem = f"message {saved.said}, on which the snapshot stands, is not in the lane's log"
        raise _FoldError("broken", problem)
    if saved.cursor < fold.through:
        problem = f"the snapshot heard to {saved.cursor}, its own log says to {fold.through}"
        raise _FoldError("broken", problem)
    return first_difference(saved.state, encode_state(fold.state))


def first_difference(saved: bytes, rebuilt: bytes) -> Difference | None:
    """Return where two encoded states first differ, or None where they are byte for byte equal."""
    if saved == rebuilt:
        return None
    try:
        old: object = msgspec.json.decode(saved)
    except msgspec.DecodeError as e:
        return Difference(path="$", saved=f"not JSON: {e}", rebuilt=_excerpt_bytes(rebuilt))
    path, left, right = _walk("$", old, msgspec.json.decode(rebuilt))
    if path:
        return Difference(path=path, saved=left, rebuilt=right)
    return Difference(  # the same values in other bytes: spacing, order of keys
        path="$", saved=_excerpt_bytes(saved), rebuilt=_excerpt_bytes(rebuilt)
    )


def _walk(path: str, old: object, new: object) -> tuple[str, str, str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old or key not in new:
                return f"{path}.{key}", _side(old, key), _side(new, key)
            found = _walk(f"{path}.{key}", old[key], new[key])
            if found[0]:
                return found
        return "", "", ""
    if isinstance(old, list) and isinstance(new, list):
        for at, (left, right) in enumerate(zip(old, new, strict=False)):
            found = _walk(f"{path}[{at}]", left, right)
            if found[0]:
                return found
        if len(old) != len(new):
            return f"{path}.length", str(len(old)), str(len(new))
        return "", "", ""
    return ("", "", "") if old == new else (path, _excerpt(old), _excerpt(new))


def _side(table: dict[str, Any], key: str) -> str:
    return _excerpt(table[key]) if key in table else "(absent)"


def _excerpt(value: object) -> str:
    return _excerpt_bytes(msgspec.json.encode(value))


def _excerpt_bytes(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
