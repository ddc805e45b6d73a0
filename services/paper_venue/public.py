"""The public JSON: the activity stream, the Data API and Gamma (protocol.md 5, 6, 7)."""

from typing import Final
from zlib import crc32

from services.paper_venue.ledger import Position
from services.paper_venue.state import Listing, Row, Trade, Venue
from services.paper_venue.wire import (
    Json,
    best_prices,
    encode,
    iso,
    last_price,
    ms_text,
    number,
)
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import Market
from shared.domain.units import (
    MICRO,
    NS_PER_MS,
    Price,
    Shares,
    Usd,
    average_price_up,
    format_micro,
    proceeds_down,
    scale_down,
)

NO_OUTCOME: Final = 999  # the Data API's sentinel
DISPLAY_STEP: Final = 100  # current_size is shown with four decimals
CONNECTION: Final = "cGFwZXItdmVudWU="


def stream_payload(venue: Venue, row: Row) -> Json:
    """Return a fill as the activity stream tells it: camelCase, its own clock, no role."""
    market = venue.listings[row.condition].market
    assert row.outcome is not None
    return {
        "asset": row.token,
        "bio": "",
        "conditionId": row.condition,
        "eventSlug": market.event or market.slug,
        "icon": "",
        "name": venue.names.get(row.wallet, ""),
        "outcome": market.outcomes[row.outcome],
        "outcomeIndex": row.outcome,
        "price": number(row.price),
        "profileImage": "",
        "proxyWallet": row.wallet,
        "pseudonym": "",
        "side": row.side,
        "size": number(row.size),
        "slug": market.slug,
        "timestamp": row.block_s - venue.config.rtds_clock_lead_s,
        "title": market.question,
        "transactionHash": row.tx,
    }


def stream_frame(payload: Json, kind: str, now_ns: int) -> Json:
    return {
        "topic": "activity",
        "type": kind,
        "timestamp": now_ns // NS_PER_MS,
        "connection_id": CONNECTION,
        "payload": payload,
    }


def activity_row(venue: Venue, row: Row) -> Json:
    """Return a row of ``/v2/activity``."""
    body = trade_row(venue, row)
    return {
        **body,
        "type": row.kind,
        "usdc_size": number(row.usd),
        "is_combo": False,
    }


def trade_row(venue: Venue, row: Row) -> Json:
    """Return a row of ``/v2/trades``."""
    market = venue.listings[row.condition].market
    return {
        "proxy_wallet": row.wallet,
        "side": row.side or "",
        "token_id": row.token or "",
        "condition_id": row.condition,
        "size": number(row.size),
        "price": number(row.price),
        "timestamp": row.block_s,
        "title": market.question,
        "slug": market.slug,
        "icon": "",
        "event_slug": market.event or market.slug,
        "outcome": "" if row.outcome is None else market.outcomes[row.outcome],
        "outcome_index": NO_OUTCOME if row.outcome is None else row.outcome,
        "name": venue.names.get(row.wallet, ""),
        "pseudonym": "",
        "bio": "",
        "profile_image": "",
        "profile_image_optimized": "",
        "transaction_hash": row.tx,
    }


def position_status(venue: Venue, wallet: Wallet, token: TokenId, position: Position) -> str:
    """Return ``OPEN``, ``MERGEABLE``, ``REDEEMABLE``, ``REDEEMABLE_LOST`` or ``CLOSED``."""
    listing = venue.listings[position.condition]
    if position.size <= 0:
        return "CLOSED"
    if listing.payouts is not None:
        return "REDEEMABLE" if listing.payouts[position.outcome] else "REDEEMABLE_LOST"
    other = venue.ledger.holding(wallet, listing.market.complement(token))
    return "MERGEABLE" if other > 0 else "OPEN"


