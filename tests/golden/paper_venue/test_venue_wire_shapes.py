"""Every body and frame of the venue has the keys, and the kinds of values, of a recorded one."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.paper_venue import gamma_rows, public, wire
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.core import (
    Fill,
    advance,
    drain,
    execute_activity,
    execute_fill,
    new_venue,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import BookMoved, Order, OrderMoved, Venue
from services.paper_venue.trading import Placed, post_order
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares, Usd, parse_micro

HERE = Path(__file__).parent
SAMPLES = Path(__file__).parents[3].parent / "shared" / "polymarket" / "samples"
T0 = 1_793_318_400_123 * NS_PER_MS
ANN = Wallet("0x" + "a" * 40)
LEADER = Wallet("0x" + "d" * 40)
CONDITION = ConditionId("0x" + "0" * 62 + "aa")
TOKENS = (
    TokenId("71321045679252212594626385532706912750332728571942532289631379312455583992563"),
    TokenId("52114319501245915516055106046884209969926127482827954674443846427813813222426"),
)
MARKET = Market(
    condition=CONDITION,
    tokens=TOKENS,
    outcomes=("Yes", "No"),
    tick=Price(10_000),
    size_min=Shares(5 * MICRO),
    fee_rate=70_000,
    slug="some-market",
    question="Some market?",
    end_ns=T0,
)
samples_here = pytest.mark.skipif(not SAMPLES.exists(), reason="the recorded samples are not here")


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())


def plain(body: object) -> Any:
    """Return a body as a reader of the wire gets it."""
    return json.loads(wire.encode(body))


def levels(*pairs: tuple[str, str]) -> list[tuple[int, int]]:
    return [(parse_micro(price), parse_micro(size)) for price, size in pairs]


def market_venue(market: Market = MARKET) -> Venue:
    venue = new_venue(VenueConfig(accounts=(Funded(wallet=ANN, usd=Usd(100 * MICRO)),)))
    listing = open_market(venue, market, T0)
    bids, asks = levels(("0.47", "120"), ("0.48", "30.5")), levels(("0.5", "25"), ("0.53", "60"))
    set_depth(venue, market.condition, bids, asks, T0)
    listing.last_price = Price(490_000)
    drain(venue, T0)
    listing.changed_ns = T0
    return venue


def posted(venue: Venue, price: str = "0.5", kind: str = "GTC") -> tuple[Order, Placed]:
    order = Order(
        id=OrderHash("0x" + "1" * 64),
        owner="00000000-0000-0000-0000-000000000001",
        wallet=ANN,
        condition=CONDITION,
        token=TOKENS[0],
        outcome=0,
        side="BUY",
        price=Price(parse_micro(price)),
        size=Shares(10 * MICRO),
        kind=kind,  # type: ignore[arg-type]
        created_ns=T0,
    )
    return order, post_order(venue, order, Usd(5 * MICRO), T0)


def assert_same_shape(ours: Any, theirs: Any, *, lacking: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Compare keys and JSON types; ``lacking`` are keys production has and nobody reads here."""
    assert set(ours) == set(theirs) - lacking, set(ours) ^ set(theirs)
    for key in ours:
        mine, recorded = ours[key], theirs[key]
        if mine is None or recorded is None:
            continue
        number = isinstance(mine, int | float) and isinstance(recorded, int | float)
        assert number or type(mine) is type(recorded), f"{key}: {mine!r} against {recorded!r}"


def test_the_book_is_the_golden_one_byte_for_byte() -> None:
    listing = market_venue().listings[CONDITION]
    golden = (HERE / "book-with-valid-hash.json").read_bytes().strip()
    assert wire.encode(wire.book_body(listing, 0)) == golden


@samples_here
@pytest.mark.parametrize("name", ["book-v1-market", "book-v2-market-empty"])
def test_recorded_books_hash_to_their_recorded_hash(name: str) -> None:
    body = sample(f"clob/{name}.json")
    assert wire.book_hash(body) == body["hash"]


@samples_here
def test_books_have_the_recorded_keys_in_the_recorded_order() -> None:
    listing = market_venue().listings[CONDITION]
    assert list(wire.book_body(listing, 0)) == list(sample("clob/book-v1-market.json"))
    listing.market = msgspec.structs.replace(MARKET, protocol="v2")
    assert list(wire.book_body(listing, 1)) == list(sample("clob/book-v2-market-empty.json"))
    recorded = sample("market-ws/book-initial-dump.json")[0]
    listing.market = MARKET
    assert_same_shape(plain(wire.book_frame(listing, 0)), recorded)
    assert wire.book_frame(listing, 0)["hash"] == recorded["hash"]


def test_the_other_token_mirrors_the_book() -> None:
    body = wire.book_body(market_venue().listings[CONDITION], 1)
    assert body["bids"] == [{"price": "0.47", "size": "60"}, {"price": "0.5", "size": "25"}]
    assert body["asks"] == [{"price": "0.53", "size": "120"}, {"price": "0.52", "size": "30.5"}]
    assert body["last_trade_price"] == "0.510"


