"""Gamma's JSON: markets with JSON inside strings, events around them, tags (protocol.md 7)."""

from typing import Final
from zlib import crc32

from services.paper_venue.public import current_price, event_number, neg_risk_group
from services.paper_venue.state import Listing
from services.paper_venue.wire import Json, best_prices, encode, iso, last_price, number, sides
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, format_micro, proceeds_down

SCHEMAS: Final = "https://gamma-api.polymarket.com/schemas"
DECOYS_PERCENT: Final = 35  # of v1 markets carry position ids that have no book


def gamma_market(
    listing: Listing, now_ns: int = 1 << 62, close_delay_s: int = 0, *, with_tags: bool = False
) -> Json:
    """Return a market as Gamma lists it at a moment; labels where asked.

    ``closed`` follows the resolution only after ``close_delay_s``.
    """
    market = listing.market
    closed = is_closed(listing, now_ns, close_delay_s)
    over = listing.payouts is not None
    bid, ask = best_prices(listing, 0)
    liquidity = depth_usd(listing)
    body: Json = {
        "$schema": f"{SCHEMAS}/Market.json",
        "id": str(listing.number),
        "question": market.question,
        "conditionId": _structural(market),
        "slug": market.slug,
        "resolutionSource": "",
        "endDate": iso(market.end_ns),
        "liquidity": format_micro(liquidity),
        "startDate": iso(listing.opened_ns),
        "description": "",
        "outcomes": _text(list(market.outcomes)),
        "outcomePrices": _text([format_micro(current_price(listing, side)) for side in (0, 1)]),
        "volume": format_micro(listing.volume),
        "active": True,
        "closed": closed,
        "marketMakerAddress": "",
        "createdAt": iso(listing.opened_ns),
        "updatedAt": iso(max(listing.changed_ns, listing.resolved_ns)),
        "new": False,
        "featured": False,
        "archived": False,
        "restricted": True,
        "groupItemThreshold": "0",
        "questionID": market.condition,
        "enableOrderBook": not closed,
        "orderPriceMinTickSize": number(market.tick),
        "orderMinSize": number(market.size_min),
        "volumeNum": number(listing.volume),
        "liquidityNum": number(liquidity),
        "endDateIso": iso(market.end_ns)[:10],
        "startDateIso": iso(listing.opened_ns)[:10],
        "hasReviewedDates": True,
        "clobTokenIds": _text(list(market.tokens)) if market.protocol == "v1" else None,
        "comboStatus": "disabled",
        "liquidityClob": number(liquidity),
        "makerBaseFee": 1000,
        "takerBaseFee": 1000,
        "acceptingOrders": market.accepting_orders and not over,
        "negRisk": market.neg_risk,
        "ready": False,
        "funded": False,
        "acceptingOrdersTimestamp": iso(listing.opened_ns),
        "rewardsMinSize": 50,
        "rewardsMaxSpread": number(4_500_000),
        "secondsDelay": listing.seconds_delay,
        "spread": number((MICRO if ask is None else ask) - (bid or 0)),
        "lastTradePrice": number(last_price(listing, 0) or 0),
        "bestBid": number(bid or 0),
        "bestAsk": number(MICRO if ask is None else ask),
        "negRiskOther": False,
        "umaResolutionStatuses": _text(["proposed", "resolved"]) if over else "[]",
        "rfqEnabled": False,
        "feesEnabled": market.fee_rate > 0,
        "version": market.protocol,
    }
    return body | _optional(listing, closed=closed, with_tags=with_tags)


def _optional(listing: Listing, *, closed: bool, with_tags: bool) -> Json:
    """Return what only some markets carry."""
    market, body = listing.market, Json()
    if closed:
        body["closedTime"] = iso(listing.resolved_ns)
    if market.protocol == "v2":
        body["positionIds"] = list(market.tokens)
        body["resolutionStatus"] = "resolved" if listing.payouts is not None else "active"
    elif crc32(market.condition.encode()) % 100 < DECOYS_PERCENT:
        body["positionIds"] = _decoys(market)
    if market.category:
        body["category"] = market.category
    if with_tags:
        body["tags"] = [tag(slug) for slug in market.tags]
    if market.event:
        number_ = str(event_number(market))
        body["events"] = [{"id": number_, "slug": market.event, "closed": closed}]
    if market.neg_risk:
        body["negRiskMarketID"] = neg_risk_group(market)
        body["negRiskRequestID"] = market.condition
    if market.fee_rate:
        body["feeType"] = f"{market.category.lower() or 'general'}_fees_v2"
        body["feeSchedule"] = fee_schedule(market)
    return body


