"""The streams of the bus, with their limits: what is kept, how much of it, and for how long."""

from typing import Any, Final

STREAM: Final = "LEDGER"
DEAD_LETTERS: Final = "DEAD_LETTERS"
LEASES: Final = "KV_leases"

_GiB: Final = 1 << 30
_DAY_NS: Final = 86_400_000_000_000

STREAMS: Final[tuple[dict[str, Any], ...]] = (
    {
        # The source of truth. It refuses rather than forgets: when max_bytes is reached services
        # stop taking risk, nothing is dropped.
        "name": STREAM,
        "subjects": ["driftless.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": 4 * _GiB,
        "max_msg_size": 1_000_000,
        "duplicate_window": 600_000_000_000,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "compression": "s2",
        "num_replicas": 1,
    },
    {
        "name": DEAD_LETTERS,
        "subjects": ["deadletter.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": _GiB // 4,
        "max_age": 30 * _DAY_NS,
        "num_replicas": 1,
    },
    {
        "name": LEASES,
        "subjects": ["$KV.leases.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": _GiB // 64,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "num_replicas": 1,
    },
)
