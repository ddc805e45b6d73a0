"""What happens to orders while they wait, and when the operator changes their market."""

import msgspec
import pytest
from venue_bench import Bench, frame, subscribe
from venue_build import ANN, CONDITION, FUNDS, MARKET, T0, levels, order, post, venue
from venue_caller import KEYS, call
from venue_caller import post as send

from services.paper_venue.admission import Uncovered
from services.paper_venue.balances import allow, spender_of
from services.paper_venue.config import Funded
from services.paper_venue.core import advance, drain, fund, resolve_market, set_depth
from services.paper_venue.markets import change_tick, clear_orders, schedule_start, set_trading
from services.paper_venue.state import OrderMoved, Refused, TickChanged, Venue
from services.paper_venue.trading import cancel_orders
from shared.domain.units import MICRO, NS_PER_S, Price, Usd

SOON = T0 + 3 * NS_PER_S


def slow_venue() -> Venue:
    built = venue()
    built.listings[CONDITION].seconds_delay = 3
    drain(built, T0)
    return built


def told(built: Venue) -> list[tuple[str, str]]:
    events = drain(built, T0)
    return [(event.change, event.order.status) for event in events if isinstance(event, OrderMoved)]


def test_a_marketable_order_waits_and_then_matches() -> None:
    built, posted = slow_venue(), order("0.5", "10")
    placed = post(built, posted)
    assert (placed.status, placed.trades) == ("delayed", ())
    assert cancel_orders(built, {posted.owner}, [posted.id], T0)[1] == {
        posted.id: "order is delayed and cannot be canceled"
    }
    advance(built, SOON - 1)
    assert posted.matched == 0
    advance(built, SOON)
    assert (posted.status, posted.matched) == ("MATCHED", 10 * MICRO)
    assert told(built) == [("PLACEMENT", "DELAYED"), ("UPDATE", "MATCHED")]


def test_a_passive_order_does_not_wait() -> None:
    built = slow_venue()
    assert post(built, order("0.4", "10")).status == "live"


def test_an_order_whose_price_went_away_is_unmatched_and_rests() -> None:
    built, posted = slow_venue(), order("0.5", "10")
    post(built, posted)
    set_depth(built, CONDITION, [], levels(("0.6", "5")), T0)
    advance(built, SOON)
    assert posted.status == "LIVE"
    assert told(built) == [("PLACEMENT", "DELAYED"), ("UPDATE", "UNMATCHED")]
    assert built.ledger.reserved[ANN, None] == 5 * MICRO
    assert cancel_orders(built, {posted.owner}, [posted.id], SOON)[0] == [posted.id]


def test_money_gone_meanwhile_cancels_the_order_at_its_release() -> None:
    built, posted = slow_venue(), order("0.5", "10")
    post(built, posted)
    fund(built, Funded(wallet=ANN, usd=Usd(-FUNDS)), T0)
    advance(built, SOON)
    assert posted.status == "CANCELED_NOT_ENOUGH_BALANCE"
    assert built.ledger.reserved[ANN, None] == 0


@pytest.mark.parametrize(("kind", "word"), [("FAK", "no orders found"), ("FOK", "couldn't be")])
def test_a_kill_after_the_wait_is_told_with_its_sentence(kind: str, word: str) -> None:
    built, posted = slow_venue(), order("0.5", "20", kind=kind)
    post(built, posted)
    set_depth(built, CONDITION, [], levels(("0.6", "5")), T0)
    advance(built, SOON)
    assert posted.status.startswith("CANCELED_")
    assert word in posted.status


def test_a_market_that_resolved_or_closed_meanwhile_ends_the_order() -> None:
    built, posted = slow_venue(), order("0.5", "10")
    post(built, posted)
    resolve_market(built, CONDITION, (MICRO, 0), T0)
    advance(built, SOON)
    assert posted.status == "CANCELED_MARKET_RESOLVED"
    assert not built.listings[CONDITION].book.resting(is_bid=True)
    built, posted = slow_venue(), order("0.5", "10")
    post(built, posted)
    set_trading(built.listings[CONDITION], accepts=False)
    advance(built, SOON)
    assert posted.status == "INVALID"
    assert built.ledger.free_cash(ANN) == FUNDS


@pytest.mark.parametrize(
    ("bid", "ask", "fine"),
    [
        ("0.97", "0.98", True),
        ("0.02", "0.03", True),
        ("0.96", "0.97", False),  # to be passed, not reached
        ("0.03", "0.04", False),
        ("0.5", "0.51", False),
    ],
)
def test_the_grid_becomes_finer_at_both_extremes(bid: str, ask: str, *, fine: bool) -> None:
    built = venue()
    drain(built, T0)
    set_depth(built, CONDITION, levels((bid, "10")), levels((ask, "10")), T0)
    changes = [event for event in drain(built, T0) if isinstance(event, TickChanged)]
    assert [(each.old, each.new) for each in changes] == ([(10_000, 1_000)] if fine else [])


