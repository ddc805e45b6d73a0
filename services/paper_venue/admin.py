"""The operator's control, for tests and demonstrations: loopback only, no authentication."""

import ipaddress
from hashlib import blake2b
from typing import Final

import msgspec
from aiohttp import web

from services.paper_venue.admin_bodies import (
    ActivityBody,
    BookBody,
    FillBody,
    FillsBody,
    FundBody,
    Levels,
    MarketBody,
    OutsideBody,
    ResolveBody,
    condition_of,
    micro_of,
    size_of,
    wallet_of,
)
from services.paper_venue.config import Funded
from services.paper_venue.core import (
    Fill,
    execute_activity,
    execute_fill,
    fund,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.http import Handler, answer, decode, parameter, shell_of
from services.paper_venue.markets import schedule_start
from services.paper_venue.public import activity_row, ledger_entry
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.shell import Shell
from services.paper_venue.state import Order, Refused, Row, Trade, Venue, next_number
from services.paper_venue.tape import invented_condition, invented_token
from services.paper_venue.trading import post_order
from services.paper_venue.wire import Json
from shared.domain.ids import (
    OrderHash,
    condition_id,
    token_id,
    tx_hash,
)
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd, cost_up

routes = web.RouteTableDef()
ROWS_SHOWN_MAX: Final = 10_000


@web.middleware
async def only_from_here(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse /admin to anybody beyond the loopback interface."""
    if request.path.startswith("/admin") and not is_from_here(request):
        raise Refused("the control API answers on the loopback interface only", 403)
    return await handler(request)


def is_from_here(request: web.Request) -> bool:
    """Tell whether a request came through the loopback interface."""
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


@routes.post("/admin/market")
async def post_market(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), MarketBody, "invalid market")
    market = _market(shell.venue, body)

    def change(now_ns: int) -> None:
        listing = open_market(shell.venue, market, now_ns)
        listing.seconds_delay = body.seconds_delay
        if body.start_s:
            schedule_start(shell.venue, listing, body.start_s * NS_PER_S)
        set_depth(shell.venue, market.condition, _levels(body.bids), _levels(body.asks), now_ns)

    shell.apply(change)
    return answer(
        {"condition": market.condition, "tokens": list(market.tokens), "slug": market.slug}
    )


@routes.post("/admin/book")
async def post_book(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), BookBody, "invalid book")
    bids, asks = _levels(body.bids), _levels(body.asks)
    condition = condition_of(body.condition)
    shell.apply(lambda now_ns: set_depth(shell.venue, condition, bids, asks, now_ns))
    return answer({"ok": True})


@routes.post("/admin/fill")
async def post_fill(request: web.Request) -> web.Response:
    shell = shell_of(request)
    fill = _fill(decode(await request.read(), FillBody, "invalid fill"), immediate=False)
    trades = shell.apply(lambda now_ns: execute_fill(shell.venue, fill, now_ns))
    return answer(_filled(shell.venue, trades))


@routes.post("/admin/fills")
async def post_fills(request: web.Request) -> web.Response:
    """Execute many fills at one moment; books are told once, after the last."""
    shell = shell_of(request)
    body = decode(await request.read(), FillsBody, "invalid fills")
    fills = [_fill(item, immediate=body.immediate) for item in body.fills]

    def change(now_ns: int) -> list[tuple[Trade, ...]]:
        return [execute_fill(shell.venue, fill, now_ns) for fill in fills]

    done = shell.apply(change)
    reply: Json = {
        "executed": sum(1 for trades in done if trades),
        "txs": [trades[0].tx if trades else "" for trades in done],
    }
    if body.rows:
        reply["fills"] = [_filled(shell.venue, trades) for trades in done]
    return answer(reply)


@routes.post("/admin/activity")
async def post_activity(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), ActivityBody, "invalid activity")
    who, condition, size = wallet_of(body.wallet), condition_of(body.condition), size_of(body.size)

    def change(now_ns: int) -> Row:
        stamp = Stamp(now_ns, new_tx(shell.venue), body.immediate)
        return execute_activity(shell.venue, who, body.type, condition, size, stamp)

    row = shell.apply(change)
    if body.type == "REDEEM":
        shell.clob.inbox.redeemed(shell.venue, row, shell.keys_for(who))
    return answer({"tx": row.tx, "row": activity_row(shell.venue, row)})


@routes.post("/admin/fund")
async def post_fund(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), FundBody, "invalid funding")
    owner = wallet_of(body.owner) if body.owner else None
    account = Funded(
        wallet=wallet_of(body.wallet),
        usd=Usd(micro_of(body.usd)),
        owner=owner,
        signature_type=body.signature_type,
    )
    shell.apply(lambda now_ns: fund(shell.venue, account, now_ns))
    cash = shell.venue.ledger.cash[account.wallet]
    return answer({"wallet": account.wallet, "usd_micro": cash})


@routes.post("/admin/trade-outside")
async def post_trade_outside(request: web.Request) -> web.Response:
    """Trade by hand for an account: a real fill-and-kill order of its own, not the bot's."""
    shell = shell_of(request)
    body = decode(await request.read(), OutsideBody, "invalid trade")
    order = _outside_order(shell, body)
    offered = cost_up(order.price, order.size)
    placed = shell.apply(lambda now_ns: post_order(shell.venue, order, offered, now_ns))
    return answer({"order": placed.order, **_filled(shell.venue, placed.trades)})


@routes.post("/admin/resolve")
async def post_resolve(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), ResolveBody, "invalid resolution")
    payouts = (micro_of(body.payouts[0]), micro_of(body.payouts[1]))
    if min(payouts) < 0 or sum(payouts) != MICRO:
        raise Refused("payouts are dollars a share and add up to 1")
    condition = condition_of(body.condition)
    shell.apply(lambda now_ns: resolve_market(shell.venue, condition, payouts, now_ns))
    return answer({"ok": True})


@routes.get("/admin/ledger")
async def get_ledger(request: web.Request) -> web.Response:
    """Return executed fills in order; ``after`` skips so many, ``wallet`` keeps one party's."""
    venue = shell_of(request).venue
    only, after = request.query.get("wallet", "").lower(), int(request.query.get("after", 0))
    trades = list(venue.trades.values())
    shown = [
        ledger_entry(venue, trade)
        for trade in trades[after : after + ROWS_SHOWN_MAX]
        if not only or only in (trade.taker, *(leg.wallet for leg in trade.legs))
    ]
    return answer({"count": len(trades), "fills": shown})


@routes.get("/admin/book-history")
async def get_book_history(request: web.Request) -> web.Response:
    """Return the published books of a market's outcome 0, oldest first, in micro-units."""
    condition = condition_of(parameter(request, "condition"))
    listing = shell_of(request).venue.listings.get(condition)
    if listing is None:
        raise Refused("market not found", 404)
    return answer({"books": [msgspec.to_builtins(levels) for levels in listing.history]})


@routes.get("/admin/orders")
async def get_orders(request: web.Request) -> web.Response:
    posted = shell_of(request).posted
    after = int(request.query.get("after", 0))
    return answer({"count": len(posted), "orders": posted[after:]})


def _filled(venue: Venue, trades: tuple[Trade, ...]) -> Json:
    """Return what a fill became: its transaction, and every row the public will see of it."""
    size = sum(trade.size for trade in trades if trade.taker == trades[0].taker)
    rows = [activity_row(venue, row) for trade in trades for row in trade.rows]
    return {
        "tx": trades[0].tx if trades else "",
        "filled_micro": size,
        "trades": [trade.id for trade in trades],
        "rows": rows,
    }


def _market(venue: Venue, body: MarketBody) -> Market:
    config = venue.config
    tokens = body.tokens or (invented_token(body.slug, 0), invented_token(body.slug, 1))
    try:
        return Market(
            condition=condition_id(body.condition or invented_condition(body.slug)),
            tokens=(token_id(tokens[0]), token_id(tokens[1])),
            outcomes=body.outcomes,
            tick=Price(micro_of(body.tick)) if body.tick else config.tick,
            size_min=Shares(micro_of(body.size_min) if body.size_min else config.size_min),
            neg_risk=body.neg_risk,
            protocol=body.protocol,
            fee_rate=micro_of(body.fee_rate) if body.fee_rate != "" else config.fee_rate,
            fee_exponent=config.fee_exponent,
            accepting_orders=body.accepting_orders,
            taker_delay=body.taker_delay,
            slug=body.slug,
            question=body.question or body.slug,
            event=body.event,
            category=body.category,
            tags=body.tags,
            end_ns=body.end_s * NS_PER_S,
        )
    except ValueError as error:
        raise Refused(f"invalid market: {error}") from None


def _outside_order(shell: Shell, body: OutsideBody) -> Order:
    who, condition = wallet_of(body.wallet), condition_of(body.condition)
    listing = shell.venue.listings.get(condition)
    if listing is None:
        raise Refused("market not found", 404)
    market = listing.market
    anything = MICRO - market.tick if body.side == "BUY" else market.tick
    number = next_number(shell.venue)
    digest = blake2b(f"outside/{number}".encode(), digest_size=32).hexdigest()
    owner = shell.venue.owner_of.get(who, who)
    return Order(
        id=OrderHash("0x" + digest),
        owner=shell.credentials(owner, 0).key,
        wallet=who,
        condition=condition,
        token=market.tokens[body.outcome],
        outcome=body.outcome,
        side=body.side,
        price=Price(micro_of(body.price) if body.price else anything),
        size=size_of(body.size),
        kind="FAK",
        created_ns=shell.now_ns(),
    )


def _fill(body: FillBody, *, immediate: bool) -> Fill:
    try:
        tx = tx_hash(body.tx) if body.tx else None
    except ValueError as error:
        raise Refused(str(error)) from None
    price = Price(micro_of(body.price)) if body.price else None
    if price is not None and not 0 < price < MICRO:
        raise Refused("a price is between 0 and 1 dollars a share")
    return Fill(
        wallet=wallet_of(body.wallet),
        condition=condition_of(body.condition),
        outcome=body.outcome,
        side=body.side,
        size=size_of(body.size),
        price=price,
        tx=tx,
        exact=body.exact,
        immediate=body.immediate or immediate,
    )


def _levels(levels: Levels) -> list[tuple[int, int]]:
    return [(micro_of(price), micro_of(size)) for price, size in levels]
