"""The CLOB's HTTP: public reads (protocol.md 1)."""

import base64
import binascii
from typing import Any, Final

from aiohttp import web

from services.paper_venue.http import (
    answer,
    decode,
    parameter,
    shell_of,
)
from services.paper_venue.state import Listing, Refused, listing_of
from services.paper_venue.wire import (
    Json,
    best_prices,
    book_body,
    market_info,
    market_long,
    number,
    token_outcome,
)
from shared.domain.ids import TokenId
from shared.domain.units import MICRO, NS_PER_S, format_micro

routes = web.RouteTableDef()
FIRST_CURSOR: Final = "MA=="
END_CURSOR: Final = "LTE="
PAGE: Final = 500


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
    listing, outcome = _token(request)
    return answer(book_body(listing, outcome))


@routes.post("/books")
async def post_books(request: web.Request) -> web.Response:
    venue = shell_of(request).venue
    wanted = decode(await request.read(), list[dict[str, Any]], "Invalid payload")
    books = []
    for item in wanted:
        token = str(item.get("token_id", ""))
        condition = venue.by_token.get(TokenId(token))
        if condition is not None and venue.listings[condition].payouts is None:
            listing = venue.listings[condition]
            books.append(book_body(listing, token_outcome(listing, token)))
    return answer(books)


@routes.get("/price")
async def get_price(request: web.Request) -> web.Response:
    """Answer as production: BUY is the best bid, SELL the best ask."""
    listing, outcome = _token(request)
    bid, ask = best_prices(listing, outcome)
    price = bid if parameter(request, "side").upper() == "BUY" else ask
    if price is None:
        raise Refused("No orderbook exists for the requested token id", 404)
    return answer({"price": format_micro(price)})


@routes.get("/midpoint")
async def get_midpoint(request: web.Request) -> web.Response:
    bid, ask = _both_sides(request)
    return answer({"mid": format_micro((bid + ask) // 2)})


@routes.get("/spread")
async def get_spread(request: web.Request) -> web.Response:
    bid, ask = _both_sides(request)
    return answer({"spread": format_micro(ask - bid)})


@routes.get("/tick-size")
async def get_tick_size(request: web.Request) -> web.Response:
    listing, _ = _token(request)
    return answer({"minimum_tick_size": number(listing.market.tick)})


@routes.get("/neg-risk")
async def get_neg_risk(request: web.Request) -> web.Response:
    listing, _ = _token(request)
    return answer({"neg_risk": listing.market.neg_risk})


@routes.get("/fee-rate")
async def get_fee_rate(request: web.Request) -> web.Response:
    listing, _ = _token(request)
    return answer({"base_fee": 1000 if listing.market.fee_rate else 0})


@routes.get("/last-trade-price")
async def get_last_trade_price(request: web.Request) -> web.Response:
    listing, outcome = _token(request)
    if listing.last_price is None:
        return answer({"price": "0.5", "side": ""})
    price = listing.last_price if outcome == 0 else MICRO - listing.last_price
    same = outcome == 0
    side = listing.last_side if same else ("SELL" if listing.last_side == "BUY" else "BUY")
    return answer({"price": format_micro(price), "side": side})


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


def clob_markets_page(request: web.Request) -> web.Response:
    """Answer ``/markets?next_cursor=``: the CLOB's list, which shares its path with Gamma's."""
    listings = list(shell_of(request).venue.listings.values())
    return answer(page_of(request, [market_long(listing) for listing in listings]))


def _token(request: web.Request) -> tuple[Listing, int]:
    token = parameter(request, "token_id")
    listing = listing_of(shell_of(request).venue, token)
    return listing, token_outcome(listing, token)


def _both_sides(request: web.Request) -> tuple[int, int]:
    bid, ask = best_prices(*_token(request))
    if bid is None or ask is None:
        raise Refused("No orderbook exists for the requested token id", 404)
    return bid, ask


def _listing(request: web.Request) -> Listing:
    listings = shell_of(request).venue.listings
    for condition, listing in listings.items():
        if condition == request.match_info["condition"].lower():
            return listing
    raise Refused("market not found", 404)


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
