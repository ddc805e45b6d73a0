"""Whoever shows it, first or again, whole or in part: what a leader did is said exactly once."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingester import core
from services.ingester.core import Baseline, ChainRows, Policy, RestRows, State, StreamRow
from shared.domain.ids import Wallet
from shared.domain.messages import ActivityRead, Fact, FeedChanged, LeaderActed, LeaderFilled
from shared.domain.observations import Activity
from shared.domain.units import MICRO, NS_PER_S, Price, Shares
from shared.runtime.runner import encode_state
from tests.support.builders import LEADER, OTHER_LEADER, T0_S, a_trade, an_action

POLICY = Policy(overlap_s=120)
LEADERS = (LEADER, OTHER_LEADER)
HISTORY_S = 300  # the world is this old when we begin to follow
END_S = 2_000
MERGES = 5  # the variant; the others are trades of three sizes, two of them at two prices
PRICES = (Price(400_000), Price(600_000))

law = settings(max_examples=150, deadline=None)


class Live(msgspec.Struct):
    """A core that runs: its state, and all it has said."""

    state: State = msgspec.field(default_factory=State)
    said: list[Fact] = []

    def hear(self, message: object, now_s: int) -> list[Fact]:
        before = encode_state(self.state)
        facts = core.decide(POLICY, self.state, message, now_s * NS_PER_S)
        assert encode_state(self.state) == before, "decide changed the state"
        for fact in facts:
            core.evolve(self.state, fact)
        self.said += facts
        return facts

    def restart(self) -> None:
        """Come back with what the ledger holds, which is all that was known."""
        folded = State()
        for fact in self.said:
            core.evolve(folded, fact)
        assert encode_state(folded) == encode_state(self.state)
        self.state = folded


class Transaction(msgspec.Struct, frozen=True):
    """What one leader did in one block; equal variants are identical rows."""

    leader: int
    at_s: int
    index_delay_s: int  # REST shows it this much later
    variants: tuple[int, ...]


class Step(msgspec.Struct, frozen=True):
    after_s: int
    source: Literal["stream", "rest", "chain", "restart"]
    pick: int  # which row or leader, or where the blocks begin
    apart_s: int  # the stream's stamp may differ from the block's


transactions = st.builds(
    Transaction,
    leader=st.integers(0, 1),
    at_s=st.integers(0, END_S - 400),
    index_delay_s=st.integers(0, POLICY.overlap_s),
    variants=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
)
steps = st.lists(
    st.builds(
        Step,
        after_s=st.integers(0, 90),
        source=st.sampled_from(("stream", "stream", "stream", "rest", "chain", "chain", "restart")),
        pick=st.integers(0, 1_000),
        apart_s=st.integers(-5, 5),
    ),
    max_size=40,
)
pairs = transactions.map(lambda each: msgspec.structs.replace(each, variants=(0, 1)))
worlds = st.lists(transactions, min_size=1, max_size=8)


def rows_of(number: int, transaction: Transaction) -> list[Activity]:
    leader, at_s = LEADERS[transaction.leader], T0_S + transaction.at_s
    return [
        an_action("MERGE", leader=leader, number=number, at_s=at_s)
        if variant == MERGES
        else a_trade(
            leader=leader,
            size=Shares((variant // 2 + 1) * MICRO),
            price=PRICES[variant % 2],
            number=number,
            at_s=at_s,
        )
        for variant in transaction.variants
    ]


def shown(world: list[Transaction], leader: Wallet, from_s: int, now_s: int) -> list[Activity]:
    """Return what REST answers now: the leader's indexed rows from a time on, oldest first."""
    found = [
        row
        for number, transaction in enumerate(world)
        if T0_S + transaction.at_s + transaction.index_delay_s <= now_s
        for row in rows_of(number, transaction)
        if row.wallet == leader and row.venue_ns >= from_s * NS_PER_S
    ]
    return sorted(found, key=lambda row: row.venue_ns)


