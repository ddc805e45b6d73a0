"""What an answer says of its age, and what follows: an old one is asked for again."""

from typing import Any

import httpx
import pytest

from shared.domain.units import NS_PER_S
from shared.polymarket.errors import Outdated, WireError
from shared.polymarket.public import ASKED_MAX
from shared.polymarket.transport import Answer, Call
from tests.unit.polymarket.polymarket_fake import MARKET, NOW_NS, US, YES, Fake

NOTHING = {"data": [], "pagination": {"has_more": False, "next_cursor": None}}
CACHED = {"Age": "12", "X-Cache": "Hit from cloudfront"}


def answer(body: Any = NOTHING, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, json=body, headers=named)


async def fetch(response: httpx.Response) -> Answer:
    fake = Fake(response)
    return await fake.http.fetch(Call(endpoint="/x", url="http://venue.test/x"))


@pytest.mark.parametrize(
    ("headers", "age_s", "hit", "is_old"),
    [
        ({}, 0, False, False),
        ({"X_Cache": "Miss from cloudfront"}, 0, False, False),
        ({"X_Cache": "Miss from cloudfront", "Age": "0"}, 0, False, False),
        ({"X_Cache": "RefreshHit from cloudfront"}, 0, False, False),  # it asked the venue
        ({"X_Cache": "Hit from cloudfront", "Age": "14"}, 14, True, True),
        ({"X_Cache": "Hit from cloudfront"}, 0, True, True),
        ({"X_Cache": "MISS, HIT"}, 0, True, True),
        ({"CF_Cache_Status": "STALE"}, 0, True, True),
        ({"CF_Cache_Status": "DYNAMIC"}, 0, False, False),
        ({"Age": "3"}, 3, False, True),
        ({"Age": "old"}, 0, False, False),
        ({"Age": "-1"}, 0, False, False),
    ],
)
async def test_an_answer_tells_how_old_it_is(
    headers: dict[str, str], age_s: int, hit: bool, is_old: bool
) -> None:
    told = await fetch(answer(**headers))
    assert (told.age_s, told.hit, told.is_old) == (age_s, hit, is_old)


async def test_an_old_answer_is_asked_for_again_with_another_dummy() -> None:
    fake = Fake(httpx.Response(200, json=NOTHING, headers=CACHED), NOTHING)
    pages = [page async for page in fake.venue.activity(US, start_s=5)]
    assert [(page.is_old, page.is_last) for page in pages] == [(False, True)]
    dummies = [request.url.params["_"] for request in fake.requests]
    assert dummies == [str(NOW_NS), str(NOW_NS + 1)]
    assert fake.venue.old_answers == 1


async def test_activity_that_stays_old_is_given_as_old() -> None:
    fake = Fake(httpx.Response(200, json=NOTHING, headers=CACHED))
    pages = [page async for page in fake.venue.activity(US, start_s=5)]
    assert [page.is_old for page in pages] == [True]
    assert len(fake.requests) == fake.venue.old_answers == ASKED_MAX


async def test_positions_that_stay_old_are_no_positions() -> None:
    fake = Fake(httpx.Response(200, json=NOTHING, headers=CACHED))
    with pytest.raises(Outdated):
        await fake.venue.positions(US)


async def test_a_settled_market_stays_settled_however_old_the_answer_is() -> None:
    settled = {"condition_id": MARKET, "status": "resolved", "payouts": [0, 1_000_000]}
    fake = Fake(httpx.Response(200, json={"data": [settled]}, headers=CACHED))
    assert await fake.venue.resolutions([MARKET]) == [(MARKET, (0, 1_000_000))]


async def test_the_clob_is_asked_without_a_dummy() -> None:
    fake = Fake({"condition_id": MARKET})
    await fake.venue.markets_by_token(YES)
    assert fake.requests[0].url.query == b""


# --- how far the index is behind ----------------------------------------------------------------


def serving(**told: Any) -> dict[str, Any]:
    return {"data": {"age_seconds": 2, "serving": {"lag_seconds": 9, "worst": "pnl"} | told}}


ACTIVITY_FEED = {"name": "activity_feed", "age_seconds": 4}
PNL = {"name": "pnl", "age_seconds": 9, "blocks_behind": 3}


@pytest.mark.parametrize(
    ("told", "lag_ms"),
    [
        (serving(mechanisms=[PNL, ACTIVITY_FEED]), 6_000),
        (serving(mechanisms=[PNL]), 11_000),
        (serving(), 11_000),
        (serving(mechanisms=[{"name": "activity_feed"}]), 11_000),
        (serving(lag_seconds=0.5), 2_500),
        ({"data": {"status": "ok", "indexed_timestamp": 5, "lag_ms": 3_000}}, 3_000),
    ],
)
async def test_the_index_says_how_far_it_is_behind(told: Any, lag_ms: int) -> None:
    fake = Fake(told)
    assert await fake.venue.index_lag_ns() == lag_ms * NS_PER_S // 1_000
    assert fake.requests[0].url.path == "/v2/status"


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"data": None},
        {"data": {}},
        {"data": {"status": "ok"}},
        {"data": {"serving": {}}},
        {"data": {"lag_ms": -1}},
        {"data": {"lag_ms": "soon"}},
        serving(lag_seconds=10**9),
    ],
)
async def test_a_status_that_says_no_lag_is_an_error(told: Any) -> None:
    with pytest.raises(WireError):
        await Fake(told).venue.index_lag_ns()
