"""Every reason against a book has its name, is counted under it, and costs what it should."""

import hashlib
import json
from typing import Any

import msgspec
import pytest

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId
from shared.domain.market import Market
from shared.domain.units import Price, Shares
from shared.polymarket import parse
from shared.polymarket.evidence import Checks, Reason
from shared.polymarket.feed import (
    BookMoved,
    FeedEvent,
    Flowing,
    MarketFeed,
    Resync,
    Silence,
    Stuck,
    TickChanged,
)

YES, NO = TokenId("71" + "0" * 70), TokenId("52" + "0" * 70)
MARKET = ConditionId("0x" + "c1" * 32)
TERMS = Market(
    condition=MARKET,
    tokens=(YES, NO),
    outcomes=("Yes", "No"),
    tick=Price(10_000),
    size_min=Shares(5_000_000),
)
S = 10**9
NOW = 1_793_318_400 * S
MS_0 = 1_793_318_400_000


def body(at: int = 0, *, version: str | None = None, **told: Any) -> dict[str, Any]:
    """Return a REST body with the hash that the venue gives it."""
    content: dict[str, Any] = {
        "market": MARKET,
        "asset_id": YES,
        "timestamp": str(MS_0 + at),
        "hash": "",
        "bids": [{"price": "0.4", "size": "10"}, {"price": "0.47", "size": "10"}],
        "asks": [{"price": "0.5", "size": "20"}],
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": False,
        "last_trade_price": "0.490",
    } | told
    if version:
        content["version"] = version
    text = json.dumps(content, separators=(",", ":"))
    return content | {"hash": hashlib.sha1(text.encode()).hexdigest()}


def frame(at: int = 0, **told: Any) -> str:
    """Return the stream's form of a body: without the terms of the market."""
    content = body(at, **told)
    del content["min_order_size"], content["neg_risk"]
    return json.dumps({"event_type": "book"} | content)


def rest(at: int = 0, **told: Any) -> Book:
    return parse.rest_book(json.dumps(body(at, **told)).encode(), now_ns=NOW)


def change(at: int, price: str, size: str, side: str = "BUY", **best: str) -> str:
    entry = {"asset_id": YES, "price": price, "size": size, "side": side} | best
    told = {"event_type": "price_change", "market": MARKET, "price_changes": [entry]}
    return json.dumps(told | {"timestamp": str(MS_0 + at)})


def ready(checks: Checks | None = None) -> MarketFeed:
    feed = MarketFeed([YES], checks=checks)
    feed.know(TERMS)
    feed.opened(now_ns=NOW)
    feed.receive(frame(), now_ns=NOW)
    assert trusted(feed)
    assert not feed.counts
    return feed


def trusted(feed: MarketFeed) -> bool:
    book = feed.book(YES)
    return book is not None and book.trusted


def reasons(events: list[FeedEvent]) -> list[Reason]:
    return [event.reason for event in events if isinstance(event, Resync | Stuck)]


def seen_s(feed: MarketFeed) -> float:
    book = feed.book(YES)
    assert book is not None
    return (book.seen_ns - NOW) / S


# --- the hash -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "v2"])
def test_a_right_hash_is_no_evidence(version: str | None) -> None:
    assert rest(version=version).trusted
    feed = ready(Checks(stream="distrust"))
    feed.receive(frame(1, version=version), now_ns=NOW)
    assert (trusted(feed), feed.counts) == (True, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"bids": [{"price": "0.4", "size": "11"}]},
        {"last_trade_price": "0.5"},
        {"timestamp": str(MS_0 + 2)},
        {"version": "v2"},
    ],
)
def test_a_wrong_hash_of_a_streamed_book_is_counted_and_costs_trust_if_wanted(
    wrong: dict[str, Any],
) -> None:
    bad = json.dumps(json.loads(frame(1)) | wrong)
    for rule, trust in (("count", True), ("distrust", False)):
        feed = ready(Checks(stream=rule))  # type: ignore[arg-type]
        events = feed.receive(bad, now_ns=NOW)
        assert (trusted(feed), feed.counts) == (trust, {"hash disagrees": 1})
        assert reasons(events) == ([] if trust else ["hash disagrees"])


