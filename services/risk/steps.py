"""From a target to the next order: which step closes its gap, and what the rules say of it."""

from typing import Final, Literal

from services.risk import regime
from services.risk.rules import Case, limit_price, review, worst_usd
from services.risk.sizing import desired
from services.risk.state import (
    NEVER_NS,
    Held,
    Policy,
    Reconsider,
    Review,
    State,
    Target,
    View,
    gap,
    held_of,
    key_of,
    usage,
)
from shared.domain.book import depth_within, walk
from shared.domain.ids import content_id
from shared.domain.market import Side
from shared.domain.messages import (
    Fact,
    OrderApproved,
    OrderRefused,
    Quote,
    TargetExpired,
    TargetSet,
    Verdict,
)
from shared.domain.units import MICRO, NS_PER_S, ZERO_SHARES, Price, Shares, Usd

DAY_NS: Final = 86_400 * NS_PER_S
# A refusal for these reasons is not tried again for the same target: time does not mend it.
_FINAL: Final = frozenset(
    {
        "MARKET_CLOSED", "NEAR_RESOLUTION", "FILL_TOO_OLD", "PRICE_TOO_LOW", "PRICE_TOO_HIGH",
        "TRADE_CAP", "LEADER_CAP", "MARKET_CAP", "EVENT_CAP", "TOTAL_CAP", "BALANCE_CAP",
        "DAILY_LOSS", "CLOSED_ONLY", "REGIME_HALTED", "REGIME_REDUCE_ONLY",
    }
)  # fmt: skip


def follow(policy: Policy, state: State, request: Review, now_ns: int) -> list[Fact]:
    intent = request.intent
    old = state.targets.get(key_of(intent.leader, intent.condition))
    before = old.target if old else held_of(state, intent.leader, intent.condition).net
    wanted = desired(policy, intent, before)
    fact = TargetSet(
        id=content_id("target_set", intent.id),
        cause=intent.id,
        root=intent.root,
        ts_ns=now_ns,
        leader=intent.leader,
        condition=intent.condition,
        before=before,
        target=wanted,
        yes_price=intent.yes_price,
        venue_ns=intent.venue_ns,
        expires_ns=_expiry(policy, old, before, wanted, now_ns),
    )
    target = target_from(fact)
    busy = any(r.condition == intent.condition for r in state.reserved.values())
    step = [] if busy else _step(policy, state, target, request.view, now_ns)
    return [fact, *step]


def _expiry(policy: Policy, old: Target | None, before: Shares, wanted: Shares, now_ns: int) -> int:
    """Return until when to enter; what he gave up renews no entry that is still to be made."""
    if before * wanted < 0 or abs(wanted) > abs(before):
        return now_ns + policy.entry_age_ns_max
    return old.expires_ns if old else now_ns


def target_from(fact: TargetSet) -> Target:
    return Target(
        leader=fact.leader,
        condition=fact.condition,
        target=fact.target,
        yes_price=fact.yes_price,
        venue_ns=fact.venue_ns,
        expires_ns=fact.expires_ns,
        cause=fact.id,
        root=fact.root,
    )


def reconsider(policy: Policy, state: State, request: Reconsider) -> list[Fact]:
    """Act on open gaps; at most one order at a time, for the next must see it reserved."""
    facts = regime.by_rules(policy, state, request)
    if facts:
        return facts  # what comes next must be judged under the regime that begins here
    for key, view in request.views.items():
        target = state.targets.get(key)
        if target is None:
            continue
        facts += _step(policy, state, target, view, request.now_ns)
        if facts and isinstance(facts[-1], OrderApproved):
            break
    return facts


def _step(policy: Policy, state: State, target: Target, view: View, now_ns: int) -> list[Fact]:
    """Return at most one fact that brings the holding a step nearer to its target."""
    open_gap = gap(state, target)
    if abs(open_gap) < policy.dust:
        return []
    held = held_of(state, target.leader, target.condition)
    least = view.market.size_min if view.market else ZERO_SHARES
    outcome, side, size = _towards(held, open_gap, least)
    if side == "BUY" and now_ns > target.expires_ns:
        return [_expired(state, target, now_ns)]
    size = _whole_exit(target, held, outcome, side, size, view)
    case = _case(policy, state, target, view, (outcome, side, size), now_ns)
    if isinstance(case, Verdict):
        return _refused(policy, target, None, (side, size), (case,), now_ns)
    case, verdicts = review(case)
    if verdicts[-1].outcome == "refuse":
        return _refused(policy, target, case, (side, size), verdicts, now_ns)
    return [_approved(policy, target, case, verdicts, now_ns)]


