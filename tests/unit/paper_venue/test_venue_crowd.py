"""The further kinds of leaders and the large crowd: reproducible, each with its own shape."""

from collections import Counter
from itertools import pairwise
from random import Random

import msgspec
import pytest

from services.paper_venue.config import VenueConfig
from services.paper_venue.core import Fill, new_venue
from services.paper_venue.crowds import activity, trader, traders
from services.paper_venue.habits import KINDS, MIX, kinds_of
from services.paper_venue.leaders import Action, Convert, Rest, Sight, Trader, UseSets, Withdraw
from services.paper_venue.makers import Maker
from services.paper_venue.shell import Shell
from services.paper_venue.state import ANONYMOUS, Row
from services.paper_venue.synthetic import Stage, move_world
from services.paper_venue.tape import invented_condition
from services.paper_venue.world import World
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares

T0 = 1_793_318_400 * NS_PER_S
STEP_NS = 50 * NS_PER_MS
ONE, TWO = invented_condition("one"), invented_condition("two")
OVER = Price(0)


def sight(bid: int = 480_000, ask: int = 500_000, condition: ConditionId = ONE) -> Sight:
    return Sight(condition, Price(bid), Price(ask), group="all")


BOOKS = {ONE: sight(), TWO: sight(condition=TWO)}


class Purse:
    """What a leader holds where everything it sends happens at once."""

    def __init__(self) -> None:
        self.held: Counter[tuple[str, int]] = Counter()

    def holding(self, _: Wallet, condition: ConditionId, outcome: int) -> Shares:
        return Shares(self.held[condition, outcome])

    def take(self, action: Action) -> None:
        if isinstance(action, Fill):
            sign = 1 if action.side == "BUY" else -1
            self.held[action.condition, action.outcome] += sign * action.size
        elif isinstance(action, UseSets):
            for outcome in (0, 1):
                if action.kind == "REDEEM":
                    self.held[action.condition, outcome] = 0
                else:
                    sign = 1 if action.kind == "SPLIT" else -1
                    self.held[action.condition, outcome] += sign * action.size
        assert min(self.held.values(), default=0) >= 0


def sent(leader: Trader, seconds: int, books: dict[ConditionId, Sight]) -> list[tuple[int, Action]]:
    purse, found = Purse(), []
    for step in range(seconds * 20):
        now_ns = T0 + step * STEP_NS
        if leader.wakes_ns > now_ns:
            continue
        for action in leader.next_orders(now_ns, books, purse.holding):
            purse.take(action)
            found.append((now_ns, action))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_history_of_each_kind(kind: str) -> None:
    def history(seed: int) -> list[tuple[int, Action]]:
        return sent(trader(kind, seed), 1_200, BOOKS)  # type: ignore[arg-type]

    assert history(3)
    assert history(3) == history(3)
    assert history(3) != history(4)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_acts_before_he_wakes(kind: str) -> None:
    """Whoever is asked at every step does the same as whoever is asked when he wakes."""
    leader, other = (trader(kind, 5) for _ in range(2))  # type: ignore[arg-type]
    purse, always = Purse(), []
    for step in range(600 * 20):
        now_ns = T0 + step * STEP_NS
        for action in leader.next_orders(now_ns, BOOKS, purse.holding):
            purse.take(action)
            always.append((now_ns, action))
    assert sent(other, 600, BOOKS) == always


