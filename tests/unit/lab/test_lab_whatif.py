"""Under the same settings a record repeats itself; other settings change what they are about."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from services.lab.whatif import Record, record, replayed
from services.risk.policy import Policy, Sizing
from services.risk.state import State, View
from shared.domain.messages import Fact, HoldingChanged, IntentFormed, OrderApproved
from shared.domain.units import Bps, Shares, Usd
from tests.support.risk_builders import (
    LEADER,
    NOW_NS,
    OTHER,
    account,
    book,
    cents,
    closed,
    fill,
    halt,
    intent,
    market,
    policy,
    review,
    seconds,
    shares,
    step,
    tokens,
    usd,
    view,
)

FIXED = policy(leaders={LEADER: Sizing(), OTHER: Sizing()})
LADDER = ((cents(50), shares(10)), (cents(51), shares(30)), (cents(55), shares(100)))


def seen(number: int, now_ns: int) -> View:
    """Return a market with a few levels a side, and money."""
    of = market(number)
    yes, no = tokens(number)
    books = (
        book(token=yes, condition=of.condition, asks=LADDER, bids=_down(49), seen_ns=now_ns),
        book(token=no, condition=of.condition, asks=_up(51), bids=_down(50), seen_ns=now_ns),
    )
    return view(of=of, now_ns=now_ns, books=books, account=account(as_of_ns=now_ns))


def _down(best: int) -> tuple[tuple[int, int], ...]:
    return tuple((cents(best - n), shares(20)) for n in range(3))


def _up(best: int) -> tuple[tuple[int, int], ...]:
    return tuple((cents(best + n), shares(20)) for n in range(3))


def lived(moves: Sequence[tuple[int, float, float]], rules: Policy = FIXED) -> list[Fact]:
    """Return the ledger of leaders' moves (market, before, after), each order filled as quoted."""
    state, ledger, now_ns = State(), list[Fact](), NOW_NS
    for at, (number, before, after) in enumerate(moves):
        now_ns += seconds(60)
        formed = intent(before, after, name=str(at), number=number, venue_ns=now_ns)
        ledger.append(formed)
        facts = step(state, review(formed, seen(number, now_ns)), now_ns, rules=rules)
        ledger += facts
        for order in [fact for fact in facts if isinstance(fact, OrderApproved)]:
            filled, average = order.quote.filled, order.quote.average
            assert average is not None
            ledger += step(
                state, fill(order, filled, at=average, trade=str(at)), now_ns, rules=rules
            )
            reason = "filled" if filled == order.size else "killed"
            ledger += step(state, closed(order, filled, reason), now_ns, rules=rules)
    return ledger


MOVES = [(1, 0, 100), (2, 0, -40), (1, 100, 50), (1, 50, 0), (2, -40, -80)]


def test_the_same_settings_repeat_what_is_on_record() -> None:
    ledger = lived(MOVES)
    of = record(ledger)
    outcome = replayed(of, FIXED)
    orders = [fact for fact in ledger if isinstance(fact, OrderApproved)]
    assert outcome.leaders[LEADER].orders == len(orders) > 3
    spent = sum(f.cost for f in ledger if isinstance(f, HoldingChanged) and f.cost > 0)
    assert outcome.leaders[LEADER].bought + outcome.leaders[LEADER].fees == spent
    assert (outcome.approximate, outcome.unseen) == (0, 0)
    assert {intent_: size > 0 for intent_, size in of.recorded.items()} == {
        intent_: bool(choice.bought or choice.sold) for intent_, choice in outcome.choices.items()
    }


def test_half_the_stake_buys_half_and_sells_half() -> None:
    of = record(lived([(1, 0, 100), (1, 100, 0)]))
    whole = replayed(of, FIXED).leaders[LEADER]
    half = policy(leaders={LEADER: Sizing(trade_usd=usd(5))})
    less = replayed(of, half).leaders[LEADER]
    # 10 dollars at 50 cents are 20 shares: 10 at 50 and 10 at 51 cents, rounded up to the cent.
    assert (whole.bought, less.bought) == (usd(10.10), usd(5))
    assert (whole.orders, less.orders) == (2, 2)
    assert less.sold < whole.sold
    assert less.held == whole.held == 0


