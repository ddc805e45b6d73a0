"""Trust in a book is lost only by evidence, and regained only by a snapshot."""

import json
from typing import Any

import pytest

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId
from shared.domain.units import Price, Shares
from shared.polymarket.errors import Garbage
from shared.polymarket.feed import BookMoved, FeedEvent, MarketFeed, Resync, TickChanged

YES, NO = TokenId("71" + "0" * 70), TokenId("52" + "0" * 70)
MARKET = ConditionId("0x" + "c1" * 32)
S = 10**9
NOW = 1_793_318_400 * S
MS_0 = 1_793_318_400_000


def book_frame(at: int = 0, *, token: str = YES, bid: str = "0.47", ask: str = "0.5") -> str:
    return json.dumps(
        {
            "event_type": "book",
            "market": MARKET,
            "asset_id": token,
            "timestamp": str(MS_0 + at),
            "bids": [{"price": bid, "size": "10"}],
            "asks": [{"price": ask, "size": "20"}],
            "tick_size": "0.01",
        }
    )


def change_frame(at: int = 1, *, token: str = YES, **change: Any) -> str:
    entry = {"asset_id": token, "price": "0.48", "size": "5", "side": "BUY"} | change
    return json.dumps(
        {
            "event_type": "price_change",
            "market": MARKET,
            "timestamp": str(MS_0 + at),
            "price_changes": [entry],
        }
    )


def rest_book(at: int = 0, *, bid: int = 470_000, ask: int = 500_000, tick: int = 10_000) -> Book:
    return Book(
        token=YES,
        condition=MARKET,
        bids=((Price(bid), Shares(10_000_000)),),
        asks=((Price(ask), Shares(20_000_000)),),
        tick=Price(tick),
        as_of_ns=(MS_0 + at) * 10**6,
        seen_ns=NOW,
        trusted=True,
    )


def ready() -> MarketFeed:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    feed.receive(book_frame(), now_ns=NOW)
    return feed


def trusted(feed: MarketFeed) -> bool:
    book = feed.book(YES)
    return book is not None and book.trusted


def reasons(events: list[FeedEvent]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Resync)]


def bids(feed: MarketFeed) -> list[Price]:
    book = feed.book(YES)
    assert book is not None
    return [price for price, _ in book.bids]


def test_a_change_that_agrees_keeps_trust() -> None:
    feed = ready()
    events = feed.receive(change_frame(best_bid="0.48", best_ask="0.5"), now_ns=NOW + 1)
    assert reasons(events) == []
    assert (trusted(feed), bids(feed)) == (True, [480_000, 470_000])
    [moved] = events
    assert isinstance(moved, BookMoved)
    assert moved.book.seen_ns == NOW + 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"best_bid": "0.49"}, "best bid disagrees"),
        ({"best_ask": "0.51"}, "best ask disagrees"),
        ({"best_ask": "0"}, "best ask disagrees"),
        ({"price": "0.5", "best_bid": "0.5"}, "crossed book"),
    ],
)
def test_a_change_that_contradicts_costs_trust(change: dict[str, Any], reason: str) -> None:
    feed = ready()
    events = feed.receive(change_frame(**change), now_ns=NOW)
    assert reasons(events) == [reason]
    assert isinstance(events[0], BookMoved)
    assert not events[0].book.trusted
    assert not trusted(feed)


def test_an_emptied_side_agrees_with_an_empty_best_price() -> None:
    feed = ready()
    frame = change_frame(price="0.5", size="0", side="SELL", best_bid="0.47", best_ask="1")
    assert reasons(feed.receive(frame, now_ns=NOW)) == []
    assert trusted(feed)


def test_a_change_older_than_the_snapshot_says_nothing() -> None:
    feed = ready()
    feed.receive(change_frame(at=-1, best_bid="0.99"), now_ns=NOW)
    assert (trusted(feed), bids(feed)) == (True, [470_000])


def test_a_change_at_the_time_of_the_snapshot_is_applied() -> None:
    feed = ready()
    feed.receive(change_frame(at=0), now_ns=NOW)
    assert bids(feed) == [480_000, 470_000]


