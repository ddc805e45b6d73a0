"""Answers who asks for a book or for a market's terms now: within a budget of its own."""

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import msgspec
import nats
from nats.aio.msg import Msg

from services.ingester.resyncs import Budget
from shared.domain import ids
from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket.errors import VenueError
from shared.runtime.clock import Clock
from shared.runtime.config import IngesterConfig
from shared.runtime.logs import log

_logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """What the desk needs of who keeps the books."""

    async def read(self, token: TokenId) -> Book: ...
    async def answer_book(self, book: Book) -> bytes: ...
    async def answer_terms(self, condition: ConditionId) -> bytes: ...


class Desk:
    """Requests for books, beside the queue of resyncs: no storm of those holds them up."""

    def __init__(self, keeper: Keeper, clock: Clock, *, settings: IngesterConfig) -> None:
        self._keeper, self._clock = keeper, clock
        self._deadline_ms = settings.refresh_deadline_ms
        per_s = settings.book_refreshes_per_s
        self._budget = Budget(per_s, 2 * per_s, now_ns=clock.now_ns())
        self._reading: dict[TokenId, asyncio.Task[Book | VenueError]] = {}

    async def serve(self, message: Msg) -> None:
        """Answer a refresh request: ``{"token"}`` with the Book, ``{"condition"}`` the Market."""
        answer = b""
        try:
            request: dict[str, Any] = msgspec.json.decode(message.data)
            async with asyncio.timeout(self._deadline_ms / 1_000):
                answer = await self.answer(request)
        except (msgspec.DecodeError, ValueError, KeyError, TypeError) as e:
            log(_logger, logging.WARNING, "refresh_malformed", reason=str(e))
        except (VenueError, TimeoutError) as e:
            log(_logger, logging.WARNING, "refresh_unanswered", reason=str(e))
        with contextlib.suppress(nats.errors.Error):  # who asked has stopped waiting long ago
            await message.respond(answer)

    async def answer(self, request: dict[str, Any]) -> bytes:
        if "condition" in request:
            return await self._keeper.answer_terms(ids.condition_id(request["condition"]))
        book = await self.refresh(ids.token_id(request["token"]))
        return await self._keeper.answer_book(book)

    async def refresh(self, token: TokenId) -> Book:
        """Read a book over REST, once for all who ask for it meanwhile."""
        task = self._reading.get(token)
        if task is None:
            task = self._reading[token] = asyncio.create_task(self._read(token))
            task.add_done_callback(lambda _: self._reading.pop(token, None))
        read = await asyncio.shield(task)
        if isinstance(read, VenueError):
            raise read
        return read

    async def _read(self, token: TokenId) -> Book | VenueError:
        patience_ns = self._deadline_ms * NS_PER_MS
        wait_ns = self._budget.spend(now_ns=self._clock.now_ns(), patience_ns=patience_ns)
        if wait_ns is None:
            return VenueError("/book", "too many requests for books")
        await asyncio.sleep(wait_ns / NS_PER_S)
        try:
            return await self._keeper.read(token)
        except VenueError as e:
            return e
