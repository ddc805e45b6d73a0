"""The Data API's portfolios: positions, value, holders, rankings (protocol.md 6.4)."""

from collections import defaultdict
from typing import Final

from aiohttp import web

from services.paper_venue.data_query import BadQueryError, Query, conditions_of, get, page_of
from services.paper_venue.http import answer, shell_of
from services.paper_venue.ledger import Position
from services.paper_venue.public import (
    current_price,
    position_row,
    position_status,
    wallet_value,
)
from services.paper_venue.state import ANONYMOUS, FEES, Row, Venue
from services.paper_venue.wire import Json, number
from shared.domain.ids import TokenId, Wallet
from shared.domain.units import NS_PER_S, Shares, proceeds_down

DUST_FLOOR: Final = "0.1"  # shares: what /v2/positions hides unless asked
TITLE_MAX: Final = 200
STATUSES: Final = ("OPEN", "REDEEMABLE", "REDEEMABLE_LOST", "MERGEABLE", "CLOSED")
# A narrower status is reported as the wider one, and listed under both.
_WIDER: Final = {"MERGEABLE": "OPEN", "REDEEMABLE_LOST": "REDEEMABLE"}
SORTS: Final = (
    *("CURRENT_VALUE", "PRICE", "TOKENS", "UNREALIZED_PNL", "REALIZED_PNL", "TOTAL_PNL"),
    "TIMESTAMP",
)
_POSITION_FILTERS: Final = (
    *("user", "condition_id", "event_id", "status", "title", "filter_type", "filter_amount"),
    *("include_archived", "sort_by", "sort_direction", "start", "end"),
)
_PERIODS_S: Final = {"DAY": 86_400, "WEEK": 7 * 86_400, "MONTH": 30 * 86_400, "ALL": 0}


@get("/v2/positions")
def get_positions(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request, _POSITION_FILTERS)
    user, conditions = query.wallet(), conditions_of(venue, query)
    if user is None and ("event_id" in query or conditions is None or len(conditions) != 1):
        raise BadQueryError("user or exactly one condition_id is required", "user")
    statuses = _statuses(query, user)
    floor = query.micro("filter_amount", DUST_FLOOR)
    in_cash = query.choice("filter_type", ("CASH", "TOKENS"), "TOKENS") == "CASH"
    title = query.text("title").strip().lower()
    if len(title) > TITLE_MAX:
        raise BadQueryError(f"title has at most {TITLE_MAX} characters", "title")
    start, end = query.whole("start", 0), query.whole("end", 1 << 62)
    found = []
    for holder in [user] if user is not None else list(venue.ledger.positions):
        for token, position in venue.ledger.positions.get(holder, {}).items():
            status = position_status(venue, holder, token, position)
            listing = venue.listings[position.condition]
            amount: int = position.size
            if in_cash:
                amount = proceeds_down(current_price(listing, position.outcome), position.size)
            if (
                statuses & {status, _WIDER.get(status)}
                and (conditions is None or position.condition in conditions)
                and (amount >= floor or status == "CLOSED")
                and title in listing.market.question.lower()
                and start <= position.last_s <= end
            ):
                found.append((holder, token, position))
    return page_of(query, _sorted(venue, query, found))


@get("/v2/value")
def get_value(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request)
    user = query.needed_wallet()
    value = wallet_value(venue, user, conditions_of(venue, query))
    return answer({"data": {"proxy_wallet": user, "value": number(value)}})


@get("/v2/holders")
def get_holders(request: web.Request) -> web.Response:
    """List who holds each outcome of the named markets, the largest first."""
    venue, query = shell_of(request).venue, Query(request, ("condition_id", "min_balance"))
    conditions, floor = query.conditions(), query.micro("min_balance", "0.1")
    if not conditions:
        raise BadQueryError("condition_id is required", "condition_id")
    held: dict[TokenId, list[tuple[int, Wallet, Position]]] = {
        token: []
        for condition, listing in venue.listings.items()
        if condition in conditions
        for token in listing.market.tokens
    }
    for wallet, positions in venue.ledger.positions.items():
        for token, position in positions.items():
            if token in held and position.size > 0 and position.size >= floor:
                held[token].append((position.size, wallet, position))
    found: list[Json] = []
    for token, holders in held.items():
        largest = sorted(holders, key=lambda each: (-each[0], each[1]))
        shown = [_holder(venue, wallet, token, position) for _, wallet, position in largest]
        found.append({"token_id": token, "holders": shown})
    return page_of(query, found)


