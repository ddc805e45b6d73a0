"""Which books are read over REST, and when: a budget for resyncs, another for who asks for one."""

from collections.abc import Sequence
from typing import Final

from shared.domain.ids import TokenId
from shared.domain.units import NS_PER_S
from shared.polymarket.public import BOOKS_MAX

_TOGETHER_MIN: Final = 3  # fewer books are asked for one by one


class Budget:
    """A token bucket: ``per_s`` requests a second, ``burst`` at once."""

    def __init__(self, per_s: int, burst: int, *, now_ns: int) -> None:
        self._per_s, self._most = per_s, burst * NS_PER_S
        self._left, self._at_ns = self._most, now_ns  # in billionths of a request

    def wait_ns(self, *, now_ns: int) -> int:
        """Return how long until a request may be sent; 0: now."""
        passed_ns = max(0, now_ns - self._at_ns)
        self._left = min(self._most, self._left + passed_ns * self._per_s)
        self._at_ns = max(self._at_ns, now_ns)
        return max(0, -(-(NS_PER_S - self._left) // self._per_s))

    def spend(self, *, now_ns: int, patience_ns: int = 0) -> int | None:
        """Take a request out of the budget; return how long it has to wait for its turn.

        None, and nothing is taken, where that is longer than the caller's patience.
        """
        wait_ns = self.wait_ns(now_ns=now_ns)
        if wait_ns > patience_ns:
            return None
        self._left -= NS_PER_S
        return wait_ns


class Resyncs:
    """The tokens that wait for a snapshot, the longest waiting first."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: dict[TokenId, None] = {}  # in the order in which they were asked for
        self._alone: set[TokenId] = set()
        self.reading: set[TokenId] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, token: TokenId, *, alone: bool = False) -> None:
        """Put a token in the queue, unless it waits there; ``alone``: no batch will do."""
        if alone:
            self._alone.add(token)
        self._waiting.setdefault(token)

    def forget(self, token: TokenId) -> None:
        self._waiting.pop(token, None)
        self._alone.discard(token)

    def wait_ns(self, *, now_ns: int) -> int | None:
        """Return how long until something can be read; None: nothing waits."""
        if all(token in self.reading for token in self._waiting):
            return None
        return self._budget.wait_ns(now_ns=now_ns)

    def take(self, *, now_ns: int) -> Sequence[TokenId]:
        """Return what to read now in one request, if anything; ``done`` has to follow."""
        free = [token for token in self._waiting if token not in self.reading]
        if not free or self._budget.spend(now_ns=now_ns) is None:
            return ()
        many = [token for token in free if token not in self._alone][:BOOKS_MAX]
        tokens = free[:1] if free[0] in self._alone or len(many) < _TOGETHER_MIN else many
        for token in tokens:
            self.forget(token)
        self.reading.update(tokens)
        return tokens

    def done(self, tokens: Sequence[TokenId]) -> None:
        self.reading.difference_update(tokens)
