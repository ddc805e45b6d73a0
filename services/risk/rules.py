"""The rules an order must pass, in order; each says pass, trim or refuse, with its numbers."""

from collections.abc import Callable
from typing import Final

import msgspec

from services.risk.state import Policy, Usage
from shared.domain.book import Book, depth_within
from shared.domain.freshness import age_ns
from shared.domain.grid import TICKS, tradable_size
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import CENT, MARKETABLE_BUY_MIN, Market, Side, fee_up
from shared.domain.messages import Regime, Verdict
from shared.domain.units import (
    BPS,
    MICRO,
    Price,
    Shares,
    Usd,
    bps_worse,
    ceil_to,
    cost_up,
    floor_to,
    proceeds_down,
)
from shared.domain.views import AccountView


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One order under review: what is proposed, and all that the rules may look at."""

    policy: Policy
    leader: Wallet
    leader_usd_max: Usd
    market: Market
    token: TokenId
    side: Side
    size: Shares  # shrinks as rules trim
    available: Shares  # of a sale: what we hold because of this leader
    leader_price: Price  # of the traded token
    venue_ns: int  # time of the leader's fill
    book: Book
    account: AccountView | None
    usage: Usage
    regime: Regime
    realised_today: Usd
    now_ns: int

    @property
    def is_entry(self) -> bool:
        return self.side == "BUY"

    @property
    def limit(self) -> Price:
        """Return the worst price the order may trade at, on the market's grid; 0 if none."""
        return limit_price(self)


Rule = Callable[[Case], Verdict]


def limit_price(case: Case) -> Price:
    """Return the price bound: slippage from the best; for entries the leader's price, the band."""
    tick = case.market.tick
    if case.side == "BUY":
        best = case.book.best_ask
        if best is None:
            return Price(0)
        slipped = best + best * case.policy.slippage_bps_max // BPS
        moved = case.leader_price + case.leader_price * case.policy.price_moved_bps_max // BPS
        dearest = min(slipped, moved, case.policy.price_max)
        limit = min(floor_to(dearest, tick), MICRO - tick)
        whole_cents = floor_to(limit, CENT)  # a buy spends whole cents: finer prices need big sizes
        return Price(whole_cents if whole_cents >= best else limit)
    best = case.book.best_bid
    if best is None:
        return Price(0)
    slipped = best - best * case.policy.slippage_bps_max // BPS
    return Price(max(ceil_to(slipped, tick), tick))


