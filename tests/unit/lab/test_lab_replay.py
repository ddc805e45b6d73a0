"""A state is what its log says, byte for byte; whatever is done to either side is found."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.lab.replay import REGISTRY, LaneReport, first_difference, verify
from shared.domain.messages import Batch, Digest, Fact, encode_batch, kind_of
from shared.runtime.clock import ManualClock
from shared.runtime.digests import hash_of
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Entry, Epoch, Lane, Saved
from shared.runtime.runner import encode_state
from shared.runtime.shape import shape_of
from tests.unit.ctl.ctl_facts import OWNERS, Chain, copied

LANE = Lane("risk", 0)


class Doctored(MemoryLedger):
    """A ledger whose messages can be lost or changed, as no server of ours allows."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[int] = set()

    def _entry(self, seq: int) -> Entry:
        return super()._entry(seq)

    def change(self, seq: int, data: bytes) -> None:
        self._log[seq - 1] = (self._log[seq - 1][0], data)

    def lose(self, seq: int) -> None:
        """Let a message disappear, leaving its number."""
        self._log[seq - 1] = ("elsewhere", b"")

    def data(self, seq: int) -> bytes:
        return self._log[seq - 1][1]


async def lived(chain: Chain, epochs: Callable[[int], int] = lambda n: 1) -> Any:
    """Return the ledger and the snapshots that the services leave after saying these facts."""
    ledger, store = Doctored(), MemoryStore()
    states = {service: kind() for service, (kind, _) in REGISTRY.items()}
    said = dict.fromkeys(OWNERS.values(), 0)
    for number, fact in enumerate(chain.facts):
        service = OWNERS[type(fact)]
        lane = Lane(service, 0)
        batch = Batch(epoch=epochs(number), through=number, facts=(fact,))
        said[service] = await ledger.append(lane, batch, key="facts", after=said[service])
        if service in REGISTRY:
            REGISTRY[service][1](states[service], fact)
            shape = shape_of(REGISTRY[service][0])
            state = encode_state(states[service])
            snapshot = Saved(state, number, said[service], Epoch(1), shape)
            await store.save(lane, snapshot, {})
    return ledger, store


def story() -> Chain:
    """Return a chain that every core can fold: the leader is followed before he trades."""
    chain = copied()
    beginning = Chain()
    leader = chain.facts[0]
    follow = _baseline(leader)
    beginning.facts = [follow, *chain.facts]
    return beginning


def _baseline(fill: Any) -> Fact:
    from shared.domain.messages import LeaderBaselineRead

    return LeaderBaselineRead(
        id="0" * 32, cause="", root="0" * 32, ts_ns=0, leader=fill.leader, holdings=(), rows=(),
        through_s=0, kept_s=0,
    )  # fmt: skip


def of(reports: list[LaneReport], service: str = "risk") -> LaneReport:
    (report,) = [report for report in reports if report.service == service]
    return report


async def test_every_service_that_lived_is_identical() -> None:
    ledger, store = await lived(story())
    reports = await verify(ledger, store, clock=ManualClock())
    services = [report.service for report in reports]
    assert services == ["ledger", "ingester", "aggregator", "risk", "executor"]
    assert all(report.identical and report.verdict == "identical" for report in reports)
    assert reports[0].facts == sum(report.facts for report in reports[1:]) == len(story().facts)
    assert of(reports).said == store.snapshots[LANE.name].said


async def test_a_flipped_byte_of_a_snapshot_is_found_with_its_path() -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    flipped = saved.state.replace(b'"realised_today":250000', b'"realised_today":250001')
    assert flipped != saved.state
    store.snapshots[LANE.name] = msgspec.structs.replace(saved, state=flipped)
    report = of(await verify(ledger, store))
    assert not report.identical
    assert report.verdict == "differs"
    assert report.difference is not None
    assert report.difference.path == "$.realised_today"
    assert (report.difference.saved, report.difference.rebuilt) == ("250001", "250000")


