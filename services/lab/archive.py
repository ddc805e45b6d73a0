"""The ledger in compressed files: written once, checked whenever read, put back number by number.

A folder holds ``manifest.json`` and segments of JSON lines, gzipped, each with its SHA-256 in the
manifest. A line is a message: its sequence, when the broker stored it (ns), its subject, and the
batch as it was written, byte for byte; ``zcat`` and ``jq`` read it. Segments follow each other
without a gap from message 1, so a folder stands for the ledger to any reader of one.
"""

import asyncio
import base64
import gzip
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.domain.messages import Batch
from shared.runtime.bus import STORED
from shared.runtime.jetstream import api
from shared.runtime.memory import entry_from, matches
from shared.runtime.ports import Entry, Lane, Ledger
from shared.runtime.streams import STREAM, STREAMS

MANIFEST: Final = "manifest.json"
SEGMENT_MAX: Final = 50_000  # messages
_RUN: Final = 500  # messages that are read, or under way, at a time
_ACK_DEADLINE_S: Final = 30
_RESTORING: Final = "driftless.ctl.restore"  # what ctl may publish; the stream maps it back
_ALL: Final = ("driftless.>",)
_NULL: Final = msgspec.Raw(b"null")


class ArchiveError(Exception):
    """An archive that cannot be read, or written to, or put back; the text says what to do."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One file: messages ``first`` to ``last``."""

    file: str
    first: int
    last: int
    first_ns: int
    last_ns: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    version: int = 1
    stream: str = STREAM
    segments: tuple[Segment, ...] = ()

    @property
    def last(self) -> int:
        return self.segments[-1].last if self.segments else 0


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    seq: int
    ns: int
    subject: str
    batch: msgspec.Raw = _NULL
    data: str = ""  # base64 of what is no batch

    @property
    def payload(self) -> bytes:
        batch = bytes(self.batch)
        return base64.b64decode(self.data) if batch == b"null" else batch


class Archive:
    """A folder, read as a ledger is. It is never written through this port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)

    async def head(self) -> int:
        return self.manifest.last

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        """Yield what matches, in runs; ends with the archive. Raises ArchiveError."""
        run: list[Entry] = []
        for line in self.lines(after=after, until=until):
            if any(matches(line.subject, each) for each in filters):
                run.append(entry_from(line.seq, line.subject, line.payload, line.ns))
            if len(run) == _RUN:
                yield run
                run = []
        if run:
            yield run

    async def last(self, lane: Lane) -> Entry | None:
        found: Entry | None = None
        async for run in self.read((lane.subjects,), after=0):
            found = run[-1]
        return found

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        raise ArchiveError("an archive is not written to: `driftless restore` makes a ledger of it")

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        raise ArchiveError("an archive is not written to")

    def lines(self, *, after: int = 0, until: int | None = None) -> Iterator[Line]:
        """Yield the messages after a sequence, each segment checked before its first line."""
        end = self.manifest.last if until is None else min(until, self.manifest.last)
        for segment in self.manifest.segments:
            if segment.last > after and segment.first <= end:
                for line in _lines_of(self.folder, segment):
                    if after < line.seq <= end:
                        yield line


def read_manifest(folder: Path) -> Manifest:
    """Return what a folder says it holds; raises ArchiveError."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ArchiveError(f"{folder} is no archive: it has no {MANIFEST}") from None
    except (OSError, msgspec.DecodeError) as e:
        raise ArchiveError(f"{path} cannot be read: {e}") from None
    if manifest.version != 1:
        raise ArchiveError(f"{path} is of version {manifest.version}: a newer release reads it")
    due = 1
    for segment in manifest.segments:
        if segment.first != due or segment.last < segment.first:
            raise ArchiveError(f"{path}: {segment.file} begins at {segment.first}, not {due}")
        due = segment.last + 1
    return manifest


def _lines_of(folder: Path, segment: Segment) -> Iterator[Line]:
    path = folder / segment.file
    try:
        packed = path.read_bytes()
    except OSError as e:
        raise ArchiveError(f"{path}: {e.strerror}: take it from another copy") from None
    if hashlib.sha256(packed).hexdigest() != segment.sha256:
        raise ArchiveError(f"{path} is not what was written: take it from another copy")
    due = segment.first
    for text in gzip.decompress(packed).splitlines():
        line = msgspec.json.decode(text, type=Line)
        if line.seq != due:
            raise ArchiveError(f"{path}: message {line.seq} stands where {due} should")
        due += 1
        yield line
    if due != segment.last + 1:
        raise ArchiveError(f"{path} ends at message {due - 1}, not {segment.last}")


# --- writing ------------------------------------------------------------------------------------


async def write(ledger: Ledger, folder: Path, *, progress: Callable[[int, int], None]) -> Manifest:
    """Add to a folder what the ledger has beyond it; ``progress`` is told message and head.

    Each segment is on disk before the manifest names it, so an interrupted run loses only time.
    """
    manifest = opened(folder)
    head = await ledger.head()
    if head < manifest.last:
        raise ArchiveError(
            f"{folder} goes to message {manifest.last} and the ledger to {head}: it is another "
            "ledger's, or this one lost its end; give another folder"
        )
    await _same(ledger, folder, manifest)
    waiting: list[Entry] = []
    async for run in ledger.read(_ALL, after=manifest.last, until=head):
        waiting += run
        while len(waiting) >= SEGMENT_MAX:
            manifest = _add(folder, manifest, waiting[:SEGMENT_MAX])
            waiting = waiting[SEGMENT_MAX:]
        progress(run[-1].seq, head)
    return _add(folder, manifest, waiting) if waiting else manifest


