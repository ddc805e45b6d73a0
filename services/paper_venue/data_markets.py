"""The Data API's markets: resolutions, open interest, volume, tokens, prices (protocol.md 6.4)."""

from typing import Final

from aiohttp import web

from services.paper_venue.chain import block_at
from services.paper_venue.data_query import (
    BadQueryError,
    Query,
    conditions_of,
    envelope,
    get,
    page_of,
)
from services.paper_venue.http import answer, shell_of
from services.paper_venue.ledger import Position
from services.paper_venue.public import event_number, neg_risk_group, resolution_row
from services.paper_venue.state import Listing, Trade, Venue
from services.paper_venue.wire import Json, number
from shared.domain.ids import TokenId
from shared.domain.units import MICRO, NS_PER_S, Price

TOKENS_MAX: Final = 50
TOKEN_CONDITIONS_MAX: Final = 10
HISTORY_PAGE_MAX: Final = 10_000
HISTORY_SPAN_MAX_S: Final = 15 * 86_400
STRUCTURAL_LENGTH: Final = 64  # 0x and 31 bytes: Gamma's short form of a Protocol-V2 condition
_INTERVALS_S: Final = {
    "MAX": 0,
    "ALL": 0,
    "1M": 30 * 86_400,
    "1W": 7 * 86_400,
    "1D": 86_400,
    "6H": 21_600,
    "1H": 3_600,
}
_BUCKETS_S: Final = {"MAX": 600, "ALL": 600, "1M": 600, "1W": 300}  # the finest there is; else 60


@get("/v2/resolutions")
def get_resolutions(request: web.Request) -> web.Response:
    shell, query = shell_of(request), Query(request)
    venue, questions = shell.venue, set(query.many("question_id"))
    for text in query.many("condition_id"):
        if len(text) == STRUCTURAL_LENGTH:
            raise BadQueryError(f"invalid resolution condition id: {text}", "condition")
    if sum(name in query for name in ("question_id", "condition_id", "event_id")) > 1:
        raise BadQueryError("one of question_id, condition_id or event_id", "condition")
    conditions = conditions_of(venue, query)
    found = [
        _resolution(venue, listing, shell.now_ns())
        for condition, listing in venue.listings.items()
        if condition in questions or (conditions is not None and condition in conditions)
    ]
    return answer({"data": found})


@get("/v2/oi")
def get_open_interest(request: web.Request) -> web.Response:
    """Tell the dollars locked in complete sets: of each named market, or of all together."""
    venue, query = shell_of(request).venue, Query(request)
    conditions = query.conditions()
    locked = _open_interest(venue)
    if not conditions:
        return answer({"data": [{"condition_id": "GLOBAL", "value": number(sum(locked.values()))}]})
    found = [
        {"condition_id": condition, "value": number(locked.get(condition, 0))}
        for condition in venue.listings
        if condition in conditions
    ]
    return answer({"data": found})


@get("/v2/live-volume")
def get_live_volume(request: web.Request) -> web.Response:
    """Tell what takers traded in the markets of an event, in shares."""
    venue, query = shell_of(request).venue, Query(request)
    if "event_id" not in query:
        raise BadQueryError("event_id is required", "event_id")
    volumes = dict.fromkeys(sorted(conditions_of(venue, query) or ()), 0)
    for trade in venue.trades.values():
        if trade.condition in volumes and trade.status != "FAILED":
            volumes[trade.condition] += trade.size
    markets = [
        {"condition_id": condition, "taker_volume": number(volume)}
        for condition, volume in volumes.items()
    ]
    total = number(sum(volumes.values()))
    return answer({"data": {"taker_volume_total": total, "conditions": markets}})


@get("/v2/tokens")
def get_tokens(request: web.Request) -> web.Response:
    venue, query = shell_of(request).venue, Query(request)
    tokens, named = query.many("token_id"), query.many("condition")
    if bool(tokens) == bool(named):
        raise BadQueryError("exactly one of token_id or condition", "token_id")
    if len(tokens) > TOKENS_MAX or len(named) > TOKEN_CONDITIONS_MAX:
        raise BadQueryError("too many ids", "token_id" if tokens else "condition")
    wanted = {text.lower().ljust(66, "0") for text in named}
    found = [
        _token(listing, outcome)
        for condition, listing in venue.listings.items()
        for outcome, token in enumerate(listing.market.tokens)
        if token in tokens or condition in wanted
    ]
    return answer({"data": found})


