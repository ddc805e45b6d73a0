"""Orders: admission in the venue's words, execution against the book, cancellation."""

from itertools import groupby
from typing import Final

import msgspec

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
from shared.domain.market import CENT, MARKETABLE_BUY_MIN, fee_up, price_is_on_grid
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
    _check_terms(venue, listing, order, offered, now_ns)
    slices = plan(listing, order)
    if slices and order.side == "BUY" and offered < MARKETABLE_BUY_MIN:
        least = format_micro(MARKETABLE_BUY_MIN)
        raise Refused(
            f"invalid amount for a marketable BUY order (${format_micro(offered)}), "
            f"min size: ${least}"
        )
    if slices and order.post_only:
        raise Refused("invalid post-only order: order crosses book")
    _check_funds(venue, listing, order, slices)
    venue.orders[order.id] = order
    venue.by_owner.setdefault(order.owner, []).append(order.id)
    if slices and listing.market.taker_delay and venue.config.taker_delay_ms:
        order.status = "DELAYED"
        _reserve(venue, order, 1)
        _tell(venue, order, "PLACEMENT", now_ns)
        add_timer(venue, now_ns + venue.config.taker_delay_ms * NS_PER_MS, "release", order)
        return Placed(order=order.id, status="delayed")
    return _execute(venue, listing, order, now_ns)


def release_order(venue: Venue, order: Order, now_ns: int) -> None:
    """End an order's matching delay: it meets the book as it is now, funds checked again."""
    if order.status != "DELAYED":
        return
    _reserve(venue, order, -1)
    order.status = "LIVE"
    listing = venue.listings[order.condition]
    try:
        _check_funds(venue, listing, order, plan(listing, order))
        _execute(venue, listing, order, now_ns)
    except Refused as refusal:
        if order.status == "LIVE":
            _close(venue, order, f"CANCELED_{refusal.text}", now_ns)


def cancel_orders(
    venue: Venue, owners: set[str], ids: list[str], now_ns: int
) -> tuple[list[str], dict[str, str]]:
    """Cancel what can be: returns the ids cancelled, and for the others why not."""
    canceled: list[str] = []
    refused: dict[str, str] = {}
    for order_id in ids:
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
    for order in reversed(list(venue.orders.values())):
        if order.wallet != wallet or order.status != "LIVE":
            continue
        if order.side == "BUY":
            short = venue.ledger.free_cash(wallet) < 0
        else:
            short = venue.ledger.free_tokens(wallet, order.token) < 0
        if short:
            close_resting(venue, order, "CANCELED_NOT_ENOUGH_BALANCE", now_ns)


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
    trade = record_trade(
        venue,
        listing,
        taker,
        (_leg(taker, piece, stamp.tx),),
        price=order.price,
        stamp=stamp,
    )
    _fill_maker(venue, listing, order, size, trade.id, stamp.now_ns)
    return trade


def take(
    venue: Venue,
    listing: Listing,
    taker: Taker,
    slices: list[Slice],
    stamp: Stamp,
) -> list[Trade]:
    """Execute planned slices: one trade a price, makers filled, depth consumed."""
    trades = []
    takes_bids = (taker.side == "SELL") == (taker.outcome == 0)
    for level, group in groupby(slices, key=lambda piece: piece.price):
        pieces = list(group)
        legs = tuple(_leg(taker, piece, stamp.tx) for piece in pieces)
        price = level if taker.outcome == 0 else Price(MICRO - level)
        trade = record_trade(venue, listing, taker, legs, price=price, stamp=stamp)
        trades.append(trade)
        for piece in pieces:
            if isinstance(piece.order, Order):
                _fill_maker(venue, listing, piece.order, piece.size, trade.id, stamp.now_ns)
            else:
                listing.book.consume_depth(level, piece.size, is_bid=takes_bids)
    return trades


def plan(listing: Listing, order: Order) -> list[Slice]:
    """Return what the order would take from the book now."""
    return listing.book.plan(takes_bids=not order.is_bid, limit=level_of(order), size=order.left)


def level_of(order: Order) -> int:
    """Return the order's price in the market's one book."""
    return order.price if order.outcome == 0 else MICRO - order.price


def _check_terms(venue: Venue, listing: Listing, order: Order, offered: Usd, now_ns: int) -> None:
    market = listing.market
    if order.id in venue.orders:
        raise Refused(f"order {order.id} is invalid. Duplicated.")
    if not market.accepting_orders:
        raise Refused("the market is not yet ready to process new orders")
    if not price_is_on_grid(order.price, market.tick):
        price, tick = format_micro(order.price), format_micro(market.tick)
        raise Refused(
            f"order {order.id} is invalid. Price ({price}) breaks minimum tick size rule: {tick}"
        )
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


def _check_funds(venue: Venue, listing: Listing, order: Order, slices: list[Slice]) -> None:
    ledger = venue.ledger
    if order.side == "SELL":
        free: int = ledger.free_tokens(order.wallet, order.token)
        needed: int = order.left
    else:
        free, needed = ledger.free_cash(order.wallet), _buying_power(listing, order, slices)
    if free < needed:
        raise Refused(
            "not enough balance / allowance: the balance is not enough -> "
            f"balance: {max(free, 0)}, order amount: {needed}"
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


def _execute(venue: Venue, listing: Listing, order: Order, now_ns: int) -> Placed:
    slices = plan(listing, order)
    filled = sum(piece.size for piece in slices)
    if order.kind == "FOK" and filled < order.left:
        _close(venue, order, f"CANCELED_{FOK_KILLED}", now_ns)
        raise Refused(FOK_KILLED)
    if order.kind == "FAK" and not filled:
        _close(venue, order, f"CANCELED_{FAK_KILLED}", now_ns)
        raise Refused(FAK_KILLED)
    trades: list[Trade] = []
    if slices:
        taker = Taker(
            order=order.id,
            owner=order.owner,
            wallet=order.wallet,
            token=order.token,
            outcome=order.outcome,
            side=order.side,
        )
        trades = take(venue, listing, taker, slices, Stamp(now_ns, new_tx(venue)))
        order.matched = Shares(order.matched + filled)
        order.trades.extend(trade.id for trade in trades)
    _settle_remainder(venue, listing, order, now_ns, matched=bool(trades))
    status = "matched" if trades else "live"
    return Placed(order=order.id, status=status, trades=tuple(trades))


def _settle_remainder(
    venue: Venue, listing: Listing, order: Order, now_ns: int, *, matched: bool
) -> None:
    if not order.left:
        order.status = "MATCHED"
        _tell(venue, order, "UPDATE", now_ns)
    elif order.kind in ("FAK", "FOK"):
        _tell(venue, order, "UPDATE", now_ns)
        _close(venue, order, "CANCELED", now_ns)
    else:
        listing.book.rest(order, level_of(order))
        _reserve(venue, order, 1)
        venue.touched[order.condition] = None
        _tell(venue, order, "PLACEMENT", now_ns)
        if matched:
            _tell(venue, order, "UPDATE", now_ns)
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
        order.status = "MATCHED"
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
    order.status = status
    _tell(venue, order, "CANCELLATION", now_ns)


def _tell(venue: Venue, order: Order, change: OrderChange, now_ns: int) -> None:
    snapshot = msgspec.structs.replace(order, trades=list(order.trades))
    venue.events.append(OrderMoved(snapshot, change, now_ns))
