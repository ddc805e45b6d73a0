"""Every fault of a request, once over real HTTP."""

import asyncio
import json

import aiohttp
import pytest
from venue_bench import LEADER, NOW_S, Bench, frame, subscribe

from services.paper_venue.signing import credentials_for
from shared.domain.units import NS_PER_S
from tests.support.eventually import eventually

Told = tuple[int, str, str, dict[str, str]]


async def ask(bench: Bench, path: str) -> Told:
    """Return status, content type, text and headers of an answer."""
    async with bench.session.get(bench.url + path) as answer:
        return answer.status, answer.content_type, await answer.text(), dict(answer.headers)


async def impatient(bench: Bench, path: str, body: str | None = None) -> None:
    """Ask, and give up after a while, as a client with a deadline does."""
    method, headers = "GET", {}
    if body is not None:
        method, headers = "POST", bench.signed("POST", path, body)
    timeout = aiohttp.ClientTimeout(total=0.2)
    with pytest.raises(TimeoutError):
        await bench.session.request(
            method, bench.url + path, data=body, headers=headers, timeout=timeout
        )


@pytest.mark.parametrize(
    ("kind", "told", "status", "text"),
    [
        ("rate_limited", {}, 429, '{"error":"rate limit exceeded"}'),
        ("too_early", {}, 425, '{"error":"too early"}'),
        ("server_error", {}, 500, '{"error":"internal server error"}'),
        ("server_error", {"status": 503, "body": {"code": "x"}}, 503, '{"code":"x"}'),
        ("empty", {}, 200, ""),
        ("broken_json", {}, 200, '"O'),
    ],
)
async def test_another_answer_is_given(
    bench: Bench, kind: str, told: dict, status: int, text: str
) -> None:
    rule = await bench.rule(kind, path="/ok", count=1, **told)
    assert (await ask(bench, "/time"))[0] == 200, "another path"
    found = await ask(bench, "/ok")
    assert (found[0], found[2]) == (status, text)
    assert "Retry-After" not in found[3]
    assert (await ask(bench, "/ok"))[2] == '"OK"'
    assert await bench.fired(rule) == 1


async def test_a_page_of_html_comes_with_status_200(bench: Bench) -> None:
    await bench.rule("wrong_type", path="/v2/act*", count=1)
    status, kind, text, _ = await ask(bench, f"/v2/activity?user={LEADER}")
    assert (status, kind, text[:9]) == (200, "text/html", "<!DOCTYPE")


async def test_a_429_says_when_to_come_again_and_whose_limit_it_was(bench: Bench) -> None:
    await bench.rule("rate_limited", retry_after_s=2, signer=True, count=1)
    headers = (await ask(bench, "/ok"))[3]
    assert (headers["Retry-After"], headers["Poly-RateLimit-Remaining"]) == ("2", "0")
    assert headers["Poly-RateLimit-Reset"] == str(NOW_S + 2)
    await bench.rule("too_early", retry_after_s=1, count=1)
    assert (await ask(bench, "/ok"))[3]["Retry-After"] == "1"
    await bench.rule("too_early", retry_after_s=0, count=1)
    assert (await ask(bench, "/ok"))[3]["Retry-After"] == "0"


async def test_a_query_or_method_narrows_a_rule(bench: Bench) -> None:
    await bench.rule("empty", path="/v2/activity", query=LEADER.upper())
    await bench.rule("server_error", method="POST")
    other = "0x" + "e" * 40
    assert (await ask(bench, f"/v2/activity?user={LEADER}"))[2] == ""
    assert json.loads((await ask(bench, f"/v2/activity?user={other}"))[2])["data"] == []
    async with bench.session.post(f"{bench.url}/books", json=[]) as answer:
        assert answer.status == 500


async def test_a_slow_request_waits_before_anything_happens(bench: Bench) -> None:
    await bench.rule("slow", path="/time", ms=300)
    asked = asyncio.create_task(ask(bench, "/time"))

    async def begun() -> bool:
        return (await bench.get("/admin/firings"))["count"] == 1

    await eventually(begun)
    bench.clock.ns += 5 * NS_PER_S
    assert not asked.done()
    assert (await asked)[2] == str(NOW_S + 5)


async def test_a_stale_answer_is_the_last_one_but_for_the_dummy(bench: Bench) -> None:
    path = f"/book?token_id={bench.tokens[0]}"
    old = (await ask(bench, path + "&_=1"))[2]
    await bench.move(9)
    await bench.rule("stale", path="/book", for_s=10)
    status, kind, text, _ = await ask(bench, path + "&_=2")
    assert (status, kind, text) == (200, "application/json", old)
    other = (await ask(bench, f"/book?token_id={bench.tokens[1]}"))[2]
    assert json.loads(other)["asks"][-1]["size"] == "9", "never asked before: nothing is stale"
    await bench.pass_ms(10_000)
    assert (await ask(bench, path))[2] != old


async def test_a_broken_answer_is_never_the_last_one(bench: Bench) -> None:
    good = await ask(bench, "/ok")
    await bench.rule("broken_json", count=1)
    assert (await ask(bench, "/ok"))[2] != good[2]
    await bench.rule("stale")
    assert (await ask(bench, "/ok"))[2] == good[2]


