"""What every stream of the venue has in common: frames of text, of one document, or of many."""

from typing import Final

import msgspec

from shared.polymarket.errors import Garbage, WireError
from shared.polymarket.wire import decode

Frame = str | bytes

_CHATTER: Final = frozenset({"", "PING", "PONG", "NO NEW ASSETS"})


def documents(frame: Frame, *, where: str) -> tuple[list[msgspec.Raw], list[Garbage]]:
    """Return the JSON documents of a frame, and what of it is none.

    A frame is an object or an array of objects, sometimes with a newline behind it, or plain
    text that says nothing about data (PONG, NO NEW ASSETS, the empty frame).
    """
    try:
        text = frame if isinstance(frame, str) else frame.decode()
    except UnicodeDecodeError:
        return [], [Garbage.of(WireError("not text", where=where, seen=frame))]
    text = text.strip()
    if text.upper() in _CHATTER:
        return [], []
    try:
        if text.startswith("["):
            return decode(text, list[msgspec.Raw], where=where), []
        return [decode(text, msgspec.Raw, where=where)], []
    except WireError as e:
        return [], [Garbage.of(e)]
