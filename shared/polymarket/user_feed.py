"""The user stream without its socket: our own orders and fills as the venue works on them.

There is no replay: after every connection the orders and trades are read over REST.
"""

from typing import Final

import msgspec

from shared.domain.observations import OrderReport, OwnFill
from shared.polymarket import parse_own, wire
from shared.polymarket.auth import Credentials
from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.frames import Frame, documents
from shared.polymarket.parse_own import Me

_WHERE: Final = "user stream"
_ORDER_TYPES: Final = frozenset({"PLACEMENT", "UPDATE", "CANCELLATION"})


class UserFeed:
    """Our account's events. It never reads a clock or touches a socket."""

    def __init__(self, credentials: Credentials, me: Me) -> None:
        self.heard_ns = 0  # our time of the last event of ours
        self._credentials = credentials
        self._me = me

    def opened(self, *, now_ns: int) -> list[str]:
        """Begin a connection; return the frame that authenticates and asks for all markets.

        The frame holds the credentials: it is sent, never logged.
        """
        self.heard_ns = now_ns
        keys = self._credentials
        auth = {"apiKey": keys.api_key, "secret": keys.secret, "passphrase": keys.passphrase}
        return [msgspec.json.encode({"type": "user", "auth": auth}).decode()]

    def closed(self, *, now_ns: int) -> list[OwnFill | OrderReport | Garbage]:
        return []

    def poll(self, *, now_ns: int) -> list[OwnFill | OrderReport | Garbage]:
        return []

    def is_silent(self, *, now_ns: int, limit_ns: int) -> bool:
        """Tell no silence: an account that does nothing hears nothing."""
        return False

    def receive(self, frame: Frame, *, now_ns: int) -> list[OwnFill | OrderReport | Garbage]:
        """Take one frame; a trade may hold several of our fills."""
        pieces, garbage = documents(frame, where=_WHERE)
        told: list[OwnFill | OrderReport | Garbage] = list(garbage)
        for piece in pieces:
            try:
                told += self._event(piece, now_ns=now_ns)
            except WireError as e:
                told.append(Garbage.of(e))
            else:
                self.heard_ns = now_ns
        return told

    def _event(self, piece: msgspec.Raw, *, now_ns: int) -> list[OwnFill | OrderReport]:
        probe = wire.decode(piece, wire.UserProbe, where=_WHERE)
        if probe.event_type == "trade" or (not probe.event_type and probe.type == "TRADE"):
            trade = wire.decode(piece, wire.Trade, where=_WHERE)
            return [*parse_own.own_fills(trade, self._me, now_ns=now_ns)]
        if probe.event_type == "order" or (not probe.event_type and probe.type in _ORDER_TYPES):
            return [parse_own.order_report(wire.decode(piece, wire.Order, where=_WHERE))]
        raise WireError("unknown event", where=_WHERE, seen=bytes(piece))
