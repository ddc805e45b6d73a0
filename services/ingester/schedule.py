"""Whose activity is read next: the earliest due, and how soon that is follows from what he does.

Pure: the time comes in, from a clock that never goes back. A leader who traded in the last minutes
is read every ``fast``; then the interval grows with the time he has been quiet, from ``active`` to
``idle``. Sleepers together get at most half of what the venue bears, so that thousands of them
leave room for those who trade.

Nobody starves, whatever the others do. A turn makes its leader due later than the moment it ends,
so once somebody is due every other leader comes before him at most once (``bound_ns``).
"""

import heapq
import itertools
from typing import Final

import msgspec

from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S
from shared.polymarket.buckets import WINDOW_NS

HOT_NS: Final = 120 * NS_PER_S  # who traded in the last two minutes is likely to go on
QUIET_PART: Final = 60  # afterwards: one second between reads for each minute of quiet
SUSPECT_PART: Final = 5  # intervals are so much shorter while the stream is not to be trusted
SLEEPERS_PART: Final = 2  # one part in so many of the rate is what sleepers get at most
RETRY_NS: Final = 1 * NS_PER_S  # after a turn that failed, then doubling up to ...
RETRY_NS_MAX: Final = 10 * NS_PER_S  # ... this, or to his usual interval where that is longer
_DOUBLINGS_MAX: Final = 16


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long between two reads of one leader, in ns: fast <= active <= idle."""

    fast_ns: int
    active_ns: int
    idle_ns: int


class Followed(msgspec.Struct, eq=False):
    """A leader for as long as he stands in the schedule; taken up again he is another."""

    leader: Wallet
    active_ns: int  # when he last did something
    due_ns: int
    ticket: int = 0  # of his place in the queue; 0: being read, or no longer followed
    roused: bool = False  # while being read: once more, from now on
    failures: int = 0


class Schedule:
    """The leaders of a process, each with the time at which he is to be read next."""

    def __init__(self, pace: Pace, *, per_10s: int) -> None:
        self._pace = pace
        self.per_10s = per_10s  # reads that may be made in ten seconds
        self.healthy = True  # False: the stream is not to be trusted, so all are due sooner
        self._followed: dict[Wallet, Followed] = {}
        self._queue: list[tuple[int, int, int, Followed]] = []
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._followed)

    def follow(self, leader: Wallet, *, quiet_ns: int, now_ns: int) -> Followed:
        """Take a leader up who last did something ``quiet_ns`` ago; he is due at once."""
        followed = Followed(leader, now_ns - quiet_ns, now_ns)
        self._followed[leader] = followed
        self._put(followed, now_ns)
        return followed

    def drop(self, followed: Followed) -> None:
        """Follow a leader no more; a turn of his that still runs counts for nothing."""
        followed.ticket = 0
        if self._followed.get(followed.leader) is followed:
            del self._followed[followed.leader]

    def acted(self, leader: Wallet, *, quiet_ns: int, now_ns: int) -> None:
        """Hear that a leader did something ``quiet_ns`` ago: his next read may come sooner."""
        followed = self._followed.get(leader)
        if followed is None or now_ns - quiet_ns <= followed.active_ns:
            return
        followed.active_ns = now_ns - quiet_ns
        due_ns = now_ns + self.interval_ns(followed, now_ns)
        if followed.ticket and due_ns < followed.due_ns:
            self._put(followed, due_ns)

    def rouse(self, now_ns: int) -> None:
        """Make everybody due, the last to act first; who waits already keeps his place."""
        for followed in self._followed.values():
            if not followed.ticket:
                followed.roused = True
            elif followed.due_ns > now_ns:
                self._put(followed, now_ns)

    def pick(self, now_ns: int) -> Followed | None:
        """Return whose turn it is, if anybody's, and count him as being read."""
        wait_ns = self.wait_ns(now_ns)
        if wait_ns is None or wait_ns > 0:
            return None
        followed = heapq.heappop(self._queue)[3]
        followed.ticket, followed.roused = 0, False
        return followed

    def wait_ns(self, now_ns: int) -> int | None:
        """Return how long until somebody is due; None: nobody is waited for."""
        while self._queue and self._queue[0][2] != self._queue[0][3].ticket:
            heapq.heappop(self._queue)  # he was given another place, or is followed no more
        return max(0, self._queue[0][0] - now_ns) if self._queue else None

    def done(self, followed: Followed, now_ns: int, *, again_ns: int | None = None) -> None:
        """End a turn that went well; ``again_ns`` is when the next is due where that is known."""
        followed.failures = 0
        wait_ns = self.interval_ns(followed, now_ns) if again_ns is None else again_ns
        self._requeue(followed, now_ns, wait_ns)

    def failed(self, followed: Followed, now_ns: int) -> None:
        """End a turn that came to nothing: the next follows soon, and later each time."""
        wait_ns = RETRY_NS << min(followed.failures, _DOUBLINGS_MAX)
        followed.failures += 1
        most_ns = max(self.interval_ns(followed, now_ns), RETRY_NS_MAX)
        self._requeue(followed, now_ns, min(wait_ns, most_ns, self.longest_ns()))

    def interval_ns(self, followed: Followed, now_ns: int) -> int:
        """Return how long after a read of a leader the next one is due."""
        quiet_ns = now_ns - followed.active_ns
        if quiet_ns <= HOT_NS:
            return self._pace.fast_ns
        wait_ns = min(max(quiet_ns // QUIET_PART, self._pace.active_ns), self.longest_ns())
        if not self.healthy:
            wait_ns //= SUSPECT_PART
        return max(wait_ns, self._pace.fast_ns)

    def longest_ns(self) -> int:
        """Return the interval of a sleeper: as configured, or longer where they are too many."""
        all_once_ns = len(self._followed) * WINDOW_NS // self.per_10s
        return max(self._pace.idle_ns, SLEEPERS_PART * all_once_ns)

    def bound_ns(self, *, requests: int = 1) -> int:
        """Return after how long at most a leader is read again, himself and the venue willing.

        He is due after at most ``longest_ns``; from then on each leader, he among them, has one
        turn of ``requests`` at most before his is over.
        """
        return self.longest_ns() + len(self._followed) * requests * WINDOW_NS // self.per_10s

    def _requeue(self, followed: Followed, now_ns: int, wait_ns: int) -> None:
        if self._followed.get(followed.leader) is not followed:
            return
        self._put(followed, now_ns if followed.roused else now_ns + wait_ns)

    def _put(self, followed: Followed, due_ns: int) -> None:
        followed.due_ns, followed.ticket = due_ns, next(self._tickets)
        entry = (due_ns, -followed.active_ns, followed.ticket, followed)
        heapq.heappush(self._queue, entry)
        if len(self._queue) > 2 * len(self._followed) + 64:  # places that were given up
            self._queue = [each for each in self._queue if each[2] == each[3].ticket]
            heapq.heapify(self._queue)
