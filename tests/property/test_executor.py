"""Whatever the venue says of our orders, in any order and any number of times, is one truth."""

import copy
from itertools import count
from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.executor.core import decide, evolve
from services.executor.state import RANK, TERMINAL, Order, Refusal, Resting, State, open_orders
from services.executor.views import unsettled
from shared.domain.ids import TokenId
from shared.domain.market import Side, fee_up
from shared.domain.messages import ApprovalWithdrawn, Fact, OrderClosed, OrderFilled
from shared.domain.observations import OrderStatus, OwnFill, Settlement
from shared.domain.positions import Position
from shared.domain.units import Shares, Usd, cost_up, proceeds_down
from shared.runtime.runner import encode_state
from tests.support.order_builders import (
    NO,
    START_NS,
    YES,
    answered,
    approval,
    attempt,
    drift,
    feed,
    fill,
    lost,
    missing,
    policy,
    prepared,
    price,
    refusal,
    reported,
    shares,
    step,
)

FEE_RATE = 20_000
PATHS: list[tuple[Settlement, ...]] = [
    ("MATCHED",),
    ("MATCHED", "MINED"),
    ("MATCHED", "MINED", "CONFIRMED"),
    ("MATCHED", "RETRYING", "MINED", "CONFIRMED"),
    ("MATCHED", "RETRYING", "FAILED"),
    ("MATCHED", "MINED", "FAILED"),
]


class Trade(msgspec.Struct, frozen=True):
    """One execution as it truly went: the words said of it, the last one the truth."""

    name: str
    cents: int
    size: Shares
    taker: bool
    path: tuple[Settlement, ...]

    @property
    def stands(self) -> bool:
        return self.path[-1] != "FAILED"

    def word(self, order: Order, settlement: Settlement) -> OwnFill:
        at = price(self.cents)
        return fill(order, self.name, settlement, size=self.size, at=at, taker=self.taker)


