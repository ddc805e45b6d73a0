"""From a target to the next order: which step closes its gap, and what the rules say of it."""

from typing import Final

import msgspec

from services.risk import equity, netting, regime, working
from services.risk.caps import Case, limit_price, risked_by_account, risked_by_leader, spent
from services.risk.cases import Step, case_of, group_of, step_towards
from services.risk.policy import NEVER_NS, Policy
from services.risk.rules import review
from services.risk.sizing import desired
from services.risk.state import (
    Reconsider,
    Review,
    State,
    Target,
    View,
    gap,
    held_of,
    is_busy,
    key_of,
)
from shared.domain.book import Book, depth_within, walk
from shared.domain.ids import content_id
from shared.domain.messages import (
    Fact,
    OrderApproved,
    OrderRefused,
    Quote,
    TargetExpired,
    TargetSet,
    Verdict,
)
from shared.domain.units import Price, Shares

_LEVELS_KEPT: Final = 20  # of the ladder, in a decision: enough to judge it again by other settings
# A refusal for these reasons is not tried again for the same target: time does not mend it.
_FINAL: Final = frozenset(
    {
        "MARKET_CLOSED", "MARKET_BLOCKED", "MARKET_NOT_ALLOWED", "CATEGORY_BLOCKED",
        "CATEGORY_NOT_ALLOWED", "TAKER_DELAY", "EXCHANGE_UNKNOWN", "NEAR_RESOLUTION",
        "FILL_TOO_OLD", "PRICE_TOO_LOW", "PRICE_TOO_HIGH", "TRADE_CAP", "LEADER_CAP",
        "MARKET_CAP", "EVENT_CAP", "CATEGORY_CAP", "TOTAL_CAP", "BALANCE_CAP", "DAILY_LOSS",
        "DRAWDOWN", "CLOSED_ONLY", "GEOBLOCKED", "BANNED", "REGIME_HALTED", "REGIME_REDUCE_ONLY",
    }
)  # fmt: skip


def follow(policy: Policy, state: State, request: Review, now_ns: int) -> list[Fact]:
    """Return the target that an intent leads to, and the first step towards it."""
    intent = request.intent
    if intent.leader in state.unfollowed:
        return []
    old = state.targets.get(key_of(intent.leader, intent.condition))
    before = old.target if old else held_of(state, intent.leader, intent.condition).net
    wanted, arithmetic = desired(policy, state, intent, request.view, before)
    view = request.view
    book = view.books[0 if intent.after > 0 else 1]
    for_nothing = wanted == before and book is not None and view.market is not None
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
        arithmetic=arithmetic,
        market=view.market if for_nothing else None,
        quote=_seen(book, now_ns) if book and for_nothing else None,
    )
    target = target_from(fact)
    busy = is_busy(state, intent.condition)
    step = [] if busy else _step(policy, state, target, view, now_ns)
    return [fact, *step]  # what rests in the way is withdrawn at the next look


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
    """Act on open gaps; at most one trade at a time, for the next must see what it took."""
    facts: list[Fact] = [*equity.marked(policy, state, request)]
    facts += regime.by_rules(policy, state, request)
    facts += working.withdrawals(policy, state, request.now_ns)
    if facts:
        return facts  # what comes next must be judged on what begins here
    for key, view in request.views.items():
        target = state.targets.get(key)
        if target is None or is_busy(state, target.condition):
            continue
        facts += _step(policy, state, target, view, request.now_ns)
        if facts and not isinstance(facts[-1], OrderRefused | TargetExpired):
            break
    return facts


