"""The CLOB's HTTP: public reads (protocol.md 1)."""

import base64
import binascii
from typing import Any, Final

import msgspec
from aiohttp import web

from services.paper_venue.http import answer, shell_of
from services.paper_venue.state import Listing, Refused, Venue, listing_of
from services.paper_venue.wire import (
    Json,
    book_body,
    market_info,
    market_long,
    market_short,
    number,
    token_outcome,
)
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import NS_PER_S

routes = web.RouteTableDef()
FIRST_CURSOR: Final = "MA=="
END_CURSOR: Final = "LTE="
PAGE: Final = 500
IDS_MAX: Final = 500  # of one read of many tokens


@routes.get("/ok")
async def get_ok(request: web.Request) -> web.Response:
    return answer("OK")


@routes.get("/time")
async def get_time(request: web.Request) -> web.Response:
    return answer(shell_of(request).now_ns() // NS_PER_S)


@routes.get("/version")
async def get_version(request: web.Request) -> web.Response:
    return answer({"version": 2})


@routes.get("/book")
async def get_book(request: web.Request) -> web.Response:
    listing, outcome = token_of(request)
    return answer(book_body(listing, outcome))


@routes.post("/books")
async def post_books(request: web.Request) -> web.Response:
    """Answer the books of the ids that have one; the others are missing."""
    venue = shell_of(request).venue
    books = []
    for item in await wanted_of(request):
        token = str(item.get("token_id", ""))
        listing = open_listing(venue, token)
        if listing is not None:
            books.append(book_body(listing, token_outcome(listing, token)))
    return answer(books)


@routes.get("/tick-size")
async def get_tick_size(request: web.Request) -> web.Response:
    listing, _ = token_of(request)
    return answer({"minimum_tick_size": number(listing.market.tick)})


@routes.get("/neg-risk")
async def get_neg_risk(request: web.Request) -> web.Response:
    listing, _ = token_of(request)
    return answer({"neg_risk": listing.market.neg_risk})


@routes.get("/fee-rate")
async def get_fee_rate(request: web.Request) -> web.Response:
    listing, _ = token_of(request)
    return answer({"base_fee": 1000 if listing.market.fee_rate else 0})


@routes.get("/clob-markets/{condition}")
async def get_clob_market(request: web.Request) -> web.Response:
    return answer(market_info(_listing(request)))


@routes.get("/markets-by-token/{token}")
async def get_market_by_token(request: web.Request) -> web.Response:
    venue = shell_of(request).venue
    condition = venue.by_token.get(TokenId(request.match_info["token"]))
    if condition is None:
        raise Refused("market not found", 404)
    tokens = venue.listings[condition].market.tokens
    return answer(
        {
            "condition_id": condition,
            "primary_token_id": tokens[0],
            "secondary_token_id": tokens[1],
        }
    )


@routes.get(r"/markets/{condition:0x[0-9a-fA-F]+}")
async def get_market(request: web.Request) -> web.Response:
    return answer(market_long(_listing(request)))


@routes.get("/markets/live-activity/{condition}")
async def get_live_activity(request: web.Request) -> web.Response:
    """Answer as production has for a year: nothing is there."""
    raise Refused("market not found", 404)


@routes.get("/simplified-markets")
async def get_simplified_markets(request: web.Request) -> web.Response:
    listings = shell_of(request).venue.listings.values()
    return answer(page_of(request, [market_short(listing) for listing in listings]))


@routes.get("/sampling-markets")
async def get_sampling_markets(request: web.Request) -> web.Response:
    return answer(page_of(request, [market_long(listing) for listing in _rewarded(request)]))


@routes.get("/sampling-simplified-markets")
async def get_sampling_simplified_markets(request: web.Request) -> web.Response:
    return answer(page_of(request, [market_short(listing) for listing in _rewarded(request)]))


def clob_markets_page(request: web.Request) -> web.Response:
    """Answer ``/markets?next_cursor=``: the CLOB's list, which shares its path with Gamma's."""
    listings = list(shell_of(request).venue.listings.values())
    return answer(page_of(request, [market_long(listing) for listing in listings]))


def token_of(request: web.Request) -> tuple[Listing, int]:
    token = request.query.get("token_id", "")
    if not token.isdecimal():
        raise Refused("Invalid token id")
    listing = listing_of(shell_of(request).venue, token)
    return listing, token_outcome(listing, token)


def open_listing(venue: Venue, token: str) -> Listing | None:
    """Return the market of a token where it has a book."""
    condition = venue.by_token.get(TokenId(token))
    listing = venue.listings[condition] if condition is not None else None
    return None if listing is None or listing.payouts is not None else listing


async def wanted_of(request: web.Request) -> list[dict[str, Any]]:
    """Return the items of a read of many tokens."""
    try:
        wanted = msgspec.json.decode(await request.read(), type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Invalid payload") from None
    if len(wanted) > IDS_MAX:
        raise Refused("Payload exceeds the limit")
    return wanted


def _rewarded(request: web.Request) -> list[Listing]:
    """Return the markets whose resting orders can score: here, all that take orders."""
    listings = shell_of(request).venue.listings.values()
    return [listing for listing in listings if listing.market.accepting_orders]


def _listing(request: web.Request) -> Listing:
    condition = ConditionId(request.match_info["condition"].lower())
    listing = shell_of(request).venue.listings.get(condition)
    if listing is None:
        raise Refused("market not found", 404)
    return listing


def page_of(request: web.Request, items: list[Json]) -> Json:
    cursor = request.query.get("next_cursor") or FIRST_CURSOR
    try:
        start = int(base64.b64decode(cursor, validate=True))
    except (binascii.Error, ValueError):
        raise Refused("Invalid next_cursor") from None
    data = items[start : start + PAGE] if start >= 0 else []
    end = start + PAGE
    more = start >= 0 and end < len(items)
    next_cursor = base64.b64encode(str(end).encode()).decode() if more else END_CURSOR
    return {"limit": PAGE, "count": len(data), "next_cursor": next_cursor, "data": data}
