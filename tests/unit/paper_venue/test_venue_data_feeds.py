"""The Data API's feeds: filters, cursors, late rows, errors, freshness."""

import base64
import json
from typing import Any

import pytest
from data_bench import Bench, a_bench
from venue_bench import BOOK, LEADER, NOW_S

OTHER = "0x" + "e" * 40


async def pages(bench: Bench, path: str, **query: object) -> list[list[Any]]:
    """Return every page of a listing."""
    found, cursor = [], {}
    while True:
        page = await bench.get(path, **query, **cursor)
        found.append(page["data"])
        told = page["pagination"]
        assert told["has_more"] == (told["next_cursor"] is not None)
        if not told["has_more"]:
            return found
        cursor = {"cursor": told["next_cursor"]}


async def filled(bench: Bench, count: int = 5, **fill: object) -> None:
    for _ in range(count):
        await bench.fill(**{"size": "1", "price": "0.5", "exact": True, "immediate": True, **fill})
        await bench.pass_ms(400)


async def test_a_listing_is_whole_in_both_directions_whatever_the_page() -> None:
    async with a_bench() as bench:
        await filled(bench, 7)
        await filled(bench, 4, wallet=OTHER)
        whole = [
            row["transaction_hash"]
            for row in (await bench.get("/v2/activity", user=LEADER))["data"]
        ]
        assert len(whole) == 7
        for direction, expected in (("DESC", whole), ("ASC", whole[::-1])):
            query = {"user": LEADER, "limit": 2, "sort_direction": direction}
            found = await pages(bench, "/v2/activity", **query)
            assert [len(page) for page in found] == [2, 2, 2, 1]
            assert [row["transaction_hash"] for page in found for row in page] == expected


async def test_a_cursor_continues_only_the_question_it_was_given_for() -> None:
    async with a_bench() as bench:
        await filled(bench)
        query = {"user": LEADER, "limit": 2}
        cursor = (await bench.get("/v2/activity", **query))["pagination"]["next_cursor"]
        sealed = json.loads(base64.urlsafe_b64decode(cursor + "=="))
        assert sealed["data"]["type"] == "activity"
        sealed["data"]["params"]["ts"] -= 60
        forged = base64.urlsafe_b64encode(json.dumps(sealed).encode()).decode()
        refused = [
            ("/v2/activity", {**query, "user": OTHER, "cursor": cursor}),
            ("/v2/activity", {**query, "type": "TRADE", "cursor": cursor}),
            ("/v2/activity", {**query, "sort_direction": "ASC", "cursor": cursor}),
            ("/v2/trades", {**query, "cursor": cursor}),
            ("/v2/activity", {**query, "cursor": forged}),
        ]
        for path, asked in refused:
            status, body, _ = await bench.ask(path, **asked)
            assert (status, body["parameter"]) == (400, "cursor"), asked
        again = await bench.get("/v2/activity", **query, cursor=cursor)
        assert len(again["data"]) == 2
        wider = await bench.get("/v2/activity", **{**query, "limit": 50}, cursor=cursor)
        assert len(wider["data"]) == 3, "the page size is no filter"


async def test_a_feed_is_filtered_by_type_market_event_side_and_time() -> None:
    async with a_bench() as bench:
        second = await bench.market(slug="two", event="both")
        third = await bench.market(slug="three", event="both")
        await filled(bench, 1)
        for market, side in ((second, "BUY"), (third, "SELL")):
            await filled(bench, 1, condition=market["condition"], side=side)
        split = {"wallet": LEADER, "condition": bench.condition, "immediate": True}
        await bench.admin("activity", **split, type="SPLIT", size="3")
        rows = (await bench.get("/v2/activity", user=LEADER))["data"]
        assert [row["type"] for row in rows] == ["SPLIT", "TRADE", "TRADE", "TRADE"]
        held = (await bench.get("/v2/positions", user=LEADER, filter_amount=0))["data"]
        event = next(row["event_id"] for row in held if row["event_slug"] == "both")

        async def count(**query: object) -> int:
            return len((await bench.get("/v2/activity", user=LEADER, **query))["data"])

        assert await count(type="SPLIT,MERGE") == 1
        assert await count(condition_id=f"{second['condition']},{third['condition']}") == 2
        assert await count(event_id=event) == 2
        assert await count(event_id=event, side="SELL") == 1
        assert await count(conditionId=bench.condition) == 2, "camelCase is understood"
        assert await count(start=NOW_S + 1) == 1
        assert await count(end=NOW_S) == 3
        assert (await bench.get("/v2/activity", user=f"{LEADER},{OTHER}"))["data"] == []


async def test_the_default_window_is_three_years() -> None:
    async with a_bench() as bench:
        await filled(bench, 1)
        await bench.pass_ms(3 * 365 * 86_400_000 + 2_000)
        assert (await bench.get("/v2/activity", user=LEADER))["data"] == []
        assert len((await bench.get("/v2/activity", user=LEADER, start=1))["data"]) == 1


