"""The CLOB's HTTP for trading: orders, cancels, own orders and trades (protocol.md 1.5, 1.6)."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from services.paper_venue.auth import Caller, authenticate
from services.paper_venue.http import RECEIVED_NS, answer, refusal, shell_of
from services.paper_venue.order_faults import after_order, before_order
from services.paper_venue.posting import PostBody, place, read_bodies
from services.paper_venue.rest import page_of
from services.paper_venue.shell import Posted, Shell
from services.paper_venue.state import Order, Refused
from services.paper_venue.throttle import Charge, charge
from services.paper_venue.trading import cancel_orders
from services.paper_venue.wire import Json, open_order, trade_body
from shared.domain.ids import OrderHash
from shared.domain.units import NS_PER_S

routes = web.RouteTableDef()
BATCH_MAX: Final = 15
CANCELS_MAX: Final = 1_000
_Body = TypeVar("_Body")


@routes.post("/order")
async def post_order(request: web.Request) -> web.StreamResponse:
    shell, caller, raw = await _trader(request)
    bodies = read_bodies(raw, batch=False)
    _admit(request, caller, bodies)
    return _place(shell, caller, bodies[0], request[RECEIVED_NS])


@routes.post("/orders")
async def post_orders(request: web.Request) -> web.Response:
    shell, caller, raw = await _trader(request)
    bodies = read_bodies(raw, batch=True)
    if len(bodies) > BATCH_MAX:
        raise Refused(f"Too many orders in payload: {len(bodies)}, max allowed: {BATCH_MAX}")
    _admit(request, caller, bodies)
    legs = []
    for body in bodies:
        response = _place(shell, caller, body, request[RECEIVED_NS])
        leg = msgspec.json.decode(bytes(response.body))  # type: ignore[arg-type]
        legs.append(leg if response.status == 200 else _rejected_leg(_error_of(leg)))
    return answer(legs)


@routes.delete("/order")
async def delete_order(request: web.Request) -> web.Response:
    shell, caller, raw = await _trader(request)
    order = _decode(raw, dict[str, Any]).get("orderID")
    if not isinstance(order, str):
        raise Refused("Invalid orderID")
    _admit_cancel(request, caller, "cancel", 1)
    return _cancel(shell, caller, [order])


@routes.delete("/orders")
async def delete_orders(request: web.Request) -> web.Response:
    shell, caller, raw = await _trader(request)
    orders = _decode(raw, list[str])
    if len(orders) > CANCELS_MAX:
        raise Refused(f"Too many orders in payload: {len(orders)}, max allowed: {CANCELS_MAX}")
    _admit_cancel(request, caller, "cancel", len(orders))
    return _cancel(shell, caller, orders)


@routes.delete("/cancel-all")
async def cancel_all(request: web.Request) -> web.Response:
    shell, caller, _ = await _trader(request)
    wanted = _live(request, caller)
    _admit_cancel(request, caller, "cancel_all", len(wanted))
    return _cancel(shell, caller, wanted)


@routes.delete("/cancel-market-orders")
async def cancel_market_orders(request: web.Request) -> web.Response:
    shell, caller, raw = await _trader(request)
    body = _decode(raw, dict[str, str])
    market, token = body.get("market", ""), body.get("asset_id", "")
    if not market and not token:
        raise Refused("Invalid payload: market or asset_id")
    wanted = [
        order
        for order in _live(request, caller)
        if market in ("", order.condition) and token in ("", order.token)
    ]
    _admit_cancel(request, caller, "cancel_all", len(wanted))
    return _cancel(shell, caller, wanted)


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
    after, before = _second(request, "after", 0), _second(request, "before", 1 << 62)
    wallets = shell.wallets_of(caller.address)
    ids = {trade for wallet in wallets for trade in shell.venue.trades_of.get(wallet, ())}
    trades = sorted((shell.venue.trades[trade] for trade in ids), key=lambda trade: -trade.number)
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


async def _trader(request: web.Request) -> tuple[Shell, Caller, bytes]:
    raw = await request.read()
    shell = shell_of(request)
    return shell, authenticate(request, raw, shell, trades=True), raw


def _admit(request: web.Request, caller: Caller, bodies: list[PostBody]) -> None:
    """Refuse orders that the mode in force or the signer's rate does not allow."""
    shell = shell_of(request)
    rests = all(body.postOnly for body in bodies)
    shell.clob.modes.check("post-only order" if rests else "order", shell.now_ns())
    charge(request, caller, "order", len(bodies))


def _admit_cancel(request: web.Request, caller: Caller, kind: Charge, count: int) -> None:
    shell = shell_of(request)
    shell.clob.modes.check("cancel", shell.now_ns())
    charge(request, caller, kind, count)


def _decode(raw: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Invalid order payload") from None


async def _caller(request: web.Request) -> Caller:
    return authenticate(request, await request.read(), shell_of(request))


def _second(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name) or default)
    except ValueError:
        raise Refused(f"Invalid {name}") from None


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
            metadata=body.order.metadata,
            digest=sha256(msgspec.json.encode(body)).hexdigest(),
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
