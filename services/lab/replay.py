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
from shared.domain.messages import Digest, Fact, kind_of
from shared.domain.units import NS_PER_S
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.digests import hash_of
from shared.runtime.ports import Entry, Lane, Ledger, Saved, Store
from shared.runtime.runner import encode_state
from shared.runtime.shape import shape_of

Evolve = Callable[[Any, Fact], None]
Verdict = Literal[
    "identical", "unsaved", "differs", "digest", "undecodable", "broken", "ahead", "epoch"
]

REGISTRY: Final[dict[str, tuple[type[Any], Evolve]]] = {
    "ingester": (ingester.State, ingester.evolve),
    "aggregator": (aggregator.State, aggregator.evolve),
    "risk": (risk.State, risk.evolve),
    "executor": (executor.State, executor.evolve),
    "reconciler": (reconciler.State, reconciler.evolve),
}
_EXCERPT: Final = 120  # characters of a differing value that are shown
LEDGER: Final = "ledger"  # the name under which the ledger itself is reported
_ALL: Final = "driftless.>"
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
    differs; digest (at a digest on record the state is not what its writer had); undecodable (a
    message cannot be read); broken (the log does not fold, lacks the
    message the snapshot stands on, or heard further than the snapshot says); ahead (the snapshot
    stands on a message that the ledger has lost); epoch (an older writer wrote after a newer).
    The ledger itself is reported as a lane named LEDGER: broken where a number is missing.
    """

    service: str
    partition: int
    verdict: Verdict
    messages: int
    facts: int
    bytes: int  # of the rebuilt state
    said: int  # the last message that is in the snapshot
    duration_ns: int
    digests: int = 0  # on record, with which the rebuilt state agreed
    problem: str = ""
    difference: Difference | None = None

    @property
    def identical(self) -> bool:
        """Tell whether nothing contradicts the log."""
        return self.verdict in ("identical", "unsaved")

    @property
    def facts_per_s(self) -> int:
        return self.facts * NS_PER_S // self.duration_ns if self.duration_ns else 0


class _Fold:
    """A state as it grows out of a lane's log, and what is wrong with that log, if anything."""

    def __init__(self, lane: Lane, saved: Saved | None, clock: Clock) -> None:
        kind, self._evolve = REGISTRY[lane.service]
        self.state = kind()
        self._lane, self._saved, self._clock = lane, saved, clock
        self._epoch = self._through = self._last = self._end = 0
        self._messages = self._facts = self._took_ns = 0
        self._digests = self._agreed = 0  # how many agreed; the message of the last that did
        self._shape = shape_of(kind)
        self._trouble: tuple[Verdict, str] | None = None

    def hear(self, entry: Entry) -> None:
        """Apply a message of the lane's, unless the snapshot was taken before it."""
        self._end = entry.seq
        after = self._saved is not None and entry.seq > self._saved.said
        if after or self._trouble is not None:
            return
        started_ns = self._clock.monotonic_ns()
        self._trouble = self._apply(entry)
        self._took_ns += self._clock.monotonic_ns() - started_ns

    def _apply(self, entry: Entry) -> tuple[Verdict, str] | None:
        batch = entry.batch
        if batch is None:
            problem = f"message {entry.seq} ({entry.subject}) cannot be read: {entry.error}"
            return "undecodable", problem
        if batch.epoch < self._epoch:
            problem = f"message {entry.seq} of epoch {batch.epoch} follows epoch {self._epoch}"
            return "epoch", problem
        if batch.digest is not None and (trouble := self._compare(batch.digest, entry.seq)):
            return trouble
        for fact in batch.facts:
            try:
                self._evolve(self.state, fact)
            except _UNFIT as e:
                said = f"{type(e).__name__}: {e}"[:_EXCERPT]
                problem = f"message {entry.seq} ({kind_of(fact)}) does not fit its state: {said}"
                return "broken", problem
        self._epoch, self._last = batch.epoch, entry.seq
        self._through = max(self._through, batch.through)
        self._messages += 1
        self._facts += len(batch.facts)
        return None

    def _compare(self, digest: Digest, seq: int) -> tuple[Verdict, str] | None:
        if digest.said != self._last:
            problem = f"message {seq} follows message {digest.said}, which is not in the log"
            return "broken", problem
        if digest.shape != self._shape:
            return None  # another version's state has other bytes
        if digest.hash != hash_of(encode_state(self.state)):
            since = f"message {self._agreed}" if self._agreed else "its beginning"
            problem = (
                f"after message {digest.said} the state is not what its writer had: "
                f"they part somewhere after {since}"
            )
            return "digest", problem
        self._digests, self._agreed = self._digests + 1, digest.said
        return None

    def report(self) -> LaneReport:
        """Return the verdict, once everything was heard."""
        rebuilt = encode_state(self.state)
        difference = None
        verdict, problem = self._trouble or self._judged()
        if verdict == "identical" and self._saved is not None:
            difference = first_difference(self._saved.state, rebuilt)
        if difference is not None:
            verdict, problem = "differs", f"first difference at {difference.path}"
        return LaneReport(
            service=self._lane.service,
            partition=self._lane.partition,
            verdict=verdict,
            messages=self._messages,
            facts=self._facts,
            bytes=len(rebuilt),
            said=self._saved.said if self._saved else 0,
            duration_ns=self._took_ns,
            digests=self._digests,
            problem=problem,
            difference=difference,
        )

    def _judged(self) -> tuple[Verdict, str]:
        if self._saved is None:
            return "unsaved", "no snapshot: the next start rebuilds it from the log"
        said, cursor = self._saved.said, self._saved.cursor
        if said > self._end:
            return "ahead", f"the snapshot stands on message {said}, the log ends at {self._end}"
        if said != self._last:
            return "broken", f"message {said}, on which the snapshot stands, is not in the log"
        if cursor < self._through:
            return "broken", f"the snapshot heard to {cursor}, its own log says to {self._through}"
        if self._saved.shape != shape_of(REGISTRY[self._lane.service][0]):
            return "unsaved", "a snapshot of another version: the next start rebuilds it"
        return "identical", ""


