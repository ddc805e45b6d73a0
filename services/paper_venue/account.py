"""The CLOB's HTTP for accounts: keys, orders, cancels, own reads (protocol.md 1)."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from services.paper_venue.auth import Caller, authenticate, authenticate_key_request
from services.paper_venue.http import (
    RECEIVED_NS,
    answer,
    decode,
    refusal,
    shell_of,
)
from services.paper_venue.order_faults import after_order, before_order
from services.paper_venue.posting import PostBody, place
from services.paper_venue.rest import page_of
from services.paper_venue.shell import Posted, Shell
from services.paper_venue.signing import (
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    EXCHANGE_V3,
)
from services.paper_venue.state import Order, Refused
from services.paper_venue.trading import cancel_orders
from services.paper_venue.wire import (
    Json,
    open_order,
    trade_body,
)
from shared.domain.ids import OrderHash, TokenId
from shared.domain.units import NS_PER_S

routes = web.RouteTableDef()
BATCH_MAX: Final = 15
CANCELS_MAX: Final = 1_000
UNLIMITED: Final = str((1 << 256) - 1)


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
    return _place(shell, caller, decode(raw, PostBody), request[RECEIVED_NS])


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
        legs.append(leg if response.status == 200 else _rejected_leg(_error_of(leg)))
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
    return _cancel(shell_of(request), caller, _live(request, caller))


@routes.delete("/cancel-market-orders")
async def cancel_market_orders(request: web.Request) -> web.Response:
    raw = await request.read()
    caller = authenticate(request, raw, shell_of(request))
    body = decode(raw, dict[str, str])
    market, token = body.get("market", ""), body.get("asset_id", "")
    if not market and not token:
        raise Refused("Invalid payload: market or asset_id")
    wanted = [
        order
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
    return answer(page_of(request, found))


@routes.get("/data/trades")
async def get_trades(request: web.Request) -> web.Response:
    caller = await _caller(request)
    shell, query = shell_of(request), request.query
    after, before = int(query.get("after", 0)), int(query.get("before", 1 << 62))
    wallets = shell.wallets_of(caller.address)
    ids = {trade for wallet in wallets for trade in shell.venue.trades_of.get(wallet, ())}
    trades = sorted((shell.venue.trades[trade] for trade in ids), key=lambda trade: -trade.match_ns)
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
    return answer(page_of(request, found))


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
    allowances = dict.fromkeys((EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3), UNLIMITED)
    return answer({"balance": str(max(balance, 0)), "allowances": allowances})


@routes.get("/balance-allowance/update")
async def update_balance_allowance(request: web.Request) -> web.Response:
    await _caller(request)
    return answer("")


async def _caller(request: web.Request) -> Caller:
    return authenticate(request, await request.read(), shell_of(request))


def _keys(key: str, secret: str, passphrase: str) -> web.Response:
    return answer({"apiKey": key, "secret": secret, "passphrase": passphrase})


def _live(request: web.Request, caller: Caller) -> list[Order]:
    venue = shell_of(request).venue
    ids = [
        order
        for key in sorted(shell_of(request).keys_of(caller.address))
        for order in venue.by_owner.get(key, ())
    ]
    return [venue.orders[order] for order in ids if venue.orders[order].status == "LIVE"]


def _cancel(shell: Shell, caller: Caller, orders: Iterable[Order | str]) -> web.Response:
    owners = shell.keys_of(caller.address)
    ids = [order if isinstance(order, str) else order.id for order in orders]
    canceled, refused = shell.apply(lambda now_ns: cancel_orders(shell.venue, owners, ids, now_ns))
    return answer({"canceled": canceled, "not_canceled": refused})


def _place(shell: Shell, caller: Caller, body: PostBody, received_ns: int) -> web.Response:
    """Place one order and remember when it came and what it got."""
    refused_first = before_order(shell, body)
    if refused_first is not None:
        return refused_first
    order_id, error, status = "", "", 200
    try:
        result = place(shell, caller, body)
        order_id = str(result["orderID"])
        if error := after_order(shell, body, result):
            result, status = {"error": error}, 400
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


def _error_of(leg: object) -> str:
    return str(leg.get("error", leg) if isinstance(leg, dict) else leg)


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
