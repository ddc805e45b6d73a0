"""The same intent never gets a larger size in a thinner, wilder, staler, losing or nearer world."""

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.risk.core import decide
from services.risk.policy import Cap, Policy, Sizing
from services.risk.state import Equity, Feeds, Review, State, View
from shared.domain.book import Level
from shared.domain.messages import OrderApproved, TargetSet
from shared.domain.units import Bps, Shares, Usd
from tests.support.risk_builders import (
    HEARD,
    LEADER,
    NOW_NS,
    account,
    book,
    cents,
    intent,
    market,
    policy,
    seconds,
    usd,
)

law = settings(max_examples=150)
END_NS = NOW_NS + seconds(300)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """All that the size of an entry hangs on, but for the leader's own doing."""

    asks: tuple[Level, ...]
    volatility: int | None
    seen_ns: int = NOW_NS
    market_ns: int = NOW_NS
    account_ns: int = NOW_NS
    end_ns: int = END_NS
    feeds: Feeds | None = HEARD
    equity: Usd = usd(5_000)
    drawdown: Usd = Usd(0)
    lost_today: Usd = Usd(0)
    slippage: int = 0
    trade: Usd = usd(40)
    total: Usd = usd(120)
    percent: Bps = Bps(200)


def rules(world: World) -> Policy:
    return policy(
        sizing=Sizing(mode="proportional", ratio_bps=Bps(2_000), leader_usd_max=usd(100)),
        trade=Cap(world.trade, world.percent),
        total=Cap(world.total),
        depth_share_bps=Bps(5_000),
        volatility_calm=20_000,
        volatility_unknown_bps=Bps(0),
        slippage_budget_bps=Bps(100),
        slippage_floor_bps=Bps(2_500),
        daily_loss_free_usd=usd(20),
        daily_loss_usd_max=usd(100),
        drawdown_free_usd=usd(50),
        drawdown_usd_max=usd(200),
        feed_fresh_ns=seconds(10),
        feed_dead_ns=seconds(60),
        end_ns_min=seconds(30),
        end_full_ns=seconds(300),
    )


def sizes(world: World, added: int) -> tuple[int, int]:
    """Return the target an entry leads to, and the size of its first order; 0 where refused."""
    day = NOW_NS // seconds(86_400)
    state = State(
        equity=Equity(
            collateral=world.equity, value=Usd(0), profit=Usd(-world.drawdown), peak=Usd(0),
            day=day, day_profit=Usd(world.lost_today - world.drawdown), marked_ns=NOW_NS,
        ),
        slippage={LEADER: world.slippage},
    )  # fmt: skip
    of = market(as_of_ns=world.market_ns, end_ns=world.end_ns)
    yes = book(asks=world.asks, volatility=world.volatility, seen_ns=world.seen_ns)
    no = book(bid=49, ask=51, token=of.tokens[1])
    money = account(as_of_ns=world.account_ns)
    view = View(market=of, books=(yes, no), account=money, feeds=world.feeds)
    formed = intent(0, added)
    facts = decide(rules(world), state, Review(intent=formed, view=view), NOW_NS)
    (target,) = [fact.target for fact in facts if isinstance(fact, TargetSet)]
    ordered = [fact.size for fact in facts if isinstance(fact, OrderApproved)]
    return target, ordered[0] if ordered else 0


@st.composite
def ladders(draw: st.DrawFn) -> tuple[Level, ...]:
    prices = draw(st.lists(st.integers(49, 56), min_size=1, max_size=6, unique=True))
    return tuple(
        (cents(price), Shares(draw(st.integers(1, 400)) * 1_000_000)) for price in sorted(prices)
    )


volatilities = st.one_of(st.none(), st.integers(0, 200_000))
worlds = st.builds(World, asks=ladders(), volatility=volatilities)
fills = st.integers(1, 2_000)
ages = st.integers(0, seconds(120))


def no_larger(worse: World, better: World, added: int) -> None:
    small, large = sizes(worse, added), sizes(better, added)
    assert small[0] <= large[0], "the target grew"
    assert small[1] <= large[1], "the order grew"