@pytest.mark.parametrize("at", range(0, 400, 37))
async def test_any_flipped_byte_of_a_snapshot_is_found(at: int) -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    spoiled = bytearray(saved.state)
    spoiled[at % len(spoiled)] ^= 1
    store.snapshots[LANE.name] = msgspec.structs.replace(saved, state=bytes(spoiled))
    assert of(await verify(ledger, store)).verdict == "differs"


async def digested(chain: Chain, spoil: int = -1) -> tuple[Doctored, MemoryStore]:
    """Return what risk leaves that puts a digest on every third message, one of them wrong."""
    ledger, store = await lived(chain)
    kind, evolve = REGISTRY["risk"]
    state, said = kind(), 0
    for number, seq in enumerate(seqs_of(ledger, "risk")):
        entry = ledger._entry(seq)
        assert entry.batch is not None
        if number % 3 == 1:
            told = hash_of(encode_state(state)) if number != spoil else "0" * 32
            digest = Digest(said=said, shape=shape_of(kind), hash=told)
            ledger.change(seq, encode_batch(msgspec.structs.replace(entry.batch, digest=digest)))
        for fact in entry.batch.facts:
            evolve(state, fact)
        said = seq
    return ledger, store


async def test_digests_on_the_way_agree_and_are_counted() -> None:
    ledger, store = await digested(story())
    report = of(await verify(ledger, store))
    assert report.verdict == "identical"
    assert report.digests == len(seqs_of(ledger, "risk")[1::3]) > 1


async def test_a_state_that_was_not_what_its_writer_had_is_told_with_its_place() -> None:
    """The fold at the head agrees with the snapshot: only the digest knows that it once did not."""
    ledger, store = await digested(story(), spoil=4)
    report = of(await verify(ledger, store))
    assert report.verdict == "digest"
    seqs = seqs_of(ledger, "risk")
    assert f"after message {seqs[3]} the state is not what its writer had" in report.problem
    assert f"after message {seqs[0]}" in report.problem


async def test_a_digest_of_another_versions_state_is_passed_over() -> None:
    ledger, store = await digested(story())
    for seq in seqs_of(ledger, "risk"):
        batch = ledger._entry(seq).batch
        assert batch is not None
        if batch.digest is not None:
            other = msgspec.structs.replace(batch.digest, shape="another", hash="0" * 32)
            ledger.change(seq, encode_batch(msgspec.structs.replace(batch, digest=other)))
    report = of(await verify(ledger, store))
    assert (report.verdict, report.digests) == ("identical", 0)


def seqs_of(ledger: Doctored, service: str) -> list[int]:
    entries = [ledger._entry(seq) for seq in range(1, len(ledger._log) + 1)]
    return [entry.seq for entry in entries if entry.subject.startswith(f"driftless.{service}.")]


@pytest.mark.parametrize("service", ["aggregator", "risk", "executor"])
@pytest.mark.parametrize("which", [0, 1, -1])
async def test_a_missing_message_is_found(service: str, which: int) -> None:
    ledger, store = await lived(story())
    seq = seqs_of(ledger, service)[which]
    ledger.lose(seq)
    whole = (await verify(ledger, store))[0]
    assert not whole.identical
    assert whole.problem == f"messages are missing: {seq} to {seq}"


@pytest.mark.parametrize("service", ["ingester", "aggregator", "risk", "executor"])
async def test_the_last_message_of_a_lane_is_missed_by_its_snapshot_too(service: str) -> None:
    ledger, store = await lived(story())
    ledger.lose(seqs_of(ledger, service)[-1])
    report = of(await verify(ledger, store), service)
    assert report.verdict == "ahead"


async def test_a_hole_at_the_end_of_the_ledger_is_found() -> None:
    ledger, store = await lived(story())
    ledger.lose(await ledger.head())
    assert not (await verify(ledger, store))[0].identical


async def test_a_message_that_cannot_be_read_is_found() -> None:
    ledger, store = await lived(story())
    seq = seqs_of(ledger, "risk")[1]
    ledger.change(seq, b'{"facts": "none"}')
    report = of(await verify(ledger, store))
    assert report.verdict == "undecodable"
    assert f"message {seq} " in report.problem