def test_a_streamed_book_of_unknown_terms_or_without_a_hash_is_not_judged() -> None:
    feed = MarketFeed([YES], checks=Checks(stream="distrust"))
    feed.opened(now_ns=NOW)
    feed.receive(json.dumps(json.loads(frame()) | {"hash": "f00"}), now_ns=NOW)
    assert trusted(feed)
    feed.know(TERMS)
    feed.receive(json.dumps(json.loads(frame(1)) | {"hash": ""}), now_ns=NOW)
    assert (trusted(feed), feed.counts) == (True, {})


def test_a_rest_body_with_a_wrong_hash_restores_no_trust_unless_it_is_only_counted() -> None:
    changed = json.dumps(body() | {"tick_size": "0.001"}).encode()
    bad = parse.rest_book(changed, now_ns=NOW)
    assert not bad.trusted
    for rule, trust in (("distrust", False), ("count", True)):
        feed = MarketFeed([YES], checks=Checks(rest=rule))  # type: ignore[arg-type]
        feed.opened(now_ns=NOW)
        feed.snapshot(bad, now_ns=NOW)
        assert (trusted(feed), feed.counts) == (trust, {"hash disagrees": 1})


def test_a_book_of_another_market_is_none_of_ours() -> None:
    feed = ready()
    events = feed.receive(frame(1, market="0x" + "d2" * 32), now_ns=NOW)
    assert reasons(events) == ["another market"]
    assert not trusted(feed)


# --- what messages say --------------------------------------------------------------------------


def test_a_level_that_is_not_there_is_removed_without_harm() -> None:
    feed = ready()
    feed.receive(change(1, "0.3", "0", best_bid="0.47", best_ask="0.5"), now_ns=NOW)
    assert (trusted(feed), feed.counts) == (True, {})


def test_a_level_off_the_tick_grid_costs_trust_but_its_removal_does_not() -> None:
    feed = ready()
    feed.receive(change(1, "0.405", "0"), now_ns=NOW)
    assert trusted(feed)
    assert reasons(feed.receive(change(2, "0.405", "1"), now_ns=NOW)) == ["off the tick grid"]
    feed = ready()
    bad = frame(1, bids=[{"price": "0.405", "size": "1"}])
    assert reasons(feed.receive(bad, now_ns=NOW)) == ["off the tick grid"]


def test_a_stamp_from_the_future_is_no_time() -> None:
    for late in (frame(61_000), change(61_000, "0.45", "1")):
        feed = ready()
        feed.receive(late, now_ns=NOW)
        assert (trusted(feed), feed.counts) == (False, {"stamp from the future": 1})
        feed.snapshot(rest(), now_ns=NOW)  # and it is no bar to what is true
        assert trusted(feed)


def test_a_tick_that_changed_untold_is_told() -> None:
    feed = ready()
    events = feed.snapshot(rest(1, tick_size="0.001"), now_ns=NOW)
    assert TickChanged(YES, Price(1_000)) in events
    assert trusted(feed)


# --- what snapshots say -------------------------------------------------------------------------


def test_a_streamed_book_that_comes_late_shows_what_was_applied_without_it() -> None:
    feed = ready()
    feed.receive(change(5, "0.45", "1"), now_ns=NOW)
    events = feed.receive(frame(3, bids=[{"price": "0.47", "size": "9"}]), now_ns=NOW)
    assert reasons(events) == ["time went back"]
    feed = ready()
    feed.receive(change(5, "0.45", "1"), now_ns=NOW)
    assert reasons([*feed.receive(frame(), now_ns=NOW), *feed.receive(frame(-9), now_ns=NOW)]) == []
    assert trusted(feed)  # the same once more, or of before: nothing is missing