def opened(folder: Path) -> Manifest:
    """Return what a folder holds so far, which may be nothing yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return read_manifest(folder) if (folder / MANIFEST).exists() else Manifest()


async def _same(ledger: Ledger, folder: Path, manifest: Manifest) -> None:
    """Refuse to continue an archive whose last message is not the ledger's."""
    if not manifest.last:
        return
    async for run in ledger.read(_ALL, after=manifest.last - 1, until=manifest.last):
        *_, last = Archive(folder).lines(after=manifest.last - 1)
        if (run[-1].seq, run[-1].data) == (last.seq, last.payload):
            return
    raise ArchiveError(f"{folder} is another ledger's: give another folder")


def _add(folder: Path, manifest: Manifest, entries: list[Entry]) -> Manifest:
    first, last = entries[0], entries[-1]
    if first.seq != manifest.last + 1 or last.seq - first.seq + 1 != len(entries):
        raise ArchiveError(f"the ledger lacks messages after {manifest.last}: `driftless verify`")
    text = b"".join(_encoder.encode(_line(entry)) + b"\n" for entry in entries)
    packed = gzip.compress(text, mtime=0)
    name = f"{first.seq:012d}-{last.seq:012d}.jsonl.gz"
    _replace(folder / name, packed)
    segment = Segment(
        file=name,
        first=first.seq,
        last=last.seq,
        first_ns=first.time_ns,
        last_ns=last.time_ns,
        bytes=len(packed),
        sha256=hashlib.sha256(packed).hexdigest(),
    )
    grown = msgspec.structs.replace(manifest, segments=(*manifest.segments, segment))
    _replace(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(grown), indent=1))
    return grown


_encoder = msgspec.json.Encoder()


def _line(entry: Entry) -> Line:
    as_json = entry.batch is not None and b"\n" not in entry.data
    return Line(
        seq=entry.seq,
        ns=entry.time_ns,
        subject=entry.subject,
        batch=msgspec.Raw(entry.data) if as_json else _NULL,
        data="" if as_json else base64.b64encode(entry.data).decode(),
    )


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, on disk, or not at all."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


# --- putting back -------------------------------------------------------------------------------


async def restore(
    client: Client, archive: Archive, *, progress: Callable[[int, int], None]
) -> None:
    """Make the ledger anew from an archive: the same messages under the same numbers.

    Refused where a ledger holds messages. The user ctl may publish under its own name only, so
    while the stream is filled it maps what ctl says back to the subjects it had.
    """
    (config,) = [dict(each) for each in STREAMS if each["name"] == STREAM]
    answer = await api(client, f"STREAM.INFO.{STREAM}", {})
    if "error" not in answer:
        if answer["state"]["last_seq"]:
            last = answer["state"]["last_seq"]
            raise ArchiveError(
                f"there is a ledger of {last:,} messages: nothing is written over it. If it is "
                f"damaged, move NATS's files away, start NATS anew and restore then"
            )
        await _ask(client, f"STREAM.DELETE.{STREAM}", {})
    mapped = {"src": f"{_RESTORING}.>", "dest": "driftless.>"}
    await _ask(client, f"STREAM.CREATE.{STREAM}", config | {"subject_transform": mapped})
    acks = await _Acks.listen(client)
    waiting: list[Line] = []
    for line in archive.lines():
        waiting.append(line)
        if len(waiting) == _RUN:
            await acks.put(waiting)
            progress(line.seq, archive.manifest.last)
            waiting = []
    await acks.put(waiting)
    await acks.close()
    await _ask(client, f"STREAM.UPDATE.{STREAM}", config)


class _Acks:
    """Publishes many messages in their order and counts the stream's answers."""

    def __init__(self, client: Client) -> None:
        self._client, self._inbox = client, client.new_inbox()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._subscription: Any = None

    @classmethod
    async def listen(cls, client: Client) -> "_Acks":
        acks = cls(client)
        acks._subscription = await client.subscribe(acks._inbox, cb=acks._hear)
        return acks

    async def _hear(self, message: Msg) -> None:
        self._arrived.put_nowait(message.data)

    async def put(self, lines: list[Line]) -> None:
        for line in lines:
            subject = f"{_RESTORING}.{line.subject.removeprefix('driftless.')}"
            headers = {STORED: str(line.ns), "Nats-Expected-Last-Sequence": str(line.seq - 1)}
            await self._client.publish(subject, line.payload, reply=self._inbox, headers=headers)
        for line in lines:
            async with asyncio.timeout(_ACK_DEADLINE_S):
                answer = msgspec.json.decode(await self._arrived.get())
            if answer.get("seq") != line.seq:
                raise ArchiveError(f"message {line.seq} was not stored: {answer}")

    async def close(self) -> None:
        await self._subscription.unsubscribe()


async def _ask(client: Client, subject: str, body: dict[str, Any]) -> None:
    answer = await api(client, subject, body)
    if "error" in answer:
        raise ArchiveError(f"NATS refused {subject}: {answer['error'].get('description')}")
