"""What anybody may ask: a listing that may hide a gap is never called complete."""

import json
from typing import Any

import httpx
import pytest

from shared.domain.ids import TokenId
from shared.domain.observations import Activity
from shared.polymarket.errors import (
    Garbage,
    WireError,
)
from tests.unit.polymarket.polymarket_fake import (
    MARKET,
    NO,
    NOW_NS,
    US,
    YES,
    Fake,
    refused,
)


def book_of(token: str) -> dict[str, Any]:
    return {
        "market": MARKET,
        "asset_id": token,
        "timestamp": "1793318400123",
        "bids": [{"price": "0.47", "size": "1"}],
        "asks": [],
        "tick_size": "0.01",
    }


async def test_time_and_version() -> None:
    assert await Fake(1_793_318_400).venue.time() == 1_793_318_400 * 10**9
    assert await Fake({"version": 2}).venue.version() == 2


async def test_a_book_is_trusted_and_its_own() -> None:
    fake = Fake(book_of(YES))
    book = await fake.venue.book(YES)
    assert (book.trusted, book.seen_ns, book.best_bid) == (True, NOW_NS, 470_000)
    assert str(fake.requests[0].url) == f"http://venue.test/book?token_id={YES}"
    with pytest.raises(WireError):
        await fake.venue.book(NO)


async def test_books_are_asked_for_in_bounded_parts() -> None:
    tokens = [TokenId(str(n)) for n in range(1, 151)]

    def answer(request: httpx.Request) -> httpx.Response:
        asked = [entry["token_id"] for entry in json.loads(request.content)]
        return httpx.Response(200, json=[book_of(token) for token in asked if token != "7"])

    fake = Fake(answer)
    books = await fake.venue.books(tokens)
    assert [len(json.loads(request.content)) for request in fake.requests] == [100, 50]
    assert [book.token for book in books] == [token for token in tokens if token != "7"]


CLOB_MARKET = {"c": MARKET, "t": [{"t": YES, "o": "Yes"}, {"t": NO, "o": "No"}]} | {
    "mos": 5,
    "mts": 0.01,
    "ao": True,
}


@pytest.mark.parametrize(
    ("gamma", "slug"),
    [
        ({"markets": [{"conditionId": MARKET, "slug": "s", "endDate": None}]}, "s"),
        ({"markets": [{"conditionId": "0x" + "d" * 64, "slug": "other"}]}, ""),
        ({"markets": []}, ""),
        (refused(500, "down"), ""),
        (httpx.Response(200, text="<html>"), ""),
    ],
)
async def test_a_market_does_without_gamma(gamma: object, slug: str) -> None:
    market = await Fake(CLOB_MARKET, gamma).venue.market(MARKET)
    assert (market.slug, market.tick, market.fee_rate) == (slug, 10_000, 0)


async def test_a_token_leads_to_its_market() -> None:
    assert await Fake({"condition_id": MARKET}).venue.markets_by_token(YES) == MARKET


def row(at_s: int, **fields: Any) -> dict[str, Any]:
    whole = {
        "proxy_wallet": US,
        "timestamp": at_s,
        "condition_id": MARKET,
        "type": "TRADE",
        "size": 1.5,
        "price": 0.4,
        "transaction_hash": "0x" + "7a" * 32,
        "token_id": YES,
        "side": "BUY",
        "outcome_index": 0,
    }
    return whole | fields


def page(*rows: Any, cursor: str | None = None) -> dict[str, Any]:
    return {
        "data": list(rows),
        "pagination": {"has_more": cursor is not None, "next_cursor": cursor},
    }


async def read_activity(fake: Fake) -> list[list[Activity | Garbage]]:
    return [told async for told in fake.venue.activity(US, start_s=5, limit=2)]


async def test_activity_is_paged_in_oldest_first_past_the_cache() -> None:
    fake = Fake(page(row(10), row(11), cursor="c1"), page(row(11), row(12, type="REWARD")))
    pages = await read_activity(fake)
    assert [[told.venue_ns // 10**9 for told in some] for some in pages] == [[10, 11], [11]]  # type: ignore[union-attr]
    first, second = (dict(request.url.params) for request in fake.requests)
    assert first == {
        "user": US,
        "limit": "2",
        "sort_direction": "ASC",
        "start": "5",
        "_": str(NOW_NS),
    }
    assert second == first | {"cursor": "c1"}


async def test_a_row_that_cannot_be_read_is_given_as_garbage() -> None:
    fake = Fake(page(row(10), row(11, type="DANCE"), row(12, proxy_wallet="0x" + "bb" * 20)))
    [[good, *bad]] = await read_activity(fake)
    assert isinstance(good, Activity)
    assert [type(told) for told in bad] == [Garbage, Garbage]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([page(row(10), cursor="c1")], "the same cursor again"),
        ([page(row(10), row(11), cursor=c) for c in ("c1", "c2")], "the same page again"),
        ([page(row(10), row(11), cursor="c1"), page(row(9))], "a page goes back in time"),
        ([page() | {"pagination": {"has_more": True}}], "has_more and next_cursor disagree"),
        ([page() | {"pagination": {"next_cursor": "c"}}], "has_more and next_cursor disagree"),
        ([{"data": []}], "missing required field `pagination`"),
        ([[]], "Expected `object`"),
    ],
)
async def test_a_listing_that_hides_a_gap_is_an_error(answers: list[Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        await read_activity(Fake(*answers))


async def test_positions_are_all_that_is_held() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        params = request.url.params
        assert (params["filter_amount"], params["user"]) == ("0", US)
        asked = params["status"]
        tokens = {"OPEN": YES, "MERGEABLE": YES, "REDEEMABLE": NO}.get(asked)
        held = {"proxy_wallet": US, "condition_id": MARKET, "current_size": 2.5}
        held |= {"token_id": tokens, "outcome_index": 0}
        return httpx.Response(200, json=page(held) if tokens else page())

    fake = Fake(answer)
    assert [report.token for report in await fake.venue.positions(US)] == [YES, NO]
    asked = {request.url.params["status"] for request in fake.requests}
    assert asked == {"OPEN", "REDEEMABLE", "REDEEMABLE_LOST", "MERGEABLE"}


async def test_a_position_of_another_wallet_is_an_error() -> None:
    held = {"proxy_wallet": "0x" + "bb" * 20, "condition_id": MARKET, "current_size": 1}
    with pytest.raises(WireError):
        await Fake(page(held | {"token_id": YES, "outcome_index": 0})).venue.positions(US)