def test_the_scalper_makes_many_small_round_trips() -> None:
    fills = [each for _, each in sent(trader("scalper", 1), 1_800, {ONE: sight()})]
    assert len(fills) > 200
    usd = sorted(each.size * each.price // MICRO for each in fills)  # type: ignore[union-attr,operator]
    assert usd[len(usd) // 2] < 12 * MICRO
    assert usd[-1] < 60 * MICRO
    sides = Counter(each.side for each in fills)  # type: ignore[union-attr]
    assert 0.8 < sides["SELL"] / sides["BUY"] < 1.3


def test_the_whale_is_rare_and_large() -> None:
    fills = sent(trader("whale", 1), 7_200, {ONE: sight()})
    usd = sum(each.size * each.price // MICRO for _, each in fills)  # type: ignore[union-attr,operator]
    decisions = 1 + sum(
        after - before > 60 * NS_PER_S for (before, _), (after, _) in pairwise(fills)
    )
    assert decisions < 7_200 / 180
    assert usd / decisions > 2_000 * MICRO


def test_the_sleeper_sleeps_for_hours() -> None:
    fills = sent(trader("sleeper", 1), 30_000, {ONE: sight()})
    moments = [now_ns for now_ns, _ in fills]
    gaps = [after - before for before, after in pairwise(moments)]
    assert max(gaps) > 2 * 3_600 * NS_PER_S
    assert len([gap for gap in gaps if gap > 60 * NS_PER_S]) <= 4


def test_a_set_trader_splits_sells_one_side_merges_and_redeems() -> None:
    leader, purse, kinds = trader("set-trader", 2), Purse(), []
    books = {ONE: sight()}
    for step in range(3_600 * 20):
        if step == 3_000 * 20:
            books = {ONE: msgspec.structs.replace(sight(0, 0), is_resolved=True)}
        for action in leader.next_orders(T0 + step * STEP_NS, books, purse.holding):
            if isinstance(action, UseSets) and action.kind == "SPLIT":
                before = len(kinds)
            purse.take(action)
            kinds.append(action.kind if isinstance(action, UseSets) else action.side)  # type: ignore[union-attr]
    assert set(kinds) == {"SPLIT", "SELL", "MERGE", "REDEEM"}
    assert "SELL" in kinds[before:]
    assert kinds.count("REDEEM") == 1
    assert not any(purse.held.values())


@pytest.mark.parametrize("kind", ["splitter", "flipper", "pair-builder", "set-trader"])
def test_what_was_still_to_come_is_dropped_where_the_market_is_over(kind: str) -> None:
    leader, purse = trader(kind, 1), Purse()  # type: ignore[arg-type]
    begun = leader.next_orders(T0, {ONE: sight()}, purse.holding)
    assert begun
    for action in begun:
        purse.take(action)
    over = {ONE: Sight(ONE, OVER, OVER, is_resolved=True)}
    for step in range(1, 1_200):
        later = leader.next_orders(T0 + step * STEP_NS, over, purse.holding)
        assert not any(isinstance(each, Fill) for each in later)


def test_a_converter_buys_no_of_two_converts_them_and_sells_the_others() -> None:
    leader, purse = trader("converter", 1), Purse()
    names = [invented_condition(str(number)) for number in range(4)]
    books = {name: sight(240_000, 250_000, name) for name in names}
    books[ONE] = Sight(ONE, Price(480_000), Price(500_000))  # of no group
    done: list[Action] = []
    for step in range(900 * 20):
        for action in leader.next_orders(T0 + step * STEP_NS, books, purse.holding):
            done.append(action)
            if isinstance(action, Convert):
                for name in names:
                    outcome = 1 if name in action.conditions else 0
                    purse.held[name, outcome] += action.size if outcome == 0 else -action.size
            purse.take(action)
    converted = [each for each in done if isinstance(each, Convert)]
    bought = {each.outcome for each in done if isinstance(each, Fill) and each.side == "BUY"}
    sold = {each.outcome for each in done if isinstance(each, Fill) and each.side == "SELL"}
    assert len(converted) > 3
    assert all(len(each.conditions) == 2 for each in converted)
    assert (bought, sold) == ({1}, {0})
    assert not any(isinstance(each, Fill) and each.condition == ONE for each in done)


# --- the market maker -------------------------------------------------------------------------


class Desk:
    """A maker, asked every three seconds."""

    def __init__(self) -> None:
        self.maker, self.purse, self.now_ns = Maker(Random(1)), Purse(), T0

    def ask(self, *sights: Sight) -> list[Action]:
        self.now_ns += 3 * NS_PER_S
        found = self.maker.next_orders(
            self.now_ns, {each.condition: each for each in sights}, self.purse.holding
        )
        for action in found:
            self.purse.take(action)
        return found


def test_a_maker_quotes_both_sides_out_of_a_stock_of_sets() -> None:
    split, buy, sell = Desk().ask(sight())
    assert isinstance(split, UseSets)
    assert isinstance(buy, Rest)
    assert isinstance(sell, Rest)
    assert (split.kind, split.size) == ("SPLIT", 10 * buy.size)
    assert (buy.side, buy.price, sell.side, sell.price) == ("BUY", 480_000, "SELL", 500_000)
    assert buy.size == sell.size >= 5 * MICRO


def test_a_maker_rests_while_nothing_moves_and_follows_the_price() -> None:
    desk = Desk()
    desk.ask(sight())
    assert desk.ask(sight()) == []
    gone, buy, sell = desk.ask(sight(490_000, 510_000))
    assert gone == Withdraw(desk.maker.wallet, ONE)
    assert (buy.price, sell.price) == (490_000, 510_000)  # type: ignore[union-attr]


def test_a_maker_quotes_again_after_a_fill_and_restocks() -> None:
    desk = Desk()
    _, buy, _ = desk.ask(sight())
    size = buy.size  # type: ignore[union-attr]
    desk.purse.held[ONE, 0] -= size
    assert [type(each) for each in desk.ask(sight())] == [Withdraw, Rest, Rest]
    desk.purse.held[ONE, 0] = size
    assert [getattr(each, "kind", "") for each in desk.ask(sight())] == ["", "SPLIT", "", ""]
    desk.purse.held[ONE, 0] = desk.purse.held[ONE, 1] = 25 * size
    merged = desk.ask(sight())[1]
    assert isinstance(merged, UseSets)
    assert (merged.kind, merged.size) == ("MERGE", 5 * size)


def test_a_maker_leaves_the_extremes_and_redeems_what_is_over() -> None:
    desk = Desk()
    desk.ask(sight())
    assert desk.ask(sight(950_000, 960_000)) == [Withdraw(desk.maker.wallet, ONE)]
    assert desk.ask(sight(950_000, 960_000)) == []
    (redeemed,) = desk.ask(Sight(ONE, OVER, OVER, is_resolved=True))
    assert isinstance(redeemed, UseSets)
    assert redeemed.kind == "REDEEM"
    assert desk.ask(Sight(ONE, OVER, OVER, is_resolved=True)) == []


def test_a_maker_quotes_three_markets_and_no_more() -> None:
    books = [sight(condition=invented_condition(str(number))) for number in range(6)]
    rested = [each for each in Desk().ask(*books) if isinstance(each, Rest)]
    assert len({each.condition for each in rested}) == 3


# --- the crowd --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("none", ()),
        ("synthetic", ("splitter", "flipper", "pair-builder")),
        ("synthetic:all", KINDS),
        ("synthetic:whale,maker", ("maker", "whale")),
    ],
)
def test_kinds_are_read_from_the_setting(text: str, kinds: tuple[str, ...]) -> None:
    assert kinds_of(text) == kinds
    assert [each.kind for each in traders(VenueConfig(leaders=text))] == list(kinds)


@pytest.mark.parametrize("text", ["", "all", "none:all", "synthetic:whale,whale", "x"])
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="synthetic:KIND"):
        msgspec.convert({"leaders": text}, VenueConfig)


