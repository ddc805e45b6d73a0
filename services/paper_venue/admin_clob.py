"""The operator's control over the CLOB: modes, accounts, tiers, ticks, trading, conversions."""

from typing import Literal

from aiohttp import web

from services.paper_venue.admin_bodies import Amount, Body, condition_of, micro_of, wallet_of
from services.paper_venue.balances import EXCHANGES, UNLIMITED, allow
from services.paper_venue.convert import convert
from services.paper_venue.core import tradable
from services.paper_venue.http import answer, decode, shell_of
from services.paper_venue.limits import TierName
from services.paper_venue.markets import change_tick, clear_orders, set_trading
from services.paper_venue.modes import Mode
from services.paper_venue.public import activity_row
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import Refused, Row
from shared.domain.units import NS_PER_S, Price, Shares

routes = web.RouteTableDef()


class ModeBody(Body, frozen=True, kw_only=True):
    mode: Mode
    for_s: int | None = None  # None: until another mode is set


class AccountBody(Body, frozen=True, kw_only=True):
    """What an account may do; what is left out stays as it is."""

    address: str  # the signing EOA
    closed_only: bool | None = None
    banned: bool | None = None
    tier: TierName | None = None


class GeoblockBody(Body, frozen=True, kw_only=True):
    """Where all callers are, as the site sees it."""

    blocked: bool
    country: str = "US"


class AllowanceBody(Body, frozen=True, kw_only=True):
    wallet: str
    spender: str = ""  # an exchange's address; empty: every exchange
    amount: Amount | Literal["unlimited"]


class TickBody(Body, frozen=True, kw_only=True):
    condition: str
    tick: Amount


class TradingBody(Body, frozen=True, kw_only=True):
    condition: str
    accepting_orders: bool
    clear_orders: bool = False  # resting orders end as INVALID


class ConvertBody(Body, frozen=True, kw_only=True):
    wallet: str
    conditions: tuple[str, ...]
    size: Amount
    immediate: bool = False


@routes.post("/admin/mode")
async def post_mode(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), ModeBody, "invalid mode")
    now_ns = shell.now_ns()
    until_ns = None if body.for_s is None else now_ns + body.for_s * NS_PER_S
    shell.clob.modes.set(body.mode, until_ns)
    return answer({"mode": shell.clob.modes.present(now_ns)[0]})


@routes.post("/admin/account")
async def post_account(request: web.Request) -> web.Response:
    clob = shell_of(request).clob
    body = decode(await request.read(), AccountBody, "invalid account")
    address = wallet_of(body.address)
    for members, wanted in ((clob.closed_only, body.closed_only), (clob.banned, body.banned)):
        if wanted is True:
            members.add(address)
        elif wanted is False:
            members.discard(address)
    if body.tier is not None:
        clob.set_tier(address, body.tier)
    return answer(
        {
            "address": address,
            "closed_only": address in clob.closed_only,
            "banned": address in clob.banned,
            "tier": clob.tier_of(address),
        }
    )


@routes.post("/admin/geoblock")
async def post_geoblock(request: web.Request) -> web.Response:
    body = decode(await request.read(), GeoblockBody, "invalid region")
    shell_of(request).clob.region = (body.blocked, body.country)
    return answer({"blocked": body.blocked, "country": body.country})


@routes.post("/admin/allowance")
async def post_allowance(request: web.Request) -> web.Response:
    venue = shell_of(request).venue
    body = decode(await request.read(), AllowanceBody, "invalid allowance")
    known = {spender.lower(): spender for spender in EXCHANGES}
    if body.spender and body.spender.lower() not in known:
        raise Refused("a spender is one of the exchanges")
    amount = UNLIMITED if body.amount == "unlimited" else micro_of(body.amount)
    for spender in [known[body.spender.lower()]] if body.spender else EXCHANGES:
        allow(venue, wallet_of(body.wallet), spender, amount)
    return answer({"ok": True})


@routes.post("/admin/tick")
async def post_tick(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), TickBody, "invalid tick")
    listing, tick = tradable(shell.venue, condition_of(body.condition)), Price(micro_of(body.tick))
    shell.apply(lambda now_ns: change_tick(shell.venue, listing, tick, now_ns))
    return answer({"ok": True})


@routes.post("/admin/trading")
async def post_trading(request: web.Request) -> web.Response:
    """Open or close a market for orders, and wipe what rests where asked."""
    shell = shell_of(request)
    body = decode(await request.read(), TradingBody, "invalid request")
    listing = tradable(shell.venue, condition_of(body.condition))

    def change(now_ns: int) -> None:
        set_trading(listing, accepts=body.accepting_orders)
        if body.clear_orders:
            clear_orders(shell.venue, listing, now_ns)

    shell.apply(change)
    return answer({"ok": True})


@routes.post("/admin/convert")
async def post_convert(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), ConvertBody, "invalid conversion")
    who, size = wallet_of(body.wallet), Shares(micro_of(body.size))
    conditions = [condition_of(text) for text in body.conditions]
    if size <= 0:
        raise Refused("a size is a positive number of shares")

    def change(now_ns: int) -> tuple[Row, ...]:
        stamp = Stamp(now_ns, new_tx(shell.venue), body.immediate)
        return convert(shell.venue, who, conditions, size, stamp)

    rows = shell.apply(change)
    return answer({"tx": rows[0].tx, "rows": [activity_row(shell.venue, row) for row in rows]})
