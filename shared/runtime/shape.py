"""What names the shape of a state, so that another version's snapshot is not taken for ours."""

from hashlib import blake2b
from typing import Any

import msgspec


def shape_of(kind: type[Any]) -> str:
    """Return a fingerprint of a state's type: its fields, their types and their defaults."""
    schema = msgspec.json.encode(msgspec.json.schema(kind), order="deterministic")
    return blake2b(schema, digest_size=8).hexdigest()
