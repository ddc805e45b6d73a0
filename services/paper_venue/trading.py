"""Orders: admission in the venue's words, execution against the book, cancellation."""

from contextlib import suppress
from typing import Final

import msgspec

from services.paper_venue.admission import (
    Uncovered,
    check_funds,
    check_terms,
    level_of,
    plan,
)
from services.paper_venue.matching import Slice
from services.paper_venue.settlement import Stamp, Taker, add_timer, new_tx, record_trade
from services.paper_venue.state import (
    ANONYMOUS,
    ANONYMOUS_KEY,
    Leg,
    Listing,
    Order,
    OrderChange,
    OrderMoved,
    Refused,
    Trade,
    Venue,
)
from shared.domain.ids import OrderHash, TxHash, Wallet
from shared.domain.market import MARKETABLE_BUY_MIN, price_is_on_grid
from shared.domain.units import (
    MICRO,
    NS_PER_MS,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    cost_up,
    format_micro,
)

FOK_KILLED: Final = "order couldn't be fully filled. FOK orders are fully filled or killed."
FAK_KILLED: Final = (
    "no orders found to match with FAK order. "
    "FAK orders are partially filled or killed if no match is found."
)
UNCOVERED: Final = "CANCELED_NOT_ENOUGH_BALANCE"
INVALID: Final = "INVALID"  # cancelled by the venue itself


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order at its posting."""

    order: OrderHash
    status: str  # live, matched, delayed
    trades: tuple[Trade, ...] = ()


def post_order(venue: Venue, order: Order, offered: Usd, now_ns: int) -> Placed:
    """Take an authenticated order or refuse it; ``offered`` is its dollars as signed.

    Kills are refusals too, but of an order on record: posting it again is a duplicate.
    """
    listing = venue.listings[order.condition]
    check_terms(venue, listing, order, offered, now_ns)
    slices = plan(listing, order)
    if slices and order.side == "BUY" and offered < MARKETABLE_BUY_MIN:
        least = format_micro(MARKETABLE_BUY_MIN)
        raise Refused(
            f"invalid amount for a marketable BUY order (${format_micro(offered)}), "
            f"min size: ${least}"
        )
    if slices and order.post_only:
        raise Refused("invalid post-only order: order crosses book")
    check_funds(venue, listing, order, slices)
    venue.orders[order.id] = order
    venue.accounts.add(order.wallet)
    venue.open_of.setdefault(order.wallet, {})[order.id] = order
    venue.by_owner.setdefault(order.owner, []).append(order.id)
    delay_ns = _delay_ns(venue, listing)
    if slices and delay_ns:
        order.status = "DELAYED"
        _reserve(venue, order, 1)
        _tell(venue, order, "PLACEMENT", now_ns)
        add_timer(venue, now_ns + delay_ns, "release", order)
        return Placed(order=order.id, status="delayed")
    return _execute(venue, listing, order, now_ns)


def release_order(venue: Venue, order: Order, now_ns: int) -> None:
    """End an order's matching delay: it meets the book as it is now, market and funds rechecked."""
    if order.status != "DELAYED":
        return
    _reserve(venue, order, -1)
    order.status = "LIVE"
    listing = venue.listings[order.condition]
    ended = _ended(listing, order)
    if ended:
        _close(venue, order, ended, now_ns)
        return
    try:
        check_funds(venue, listing, order, plan(listing, order))
    except Uncovered:
        _close(venue, order, UNCOVERED, now_ns)
        return
    with suppress(Refused):  # a kill: it has told its end
        _execute(venue, listing, order, now_ns, waited=True)


def cancel_orders(
    venue: Venue, owners: set[str], ids: list[str], now_ns: int
) -> tuple[list[str], dict[str, str]]:
    """Cancel what can be: returns the ids cancelled, and for the others why not."""
    canceled: list[str] = []
    refused: dict[str, str] = {}
    for order_id in dict.fromkeys(ids):
        order = venue.orders.get(OrderHash(order_id))
        if order is None or order.owner not in owners:
            refused[order_id] = "Order not found or already canceled"
        elif order.status == "DELAYED":
            refused[order_id] = "order is delayed and cannot be canceled"
        elif order.status != "LIVE":
            refused[order_id] = "already canceled or matched"
        else:
            close_resting(venue, order, "CANCELED", now_ns)
            canceled.append(order_id)
    return canceled, refused


