"""Asks the venue what ``probes.py`` judges: first without an account, then with one.

Each probe stands for itself: one that gets no answer, or one that cannot be read, is a finding
like any other. Nothing is changed at the venue, but that credentials are created where there are
none, and that it looks at our balance again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.market import Market
from shared.domain.units import Usd
from shared.polymarket import probes, scalars, wire
from shared.polymarket.auth import Account
from shared.polymarket.errors import NotFound, Rejected, VenueError, WireError
from shared.polymarket.frames import documents
from shared.polymarket.orders import Signer, exchanges
from shared.polymarket.probes import Finding
from shared.polymarket.public import PublicVenue
from shared.polymarket.rest import Venue, derive_credentials
from shared.polymarket.signing_probe import signing
from shared.polymarket.stream import quiet_logger
from shared.polymarket.transport import Call, Http
from shared.polymarket.urls import VenueUrls

STREAM_S: Final = 10.0  # a stream that says nothing for so long after subscribing is silent
_GAMMA_ROWS: Final = 50
_NO_MARKET: Final = "no open market with a book was found"
PUBLIC: Final = (
    *("signing", "clock", "order version", "market versions", "book hash", "tick and size"),
    *("data index", "geoblock", "market stream", "activity stream"),
)
WITH_KEY: Final = ("wallet", "credentials", "closed only", "balance", "allowances", "user stream")
ALL: Final = (*PUBLIC, *WITH_KEY)

Judging = Callable[[], Awaitable[Finding]]


class _Frames(msgspec.Struct, frozen=True, kw_only=True):
    """A stream to listen to: what to send, and whether any frame will do."""

    url: str
    first: str
    awaited: str
    any_frame: bool = False  # a PONG is an answer, where an account may have nothing to hear


class Probing:
    """The probes of one venue."""

    def __init__(self, http: Http, urls: VenueUrls, *, now_ns: Callable[[], int]) -> None:
        self._http, self._urls, self._now_ns = http, urls, now_ns
        self._venue = PublicVenue(http, now_ns=now_ns, urls=urls)

    async def public(self, *, stream_s: float = STREAM_S) -> list[Finding]:
        """Make the probes that need no account, in the order of ``PUBLIC``."""
        named, gamma = await self._gamma()
        found = await asyncio.gather(
            _listed(self.clock()),
            _listed(self._ask("order version", f"version {probes.ORDER_VERSION}", self._version)),
            _listed(gamma),
            self._book(named),
            _listed(self._ask("data index", "its freshness", self._index)),
            _listed(self.geoblock()),
            _listed(self._market_stream(named, stream_s)),
            _listed(self._activity_stream(stream_s)),
        )
        return [signing(), *(finding for findings in found for finding in findings)]

    async def account(
        self, signer: Signer, own: Wallet, signature_type: int, *, least: Usd
    ) -> list[Finding]:
        """Make the probes that need the key, in the order of ``WITH_KEY``.

        ``least`` is what each exchange has to be allowed to spend.
        """
        found = [probes.wallet(signer.address, own, signature_type)]
        expected = "API credentials for this key"
        try:
            headers = signer.l1_headers(timestamp_s=self._now_ns() // 1_000_000_000)
            keys = await derive_credentials(self._http, l1_headers=headers, urls=self._urls)
        except VenueError as e:
            cure = "is the clock right, and is the key the account's?"
            found.append(_failed("credentials", expected, e, cure))
            return [*found, *(probes.unasked(name, "no credentials") for name in WITH_KEY[2:])]
        found.append(Finding(name="credentials", outcome="ok", expected=expected, seen="derived"))
        account = Account(
            address=signer.address,
            wallet=own,
            credentials=keys,
            signature_type=signature_type,  # type: ignore[arg-type] # checked by the config
        )
        return found + await self._of_account(account, least)

    async def clock(self) -> Finding:
        """Compare the venue's clock with ours."""
        return await self._ask("clock", "the venue's time", self._clock)

    async def geoblock(self) -> Finding:
        """Ask whether the venue takes orders from where we are."""
        return await self._ask("geoblock", "not blocked", self._geoblock)

    # --- without an account -----------------------------------------------------------------

    async def _clock(self) -> Finding:
        sent_ns = self._now_ns()
        theirs_ns = await self._venue.time()
        return probes.clock((sent_ns + self._now_ns()) // 2, theirs_ns)

    async def _version(self) -> Finding:
        return probes.version(await self._venue.version())

    async def _index(self) -> Finding:
        return probes.index(await self._venue.index_lag_ns())

    async def _geoblock(self) -> Finding:
        body = await self._http.send(Call(endpoint="geoblock", url=self._urls.geoblock))
        return probes.geoblock(wire.decode(body, wire.Geoblock, where="geoblock"))

    async def _gamma(self) -> tuple[tuple[TokenId, ConditionId] | None, Finding]:
        """Read some open markets; return one to look at, and what is found of their versions."""
        expected = "a page of open markets"
        params = {"closed": "false", "limit": str(_GAMMA_ROWS)}
        where = "/markets/keyset"
        try:
            body = await self._http.send(
                Call(endpoint=where, url=self._urls.gamma + where, params=params)
            )
            markets = wire.decode(body, wire.GammaPage, where=where).markets or []
            known = [named for each in markets if (named := _token_of(each)) is not None]
        except VenueError as e:
            return None, _failed("market versions", expected, e)
        finding = probes.gamma([each.version for each in markets])
        return await self._with_book(known), finding

    async def _with_book(
        self, known: Sequence[tuple[TokenId, ConditionId]]
    ) -> tuple[TokenId, ConditionId] | None:
        """Return the first of some markets that has a book: listed is not yet tradable."""
        for token, condition in known[:5]:
            try:
                await self._venue.book(token)
            except VenueError:
                continue
            return token, condition
        return None

    async def _book(self, named: tuple[TokenId, ConditionId] | None) -> list[Finding]:
        if named is None:
            return [probes.unanswered(name, "a book", _NO_MARKET)
                    for name in ("book hash", "tick and size")]  # fmt: skip
        token, condition = named
        call = Call(endpoint="/book", url=f"{self._urls.clob}/book", params={"token_id": token})
        try:
            body = await self._http.send(call)
        except VenueError as e:
            return [_failed(name, "a book", e) for name in ("book hash", "tick and size")]

        async def hashed() -> Finding:
            return probes.book_hash(body)

        async def termed() -> Finding:
            market: Market = await self._venue.market(condition)
            return probes.terms(body, market)

        return [
            await self._ask("book hash", "a book with its hash", hashed),
            await self._ask("tick and size", "a book with the market's terms", termed),
        ]

    async def _market_stream(
        self, named: tuple[TokenId, ConditionId] | None, stream_s: float
    ) -> Finding:
        if named is None:
            return probes.unanswered("market stream", "a book", _NO_MARKET)
        first = msgspec.json.encode({"type": "market", "assets_ids": [named[0]]}).decode()
        frames = _Frames(url=self._urls.market_ws, first=first, awaited="a book")
        return await _listen("market stream", frames, stream_s)

    async def _activity_stream(self, stream_s: float) -> Finding:
        wanted = [{"topic": "activity", "type": "trades"}]
        first = msgspec.json.encode({"action": "subscribe", "subscriptions": wanted}).decode()
        frames = _Frames(url=self._urls.activity_ws, first=first, awaited="a trade")
        return await _listen("activity stream", frames, stream_s)

    # --- with an account --------------------------------------------------------------------

    async def _of_account(self, account: Account, least: Usd) -> list[Finding]:
        venue = Venue(self._http, now_ns=self._now_ns, account=account, urls=self._urls)

        async def balance() -> Finding:
            await venue.update_balance()
            return probes.balance(await venue.balance())

        async def allowances() -> Finding:
            return probes.allowances(await venue.allowances(), exchanges(), least)

        keys = account.credentials
        auth = {"apiKey": keys.api_key, "secret": keys.secret, "passphrase": keys.passphrase}
        first = msgspec.json.encode({"type": "user", "auth": auth}).decode()
        stream = _Frames(
            url=self._urls.user_ws, first=first, awaited="an answer to PING", any_frame=True
        )
        return [
            await self.closed_only(venue),
            await self._ask("balance", "our collateral", balance),
            await self._ask("allowances", "what each exchange may spend", allowances),
            await _listen("user stream", stream, STREAM_S),
        ]

    async def closed_only(self, venue: Venue) -> Finding:
        """Ask whether our account may still open positions."""

        async def judge() -> Finding:
            return probes.closed_only(await venue.closed_only())

        return await self._ask("closed only", "an account that may open", judge)

    async def _ask(self, name: str, expected: str, judge: Judging) -> Finding:
        try:
            return await judge()
        except VenueError as e:
            return _failed(name, expected, e)


async def _listed(finding: Finding | Awaitable[Finding]) -> list[Finding]:
    return [finding if isinstance(finding, Finding) else await finding]


def _failed(name: str, expected: str, e: VenueError, cure: str = "") -> Finding:
    """Tell a venue that says another thing from one that says nothing."""
    if isinstance(e, Rejected | NotFound):
        return probes.refused(name, expected, str(e), cure or "is the address right?")
    if isinstance(e, WireError):
        return probes.unreadable(name, expected, str(e))
    return probes.unanswered(name, expected, str(e))


def _token_of(told: wire.GammaMarket) -> tuple[TokenId, ConditionId] | None:
    """Return a market's first token and its condition; None where Gamma names no token yet."""
    where, tokens = "gamma.clobTokenIds", told.clob_token_ids
    if isinstance(tokens, str):
        tokens = wire.decode(tokens, list[str], where=where) if tokens else []
    if not tokens:
        return None
    return scalars.token(tokens[0], where=where), scalars.condition(told.condition_id, where=where)


def _open(url: str) -> connect:
    return connect(url, ping_interval=None, logger=quiet_logger())


async def _listen(name: str, frames: _Frames, limit_s: float) -> Finding:
    """Open a stream and wait for its first word; frames are never shown: one has the keys."""
    expected = f"{frames.awaited} within {limit_s:g} s"
    try:
        async with asyncio.timeout(limit_s), _open(frames.url) as socket:
            await socket.send(frames.first)
            await socket.send("PING")
            while True:
                frame = await socket.recv(decode=False)
                if frames.any_frame or documents(frame, where=name)[0]:
                    return Finding(name=name, outcome="ok", expected=expected, seen="it came")
    except TimeoutError:
        return probes.unanswered(name, expected, f"nothing from {frames.url}")
    except (OSError, InvalidHandshake, WebSocketException) as e:
        return probes.unanswered(name, expected, f"{frames.url}: {type(e).__name__}: {e}"[:200])
