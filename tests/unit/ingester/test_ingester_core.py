"""Given what was said and a row, a read or a feed's change: exactly these facts."""

from collections.abc import Callable, Iterable

import msgspec
import pytest

from services.ingester import core, said
from services.ingester.core import Baseline, ChainRows, Feed, Policy, RestRows, State, StreamRow
from shared.domain.ids import Wallet
from shared.domain.messages import (
    ActivityRead,
    Fact,
    FeedChanged,
    LeaderActed,
    LeaderBaselineRead,
    LeaderFilled,
)
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_S, Price, Shares
from shared.runtime.runner import encode_state
from tests.support.builders import (
    CONDITION,
    LEADER,
    NO,
    OTHER_LEADER,
    T0_NS,
    T0_S,
    a_baseline,
    a_count,
    a_trade,
    an_action,
    shares,
    tx,
)

POLICY = Policy(overlap_s=120)
SEEN_NS = T0_NS + 5


def a_state(*rows: Activity, kept_s: int = T0_S - 600) -> State:
    """Return the state of following ``LEADER`` since now, with rows inside the baseline."""
    state = State()
    names = [f"{core.row_key(row)}@{row.venue_ns // NS_PER_S}" for row in rows]
    core.evolve(state, a_baseline(rows=names, kept_s=kept_s))
    return state


def hear(state: State, message: object, now_s: int = T0_S) -> list[Fact]:
    """Decide, leaving the state alone, then apply what was decided."""
    before = encode_state(state)
    facts = core.decide(POLICY, state, message, now_s * NS_PER_S)
    assert encode_state(state) == before
    for fact in facts:
        core.evolve(state, fact)
    return facts


def frame(row: Activity) -> StreamRow:
    return StreamRow(row=row, seen_ns=SEEN_NS)


def a_read(*rows: Activity, through_s: int = T0_S) -> RestRows:
    return RestRows(leader=LEADER, rows=rows, through_s=through_s, seen_ns=SEEN_NS)


def told(facts: Iterable[Fact]) -> list[tuple[str, int]]:
    """Return source and ordinal of each fill."""
    return [(fact.source, fact.ordinal) for fact in facts if isinstance(fact, LeaderFilled)]


# --- what a row becomes -----------------------------------------------------------------------


def test_a_trade_on_the_stream_becomes_a_fill() -> None:
    row = a_trade(outcome=1, side="SELL", price=Price(640_000), size=shares(25), number=7)
    (fact,) = hear(a_state(), frame(row))
    assert isinstance(fact, LeaderFilled)
    assert (fact.leader, fact.condition, fact.token, fact.outcome) == (LEADER, CONDITION, NO, 1)
    assert (fact.side, fact.price, fact.size, fact.tx) == ("SELL", 640_000, 25_000_000, tx(7))
    assert (fact.ts_ns, fact.seen_ns, fact.source) == (T0_NS, SEEN_NS, "stream")
    assert (fact.row, fact.ordinal) == (core.row_key(row), 0)
    assert (fact.cause, fact.root) == ("", fact.id)


@pytest.mark.parametrize("action", ["SPLIT", "MERGE", "REDEEM", "CONVERSION"])
def test_what_is_no_trade_becomes_an_act(action: str) -> None:
    row = an_action(action, size=shares(3), number=7)  # type: ignore[arg-type]
    (fact,) = hear(a_state(), frame(row))
    assert isinstance(fact, LeaderActed)
    assert (fact.action, fact.size, fact.tx, fact.ordinal) == (action, 3_000_000, tx(7), 0)
    assert (fact.ts_ns, fact.seen_ns, fact.root) == (T0_NS, SEEN_NS, fact.id)


def test_a_row_has_one_id_wherever_it_was_seen() -> None:
    (streamed,) = hear(a_state(), frame(a_trade()))
    (fetched,) = hear(a_state(), a_read(a_trade()))
    assert streamed.id == fetched.id


def test_the_price_is_no_part_of_a_row_s_identity() -> None:
    state = a_state()
    hear(state, frame(a_trade(price=Price(500_000))))
    assert hear(state, a_read(a_trade(price=Price(500_001)))) == []


