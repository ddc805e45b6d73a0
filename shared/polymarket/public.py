"""What anybody may ask the venue: time, books, markets, and what wallets did and hold."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.market import Market
from shared.domain.observations import Activity, PositionReport
from shared.domain.units import NS_PER_S, Usd
from shared.polymarket import parse, scalars, wire
from shared.polymarket.errors import Garbage, NotFound, Outdated, VenueError, WireError
from shared.polymarket.freshness import STATUS, index_lag_ns
from shared.polymarket.transport import Answer, Call, Http
from shared.polymarket.urls import PRODUCTION, VenueUrls

BOOKS_MAX: Final = 100  # tokens in one request for books
CONDITIONS_MAX: Final = 20  # in one question to the Data API (protocol.md 6.1)
PAGES_MAX: Final = 2_000  # of one listing; more is an error, never a silent end
ASKED_MAX: Final = 3  # times in a row, for an answer that is not from a cache
ACTIVITY: Final = "/v2/activity"
POSITIONS: Final = "/v2/positions"
RESOLUTIONS: Final = "/v2/resolutions"
_JSON: Final = {"Content-Type": "application/json"}
# CLOSED is left out: it lists what is no longer held. Together these are every holding.
_HELD: Final = ("OPEN", "REDEEMABLE", "REDEEMABLE_LOST", "MERGEABLE")


class ActivityPage(NamedTuple):
    """Some of what a wallet did, oldest first."""

    rows: list[Activity | Garbage]
    is_old: bool  # from a cache however often it was asked for: rows may be missing
    is_last: bool


class PublicVenue:
    """The calls that need no account. Each raises a VenueError instead of guessing."""

    def __init__(
        self, http: Http, *, now_ns: Callable[[], int], urls: VenueUrls = PRODUCTION
    ) -> None:
        self._http = http
        self._now_ns = now_ns
        self.urls = urls
        self.old_answers = 0  # of the Data API that came from a cache, since the start

    async def time(self) -> int:
        """Return the venue's time in ns; it tells whole seconds."""
        return wire.decode(await self._clob("/time"), int, where="/time") * NS_PER_S

    async def version(self) -> int:
        """Return the order version the exchange accepts."""
        return wire.decode(await self._clob("/version"), wire.Version, where="/version").version

    async def book(self, token: TokenId) -> Book:
        """Return a token's book; NotFound for an unknown token and for a resolved market."""
        body = await self._clob("/book", params={"token_id": token})
        book = parse.rest_book(body, now_ns=self._now_ns())
        if book.token != token:
            raise WireError("book of another token", where="/book", seen=book.token)
        return book

    async def books(self, tokens: Sequence[TokenId]) -> list[Book | Garbage]:
        """Return the books there are; tokens without one are missing, unreadable ones Garbage."""
        books: list[Book | Garbage] = []
        for start in range(0, len(tokens), BOOKS_MAX):
            some = tokens[start : start + BOOKS_MAX]
            asked = msgspec.json.encode([{"token_id": token} for token in some])
            body = await self._clob("/books", method="POST", body=asked)
            pieces = wire.decode(body, list[msgspec.Raw], where="/books")
            books += [self._book_or_garbage(bytes(piece)) for piece in pieces]
        return books

    def _book_or_garbage(self, body: bytes) -> Book | Garbage:
        try:
            return parse.rest_book(body, now_ns=self._now_ns())
        except WireError as e:
            return Garbage.of(e)

    async def market(self, condition: ConditionId) -> Market:
        """Return a market's terms from the CLOB, named and dated by Gamma if it answers."""
        body = await self._clob(f"/clob-markets/{condition}", endpoint="/clob-markets/{condition}")
        told = wire.decode(body, wire.ClobMarket, where="/clob-markets")
        as_of_ns = self._now_ns()
        try:
            gamma = await self._gamma_market(condition)
            market = parse.market(told, gamma, as_of_ns=as_of_ns)
        except VenueError:
            market = parse.market(told, as_of_ns=as_of_ns)
        if market.condition != condition:
            raise WireError("another market", where="/clob-markets", seen=market.condition)
        return market

    async def markets_by_token(self, token: TokenId) -> ConditionId:
        """Return the market a token belongs to."""
        endpoint = "/markets-by-token/{token}"
        body = await self._clob(f"/markets-by-token/{token}", endpoint=endpoint)
        told = wire.decode(body, wire.TokenMarket, where=endpoint)
        return scalars.condition(told.condition_id, where=endpoint)

    async def activity(
        self, wallet: Wallet, *, start_s: int, end_s: int | None = None, limit: int = 500
    ) -> AsyncGenerator[ActivityPage, None]:
        """Give what a wallet did since ``start_s`` (block time), oldest first, page by page.

        A row that cannot be read is given as Garbage in its place. A listing that does not
        move on, or goes back in time, raises WireError: the reader must not call it complete.
        """
        window = {"start": str(start_s)} | ({} if end_s is None else {"end": str(end_s)})
        params = {"user": wallet, "limit": str(limit), "sort_direction": "ASC", **window}
        last_ns = 0
        async for rows, is_old, is_last in self._pages(ACTIVITY, params):
            page = [self._activity_row(row, wallet) for row in rows]
            told = [row for row in page if row is not None]
            times = [row.venue_ns for row in told if isinstance(row, Activity)]
            if times and min(times) < last_ns:
                raise WireError("a page goes back in time", where=ACTIVITY, seen=min(times))
            last_ns = max(times, default=last_ns)
            yield ActivityPage(told, is_old, is_last)

    async def index_lag_ns(self) -> int:
        """Return how far what the Data API shows is behind the chain, by its own word alone."""
        return index_lag_ns(await self._data(STATUS))

    async def positions(self, wallet: Wallet) -> list[PositionReport]:
        """Return everything a wallet holds, down to the last micro-share the venue shows."""
        held: dict[TokenId, PositionReport] = {}
        for status in _HELD:
            params = {"user": wallet, "status": status, "filter_amount": "0", "limit": "500"}
            async for rows, is_old, _ in self._pages(POSITIONS, params):
                if is_old:
                    raise Outdated(POSITIONS, "from a cache")
                for row in rows:
                    told = wire.decode(row, wire.PositionRow, where=POSITIONS)
                    report = parse.position(told)
                    if report is None:
                        continue
                    if report.wallet != wallet:
                        raise WireError("another wallet", where=POSITIONS, seen=report.wallet)
                    held[report.token] = report
        return list(held.values())

    async def value(self, wallet: Wallet) -> Usd:
        """Return what a wallet's positions are worth at the venue's prices, cash not included."""
        endpoint = "/v2/value"
        told = wire.decode(await self._data(endpoint, user=wallet), wire.DataValue, where=endpoint)
        if told.data is None:
            raise WireError("no value", where=endpoint, seen=wallet)
        if scalars.wallet(told.data.proxy_wallet, where=endpoint) != wallet:
            raise WireError("another wallet", where=endpoint, seen=told.data.proxy_wallet)
        return scalars.dollars_derived(told.data.value, where=endpoint)

    async def resolutions(
        self, conditions: Sequence[ConditionId]
    ) -> list[parse.Resolution | Garbage]:
        """Return those of the markets that are settled, with what their shares pay.

        A market that is not settled, or that the Data API does not know, is missing; a row that
        cannot be read is given as Garbage, so one of them does not hide the others.
        """
        assert 0 < len(conditions) <= CONDITIONS_MAX, "too many conditions for one question"
        endpoint = RESOLUTIONS
        try:
            body = await self._data(endpoint, condition_id=",".join(conditions))
        except NotFound:
            return []
        page = wire.decode(body, wire.DataList, where=endpoint)
        settled: list[parse.Resolution | Garbage] = []
        for row in page.data or ():
            try:
                told = parse.resolution(wire.decode(row, wire.ResolutionRow, where=endpoint))
            except WireError as e:
                settled.append(Garbage.of(e))
            else:
                settled += [told] if told and told.condition in conditions else []
        return settled

    def _activity_row(self, row: msgspec.Raw, wallet: Wallet) -> Activity | Garbage | None:
        try:
            told = wire.decode(row, wire.ActivityRow, where=ACTIVITY)
            activity = parse.activity(told, now_ns=self._now_ns())
        except WireError as e:
            return Garbage.of(e)
        if activity and activity.wallet != wallet:
            other = WireError("another wallet", where=ACTIVITY, seen=activity.wallet)
            return Garbage.of(other)
        return activity

    async def _pages(
        self, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[tuple[list[msgspec.Raw], bool, bool]]:
        """Give the pages of a Data API listing: rows, are they old, are they the last."""
        cursor: dict[str, str] = {}
        seen: set[str] = set()
        previous: list[bytes] = []
        for _ in range(PAGES_MAX):
            answer = await self._fetch(path, {**params, **cursor})
            page = wire.decode(answer.body, wire.DataPage, where=path)
            rows = [bytes(row) for row in page.data or ()]
            if rows == previous and len(set(rows)) > 1:
                raise WireError("the same page again", where=path, seen=rows[0])
            following = page.pagination.next_cursor
            yield page.data or [], answer.is_old, not following
            if page.pagination.has_more != bool(following):
                raise WireError("has_more and next_cursor disagree", where=path, seen=following)
            if not following:
                return
            if following in seen:
                raise WireError("the same cursor again", where=path, seen=following)
            seen.add(following)
            previous, cursor = rows, {"cursor": following}
        raise WireError(f"more than {PAGES_MAX} pages", where=path, seen=params.get("user", ""))

    async def _data(self, path: str, **params: str) -> bytes:
        return (await self._fetch(path, params)).body

    async def _fetch(self, path: str, params: Mapping[str, str]) -> Answer:
        """Ask the Data API past the CDN's cache, and again where a cache answers all the same."""
        asked = 0
        while True:
            asked += 1
            fresh = {"_": str(self._now_ns() + asked - 1)}
            url = self.urls.data + path
            answer = await self._http.fetch(
                Call(endpoint=path, url=url, params={**params, **fresh})
            )
            self.old_answers += answer.is_old
            if not answer.is_old or asked == ASKED_MAX:
                return answer

    async def _gamma_market(self, condition: ConditionId) -> wire.GammaMarket | None:
        body = await self._http.send(
            Call(
                endpoint="/markets/keyset",
                url=f"{self.urls.gamma}/markets/keyset",
                params={"condition_ids": condition, "include_tag": "true"},
            )
        )
        page = wire.decode(body, wire.GammaPage, where="/markets/keyset")
        return page.markets[0] if page.markets else None

    async def _clob(
        self,
        path: str,
        *,
        endpoint: str = "",
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> bytes:
        """Send a public call; none of them changes anything, so each may be repeated."""
        return await self._http.send(
            Call(
                endpoint=endpoint or path,
                url=self.urls.clob + path,
                method=method,
                params=params or {},
                headers=_JSON if body else {},
                body=body,
            )
        )
