"""From a match to its end: trades, their public rows, and the timers that settle them."""

import heapq
from bisect import insort
from collections import Counter
from hashlib import blake2b
from itertools import islice
from typing import Literal

import msgspec

from services.paper_venue import chain
from services.paper_venue.ledger import Move, Party, match_moves
from services.paper_venue.state import (
    ANONYMOUS,
    FEES,
    Leg,
    Listing,
    Row,
    RowKind,
    RowsShown,
    Subject,
    Timer,
    TimerKind,
    Trade,
    Traded,
    TradeMoved,
    TradeStatus,
    Venue,
    next_number,
)
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet
from shared.domain.market import Side, fee_up
from shared.domain.units import (
    MICRO,
    NS_PER_MS,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    average_price_up,
    cost_up,
    proceeds_down,
    scale_down,
)


class Taker(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes, in which token; an order behind it or not."""

    order: str
    owner: str
    wallet: Wallet
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    pays_fee: bool = True


class Stamp(msgspec.Struct, frozen=True):
    """When something happens, in which transaction, and how fast the world learns of it."""

    now_ns: int
    tx: TxHash
    immediate: bool = False  # no delays at all: for load generators


def new_tx(venue: Venue) -> TxHash:
    return TxHash("0x" + _digest(venue, "tx", next_number(venue), size=32).hex())


def record_trade(
    venue: Venue,
    listing: Listing,
    taker: Taker,
    legs: tuple[Leg, ...],
    stamp: Stamp,
) -> Trade:
    """Book one taker order's trade, best price first: working balances, feeds and timers."""
    market = listing.market
    levels = _levels(taker, legs)
    size = Shares(sum(levels.values()))
    fee = Usd(0)
    if taker.pays_fee:
        fee = Usd(sum(fee_up(market, price, taken) for price, taken in levels.items()))
    moves = _moves(taker, legs, market.condition, fee)
    dollars = cost_up if taker.side == "BUY" else proceeds_down
    notional = Usd(sum(dollars(_paid(taker, leg), leg.size) for leg in legs))
    number = next_number(venue)
    trade = Trade(
        id=_trade_id(venue, number),
        condition=market.condition,
        token=taker.token,
        outcome=taker.outcome,
        side=taker.side,
        price=next(iter(levels)) if len(levels) == 1 else _average(taker.side, notional, size),
        size=size,
        notional=notional,
        fee=fee,
        taker_order=taker.order,
        taker_owner=taker.owner,
        taker=taker.wallet,
        legs=legs,
        tx=stamp.tx,
        match_ns=stamp.now_ns,
        number=number,
        moves=moves,
        updated_ns=stamp.now_ns,
    )
    venue.ledger.match(moves)
    venue.trades[trade.id] = trade
    for wallet in {taker.wallet, *(leg.wallet for leg in legs)} - {ANONYMOUS}:
        venue.trades_of.setdefault(wallet, []).append(trade.id)
    listing.traded = True
    listing.volume += notional
    last = trade.last_price
    listing.last_price = last if taker.outcome == 0 else Price(MICRO - last)
    listing.last_side = taker.side if taker.outcome == 0 else _opposite(taker.side)
    venue.touched[market.condition] = None
    venue.events.append(Traded(trade))
    venue.events.append(TradeMoved(trade, "MATCHED", stamp.now_ns))
    _schedule_settlement(venue, trade, stamp)
    return trade


def _paid(taker: Taker, leg: Leg) -> Price:
    """Return a leg's price in the taker's token: sets are minted and merged at one dollar."""
    return leg.price if leg.token == taker.token else Price(MICRO - leg.price)


def _levels(taker: Taker, legs: tuple[Leg, ...]) -> dict[Price, Shares]:
    """Return what was taken at each price of the taker's token."""
    levels: dict[Price, Shares] = {}
    for leg in legs:
        price = _paid(taker, leg)
        levels[price] = Shares(levels.get(price, 0) + leg.size)
    return levels


def _average(side: Side, notional: Usd, size: Shares) -> Price:
    """Return the price of a share of a sweep, rounded against the taker to a micro-dollar."""
    if side == "BUY":
        return average_price_up(notional, size)
    return Price(scale_down(MICRO, notional, size))


def _schedule_settlement(venue: Venue, trade: Trade, stamp: Stamp) -> None:
    config, now_ns = venue.config, stamp.now_ns
    mined_ns = now_ns if stamp.immediate else chain.mined_ns(config, now_ns)
    confirmed_ns = now_ns + (0 if stamp.immediate else config.confirmed_delay_ms * NS_PER_MS)
    confirmed_ns = max(confirmed_ns, mined_ns)
    trouble = venue.trouble(trade)
    if trouble is not None:
        add_timer(venue, mined_ns, "retrying", trade)
        if trouble.retry_ns is None:
            add_timer(venue, confirmed_ns, "failed", trade)
            return
        stamp = msgspec.structs.replace(stamp, now_ns=now_ns + trouble.retry_ns)
        mined_ns = chain.block_after(config, mined_ns + trouble.retry_ns)
        confirmed_ns = max(confirmed_ns + trouble.retry_ns, mined_ns)
    add_timer(venue, mined_ns, "mined", trade)
    add_timer(venue, confirmed_ns, "confirmed", trade)
    rows = trade.rows = _trade_rows(venue, trade, stamp, mined_ns)
    shown_ns = stamp.now_ns + (0 if stamp.immediate else config.rtds_delay_ms * NS_PER_MS)
    add_timer(venue, shown_ns, "rows", rows)


def _trade_rows(venue: Venue, trade: Trade, stamp: Stamp, mined_ns: int) -> tuple[Row, ...]:
    rows = []
    for fill in chain.fills_of(trade):
        if fill.wallet == ANONYMOUS and not venue.config.anonymous_rows:
            continue
        seq = next_number(venue)
        row = Row(
            seq=seq,
            wallet=fill.wallet,
            kind="TRADE",
            condition=trade.condition,
            size=fill.size,
            usd=fill.usd,
            tx=trade.tx,
            block_s=mined_ns // NS_PER_S,
            seen_ns=max(mined_ns, seen_ns(venue, stamp, seq)),
            token=fill.token,
            outcome=fill.outcome,
            side=fill.side,
            price=fill.price,
            taker=fill.taker,
        )
        store_row(venue, row)
        rows.append(row)
    return tuple(rows)


def record_activity(
    venue: Venue,
    listing: Listing,
    wallet: Wallet,
    kind: RowKind,
    size: Shares,
    stamp: Stamp,
) -> Row:
    """Book a split, merge or redemption: complete sets against dollars, or tokens for payouts."""
    condition = listing.market.condition
    payouts = listing.payouts or (0, 0)
    half = Price(MICRO // 2)
    moves, usd, most = [], Usd(0), Shares(0)
    for outcome, token in enumerate(listing.market.tokens):
        shares, price = size, half
        if kind == "REDEEM":
            shares = redeemable(venue, wallet, token, size)
            price, most = Price(payouts[outcome]), Shares(max(most, shares))
        cash = proceeds_down(price, shares)
        change = shares if kind == "SPLIT" else Shares(-shares)
        moves.append(Move(wallet, Usd(0), token, condition, outcome, change, price))
        usd = Usd(usd + cash)
    if kind in ("SPLIT", "MERGE"):
        usd = Usd(size)
    moves.append(Move(wallet, Usd(-usd if kind == "SPLIT" else usd)))
    venue.ledger.match(tuple(moves))
    venue.ledger.settle(tuple(moves), stamp.now_ns)
    seq = next_number(venue)
    row = Row(
        seq=seq,
        wallet=wallet,
        kind=kind,
        condition=condition,
        size=most or size,  # of a redemption what there was to redeem
        usd=usd,
        tx=stamp.tx,
        block_s=stamp.now_ns // NS_PER_S,
        seen_ns=seen_ns(venue, stamp, seq),
    )
    store_row(venue, row)
    return row


def redeemable(venue: Venue, wallet: Wallet, token: TokenId, size: Shares) -> Shares:
    """Return how much of a size is held and not sold already, settled or not."""
    held = min(venue.ledger.holding(wallet, token), venue.ledger.tokens[wallet, token])
    return Shares(min(size, max(0, held)))


def store_row(venue: Venue, row: Row) -> None:
    """File a row, keeping every list in the order of (block time, sequence)."""
    for rows in (venue.rows, venue.rows_of.setdefault(row.wallet, [])):
        if rows and _order_of(rows[-1]) > _order_of(row):
            insort(rows, row, key=_order_of)
        else:
            rows.append(row)


def forget_oldest(venue: Venue) -> None:
    """Keep memory bounded: beyond the limit a quarter of the trades goes, with their rows."""
    kept = venue.config.trades_kept
    if len(venue.trades) <= kept:
        return
    forgotten = list(islice(venue.trades.values(), len(venue.trades) - kept + kept // 4))
    until_ns = forgotten[-1].match_ns
    for trade in forgotten:
        del venue.trades[trade.id]
    for wallet, ids in venue.trades_of.items():
        venue.trades_of[wallet] = [each for each in ids if each in venue.trades]
    venue.rows = [row for row in venue.rows if row.seen_ns > until_ns]
    for wallet, rows in venue.rows_of.items():
        venue.rows_of[wallet] = [row for row in rows if row.seen_ns > until_ns]


def _order_of(row: Row) -> tuple[int, int]:
    return row.block_s, row.seq


def add_timer(venue: Venue, due_ns: int, kind: TimerKind, subject: Subject) -> None:
    timer: Timer = (due_ns, next_number(venue), kind, subject)
    heapq.heappush(venue.timers, timer)


def advance_trade(venue: Venue, trade: Trade, kind: TimerKind, now_ns: int) -> None:
    """Take one step of a trade's settlement; a failed one takes the fill back.

    The chain reverts what is not covered by what has settled: who sold what he bought in a trade
    that failed, or paid with what it brought him, fails too.
    """
    if kind == "mined" and _is_covered(venue, trade):
        venue.ledger.settle(trade.moves, now_ns)
        chain.seal(venue, trade, now_ns)
        _to(venue, trade, "MINED", now_ns)
    elif kind in ("mined", "retrying"):
        _to(venue, trade, "RETRYING", now_ns)
    elif kind == "confirmed" and trade.status == "MINED":
        _to(venue, trade, "CONFIRMED", now_ns)
    else:
        venue.ledger.match(trade.moves, sign=-1)
        _withdraw(venue, trade.rows)
        _to(venue, trade, "FAILED", now_ns)


def parties(trade: Trade) -> list[Wallet]:
    """Return who traded, in the order of the legs."""
    return list(dict.fromkeys((trade.taker, *(leg.wallet for leg in trade.legs))))


def _is_covered(venue: Venue, trade: Trade) -> bool:
    """Tell whether those who traded by order hold, settled, what they give."""
    sides = [(trade.taker_order, trade.taker), *((leg.order, leg.wallet) for leg in trade.legs)]
    bound = {wallet for order, wallet in sides if order in venue.orders}
    cash: Counter[Wallet] = Counter()
    tokens: Counter[tuple[Wallet, TokenId]] = Counter()
    for move in trade.moves:
        if move.wallet in bound:
            cash[move.wallet] += move.cash
            if move.token is not None:
                tokens[move.wallet, move.token] += move.shares
    ledger = venue.ledger
    return all(ledger.settled_cash[who] + change >= 0 for who, change in cash.items()) and all(
        ledger.holding(who, token) + change >= 0 for (who, token), change in tokens.items()
    )


def _withdraw(venue: Venue, rows: tuple[Row, ...]) -> None:
    """Take back the public rows of a trade that was to settle and did not."""
    venue.withdrawn |= {row.seq for row in rows}
    for row in rows:
        venue.rows.remove(row)
        venue.rows_of[row.wallet].remove(row)


def _to(venue: Venue, trade: Trade, status: TradeStatus, now_ns: int) -> None:
    trade.status, trade.updated_ns = status, now_ns
    venue.events.append(TradeMoved(trade, status, now_ns))


def show_rows(venue: Venue, rows: tuple[Row, ...]) -> None:
    standing = tuple(row for row in rows if row.seq not in venue.withdrawn)
    if standing:
        venue.events.append(RowsShown(standing))


def _moves(
    taker: Taker, legs: tuple[Leg, ...], condition: ConditionId, fee: Usd
) -> tuple[Move, ...]:
    moves: list[Move] = []
    party = Party(taker.wallet, taker.token, taker.outcome, taker.side)
    for place, leg in enumerate(legs):
        maker = Party(leg.wallet, leg.token, leg.outcome, leg.side)
        leg_fee = fee if place == 0 else Usd(0)
        moves.extend(match_moves(party, maker, condition, _paid(taker, leg), leg.size, leg_fee))
    if fee:
        moves.append(Move(FEES, fee))
    return tuple(moves)


def seen_ns(venue: Venue, stamp: Stamp, seq: int) -> int:
    """Return from when the Data API shows a row; rows of one moment need not come together."""
    if stamp.immediate:
        return stamp.now_ns
    config = venue.config
    late_ms = 0
    if config.index_jitter_ms:
        drawn = int.from_bytes(_digest(venue, "index", seq, size=4), "big")
        late_ms = drawn % (config.index_jitter_ms + 1)
    return stamp.now_ns + (config.data_api_delay_ms + late_ms) * NS_PER_MS


def _trade_id(venue: Venue, number: int) -> str:
    """Return an id that looks like production's: a UUID, here a function of the number."""
    text = _digest(venue, "trade", number, size=16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _digest(venue: Venue, kind: str, number: int, *, size: int) -> bytes:
    return blake2b(f"{venue.config.seed}/{kind}/{number}".encode(), digest_size=size).digest()


def _opposite(side: Side) -> Side:
    return "SELL" if side == "BUY" else "BUY"
