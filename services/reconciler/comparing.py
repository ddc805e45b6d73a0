"""Belief and venue side by side: what differs, what it is worth, and what excuses it. Pure."""

from typing import Literal

import msgspec

from services.reconciler.causes import Known
from shared.domain.ids import COLLATERAL, ConditionId, TokenId
from shared.domain.observations import OrderReport, PositionReport
from shared.domain.units import MICRO, Price, Shares, Usd
from shared.domain.views import PositionsView, PositionView


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    confirmations: int  # observations that must agree, the first included
    grace_ns: int  # how long a token that moved is excused: the venue's index lags
    excuse_ns_max: int  # how long an open order or an unsettled fill excuses its token
    dust: Shares  # and micro-dollars, of cash


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the executor believes and what the venue says, read at the same time.

    ``agreed`` counts, for each token, how many observations in a row showed this difference.
    """

    as_of_ns: int
    believed: PositionsView
    observed: tuple[PositionReport, ...]
    open_orders: tuple[OrderReport, ...]
    collateral: Usd | None = None  # None: not compared
    account_ns: int = 0  # when reading the account began, cash included: nothing newer is in it
    agreed: dict[TokenId, int] = {}
    known: dict[TokenId, Known] = {}  # of differences that are about to be found
    payouts: dict[ConditionId, tuple[Price, Price]] = {}  # of markets that are over
    ends_read: bool = True  # False: a position that is gone may be of a market that is over
    booked: frozenset[ConditionId] = frozenset()  # markets in which risk has something booked


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    believed: Shares
    observed: Shares
    usd: Usd
    excused: bool
    waits: bool = False  # something else is about to explain it: not found yet, for a bounded time
    changed_ns: int = 0  # when belief moved last


def difference(policy: Policy, seen: Observation) -> list[Difference]:
    """Return what differs by more than dust: tokens over the union of both sides, and cash."""
    ours = {p.token: p for p in seen.believed.positions}
    theirs = {p.token: p for p in seen.observed}
    found = []
    for token in sorted(ours.keys() | theirs.keys()):
        mine, report = ours.get(token), theirs.get(token)
        believed = Shares(mine.shares + mine.claim) if mine else Shares(0)
        observed = report.size if report else Shares(0)
        if abs(observed - believed) < policy.dust:
            continue
        outcome = mine.outcome if mine else (0 if report is None or report.outcome == 0 else 1)
        condition = mine.condition if mine else (report.condition if report else ConditionId(""))
        found.append(
            Difference(
                condition=condition,
                token=token,
                outcome=outcome,
                believed=believed,
                observed=observed,
                usd=_stake(believed, observed, mine, report),
                excused=_is_excused(policy, seen, token, mine),
                waits=observed < believed and not seen.ends_read,
                changed_ns=mine.changed_ns if mine else 0,
            )
        )
    return found + _cash(policy, seen)


def _stake(
    believed: Shares, observed: Shares, mine: PositionView | None, report: PositionReport | None
) -> Usd:
    """Return the dollars of a difference: at the venue's price, else at our average cost.

    A claim that is gone was paid: its dollars are cash, and are compared there.
    """
    gap = abs(observed - believed)
    if mine is not None and 0 < believed - observed <= mine.claim:
        return Usd(0)
    if report is not None and report.current_price:
        return Usd(gap * report.current_price // MICRO)
    if mine is not None and mine.shares > 0:
        return Usd(gap * mine.cost // mine.shares)
    return Usd(gap)  # nothing prices it: a dollar a share is its worst


def _is_excused(
    policy: Policy, seen: Observation, token: TokenId, mine: PositionView | None
) -> bool:
    """Tell whether something of a token is in motion, or was a moment ago; not for ever."""
    if mine is not None and mine.shares > 0 and mine.condition in seen.payouts:
        return True  # it is about to be closed at what it pays; then its claim is compared
    if is_moving(policy, seen, token, mine):
        return True
    return mine is not None and seen.as_of_ns - mine.changed_ns < policy.grace_ns


def is_moving(policy: Policy, seen: Observation, token: TokenId, mine: PositionView | None) -> bool:
    """Tell whether an order is open or a fill unsettled, and has not been for too long."""
    since = [order.since_ns for order in seen.believed.orders if order.token == token]
    if mine is not None and mine.unsettled:
        since.append(mine.unsettled_since_ns)
    return any(seen.as_of_ns - since_ns < policy.excuse_ns_max for since_ns in since)


def _cash(policy: Policy, seen: Observation) -> list[Difference]:
    """Return what the balance differs by: it moves with fills, and nothing else of ours."""
    believed, observed = seen.believed.cash, seen.collateral
    if believed is None or observed is None or abs(observed - believed) < policy.dust:
        return []
    positions = seen.believed.positions
    moved_ns = max((p.changed_ns for p in positions), default=0)
    rests_ns = seen.account_ns - max(moved_ns, seen.believed.cash_changed_ns)
    by_token = {p.token: p for p in positions}
    tokens = by_token.keys() | {order.token for order in seen.believed.orders}
    moving = any(is_moving(policy, seen, each, by_token.get(each)) for each in tokens)
    return [
        Difference(
            condition=ConditionId(""),
            token=COLLATERAL,
            outcome=0,
            believed=Shares(believed),
            observed=Shares(observed),
            usd=Usd(abs(observed - believed)),
            excused=moving or rests_ns < policy.grace_ns,
            waits=_is_claim(policy, seen.believed, observed - believed),
            changed_ns=seen.believed.cash_changed_ns,
        )
    ]


def _is_claim(policy: Policy, believed: PositionsView, gap: int) -> bool:
    """Tell whether cash is what a claim pays: the positions will show it redeemed in a moment."""
    worth: dict[ConditionId, int] = {}
    for each in believed.positions:
        paid = each.payout * each.claim // MICRO
        worth[each.condition] = worth.get(each.condition, 0) + paid
    sums = [*worth.values(), sum(worth.values())]
    return gap > 0 and any(total and abs(total - gap) <= policy.dust for total in sums)
