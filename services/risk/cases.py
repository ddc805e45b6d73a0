"""Which trade closes a gap: the step, and the case that the rules will judge it by."""

from typing import Literal

import msgspec

from services.risk.caps import Case, hearing
from services.risk.policy import Policy
from services.risk.state import (
    Group,
    Held,
    State,
    Target,
    View,
    held_of,
    tradable,
    usage,
)
from shared.domain.market import Market, Side
from shared.domain.messages import Verdict
from shared.domain.units import MICRO, NS_PER_S, ZERO_SHARES, Price, Shares, Usd

DAY_NS = 86_400 * NS_PER_S


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One trade towards a target."""

    outcome: Literal[0, 1]  # of the traded token
    side: Side
    size: Shares
    opens: bool  # adds to what is booked to the leader
    nets: bool  # booked on the other outcome, against what other leaders hold


def step_towards(state: State, target: Target, open_gap: Shares, view: View) -> Step:
    """Return the step that closes a gap.

    First what stands against it: his own shares are sold; where those are held against another
    leader, there is nothing to sell, and the other outcome is bought instead, which ends such
    sets. Then what he adds: shares of the other side that the account holds because of others
    are sold, for that is the cheaper half of buying against them, unless it leaves them too few to
    sell; only then is anything bought.
    """
    held = held_of(state, target.leader, target.condition)
    least = view.market.size_min if view.market else ZERO_SHARES
    size = Shares(abs(open_gap))
    with_gap: Literal[0, 1] = 0 if open_gap > 0 else 1
    against: Literal[0, 1] = 1 if open_gap > 0 else 0
    own = max(ZERO_SHARES, held.of(against).shares)
    there = tradable(state, target.condition, against)
    # Less than the venue trades cannot be sold, and must not stand in the way of a flip: bought
    # against, it becomes complete sets, which are cash.
    if own > 0 and (size <= own or own >= least):
        sold = _whole_exit(target, own, Shares(min(size, own)), least)
        crossed = Shares(min(sold, state.crossed.get(target.condition, 0)))
        if there >= min(sold, least) or crossed < min(least, there + 1):
            sold = Shares(min(sold, there)) if there else sold
            return Step(outcome=against, side="SELL", size=sold, opens=False, nets=False)
        return Step(outcome=with_gap, side="BUY", size=crossed, opens=False, nets=True)
    others = Shares(min(size, max(0, there - own)))
    left = there - own - others
    if others >= max(least, Shares(1)) and (left == 0 or left >= least):
        return Step(outcome=against, side="SELL", size=others, opens=True, nets=True)
    return Step(outcome=with_gap, side="BUY", size=size, opens=True, nets=False)


def _whole_exit(target: Target, own: Shares, size: Shares, least: Shares) -> Shares:
    """Return the size of an exit that leaves nothing too small to sell later."""
    return own if target.target == 0 or own - size < least else size


def case_of(
    policy: Policy, state: State, target: Target, view: View, step: Step, now_ns: int
) -> Case | Verdict:
    """Return the case of a step, or the refusal where its market or book is not known."""
    market, book = view.market, view.books[step.outcome]
    if market is None:
        return Verdict(rule="view", outcome="refuse", reason="MARKET_UNKNOWN", limit=1)
    if book is None:
        return Verdict(rule="view", outcome="refuse", reason="BOOK_MISSING", limit=1)
    held = held_of(state, target.leader, target.condition)
    known = state.equity
    return Case(
        policy=policy,
        leader=target.leader,
        sizing=policy.sizing_of(target.leader),
        market=market,
        token=market.tokens[step.outcome],
        side=step.side,
        size=step.size,
        opens=step.opens,
        nets=step.nets,
        available=_available(state, held, step),
        own=held.of(1 - step.outcome if step.nets else step.outcome),
        leader_price=_leader_price(target, step.outcome),
        venue_ns=target.venue_ns,
        book=book,
        account=view.account,
        usage=usage(state, target.leader, target.condition, group_of(policy, market)),
        regime=state.regime,
        equity=known.usd if known else None,
        daily_loss=daily_loss(state, now_ns),
        drawdown=known.drawdown if known else Usd(0),
        feed_bps=hearing(policy, view.feeds),
        now_ns=now_ns,
    )


def _available(state: State, held: Held, step: Step) -> Shares:
    if step.side == "BUY":
        return ZERO_SHARES
    there = tradable(state, held.condition, step.outcome)
    own = max(ZERO_SHARES, held.of(step.outcome).shares)
    return Shares(there - own) if step.nets else Shares(min(there, own))


def _leader_price(target: Target, outcome: int) -> Price:
    return target.yes_price if outcome == 0 else Price(MICRO - target.yes_price)


def group_of(policy: Policy, market: Market) -> Group:
    """Return what a market's exposure is counted together with."""
    category = policy.category_of(market)
    return Group(market.event, category.name if category else market.category)


def daily_loss(state: State, now_ns: int) -> Usd:
    """Return what was lost since midnight UTC: realised, or with what is held at its marks."""
    day = now_ns // DAY_NS
    realised = state.realised_today if state.day == day else 0
    known = state.equity
    marked = known.profit - known.day_profit if known and known.day == day else 0
    return Usd(max(0, -realised, -marked))
