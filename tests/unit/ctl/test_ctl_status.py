"""`status` joins what the services say; its JSON has stable keys, its lag is exact."""

import msgspec
import pytest

from services.ctl.endpoints import endpoints_table
from services.ctl.errors import FINDING, OK
from services.ctl.figures import Names, json_text
from services.ctl.picture import Picture, Reader, behind, joined
from services.ctl.status import code_of, picture_json, screen
from shared.domain.messages import Batch, FeedChanged
from shared.domain.units import NS_PER_S, Bps, Price, Shares, Usd
from shared.domain.views import (
    DRIFT,
    POSITIONS,
    RISK,
    SURRENDERED,
    CapView,
    DriftLine,
    DriftView,
    EndpointsView,
    EndpointView,
    ExposuresView,
    ExposureView,
    FeedsView,
    FeedView,
    OpenOrderView,
    PositionsView,
    PositionView,
    RiskView,
    encode,
    endpoints_key,
    exposure_key,
    feed_key,
)
from shared.runtime.clock import ManualClock
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import Epoch, Lane, Saved
from tests.unit.ctl.ctl_facts import CONDITION, LEADER, ORDER, YES
from tests.unit.ctl.test_ctl_show import page_of, picture

CLOCK = ManualClock()
NOW_NS = CLOCK.now_ns()


async def said(ledger: MemoryLedger, lane: Lane, number: int) -> int:
    last = await ledger.last(lane)
    fact = FeedChanged(id=f"{lane.name}{number}", cause="", root="", ts_ns=0, feed="x", state="gap")
    batch = Batch(epoch=1, through=0, facts=(fact,))
    return await ledger.append(lane, batch, key="facts", after=last.seq if last else 0)


async def read(ledger: MemoryLedger, store: MemoryStore) -> Picture:
    return await Reader(ledger, store, partition=5, clock=CLOCK).read()


async def test_an_empty_system_has_a_picture() -> None:
    found = await read(MemoryLedger(), MemoryStore())
    assert (found.head, found.risk, found.rows, found.feeds) == (0, None, (), ())
    assert len(found.lanes) == 35
    page = page_of(screen(found, Names()))
    assert "risk has not run" in page
    assert "no ingester has reported" in page


async def test_a_lane_is_behind_by_what_it_has_to_hear() -> None:
    """Risk has heard message 2 of 4; the executor hears risk alone, and has heard nothing."""
    ledger, store = MemoryLedger(), MemoryStore()
    for number, lane in enumerate(
        (Lane("ingester", 7), Lane("aggregator", 7), Lane("risk", 5), Lane("aggregator", 7))
    ):
        await said(ledger, lane, number)
    await store.save(Lane("aggregator", 7), Saved(b"{}", 1, 4, Epoch(2)), {})
    await store.save(Lane("risk", 5), Saved(b"{}", 2, 3, Epoch(2)), {})
    lanes = {lane.name: lane for lane in (await read(ledger, store)).lanes}
    assert lanes["risk.05"].behind == 2
    assert lanes["executor.05"].behind == 3
    assert lanes["aggregator.07"].behind == 0
    assert lanes["aggregator.06"].behind == 0
    assert (lanes["risk.05"].epoch, lanes["risk.05"].said) == (2, 3)
    page = page_of(screen(await read(ledger, store), Names()))
    assert "risk.05" in page
    assert "32 without work" in page


def test_a_command_is_something_that_risk_has_to_hear() -> None:
    assert behind(Lane("risk", 5), 3, {Lane("ctl", 0): 9, Lane("risk", 5): 20}) == 6


def test_every_aggregator_has_to_hear_a_command() -> None:
    ends = {Lane("ctl", 0): 9, Lane("ingester", 4): 20}
    assert behind(Lane("aggregator", 5), 3, ends) == 6


def test_caps_of_one_leader_are_shown_when_they_are_nearly_full() -> None:
    shown = picture()
    assert shown.risk is not None
    caps = (
        *shown.risk.caps,
        CapView(name="leader", used=Usd(90_000_000), limit=Usd(100_000_000), scope=LEADER),
        CapView(name="market", used=Usd(89_000_000), limit=Usd(100_000_000), scope=CONDITION),
    )
    risk = msgspec.structs.replace(shown.risk, caps=caps)
    page = page_of(screen(msgspec.structs.replace(shown, risk=risk), Names({LEADER: "Ann"})))
    assert "total $9.27 of $2,000.00   leader Ann $90.00 of $100.00   realised" in page