def test_what_other_settings_refuse_is_counted_by_its_reason() -> None:
    of = record(lived([(1, 0, 100), (2, 0, -40)]))
    strict = policy(blocked_markets=frozenset({market(1).condition}), leaders={LEADER: Sizing()})
    outcome = replayed(of, strict)
    line = outcome.leaders[LEADER]
    assert line.refused == {"MARKET_BLOCKED": 1}
    assert (line.intents, line.orders) == (2, 1)
    first = next(fact for fact in of.events if isinstance(fact, IntentFormed))
    assert outcome.choices[first.id].reason == "MARKET_BLOCKED"


def test_an_exit_of_what_was_never_held_is_judged_on_the_book_of_its_moment() -> None:
    """On record the entry was sized to nothing, so nothing was ordered either time."""
    broke = policy(leaders={LEADER: Sizing()}, trade_usd_max=Usd(0))
    of = record(lived([(1, 0, 100), (1, 100, 0)], broke))
    outcome = replayed(of, FIXED)
    assert (outcome.approximate, outcome.unseen) == (0, 0)
    # 20 shares bought at 50 and 51 cents, and sold at 49.
    line = outcome.leaders[LEADER]
    assert (line.bought, line.sold, line.realised) == (usd(10.10), usd(9.80), -usd(0.30))


def test_an_intent_without_a_book_is_judged_on_the_last_one_and_said_to_be() -> None:
    blind = intent(100, 0, name="blind", venue_ns=NOW_NS + seconds(120))
    outcome = replayed(record([*lived([(1, 0, 100)]), blind]), FIXED)
    assert outcome.approximate == 1
    assert outcome.leaders[LEADER].sold > 0


def test_an_intent_in_a_market_nobody_saw_is_left_out() -> None:
    ledger: list[Fact] = [intent(0, 100)]
    outcome = replayed(record(ledger), FIXED)
    assert (outcome.unseen, outcome.leaders[LEADER].orders) == (1, 0)


def test_commands_are_obeyed_again() -> None:
    ledger = lived([(1, 0, 100)])
    outcome = replayed(record([halt(), *ledger]), FIXED)
    assert outcome.leaders[LEADER].orders == 0
    assert outcome.leaders[LEADER].refused == {"REGIME_HALTED": 1}


def test_the_total_is_the_sum_of_the_leaders() -> None:
    ledger = lived([(1, 0, 100)])
    of = record(ledger)
    other = Record(
        events=[*of.events, intent(0, 50, leader=OTHER, name="o", venue_ns=NOW_NS + seconds(60))],
        seen=of.seen,
        recorded=of.recorded,
    )
    outcome = replayed(other, FIXED)
    whole = outcome.total()
    assert whole.intents == 2
    assert whole.bought == sum(line.bought for line in outcome.leaders.values())


moves = st.lists(
    st.tuples(st.integers(1, 2), st.integers(-100, 100), st.integers(-100, 100)), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(moves, st.integers(1, 10))
def test_a_smaller_stake_never_buys_more(steps: list[tuple[int, int, int]], dollars: int) -> None:
    continuous: list[tuple[int, float, float]] = []
    at = {1: 0, 2: 0}
    for number, _, after in steps:
        continuous.append((number, at[number], after))
        at[number] = after
    of = record(lived(continuous))
    small = policy(leaders={LEADER: Sizing(trade_usd=usd(dollars))})
    less, whole = replayed(of, small), replayed(of, FIXED)
    assert less.total().bought <= whole.total().bought + usd(0.01) * max(1, len(steps))


def test_a_proportional_copy_scales_with_its_ratio() -> None:
    of = record(lived([(1, 0, 60)]))
    tenth = policy(leaders={LEADER: Sizing(mode="proportional", ratio_bps=Bps(1_000))})
    outcome = replayed(of, tenth)
    (choice,) = outcome.choices.values()
    assert choice.target == Shares(6_000_000)