def begin(live: Live, world: list[Transaction]) -> Counter[tuple[Wallet, str]]:
    """Begin to follow both leaders; return the rows their holdings already contain."""
    now_s, inside = T0_S + HISTORY_S, Counter[tuple[Wallet, str]]()
    for leader in LEADERS:
        rows = shown(world, leader, T0_S - 60, now_s)
        inside.update((leader, core.row_key(row)) for row in rows)
        live.hear(
            Baseline(
                leader=leader,
                holdings=(),
                rows=tuple(rows),
                from_s=T0_S - 60,
                through_s=now_s,
                seen_ns=now_s * NS_PER_S,
            ),
            now_s,
        )
    return inside


def read(live: Live, world: list[Transaction], leader: Wallet, now_s: int) -> list[Fact]:
    rows = shown(world, leader, core.read_from_s(live.state.leaders[leader], POLICY), now_s)
    message = RestRows(leader=leader, rows=tuple(rows), through_s=now_s, seen_ns=now_s * NS_PER_S)
    return live.hear(message, now_s)


def stream(live: Live, world: list[Transaction], step: Step, now_s: int) -> list[Fact]:
    """Push any row that happened: an old one, one pushed before, one that REST already showed."""
    happened = [
        row
        for number, transaction in enumerate(world)
        if HISTORY_S <= transaction.at_s <= now_s - T0_S
        for row in rows_of(number, transaction)
    ]
    if not happened:
        return []
    row = happened[step.pick % len(happened)]
    stamped = msgspec.structs.replace(
        row,
        venue_ns=row.venue_ns + step.apart_s * NS_PER_S,
        price=None if row.price is None else Price(row.price + step.apart_s),
    )
    return live.hear(StreamRow(row=stamped, seen_ns=now_s * NS_PER_S), now_s)


def mined(
    live: Live, world: list[Transaction], from_s: int, now_s: int, *, turned: int = 0
) -> list[Fact]:
    """Show whole transactions since a time, newest or oldest first, their logs turned about."""
    rows: list[Activity] = []
    for number, transaction in enumerate(world):
        if from_s <= T0_S + transaction.at_s <= now_s:
            logs = [row for row in rows_of(number, transaction) if row.action == "TRADE"]
            at = turned % max(1, len(logs))
            rows += logs[at:] + logs[:at]
    rows.sort(key=lambda row: row.venue_ns, reverse=turned % 2 == 1)
    return live.hear(ChainRows(rows=tuple(rows), blocks=(1, 2), seen_ns=now_s * NS_PER_S), now_s)


def take(live: Live, world: list[Transaction], step: Step, now_s: int) -> None:
    match step.source:
        case "rest":
            read(live, world, LEADERS[step.pick % 2], now_s)
        case "chain":
            from_s = T0_S + step.pick * END_S // 1_000
            mined(live, world, from_s, now_s, turned=step.apart_s)
        case "restart":
            live.restart()
        case _:
            stream(live, world, step, now_s)


def run(
    world: list[Transaction], told: list[Step], last: str = "rest"
) -> tuple[Live, set[tuple[Wallet, str, int]]]:
    """Run until one source has shown everything; return the core and what it had to say."""
    live, now_s = Live(), T0_S + HISTORY_S
    inside = begin(live, world)
    for step in told:
        now_s = min(now_s + step.after_s, T0_S + END_S)
        take(live, world, step, now_s)
    if last == "chain":
        mined(live, world, T0_S, T0_S + END_S)
    else:
        for leader in LEADERS:
            read(live, world, leader, T0_S + END_S)
    happened = Counter(
        (row.wallet, core.row_key(row))
        for number, transaction in enumerate(world)
        for row in rows_of(number, transaction)
    )
    due = {
        (*name, ordinal)
        for name, count in happened.items()
        for ordinal in range(inside[name], count)
    }
    return live, due