async def test_an_ingester_that_is_gone_is_not_a_feed() -> None:
    store = MemoryStore()
    for name, age_s in (("new", 1), ("old", 3_600)):
        feed = FeedView(name=name, state="connected", heard_ns=NOW_NS - NS_PER_S)
        view = FeedsView(as_of_ns=NOW_NS - age_s * NS_PER_S, feeds=(feed,))
        store.views[feed_key(name)] = encode(view)
    found = await read(MemoryLedger(), store)
    assert [feed.name for view in found.feeds for feed in view.feeds] == ["new"]


async def test_the_only_ingester_is_shown_however_old() -> None:
    store = MemoryStore()
    feed = FeedView(name="activity", state="connected", heard_ns=NOW_NS - 3_600 * NS_PER_S)
    store.views[feed_key("a")] = encode(FeedsView(as_of_ns=feed.heard_ns, feeds=(feed,)))
    assert "heard 60 min 0 s ago" in page_of(screen(await read(MemoryLedger(), store), Names()))


async def test_a_feed_that_is_degraded_says_why() -> None:
    store = MemoryStore()
    feeds = (
        FeedView(name="data-api", state="silent", heard_ns=NOW_NS, detail="throttled: p50 1.9 s"),
        FeedView(
            name="polls", state="connected", heard_ns=NOW_NS - 60 * NS_PER_S, detail="9 in 60 s"
        ),
    )
    store.views[feed_key("a")] = encode(FeedsView(as_of_ns=NOW_NS, feeds=feeds))
    found = await read(MemoryLedger(), store)
    page = page_of(screen(found, Names()))
    assert "data-api silent (throttled: p50 1.9 s)" in page
    assert "polls connected, heard" in page
    told = msgspec.json.decode(json_text(picture_json(found, Names())))
    assert [feed["detail"] for feed in told["feeds"]] == ["throttled: p50 1.9 s", "9 in 60 s"]


def test_leaders_and_holdings_stand_side_by_side() -> None:
    risk = picture().risk
    other = msgspec.structs.replace(
        ExposureView(leader=LEADER, condition=CONDITION, yes=Shares(1), no=Shares(0),
                     exposure=Shares(1)), condition="0xother",
    )  # fmt: skip
    rows = joined([ExposuresView(exposures=(other,))], risk)
    assert [(row.condition, row.exposure, row.held) for row in rows] == [
        (CONDITION, None, 18_000_000), ("0xother", 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (picture(), OK), (picture(drift_usd=1), FINDING), (picture("halted"), FINDING),
        (picture("reduce_only"), FINDING),
    ],
)  # fmt: skip
def test_the_exit_code_says_whether_there_is_something_to_look_at(
    shown: Picture, code: int
) -> None:
    assert code_of(shown) == code


async def test_an_order_without_an_end_is_shown_until_it_has_one() -> None:
    store = MemoryStore()
    lost = OpenOrderView(
        order=ORDER, token=YES, side="BUY", price=Price(500_000), size=Shares(20_000_000),
        filled=Shares(0), status=SURRENDERED, since_ns=NOW_NS - 700 * NS_PER_S,
    )  # fmt: skip
    calm = msgspec.structs.replace(lost, status="resting")
    for orders, code in (((calm,), OK), ((calm, lost), FINDING)):
        view = PositionsView(wallet=LEADER, positions=(), orders=orders)
        store.views[POSITIONS] = encode(view)
        found = await read(MemoryLedger(), store)
        assert code_of(found) == code
        page = page_of(screen(found, Names()))
        assert (f"order {ORDER}" in page.replace("\n", "")) == (code == FINDING)
    told = msgspec.json.decode(json_text(picture_json(found, Names())))
    (order,) = told["surrendered_orders"]
    assert (order["order"], order["size"], order["age_ms"]) == (ORDER, 20, 700_000)