def position_row(venue: Venue, wallet: Wallet, token: TokenId, position: Position) -> Json:
    """Return a row of ``/v2/positions``."""
    listing = venue.listings[position.condition]
    market, outcome = listing.market, position.outcome
    price = current_price(listing, outcome)
    size = max(position.size, Shares(0))
    value = proceeds_down(price, size)
    unrealized = value - position.cost
    average = average_price_up(position.bought_cost, position.bought) if position.bought else 0
    total = position.realized + unrealized
    status = position_status(venue, wallet, token, position)
    paid = position.bought_cost
    percent = scale_down(total * 100, MICRO, paid) if paid else 0
    percent_realized = scale_down(position.realized * 100, MICRO, paid) if paid else 0
    return {
        "proxy_wallet": wallet,
        "token_id": token,
        "condition_id": position.condition,
        "current_size": number(size - size % DISPLAY_STEP),
        "avg_price": number(average),
        "entry_cost_usdc": number(position.cost),
        "entry_fees_usdc": number(position.fees),
        "total_cost_usdc": number(paid),
        "current_price": number(price),
        "current_value": number(value),
        "total_size": number(position.bought),
        "realized_pnl": number(position.realized),
        "unrealized_pnl": number(unrealized),
        "total_pnl": number(total),
        "percent_pnl": number(percent),
        "percent_realized_pnl": number(percent_realized),
        "status": {"MERGEABLE": "OPEN", "REDEEMABLE_LOST": "REDEEMABLE"}.get(status, status),
        "redeemable": status.startswith("REDEEMABLE"),
        "mergeable": status == "MERGEABLE",
        "negative_risk": market.neg_risk,
        "archived": False,
        "verified": True,
        "title": market.question,
        "slug": market.slug,
        "icon": "",
        "event_slug": market.event or market.slug,
        "outcome": market.outcomes[outcome],
        "opposite_outcome": market.outcomes[1 - outcome],
        "name": "",
        "profile_image": "",
        "event_id": str(listing.number),
        "outcome_index": outcome,
        "opposite_token_id": market.tokens[1 - outcome],
        "end_date": iso(market.end_ns)[:10],
        "last_event_at": position.last_s,
        "first_entry_at": position.first_s,
    }


def wallet_value(venue: Venue, wallet: Wallet) -> Usd:
    """Return what a wallet's settled tokens are worth; free cash is not counted."""
    positions = venue.ledger.positions.get(wallet, {})
    return Usd(
        sum(
            proceeds_down(
                current_price(venue.listings[position.condition], position.outcome), position.size
            )
            for position in positions.values()
            if position.size > 0
        )
    )


def resolution_row(listing: Listing) -> Json:
    """Return a row of ``/v2/resolutions``."""
    resolved = listing.payouts is not None
    when = iso(listing.changed_ns) if resolved else ""
    return {
        "condition_id": listing.market.condition,
        "status": "resolved" if resolved else "initialized",
        "extended_review": False,
        "was_disputed": False,
        "new_version_q": False,
        "transaction_hash": "",
        "log_index": "",
        "last_update_timestamp": when,
        "market_type": "BINARY",
        "payouts": list(listing.payouts) if listing.payouts is not None else [],
        "resolution_source": "reported" if resolved else "",
        "reporter": "CHAINLINK" if resolved else "",
        "was_arbitrated": False,
        "resolved_block": 0,
        "resolved_at": when,
    }


