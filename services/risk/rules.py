"""The rules an order must pass, in order; each says pass, trim or refuse, with its numbers.

An order *opens* when it adds to what is booked to its leader, and *buys* when it spends
collateral. Mostly these are the same. Where leaders disagree they are not: an entry may be a sale
of what another leader holds, and an exit may have to be bought. What opens must be worth
following; what buys must be affordable; an exit needs a book and nothing else.
"""

from collections.abc import Callable
from typing import Final

from services.risk import dynamics
from services.risk.caps import CAPS, Case
from services.risk.policy import FULL, labels
from services.risk.working import SLICE
from shared.domain.book import depth_within, walk
from shared.domain.freshness import age_ns
from shared.domain.grid import TICKS, tradable_size
from shared.domain.market import MARKETABLE_BUY_MIN, fee_up
from shared.domain.messages import Verdict
from shared.domain.units import MICRO, Shares, bps_worse, cost_up
from shared.domain.views import BANNED, CLOCK, CLOSED_ONLY, GEOBLOCK, IN_FORCE, VENUE

STANDING_REASONS: Final = {
    GEOBLOCK: "GEOBLOCKED",
    CLOSED_ONLY: "CLOSED_ONLY",
    BANNED: "BANNED",
    CLOCK: "CLOCK_OFF",
    VENUE: "VENUE_RESTRICTED",
}
Rule = Callable[[Case], Verdict]


def _pass(rule: str, case: Case, *, actual: int = 0, limit: int = 0, unit: str = "") -> Verdict:
    return Verdict(rule=rule, outcome="pass", actual=actual, limit=limit, unit=unit, size=case.size)


def _refuse(rule: str, reason: str, *, actual: int = 1, limit: int = 0, unit: str = "") -> Verdict:
    return Verdict(
        rule=rule, outcome="refuse", reason=reason, actual=actual, limit=limit, unit=unit
    )


def _at_most(rule: str, reason: str, case: Case, *, allowed: Shares) -> Verdict:
    if allowed <= 0:
        return _refuse(rule, reason, actual=case.size, limit=max(0, allowed), unit="shares")
    if allowed < case.size:
        return Verdict(
            rule=rule,
            outcome="trim",
            reason=reason,
            actual=case.size,
            limit=allowed,
            unit="shares",
            size=allowed,
        )
    return _pass(rule, case, actual=case.size, limit=allowed, unit="shares")


# --- may we trade at all ----------------------------------------------------------------------


def regime_allows(case: Case) -> Verdict:
    stopped = case.regime == "halted" or (case.regime == "reduce_only" and case.adds)
    if stopped:
        return _refuse("regime", f"REGIME_{case.regime.upper()}")
    return _pass("regime", case)


def market_is_tradable(case: Case) -> Verdict:
    if not case.market.accepting_orders:
        return _refuse("market_open", "MARKET_CLOSED", actual=0, limit=1)
    if case.market.tick not in TICKS:
        return _refuse("market_open", "TICK_UNKNOWN", actual=case.market.tick, unit="price")
    if case.market.protocol == "unknown":
        return _refuse("market_open", "EXCHANGE_UNKNOWN")
    held_back = case.market.taker_delay or case.market.delay_ns
    if case.opens and held_back and case.policy.refuses_taker_delay:
        return _refuse("market_open", "TAKER_DELAY")
    return _pass("market_open", case, actual=1, limit=1)


def market_is_wanted(case: Case) -> Verdict:
    """Hold entries to the lists of markets and categories; the allowed ones bind when given."""
    if not case.opens:
        return _pass("market_filter", case)
    policy, market = case.policy, case.market
    names = {market.condition, market.slug, market.event} - {""}
    if names & policy.blocked_markets:
        return _refuse("market_filter", "MARKET_BLOCKED")
    if policy.allowed_markets and not names & policy.allowed_markets:
        return _refuse("market_filter", "MARKET_NOT_ALLOWED")
    filed = labels(market)
    if filed & policy.blocked_categories:
        return _refuse("market_filter", "CATEGORY_BLOCKED")
    if policy.allowed_categories and not filed & policy.allowed_categories:
        return _refuse("market_filter", "CATEGORY_NOT_ALLOWED")
    return _pass("market_filter", case)


def market_is_fresh(case: Case) -> Verdict:
    age, limit = age_ns(case.market.as_of_ns, case.now_ns), case.policy.market_age_ns_max
    if case.adds and age > limit:
        return _refuse("market_age", "MARKET_STALE", actual=age, limit=limit, unit="ns")
    return _pass("market_age", case, actual=age, limit=limit, unit="ns")


