"""The CLOB's HTTP: prices of one token or of many, and their history (protocol.md 1.2)."""

from typing import Final

from aiohttp import web

from services.paper_venue.data_markets import ticks_of
from services.paper_venue.http import answer, shell_of
from services.paper_venue.rest import open_listing, token_of, wanted_of
from services.paper_venue.state import Listing, Refused, Venue
from services.paper_venue.wire import Json, best_prices, last_price, number, token_outcome
from shared.domain.ids import TokenId
from shared.domain.units import NS_PER_S, Price, format_micro

routes = web.RouteTableDef()
SIDES: Final = ("BUY", "SELL")
DAY_S: Final = 86_400
INTERVALS_S: Final = {
    "max": None,
    "all": None,
    "1m": 30 * DAY_S,  # a month
    "1w": 7 * DAY_S,
    "1d": DAY_S,
    "6h": 21_600,
    "1h": 3_600,
}
_NO_BOOK: Final = "No orderbook exists for the requested token id"


@routes.get("/price")
async def get_price(request: web.Request) -> web.Response:
    """Answer as production: BUY is the best bid, SELL the best ask."""
    side = _side(request.query.get("side"))
    price = _best(*token_of(request), side)
    if price is None:
        raise Refused(_NO_BOOK, 404)
    return answer({"price": format_micro(price)})


@routes.post("/prices")
async def post_prices(request: web.Request) -> web.Response:
    """Answer token to side to price; what has none is missing."""
    venue = shell_of(request).venue
    found: dict[str, dict[str, str]] = {}
    for item in await wanted_of(request):
        token, side = str(item.get("token_id", "")), _side(item.get("side"))
        listing = open_listing(venue, token)
        price = _best(listing, token_outcome(listing, token), side) if listing else None
        if price is not None:
            found.setdefault(token, {})[side] = format_micro(price)
    return answer(found)


@routes.get("/midpoint")
async def get_midpoint(request: web.Request) -> web.Response:
    bid, ask = _both_sides(request)
    return answer({"mid": format_micro((bid + ask) // 2)})


@routes.post("/midpoints")
async def post_midpoints(request: web.Request) -> web.Response:
    pairs = await _pairs(request)
    return answer({token: format_micro((bid + ask) // 2) for token, (bid, ask) in pairs.items()})


@routes.get("/spread")
async def get_spread(request: web.Request) -> web.Response:
    bid, ask = _both_sides(request)
    return answer({"spread": format_micro(ask - bid)})


@routes.post("/spreads")
async def post_spreads(request: web.Request) -> web.Response:
    pairs = await _pairs(request)
    return answer({token: format_micro(ask - bid) for token, (bid, ask) in pairs.items()})


@routes.get("/last-trade-price")
async def get_last_trade_price(request: web.Request) -> web.Response:
    listing, outcome = token_of(request)
    if listing.last_price is None:
        return answer({"price": "0.5", "side": ""})
    return answer(_last_trade(listing, outcome))


@routes.get("/last-trades-prices")
async def get_last_trades_prices(request: web.Request) -> web.Response:
    """Answer the last trades of the tokens named in ``token_ids``, joined by commas."""
    names = [name for name in request.query.get("token_ids", "").split(",") if name]
    return answer(_last_trades(shell_of(request).venue, names))


@routes.post("/last-trades-prices")
async def post_last_trades_prices(request: web.Request) -> web.Response:
    names = [str(item.get("token_id", "")) for item in await wanted_of(request)]
    return answer(_last_trades(shell_of(request).venue, names))


@routes.get("/prices-history")
async def get_prices_history(request: web.Request) -> web.Response:
    """Answer a token's last price of each bucket that saw a trade."""
    shell, query = shell_of(request), request.query
    token = query.get("market", "")
    if not token.isdecimal():
        raise Refused("Invalid token id")
    now_s = shell.now_ns() // NS_PER_S
    start_s, end_s = _second(request, "startTs", 0), _second(request, "endTs", now_s)
    interval = query.get("interval")
    if interval is not None:
        if interval not in INTERVALS_S:
            raise Refused("Invalid interval")
        span_s = INTERVALS_S[interval]
        start_s, end_s = now_s - span_s if span_s else 0, now_s
    elif "startTs" not in query:
        raise Refused("Invalid interval")
    bucket_s = 60 * max(1, _second(request, "fidelity", 1))
    last: dict[int, int] = {}
    for at_s, price in ticks_of(shell.venue, TokenId(token)):
        if start_s <= at_s <= end_s:
            last[at_s - at_s % bucket_s] = price
    return answer({"history": [{"t": at_s, "p": number(price)} for at_s, price in last.items()]})


def _last_trades(venue: Venue, names: list[str]) -> list[Json]:
    """Return the last trades; what never traded is missing."""
    found = []
    for name in names:
        listing = open_listing(venue, name)
        if listing is not None and listing.last_price is not None:
            traded = _last_trade(listing, token_outcome(listing, name))
            found.append({"token_id": name, **traded})
    return found


def _last_trade(listing: Listing, outcome: int) -> Json:
    side = listing.last_side
    if outcome == 1:
        side = "SELL" if side == "BUY" else "BUY"
    return {"price": format_micro(last_price(listing, outcome) or 0), "side": side}


def _best(listing: Listing, outcome: int, side: str) -> Price | None:
    bid, ask = best_prices(listing, outcome)
    return bid if side == "BUY" else ask


def _both_sides(request: web.Request) -> tuple[Price, Price]:
    bid, ask = best_prices(*token_of(request))
    if bid is None or ask is None:
        raise Refused(_NO_BOOK, 404)
    return bid, ask


async def _pairs(request: web.Request) -> dict[str, tuple[Price, Price]]:
    """Return best bid and ask of the tokens that have both."""
    venue = shell_of(request).venue
    found = {}
    for item in await wanted_of(request):
        token = str(item.get("token_id", ""))
        listing = open_listing(venue, token)
        if listing is not None:
            bid, ask = best_prices(listing, token_outcome(listing, token))
            if bid is not None and ask is not None:
                found[token] = (bid, ask)
    return found


def _side(told: object) -> str:
    side = str(told).upper()
    if side not in SIDES:
        raise Refused("Invalid side")
    return side


def _second(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name) or default)
    except ValueError:
        raise Refused(f"Invalid {name}") from None