def test_a_crowd_is_as_large_as_asked_and_the_same_again() -> None:
    config = VenueConfig(leaders="synthetic:all", crowd_size=1_000, seed=3)
    cast = traders(config)
    assert [each.wallet for each in cast] == [each.wallet for each in traders(config)]
    assert len({each.wallet for each in cast}) == len({each.name for each in cast}) == 1_000
    assert all(each.name.startswith(f"synthetic-{each.kind}-") for each in cast)
    counts = Counter(each.kind for each in cast)
    assert set(counts) == set(KINDS)
    assert all(abs(counts[kind] - MIX[kind]) < 60 for kind in KINDS)
    other = traders(msgspec.structs.replace(config, seed=4))
    assert [each.kind for each in cast] != [each.kind for each in other]


def test_activity_is_as_unequal_as_measured() -> None:
    """Measured: the most active per cent has 36 % of the rows, the most active tenth 65 %."""
    rng = Random(1)
    drawn = sorted((activity(rng) for _ in range(20_000)), reverse=True)
    assert 0.22 < sum(drawn[:200]) / sum(drawn) < 0.42
    assert 0.50 < sum(drawn[:2_000]) / sum(drawn) < 0.70


class Scene:
    """World and crowd at one venue on a clock of their own."""

    def __init__(self, seed: int, **settings: object) -> None:
        usual = {"markets": 8, "market_life_s": 90, "leaders": "synthetic:all", "crowd_size": 60}
        config = VenueConfig(
            seed=seed, rtds_delay_ms=0, mined_delay_ms=0, confirmed_delay_ms=0, data_api_delay_ms=0,
            **{**usual, **settings},  # type: ignore[arg-type]
        )  # fmt: skip
        self.now_ns = T0
        self.shell = Shell(new_venue(config), lambda: self.now_ns)
        self.world, self.stage = World(config), Stage(self.shell, traders(config))

    def run(self, seconds: int) -> list[Row]:
        for step in range(seconds * 20):
            if step % 5 == 0:
                move_world(self.shell, self.world, T0)
            self.stage.step()
            self.now_ns += STEP_NS
        self.shell.close()
        return self.shell.venue.rows


