"""Each answer of the venue is exactly one of: a value, a definite no, or not known."""

import asyncio
import random
from typing import Any

import httpx
import pytest

from shared.domain.ids import OrderHash
from shared.polymarket.auth import l2_headers
from shared.polymarket.errors import (
    Mode,
    NotFound,
    RejectCode,
    Rejected,
    Throttled,
    TransportError,
    Unavailable,
    VenueError,
    WireError,
)
from shared.polymarket.rest import derive_credentials
from shared.polymarket.transport import Call, Http, Patience, open_http
from shared.polymarket.urls import VenueUrls
from tests.unit.polymarket.polymarket_fake import (
    ACCOUNT,
    HASH,
    KEYS,
    MARKET,
    NO_WAIT,
    NOW_NS,
    SIGNED,
    YES,
    Fake,
    refused,
)


def accepted(**fields: Any) -> dict[str, Any]:
    whole = {"success": True, "errorMsg": "", "orderID": HASH, "status": "matched"}
    return whole | {"tradeIDs": ["t-1"]} | fields


async def test_an_order_is_posted_once_with_the_bytes_that_were_signed() -> None:
    fake = Fake(accepted())
    answer = await fake.venue.post_order(SIGNED)
    assert (answer.order, answer.status, answer.trades) == (HASH, "matched", ("t-1",))
    [request] = fake.requests
    assert request.content == SIGNED.body
    expected = l2_headers(ACCOUNT, "POST", "/order", body=SIGNED.body, timestamp_s=NOW_NS // 10**9)
    assert {name: request.headers[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("answer", "error", "definitive"),
    [
        (refused(400, "not enough balance / allowance"), Rejected, True),
        (refused(400, "order 0x1 is invalid. Duplicated."), Rejected, False),
        (refused(401, "Unauthorized/Invalid api key"), Rejected, True),
        (refused(404, "market not found"), NotFound, True),
        (refused(400, "context canceled"), Unavailable, False),
        (refused(400, "order match delayed due to market conditions"), Unavailable, False),
        (refused(425, "restarting"), Unavailable, False),
        (refused(500, "could not insert order"), Unavailable, False),
        (refused(503, "trading is disabled"), Unavailable, False),
        (refused(429, "slow down", Poly_RateLimit_Remaining="0"), Throttled, True),
        (refused(429, "slow down"), Throttled, False),
        (httpx.Response(302), WireError, False),
        (httpx.Response(200, text="<html>"), WireError, False),
        (httpx.ConnectError("refused"), TransportError, False),
        (httpx.ReadTimeout("late"), TransportError, False),
        (httpx.RemoteProtocolError("closed"), TransportError, False),
        (accepted(orderID="0x" + "2" * 64), WireError, False),
        (accepted(orderID="nonsense"), WireError, False),
        (accepted(orderID=""), Unavailable, False),
        (accepted(errorMsg=None), Unavailable, False),
        (accepted(status="dancing"), Unavailable, False),
        (accepted(errorMsg="some text"), Unavailable, False),
        (accepted(success=False), Unavailable, False),
        (accepted(success=False, orderID=""), Rejected, True),
        (
            accepted(
                success=False, orderID="", errorMsg="breaks minimum tick size rule: 0.1", status=""
            ),
            Rejected,
            True,
        ),
    ],
)
async def test_a_submit_is_sent_once_and_its_failure_classified(
    answer: object, error: type[VenueError], *, definitive: bool
) -> None:
    fake = Fake(answer)
    with pytest.raises(error) as caught:
        await fake.venue.post_order(SIGNED)
    assert caught.value.definitive is definitive
    assert len(fake.requests) == 1


async def test_an_error_keeps_its_attributes_and_no_secret() -> None:
    text = "order 0x1 is invalid. Size (3) lower than the minimum: 5" + "x" * 500
    with pytest.raises(Rejected) as caught:
        await Fake(refused(400, text)).venue.post_order(SIGNED)
    assert (caught.value.status, caught.value.code) == (400, RejectCode.SIZE_MIN)
    assert len(caught.value.text) == 200
    rich = list(SIGNED.__rich_repr__())
    shown = f"{caught.value!r} {ACCOUNT!r} {KEYS} {SIGNED!r} {rich}"
    for secret in (KEYS.secret, KEYS.passphrase, "0xfeed"):
        assert secret not in shown


async def test_a_mode_tells_how_long_to_wait() -> None:
    body = {"error": "post-only mode: only ...", "retry_after_seconds": 79}
    with pytest.raises(Unavailable) as caught:
        await Fake(httpx.Response(503, json=body)).venue.post_order(SIGNED)
    assert (caught.value.mode, caught.value.retry_after_s) == (Mode.POST_ONLY, 79)


@pytest.mark.parametrize(
    "answer", [refused(500, "down"), refused(429, "slow"), httpx.ConnectError("no")]
)
async def test_a_read_is_repeated_a_bounded_number_of_times(answer: object) -> None:
    fake = Fake(answer, answer, {"version": 2})
    assert await fake.venue.version() == 2
    failing = Fake(answer)
    with pytest.raises(VenueError):
        await failing.venue.version()
    assert len(failing.requests) == 3


async def test_a_definite_no_is_not_repeated() -> None:
    fake = Fake(refused(400, "no"))
    with pytest.raises(Rejected):
        await fake.venue.version()
    assert len(fake.requests) == 1


async def test_a_venue_that_wants_a_long_wait_is_not_asked_again() -> None:
    fake = Fake(refused(429, "slow", Retry_After="60"))
    with pytest.raises(Throttled) as caught:
        await fake.venue.version()
    assert (caught.value.retry_after_s, len(fake.requests)) == (60, 1)


async def test_every_call_has_a_deadline() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    calls: list[tuple[str, int]] = []
    http = Http(
        client,
        rng=random.Random(1),
        patience=Patience(deadline_s=0.02, attempt_s=5),
        on_call=lambda name, seconds, status: calls.append((name, status)),
    )
    with pytest.raises(TransportError, match="deadline"):
        await http.send(Call(endpoint="/time", url="http://venue.test/time"))
    assert calls == [("/time", 0)]


async def test_each_attempt_is_measured() -> None:
    fake = Fake(refused(500, "down"), {"version": 2})
    await fake.venue.version()
    assert fake.calls == [("/version", 500), ("/version", 200)]


async def test_an_order_unknown_to_the_venue_is_none() -> None:
    assert await Fake(refused(404, "not found")).venue.order(HASH) is None
    assert await Fake(httpx.Response(200, text="null")).venue.order(HASH) is None


def rest_order(order: str = HASH) -> dict[str, Any]:
    return {
        "id": order,
        "market": MARKET,
        "asset_id": YES,
        "side": "BUY",
        "price": "0.5",
        "original_size": "10",
        "size_matched": "4",
        "status": "ORDER_STATUS_LIVE",
    }


async def test_an_order_is_looked_up_by_its_hash() -> None:
    fake = Fake(rest_order())
    report = await fake.venue.order(HASH)
    assert report is not None
    assert (report.matched, report.status) == (4_000_000, "LIVE")
    assert fake.requests[0].url.path == f"/data/order/{HASH}"
    assert fake.calls == [("/data/order/{hash}", 200)]
    with pytest.raises(WireError):
        await fake.venue.order(OrderHash("0x" + "2" * 64))


async def test_open_orders_follow_the_cursor_to_its_end() -> None:
    other = "0x" + "2" * 64
    first = {"data": [rest_order()], "next_cursor": "abc"}
    last = {"data": [rest_order(), rest_order(other)], "next_cursor": "LTE="}
    fake = Fake(first, last)
    assert [report.order for report in await fake.venue.open_orders()] == [HASH, other]
    assert fake.requests[1].url.params["next_cursor"] == "abc"
    # Queries are not part of the signed path.
    signed = l2_headers(ACCOUNT, "GET", "/data/orders", timestamp_s=NOW_NS // 10**9)
    assert fake.requests[1].headers["POLY_SIGNATURE"] == signed["POLY_SIGNATURE"]
    with pytest.raises(WireError, match="the same cursor again"):
        await Fake(first).venue.open_orders()


async def test_own_trades_are_filtered_by_the_venue() -> None:
    trade = {
        "id": "t-1",
        "status": "TRADE_STATUS_MINED",
        "taker_order_id": HASH,
        "market": MARKET,
        "asset_id": YES,
        "side": "SELL",
        "size": "2",
        "price": "0.5",
        "trader_side": "TAKER",
        "match_time": "1793318400",
        "transaction_hash": "",
    }
    fake = Fake({"data": [trade], "next_cursor": "LTE="})
    [fill] = await fake.venue.own_trades(after_s=7, trade_id="t-1")
    assert (fill.trade, fill.order, fill.settlement) == ("t-1", HASH, "MINED")
    assert dict(fake.requests[0].url.params) == {"after": "7", "id": "t-1"}


async def test_a_cancel_is_what_the_venue_says_it_is() -> None:
    done = await Fake({"canceled": [HASH], "not_canceled": {}}).venue.cancel(HASH)
    assert done.canceled
    late = await Fake({"canceled": [], "not_canceled": {HASH: "matched"}}).venue.cancel(HASH)
    assert (late.canceled, late.reason) == (False, "matched")
    with pytest.raises(WireError):
        await Fake({"canceled": [], "not_canceled": None}).venue.cancel(HASH)
    fake = Fake(refused(500, "down"))
    with pytest.raises(Unavailable):
        await fake.venue.cancel(HASH)
    assert (len(fake.requests), fake.calls) == (1, [("DELETE /order", 500)])
    assert fake.requests[0].content == b'{"orderID":"%s"}' % HASH.encode()


async def test_balance_and_closed_only() -> None:
    fake = Fake({"balance": "125430000", "allowances": {}})
    assert await fake.venue.balance() == 125_430_000
    assert dict(fake.requests[0].url.params) == {
        "asset_type": "COLLATERAL",
        "signature_type": "3",
    }
    assert await Fake({"closed_only": True}).venue.closed_only() is True
    with pytest.raises(WireError):
        await Fake({"balance": "1.5"}).venue.balance()


NEW_KEYS = {"apiKey": "k", "secret": "AAEC", "passphrase": "p"}


@pytest.mark.parametrize(
    ("answers", "methods"),
    [
        ([NEW_KEYS], ["GET"]),
        ([refused(400, "none"), NEW_KEYS], ["GET", "POST"]),
        ([refused(404, "none"), NEW_KEYS], ["GET", "POST"]),
    ],
)
async def test_credentials_are_derived_or_created(answers: list[Any], methods: list[str]) -> None:
    fake = Fake(*answers)
    urls = VenueUrls.local("http://venue.test/")
    keys = await derive_credentials(fake.http, l1_headers={"POLY_NONCE": "0"}, urls=urls)
    assert (keys.api_key, repr(keys)) == ("k", "Credentials(<hidden>)")
    assert [request.method for request in fake.requests] == methods
    assert fake.requests[0].headers["POLY_NONCE"] == "0"


@pytest.mark.parametrize("body", [{"apiKey": "k", "secret": "hush"}, NEW_KEYS | {"secret": "h"}])
async def test_bad_credentials_are_not_shown(body: dict[str, str]) -> None:
    fake = Fake(body)
    with pytest.raises(WireError) as caught:
        await derive_credentials(fake.http, l1_headers={})
    assert "hush" not in str(caught.value)


async def test_a_wrong_key_is_not_answered_by_creating_another() -> None:
    fake = Fake(refused(401, "Invalid L1 Request headers"))
    with pytest.raises(Rejected):
        await derive_credentials(fake.http, l1_headers={})
    assert len(fake.requests) == 1


async def test_a_pool_closes_with_its_context() -> None:
    async with open_http(rng=random.Random(1), patience=NO_WAIT) as http:
        with pytest.raises(TransportError):
            await http.send(Call(endpoint="/time", url="http://127.0.0.1:1/time"))


def test_local_urls_are_one_port() -> None:
    urls = VenueUrls.local("http://127.0.0.1:8100/")
    assert urls.clob == urls.data == urls.gamma == "http://127.0.0.1:8100"
    assert urls.market_ws == "ws://127.0.0.1:8100/ws/market"
    assert urls.user_ws == "ws://127.0.0.1:8100/ws/user"
    assert urls.activity_ws == "ws://127.0.0.1:8100/rtds"
    for wrong in ("127.0.0.1:8100", "ftp://x", "http://"):
        with pytest.raises(ValueError, match="base url"):
            VenueUrls.local(wrong)
