"""Public reads of one token and of many: maps, limits, texts, lists of markets, history."""

import pytest
from venue_bench import NOW_S, Bench

from shared.domain.units import NS_PER_S


async def ask(bench: Bench, path: str, body: object) -> tuple[int, object]:
    async with bench.session.post(bench.url + path, json=body) as answer:
        return answer.status, await answer.json()


async def test_reads_of_many_tokens_leave_out_what_has_nothing_to_say(bench: Bench) -> None:
    yes, no = bench.tokens
    wanted = [
        {"token_id": yes, "side": "BUY"},
        {"token_id": yes, "side": "SELL"},
        {"token_id": no, "side": "BUY"},
        {"token_id": "123", "side": "BUY"},
    ]
    assert await ask(bench, "/prices", wanted) == (
        200,
        {yes: {"BUY": "0.48", "SELL": "0.5"}, no: {"BUY": "0.5"}},
    )
    assert await ask(bench, "/midpoints", wanted) == (200, {yes: "0.49", no: "0.51"})
    assert await ask(bench, "/spreads", wanted) == (200, {yes: "0.02", no: "0.02"})
    assert await ask(bench, "/last-trades-prices", wanted) == (200, [])
    await bench.fill(size="5")
    _, told = await ask(bench, "/last-trades-prices", [{"token_id": no}, {"token_id": "9"}])
    assert told == [{"token_id": no, "price": "0.5", "side": "SELL"}]
    named = await bench.get("/last-trades-prices", token_ids=f"{yes},{no}")
    assert [each["side"] for each in named] == ["BUY", "SELL"]


async def test_a_side_without_orders_has_no_price(bench: Bench) -> None:
    await bench.admin("book", condition=bench.condition, bids=[], asks=[["0.5", "25"]])
    yes = bench.tokens[0]
    both = [{"token_id": yes, "side": side} for side in ("BUY", "SELL")]
    assert await ask(bench, "/prices", both) == (200, {yes: {"SELL": "0.5"}})
    assert await ask(bench, "/midpoints", both) == (200, {})
    assert await bench.get("/midpoint", token_id=yes) == {
        "error": "No orderbook exists for the requested token id"
    }


@pytest.mark.parametrize("path", ["/books", "/prices", "/midpoints", "/spreads"])
async def test_a_read_of_many_has_a_limit_and_a_shape(bench: Bench, path: str) -> None:
    wanted = [{"token_id": bench.tokens[0], "side": "BUY"}] * 501
    assert await ask(bench, path, wanted) == (400, {"error": "Payload exceeds the limit"})
    assert (await ask(bench, path, wanted[:500]))[0] == 200
    assert await ask(bench, path, {"token_id": "1"}) == (400, {"error": "Invalid payload"})


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/book", 400, "Invalid token id"),
        ("/book?token_id=abc", 400, "Invalid token id"),
        ("/book?token_id=1", 404, "No orderbook exists for the requested token id"),
        ("/price?token_id=1&side=UP", 400, "Invalid side"),
        ("/price?token_id=1", 400, "Invalid side"),
        ("/midpoint", 400, "Invalid token id"),
        ("/tick-size?token_id=1", 404, "No orderbook exists for the requested token id"),
        ("/clob-markets/0xab", 404, "market not found"),
        ("/markets/0xab", 404, "market not found"),
        ("/markets-by-token/1", 404, "market not found"),
        ("/markets/live-activity/0xab", 404, "market not found"),
        ("/simplified-markets?next_cursor=x", 400, "Invalid next_cursor"),
        ("/prices-history?market=1&interval=2d", 400, "Invalid interval"),
        ("/prices-history?market=1", 400, "Invalid interval"),
        ("/prices-history?market=1&startTs=x", 400, "Invalid startTs"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_the_venues_words(
    bench: Bench, path: str, status: int, text: str
) -> None:
    async with bench.session.get(bench.url + path) as answer:
        assert (answer.status, await answer.json()) == (status, {"error": text})


async def test_lists_of_markets(bench: Bench) -> None:
    closed = await bench.admin("market", slug="two", accepting_orders=False, seconds_delay=3)
    for path, count in (
        ("/simplified-markets", 2),
        ("/sampling-markets", 1),
        ("/sampling-simplified-markets", 1),
    ):
        page = await bench.get(path)
        assert (page["count"], page["next_cursor"], len(page["data"])) == (count, "LTE=", count)
        assert page["data"][0]["condition_id"] == bench.condition
    short = (await bench.get("/simplified-markets"))["data"][0]
    assert set(short) == {
        "condition_id",
        "rewards",
        "tokens",
        "active",
        "closed",
        "archived",
        "accepting_orders",
    }
    assert (await bench.get(f"/markets/{closed['condition']}"))["seconds_delay"] == 3


async def test_history_is_the_last_price_of_each_bucket_that_traded(bench: Bench) -> None:
    yes, no = bench.tokens
    await bench.fill(size="5")
    bench.clock.ns += 10 * NS_PER_S
    await bench.fill(size="25")  # through 0.5 into 0.53, in the same minute
    bench.clock.ns += 120 * NS_PER_S
    await bench.fill(side="SELL", size="5")
    told = await bench.get("/prices-history", market=yes, interval="1h", fidelity=1)
    assert told == {"history": [{"t": NOW_S, "p": 0.53}, {"t": NOW_S + 120, "p": 0.48}]}
    other = await bench.get("/prices-history", market=no, startTs=NOW_S + 60, endTs=NOW_S + 200)
    assert other == {"history": [{"t": NOW_S + 120, "p": 0.52}]}
    hourly = await bench.get("/prices-history", market=yes, interval="max", fidelity=60)
    assert [point["p"] for point in hourly["history"]] == [0.48]
