"""The cores in one process against a venue that does everything a venue has done, seed by seed.

Leaders trade at random; orders fill wholly, in parts or not at all; answers are lost; settlements
fail; every word comes late and more than once. At each step caps hold, and when the noise ends
belief equals the venue, nothing is in flight, and every target is reached or explained.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from services.aggregator import core as aggregator
from services.executor import core as executor
from services.executor.state import (
    Answered,
    Attempt,
    Draft,
    Lost,
    Missing,
    Refusal,
    Reported,
    open_orders,
)
from services.risk import core as risk
from services.risk.policy import Cap, Policy, Sizing
from services.risk.state import Feeds, Reconsider, Review, View, at_risk, due, gap
from shared.domain.book import Book, walk
from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet, content_id
from shared.domain.market import Market
from shared.domain.messages import (
    Fact,
    IntentFormed,
    LeaderFilled,
    OrderApproved,
    OrderDeclined,
    OrderPrepared,
    Tick,
)
from shared.domain.observations import OrderReport, OwnFill, PostAnswer, Settlement
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Bps, Price, Shares, Usd
from shared.domain.views import AccountView
from shared.runtime.runner import encode_state

SEEDS = range(100)
US = Wallet("0x" + "aa" * 20)
LEADERS = [Wallet("0x" + f"{n:02x}" * 20) for n in (1, 2)]
TOTAL_CAP = Usd(110_000_000)  # low, so that it binds
START_NS = 1_800_000_000 * NS_PER_S


def market(n: int) -> Market:
    return Market(
        condition=ConditionId("0x" + f"{n:064x}"),
        tokens=(TokenId(str(10 * n + 1)), TokenId(str(10 * n + 2))),
        outcomes=("Yes", "No"),
        tick=Price(10_000),
        size_min=Shares(5_000_000),
        fee_rate=70_000,
        event=f"event-{n}",
        as_of_ns=START_NS,
    )


RISK = Policy(
    sizing=Sizing(mode="fixed", trade_usd=Usd(20_000_000), leader_usd_max=Usd(200_000_000)),
    leaders={LEADERS[1]: Sizing(mode="proportional", ratio_bps=Bps(2_000))},
    entry_age_ns_max=30 * NS_PER_S,
    order_ttl_ns=5 * NS_PER_S,
    book_age_ns_max=5 * NS_PER_S,
    book_dead_ns=60 * NS_PER_S,
    market_age_ns_max=3_600 * NS_PER_S,
    account_age_ns_max=60 * NS_PER_S,
    slippage_bps_max=Bps(500),
    price_moved_bps_max=Bps(2_000),
    price_min=Price(20_000),
    price_max=Price(980_000),
    trade=Cap(Usd(50_000_000)),
    market=Cap(Usd(150_000_000)),
    event=Cap(Usd(150_000_000)),
    category=Cap(TOTAL_CAP),
    total=Cap(TOTAL_CAP),
    daily_loss_usd_max=Usd(10_000_000_000),
    drift_usd_max=Usd(50_000_000),
    rejects_max=1_000,
    rejects_window_ns=NS_PER_S,
    retry_ns=NS_PER_S,
    dust=Shares(10_000),
)
HEARD = Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=0)
WINDOWS = aggregator.Policies(
    default=aggregator.Policy(
        quiet_ns=500 * NS_PER_MS,
        age_ns_max=3 * NS_PER_S,
        flush_usd=Usd(100_000_000),
        flush_on_reduction=True,
        dust=Shares(10_000),
    )
)


def name_of(draft: Draft) -> OrderHash:
    return OrderHash("0x" + content_id("order", draft.metadata, draft.salt, draft.token) * 2)


EXECUTOR = executor.Policy(
    wallet=US, book_age_ns_max=5 * NS_PER_S, lookup_attempts=3, hash_of=name_of
)


class World:
    """Time, the venue's truth, and three services that hear of it late and repeatedly."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ns = START_NS
        self.markets = [market(1), market(2)]
        self.mids = {m.condition: 500_000 for m in self.markets}
        self.states: dict[str, Any] = {
            "aggregator": aggregator.State(),
            "risk": risk.State(),
            "executor": executor.State(),
        }
        self.logs: dict[str, list[Fact]] = {name: [] for name in self.states}
        self.seen: Counter[str] = Counter()
        self._heard: Counter[str] = Counter()  # when the last fact of a service arrived
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._ties = itertools.count()
        self.trades: dict[str, tuple[OrderPrepared, Shares, Price, Settlement]] = {}
        self.placed: dict[OrderHash, OrderPrepared] = {}
        self.leader_held: Counter[tuple[str, str, int]] = Counter()

    # --- time -----------------------------------------------------------------------------

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        at_ns = self.now_ns + delay_ms * NS_PER_MS
        heapq.heappush(self._due, (at_ns, next(self._ties), action))

    def run(self, until_ns: int) -> None:
        while self._due and self._due[0][0] <= until_ns:
            self.now_ns, _, action = heapq.heappop(self._due)
            action()
        self.now_ns = until_ns

    # --- services -------------------------------------------------------------------------

    def tell(self, service: str, message: object) -> None:
        decide = {
            "aggregator": lambda s, m: aggregator.decide(WINDOWS, s, m, self.now_ns),
            "risk": lambda s, m: risk.decide(RISK, s, m, self.now_ns),
            "executor": lambda s, m: executor.decide(EXECUTOR, s, m, self.now_ns),
        }[service]
        evolve = {
            "aggregator": aggregator.evolve, "risk": risk.evolve, "executor": executor.evolve,
        }[service]  # fmt: skip
        state = self.states[service]
        before = encode_state(state)
        facts = decide(state, message)
        assert encode_state(state) == before, f"{service} decided and changed its state"
        for fact in facts:
            evolve(state, fact)
            self.logs[service].append(fact)
        for fact in facts:
            self._deliver(service, fact)

    def _deliver(self, service: str, fact: Fact) -> None:
        """Hand a fact on, late but in the ledger's order."""
        arrival_ns = self.now_ns + self.rng.randint(1, 20) * NS_PER_MS
        arrival_ns = self._heard[service] = max(self._heard[service], arrival_ns)
        delay_ms = (arrival_ns - self.now_ns) // NS_PER_MS
        match fact:
            case IntentFormed():
                self.later(
                    delay_ms,
                    lambda: self.tell("risk", Review(intent=fact, view=self.view(fact.condition))),
                )
            case OrderApproved():
                if fact.side == "BUY":
                    self._check_caps()
                self.later(
                    delay_ms,
                    lambda: self.tell(
                        "executor", Attempt(approval=fact, book=self.book(fact.token))
                    ),
                )
            case OrderPrepared():
                assert fact.order not in self.placed, "an order was prepared twice"
                self.placed[fact.order] = fact
                self.later(delay_ms, lambda: self._post(fact))
            case _ if service == "executor":
                self.later(delay_ms, lambda: self.tell("risk", fact))

    def tick(self) -> None:
        self.tell("aggregator", Tick(self.now_ns))
        state = self.states["risk"]
        views = {
            key: self.view(state.targets[key].condition)
            for key in due(state, RISK.dust, self.now_ns)
        }
        self.tell("risk", Reconsider(now_ns=self.now_ns, views=views, feeds=HEARD))

    def _check_caps(self) -> None:
        state = self.states["risk"]
        used = sum(at_risk(state).values())
        assert used <= TOTAL_CAP, f"{used} at risk pass the cap"

    # --- the venue ------------------------------------------------------------------------

    def book(self, token: TokenId) -> Book:
        at = next(m for m in self.markets if token in m.tokens)
        mid = self.mids[at.condition] if token == at.tokens[0] else MICRO - self.mids[at.condition]
        levels = range(1, 6)
        size = Shares(40_000_000)
        return Book(
            token=token,
            condition=at.condition,
            bids=tuple((Price(mid - n * 10_000), size) for n in levels),
            asks=tuple((Price(mid + n * 10_000), size) for n in levels),
            as_of_ns=self.now_ns,
            seen_ns=self.now_ns,
            trusted=True,
        )

    def view(self, condition: ConditionId) -> View:
        at = next(m for m in self.markets if m.condition == condition)
        account = AccountView(
            as_of_ns=self.now_ns, collateral=Usd(10_000_000_000), closed_only=False, orders=()
        )
        return View(
            market=at,
            books=(self.book(at.tokens[0]), self.book(at.tokens[1])),
            account=account,
            feeds=HEARD,
        )

    def _post(self, order: OrderPrepared) -> None:
        fate = self.rng.choices(
            ["filled", "partial", "killed", "refused", "never_arrived"], [10, 4, 2, 2, 2]
        )[0]
        self.seen[fate] += 1
        if fate == "refused":
            refusal = Refusal(order=order.order, reason="balance", detail="")
            self._say(refusal)
            return
        if fate == "never_arrived":
            self._say(Lost(order=order.order, reason="TransportError"))
            for attempt in range(1, 6):
                self.later(
                    2_000 * attempt,
                    lambda n=attempt: self.tell(  # type: ignore[misc]
                        "executor", Missing(order=order.order, attempts=n)
                    ),
                )
            return
        share = {"filled": 100, "partial": self.rng.randint(1, 90), "killed": 0}[fate]
        size = Shares(order.size * share // 100 // 10_000 * 10_000)
        if order.side == "SELL":
            size = Shares(min(size, max(0, self.truth().get(order.token, 0))))
        taken = walk(self.book(order.token), order.side, size, order.price)
        self._fill(order, taken.filled, Price(taken.average or order.price))
        if self.rng.random() < 0.2:
            self.seen["answer_lost"] += 1
            self._say(Lost(order=order.order, reason="timeout"))
        else:
            answer = PostAnswer(order=order.order, status="matched")
            self._say(Answered(order=order.order, answer=answer, latency_ns=1))
        for delay_ms in (50, 400, 3_000, 15_000):
            self.later(delay_ms, lambda: self.tell("executor", self._report(order)))

    def _fill(self, order: OrderPrepared, size: Shares, price: Price) -> None:
        pieces = self.rng.randint(1, 3)
        left = size
        for n in range(pieces):
            piece = left if n == pieces - 1 else Shares(left // 2 // 10_000 * 10_000)
            left = Shares(left - piece)
            if piece <= 0:
                continue
            trade = f"trade-{len(self.trades)}"
            self.trades[trade] = (order, piece, price, "MATCHED")
            self._settle(trade, "MATCHED", 0)
            if self.rng.random() < 0.08:
                self.seen["failed_settlement"] += 1
                self._settle(trade, "RETRYING", 500)
                self._settle(trade, "FAILED", 1_500)
            else:
                self._settle(trade, "MINED", 600)
                self._settle(trade, "CONFIRMED", 1_200)

    def _settle(self, trade: str, settlement: Settlement, delay_ms: int) -> None:
        def happens() -> None:
            order, size, price, _ = self.trades[trade]
            gone = order.side == "BUY" and self.truth().get(order.token, 0) < size
            now: Settlement = "CONFIRMED" if settlement == "FAILED" and gone else settlement
            self.trades[trade] = (order, size, price, now)
            fill = self._own_fill(trade)
            for _ in range(self.rng.choice([0, 1, 1, 2])):  # the stream loses and repeats
                self.later(self.rng.randint(0, 900), lambda: self.tell("executor", fill))

        self.later(delay_ms, happens)

    def poll(self) -> None:
        """What REST tells of our trades, again and again."""
        for trade in list(self.trades):
            self.tell("executor", self._own_fill(trade))

    def _own_fill(self, trade: str) -> OwnFill:
        order, size, price, settlement = self.trades[trade]
        return OwnFill(
            trade=trade, order=order.order, condition=order.condition, token=order.token,
            side=order.side, price=price, size=size, settlement=settlement, taker=True,
            venue_ns=self.now_ns,
        )  # fmt: skip

    def _report(self, order: OrderPrepared) -> Reported:
        mine = [t for t, (o, *_) in self.trades.items() if o.order == order.order]
        matched = sum(self.trades[t][1] for t in mine if self.trades[t][3] != "FAILED")
        report = OrderReport(
            order=order.order, condition=order.condition, token=order.token, side=order.side,
            price=order.price, size=order.size, matched=Shares(matched),
            status="MATCHED" if matched >= order.size else "CANCELED",
        )  # fmt: skip
        fills = [self._own_fill(t) for t in mine]
        return Reported(report=report, fills=tuple(fills + fills[:1]))

    def _say(self, message: object) -> None:
        for _ in range(self.rng.choice([1, 1, 2])):
            self.later(self.rng.randint(1, 300), lambda: self.tell("executor", message))

    # --- leaders --------------------------------------------------------------------------

    def leader_trades(self) -> None:
        who, at = self.rng.choice(LEADERS), self.rng.choice(self.markets)
        outcome = self.rng.choice([0, 1])
        key = (who, at.condition, outcome)
        side = "SELL" if self.leader_held[key] and self.rng.random() < 0.5 else "BUY"
        size = self.rng.choice([3, 12, 40, 150]) * 1_000_000
        if side == "SELL":
            size = min(size, self.leader_held[key])
        self.leader_held[key] += size if side == "BUY" else -size
        mid = self.mids[at.condition]
        price = mid if outcome == 0 else MICRO - mid
        id_ = content_id("fill", self.now_ns, who, at.condition, outcome, next(self._ties))
        fill = LeaderFilled(
            id=id_, cause="", root=id_, ts_ns=self.now_ns, leader=who, condition=at.condition,
            token=at.tokens[outcome], outcome=outcome, side=side, price=Price(price),  # type: ignore[arg-type]
            size=Shares(size), tx=TxHash("0x" + "0" * 64), row=id_, ordinal=0,
            seen_ns=self.now_ns, source="stream",
        )  # fmt: skip
        for _ in range(self.rng.choice([1, 1, 2])):
            self.later(self.rng.randint(0, 400), lambda: self.tell("aggregator", fill))

    def move(self) -> None:
        for condition, mid in self.mids.items():
            step = self.rng.choice([-20_000, -10_000, 0, 10_000, 20_000])
            self.mids[condition] = min(900_000, max(100_000, mid + step))

    # --- what must be true ----------------------------------------------------------------

    def truth(self) -> dict[str, int]:
        held: Counter[str] = Counter()
        for order, size, _, settlement in self.trades.values():
            if settlement != "FAILED":
                held[order.token] += size if order.side == "BUY" else -size
        return {token: shares for token, shares in held.items() if shares}

    def believed(self) -> dict[str, int]:
        holdings = self.states["executor"].holdings.items()
        return {token: h.position.shares for token, h in holdings if h.position.shares}

    def attributed(self) -> dict[str, int]:
        held: Counter[str] = Counter()
        for line in self.states["risk"].held.values():
            at = next(m for m in self.markets if m.condition == line.condition)
            held[at.tokens[0]] += line.yes.shares
            held[at.tokens[1]] += line.no.shares
        for condition, sets in self.states["risk"].crossed.items():
            for token in next(m for m in self.markets if m.condition == condition).tokens:
                held[token] -= sets
        return {token: shares for token, shares in held.items() if shares}


def simulate(seed: int) -> World:
    world = World(seed)
    for step in range(1, 1_200):
        if step < 500 and world.rng.random() < 0.12:
            world.leader_trades()
        if step < 500 and world.rng.random() < 0.1:
            world.move()
        world.tick()
        if step % 50 == 0:
            world.poll()
        world.run(world.now_ns + 100 * NS_PER_MS)
    return world


@pytest.fixture(scope="module")
def worlds() -> dict[int, World]:
    return {seed: simulate(seed) for seed in SEEDS}


def test_belief_equals_the_venue_when_the_noise_ends(worlds: dict[int, World]) -> None:
    for seed, world in worlds.items():
        assert world.believed() == world.truth(), f"seed {seed}"
        assert world.attributed() == world.truth(), f"seed {seed}"


def test_nothing_is_left_in_flight(worlds: dict[int, World]) -> None:
    for seed, world in worlds.items():
        assert open_orders(world.states["executor"]) == [], f"seed {seed}"
        assert world.states["risk"].reserved == {}, f"seed {seed}"


def test_every_approval_is_prepared_or_declined_once(worlds: dict[int, World]) -> None:
    for seed, world in worlds.items():
        ends = [
            fact.approval
            for fact in world.logs["executor"]
            if isinstance(fact, OrderPrepared | OrderDeclined)
        ]
        approvals = [f.id for f in world.logs["risk"] if isinstance(f, OrderApproved)]
        assert sorted(ends) == sorted(approvals), f"seed {seed}"


def test_every_target_is_reached_or_explained(worlds: dict[int, World]) -> None:
    """What is still open is dust that waits for more, or a reduction that cannot be sold yet."""
    for seed, world in worlds.items():
        state = world.states["risk"]
        for key, target in state.targets.items():
            if abs(gap(state, target)) >= RISK.dust:
                unlucky = target.failures and target.retry_ns > world.now_ns
                # An exit of what another leader is held against is bought: caps are asked.
                waits = target.last_reason == "BELOW_MINIMUM" or target.last_reason.endswith("_CAP")
                explained = unlucky or waits
                assert explained, f"seed {seed}: {key} {target}"


def test_states_are_folds_of_their_own_facts(worlds: dict[int, World]) -> None:
    cores: dict[str, Any] = {"aggregator": aggregator, "risk": risk, "executor": executor}
    for seed, world in worlds.items():
        for name, core in cores.items():
            folded = core.State()
            for fact in world.logs[name]:
                core.evolve(folded, fact)
            assert encode_state(folded) == encode_state(world.states[name]), f"{name}, seed {seed}"


def test_facts_have_names_of_their_own(worlds: dict[int, World]) -> None:
    for seed, world in worlds.items():
        for name, log in world.logs.items():
            assert len({fact.id for fact in log}) == len(log), f"{name}, seed {seed}"


def test_the_same_seed_gives_the_same_log() -> None:
    one, two = simulate(7), simulate(7)
    assert one.logs == two.logs


def test_the_rare_paths_were_taken(worlds: dict[int, World]) -> None:
    total: Counter[str] = sum((world.seen for world in worlds.values()), Counter())
    for path in ("partial", "killed", "refused", "never_arrived", "answer_lost"):
        assert total[path] >= 10, total
    assert total["failed_settlement"] >= 5, total
