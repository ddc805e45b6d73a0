"""The exchange: markets, recorded depth, other people's fills, time; every entry takes ``now_ns``.

Callers act, then ``advance`` what is due, then ``drain`` the events and tell the world.
"""

import heapq
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from services.paper_venue.balances import arrived
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.heartbeat import check_heart
from services.paper_venue.markets import clear_orders
from services.paper_venue.matching import MarketBook
from services.paper_venue.settlement import (
    Stamp,
    Taker,
    advance_trade,
    forget_oldest,
    new_tx,
    parties,
    record_activity,
    record_trade,
    redeemable,
    show_rows,
)
from services.paper_venue.state import (
    ANONYMOUS,
    ANONYMOUS_KEY,
    BookMoved,
    Event,
    Heart,
    Leg,
    Levels,
    Listing,
    MarketOpened,
    MarketResolved,
    Order,
    Outcome,
    Refused,
    Row,
    RowKind,
    TickChanged,
    TimerKind,
    Trade,
    Venue,
    next_number,
)
from services.paper_venue.trading import (
    cancel_uncovered,
    close_resting,
    fill_resting,
    match_crossed,
    release_order,
    take,
)
from shared.domain.ids import ConditionId, TxHash, Wallet
from shared.domain.market import Market, Side
from shared.domain.units import MICRO, NS_PER_MS, Price, Shares

FINE_TICK: Final = Price(1_000)
COARSE_TICK: Final = Price(10_000)
LOW: Final = Price(40_000)  # below 0.04 and above 0.96 a market's grid becomes finer
HIGH: Final = Price(960_000)


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's fill. Without ``exact`` it crosses the book like a fill-and-kill order."""

    wallet: Wallet
    condition: ConditionId
    outcome: Outcome
    side: Side
    size: Shares
    price: Price | None = None  # limit, or the recorded price where ``exact``; None: any
    tx: TxHash | None = None  # share a transaction with an earlier fill
    exact: bool = False  # happens at this price and size, whatever the book says
    immediate: bool = False  # no delays: visible everywhere at once


def new_venue(config: VenueConfig) -> Venue:
    venue = Venue(config=config)
    for account in config.accounts:
        fund(venue, account, now_ns=0)
    return venue


def fund(venue: Venue, account: Funded, now_ns: int) -> None:
    """Open or top up an account; negative dollars withdraw, and orders may lose their cover."""
    known = account.wallet in venue.ledger.cash
    venue.ledger.fund(account.wallet, account.usd)
    venue.accounts.add(account.wallet)
    if known:  # a cache holds nothing older of a wallet it has never looked at
        arrived(venue, account.wallet, None, account.usd)
    if account.owner is not None:
        venue.owner_of[account.wallet] = account.owner
    if account.signature_type is not None:
        venue.type_of[account.wallet] = account.signature_type
    if account.usd < 0:
        cancel_uncovered(venue, account.wallet, now_ns)


def open_market(venue: Venue, market: Market, now_ns: int) -> Listing:
    """List a market, or return the one that stands under its condition."""
    known = venue.listings.get(market.condition)
    if known is not None:
        return known
    listing = Listing(
        number=next_number(venue),
        market=market,
        book=MarketBook(),
        opened_ns=now_ns,
        changed_ns=now_ns,
    )
    venue.listings[market.condition] = listing
    for token in market.tokens:
        venue.by_token[token] = market.condition
    venue.events.append(MarketOpened(market.condition, now_ns))
    return listing


def set_depth(
    venue: Venue,
    condition: ConditionId,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    now_ns: int,
) -> None:
    """Replace the recorded depth of a market: prices and sizes of outcome 0."""
    listing = tradable(venue, condition)
    levels = (list(bids), list(asks))
    listing.book.replace_depth(*levels)
    venue.touched[condition] = None
    _refine_tick(venue, listing, [price for side in levels for price, _ in side], now_ns)
    match_crossed(venue, listing, now_ns)


def tradable(venue: Venue, condition: str) -> Listing:
    listing = venue.listings.get(ConditionId(condition))
    if listing is None or listing.payouts is not None:
        raise Refused("market not found", 404)
    return listing


