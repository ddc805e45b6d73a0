"""Leaders who want opposite things of one market trade with each other, not with the venue."""

from typing import Any, Literal

import msgspec

from services.risk.booking import Trade, move
from services.risk.caps import Case
from services.risk.cases import Step, case_of, step_towards
from services.risk.policy import Policy
from services.risk.rules import WORTH, review
from services.risk.state import State, Target, View, gap, held_of
from shared.domain.ids import Wallet, content_id
from shared.domain.market import SIZE_STEP, Market
from shared.domain.messages import Fact, HoldingChanged, LeadersNetted, Verdict
from shared.domain.units import MICRO, ZERO_SHARES, Price, Shares, Usd, floor_to, proceeds_down


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
    exits = {
        each.leader
        for each in (target, other)
        if not step_towards(state, each, gap(state, each), view).opens
    }
    size = min(_allowed(policy, state, each, view, now_ns) for each in (target, other))
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


def _allowed(policy: Policy, state: State, target: Target, view: View, now_ns: int) -> Shares:
    """Return how much of its gap a target may close by a trade that ends at one outcome."""
    step = step_towards(state, target, gap(state, target), view)
    if step.opens and now_ns > target.expires_ns:
        return Shares(0)
    if step.opens:
        entry = msgspec.structs.replace(step, **_entry(state, target))
        case = case_of(policy, state, target, view, entry, now_ns)
    else:  # nothing is sold, so what others hold against it does not bound it
        exit_, own = _exit(state, target)
        case = case_of(policy, state, target, view, exit_, now_ns)
        if isinstance(case, Case):
            case = msgspec.structs.replace(case, available=own)
    if isinstance(case, Verdict):
        return Shares(0)
    case, verdicts = review(case, WORTH)
    return Shares(0) if verdicts[-1].outcome == "refuse" else case.size


def _entry(state: State, target: Target) -> dict[str, Any]:
    open_gap = gap(state, target)
    return {
        "outcome": 0 if open_gap > 0 else 1,
        "side": "BUY",
        "size": Shares(abs(open_gap)),
        "nets": False,
    }


def _exit(state: State, target: Target) -> tuple[Step, Shares]:
    open_gap = gap(state, target)
    against: Literal[0, 1] = 1 if open_gap > 0 else 0
    own = max(ZERO_SHARES, held_of(state, target.leader, target.condition).of(against).shares)
    size = Shares(min(abs(open_gap), own))
    return Step(outcome=against, side="SELL", size=size, opens=False, nets=False), own


def _moved(
    state: State, fact: LeadersNetted, market: Market, exits: set[Wallet]
) -> list[HoldingChanged]:
    """Book both sides: one who exits gives up what he has, one who enters takes what he wants."""
    changes: list[HoldingChanged] = []
    yes_dollars = proceeds_down(fact.yes_price, fact.shares)  # what one pays the other gets
    bought = sold = Shares(0)  # of YES: what one bought more than the other sold is held as sets
    for leader, outcome, price in (
        (fact.more, 0, fact.yes_price),
        (fact.less, 1, Price(MICRO - fact.yes_price)),
    ):
        sells = leader in exits
        trade = Trade(
            cause=fact,
            leader=leader,
            token=market.tokens[1 - outcome if sells else outcome],
            outcome=1 - outcome if sells else outcome,  # type: ignore[arg-type]
            side="SELL" if sells else "BUY",
            size=fact.shares,
            price=Price(MICRO - price) if sells else price,
            notional=yes_dollars if (outcome == 1) == sells else Usd(fact.shares - yes_dollars),
        )
        if trade.outcome == 0 and trade.side == "BUY":
            bought = fact.shares
        if trade.outcome == 0 and trade.side == "SELL":
            sold = fact.shares
        changes.append(move(held_of(state, leader, fact.condition), trade))
    last = changes[-1]
    changes[-1] = msgspec.structs.replace(last, crossed=Shares(bought - sold))
    return changes