@pytest.mark.parametrize(
    "other",
    [
        a_trade(number=1),
        a_trade(size=Shares(1)),
        a_trade(side="SELL"),
        a_trade(outcome=1),
        an_action("MERGE"),
        an_action("SPLIT"),
    ],
)
def test_rows_that_differ_are_two(other: Activity) -> None:
    state = a_state()
    hear(state, frame(a_trade()))
    assert len(hear(state, frame(other))) == 1


# --- identical rows ---------------------------------------------------------------------------


def test_a_repeated_frame_counts_once() -> None:
    state = a_state()
    assert told(hear(state, frame(a_trade()))) == [("stream", 0)]
    assert hear(state, frame(a_trade())) == []


def test_identical_rows_of_one_transaction_are_each_said_by_a_read() -> None:
    state = a_state()
    assert told(hear(state, a_read(a_trade(), a_trade(), a_trade()))) == [
        ("rest", 0), ("rest", 1), ("rest", 2),
    ]  # fmt: skip
    assert hear(state, a_read(a_trade(), a_trade(), a_trade())) == []


def test_a_read_adds_the_identical_rows_that_the_stream_could_not_vouch_for() -> None:
    state = a_state()
    hear(state, frame(a_trade()))
    hear(state, frame(a_trade()))
    assert told(hear(state, a_read(a_trade(), a_trade()))) == [("rest", 1)]
    assert hear(state, frame(a_trade())) == []


def test_an_identical_row_that_the_index_shows_late_is_said_late() -> None:
    state = a_state()
    assert told(hear(state, a_read(a_trade()))) == [("rest", 0)]
    assert told(hear(state, a_read(a_trade(), a_trade()))) == [("rest", 1)]


def test_a_read_that_shows_fewer_takes_nothing_back() -> None:
    state = a_state()
    hear(state, a_read(a_trade(), a_trade()))
    assert hear(state, a_read(a_trade())) == []
    assert hear(state, a_read(a_trade(), a_trade())) == []


def test_rows_of_one_transaction_are_counted_apart() -> None:
    buy, sale = a_trade(), a_trade(side="SELL")
    facts = hear(a_state(), a_read(buy, sale, buy))
    assert [fact.ordinal for fact in facts if isinstance(fact, LeaderFilled)] == [0, 1, 0]


@pytest.mark.parametrize("first", [400_000, 600_000])
def test_equal_fills_at_two_prices_are_said_at_both(first: int) -> None:
    """Each source derives a price with last digits of its own."""
    state = a_state()
    hear(state, frame(a_trade(price=Price(first + 3))))
    facts = hear(state, a_read(a_trade(price=Price(600_000)), a_trade(price=Price(400_000))))
    fills = [(fact.price, fact.ordinal) for fact in facts if isinstance(fact, LeaderFilled)]
    assert fills == [(1_000_000 - first, 1)]


def test_rows_inside_a_baseline_keep_their_prices_to_themselves() -> None:
    state = State()
    inside, later = a_trade(price=Price(600_000)), a_trade(price=Price(400_000))
    core.evolve(state, a_baseline(rows=[said.named(inside)], kept_s=T0_S - 600))
    [fact] = hear(state, a_read(later, inside))
    assert isinstance(fact, LeaderFilled)
    assert (fact.price, fact.ordinal) == (400_000, 1)


# --- the chain, and sources that cut fills differently --------------------------------------


def a_block(*rows: Activity) -> ChainRows:
    return ChainRows(rows=rows, blocks=(7, 9), seen_ns=SEEN_NS)


def gaps(facts: Iterable[Fact]) -> list[FeedChanged]:
    return [fact for fact in facts if isinstance(fact, FeedChanged)]


def test_the_chain_counts_identical_rows_as_rest_does() -> None:
    state = a_state()
    assert told(hear(state, frame(a_trade()))) == [("stream", 0)]
    assert told(hear(state, a_block(a_trade(), a_trade()))) == [("chain", 1)]
    assert told(hear(state, a_read(a_trade(), a_trade(), a_trade()))) == [("rest", 2)]
    assert hear(state, a_block(a_trade(), a_trade(), a_trade())) == []
    assert hear(state, frame(a_trade())) == []