async def test_trades_hide_makers_and_dust_unless_asked() -> None:
    async with a_bench() as bench:
        await filled(bench, 1, size="0.004")
        await filled(bench, 1, size="4", price="0.25")
        query = {"condition_id": bench.condition}
        assert [row["size"] for row in (await bench.get("/v2/trades", **query))["data"]] == [4]
        whole = await bench.get("/v2/trades", **query, filter_amount=0, taker_only="false")
        assert [row["size"] for row in whole["data"]] == [4, 4, 0.004, 0.004]
        for floor, count in (("1", 1), ("1.000001", 0)):
            cash = {"filter_type": "CASH", "filter_amount": floor}
            assert len((await bench.get("/v2/trades", **query, **cash))["data"]) == count


async def test_rows_of_one_moment_may_be_indexed_out_of_order() -> None:
    """A row that is late stands before rows that a reader has seen, and none is ever lost."""
    async with a_bench(index_jitter_ms=4_000) as bench:
        book = {"bids": [["0.48", "900"]], "asks": [["0.5", "900"]]}
        await bench.admin("book", condition=bench.condition, **book)
        made = [(await bench.fill(size="1"))["tx"] for _ in range(12)]
        seen: list[str] = []
        inserted = 0
        for _ in range(90):
            await bench.pass_ms(100)
            rows = (await bench.get("/v2/activity", user=LEADER, sort_direction="ASC"))["data"]
            now = [row["transaction_hash"] for row in rows]
            assert set(seen) <= set(now)
            inserted += now[: len(seen)] != seen
            seen = now
        assert seen == made
        assert inserted > 0


async def test_status_tells_how_far_the_index_is_behind() -> None:
    async with a_bench() as bench:
        told = (await bench.get("/v2/status"))["data"]
        assert told["serving"]["worst"] == "activity_feed"
        assert told["serving"]["lag_seconds"] == 2
        head = int((await bench.rpc("eth_blockNumber"))["result"], 16)
        assert head - 2 <= told["ingestion"]["max_synced_block"] <= head
        rule = [{"kind": "lagging", "path": "/v2/*", "for_s": 60}]  # as of now
        async with bench.session.post(f"{bench.url}/admin/rules", json=rule) as answer:
            assert answer.status == 200
        await bench.pass_ms(30_000)
        status, body, headers = await bench.ask("/v2/status")
        assert (status, body["data"]["serving"]["lag_seconds"]) == (200, 32)
        assert "Cache-Control" not in headers


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        (f"/v2/activity?user={LEADER}&type=NAP", "type"),
        (f"/v2/activity?user={LEADER}&side=HOLD", "side"),
        (f"/v2/activity?user={LEADER}&sort_direction=UP", "sort_direction"),
        (f"/v2/activity?user={LEADER}&event_id=-1", "event_id"),
        (f"/v2/activity?user={LEADER}&event_id=1&condition_id=0x{'1' * 64}", "event_id"),
        ("/v2/trades?taker_only=perhaps", "taker_only"),
        (f"/v2/trades?user={LEADER}&offset=100", "offset"),
        (f"/v2/positions?user={LEADER}&offset=100", "offset"),
        ("/v2/holders", "condition_id"),
    ],
)
async def test_a_bad_parameter_is_named_with_a_trace(path: str, parameter: str) -> None:
    async with a_bench() as bench:
        status, body, headers = await bench.ask(path)
    assert status == 400
    assert set(body) == {"error", "code", "parameter", "retryable", "trace_id"}
    assert (body["parameter"], body["code"]) == (parameter, "invalid_request")
    assert (body["retryable"], headers["x-trace-id"]) == (False, body["trace_id"])


@pytest.mark.parametrize("path", ["/trades", "/activity", "/positions", "/value"])
async def test_the_first_version_is_gone_and_says_where_to_ask(path: str) -> None:
    async with a_bench() as bench:
        status, body, _ = await bench.ask(path, user=LEADER)
        assert (status, body["code"]) == (410, "gone")
        assert f"/v2{path}" in body["error"]


async def test_a_public_row_has_the_sentinels_of_what_it_lacks() -> None:
    async with a_bench() as bench:
        split = {"wallet": LEADER, "condition": bench.condition, "immediate": True}
        await bench.admin("activity", **split, type="SPLIT", size="3")
        (row,) = (await bench.get("/v2/activity", user=LEADER))["data"]
        empty = {"token_id": "", "side": "", "outcome": "", "outcome_index": 999, "price": 0}
        assert {name: row[name] for name in empty} == empty
        assert (row["size"], row["usdc_size"], row["is_combo"]) == (3, 3, False)
        (held, _) = (await bench.get("/v2/positions", user=LEADER))["data"]
        assert held["end_date"] == "1970-01-01"
        assert BOOK["slug"] == held["slug"]
