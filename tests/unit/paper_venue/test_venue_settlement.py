"""From the match to the end: who sees what when, and what a failed settlement takes back."""

import pytest
from venue_build import ANN, BOB, CONDITION, FUNDS, T0, TOKENS, give, order, post, venue

from services.paper_venue.core import Fill, advance, drain, execute_activity, execute_fill
from services.paper_venue.core import resolve_market as resolve
from services.paper_venue.public import position_status, wallet_value
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import (
    ANONYMOUS,
    Event,
    Refused,
    RowsShown,
    TradeMoved,
    Trouble,
    Venue,
    no_trouble,
)
from shared.domain.ids import TxHash, Wallet
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares

LEADER = Wallet("0x" + "d" * 40)
BUY = Fill(wallet=LEADER, condition=CONDITION, outcome=0, side="BUY", size=Shares(30 * MICRO))


def states(events: list[Event]) -> list[str]:
    return [event.status for event in events if isinstance(event, TradeMoved)]


def shown(built: Venue, now_ns: int) -> list[str]:
    advance(built, now_ns)
    events = drain(built, now_ns)
    return [row.wallet for event in events if isinstance(event, RowsShown) for row in event.rows]


def test_a_trade_is_matched_then_mined_then_confirmed() -> None:
    built = venue()
    (trade,) = post(built, order("0.5", "10", kind="FAK")).trades
    assert states(drain(built, T0)) == ["MATCHED"]
    advance(built, T0 + 1_999 * NS_PER_MS)
    assert built.ledger.settled_cash[ANN] == FUNDS
    assert built.ledger.holding(ANN, TOKENS[0]) == 0
    advance(built, T0 + 2_000 * NS_PER_MS)
    assert built.ledger.settled_cash[ANN] == built.ledger.cash[ANN] < FUNDS
    assert built.ledger.holding(ANN, TOKENS[0]) == 10 * MICRO
    advance(built, T0 + 5_000 * NS_PER_MS)
    assert states(drain(built, T0)) == ["MINED", "CONFIRMED"]
    assert trade.status == "CONFIRMED"


def test_a_failed_settlement_is_retried_then_takes_the_fill_back() -> None:
    built = venue()
    built.trouble = lambda trade: Trouble()
    (trade,) = post(built, order("0.5", "10", kind="FAK")).trades
    built.trouble = no_trouble
    assert built.ledger.cash[ANN] < FUNDS
    assert shown(built, T0 + 60 * NS_PER_S) == [], "the public never hears of it"
    assert trade.status == "FAILED"
    assert built.ledger.cash[ANN] == built.ledger.settled_cash[ANN] == FUNDS
    assert built.ledger.tokens[ANN, TOKENS[0]] == 0
    post(built, order("0.53", "10", kind="FAK"))
    advance(built, T0 + 60 * NS_PER_S)
    assert built.ledger.holding(ANN, TOKENS[0]) == 10 * MICRO, "only that one failed"


def test_the_stream_hears_after_its_delay_taker_and_makers() -> None:
    built = venue()
    execute_fill(built, BUY, T0)
    assert shown(built, T0 + 1_999 * NS_PER_MS) == []
    rows = shown(built, T0 + 2_000 * NS_PER_MS)
    assert rows == [LEADER, ANONYMOUS, ANONYMOUS], "one row an order"
    assert len({row.tx for row in built.rows}) == 1, "one transaction"
    assert [row.taker for row in built.rows] == [True, False, False]


def test_the_data_api_has_its_own_delay_and_whole_second_block_times() -> None:
    built = venue()
    execute_fill(built, BUY, T0 + 700 * NS_PER_MS)
    row = built.rows_of[LEADER][0]
    assert row.seen_ns == T0 + 3_600 * NS_PER_MS
    assert row.block_s == T0 // NS_PER_S + 3, "the first block from 2.7 s on"


def test_immediate_fills_skip_every_delay() -> None:
    built = venue()
    fill = Fill(
        wallet=LEADER,
        condition=CONDITION,
        outcome=1,
        side="BUY",
        size=Shares(7 * MICRO),
        price=Price(600_000),
        exact=True,
        immediate=True,
    )
    execute_fill(built, fill, T0)
    assert shown(built, T0) == [LEADER, ANONYMOUS]
    assert built.ledger.holding(LEADER, TOKENS[1]) == 7 * MICRO
    assert built.rows_of[LEADER][0].seen_ns == T0


