"""Playing a tape: recorded times on the present clock, and fresh markets each pass."""

import asyncio
from collections.abc import Iterator

import pytest

from services.paper_venue.config import VenueConfig
from services.paper_venue.core import new_venue
from services.paper_venue.leaders import crowd
from services.paper_venue.replay import Pass, apply_record, play
from services.paper_venue.shell import Shell
from services.paper_venue.synthetic import Stage, sights
from services.paper_venue.tape import (
    ActivityRecord,
    BookRecord,
    FillRecord,
    Header,
    MarketRecord,
    ResolveRecord,
    Tape,
    invented_condition,
    invented_token,
)
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S

T0 = 1_793_318_400 * NS_PER_S
LEADER = "0x" + "d" * 40
CONDITION = invented_condition("one")
MARKET = MarketRecord(
    condition=CONDITION,
    tokens=(invented_token("one", 0), invented_token("one", 1)),
    outcomes=("Yes", "No"),
    slug="one",
    end_ms=601_000,
)
BOOK = BookRecord(t_ms=1_000, condition=CONDITION, bids=(("0.4", "5"),), asks=(("0.5", "60"),))


def fill(size: str, tx: str | None = None) -> FillRecord:
    return FillRecord(
        t_ms=2_000,
        wallet=LEADER,
        condition=CONDITION,
        outcome=0,
        side="BUY",
        price="0.5",
        size=size,
        tx=tx,
    )


TAPE = Tape(
    header=Header(version=1),
    markets=(MARKET,),
    records=(
        BOOK,
        fill("10", "a"),
        fill("20", "a"),
        fill("5"),
        ActivityRecord(t_ms=3_000, wallet=LEADER, type="SPLIT", condition=CONDITION, size="7"),
        ResolveRecord(t_ms=4_000, condition=CONDITION, payouts=("1", "0")),
    ),
)


class Clock:
    """A clock that advances a little at each look, so that waiting ends without waiting."""

    def __init__(self) -> None:
        self.ticks: Iterator[int] = iter(range(T0, T0 + 3_600 * NS_PER_S, 250 * NS_PER_MS))

    def __call__(self) -> int:
        return next(self.ticks)


def shell(**settings: object) -> Shell:
    config = VenueConfig(**settings)  # type: ignore[arg-type]
    return Shell(new_venue(config), Clock())


def one_pass(number: int, speed: float = 1.0) -> Pass:
    markets = {CONDITION: MARKET}
    return Pass(number=number, start_ms=1_000, start_ns=T0, speed=speed, markets=markets)


def test_recorded_times_are_mapped_on_the_present_at_the_speed() -> None:
    assert one_pass(0).due_ns(3_000) == T0 + 2 * NS_PER_S
    assert one_pass(0, speed=20).due_ns(3_000) == T0 + 100 * NS_PER_MS


async def test_a_tape_plays_to_its_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = shell(loop=False)
    waits = []

    async def no_wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", no_wait)
    await play(built, TAPE)
    built.close()
    assert waits
    rows = built.venue.rows_of[LEADER]  # type: ignore[index]
    assert [(row.kind, row.size) for row in rows if row.kind == "TRADE"] == [
        ("TRADE", 10 * MICRO),
        ("TRADE", 20 * MICRO),
        ("TRADE", 5 * MICRO),
    ]
    txs = [row.tx for row in rows if row.kind == "TRADE"]
    assert (txs[0] == txs[1], txs[1] == txs[2]) == (True, False)
    assert [row.kind for row in rows if row.kind != "TRADE"] == ["SPLIT"]
    listing = built.venue.listings[CONDITION]
    assert listing.payouts == (MICRO, 0)
    assert T0 < listing.market.end_ns < T0 + 700 * NS_PER_S


async def test_each_pass_has_markets_of_its_own() -> None:
    built = shell()
    apply_record(built, one_pass(0), BOOK)
    apply_record(built, one_pass(1), BOOK)
    built.close()
    first, second = built.venue.listings.values()
    assert first.market.condition == CONDITION
    assert second.market.slug == "one-1"
    assert not set(first.market.tokens) & set(second.market.tokens)


async def test_a_record_the_venue_refuses_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    built, current = shell(), one_pass(0)
    for record in (BOOK, TAPE.records[-1], fill("1")):
        apply_record(built, current, record)
    built.close()
    assert not built.venue.trades
    assert "record_refused" in caplog.text


async def test_leaders_trade_the_books_they_see() -> None:
    built = shell(leaders="synthetic")
    apply_record(built, one_pass(0), BOOK)
    assert sights(built.venue, T0)[CONDITION].ask == 500_000
    leader = crowd(1)[0]
    stage = Stage(built, [leader])
    for _ in range(400):
        stage.step()
    built.close()
    trades = [trade for trade in built.venue.trades.values() if trade.taker == leader.wallet]
    assert trades
    best = {("BUY", 0): 500_000, ("BUY", 1): 600_000}
    assert all(trade.price == best[trade.side, trade.outcome] for trade in trades)


async def test_the_tape_starts_again_with_fresh_markets(monkeypatch: pytest.MonkeyPatch) -> None:
    built = shell(loop=True)

    async def no_wait(_: float) -> None:
        if len(built.venue.listings) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", no_wait)
    with pytest.raises(asyncio.CancelledError):
        await play(built, TAPE)
    built.close()
    assert [listing.market.slug for listing in built.venue.listings.values()] == [
        "one",
        "one-1",
        "one-2",
    ]