@law
@given(worlds, steps)
def test_each_row_and_ordinal_is_said_exactly_once(
    world: list[Transaction], told: list[Step]
) -> None:
    live, due = run(world, told)
    said = Counter(
        (fact.leader, fact.row, fact.ordinal)
        for fact in live.said
        if isinstance(fact, LeaderFilled | LeaderActed)
    )
    assert set(said) == due
    assert set(said.values()) <= {1}
    assert len({fact.id for fact in live.said}) == len(live.said)
    assert not any(isinstance(fact, FeedChanged) for fact in live.said), "they contradict nothing"


@law
@given(st.lists(pairs, min_size=1, max_size=3), steps)
def test_equal_fills_at_two_prices_are_said_at_both(
    world: list[Transaction], told: list[Step]
) -> None:
    """Each source shows prices with digits of its own: what is said is close to what happened."""
    live, _ = run(world, told)
    before = Live()
    begin(before, world)
    inside = Counter(
        (key, round(price, -3))
        for leader in before.state.leaders.values()
        for key, seen in leader.seen.items()
        for price in seen.prices
    )
    happened = Counter(
        (core.row_key(row), row.price)
        for number, transaction in enumerate(world)
        for row in rows_of(number, transaction)
        if row.action == "TRADE"
    )
    said = Counter(
        (fact.row, round(fact.price, -3)) for fact in live.said if isinstance(fact, LeaderFilled)
    )
    assert said + inside == happened


@law
@given(worlds, steps)
def test_the_chain_alone_completes_the_fills(world: list[Transaction], told: list[Step]) -> None:
    live, due = run(world, told, last="chain")
    trades = {
        core.row_key(row)
        for number, transaction in enumerate(world)
        for row in rows_of(number, transaction)
        if row.action == "TRADE"
    }
    said = [
        (fact.leader, fact.row, fact.ordinal)
        for fact in live.said
        if isinstance(fact, LeaderFilled)
    ]
    assert len(said) == len(set(said))
    assert set(said) == {each for each in due if each[1] in trades}


@law
@given(worlds, steps)
def test_the_state_is_the_fold_of_what_was_said(world: list[Transaction], told: list[Step]) -> None:
    live, _ = run(world, told)
    folded = State()
    for fact in live.said:
        core.evolve(folded, fact)
    assert encode_state(folded) == encode_state(live.state)


@law
@given(worlds, steps)
def test_cursors_only_advance_and_reading_again_says_nothing(
    world: list[Transaction], told: list[Step]
) -> None:
    live, _ = run(world, told)
    for leader in LEADERS:
        reads = [f for f in live.said if isinstance(f, ActivityRead) and f.leader == leader]
        assert [f.through_s for f in reads] == sorted({f.through_s for f in reads})
        assert [f.kept_s for f in reads] == sorted(f.kept_s for f in reads)
        assert read(live, world, leader, T0_S + END_S) == []


# --- sources that cut the same fills differently ------------------------------------------------

Cut = tuple[int, ...]  # the sizes of the rows that one transaction's buys are shown in
FULL_SIZE = 12


def cut(total: int, at: Sequence[int]) -> Cut:
    """Return the parts of a total, cut at these places."""
    edges = sorted({0, total, *(place % total for place in at)})
    return tuple(end - start for start, end in pairwise(edges))


cuts = st.lists(st.integers(1, FULL_SIZE - 1), max_size=3).map(lambda at: cut(FULL_SIZE, at))


class Show(msgspec.Struct, frozen=True):
    source: Literal["stream", "rest", "chain", "restart"]
    pick: int  # which of the stream's rows
    missing: int  # rows that the index does not have yet


shows = st.lists(
    st.builds(
        Show,
        source=st.sampled_from(("stream", "stream", "rest", "chain", "restart")),
        pick=st.integers(0, 5),
        missing=st.integers(0, 3),
    ),
    max_size=12,
)


def show(live: Live, source: str, sizes: Cut, *, through_s: int = T0_S) -> list[Fact]:
    rows = tuple(a_trade(size=Shares(size * MICRO)) for size in sizes)
    seen_ns = T0_S * NS_PER_S
    match source:
        case "rest":
            read = RestRows(leader=LEADER, rows=rows, through_s=through_s, seen_ns=seen_ns)
            return live.hear(read, T0_S)
        case "chain":
            return live.hear(ChainRows(rows=rows, blocks=(1, 1), seen_ns=seen_ns), T0_S)
        case _:
            return [
                fact
                for row in rows
                for fact in live.hear(StreamRow(row=row, seen_ns=seen_ns), T0_S)
            ]


