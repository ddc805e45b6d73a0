"""The Data API's feeds: what wallets did, and how fresh the index is (protocol.md 6)."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

from aiohttp import web

from services.paper_venue import data_markets, data_portfolio
from services.paper_venue.data_query import (
    BadQueryError,
    Query,
    conditions_of,
    envelope,
    get,
    refused,
    routes,
)
from services.paper_venue.http import answer, shell_of
from services.paper_venue.public import activity_row, trade_row
from services.paper_venue.rest_faults import data_ns
from services.paper_venue.state import Row
from services.paper_venue.status import status_body
from services.paper_venue.wire import Json
from shared.domain.units import NS_PER_S

__all__ = ["data_markets", "data_portfolio", "routes"]  # one table of routes, filled by all three
TRADES_FLOOR: Final = "0.01"  # shares: what /v2/trades hides unless asked
WINDOW_S: Final = 3 * 365 * 86_400  # how far back a feed goes unless asked
ACTIVITY_KINDS: Final = (
    *("TRADE", "SPLIT", "MERGE", "REDEEM", "REWARD", "CONVERSION", "MIGRATION", "DEPOSIT"),
    *("WITHDRAWAL", "YIELD", "MAKER_REBATE", "TAKER_REBATE", "REFERRAL_REWARD", "TIP"),
)
SIDES: Final = ("BUY", "SELL")
_MARKET_FILTERS: Final = ("user", "condition_id", "event_id", "side", "start", "end")
_ACTIVITY_FILTERS: Final = (*_MARKET_FILTERS, "type", "sort_direction")
_TRADE_FILTERS: Final = (*_MARKET_FILTERS, "taker_only", "filter_type", "filter_amount")
_RETIRED: Final = {
    "/trades": "/v2/trades",
    "/activity": "/v2/activity",
    "/positions": "/v2/positions",
    "/closed-positions": "/v2/positions?status=CLOSED",
    "/value": "/v2/value",
    "/holders": "/v2/holders",
    "/leaderboard": "/v2/leaderboard",
}


@get("/v2/activity")
def get_activity(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request, _ACTIVITY_FILTERS)
    user, side = query.needed_wallet(), query.choice("side", SIDES)
    kinds, conditions = _kinds(query), conditions_of(venue, query)
    query.flag("exclude_deposits_withdrawals", default=True)  # there are none here

    def wanted(row: Row) -> bool:
        return (
            (not kinds or row.kind in kinds)
            and (conditions is None or row.condition in conditions)
            and (not side or row.side == side)
        )

    rows = venue.rows_of.get(user, [])
    return _feed(request, query, rows, wanted, lambda row: activity_row(venue, row))


@get("/v2/trades")
def get_trades(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request, _TRADE_FILTERS)
    user, side = query.wallet(), query.choice("side", SIDES)
    if user is None and ("start" in query or "end" in query):
        raise BadQueryError("start and end need user", "start")
    conditions = conditions_of(venue, query)
    takers_only = query.flag("taker_only", default=True)
    floor = query.micro("filter_amount", TRADES_FLOOR)
    in_cash = query.choice("filter_type", ("CASH", "TOKENS"), "TOKENS") == "CASH"

    def wanted(row: Row) -> bool:
        return (
            row.kind == "TRADE"
            and (row.taker or not takers_only)
            and (conditions is None or row.condition in conditions)
            and (not side or row.side == side)
            and (row.usd if in_cash else row.size) >= floor
        )

    rows = venue.rows if user is None else venue.rows_of.get(user, [])
    return _feed(request, query, rows, wanted, lambda row: trade_row(venue, row))


@get("/v2/status")
def get_status(request: web.Request) -> web.Response:
    shell = shell_of(request)
    told = status_body(shell.venue.config, data_ns(request), shell.now_ns())
    return answer({"data": told})


def _retire(path: str, successor: str) -> None:
    @get(path)
    def answer_gone(request: web.Request) -> web.Response:
        """Refuse version 1; what production answers to it since 2026-10-24 was not observed."""
        return refused(request, f"Data API v1 was retired, use {successor}", "", 410)


for _path, _successor in _RETIRED.items():
    _retire(_path, _successor)


def _kinds(query: Query) -> set[str]:
    kinds = {kind.upper() for kind in query.many("type")}
    for kind in sorted(kinds.difference(ACTIVITY_KINDS)):
        raise BadQueryError(f"invalid activity type: {kind[:80]}", "type")
    return kinds


def _feed(
    request: web.Request,
    query: Query,
    rows: list[Row],
    wanted: Callable[[Row], bool],
    show: Callable[[Row], Json],
) -> web.Response:
    """Page through rows in (block time, sequence) order, in either direction.

    A row that the index learned of late stands in its place among rows that were read before.
    """
    now_ns = data_ns(request)
    limit, newest_first, place = query.limit(), query.direction() == "DESC", query.place()
    start = query.whole("start", shell_of(request).now_ns() // NS_PER_S - WINDOW_S)
    low = bisect_left(rows, start, key=lambda row: row.block_s)
    high = bisect_right(rows, query.whole("end", 1 << 62), key=lambda row: row.block_s)
    if place and newest_first:
        high = min(high, bisect_left(rows, place, key=lambda row: (row.block_s, row.seq)))
    elif place:
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
    next_cursor = query.cursor(page[-1].block_s, page[-1].seq) if more else None
    return answer(envelope([show(row) for row in page], limit, next_cursor))
