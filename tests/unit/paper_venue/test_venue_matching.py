"""Laws of the matching: what is conserved, who goes first, what each order type promises."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from venue_build import (
    ANN,
    ASKS,
    BIDS,
    BOB,
    CAT,
    CONDITION,
    FUNDS,
    T0,
    TOKENS,
    give,
    levels,
    order,
    post,
    venue,
)

from services.paper_venue.core import (
    Fill,
    advance,
    drain,
    execute_activity,
    execute_fill,
    resolve_market,
    set_depth,
)
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import ANONYMOUS, Refused, Trouble, Venue
from services.paper_venue.trading import cancel_orders
from shared.domain.ids import Wallet
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, format_micro

WALLETS = (ANN, BOB, CAT)
LEADER = Wallet("0x" + "d" * 40)

prices = st.integers(40, 60).map(lambda cents: f"0.{cents:02d}")
sizes = st.integers(500, 9_000).map(lambda hundredths: format_micro(hundredths * 10_000))
sides = st.sampled_from(["BUY", "SELL"])
outcomes = st.sampled_from([0, 1])
posts = st.tuples(
    st.just("post"),
    st.sampled_from(WALLETS),
    sides,
    outcomes,
    prices,
    sizes,
    st.sampled_from(["GTC", "FAK", "FOK"]),
)
fills = st.tuples(st.just("fill"), sides, outcomes, prices, sizes, st.booleans())
books = st.tuples(st.just("book"), st.integers(40, 58), st.integers(1, 3), sizes, sizes)
splits = st.tuples(st.just("split"), st.sampled_from(WALLETS), sizes)
cancels = st.tuples(st.just("cancel"), st.integers(0, 30))
waits = st.tuples(st.just("wait"), st.integers(1, 4))
failures = st.tuples(st.just("fail"), st.integers(1, 2))
actions = st.lists(
    st.one_of(posts, posts, fills, books, splits, cancels, waits, failures), max_size=40
)


def act(built: Venue, action: tuple, now_ns: int) -> int:
    match action:
        case ("post", who, side, outcome, price, size, kind):
            posted = order(price, size, wallet=who, side=side, outcome=outcome, kind=kind)
            with suppress(Refused):
                post(built, posted, now_ns)
        case ("fill", side, outcome, price, size, exact):
            fill = Fill(
                wallet=LEADER,
                condition=CONDITION,
                outcome=outcome,
                side=side,
                size=levels(("0", size))[0][1],
                price=levels((price, "0"))[0][0],
                exact=exact,
            )
            execute_fill(built, fill, now_ns)
        case ("book", bid, spread, bid_size, ask_size):
            bids = levels((f"0.{bid:02d}", bid_size))
            asks = levels((f"0.{bid + spread:02d}", ask_size))
            set_depth(built, CONDITION, bids, asks, now_ns)
        case ("split", who, size):
            shares = Shares(levels(("0", size))[0][1])
            if built.ledger.free_cash(who) >= shares:
                stamp = Stamp(now_ns, new_tx(built))
                execute_activity(built, who, "SPLIT", CONDITION, shares, stamp)
        case ("cancel", place):
            ids = list(built.orders)[place : place + 1]
            cancel_orders(built, {f"key-{who[2:5]}" for who in WALLETS}, ids, now_ns)
        case ("wait", seconds):
            now_ns += seconds * NS_PER_S
            advance(built, now_ns)
        case ("fail", number):
            failing = iter([Trouble()] * number)
            built.trouble = lambda trade: next(failing, None)
    return now_ns


def check_balances(built: Venue) -> None:
    ledger = built.ledger
    everybody = {wallet for wallet, _ in ledger.tokens} | set(ledger.cash)
    sets = [sum(ledger.tokens[who, token] for who in everybody) for token in TOKENS]
    assert sets[0] == sets[1], "every share of one outcome has its counterpart"
    assert sum(ledger.cash.values()) + sets[0] == 3 * FUNDS, "dollars are never made or lost"
    for who in WALLETS:
        live = [o for o in built.orders.values() if o.wallet == who and o.status == "LIVE"]
        buys = sum(-(-o.price * o.left // MICRO) for o in live if o.side == "BUY")
        assert ledger.reserved[who, None] == buys
        for token in TOKENS:
            sells = sum(o.left for o in live if o.side == "SELL" and o.token == token)
            assert ledger.reserved[who, token] == sells


@settings(max_examples=150, deadline=None)
@given(actions)
def test_shares_and_dollars_are_conserved(script: list[tuple]) -> None:
    built, now_ns = venue(), T0
    for action in script:
        now_ns = act(built, action, now_ns)
        check_balances(built)
    advance(built, now_ns + 60 * NS_PER_S)
    check_balances(built)
    ledger = built.ledger
    for who in (*WALLETS, LEADER, ANONYMOUS):
        assert ledger.settled_cash[who] == ledger.cash[who]
        for token in TOKENS:
            assert ledger.holding(who, token) == ledger.tokens[who, token]


@settings(max_examples=100, deadline=None)
@given(actions)
def test_no_account_overspends_while_settlements_succeed(script: list[tuple]) -> None:
    built, now_ns = venue(), T0
    for action in script:
        if action[0] == "fail":
            continue
        now_ns = act(built, action, now_ns)
        for who in WALLETS:
            assert built.ledger.free_cash(who) >= 0
            assert all(built.ledger.free_tokens(who, token) >= 0 for token in TOKENS)


@settings(max_examples=100, deadline=None)
@given(actions)
def test_the_book_is_never_crossed_and_both_tokens_mirror(script: list[tuple]) -> None:
    built, now_ns = venue(), T0
    book = built.listings[CONDITION].book
    for action in script:
        now_ns = act(built, action, now_ns)
        bid, ask = book.best(is_bid=True), book.best(is_bid=False)
        assert bid is None or ask is None or bid < ask


def test_better_price_first_then_earlier_order() -> None:
    built = venue()
    set_depth(built, CONDITION, [], [], T0)
    first = order("0.45", "10", wallet=ANN)
    second = order("0.45", "10", wallet=BOB)
    better = order("0.46", "10", wallet=CAT)
    for posted in (first, second, better):
        post(built, posted)
    give(built, BOB, 0, "25")
    sold = post(built, order("0.4", "25", wallet=BOB, side="SELL", kind="FAK"))
    assert [(leg.order, leg.size) for trade in sold.trades for leg in trade.legs] == [
        (better.id, 10 * MICRO),
        (first.id, 10 * MICRO),
        (second.id, 5 * MICRO),
    ]
    (trade,) = sold.trades
    assert trade.price == 454_000  # 10 at 0.46 and 15 at 0.45


def test_recorded_depth_goes_before_resting_orders_of_its_price() -> None:
    built = venue()
    resting = order("0.48", "10", wallet=ANN)
    post(built, resting)
    give(built, BOB, 0, "40")
    post(built, order("0.48", "35", wallet=BOB, side="SELL", kind="FAK"))
    assert resting.matched == 5 * MICRO


def test_consumed_depth_returns_with_the_next_snapshot_only() -> None:
    built = venue()
    post(built, order("0.5", "25", kind="FAK"))
    assert built.listings[CONDITION].book.best(is_bid=False) == 530_000
    with pytest.raises(Refused, match="no orders found to match"):
        post(built, order("0.5", "25", kind="FAK"))
    set_depth(built, CONDITION, BIDS, ASKS, T0)
    assert built.listings[CONDITION].book.best(is_bid=False) == 500_000


def test_a_snapshot_that_crosses_a_resting_order_fills_it_at_its_own_price() -> None:
    built = venue()
    resting = order("0.49", "40")
    post(built, resting)
    set_depth(built, CONDITION, levels(("0.4", "5")), levels(("0.45", "30"), ("0.6", "9")), T0)
    assert resting.matched == 30 * MICRO
    assert built.ledger.cash[ANN] == FUNDS - 490_000 * 30
    assert built.listings[CONDITION].book.levels(is_bid=False) == {600_000: 9 * MICRO}


def test_two_buyers_of_opposite_outcomes_mint_a_set() -> None:
    built = venue()
    set_depth(built, CONDITION, [], [], T0)
    post(built, order("0.4", "10", wallet=ANN, outcome=1))
    placed = post(built, order("0.62", "10", wallet=BOB, kind="FAK"))
    (trade,) = placed.trades
    assert (trade.price, trade.legs[0].price, trade.legs[0].outcome) == (600_000, 400_000, 1)
    assert built.ledger.cash[ANN] == FUNDS - 4 * MICRO
    assert built.ledger.cash[BOB] == FUNDS - 6 * MICRO - trade.fee


@pytest.mark.parametrize(("size", "filled"), [("25", 25), ("26", 25), ("85", 25), ("200", 25)])
def test_fak_takes_what_its_limit_allows_and_never_rests(size: str, filled: int) -> None:
    built = venue()
    posted = order("0.5", size, kind="FAK")
    placed = post(built, posted)
    assert sum(trade.size for trade in placed.trades) == filled * MICRO
    assert posted.status == ("MATCHED" if posted.left == 0 else "CANCELED")
    assert not built.listings[CONDITION].book.resting(is_bid=True)


@pytest.mark.parametrize(("price", "size", "fills"), [("0.53", "85", True), ("0.53", "86", False)])
def test_fok_is_all_or_nothing(price: str, size: str, *, fills: bool) -> None:
    built = venue()
    before = built.listings[CONDITION].book.levels(is_bid=False)
    posted = order(price, size, kind="FOK")
    if fills:
        assert sum(trade.size for trade in post(built, posted).trades) == 85 * MICRO
        return
    with pytest.raises(Refused, match="FOK orders are fully filled or killed"):
        post(built, posted)
    assert built.listings[CONDITION].book.levels(is_bid=False) == before
    assert built.ledger.cash[ANN] == FUNDS
    assert posted.status.startswith("CANCELED_order couldn't be fully filled")


def test_the_taker_gets_the_makers_price_and_pays_the_fee_on_top() -> None:
    built = venue()
    (trade,) = post(built, order("0.52", "25", kind="FAK")).trades
    assert (trade.price, trade.notional) == (500_000, 12_500_000)
    assert trade.fee == 437_500  # 25 x 0.07 x 0.5 x 0.5
    assert built.ledger.cash[ANN] == FUNDS - 12_500_000 - 437_500


def test_a_sellers_fee_comes_out_of_the_proceeds() -> None:
    built = venue()
    give(built, ANN, 0, "30")
    (trade,) = post(built, order("0.48", "30", side="SELL", kind="FAK")).trades
    assert trade.fee == 524_160  # 30 x 0.07 x 0.48 x 0.52
    assert built.ledger.cash[ANN] == FUNDS + 14_400_000 - 524_160


def test_a_recorded_fill_stays_as_recorded_and_reaches_resting_orders() -> None:
    built = venue()
    resting = order("0.49", "10")
    post(built, resting)
    sold = Fill(
        wallet=LEADER,
        condition=CONDITION,
        outcome=0,
        side="SELL",
        size=Shares(60 * MICRO),
        price=Price(470_000),
        exact=True,
    )
    recorded, ours = execute_fill(built, sold, T0)
    assert (recorded.taker, recorded.price, recorded.size) == (LEADER, 470_000, 60 * MICRO)
    assert (ours.legs[0].order, ours.price) == (resting.id, 490_000)
    assert ours.tx != recorded.tx, "another taker: another transaction"
    # 10 reached the resting order, 30 the depth at 0.48, 20 that at 0.47
    assert built.listings[CONDITION].book.levels(is_bid=True) == {470_000: 100 * MICRO}


def test_resolution_cancels_orders_frees_reserves_and_closes_the_book() -> None:
    built = venue()
    resting = order("0.4", "10")
    post(built, resting)
    resolve_market(built, CONDITION, (MICRO, 0), T0)
    assert resting.status == "CANCELED_MARKET_RESOLVED"
    assert built.ledger.free_cash(ANN) == FUNDS
    with pytest.raises(Refused, match="market not found"):
        set_depth(built, CONDITION, BIDS, ASKS, T0)


def test_events_tell_each_book_once_after_everything_else() -> None:
    built = venue()
    drain(built, T0)
    post(built, order("0.5", "10", kind="FAK"))
    post(built, order("0.44", "10"))
    kinds = [type(event).__name__ for event in drain(built, T0)]
    assert kinds == ["Traded", "TradeMoved", "OrderMoved", "OrderMoved", "BookMoved"]
    assert drain(built, T0) == []
