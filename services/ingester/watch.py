"""Judges one socket of the activity stream by what it should have told, never by its PONG.

The stream is unfiltered, so silence means something; and whatever trades the market stream, REST
or a second socket show, it must tell too (protocol.md 5.4). Pure: every call takes the time.
"""

from collections import OrderedDict, deque
from statistics import median
from typing import Final

import msgspec

from shared.domain.ids import TxHash
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


class Verdict(msgspec.Struct, frozen=True):
    """Why a socket is not believed any more, and since when it was not worth it."""

    reason: str
    since_ns: int


class Watch:
    """What one connection told, and what it owes."""

    def __init__(self, limits: Limits, *, now_ns: int) -> None:
        self._limits = limits
        self.heard_ns = 0  # the last trade of anybody on this connection; 0: none yet
        self._heard: OrderedDict[TxHash, None] = OrderedDict()
        self.opened(now_ns=now_ns)

    def opened(self, *, now_ns: int) -> None:
        """Begin a connection: it owes nothing yet."""
        self.opened_ns, self.heard_ns = now_ns, 0
        self._owed: OrderedDict[TxHash, int] = OrderedDict()
        self._missed, self._missed_ns = 0, 0
        self._lags: deque[int] = deque(maxlen=_LAGS)

    def heard(self, tx: TxHash, *, venue_ns: int, now_ns: int) -> None:
        """Take note of a row this connection told."""
        self.heard_ns = now_ns
        self._lags.append(now_ns - venue_ns)
        self._heard[tx] = None
        if len(self._heard) > _HEARD_MAX:
            self._heard.popitem(last=False)
        if self._owed.pop(tx, None) is not None:
            self._missed = 0

    def owed(self, tx: TxHash, *, venue_ns: int, now_ns: int) -> None:
        """Take note of a trade that another source showed: this connection must tell it too."""
        was_listening = venue_ns > self.opened_ns + self._limits.grace_ns
        known = tx in self._heard or tx in self._owed
        if was_listening and not known and len(self._owed) < _OWED_MAX:
            self._owed[tx] = now_ns

    def verdict(self, *, now_ns: int) -> Verdict | None:
        """Return why the connection is to be replaced, or None while it is worth its place."""
        limits = self._limits
        self._mature(now_ns)
        if self._missed >= limits.misses_max:
            told = f"{self._missed} trades in a row were shown elsewhere and not told"
            return Verdict(told, self._missed_ns)
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
            tx, shown_ns = next(iter(self._owed.items()))
            if now_ns - shown_ns < self._limits.grace_ns:
                return
            del self._owed[tx]
            if not self._missed:
                self._missed_ns = shown_ns
            self._missed += 1