def test_rows_stay_in_order_when_quick_and_slow_ones_mix() -> None:
    built = venue()
    for number in range(20):
        fill = Fill(
            wallet=LEADER,
            condition=CONDITION,
            outcome=0,
            side="BUY",
            size=Shares(MICRO),
            price=Price(500_000),
            exact=True,
            immediate=number % 3 == 0,
        )
        execute_fill(built, fill, T0 + number * 300 * NS_PER_MS)
    keys = [(row.block_s, row.seq) for row in built.rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == 40


def test_two_orders_of_one_maker_at_one_price_give_two_identical_rows() -> None:
    built = venue()
    for _ in range(2):
        post(built, order("0.49", "10", wallet=BOB))
    give(built, ANN, 0, "20")
    post(built, order("0.49", "20", side="SELL", kind="FAK"))
    first, second = built.rows_of[BOB]
    assert (first.tx, first.price, first.size) == (second.tx, second.price, second.size)


def test_fills_can_share_a_transaction_on_request() -> None:
    built = venue()
    tx = TxHash("0x" + "7" * 64)
    for _ in range(2):
        fill = Fill(
            wallet=LEADER,
            condition=CONDITION,
            outcome=0,
            side="BUY",
            size=Shares(MICRO),
            price=Price(500_000),
            tx=tx,
            exact=True,
        )
        execute_fill(built, fill, T0)
    assert [row.tx for row in built.rows_of[LEADER]] == [tx, tx]


def test_a_split_then_a_merge_gives_everything_back() -> None:
    built = venue()
    sets = Shares(40 * MICRO)
    execute_activity(built, ANN, "SPLIT", CONDITION, sets, Stamp(T0, new_tx(built)))
    assert built.ledger.cash[ANN] == FUNDS - 40 * MICRO
    assert [built.ledger.holding(ANN, token) for token in TOKENS] == [sets, sets]
    position = built.ledger.positions[ANN][TOKENS[0]]
    assert position_status(built, ANN, TOKENS[0], position) == "MERGEABLE"
    execute_activity(built, ANN, "MERGE", CONDITION, sets, Stamp(T0, new_tx(built)))
    assert built.ledger.cash[ANN] == FUNDS
    assert [built.ledger.holding(ANN, token) for token in TOKENS] == [0, 0]
    assert [row.kind for row in built.rows_of[ANN]] == ["SPLIT", "MERGE"]


def test_a_redemption_pays_the_winners_and_needs_a_resolution() -> None:
    built = venue()
    give(built, ANN, 0, "40")
    give(built, ANN, 1, "15")
    size = Shares(40 * MICRO)
    with pytest.raises(Refused, match="not resolved"):
        execute_activity(built, ANN, "REDEEM", CONDITION, size, Stamp(T0, new_tx(built)))
    resolve(built, CONDITION, (0, MICRO), T0)
    statuses = [
        position_status(built, ANN, token, built.ledger.positions[ANN][token]) for token in TOKENS
    ]
    assert statuses == ["REDEEMABLE_LOST", "REDEEMABLE"]
    assert wallet_value(built, ANN) == 15 * MICRO
    row = execute_activity(built, ANN, "REDEEM", CONDITION, size, Stamp(T0, new_tx(built)))
    assert row.usd == 15 * MICRO
    assert built.ledger.cash[ANN] == FUNDS + 15 * MICRO


def test_positions_keep_average_cost_and_realized_profit() -> None:
    built = venue()
    post(built, order("0.5", "20", kind="FAK"))
    advance(built, T0 + 10 * NS_PER_S)
    post(built, order("0.48", "10", side="SELL", kind="FAK"), T0 + 10 * NS_PER_S)
    advance(built, T0 + 20 * NS_PER_S)
    position = built.ledger.positions[ANN][TOKENS[0]]
    assert (position.size, position.cost) == (10 * MICRO, 5 * MICRO)
    assert (position.bought, position.bought_cost) == (20 * MICRO, 10 * MICRO)
    assert position.realized == -200_000


def test_the_oldest_trades_are_forgotten_beyond_the_limit_and_balances_are_not() -> None:
    built = venue(trades_kept=40)
    for number in range(45):
        fill = Fill(
            wallet=LEADER,
            condition=CONDITION,
            outcome=0,
            side="BUY",
            size=Shares(MICRO),
            price=Price(500_000),
            exact=True,
            immediate=True,
        )
        execute_fill(built, fill, T0 + number)
        advance(built, T0 + number)
    assert 30 <= len(built.trades) <= 40
    assert len(built.rows_of[LEADER]) == len(built.trades) == len(built.trades_of[LEADER])
    assert built.ledger.holding(LEADER, TOKENS[0]) == 45 * MICRO
