"""`polymarket-client`, unchanged, reads the running venue: the CLOB, the Data API and Gamma."""

import time
from decimal import Decimal

import pytest
from polymarket import PublicClient
from polymarket.errors import RequestRejectedError
from polymarket.models.data import (
    MergeActivity,
    RedeemActivity,
    SplitActivity,
    TradeActivity,
)

from tests.clients.local_venue import ASKS, BIDS, KINDS, Kind, LocalVenue
from tests.clients.sdk import fill

CENT = Decimal("0.01")
pytestmark = pytest.mark.xdist_group("sdk_reads")


@pytest.mark.parametrize("kind", KINDS)
def test_books_and_their_prices(venue: LocalVenue, client: PublicClient, kind: Kind) -> None:
    listed = venue.market(kind)
    first, second = listed.tokens
    book, mirror = client.get_order_books(asset_ids=[first, second])
    assert book == client.get_order_book(asset_id=first)
    assert book.condition_id == listed.condition
    assert [(level.price, level.size) for level in book.bids] == [
        (Decimal(price), Decimal(size)) for price, size in BIDS
    ]
    assert [(level.price, level.size) for level in reversed(book.asks)] == [
        (Decimal(price), Decimal(size)) for price, size in ASKS
    ]
    assert (mirror.bids[-1].price, mirror.asks[-1].price) == (Decimal("0.5"), Decimal("0.52"))
    assert (book.tick_size, book.min_order_size, book.neg_risk) == (CENT, 5, kind == "neg-risk")
    assert book.last_trade_price is None
    assert client.get_price(asset_id=first, side="BUY") == Decimal("0.48")
    assert client.get_price(asset_id=first, side="SELL") == Decimal("0.5")
    assert client.get_midpoint(asset_id=second) == Decimal("0.51")
    assert client.get_spread(asset_id=first) == Decimal("0.02")
    assert client.get_last_trade_price(asset_id=first) is None
    assert client.estimate_market_price(
        asset_id=first, side="BUY", amount="20", order_type="FAK"
    ) == Decimal("0.53")