def worst_usd(market: Market, side: Side, limit: Price, size: Shares) -> Usd:
    """Return the most an order can cost, fee included; a sale costs nothing."""
    if side == "SELL":
        return Usd(0)
    dearest = Price(min(limit, MICRO // 2))  # the fee per share peaks at one half
    return Usd(cost_up(limit, size) + fee_up(market, dearest, size))


def _pass(rule: str, case: Case, *, actual: int, limit: int, unit: str) -> Verdict:
    return Verdict(rule=rule, outcome="pass", actual=actual, limit=limit, unit=unit, size=case.size)


def _refuse(rule: str, reason: str, *, actual: int, limit: int, unit: str) -> Verdict:
    return Verdict(
        rule=rule, outcome="refuse", reason=reason, actual=actual, limit=limit, unit=unit
    )


def regime_allows(case: Case) -> Verdict:
    if case.is_entry and case.regime != "normal":
        return _refuse("regime", f"REGIME_{case.regime.upper()}", actual=1, limit=0, unit="")
    return _pass("regime", case, actual=0, limit=0, unit="")


def market_is_open(case: Case) -> Verdict:
    if not case.market.accepting_orders:
        return _refuse("market_open", "MARKET_CLOSED", actual=0, limit=1, unit="")
    if case.market.tick not in TICKS:
        return _refuse(
            "market_open", "TICK_UNKNOWN", actual=case.market.tick, limit=0, unit="price"
        )
    left = case.market.end_ns - case.now_ns
    least = case.policy.end_ns_min
    if case.is_entry and case.market.end_ns and least and left < least:
        return _refuse("market_open", "NEAR_RESOLUTION", actual=left, limit=least, unit="ns")
    return _pass("market_open", case, actual=1, limit=1, unit="")


def market_is_fresh(case: Case) -> Verdict:
    age, limit = age_ns(case.market.as_of_ns, case.now_ns), case.policy.market_age_ns_max
    if case.is_entry and age > limit:
        return _refuse("market_age", "MARKET_STALE", actual=age, limit=limit, unit="ns")
    return _pass("market_age", case, actual=age, limit=limit, unit="ns")


def book_is_fresh(case: Case) -> Verdict:
    age = age_ns(case.book.seen_ns, case.now_ns)
    limit = case.policy.book_age_ns_max if case.is_entry else case.policy.book_dead_ns
    if age > limit:
        return _refuse("book_age", "BOOK_STALE", actual=age, limit=limit, unit="ns")
    if not case.book.trusted:
        return _refuse("book_age", "BOOK_UNTRUSTED", actual=0, limit=1, unit="")
    return _pass("book_age", case, actual=age, limit=limit, unit="ns")


def fill_is_recent(case: Case) -> Verdict:
    age, limit = age_ns(case.venue_ns, case.now_ns), case.policy.entry_age_ns_max
    if case.is_entry and age > limit:
        return _refuse("fill_age", "FILL_TOO_OLD", actual=age, limit=limit, unit="ns")
    return _pass("fill_age", case, actual=age, limit=limit, unit="ns")


def price_is_in_band(case: Case) -> Verdict:
    best = case.book.best_ask if case.is_entry else case.book.best_bid
    if best is None:
        return _refuse("price_band", "BOOK_SIDE_EMPTY", actual=0, limit=1, unit="")
    low, high = case.policy.price_min, case.policy.price_max
    if case.is_entry and best < low:
        return _refuse("price_band", "PRICE_TOO_LOW", actual=best, limit=low, unit="price")
    if case.is_entry and best > high:
        return _refuse("price_band", "PRICE_TOO_HIGH", actual=best, limit=high, unit="price")
    return _pass("price_band", case, actual=best, limit=high, unit="price")


def price_has_not_moved(case: Case) -> Verdict:
    limit = case.policy.price_moved_bps_max
    best = case.book.best_ask if case.is_entry else case.book.best_bid
    assert best is not None
    moved = bps_worse(case.is_entry, best, case.leader_price)
    if case.is_entry and (moved > limit or case.limit < best):
        return _refuse("price_moved", "PRICE_MOVED", actual=moved, limit=limit, unit="bps")
    return _pass("price_moved", case, actual=moved, limit=limit, unit="bps")


def depth_suffices(case: Case) -> Verdict:
    depth = depth_within(case.book, case.side, case.limit)
    return _at_most("depth", "NO_DEPTH", case, allowed=depth, unit="shares")


def holding_suffices(case: Case) -> Verdict:
    if case.is_entry:
        return _pass("holding", case, actual=0, limit=0, unit="")
    return _at_most("holding", "NOTHING_HELD", case, allowed=case.available, unit="shares")


def _at_most(rule: str, reason: str, case: Case, *, allowed: Shares, unit: str) -> Verdict:
    if allowed <= 0:
        return _refuse(rule, reason, actual=case.size, limit=max(0, allowed), unit=unit)
    if allowed < case.size:
        return Verdict(
            rule=rule,
            outcome="trim",
            reason=reason,
            actual=case.size,
            limit=allowed,
            unit=unit,
            size=allowed,
        )
    return _pass(rule, case, actual=case.size, limit=allowed, unit=unit)


def _cap(rule: str, used: Callable[[Case], Usd], cap: Callable[[Case], Usd]) -> Rule:
    """Return a rule that keeps dollars at risk, this order at its worst included, under a cap."""
    reason = f"{rule.upper()}_CAP"

    def rule_of(case: Case) -> Verdict:
        if not case.is_entry:
            return _pass(rule, case, actual=0, limit=0, unit="")
        before, limit = used(case), cap(case)
        worst = worst_usd(case.market, case.side, case.limit, case.size)
        if before + worst <= limit:
            return _pass(rule, case, actual=before + worst, limit=limit, unit="usd")
        size = _affordable(case, Usd(limit - before))
        if size <= 0:
            return _refuse(rule, reason, actual=before + worst, limit=limit, unit="usd")
        return Verdict(
            rule=rule,
            outcome="trim",
            reason=reason,
            actual=before + worst,
            limit=limit,
            unit="usd",
            size=size,
        )

    return rule_of


def _affordable(case: Case, budget: Usd) -> Shares:
    """Return the most shares whose worst cost, fee included, stays within the budget."""
    if budget <= 0:
        return Shares(0)
    whole = worst_usd(case.market, case.side, case.limit, case.size)
    size = Shares(floor_to(case.size * budget // whole, 10_000))
    while size > 0 and worst_usd(case.market, case.side, case.limit, size) > budget:
        size = Shares(size - 10_000)  # rounding and the least fee cost at most a few steps
    return size


def _balance(case: Case) -> Usd:
    assert case.account is not None
    return case.account.collateral


def account_is_known(case: Case) -> Verdict:
    limit = case.policy.account_age_ns_max
    if not case.is_entry:
        return _pass("account_age", case, actual=0, limit=limit, unit="ns")
    if case.account is None:
        return _refuse("account_age", "ACCOUNT_UNKNOWN", actual=0, limit=1, unit="")
    age = age_ns(case.account.as_of_ns, case.now_ns)
    if age > limit:
        return _refuse("account_age", "ACCOUNT_STALE", actual=age, limit=limit, unit="ns")
    if case.account.closed_only:
        return _refuse("account_age", "CLOSED_ONLY", actual=1, limit=0, unit="")
    return _pass("account_age", case, actual=age, limit=limit, unit="ns")


def loss_is_bearable(case: Case) -> Verdict:
    loss, limit = max(0, -case.realised_today), case.policy.daily_loss_usd_max
    if case.is_entry and loss >= limit:
        return _refuse("daily_loss", "DAILY_LOSS", actual=loss, limit=limit, unit="usd")
    return _pass("daily_loss", case, actual=loss, limit=limit, unit="usd")


def size_is_tradable(case: Case) -> Verdict:
    """Put the size on the venue's grid and hold it to the venue's minimums."""
    limit = case.limit
    size = tradable_size(case.side, limit, case.size, case.market.tick, marketable=True)
    least = case.market.size_min
    if size < least:
        return _refuse("minimum", "BELOW_MINIMUM", actual=size, limit=least, unit="shares")
    dollars = cost_up(limit, size) if case.is_entry else proceeds_down(limit, size)
    if case.is_entry and dollars < MARKETABLE_BUY_MIN:
        least_usd = int(MARKETABLE_BUY_MIN)
        return _refuse("minimum", "BELOW_MINIMUM", actual=dollars, limit=least_usd, unit="usd")
    outcome = "pass" if size == case.size else "trim"
    return Verdict(
        rule="minimum",
        outcome="pass" if outcome == "pass" else "trim",
        reason="" if outcome == "pass" else "GRID",
        actual=case.size,
        limit=least,
        unit="shares",
        size=size,
    )


RULES: Final[tuple[Rule, ...]] = (
    regime_allows,
    market_is_open,
    market_is_fresh,
    book_is_fresh,
    fill_is_recent,
    price_is_in_band,
    price_has_not_moved,
    account_is_known,
    loss_is_bearable,
    holding_suffices,
    depth_suffices,
    _cap("trade", lambda c: Usd(0), lambda c: c.policy.trade_usd_max),
    _cap("leader", lambda c: c.usage.leader, lambda c: c.leader_usd_max),
    _cap("market", lambda c: c.usage.market, lambda c: c.policy.market_usd_max),
    _cap("event", lambda c: c.usage.event, lambda c: c.policy.event_usd_max),
    _cap("total", lambda c: c.usage.total, lambda c: c.policy.total_usd_max),
    _cap("balance", lambda c: c.usage.reserved, _balance),
    size_is_tradable,
)


def review(case: Case) -> tuple[Case, tuple[Verdict, ...]]:
    """Apply the rules in order until one refuses; return the case as trimmed, and every verdict."""
    verdicts: list[Verdict] = []
    for rule in RULES:
        verdict = rule(case)
        verdicts.append(verdict)
        if verdict.outcome == "refuse":
            break
        if verdict.outcome == "trim":
            case = msgspec.structs.replace(case, size=verdict.size)
    return case, tuple(verdicts)
