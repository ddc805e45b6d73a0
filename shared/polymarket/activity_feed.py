"""The activity stream without its socket: who traded what, a second or two after the match.

It is an accelerator: undocumented, without replay, known to freeze (protocol.md 5). What it
misses is found over REST.
"""

from typing import Final

from shared.domain.observations import Activity
from shared.polymarket import parse, wire
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.frames import Frame, documents

_WHERE: Final = "activity stream"
# Unfiltered: filters were seen to silence everything, and so silence stays meaningful.
# `orders_matched` would tell the taker's rows a second time.
_SUBSCRIBE: Final = '{"action":"subscribe","subscriptions":[{"topic":"activity","type":"trades"}]}'


class ActivityFeed:
    """The trades of all wallets. It never reads a clock or touches a socket."""

    def __init__(self) -> None:
        self.heard_ns = 0  # our time of the last trade of anybody

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection; return the frames to send."""
        self.heard_ns = now_ns
        return [_SUBSCRIBE]

    def closed(self, *, now_ns: int) -> list[Activity | Garbage]:
        return []

    def poll(self, *, now_ns: int) -> list[Activity | Garbage]:
        return []

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        """Tell whether nobody traded for longer than the limit, which does not happen."""
        return now_ns - self.heard_ns > limit_ns

    def receive(self, frame: Frame, *, now_ns: int) -> list[Activity | Garbage]:
        """Take one frame; route by the payload's shape, since the topic may be missing."""
        pieces, garbage = documents(frame, where=_WHERE)
        told: list[Activity | Garbage] = list(garbage)
        for piece in pieces:
            try:
                envelope = wire.decode(piece, wire.RtdsFrame, where=_WHERE)
                if envelope.type == "orders_matched":
                    continue
                told_row = envelope.payload if bytes(envelope.payload) else piece
                row = wire.decode(told_row, wire.RtdsRow, where=_WHERE)
                activity = parse.activity(row, now_ns=now_ns)
            except WireError as e:
                told.append(Garbage.of(e))
                continue
            self.heard_ns = now_ns
            if activity:
                told.append(activity)
        return told