def execute_fill(venue: Venue, fill: Fill, now_ns: int) -> tuple[Trade, ...]:
    """Make somebody's fill happen; nobody checks his funds. Empty where the book had nothing."""
    listing = tradable(venue, fill.condition)
    taker = Taker(
        order="0x" + blake2b(f"fill/{next_number(venue)}".encode(), digest_size=32).hexdigest(),
        owner="",
        wallet=fill.wallet,
        token=listing.market.tokens[fill.outcome],
        outcome=fill.outcome,
        side=fill.side,
    )
    stamp = Stamp(now_ns, fill.tx or new_tx(venue), fill.immediate)
    takes_bids = (fill.side == "SELL") == (fill.outcome == 0)
    if fill.exact:
        return _execute_exactly(venue, listing, taker, fill, stamp)
    limit = 0 if takes_bids else MICRO
    if fill.price is not None:
        limit = fill.price if fill.outcome == 0 else MICRO - fill.price
    slices = listing.book.plan(takes_bids=takes_bids, limit=limit, size=fill.size)
    return (take(venue, listing, taker, slices, stamp),) if slices else ()


def _execute_exactly(
    venue: Venue, listing: Listing, taker: Taker, fill: Fill, stamp: Stamp
) -> tuple[Trade, ...]:
    """Replay a recorded fill as it was, and let it reach the orders resting in its way.

    His row stays as recorded. Resting orders at better prices, and those at his price once the
    recorded depth there is used up, fill at their own price, each in a transaction of its own.
    """
    if fill.price is None:
        raise Refused("an exact fill needs a price")
    takes_bids = (fill.side == "SELL") == (fill.outcome == 0)
    level = fill.price if fill.outcome == 0 else MICRO - fill.price
    reach = listing.book.plan(takes_bids=takes_bids, limit=level, size=fill.size)
    leg = Leg(
        order=f"0x{level:024x}{stamp.tx[26:]}",
        owner=ANONYMOUS_KEY,
        wallet=ANONYMOUS,
        token=taker.token,
        outcome=taker.outcome,
        side="SELL" if fill.side == "BUY" else "BUY",
        price=fill.price,
        size=fill.size,
    )
    trades = [record_trade(venue, listing, taker, (leg,), stamp)]
    for piece in reach:
        if isinstance(piece.order, Order):
            own = msgspec.structs.replace(stamp, tx=new_tx(venue))
            trades.append(fill_resting(venue, listing, piece.order, piece.size, own))
        else:
            listing.book.consume_depth(piece.price, piece.size, is_bid=takes_bids)
    return tuple(trades)


def execute_activity(
    venue: Venue,
    wallet: Wallet,
    kind: RowKind,
    condition: ConditionId,
    size: Shares,
    stamp: Stamp,
) -> Row:
    """Split, merge or redeem for a wallet: an account what it has, a recorded stranger anything."""
    listing = venue.listings.get(condition)
    if listing is None:
        raise Refused("market not found", 404)
    if kind == "REDEEM" and listing.payouts is None:
        raise Refused("the market is not resolved: nothing to redeem")
    if wallet in venue.accounts:
        size = _covered(venue, listing, wallet, kind, size)
    row = record_activity(venue, listing, wallet, kind, size, stamp)
    _note_arrivals(venue, listing, row)
    cancel_uncovered(venue, wallet, stamp.now_ns)
    return row


def _covered(venue: Venue, listing: Listing, wallet: Wallet, kind: RowKind, size: Shares) -> Shares:
    """Return how much of a size an account can split, merge or redeem, or refuse."""
    ledger = venue.ledger
    if kind == "SPLIT":
        if min(ledger.settled_cash[wallet], ledger.cash[wallet]) < size:
            raise Refused("the wallet does not hold the dollars to split")
        return size
    held = [redeemable(venue, wallet, token, size) for token in listing.market.tokens]
    most = min(held) if kind == "MERGE" else max(held)
    if not most:
        raise Refused(f"the wallet holds nothing to {kind.lower()}")
    return most


def _note_arrivals(venue: Venue, listing: Listing, row: Row) -> None:
    """Let the CLOB's cached view miss what a split, merge or redemption brought."""
    arrived(venue, row.wallet, None, -row.usd if row.kind == "SPLIT" else row.usd)
    for token in listing.market.tokens:
        arrived(venue, row.wallet, token, row.size if row.kind == "SPLIT" else -row.size)