def begin_at(live: Live) -> None:
    start_s = T0_S - 600
    live.hear(
        Baseline(
            leader=LEADER,
            holdings=(),
            rows=(),
            from_s=start_s,
            through_s=start_s,
            seen_ns=start_s * NS_PER_S,
        ),
        start_s,
    )


def said_size(live: Live) -> int:
    return sum(f.size for f in live.said if isinstance(f, LeaderFilled)) // MICRO


@law
@given(st.fixed_dictionaries({"stream": cuts, "rest": cuts, "chain": cuts}), shows)
def test_fills_cut_otherwise_are_never_counted_twice(
    shapes: dict[str, Cut], told: list[Show]
) -> None:
    """The sum never exceeds the truth; it is reached once the first source that spoke has spoken,
    or is told as a gap.
    """
    live = Live()
    begin_at(live)
    for each in told:
        if each.source == "restart":
            live.restart()
            continue
        sizes = shapes[each.source]
        if each.source == "stream":
            sizes = (sizes[each.pick % len(sizes)],)
        elif each.source == "rest":
            sizes = sizes[: max(1, len(sizes) - each.missing)]
        show(live, each.source, sizes)
        assert said_size(live) <= FULL_SIZE
    for source in ("chain", "rest"):
        show(live, source, shapes[source], through_s=T0_S + 1)
    assert said_size(live) <= FULL_SIZE
    gaps = [fact for fact in live.said if isinstance(fact, FeedChanged)]
    assert said_size(live) == FULL_SIZE or gaps, "what is missing is told"
    before = len(live.said)
    for source in ("chain", "rest"):
        show(live, source, shapes[source], through_s=T0_S + 1)
    assert len(live.said) == before, "and told once"
    live.restart()


@law
@given(st.fixed_dictionaries({"rest": cuts, "chain": cuts}), st.lists(st.booleans(), min_size=1))
def test_the_first_complete_read_says_all(shapes: dict[str, Cut], told: list[bool]) -> None:
    live = Live()
    begin_at(live)
    for by_chain in told:
        source = "chain" if by_chain else "rest"
        show(live, source, shapes[source], through_s=T0_S + 1)
        assert said_size(live) == FULL_SIZE
    assert not any(isinstance(fact, FeedChanged) for fact in live.said)
    for size in (*shapes["rest"], 5, FULL_SIZE):
        assert show(live, "stream", (size,)) == [], "the stream adds nothing to what was counted"


@law
@given(st.fixed_dictionaries({"stream": cuts, "rest": cuts, "chain": cuts}), shows)
def test_a_read_that_was_interrupted_is_decided_to_its_end(
    shapes: dict[str, Cut], told: list[Show]
) -> None:
    """Whatever part of its facts was recorded, the same read again gives exactly the others."""
    live = Live()
    begin_at(live)
    for each in told:
        if each.source == "stream":
            show(live, "stream", (shapes["stream"][each.pick % len(shapes["stream"])],))
    for source in ("chain", "rest"):
        rows = tuple(a_trade(size=Shares(size * MICRO)) for size in shapes[source] * 2)
        seen_ns = T0_S * NS_PER_S
        message: object = ChainRows(rows=rows, blocks=(1, 1), seen_ns=seen_ns)
        if source == "rest":
            message = RestRows(leader=LEADER, rows=rows, through_s=T0_S + 1, seen_ns=seen_ns)
        facts = core.decide(POLICY, live.state, message, seen_ns)
        for count in range(len(facts) + 1):
            state = msgspec.json.decode(encode_state(live.state), type=State)
            for fact in facts[:count]:
                core.evolve(state, fact)
            assert core.decide(POLICY, state, message, seen_ns) == facts[count:]
        live.hear(message, T0_S)
