"""The judge of chaos: it passes a log that keeps every promise, and names one that is broken."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.lab.chaos_blows import FEED_FAULTS, ORDER_FAULTS, draw
from services.lab.chaos_journal import Caps, Journal
from services.lab.chaos_told import Round, Told, kind_of, report
from services.lab.chaos_world import Truth
from services.lab.feeds_world import said
from services.paper_venue.rules import read_rule
from shared.domain import messages as m
from shared.domain.units import MICRO, Usd
from shared.runtime.ports import Entry, Lane
from tests.unit.ctl import ctl_facts as f

WIDE = Caps(leader=Usd(100 * MICRO), market=Usd(100 * MICRO), total=Usd(100 * MICRO))
TOKENS = {(f.CONDITION, 0): f.YES, (f.CONDITION, 1): f.NO}


async def _nothing(_: int) -> AsyncIterator[Entry]:
    return
    yield


def journal(facts: list[m.Fact], caps: Caps = WIDE) -> Journal:
    """Return the journal of a log with a message a fact."""
    heard = Journal(caps, TOKENS, _nothing)
    for seq, fact in enumerate(facts, 1):
        heard.hear(_entry(seq, fact))
    return heard


def _entry(seq: int, fact: m.Fact, epoch: int = 1) -> Entry:
    subject = Lane(f.OWNERS[type(fact)], 0).subject(m.kind_of(fact), "facts")
    return Entry(seq, subject, m.Batch(epoch=epoch, through=0, facts=(fact,)))


def copied() -> list[m.Fact]:
    """Return two fills, the order that copied them, and its end."""
    chain = f.Chain()
    fills = [f.fill(chain, 0), f.fill(chain, 100, size=40_000_000)]
    for each in fills:
        f.count(chain, each, 500)
    target = f.target(chain, f.intent(chain, fills, 900), 910)
    approved = f.approval(chain, target, 920)
    order = f.prepared(chain, approved, 930)
    done = f.filled(chain, order, 960)
    chain.say(m.OrderClosed, 970, done, order=order.order, approval=order.approval, token=f.YES,
              filled=done.size, reason="filled")  # fmt: skip
    f.holding(chain, done, 980, shares=done.size)
    chain.say(m.ReservationEnded, 990, done, leader=f.LEADER, condition=f.CONDITION, token=f.YES,
              approval=approved.id, filled=done.size, reason="filled", retry_ns=0)  # fmt: skip
    return chain.facts


def test_a_log_that_keeps_every_promise_is_passed() -> None:
    facts = copied()
    heard = journal(facts)
    assert heard.faults == []
    assert heard.open_things(said(facts)) == []
    assert heard.positions == heard.attributed() == {f.YES: 20_000_000}


def _of(kind: type[Any]) -> Callable[[list[m.Fact]], m.Fact]:
    return lambda facts: next(fact for fact in facts if isinstance(fact, kind))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (m.FillCounted, "counted twice"),
        (m.IntentFormed, "judged twice"),
        (m.OrderPrepared, "prepared twice"),
        (m.OrderClosed, "closed twice"),
    ],
)
def test_what_happens_twice_is_named(kind: type[Any], told: str) -> None:
    facts = copied()
    again = msgspec.structs.replace(_of(kind)(facts), id="another")
    assert any(told in fault for fault in journal([*facts, again]).faults)


def test_the_same_fact_twice_is_named() -> None:
    facts = copied()
    assert any("said twice" in fault for fault in journal([*facts, facts[0]]).faults)


def test_an_order_without_an_approval_is_named() -> None:
    facts = [fact for fact in copied() if isinstance(fact, m.OrderPrepared)]
    assert any("no approval on record" in fault for fault in journal(facts).faults)


def test_a_hole_in_the_ledger_is_named() -> None:
    heard = Journal(WIDE, TOKENS, _nothing)
    heard.hear(_entry(3, copied()[0]))
    assert heard.faults == ["messages 1 to 2 are missing"]


@pytest.mark.parametrize("name", ["leader", "market", "total"])
def test_an_approval_beyond_a_cap_is_named(name: str) -> None:
    narrow = msgspec.structs.replace(WIDE, **{name: Usd(10_700_000)})
    assert any(f"takes the {name} cap to" in fault for fault in journal(copied(), narrow).faults)


def test_a_reduction_may_be_approved_above_a_cap() -> None:
    facts = [
        msgspec.structs.replace(fact, reduces=True) if isinstance(fact, m.OrderApproved) else fact
        for fact in copied()
    ]
    assert journal(facts, msgspec.structs.replace(WIDE, market=Usd(1))).faults == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (m.LeaderFilled, "rows are missing"),
        (m.FillCounted, "rows are not counted"),
        (m.IntentFormed, "in an open window"),
        (m.ReservationEnded, "approvals are open"),
        (m.OrderClosed, "orders are open"),
    ],
)
def test_what_has_not_come_to_its_end_is_open(kind: type[Any], told: str) -> None:
    facts = copied()
    without = [fact for fact in facts if not isinstance(fact, kind)]
    if kind is m.LeaderFilled:
        without = []
    assert any(told in each for each in journal(without).open_things(said(facts)))


def test_a_row_that_the_venue_never_had_is_too_many() -> None:
    facts = copied()
    assert "2 leaders' rows are too many" in journal(facts).open_things(Counter())


def test_a_failed_settlement_takes_the_shares_back() -> None:
    chain = f.Chain()
    order = f.prepared(chain, f.approval(chain, f.target(chain, f.intent(
        chain, [f.fill(chain, 0)], 1), 2), 3), 4)  # fmt: skip
    f.settled(chain, f.filled(chain, order, 5), 6, "FAILED")
    assert journal(chain.facts).positions[f.YES] == 0


def test_the_first_word_of_a_later_holder_is_found() -> None:
    facts, lane = copied(), Lane("ingester", 0)
    heard = Journal(WIDE, TOKENS, _nothing)
    heard.hear(_entry(1, facts[0], epoch=5))
    heard.hear(_entry(2, facts[1], epoch=9))
    found = heard.first_after(0, {lane: 5})
    assert found is not None
    assert found.seq == 2
    assert heard.first_after(2, {lane: 5}) is None
    assert heard.first_after(0, {Lane("ingester", 1): 5}) is None


# --- the venue's truth ----------------------------------------------------------------------


class Book:
    """An operator's ledger at the venue that grows."""

    def __init__(self) -> None:
        self.trades: list[dict[str, Any]] = []

    async def get(self, path: str, *, after: str) -> dict[str, Any]:
        assert path == "/admin/ledger"
        return {"fills": self.trades[int(after) :]}

    def add(self, side: str, size: str, *, status: str = "CONFIRMED", taker: str = "us") -> None:
        self.trades.append(
            {"taker": taker, "side": side, "size": size, "token_id": "1", "status": status}
        )


