"""How orders trade, when one that rests is withdrawn, and how a large exit is cut into slices."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.risk.core import evolve
from services.risk.policy import Policy
from services.risk.state import State
from services.risk.working import SLICE
from shared.domain.messages import (
    ApprovalWithdrawn,
    Fact,
    OrderApproved,
    OrderRefused,
    TargetExpired,
)
from shared.domain.units import Bps
from tests.support.risk_builders import (
    LEADER,
    NOW_NS,
    OTHER,
    approval_in,
    book,
    closed,
    fill,
    halt,
    held,
    holding,
    intent,
    market,
    policy,
    reconsider,
    reduce_only,
    review,
    seconds,
    shares,
    step,
    view,
)

REST_S = 20


def resting(**changes: Any) -> Policy:
    """Rest for twenty seconds, entries and exits."""
    how: dict[str, Any] = {"entry_order": "post_only", "exit_order": "post_only"}
    return policy(**{**how, "rest_ns": seconds(REST_S), "reprice_ticks": 2, **changes})


def enter(state: State, rules: Policy, after: float = 20) -> OrderApproved:
    return approval_in(step(state, review(intent(0, after)), rules=rules))


def later(state: State, after_s: float, rules: Policy, **changes: Any) -> list[Fact]:
    now_ns = NOW_NS + seconds(after_s)
    return step(state, reconsider(state, now_ns, seen=view(now_ns=now_ns, **changes), rules=rules),
                now_ns, rules=rules)  # fmt: skip


# --- how they trade ---------------------------------------------------------------------------


def test_orders_take_what_is_there_unless_told_otherwise() -> None:
    order = enter(State(), policy())
    assert (order.policy, order.reprice_ticks, order.next_ns) == ("fill_and_kill", 0, 0)
    assert order.quote.average is not None
    whole = enter(State(), policy(entry_order="fill_or_kill"))
    assert whole.policy == "fill_or_kill"


def test_entries_and_exits_are_told_apart() -> None:
    rules = resting(exit_order="fill_and_kill")
    assert enter(State(), rules).policy == "post_only"
    state = holding(20)
    out = approval_in(step(state, review(intent(100, 0, name="out")), rules=rules))
    assert (out.side, out.policy) == ("SELL", "fill_and_kill")


def test_a_resting_order_is_held_to_no_walk_of_the_book_and_ends_with_its_rest() -> None:
    order = enter(State(), resting())
    assert (order.policy, order.reprice_ticks) == ("post_only", 2)
    assert order.expires_ns == NOW_NS + seconds(REST_S)
    assert (order.quote.average, order.quote.filled) == (None, 0)


def test_it_is_put_up_again_where_the_book_went_but_never_beyond_its_time() -> None:
    state, rules = State(), resting()
    first = enter(state, rules)
    step(state, closed(first, shares(0), "repriced"), rules=rules)
    again = approval_in(later(state, 5, rules))
    assert again.policy == "post_only"
    assert again.expires_ns == first.expires_ns, "the rest of the time, not another twenty seconds"


@pytest.mark.parametrize("filled", [0, 8])
def test_an_entry_that_has_rested_is_dropped_or_taken(filled: float) -> None:
    for takes in (True, False):
        state, rules = State(), resting(takes_after_rest=takes)
        first = enter(state, rules)
        if filled:
            step(state, fill(first, shares(filled)), rules=rules)
        step(state, closed(first, shares(filled), "rest_over"), rules=rules)
        facts = later(state, REST_S + 1, rules)
        if takes:
            order = approval_in(facts)
            assert (order.policy, order.size) == ("fill_and_kill", first.size - shares(filled))
        else:
            (end,) = [fact for fact in facts if isinstance(fact, TargetExpired)]
            assert end.held == shares(filled)
            assert later(state, REST_S + 2, rules) == []


def test_an_exit_that_has_rested_is_always_taken() -> None:
    state, rules = holding(20), resting(takes_after_rest=False)
    out = approval_in(step(state, review(intent(100, 0, name="out")), rules=rules))
    assert out.policy == "post_only"
    step(state, closed(out, shares(0), "rest_over"), rules=rules)
    order = approval_in(later(state, REST_S + 1, rules))
    assert (order.side, order.policy, order.size) == ("SELL", "fill_and_kill", shares(20))


def test_being_called_off_is_no_failure_and_no_alarm() -> None:
    state, rules = State(), resting()
    for reason in ("repriced", "withdrawn", "crossed: post_only_crosses"):
        order = approval_in(later(state, 1, rules)) if state.targets else enter(state, rules)
        step(state, closed(order, shares(0), reason), rules=rules)
        assert state.rejects == []
        if reason != "crossed: post_only_crosses":
            (target,) = state.targets.values()
            assert (target.failures, target.retry_ns) == (0, NOW_NS)


# --- when they are withdrawn -------------------------------------------------------------------


def withdrawn(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(f.approval, f.reason) for f in facts if isinstance(f, ApprovalWithdrawn)]


def test_a_leader_who_gives_up_what_still_rests_has_it_withdrawn_once() -> None:
    state, rules = State(), resting()
    order = enter(state, rules)
    step(state, review(intent(20, 0, name="out", venue_ns=NOW_NS + 1)), rules=rules)
    assert withdrawn(later(state, 1, rules)) == [(order.id, "target_changed")]
    assert withdrawn(later(state, 2, rules)) == []
    step(state, closed(order, shares(0), "withdrawn"), rules=rules)
    assert later(state, 3, rules) == []
    assert held(state) == (0, 0)


def test_a_leader_who_adds_to_it_lets_it_rest() -> None:
    state, rules = State(), resting()
    enter(state, rules, after=10)
    step(state, review(intent(10, 25, name="more", venue_ns=NOW_NS + 1)), rules=rules)
    assert withdrawn(later(state, 1, rules)) == []


def test_another_leader_in_the_market_is_not_held_up() -> None:
    state, rules = State(), resting()
    order = enter(state, rules)
    step(state, review(intent(0, 20, name="other", leader=OTHER)), rules=rules)
    assert withdrawn(later(state, 1, rules)) == [(order.id, "other_leader")]


@pytest.mark.parametrize(
    ("command", "entry", "out"),
    [(halt(), "halted", "halted"), (reduce_only(), "reduce_only", "")],
)
def test_whoever_stops_trading_has_it_withdrawn(command: Any, entry: str, out: str) -> None:
    rules = resting()
    state = State()
    order = enter(state, rules)
    step(state, command, rules=rules)
    assert withdrawn(later(state, 1, rules)) == [(order.id, entry)]
    state = holding(20)
    order = approval_in(step(state, review(intent(100, 0, name="out")), rules=rules))
    step(state, command, rules=rules)
    assert withdrawn(later(state, 1, rules)) == ([(order.id, out)] if out else [])


def test_what_takes_at_once_is_never_withdrawn() -> None:
    state = State()
    enter(state, policy())
    step(state, halt())
    assert withdrawn(later(state, 1, policy())) == []


# --- slices -----------------------------------------------------------------------------------


def slicing(share_bps: int = 2_500) -> Policy:
    return policy(exit_depth_bps=Bps(share_bps), exit_slice_ns=seconds(10))


def thin(size: float) -> dict[str, Any]:
    return fresh(size, 0)


def leave(state: State, rules: Policy, depth: float, fraction: float = 0) -> OrderApproved:
    told = review(intent(100, 100 * fraction, name="out"), view(**thin(depth)))
    return approval_in(step(state, told, rules=rules))


def sell(state: State, order: OrderApproved, rules: Policy) -> None:
    step(state, fill(order, order.size, trade=order.id), rules=rules)
    step(state, closed(order, order.size), rules=rules)


def test_an_exit_takes_its_share_of_a_thin_book_and_the_next_comes_later() -> None:
    state, rules = holding(60), slicing()
    first = leave(state, rules, depth=80)
    assert (first.size, first.next_ns) == (shares(20), NOW_NS + seconds(10))
    assert [v.reason for v in first.verdicts if v.outcome == "trim"] == [SLICE]
    sell(state, first, rules)
    assert later(state, 9, rules, **fresh(80, 9)) == []
    second = approval_in(later(state, 10, rules, **fresh(80, 10)))
    assert second.size == shares(20)


def fresh(depth: float, after_s: float) -> dict[str, Any]:
    seen_ns = NOW_NS + seconds(after_s)
    yes = book(bid=49, ask=50, size=depth, seen_ns=seen_ns)
    return {"books": (yes, book(bid=50, ask=51, token=market().tokens[1], seen_ns=seen_ns))}


def test_an_exit_that_the_book_bears_goes_whole() -> None:
    order = leave(holding(20), slicing(), depth=80)
    assert (order.size, order.next_ns) == (shares(20), 0)


def test_without_the_setting_an_exit_takes_all_there_is() -> None:
    order = leave(holding(60), policy(), depth=40)
    assert (order.size, order.next_ns) == (shares(40), 0)


@pytest.mark.parametrize(
    ("have", "depth", "sold"),
    [(12, 8, 5), (22, 80, 17), (8, 8, 8), (60, 4, 4)],
    ids=["no smaller than the venue takes", "what is left can be sold", "two would be too small",
         "never more than there is"],
)  # fmt: skip
def test_a_slice_is_no_dust_and_leaves_none(have: float, depth: float, sold: float) -> None:
    """The venue takes no order below five shares."""
    state = holding(have)
    told = review(intent(100, 0, name="out"), view(**thin(depth)))
    facts = step(state, told, rules=slicing())
    orders = [fact for fact in facts if isinstance(fact, OrderApproved)]
    if sold < 5:
        assert [f.reason for f in facts if isinstance(f, OrderRefused)] == ["BELOW_MINIMUM"]
    else:
        assert orders[0].size == shares(sold)


@given(have=st.integers(10, 400), depth=st.integers(8, 200), share=st.integers(100, 9_000))
def test_slices_add_up_to_the_exit_and_end_with_it(have: int, depth: int, share: int) -> None:
    state, rules = holding(have), slicing(share)
    sold, order, after_s = 0, leave(state, rules, depth), 0
    while True:
        assert shares(5) <= order.size <= shares(depth)
        sold += order.size
        assert sold <= shares(have)
        sell(state, order, rules)
        after_s += 10
        facts = later(state, after_s, rules, **fresh(depth, after_s))
        orders = [fact for fact in facts if isinstance(fact, OrderApproved)]
        if not orders:
            break
        (order,) = orders
    left = shares(have) - sold
    assert held(state) == (left, 0)
    assert left < shares(5), "what the venue takes no order for"
    assert left == 0 or depth < 10, "a book that holds two smallest orders leaves nothing"
    assert after_s <= 10 * (have // 5 + 1)


def test_the_states_of_these_tests_are_folds_of_facts() -> None:
    state, facts = State(), step(State(), review(intent(0, 20)), rules=resting())
    for fact in facts:
        evolve(state, fact)
    (target,) = state.targets.values()
    assert target.rest_until_ns == NOW_NS + seconds(REST_S)
    (order,) = state.reserved.values()
    assert (order.rests, order.opens, order.leader) == (True, True, LEADER)
