"""The status page: what the venue is doing now, for a browser on this machine, and the test key."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from aiohttp import web

from services.paper_venue.http import answer, shell_of
from services.paper_venue.keyring import keyring
from services.paper_venue.shell import Shell
from services.paper_venue.state import ANONYMOUS, Listing, Row, Trade, Venue
from services.paper_venue.wire import Json
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_MS, NS_PER_S, Price, format_micro

routes = web.RouteTableDef()
PAGE: Final = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
MARKETS_MAX: Final = 200  # shown; open ones first, then the latest resolved
LEADERS_MAX: Final = 40  # shown; who did something last comes first
TRADES_MAX: Final = 40
ROWS_EACH: Final = 3  # of a leader's latest
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_response() -> web.Response:
    """Return the page; all that it shows it asks for, and writes as text."""
    return web.Response(text=PAGE, content_type="text/html", headers=_HEADERS)


@routes.get("/admin/page")
async def get_page(_: web.Request) -> web.Response:
    return page_response()


@routes.get("/admin/overview")
async def get_overview(request: web.Request) -> web.Response:
    return answer(overview(shell_of(request)))


@routes.get("/admin/key")
async def get_key(request: web.Request) -> web.Response:
    """Return the seed's test key and its wallets with their settled dollars."""
    venue = shell_of(request).venue
    ring = keyring(venue.config.seed)
    wallets = [
        {
            "signature_type": kind,
            "wallet": each,
            "usd": format_micro(max(0, venue.ledger.settled_cash.get(Wallet(each.lower()), 0))),
        }
        for kind, each in enumerate(ring.wallets)
    ]
    return answer(
        {
            "note": "worth nothing anywhere else: everybody can compute it from the seed",
            "private_key": ring.private_key,
            "address": ring.address,
            "wallets": wallets,
        }
    )


def overview(shell: Shell) -> Json:
    """Return what the page shows: amounts as decimal text, times in milliseconds."""
    venue = shell.venue
    return {
        "now_ms": shell.now_ns() // NS_PER_MS,
        "seed": venue.config.seed,
        "counts": _counts(shell),
        "markets": [_market(listing) for listing in _shown(venue)],
        "leaders": _leaders(venue),
        "sockets": shell.hub.delivery.views(),
        "faults": _faults(shell),
        "trades": [
            _trade(venue, trade) for trade in islice(reversed(venue.trades.values()), TRADES_MAX)
        ],
    }


def _counts(shell: Shell) -> Json:
    venue = shell.venue
    return {
        "markets": len(venue.listings),
        "open": sum(1 for listing in venue.listings.values() if listing.payouts is None),
        "orders": len(venue.orders),
        "resting": sum(1 for order in venue.orders.values() if order.status == "LIVE"),
        "posted": len(shell.posted),
        "refused": sum(1 for posted in shell.posted if posted.error),
        "trades": len(venue.trades),
        "leaders": len(venue.names),
        "sockets": len(shell.hub.delivery.peers),
    }


def _shown(venue: Venue) -> list[Listing]:
    listings = sorted(
        venue.listings.values(), key=lambda each: (each.payouts is not None, -each.number)
    )
    return listings[:MARKETS_MAX]


def _market(listing: Listing) -> Json:
    market = listing.market
    bid, ask = listing.book.best(is_bid=True), listing.book.best(is_bid=False)
    spread = None if bid is None or ask is None else Price(ask - bid)
    return {
        "name": market.question or market.slug or market.condition,
        "slug": market.slug,
        "condition": market.condition,
        "outcomes": market.outcomes,
        "group": market.event if market.neg_risk else "",
        "protocol": market.protocol,
        "tick": format_micro(market.tick),
        "bid": _text(bid),
        "ask": _text(ask),
        "spread": _text(spread),
        "last": _text(listing.last_price),
        "ends_ms": market.end_ns // NS_PER_MS,
        "payouts": None
        if listing.payouts is None
        else [format_micro(payout) for payout in listing.payouts],
    }


def _leaders(venue: Venue) -> list[Json]:
    acted = [(venue.rows_of.get(wallet) or [], wallet) for wallet in venue.names]
    acted.sort(key=lambda pair: (pair[0][-1].block_s, pair[0][-1].seq) if pair[0] else (0, 0))
    return [
        {
            "name": venue.names[wallet],
            "wallet": wallet,
            "rows": len(rows),
            "lately": [_deed(venue, row) for row in reversed(rows[-ROWS_EACH:])],
        }
        for rows, wallet in islice(reversed(acted), LEADERS_MAX)
    ]


def _deed(venue: Venue, row: Row) -> Json:
    market = venue.listings[row.condition].market
    return {
        "at_ms": row.block_s * NS_PER_S // NS_PER_MS,
        "kind": row.side or row.kind,
        "size": format_micro(row.size),
        "outcome": "" if row.outcome is None else market.outcomes[row.outcome],
        "price": _text(row.price or None),
        "market": market.slug or market.condition,
    }


def _faults(shell: Shell) -> list[Json]:
    """Return the rules that are not over, with how often each fired."""
    now_ns = shell.now_ns()
    return [
        {
            "name": armed.rule.name or armed.rule.kind,
            "kind": armed.rule.kind,
            "state": "waiting" if armed.from_ns > now_ns else "in force",
            "fired": armed.fired,
            "left": None if armed.rule.count is None else armed.rule.count - armed.fired,
            "until_ms": None if armed.until_ns is None else armed.until_ns // NS_PER_MS,
        }
        for armed in shell.rules.listed()
        if not armed.over and (armed.until_ns is None or armed.until_ns > now_ns)
    ]


def _trade(venue: Venue, trade: Trade) -> Json:
    market = venue.listings[trade.condition].market
    makers = _names(venue, (leg.wallet for leg in trade.legs))
    return {
        "at_ms": trade.match_ns // NS_PER_MS,
        "market": market.slug or trade.condition,
        "taker": _name(venue, trade.taker),
        "makers": makers,
        "side": trade.side,
        "size": format_micro(trade.size),
        "outcome": market.outcomes[trade.outcome],
        "price": format_micro(trade.price),
        "status": trade.status,
    }


def _names(venue: Venue, wallets: Iterable[Wallet]) -> list[str]:
    return sorted({_name(venue, wallet) for wallet in wallets})


def _name(venue: Venue, wallet: Wallet) -> str:
    return "the book" if wallet == ANONYMOUS else venue.names.get(wallet, wallet)


def _text(micro: int | None) -> str | None:
    return None if micro is None else format_micro(micro)


def wants_page(request: web.Request) -> bool:
    """Tell whether a plain GET comes from a browser: it asks for HTML by name."""
    return "text/html" in request.headers.get("Accept", "")
