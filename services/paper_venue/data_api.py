"""The Data API and Gamma over HTTP (protocol.md 6, 7): public, cursor-paged, one wallet a call."""

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec
from aiohttp import web

from services.paper_venue.http import answer, shell_of
from services.paper_venue.public import (
    activity_row,
    gamma_market,
    position_row,
    position_status,
    resolution_row,
    trade_row,
    wallet_value,
)
from services.paper_venue.rest import clob_markets_page
from services.paper_venue.rest_faults import data_ns
from services.paper_venue.state import Listing, Row
from services.paper_venue.wire import Json, number
from shared.domain.ids import TokenId, Wallet, condition_id, wallet
from shared.domain.units import NS_PER_MS, NS_PER_S, parse_micro

routes = web.RouteTableDef()
LIMIT: Final = 100
LIMIT_MAX: Final = 1_000
GAMMA_LIMIT_MAX: Final = 100
CONDITIONS_MAX: Final = 20
DUST_FLOOR: Final = "0.1"  # shares: what /v2/positions hides unless asked
TRADES_FLOOR: Final = "0.01"  # shares: what /v2/trades hides unless asked
_SHOWN_AS_OPEN: Final = ("OPEN", "MERGEABLE")


class BadQueryError(Exception):
    """A parameter the Data API refuses; it says which."""

    def __init__(self, text: str, parameter: str) -> None:
        super().__init__(text)
        self.text, self.parameter = text, parameter


class Cursor(msgspec.Struct, frozen=True):
    """Where a page ended: block second and sequence, or a plain offset, sealed."""

    block_s: int
    seq: int
    seal: str


def _seal(block_s: int, seq: int) -> str:
    return blake2b(f"cursor/{block_s}/{seq}".encode(), digest_size=8).hexdigest()


def _write_cursor(block_s: int, seq: int) -> str:
    cursor = Cursor(block_s, seq, _seal(block_s, seq))
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _read_cursor(text: str) -> Cursor:
    try:
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Cursor)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BadQueryError("invalid cursor", "cursor") from None
    if cursor.seal != _seal(cursor.block_s, cursor.seq):
        raise BadQueryError("invalid cursor", "cursor")
    return cursor


Handler = Callable[[web.Request], web.Response]


def _get(path: str) -> Callable[[Handler], Handler]:
    """Route a public read; what it refuses becomes the Data API's error body."""

    def register(handler: Handler) -> Handler:
        @routes.get(path)
        async def handle(request: web.Request) -> web.Response:
            try:
                return handler(request)
            except BadQueryError as error:
                trace = blake2b(str(request.rel_url).encode(), digest_size=16).hexdigest()
                body = {
                    "error": error.text,
                    "code": "invalid_request",
                    "parameter": error.parameter,
                    "retryable": False,
                    "trace_id": trace,
                }
                return answer(body, 400)

        return handler

    return register


@_get("/v2/activity")
def get_activity(request: web.Request) -> web.Response:
    shell, query = shell_of(request), request.query
    user = _wallet(request)
    if user is None:
        raise BadQueryError("user is required", "user")
    kinds = {kind.upper() for kind in query.get("type", "").split(",") if kind}
    conditions = _conditions(request)

    def wanted(row: Row) -> bool:
        return (
            (not kinds or row.kind in kinds)
            and (not conditions or row.condition in conditions)
            and query.get("side", row.side or "").upper() == (row.side or "")
        )

    rows = shell.venue.rows_of.get(user, [])
    return _feed(request, rows, wanted, lambda row: activity_row(shell.venue, row))


@_get("/v2/trades")
def get_trades(request: web.Request) -> web.Response:
    shell, query = shell_of(request), request.query
    if "," in query.get("user", ""):  # as production: a list is no error, and nobody
        return answer(_envelope([], _limit(request), None))
    user, conditions = _wallet(request), _conditions(request)
    if user is None and ("start" in query or "end" in query):
        raise BadQueryError("start and end need user", "start")
    takers_only = _flag(request, "taker_only", default=True)
    floor = _micro(request, "filter_amount", TRADES_FLOOR)
    in_cash = query.get("filter_type", "TOKENS").upper() == "CASH"

    def wanted(row: Row) -> bool:
        return (
            row.kind == "TRADE"
            and (row.taker or not takers_only)
            and (not conditions or row.condition in conditions)
            and query.get("side", row.side or "").upper() == row.side
            and (row.usd if in_cash else row.size) >= floor
        )

    rows = shell.venue.rows if user is None else shell.venue.rows_of.get(user, [])
    return _feed(request, rows, wanted, lambda row: trade_row(shell.venue, row))


