"""A hundred thousand messages a little off: garbage with a reason, or what the message says."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.fuzz import targets
from tests.fuzz.mutants import Mutator, fixtures

FIXTURES = fixtures()


def some(*names: str) -> list[bytes]:
    return [FIXTURES[name] for name in names]


MARKET = some(
    "book_event", "price_change", "price_change_removed", "tick_size_change", "last_trade_price",
    "best_bid_ask", "new_market", "market_resolved",
)  # fmt: skip
USER = some(
    "trade_taker", "trade_maker_legs", "order_placement", "order_killed", "order_invalid",
    "order_filled_called_canceled",
)  # fmt: skip
market_stream = partial(targets.market_stream, snapshot=FIXTURES["book_event"])

TARGETS: dict[str, tuple[Callable[[bytes], int], list[bytes], int]] = {
    "activity stream": (targets.activity_stream, some("rtds_trade"), 25_000),
    "activity page": (targets.activity_page, some("activity_page"), 15_000),
    "market stream": (market_stream, MARKET, 25_000),
    "book": (targets.rest_book, some("book"), 10_000),
    "user stream": (targets.user_stream, USER, 15_000),
    "everything else": (targets.account_body, sorted(FIXTURES.values()), 10_000),
}


def test_a_hundred_thousand_messages_are_tried() -> None:
    assert sum(count for _, _, count in TARGETS.values()) == 100_000


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_a_little_off_is_garbage_or_says_what_it_says(name: str) -> None:
    target, seeds, count = TARGETS[name]
    mutator = Mutator(seeds, seed=1)
    told = 0
    for number in range(count):
        message = mutator.next()
        try:
            told += target(message)
        except BaseException as e:
            e.add_note(f"message {number} of {name}: {message[:2_000]!r}")
            raise
    if name != "everything else":
        assert told > count // 20, "too few messages were understood for the check to mean much"