@get("/v2/leaderboard")
def get_leaderboard(request: web.Request) -> web.Response:
    """Rank by profit or by volume in shares; profit is all-time whatever the period."""
    venue, query = shell_of(request).venue, Query(request, ("category", "time_period", "sort_by"))
    period_s = _PERIODS_S[query.choice("time_period", _PERIODS_S, "DAY")]
    since_s = shell_of(request).now_ns() // NS_PER_S - period_s if period_s else 0
    volumes: defaultdict[Wallet, int] = defaultdict(int)
    for row in _trades_since(venue, since_s, query.text("category").lower()):
        volumes[row.wallet] += row.size
    profits = {wallet: _profit(venue, wallet) for wallet in volumes}
    ranked = {
        "PNL": sorted(volumes, key=lambda wallet: (-profits[wallet], wallet)),
        "VOLUME": sorted(volumes, key=lambda wallet: (-volumes[wallet], wallet)),
    }
    user = query.wallet()
    if user is not None:
        if user not in volumes:
            return answer({"data": None})
        ranks = {
            "rank_pnl": ranked["PNL"].index(user) + 1,
            "rank_volume": ranked["VOLUME"].index(user) + 1,
        }
        return answer({"data": {**_trader(venue, user, profits[user], volumes[user]), **ranks}})
    order = ranked[query.choice("sort_by", ranked, "PNL")]
    found = [
        {"rank": rank, **_trader(venue, wallet, profits[wallet], volumes[wallet])}
        for rank, wallet in enumerate(order, start=1)
    ]
    return page_of(query, found)


@get("/v2/user-volume")
def get_user_volume(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request)
    user, start, end = query.needed_wallet(), query.whole("start", 0), query.whole("end", 1 << 62)
    rows = [
        row
        for row in venue.rows_of.get(user, [])
        if row.kind == "TRADE" and start <= row.block_s <= end
    ]
    volume, usd = sum(row.size for row in rows), sum(row.usd for row in rows)
    told = {"volume": number(volume), "volume_usdc": number(usd), "trade_count": len(rows)}
    return answer({"data": told})


def _statuses(query: Query, user: Wallet | None) -> set[str | None]:
    statuses: set[str | None] = {text.upper() for text in query.many("status")} or {"OPEN"}
    if not statuses <= set(STATUSES):
        raise BadQueryError(f"invalid status: {query.text('status')[:80]}", "status")
    if user is None and statuses & set(_WIDER):
        raise BadQueryError("this status needs user", "status")
    if query.flag("include_archived", default=False) and "CLOSED" in statuses:
        raise BadQueryError("include_archived is invalid with CLOSED", "include_archived")
    return statuses


def _sorted(
    venue: Venue, query: Query, found: list[tuple[Wallet, TokenId, Position]]
) -> list[Json]:
    """Show positions in the order that was asked for; equals keep a fixed order."""
    by = query.choice("sort_by", SORTS, "CURRENT_VALUE")
    found.sort(key=lambda each: each[:2])
    found.sort(key=lambda each: _measure(venue, each[2], by), reverse=query.direction() == "DESC")
    return [position_row(venue, *each) for each in found]


def _measure(venue: Venue, position: Position, by: str) -> int:
    """Return what a position is ordered by, in micro-units or seconds."""
    price = current_price(venue.listings[position.condition], position.outcome)
    value = proceeds_down(price, max(position.size, Shares(0)))
    return {
        "CURRENT_VALUE": value,
        "PRICE": price,
        "TOKENS": position.size,
        "UNREALIZED_PNL": value - position.cost,
        "REALIZED_PNL": position.realized,
        "TOTAL_PNL": value - position.cost + position.realized,
        "TIMESTAMP": position.last_s,
    }[by]


def _holder(venue: Venue, wallet: Wallet, token: TokenId, position: Position) -> Json:
    return {
        "proxy_wallet": wallet,
        "token_id": token,
        "amount": number(position.size),
        "outcome_index": position.outcome,
        "display_username_public": True,
        "verified": False,
        "name": venue.names.get(wallet, ""),
        "pseudonym": "",
        "bio": "",
        "profile_image": "",
        "profile_image_optimized": "",
    }


def _trades_since(venue: Venue, since_s: int, category: str) -> list[Row]:
    return [
        row
        for row in venue.rows
        if row.kind == "TRADE"
        and row.block_s >= since_s
        and row.wallet not in (ANONYMOUS, FEES)
        and category in ("", "overall", venue.listings[row.condition].market.category.lower())
    ]


def _profit(venue: Venue, wallet: Wallet) -> int:
    positions = venue.ledger.positions.get(wallet, {}).values()
    return sum(_measure(venue, position, "TOTAL_PNL") for position in positions)


def _trader(venue: Venue, wallet: Wallet, profit: int, volume: int) -> Json:
    return {
        "user_id": wallet,
        "pnl": number(profit),
        "volume": number(volume),
        "user_name": venue.names.get(wallet, ""),
        "profile_image": "",
        "x_username": "",
        "verified": False,
    }