@_get("/v2/positions")
def get_positions(request: web.Request) -> web.Response:
    shell, query = shell_of(request), request.query
    venue, user, conditions = shell.venue, _wallet(request), _conditions(request)
    if user is None and len(conditions) != 1:
        raise BadQueryError("user or exactly one condition_id is required", "user")
    floor = _micro(request, "filter_amount", DUST_FLOOR)
    statuses = {text.strip().upper() for text in query.get("status", "OPEN").split(",")}
    if "OPEN" in statuses:
        statuses.update(_SHOWN_AS_OPEN)
    holders = [user] if user is not None else list(venue.ledger.positions)
    found = []
    for holder in holders:
        for token, position in venue.ledger.positions.get(holder, {}).items():
            status = position_status(venue, holder, token, position)
            in_scope = not conditions or position.condition in conditions
            big_enough = position.size >= floor or status == "CLOSED"
            if status in statuses and in_scope and big_enough:
                found.append(position_row(venue, holder, token, position))
    return _offset_page(request, found)


@_get("/v2/value")
def get_value(request: web.Request) -> web.Response:
    user = _wallet(request)
    if user is None:
        raise BadQueryError("user is required", "user")
    value = wallet_value(shell_of(request).venue, user)
    return answer({"data": {"proxy_wallet": user, "value": number(value)}})


@_get("/v2/status")
def get_status(request: web.Request) -> web.Response:
    """Tell the index's freshness: it is as far as the Data API's delay behind now."""
    shell = shell_of(request)
    indexed_ns = data_ns(request) - shell.venue.config.data_api_delay_ms * NS_PER_MS
    behind_ms = (shell.now_ns() - indexed_ns) // NS_PER_MS
    indexed_s = indexed_ns // NS_PER_S
    return answer({"data": {"status": "ok", "indexed_timestamp": indexed_s, "lag_ms": behind_ms}})


@_get("/v2/resolutions")
def get_resolutions(request: web.Request) -> web.Response:
    listings = shell_of(request).venue.listings
    conditions = _conditions(request)
    found = [
        resolution_row(listing)
        for condition, listing in listings.items()
        if condition in conditions
    ]
    return answer({"data": found})


@_get("/markets")
def get_markets(request: web.Request) -> web.Response:
    """Serve Gamma's list; the CLOB's, on the same path, is the one with ``next_cursor``."""
    if "next_cursor" in request.query:
        return clob_markets_page(request)
    limit = min(_limit(request), GAMMA_LIMIT_MAX)
    offset = _whole(request, "offset", 0)
    return answer(_gamma_shown(request, _gamma_found(request)[offset : offset + limit]))


@_get("/markets/keyset")
def get_markets_keyset(request: web.Request) -> web.Response:
    limit = min(_limit(request), GAMMA_LIMIT_MAX)
    found = _gamma_found(request)
    after = request.query.get("after_cursor")
    start = _read_cursor(after).seq if after else 0
    end = start + limit
    body: Json = {"markets": _gamma_shown(request, found[start:end])}
    if end < len(found):
        body["next_cursor"] = _write_cursor(0, end)
    return answer(body)


@_get("/markets/slug/{slug}")
def get_market_by_slug(request: web.Request) -> web.Response:
    for listing in shell_of(request).venue.listings.values():
        if listing.market.slug == request.match_info["slug"]:
            return answer(_gamma_shown(request, [listing])[0])
    return answer({"type": "not found error", "error": "slug not found"}, 404)


def _gamma_shown(request: web.Request, listings: list[Listing]) -> list[Json]:
    with_tags = _flag(request, "include_tag", default=False)
    return [gamma_market(listing, with_tags=with_tags) for listing in listings]