def close_resting(venue: Venue, order: Order, status: str, now_ns: int) -> None:
    """Take a resting order off the book and free what it reserved."""
    listing = venue.listings[order.condition]
    listing.book.remove(order, level_of(order))
    _reserve(venue, order, -1)
    venue.touched[order.condition] = None
    _close(venue, order, status, now_ns)


def cancel_uncovered(venue: Venue, wallet: Wallet, now_ns: int) -> None:
    """Cancel a wallet's newest orders until its balances cover what the rest reserve."""
    for order in reversed(list(venue.open_of.get(wallet, {}).values())):
        if order.status != "LIVE":
            continue
        if order.side == "BUY":
            short = venue.ledger.free_cash(wallet) < 0
        else:
            short = venue.ledger.free_tokens(wallet, order.token) < 0
        if short:
            close_resting(venue, order, UNCOVERED, now_ns)


def match_crossed(venue: Venue, listing: Listing, now_ns: int) -> None:
    """Fill resting orders that recorded depth now crosses: the recorded market traded there."""
    for is_bid in (True, False):
        for price, resting in listing.book.resting(is_bid=is_bid):
            assert isinstance(resting, Order)
            crossing = [
                piece
                for piece in listing.book.plan(
                    takes_bids=not is_bid, limit=price, size=resting.left
                )
                if piece.order is None
            ]
            size = Shares(sum(piece.size for piece in crossing))
            if not size:
                break
            for piece in crossing:
                listing.book.consume_depth(piece.price, piece.size, is_bid=not is_bid)
            fill_resting(venue, listing, resting, size, Stamp(now_ns, new_tx(venue)))


def fill_resting(venue: Venue, listing: Listing, order: Order, size: Shares, stamp: Stamp) -> Trade:
    """Fill a resting order at its own price against the anonymous wallet, which takes."""
    taker = Taker(
        order="0x" + "0" * 64,
        owner=ANONYMOUS_KEY,
        wallet=ANONYMOUS,
        token=order.token,
        outcome=order.outcome,
        side="SELL" if order.side == "BUY" else "BUY",
        pays_fee=False,
    )
    piece = Slice(Price(level_of(order)), size, order)
    trade = record_trade(venue, listing, taker, (_leg(taker, piece, stamp.tx),), stamp)
    _fill_maker(venue, listing, order, size, trade.id, stamp.now_ns)
    return trade


def take(
    venue: Venue,
    listing: Listing,
    taker: Taker,
    slices: list[Slice],
    stamp: Stamp,
) -> Trade:
    """Execute planned slices: one trade, makers filled, depth consumed."""
    takes_bids = (taker.side == "SELL") == (taker.outcome == 0)
    legs = tuple(_leg(taker, piece, stamp.tx) for piece in slices)
    trade = record_trade(venue, listing, taker, legs, stamp)
    for piece in slices:
        if isinstance(piece.order, Order):
            _fill_maker(venue, listing, piece.order, piece.size, trade.id, stamp.now_ns)
        else:
            listing.book.consume_depth(piece.price, piece.size, is_bid=takes_bids)
    return trade


def _delay_ns(venue: Venue, listing: Listing) -> int:
    """Return how long a marketable order of this market waits (protocol.md 2.7)."""
    if listing.seconds_delay:
        return listing.seconds_delay * NS_PER_S
    return venue.config.taker_delay_ms * NS_PER_MS if listing.market.taker_delay else 0


def _ended(listing: Listing, order: Order) -> str:
    """Return the status of an order whose market changed while it waited; "" where it may go on."""
    if listing.payouts is not None:
        return "CANCELED_MARKET_RESOLVED"
    on_grid = price_is_on_grid(order.price, listing.market.tick)
    return "" if listing.market.accepting_orders and on_grid else INVALID


