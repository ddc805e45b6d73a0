"""Markets and books as risk and the executor read them: from the views, or asked for anew."""

import asyncio
import logging
from collections.abc import Sequence

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
from shared.runtime.rpc import REFRESH

_logger = logging.getLogger(__name__)


class Books:
    """Reads markets and books from the views, and asks the ingester where they are too old."""

    def __init__(self, store: Store, client: Client, clock: Clock, *, deadline_s: float) -> None:
        self._store, self._client, self._clock = store, client, clock
        self._deadline_s = deadline_s
        self._tokens: dict[ConditionId, tuple[TokenId, TokenId]] = {}  # a market's never change

    async def look(
        self, condition: ConditionId, *, age_ns_max: int, beside: Sequence[str]
    ) -> tuple[Market | None, tuple[Book | None, ...], Sequence[bytes | None]]:
        """Return a market, its books and other views: one round trip once it is known."""
        tokens = await self._tokens_of(condition)
        if tokens is None:
            return None, (None, None), await self._store.read_views(beside)
        keys = [market_key(condition), *(book_key(token) for token in tokens), *beside]
        terms, *found = await self._store.read_views(keys)
        market = decode(terms, Market) or await self.introduce(condition)
        return market, await self._fresh(tokens, found[:2], age_ns_max), found[2:]

    async def shown(
        self, conditions: Sequence[ConditionId]
    ) -> dict[ConditionId, tuple[Book | None, Book | None]]:
        """Return the books of markets as they are published, however old; unknown ones left out."""
        known = [(each, await self._tokens_of(each)) for each in conditions]
        pairs = [(condition, tokens) for condition, tokens in known if tokens is not None]
        keys = [book_key(token) for _, tokens in pairs for token in tokens]
        found = await self._store.read_views(keys) if keys else []
        books = [decode(data, Book) for data in found]
        return {
            condition: (books[2 * at], books[2 * at + 1]) for at, (condition, _) in enumerate(pairs)
        }

    async def _tokens_of(self, condition: ConditionId) -> tuple[TokenId, TokenId] | None:
        if condition not in self._tokens:
            market = await self.market(condition) or await self.introduce(condition)
            if market is None:
                return None
            self._tokens[condition] = market.tokens
        return self._tokens[condition]

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
