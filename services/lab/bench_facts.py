"""Logs as the services write them, made by their own cores from an invented trading day.

Leaders buy and sell, windows close, orders are approved, sent, filled and settled: every fact is
what ``decide`` said to the one before, so each log folds as one written in production does.
"""

import random
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

import msgspec

from services.aggregator import core as aggregator
from services.executor import core as executor
from services.executor.state import Answered, Attempt, Draft, Reported
from services.executor.state import Policy as ExecutorPolicy
from services.ingester import core as ingester
from services.lab.replay import REGISTRY
from services.risk import core as risk
from services.risk.policy import Cap, Sizing
from services.risk.policy import Policy as RiskPolicy
from services.risk.state import Feeds, Review, View
from shared.domain.book import Book
from shared.domain.ids import (
    ConditionId,
    OrderHash,
    TokenId,
    TxHash,
    Wallet,
    content_id,
    partition_of,
)
from shared.domain.market import Market
from shared.domain.messages import (
    DriftCleared,
    DriftSuspected,
    Fact,
    IntentFormed,
    OrderApproved,
    OrderPrepared,
)
from shared.domain.observations import Activity, OrderReport, OwnFill, PostAnswer, Settlement
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Bps, Price, Shares, Usd
from shared.domain.views import AccountView

Log = list[tuple[int, Fact]]  # partition, fact

_START_NS: Final = 1_700_000_000 * NS_PER_S
_HUGE: Final = Usd(1 << 60)
_LEADERS: Final = 20
_MARKETS: Final = 10
_DAY_NS: Final = 86_400 * NS_PER_S


class Day:
    """The world of one generated day: leaders, markets, and the states of the four cores."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._now_ns = _START_NS
        self.leaders = [Wallet(f"0x{self._rng.getrandbits(160):040x}") for _ in range(_LEADERS)]
        self._account = partition_of(Wallet(f"0x{self._rng.getrandbits(160):040x}"))
        self._markets = [self._market(number) for number in range(_MARKETS)]
        self._states: dict[str, Any] = {name: kind() for name, (kind, _) in REGISTRY.items()}
        self.logs: dict[str, Log] = {name: [] for name in REGISTRY}
        self._decide: dict[str, Callable[[Any], list[Fact]]] = {
            "ingester": lambda m: ingester.decide(
                ingester.Policy(overlap_s=60), self._states["ingester"], m, self._now_ns
            ),
            "aggregator": lambda m: aggregator.decide(
                _WINDOWS, self._states["aggregator"], m, self._now_ns
            ),
            "risk": lambda m: risk.decide(_LIMITS, self._states["risk"], m, self._now_ns),
            "executor": lambda m: executor.decide(
                _ORDERS, self._states["executor"], m, self._now_ns
            ),
        }
        for leader in self.leaders:
            read = ingester.Baseline(
                leader=leader, holdings=(), rows=(), from_s=self._now_ns // NS_PER_S - 60,
                through_s=self._now_ns // NS_PER_S - 60, seen_ns=self._now_ns,
            )  # fmt: skip
            self._say("ingester", partition_of(leader), read)

    def _market(self, number: int) -> Market:
        tokens = (self._rng.getrandbits(250), self._rng.getrandbits(250))
        return Market(
            condition=ConditionId(f"0x{self._rng.getrandbits(256):064x}"),
            tokens=(TokenId(str(tokens[0])), TokenId(str(tokens[1]))),
            outcomes=("Yes", "No"),
            tick=Price(10_000),
            size_min=Shares(5 * MICRO),
            fee_rate=70_000,
            slug=f"market-{number}",
            question=f"Will it rain in city {number} tomorrow?",
            event=f"event-{number}",
            as_of_ns=_START_NS + _DAY_NS,
        )

    def _say(self, service: str, partition: int, message: Any) -> list[Fact]:
        """Let a core decide, apply and record what it says."""
        said = self._decide[service](message)
        for fact in said:
            REGISTRY[service][1](self._states[service], fact)
            self.logs[service].append((partition, fact))
        return said

    def fill(self) -> None:
        """Let one leader trade, and everything follow that follows."""
        self._now_ns += 5 * NS_PER_MS
        leader, market = self._rng.choice(self.leaders), self._rng.choice(self._markets)
        partition = partition_of(leader)
        for filled in self._say("ingester", partition, self._row(leader, market)):
            for fact in self._say("aggregator", partition, filled):
                if isinstance(fact, IntentFormed):
                    self._copy(fact, market)

    def _row(self, leader: Wallet, market: Market) -> ingester.StreamRow:
        row = Activity(
            wallet=leader,
            action="TRADE",
            condition=market.condition,
            size=Shares(self._rng.randrange(5, 300) * MICRO),
            tx=TxHash(f"0x{self._rng.getrandbits(256):064x}"),
            venue_ns=self._now_ns // NS_PER_S * NS_PER_S,
            token=market.tokens[0],
            outcome=0,
            side=self._rng.choice(("BUY", "BUY", "SELL")),
            price=Price(510_000),
        )
        return ingester.StreamRow(row=row, seen_ns=self._now_ns)

    def _copy(self, intent: IntentFormed, market: Market) -> None:
        view = View(
            market=market,
            books=(self._book(market, 0), self._book(market, 1)),
            account=AccountView(
                as_of_ns=self._now_ns, collateral=_HUGE, closed_only=False, orders=()
            ),
            feeds=Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=0),
        )
        for fact in self._say("risk", self._account, Review(intent=intent, view=view)):
            if isinstance(fact, OrderApproved):
                attempt = Attempt(approval=fact, book=self._book(market, 0))
                for prepared in self._say("executor", self._account, attempt):
                    if isinstance(prepared, OrderPrepared):
                        self._trade(prepared)

    def _book(self, market: Market, outcome: int) -> Book:
        depth = Shares(1_000_000 * MICRO)
        return Book(
            token=market.tokens[outcome],
            condition=market.condition,
            bids=((Price(490_000), depth),),
            asks=((Price(510_000), depth),),
            as_of_ns=self._now_ns,
            seen_ns=self._now_ns,
            trusted=True,
        )

    def _trade(self, order: OrderPrepared) -> None:
        """Let the venue take, fill and settle an order; risk hears all of it."""
        answer = PostAnswer(order=order.order, status="matched")
        report = OrderReport(
            order=order.order, condition=order.condition, token=order.token, side=order.side,
            price=order.price, size=order.size, matched=order.size, status="MATCHED",
        )  # fmt: skip
        told: list[Any] = [
            Answered(order=order.order, answer=answer, latency_ns=3 * NS_PER_MS),
            self._own(order, "MATCHED"),
            Reported(report=report, fills=()),
            self._own(order, "MINED"),
            self._own(order, "CONFIRMED"),
        ]
        for message in told:
            for fact in self._say("executor", self._account, message):
                self._say("risk", self._account, fact)

    def _own(self, order: OrderPrepared, settlement: Settlement) -> OwnFill:
        return OwnFill(
            trade=content_id("trade", order.order),
            order=order.order,
            condition=order.condition,
            token=order.token,
            side=order.side,
            price=order.price,
            size=order.size,
            settlement=settlement,
            taker=True,
            venue_ns=self._now_ns,
        )

    def doubt(self) -> None:
        """Let the reconciler see a difference and find it gone: most of what it ever says."""
        self._now_ns += NS_PER_S
        token = self._rng.choice(self._markets).tokens[0]
        id_ = content_id("drift_suspected", token, self._now_ns)
        seen = DriftSuspected(
            id=id_,
            cause="",
            root=id_,
            ts_ns=self._now_ns,
            token=token,
            believed=Shares(0),
            observed=Shares(MICRO),
        )
        cleared = DriftCleared(
            id=content_id("drift_cleared", id_),
            cause=id_,
            root=id_,
            ts_ns=self._now_ns,
            token=token,
            found=False,
            duration_ms=900,
        )
        self.logs["reconciler"] += [(self._account, seen), (self._account, cleared)]


def day(facts: int) -> dict[str, Log]:
    """Return a log of at least so many facts for every service."""
    made = Day()
    while min(len(log) for name, log in made.logs.items() if name != "reconciler") < facts:
        made.fill()
    while len(made.logs["reconciler"]) < facts:
        made.doubt()
    return {name: log[:facts] for name, log in made.logs.items()}


def by_lane(log: Log) -> dict[int, list[Fact]]:
    """Return each lane's facts in order."""
    lanes: dict[int, list[Fact]] = {}
    for partition, fact in log:
        lanes.setdefault(partition, []).append(fact)
    return lanes