def resolve_market(
    venue: Venue, condition: ConditionId, payouts: tuple[int, int], now_ns: int
) -> None:
    """End a market: resting orders are cancelled, the book is gone, tokens are worth payouts."""
    listing = tradable(venue, condition)
    for is_bid in (True, False):
        for _, order in listing.book.resting(is_bid=is_bid):
            assert isinstance(order, Order)
            close_resting(venue, order, "CANCELED_MARKET_RESOLVED", now_ns)
    listing.book.clear()
    listing.payouts = payouts
    listing.resolved_ns = now_ns
    listing.market = msgspec.structs.replace(listing.market, accepting_orders=False)
    venue.touched.pop(condition, None)
    venue.events.append(MarketResolved(condition, now_ns))


def advance(venue: Venue, now_ns: int) -> None:
    """Do everything that is due: settlement steps, feeds, expirations, matching delays."""
    venue.now_ns = max(venue.now_ns, now_ns)
    timers = venue.timers
    while timers and timers[0][0] <= now_ns:
        due_ns, _, kind, subject = heapq.heappop(timers)
        if isinstance(subject, Trade):
            _settle(venue, subject, kind, due_ns)
        elif isinstance(subject, Heart):
            check_heart(venue, subject, due_ns)
        elif isinstance(subject, Order):
            if kind == "release":
                release_order(venue, subject, due_ns)
            elif subject.status == "LIVE":
                status = "INVALID" if kind == "withdraw" else "CANCELED_EXPIRED_ORDER"
                close_resting(venue, subject, status, now_ns)
        elif isinstance(subject, Listing) and kind == "start":
            clear_orders(venue, subject, now_ns)
        elif isinstance(subject, Listing):
            opened = subject.payouts is None
            subject.market = msgspec.structs.replace(subject.market, accepting_orders=opened)
        else:
            show_rows(venue, subject)
    forget_oldest(venue)


def _settle(venue: Venue, trade: Trade, kind: TimerKind, now_ns: int) -> None:
    advance_trade(venue, trade, kind, now_ns)
    if trade.status == "FAILED":
        for wallet in parties(trade):
            cancel_uncovered(venue, wallet, now_ns)


def next_due_ns(venue: Venue) -> int | None:
    return venue.timers[0][0] if venue.timers else None


def drain(venue: Venue, now_ns: int) -> list[Event]:
    """Return what happened since the last call, books last and each at most once."""
    events = list(venue.events)
    venue.events.clear()
    for condition in venue.touched:
        moved = _moved(venue.listings[condition], now_ns, kept=venue.config.book_history)
        if moved is not None:
            events.append(moved)
    venue.touched.clear()
    return events


def _moved(listing: Listing, now_ns: int, *, kept: int) -> BookMoved | None:
    bids = listing.book.levels(is_bid=True)
    asks = listing.book.levels(is_bid=False)
    changes: list[tuple[bool, int]] = []
    for is_bid, old, new in (
        (True, listing.published[0], bids),
        (False, listing.published[1], asks),
    ):
        changes.extend(
            (is_bid, price) for price in old.keys() | new.keys() if old.get(price) != new.get(price)
        )
    traded, listing.traded = listing.traded, False
    if not changes and not traded:
        return None
    listing.published = (bids, asks)
    listing.changed_ns = max(now_ns, listing.changed_ns + (NS_PER_MS if changes else 0))
    listing.history.append(Levels(listing.changed_ns, bids, asks))
    while len(listing.history) > kept:
        listing.history.popleft()
    return BookMoved(listing.market.condition, tuple(sorted(changes)), traded)


def _refine_tick(venue: Venue, listing: Listing, prices: list[int], now_ns: int) -> None:
    """Switch to the finer grid beyond 0.04 and 0.96, or where recorded depth already uses it."""
    if listing.market.tick != COARSE_TICK or not venue.config.fine_tick_at_extremes:
        return
    bid, ask = listing.book.best(is_bid=True), listing.book.best(is_bid=False)
    extreme = (bid is not None and bid > HIGH) or (ask is not None and ask < LOW)
    if extreme or any(price % COARSE_TICK for price in prices):
        listing.market = msgspec.structs.replace(listing.market, tick=FINE_TICK)
        venue.events.append(TickChanged(listing.market.condition, COARSE_TICK, FINE_TICK, now_ns))
