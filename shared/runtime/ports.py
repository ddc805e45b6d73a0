"""The world as the runner sees it: a ledger, a store, a lease; each with two implementations."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NewType, Protocol

import msgspec

from shared.domain.messages import Batch

Epoch = NewType("Epoch", int)


class Lane(msgspec.Struct, frozen=True):
    """One service's share of one virtual partition: one writer, one log, one state."""

    service: str
    partition: int

    @property
    def subjects(self) -> str:
        """The lane's own log: every fact it ever published."""
        return f"driftless.{self.service}.*.{self.partition:02d}.>"

    @property
    def name(self) -> str:
        return f"{self.service}.{self.partition:02d}"

    def subject(self, kind: str, key: str) -> str:
        return f"driftless.{self.service}.{kind}.{self.partition:02d}.{key}"


def subjects_of(service: str, partition: int | None = None) -> str:
    """Return the filter for what a service says, in one partition or in all."""
    part = "*" if partition is None else f"{partition:02d}"
    return f"driftless.{service}.*.{part}.>"


class Entry(msgspec.Struct, frozen=True):
    """One message of the ledger. ``batch`` is None when it could not be decoded: see ``error``."""

    seq: int
    subject: str
    batch: Batch | None
    error: str = ""
    data: bytes = b""  # as it was written
    time_ns: int = 0  # when it was stored, by the broker's clock; 0: not known


class Saved(msgspec.Struct, frozen=True):
    """A lane's snapshot: its state, and how far it had heard and spoken when it was taken."""

    state: bytes
    cursor: int  # last ledger sequence whose consequences are complete
    said: int  # last of the lane's own messages that is in the state
    epoch: Epoch
    shape: str = ""  # of the state's type: another version's snapshot is not read


class FencedError(Exception):
    """Somebody else writes this lane now; what we hold in memory is void."""


class GapError(Exception):
    """The ledger delivered with a hole: nothing built on it can be trusted."""


class StoreAwayError(Exception):
    """The store cannot be reached; nothing is lost, what it shows grows old."""


class UndecodableError(Exception):
    """A message on a lane where money moves, or in a lane's own log, cannot be read."""


class Ledger(Protocol):
    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        """Make a batch durable and return its sequence.

        ``after`` is the sequence of the lane's last message as the caller knows it. The same
        batch appended again returns the sequence it has. Raises FencedError if the lane has a
        message the caller does not know.
        """
        ...

    async def last(self, lane: Lane) -> Entry | None:
        """Return the lane's newest message."""
        ...

    async def head(self) -> int:
        """Return the sequence of the ledger's newest message, 0 when it is empty."""
        ...

    def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        """Yield what matches after a sequence, in order, in runs as they come.

        With ``until`` the iteration ends once everything up to that sequence was yielded;
        without, it waits for more. Raises GapError when delivery skipped a message.
        """
        ...

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        """Keep what could not be read, with the reason, where an operator finds it."""
        ...


class Store(Protocol):
    async def load(self, lane: Lane) -> Saved | None:
        """Return the lane's snapshot; raises StoreAwayError, as every method does."""
        ...

    async def save(self, lane: Lane, saved: Saved, views: Mapping[str, bytes]) -> None:
        """Replace snapshot and views in one atomic step; FencedError for an older epoch."""
        ...

    async def read_views(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the views in the order of the keys, None where there is none."""
        ...

    async def find_views(self, prefix: str) -> list[str]:
        """Return the keys of the views that begin so, in order."""
        ...

    async def write_views(self, views: Mapping[str, bytes]) -> None:
        """Replace views that belong to no snapshot; what nobody writes for a day is dropped."""
        ...
