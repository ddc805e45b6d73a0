"""The venue's REST interface, with an account: orders, fills, balance, beside all public reads."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from shared.domain.ids import OrderHash, TokenId
from shared.domain.market import Protocol
from shared.domain.observations import OrderReport, OwnFill, PostAnswer
from shared.domain.units import NS_PER_S, Usd
from shared.polymarket import parse_own, wire
from shared.polymarket.auth import Account, Credentials, SignedOrder, l2_headers
from shared.polymarket.errors import NotFound, Rejected, WireError
from shared.polymarket.parse_own import Me
from shared.polymarket.public import PAGES_MAX, PublicVenue
from shared.polymarket.transport import Call, Http
from shared.polymarket.urls import PRODUCTION, VenueUrls

_JSON: Final = {"Content-Type": "application/json"}
_LAST_CURSOR: Final = "LTE="


class CancelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the venue cancelled the order, and its reason where it did not."""

    canceled: bool
    reason: str = ""


class Venue(PublicVenue):
    """All calls. Reads are repeated within bounds; what changes something is sent once."""

    def __init__(
        self,
        http: Http,
        *,
        now_ns: Callable[[], int],
        account: Account,
        urls: VenueUrls = PRODUCTION,
    ) -> None:
        super().__init__(http, now_ns=now_ns, urls=urls)
        self._account = account
        self._me = Me(wallet=account.wallet, owner=account.credentials.api_key)

    async def post_order(self, signed: SignedOrder, *, turn_s: float | None = None) -> PostAnswer:
        """Post an order once; the return says that the venue took it.

        Where its turn under the venue's limits does not come within ``turn_s`` it is not sent:
        HeldBack. After a ``definitive`` VenueError the order does not stand. After any other its
        outcome is unknown: look it up by its hash, and never sign a second one for the same intent.
        """
        body = await self._own("POST", "/order", body=signed.body, turn_s=turn_s)
        return parse_own.post_answer(body, signed.hash)

    async def order(self, order: OrderHash) -> OrderReport | None:
        """Return the venue's word on one order, or None where it does not know the hash."""
        endpoint = "/data/order/{hash}"
        try:
            body = await self._own("GET", f"/data/order/{order}", endpoint=endpoint)
        except NotFound:
            return None
        told = wire.decode(body, wire.Order | None, where=endpoint)  # type: ignore[arg-type]
        if told is None:
            return None
        report = parse_own.order_report(told)
        if report.order != order:
            raise WireError("another order", where=endpoint, seen=report.order)
        return report

    async def own_trades(
        self, *, after_s: int | None = None, trade_id: str | None = None
    ) -> list[OwnFill]:
        """Return our fills, of trades matched after a time or of one trade."""
        params = {} if after_s is None else {"after": str(after_s)}
        params |= {} if trade_id is None else {"id": trade_id}
        fills: list[OwnFill] = []
        async for rows in self._own_pages("/data/trades", params):
            for row in rows:
                told = wire.decode(row, wire.Trade, where="/data/trades")
                fills += parse_own.own_fills(told, self._me, now_ns=self._now_ns())
        return fills

    async def open_orders(self) -> list[OrderReport]:
        """Return the orders that rest at the venue."""
        orders: dict[OrderHash, OrderReport] = {}
        async for rows in self._own_pages("/data/orders", {}):
            for row in rows:
                told = wire.decode(row, wire.Order, where="/data/orders")
                report = parse_own.order_report(told)
                orders[report.order] = report
        return list(orders.values())

    async def cancel(self, order: OrderHash) -> CancelAnswer:
        """Ask to cancel one order; HTTP 200 alone says nothing (protocol.md 1.6)."""
        asked = msgspec.json.encode({"orderID": order})
        body = await self._own("DELETE", "/order", body=asked)
        told = wire.decode(body, wire.CancelAnswer, where="DELETE /order")
        if order in {text.lower() for text in told.canceled or ()}:
            return CancelAnswer(canceled=True)
        for text, reason in (told.not_canceled or {}).items():
            if text.lower() == order:
                return CancelAnswer(canceled=False, reason=reason[:200])
        raise WireError("no word on the order", where="DELETE /order", seen=body)

    async def balance(self) -> Usd:
        """Return our collateral as the CLOB sees it; it caches (protocol.md 1.7)."""
        return parse_own.balance(await self._balance())

    async def allowances(self) -> dict[str, int]:
        """Return what each contract may spend of our collateral, by its address in lower case.

        In micro-dollars, up to 2**256 - 1.
        """
        where = "/balance-allowance"
        told = (await self._balance()).allowances
        if told is None:
            raise WireError("no allowances", where=where)
        try:
            return {spender.lower(): int(text) for spender, text in told.items()}
        except ValueError:
            raise WireError("not a whole number", where=where, seen=told) from None

    async def update_balance(self, token: TokenId | None = None, protocol: Protocol = "v1") -> None:
        """Have the CLOB look at our collateral, or at a token of ours, on the chain again."""
        await self._own("GET", "/balance-allowance/update", params=self._asset(token, protocol))

    async def _balance(self) -> wire.Balance:
        body = await self._own("GET", "/balance-allowance", params=self._asset(None, "v1"))
        return wire.decode(body, wire.Balance, where="/balance-allowance")

    def _asset(self, token: TokenId | None, protocol: Protocol) -> dict[str, str]:
        kind = {"signature_type": str(self._account.signature_type)}
        if token is None:
            return {"asset_type": "COLLATERAL", **kind}
        asset = "CONDITIONAL-V2" if protocol == "v2" else "CONDITIONAL"
        return {"asset_type": asset, "token_id": token, **kind}

    async def closed_only(self) -> bool:
        """Tell whether only position-reducing orders pass."""
        path = "/auth/ban-status/closed-only"
        return wire.decode(await self._own("GET", path), wire.ClosedOnly, where=path).closed_only

    async def _own_pages(
        self, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[list[msgspec.Raw]]:
        cursor: dict[str, str] = {}
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            body = await self._own("GET", path, params={**params, **cursor})
            page = wire.decode(body, wire.ClobPage, where=path)
            yield page.data or []
            following = page.next_cursor
            if not following or following == _LAST_CURSOR:
                return
            if following in seen:
                raise WireError("the same cursor again", where=path, seen=following)
            seen.add(following)
            cursor = {"next_cursor": following}
        raise WireError(f"more than {PAGES_MAX} pages", where=path)

    async def _own(
        self,
        method: str,
        path: str,
        *,
        endpoint: str = "",
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        turn_s: float | None = None,
    ) -> bytes:
        """Send a signed call. The signature covers the path without its query, and the body."""

        def signed() -> dict[str, str]:
            timestamp_s = self._now_ns() // NS_PER_S
            return l2_headers(self._account, method, path, body=body, timestamp_s=timestamp_s)

        return await self._http.send(
            Call(
                endpoint=endpoint or (path if method == "GET" else f"{method} {path}"),
                url=self.urls.clob + path,
                method=method,
                params=params or {},
                headers=_JSON if body else {},
                signed=signed,
                body=body,
                is_read=method == "GET",
                turn_s=turn_s,
            )
        )


async def derive_credentials(
    http: Http, *, l1_headers: Mapping[str, str], urls: VenueUrls = PRODUCTION
) -> Credentials:
    """Return the key's API credentials, created where there are none yet.

    ``l1_headers`` are ``Signer.l1_headers`` of this moment: the key itself stays where it is.
    """
    try:
        body = await _credentials(http, urls, "GET", "/auth/derive-api-key", l1_headers)
    except (NotFound, Rejected) as e:
        if isinstance(e, Rejected) and e.status != 400:
            raise
        body = await _credentials(http, urls, "POST", "/auth/api-key", l1_headers)
    try:
        told = msgspec.json.decode(body, type=wire.ApiKey)
        return Credentials(api_key=told.api_key, secret=told.secret, passphrase=told.passphrase)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        # The body holds a secret, so nothing of it may be shown.
        raise WireError("not API credentials", where="/auth/derive-api-key") from None


async def _credentials(
    http: Http, urls: VenueUrls, method: str, path: str, headers: Mapping[str, str]
) -> bytes:
    endpoint = path if method == "GET" else f"{method} {path}"
    return await http.send(
        Call(
            endpoint=endpoint,
            url=urls.clob + path,
            method=method,
            headers=headers,
            is_read=method == "GET",
        )
    )
