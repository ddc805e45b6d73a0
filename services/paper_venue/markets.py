"""What the operator does to a market that stands: its tick, whether it trades, its game's start."""

import msgspec

from services.paper_venue.settlement import add_timer
from services.paper_venue.state import Listing, Order, Refused, TickChanged, Venue
from services.paper_venue.trading import INVALID, close_resting
from shared.domain.units import MICRO, Price


def change_tick(venue: Venue, listing: Listing, tick: Price, now_ns: int) -> None:
    """Change a market's grid and tell it; orders that rest on the old one stay."""
    if not 0 < tick < MICRO or MICRO % tick:
        raise Refused("a tick divides a dollar")
    old = listing.market.tick
    if old == tick:
        return
    listing.market = msgspec.structs.replace(listing.market, tick=tick)
    venue.events.append(TickChanged(listing.market.condition, old, tick, now_ns))


def set_trading(listing: Listing, *, accepts: bool) -> None:
    """Let a market take orders or not; what rests stays until it is cleared."""
    listing.market = msgspec.structs.replace(listing.market, accepting_orders=accepts)


def clear_orders(venue: Venue, listing: Listing, now_ns: int) -> None:
    """Wipe a market's resting orders: the venue's own cancels carry INVALID."""
    for is_bid in (True, False):
        for _, order in listing.book.resting(is_bid=is_bid):
            assert isinstance(order, Order)
            close_resting(venue, order, INVALID, now_ns)


def schedule_start(venue: Venue, listing: Listing, start_ns: int) -> None:
    """Wipe a market's book when its game begins (``clearBookOnStart``)."""
    listing.clear_on_start = True
    add_timer(venue, start_ns, "start", listing)