def test_a_lively_book_is_compared_with_what_it_was() -> None:
    feed = ready()
    for at in range(1, 30):
        feed.receive(change(at, "0.45", str(at)), now_ns=NOW)
    then = rest(7, bids=[{"price": p, "size": s} for p, s in (("0.4", "10"), ("0.47", "10"))])
    same = msgspec.structs.replace(
        then, bids=(*then.bids[:1], (Price(450_000), Shares(7_000_000)), *then.bids[1:])
    )
    assert reasons(feed.snapshot(same, now_ns=NOW)) == []
    assert trusted(feed)
    assert reasons(feed.snapshot(then, now_ns=NOW)) == ["REST disagrees"]
    assert not trusted(feed)


def test_a_snapshot_asked_for_before_a_loss_is_asked_for_again() -> None:
    feed = ready()
    feed.receive("{", now_ns=NOW + 2)
    assert reasons(feed.snapshot(rest(), now_ns=NOW + 3, asked_ns=NOW + 1)) == ["before a loss"]
    assert not trusted(feed)
    feed.snapshot(rest(), now_ns=NOW + 4, asked_ns=NOW + 3)
    assert trusted(feed)


def test_after_a_loss_changes_do_not_follow_an_older_book() -> None:
    """What was lost may lie between the two: REST has to know the first change after it."""
    feed = ready()
    feed.receive("{", now_ns=NOW)
    feed.snapshot(rest(), now_ns=NOW + 1, asked_ns=NOW + 1)
    assert trusted(feed)
    assert reasons(feed.receive(change(5, "0.45", "1"), now_ns=NOW + 2)) == ["before a gap"]
    assert reasons(feed.snapshot(rest(4), now_ns=NOW + 3, asked_ns=NOW + 3)) == []
    assert (trusted(feed), feed.counts["stale snapshot"]) == (False, 1)
    feed.snapshot(rest(5), now_ns=NOW + 4, asked_ns=NOW + 4)
    feed.receive(change(6, "0.45", "2"), now_ns=NOW + 5)
    assert trusted(feed)


def test_kept_changes_follow_a_first_snapshot_however_late_it_comes() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    feed.receive(change(6, "0.45", "2"), now_ns=NOW)
    feed.receive(change(5, "0.45", "1"), now_ns=NOW)
    feed.receive(frame(), now_ns=NOW)
    book = feed.book(YES)
    assert book is not None
    assert book.trusted
    assert (Price(450_000), Shares(2_000_000)) in book.bids


def test_the_last_to_vouch_for_a_book_is_named() -> None:
    feed = ready()
    told = []
    for event in (frame(1), rest(1), change(2, "0.45", "1"), rest(3)):
        if isinstance(event, Book):
            events = feed.snapshot(event, now_ns=NOW)
        else:
            events = feed.receive(event, now_ns=NOW)
        told += [moved.book.source for moved in events if isinstance(moved, BookMoved)]
    assert told == ["stream", "rest", "stream", "rest"]


def test_a_frame_that_comes_late_is_no_evidence_for_the_book_now() -> None:
    """A backlog of the stream arrives at once: true half a minute ago."""
    feed = ready()
    feed.receive(change(4_000, "0.45", "1"), now_ns=NOW + 5 * S)
    assert seen_s(feed) == 5
    feed.receive(change(10_000, "0.45", "2"), now_ns=NOW + 40 * S)
    assert seen_s(feed) == 10
    feed.receive(frame(10_000), now_ns=NOW + 40 * S)
    assert seen_s(feed) == 10


def test_the_first_snapshot_of_a_quiet_market_speaks_from_when_it_was_asked_for() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW + 600 * S)
    feed.receive(frame(), now_ns=NOW + 601 * S)
    assert seen_s(feed) == 600


# --- what nobody says ---------------------------------------------------------------------------


def test_a_first_snapshot_that_does_not_come_makes_a_token_stuck_until_it_flows() -> None:
    feed = MarketFeed([YES])
    feed.opened(now_ns=NOW)
    assert reasons(feed.poll(now_ns=NOW + 5 * S)) == []
    assert feed.poll(now_ns=NOW + 5 * S + 1) == [
        Resync(YES, "no snapshot"),
        Stuck(YES, "no snapshot"),
    ]
    feed.snapshot(rest(), now_ns=NOW + 6 * S)
    assert feed.poll(now_ns=NOW + 8 * S) == []
    assert feed.poll(now_ns=NOW + 8 * S + 1) == [Resync(YES, "polling")]
    events = feed.receive(frame(1), now_ns=NOW + 9 * S)
    assert isinstance(events[-1], Flowing)
    assert feed.poll(now_ns=NOW + 12 * S) == []