def test_one_read_of_the_chain_is_of_several_leaders() -> None:
    state = a_state()
    core.evolve(state, a_baseline(leader=OTHER_LEADER))
    rows = (a_trade(), a_trade(leader=OTHER_LEADER), a_trade(leader=Wallet("0x" + "99" * 20)))
    facts = hear(state, a_block(*rows))
    assert [f.leader for f in facts if isinstance(f, LeaderFilled)] == [LEADER, OTHER_LEADER]
    assert told(facts) == [("chain", 0)] * 2
    assert hear(state, a_block(*rows)) == []


@pytest.mark.parametrize("at_s", [T0_S - 601, T0_S + 61])
def test_the_chain_says_nothing_of_what_is_forgotten_or_to_come(at_s: int) -> None:
    assert hear(a_state(), a_block(a_trade(at_s=at_s))) == []


@pytest.mark.parametrize("first", [a_block, a_read])
@pytest.mark.parametrize("then", [a_block, a_read])
def test_the_same_fills_in_other_rows_are_nothing_new(
    first: Callable[..., object], then: Callable[..., object]
) -> None:
    state = a_state()
    parts = (a_trade(size=shares(4)), a_trade(size=shares(6)))
    hear(state, first(a_trade(size=shares(10))))
    assert hear(state, then(*parts)) == []
    assert hear(state, frame(parts[0])) == [], "nor by the stream, once they were counted"


@pytest.mark.parametrize(
    "other",
    [
        a_trade(number=1, size=shares(4)),
        a_trade(side="SELL", size=shares(4)),
        a_trade(outcome=1, size=shares(4)),
    ],
)
def test_fills_of_another_transaction_side_or_token_are_others(other: Activity) -> None:
    state = a_state()
    hear(state, a_block(a_trade(size=shares(10))))
    assert told(hear(state, a_block(other))) == [("chain", 0)]
    assert told(hear(state, frame(msgspec.structs.replace(other, tx=tx(2))))) == [("stream", 0)]


def test_what_only_the_stream_said_may_be_completed_by_the_stream() -> None:
    state = a_state()
    hear(state, frame(a_trade(size=shares(4))))
    assert told(hear(state, frame(a_trade(size=shares(6))))) == [("stream", 0)]


def test_sums_that_contradict_what_was_said_are_a_gap_told_once() -> None:
    state = a_state()
    hear(state, frame(a_trade(size=shares(4))))
    (gap,) = hear(state, a_block(a_trade(size=shares(10))))
    assert isinstance(gap, FeedChanged)
    assert (gap.feed, gap.state, gap.leader, gap.from_ns) == ("chain", "gap", LEADER, T0_NS)
    assert gap.detail == f"10000000 micro-shares in {tx(0)}, 4000000 said in other rows"
    assert (gap.ts_ns, gap.root) == (SEEN_NS, gap.id)
    assert hear(state, a_block(a_trade(size=shares(10)))) == []
    parts = (a_trade(size=shares(4)), a_trade(size=shares(6)))
    assert told(hear(state, a_read(*parts))) == [("rest", 0)], "REST has the stream's rows"


def test_the_chain_that_shows_fewer_tells_that_too_many_were_said() -> None:
    state = a_state()
    hear(state, a_read(a_trade(), a_trade()))
    (gap,) = gaps(hear(state, a_block(a_trade())))
    assert gap.detail.startswith("10000000 micro-shares")


def test_an_index_that_is_behind_contradicts_nothing() -> None:
    state = a_state()
    hear(state, frame(a_trade(size=shares(4))))
    late = a_trade(size=shares(6))
    assert hear(state, a_read(late, through_s=T0_S)) == []
    (gap,) = gaps(hear(state, a_read(late, through_s=T0_S + 1)))
    assert (gap.feed, gap.state) == ("polls", "gap")


