"""The Data API's portfolios and markets: statuses, floors, order, holders, ends, prices."""

from typing import Any

import pytest
from data_bench import Bench, a_bench
from venue_bench import LEADER, NOW_S

OTHER = "0x" + "e" * 40


async def hold(bench: Bench, condition: str, outcome: int, size: str, **fill: object) -> None:
    plain = {"condition": condition, "outcome": outcome, "size": size, "immediate": True}
    await bench.fill(**{**plain, "price": "0.5", "exact": True, **fill})


async def held(bench: Bench, **query: object) -> list[tuple[str, int]]:
    """Return (slug, outcome) of the positions that are listed."""
    rows = (await bench.get("/v2/positions", **{"user": LEADER, **query}))["data"]
    return [(row["slug"], row["outcome_index"]) for row in rows]


async def a_portfolio(bench: Bench) -> dict[str, Any]:
    """Give LEADER an open, a mergeable, a won, a lost, a sold and a tiny position."""
    made = {}
    for slug in ("open", "pair", "ended", "sold", "tiny"):
        made[slug] = (await bench.market(slug=slug, question=f"Is it {slug}?"))["condition"]
    await hold(bench, made["open"], 0, "40")
    await hold(bench, made["pair"], 0, "20")
    await hold(bench, made["pair"], 1, "5")
    await hold(bench, made["ended"], 0, "8")
    await hold(bench, made["ended"], 1, "9")
    await bench.admin("resolve", condition=made["ended"], payouts=["1", "0"])
    await hold(bench, made["sold"], 0, "7")
    await hold(bench, made["sold"], 0, "7", side="SELL", price="0.6")
    await hold(bench, made["tiny"], 0, "0.05")
    return made


async def test_each_status_lists_its_positions() -> None:
    async with a_bench() as bench:
        await a_portfolio(bench)
        assert await held(bench) == [("open", 0), ("pair", 0), ("pair", 1)]
        assert await held(bench, status="MERGEABLE") == [("pair", 0), ("pair", 1)]
        assert await held(bench, status="REDEEMABLE") == [("ended", 0), ("ended", 1)]
        assert await held(bench, status="REDEEMABLE_LOST") == [("ended", 1)]
        assert await held(bench, status="CLOSED") == [("sold", 0)]
        assert ("tiny", 0) in await held(bench, filter_amount=0)
        (lost,) = (await bench.get("/v2/positions", user=LEADER, status="REDEEMABLE_LOST"))["data"]
        assert (lost["status"], lost["current_value"], lost["redeemable"]) == (
            "REDEEMABLE",
            0,
            True,
        )
        (sold,) = (await bench.get("/v2/positions", user=LEADER, status="CLOSED"))["data"]
        assert (sold["current_size"], sold["realized_pnl"], sold["total_size"]) == (0, 0.7, 7)


async def test_positions_are_filtered_and_ordered() -> None:
    async with a_bench() as bench:
        made = await a_portfolio(bench)
        assert await held(bench, sort_by="TOKENS", sort_direction="ASC") == [
            *(("pair", 1), ("pair", 0), ("open", 0))
        ]
        assert await held(bench, condition_id=made["pair"]) == [("pair", 0), ("pair", 1)]
        assert await held(bench, title="it OPEN") == [("open", 0)]
        assert await held(bench, filter_type="CASH", filter_amount=15) == [("open", 0)]
        assert await held(bench, start=NOW_S + 1) == []
        page = await bench.get("/v2/positions", user=LEADER, limit=2)
        cursor = page["pagination"]["next_cursor"]
        assert await held(bench, limit=2, cursor=cursor) == [("pair", 1)]
        status, body, _ = await bench.ask("/v2/positions", user=OTHER, cursor=cursor)
        assert (status, body["parameter"]) == (400, "cursor")


async def test_a_market_shows_its_holders() -> None:
    async with a_bench() as bench:
        await hold(bench, bench.condition, 0, "3.00005")
        await hold(bench, bench.condition, 0, "9", wallet=OTHER)
        rows = (await bench.get("/v2/positions", condition_id=bench.condition))["data"]
        assert {row["proxy_wallet"] for row in rows} >= {LEADER, OTHER}
        mine = next(row for row in rows if row["proxy_wallet"] == LEADER)
        assert mine["current_size"] == 3.0001, "rounded to four decimals"
        groups = (await bench.get("/v2/holders", condition_id=bench.condition))["data"]
        assert [group["token_id"] for group in groups] == bench.tokens
        holders = [(holder["proxy_wallet"], holder["amount"]) for holder in groups[0]["holders"]]
        assert holders[:2] == [(OTHER, 9), (LEADER, 3.00005)]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "user"),
        ({"user": LEADER, "status": "LOST"}, "status"),
        ({"condition_id": "0x" + "1" * 64, "status": "MERGEABLE"}, "status"),
        ({"user": LEADER, "status": "CLOSED", "include_archived": "true"}, "include_archived"),
        ({"user": LEADER, "sort_by": "LUCK"}, "sort_by"),
        ({"user": LEADER, "title": "x" * 201}, "title"),
    ],
)
async def test_positions_refuse_what_they_cannot_answer(query: dict, parameter: str) -> None:
    async with a_bench() as bench:
        status, body, _ = await bench.ask("/v2/positions", **query)
        assert (status, body["parameter"]) == (400, parameter)