def _step(policy: Policy, state: State, target: Target, view: View, now_ns: int) -> list[Fact]:
    """Return what brings the holding a step nearer to its target: a trade, or why there is none."""
    open_gap = gap(state, target)
    if abs(open_gap) < policy.dust:
        return []
    step = step_towards(state, target, open_gap, view)
    given_up = working.gives_up(policy, target, now_ns, opens=step.opens)
    if given_up or (step.opens and now_ns > target.expires_ns):
        return [_expired(state, target, now_ns)]
    crossed = netting.between_leaders(policy, state, target, view, now_ns)
    if crossed:
        return crossed
    case = case_of(policy, state, target, view, step, now_ns)
    if isinstance(case, Verdict):
        return _refused(policy, target, None, step, (case,), now_ns)
    case, verdicts = review(case)
    if verdicts[-1].outcome == "refuse":
        return _refused(policy, target, case, step, verdicts, now_ns)
    return [_approved(policy, target, case, verdicts, now_ns)]


def _seen(book: Book, now_ns: int) -> Quote:
    return Quote(
        best_bid=book.best_bid,
        best_ask=book.best_ask,
        depth=depth_within(book, "BUY", book.best_ask or Price(0)),
        book_age_ns=now_ns - book.seen_ns,
        levels=book.asks[:_LEVELS_KEPT],
    )


def _quote(case: Case, limit: Price) -> Quote:
    estimate = walk(case.book, case.side, case.size, limit)
    levels = case.book.asks if case.buys else case.book.bids
    return Quote(
        best_bid=case.book.best_bid,
        best_ask=case.book.best_ask,
        depth=depth_within(case.book, case.side, limit),
        book_age_ns=case.now_ns - case.book.seen_ns,
        average=estimate.average,
        worst=estimate.worst,
        filled=estimate.filled,
        levels=levels[:_LEVELS_KEPT],
    )


def _approved(
    policy: Policy, target: Target, case: Case, verdicts: tuple[Verdict, ...], now_ns: int
) -> OrderApproved:
    limit = limit_price(case)
    how = working.order_policy(policy, target, now_ns, opens=case.opens)
    rests = how == "post_only"
    quote, expires_ns = _quote(case, limit), now_ns + policy.order_ttl_ns
    if rests:  # it takes nothing: there is no walk of the book to be held to
        quote = msgspec.structs.replace(quote, average=None, worst=None, filled=Shares(0))
        expires_ns = working.rests_until(policy, target, now_ns)
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
        worst_usd=spent(case, case.size),
        reduces=not case.opens,
        market=case.market,
        expires_ns=min(expires_ns, target.expires_ns) if case.opens else expires_ns,
        quote=quote,
        verdicts=verdicts,
        nets=case.nets,
        category=group_of(policy, case.market).category,
        leader_usd=risked_by_leader(case, case.size),
        market_usd=risked_by_account(case, case.size),
        policy=how,
        reprice_ticks=policy.reprice_ticks if rests else 0,
        next_ns=working.next_slice_ns(policy, verdicts, now_ns),
    )


def _refused(
    policy: Policy,
    target: Target,
    case: Case | None,
    step: Step,
    verdicts: tuple[Verdict, ...],
    now_ns: int,
) -> list[Fact]:
    """Say a refusal once for each reason; what time may mend is tried again."""
    last = verdicts[-1]
    if target.last_reason == last.reason:
        return []
    trimmed = any(verdict.outcome == "trim" for verdict in verdicts)
    waits_for_more = last.reason == "BELOW_MINIMUM" and not trimmed  # dust grows with intents
    return [
        OrderRefused(
            id=content_id("order_refused", target.cause, target.attempts, last.reason, now_ns),
            cause=target.cause,
            root=target.root,
            ts_ns=now_ns,
            leader=target.leader,
            condition=target.condition,
            token=case.token if case else None,
            side=step.side,
            size=step.size,
            reason=last.reason,
            actual=last.actual,
            limit=last.limit,
            unit=last.unit,
            final=step.opens and last.reason in _FINAL,
            retry_ns=NEVER_NS if waits_for_more else now_ns + policy.retry_ns,
            verdicts=verdicts,
            quote=_quote(case, limit_price(case)) if case else None,
            market=case.market if case else None,
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