def _gamma_found(request: web.Request) -> list[Listing]:
    query, venue = request.query, shell_of(request).venue
    conditions, slugs = _many(request, "condition_ids"), _many(request, "slug")
    tokens = _many(request, "clob_token_ids")
    of_tokens = {venue.by_token.get(TokenId(token)) for token in tokens}
    found = []
    for condition, listing in venue.listings.items():
        closed = "true" if listing.payouts is not None else "false"
        if (
            (not conditions or condition in {_condition(text) for text in conditions})
            and (not slugs or listing.market.slug in slugs)
            and (not tokens or condition in of_tokens)
            and query.get("closed", closed) == closed
        ):
            found.append(listing)
    return found


def _feed(
    request: web.Request,
    rows: list[Row],
    wanted: Callable[[Row], bool],
    show: Callable[[Row], Json],
) -> web.Response:
    """Page through rows in (block time, sequence) order, in either direction."""
    if "offset" in request.query:
        raise BadQueryError("offset is not supported, use cursor", "offset")
    now_ns = data_ns(request)
    limit, newest_first = _limit(request), _newest_first(request)
    start, end = _whole(request, "start", 0), _whole(request, "end", 1 << 62)
    low = bisect_left(rows, start, key=lambda row: row.block_s)
    high = bisect_right(rows, end, key=lambda row: row.block_s)
    text = request.query.get("cursor")
    if text:
        cursor = _read_cursor(text)
        place = (cursor.block_s, cursor.seq)
        if newest_first:
            high = min(high, bisect_left(rows, place, key=lambda row: (row.block_s, row.seq)))
        else:
            low = max(low, bisect_right(rows, place, key=lambda row: (row.block_s, row.seq)))
    indices = range(high - 1, low - 1, -1) if newest_first else range(low, high)
    page: list[Row] = []
    more = False
    for index in indices:
        row = rows[index]
        if row.seen_ns <= now_ns and wanted(row):
            if len(page) == limit:
                more = True
                break
            page.append(row)
    next_cursor = _write_cursor(page[-1].block_s, page[-1].seq) if more else None
    return answer(_envelope([show(row) for row in page], limit, next_cursor))


def _offset_page(request: web.Request, found: list[Json]) -> web.Response:
    limit, text = _limit(request), request.query.get("cursor")
    start = _read_cursor(text).seq if text else 0
    end = start + limit
    next_cursor = _write_cursor(0, end) if end < len(found) else None
    return answer(_envelope(found[start:end], limit, next_cursor))


def _envelope(data: list[Json], limit: int, next_cursor: str | None) -> Json:
    return {
        "data": data,
        "pagination": {
            "limit": limit,
            "offset": 0,
            "has_more": next_cursor is not None,
            "next_cursor": next_cursor,
        },
    }


def _wallet(request: web.Request) -> Wallet | None:
    text = request.query.get("user")
    if text is None:
        return None
    if "," in text:  # one wallet a request: a list names nobody
        return Wallet(text)
    try:
        return wallet(text)
    except ValueError as error:
        raise BadQueryError(str(error), "user") from None


def _conditions(request: web.Request) -> set[str]:
    named = _many(request, "condition_id")
    if len(named) > CONDITIONS_MAX:
        raise BadQueryError(f"at most {CONDITIONS_MAX} condition_ids", "condition_id")
    return {_condition(text) for text in named}


def _condition(text: str) -> str:
    try:
        return condition_id(text)
    except ValueError as error:
        raise BadQueryError(str(error), "condition_id") from None


def _many(request: web.Request, name: str) -> list[str]:
    """Return a parameter's values, repeated or comma-joined."""
    return [item for value in request.query.getall(name, []) for item in value.split(",") if item]


def _limit(request: web.Request) -> int:
    return max(1, min(_whole(request, "limit", LIMIT), LIMIT_MAX))


def _newest_first(request: web.Request) -> bool:
    return request.query.get("sort_direction", "DESC").upper() != "ASC"


def _whole(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise BadQueryError(f"{name} is not a whole number", name) from None


def _micro(request: web.Request, name: str, default: str) -> int:
    try:
        return parse_micro(request.query.get(name, default))
    except ValueError as error:
        raise BadQueryError(str(error), name) from None


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    return request.query.get(name, str(default)).lower() == "true"