def in_lots(facts: list[Fact], size: int) -> Iterator[tuple[Fact, ...]]:
    for at in range(0, len(facts), size):
        yield tuple(facts[at : at + size])


def _hash_of(draft: Draft) -> OrderHash:
    """Name an order without the exchange's own hash, whose cost is not the rebuild's."""
    return OrderHash("0x" + blake2b(msgspec.json.encode(draft), digest_size=32).hexdigest())


_WINDOWS: Final = aggregator.Policies(
    default=aggregator.Policy(
        quiet_ns=2 * NS_PER_S,
        age_ns_max=10 * NS_PER_S,
        flush_usd=Usd(100 * MICRO),
        flush_on_reduction=True,
        dust=Shares(10_000),
    )
)
_ORDERS: Final = ExecutorPolicy(
    wallet=Wallet("0x" + "5a" * 20),
    book_age_ns_max=2 * NS_PER_S,
    lookup_attempts=3,
    hash_of=_hash_of,
)
_LIMITS: Final = RiskPolicy(
    sizing=Sizing(leader_usd_max=_HUGE),
    entry_age_ns_max=30 * NS_PER_S,
    order_ttl_ns=5 * NS_PER_S,
    book_age_ns_max=5 * NS_PER_S,
    book_dead_ns=60 * NS_PER_S,
    market_age_ns_max=_DAY_NS,
    account_age_ns_max=60 * NS_PER_S,
    slippage_bps_max=Bps(1_000),
    price_moved_bps_max=Bps(1_000),
    price_min=Price(20_000),
    price_max=Price(980_000),
    trade=Cap(Usd(50 * MICRO)),
    market=Cap(_HUGE),
    event=Cap(_HUGE),
    category=Cap(_HUGE),
    total=Cap(_HUGE),
    daily_loss_usd_max=_HUGE,
    drift_usd_max=_HUGE,
    rejects_max=1_000,
    rejects_window_ns=60 * NS_PER_S,
    retry_ns=NS_PER_S,
    dust=Shares(10_000),
)
