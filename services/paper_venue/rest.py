"""The CLOB's HTTP: public reads, keys, orders, account reads (protocol.md 1)."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from services.paper_venue.auth import Caller, authenticate, authenticate_key_request
from services.paper_venue.http import (
    RECEIVED_NS,
    answer,
    decode,
    parameter,
    refusal,
    shell_of,
)
from services.paper_venue.posting import PostBody, place
from services.paper_venue.shell import Posted, Shell
from services.paper_venue.signing import (
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    EXCHANGE_V3,
)
from services.paper_venue.state import Listing, Order, Refused, listing_of
from services.paper_venue.trading import cancel_orders
from services.paper_venue.wire import (
    Json,
    best_prices,
    book_body,
    last_price_text,
    market_info,
    market_long,
    number,
    open_order,
    token_outcome,
    trade_body,
)
from shared.domain.ids import OrderHash, TokenId
from shared.domain.units import MICRO, NS_PER_S, format_micro

routes = web.RouteTableDef()
FIRST_CURSOR: Final = "MA=="
END_CURSOR: Final = "LTE="
PAGE: Final = 500
BATCH_MAX: Final = 15
CANCELS_MAX: Final = 1_000
UNLIMITED: Final = str((1 << 256) - 1)


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
    return answer(_page(request, [market_long(listing) for listing in listings]))


@routes.post("/auth/api-key")
async def create_api_key(request: web.Request) -> web.Response:
    shell = shell_of(request)
    address, nonce = authenticate_key_request(request, shell)
    known = set(shell.keys)
    credentials = shell.credentials(address, nonce)
    if credentials.key in known:
        raise Refused("Could not create api key")
    return _keys(credentials.key, credentials.secret, credentials.passphrase)


@routes.get("/auth/derive-api-key")
async def derive_api_key(request: web.Request) -> web.Response:
    shell = shell_of(request)
    credentials = shell.credentials(*authenticate_key_request(request, shell))
    return _keys(credentials.key, credentials.secret, credentials.passphrase)


@routes.get("/auth/api-keys")
async def get_api_keys(request: web.Request) -> web.Response:
    caller = await _caller(request)
    return answer({"apiKeys": sorted(shell_of(request).keys_of(caller.address))})


@routes.get("/auth/ban-status/closed-only")
async def get_closed_only(request: web.Request) -> web.Response:
    await _caller(request)
    return answer({"closed_only": False})


@routes.post("/order")
async def post_order(request: web.Request) -> web.StreamResponse:
    raw = await request.read()
    shell = shell_of(request)
    caller = authenticate(request, raw, shell)
    faults = shell.faults
    if faults.reject_next > 0:
        faults.reject_next -= 1
        return answer(faults.body or {"error": "could not insert order"}, faults.status)
    response = _place(shell, caller, decode(raw, PostBody), request[RECEIVED_NS])
    if faults.lost_answer > 0:
        faults.lost_answer -= 1
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the answer was lost on request")
    return response


@routes.post("/orders")
async def post_orders(request: web.Request) -> web.Response:
    raw = await request.read()
    shell = shell_of(request)
    caller = authenticate(request, raw, shell)
    bodies = decode(raw, list[PostBody])
    if len(bodies) > BATCH_MAX:
        raise Refused(f"Too many orders in payload: {len(bodies)}, max allowed: {BATCH_MAX}")
    legs = []
    for body in bodies:
        response = _place(shell, caller, body, request[RECEIVED_NS])
        leg = msgspec.json.decode(bytes(response.body))  # type: ignore[arg-type]
        legs.append(leg if response.status == 200 else _rejected_leg(leg["error"]))
    return answer(legs)


@routes.delete("/order")
async def delete_order(request: web.Request) -> web.Response:
    raw = await request.read()
    caller = authenticate(request, raw, shell_of(request))
    order = decode(raw, dict[str, Any]).get("orderID")
    if not isinstance(order, str):
        raise Refused("Invalid orderID")
    return _cancel(shell_of(request), caller, [order])


@routes.delete("/orders")
async def delete_orders(request: web.Request) -> web.Response:
    raw = await request.read()
    caller = authenticate(request, raw, shell_of(request))
    orders = decode(raw, list[str])
    if len(orders) > CANCELS_MAX:
        raise Refused(f"Too many orders in payload: {len(orders)}, max allowed: {CANCELS_MAX}")
    return _cancel(shell_of(request), caller, orders)


@routes.delete("/cancel-all")
async def cancel_all(request: web.Request) -> web.Response:
    raw = await request.read()
    caller = authenticate(request, raw, shell_of(request))
    return _cancel(shell_of(request), caller, [order.id for order in _live(request, caller)])


@routes.delete("/cancel-market-orders")
async def cancel_market_orders(request: web.Request) -> web.Response:
    raw = await request.read()
    caller = authenticate(request, raw, shell_of(request))
    body = decode(raw, dict[str, str])
    market, token = body.get("market", ""), body.get("asset_id", "")
    if not market and not token:
        raise Refused("Invalid payload: market or asset_id")
    wanted = [
        order.id
        for order in _live(request, caller)
        if market in ("", order.condition) and token in ("", order.token)
    ]
    return _cancel(shell_of(request), caller, wanted)


@routes.get("/data/order/{order}")
async def get_order(request: web.Request) -> web.Response:
    caller = await _caller(request)
    shell = shell_of(request)
    order = shell.venue.orders.get(OrderHash(request.match_info["order"].lower()))
    if order is None or order.owner not in shell.keys_of(caller.address):
        return refusal("order not found", 404)
    return answer(open_order(shell.venue, order))


@routes.get("/data/orders")
async def get_orders(request: web.Request) -> web.Response:
    caller = await _caller(request)
    query = request.query
    found = [
        open_order(shell_of(request).venue, order)
        for order in _live(request, caller)
        if query.get("id", order.id) == order.id
        and query.get("market", order.condition) == order.condition
        and query.get("asset_id", order.token) == order.token
    ]
    return answer(_page(request, found))


@routes.get("/data/trades")
async def get_trades(request: web.Request) -> web.Response:
    caller = await _caller(request)
    shell, query = shell_of(request), request.query
    after, before = int(query.get("after", 0)), int(query.get("before", 1 << 62))
    wallets = shell.wallets_of(caller.address)
    ids = {trade for wallet in wallets for trade in shell.venue.trades_of.get(wallet, ())}
    trades = sorted(
        (shell.venue.trades[trade] for trade in ids), key=lambda trade: -trade.match_ns
    )
    found = [
        trade_body(shell.venue, trade, maker=trade.taker not in wallets)
        for trade in trades
        if query.get("id", trade.id) == trade.id
        and query.get("market", trade.condition) == trade.condition
        and query.get("asset_id", trade.token) == trade.token
        and query.get("maker_address", trade.taker).lower()
        in (trade.taker, *(leg.wallet for leg in trade.legs))
        and after <= trade.match_ns // NS_PER_S <= before
    ]
    return answer(_page(request, found))


@routes.get("/balance-allowance")
async def get_balance_allowance(request: web.Request) -> web.Response:
    caller = await _caller(request)
    shell, query = shell_of(request), request.query
    ledger, balance = shell.venue.ledger, 0
    wallets = {caller.address}
    if query.get("signature_type", "0") != "0":
        wallets = shell.wallets_of(caller.address) - {caller.address}
    for wallet in wallets:
        if query.get("asset_type", "COLLATERAL") == "COLLATERAL":
            balance += ledger.settled_cash[wallet]
        else:
            balance += ledger.holding(wallet, TokenId(query.get("token_id", "")))
    allowances = {name: UNLIMITED for name in (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3)}
    return answer({"balance": str(max(balance, 0)), "allowances": allowances})


@routes.get("/balance-allowance/update")
async def update_balance_allowance(request: web.Request) -> web.Response:
    await _caller(request)
    return answer("")


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


async def _caller(request: web.Request) -> Caller:
    return authenticate(request, await request.read(), shell_of(request))


def _keys(key: str, secret: str, passphrase: str) -> web.Response:
    return answer({"apiKey": key, "secret": secret, "passphrase": passphrase})


def _live(request: web.Request, caller: Caller) -> Iterable[Order]:
    shell = shell_of(request)
    for key in sorted(shell.keys_of(caller.address)):
        for order_id in shell.venue.by_owner.get(key, ()):
            order = shell.venue.orders[order_id]
            if order.status == "LIVE":
                yield order


def _cancel(shell: Shell, caller: Caller, ids: list[str]) -> web.Response:
    owners = shell.keys_of(caller.address)
    canceled, refused = shell.apply(
        lambda now_ns: cancel_orders(shell.venue, owners, ids, now_ns)
    )
    return answer({"canceled": canceled, "not_canceled": refused})


def _place(shell: Shell, caller: Caller, body: PostBody, received_ns: int) -> web.Response:
    """Place one order and remember when it came and what it got."""
    order_id, error, status = "", "", 200
    try:
        result = place(shell, caller, body)
        order_id = str(result["orderID"])
    except Refused as refused:
        result, error, status = {"error": refused.text}, refused.text, refused.status
    shell.note_posted(
        Posted(
            order=order_id,
            owner=caller.key,
            received_ns=received_ns,
            answered_ns=shell.now_ns(),
            status=status,
            error=error,
        )
    )
    return answer(result, status)


def _rejected_leg(error: str) -> Json:
    return {
        "success": True,
        "errorMsg": error,
        "orderID": "",
        "status": "",
        "makingAmount": "",
        "takingAmount": "",
        "transactionsHashes": [],
        "tradeIDs": [],
    }


def _page(request: web.Request, items: list[Json]) -> Json:
    cursor = request.query.get("next_cursor") or FIRST_CURSOR
    try:
        start = int(base64.b64decode(cursor, validate=True))
    except (binascii.Error, ValueError):
        raise Refused("Invalid next_cursor") from None
    data = items[start : start + PAGE] if start >= 0 else []
    end = start + PAGE
    more = 0 <= start and end < len(items)
    next_cursor = base64.b64encode(str(end).encode()).decode() if more else END_CURSOR
    return {"limit": PAGE, "count": len(data), "next_cursor": next_cursor, "data": data}


