"""The ledger in files: complete, checked, continued, and put back under the same numbers."""

import gzip
from pathlib import Path

import msgspec
import pytest

from services.ctl.servers import LocalServers
from services.lab import archive as archives
from services.lab.archive import Archive, ArchiveError, restore, write
from services.lab.replay import verify
from shared.domain.messages import Batch, HaltTrading
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.jetstream import check_whole
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Entry, Lane, Ledger
from tests.support.servers import nats_client, wipe

ALL = ("driftless.>",)
LANES = [Lane("ctl", partition) for partition in range(3)]


def quiet(_done: int, _total: int) -> None:
    pass


async def say(ledger: Ledger, count: int, *, since: int = 0) -> None:
    for number in range(since, since + count):
        lane = LANES[number % 3]
        last = await ledger.last(lane)
        halt = HaltTrading(id=f"h{number}", cause="", root="", ts_ns=1, reason="né\n", actor="a")
        batch = Batch(epoch=1, through=number, facts=(halt,))
        await ledger.append(lane, batch, key="facts", after=last.seq if last else 0)


async def everything(ledger: Ledger) -> list[Entry]:
    found: list[Entry] = []
    async for run in ledger.read(ALL, after=0, until=await ledger.head()):
        found += run
    return found


def plain(entries: list[Entry]) -> list[tuple[int, str, bytes, int]]:
    return [(entry.seq, entry.subject, entry.data, entry.time_ns) for entry in entries]


async def test_a_ledger_comes_back_as_it_was(servers: LocalServers, tmp_path: Path) -> None:
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        ledger = NatsLedger(client)
        await say(ledger, 40)
        await client.jetstream().publish("driftless.ctl.x.00.k", b"\x00no batch\n")
        await say(ledger, 3, since=40)
        await write(ledger, tmp_path, progress=quiet)
        before = await everything(ledger)
        assert plain(await everything(Archive(tmp_path))) == plain(before)
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        await restore(client, Archive(tmp_path), progress=quiet)
        await check_whole(client)
        ledger = NatsLedger(client)
        assert plain(await everything(ledger)) == plain(before), "times too: when it was first said"
        await say(ledger, 1, since=50)  # and it goes on
        assert await ledger.head() == len(before) + 1
        told = await client.jetstream().stream_info("LEDGER")
        assert told.config.subject_transform is None
        with pytest.raises(ArchiveError, match="there is a ledger of 45 messages"):
            await restore(client, Archive(tmp_path), progress=quiet)


async def test_an_archive_grows_by_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SEGMENT_MAX", 10)
    ledger = MemoryLedger()
    await say(ledger, 25)
    first = await write(ledger, tmp_path, progress=quiet)
    assert [(each.first, each.last) for each in first.segments] == [(1, 10), (11, 20), (21, 25)]
    assert await write(ledger, tmp_path, progress=quiet) == first, "nothing new, nothing written"
    await say(ledger, 4, since=25)
    second = await write(ledger, tmp_path, progress=quiet)
    assert second.segments[:3] == first.segments
    assert (second.segments[3].first, second.last) == (26, 29)
    assert plain(await everything(Archive(tmp_path))) == plain(await everything(ledger))
    some = [e.seq async for run in Archive(tmp_path).read(ALL, after=8, until=22) for e in run]
    assert some == list(range(9, 23))
    lane = await Archive(tmp_path).last(LANES[1])
    assert lane is not None
    assert lane.seq == 29


async def test_another_ledgers_archive_is_not_continued(tmp_path: Path) -> None:
    one, other = MemoryLedger(), MemoryLedger()
    await say(one, 5)
    await write(one, tmp_path, progress=quiet)
    await say(other, 9, since=100)
    with pytest.raises(ArchiveError, match="another ledger's"):
        await write(other, tmp_path, progress=quiet)
    with pytest.raises(ArchiveError, match="goes to message 5 and the ledger to 0"):
        await write(MemoryLedger(), tmp_path, progress=quiet)


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove", "manifest", "skip"])
async def test_a_damaged_archive_is_refused_with_the_file(tmp_path: Path, spoil: str) -> None:
    ledger = MemoryLedger()
    await say(ledger, 5)
    manifest = await write(ledger, tmp_path, progress=quiet)
    path = tmp_path / manifest.segments[0].file
    data = path.read_bytes()
    match spoil:
        case "flip":
            path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        case "cut":
            path.write_bytes(data[:-3])
        case "remove":
            path.unlink()
        case "manifest":
            (tmp_path / archives.MANIFEST).write_bytes(b"{")
        case "skip":
            segment = msgspec.structs.replace(manifest.segments[0], first=2)
            told = msgspec.structs.replace(manifest, segments=(segment,))
            (tmp_path / archives.MANIFEST).write_bytes(msgspec.json.encode(told))
    with pytest.raises(ArchiveError, match=r"jsonl\.gz|manifest\.json"):
        await everything(Archive(tmp_path))


async def test_no_archive_is_told_apart_from_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"is no archive: it has no manifest\.json"):
        Archive(tmp_path)


async def test_an_archive_is_verified_without_a_server(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    await say(ledger, 5)
    await write(ledger, tmp_path, progress=quiet)
    (whole,) = await verify(Archive(tmp_path), MemoryStore())
    assert (whole.verdict, whole.messages) == ("identical", 5)
    lines = gzip.decompress(next(tmp_path.glob("*.gz")).read_bytes()).splitlines()
    assert msgspec.json.decode(lines[0])["batch"]["facts"][0]["id"] == "h0", "people can read it"
