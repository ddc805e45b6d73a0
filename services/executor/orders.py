"""From an approval to an order on record: estimated on the freshest book, named by its hash."""

from typing import Final

import msgspec

from services.executor.shortfall import delay_move, expected_average
from services.executor.state import Attempt, Draft, Policy, State, has_order_for, open_orders
from shared.domain.book import Book, depth_within, walk
from shared.domain.freshness import age_ns
from shared.domain.grid import amounts, tradable_size
from shared.domain.ids import content_id
from shared.domain.market import fee_up, price_is_on_grid
from shared.domain.messages import Fact, OrderApproved, OrderDeclined, OrderPrepared, Quote
from shared.domain.units import NS_PER_MS, NS_PER_S, Shares, Usd

_REMOVED_EARLY_S: Final = 60
_GRACE_S: Final = 30  # for the venue to hear our own cancel first
_AHEAD_S: Final = 240  # three minutes, and a wait for our turn
_SALT_DIGITS: Final = 13  # 52 bits: a JSON number every client reads exactly


def attempt(policy: Policy, state: State, attempt: Attempt, now_ns: int) -> list[Fact]:
    approval, book = attempt.approval, attempt.book
    if has_order_for(state, approval.id):
        return []
    if now_ns > approval.expires_ns:
        late = now_ns - approval.expires_ns
        return [_declined(approval, "EXPIRED", late, 0, "ns", now_ns)]
    if any(order.token == approval.token for order in open_orders(state)):
        return [_declined(approval, "ORDER_IN_FLIGHT", 1, 0, "", now_ns)]
    if book is None:
        return [_declined(approval, "BOOK_MISSING", 0, 1, "", now_ns)]
    age = age_ns(book.seen_ns, now_ns)
    if age > policy.book_age_ns_max and not approval.reduces:
        return [_declined(approval, "BOOK_STALE", age, policy.book_age_ns_max, "ns", now_ns)]
    if approval.policy == "post_only":
        return [_joining(policy, approval, book, now_ns)]
    return [_taking(policy, approval, book, now_ns)]


def _taking(
    policy: Policy, approval: OrderApproved, book: Book, now_ns: int
) -> OrderPrepared | OrderDeclined:
    """Return an order that trades at once with what stands in the book, or why there is none."""
    estimate = walk(book, approval.side, approval.size, approval.limit)
    if estimate.filled == 0:
        best = book.best_ask if approval.side == "BUY" else book.best_bid
        return _declined(approval, "NO_DEPTH", best or 0, approval.limit, "price", now_ns)
    if approval.policy == "fill_or_kill" and estimate.filled < approval.size:
        return _declined(approval, "NOT_WHOLE", estimate.filled, approval.size, "shares", now_ns)
    prepared = _prepared(policy, approval, book, now_ns)
    if not approval.reduces and _is_beyond(prepared):
        actual = prepared.quote.average or 0
        return _declined(approval, "DELAY_COST", actual, approval.limit, "price", now_ns)
    return prepared


def _joining(
    policy: Policy, approval: OrderApproved, book: Book, now_ns: int
) -> OrderPrepared | OrderDeclined:
    """Return an order that joins our side of the book at its best price, never beyond the limit.

    Where our side is empty there is no price to join, and one of our own would be a guess.
    """
    market, buys = approval.market, approval.side == "BUY"
    near = book.best_bid if buys else book.best_ask
    if near is None or not price_is_on_grid(near, market.tick):
        return _declined(approval, "NO_NEAR_SIDE", near or 0, approval.limit, "price", now_ns)
    at = min(near, approval.limit) if buys else max(near, approval.limit)
    size = tradable_size(approval.side, at, approval.size, market.tick, marketable=False)
    if size < market.size_min:
        return _declined(approval, "BELOW_MINIMUM", size, market.size_min, "shares", now_ns)
    joined = msgspec.structs.replace(approval, limit=at, size=size)
    return _prepared(policy, joined, book, now_ns)