def test_a_baseline_s_rows_in_another_cut_are_inside_it() -> None:
    state = State()
    hear(state, baseline(a_trade(size=shares(4)), a_trade(size=shares(6)), an_action("MERGE")))
    assert hear(state, a_block(a_trade(size=shares(10)))) == []
    assert hear(state, a_read(an_action("MERGE"))) == []


def test_a_baseline_that_named_no_fills_is_still_read() -> None:
    state = a_state(a_trade())
    assert hear(state, a_read(a_trade())) == []
    assert told(hear(state, a_block(a_trade(), a_trade()))) == [("chain", 1)]


def test_a_fact_heard_again_changes_nothing() -> None:
    state = a_state()
    facts = hear(state, a_read(a_trade(), a_trade()))
    before = encode_state(state)
    for fact in facts:
        core.evolve(state, fact)
    assert encode_state(state) == before


def test_fills_stay_counted_whoever_said_more_of_them_in_an_older_log() -> None:
    state = a_state()
    hear(state, a_read(a_trade(size=shares(4))))
    (streamed,) = hear(a_state(), frame(a_trade(size=shares(6))))
    core.evolve(state, streamed)
    assert hear(state, frame(a_trade(size=shares(5)))) == []
    assert hear(state, a_block(a_trade(size=shares(10)))) == []


# --- baseline ---------------------------------------------------------------------------------


def baseline(*rows: Activity) -> Baseline:
    return Baseline(
        leader=LEADER,
        holdings=((CONDITION, shares(60), shares(0)),),
        rows=rows,
        from_s=T0_S - 600,
        through_s=T0_S,
        seen_ns=SEEN_NS,
    )


def test_a_baseline_tells_holdings_and_the_rows_inside_them() -> None:
    row = a_trade(at_s=T0_S - 9)
    (fact,) = hear(State(), baseline(row, row))
    assert isinstance(fact, LeaderBaselineRead)
    assert fact.holdings == ((CONDITION, shares(60), shares(0)),)
    name = f"{core.row_key(row)}@{T0_S - 9}@{said.fills_key(row)}@{row.size}@{row.price}"
    assert fact.rows == (name,) * 2
    assert (fact.kept_s, fact.through_s, fact.ts_ns) == (T0_S - 600, T0_S, T0_NS)
    assert (fact.cause, fact.root) == ("", fact.id)


def test_rows_inside_the_baseline_are_not_said_again() -> None:
    state = State()
    hear(state, baseline(a_trade(), a_trade()))
    assert hear(state, frame(a_trade())) == []
    assert told(hear(state, a_read(a_trade(), a_trade(), a_trade()))) == [("rest", 2)]


def test_a_leader_has_one_baseline() -> None:
    state = State()
    hear(state, baseline())
    assert hear(state, baseline()) == []


def test_of_whom_we_have_no_baseline_nothing_is_said() -> None:
    assert hear(State(), frame(a_trade())) == []
    assert hear(State(), a_read(a_trade(), through_s=T0_S + 600)) == []
    assert hear(a_state(), frame(a_trade(leader=OTHER_LEADER))) == []


# --- what is remembered -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "facts"),
    [(T0_S - 601, 0), (T0_S - 600, 1), (T0_S, 1), (T0_S + 60, 1), (T0_S + 61, 0)],
)
def test_rows_forgotten_or_from_the_future_are_ignored(at_s: int, facts: int) -> None:
    assert len(hear(a_state(), frame(a_trade(at_s=at_s)))) == facts
    assert len(hear(a_state(), a_read(a_trade(at_s=at_s)))) == facts


def test_a_row_from_the_future_is_said_once_its_time_has_come() -> None:
    state, row = a_state(), a_trade(at_s=T0_S + 300)
    assert hear(state, frame(row), now_s=T0_S) == []
    assert told(hear(state, a_read(row), now_s=T0_S + 300)) == [("rest", 0)]


@pytest.mark.parametrize(("further_s", "facts"), [(0, 0), (59, 0), (60, 1), (61, 1)])
def test_the_cursor_moves_in_steps(further_s: int, facts: int) -> None:
    read = a_read(through_s=T0_S + further_s)
    assert len(hear(a_state(), read, now_s=T0_S + further_s)) == facts


