"""Markets and books as risk and the executor read them: from the views, or asked for anew."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec
import nats
from nats.aio.client import Client

from shared.domain.book import Book
from shared.domain.freshness import age_ns
from shared.domain.ids import ConditionId, TokenId
from shared.domain.market import Market
from shared.domain.views import book_key, decode, market_key
from shared.runtime.clock import Clock
from shared.runtime.logs import log
from shared.runtime.ports import Store

REFRESH: Final = "rpc.book.refresh"  # the ingester answers: a token's Book or a condition's Market
_logger = logging.getLogger(__name__)


class Books:
    """Reads markets and books from the views, and asks the ingester where they are too old."""

    def __init__(self, store: Store, client: Client, clock: Clock, *, deadline_s: float) -> None:
        self._store, self._client, self._clock = store, client, clock
        self._deadline_s = deadline_s
        self._tokens: dict[ConditionId, tuple[TokenId, TokenId]] = {}  # a market's never change

    async def look(
        self, condition: ConditionId, *, age_ns_max: int, beside: str
    ) -> tuple[Market | None, tuple[Book | None, ...], bytes | None]:
        """Return a market, its books and one more view: one round trip once it is known."""
        if condition not in self._tokens:
            market = await self.market(condition) or await self.introduce(condition)
            if market is None:
                return None, (None, None), None
            self._tokens[condition] = market.tokens
        tokens = self._tokens[condition]
        keys = [market_key(condition), beside, *(book_key(token) for token in tokens)]
        terms, more, *found = await self._store.read_views(keys)
        market = decode(terms, Market) or await self.introduce(condition)
        return market, await self._fresh(tokens, found, age_ns_max), more

    async def market(self, condition: ConditionId) -> Market | None:
        """Return a market's terms as the ingester last read them."""
        (found,) = await self._store.read_views([market_key(condition)])
        return decode(found, Market)

    async def books(self, tokens: Sequence[TokenId], *, age_ns_max: int) -> tuple[Book | None, ...]:
        """Return the books, each from REST where its view is missing, doubted or too old."""
        found = await self._store.read_views([book_key(token) for token in tokens])
        return await self._fresh(tokens, found, age_ns_max)

    async def _fresh(
        self, tokens: Sequence[TokenId], found: Sequence[bytes | None], age_ns_max: int
    ) -> tuple[Book | None, ...]:
        now_ns = self._clock.now_ns()

        async def fresh(token: TokenId, data: bytes | None) -> Book | None:
            book = decode(data, Book)
            if book is None or not book.trusted or age_ns(book.seen_ns, now_ns) > age_ns_max:
                return await self._refreshed(token) or book
            return book

        pairs = zip(tokens, found, strict=True)
        return tuple(await asyncio.gather(*(fresh(token, data) for token, data in pairs)))

    async def _refreshed(self, token: TokenId) -> Book | None:
        return decode(await self._ask({"token": token}), Book)

    async def introduce(self, condition: ConditionId) -> Market | None:
        """Ask the ingester for a market nobody looked at before."""
        return decode(await self._ask({"condition": condition}), Market)

    async def _ask(self, request: dict[str, str]) -> bytes | None:
        try:
            reply = await self._client.request(
                REFRESH, msgspec.json.encode(request), timeout=self._deadline_s
            )
        except (TimeoutError, nats.errors.Error) as e:
            log(_logger, logging.WARNING, "refresh_failed", reason=type(e).__name__, **request)
            return None
        return reply.data or None
