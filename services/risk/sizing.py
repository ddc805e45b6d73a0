"""From a leader's change of exposure to ours: entries are sized, exits follow his fraction.

What shrinks an entry is applied here, to the target, and not to the single order: a step that was
halved would be followed by another for the half that is missing.
"""

from typing import Literal

import msgspec

from services.risk import dynamics
from services.risk.policy import FULL, Policy, Sizing
from services.risk.state import State, View
from shared.domain.book import Book, depth_within
from shared.domain.market import fee_up
from shared.domain.messages import IntentFormed, Verdict
from shared.domain.units import (
    BPS,
    MICRO,
    Bps,
    Price,
    Shares,
    Usd,
    cost_up,
    scale_down,
    shares_for,
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a leader added, and all that its copy is sized by."""

    policy: Policy
    sizing: Sizing
    added: Shares
    price: Price  # his, of the outcome he bought
    follows: Shares  # what we follow him with already, on the same side
    view: View
    book: Book | None  # of the outcome he bought
    equity: Usd | None
    slippage_bps: int  # the worse of his average and the market's


class Sum(msgspec.Struct):
    """The arithmetic so far: each step leaves a size and the numbers that made it."""

    size: Shares
    steps: list[Verdict] = []

    def becomes(
        self,
        rule: str,
        size: int,
        *,
        actual: int = 0,
        limit: int = 0,
        unit: str = "",
        reason: str = "",
    ) -> None:
        kind: Literal["pass", "trim", "refuse"] = "pass" if size == self.size else "trim"
        if reason:
            kind = "refuse"
        self.size = Shares(size)
        self.steps.append(
            Verdict(
                rule=rule,
                outcome=kind,
                reason=reason,
                actual=actual,
                limit=limit,
                unit=unit,
                size=self.size,
            )
        )


def desired(
    policy: Policy, state: State, intent: IntentFormed, view: View, target: Shares
) -> tuple[Shares, tuple[Verdict, ...]]:
    """Return the new target, in signed YES-equivalents, and how it came about.

    A leader who gives up a fraction of his exposure takes that fraction of our target with him,
    whatever part of his entries we copied. One who crosses zero closes our side and opens the
    other. What he adds is sized by the leader's settings.
    """
    before, after = intent.before, intent.after
    follows = target if target * after > 0 else Shares(0)
    crosses = before * after <= 0
    sum_ = Sum(Shares(abs(target)))
    if not crosses and abs(after) <= abs(before):
        left = scale_down(abs(follows), abs(after), abs(before))
        sum_.becomes("exit", left, actual=abs(after), limit=abs(before), unit="shares")
        return Shares(left if follows > 0 else -left), tuple(sum_.steps)
    if crosses and target:
        sum_.becomes("exit", abs(follows), limit=abs(before), unit="shares")
    added = Shares(abs(after) if crosses else abs(after) - abs(before))
    if added == 0:
        return Shares(0), tuple(sum_.steps)
    outcome = 0 if after > 0 else 1
    entry = Entry(
        policy=policy,
        sizing=policy.sizing_of(intent.leader),
        added=added,
        price=intent.yes_price if outcome == 0 else Price(MICRO - intent.yes_price),
        follows=Shares(abs(follows)),
        view=view,
        book=view.books[outcome],
        equity=state.equity.usd if state.equity else None,
        slippage_bps=max(
            state.slippage.get(intent.leader, 0), state.slippage.get(intent.condition, 0)
        ),
    )
    size, steps = sized(entry)
    whole = follows + size if outcome == 0 else follows - size
    return Shares(whole), (*sum_.steps, *steps)


def sized(entry: Entry) -> tuple[Shares, tuple[Verdict, ...]]:
    """Return the size of an entry, with every step of its arithmetic."""
    sum_ = Sum(entry.added)
    _by_mode(sum_, entry)
    _by_tier(sum_, entry)
    _by_category(sum_, entry)
    if entry.sizing.mode in ("fixed", "kelly"):  # stakes that his size has no part in
        most = min(sum_.size, entry.added)
        sum_.becomes("leader_added", most, actual=sum_.size, limit=entry.added, unit="shares")
    _by_trade_cap(sum_, entry)
    _by_volatility(sum_, entry)
    _by_slippage(sum_, entry)
    _by_depth(sum_, entry)
    return sum_.size, tuple(sum_.steps)


# --- what the leader's settings ask for -------------------------------------------------------


def _by_mode(sum_: Sum, entry: Entry) -> None:
    sizing, price = entry.sizing, entry.price
    match sizing.mode:
        case "fixed":
            size = shares_for(sizing.trade_usd, price) if price else Shares(0)
            sum_.becomes("fixed", size, actual=price, limit=sizing.trade_usd, unit="usd")
        case "proportional":
            size = Shares(scale_down(entry.added, sizing.ratio_bps, BPS))
            sum_.becomes(
                "proportional", size, actual=entry.added, limit=sizing.ratio_bps, unit="bps"
            )
        case "portfolio":
            _by_portfolio(sum_, entry)
        case _:
            _by_kelly(sum_, entry)


def _by_portfolio(sum_: Sum, entry: Entry) -> None:
    """Put the share of our equity at stake that he put of his positions' value.

    The venue tells no leader's cash, so his share is overstated and ours with it; ``share_bps``
    corrects for what somebody knows of him.
    """
    value = entry.view.leader_value
    if value is None or entry.equity is None:
        reason = "LEADER_VALUE_UNKNOWN" if value is None else "EQUITY_UNKNOWN"
        sum_.becomes("portfolio", 0, limit=1, reason=reason)
        return
    notional = cost_up(entry.price, entry.added)
    whole = max(value, notional, 1)
    stake = Usd(scale_down(max(0, entry.equity), notional, whole))
    stake = Usd(scale_down(stake, entry.sizing.share_bps, BPS))
    size = shares_for(stake, entry.price) if entry.price else Shares(0)
    sum_.becomes("portfolio", size, actual=notional, limit=whole, unit="usd")


def _by_kelly(sum_: Sum, entry: Entry) -> None:
    """Hold a fraction of the stake that grows equity fastest, if his edge is what is stated.

    Kelly (1956) for a share that costs c and pays 1 with probability q: f = (q - c) / (1 - c) of
    equity. Here q = his price + edge, and c = what the best offer costs, taker fee included. It
    is a stake for the market, so what we hold of it already is part of it.
    """
    if entry.equity is None:
        sum_.becomes("kelly", 0, limit=1, reason="EQUITY_UNKNOWN")
        return
    offered = entry.book.best_ask if entry.book else None
    price = max(entry.price, offered) if offered is not None else entry.price
    one = Shares(MICRO)
    fee = fee_up(entry.view.market, price, one) if entry.view.market else Usd(0)
    cost, believed = price + fee, min(MICRO, entry.price + entry.sizing.edge)
    if cost >= min(believed, MICRO):
        sum_.becomes("kelly", 0, actual=cost, limit=believed, unit="price", reason="NO_EDGE")
        return
    full = scale_down(max(0, entry.equity), believed - cost, MICRO - cost)
    stake = Usd(scale_down(full, entry.sizing.kelly_bps, BPS))
    size = max(0, shares_for(stake, Price(cost)) - entry.follows)
    sum_.becomes("kelly", size, actual=cost, limit=believed, unit="price")


def _by_tier(sum_: Sum, entry: Entry) -> None:
    notional = cost_up(entry.price, entry.added)
    reached = [(usd, bps) for usd, bps in entry.sizing.tiers if notional >= usd]
    if reached:
        from_usd, scale = max(reached)
        size = scale_down(sum_.size, scale, BPS)
        sum_.becomes("tier", size, actual=notional, limit=from_usd, unit="usd")


def _by_category(sum_: Sum, entry: Entry) -> None:
    market = entry.view.market
    category = entry.policy.category_of(market) if market else None
    if category is not None:
        size = scale_down(sum_.size, category.scale_bps, BPS)
        sum_.becomes("category_scale", size, actual=category.scale_bps, limit=FULL, unit="bps")


def _by_trade_cap(sum_: Sum, entry: Entry) -> None:
    most = entry.policy.trade.limit(entry.equity)
    size = min(sum_.size, shares_for(most, entry.price)) if entry.price else sum_.size
    sum_.becomes("trade_cap", size, actual=cost_up(entry.price, sum_.size), limit=most, unit="usd")


# --- what the world leaves of it --------------------------------------------------------------


def _by_volatility(sum_: Sum, entry: Entry) -> None:
    policy = entry.policy
    seen = entry.book.volatility if entry.book else None
    factor = dynamics.volatility_factor(seen, policy.volatility_calm, policy.volatility_unknown_bps)
    _scale(sum_, "volatility", factor, actual=-1 if seen is None else seen,
           limit=policy.volatility_calm, unit="volatility")  # fmt: skip


def _by_slippage(sum_: Sum, entry: Entry) -> None:
    budget, floor = entry.policy.slippage_budget_bps, entry.policy.slippage_floor_bps
    factor = dynamics.slippage_factor(entry.slippage_bps, budget, floor)
    _scale(sum_, "slippage", factor, actual=entry.slippage_bps, limit=budget, unit="bps")


def _scale(sum_: Sum, rule: str, factor: Bps, *, actual: int, limit: int, unit: str) -> None:
    size = dynamics.scaled(sum_.size, factor)
    sum_.becomes(rule, size, actual=actual, limit=limit, unit=unit)


def _by_depth(sum_: Sum, entry: Entry) -> None:
    """Want no more than our share of what is offered within the slippage budget."""
    best = entry.book.best_ask if entry.book else None
    if entry.book is None or best is None:
        return  # without a book nothing is ordered; with one, each order is held to its depth
    bound = Price(best + best * entry.policy.slippage_bps_max // BPS)
    depth = depth_within(entry.book, "BUY", bound)
    allowed = dynamics.depth_allowed(depth, entry.policy.depth_share_bps)
    size = min(sum_.size, allowed)
    sum_.becomes("depth_share", size, actual=depth, limit=allowed, unit="shares")