async def test_the_json_has_stable_keys_and_exact_numbers() -> None:
    store = MemoryStore()
    line = DriftLine(
        token=YES, believed=Shares(1_500_000), observed=Shares(0), usd=Usd(750_000), state="found"
    )
    store.views[DRIFT] = encode(
        DriftView(
            as_of_ns=NOW_NS - NS_PER_S, drift_usd=Usd(750_000), lines=(line,), corrections=2,
            last_clear_ms=400,
        )
    )  # fmt: skip
    risk = picture().risk
    assert isinstance(risk, RiskView)
    store.views[RISK] = encode(risk)
    exposures = ExposuresView(
        exposures=(
            ExposureView(leader=LEADER, condition=CONDITION, yes=Shares(100_000_000),
                         no=Shares(0), exposure=Shares(100_000_000)),
        )
    )  # fmt: skip
    store.views[exposure_key(1)] = encode(exposures)
    found = await read(MemoryLedger(), store)
    told = msgspec.json.decode(json_text(picture_json(found, Names({LEADER: "Ann"}))))
    assert set(told) == {
        "ledger_head", "regime", "regime_reason", "realised_today_usd", "cash_usd", "cash_age_ms",
        "cash_believed_usd", "claims_usd", "confirmation_ms", "endpoints",
        "caps", "drift", "feeds", "surrendered_orders", "positions", "lanes",
    }  # fmt: skip
    assert told["drift"]["usd"] == 0.75
    assert told["drift"]["age_ms"] == 1_000
    assert told["drift"]["lines"][0]["believed"] == 1.5
    assert told["caps"] == [{"name": "total", "scope": "", "used_usd": 9.27, "limit_usd": 2000}]
    (row,) = told["positions"]
    assert row == {
        "condition": CONDITION, "market": "0xc0c0c0c0", "leader": LEADER, "leader_name": "Ann",
        "exposure": 100, "target": 20, "held": 18, "cost_usd": 9.27,
    }  # fmt: skip
    assert told["lanes"][0] == {
        "lane": "ingester.00",
        "epoch": 0,
        "cursor": 0,
        "said": 0,
        "behind": 0,
    }


def answered(name: str, calls: int, bad: int, budget_bps: int) -> EndpointView:
    return EndpointView(
        name=name, calls=calls, bad=bad, slow=1, median_ms=20, p99_ms=1_900,
        budget_bps=Bps(budget_bps), last_bad_ns=NOW_NS - 9 * NS_PER_S if bad else 0,
        last_bad_status=0 if bad else None,
    )  # fmt: skip


async def test_an_endpoint_that_overspent_its_error_budget_is_named() -> None:
    store = MemoryStore()
    for number, entry in enumerate((answered("/time", 900, 0, 8_900), answered("/book", 9, 3, -1))):
        view = EndpointsView(service="ingester", as_of_ns=NOW_NS - number, endpoints=(entry,))
        store.views[endpoints_key(f"ingester-{number}")] = encode(view)
    found = await read(MemoryLedger(), store)
    page = page_of(screen(found, Names()))
    assert "venue   909 calls in the last hour, 3 failed, 2 slow" in page
    assert "ingester: /book failed 3 and was slow 1 times of 9, the last no answer 9,000 ms" in page
    assert "/time" not in page
    table = page_of(endpoints_table(found.endpoints))
    assert "/time" in table
    assert "89.00 %" in table
    told = msgspec.json.decode(json_text(picture_json(found, Names())))["endpoints"]
    assert [(each["endpoint"], each["failed"], each["last_failed_ms"]) for each in told] == [
        ("/time", 0, None), ("/book", 3, 9_000),
    ]  # fmt: skip


async def test_what_is_to_be_redeemed_stands_beside_the_cash() -> None:
    shown = picture()
    claim = PositionView(
        condition=CONDITION, token=YES, outcome=0, shares=Shares(0), cost=Usd(0), realised=Usd(0),
        unsettled=Shares(0), changed_ns=0, claim=Shares(12_000_000), payout=Price(500_000),
    )  # fmt: skip
    held = PositionsView(wallet=LEADER, positions=(claim,), orders=(), cash=Usd(7))
    shown = msgspec.structs.replace(shown, held=held)
    assert "to redeem $6.00" in page_of(screen(shown, Names()))
    assert "to redeem" not in page_of(screen(picture(), Names()))
    told = picture_json(shown, Names())
    assert (str(told["claims_usd"]), str(told["cash_believed_usd"])) == ("6", "0.000007")
