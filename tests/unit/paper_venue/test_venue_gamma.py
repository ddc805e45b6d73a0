"""Gamma: markets and events in their recorded shapes, filters, order, late closing."""

import json
from typing import Any

import pytest
from data_bench import Bench, a_bench
from venue_bench import NOW_S

V2_BASE = "0x01" + "7a" * 15 + "00" * 15
V2_CONDITION = V2_BASE + "00"
V2_TOKENS = [str((int(V2_BASE, 16) << 8) + outcome) for outcome in (0, 1)]
TEAMS = ("athens", "berlin", "cairo")


async def a_catalogue(bench: Bench) -> dict[str, str]:
    """Open a Protocol-V2 market and a neg-risk event of three; "one" is there already."""
    v2 = {"condition": V2_CONDITION, "tokens": V2_TOKENS, "protocol": "v2", "tags": ["crypto"]}
    made = {"v2": (await bench.market(slug="v2", end_s=NOW_S + 900, **v2))["condition"]}
    for team in TEAMS:
        terms = {"slug": team, "event": "the-cup", "neg_risk": True, "tags": ["sports"]}
        question = f"Will {team.title()} win?"
        made[team] = (await bench.market(**terms, question=question))["condition"]
    return made


def slugs(markets: list[Any]) -> list[str]:
    return [market["slug"] for market in markets]


async def test_a_v1_market_has_its_ids_and_prices_inside_strings() -> None:
    async with a_bench() as bench:
        (market,) = await bench.get("/markets")
        assert market["version"] == "v1"
        assert json.loads(market["clobTokenIds"]) == bench.tokens
        assert market["clobTokenIds"] == f'["{bench.tokens[0]}", "{bench.tokens[1]}"]'
        assert json.loads(market["outcomes"]) == ["Yes", "No"]
        assert json.loads(market["outcomePrices"]) == ["0.49", "0.51"]
        assert isinstance(market["liquidity"], str)
        assert market["liquidityNum"] == float(market["liquidity"])
        assert market["conditionId"] == bench.condition
        assert await bench.get(f"/markets/{market['id']}") == market
        assert await bench.get("/markets/slug/one") == market


async def test_a_v2_market_has_position_ids_and_a_short_condition() -> None:
    async with a_bench() as bench:
        await a_catalogue(bench)
        (market,) = (await bench.get("/markets/keyset", condition_ids=V2_BASE))["markets"]
        assert (market["version"], market["clobTokenIds"]) == ("v2", None)
        assert (market["positionIds"], market["conditionId"]) == (V2_TOKENS, V2_BASE)
        assert market["resolutionStatus"] == "active"
        same = (await bench.get("/markets/keyset", condition_ids=V2_CONDITION))["markets"]
        assert same == [market]
        found = await bench.get("/markets", position_ids=V2_TOKENS[1])
        assert slugs(found) == ["v2"]
        assert await bench.get("/markets", clob_token_ids=V2_TOKENS[1]) == []


async def test_some_v1_markets_carry_position_ids_without_a_book() -> None:
    async with a_bench() as bench:
        for number in range(30):
            await bench.market(slug=f"m{number}")
        markets = await bench.get("/markets")
        decoys = [market["positionIds"] for market in markets if "positionIds" in market]
        assert 3 <= len(decoys) <= 20
        status, _, _ = await bench.ask("/book", token_id=decoys[0][0])
        assert status == 404
        assert int(decoys[0][0]) >> 40 & ((1 << 64) - 1) == 0, "in the layout of position ids"


async def test_the_outcomes_of_a_neg_risk_event_share_a_group() -> None:
    async with a_bench() as bench:
        made = await a_catalogue(bench)
        event = await bench.get("/events/slug/the-cup")
        assert slugs(event["markets"]) == list(TEAMS)
        assert (event["negRisk"], event["enableNegRisk"]) == (True, True)
        groups = {market["negRiskMarketID"] for market in event["markets"]}
        assert groups == {event["negRiskMarketID"]}
        assert len(event["negRiskMarketID"]) == 66
        assert await bench.get(f"/events/{event['id']}") == event
        assert await bench.get("/events", id=event["id"]) == [event]
        reference = (await bench.get("/v2/tokens", condition=made["cairo"]))["data"][0]
        assert (reference["event_id"], reference["event_slug"]) == (int(event["id"]), "the-cup")