async def test_what_is_signed_is_stale_for_its_signer_only(bench: Bench) -> None:
    url = f"{bench.url}/data/orders"
    await bench.rule("stale", path="/data/orders")
    for headers, status in ((bench.signed("GET", "/data/orders"), 200), ({}, 401)):
        async with bench.session.get(url, headers=headers) as answer:
            assert answer.status == status


async def test_refusals_come_broken_too(bench: Bench) -> None:
    await bench.rule("broken_json", path="/book", count=1)
    status, _, text, _ = await ask(bench, "/book?token_id=5")
    assert (status, text) == (404, '{"error":"No orderbook exists')


async def test_the_data_api_lags_by_seconds_and_says_so_in_its_status(bench: Bench) -> None:
    await bench.fill(immediate=True)
    await bench.pass_ms(20_000)
    await bench.rule("lagging", path="/v2/*", age_s=30)
    query = {"user": LEADER}
    assert (await bench.get("/v2/activity", **query))["data"] == []
    assert (await bench.get("/v2/status"))["data"]["serving"]["lag_seconds"] == 32
    await bench.pass_ms(10_000)
    assert len((await bench.get("/v2/activity", **query))["data"]) == 1
    await bench.rule("lagging", path="/v2/trades")
    await bench.fill(immediate=True)
    assert len((await bench.get("/v2/trades", **query))["data"]) == 1


async def test_a_page_loses_its_last_rows_and_says_it_is_the_last(bench: Bench) -> None:
    for number in range(3):
        await bench.fill(immediate=True, size=str(number + 1))
        await bench.pass_ms(1_000)
    rule = await bench.rule("truncated", n=1)
    page = await bench.get("/v2/activity", user=LEADER, limit=2)
    assert [row["size"] for row in page["data"]] == [3]
    assert page["pagination"] == {"limit": 2, "offset": 0, "has_more": False, "next_cursor": None}
    await bench.get("/v2/activity", user="0x" + "e" * 40)
    assert await bench.fired(rule) == 1, "an empty page is no chance"


async def test_own_trades_and_orders_lose_rows_too(bench: Bench) -> None:
    for price in (0.4, 0.41):
        await bench.post(bench.order_body(price=price, size=5, kind="GTC"))
    await bench.rule("truncated", path="/data/orders", n=1)
    headers = bench.signed("GET", "/data/orders")
    async with bench.session.get(f"{bench.url}/data/orders", headers=headers) as answer:
        page = await answer.json()
    assert (page["count"], len(page["data"]), page["next_cursor"]) == (1, 1, "LTE=")


async def test_a_request_hangs_before_or_after_it_was_done(bench: Bench) -> None:
    body = bench.order_body()
    await bench.rule("hang_before", path="/order", count=1)
    await impatient(bench, "/order", body)
    assert (await bench.get("/admin/orders"))["count"] == 0
    await bench.rule("hang_after", path="/order", count=1)
    await impatient(bench, "/order", body)
    assert (await bench.get("/admin/orders"))["count"] == 1
    assert "Duplicated" in (await bench.post(body))[1]["error"]


async def test_a_connection_is_dropped_before_or_after_it_was_done(bench: Bench) -> None:
    body = bench.order_body()
    for kind, orders in (("drop_before", 0), ("drop_after", 1)):
        await bench.rule(kind, path="/order", count=1)
        with pytest.raises(aiohttp.ClientError):
            await bench.post(body)
        assert (await bench.get("/admin/orders"))["count"] == orders


async def test_another_tokens_book_is_answered(bench: Bench) -> None:
    await bench.rule("wrong_body", path="/book", count=1)
    query = {"token_id": bench.tokens[0]}
    assert (await bench.get("/book", **query))["asset_id"] == bench.tokens[1]
    await bench.rule("stale", path="/book", count=1)
    assert (await bench.get("/book", **query))["asset_id"] == bench.tokens[0], "never remembered"
    assert (await bench.get("/book", **query))["asset_id"] == bench.tokens[0]


async def test_the_user_socket_tells_a_fill_before_the_answer(bench: Bench) -> None:
    await bench.post(bench.order_body(price=0.4, size=5, kind="GTC"))  # makes the key known
    keys = credentials_for(1, bench.owner, 0)
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    async with bench.socket("/ws/user") as socket:
        await subscribe(socket, {"type": "user", "auth": auth})
        assert await frame(socket) == "PONG"
        await bench.rule("delayed_answer", path="/order", ms=300, count=1)
        posted = asyncio.create_task(bench.post(bench.order_body()))
        assert (await frame(socket))["status"] == "MATCHED"
        assert not posted.done()
        assert (await posted)[1]["status"] == "matched"


async def test_a_handshake_can_be_slow_or_fail_like_any_request(bench: Bench) -> None:
    await bench.rule("server_error", path="/ws/market", status=502, count=1)
    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        await bench.socket("/ws/market")
    assert failed.value.status == 502
    rule = await bench.rule("drop_after")
    async with bench.socket("/ws/market") as socket:
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"

    async def left() -> bool:
        return await bench.sockets() == []

    await eventually(left)
    assert await bench.fired(rule) == 0, "a socket has no answer that could be lost"


async def test_the_control_api_is_beyond_all_faults(bench: Bench) -> None:
    await bench.rule("drop_before")
    assert (await bench.get("/admin/rules"))["rules"][0]["fired"] == 0
    with pytest.raises(aiohttp.ClientError):
        await bench.get("/ok")