@law
@given(worlds, fills, st.data())
def test_a_thinner_book_never_gets_more(world: World, added: int, data: st.DataObject) -> None:
    """Levels shrink or, behind the best, vanish."""
    best, *rest = world.asks
    kept = [level for level in rest if data.draw(st.booleans())]
    thin = tuple(
        (price, Shares(data.draw(st.integers(1, size // 1_000_000)) * 1_000_000))
        for price, size in (best, *kept)
    )
    no_larger(msgspec.structs.replace(world, asks=thin), world, added)


@law
@given(worlds, fills, volatilities)
def test_a_wilder_market_never_gets_more(world: World, added: int, other: int | None) -> None:
    """What was not observed long enough counts as wilder than anything."""
    known = [each for each in (world.volatility, other) if each is not None]
    assume(known)
    calm = msgspec.structs.replace(world, volatility=min(known))
    wild = msgspec.structs.replace(world, volatility=max(known) if len(known) == 2 else None)
    no_larger(wild, calm, added)


@law
@given(worlds, fills, st.sampled_from(("seen_ns", "market_ns", "account_ns")), ages, ages)
def test_a_staler_view_never_gets_more(
    world: World, added: int, what: str, one: int, other: int
) -> None:
    fresh = msgspec.structs.replace(world, **{what: NOW_NS - min(one, other)})
    stale = msgspec.structs.replace(world, **{what: NOW_NS - max(one, other)})
    no_larger(stale, fresh, added)


@law
@given(worlds, fills, st.sampled_from(("report_ns", "books_ns", "polls_ns")), ages, ages)
def test_worse_hearing_never_gets_more(
    world: World, added: int, what: str, one: int, other: int
) -> None:
    deaf = msgspec.structs.replace(HEARD, stream_lost=True)
    for base in (HEARD, deaf):
        better = msgspec.structs.replace(base, **{what: min(one, other)})
        worse = msgspec.structs.replace(base, **{what: max(one, other)})
        no_larger(
            msgspec.structs.replace(world, feeds=worse),
            msgspec.structs.replace(world, feeds=better),
            added,
        )
    lost = msgspec.structs.replace(world, feeds=deaf)
    no_larger(lost, world, added)
    no_larger(msgspec.structs.replace(world, feeds=None), lost, added)


WORSE_WHEN_MORE = ("drawdown", "lost_today", "slippage")
WORSE_WHEN_LESS = ("equity", "trade", "total", "percent", "end_ns")
RANGES: dict[str, tuple[int, int]] = {
    "drawdown": (0, usd(300)),
    "lost_today": (0, usd(150)),
    "slippage": (-100, 400),
    "equity": (0, usd(10_000)),
    "trade": (0, usd(60)),
    "total": (0, usd(150)),
    "percent": (1, 1_000),
    "end_ns": (NOW_NS - seconds(60), NOW_NS + seconds(400)),
}


@pytest.mark.parametrize("what", [*WORSE_WHEN_MORE, *WORSE_WHEN_LESS])
@law
@given(worlds, fills, st.data())
def test_a_losing_poorer_tighter_or_nearer_world_never_gets_more(
    what: str, world: World, added: int, data: st.DataObject
) -> None:
    low, high = sorted(data.draw(st.integers(*RANGES[what])) for _ in range(2))
    less, more = (msgspec.structs.replace(world, **{what: value}) for value in (low, high))
    worse, better = (more, less) if what in WORSE_WHEN_MORE else (less, more)
    no_larger(worse, better, added)


@pytest.mark.parametrize(
    ("what", "worse"),
    [
        ("volatility", 80_000),
        ("slippage", 50),
        ("drawdown", usd(180)),
        ("lost_today", usd(90)),
        ("equity", usd(600)),
        ("end_ns", NOW_NS + seconds(60)),
        ("feeds", Feeds(report_ns=seconds(50), stream_lost=False, polls_ns=0, books_ns=0)),
        ("asks", ((cents(50), Shares(20_000_000)),)),
    ],
)
def test_each_of_them_does_make_it_smaller(what: str, worse: Any) -> None:
    """A law that nothing ever meets proves nothing."""
    calm = World(asks=((cents(50), Shares(10**9)),), volatility=0)
    bad = msgspec.structs.replace(calm, **{what: worse})
    assert sizes(bad, 400)[1] < sizes(calm, 400)[1] != 0
