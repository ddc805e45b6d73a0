"""Leaders who want opposite things of one market trade with each other, not with the venue."""

from typing import Literal

import msgspec

from services.risk.booking import Trade, move
from services.risk.cases import Step, case_of, step_towards
from services.risk.policy import Policy
from services.risk.rules import WORTH, review
from services.risk.state import State, Target, View, gap, held_of
from shared.domain.ids import Wallet, content_id
from shared.domain.market import SIZE_STEP, Market
from shared.domain.messages import Fact, HoldingChanged, LeadersNetted, Verdict
from shared.domain.units import ZERO_SHARES, Shares, Usd, floor_to, proceeds_down


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One leader in a trade with another."""

    leader: Wallet
    exits: bool  # gives up what he has; else takes what he wants
    allowed: Shares


def between_leaders(
    policy: Policy, state: State, target: Target, view: View, now_ns: int
) -> list[Fact]:
    """Let this target and one that wants the opposite trade with each other, as far as both may.

    Each side passes every rule that its order at the venue would have to pass, but for the
    venue's minimums: there is no order. Both get the mid, so what one pays the other receives,
    and neither the spread nor a fee is lost to the market.
    """
    other = _opposite(policy, state, target, now_ns)
    book = view.books[0]
    price = book.mid if book else None
    if other is None or price is None or view.market is None:
        return []
    sides = [_side(policy, state, each, view, now_ns) for each in (target, other)]
    size = min(side.allowed for side in sides)
    exits = {side.leader for side in sides if side.exits}
    if len(exits) == 2:  # what they end are sets that they hold against each other
        size = Shares(min(size, state.crossed.get(target.condition, 0)))
    size = Shares(floor_to(size, SIZE_STEP))  # finer shares could never be sold
    if size < max(policy.dust, SIZE_STEP):
        return []
    more, less = (target, other) if gap(state, target) > 0 else (other, target)
    fact = LeadersNetted(
        id=content_id("leaders_netted", more.cause, less.cause, more.attempts, now_ns),
        cause=target.cause,
        root=target.root,
        ts_ns=now_ns,
        condition=target.condition,
        more=more.leader,
        less=less.leader,
        shares=Shares(size),
        yes_price=price,
    )
    return [fact, *_moved(state, fact, view.market, exits)]


def _opposite(policy: Policy, state: State, target: Target, now_ns: int) -> Target | None:
    """Return the target with the largest gap the other way that is still to be closed."""
    own = gap(state, target)
    found = [
        (abs(gap(state, each)), each)
        for each in state.targets.values()
        if each.condition == target.condition
        and each.leader != target.leader
        and gap(state, each) * own < 0
        and abs(gap(state, each)) >= policy.dust
    ]
    return max(found, key=lambda sized: (sized[0], sized[1].leader))[1] if found else None


def _side(policy: Policy, state: State, target: Target, view: View, now_ns: int) -> Side:
    """Return what a target would do in a trade between leaders, and how much of it it may."""
    open_gap = gap(state, target)
    exits = not step_towards(state, target, open_gap, view).opens
    refused = Side(leader=target.leader, exits=exits, allowed=ZERO_SHARES)
    if not exits and now_ns > target.expires_ns:
        return refused
    wanted: Literal[0, 1] = 0 if open_gap > 0 else 1
    against: Literal[0, 1] = 1 if open_gap > 0 else 0
    own = max(ZERO_SHARES, held_of(state, target.leader, target.condition).of(against).shares)
    step = Step(
        outcome=against if exits else wanted,
        side="SELL" if exits else "BUY",
        size=Shares(min(abs(open_gap), own) if exits else abs(open_gap)),
        opens=not exits,
        nets=False,
    )
    case = case_of(policy, state, target, view, step, now_ns)
    if isinstance(case, Verdict):
        return refused
    if exits:  # nothing is sold, so what others hold against it does not bound it
        case = msgspec.structs.replace(case, available=own)
    case, verdicts = review(case, WORTH)
    if verdicts[-1].outcome == "refuse":
        return refused
    return msgspec.structs.replace(refused, allowed=case.size)


def _moved(
    state: State, fact: LeadersNetted, market: Market, exits: set[Wallet]
) -> list[HoldingChanged]:
    """Book both sides: one who exits gives up what he has, one who enters takes what he wants."""
    changes: list[HoldingChanged] = []
    yes_dollars = proceeds_down(fact.yes_price, fact.shares)  # what one pays the other gets
    bought = sold = Shares(0)  # of YES: what one bought more than the other sold is held as sets
    for leader, outcome in ((fact.more, 0), (fact.less, 1)):
        sells = leader in exits
        trade = Trade(
            cause=fact,
            leader=leader,
            token=market.tokens[1 - outcome if sells else outcome],
            outcome=1 - outcome if sells else outcome,  # type: ignore[arg-type]
            side="SELL" if sells else "BUY",
            size=fact.shares,
            dollars=yes_dollars if (outcome == 1) == sells else Usd(fact.shares - yes_dollars),
        )
        if trade.outcome == 0 and trade.side == "BUY":
            bought = fact.shares
        if trade.outcome == 0 and trade.side == "SELL":
            sold = fact.shares
        changes.append(move(held_of(state, leader, fact.condition), trade))
    last = changes[-1]
    changes[-1] = msgspec.structs.replace(last, crossed=Shares(bought - sold))
    return changes
