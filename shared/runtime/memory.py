"""The ports in memory: the same contracts without a server, for simulation and tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from shared.domain.messages import Batch, decode_batch, encode_batch, kind_of
from shared.runtime.ports import Entry, FencedError, Lane, Saved


def matches(subject: str, pattern: str) -> bool:
    """Tell whether a subject matches a NATS filter (``*`` one token, ``>`` the rest)."""
    tokens, wanted = subject.split("."), pattern.split(".")
    for at, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > at
        if at >= len(tokens) or want not in ("*", tokens[at]):
            return False
    return len(tokens) == len(wanted)


class MemoryLedger:
    """A list with the ledger's promises: order, dedupe by content, one writer a lane."""

    def __init__(self) -> None:
        self._log: list[tuple[str, bytes]] = []
        self._grown = asyncio.Condition()
        self.dead: list[tuple[str, str, bytes]] = []

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        kinds = {kind_of(fact) for fact in batch.facts}
        subject = lane.subject(kinds.pop() if len(kinds) == 1 else "several", key)
        last = self._last_seq(lane)
        data = encode_batch(batch)
        if last != after:
            if last and self._log[last - 1][1] == data:
                return last  # our own message; another writer's of the same facts is not
            raise FencedError(f"{lane.name}: expected {after}, the ledger has {last}")
        async with self._grown:
            self._log.append((subject, data))
            self._grown.notify_all()
        return len(self._log)

    def inject(self, subject: str, data: bytes) -> int:
        """Append raw bytes, as a foreign or newer writer could."""
        self._log.append((subject, data))
        return len(self._log)

    def _last_seq(self, lane: Lane) -> int:
        for seq in range(len(self._log), 0, -1):
            if matches(self._log[seq - 1][0], lane.subjects):
                return seq
        return 0

    async def last(self, lane: Lane) -> Entry | None:
        seq = self._last_seq(lane)
        return self._entry(seq) if seq else None

    async def head(self) -> int:
        return len(self._log)

    def _entry(self, seq: int) -> Entry:
        subject, data = self._log[seq - 1]
        return entry_from(seq, subject, data)

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        cursor = after
        while True:
            end = len(self._log) if until is None else min(until, len(self._log))
            found = [
                self._entry(seq)
                for seq in range(cursor + 1, end + 1)
                if any(matches(self._log[seq - 1][0], pattern) for pattern in filters)
            ]
            cursor = max(cursor, end)
            if found:
                yield found
            if until is not None:
                return
            async with self._grown:
                while len(self._log) == cursor:
                    await self._grown.wait()

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        self.dead.append((f"{lane.name} {source}", reason, data))


def entry_from(seq: int, subject: str, data: bytes, time_ns: int = 0) -> Entry:
    """Decode a ledger message; one that cannot be read says why."""
    try:
        return Entry(seq, subject, decode_batch(data), "", data, time_ns)
    except ValueError as e:  # msgspec's decode errors are ValueErrors
        return Entry(seq, subject, None, str(e), data, time_ns)


class MemoryStore:
    """A dictionary with the store's promises: atomic replacement, no older epoch."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Saved] = {}
        self.views: dict[str, bytes] = {}

    async def load(self, lane: Lane) -> Saved | None:
        return self.snapshots.get(lane.name)

    async def save(self, lane: Lane, saved: Saved, views: Mapping[str, bytes]) -> None:
        held = self.snapshots.get(lane.name)
        if held is not None and held.epoch > saved.epoch:
            raise FencedError(f"{lane.name}: epoch {saved.epoch} is older than {held.epoch}")
        self.snapshots[lane.name] = saved
        self.views.update(views)

    async def read_views(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.views.get(key) for key in keys]

    async def find_views(self, prefix: str) -> list[str]:
        return sorted(key for key in self.views if key.startswith(prefix))

    async def write_views(self, views: Mapping[str, bytes]) -> None:
        self.views.update(views)
