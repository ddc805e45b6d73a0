"""What the rules do to orders and their settlement."""

from typing import Final

import msgspec
from aiohttp import web

from services.paper_venue.http import answer
from services.paper_venue.posting import PostBody
from services.paper_venue.rules import Armed, Place
from services.paper_venue.settlement import add_timer
from services.paper_venue.shell import Shell
from services.paper_venue.state import Listing, Order, TickChanged
from services.paper_venue.trading import FAK_KILLED, FOK_KILLED
from services.paper_venue.wire import Json
from shared.domain.ids import OrderHash, TokenId
from shared.domain.units import Price, parse_micro

FINE: Final = Price(1_000)
COARSE: Final = Price(10_000)


def before_order(shell: Shell, body: PostBody) -> web.Response | None:
    """Change the market under an order, or refuse it; None: it goes on."""
    rules, now_ns = shell.rules, shell.now_ns()
    if rules.idle:
        return None
    place = _place(body)
    rejected = rules.fire("reject", place, now_ns)
    if rejected is not None:
        body_told = rejected.rule.body or {"error": "could not insert order"}
        return answer(body_told, rejected.rule.status)
    condition = shell.venue.by_token.get(TokenId(body.order.tokenId))
    if condition is None:
        return None
    listing = shell.venue.listings[condition]
    tick = rules.fire("tick_changed", place, now_ns)
    if tick is not None:
        shell.apply(lambda at_ns: _change_tick(shell, listing, tick.rule.tick, at_ns))
    closed = rules.fire("market_closed", place, now_ns)
    if closed is not None:
        listing.market = msgspec.structs.replace(listing.market, accepting_orders=False)
        if closed.delay_ns:
            add_timer(shell.venue, now_ns + closed.delay_ns, "reopen", listing)
    return None


def after_order(shell: Shell, body: PostBody, result: Json) -> str:
    """Return the refusal to tell instead of a success; "" where none. May cancel what rests."""
    rules, now_ns = shell.rules, shell.now_ns()
    if rules.idle:
        return ""
    place = _place(body)
    kills = result["tradeIDs"] and body.orderType in ("FAK", "FOK")
    if kills and rules.fire("killed_but_filled", place, now_ns):
        return FOK_KILLED if body.orderType == "FOK" else FAK_KILLED
    order = shell.venue.orders[OrderHash(result["orderID"])]
    if order.status == "LIVE":
        cancelled = rules.fire("cancelled_by_venue", place, now_ns)
        if cancelled is not None:
            shell.apply(lambda at_ns: _cancel_later(shell, order, cancelled, at_ns))
    return ""


def _place(body: PostBody) -> Place:
    return Place(
        method="POST",
        path="/order",
        tokens=(body.order.tokenId,),
        wallets=(body.order.maker.lower(),),
    )


def _change_tick(shell: Shell, listing: Listing, told: str, now_ns: int) -> None:
    old = listing.market.tick
    new = Price(parse_micro(told)) if told else (COARSE if old == FINE else FINE)
    listing.market = msgspec.structs.replace(listing.market, tick=new)
    shell.venue.events.append(TickChanged(listing.market.condition, old, new, now_ns))


def _cancel_later(shell: Shell, order: Order, armed: Armed, now_ns: int) -> None:
    add_timer(shell.venue, now_ns + armed.delay_ns, "withdraw", order)
