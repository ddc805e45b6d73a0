"""Core NATS in memory, for processes that ask each other: subjects, requests, queue groups."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Told:
    """A message of the hub."""

    def __init__(self, data: bytes, answer: asyncio.Future[bytes] | None = None) -> None:
        self.data, self._answer = data, answer

    async def respond(self, data: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(data)


class Hub:
    """Core NATS in memory: exact subjects, ``*`` as the last token, requests, queue groups."""

    def __init__(self) -> None:
        self.heard: list[tuple[Wire, str, str, Callable[[Any], Awaitable[None]]]] = []

    def hearers(self, subject: str) -> list[Callable[[Any], Awaitable[None]]]:
        """Return who is told: everybody alive, but one of each queue group."""
        told: dict[str, Callable[[Any], Awaitable[None]]] = {}
        for number, (wire, pattern, queue, callback) in enumerate(self.heard):
            fits = pattern in (subject, subject.rpartition(".")[0] + ".*")
            if fits and wire.alive:
                told[queue or f"#{number}"] = callback
        return list(told.values())


class Wire:
    """One process's connection to the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self.alive = hub, True

    async def subscribe(
        self, subject: str, *, cb: Callable[[Any], Awaitable[None]], queue: str = "", **_: Any
    ) -> None:
        self._hub.heard.append((self, subject, queue, cb))

    async def publish(self, subject: str, data: bytes) -> None:
        for callback in self._hub.hearers(subject) if self.alive else ():
            await callback(Told(data))

    async def request(self, subject: str, data: bytes, timeout: float) -> Told:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        hearers = self._hub.hearers(subject)[:1] if self.alive else []
        tasks = [asyncio.ensure_future(callback(Told(data, answer))) for callback in hearers]
        try:
            async with asyncio.timeout(timeout):
                return Told(await answer)
        finally:
            for task in tasks:
                task.cancel()
