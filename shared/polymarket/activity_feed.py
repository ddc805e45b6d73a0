"""The activity stream without its socket: who traded what, a second or two after the match.

It is an accelerator: undocumented, without replay, known to freeze (protocol.md 5). What it
misses is found over REST.
"""

from typing import Final

import msgspec

from shared.domain.observations import Activity
from shared.polymarket import parse, wire
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.frames import Frame, documents

_WHERE: Final = "activity stream"
_TRADES: Final = "trades"
_MATCHED: Final = "orders_matched"


class TakerRow(msgspec.Struct, frozen=True):
    """A row of the taker alone, told where the stream of all rows says nothing."""

    row: Activity


ActivityEvent = Activity | TakerRow | Garbage


class ActivityFeed:
    """The trades of all wallets. It never reads a clock or touches a socket.

    With ``fallback`` the takers' rows are asked for too: ``trades`` was once off for days while
    they went on. They are told until the first of all rows comes, which has them as well.
    """

    def __init__(self, *, fallback: bool = False) -> None:
        self.heard_ns = 0  # our time of the last trade of anybody
        self._kinds = (_TRADES, _MATCHED) if fallback else (_TRADES,)
        self._flows = False

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection; return the frames to send.

        Unfiltered: filters were seen to silence everything, and so silence stays meaningful.
        """
        self.heard_ns, self._flows = now_ns, False
        wanted = [{"topic": "activity", "type": kind} for kind in self._kinds]
        return [msgspec.json.encode({"action": "subscribe", "subscriptions": wanted}).decode()]

    def closed(self, *, now_ns: int) -> list[ActivityEvent]:
        return []

    def poll(self, *, now_ns: int) -> list[ActivityEvent]:
        return []

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        """Tell whether nobody traded for longer than the limit, which does not happen."""
        return now_ns - self.heard_ns > limit_ns

    def receive(self, frame: Frame, *, now_ns: int) -> list[ActivityEvent]:
        """Take one frame; route by the payload's shape, since the topic may be missing."""
        pieces, garbage = documents(frame, where=_WHERE)
        told: list[ActivityEvent] = list(garbage)
        for piece in pieces:
            try:
                envelope = wire.decode(piece, wire.RtdsFrame, where=_WHERE)
                of_takers = envelope.type == _MATCHED
                if of_takers and (self._flows or _MATCHED not in self._kinds):
                    continue
                told_row = envelope.payload if bytes(envelope.payload) else piece
                row = wire.decode(told_row, wire.RtdsRow, where=_WHERE)
                activity = parse.activity(row, now_ns=now_ns)
            except WireError as e:
                told.append(Garbage.of(e))
                continue
            if of_takers:
                told += [TakerRow(activity)] if activity else []
                continue
            self.heard_ns, self._flows = now_ns, True
            told += [activity] if activity else []
        return told
