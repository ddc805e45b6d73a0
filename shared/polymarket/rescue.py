"""What is done for a token that its stream fails: step by step, each for a bounded time.

Resubscribe it, reopen its connection, try a second connection in parallel, which takes over when
it delivers, and then live on REST, with another try now and then (protocol.md 3.5). While it is
stuck its book is read over REST all along; the steps only try to end that. Times go in, moves
come out: the shell around it makes them.
"""

from collections import Counter
from typing import Literal

import msgspec

from shared.domain.ids import TokenId
from shared.domain.units import NS_PER_S

Step = Literal["resubscribe", "reopen", "parallel", "polling"]


class Move(msgspec.Struct, frozen=True):
    """A step to take for a token; ``polling`` gives up the second connection."""

    token: TokenId
    step: Step


class Recovered(msgspec.Struct, frozen=True):
    token: TokenId
    step: Step  # the last that was tried
    took_ns: int


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How long each step may take, and how often connections are disturbed."""

    resubscribe_ns: int = 5 * NS_PER_S
    reopen_ns: int = 10 * NS_PER_S
    parallel_ns: int = 10 * NS_PER_S
    retry_ns: int = 60 * NS_PER_S  # between tries of a second connection while polling
    reopen_every_ns: int = 60 * NS_PER_S  # others live on that connection too


class _Patient(msgspec.Struct):
    home: int  # its connection
    step: Step
    began_ns: int
    until_ns: int


class Rescue:
    """The tokens that are stuck, and how far each has come."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._patients: dict[TokenId, _Patient] = {}
        self._reopened_ns: dict[int, int] = {}
        self.counts: Counter[Step | Literal["recovered"]] = Counter()

    def step(self, token: TokenId) -> Step | None:
        """Return what is being tried for a token, None where its stream is well."""
        patient = self._patients.get(token)
        return patient.step if patient else None

    @property
    def polled(self) -> int:
        """Return for how many tokens nothing helped so far."""
        return sum(1 for patient in self._patients.values() if patient.step == "polling")

    def stuck(self, token: TokenId, *, home: int, now_ns: int) -> list[Move]:
        """Begin a rescue, unless one goes on."""
        if token in self._patients:
            return []
        until_ns = now_ns + self._bounds.resubscribe_ns
        self._patients[token] = _Patient(home, "resubscribe", now_ns, until_ns)
        return [self._move(token, "resubscribe")]

    def flowing(self, token: TokenId, *, now_ns: int) -> list[Recovered]:
        """End a rescue: a stream tells of the token again."""
        patient = self._patients.pop(token, None)
        if patient is None:
            return []
        self.counts["recovered"] += 1
        return [Recovered(token, patient.step, now_ns - patient.began_ns)]

    def forget(self, token: TokenId) -> None:
        self._patients.pop(token, None)

    def forget_home(self, home: int) -> None:
        self._reopened_ns.pop(home, None)

    def poll(self, *, now_ns: int) -> list[Move]:
        """Go on with those whose step has had its time."""
        moves: list[Move] = []
        for token, patient in self._patients.items():
            if now_ns >= patient.until_ns:
                moves += self._next(token, patient, now_ns=now_ns)
        return moves

    def _next(self, token: TokenId, patient: _Patient, *, now_ns: int) -> list[Move]:
        bounds = self._bounds
        if patient.step == "resubscribe":
            reopened_ns = self._reopened_ns.get(patient.home)
            if reopened_ns is None or now_ns - reopened_ns >= bounds.reopen_every_ns:
                self._reopened_ns[patient.home] = now_ns
                patient.step, patient.until_ns = "reopen", now_ns + bounds.reopen_ns
                return [self._move(token, "reopen")]
            if now_ns - reopened_ns < bounds.reopen_ns:  # for another token of it, just now
                patient.step, patient.until_ns = "reopen", reopened_ns + bounds.reopen_ns
                return []
        if patient.step == "parallel":
            patient.step, patient.until_ns = "polling", now_ns + bounds.retry_ns
        else:
            patient.step, patient.until_ns = "parallel", now_ns + bounds.parallel_ns
        return [self._move(token, patient.step)]

    def _move(self, token: TokenId, step: Step) -> Move:
        self.counts[step] += 1
        return Move(token, step)
