"""Digests of a lane's state: what its writer had, on record with a position of the ledger.

A snapshot encodes the state anyway, so its bytes are hashed and the digest rides on the lane's
next message: no message more, nothing encoded twice, and a state that is folded from the log is
the same with or without them.
"""

from hashlib import blake2b
from typing import Final

from shared.domain.messages import Digest
from shared.domain.units import NS_PER_S

EVERY_S: Final = 60
_BYTES: Final = 16


class Digests:
    """The digest that waits for a lane's next message, if any does."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._due_ns = 0
        self._waiting: Digest | None = None

    def saw(self, state: bytes, *, said: int, now_ns: int) -> None:
        """Take note of a state as it was saved, unless another was a short while ago."""
        if now_ns >= self._due_ns and said:
            self._due_ns = now_ns + EVERY_S * NS_PER_S
            self._waiting = Digest(said=said, shape=self._shape, hash=hash_of(state))

    def next(self, *, said: int) -> Digest | None:
        """Return the digest of the state after the lane's last message, once."""
        waiting = self._waiting
        if waiting is None:
            return None
        self._waiting = None
        if waiting.said != said:  # the lane spoke since: let the next snapshot try again
            self._due_ns = 0
            return None
        return waiting


def hash_of(state: bytes) -> str:
    """Return the digest of a state's canonical bytes, as hex."""
    return blake2b(state, digest_size=_BYTES).hexdigest()