def _towards(held: Held, open_gap: Shares, least: Shares) -> tuple[Literal[0, 1], Side, Shares]:
    """Return the outcome, side and size that close a gap: first sell what stands against it.

    Less than the venue trades cannot be sold, and must not stand in the way of a flip: bought
    against, it becomes complete sets, which are cash.
    """
    size = Shares(abs(open_gap))
    against = held.no.shares if open_gap > 0 else held.yes.shares
    if against > 0 and (size <= against or against >= least):
        return (1 if open_gap > 0 else 0), "SELL", Shares(min(size, against))
    return (0 if open_gap > 0 else 1), "BUY", size


def _whole_exit(
    target: Target, held: Held, outcome: int, side: Side, size: Shares, view: View
) -> Shares:
    """Return the size of a sale that leaves nothing too small to sell later."""
    if side == "BUY" or view.market is None:
        return size
    owned = held.yes.shares if outcome == 0 else held.no.shares
    return owned if target.target == 0 or owned - size < view.market.size_min else size


def _case(
    policy: Policy,
    state: State,
    target: Target,
    view: View,
    order: tuple[Literal[0, 1], Side, Shares],
    now_ns: int,
) -> Case | Verdict:
    outcome, side, size = order
    market, book = view.market, view.books[outcome]
    if market is None:
        return Verdict(rule="view", outcome="refuse", reason="MARKET_UNKNOWN", limit=1)
    if book is None:
        return Verdict(rule="view", outcome="refuse", reason="BOOK_MISSING", limit=1)
    held = held_of(state, target.leader, target.condition)
    price = target.yes_price if outcome == 0 else Price(MICRO - target.yes_price)
    return Case(
        policy=policy,
        leader=target.leader,
        leader_usd_max=policy.sizing_of(target.leader).leader_usd_max,
        market=market,
        token=market.tokens[outcome],
        side=side,
        size=size,
        available=held.yes.shares if outcome == 0 else held.no.shares,
        leader_price=price,
        venue_ns=target.venue_ns,
        book=book,
        account=view.account,
        usage=usage(state, target.leader, target.condition, market.event),
        regime=state.regime,
        realised_today=state.realised_today if state.day == now_ns // DAY_NS else Usd(0),
        now_ns=now_ns,
    )


def _quote(case: Case, limit: Price) -> Quote:
    estimate = walk(case.book, case.side, case.size, limit)
    return Quote(
        best_bid=case.book.best_bid,
        best_ask=case.book.best_ask,
        depth=depth_within(case.book, case.side, limit),
        book_age_ns=case.now_ns - case.book.seen_ns,
        average=estimate.average,
        worst=estimate.worst,
        filled=estimate.filled,
    )


def _approved(
    policy: Policy, target: Target, case: Case, verdicts: tuple[Verdict, ...], now_ns: int
) -> OrderApproved:
    limit = limit_price(case)
    expires_ns = now_ns + policy.order_ttl_ns
    return OrderApproved(
        id=content_id("order_approved", target.cause, target.attempts),
        cause=target.cause,
        root=target.root,
        ts_ns=now_ns,
        leader=target.leader,
        condition=target.condition,
        token=case.token,
        side=case.side,
        size=case.size,
        limit=limit,
        leader_price=case.leader_price,
        worst_usd=worst_usd(case.market, case.side, limit, case.size),
        reduces=case.side == "SELL",
        market=case.market,
        expires_ns=min(expires_ns, target.expires_ns) if case.side == "BUY" else expires_ns,
        quote=_quote(case, limit),
        verdicts=verdicts,
    )


def _refused(
    policy: Policy,
    target: Target,
    case: Case | None,
    order: tuple[Side, Shares],
    verdicts: tuple[Verdict, ...],
    now_ns: int,
) -> list[Fact]:
    """Say a refusal once for each reason; what time may mend is tried again."""
    last, (side, size) = verdicts[-1], order
    if target.last_reason == last.reason:
        return []
    trimmed = any(verdict.outcome == "trim" for verdict in verdicts)
    waits_for_more = last.reason == "BELOW_MINIMUM" and not trimmed  # dust grows with intents
    final = last.reason in _FINAL and side == "BUY"
    return [
        OrderRefused(
            id=content_id("order_refused", target.cause, target.attempts, last.reason, now_ns),
            cause=target.cause,
            root=target.root,
            ts_ns=now_ns,
            leader=target.leader,
            condition=target.condition,
            token=case.token if case else None,
            side=side,
            size=size,
            reason=last.reason,
            actual=last.actual,
            limit=last.limit,
            unit=last.unit,
            final=final,
            retry_ns=NEVER_NS if waits_for_more else now_ns + policy.retry_ns,
            verdicts=verdicts,
            quote=_quote(case, limit_price(case)) if case else None,
        )
    ]


def _expired(state: State, target: Target, now_ns: int) -> TargetExpired:
    return TargetExpired(
        id=content_id("target_expired", target.cause, target.attempts, now_ns),
        cause=target.cause,
        root=target.root,
        ts_ns=now_ns,
        leader=target.leader,
        condition=target.condition,
        target=target.target,
        held=held_of(state, target.leader, target.condition).net,
    )
