"""What speaks against a live book: every reason by its name, and what is done about a hash."""

from collections import Counter
from typing import Literal

import msgspec

Reason = Literal[
    # what a message says
    "crossed book",
    "crossed snapshot",
    "best bid disagrees",
    "best ask disagrees",
    "time went back",
    "stamp from the future",
    "tick changed",
    "off the tick grid",
    "hash disagrees",
    "another market",
    "unreadable",
    # what a snapshot says
    "stale snapshot",  # older than what is known to have happened since
    "before the tick changed",
    "before a loss",  # it was asked for before we lost a change
    "before a gap",  # nobody knows what happened between it and the changes kept for it
    "REST disagrees",  # two books of one moment
    # what nobody says
    "no snapshot",
    "silent token",
    "silent connection",
    "connection lost",
    "frozen",  # REST knows of changes that the stream does not tell
    "resubscribed",  # between the two frames changes may have passed
    "polling",  # no stream delivers it
    "audit",  # nothing: a lively book is compared with REST now and then
]

HashRule = Literal["count", "distrust"]


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """What a wrong hash costs. Of streamed books the rule was observed once (protocol.md 3.3)."""

    rest: HashRule = "distrust"
    stream: HashRule = "count"


Counts = Counter[Reason]
