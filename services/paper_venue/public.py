"""The public JSON: the activity stream, and the rows of the Data API (protocol.md 5, 6)."""

from collections.abc import Collection
from hashlib import blake2b
from typing import Final
from zlib import crc32

from services.paper_venue.ledger import Position
from services.paper_venue.state import Listing, Row, Trade, Venue
from services.paper_venue.wire import (
    Json,
    best_prices,
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
DISPLAY_STEP: Final = 100  # current_size is rounded to four decimals
EVENT_NUMBERS: Final = (1 << 31) - 1
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


def stream_frame(payload: Json, kind: str, now_ns: int, *, bare: bool = False) -> Json:
    """Return a frame of the activity stream; a bare one does not say what it is of."""
    named = {} if bare else {"topic": "activity", "type": kind}
    return {
        **named,
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
    shown = (size + DISPLAY_STEP // 2) // DISPLAY_STEP * DISPLAY_STEP
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
        "current_size": number(shown),
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
        "event_id": str(event_number(market)),
        "outcome_index": outcome,
        "opposite_token_id": market.tokens[1 - outcome],
        "end_date": iso(market.end_ns)[:10],  # 1970-01-01: none
        "last_event_at": position.last_s,
        "first_entry_at": position.first_s,
    }


def wallet_value(venue: Venue, wallet: Wallet, conditions: Collection[str] | None = None) -> Usd:
    """Return what a wallet's settled tokens are worth; free cash is not counted."""
    positions = venue.ledger.positions.get(wallet, {})
    return Usd(
        sum(
            proceeds_down(
                current_price(venue.listings[position.condition], position.outcome), position.size
            )
            for position in positions.values()
            if position.size > 0 and (conditions is None or position.condition in conditions)
        )
    )


def resolution_row(listing: Listing, now_ns: int = 0) -> Json:
    """Return a row of ``/v2/resolutions``: asked for once the market's time is over, then told."""
    market, resolved = listing.market, listing.payouts is not None
    when = iso(listing.resolved_ns) if resolved else None
    posed = 0 < market.end_ns <= now_ns
    fast = market.protocol == "v2" or market.category.lower() == "crypto"
    return {
        "condition_id": market.condition,
        "status": "resolved" if resolved else "posed" if posed else "initialized",
        "extended_review": False,
        "was_disputed": False,
        "new_version_q": False,
        "transaction_hash": "",
        "log_index": "",
        "last_update_timestamp": when or iso(market.end_ns if posed else listing.opened_ns),
        "market_type": "INCREMENTAL_NEGRISK" if market.neg_risk else "BINARY",
        "payouts": list(listing.payouts) if listing.payouts is not None else None,
        "resolution_source": "reported" if resolved else None,
        "reporter": ("CHAINLINK" if fast else "UMA_OO") if resolved else None,
        "was_arbitrated": False,
        "resolved_block": 0 if resolved else None,
        "resolved_at": when,
    }


def event_number(market: Market) -> int:
    """Return the id of a market's event, a positive 32-bit integer: a function of its slug."""
    return 1 + crc32((market.event or market.slug).encode()) % EVENT_NUMBERS


def neg_risk_group(market: Market) -> str:
    """Return the id that the outcomes of a neg-risk event share: a function of its slug."""
    event = (market.event or market.slug).encode()
    return "0x" + blake2b(event, digest_size=31, person=b"neg-risk").hexdigest() + "00"


def current_price(listing: Listing, outcome: int) -> Price:
    """Return the payout, else the mid, else the last price, else one half."""
    if listing.payouts is not None:
        return Price(listing.payouts[outcome])
    bid, ask = best_prices(listing, outcome)
    if bid is not None and ask is not None:
        return Price((bid + ask) // 2)
    return last_price(listing, outcome) or Price(MICRO // 2)


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