def end_is_far(case: Case) -> Verdict:
    """Refuse entries near the scheduled end; before that, caps shrink towards it."""
    left, least = case.left_ns, case.policy.end_ns_min
    if left is None:
        return _pass("end", case, limit=least, unit="ns")
    if case.end_bps == 0:
        return _refuse("end", "NEAR_RESOLUTION", actual=left, limit=least, unit="ns")
    return _pass("end", case, actual=left, limit=max(least, case.policy.end_full_ns), unit="ns")


def book_is_fresh(case: Case) -> Verdict:
    age = age_ns(case.book.seen_ns, case.now_ns)
    limit = case.policy.book_age_ns_max if case.adds else case.policy.book_dead_ns
    if age > limit:
        return _refuse("book_age", "BOOK_STALE", actual=age, limit=limit, unit="ns")
    if not case.book.trusted:
        return _refuse("book_age", "BOOK_UNTRUSTED", actual=0, limit=1)
    return _pass("book_age", case, actual=age, limit=limit, unit="ns")


def account_is_known(case: Case) -> Verdict:
    limit = case.policy.account_age_ns_max
    if not case.adds:
        return _pass("account_age", case, limit=limit, unit="ns")
    if case.account is None:
        return _refuse("account_age", "ACCOUNT_UNKNOWN", actual=0, limit=1)
    age = age_ns(case.account.as_of_ns, case.now_ns)
    if age > limit:
        return _refuse("account_age", "ACCOUNT_STALE", actual=age, limit=limit, unit="ns")
    if case.account.closed_only:
        return _refuse("account_age", "CLOSED_ONLY")
    for each in case.account.standing:
        if each.level == IN_FORCE:
            return _refuse("account_age", STANDING_REASONS[each.name])
    return _pass("account_age", case, actual=age, limit=limit, unit="ns")


# --- is it still the leader's trade -----------------------------------------------------------


def fill_is_recent(case: Case) -> Verdict:
    own = case.sizing.entry_age_ns_max
    limit = case.policy.entry_age_ns_max if own is None else own
    age = age_ns(case.venue_ns, case.now_ns)
    if case.opens and age > limit:
        return _refuse("fill_age", "FILL_TOO_OLD", actual=age, limit=limit, unit="ns")
    return _pass("fill_age", case, actual=age, limit=limit, unit="ns")


def price_is_in_band(case: Case) -> Verdict:
    best = case.best
    if best is None:
        return _refuse("price_band", "BOOK_SIDE_EMPTY", actual=0, limit=1)
    price, low, high = case.booked_at(best), case.policy.price_min, case.policy.price_max
    if case.opens and price < low:
        return _refuse("price_band", "PRICE_TOO_LOW", actual=price, limit=low, unit="price")
    if case.opens and price > high:
        return _refuse("price_band", "PRICE_TOO_HIGH", actual=price, limit=high, unit="price")
    return _pass("price_band", case, actual=price, limit=high, unit="price")


def price_has_not_moved(case: Case) -> Verdict:
    limit, best = case.policy.price_moved_bps_max, case.best
    assert best is not None
    reference = case.booked_at(case.leader_price)
    if reference <= 0:  # he paid nothing, or all there is: nothing is worse or nothing is left
        return _pass("price_moved", case, limit=limit, unit="bps")
    moved = bps_worse(case.opens, case.booked_at(best), reference)
    out_of_reach = case.limit < best if case.buys else case.limit > best
    if case.opens and (moved > limit or out_of_reach):
        return _refuse("price_moved", "PRICE_MOVED", actual=moved, limit=limit, unit="bps")
    return _pass("price_moved", case, actual=moved, limit=limit, unit="bps")