async def test_world_and_crowd_together_are_a_function_of_the_seed() -> None:
    first, second, other = (Scene(seed).run(150) for seed in (3, 3, 4))
    assert len(first) > 500
    assert first == second
    assert first != other


async def test_everything_a_wallet_can_do_happens_and_the_books_balance() -> None:
    scene = Scene(1)
    rows = scene.run(200)
    venue = scene.shell.venue
    names = {row.wallet: venue.names.get(row.wallet, "") for row in rows}
    done = Counter((names[row.wallet].rsplit("-", 1)[0], row.kind) for row in rows)
    assert done["synthetic-maker", "TRADE"] > 100
    assert done["synthetic-maker", "SPLIT"]
    assert done["synthetic-maker", "REDEEM"]
    assert done["synthetic-set-trader", "SPLIT"]
    sides = Counter(row.side for row in rows if "maker" in names[row.wallet] and row.side)
    assert 0.5 < sides["BUY"] / sides["SELL"] < 2
    makers = [row for row in rows if "maker" in names[row.wallet] and row.kind == "TRADE"]
    assert not any(row.taker for row in makers)
    for listing in venue.listings.values():
        if listing.payouts is not None:
            continue
        totals = [
            sum(held for (_, token), held in venue.ledger.tokens.items() if token == each)
            for each in listing.market.tokens
        ]
        assert totals[0] == totals[1]  # tokens exist in complete sets only
    assert ANONYMOUS in names


async def test_a_converter_converts_at_the_venue(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "paper_venue")
    scene = Scene(1, leaders="synthetic:converter", crowd_size=0, market_life_s=600)
    rows = scene.run(500)
    kinds = Counter(row.kind for row in rows if row.wallet != ANONYMOUS)
    assert kinds["CONVERSION"] > 3
    assert kinds["TRADE"] > 3
    assert "change=_convert" not in caplog.text  # none was refused


async def test_what_a_maker_rests_is_one_order_a_side_and_gone_at_the_end() -> None:
    scene = Scene(2, crowd_size=0)
    scene.run(120)
    venue = scene.shell.venue
    live = [order for order in venue.orders.values() if order.status == "LIVE"]
    assert live
    assert max(Counter((each.wallet, each.condition, each.side) for each in live).values()) == 1
    assert all(venue.listings[each.condition].payouts is None for each in live)
