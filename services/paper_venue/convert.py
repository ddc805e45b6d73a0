"""Neg-risk conversion: NO of n markets of an event become YES of the others and dollars.

The chain's adapter takes the NO shares. To hand out YES of the other markets it splits sets of
them and keeps their NO, so it ends with NO of every market: worth what it paid, whoever wins.
"""

from collections.abc import Sequence
from typing import Final

from services.paper_venue.balances import arrived
from services.paper_venue.ledger import Move
from services.paper_venue.settlement import Stamp, seen_ns, store_row
from services.paper_venue.state import Listing, Refused, Row, Venue, next_number
from services.paper_venue.trading import cancel_uncovered
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import (
    MICRO,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    average_price_up,
    proceeds_down,
)

ADAPTER: Final = Wallet("0x00000000000000000000000000000000c0de4e65")  # the neg-risk adapter
YES: Final = 0
NO: Final = 1


def convert(
    venue: Venue,
    wallet: Wallet,
    conditions: Sequence[ConditionId],
    size: Shares,
    stamp: Stamp,
) -> tuple[Row, ...]:
    """Convert ``size`` NO shares of each condition; returns a row a condition, dollars first."""
    given, others = _group(venue, conditions)
    for listing in given:
        token = listing.market.tokens[NO]
        if venue.ledger.holding(wallet, token) < size or venue.ledger.tokens[wallet, token] < size:
            raise Refused("the wallet does not hold the NO shares to convert")
    dollars = Usd((len(given) - 1) * size)
    moves = _moves(venue, wallet, (given, others), size, dollars)
    venue.ledger.match(moves)
    venue.ledger.settle(moves, stamp.now_ns)
    for move in moves:
        if move.wallet == wallet:
            arrived(venue, wallet, move.token, move.cash if move.token is None else move.shares)
    rows = tuple(
        _row(venue, wallet, listing, size, (dollars if place == 0 else Usd(0), stamp))
        for place, listing in enumerate(given)
    )
    for row in rows:
        store_row(venue, row)
    cancel_uncovered(venue, wallet, stamp.now_ns)
    return rows


def _group(venue: Venue, conditions: Sequence[ConditionId]) -> tuple[list[Listing], list[Listing]]:
    """Return the markets given up and the others of their event, all unresolved."""
    given = [venue.listings[each] for each in dict.fromkeys(conditions) if each in venue.listings]
    if not given or len(given) != len(conditions):
        raise Refused("market not found", 404)
    event = given[0].market.event
    if not event or any(not each.market.neg_risk or each.market.event != event for each in given):
        raise Refused("a conversion takes markets of one neg-risk event")
    group = [
        listing
        for listing in venue.listings.values()
        if listing.market.neg_risk and listing.market.event == event
    ]
    if any(listing.payouts is not None for listing in group):
        raise Refused("a market of the event is resolved")
    return given, [listing for listing in group if listing not in given]


def _moves(
    venue: Venue,
    wallet: Wallet,
    markets: tuple[list[Listing], list[Listing]],
    size: Shares,
    dollars: Usd,
) -> tuple[Move, ...]:
    """Return what moves; the cost of what is given up, less the dollars, is that of the YES."""
    given, others = markets
    moves, cost = [], -dollars
    for listing in given:
        market, token = listing.market, listing.market.tokens[NO]
        position = venue.ledger.positions[wallet][token]
        price = Price(min(MICRO, average_price_up(position.cost, position.size)))
        cost += proceeds_down(price, size)
        for who, shares in ((wallet, Shares(-size)), (ADAPTER, size)):
            moves.append(Move(who, Usd(0), token, market.condition, NO, shares, price))
    each = Usd(max(0, cost) // len(others)) if others else Usd(0)
    paid = Price(min(MICRO, average_price_up(each, size)))
    for listing in others:
        market = listing.market
        for who, outcome, price in ((wallet, YES, paid), (ADAPTER, NO, Price(MICRO - paid))):
            token = market.tokens[outcome]
            moves.append(Move(who, Usd(0), token, market.condition, outcome, size, price))
    moves.append(Move(wallet, dollars))
    moves.append(Move(ADAPTER, Usd(-dollars - len(others) * size)))
    return tuple(moves)


def _row(
    venue: Venue, wallet: Wallet, listing: Listing, size: Shares, told: tuple[Usd, Stamp]
) -> Row:
    usd, stamp = told
    seq = next_number(venue)
    return Row(
        seq=seq,
        wallet=wallet,
        kind="CONVERSION",
        condition=listing.market.condition,
        size=size,
        usd=usd,
        tx=stamp.tx,
        block_s=stamp.now_ns // NS_PER_S,
        seen_ns=seen_ns(venue, stamp, seq),
    )
