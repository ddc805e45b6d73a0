"""One token's live book: applied changes, and the evidence for or against it."""

from collections import deque
from typing import Final, Literal

import msgspec

from shared.domain.book import Book, Level
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import NS_PER_S, Price, Shares

PENDING_MAX: Final = 4_096  # changes kept while we wait for a snapshot; the oldest are let go
LAG_NS_MAX: Final = 10 * NS_PER_S  # how long REST may lag behind the stream

Best = Price | Literal["empty"] | None  # None: the message did not say


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame says of one token: new absolute sizes, and the best prices after them."""

    at_ns: int
    levels: tuple[tuple[bool, Price, Shares], ...]  # is a bid, price, size
    best_bid: Best = None
    best_ask: Best = None


class Ladder:
    """A book that is trusted from a snapshot until there is evidence against it.

    While it is not trusted, changes are kept, so a snapshot that was taken before the last of
    them can be brought up to date instead of silently missing them.
    """

    def __init__(self, token: TokenId, *, now_ns: int) -> None:
        self.token = token
        self.condition = ConditionId("")
        self.tick: Price | None = None
        self.trusted = False
        self.as_of_ns = 0  # the venue's time of the last change we applied
        self.seen_ns = 0  # our time of the last evidence for the book
        self.asked_ns = now_ns  # our time of the last request for a snapshot
        self._base_ns = 0  # the venue's time of the snapshot we stand on
        self._tick_ns = 0  # the venue's time of the last change of tick
        self._lost_ns = 0  # the venue's time of the last change that is missing
        self._strict_until_ns = 0  # our time until which those two bar older snapshots
        self._bids: dict[Price, Shares] = {}
        self._asks: dict[Price, Shares] = {}
        self._pending: deque[Change] = deque()

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
        )

    def load(self, book: Book, *, now_ns: int) -> str | None:
        """Stand on a snapshot; return why it cannot be stood on, or None.

        One that is older than a book we trust confirms it where both agree. Where they differ
        REST may only lag behind the stream, so it is believed once the stream has been quiet.
        """
        if self.trusted and book.as_of_ns < self.as_of_ns:
            if self._agrees(book):
                self.seen_ns = now_ns
                return None
            if now_ns - self.seen_ns <= LAG_NS_MAX:
                return None
        if now_ns <= self._strict_until_ns:
            if book.as_of_ns < self._tick_ns and book.tick != self.tick:
                return "snapshot from before the tick changed"
            if book.as_of_ns < self._lost_ns:
                return "snapshot from before a missing change"
        self.condition, self.tick = book.condition, book.tick
        self._bids, self._asks = dict(book.bids), dict(book.asks)
        self.as_of_ns = self._base_ns = book.as_of_ns
        self.seen_ns, self.trusted = now_ns, True
        pending, self._pending = self._pending, deque()
        if self._is_crossed():
            return self.distrust("crossed snapshot")
        # After the first contradiction the rest is kept for the next snapshot.
        reasons = [self.apply(change, now_ns=now_ns) for change in pending]
        return next((reason for reason in reasons if reason), None)

    def apply(self, change: Change, *, now_ns: int) -> str | None:
        """Take a change; return the evidence against the book that it brings, or None."""
        if not self.trusted:
            self._keep(change, now_ns=now_ns)
            return None
        if change.at_ns < self._base_ns:
            return None
        reason = self._merge(change)
        if reason:
            self._keep(change, now_ns=now_ns)
            return self.distrust(reason)
        self.seen_ns = now_ns
        return None

    def set_tick(self, tick: Price, *, at_ns: int, now_ns: int) -> None:
        """Begin a new epoch: the levels of the old tick are gone."""
        self.tick, self._tick_ns, self.trusted = tick, at_ns, False
        self._strict_until_ns = now_ns + LAG_NS_MAX
        self._bids, self._asks = {}, {}
        self._pending.clear()

    def forget(self, *, now_ns: int) -> None:
        """Begin a new connection: what was kept for a snapshot has a gap after it now."""
        self.trusted, self._strict_until_ns, self.asked_ns = False, 0, now_ns
        self._pending.clear()

    def lose(self, at_ns: int, *, now_ns: int) -> None:
        """Note that a change of this venue time is missing: an older snapshot may lack it too.

        Only for as long as REST may lag: the stream and REST may stamp one change differently,
        and a quiet book must not be barred by a few milliseconds for ever.
        """
        self._lost_ns = max(self._lost_ns, at_ns)
        self._strict_until_ns = now_ns + LAG_NS_MAX

    def distrust(self, reason: str) -> str:
        self.trusted = False
        return reason

    def _merge(self, change: Change) -> str | None:
        if change.at_ns < self.as_of_ns:
            return "time went back"
        for is_bid, price, size in change.levels:
            levels = self._bids if is_bid else self._asks
            if size:
                levels[price] = size
            else:
                levels.pop(price, None)
        self.as_of_ns = change.at_ns
        if self._is_crossed():
            return "crossed book"
        if _differs(change.best_bid, max(self._bids, default=None)):
            return "best bid disagrees"
        if _differs(change.best_ask, min(self._asks, default=None)):
            return "best ask disagrees"
        return None

    def _agrees(self, book: Book) -> bool:
        return dict(book.bids) == self._bids and dict(book.asks) == self._asks

    def _is_crossed(self) -> bool:
        return bool(self._bids and self._asks and max(self._bids) >= min(self._asks))

    def _keep(self, change: Change, *, now_ns: int) -> None:
        if len(self._pending) == PENDING_MAX:
            self.lose(self._pending.popleft().at_ns, now_ns=now_ns)
        self._pending.append(change)


def _differs(told: Best, own: Price | None) -> bool:
    return told is not None and told != ("empty" if own is None else own)


def _sorted(levels: dict[Price, Shares], *, best_first: bool) -> tuple[Level, ...]:
    return tuple(sorted(levels.items(), reverse=best_first))