def _execute(
    venue: Venue, listing: Listing, order: Order, now_ns: int, *, waited: bool = False
) -> Placed:
    slices = plan(listing, order)
    filled = sum(piece.size for piece in slices)
    if order.kind == "FOK" and filled < order.left:
        _close(venue, order, f"CANCELED_{FOK_KILLED}", now_ns)
        raise Refused(FOK_KILLED)
    if order.kind == "FAK" and not filled:
        _close(venue, order, f"CANCELED_{FAK_KILLED}", now_ns)
        raise Refused(FAK_KILLED)
    trades: tuple[Trade, ...] = ()
    if slices:
        taker = Taker(
            order=order.id,
            owner=order.owner,
            wallet=order.wallet,
            token=order.token,
            outcome=order.outcome,
            side=order.side,
        )
        trades = (take(venue, listing, taker, slices, Stamp(now_ns, new_tx(venue))),)
        order.matched = Shares(order.matched + filled)
        order.trades.extend(trade.id for trade in trades)
    _settle_remainder(venue, listing, order, now_ns, waited=waited)
    status = "matched" if trades else "live"
    return Placed(order=order.id, status=status, trades=trades)


def _settle_remainder(
    venue: Venue, listing: Listing, order: Order, now_ns: int, *, waited: bool
) -> None:
    """End or rest what did not trade; an order that waited was told as placed before."""
    if not order.left:
        _end(venue, order, "MATCHED")
        _tell(venue, order, "UPDATE", now_ns)
    elif order.kind in ("FAK", "FOK"):
        _tell(venue, order, "UPDATE", now_ns)
        _close(venue, order, "CANCELED", now_ns)
    else:
        listing.book.rest(order, level_of(order))
        _reserve(venue, order, 1)
        venue.touched[order.condition] = None
        if not waited:
            _tell(venue, order, "PLACEMENT", now_ns)
        if order.matched:
            _tell(venue, order, "UPDATE", now_ns)
        elif waited:
            unmatched = msgspec.structs.replace(order, status="UNMATCHED", trades=[])
            venue.events.append(OrderMoved(unmatched, "UPDATE", now_ns))
        if order.expiration_s:
            leaves_s = order.expiration_s - venue.config.gtd_removed_early_s
            add_timer(venue, leaves_s * NS_PER_S, "expire", order)


def _fill_maker(
    venue: Venue, listing: Listing, order: Order, size: Shares, trade: str, now_ns: int
) -> None:
    _reserve(venue, order, -1)
    order.matched = Shares(order.matched + size)
    order.trades.append(trade)
    if order.left:
        _reserve(venue, order, 1)
    else:
        _end(venue, order, "MATCHED")
        listing.book.remove(order, level_of(order))
    _tell(venue, order, "UPDATE", now_ns)


def _leg(taker: Taker, piece: Slice, tx: TxHash) -> Leg:
    if isinstance(piece.order, Order):
        order = piece.order
        return Leg(
            order=order.id,
            owner=order.owner,
            wallet=order.wallet,
            token=order.token,
            outcome=order.outcome,
            side=order.side,
            price=order.price,
            size=piece.size,
        )
    price = piece.price if taker.outcome == 0 else Price(MICRO - piece.price)
    return Leg(
        order=f"0x{piece.price:024x}{tx[26:]}",
        owner=ANONYMOUS_KEY,
        wallet=ANONYMOUS,
        token=taker.token,
        outcome=taker.outcome,
        side="SELL" if taker.side == "BUY" else "BUY",
        price=price,
        size=piece.size,
    )


def _reserve(venue: Venue, order: Order, sign: int) -> None:
    reserved = venue.ledger.reserved
    if order.side == "BUY":
        reserved[order.wallet, None] += sign * cost_up(order.price, order.left)
    else:
        reserved[order.wallet, order.token] += sign * order.left


def _close(venue: Venue, order: Order, status: str, now_ns: int) -> None:
    _end(venue, order, status)
    _tell(venue, order, "CANCELLATION", now_ns)


def _end(venue: Venue, order: Order, status: str) -> None:
    order.status = status
    venue.open_of[order.wallet].pop(order.id, None)


def _tell(venue: Venue, order: Order, change: OrderChange, now_ns: int) -> None:
    snapshot = msgspec.structs.replace(order, trades=list(order.trades))
    venue.events.append(OrderMoved(snapshot, change, now_ns))