@get("/v2/prices-history")
def get_prices_history(request: web.Request) -> web.Response:
    """Return the last price of each bucket, or with ``as_of`` the one tick before a moment."""
    filters = ("token_id", "interval", "start", "end", "as_of", "bucket_seconds")
    shell, query = shell_of(request), Query(request, filters)
    venue, token = shell.venue, TokenId(query.text("token_id"))
    if not token:
        raise BadQueryError("token_id is required", "token_id")
    if sum(name in query for name in ("interval", "start", "as_of")) != 1:
        raise BadQueryError("exactly one of interval, start or as_of", "interval")
    now_s = shell.now_ns() // NS_PER_S
    ticks = ticks_of(venue, token)
    if "as_of" in query:
        before = [tick for tick in ticks if tick[0] <= query.whole("as_of", 0)]
        found = [_point(*tick, 0) for tick in before[-1:]]
        return answer(envelope(found, query.limit(), None))
    interval = query.choice("interval", _INTERVALS_S, "")
    start, end = query.whole("start", 0), query.whole("end", now_s)
    if interval:
        span_s = _INTERVALS_S[interval]
        start, end = now_s - span_s if span_s else 0, now_s
    elif not 0 <= end - start <= HISTORY_SPAN_MAX_S:
        raise BadQueryError("a window has at most 15 days", "end")
    finest_s = _BUCKETS_S.get(interval, 60)
    bucket_s = query.whole("bucket_seconds", finest_s)
    if not finest_s <= bucket_s <= 86_400:
        raise BadQueryError(f"bucket_seconds is {finest_s} to 86400", "bucket_seconds")
    last: dict[int, Price] = {}
    for at_s, price in ticks:
        if start <= at_s <= end:
            last[at_s - at_s % bucket_s] = price
    shown = [_point(at_s, price, bucket_s) for at_s, price in last.items()]
    return page_of(query, shown, HISTORY_PAGE_MAX)


def _resolution(venue: Venue, listing: Listing, now_ns: int) -> Json:
    """Return a row of ``/v2/resolutions`` with the block in which the market ended."""
    row = resolution_row(listing, now_ns)
    if listing.payouts is not None:
        row["resolved_block"] = block_at(venue.config, listing.resolved_ns)
    return row


def _open_interest(venue: Venue) -> dict[str, int]:
    """Return the complete sets of each market that somebody holds, in micro-dollars."""
    held: dict[tuple[str, int], int] = {}
    positions: list[Position] = [
        position for some in venue.ledger.positions.values() for position in some.values()
    ]
    for position in positions:
        if position.size > 0:
            key = (position.condition, position.outcome)
            held[key] = held.get(key, 0) + position.size
    locked: dict[str, int] = {}
    for (condition, _), size in held.items():
        locked[condition] = max(size, locked.get(condition, 0))
    return locked


def _token(listing: Listing, outcome: int) -> Json:
    market, payouts = listing.market, listing.payouts
    module = "neg_risk" if market.neg_risk else "binary"
    return {
        "token_id": market.tokens[outcome],
        "condition_id": market.condition,
        "structural_condition_id": market.condition if market.protocol == "v2" else None,
        "module": module if market.protocol == "v2" else "v1_ctf",
        "outcome_index": outcome,
        "clob_index": outcome,
        "outcome": market.outcomes[outcome],
        "opposite_token_id": market.tokens[1 - outcome],
        "resolved": payouts is not None,
        "final_price": number(payouts[outcome]) if payouts is not None else None,
        "title": market.question,
        "market_slug": market.slug,
        "closed": payouts is not None,
        "neg_risk": market.neg_risk,
        "neg_risk_market_id": neg_risk_group(market) if market.neg_risk else None,
        "question_index": None,
        "event_id": event_number(market),
        "event_slug": market.event or market.slug,
    }


def ticks_of(venue: Venue, token: TokenId) -> list[tuple[int, Price]]:
    """Return what was paid for a token, in the order of time."""
    condition = venue.by_token.get(token)
    trades: list[Trade] = [
        trade for trade in venue.trades.values() if trade.condition == condition and condition
    ]
    return [
        (
            trade.match_ns // NS_PER_S,
            trade.last_price if trade.token == token else Price(MICRO - trade.last_price),
        )
        for trade in trades
    ]


def _point(at_s: int, price: Price, bucket_s: int) -> Json:
    return {"timestamp": at_s, "price": number(price), "resolution_seconds": bucket_s}
