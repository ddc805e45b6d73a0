"""Netting ignores order, copies and splits; exposure is conserved; replay is byte-identical."""

from random import Random
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator import core
from services.aggregator.core import Policies, Policy, State
from shared.domain.ids import ConditionId, Wallet
from shared.domain.market import Side
from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderCorrected,
    LeaderFilled,
    Tick,
    WindowNetted,
)
from shared.domain.units import BPS, DUST, MICRO, NS_PER_S, Bps, Price, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.builders import CONDITION, LEADER, T0_NS, a_baseline, a_fill
from tests.unit.aggregator.aggregator_lives import (
    AMPLE,
    DEAF,
    PATIENT,
    PAUSES,
    POLICIES,
    WARY,
    Deed,
    Live,
    live,
    lives,
    message_of,
)

law = settings(max_examples=100, deadline=None)
EVERYTHING = lives(
    "BUY", "SELL", "SPLIT", "MERGE", "REDEEM", "CONVERSION", "resolved", "look", "look",
    pauses=(*PAUSES, 40_000),
)  # fmt: skip

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
    assert shuffled.leaders == state.leaders


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
    assert in_parts.leaders == state.leaders


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
    track = state.leaders[LEADER].tracks[CONDITION]
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


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE"), st.sampled_from((Shares(0), AMPLE)))
def test_the_intents_of_a_life_add_up_to_the_change_of_exposure_but_for_dust(
    deeds: list[Deed], held: Shares
) -> None:
    life = live(deeds, held)
    for wallet, leader in life.state.leaders.items():
        assert leader.windows == {}
        for condition, track in leader.tracks.items():
            assert intended(life, wallet, condition) == track.followed
            assert abs(track.exposure - track.followed) < POLICIES.of(wallet).dust


@law
@given(lives("BUY", "SELL", "SPLIT", "MERGE"), st.sampled_from((Shares(0), AMPLE)))
def test_noise_is_never_an_intent_and_never_lost(deeds: list[Deed], held: Shares) -> None:
    life = live(deeds, held, DEAF)
    for wallet, leader in life.state.leaders.items():
        for condition, track in leader.tracks.items():
            counted = [
                fact.yes - fact.no
                for fact in life.said
                if isinstance(fact, FillCounted)
                and (fact.leader, fact.condition) == (wallet, condition)
            ]
            rest = track.exposure - track.followed
            if held:  # else what is sold before it was seen bought is no exposure
                assert intended(life, wallet, condition) + rest == sum(counted)
            assert intended(life, wallet, condition) == track.followed
    gross = {
        fact.cause: abs(fact.yes - fact.no) for fact in life.said if isinstance(fact, FillCounted)
    }
    for fact in life.said:
        if isinstance(fact, IntentFormed) and fact.after:
            turned_over = sum(gross[fill] for fill in fact.fills)
            net_share = DEAF.of(fact.leader).net_share
            # A set that was half sold before it was split is in no fill's change.
            assert abs(fact.after - fact.before) * BPS >= net_share * turned_over


def intended(life: Live, wallet: Wallet, condition: ConditionId) -> int:
    """Return what the intents of a leader in a market add up to."""
    return sum(
        fact.after - fact.before
        for fact in life.said
        if isinstance(fact, IntentFormed) and (fact.leader, fact.condition) == (wallet, condition)
    )


@law
@given(EVERYTHING, st.sampled_from((Shares(0), AMPLE)), st.sampled_from((POLICIES, DEAF, WARY)))
def test_an_intent_is_worth_following(deeds: list[Deed], held: Shares, policies: Policies) -> None:
    for fact in live(deeds, held, policies).said:
        if isinstance(fact, IntentFormed):
            change = abs(fact.after - fact.before)
            assert change >= policies.of(fact.leader).dust or (change and not fact.after)
            assert 0 < fact.yes_price < MICRO


@law
@given(EVERYTHING)
def test_each_activity_is_counted_once_and_in_at_most_one_window(deeds: list[Deed]) -> None:
    said = live(deeds, Shares(0)).said
    moved = [f.cause for f in said if isinstance(f, FillCounted) and not f.baseline]
    corrections = {f.id for f in said if isinstance(f, LeaderCorrected)}
    stood_on = [
        fill for f in said if isinstance(f, IntentFormed | WindowNetted) for fill in f.fills
    ]
    assert len(set(moved)) == len(moved)
    assert len(set(stood_on)) == len(stood_on)
    assert set(stood_on) <= {*moved, *corrections}
    assert len({fact.id for fact in said}) == len(said)


@law
@given(lives("SPLIT", "MERGE", "REDEEM", "CONVERSION", "resolved"))
def test_what_is_no_trade_creates_no_intent(deeds: list[Deed]) -> None:
    life = live(deeds, AMPLE)
    assert all(isinstance(fact, FillCounted) for fact in life.said)