@samples_here
def test_market_socket_frames() -> None:
    venue = market_venue()
    listing = venue.listings[CONDITION]
    set_depth(venue, CONDITION, levels(("0.47", "1")), [], T0)
    (moved,) = [event for event in drain(venue, T0) if isinstance(event, BookMoved)]
    change = plain(wire.price_change_frame(listing, moved))
    recorded = sample("market-ws/price_change.level-removed.json")
    assert_same_shape(change, recorded)
    assert_same_shape(change["price_changes"][0], recorded["price_changes"][0])
    assert len({each["hash"] for each in change["price_changes"]}) == len(change["price_changes"])
    best = plain(wire.best_bid_ask_frame(listing, 0))
    assert_same_shape(best, sample("market-ws/best_bid_ask.json"))
    new = plain(public.new_market_frame(listing, T0))
    recorded = sample("market-ws/new_market.json")
    assert_same_shape(new, recorded)
    assert_same_shape(new["fee_schedule"], recorded["fee_schedule"])
    set_depth(venue, CONDITION, [], levels(("0.5", "100")), T0)
    _, placed = posted(venue)
    last = plain(wire.last_trade_frame(placed.trades[0]))
    assert_same_shape(last, sample("market-ws/last_trade_price.json"))
    resolve_market(venue, CONDITION, (MICRO, 0), T0)
    resolved = plain(public.resolved_frame(listing, T0))
    assert_same_shape(resolved, sample("market-ws/market_resolved.json"))
    assert resolved["winning_outcome"] == "Yes"


@samples_here
def test_order_and_trade_bodies() -> None:
    venue = market_venue()
    order, placed = posted(venue)
    answers = sample("clob/post-order-responses.json")
    assert_same_shape(plain(wire.placed_body(order, placed)), answers["matched_async_hash_missing"])
    recorded = sample("clob/data-orders-page.json")["data"][0]
    assert_same_shape(plain(wire.open_order(venue, order)), recorded)
    (trade,) = placed.trades
    body = plain(wire.trade_body(venue, trade, maker=False))
    recorded = sample("clob/data-trades-page.json")["data"][1]
    assert_same_shape(body, recorded)
    assert_same_shape(body["maker_orders"][0], recorded["maker_orders"][0])


@samples_here
def test_user_socket_frames() -> None:
    venue = market_venue()
    _, placed = posted(venue)
    (moved,) = [event for event in drain(venue, T0) if isinstance(event, OrderMoved)]
    frame = plain(wire.order_frame(venue, moved.order, moved.change, T0))
    assert_same_shape(frame, sample("user-ws/order-update-matched.json"))
    (trade,) = placed.trades
    states = sample("user-ws/trade-state-sequence.json")
    for recorded in states[:2]:
        told = plain(wire.trade_frame(venue, trade, recorded["status"], T0, maker=False))
        assert_same_shape(told, recorded)
        assert bool(told["transaction_hash"]) == bool(recorded["transaction_hash"])


@samples_here
def test_a_kill_is_told_as_recorded() -> None:
    venue = market_venue()
    with pytest.raises(Exception, match="FOK orders are fully filled or killed"):
        posted(venue, "0.49", "FOK")
    (moved,) = [event for event in drain(venue, T0) if isinstance(event, OrderMoved)]
    frame = plain(wire.order_frame(venue, moved.order, moved.change, T0))
    recorded = sample("user-ws/order-fok-killed-status-suffix.json")
    assert_same_shape(frame, recorded)
    same = ("status", "type", "size_matched", "associate_trades", "expiration", "order_type")
    assert {key: frame[key] for key in same} == {key: recorded[key] for key in same}


@samples_here
def test_public_rows() -> None:
    venue = market_venue()
    fill = Fill(wallet=LEADER, condition=CONDITION, outcome=0, side="BUY", size=Shares(25 * MICRO))
    execute_fill(venue, fill, T0)
    sets = Shares(4 * MICRO)
    execute_activity(venue, LEADER, "SPLIT", CONDITION, sets, Stamp(T0, new_tx(venue)))
    advance(venue, T0 + 10 * NS_PER_S)
    split, trade = sorted(venue.rows_of[LEADER], key=lambda row: row.kind)
    recorded = sample("data-v2/activity-page.json")["data"]
    assert_same_shape(plain(public.activity_row(venue, trade)), recorded[0])
    assert_same_shape(plain(public.activity_row(venue, split)), recorded[1])
    empty = ("token_id", "side", "outcome", "outcome_index", "price")
    ours = plain(public.activity_row(venue, split))
    assert {key: ours[key] for key in empty} == {key: recorded[1][key] for key in empty}
    assert_same_shape(
        plain(public.trade_row(venue, trade)), sample("data-v2/trades-page.json")["data"][0]
    )
    position = venue.ledger.positions[LEADER][TOKENS[0]]
    row = plain(public.position_row(venue, LEADER, TOKENS[0], position))
    assert_same_shape(row, sample("data-v2/positions-page.json")["data"][0])
    frame = plain(public.stream_frame(public.stream_payload(venue, trade), "trades", T0))
    recorded = sample("rtds/activity-trade.json")
    assert_same_shape(frame, recorded)
    assert_same_shape(frame["payload"], recorded["payload"])
    assert frame["payload"]["timestamp"] == trade.block_s - 1


@samples_here
def test_market_terms() -> None:
    venue = market_venue()
    listing = venue.listings[CONDITION]
    recorded = sample("clob/clob-markets-v1.json")
    assert_same_shape(plain(wire.market_info(listing)), recorded)
    gamma = sample("gamma/market-v1-live.json")
    ours = plain(gamma_rows.gamma_market(listing))
    assert set(ours) <= set(gamma) | {"secondsDelay", "volume", "volumeNum", "positionIds"}
    for key in set(ours) & set(gamma):
        assert isinstance(ours[key], int | float) == isinstance(gamma[key], int | float), key
    assert json.loads(ours["clobTokenIds"]) == list(TOKENS)
    resolve_market(venue, CONDITION, (MICRO, 0), T0)
    row = plain(public.resolution_row(listing))
    assert_same_shape(row, sample("data-v2/resolutions-v2-resolved.json")["data"][0])