def test_the_last_trade_shows_in_both_tokens(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market()
    fill(venue, listed, wallet, "BUY", "10")
    mine, other = (client.get_last_trade_price(asset_id=token) for token in listed.tokens)
    assert mine is not None
    assert other is not None
    assert (mine.price, mine.side) == (Decimal("0.5"), "BUY")
    assert (other.price, other.side) == (Decimal("0.5"), "SELL")
    assert client.get_order_book(asset_id=listed.tokens[0]).last_trade_price == Decimal("0.5")


def test_a_book_that_is_gone_is_not_found(venue: LocalVenue, client: PublicClient) -> None:
    listed = venue.market()
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    for token in (listed.tokens[0], "1"):
        with pytest.raises(RequestRejectedError, match="No orderbook exists") as gone:
            client.get_order_book(asset_id=token)
        assert gone.value.status == 404


@pytest.mark.parametrize("kind", KINDS)
def test_gamma_tells_a_markets_terms(venue: LocalVenue, client: PublicClient, kind: Kind) -> None:
    listed = venue.market(kind)
    (found,) = client.list_markets(condition_ids=[listed.condition]).first_page().items
    assert found == client.get_market(slug=listed.slug)
    assert found.condition_id is not None
    assert found.condition_id.ljust(66, "0") == listed.condition  # Gamma may leave the padding out
    assert found.version == ("v2" if kind == "v2" else "v1")
    outcomes = (found.outcomes.yes, found.outcomes.no)
    ids = tuple(each.position_id if kind == "v2" else each.token_id for each in outcomes)
    assert ids == listed.tokens
    assert [each.price for each in outcomes] == [Decimal("0.49"), Decimal("0.51")]
    assert (found.state.active, found.state.closed, found.state.accepting_orders) == (
        True,
        False,
        True,
    )
    assert found.state.neg_risk is (kind == "neg-risk")
    assert (found.trading.minimum_tick_size, found.trading.minimum_order_size) == (CENT, 5)
    fees = found.trading.fee_schedule
    assert fees is not None
    assert (fees.rate, fees.exponent, fees.taker_only) == (Decimal("0.07"), 1, True)
    assert (found.prices.best_bid, found.prices.best_ask) == (Decimal("0.48"), Decimal("0.5"))


def test_gamma_pages_through_every_market_once(venue: LocalVenue, client: PublicClient) -> None:
    listed = [venue.market() for _ in range(5)]
    pages = list(client.list_markets(page_size=2))
    assert max(len(page.items) for page in pages) == 2
    found = [market.slug for page in pages for market in page.items]
    assert len(found) == len(set(found))
    assert {each.slug for each in listed} <= set(found)


def test_activity_tells_all_a_wallet_did(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market()
    body = {"wallet": wallet, "condition": listed.condition}
    venue.admin("activity", type="SPLIT", size="30", **body)
    bought = fill(venue, listed, wallet, "BUY", "40")  # 25 at 0.5, 15 at 0.53: one row
    sold = fill(venue, listed, wallet, "SELL", "10")
    venue.admin("activity", type="MERGE", size="5", **body)
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    venue.admin("activity", type="REDEEM", size="1000", **body)
    rows = client.list_activity(user=wallet, sort_direction="ASC").first_page().items
    kinds = (SplitActivity, *[TradeActivity] * 2, MergeActivity, RedeemActivity)
    assert [type(row) for row in rows] == list(kinds)
    assert [row.amount for row in (rows[0], rows[3])] == [30, 5]
    trades = [row for row in rows if isinstance(row, TradeActivity)]
    assert [(row.side, row.shares, row.price) for row in trades] == [
        ("BUY", 40, Decimal("0.51125")),
        ("SELL", 10, Decimal("0.48")),
    ]
    assert [row.amount for row in trades] == [Decimal("20.45"), Decimal("4.8")]
    assert [row.transaction_hash for row in trades] == [bought, sold]
    assert {row.asset_id for row in trades} == {listed.tokens[0]}
    assert {row.wallet for row in rows} == {wallet}
    newest_first = client.list_activity(user=wallet).first_page().items
    assert newest_first == tuple(reversed(rows))


def test_activity_pages_and_filters(venue: LocalVenue, client: PublicClient, wallet: str) -> None:
    one, other = venue.market(), venue.market("v2")
    for listed in (one, other, one, other, one):
        fill(venue, listed, wallet, "BUY", "5")
    pages = list(client.list_activity(user=wallet, page_size=2))
    assert [len(page.items) for page in pages] == [2, 2, 1]
    rows = [row for page in pages for row in page.items]
    assert rows == list(client.list_activity(user=wallet).first_page().items)
    of_one = client.list_activity(user=wallet, condition_id=one.condition).first_page().items
    assert [row.condition_id for row in of_one] == [one.condition] * 3
    nothing = (
        client.list_activity(user=wallet, side="SELL"),
        client.list_activity(user=wallet, activity_types=["SPLIT", "MERGE"]),
        client.list_activity(user=wallet, start=int(time.time()) + 60, end=int(time.time()) + 90),
        client.list_activity(user="0x" + "5" * 40),
    )
    assert [pages.first_page().items for pages in nothing] == [()] * 4


def test_trades_hide_makers_unless_asked(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market()
    tx = fill(venue, listed, wallet, "BUY", "10")
    (taker,) = client.list_trades(condition_id=listed.condition).first_page().items
    assert (taker.wallet, taker.transaction_hash, taker.size) == (wallet, tx, 10)
    everybody = client.list_trades(condition_id=listed.condition, taker_only=False)
    assert {row.side for row in everybody.first_page().items} == {"BUY", "SELL"}
    mine = client.list_trades(user=wallet, side="BUY", filter_type="CASH", filter_amount=5)
    assert mine.first_page().items == (taker,)
    assert client.list_trades(user=wallet, filter_amount=11).first_page().items == ()


def test_positions_and_what_they_are_worth(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market("neg-risk")
    fill(venue, listed, wallet, "BUY", "20")
    (held,) = client.list_positions(user=wallet).first_page().items
    assert (held.asset_id, held.opposite_asset_id) == listed.tokens
    assert (held.current_size, held.avg_price) == (20, Decimal("0.5"))
    assert (held.status, held.negative_risk, held.outcome_index) == ("OPEN", True, 0)
    assert (held.current_price, held.current_value) == (Decimal("0.49"), Decimal("9.8"))
    worth = client.get_portfolio_value(user=wallet)
    assert (worth.wallet, worth.value) == (wallet, Decimal("9.8"))
    venue.admin("resolve", condition=listed.condition, payouts=["0", "1"])
    assert client.list_positions(user=wallet, status="OPEN").first_page().items == ()
    (lost,) = client.list_positions(user=wallet, status="REDEEMABLE_LOST").first_page().items
    assert (lost.status, lost.redeemable, lost.current_value) == ("REDEEMABLE", True, 0)


def test_resolutions_say_who_won(venue: LocalVenue, client: PublicClient) -> None:
    won, split = venue.market(), venue.market("v2")
    venue.admin("resolve", condition=won.condition, payouts=["1", "0"])
    venue.admin("resolve", condition=split.condition, payouts=["0.5", "0.5"])
    conditions = [won.condition, split.condition]
    rows = {row.condition_id: row for row in client.get_resolutions(condition_ids=conditions)}
    assert {row.status for row in rows.values()} == {"resolved"}
    assert [rows[each].payouts for each in conditions] == [(1, 0), (Decimal("0.5"), Decimal("0.5"))]


def test_a_refused_query_says_which_parameter(venue: LocalVenue, client: PublicClient) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        client.list_activity(user="not a wallet").first_page()
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