@st.composite
def trades(draw: st.DrawFn) -> tuple[Trade, ...]:
    made = draw(
        st.lists(
            st.tuples(
                st.integers(1, 99),
                st.integers(1, 5_000_000),
                st.booleans(),
                st.sampled_from(PATHS),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return tuple(
        Trade(f"t{n}", cents, Shares(size), taker, path)
        for n, (cents, size, taker, path) in enumerate(made)
    )


@st.composite
def stories(draw: st.DrawFn) -> tuple[State, Order, tuple[Trade, ...], list[Any]]:
    """Draw an order on record, what became of it, and all of its words shuffled."""
    side: Side = draw(st.sampled_from(["BUY", "SELL"]))
    true = draw(trades())
    total = sum(trade.size for trade in true)
    size = Shares(-(-total // 10_000) * 10_000 + draw(st.sampled_from([0, 10_000])))
    state = State()
    if side == "SELL":
        start = prepared(state, approval("start", size=shares(30)))
        step(state, reported(start, fill(start, "start", "CONFIRMED", size=shares(30))))
    rests = size >= shares(5) and draw(st.booleans())
    said = approval(side=side, size=size, fee_rate=FEE_RATE)
    if rests:
        said = msgspec.structs.replace(said, policy="post_only", reprice_ticks=1)
    order = prepared(state, said)

    def words(of: tuple[Trade, ...]) -> list[OwnFill]:
        """Draw at least one word of each trade, repeats included, in any order."""
        said = [
            trade.word(order, settlement)
            for trade in of
            for settlement in draw(
                st.lists(st.sampled_from(trade.path), min_size=1, max_size=len(trade.path) + 1)
            )
        ]
        return draw(st.permutations(said))

    ended: OrderStatus = draw(st.sampled_from(["MATCHED", "CANCELED"]))
    told: list[Any] = words(true)
    told += [trade.word(order, trade.path[-1]) for trade in true]
    told += [
        reported(order, *words(true), matched=Shares(total), status=ended)
        for _ in range(draw(st.integers(1, 2)))
    ]
    told += draw(
        st.lists(
            st.sampled_from(
                [
                    answered(order),
                    lost(order),
                    refusal(order),
                    missing(order, 1),
                    missing(order, 2),
                    Resting(order=order.order, near=price(99 if side == "BUY" else 1)),
                    ApprovalWithdrawn(
                        id="w",
                        cause=order.approval,
                        root="r",
                        ts_ns=START_NS,
                        approval=order.approval,
                        condition=order.condition,
                        token=order.token,
                        reason="target_changed",
                    ),
                ]
            ),
            max_size=6,
        )
    )
    told += [reported(order, *words(true[:1]), matched=true[0].size, status="LIVE")]
    return state, order, true, draw(st.permutations(told))


def may_be_said(state: State, message: object) -> bool:
    """Tell whether the shell says it: a refusal is believed against a fill the stream told."""
    if not isinstance(message, Refusal):
        return True
    order = state.orders.get(message.order)
    return order is None or bool(order.filled)


def expected(start: Position, order: Order, true: tuple[Trade, ...]) -> Position:
    """Return the position that the executions which stand make, apart from a sale's release."""
    position = start
    for trade in true:
        if not trade.stands:
            continue
        at = price(trade.cents)
        fee = fee_up(order.market, at, trade.size) if trade.taker else Usd(0)
        if order.side == "BUY":
            moved, paid = trade.size, cost_up(at, trade.size) + fee
        else:
            moved, paid = Shares(-trade.size), fee - proceeds_down(at, trade.size)
        position = Position(
            shares=Shares(position.shares + moved),
            cost=Usd(position.cost + paid),
            realised=position.realised,
        )
    return position


def invested(position: Position) -> int:
    """Return the dollars put in and not taken out: what a sale releases moves nothing here."""
    return position.cost - position.realised


def essence(state: State) -> tuple[Any, ...]:
    """Return a state but for how a sale's dollars split, which rounds by what went before it."""
    held = {
        token: (holding.position.shares, invested(holding.position), holding.changed_ns)
        for token, holding in state.holdings.items()
    }
    return state.orders, state.fills, held, state.corrected


@given(stories())
@settings(max_examples=300, deadline=None)
def test_any_order_and_number_of_words_leads_to_the_same_position_and_a_closed_order(
    story: tuple[State, Order, tuple[Trade, ...], list[Any]],
) -> None:
    state, order, true, told = story
    held = state.holdings.get(YES)
    start = held.position if held else Position()
    facts: list[Fact] = []
    for message in told:
        if may_be_said(state, message):
            facts += step(state, message)
    truth, believed = expected(start, order, true), state.holdings[YES].position
    assert believed.shares == truth.shares
    assert invested(believed) == invested(truth)
    if order.side == "BUY":
        assert believed == truth
    assert len([fact for fact in facts if isinstance(fact, OrderClosed)]) == 1
    booked = [fact.trade for fact in facts if isinstance(fact, OrderFilled)]
    assert len(booked) == len(set(booked))
    final = all(RANK[trade.path[-1]] == TERMINAL for trade in true)
    assert (order.order in state.orders) != final
    waiting = sum(trade.size for trade in true if RANK[trade.path[-1]] < TERMINAL)
    assert unsettled(state, YES) == waiting


@given(stories())
@settings(max_examples=100, deadline=None)
def test_deciding_moves_nothing_and_a_message_decided_again_after_part_of_it_doubles_nothing(
    story: tuple[State, Order, tuple[Trade, ...], list[Any]],
) -> None:
    state, _, _, told = story
    for message in told:
        if not may_be_said(state, message):
            continue
        before = encode_state(state)
        facts = decide(policy(), state, message, START_NS)
        assert encode_state(state) == before
        whole = copy.deepcopy(state)
        for fact in facts:
            evolve(whole, fact)
        for length in range(len(facts) + 1):
            cut = copy.deepcopy(state)
            for fact in facts[:length]:
                evolve(cut, fact)
            step(cut, message)
            assert essence(cut) == essence(whole)
        state = whole


@given(stories())
@settings(max_examples=100, deadline=None)
def test_a_state_rebuilt_from_its_facts_is_the_same_to_the_byte(
    story: tuple[State, Order, tuple[Trade, ...], list[Any]],
) -> None:
    state, _, _, told = story
    rebuilt = copy.deepcopy(state)
    facts = feed(state, [message for message in told if not isinstance(message, Refusal)])
    for fact in facts:
        evolve(rebuilt, msgspec.json.decode(msgspec.json.encode(fact), type=Fact))
    assert encode_state(rebuilt) == encode_state(state)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_corrections_in_any_number_of_copies_count_once_each(
    told: list[tuple[int, int]],
) -> None:
    state, first = State(), dict[int, int]()
    believed = 0
    for name, observed in told:
        step(state, drift(f"d{name}", believed=first.get(name, believed), observed=observed))
        if name not in first:
            first[name], believed = believed, observed
    held = state.holdings.get(YES)
    assert (held.position.shares if held else 0) == shares(believed)


class Venue(RuleBasedStateMachine):
    """Orders of both tokens live side by side, each word true when first said, then repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.log: list[Fact] = []
        self.names = count()
        self.orders: dict[str, Order] = {}
        self.ended: set[str] = set()
        self.trades: dict[str, tuple[Order, Shares, list[Settlement]]] = {}

    def say(self, message: object) -> None:
        self.log += step(self.state, message, START_NS)

    def matched(self, order: Order) -> list[tuple[str, Shares, list[Settlement]]]:
        return [(n, s, w) for n, (o, s, w) in self.trades.items() if o.order == order.order]

    def total(self, order: Order) -> int:
        return sum(size for _, size, _ in self.matched(order))

    @rule(token=st.sampled_from([YES, NO]), side=st.sampled_from(["BUY", "SELL"]))
    def approve(self, token: TokenId, side: Side) -> None:
        approved = approval(str(next(self.names)), token=token, side=side)
        busy = any(order.token == token for order in open_orders(self.state))
        before = set(self.state.orders)
        self.say(attempt(approved))
        new = set(self.state.orders) - before
        assert busy != bool(new)
        for name in new:
            self.orders[name] = self.state.orders[name]

    @precondition(lambda self: set(self.orders) - self.ended)
    @rule(data=st.data(), size=st.integers(1, 4))
    def match(self, data: st.DataObject, size: int) -> None:
        order = self.orders[data.draw(st.sampled_from(sorted(set(self.orders) - self.ended)))]
        assume(self.total(order) + shares(size) <= order.size)
        self.trades[f"t{next(self.names)}"] = (order, shares(size), ["MATCHED"])

    @precondition(lambda self: self.trades)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        _, _, words = self.trades[data.draw(st.sampled_from(sorted(self.trades)))]
        assume(RANK[words[-1]] < TERMINAL)
        later: list[Settlement] = [word for word in RANK if RANK[word] > RANK[words[-1]]]
        words.append(data.draw(st.sampled_from(later)))

    @precondition(lambda self: set(self.orders) - self.ended)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.ended.add(data.draw(st.sampled_from(sorted(set(self.orders) - self.ended))))

    @precondition(lambda self: self.trades)
    @rule(data=st.data(), copies=st.integers(1, 2))
    def stream(self, data: st.DataObject, copies: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.trades)))
        order, size, words = self.trades[name]
        for _ in range(copies):
            word = data.draw(st.sampled_from(words))
            self.say(fill(order, name, word, size=size))

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def look_up(self, data: st.DataObject) -> None:
        order = self.orders[data.draw(st.sampled_from(sorted(self.orders)))]
        read = [
            fill(order, name, data.draw(st.sampled_from(words)), size=size)
            for name, size, words in self.matched(order)
        ]
        status: OrderStatus = "CANCELED" if order.order in self.ended else "LIVE"
        matched = Shares(self.total(order))
        self.say(reported(order, *read, *read[:1], matched=matched, status=status))

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), say=st.sampled_from([answered, lost, lambda order: missing(order, 9)]))
    def answer(self, data: st.DataObject, say: Any) -> None:
        self.say(say(self.orders[data.draw(st.sampled_from(sorted(self.orders)))]))

    @invariant()
    def what_is_kept_agrees_with_itself(self) -> None:
        tokens = [order.token for order in open_orders(self.state)]
        assert len(tokens) == len(set(tokens))
        for order in self.state.orders.values():
            fills = [f for f in self.state.fills.values() if f.order == order.order]
            assert order.filled == sum(f.size for f in fills if f.settlement != "FAILED")
        assert {f.order for f in self.state.fills.values()} <= set(self.state.orders)
        assert unsettled(self.state, YES) >= 0

    def teardown(self) -> None:
        """Say all that is true once more: belief is the truth, and nothing stays open."""
        for name, (order, size, words) in self.trades.items():
            self.say(fill(order, name, words[-1], size=size))
        for order in self.orders.values():
            read = [fill(order, n, w[-1], size=s) for n, s, w in self.matched(order)]
            self.say(reported(order, *read, status="CANCELED"))
        assert open_orders(self.state) == []
        for token in (YES, NO):
            truth = sum(
                size if order.side == "BUY" else -size
                for order, size, words in self.trades.values()
                if order.token == token and words[-1] != "FAILED"
            )
            held = self.state.holdings.get(token)
            assert (held.position.shares if held else 0) == truth
        kept = {o.order for o, _, words in self.trades.values() if RANK[words[-1]] < TERMINAL}
        filled = {order.order for order, _, _ in self.trades.values()}
        assert {name for name in self.state.orders if name in filled} == kept
        rebuilt = State()
        for fact in self.log:
            evolve(rebuilt, fact)
        assert encode_state(rebuilt) == encode_state(self.state)


Venue.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
test_orders_of_two_tokens_end_as_the_venue_has_them = Venue.TestCase