async def test_value_is_of_all_markets_or_of_the_named() -> None:
    async with a_bench() as bench:
        made = await a_portfolio(bench)
        told = (await bench.get("/v2/value", user=LEADER, condition_id=made["ended"]))["data"]
        assert told == {"proxy_wallet": LEADER, "value": 8}
        assert (await bench.get("/v2/value", user=LEADER))["data"]["value"] > 8


async def test_a_resolution_goes_from_initialized_to_posed_to_resolved() -> None:
    async with a_bench() as bench:
        base = "0x01" + "5e" * 15 + "00" * 15
        terms = {"slug": "v2", "protocol": "v2", "condition": base + "00", "end_s": NOW_S + 60}
        condition = (await bench.market(**terms))["condition"]

        async def told() -> Any:
            (row,) = (await bench.get("/v2/resolutions", condition_id=condition))["data"]
            return row

        row = await told()
        assert (row["status"], row["payouts"], row["reporter"]) == ("initialized", None, None)
        await bench.pass_ms(60_000)
        assert (await told())["status"] == "posed"
        await bench.admin("resolve", condition=condition, payouts=["0.5", "0.5"])
        row = await told()
        assert (row["status"], row["payouts"]) == ("resolved", [500_000, 500_000])
        assert (row["reporter"], row["market_type"]) == ("CHAINLINK", "BINARY")
        head = int((await bench.rpc("eth_blockNumber"))["result"], 16)
        assert (row["resolved_block"], row["resolved_at"]) == (head, "2026-10-30T00:01:00Z")
        status, body, _ = await bench.ask("/v2/resolutions", condition_id=base)
        assert (status, body["parameter"]) == (400, "condition")
        assert body["error"] == f"invalid resolution condition id: {base}"


async def test_open_interest_volume_tokens_and_prices_of_a_market() -> None:
    async with a_bench() as bench:
        split = {"wallet": LEADER, "condition": bench.condition, "immediate": True}
        await bench.admin("activity", **split, type="SPLIT", size="30")
        (interest,) = (await bench.get("/v2/oi", condition_id=bench.condition))["data"]
        assert interest == {"condition_id": bench.condition, "value": 30}
        (everything,) = (await bench.get("/v2/oi"))["data"]
        assert everything == {"condition_id": "GLOBAL", "value": 30}
        for price, later_ms in (("0.4", 30_000), ("0.6", 30_000), ("0.7", 0)):
            await hold(bench, bench.condition, 0, "5", price=price)
            await bench.pass_ms(later_ms)
        references = (await bench.get("/v2/tokens", token_id=bench.tokens[1]))["data"]
        (reference,) = references
        assert reference["opposite_token_id"] == bench.tokens[0]
        assert (reference["module"], reference["resolved"]) == ("v1_ctf", False)
        volume = (await bench.get("/v2/live-volume", event_id=reference["event_id"]))["data"]
        assert volume["taker_volume_total"] == 15
        query = {"token_id": bench.tokens[1]}
        points = (await bench.get("/v2/prices-history", **query, interval="1h"))["data"]
        assert [(point["timestamp"], point["price"]) for point in points] == [
            *((NOW_S, 0.4), (NOW_S + 60, 0.3))
        ]
        (tick,) = (await bench.get("/v2/prices-history", **query, as_of=NOW_S + 29))["data"]
        assert (tick["price"], tick["resolution_seconds"]) == (0.6, 0)
        status, body, _ = await bench.ask("/v2/prices-history", **query)
        assert (status, body["parameter"]) == (400, "interval")


async def test_traders_are_ranked_by_profit_and_by_volume() -> None:
    async with a_bench() as bench:
        await hold(bench, bench.condition, 0, "10", price="0.2")
        await hold(bench, bench.condition, 0, "90", price="0.9", wallet=OTHER)
        for order, first in (("PNL", LEADER), ("VOLUME", OTHER)):
            rows = (await bench.get("/v2/leaderboard", sort_by=order, time_period="all"))["data"]
            assert (rows[0]["rank"], rows[0]["user_id"]) == (1, first)
        mine = (await bench.get("/v2/leaderboard", user=LEADER))["data"]
        assert (mine["rank_pnl"], mine["rank_volume"], mine["volume"]) == (1, 2, 10)
        assert (await bench.get("/v2/leaderboard", user="0x" + "9" * 40))["data"] is None
        told = (await bench.get("/v2/user-volume", user=OTHER))["data"]
        assert told == {"volume": 90, "volume_usdc": 81, "trade_count": 1}
