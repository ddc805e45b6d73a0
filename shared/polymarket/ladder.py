"""One token's live book: applied changes, and the evidence for or against it."""

from collections import deque
from typing import Final, Literal

import msgspec

from shared.domain.book import Book, BookSource, Level
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import NS_PER_S, Price, Shares
from shared.polymarket.evidence import Reason

PENDING_MAX: Final = 4_096  # changes kept while we wait for a snapshot; the oldest are let go
LAG_NS_MAX: Final = 10 * NS_PER_S  # how long REST may lag behind the stream
SKEW_NS: Final = NS_PER_S  # by which the stream and REST may stamp one change differently
LATE_NS: Final = 2 * NS_PER_S  # a frame this far behind its own stamp is late, and no news
FLOOR_NS_MAX: Final = 300 * NS_PER_S  # the oldest answers seen from the venue's caches
_STATES_MAX: Final = 64  # remembered, to compare a lively book with a REST book of its past

Best = Price | Literal["empty"] | None  # None: the message did not say


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame says of one token: new absolute sizes, and the best prices after them."""

    at_ns: int
    levels: tuple[tuple[bool, Price, Shares], ...]  # is a bid, price, size
    best_bid: Best = None
    best_ask: Best = None


class Ladder:
    """A book that is trusted from a snapshot until there is evidence against it.

    While it is not trusted, changes are kept, so a snapshot that was taken between them can be
    brought up to date. Nothing older than the floor, the venue's time of the last change known
    to have happened, is stood on: an old answer of REST is not the news that it looks like.
    """

    def __init__(self, token: TokenId, *, now_ns: int) -> None:
        self.token = token
        self.condition = ConditionId("")
        self.tick: Price | None = None
        self.trusted = False
        self.source: BookSource = "rest"
        self.as_of_ns = 0  # the venue's time of the last change we applied
        self.base_ns = 0  # the venue's time of the snapshot we stand on
        self.seen_ns = 0  # our time of the last evidence for the book
        self.asked_ns = now_ns  # our time of the last request for a snapshot
        self.audited_ns = now_ns  # our time of the last comparison with REST
        self.waits_ns: int | None = None  # our time since when the stream owes us word of it
        self.is_stuck = False  # we said that it did not come, and it has not come since
        self.owed_ns = 0  # the venue's time which that word has to reach
        self._floor_ns = 0
        self._floored_ns = 0  # our time of what the floor stands on
        self._tick_ns = 0  # the venue's time of the last change of tick
        self.hole_ns = -1  # our time of the last loss: snapshots asked for before may lack it
        self._is_joined = False  # the stream told every change since the snapshot we stand on
        self._has_hole = False  # what is kept for a snapshot does not begin with the subscription
        self._bids: dict[Price, Shares] = {}
        self._asks: dict[Price, Shares] = {}
        self._digest = 0
        self._states: deque[tuple[int, int]] = deque(maxlen=_STATES_MAX)  # as of, digest
        self._pending: deque[Change] = deque()
        self._barred: dict[BookSource, Book] = {}  # the last of each that was below the floor
        self._barred_ns = 0  # our time of the first of them since the floor was raised

    def book(self) -> Book | None:
        """Return the book as it stands, trusted or not; None before the first snapshot."""
        if not self.condition or self.tick is None:
            return None
        return Book(
            token=self.token,
            condition=self.condition,
            bids=_sorted(self._bids, best_first=True),
            asks=_sorted(self._asks, best_first=False),
            tick=self.tick,
            as_of_ns=self.as_of_ns,
            seen_ns=self.seen_ns,
            trusted=self.trusted,
            source=self.source,
        )

    # --- snapshots --------------------------------------------------------------------------

    def load(self, book: Book, *, now_ns: int, asked_ns: int | None = None) -> Reason | None:
        """Take a snapshot, asked for at ``asked_ns``; return why it cannot be stood on, or None.

        One that says what we say confirms it. An older one never replaces what we know, even if
        we doubt that: its time is below the floor.
        """
        if self.trusted and book.as_of_ns + SKEW_NS >= self.as_of_ns and self._agrees(book):
            self._confirm(book, now_ns=now_ns, asked_ns=asked_ns)
            return None
        if reason := self._objection(book, now_ns=now_ns, asked_ns=asked_ns):
            return reason
        if self.trusted and book.as_of_ns < self.as_of_ns:
            return None  # a state that we have left behind, and it was like that
        if self.trusted and book.source == "rest":
            self._owe(book.as_of_ns, now_ns=now_ns)
        follows = book.source == "stream" and not self._has_hole
        self._stand(book, now_ns=now_ns, asked_ns=asked_ns)
        if self._is_crossed():
            return self.distrust("crossed snapshot")
        if book.source == "stream" and any(
            price % book.tick for price in (*self._bids, *self._asks)
        ):
            return self.distrust("off the tick grid")
        self._is_joined = self._is_joined or follows or bool(self._pending)
        pending, self._pending = sorted(self._pending, key=_at_ns), deque()
        # After the first contradiction the rest is kept for the next snapshot.
        reasons = [self.apply(change, now_ns=now_ns) for change in pending]
        return next((reason for reason in reasons if reason), None)

    def _objection(self, book: Book, *, now_ns: int, asked_ns: int | None) -> Reason | None:
        is_behind = book.as_of_ns < self.as_of_ns + (book.source == "rest")
        if self.trusted and is_behind:
            return self._compare(book, now_ns=now_ns)
        if not self.trusted and asked_ns is not None and asked_ns <= self.hole_ns:
            return "before a loss"
        if self._is_outvoted(book, now_ns=now_ns):
            return None
        if book.as_of_ns < self._floor_ns:
            return "stale snapshot"
        if book.as_of_ns < self._tick_ns and book.tick != self.tick:
            return "before the tick changed"
        follows = book.source == "stream" and not self._has_hole  # the kept changes, all of them
        first_ns = min(map(_at_ns, self._pending), default=0)
        if book.as_of_ns < first_ns and not follows:
            self._raise_floor(first_ns, now_ns=now_ns)
            return "before a gap"
        return None

    def _compare(self, book: Book, *, now_ns: int) -> Reason | None:
        """Judge a book that is not newer than one we trust, by what ours was then."""
        then = [digest for at_ns, digest in self._states if at_ns == book.as_of_ns]
        if _digest_of(book) in then:
            return None
        if book.source == "stream" and book.as_of_ns >= self.base_ns:
            self._break(now_ns=now_ns)  # it comes late: what we applied after its time lacks it
            return self.distrust("time went back")
        if then:
            self._break(now_ns=now_ns)
            return self.distrust("REST disagrees")
        lags = now_ns - self.seen_ns <= LAG_NS_MAX or self._is_outvoted(book, now_ns=now_ns)
        return None if lags else "stale snapshot"

    def _is_outvoted(self, book: Book, *, now_ns: int) -> bool:
        """Tell whether the floor is wrong: the stream and REST agree on an older book.

        A garbled stamp can raise it above everything true. An answer from a cache cannot lower
        it: the stream does not repeat what is in a cache, and none is older than five minutes,
        so what is told for longer where nothing is trusted is believed in the end.
        """
        is_below = book.as_of_ns < max(self._floor_ns, self._tick_ns)
        if not is_below or now_ns - self._floored_ns <= LAG_NS_MAX:
            return False
        if self._barred_ns <= self._floored_ns:
            self._barred_ns = now_ns
            self._barred.clear()
        self._barred[book.source] = book
        other = self._barred.get("rest" if book.source == "stream" else "stream")
        same = other is not None and _same(other, book)
        is_long = not self.trusted and now_ns - self._barred_ns > FLOOR_NS_MAX
        if not same and not is_long:
            return False
        self.trusted = False
        self._floor_ns = self._tick_ns = book.as_of_ns
        self._pending.clear()
        return True

    def _stand(self, book: Book, *, now_ns: int, asked_ns: int | None) -> None:
        self.condition, self.tick = book.condition, book.tick
        self._bids, self._asks = dict(book.bids), dict(book.asks)
        self._digest = _digest_of(book)
        self.base_ns = book.as_of_ns
        self.trusted = True
        self._see(book, now_ns=now_ns, asked_ns=asked_ns)
        self._states.clear()
        self._moved(book.as_of_ns, now_ns=now_ns)
        if book.source == "stream":
            self._hear(book.as_of_ns)

    def _see(self, book: Book, *, now_ns: int, asked_ns: int | None) -> None:
        """Note from when a snapshot speaks: what answers a question was made after it."""
        if book.source == "stream":
            asked_ns = self.waits_ns if self.waits_ns is not None else book.as_of_ns
        is_late = book.source == "rest" or now_ns - book.as_of_ns > LATE_NS
        from_ns = now_ns if asked_ns is None or not is_late else max(asked_ns, book.as_of_ns)
        self.seen_ns, self.source = max(self.seen_ns, min(from_ns, now_ns)), book.source

    def _confirm(self, book: Book, *, now_ns: int, asked_ns: int | None) -> None:
        self._see(book, now_ns=now_ns, asked_ns=asked_ns)
        if book.as_of_ns > self.as_of_ns:
            self.base_ns = book.as_of_ns
            self._moved(book.as_of_ns, now_ns=now_ns)
        if book.source == "stream":
            self._hear(book.as_of_ns)

    # --- changes ----------------------------------------------------------------------------

    def apply(self, change: Change, *, now_ns: int) -> Reason | None:
        """Take a change; return the evidence against the book that it brings, or None."""
        if not self.trusted:
            self._keep(change)
            return None
        if change.at_ns < self.base_ns:
            return None
        if not self._is_joined and change.at_ns > self.base_ns:
            reason: Reason | None = "before a gap"  # what was lost may lie between the two
        else:
            self._is_joined, self._has_hole = True, False
            reason = self._merge(change, now_ns=now_ns)
        if reason:
            self._raise_floor(change.at_ns, now_ns=now_ns)
            self._break(now_ns=now_ns)
            self._keep(change)
            return self.distrust(reason)
        seen_ns = change.at_ns if now_ns - change.at_ns > LATE_NS else now_ns
        self.seen_ns, self.source = max(self.seen_ns, seen_ns), "stream"
        self._hear(change.at_ns)
        return None

    def set_tick(self, tick: Price, *, at_ns: int, now_ns: int) -> None:
        """Begin a new epoch: the levels of the old tick are gone."""
        self.tick, self._tick_ns, self.trusted = tick, at_ns, False
        self._floored_ns = now_ns
        self._bids, self._asks, self._digest = {}, {}, 0
        self._break(now_ns=now_ns)

    def _merge(self, change: Change, *, now_ns: int) -> Reason | None:
        if change.at_ns < self.as_of_ns:
            return "time went back"
        for is_bid, price, size in change.levels:
            levels = self._bids if is_bid else self._asks
            before = levels.pop(price, None)
            if before is not None:
                self._digest ^= hash((is_bid, price, before))
            elif size and self.tick and price % self.tick:
                return "off the tick grid"
            if size:
                levels[price] = size
                self._digest ^= hash((is_bid, price, size))
        self._moved(change.at_ns, now_ns=now_ns)
        if self._is_crossed():
            return "crossed book"
        if _differs(change.best_bid, max(self._bids, default=None)):
            return "best bid disagrees"
        if _differs(change.best_ask, min(self._asks, default=None)):
            return "best ask disagrees"
        return None

    def _moved(self, at_ns: int, *, now_ns: int) -> None:
        self.as_of_ns = at_ns
        self._raise_floor(at_ns, now_ns=now_ns)
        self._states.append((at_ns, self._digest))

    # --- doubt ------------------------------------------------------------------------------

    def distrust(self, reason: Reason) -> Reason:
        self.trusted = False
        return reason

    def begin(self, *, now_ns: int) -> None:
        """Begin a subscription: the stream owes us a snapshot, and all changes after it."""
        self.end(now_ns=now_ns)
        self._has_hole = False
        self.waits_ns = now_ns

    def end(self, *, now_ns: int) -> None:
        """End a subscription: what was kept for a snapshot has a gap after it now."""
        self.trusted, self.asked_ns, self.waits_ns = False, now_ns, None
        self._break(now_ns=now_ns)

    def lose(self, at_ns: int = 0, *, now_ns: int) -> None:
        """Note that a change is missing, and the venue's time of it where that is known."""
        self._raise_floor(at_ns, now_ns=now_ns)
        self._break(now_ns=now_ns)

    def _break(self, *, now_ns: int) -> None:
        self._pending.clear()
        self.hole_ns, self._has_hole, self._is_joined = now_ns, True, False

    def _raise_floor(self, at_ns: int, *, now_ns: int) -> None:
        if at_ns > self._floor_ns:
            self._floor_ns, self._floored_ns = at_ns, now_ns

    def _owe(self, at_ns: int, *, now_ns: int) -> None:
        """Note what REST knows and the stream has yet to tell."""
        self.owed_ns = at_ns
        self.waits_ns = now_ns if self.waits_ns is None else self.waits_ns

    def _hear(self, at_ns: int) -> None:
        if self.waits_ns is not None and at_ns + SKEW_NS >= self.owed_ns:
            self.waits_ns, self.owed_ns, self.is_stuck = None, 0, False

    def _keep(self, change: Change) -> None:
        if len(self._pending) == PENDING_MAX:
            self._pending.popleft()
            self._has_hole = True
        self._pending.append(change)

    def _agrees(self, book: Book) -> bool:
        return (
            book.tick == self.tick
            and dict(book.bids) == self._bids
            and dict(book.asks) == self._asks
        )

    def _is_crossed(self) -> bool:
        return bool(self._bids and self._asks and max(self._bids) >= min(self._asks))


def _differs(told: Best, own: Price | None) -> bool:
    return told is not None and told != ("empty" if own is None else own)


def _sorted(levels: dict[Price, Shares], *, best_first: bool) -> tuple[Level, ...]:
    return tuple(sorted(levels.items(), reverse=best_first))


def _at_ns(change: Change) -> int:
    return change.at_ns


def _same(one: Book, other: Book) -> bool:
    return (one.as_of_ns, one.tick, one.bids, one.asks) == (
        other.as_of_ns,
        other.tick,
        other.bids,
        other.asks,
    )


def _digest_of(book: Book) -> int:
    digest = 0
    for is_bid, levels in ((True, book.bids), (False, book.asks)):
        for price, size in levels:
            digest ^= hash((is_bid, price, size))
    return digest
