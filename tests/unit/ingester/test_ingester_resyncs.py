"""Resyncs stay within their budget, the longest waiting first, many of them in one request."""

from hypothesis import given
from hypothesis import strategies as st

from services.ingester.resyncs import Budget, Resyncs
from shared.domain.ids import TokenId
from shared.polymarket.public import BOOKS_MAX

S = 10**9
MS = 10**6


def token(number: int) -> TokenId:
    return TokenId(str(number))


def resyncs(*numbers: int, per_s: int = 20, burst: int = 40) -> Resyncs:
    queue = Resyncs(Budget(per_s, burst, now_ns=0))
    for number in numbers:
        queue.ask(token(number))
    return queue


@given(
    st.integers(1, 50),
    st.integers(1, 100),
    st.lists(st.integers(0, 3 * S), min_size=1, max_size=300),
)
def test_no_more_is_spent_than_the_burst_and_the_rate(
    per_s: int, burst: int, gaps_ns: list[int]
) -> None:
    budget, now_ns, spent = Budget(per_s, burst, now_ns=0), 0, list[int]()
    for gap_ns in gaps_ns:
        now_ns += gap_ns // 50
        if budget.spend(now_ns=now_ns) is not None:
            spent.append(now_ns)
    for at, since_ns in enumerate(spent):
        taken = sum(1 for later_ns in spent[at:] if later_ns <= since_ns + S)
        assert taken <= burst + per_s


def test_a_request_waits_for_its_turn_or_is_none() -> None:
    budget = Budget(10, 2, now_ns=0)
    assert [budget.spend(now_ns=0) for _ in range(3)] == [0, 0, None]
    patience_ns = 250 * MS
    waits = [budget.spend(now_ns=0, patience_ns=patience_ns) for _ in range(4)]
    assert waits == [100 * MS, 200 * MS, None, None]
    assert budget.wait_ns(now_ns=S) == 0
    assert budget.wait_ns(now_ns=0) == 0  # a clock that was set back earns nothing
    assert [budget.spend(now_ns=S) for _ in range(3)] == [0, 0, None]


def test_few_are_read_alone_and_many_together_the_longest_waiting_first() -> None:
    few = resyncs(3, 1)
    assert [few.take(now_ns=0) for _ in range(3)] == [[token(3)], [token(1)], ()]
    many = resyncs(*range(1, 251))
    sizes = [many.take(now_ns=0) for _ in range(4)]
    assert [len(tokens) for tokens in sizes] == [BOOKS_MAX, BOOKS_MAX, 50, 0]
    assert [each for tokens in sizes for each in tokens] == [token(n) for n in range(1, 251)]


def test_what_is_asked_for_twice_is_read_once_and_again_only_after_its_answer() -> None:
    queue = resyncs(1, 1)
    assert len(queue) == 1
    assert queue.take(now_ns=0) == [token(1)]
    queue.ask(token(1))
    assert (queue.take(now_ns=0), queue.wait_ns(now_ns=0)) == ((), None)
    queue.done([token(1)])
    assert queue.take(now_ns=0) == [token(1)]


def test_one_that_a_batch_did_not_have_is_read_alone() -> None:
    queue = resyncs(1, 2, 3, 4)
    queue.ask(token(1), alone=True)
    assert queue.take(now_ns=0) == [token(1)]
    assert queue.take(now_ns=0) == [token(2), token(3), token(4)]


def test_an_empty_budget_says_how_long_to_wait_and_who_is_gone_waits_no_more() -> None:
    queue = resyncs(1, 2, per_s=10, burst=1)
    assert queue.take(now_ns=0) == [token(1)]
    assert (queue.take(now_ns=0), queue.wait_ns(now_ns=0)) == ((), 100 * MS)
    queue.forget(token(2))
    assert queue.wait_ns(now_ns=0) is None
