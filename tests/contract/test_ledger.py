"""What a ledger promises, whatever it is made of."""

import asyncio

import pytest

from shared.domain.messages import Batch, HaltTrading, ResumeTrading
from shared.runtime.ports import Entry, FencedError, Lane, Ledger, subjects_of

CTL = Lane("ctl", 3)  # the tests' user may publish under this prefix


def halt(name: str) -> HaltTrading:
    return HaltTrading(id=name, cause="", root=name, ts_ns=1, reason="r", actor="a")


def batch(*names: str, through: int = 0, epoch: int = 1) -> Batch:
    return Batch(epoch=epoch, through=through, facts=tuple(halt(name) for name in names))


async def entries(ledger: Ledger, *filters: str, after: int = 0) -> list[Entry]:
    found: list[Entry] = []
    async for run in ledger.read(filters, after=after, until=await ledger.head()):
        found += run
    return found


def ids(found: list[Entry]) -> list[list[str]]:
    return [[fact.id for fact in entry.batch.facts] if entry.batch else [] for entry in found]


async def test_an_empty_ledger_has_no_last_message_and_nothing_to_read(ledger: Ledger) -> None:
    assert await ledger.last(CTL) is None
    assert await ledger.head() == 0
    assert await entries(ledger, "driftless.>") == []


async def test_what_is_appended_is_read_in_order_with_its_sequence(ledger: Ledger) -> None:
    first = await ledger.append(CTL, batch("a"), key="k", after=0)
    second = await ledger.append(CTL, batch("b", "c", through=7), key="k", after=first)
    found = await entries(ledger, CTL.subjects)
    assert [entry.seq for entry in found] == [first, second] == [1, 2]
    assert ids(found) == [["a"], ["b", "c"]]
    assert found[1].batch is not None
    assert found[1].batch.through == 7


async def test_the_subject_names_author_kind_partition_and_key(ledger: Ledger) -> None:
    seq = await ledger.append(CTL, batch("a"), key="k", after=0)
    mixed = Batch(
        epoch=1,
        through=0,
        facts=(
            halt("b"),
            ResumeTrading(id="c", cause="", root="c", ts_ns=1, reason="r", actor="a"),
        ),
    )
    await ledger.append(CTL, mixed, key="k", after=seq)
    found = await entries(ledger, "driftless.>")
    assert [entry.subject for entry in found] == [
        "driftless.ctl.halt_trading.03.k",
        "driftless.ctl.several.03.k",
    ]


async def test_the_same_batch_appended_again_is_stored_once(ledger: Ledger) -> None:
    seq = await ledger.append(CTL, batch("a"), key="k", after=0)
    assert await ledger.append(CTL, batch("a"), key="k", after=0) == seq
    assert len(await entries(ledger, "driftless.>")) == 1


async def test_a_writer_that_missed_a_message_of_its_lane_is_fenced(ledger: Ledger) -> None:
    await ledger.append(CTL, batch("a"), key="k", after=0)
    with pytest.raises(FencedError):
        await ledger.append(CTL, batch("b"), key="k", after=0)
    assert ids(await entries(ledger, "driftless.>")) == [["a"]]


async def test_lanes_of_one_service_do_not_fence_each_other(ledger: Ledger) -> None:
    other = Lane("ctl", 4)
    await ledger.append(CTL, batch("a"), key="k", after=0)
    assert await ledger.append(other, batch("b"), key="k", after=0) == 2
    last = await ledger.last(CTL)
    assert last is not None
    assert last.seq == 1


async def test_last_returns_the_newest_message_of_the_lane(ledger: Ledger) -> None:
    seq = await ledger.append(CTL, batch("a"), key="k", after=0)
    await ledger.append(CTL, batch("b"), key="k", after=seq)
    last = await ledger.last(CTL)
    assert last is not None
    assert ids([last]) == [["b"]]


async def test_reading_resumes_after_a_sequence_and_ends_at_another(ledger: Ledger) -> None:
    at = 0
    for name in "abcde":
        at = await ledger.append(CTL, batch(name), key="k", after=at)
    found = [e async for run in ledger.read(("driftless.>",), after=2, until=4) for e in run]
    assert [entry.seq for entry in found] == [3, 4]


async def test_filters_select_by_service_and_partition(ledger: Ledger) -> None:
    await ledger.append(CTL, batch("a"), key="k", after=0)
    await ledger.append(Lane("ctl", 4), batch("b"), key="k", after=0)
    assert ids(await entries(ledger, subjects_of("ctl", 4))) == [["b"]]
    assert ids(await entries(ledger, subjects_of("ctl"))) == [["a"], ["b"]]
    assert await entries(ledger, subjects_of("risk")) == []


async def test_a_waiting_reader_sees_what_comes_later(ledger: Ledger) -> None:
    seen: list[int] = []

    async def listen() -> None:
        async for run in ledger.read(("driftless.>",), after=0):
            seen.extend(entry.seq for entry in run)
            if len(seen) >= 3:
                return

    listening = asyncio.create_task(listen())
    at = 0
    for name in "abc":
        at = await ledger.append(CTL, batch(name), key="k", after=at)
    await asyncio.wait_for(listening, 10)
    assert seen == [1, 2, 3]


async def test_a_long_log_is_read_whole_and_in_order(ledger: Ledger) -> None:
    count, at = 2_500, 0
    for start in range(0, count, 10):
        names = [str(n) for n in range(start, start + 10)]
        at = await ledger.append(CTL, batch(*names), key="k", after=at)
    found = await entries(ledger, "driftless.>")
    assert [name for run in ids(found) for name in run] == [str(n) for n in range(count)]
    assert [entry.seq for entry in found] == list(range(1, count // 10 + 1))
