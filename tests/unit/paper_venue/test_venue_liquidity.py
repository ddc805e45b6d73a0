"""The synthetic world: reproducible, with the measured shape, and never a book that cannot be."""

import math
from collections import Counter
from random import Random
from statistics import median, pstdev

import pytest

from services.paper_venue.config import VenueConfig
from services.paper_venue.core import (
    Fill,
    execute_fill,
    new_venue,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.habits import Liquidity
from services.paper_venue.liquidity import Ladder, Walk
from services.paper_venue.state import Refused, Venue
from services.paper_venue.world import STEP_S, Ended, Opened, World, sizes_of
from shared.domain.ids import Wallet
from shared.domain.market import SIZE_STEP, price_is_on_grid
from shared.domain.units import MICRO, NS_PER_S, Price, Shares

T0 = 1_793_318_400 * NS_PER_S
TERMS = Liquidity()
TICK = Price(10_000)


def config(**settings: object) -> VenueConfig:
    return VenueConfig(**{"markets": 8, "market_life_s": 120, **settings})  # type: ignore[arg-type]


class Play:
    """A world played on a venue in steps of a quarter of a second, with what happened."""

    def __init__(self, settings: VenueConfig) -> None:
        self.venue: Venue = new_venue(settings)
        self.world = World(settings)
        self.now_s = 0.0
        self.changes: list[tuple[float, Opened | Ended]] = []
        self.books: list[tuple[float, str, tuple, tuple]] = []
        self.sums: list[int] = []  # of the mids of neg-risk groups, at the end of each step

    def run(self, seconds: float) -> "Play":
        for _ in range(int(seconds / STEP_S)):
            self.step()
        return self

    def step(self) -> None:
        now_ns = T0 + int(self.now_s * NS_PER_S)
        venue = self.venue
        for change in self.world.advance(self.now_s):
            self.changes.append((self.now_s, change))
            if isinstance(change, Opened):
                open_market(venue, change.market, now_ns)
            else:
                resolve_market(venue, change.condition, change.payouts, now_ns)
        standing = {name: each for name, each in venue.listings.items() if each.payouts is None}
        ticks = {name: each.market.tick for name, each in standing.items()}
        depths = {
            name: (each.book.depth(is_bid=True), each.book.depth(is_bid=False))
            for name, each in standing.items()
        }
        for name, bids, asks in self.world.books(ticks, depths):
            check(bids, asks, ticks[name])
            set_depth(venue, name, bids, asks, now_ns)
            self.books.append((self.now_s, name, tuple(bids), tuple(asks)))
        self.add_up()
        self.now_s += STEP_S

    def add_up(self) -> None:
        """Note what the mids of each neg-risk group add up to now."""
        groups: dict[str, list[int]] = {}
        for each in self.venue.listings.values():
            bid, ask = each.book.best(is_bid=True), each.book.best(is_bid=False)
            if each.market.neg_risk and bid is not None and ask is not None:
                groups.setdefault(each.market.event, []).append((bid + ask) // 2)
        self.sums += [sum(mids) for mids in groups.values() if len(mids) == 4]


def check(bids: list[tuple[int, int]], asks: list[tuple[int, int]], tick: Price) -> None:
    assert max((price for price, _ in bids), default=0) < min(
        (price for price, _ in asks), default=MICRO
    )
    for price, size in (*bids, *asks):
        assert price_is_on_grid(Price(price), tick)
        assert size >= MICRO
        assert size % SIZE_STEP == 0


@pytest.fixture(scope="module")
def played() -> Play:
    return Play(config(markets=12)).run(400)


def test_a_seed_gives_one_world() -> None:
    first, second, other = (Play(config(seed=seed)).run(60) for seed in (3, 3, 4))
    assert first.books
    assert first.books == second.books
    assert first.books != other.books


def test_mids_are_the_same_however_often_one_looks() -> None:
    often, rarely = (World(config(seed=5)) for _ in range(2))
    for step in range(400):
        list(often.advance(step * 0.25))
    list(rarely.advance(399 * 0.25))
    for left, right in zip(often._events, rarely._events, strict=True):
        assert left is not None
        assert right is not None
        assert left.walk.probabilities() == right.walk.probabilities()


def test_so_many_markets_as_asked_stand_at_any_time(played: Play) -> None:
    standing = [each for each in played.venue.listings.values() if each.payouts is None]
    assert len(standing) == 12
    assert len(played.venue.listings) > 24  # others ended meanwhile
    assert {each.market.protocol for each in standing} == {"v1", "v2"}
    assert len({each.market.slug for each in played.venue.listings.values()}) == len(
        played.venue.listings
    )


@pytest.mark.parametrize("markets", [0, 1, 3, 4, 8, 20, 100])
def test_events_hold_as_many_markets_as_asked(markets: int) -> None:
    sizes = sizes_of(markets)
    assert sum(sizes) == markets
    assert set(sizes) <= {1, 4}
    assert (4 in sizes) == (markets >= 4)


def test_second_exchange_ids_follow_its_layout(played: Play) -> None:
    found = [each.market for each in played.venue.listings.values() if each.market.protocol == "v2"]
    assert found
    for market in found:
        first, second = (int(token) for token in market.tokens)
        assert second == first + 1
        assert first >> 248 == 1  # the binary module
        assert first & (((1 << 64) - 1) << 40) == 0  # how clients recognise it
        assert market.condition == f"0x{first:064x}"[:-2] + "00"


def test_both_outcomes_mirror_each_other_in_what_a_taker_gets(played: Play) -> None:
    name, listing = next(
        (name, each)
        for name, each in played.venue.listings.items()
        if each.payouts is None and each.book.best(is_bid=True)
    )
    bid = listing.book.best(is_bid=True)
    (trade,) = execute_fill(
        played.venue,
        Fill(
            wallet=Wallet("0x" + "a" * 40), condition=name, outcome=1, side="BUY",
            size=Shares(MICRO),
        ),
        T0,
    )  # fmt: skip
    assert bid is not None
    assert trade.price == MICRO - bid


def test_prices_of_a_group_add_up_to_about_one(played: Play) -> None:
    assert len(played.sums) > 1_000
    assert all(abs(total - MICRO) <= 30_000 for total in played.sums)
    off = sum(abs(total - MICRO) > 15_000 for total in played.sums)
    assert off / len(played.sums) < 0.1


def test_markets_end_on_time_and_as_their_last_price_says(played: Play) -> None:
    last: dict[str, int] = {}
    for _, name, bids, asks in played.books:
        if bids and asks:
            last[name] = (bids[0][0] + asks[0][0]) // 2
    ends = {
        change.market.condition: change.ends_s
        for _, change in played.changes
        if isinstance(change, Opened)
    }
    ended = [(at, change) for at, change in played.changes if isinstance(change, Ended)]
    assert len(ended) > 20
    for at, change in ended:
        assert abs(at - ends[change.condition]) <= STEP_S
        is_yes = change.payouts == (MICRO, 0)
        assert (last[change.condition] > 900_000) == is_yes
        assert (last[change.condition] < 100_000) == (not is_yes)
    assert {change.payouts for _, change in ended} == {(MICRO, 0), (0, MICRO)}


def test_exactly_one_market_of_a_group_pays(played: Play) -> None:
    paid: Counter[str] = Counter()
    for listing in played.venue.listings.values():
        if listing.market.neg_risk and listing.payouts is not None:
            paid[listing.market.event] += listing.payouts == (MICRO, 0)
    assert set(paid.values()) == {1}


def test_outcomes_follow_the_odds_of_the_moment_when_the_end_begins() -> None:
    """Neither side is favoured: what was worth 70 cents wins about seven times in ten."""
    expected = wins = 0.0
    for seed in range(400):
        walk = Walk(Random(seed), TERMS, 1, 900)
        walk._weights[0] = math.log(0.7 / 0.3)
        walk.step(STEP_S, 0.2 * 900)
        expected += walk.probabilities()[0]
        wins += walk.winner == 0
    assert abs(wins - expected) < 3 * math.sqrt(400 * 0.7 * 0.3)


# --- the measured shape -----------------------------------------------------------------------


def test_log_odds_move_as_measured() -> None:
    """Measured: 0.073 a square root of a second, and a mid that stays in 64 % of seconds."""
    changes, still = [], 0
    for seed in range(6):
        walk = Walk(Random(seed), TERMS, 1, 10_000)
        walk._move *= math.sqrt(10_000 / 900)  # of a 15-minute market, for longer
        walk._jumps_per_s *= 10_000 / 900
        for _ in range(2_000):
            before = walk._weights[0]
            for _ in range(4):
                walk.step(STEP_S, 9_000)
            changes.append(walk._weights[0] - before)
            still += changes[-1] == 0
    assert 0.066 < pstdev(changes) < 0.080
    assert 0.60 < still / len(changes) < 0.68
    assert 0.001 < sum(abs(change) > 0.365 for change in changes) / len(changes) < 0.01


def test_levels_have_the_measured_sizes_and_spreads() -> None:
    best, fifth, spreads, counts = [], [], Counter(), set()
    for seed in range(800):
        ladder = Ladder(Random(seed), TERMS)
        quoted = ladder.quote(0.5, TICK, ({}, {}), 1_000_000)
        assert quoted is not None
        bids, asks = quoted
        best.append(bids[0][1] / MICRO)
        fifth.append(asks[5][1] / MICRO)
        spreads[asks[0][0] - bids[0][0]] += 1
        counts |= {len(bids), len(asks)}
    assert 110 < median(best) < 170  # measured: 138
    assert 1_000 < median(fifth) < 1_450  # measured: 1,208
    assert spreads[10_000] / 800 > 0.95  # measured: 97.6 %
    assert max(spreads) <= 40_000
    assert counts == {20}


def test_what_was_taken_comes_back_by_half_in_its_half_life() -> None:
    terms = Liquidity(requote_s=1e12, depth_deviation=0.0)
    ladder = Ladder(Random(1), terms)
    quoted = ladder.quote(0.5, TICK, ({}, {}), 0)
    assert quoted is not None
    bids, asks = (dict(side) for side in quoted)
    best = max(bids)
    assert bids.pop(best) == 138 * MICRO
    for _ in range(20):
        quoted = ladder.quote(0.5, TICK, (bids, asks), terms.refill_half_life_s / 20)
        assert quoted is not None
        bids = dict(quoted[0])
    assert abs(bids[best] - 69 * MICRO) < MICRO
    assert dict(quoted[1]) == asks  # nobody touched the other side


def test_what_was_taken_does_not_jump_back_because_levels_are_requoted() -> None:
    ladder = Ladder(Random(1), Liquidity(requote_s=0.01, depth_deviation=0.0))
    quoted = ladder.quote(0.5, TICK, ({}, {}), 0)
    assert quoted is not None
    bids, asks = (dict(side) for side in quoted)
    best = max(bids)
    del bids[best]
    quoted = ladder.quote(0.5, TICK, (bids, asks), 0.25)
    assert quoted is not None
    assert 0 < dict(quoted[0])[best] < 10 * MICRO


def test_a_small_level_comes_back_too_though_it_is_hidden_below_one_share() -> None:
    terms = Liquidity(requote_s=1e12, depth_deviation=0.0, depth=(3,))
    ladder = Ladder(Random(1), terms)
    quoted = ladder.quote(0.5, TICK, ({}, {}), 0)
    assert quoted is not None
    bids, asks = (dict(side) for side in quoted)
    best = max(bids)
    del bids[best]
    shown = []
    for _ in range(80):
        quoted = ladder.quote(0.5, TICK, (bids, asks), 0.25)
        bids = dict(quoted[0]) if quoted is not None else bids
        shown.append(bids.get(best, 0))
    assert shown[0] == 0
    assert shown[-1] == 3 * MICRO
    assert shown == sorted(shown)


def test_a_quiet_book_is_not_quoted_again() -> None:
    ladder = Ladder(Random(1), Liquidity(requote_s=1e12))
    quoted = ladder.quote(0.5, TICK, ({}, {}), 0)
    assert quoted is not None
    assert ladder.quote(0.5, TICK, (dict(quoted[0]), dict(quoted[1])), 1) is None
    assert ladder.quote(0.6, TICK, (dict(quoted[0]), dict(quoted[1])), 1) is not None


def test_prices_stay_inside_the_grid_at_the_very_ends() -> None:
    for tick in (Price(10_000), Price(1_000)):
        for probability in (0.0, 1e-9, 0.004, 0.5, 0.996, 1.0):
            quoted = Ladder(Random(2), TERMS).quote(probability, tick, ({}, {}), 1)
            assert quoted is not None
            assert quoted[0]
            assert quoted[1]
            check(*quoted, tick)


def test_ended_markets_take_no_more_quotes(played: Play) -> None:
    ended = next(name for name, each in played.venue.listings.items() if each.payouts is not None)
    with pytest.raises(Refused):
        set_depth(played.venue, ended, [], [], T0)