def gamma_event(
    listings: list[Listing], now_ns: int, close_delay_s: int, *, with_tags: bool = False
) -> Json:
    """Return an event with its markets; it is closed when all of them are."""
    first = listings[0]
    market = first.market
    slug = market.event or market.slug
    closed = all(is_closed(listing, now_ns, close_delay_s) for listing in listings)
    volume = sum(listing.volume for listing in listings)
    liquidity = sum(depth_usd(listing) for listing in listings)
    body: Json = {
        "id": str(event_number(market)),
        "ticker": slug,
        "slug": slug,
        "title": market.question if len(listings) == 1 else slug.replace("-", " ").capitalize(),
        "description": "",
        "startDate": iso(first.opened_ns),
        "creationDate": iso(first.opened_ns),
        "endDate": iso(max(listing.market.end_ns for listing in listings)),
        "active": True,
        "closed": closed,
        "archived": False,
        "new": False,
        "featured": False,
        "restricted": True,
        "liquidity": number(liquidity),
        "volume": number(volume),
        "createdAt": iso(first.opened_ns),
        "updatedAt": iso(max(listing.changed_ns for listing in listings)),
        "enableOrderBook": True,
        "liquidityClob": number(liquidity),
        "version": market.protocol,
        "negRisk": market.neg_risk,
        "enableNegRisk": market.neg_risk,
        "markets": [
            gamma_market(listing, now_ns, close_delay_s, with_tags=with_tags)
            for listing in listings
        ],
        "series": [],
        "tags": [tag(text) for text in dict.fromkeys(_tags(listings))],
    }
    if market.neg_risk:
        body["negRiskMarketID"] = neg_risk_group(market)
    if closed:
        body["closedTime"] = iso(max(listing.resolved_ns for listing in listings))
    return body


def is_closed(listing: Listing, now_ns: int, close_delay_s: int) -> bool:
    """Tell whether Gamma has noticed that a market is resolved."""
    return listing.payouts is not None and listing.resolved_ns <= now_ns - close_delay_s * NS_PER_S


def depth_usd(listing: Listing) -> int:
    """Return what the displayed book is worth: bids at their price, asks as the other outcome."""
    bids, asks = sides(listing, 0)
    ours = sum(proceeds_down(Price(price), Shares(size)) for price, size in bids.items())
    other = sum(proceeds_down(Price(MICRO - price), Shares(size)) for price, size in asks.items())
    return ours + other


def tag(slug: str) -> Json:
    return {"id": str(tag_number(slug)), "label": slug.replace("-", " ").title(), "slug": slug}


def tag_number(slug: str) -> int:
    return crc32(slug.encode())


def fee_schedule(market: Market) -> Json:
    return {
        "exponent": market.fee_exponent,
        "rate": number(market.fee_rate),
        "takerOnly": True,
        "rebateRate": number(200_000),
    }


def _structural(market: Market) -> str:
    """Return the condition as Gamma writes it: without the padding of a Protocol-V2 one."""
    short = market.protocol == "v2" and market.condition.endswith("00")
    return market.condition[:-2] if short else market.condition


def _decoys(market: Market) -> list[str]:
    """Return the position ids of a v1 market: in the layout of real ones, and no book has them."""
    base = int(market.condition, 16) >> 128
    return [str(1 << 248 | base << 120 | outcome) for outcome in (0, 1)]


def _tags(listings: list[Listing]) -> list[str]:
    return [slug for listing in listings for slug in listing.market.tags]


def _text(values: list[str]) -> str:
    return encode(values).decode().replace('","', '", "')