def _is_beyond(order: OrderPrepared) -> bool:
    """Tell whether the venue's delay is expected to move the average beyond what is approved.

    Less than a tick moves no price; the order would trade at its limit, or not.
    """
    average = order.quote.average
    if average is None or order.quote.delay_move < order.market.tick:
        return False
    return average > order.price if order.side == "BUY" else average < order.price


def _prepared(policy: Policy, approval: OrderApproved, book: Book, now_ns: int) -> OrderPrepared:
    """Build the order from the approval alone, so the same approval gives the same hash."""
    market = approval.market
    maker, taker = amounts(approval.side, approval.limit, approval.size, market.tick)
    draft = Draft(
        market=market,
        token=approval.token,
        side=approval.side,
        price=approval.limit,
        size=approval.size,
        maker_amount=maker,
        taker_amount=taker,
        salt=int(approval.id[:_SALT_DIGITS], 16),
        timestamp_ms=approval.ts_ns // NS_PER_MS,
        metadata="0x" + approval.id.ljust(64, "0"),
        policy=approval.policy,
    )
    rests = approval.policy == "post_only"
    order = policy.hash_of(draft)
    return OrderPrepared(
        id=content_id("order_prepared", order),
        cause=approval.id,
        root=approval.root,
        ts_ns=now_ns,
        order=order,
        approval=approval.id,
        leader=approval.leader,
        condition=approval.condition,
        token=approval.token,
        outcome=market.outcome_of(approval.token),
        side=approval.side,
        price=approval.limit,
        size=approval.size,
        maker_amount=maker,
        taker_amount=taker,
        salt=draft.salt,
        timestamp_ms=draft.timestamp_ms,
        metadata=draft.metadata,
        market=market,
        leader_price=approval.leader_price,
        fee=Usd(0) if rests else fee_up(market, approval.limit, approval.size),
        expires_ns=approval.expires_ns,
        quote=_quote(approval, book, now_ns),
        decision_mid=approval.quote.mid,
        policy=approval.policy,
        expiration_s=_expiration_s(approval, now_ns) if rests else 0,
        reprice_ticks=approval.reprice_ticks,
    )


def _expiration_s(approval: OrderApproved, now_ns: int) -> int:
    """Return when the venue is to remove the order itself: we cancel it earlier, if we live.

    It must lie three minutes ahead, and takes effect one minute early (protocol.md 2.6).
    """
    rest_over_s = -(-approval.expires_ns // NS_PER_S)
    return max(rest_over_s + _REMOVED_EARLY_S + _GRACE_S, now_ns // NS_PER_S + _AHEAD_S)


def _quote(approval: OrderApproved, book: Book, now_ns: int) -> Quote:
    if approval.policy == "post_only":
        return Quote(
            best_bid=book.best_bid,
            best_ask=book.best_ask,
            depth=Shares(0),
            book_age_ns=now_ns - book.seen_ns,
            average=approval.limit,
            worst=approval.limit,
        )
    estimate = walk(book, approval.side, approval.size, approval.limit)
    move = delay_move(approval.market, book)
    return Quote(
        best_bid=book.best_bid,
        best_ask=book.best_ask,
        depth=depth_within(book, approval.side, approval.limit),
        book_age_ns=now_ns - book.seen_ns,
        average=expected_average(approval.side, estimate, move),
        delay_move=move,
        worst=estimate.worst,
        filled=estimate.filled,
    )


def _declined(
    approval: OrderApproved, reason: str, actual: int, limit: int, unit: str, now_ns: int
) -> OrderDeclined:
    return OrderDeclined(
        id=content_id("order_declined", approval.id),
        cause=approval.id,
        root=approval.root,
        ts_ns=now_ns,
        approval=approval.id,
        leader=approval.leader,
        condition=approval.condition,
        token=approval.token,
        reason=reason,
        actual=actual,
        limit=limit,
        unit=unit,
    )