def test_time_that_goes_back_costs_trust() -> None:
    feed = ready()
    feed.receive(change_frame(at=5), now_ns=NOW)
    assert reasons(feed.receive(change_frame(at=4), now_ns=NOW)) == ["time went back"]


def test_changes_without_trust_are_kept_for_the_snapshot_that_predates_them() -> None:
    """REST answers with a book of time 2 while the stream has told changes of time 1 and 3."""
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    assert feed.receive(change_frame(at=1, price="0.45"), now_ns=NOW) == []
    assert feed.receive(change_frame(at=3, price="0.46"), now_ns=NOW) == []
    events = feed.snapshot(rest_book(at=2), now_ns=NOW)
    assert reasons(events) == []
    assert (trusted(feed), bids(feed)) == (True, [470_000, 460_000])


def test_a_kept_change_that_contradicts_the_snapshot_asks_again_and_is_kept() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    feed.receive(change_frame(at=3, price="0.48", best_bid="0.49"), now_ns=NOW)
    feed.receive(change_frame(at=4, price="0.46", best_bid="0.49"), now_ns=NOW)
    assert reasons(feed.snapshot(rest_book(at=3), now_ns=NOW)) == []
    assert feed.counts == {"best bid disagrees": 1}
    assert reasons(feed.poll(now_ns=NOW + S + 1)) == ["no snapshot"]
    assert reasons(feed.snapshot(rest_book(at=3, bid=490_000), now_ns=NOW)) == []
    assert bids(feed) == [490_000, 480_000, 460_000]


def test_a_crossed_snapshot_is_not_trusted() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    events = feed.receive(book_frame(bid="0.5", ask="0.5"), now_ns=NOW)
    assert reasons(events) == ["crossed snapshot"]
    assert not trusted(feed)


def test_a_rest_book_older_than_ours_confirms_where_it_agrees() -> None:
    feed = ready()
    feed.snapshot(rest_book(at=-50), now_ns=NOW + 9 * S)
    book = feed.book(YES)
    assert book is not None
    assert (book.seen_ns, book.as_of_ns) == (NOW + 9 * S, MS_0 * 10**6)


@pytest.mark.parametrize("after_s", [5, 30, 3_000])
def test_an_older_rest_book_never_replaces_a_newer_one(after_s: int) -> None:
    feed = ready()
    events = feed.snapshot(rest_book(at=-50, bid=420_000), now_ns=NOW + after_s * S)
    assert reasons(events) == []
    book = feed.book(YES)
    assert book is not None
    assert (bids(feed), book.trusted, book.seen_ns) == ([470_000], True, NOW)
    assert feed.counts["stale snapshot"] == (after_s > 10)


def test_a_change_of_tick_drops_the_book_until_a_book_of_the_new_tick() -> None:
    feed = ready()
    frame = {
        "event_type": "tick_size_change",
        "asset_id": YES,
        "new_tick_size": "0.001",
        "timestamp": str(MS_0 + 10),
    }
    events = feed.receive(json.dumps(frame), now_ns=NOW)
    assert events[0] == TickChanged(YES, Price(1_000))
    assert reasons(events) == ["tick changed"]
    assert (bids(feed), trusted(feed)) == ([], False)
    assert reasons(feed.snapshot(rest_book(at=5), now_ns=NOW)) == []
    assert feed.counts["before the tick changed"] == 1
    assert not trusted(feed)
    assert reasons(feed.snapshot(rest_book(at=5, tick=1_000), now_ns=NOW)) == []
    assert trusted(feed)


def test_a_snapshot_that_does_not_come_is_asked_for_every_five_seconds() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    assert feed.poll(now_ns=NOW + 5 * S) == []
    assert reasons(feed.poll(now_ns=NOW + 5 * S + 1)) == ["no snapshot"]
    assert feed.poll(now_ns=NOW + 6 * S) == []
    assert reasons(feed.poll(now_ns=NOW + 11 * S)) == ["no snapshot"]