def test_the_cursor_says_what_is_still_remembered() -> None:
    state = a_state(kept_s=T0_S - 30)
    (first,) = hear(state, a_read(through_s=T0_S + 60))
    assert isinstance(first, ActivityRead)
    assert (first.through_s, first.kept_s) == (T0_S + 60, T0_S - 30)  # never backwards
    (second,) = hear(state, a_read(through_s=T0_S + 200))
    assert isinstance(second, ActivityRead)
    assert (second.through_s, second.kept_s) == (T0_S + 200, T0_S + 80)
    assert (second.ts_ns, second.root) == (SEEN_NS, second.id)
    assert second.id != first.id


def test_the_cursor_comes_after_the_rows_of_its_read() -> None:
    facts = hear(a_state(), a_read(a_trade(), through_s=T0_S + 60), now_s=T0_S + 60)
    assert [type(fact) for fact in facts] == [LeaderFilled, ActivityRead]


def test_a_read_begins_before_the_cursor_but_not_before_what_is_remembered() -> None:
    assert core.read_from_s(a_state().leaders[LEADER], POLICY) == T0_S - 120
    assert core.read_from_s(a_state(kept_s=T0_S - 30).leaders[LEADER], POLICY) == T0_S - 30


def test_a_forgotten_row_never_counts_again() -> None:
    state, row = a_state(), a_trade()
    hear(state, frame(row))
    assert gaps(hear(state, a_block(a_trade(size=shares(99)))))
    hear(state, a_read(through_s=T0_S + 400), now_s=T0_S + 400)
    known = state.leaders[LEADER]
    assert (known.seen, known.fills, known.gaps) == ({}, {}, {})
    assert hear(state, frame(row), now_s=T0_S + 400) == []
    assert hear(state, a_read(row, through_s=T0_S + 401), now_s=T0_S + 401) == []


@pytest.mark.parametrize("apart_s", range(-10, 11))
def test_a_row_stamped_apart_by_the_stream_is_still_one(apart_s: int) -> None:
    streamed = a_trade(at_s=T0_S + apart_s)
    for first, then in ((a_trade(), streamed), (streamed, a_trade())):
        for through_s in range(T0_S + 100, T0_S + 140, 3):
            state = a_state()
            counted = len(hear(state, a_read(first)))
            hear(state, a_read(through_s=through_s), now_s=through_s)
            counted += len(hear(state, a_read(then, through_s=through_s), now_s=through_s))
            assert counted == 1


def test_pruning_one_leader_leaves_the_other() -> None:
    state = a_state()
    core.evolve(state, a_baseline(leader=OTHER_LEADER))
    hear(state, frame(a_trade(leader=OTHER_LEADER)))
    hear(state, a_read(through_s=T0_S + 400), now_s=T0_S + 400)
    assert len(state.leaders[OTHER_LEADER].seen) == 1


# --- the rest ---------------------------------------------------------------------------------


def test_a_feed_s_change_is_told_and_changes_nothing() -> None:
    change = FeedChanged(
        id="f", cause="", root="f", ts_ns=T0_NS, feed="activity", state="silent", duration_ms=9
    )
    state = a_state()
    before = encode_state(state)
    assert hear(state, Feed(change=change)) == [change]
    assert encode_state(state) == before


@pytest.mark.parametrize("message", [None, "row", a_trade(), a_count()])
def test_what_it_does_not_know_it_does_not_judge(message: object) -> None:
    assert hear(a_state(), message) == []


def test_a_foreign_fact_is_refused() -> None:
    with pytest.raises(AssertionError, match="not a fact of the ingester"):
        core.evolve(a_state(), a_count())


def test_a_state_survives_its_snapshot() -> None:
    state = a_state(a_trade())
    hear(state, a_read(a_trade(), a_trade(number=1)))
    assert msgspec.json.decode(encode_state(state), type=State) == state


def test_states_share_nothing() -> None:
    one, two = a_state(), a_state()
    hear(one, frame(a_trade()))
    assert two.leaders[LEADER].seen == {}
    assert State().leaders == {}
