"""The CLOB's HTTP beside orders: balances, heartbeats, notices, reward scoring (1.6 to 1.8)."""

from typing import Any, Final

import msgspec
from aiohttp import web

from services.paper_venue.auth import Caller, authenticate
from services.paper_venue.balances import EXCHANGES, allowance, look, shown
from services.paper_venue.heartbeat import StaleBeatError, beat
from services.paper_venue.http import answer, shell_of
from services.paper_venue.rest import page_of
from services.paper_venue.state import Order, Refused
from services.paper_venue.wire import REWARD_AGE_S, REWARD_SIZE_MIN, REWARD_SPREAD_MAX, best_prices
from shared.domain.ids import OrderHash, TokenId, Wallet
from shared.domain.units import NS_PER_S

routes = web.RouteTableDef()
SCORED_MAX: Final = 500  # orders asked about in one request


@routes.get("/balance-allowance")
async def get_balance_allowance(request: web.Request) -> web.Response:
    """Answer the CLOB's view of a balance, and what each exchange may spend of it."""
    wallets, token = await _asset(request)
    venue = shell_of(request).venue
    balance = sum(shown(venue, wallet, token) for wallet in wallets)
    allowances = {
        spender: str(min((allowance(venue, wallet, spender) for wallet in wallets), default=0))
        for spender in EXCHANGES
    }
    return answer({"balance": str(balance), "allowances": allowances})


@routes.get("/balance-allowance/update")
async def update_balance_allowance(request: web.Request) -> web.Response:
    wallets, token = await _asset(request)
    for wallet in wallets:
        look(shell_of(request).venue, wallet, token)
    return answer("")


@routes.post("/v1/heartbeats")
async def post_heartbeat(request: web.Request) -> web.Response:
    caller, shell = await _caller(request, trades=True), shell_of(request)
    named = _decode(await request.read(), dict[str, Any]).get("heartbeat_id") or ""
    try:
        following = shell.apply(lambda now_ns: beat(shell.venue, caller.key, str(named), now_ns))
    except StaleBeatError as error:
        return answer({"error_msg": str(error), "heartbeat_id": error.expected}, 400)
    return answer({"heartbeat_id": following})


@routes.post("/heartbeats")
async def post_plain_heartbeat(request: web.Request) -> web.Response:
    """Answer ok and do nothing: what it is for in production is unknown."""
    await _caller(request, trades=True)
    return answer({"status": "ok"})


@routes.get("/notifications")
async def get_notifications(request: web.Request) -> web.Response:
    caller, shell = await _caller(request), shell_of(request)
    return answer(shell.clob.inbox.read(shell.keys_of(caller.address)))


@routes.delete("/notifications")
async def delete_notifications(request: web.Request) -> web.Response:
    caller, shell = await _caller(request, trades=True), shell_of(request)
    named = [text for text in request.query.get("ids", "").split(",") if text]
    if not all(text.isdecimal() for text in named):
        raise Refused("Invalid ids")
    ids = {int(text) for text in named} if named else None
    shell.clob.inbox.drop(shell.keys_of(caller.address), ids)
    return answer("OK")


@routes.get("/data/pre-migration-orders")
async def get_pre_migration_orders(request: web.Request) -> web.Response:
    """Answer no orders: nothing here is older than the exchange's second version."""
    await _caller(request)
    return answer(page_of(request, []))


@routes.get("/order-scoring")
async def get_order_scoring(request: web.Request) -> web.Response:
    caller = await _caller(request)
    name = request.query.get("order_id", "")
    if not name:
        raise Refused("Invalid order_id")
    return answer({"scoring": _scores(request, caller, name)})


@routes.post("/orders-scoring")
async def get_orders_scoring(request: web.Request) -> web.Response:
    caller = await _caller(request)
    names = _decode(await request.read(), list[str])
    if len(names) > SCORED_MAX:
        raise Refused("Payload exceeds the limit")
    return answer({name: _scores(request, caller, name) for name in names})


def _scores(request: web.Request, caller: Caller, name: str) -> bool:
    """Tell whether an order earns rewards: big, old and near the mid enough."""
    shell = shell_of(request)
    order = shell.venue.orders.get(OrderHash(name.lower()))
    if order is None or order.status != "LIVE" or order.owner not in shell.keys_of(caller.address):
        return False
    old = shell.now_ns() - order.created_ns >= REWARD_AGE_S * NS_PER_S
    return old and order.left >= REWARD_SIZE_MIN and _is_near(request, order)


def _is_near(request: web.Request, order: Order) -> bool:
    bid, ask = best_prices(shell_of(request).venue.listings[order.condition], order.outcome)
    if bid is None or ask is None:
        return False
    return abs(2 * order.price - bid - ask) <= 2 * REWARD_SPREAD_MAX


async def _asset(request: web.Request) -> tuple[set[Wallet], TokenId | None]:
    """Return whose balance of what is asked for; no token: dollars."""
    caller, shell, query = await _caller(request), shell_of(request), request.query
    wallets = {caller.address}
    kind = query.get("signature_type", "0")
    if kind not in ("0", "-1", ""):
        wallets = shell.wallets_by_type(caller.address, int(kind) if kind.isdecimal() else 0)
    asset = query.get("asset_type", "COLLATERAL").rpartition(".")[2]
    if asset == "COLLATERAL":
        return wallets, None
    if asset not in ("CONDITIONAL", "CONDITIONAL-V2"):
        raise Refused("Invalid asset_type")
    token = query.get("token_id", "")
    if not token.isdecimal():
        raise Refused("Invalid token id")
    return wallets, TokenId(token)


async def _caller(request: web.Request, *, trades: bool = False) -> Caller:
    return authenticate(request, await request.read(), shell_of(request), trades=trades)


def _decode(raw: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Invalid payload") from None
