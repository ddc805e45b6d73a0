"""Netting ignores order, copies and splits; exposure is conserved; replay is byte-identical."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator import core
from services.aggregator.core import Policies, Policy, State
from shared.domain.ids import ConditionId, Wallet
from shared.domain.market import Side
from shared.domain.messages import Fact, FillCounted, IntentFormed, LeaderFilled, Tick, WindowNetted
from shared.domain.units import DUST, MICRO, NS_PER_S, Price, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.builders import (
    CONDITION,
    LEADER,
    OTHER_CONDITION,
    OTHER_LEADER,
    T0_NS,
    a_baseline,
    a_fill,
    an_act,
)

PATIENT = Policy(
    quiet_ns=NS_PER_S,
    age_ns_max=60 * NS_PER_S,
    flush_usd=Usd(10**18),
    flush_on_reduction=True,
    dust=DUST,
)
HASTY = Policy(
    quiet_ns=NS_PER_S // 2,
    age_ns_max=2 * NS_PER_S,
    flush_usd=Usd(5 * MICRO),
    flush_on_reduction=False,
    dust=Shares(3 * DUST),
)
POLICIES = Policies(default=PATIENT, leaders={OTHER_LEADER: HASTY})
AMPLE = Shares(10**12)  # held before, so that no sale is of history unseen

law = settings(max_examples=100, deadline=None)

# --- one window -------------------------------------------------------------------------------


class Fill(msgspec.Struct, frozen=True):
    name: str
    outcome: Literal[0, 1]
    side: Side
    price: Price
    size: Shares
    ts_ns: int


class Net(msgspec.Struct, frozen=True):
    """What a window came to, but for the names and the number of its fills."""

    before: Shares
    after: Shares
    yes_price: Price
    opened_ns: int
    venue_ns: int


fills = st.lists(
    st.builds(
        Fill,
        name=st.uuids().map(str),
        outcome=st.sampled_from((0, 1)),
        side=st.sampled_from(("BUY", "SELL")),
        price=st.integers(1, MICRO - 1).map(Price),
        size=st.integers(1, 10**9).map(Shares),
        ts_ns=st.integers(T0_NS - 10**12, T0_NS),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda fill: fill.name,
)


def heard(fill: Fill) -> LeaderFilled:
    return a_fill(
        fill.name,
        outcome=fill.outcome,
        side=fill.side,
        price=fill.price,
        size=fill.size,
        ts_ns=fill.ts_ns,
    )


def window_of(
    told: list[Fill], yes: Shares = AMPLE, no: Shares = AMPLE
) -> tuple[State, Net | None]:
    """Return the state and what a window of these fills came to."""
    state = State()
    for message in (a_baseline((CONDITION, yes, no)), *map(heard, told)):
        for fact in core.decide(POLICIES, state, message, T0_NS):
            assert isinstance(fact, FillCounted)
            core.evolve(state, fact)
    at_ns = T0_NS + PATIENT.quiet_ns
    (closing,) = core.decide(POLICIES, state, Tick(at_ns), at_ns)
    core.evolve(state, closing)
    if isinstance(closing, WindowNetted):
        return state, None
    assert isinstance(closing, IntentFormed)
    return state, msgspec.convert(msgspec.to_builtins(closing), Net)


def split(fill: Fill, parts: int) -> list[Fill]:
    """Return the fill in up to so many parts, the first with what does not divide."""
    each = fill.size // parts
    sizes = [fill.size - each * (parts - 1), *[each] * (parts - 1)]
    return [
        msgspec.structs.replace(fill, name=f"{fill.name}/{number}", size=Shares(size))
        for number, size in enumerate(sizes)
        if size
    ]


@law
@given(fills, st.data())
def test_order_does_not_matter_inside_a_window(told: list[Fill], data: st.DataObject) -> None:
    state, net = window_of(told)
    shuffled, same = window_of(data.draw(st.permutations(told)))
    assert same == net
    assert shuffled.tracks == state.tracks


@law
@given(fills, st.data())
def test_copies_do_not_matter(told: list[Fill], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.sampled_from(told), max_size=8))
    state, net = window_of(told)
    copied, same = window_of([*told, *copies])
    assert same == net
    assert encode_state(copied) == encode_state(state)


@law
@given(fills, st.lists(st.integers(1, 5), min_size=8, max_size=8))
def test_splitting_a_fill_does_not_matter(told: list[Fill], parts: list[int]) -> None:
    state, net = window_of(told)
    pieces = [piece for fill, n in zip(told, parts, strict=False) for piece in split(fill, n)]
    in_parts, same = window_of(pieces)
    assert same == net
    assert in_parts.tracks == state.tracks


@law
@given(fills)
def test_buying_no_is_selling_yes(told: list[Fill]) -> None:
    flip: dict[Side, Side] = {"BUY": "SELL", "SELL": "BUY"}
    mirrored = [
        msgspec.structs.replace(
            fill,
            outcome=1 - fill.outcome,
            side=flip[fill.side],
            price=Price(MICRO - fill.price),
        )
        for fill in told
    ]
    assert window_of(mirrored)[1] == window_of(told)[1]


@law
@given(fills)
def test_the_net_change_is_the_sum_of_the_fills(told: list[Fill]) -> None:
    state, net = window_of(told)
    change = sum(
        fill.size * (1 if (fill.side == "BUY") == (fill.outcome == 0) else -1) for fill in told
    )
    track = state.tracks[core.track_key(LEADER, CONDITION)]
    assert track.exposure == change
    assert (net is None) == (abs(change) < DUST)
    assert track.followed == (0 if net is None else net.after)


@law
@given(fills)
def test_the_price_of_a_window_is_one_that_was_paid_or_between(told: list[Fill]) -> None:
    _, net = window_of(told)
    paid = [fill.price if fill.outcome == 0 else MICRO - fill.price for fill in told]
    assert net is None or min(paid) <= net.yes_price <= max(paid)


# --- a life -----------------------------------------------------------------------------------


class Deed(msgspec.Struct, frozen=True):
    after_ms: int
    leader: Wallet
    condition: ConditionId
    what: Literal["BUY", "SELL", "SPLIT", "MERGE", "REDEEM", "tick"]
    outcome: Literal[0, 1]
    size: Shares
    name: int  # equal names of one kind are one activity, heard twice


def lives(*whats: str) -> st.SearchStrategy[list[Deed]]:
    return st.lists(
        st.builds(
            Deed,
            after_ms=st.sampled_from((0, 1, 100, 400, 500, 1_000, 3_000)),
            leader=st.sampled_from((LEADER, OTHER_LEADER)),
            condition=st.sampled_from((CONDITION, OTHER_CONDITION)),
            what=st.sampled_from((*whats, "tick")),
            outcome=st.sampled_from((0, 1)),
            size=st.one_of(st.integers(1, 2 * DUST), st.integers(1, 40 * MICRO)).map(Shares),
            name=st.integers(0, 40),
        ),
        max_size=30,
    )


def message_of(deed: Deed, now_ns: int) -> object:
    match deed.what:
        case "tick":
            return Tick(now_ns)
        case "BUY" | "SELL":
            return a_fill(
                deed.name,
                leader=deed.leader,
                condition=deed.condition,
                outcome=deed.outcome,
                side=deed.what,
                size=deed.size,
                ts_ns=now_ns,
            )
        case action:
            return an_act(
                action,
                deed.name,
                leader=deed.leader,
                condition=deed.condition,
                size=deed.size,
                ts_ns=now_ns,
            )


class Live(msgspec.Struct):
    state: State = msgspec.field(default_factory=State)
    said: list[Fact] = []
    snapshots: list[bytes] = []  # of the state before each fact

    def hear(self, message: object, now_ns: int) -> list[Fact]:
        before = encode_state(self.state)
        facts = core.decide(POLICIES, self.state, message, now_ns)
        assert encode_state(self.state) == before, "decide changed the state"
        for fact in facts:
            self.snapshots.append(encode_state(self.state))
            core.evolve(self.state, fact)
        self.said += facts
        return facts


def live(deeds: list[Deed], held: Shares) -> Live:
    """Live through the deeds and let every window close."""
    life, now_ns = Live(), T0_NS
    for leader in (LEADER, OTHER_LEADER):
        markets = [(condition, held, held) for condition in (CONDITION, OTHER_CONDITION)]
        life.hear(a_baseline(*markets, leader=leader), now_ns)
    for deed in deeds:
        now_ns += deed.after_ms * 10**6
        life.hear(message_of(deed, now_ns), now_ns)
    life.hear(Tick(now_ns + 60 * NS_PER_S), now_ns + 60 * NS_PER_S)
    return life


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE"), st.sampled_from((Shares(0), AMPLE)))
def test_the_intents_of_a_life_add_up_to_the_change_of_exposure_but_for_dust(
    deeds: list[Deed], held: Shares
) -> None:
    life = live(deeds, held)
    intents = [fact for fact in life.said if isinstance(fact, IntentFormed)]
    for track in life.state.tracks.values():
        steps = [i for i in intents if (i.leader, i.condition) == (track.leader, track.condition)]
        assert sum(step.after - step.before for step in steps) == track.followed
        assert abs(track.exposure - track.followed) < POLICIES.of(track.leader).dust
        assert track.window is None


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE", "REDEEM"), st.sampled_from((Shares(0), AMPLE)))
def test_each_intent_begins_where_the_last_one_ended(deeds: list[Deed], held: Shares) -> None:
    followed: dict[str, int] = {}
    exposures: dict[str, tuple[int, int]] = {}
    for fact in live(deeds, held).said:
        assert isinstance(fact, FillCounted | IntentFormed | WindowNetted)
        key = core.track_key(fact.leader, fact.condition)
        yes, no = exposures.get(key, (0, 0))
        if isinstance(fact, FillCounted):
            yes, no = exposures[key] = (yes + fact.yes, no + fact.no)
            if fact.baseline:
                followed[key] = max(yes, 0) - max(no, 0)
            continue
        assert fact.before == followed.get(key, 0)
        assert fact.after == max(yes, 0) - max(no, 0)
        if isinstance(fact, IntentFormed):
            assert abs(fact.after - fact.before) >= POLICIES.of(fact.leader).dust
            assert 0 < fact.yes_price < MICRO
            followed[key] = fact.after


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE", "REDEEM"))
def test_each_activity_is_counted_once_and_in_at_most_one_window(deeds: list[Deed]) -> None:
    said = live(deeds, Shares(0)).said
    moved = [f.cause for f in said if isinstance(f, FillCounted) and not f.baseline]
    stood_on = [
        fill for f in said if isinstance(f, IntentFormed | WindowNetted) for fill in f.fills
    ]
    assert len(set(moved)) == len(moved)
    assert len(set(stood_on)) == len(stood_on)
    assert set(stood_on) <= set(moved)
    assert len({fact.id for fact in said}) == len(said)


@law
@given(lives("SPLIT", "MERGE", "REDEEM"))
def test_what_is_no_trade_creates_no_intent(deeds: list[Deed]) -> None:
    life = live(deeds, AMPLE)
    assert all(isinstance(fact, FillCounted) for fact in life.said)


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE", "REDEEM"), st.sampled_from((Shares(0), AMPLE)))
def test_a_replay_of_any_prefix_is_the_live_state_byte_for_byte(
    deeds: list[Deed], held: Shares
) -> None:
    life, folded = live(deeds, held), State()
    for fact, snapshot in zip(life.said, life.snapshots, strict=True):
        assert encode_state(folded) == snapshot
        core.evolve(folded, fact)
    assert encode_state(folded) == encode_state(life.state)


def test_a_fill_is_no_fact_of_the_aggregator() -> None:
    with pytest.raises(AssertionError, match="not a fact of the aggregator"):
        core.evolve(State(), a_fill())
