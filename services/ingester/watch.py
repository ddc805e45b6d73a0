"""Judges one socket of the activity stream by what it should have told, never by its PONG.

The stream is unfiltered, so silence means something; and whatever trades the market stream, REST
or a second socket show, it must tell too (protocol.md 5.4). A leader's trades are owed by
themselves: those of strangers that are told excuse none of his. Pure: every call takes the time.
"""

from collections import OrderedDict, deque
from statistics import median
from typing import Final

import msgspec

from shared.domain.ids import TxHash, Wallet
from shared.domain.units import NS_PER_S

_HEARD_MAX: Final = 20_000  # transactions; the venue makes about 50 a second
_OWED_MAX: Final = 5_000
_LAGS: Final = 64  # rows whose median delay counts


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a socket is no longer believed."""

    silence_ns: int = 15 * NS_PER_S  # without a trade of anybody
    grace_ns: int = 6 * NS_PER_S  # a trade shown elsewhere is told here by then (median 2.5 s)
    misses_max: int = 3  # trades in a row that were shown elsewhere only; one in 300 is normal
    late_ns: int = 30 * NS_PER_S  # the median delay of what it tells
    steady_ns: int = 60 * NS_PER_S  # lateness is no reason to replace a younger socket


# A transaction, as anybody's or as a followed leader's.
Trade = tuple[TxHash, Wallet | None]


class Verdict(msgspec.Struct, frozen=True):
    """Why a socket is not believed any more, and since when it was not worth it."""

    reason: str
    since_ns: int


class Watch:
    """What one connection told, and what it owes."""

    def __init__(self, limits: Limits, *, now_ns: int) -> None:
        self._limits = limits
        self.heard_ns = 0  # the last trade of anybody on this connection; 0: none yet
        self._heard: OrderedDict[Trade, None] = OrderedDict()
        self.opened(now_ns=now_ns)

    def opened(self, *, now_ns: int) -> None:
        """Begin a connection: it owes nothing yet."""
        self.opened_ns, self.heard_ns = now_ns, 0
        self._owed: OrderedDict[Trade, int] = OrderedDict()
        self._missed: dict[Wallet | None, tuple[int, int]] = {}  # how many in a row, since when
        self._lags: deque[int] = deque(maxlen=_LAGS)

    def heard(
        self, tx: TxHash, *, venue_ns: int, now_ns: int, leader: Wallet | None = None
    ) -> None:
        """Take note of a row this connection told; of whom, if he is followed."""
        self.heard_ns = now_ns
        self._lags.append(now_ns - venue_ns)
        for who in {None, leader}:
            self._heard[tx, who] = None
            # Of a leader only what was missed is ever owed, so any row of his ends the series.
            if self._owed.pop((tx, who), None) is not None or who:
                self._missed.pop(who, None)
        while len(self._heard) > _HEARD_MAX:
            self._heard.popitem(last=False)

    def owed(self, tx: TxHash, *, venue_ns: int, now_ns: int, leader: Wallet | None = None) -> None:
        """Take note of a trade that another source showed: this connection must tell it too."""
        was_listening = venue_ns > self.opened_ns + self._limits.grace_ns
        known = (tx, leader) in self._heard or (tx, leader) in self._owed
        if was_listening and not known and len(self._owed) < _OWED_MAX:
            self._owed[tx, leader] = now_ns

    def verdict(self, *, now_ns: int) -> Verdict | None:
        """Return why the connection is to be replaced, or None while it is worth its place."""
        limits = self._limits
        self._mature(now_ns)
        for who, (count, since_ns) in self._missed.items():
            if count >= limits.misses_max:
                of = f" of {who}" if who else ""
                told = f"{count} trades in a row{of} were shown elsewhere and not told"
                return Verdict(told, since_ns)
        last_ns = max(self.opened_ns, self.heard_ns)
        if now_ns - last_ns > limits.silence_ns:
            return Verdict(f"no data for {(now_ns - last_ns) / NS_PER_S:.1f} s", last_ns)
        if len(self._lags) == _LAGS and now_ns - self.opened_ns > limits.steady_ns:
            lag_ns = median(self._lags)
            if lag_ns > limits.late_ns:
                return Verdict(f"what it tells is {lag_ns / NS_PER_S:.0f} s old", self.opened_ns)
        return None

    def _mature(self, now_ns: int) -> None:
        """Count what was not told in time; it is found among the oldest."""
        while self._owed:
            (tx, who), shown_ns = next(iter(self._owed.items()))
            if now_ns - shown_ns < self._limits.grace_ns:
                return
            del self._owed[tx, who]
            count, since_ns = self._missed.get(who, (0, shown_ns))
            self._missed[who] = (count + 1, since_ns)
