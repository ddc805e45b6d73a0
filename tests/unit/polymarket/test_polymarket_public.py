"""What anybody may ask: a listing that may hide a gap is never called complete."""

import json
from typing import Any

import httpx
import pytest

from shared.domain.ids import ConditionId, TokenId
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


async def test_gamma_is_asked_for_labels_too() -> None:
    gamma = {"markets": [{"conditionId": MARKET, "category": "Crypto", "tags": [{"slug": "btc"}]}]}
    fake = Fake(CLOB_MARKET, gamma)
    market = await fake.venue.market(MARKET)
    assert (market.category, market.tags) == ("crypto", ("btc",))
    assert dict(fake.requests[1].url.params) == {"condition_ids": MARKET, "include_tag": "true"}


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
    return [told.rows async for told in fake.venue.activity(US, start_s=5, limit=2)]


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


async def test_the_value_of_what_a_wallet_holds() -> None:
    fake = Fake({"data": {"proxy_wallet": US.upper().replace("0X", "0x"), "value": 1523.77}})
    assert await fake.venue.value(US) == 1_523_770_000
    assert dict(fake.requests[0].url.params) == {"user": US, "_": str(NOW_NS)}
    assert fake.requests[0].url.path == "/v2/value"


@pytest.mark.parametrize(
    "told",
    [
        {"data": None},
        {"data": {"proxy_wallet": "0x" + "bb" * 20, "value": 1}},
        {"data": {"proxy_wallet": US, "value": -1}},
        {"data": {"proxy_wallet": US, "value": 1e16}},
        {"data": {"proxy_wallet": US}},
        {"data": []},
        {},
    ],
)
async def test_a_value_that_is_not_understood_is_an_error(told: Any) -> None:
    with pytest.raises(WireError):
        await Fake(told).venue.value(US)


OTHER = ConditionId("0x" + "c2" * 32)
SETTLED = {"condition_id": MARKET, "status": "resolved", "payouts": [0, 1_000_000]}


async def test_settled_markets_are_told_apart_from_the_others() -> None:
    bad = {"condition_id": OTHER, "status": "resolved", "payouts": [1, 1]}
    pending = SETTLED | {"status": "proposed", "payouts": []}
    stranger = SETTLED | {"condition_id": "0x" + "c3" * 32}
    fake = Fake({"data": [bad, {"status": 1}, pending, stranger, SETTLED]})
    *garbage, settled = await fake.venue.resolutions([MARKET, OTHER])
    assert settled == (MARKET, (0, 1_000_000))
    assert [type(told) for told in garbage] == [Garbage, Garbage]
    assert fake.requests[0].url.params["condition_id"] == f"{MARKET},{OTHER}"


@pytest.mark.parametrize("answer", [{"data": []}, {"data": None}, refused(404, "not found")])
async def test_a_market_that_is_not_known_to_be_settled_is_missing(answer: object) -> None:
    assert await Fake(answer).venue.resolutions([MARKET]) == []


async def test_a_position_of_another_wallet_is_an_error() -> None:
    held = {"proxy_wallet": "0x" + "bb" * 20, "condition_id": MARKET, "current_size": 1}
    with pytest.raises(WireError):
        await Fake(page(held | {"token_id": YES, "outcome_index": 0})).venue.positions(US)