async def test_cursors_walk_the_whole_list_once_even_while_it_grows() -> None:
    async with a_bench() as bench:
        for number in range(7):
            await bench.market(slug=f"m{number}")
        for path, key in (("/markets/keyset", "markets"), ("/events/keyset", "events")):
            found: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                page = await bench.get(path, limit=3, **cursor)
                found += slugs(page[key])
                if "next_cursor" not in page:
                    break
                cursor = {"after_cursor": page["next_cursor"]}
            assert found == ["one", *(f"m{number}" for number in range(7))]
        status, body, _ = await bench.ask("/markets/keyset", after_cursor="abc")
        assert (status, body["type"]) == (422, "validation error")
        assert len(await bench.get("/markets", offset=6, limit=5000)) == 2


async def test_gamma_hears_late_that_a_market_is_over() -> None:
    async with a_bench(gamma_close_delay_s=120) as bench:
        await bench.admin("resolve", condition=bench.condition, payouts=["1", "0"])
        await bench.pass_ms(119_000)
        (market,) = await bench.get("/markets", closed="false")
        assert (market["acceptingOrders"], json.loads(market["outcomePrices"])) == (
            False,
            ["1", "0"],
        )
        assert await bench.get("/events", closed="true") == []
        await bench.pass_ms(1_000)
        assert await bench.get("/markets", closed="false") == []
        (market,) = await bench.get("/markets", closed="true")
        assert market["closedTime"] == market["updatedAt"]
        assert json.loads(market["umaResolutionStatuses"])[-1] == "resolved"
        (event,) = await bench.get("/events", closed="true")
        assert event["closed"] is True


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"slug": "berlin,cairo"}, ["berlin", "cairo"]),
        ({"version": "v2"}, ["v2"]),
        ({"active": "false"}, []),
        ({"archived": "true"}, []),
        ({"volume_num_min": "2"}, ["berlin"]),
        ({"volume_num_max": "0"}, ["one", "v2", "athens", "cairo"]),
        ({"liquidity_num_min": "100000"}, []),
        ({"end_date_min": "2026-10-29T00:00:00Z"}, ["v2"]),
        ({"end_date_max": "2020-01-01"}, ["one", "athens", "berlin", "cairo"]),
        ({"order": "slug", "ascending": "false"}, ["v2", "one", "cairo", "berlin", "athens"]),
        ({"order": "volumeNum", "ascending": "false", "limit": 1}, ["berlin"]),
        ({"resolution_status": "resolved"}, []),
    ],
)
async def test_markets_are_filtered_and_ordered(query: dict, expected: list[str]) -> None:
    async with a_bench() as bench:
        made = await a_catalogue(bench)
        await bench.fill(condition=made["berlin"])
        assert slugs(await bench.get("/markets", **query)) == expected


async def test_text_columns_are_ordered_as_text() -> None:
    async with a_bench() as bench:
        for slug, size in (("a", "9"), ("b", "20"), ("c", "100")):
            condition = (await bench.market(slug=slug))["condition"]
            fill = {"condition": condition, "size": size, "price": "0.5", "exact": True}
            await bench.fill(**fill)
        named = {"slug": "a,b,c"}
        assert slugs(await bench.get("/markets", **named, order="volumeNum")) == ["a", "b", "c"]
        assert slugs(await bench.get("/markets", **named, order="volume")) == ["b", "a", "c"]


async def test_tags_search_and_what_there_is_none_of() -> None:
    async with a_bench() as bench:
        await a_catalogue(bench)
        tags = {tag["slug"]: tag["id"] for tag in await bench.get("/tags")}
        assert set(tags) == {"crypto", "sports"}
        assert slugs(await bench.get("/markets", tag_id=tags["sports"])) == list(TEAMS)
        found = await bench.get("/public-search", q="berlin WIN")
        assert slugs(found["events"]) == ["the-cup"]
        assert found["pagination"] == {"hasMore": False, "totalResults": 1}
        for path in ("/sports", "/series", "/comments"):
            assert await bench.get(path) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/markets/999999", 404),
        ("/events/999999", 404),
        ("/events/slug/nothing", 404),
        ("/markets/slug/nothing", 404),
        ("/markets?order=luck", 422),
        ("/markets?condition_ids=0x12", 422),
        ("/markets?end_date_min=soon", 422),
        ("/markets?volume_num_min=much", 422),
        ("/events?limit=many", 422),
        ("/public-search", 422),
    ],
)
async def test_what_gamma_cannot_answer_it_refuses_in_its_words(path: str, status: int) -> None:
    async with a_bench() as bench:
        got, body, _ = await bench.ask(path)
    assert (got, set(body)) == (status, {"type", "error"})


async def test_the_clobs_list_keeps_its_path() -> None:
    async with a_bench() as bench:
        page = await bench.get("/markets", next_cursor="MA==")
        assert [market["condition_id"] for market in page["data"]] == [bench.condition]
        long = await bench.get(f"/markets/{bench.condition}")
        assert long["condition_id"] == bench.condition