def test_an_operator_changes_the_grid_both_ways_and_old_orders_stay() -> None:
    built = venue()
    listing, resting = built.listings[CONDITION], order("0.4", "10")
    change_tick(built, listing, Price(1_000), T0)
    fine = order("0.405", "10")
    for posted in (resting, fine):
        post(built, posted)
    drain(built, T0)
    change_tick(built, listing, Price(10_000), T0)
    change_tick(built, listing, Price(10_000), T0)
    changes = [event for event in drain(built, T0) if isinstance(event, TickChanged)]
    assert [(each.old, each.new) for each in changes] == [(1_000, 10_000)]
    assert (resting.status, fine.status) == ("LIVE", "LIVE")
    with pytest.raises(Refused, match=r"breaks minimum tick size rule: 0\.01"):
        post(built, order("0.405", "10"))
    with pytest.raises(Refused, match="divides a dollar"):
        change_tick(built, listing, Price(30_000), T0)


def test_an_order_off_the_grid_that_came_while_it_waited_is_invalid() -> None:
    built, posted = slow_venue(), order("0.5", "10")
    change_tick(built, built.listings[CONDITION], Price(1_000), T0)
    posted = order("0.505", "10")
    post(built, posted)
    change_tick(built, built.listings[CONDITION], Price(10_000), T0)
    advance(built, SOON)
    assert posted.status == "INVALID"


def test_a_cleared_book_ends_orders_as_invalid_and_frees_their_money() -> None:
    built, resting = venue(), order("0.4", "10")
    post(built, resting)
    clear_orders(built, built.listings[CONDITION], T0)
    assert (resting.status, built.ledger.free_cash(ANN)) == ("INVALID", FUNDS)


def test_the_book_is_wiped_when_the_game_starts() -> None:
    built, resting = venue(), order("0.4", "10")
    post(built, resting)
    schedule_start(built, built.listings[CONDITION], SOON)
    advance(built, SOON - 1)
    assert resting.status == "LIVE"
    advance(built, SOON)
    assert resting.status == "INVALID"
    assert built.listings[CONDITION].market.accepting_orders


def test_each_exchange_has_its_own_allowance() -> None:
    built = venue()
    other = msgspec.structs.replace(MARKET, neg_risk=True)
    allow(built, ANN, spender_of(other), 0)
    assert post(built, order("0.4", "10")).status == "live"
    allow(built, ANN, spender_of(MARKET), 3_999_999)
    with pytest.raises(Uncovered, match="allowance: 3999999, order amount: 4000000"):
        post(built, order("0.4", "10"))


async def test_the_wire_tells_delays_ticks_and_closed_markets(bench: Bench) -> None:
    market = await bench.admin(
        "market", slug="game", seconds_delay=2, bids=[["0.4", "50"]], asks=[["0.5", "50"]]
    )
    bench.condition, bench.tokens = market["condition"], market["tokens"]
    delayed = await send(bench, "GTC", 0.5)
    assert delayed.body["status"] == "delayed"
    assert (delayed.body["makingAmount"], delayed.body["tradeIDs"]) == ("0", [])
    name = delayed.body["orderID"]
    assert (await call(bench, "GET", f"/data/order/{name}")).body["status"] == "DELAYED"
    async with bench.socket("/ws/market") as watching, bench.socket("/ws/user") as own:
        await subscribe(watching, {"type": "market", "assets_ids": bench.tokens[:1]})
        auth = {"apiKey": KEYS.key, "secret": KEYS.secret, "passphrase": KEYS.passphrase}
        await subscribe(own, {"type": "user", "auth": auth})
        assert [await frame(own), type(await frame(watching)), await frame(watching)] == [
            "PONG",
            list,
            "PONG",
        ]
        await bench.admin("tick", condition=bench.condition, tick="0.001")
        changed = await frame(watching)
        assert changed["event_type"] == "tick_size_change"
        assert (changed["old_tick_size"], changed["new_tick_size"]) == ("0.01", "0.001")
        await bench.pass_ms(2_000)
        seen = [await frame(own), await frame(own)]
        assert {each["event_type"] for each in seen} == {"order", "trade"}
        resting = (await send(bench)).body["orderID"]
        placed = await frame(own)
        assert (placed["id"], placed["type"]) == (resting, "PLACEMENT")
        await bench.admin(
            "trading", condition=bench.condition, accepting_orders=False, clear_orders=True
        )
        gone = await frame(own)
        assert (gone["type"], gone["status"], gone["id"]) == ("CANCELLATION", "INVALID", resting)
    refused = await send(bench)
    assert refused[:2] == (400, {"error": "the market is not yet ready to process new orders"})
    await bench.admin("trading", condition=bench.condition, accepting_orders=True)
    assert (await send(bench)).status == 200