async def test_a_changed_message_is_found() -> None:
    ledger, store = await lived(story())
    for seq in seqs_of(ledger, "risk"):
        changed = ledger.data(seq).replace(b'"realised":250000', b'"realised":260000')
        if changed != ledger.data(seq):
            ledger.change(seq, changed)
    assert of(await verify(ledger, store)).verdict == "differs"


async def test_a_snapshot_ahead_of_the_ledger_is_found() -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    store.snapshots[LANE.name] = msgspec.structs.replace(saved, said=saved.said + 1_000)
    report = of(await verify(ledger, store))
    assert report.verdict == "ahead"
    assert str(saved.said + 1_000) in report.problem


async def test_a_snapshot_behind_its_own_log_is_faithful_as_of_then() -> None:
    """A crash between publishing and saving is ordinary: the state is compared where it stands."""
    ledger, store = await lived(story())
    kind, evolve = REGISTRY["risk"]
    state, seqs = kind(), seqs_of(ledger, "risk")
    for seq in seqs[:3]:
        batch = ledger._entry(seq).batch
        assert batch is not None
        evolve(state, batch.facts[0])
    saved = Saved(encode_state(state), seqs[2], seqs[2], Epoch(1), shape_of(kind))
    store.snapshots[LANE.name] = saved
    assert of(await verify(ledger, store)).verdict == "identical"


async def test_a_snapshot_of_another_version_is_not_compared_with_this_one() -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    old = msgspec.structs.replace(saved, state=b'{"older":1}', shape="another")
    store.snapshots[LANE.name] = old
    report = of(await verify(ledger, store))
    assert (report.verdict, report.identical) == ("unsaved", True)
    assert "another version" in report.problem


async def test_a_snapshot_that_heard_less_than_it_said_is_found() -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    store.snapshots[LANE.name] = msgspec.structs.replace(saved, cursor=0)
    assert of(await verify(ledger, store)).verdict == "broken"


async def test_an_older_writer_after_a_newer_one_is_found() -> None:
    ledger, store = await lived(story(), epochs=lambda number: 3 if number < 12 else 2)
    reports = await verify(ledger, store)
    assert "epoch" in {report.verdict for report in reports}


async def test_a_lost_snapshot_is_no_contradiction() -> None:
    ledger, store = await lived(story())
    del store.snapshots[LANE.name]
    report = of(await verify(ledger, store))
    assert report.identical
    assert report.verdict == "unsaved"
    assert report.facts > 0


async def test_a_lane_that_never_was_is_not_reported() -> None:
    assert await verify(MemoryLedger(), MemoryStore()) == []


@pytest.mark.parametrize(
    ("saved", "rebuilt", "path"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "$.a.b[1]"),
        ({"a": 1}, {"a": 1, "b": 2}, "$.b"),
        ({"a": [1]}, {"a": [1, 2]}, "$.a.length"),
        ({"b": 2, "a": 1}, {"a": 2, "b": 3}, "$.a"),
    ],
)
def test_the_first_difference_is_named(saved: Any, rebuilt: Any, path: str | None) -> None:
    found = first_difference(msgspec.json.encode(saved), msgspec.json.encode(rebuilt))
    assert (found.path if found else None) == path


def test_equal_values_in_other_bytes_are_a_difference_too() -> None:
    found = first_difference(b'{"a": 1}', b'{"a":1}')
    assert found is not None
    assert found.path == "$"


def test_the_registry_knows_each_services_own_facts() -> None:
    """Each core folds its own facts; a fact of another's is impossible and ends the fold."""
    chain = story()
    for service, (kind, evolve) in REGISTRY.items():
        state = kind()
        for fact in chain.facts:
            if OWNERS[type(fact)] == service:
                evolve(state, fact)
            else:
                with pytest.raises(AssertionError, match="not a fact of"):
                    evolve(kind(), fact)
        assert kind_of(chain.facts[0])
