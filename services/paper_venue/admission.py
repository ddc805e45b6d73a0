"""Admission: what an order must satisfy before it trades, in the venue's words (1.10)."""

from itertools import groupby

from services.paper_venue.balances import allowance, spender_of, unseen
from services.paper_venue.matching import Slice
from services.paper_venue.state import Listing, Order, Refused, Venue
from shared.domain.ids import OrderHash
from shared.domain.market import CENT, fee_up, price_is_on_grid
from shared.domain.units import (
    MICRO,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    cost_up,
    format_micro,
)


class Uncovered(Refused):
    """The balance or the allowance is not enough."""


def plan(listing: Listing, order: Order) -> list[Slice]:
    """Return what the order would take from the book now."""
    return listing.book.plan(takes_bids=not order.is_bid, limit=level_of(order), size=order.left)


def level_of(order: Order) -> int:
    """Return the order's price in the market's one book."""
    return order.price if order.outcome == 0 else MICRO - order.price


def duplicated(order: OrderHash) -> Refused:
    return Refused(f"order {order} is invalid. Duplicated.")


def off_grid(order: OrderHash, price: Price, tick: Price) -> Refused:
    return Refused(
        f"order {order} is invalid. Price ({format_micro(price)}) "
        f"breaks minimum tick size rule: {format_micro(tick)}"
    )


def check_terms(venue: Venue, listing: Listing, order: Order, offered: Usd, now_ns: int) -> None:
    market = listing.market
    if order.id in venue.orders:
        raise duplicated(order.id)
    if not market.accepting_orders:
        raise Refused("the market is not yet ready to process new orders")
    if not price_is_on_grid(order.price, market.tick):
        raise off_grid(order.id, order.price, market.tick)
    if order.size < market.size_min:
        size, least = format_micro(order.size), format_micro(market.size_min)
        raise Refused(f"order {order.id} is invalid. Size ({size}) lower than the minimum: {least}")
    takes = order.kind in ("FAK", "FOK")
    if takes and order.post_only:
        raise Refused("Invalid order payload")
    if takes and order.side == "BUY" and offered % CENT:
        raise Refused(
            "invalid amounts, the market buy orders maker amount supports a max accuracy of "
            "2 decimals, taker amount a max of 5 decimals"
        )
    if order.kind == "GTD":
        ahead_s = order.expiration_s - now_ns // NS_PER_S
        if ahead_s < venue.config.gtd_ahead_min_s:
            raise Refused("invalid expiration")
    elif order.expiration_s:
        raise Refused("invalid expiration")


def check_funds(venue: Venue, listing: Listing, order: Order, slices: list[Slice]) -> None:
    ledger = venue.ledger
    if order.side == "SELL":
        free: int = ledger.free_tokens(order.wallet, order.token)
        free -= unseen(venue, order.wallet, order.token)
        needed: int = order.left
    else:
        free = ledger.free_cash(order.wallet) - unseen(venue, order.wallet, None)
        needed = _buying_power(listing, order, slices)
    if free < needed:
        raise Uncovered(
            "not enough balance / allowance: the balance is not enough -> "
            f"balance: {max(free, 0)}, order amount: {needed}"
        )
    spender = spender_of(listing.market)
    allowed = allowance(venue, order.wallet, spender)
    if allowed < needed:
        raise Uncovered(
            "not enough balance / allowance: the allowance is not enough -> "
            f"spender: {spender}, allowance: {allowed}, order amount: {needed}"
        )


def _buying_power(listing: Listing, order: Order, slices: list[Slice]) -> Usd:
    """Return the dollars a buy can need: what it takes now with fees, and what then rests."""
    needed, left = 0, order.left
    for level, group in groupby(slices, key=lambda piece: piece.price):
        price = level if order.outcome == 0 else Price(MICRO - level)
        pieces = list(group)
        size = Shares(sum(piece.size for piece in pieces))
        needed += sum(cost_up(price, piece.size) for piece in pieces)
        needed += fee_up(listing.market, price, size)
        left = Shares(left - size)
    return Usd(needed + cost_up(order.price, left))
