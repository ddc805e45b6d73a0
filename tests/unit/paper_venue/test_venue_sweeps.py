"""A taker who sweeps several price levels is one order: one trade, one row, one log, one frame."""

import pytest
from venue_bench import Bench, frame, subscribe
from venue_build import ANN, BOB, CONDITION, T0, TOKENS, give, order, post, venue
from venue_caller import call
from venue_caller import post as post_signed

from services.paper_venue.chain_logs import logs_between
from services.paper_venue.core import Fill, advance, drain, execute_fill
from services.paper_venue.state import Traded
from shared.domain.ids import Wallet
from shared.domain.market import fee_up
from shared.domain.units import MICRO, NS_PER_S, Price, Shares

LEADER = Wallet("0x" + "d" * 40)


def test_a_sweep_is_one_trade_at_the_average_with_its_makers_apart() -> None:
    built = venue()
    post(built, order("0.51", "20", wallet=BOB, side="BUY", outcome=1, kind="GTC"))
    (trade,) = post(built, order("0.53", "60", kind="FAK")).trades
    assert [(leg.price, leg.size // MICRO) for leg in trade.legs] == [
        (510_000, 20),  # Bob's No at 0.51 is Yes at 0.49
        (500_000, 25),
        (530_000, 15),
    ]
    assert trade.notional == 20 * 490_000 + 25 * 500_000 + 15 * 530_000 == 30_250_000
    assert trade.price == 504_167  # 30.25 / 60, up: what was paid never looks cheaper
    market = built.listings[CONDITION].market
    levels = ((490_000, 20), (500_000, 25), (530_000, 15))
    fees = [fee_up(market, Price(price), Shares(size * MICRO)) for price, size in levels]
    assert trade.fee == sum(fees)
    assert built.listings[CONDITION].last_price == 530_000, "the book tells the last level"


def test_a_sellers_average_is_rounded_down_and_one_price_stays_exact() -> None:
    built = venue()
    give(built, ANN, 0, "60.01")
    (one,) = post(built, order("0.48", "7.01", side="SELL", kind="FAK")).trades
    assert (one.price, one.notional) == (480_000, 3_364_800)
    (two,) = post(built, order("0.47", "53", side="SELL", kind="FAK")).trades
    assert two.notional == 22_990_000 * 480_000 // MICRO + 30_010_000 * 470_000 // MICRO
    assert two.price == two.notional * MICRO // (53 * MICRO)


def test_the_public_and_the_chain_see_one_taker_order() -> None:
    built = venue()
    fill = Fill(wallet=LEADER, condition=CONDITION, outcome=0, side="BUY", size=Shares(30 * MICRO))
    (trade,) = execute_fill(built, fill, T0)
    told = [event for event in drain(built, T0) if isinstance(event, Traded)]
    assert len(told) == 1
    (row,) = built.rows_of[LEADER]
    assert (row.size, row.usd, row.price) == (30 * MICRO, 15_150_000, 505_000)
    assert [each.taker for each in built.rows] == [True, False, False]
    advance(built, T0 + 60 * NS_PER_S)
    logs = list(logs_between(built, 0, 1 << 62))
    assert [log.fill.taker for log in logs] == [False, False, True]
    assert logs[-1].fill.usd == sum(log.fill.usd for log in logs[:-1]) == trade.notional


def test_a_transaction_of_a_recorded_fill_has_one_taker_too() -> None:
    built = venue()
    post(built, order("0.49", "10"))
    post(built, order("0.49", "10", wallet=BOB))
    sold = Fill(
        wallet=LEADER,
        condition=CONDITION,
        outcome=0,
        side="SELL",
        size=Shares(60 * MICRO),
        price=Price(470_000),
        exact=True,
    )
    trades = execute_fill(built, sold, T0)
    assert len({trade.tx for trade in trades}) == len(trades) == 3


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_failed_sweep_fails_whole(side: str) -> None:
    from services.paper_venue.state import Trouble

    built = venue()
    give(built, ANN, 0, "100")
    before = built.ledger.cash[ANN]
    built.trouble = lambda trade: Trouble()
    price = "0.53" if side == "BUY" else "0.47"
    (trade,) = post(built, order(price, "60", side=side, kind="FAK")).trades
    advance(built, T0 + 60 * NS_PER_S)
    assert trade.status == "FAILED"
    assert built.ledger.cash[ANN] == before
    assert built.ledger.tokens[ANN, TOKENS[0]] == 100 * MICRO
    assert list(logs_between(built, 0, 1 << 62)) == []


async def test_the_wire_tells_a_sweep_once(bench: Bench) -> None:
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens})
        await frame(socket), await frame(socket)  # the books, PONG
        answer = await post_signed(bench, "FAK", 0.53, size=50)
        assert answer.status == 200
        (name,) = answer.body["tradeIDs"]
        assert (answer.body["makingAmount"], answer.body["takingAmount"]) == ("25.75", "50")
        frames = [await frame(socket) for _ in range(3)]
    told = [each for each in frames if isinstance(each, dict)]
    assert [(each["price"], each["size"]) for each in told] == [("0.515", "50")]
    page = (await call(bench, "GET", "/data/trades")).body["data"]
    (trade,) = page
    assert (trade["id"], trade["size"], trade["price"]) == (name, "50", "0.515")
    assert [(leg["price"], leg["matched_amount"]) for leg in trade["maker_orders"]] == [
        ("0.5", "25"),
        ("0.53", "25"),
    ]
