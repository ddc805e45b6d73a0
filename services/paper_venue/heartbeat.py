"""The dead man's switch: a key that falls silent loses its open orders (protocol.md 1.8)."""

from hashlib import blake2b
from typing import Final

from services.paper_venue.settlement import add_timer
from services.paper_venue.state import Heart, Venue, next_number
from services.paper_venue.trading import close_resting
from shared.domain.units import NS_PER_S

CHECK_NS: Final = 5 * NS_PER_S
SILENCE_MAX_NS: Final = 10 * NS_PER_S


class StaleBeatError(Exception):
    """The heartbeat names another id than the last answer's."""

    def __init__(self, expected: str) -> None:
        super().__init__("Invalid Heartbeat ID")
        self.expected = expected


def beat(venue: Venue, key: str, named: str, now_ns: int) -> str:
    """Take a heartbeat and return the id of the next; the first one arms the switch for good."""
    heart = venue.hearts.get(key)
    if heart is None:
        if named:
            raise StaleBeatError("")
        heart = venue.hearts[key] = Heart(key=key, expected=named, beat_ns=now_ns)
        add_timer(venue, now_ns + CHECK_NS, "heartbeat", heart)
    if named != heart.expected:
        raise StaleBeatError(heart.expected)
    heart.beat_ns = now_ns
    heart.expected = _next_id(venue, key)
    return heart.expected


def check_heart(venue: Venue, heart: Heart, due_ns: int) -> None:
    """Cancel what rests for a silent key, and look again in five seconds."""
    if venue.hearts.get(heart.key) is not heart:
        return
    if due_ns - heart.beat_ns >= SILENCE_MAX_NS:
        for name in venue.by_owner.get(heart.key, ()):
            order = venue.orders[name]
            if order.status == "LIVE":
                close_resting(venue, order, "CANCELED", due_ns)
    add_timer(venue, due_ns + CHECK_NS, "heartbeat", heart)


def _next_id(venue: Venue, key: str) -> str:
    root = f"{venue.config.seed}/heartbeat/{key}/{next_number(venue)}".encode()
    text = blake2b(root, digest_size=16).hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