def test_a_quiet_token_is_confirmed_and_a_frozen_one_is_found() -> None:
    feed = ready()
    assert reasons(feed.poll(now_ns=NOW + 31 * S)) == ["silent token"]
    assert reasons(feed.snapshot(rest(), now_ns=NOW + 31 * S)) == []
    assert seen_s(feed) == 31
    assert reasons(feed.poll(now_ns=NOW + 62 * S)) == ["silent token"]
    newer = rest(40_000, bids=[{"price": "0.41", "size": "1"}])
    assert reasons(feed.snapshot(newer, now_ns=NOW + 62 * S)) == []
    assert Stuck(YES, "frozen") in feed.poll(now_ns=NOW + 67 * S + 1)
    assert trusted(feed)  # with the book that REST told


def test_a_change_under_way_while_rest_is_read_is_no_freeze() -> None:
    feed = ready()
    feed.snapshot(rest(4, bids=[{"price": "0.41", "size": "1"}]), now_ns=NOW + S)
    feed.receive(change(4, "0.41", "1"), now_ns=NOW + S)
    assert feed.poll(now_ns=NOW + 20 * S) == []


def test_a_stale_answer_confirms_nothing() -> None:
    feed = ready()
    feed.receive(change(9_000, "0.45", "1"), now_ns=NOW + 9 * S)
    feed.snapshot(rest(), now_ns=NOW + 30 * S)  # of before the change, from some cache
    assert seen_s(feed) == 9
    assert trusted(feed)
    events = feed.poll(now_ns=NOW + 55 * S)
    assert reasons(events) == ["silent connection"] * 2  # now the stream is asked
    assert not trusted(feed)


def test_a_lively_token_is_audited_now_and_then() -> None:
    feed = MarketFeed([YES], silence=Silence(audit_ns=60 * S))
    feed.opened(now_ns=NOW)
    feed.receive(frame(), now_ns=NOW)
    told = []
    for second in range(1, 130):
        feed.receive(change(second * 1_000, "0.45", str(second)), now_ns=NOW + second * S)
        told += [(second, reason) for reason in reasons(feed.poll(now_ns=NOW + second * S))]
    assert [reason for _, reason in told] == ["audit", "audit"]
    assert told[1][0] - told[0][0] == 61


def test_a_book_of_a_lost_connection_lives_on_rest() -> None:
    feed = ready()
    feed.closed(now_ns=NOW)
    feed.snapshot(rest(), now_ns=NOW + S, asked_ns=NOW + 1)
    assert trusted(feed)
    assert feed.poll(now_ns=NOW + 2 * S) == []
    assert feed.poll(now_ns=NOW + 2 * S + 2) == [Resync(YES, "polling")]


def test_resubscribing_names_the_token_twice_and_believes_nothing_until_it_is_told() -> None:
    feed = ready()
    frames, _ = feed.resubscribe(YES, now_ns=NOW)
    assert [json.loads(text)["operation"] for text in frames] == ["unsubscribe", "subscribe"]
    assert not trusted(feed)
    feed.receive(frame(), now_ns=NOW)
    assert trusted(feed)
    assert feed.resubscribe(NO, now_ns=NOW) == ([], [])


def test_rest_that_stays_behind_what_was_lost_makes_a_token_stuck() -> None:
    feed = ready()
    feed.receive(change(9_000, "0.45", "oops"), now_ns=NOW + 9 * S)
    assert reasons(feed.snapshot(rest(), now_ns=NOW + 10 * S)) == []  # it may just lag
    assert reasons(feed.snapshot(rest(), now_ns=NOW + 15 * S)) == ["stale snapshot"]
    assert reasons(feed.snapshot(rest(), now_ns=NOW + 16 * S)) == []  # said once
    assert feed.counts == {"unreadable": 1, "stale snapshot": 3}
    assert not trusted(feed)
