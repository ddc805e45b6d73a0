"""What a run did, counted from its facts: fills, orders, refusals, slippage, latencies. Pure."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from services.ctl.figures import decimal
from services.ctl.narration import is_trim
from shared.domain.ids import OrderHash
from shared.domain.messages import (
    Fact,
    FillSettled,
    IntentFormed,
    LeaderFilled,
    LeadersNetted,
    OrderAccepted,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderPrepared,
    OrderRefused,
    OrderRejected,
    PositionCorrected,
    ShortfallMeasured,
    WindowNetted,
)
from shared.domain.units import MICRO, NS_PER_MS, Bps, Price, Usd, bps_worse
from shared.domain.views import FeedsView

Stage = Literal["seen_to_prepared", "seen_to_accepted", "intent_to_prepared"]
STAGES: Final[tuple[Stage, ...]] = ("seen_to_prepared", "seen_to_accepted", "intent_to_prepared")


class _Order(msgspec.Struct):
    """What one order was expected to cost, and what its fills did cost."""

    buys: bool
    leader_price: Price
    expected: Price | None
    size: int = 0
    notional: int = 0  # micro-dollars times a million, exact

    @property
    def average(self) -> Price:
        assert self.size > 0
        up = -(-self.notional // self.size) if self.buys else self.notional // self.size
        return Price(up)


class Slippage(msgspec.Struct, frozen=True, kw_only=True):
    """Weighted by dollars filled; positive is worse for us. None where nothing was filled."""

    orders: int
    estimated_bps: Bps | None  # the expected average against the leader's price
    realised_bps: Bps | None  # what was paid against the leader's price
    against_estimate_bps: Bps | None  # what was paid against the expected average


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """What all orders cost against the leaders' prices, in parts; positive is worse for us."""

    orders: int
    paid: Usd
    waiting: Usd
    latency: Usd
    execution: Usd
    fee: Usd
    total: Usd
    expected_execution: Usd  # of those of which something was expected


