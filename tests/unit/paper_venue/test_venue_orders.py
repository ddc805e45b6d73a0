"""What the venue refuses and in which words; cancels, expirations, delays, uncovered orders."""

from contextlib import suppress

import msgspec
import pytest
from venue_build import ANN, BOB, CONDITION, FUNDS, MARKET, T0, give, levels, order, post, venue

from services.paper_venue.balances import look
from services.paper_venue.config import Funded
from services.paper_venue.core import advance, drain, fund, set_depth
from services.paper_venue.state import Order, OrderMoved, Refused, TickChanged
from services.paper_venue.trading import cancel_orders, post_order
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Usd

S0 = T0 // NS_PER_S
DELAYED = msgspec.structs.replace(MARKET, taker_delay=True)
CLOSED = msgspec.structs.replace(MARKET, accepting_orders=False)


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        (order("0.555"), r"is invalid. Price \(0.555\) breaks minimum tick size rule: 0.01"),
        (order("1", "10"), "breaks minimum tick size rule"),
        (order("0.4", "4.99"), r"is invalid. Size \(4.99\) lower than the minimum: 5"),
        (order("0.5", "10", post_only=True), "invalid post-only order: order crosses book"),
        (order("0.5", "10", post_only=True, kind="FAK"), "Invalid order payload"),
        (order("0.53", "10.01", kind="FAK"), "max accuracy of 2 decimals"),
        (order("0.4", "10", kind="GTD", expiration_s=S0 + 179), "invalid expiration"),
        (order("0.4", "10", expiration_s=S0 + 500), "invalid expiration"),
        (order("0.4", "10", side="SELL"), "the balance is not enough -> balance: 0, order amount"),
        (order("0.4", "90000"), "not enough balance / allowance: the balance is not enough"),
        (order("0.48", "10", kind="FAK"), "no orders found to match with FAK order"),
        (order("0.5", "26", kind="FOK"), "FOK orders are fully filled or killed"),
    ],
)
def test_refusals_use_the_venues_words(posted: Order, words: str) -> None:
    built = venue()
    with pytest.raises(Refused, match=words):
        post(built, posted)
    assert built.ledger.cash[ANN] == FUNDS


def test_a_marketable_buy_is_worth_a_dollar_and_a_resting_one_need_not_be() -> None:
    built = venue()
    set_depth(built, CONDITION, [], levels(("0.05", "100")), T0)
    with pytest.raises(Refused, match=r"marketable BUY order \(\$0.25\), min size: \$1"):
        post(built, order("0.05", "5"))
    assert post(built, order("0.04", "5")).status == "live"


def test_a_market_that_is_not_ready_takes_no_orders() -> None:
    with pytest.raises(Refused, match="not yet ready to process new orders"):
        post(venue(CLOSED), order())


@pytest.mark.parametrize("kind", ["GTC", "FAK", "FOK"])
def test_the_same_order_again_is_a_duplicate_even_after_a_kill(kind: str) -> None:
    built = venue()
    posted = order("0.4", "10", kind=kind)
    with suppress(Refused):
        post(built, posted)
    with pytest.raises(Refused, match=r"is invalid\. Duplicated\."):
        post(built, posted)


def test_a_refused_order_leaves_no_trace_and_may_come_again() -> None:
    built = venue()
    posted = order("0.6", "10", side="SELL")
    with pytest.raises(Refused, match="balance is not enough"):
        post(built, posted)
    give(built, ANN, 0, "10")
    assert post(built, posted).status == "live"


def test_the_fee_is_part_of_what_a_buyer_must_have() -> None:
    built = venue()
    fund(built, Funded(wallet=ANN, usd=Usd(5 * MICRO - FUNDS)), T0)
    with pytest.raises(Refused, match="balance: 5000000, order amount: 5175000"):
        post(built, order("0.5", "10", kind="FAK"))
    fund(built, Funded(wallet=ANN, usd=Usd(175_000)), T0)
    with pytest.raises(Refused, match="balance: 5000000, order amount: 5175000"):
        post(built, order("0.5", "10", kind="FAK"))  # the CLOB has not looked yet
    look(built, ANN, None)
    post(built, order("0.5", "10", kind="FAK"))
    assert built.ledger.cash[ANN] == 0