async def test_truth_is_what_the_venue_executed_and_did_not_take_back() -> None:
    book = Book()
    truth = Truth(book, "us")  # type: ignore[arg-type] # what it asks for is answered
    book.add("BUY", "10")
    book.add("BUY", "7", taker="somebody else")
    book.add("BUY", "5", status="MATCHED")
    book.add("SELL", "3")
    await truth.read()
    assert truth.positions == {"1": 12_000_000}
    book.trades[2]["status"] = "FAILED"
    await truth.read()
    await truth.read()
    assert truth.positions == {"1": 7_000_000}
    assert (truth.trades, truth.failed) == (3, 1)


# --- blows and tables -----------------------------------------------------------------------


def test_every_fault_is_one_that_the_venue_knows() -> None:
    for told in (ORDER_FAULTS | FEED_FAULTS).values():
        assert read_rule(told).kind == told["kind"]


def test_the_same_seed_draws_the_same_blows_and_every_round_kills() -> None:
    names = ["executor", "executor1", "risk"]
    first, second = random.Random(4), random.Random(4)
    rounds = [draw(first, names) for _ in range(300)]
    assert rounds == [draw(second, names) for _ in range(300)]
    assert all(sum(blow.kind == "kill" for blow in blows) == 1 for blows in rounds)
    kinds = {kind_of(str(blow)) for blows in rounds for blow in blows}
    assert kinds >= {"kill", "freeze", "twin", "nats killed", "redis killed", "redis flushed"}


def test_the_tables_tell_kills_faults_and_drift() -> None:
    one = Round(number=1, blows=("kill risk1", "order lost"), killed="risk", held=1, acting_s=1.25,
                zero_s=2.5, drift_usd_max=7.0, took_s=5.0)  # fmt: skip
    told = Told(
        seed=3, asked=1, cut_short="", rounds=(one,), faults_fired={"order lost": 2}, rows=10,
        orders=3, fills=2, settlements_failed=1, facts=99, broken=(), took_s=60.0,
    )  # fmt: skip
    console = Console(record=True, width=140)
    for table in report(told):
        console.print(table)
    text = console.export_text()
    for word in ("1.25", "2.50", "$7.00", "order lost", "3 / 2 / 1"):
        assert word in text
    assert told.is_good
    assert not msgspec.structs.replace(told, broken=("x",)).is_good
