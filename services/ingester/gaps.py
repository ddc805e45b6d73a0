"""Gaps of one lane: since when rows may be missing, and when everything was read again."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from shared.domain.ids import Wallet, content_id
from shared.domain.messages import Fact, FeedChanged, LeaderActed, LeaderFilled
from shared.domain.units import NS_PER_MS

_RECENT_MAX: Final = 10_000


class LaneGap:
    """At most one gap is open at a time: a second trouble makes the first one longer."""

    def __init__(self, partition: int, leaders: Iterable[Wallet], *, index_lag_ns: int) -> None:
        self._partition, self._leaders = partition, tuple(leaders)
        self._index_lag_ns = index_lag_ns  # how long after a match REST may not show it yet
        self._from_ns = 0  # 0: nothing is missing
        self._noticed_ns = 0
        self._whole_ns: int | None = None  # reads that ended after this closed it
        self._shown_ns: deque[int] = deque(maxlen=_RECENT_MAX)  # rows of the other sources

    @property
    def is_open(self) -> bool:
        return self._from_ns > 0

    def begin(self, reason: str, *, from_ns: int, now_ns: int) -> FeedChanged | None:
        """Open a gap, or hold an open one open; returns what is to be told."""
        self._whole_ns = None
        if self.is_open or not self._leaders:
            return None
        self._from_ns, self._noticed_ns = from_ns, now_ns
        return self._fact("gap", reason, since_ns=from_ns, now_ns=now_ns)

    def hears_again(self, *, now_ns: int) -> None:
        """The stream works: what is read from a little later on has everything of before."""
        self._whole_ns = now_ns + self._index_lag_ns

    def count(self, facts: Iterable[Fact]) -> None:
        """Take note of rows that another source than the stream showed."""
        for fact in facts:
            if isinstance(fact, LeaderActed) or (
                isinstance(fact, LeaderFilled) and fact.source != "stream"
            ):
                self._shown_ns.append(fact.seen_ns)

    def end(self, read_ns: Mapping[Wallet, int], *, now_ns: int) -> FeedChanged | None:
        """Close the gap once every leader was read whole after the stream worked again."""
        if not self.is_open or self._whole_ns is None:
            return None
        if any(read_ns.get(leader, 0) < self._whole_ns for leader in self._leaders):
            return None
        told = f"{len(self._leaders)} leaders were read again"
        fact = self._fact("resynced", told, since_ns=self._noticed_ns, now_ns=now_ns)
        self._from_ns = 0
        return fact

    def _fact(self, state: str, detail: str, *, since_ns: int, now_ns: int) -> FeedChanged:
        id_ = content_id("feed_changed", "activity", state, self._partition, now_ns)
        return FeedChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=now_ns,
            feed="activity",
            state="gap" if state == "gap" else "resynced",
            detail=detail[:200],
            duration_ms=(now_ns - since_ns) // NS_PER_MS,
            from_ns=self._from_ns,
            rows=sum(1 for shown_ns in self._shown_ns if shown_ns >= self._from_ns),
        )
