"""One order under review, the most it can cost, and the caps that hold it."""

from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal

import msgspec

from services.risk import dynamics
from services.risk.policy import FULL, Cap, Policy, Sizing
from services.risk.state import Feeds, Usage
from shared.domain.book import Book
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import CENT, SIZE_STEP, Market, Side, fee_up
from shared.domain.messages import Regime, Verdict
from shared.domain.positions import Position, cost_released
from shared.domain.units import (
    BPS,
    MICRO,
    Bps,
    Price,
    Shares,
    Usd,
    ceil_to,
    cost_up,
    floor_to,
    proceeds_down,
)
from shared.domain.views import AccountView

_STREAM_LOST: Final = Bps(5_000)  # polling alone tells later: half is followed


class Case(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What is proposed, and all that the rules may look at."""

    policy: Policy
    leader: Wallet
    sizing: Sizing
    market: Market
    token: TokenId
    side: Side
    size: Shares  # shrinks as rules trim
    opens: bool  # adds to what is booked to the leader
    nets: bool  # booked on the other outcome, against other leaders
    available: Shares  # of a sale: what there is to sell
    own: Position  # of an exit: what it takes from
    leader_price: Price  # of the traded token
    venue_ns: int  # time of the leader's fill
    book: Book
    account: AccountView | None
    usage: Usage
    regime: Regime
    equity: Usd | None
    daily_loss: Usd
    drawdown: Usd
    feed_bps: Bps | None  # None: nobody knows how well we hear
    now_ns: int

    def trimmed(self, size: Shares) -> "Case":
        """Return the case with a smaller size; price and caps do not hang on it."""
        smaller = msgspec.structs.replace(self, size=size)
        smaller.__dict__.update({"limit": self.limit, "caps_bps": self.caps_bps})
        return smaller

    @property
    def buys(self) -> bool:
        return self.side == "BUY"

    @property
    def adds(self) -> bool:
        """Tell whether anything at all grows: the leader's share, or what the account risks."""
        return self.opens or self.buys

    @property
    def best(self) -> Price | None:
        return self.book.best_ask if self.buys else self.book.best_bid

    @property
    def left_ns(self) -> int | None:
        """Return the time to the scheduled end, None where it is unknown."""
        return self.market.end_ns - self.now_ns if self.market.end_ns else None

    @cached_property
    def limit(self) -> Price:
        """Return the worst price the order may trade at, on the market's grid; 0 if none."""
        return limit_price(self)

    @cached_property
    def spent(self) -> Usd:
        """Return the most it takes from the balance at its whole size."""
        return worst_usd(self.market, self.side, self.limit, self.size)

    @cached_property
    def caps_bps(self) -> Bps:
        """Return what is left of the caps in this world."""
        by_loss = losses(self.policy, self.daily_loss, self.drawdown)
        return dynamics.combined(*by_loss, self.feed_bps or Bps(0), self.end_bps)

    @property
    def end_bps(self) -> Bps:
        """Return what the scheduled end leaves of an entry; full where nobody set a distance."""
        nearest, full = self.policy.end_ns_min, self.policy.end_full_ns
        if not self.opens or not (nearest or full):
            return FULL
        return dynamics.time_factor(self.left_ns, nearest, full)

    def booked_at(self, price: Price) -> Price:
        """Return a price of the traded token in terms of the token it is booked on."""
        return Price(MICRO - price) if self.nets else price


def losses(policy: Policy, daily_loss: Usd, drawdown: Usd) -> tuple[Bps, Bps]:
    """Return what today's loss and the drawdown leave of the caps."""
    return (
        dynamics.drawdown_factor(daily_loss, policy.daily_loss_free_usd, policy.daily_loss_usd_max),
        dynamics.drawdown_factor(drawdown, policy.drawdown_free_usd, policy.drawdown_usd_max),
    )


def hearing(policy: Policy, feeds: Feeds | None) -> Bps | None:
    """Return what the state of the feeds leaves of the caps."""
    if feeds is None:
        return None
    worst = dynamics.feed_factor(feeds.worst_ns, policy.feed_fresh_ns, policy.feed_dead_ns)
    return dynamics.combined(worst, _STREAM_LOST) if feeds.stream_lost else worst


# --- prices -----------------------------------------------------------------------------------


def limit_price(case: Case) -> Price:
    """Return the price bound: slippage from the best; of an entry, the leader's price and the band.

    An entry that is booked on the other outcome is held to the bounds of that outcome's price.
    """
    tick, best, slippage = case.market.tick, case.best, case.policy.slippage_bps_max
    if best is None:
        return Price(0)
    if case.buys:
        dearest = min(best + best * slippage // BPS, MICRO - tick)
        if case.opens:
            dearest = min(dearest, _dearest_entry(case))
        limit = floor_to(dearest, tick)
        whole_cents = floor_to(limit, CENT)  # a buy spends whole cents: finer prices need big sizes
        return Price(whole_cents if whole_cents >= best else limit)
    cheapest = best - best * slippage // BPS
    if case.opens:
        booked = MICRO - best
        cheapest = max(cheapest, MICRO - (booked + booked * slippage // BPS))
        cheapest = max(cheapest, MICRO - _dearest_entry(case))
    return Price(max(ceil_to(max(cheapest, 0), tick), tick))


def _dearest_entry(case: Case) -> int:
    leader = case.booked_at(case.leader_price)
    return max(0, min(leader + leader * case.policy.price_moved_bps_max // BPS,
                      case.policy.price_max))  # fmt: skip


# --- the worst an order can do ----------------------------------------------------------------


def fee_worst(market: Market, side: Side, limit: Price, size: Shares) -> Usd:
    """Return the highest fee at the limit or better; the fee of a share peaks at one half."""
    half = MICRO // 2
    return fee_up(market, Price(min(limit, half) if side == "BUY" else max(limit, half)), size)


def worst_usd(market: Market, side: Side, limit: Price, size: Shares) -> Usd:
    """Return the most an order takes from the balance, fee included; a sale takes nothing."""
    if side == "SELL":
        return Usd(0)
    return Usd(cost_up(limit, size) + fee_worst(market, side, limit, size))


def spent(case: Case, size: Shares) -> Usd:
    """Return the most that so much of it takes from the balance."""
    if size == case.size:
        return case.spent
    return worst_usd(case.market, case.side, case.limit, size)


def risked_by_leader(case: Case, size: Shares) -> Usd:
    """Return the most it adds to what is counted against its leader."""
    if not case.opens:
        return Usd(0)
    if not case.nets:
        return spent(case, size)
    paid = Usd(size - proceeds_down(case.limit, size))  # a set is a dollar: same micro-units
    return Usd(paid + fee_worst(case.market, "SELL", case.limit, size))


def risked_by_account(case: Case, size: Shares) -> Usd:
    """Return the most it adds to what the account can lose; what only sells adds nothing.

    An exit that is bought ends sets that were held against another leader: his side stands
    alone from then on, at its cost.
    """
    if not case.buys:
        return Usd(0)
    if not case.nets:
        return spent(case, size)
    return Usd(max(spent(case, size), size - cost_released(case.own, size)))


# --- caps -------------------------------------------------------------------------------------


def _cap(
    rule: str,
    *,
    adds: Callable[[Case, Shares], Usd],
    used: Callable[[Case], Usd],
    limit: Callable[[Case], Usd],
) -> Callable[[Case], Verdict]:
    """Return a rule that keeps dollars at risk, this order at its worst included, under a cap."""
    reason = f"{rule.upper()}_CAP"

    def rule_of(case: Case) -> Verdict:
        worst = adds(case, case.size)
        if worst == 0:
            return Verdict(rule=rule, outcome="pass", unit="usd", size=case.size)
        before, most = used(case), limit(case)
        told = Verdict(rule=rule, outcome="pass", actual=before + worst, limit=most, unit="usd",
                       size=case.size)  # fmt: skip
        if before + worst <= most:
            return told
        size = _affordable(case, adds, Usd(most - before))
        outcome: Literal["trim", "refuse"] = "trim" if size > 0 else "refuse"
        return msgspec.structs.replace(told, outcome=outcome, reason=reason, size=size)

    return rule_of


def _affordable(case: Case, adds: Callable[[Case, Shares], Usd], budget: Usd) -> Shares:
    """Return the most shares whose worst, fee included, stays within the budget."""
    if budget <= 0:
        return Shares(0)
    size = Shares(floor_to(case.size * budget // adds(case, case.size), SIZE_STEP))
    while size > 0 and adds(case, size) > budget:
        size = Shares(size - SIZE_STEP)  # rounding and the least fee cost at most a few steps
    return size


def _either(case: Case, size: Shares) -> Usd:
    return max(risked_by_leader(case, size), spent(case, size))


def _scaled(case: Case, cap: Cap) -> Usd:
    return cap.limit(case.equity, case.caps_bps)


def leader_cap(case: Case) -> Usd:
    return _scaled(case, Cap(case.sizing.leader_usd_max, case.policy.leader_equity_bps))


def category_cap(policy: Policy, market: Market) -> Cap:
    """Return the cap of a market's category: its own dollars where it has any."""
    own = policy.category_of(market)
    usd = policy.category.usd if own is None or own.usd_max is None else own.usd_max
    return Cap(usd, policy.category.equity_bps)


def _balance(case: Case) -> Usd:
    assert case.account is not None
    return case.account.collateral


CAPS: Final = (
    _cap("trade", adds=_either, used=lambda _: Usd(0),
         limit=lambda c: _scaled(c, c.policy.trade)),
    _cap("leader", adds=risked_by_leader, used=lambda c: c.usage.leader, limit=leader_cap),
    _cap("market", adds=risked_by_account, used=lambda c: c.usage.market,
         limit=lambda c: _scaled(c, c.policy.market)),
    _cap("event", adds=risked_by_account, used=lambda c: c.usage.event,
         limit=lambda c: _scaled(c, c.policy.event)),
    _cap("category", adds=risked_by_account, used=lambda c: c.usage.category,
         limit=lambda c: _scaled(c, category_cap(c.policy, c.market))),
    _cap("total", adds=risked_by_account, used=lambda c: c.usage.total,
         limit=lambda c: _scaled(c, c.policy.total)),
    _cap("balance", adds=spent, used=lambda c: c.usage.reserved, limit=_balance),
)  # fmt: skip