class _Numbers:
    """The ledger's sequence: every number once, from the first to the last."""

    def __init__(self) -> None:
        self._next = 1
        self._holes: list[str] = []
        self.messages = 0

    def hear(self, seq: int) -> None:
        if seq != self._next:
            self._holes.append(f"{self._next} to {seq - 1}")
        self._next = seq + 1

    def report(self, head: int, facts: int, took_ns: int) -> LaneReport:
        self.hear(head + 1)
        problem = f"messages are missing: {', '.join(self._holes)[:_EXCERPT]}"
        return LaneReport(
            service=LEDGER,
            partition=0,
            verdict="broken" if self._holes else "identical",
            messages=self.messages,
            facts=facts,
            bytes=0,
            said=head,
            duration_ns=took_ns,
            problem=problem if self._holes else "",
        )


async def verify(
    ledger: Ledger,
    store: Store,
    *,
    services: Iterable[str] = REGISTRY,
    clock: Clock | None = None,
) -> list[LaneReport]:
    """Return a report on the ledger itself and on every lane that has a snapshot or a log.

    One pass over the whole ledger; safe while services run. Empty where there is nothing.
    """
    clock = clock or SystemClock()
    started_ns = clock.monotonic_ns()
    wanted = list(services)
    folds: dict[Lane, _Fold] = {}
    for lane in (Lane(service, p) for service in wanted for p in range(PARTITIONS)):
        saved = await store.load(lane)
        if saved is not None:
            folds[lane] = _Fold(lane, saved, clock)
    head = await ledger.head()  # after the snapshots, or a live lane would look ahead
    if head == 0 and not folds:
        return []
    numbers = _Numbers()
    if head:
        async for run in ledger.read((_ALL,), after=0, until=head):
            for entry in run:
                numbers.hear(entry.seq)
                numbers.messages += 1
                author = lane_of(entry.subject)
                if author is not None and author.service in wanted:
                    if author not in folds:
                        folds[author] = _Fold(author, None, clock)
                    folds[author].hear(entry)
            await asyncio.sleep(0)  # the connection's heartbeats must not wait for a long log
    order = sorted(folds, key=lambda lane: (wanted.index(lane.service), lane.partition))
    reports = [folds[lane].report() for lane in order]
    facts = sum(report.facts for report in reports)
    return [numbers.report(head, facts, clock.monotonic_ns() - started_ns), *reports]


def lane_of(subject: str) -> Lane | None:
    """Return whose log a subject belongs to, None where it is no lane's."""
    tokens = subject.split(".")
    if len(tokens) < 5 or tokens[1] not in REGISTRY or not tokens[3].isdigit():
        return None
    return Lane(tokens[1], int(tokens[3]))


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
