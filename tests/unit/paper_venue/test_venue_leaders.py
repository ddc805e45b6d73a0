"""Synthetic leaders: reproducible, within their limits, with the measured shape."""

from collections import Counter
from random import Random

import pytest

from services.paper_venue.core import Fill
from services.paper_venue.leaders import REACH, Leader, Sight, crowd
from services.paper_venue.tape import invented_condition
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares

T0 = 1_793_318_400 * NS_PER_S
CONDITION = invented_condition("one")
BOOKS = {CONDITION: Sight(CONDITION, Price(480_000), Price(500_000))}
KINDS = ("splitter", "flipper", "pair-builder")


def run(leader: Leader, seconds: int) -> list[tuple[int, Fill]]:
    """Let a leader trade with every order filled whole."""
    held: Counter[tuple[str, int]] = Counter()
    sent = []
    for step in range(seconds * 20):
        now_ns = T0 + step * 50 * NS_PER_MS
        for fill in leader.next_orders(
            now_ns, BOOKS, lambda who, condition, outcome: Shares(held[condition, outcome])
        ):
            held[fill.condition, fill.outcome] += fill.size * (1 if fill.side == "BUY" else -1)
            sent.append((now_ns, fill))
    assert min(held.values(), default=0) >= 0
    return sent


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_history(kind: str) -> None:
    first = run(Leader(kind, Random(3)), 300)  # type: ignore[arg-type]
    assert first
    assert first == run(Leader(kind, Random(3)), 300)  # type: ignore[arg-type]
    assert first != run(Leader(kind, Random(4)), 300)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_orders_are_priced_just_beyond_the_best_and_on_the_size_grid(kind: str) -> None:
    for _, fill in run(Leader(kind, Random(1)), 600):  # type: ignore[arg-type]
        best = {
            ("BUY", 0): 500_000 + REACH,
            ("SELL", 0): 480_000 - REACH,
            ("BUY", 1): MICRO - 480_000 + REACH,
            ("SELL", 1): MICRO - 500_000 - REACH,
        }
        assert fill.price == best[fill.side, fill.outcome]
        assert fill.size % 10_000 == 0
        assert fill.size > 0
        assert not fill.exact


def test_the_splitter_cuts_one_decision_into_many_fills_of_one_side() -> None:
    sent = run(Leader("splitter", Random(1)), 1_800)
    bursts = Counter()
    last_ns, burst = 0, 0
    for now_ns, _ in sent:
        if now_ns - last_ns > 5 * NS_PER_S:
            burst += 1
        bursts[burst] += 1
        last_ns = now_ns
    split = sum(count for count in bursts.values() if count > 1)
    assert split / len(sent) > 0.5  # measured: 65 % of fills within 5 s of another
    assert max(bursts.values()) <= 40


def test_the_flipper_comes_back_within_a_minute() -> None:
    sent = run(Leader("flipper", Random(1)), 1_800)
    buys = sum(fill.size for _, fill in sent if fill.side == "BUY")
    sells = sum(fill.size for _, fill in sent if fill.side == "SELL")
    assert sells > buys // 2


def test_the_pair_builder_buys_both_outcomes_in_step() -> None:
    sent = run(Leader("pair-builder", Random(1)), 1_800)
    bought = Counter()
    for _, fill in sent:
        assert fill.side == "BUY"
        bought[fill.outcome] += fill.size
    paired = 2 * min(bought.values()) / sum(bought.values())
    assert paired > 0.85  # measured: 92 % of shares paired within a minute
    per_second = Counter(now_ns // NS_PER_S for now_ns, _ in sent)
    shared = sum(count for count in per_second.values() if count > 1)
    assert shared / len(sent) > 0.7  # measured: 73 %


def test_without_a_usable_book_nobody_trades() -> None:
    thin = {CONDITION: Sight(CONDITION, Price(20_000), Price(950_000))}
    for leader in crowd(1):
        assert leader.next_orders(T0, {}, lambda *_: Shares(0)) == []
        assert leader.next_orders(T0 + 300 * NS_PER_S, thin, lambda *_: Shares(0)) == []


def test_the_crowd_is_labelled_synthetic() -> None:
    assert {leader.name for leader in crowd(1)} == {f"synthetic-{kind}" for kind in KINDS}
    assert len({leader.wallet for leader in crowd(1)}) == 3