def current_price(listing: Listing, outcome: int) -> Price:
    """Return the payout, else the mid, else the last price, else one half."""
    if listing.payouts is not None:
        return Price(listing.payouts[outcome])
    bid, ask = best_prices(listing, outcome)
    if bid is not None and ask is not None:
        return Price((bid + ask) // 2)
    return last_price(listing, outcome) or Price(MICRO // 2)


def gamma_market(listing: Listing, *, with_tags: bool = False) -> Json:
    """Return a market as Gamma lists it, with its JSON inside strings; labels where asked."""
    market = listing.market
    closed = listing.payouts is not None
    bid, ask = best_prices(listing, 0)
    body: Json = {
        "id": str(listing.number),
        "question": market.question,
        "conditionId": market.condition,
        "slug": market.slug,
        "resolutionSource": "",
        "endDate": iso(market.end_ns),
        "startDate": iso(listing.opened_ns),
        "outcomes": _text(list(market.outcomes)),
        "outcomePrices": _text([format_micro(current_price(listing, side)) for side in (0, 1)]),
        "active": True,
        "closed": closed,
        "createdAt": iso(listing.opened_ns),
        "updatedAt": iso(listing.changed_ns),
        "archived": False,
        "restricted": True,
        "questionID": market.condition,
        "enableOrderBook": not closed,
        "orderPriceMinTickSize": number(market.tick),
        "orderMinSize": number(market.size_min),
        "endDateIso": iso(market.end_ns)[:10],
        "startDateIso": iso(listing.opened_ns)[:10],
        "clobTokenIds": _text(list(market.tokens)) if market.protocol == "v1" else None,
        "makerBaseFee": 1000,
        "takerBaseFee": 1000,
        "acceptingOrders": market.accepting_orders and not closed,
        "acceptingOrdersTimestamp": iso(listing.opened_ns),
        "negRisk": market.neg_risk,
        "negRiskOther": False,
        "secondsDelay": 0,
        "spread": number((MICRO if ask is None else ask) - (bid or 0)),
        "lastTradePrice": number(last_price(listing, 0) or 0),
        "bestBid": number(bid or 0),
        "bestAsk": number(MICRO if ask is None else ask),
        "umaResolutionStatuses": "[]",
        "feesEnabled": market.fee_rate > 0,
        "version": market.protocol,
    }
    if market.protocol == "v2":
        body["positionIds"] = list(market.tokens)
    if market.category:
        body["category"] = market.category
    if with_tags:
        body["tags"] = [_tag(slug) for slug in market.tags]
    if market.event and not market.neg_risk:
        body["events"] = [{"id": str(listing.number), "slug": market.event, "closed": closed}]
    if market.neg_risk:
        body["negRiskMarketID"] = market.event
    if market.fee_rate:
        body["feeSchedule"] = fee_schedule(market)
    return body


def _tag(slug: str) -> Json:
    return {"id": str(crc32(slug.encode())), "label": slug.replace("-", " ").title(), "slug": slug}


def fee_schedule(market: Market) -> Json:
    return {
        "exponent": market.fee_exponent,
        "rate": number(market.fee_rate),
        "takerOnly": True,
        "rebateRate": number(200_000),
    }


def new_market_frame(listing: Listing, ts_ns: int) -> Json:
    """Return the market socket's ``new_market``: everything in it is text."""
    market = listing.market
    event = market.event or market.slug
    return {
        "id": str(listing.number),
        "question": market.question,
        "market": market.condition,
        "slug": market.slug,
        "description": "",
        "assets_ids": list(market.tokens),
        "outcomes": list(market.outcomes),
        "event_message": {
            "id": str(listing.number),
            "ticker": event,
            "slug": event,
            "title": market.question,
            "description": "",
        },
        "timestamp": ms_text(ts_ns),
        "event_type": "new_market",
        "tags": list(market.tags),
        "condition_id": market.condition,
        "active": True,
        "clob_token_ids": list(market.tokens),
        "sports_market_type": "",
        "line": "",
        "game_start_time": "",
        "order_price_min_tick_size": format_micro(market.tick),
        "group_item_title": "",
        "taker_base_fee": "1000",
        "fees_enabled": market.fee_rate > 0,
        "fee_schedule": {
            "exponent": str(market.fee_exponent),
            "rate": format_micro(market.fee_rate),
            "taker_only": True,
            "rebate_rate": "0.2",
        },
    }


def resolved_frame(listing: Listing, ts_ns: int) -> Json:
    """Return the market socket's ``market_resolved``; a split payout has no winner."""
    market, payouts = listing.market, listing.payouts or (0, 0)
    winner = payouts.index(MICRO) if MICRO in payouts else None
    return {
        "event_type": "market_resolved",
        "id": str(listing.number),
        "market": market.condition,
        "assets_ids": list(market.tokens),
        "winning_asset_id": "" if winner is None else market.tokens[winner],
        "winning_outcome": "" if winner is None else market.outcomes[winner],
        "timestamp": ms_text(ts_ns),
        "tags": list(market.tags),
    }


def ledger_entry(venue: Venue, trade: Trade) -> Json:
    """Return one executed fill with everything about it, for the operator."""
    return {
        "id": trade.id,
        "transaction_hash": trade.tx,
        "condition_id": trade.condition,
        "token_id": trade.token,
        "outcome_index": trade.outcome,
        "side": trade.side,
        "price": format_micro(trade.price),
        "size": format_micro(trade.size),
        "usd": format_micro(trade.notional),
        "fee": format_micro(trade.fee),
        "taker": trade.taker,
        "taker_order": trade.taker_order,
        "status": trade.status,
        "match_ns": trade.match_ns,
        "makers": [
            {
                "wallet": leg.wallet,
                "order": leg.order,
                "token_id": leg.token,
                "side": leg.side,
                "price": format_micro(leg.price),
                "size": format_micro(leg.size),
            }
            for leg in trade.legs
        ],
    }


def _text(values: list[str]) -> str:
    return encode(values).decode().replace('","', '", "')