def edge_covers_costs(case: Case) -> Verdict:
    """Refuse an entry that costs more, fee and walk of the book in it, than it is believed worth.

    The belief is the leader's price plus the edge stated for him; without one nothing is believed.
    """
    if not case.opens or not case.sizing.edge:
        return _pass("edge", case)
    believed = min(MICRO, case.booked_at(case.leader_price) + case.sizing.edge)
    estimate = walk(case.book, case.side, case.size, case.limit)
    assert estimate.average is not None  # the depth inside the limit was found sufficient
    fee = fee_up(case.market, estimate.average, estimate.filled)
    fee_each = -(-fee * MICRO // estimate.filled)
    cost = case.booked_at(estimate.average) + fee_each
    if cost > believed:
        return _refuse("edge", "EDGE_GONE", actual=cost, limit=believed, unit="price")
    return _pass("edge", case, actual=cost, limit=believed, unit="price")


# --- can the market bear it -------------------------------------------------------------------


def holding_suffices(case: Case) -> Verdict:
    if case.buys:
        return _pass("holding", case)
    return _at_most("holding", "NOTHING_HELD", case, allowed=case.available)


def depth_suffices(case: Case) -> Verdict:
    """Take no more than the book has within the limit; to enter, no more than our share."""
    depth = depth_within(case.book, case.side, case.limit)
    if not case.opens:
        return _exit_depth(case, depth)
    allowed = dynamics.depth_allowed(depth, case.policy.depth_share_bps)
    return _at_most("depth", "NO_DEPTH", case, allowed=allowed)


def _exit_depth(case: Case, depth: Shares) -> Verdict:
    """Leave a large exit all the book has, or slices of it; what nobody could sell is not left."""
    share = dynamics.depth_allowed(depth, case.policy.exit_depth_bps)
    least = case.market.size_min
    if share >= min(case.size, depth):
        return _at_most("depth", "NO_DEPTH", case, allowed=depth)
    size = Shares(max(share, min(least, depth)))
    if case.size - size < least:
        size = Shares(case.size - least if case.size >= 2 * least else case.size)
    return _at_most("depth", SLICE, case, allowed=Shares(min(size, depth)))


# --- can we bear it ---------------------------------------------------------------------------


def loss_is_bearable(case: Case) -> Verdict:
    loss, limit = case.daily_loss, case.policy.daily_loss_usd_max
    if case.adds and loss >= limit:
        return _refuse("daily_loss", "DAILY_LOSS", actual=loss, limit=limit, unit="usd")
    return _pass("daily_loss", case, actual=loss, limit=limit, unit="usd")


def drawdown_is_bearable(case: Case) -> Verdict:
    loss, limit = case.drawdown, case.policy.drawdown_usd_max
    if case.adds and loss >= limit:
        return _refuse("drawdown", "DRAWDOWN", actual=loss, limit=limit, unit="usd")
    return _pass("drawdown", case, actual=loss, limit=limit, unit="usd")


def feeds_are_heard(case: Case) -> Verdict:
    if not case.adds:
        return _pass("feed", case, limit=int(FULL), unit="bps")
    if case.feed_bps is None:
        return _refuse("feed", "FEED_UNKNOWN")
    if case.feed_bps == 0:
        return _refuse("feed", "FEED_DEAD", actual=0, limit=int(FULL), unit="bps")
    return _pass("feed", case, actual=case.feed_bps, limit=int(FULL), unit="bps")


def caps_are_scaled(case: Case) -> Verdict:
    """Say by how much the caps that follow are shrunk: loss, drawdown, feeds, the end."""
    return _pass("caps_scale", case, actual=case.caps_bps, limit=int(FULL), unit="bps")


# --- does the venue take it -------------------------------------------------------------------


def size_is_tradable(case: Case) -> Verdict:
    """Put the size on the venue's grid and hold it to the venue's minimums."""
    limit = case.limit
    size = tradable_size(case.side, limit, case.size, case.market.tick, marketable=True)
    least = case.market.size_min
    if size < least:
        return _refuse("minimum", "BELOW_MINIMUM", actual=size, limit=least, unit="shares")
    if case.buys and cost_up(limit, size) < MARKETABLE_BUY_MIN:
        dollars, least_usd = cost_up(limit, size), int(MARKETABLE_BUY_MIN)
        return _refuse("minimum", "BELOW_MINIMUM", actual=dollars, limit=least_usd, unit="usd")
    trimmed = size != case.size
    return Verdict(
        rule="minimum",
        outcome="trim" if trimmed else "pass",
        reason="GRID" if trimmed else "",
        actual=case.size,
        limit=least,
        unit="shares",
        size=size,
    )


WORTH: Final[tuple[Rule, ...]] = (
    regime_allows,
    market_is_tradable,
    market_is_wanted,
    market_is_fresh,
    end_is_far,
    book_is_fresh,
    fill_is_recent,
    price_is_in_band,
    price_has_not_moved,
    account_is_known,
    feeds_are_heard,
    loss_is_bearable,
    drawdown_is_bearable,
    holding_suffices,
    depth_suffices,
    edge_covers_costs,
    caps_are_scaled,
    *CAPS,
)
RULES: Final[tuple[Rule, ...]] = (*WORTH, size_is_tradable)


def review(case: Case, rules: tuple[Rule, ...] = RULES) -> tuple[Case, tuple[Verdict, ...]]:
    """Apply the rules in order until one refuses; return the case as trimmed, and every verdict."""
    verdicts: list[Verdict] = []
    for rule in rules:
        verdict = rule(case)
        verdicts.append(verdict)
        if verdict.outcome == "refuse":
            break
        if verdict.outcome == "trim":
            case = case.trimmed(verdict.size)
    return case, tuple(verdicts)