def test_a_quiet_token_is_checked_but_stays_trusted() -> None:
    feed = MarketFeed([YES, NO])
    feed.opened(now_ns=NOW)
    feed.receive(book_frame(), now_ns=NOW)
    feed.receive(book_frame(20_000, token=NO), now_ns=NOW + 20 * S)
    assert feed.poll(now_ns=NOW + 31 * S) == [Resync(YES, "silent token")]
    assert feed.poll(now_ns=NOW + 32 * S) == []
    assert trusted(feed)
    feed.snapshot(rest_book(), now_ns=NOW + 33 * S)
    assert feed.poll(now_ns=NOW + 40 * S) == []


def test_silence_that_rest_does_not_confirm_costs_all_trust() -> None:
    feed = ready()
    feed.receive('{"event_type":"new_market"}', now_ns=NOW + 20 * S)  # says nothing of ours
    assert reasons(feed.poll(now_ns=NOW + 31 * S)) == ["silent token"]
    assert trusted(feed)
    assert reasons(feed.poll(now_ns=NOW + 46 * S)) == ["silent connection"]
    assert not trusted(feed)
    assert feed.is_silent(now_ns=NOW + 31 * S, limit_ns=30 * S)


def test_a_book_that_rest_confirms_stands_while_the_connection_is_silent() -> None:
    feed = ready()
    feed.poll(now_ns=NOW + 31 * S)
    feed.snapshot(rest_book(), now_ns=NOW + 32 * S)
    assert feed.poll(now_ns=NOW + 60 * S) == []
    assert reasons(feed.poll(now_ns=NOW + 63 * S)) == ["silent token"]
    assert trusted(feed)


def test_silence_begins_with_the_first_token() -> None:
    feed = MarketFeed()
    feed.opened(now_ns=NOW)
    assert not feed.is_silent(now_ns=NOW + 99 * S, limit_ns=S)
    assert len(feed.subscribe([YES], now_ns=NOW + 99 * S)) == 1
    assert not feed.is_silent(now_ns=NOW + 99 * S, limit_ns=S)
    assert feed.is_silent(now_ns=NOW + 101 * S, limit_ns=S)


def test_a_new_connection_believes_nothing_from_before() -> None:
    feed = ready()
    assert reasons(feed.closed(now_ns=NOW)) == []  # the next connection begins with its books
    assert not trusted(feed)
    assert feed.counts["connection lost"] == 1
    assert (
        feed.unsubscribe([NO]) == feed.subscribe([NO], now_ns=NOW) == feed.unsubscribe([NO]) == []
    )
    assert reasons(feed.poll(now_ns=NOW + S + 1)) == ["no snapshot"]  # and if it does not come
    feed.snapshot(rest_book(), now_ns=NOW)
    assert trusted(feed)  # read over REST while there is no stream
    [frame] = feed.opened(now_ns=NOW)
    assert json.loads(frame) == {
        "type": "market",
        "assets_ids": [YES],
        "custom_feature_enabled": True,
    }
    assert not trusted(feed)


def test_subscribing_before_a_connection_waits_for_it() -> None:
    feed = MarketFeed()
    assert feed.subscribe([YES, YES], now_ns=NOW) == []
    assert feed.unsubscribe([NO]) == []
    assert len(feed.opened(now_ns=NOW)) == 1
    [later] = feed.subscribe([NO, YES], now_ns=NOW)
    assert json.loads(later)["operation"] == "subscribe"
    assert json.loads(later)["assets_ids"] == [NO]
    [gone] = feed.unsubscribe([NO])
    assert json.loads(gone) == {"operation": "unsubscribe", "assets_ids": [NO]}
    assert feed.tokens == {YES}


def test_more_tokens_than_a_connection_carries_are_refused() -> None:
    feed = MarketFeed([TokenId(str(n)) for n in range(1, 201)])
    with pytest.raises(AssertionError):
        feed.subscribe([TokenId("201")], now_ns=NOW)


@pytest.mark.parametrize("frame", ["PONG", "NO NEW ASSETS", "", "\n", b"PONG", " pong \n"])
def test_chatter_is_not_garbage(frame: str | bytes) -> None:
    assert ready().receive(frame, now_ns=NOW) == []