def test_open_orders_reserve_until_cancelled() -> None:
    built = venue()
    resting = order("0.4", "20000")
    post(built, resting)
    with pytest.raises(Refused, match="balance: 2000000000"):
        post(built, order("0.41", "5000"))
    done, refused = cancel_orders(built, {resting.owner}, [resting.id, "0x00"], T0)
    assert done == [resting.id]
    assert refused == {"0x00": "Order not found or already canceled"}
    assert built.ledger.free_cash(ANN) == FUNDS
    assert cancel_orders(built, {resting.owner}, [resting.id], T0)[1] == {
        resting.id: "already canceled or matched"
    }


def test_nobody_cancels_anothers_order() -> None:
    built = venue()
    resting = order("0.4", "20")
    post(built, resting)
    assert cancel_orders(built, {"key-other"}, [resting.id], T0)[0] == []
    assert resting.status == "LIVE"


def test_gtd_leaves_a_minute_before_its_expiration() -> None:
    built = venue()
    resting = order("0.4", "20", kind="GTD", expiration_s=S0 + 200)
    post(built, resting)
    advance(built, T0 + 139 * NS_PER_S)
    assert resting.status == "LIVE"
    advance(built, T0 + 140 * NS_PER_S)
    assert resting.status == "CANCELED_EXPIRED_ORDER"
    changes = [event.change for event in drain(built, T0) if isinstance(event, OrderMoved)]
    assert changes == ["PLACEMENT", "CANCELLATION"]


def test_a_withdrawal_cancels_the_newest_uncovered_orders() -> None:
    built = venue()
    older, newer = order("0.4", "100"), order("0.4", "100")
    post(built, older)
    post(built, newer)
    fund(built, Funded(wallet=ANN, usd=Usd(50 * MICRO - FUNDS)), T0)
    assert (older.status, newer.status) == ("LIVE", "CANCELED_NOT_ENOUGH_BALANCE")


def test_a_delayed_order_meets_the_book_as_it_is_when_the_delay_ends() -> None:
    built = venue(DELAYED, taker_delay_ms=250)
    posted = order("0.5", "20", kind="FAK")
    assert post(built, posted).status == "delayed"
    assert cancel_orders(built, {posted.owner}, [posted.id], T0)[0] == []
    set_depth(built, CONDITION, [], levels(("0.49", "5"), ("0.5", "5")), T0 + NS_PER_MS)
    advance(built, T0 + 249 * NS_PER_MS)
    assert posted.matched == 0
    advance(built, T0 + 250 * NS_PER_MS)
    assert (posted.matched, posted.status) == (10 * MICRO, "CANCELED")
    assert built.ledger.reserved[ANN, None] == 0


def test_a_delayed_order_whose_market_moved_away_is_killed_or_rests() -> None:
    built = venue(DELAYED, taker_delay_ms=250)
    killed, resting = order("0.5", "10", kind="FAK"), order("0.5", "10", wallet=BOB)
    post(built, killed)
    post(built, resting)
    set_depth(built, CONDITION, [], levels(("0.6", "5")), T0)
    advance(built, T0 + NS_PER_S)
    assert killed.status.startswith("CANCELED_no orders found")
    assert resting.status == "LIVE"


def test_the_grid_becomes_finer_at_the_extremes() -> None:
    built = venue()
    drain(built, T0)
    set_depth(built, CONDITION, levels(("0.97", "10")), levels(("0.98", "10")), T0)
    tick = [event for event in drain(built, T0) if isinstance(event, TickChanged)]
    assert [(event.old, event.new) for event in tick] == [(10_000, 1_000)]
    assert post(built, order("0.965", "10")).status == "live"


def test_a_buyer_who_signed_less_than_a_dollar_is_judged_by_what_he_signed() -> None:
    built = venue()
    posted = order("0.5", "10", kind="FAK")
    with pytest.raises(Refused, match=r"\(\$0.99\)"):
        post_order(built, posted, Usd(990_000), T0)


def test_terms_are_the_markets_own() -> None:
    fine: Market = msgspec.structs.replace(MARKET, tick=Price(1_000))
    assert post(venue(fine), order("0.455", "10")).status == "live"