@law
@given(
    st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 3 * 10**9)), min_size=1, max_size=20)
)
def test_a_late_fill_is_never_lost(told: list[tuple[int, int]]) -> None:
    """However old a fill is when it comes, it is in one window, and in the exposure."""
    life, now_ns = Live(), T0_NS
    life.hear(a_baseline((CONDITION, AMPLE, AMPLE)), now_ns)
    for number, (late_ns, pause_ns) in enumerate(told):
        now_ns += pause_ns
        life.hear(Tick(now_ns), now_ns)
        life.hear(a_fill(number, size=Shares(DUST), ts_ns=now_ns - late_ns), now_ns)
    life.hear(Tick(now_ns + NS_PER_S), now_ns + NS_PER_S)
    stood_on = [fill for f in life.said if isinstance(f, IntentFormed) for fill in f.fills]
    assert stood_on == [a_fill(number).id for number in range(len(told))]
    assert intended(life, LEADER, CONDITION) == len(told) * DUST


@law
@given(EVERYTHING, st.sampled_from((Shares(0), AMPLE)))
def test_a_replay_of_any_prefix_is_the_live_state_byte_for_byte(
    deeds: list[Deed], held: Shares
) -> None:
    life, folded = live(deeds, held), State()
    for fact, snapshot in zip(life.said, life.snapshots, strict=True):
        assert encode_state(folded) == snapshot
        core.evolve(folded, fact)
    assert encode_state(folded) == encode_state(life.state)


@law
@given(EVERYTHING, st.integers(0, 10**6))
def test_a_lane_restored_from_its_snapshot_says_the_same(deeds: list[Deed], cut: int) -> None:
    at = cut % (len(deeds) + 1)
    first = live(deeds[:at], AMPLE)
    again = Live(state=msgspec.json.decode(encode_state(first.state), type=State))
    now_ns = T0_NS + 3_600 * NS_PER_S
    for deed in deeds[at:]:
        now_ns += deed.after_ms * 10**6
        one, other = (life.hear(message_of(deed, now_ns), now_ns) for life in (first, again))
        assert sorted(one, key=id_of) == sorted(other, key=id_of)
    assert encode_state(first.state) == encode_state(again.state)


def id_of(fact: Fact) -> str:
    return fact.id


def test_a_fill_is_no_fact_of_the_aggregator() -> None:
    with pytest.raises(AssertionError, match="not a fact of the aggregator"):
        core.evolve(State(), a_fill())


# --- those who trade on both sides ------------------------------------------------------------


def a_maker(quotes: int, seed: int = 1) -> list[LeaderFilled]:
    """Return the fills of a wallet that gives back within a second nearly all that it takes."""
    rng, at_ns = Random(seed), T0_NS
    sides: tuple[tuple[Literal[0, 1], Literal[0, 1]], ...] = ((0, 1), (1, 0))
    told = []
    for number in range(quotes):
        size = Shares(rng.randint(5, 200) * MICRO)
        outcome, other = rng.choice(sides)
        taken = a_fill(f"in {number}", outcome=outcome, size=size, ts_ns=at_ns)
        at_ns += rng.randint(1, 10) * NS_PER_S // 10
        left = Shares(size - rng.choice((0, 0, 0, 1)) * MICRO)
        sold = rng.random() < 0.5  # else the other outcome is bought, and the pair is cash
        given = a_fill(
            f"out {number}",
            outcome=outcome if sold else other,
            side="SELL" if sold else "BUY",
            size=left,
            ts_ns=at_ns,
        )
        at_ns += rng.randint(1, 10) * NS_PER_S // 10
        told += [taken, given]
    return told


@pytest.mark.parametrize(
    ("net_share", "at_once", "least", "most"),
    [
        (0, True, 2_500, 3_000),
        (0, False, 250, 350),
        (500, False, 100, 200),
        (1_000, False, 20, 60),
        (2_000, False, 0, 3),
    ],
)
def test_a_market_maker_yields_few_intents_and_loses_nothing(
    net_share: int, at_once: bool, least: int, most: int
) -> None:
    """Six thousand fills in fifty minutes, windows of at most ten seconds.

    Who is flat every other moment must not be followed at each reduction: that cuts his windows
    where he is not, and what is left of them is no noise.
    """
    policy = Policy(
        quiet_ns=2 * NS_PER_S,
        age_ns_max=10 * NS_PER_S,
        flush_usd=Usd(1_000 * MICRO),
        flush_on_reduction=at_once,
        dust=DUST,
        net_share=Bps(net_share),
    )
    policies, state, ends = Policies(default=policy), State(), list[Fact]()
    for told in a_maker(3_000):
        for message in (Tick(told.ts_ns), told):
            for fact in core.decide(policies, state, message, told.ts_ns):
                core.evolve(state, fact)
                if not isinstance(fact, FillCounted):
                    ends.append(fact)
    intents = [fact for fact in ends if isinstance(fact, IntentFormed)]
    assert least <= len(intents) <= most
    track = state.leaders[LEADER].tracks[CONDITION]
    assert sum(intent.after - intent.before for intent in intents) == track.followed
    change = sum(
        told.size * (1 if (told.side == "BUY") == (told.outcome == 0) else -1)
        for told in a_maker(3_000)
    )
    assert track.exposure == change