@pytest.mark.parametrize(
    "frame",
    [
        "INVALID OPERATION",
        "{",
        b"\xff\xfe",
        "[" * 10_000,
        "[1,",
        "null",
        '{"event_type":"book"}',
        '{"error":"x"}',
    ],
)
def test_what_is_no_message_is_garbage_and_costs_trust(frame: str | bytes) -> None:
    feed = ready()
    events = feed.receive(frame, now_ns=NOW)
    assert isinstance(events[0], Garbage)
    assert not trusted(feed)


def test_an_unknown_event_is_garbage_and_costs_nothing() -> None:
    feed = ready()
    [garbage] = feed.receive('{"event_type":"weather","asset_id":"1"}', now_ns=NOW)
    assert isinstance(garbage, Garbage)
    assert trusted(feed)


def test_a_bad_event_in_an_array_spares_the_good_ones() -> None:
    feed = ready()
    frame = f'[{{"event_type":"weather"}},{change_frame(best_bid="0.48")}]\n'
    garbage, moved = feed.receive(frame, now_ns=NOW)
    assert isinstance(garbage, Garbage)
    assert isinstance(moved, BookMoved)
    assert moved.book.best_bid == 480_000


@pytest.mark.parametrize(
    "frame",
    [
        change_frame(price="1.5"),
        change_frame(price="0.1234567"),
        change_frame(size="-1"),
        change_frame(side="HOLD"),
        change_frame(at=86_400_001),
        change_frame(size=5),
        book_frame().replace('"0.47"', '"0"'),
        book_frame().replace('"size": "10"', '"size": "0"'),
        book_frame().replace('"bids": [', '"bids": [{"price":"0.47","size":"1"},'),
        book_frame().replace('"timestamp"', '"when"'),
    ],
)
def test_an_unreadable_message_costs_its_token_the_trust(frame: str) -> None:
    feed = ready()
    events = feed.receive(frame, now_ns=NOW)
    assert isinstance(events[0], Garbage)
    assert [event.token for event in events if isinstance(event, Resync)] == [YES]
    assert not trusted(feed)


def test_a_snapshot_older_than_an_unreadable_change_is_not_enough() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW + S)
    feed.receive(change_frame(at=9, price="oops"), now_ns=NOW + S)
    feed.snapshot(rest_book(at=8), now_ns=NOW + S)
    assert (trusted(feed), feed.counts["stale snapshot"]) == (False, 1)
    feed.snapshot(rest_book(at=9), now_ns=NOW + S)
    assert trusted(feed)


def test_two_sources_that_agree_outvote_a_stamp() -> None:
    """A garbled stamp must not bar everything true until the clock has reached it."""
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    feed.receive(change_frame(at=50_000, price="oops"), now_ns=NOW)
    for _ in range(2):  # a cache may well say it twice
        feed.snapshot(rest_book(), now_ns=NOW + 11 * S)
        assert not trusted(feed)
    feed.receive(book_frame(), now_ns=NOW + 12 * S)
    assert trusted(feed)


def test_what_rest_says_for_longer_than_any_cache_keeps_it_outvotes_a_stamp() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    feed.receive(change_frame(at=50_000, price="oops"), now_ns=NOW)
    for after_s in (1_000, 1_300):
        feed.snapshot(rest_book(), now_ns=NOW + after_s * S)
        assert not trusted(feed)
    feed.snapshot(rest_book(), now_ns=NOW + 1_300 * S + 1)
    assert trusted(feed)


def test_a_token_we_do_not_follow_is_passed_over() -> None:
    feed = ready()
    assert feed.receive(change_frame(token=NO, price="oops"), now_ns=NOW + 5) == []
    assert feed.receive(book_frame(token=NO), now_ns=NOW + 5) == []
    assert feed.heard_ns == NOW


def test_a_snapshot_older_than_changes_let_go_is_not_enough() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    for _ in range(4_097):
        feed.receive(change_frame(at=9), now_ns=NOW + S)
    feed.snapshot(rest_book(at=8), now_ns=NOW + S)
    assert (trusted(feed), feed.counts["before a gap"]) == (False, 1)
    feed.snapshot(rest_book(at=9), now_ns=NOW + S)
    assert trusted(feed)