class Tally:
    """Grows with every fact; a fact heard twice counts once where the ledger says so."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.filled_usd = 0
        self.fees_usd = 0
        self.netted_usd = 0  # of what leaders traded with each other, without an order
        self.partly_filled = 0
        self._orders: dict[OrderHash, _Order] = {}
        self._costs: dict[OrderHash, ShortfallMeasured] = {}  # the newest of each order
        self._seen_ns: dict[str, int] = {}
        self._intent_ns: dict[str, int] = {}
        self._took_ns: dict[Stage, dict[str, int]] = {stage: {} for stage in STAGES}
        self.silence_ns: dict[str, int] = {}  # the longest of each feed

    def hear(self, fact: Fact) -> None:
        """Count one fact."""
        match fact:
            case LeaderFilled():
                self.counts["leader_fills"] += 1
                self._seen_ns.setdefault(fact.id, fact.seen_ns)
            case IntentFormed():
                self.counts["intents"] += 1
                self._intent_ns.setdefault(fact.root, fact.ts_ns)
            case WindowNetted():
                self.counts["netted_windows"] += 1
            case LeadersNetted():
                self.counts["leaders_netted"] += 1
                self.netted_usd += fact.yes_price * fact.shares // MICRO
            case OrderApproved():
                self.counts["approved"] += 1
                self.counts["netting_orders"] += fact.nets
                self.counts["trimmed"] += any(is_trim(v) for v in fact.verdicts)
            case OrderRefused():
                self.counts["refused"] += 1
                self.refused[fact.reason] += 1
            case OrderDeclined():
                self.counts["declined"] += 1
                self.refused[fact.reason] += 1
            case PositionCorrected():
                self.counts["corrections"] += 1
            case _:
                self._follow_order(fact)

    def _follow_order(self, fact: Fact) -> None:
        match fact:
            case OrderPrepared():
                self._prepared(fact)
            case OrderAccepted():
                self.counts["accepted"] += 1
                self._time("seen_to_accepted", fact, self._seen_ns)
            case OrderRejected():
                self.counts["rejected"] += 1
                self.rejected[fact.reason] += 1
            case OrderOutcomeUnknown():
                self.counts["unknown"] += 1
            case OrderFilled():
                self._filled(fact)
            case FillSettled(settlement="FAILED"):
                self.counts["failed_fills"] += 1
            case ShortfallMeasured():
                self._costs[fact.order] = fact
            case OrderClosed():
                self.counts["closed"] += 1
                self.counts["filled_orders"] += fact.filled > 0
                self.partly_filled += fact.filled > 0 and fact.reason != "filled"
            case _:
                pass

    def _prepared(self, fact: OrderPrepared) -> None:
        self.counts["orders"] += 1
        self._orders[fact.order] = _Order(
            buys=fact.side == "BUY",
            leader_price=fact.leader_price,
            expected=fact.quote.average,
        )
        self._time("seen_to_prepared", fact, self._seen_ns)
        self._time("intent_to_prepared", fact, self._intent_ns)

    def _filled(self, fact: OrderFilled) -> None:
        self.counts["fills"] += 1
        self.filled_usd += fact.price * fact.size // MICRO
        self.fees_usd += fact.fee
        order = self._orders.get(fact.order)
        if order is not None:
            order.size += fact.size
            order.notional += fact.price * fact.size

    def _time(self, stage: Stage, fact: Fact, since: dict[str, int]) -> None:
        """Keep how long the first order of a chain took; a retry waits on purpose."""
        if fact.root in since:
            self._took_ns[stage].setdefault(fact.root, fact.ts_ns - since[fact.root])

    def watch(self, feeds: FeedsView, now_ns: int) -> None:
        """Note how long each feed has been silent."""
        for feed in feeds.feeds:
            if feed.heard_ns:
                silent = max(0, now_ns - feed.heard_ns)
                self.silence_ns[feed.name] = max(silent, self.silence_ns.get(feed.name, 0))

    def latency_ns(self, stage: Stage, percent: int) -> int | None:
        """Return a percentile of a stage, None where nothing went through it."""
        return percentile(sorted(self._took_ns[stage].values()), percent)

    def latencies(self, stage: Stage) -> int:
        """Return how many chains went through a stage."""
        return len(self._took_ns[stage])

    def slippage(self) -> Slippage:
        """Return estimated and realised slippage of the orders that filled."""
        done = [order for order in self._orders.values() if order.size]
        known = [(order, order.expected) for order in done if order.expected is not None]
        estimated = [(bps_worse(o.buys, at, o.leader_price), o.notional) for o, at in known]
        realised = [(bps_worse(o.buys, o.average, o.leader_price), o.notional) for o in done]
        against = [(bps_worse(o.buys, o.average, at), o.notional) for o, at in known]
        return Slippage(
            orders=len(done),
            estimated_bps=_weighted(estimated),
            realised_bps=_weighted(realised),
            against_estimate_bps=_weighted(against),
        )

    def shortfall(self) -> Shortfall:
        """Return what the orders that filled cost, part by part."""
        costs = self._costs.values()
        return Shortfall(
            orders=sum(each.size > 0 for each in costs),
            paid=Usd(sum(each.paid for each in costs)),
            waiting=Usd(sum(each.waiting for each in costs)),
            latency=Usd(sum(each.latency for each in costs)),
            execution=Usd(sum(each.execution for each in costs)),
            fee=Usd(sum(each.fee for each in costs)),
            total=Usd(sum(each.total for each in costs)),
            expected_execution=Usd(sum(each.expected_execution or 0 for each in costs)),
        )


def _weighted(values: Sequence[tuple[Bps, int]]) -> Bps | None:
    total = sum(weight for _, weight in values)
    if not total:
        return None
    return Bps(-(-sum(value * weight for value, weight in values) // total))


def percentile(ordered: Sequence[int], percent: int) -> int | None:
    """Return the smallest value that at least ``percent`` of all do not exceed."""
    assert 0 < percent <= 100
    if not ordered:
        return None
    return ordered[-(-len(ordered) * percent // 100) - 1]


def tally_json(tally: Tally) -> dict[str, Any]:
    """Return the tally with stable keys; dollars are exact decimals, times milliseconds."""
    keys = (
        "leader_fills", "intents", "netted_windows", "approved", "trimmed", "refused", "declined",
        "orders", "accepted", "rejected", "unknown", "fills", "filled_orders", "failed_fills",
        "closed", "corrections", "leaders_netted", "netting_orders",
    )  # fmt: skip
    slippage = tally.slippage()
    return {
        **{key: tally.counts[key] for key in keys},
        "partly_filled_orders": tally.partly_filled,
        "refused_by_reason": dict(tally.refused.most_common()),
        "rejected_by_reason": dict(tally.rejected.most_common()),
        "filled_usd": decimal(tally.filled_usd),
        "fees_usd": decimal(tally.fees_usd),
        "leaders_netted_usd": decimal(tally.netted_usd),
        "slippage": {
            "orders": slippage.orders,
            "estimated_bps": slippage.estimated_bps,
            "realised_bps": slippage.realised_bps,
            "against_estimate_bps": slippage.against_estimate_bps,
        },
        "shortfall": _shortfall_json(tally.shortfall()),
        "latency_ms": {stage: _latency_json(tally, stage) for stage in STAGES},
        "feed_silence_max_ms": {
            name: ns // NS_PER_MS for name, ns in sorted(tally.silence_ns.items())
        },
    }


def _shortfall_json(cost: Shortfall) -> dict[str, int | Decimal]:
    dollars = {name: getattr(cost, name) for name in cost.__struct_fields__ if name != "orders"}
    return {"orders": cost.orders, **{f"{k}_usd": decimal(v) for k, v in dollars.items()}}


def _latency_json(tally: Tally, stage: Stage) -> dict[str, int | Decimal | None]:
    found: dict[str, int | Decimal | None] = {"count": tally.latencies(stage)}
    for percent in (50, 99):
        ns = tally.latency_ns(stage, percent)
        found[f"p{percent}"] = None if ns is None else decimal(ns)  # ns to ms: the same six places
    return found
