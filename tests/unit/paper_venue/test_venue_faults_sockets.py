"""Every fault of a WebSocket, once through real sockets."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from venue_bench import BOOK, LEADER, SUBSCRIBE, Bench, Clock, frame, subscribe

from services.paper_venue.config import VenueConfig
from services.paper_venue.delivery import GARBAGE
from services.paper_venue.server import running
from services.paper_venue.signing import credentials_for
from tests.support.eventually import eventually

Socket = aiohttp.ClientWebSocketResponse
GONE = (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
TRADES = {"action": "subscribe", "subscriptions": [{"topic": "activity", "type": "trades"}]}


@asynccontextmanager
async def watching(bench: Bench, **more: object) -> AsyncIterator[Socket]:
    """Open a market socket on both tokens, past its first books."""
    timeout = aiohttp.ClientWSTimeout(ws_close=0.1)
    url = f"{bench.url}/ws/market"
    async with bench.session.ws_connect(url, timeout=timeout, autoping=False) as socket:
        message = {"type": "market", "assets_ids": bench.tokens, "initial_dump": False, **more}
        await subscribe(socket, message)
        assert await frame(socket) == "PONG"
        yield socket


async def size(socket: Socket) -> str:
    """Return the size that the next frame, a price_change, tells of its first level."""
    return (await frame(socket))["price_changes"][0]["size"]


async def pongs(socket: Socket) -> None:
    await socket.send_str("PING")
    assert await frame(socket) == "PONG"


async def test_one_connection_is_closed_by_its_number(bench: Bench) -> None:
    async with watching(bench) as first, watching(bench) as second:
        numbers = [each["connection"] for each in await bench.sockets()]
        rule = await bench.rule("close", connection=numbers[1])
        assert (await second.receive(timeout=5)).type in GONE
        await pongs(first)
        assert await bench.fired(rule) == 1
        assert [each["connection"] for each in await bench.sockets()] == numbers[:1]
    firings = await bench.get("/admin/firings")
    assert (firings["count"], firings["firings"][0]["where"]) == (1, f"market #{numbers[1]}")
    async with watching(bench) as again:
        await pongs(again)


async def test_what_opens_while_a_closing_lasts_is_closed_too(bench: Bench) -> None:
    await bench.rule("close", socket="market", for_s=5)
    async with bench.socket("/ws/market") as early:
        assert (await early.receive(timeout=5)).type in GONE
    await bench.pass_ms(5_000)
    async with watching(bench) as late:
        await pongs(late)


async def test_a_slow_consumer_is_told_so(bench: Bench) -> None:
    async with watching(bench) as socket:
        await bench.rule("close_1013", socket="market")
        ended = await socket.receive(timeout=5)
        assert (ended.type, ended.data) == (aiohttp.WSMsgType.CLOSE, 1013)
        assert ended.extra.startswith("slow consumer")


async def test_a_closing_waits_for_its_time(bench: Bench) -> None:
    async with watching(bench) as socket:
        await bench.rule("close", after_s=10)
        await bench.pass_ms(9_999)
        await pongs(socket)
        await bench.pass_ms(1)
        assert (await socket.receive(timeout=5)).type in GONE


async def test_what_is_due_happens_without_anybody_asking() -> None:
    """By the real clock: no request comes that would make the venue look."""
    async with running(VenueConfig()) as venue, aiohttp.ClientSession() as session:
        bench = Bench(venue.url, Clock(), session)
        market = await bench.admin("market", **BOOK)
        bench.condition, bench.tokens = market["condition"], market["tokens"]
        async with watching(bench) as socket:
            await bench.rule("delay", count=1, ms=20)
            await bench.move(1)
            assert await size(socket) == "1"
            await bench.rule("late_dump", ms=20)
            again = {"operation": "subscribe", "assets_ids": bench.tokens[:1]}
            await socket.send_json({**again, "operation": "unsubscribe"})
            await socket.send_json(again)
            assert (await frame(socket))[0]["event_type"] == "book"
            await bench.rule("close", after_s=0.02)
            assert (await socket.receive(timeout=5)).type in GONE


async def test_half_open_says_nothing_any_more_and_lets_itself_be_left(bench: Bench) -> None:
    async with watching(bench) as dead, watching(bench) as alive:
        number = (await bench.sockets())[0]["connection"]
        await bench.rule("half_open", connection=number)
        sent = {each["connection"]: each["sent"] for each in await bench.sockets()}
        await dead.send_str("PING")
        await dead.ping()
        await bench.move(7)
        assert await size(alive) == "7"
        await pongs(alive)
        views = await bench.sockets()
        assert [each["sent"] - sent[each["connection"]] for each in views] == [0, 2]
        assert views[0]["half_open"]
        with pytest.raises(TimeoutError):
            await dead.receive(timeout=0.1)

    async def left() -> bool:
        return await bench.sockets() == []

    await eventually(left)


async def test_half_open_gives_no_goodbye_back(bench: Bench) -> None:
    async with watching(bench) as dead:
        await bench.rule("half_open")
        await dead.close()
        assert dead.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def test_protocol_pings_are_answered_as_ever(bench: Bench) -> None:
    async with bench.session.ws_connect(f"{bench.url}/rtds", autoping=False) as socket:
        await socket.ping(b"there?")
        answer = await socket.receive(timeout=5)
        assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_silence_strikes_some_connections_and_ends(bench: Bench) -> None:
    async with watching(bench) as first, watching(bench) as second:
        rule = await bench.rule("silent", socket="market", count=1, for_s=10)
        await bench.move(1)
        await bench.move(2)
        await pongs(first)
        assert [await size(second), await size(second)] == ["1", "2"]
        await bench.pass_ms(10_000)
        await bench.move(3)
        assert [await size(first), await size(second)] == ["3", "3"]
        assert await bench.fired(rule) == 1, "once a connection"


async def test_one_asset_freezes_until_it_is_subscribed_afresh(bench: Bench) -> None:
    async with watching(bench) as socket:
        await bench.rule("freeze", token=bench.tokens[0], rescue_bps=10_000)
        await bench.move(1)
        told = await frame(socket)
        assert {each["asset_id"] for each in told["price_changes"]} == {bench.tokens[1]}
        for operation in ("unsubscribe", "subscribe"):
            await socket.send_json({"operation": operation, "assets_ids": bench.tokens[:1]})
        assert (await frame(socket))[0]["asset_id"] == bench.tokens[0]
        await bench.move(2)
        assert len((await frame(socket))["price_changes"]) == 4 - 2


async def test_a_freeze_without_a_name_takes_the_first_asset_it_meets(bench: Bench) -> None:
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, TRADES)
        assert await frame(socket) == "PONG"
        await bench.rule("freeze", socket="stream")
        await bench.fill(immediate=True)
        others = (await frame(socket))["payload"]["proxyWallet"]
        assert others != LEADER, "the taker's row came first: that wallet is frozen"
        await bench.fill(immediate=True)
        assert (await frame(socket))["payload"]["proxyWallet"] == others


async def test_a_frame_is_lost_doubled_garbled_or_cut(bench: Bench) -> None:
    async with watching(bench) as socket:
        await bench.rule("drop", socket="market", count=1)
        await bench.move(1)
        await bench.move(2)
        assert await size(socket) == "2"
        await bench.rule("twice", token=bench.tokens[1], count=1)
        await bench.move(3)
        assert [await size(socket), await size(socket)] == ["3", "3"]
        await bench.rule("garbage", count=1)
        await bench.move(4)
        assert await frame(socket) == GARBAGE["market"]
        whole = await socket.receive_str(timeout=5)
        await bench.rule("truncated_frame", count=1)
        await bench.move(5)
        half = await socket.receive_str(timeout=5)
        assert len(half) == len(whole) // 2
        with pytest.raises(json.JSONDecodeError):
            json.loads(half)
        await bench.rule("drop", token="7", count=1)
        await bench.move(6)
        assert await size(socket) == "6", "another token's fault"


async def test_a_held_frame_comes_after_later_ones(bench: Bench) -> None:
    async with watching(bench) as socket:
        await bench.rule("reorder", count=1, n=1)
        for number in (1, 2, 3):
            await bench.move(number)
        assert [await size(socket) for _ in range(3)] == ["2", "1", "3"]
        await bench.rule("reorder", count=1, ms=500)
        await bench.move(4)
        await pongs(socket)
        await bench.pass_ms(500)
        assert await size(socket) == "4", "nothing followed: it goes by its time"


@pytest.mark.parametrize(("keep_order", "sizes"), [(True, ["1", "2"]), (False, ["2", "1"])])
async def test_a_delayed_frame_holds_later_ones_back_or_not(
    bench: Bench, keep_order: bool, sizes: list[str]
) -> None:
    async with watching(bench) as socket:
        await bench.rule("delay", count=1, ms=1_000, keep_order=keep_order)
        await bench.move(1)
        await bench.move(2)
        await pongs(socket) if keep_order else None
        await bench.pass_ms(1_000)
        assert [await size(socket), await size(socket)] == sizes


async def test_a_subscription_is_taken_and_forgotten(bench: Bench) -> None:
    await bench.rule("ignored_subscription", socket="market", token=bench.tokens[0])
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens})
        dump = await frame(socket)
        assert [book["asset_id"] for book in dump] == bench.tokens[1:]
        assert await frame(socket) == "PONG"
        (view,) = await bench.sockets()
        assert (view["tokens"], view["ignored"]) == (bench.tokens[1:], bench.tokens[:1])
        await subscribe(socket, {"operation": "subscribe", "assets_ids": bench.tokens[:1]})
        assert await frame(socket) == "NO NEW ASSETS"
        assert await frame(socket) == "PONG"
        rule = (await bench.get("/admin/rules"))["rules"][0]["id"]
        await bench.session.delete(f"{bench.url}/admin/rules/{rule}")
        for operation in ("unsubscribe", "subscribe"):
            await socket.send_json({"operation": operation, "assets_ids": bench.tokens[:1]})
        assert (await frame(socket))[0]["asset_id"] == bench.tokens[0], "subscribed afresh"


async def test_stream_and_user_subscriptions_are_forgotten_too(bench: Bench) -> None:
    await bench.rule("ignored_subscription", count=2)
    keys = credentials_for(1, bench.owner, 0)
    await bench.post(bench.order_body(price=0.4, size=5, kind="GTC"))  # makes the key known
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    async with bench.socket("/rtds") as stream, bench.socket("/ws/user") as user:
        await subscribe(stream, SUBSCRIBE)
        await subscribe(user, {"type": "user", "auth": auth})
        assert [await frame(stream), await frame(user)] == ["PONG", "PONG"]
        await bench.post(bench.order_body(size=10))
        await bench.fill(immediate=True)
        await pongs(stream)
        await pongs(user)
        await subscribe(stream, SUBSCRIBE)
        assert await frame(stream) == "PONG", "the second time it is heard"
        await bench.fill(immediate=True)
        assert (await frame(stream))["topic"] == "activity"


async def test_new_connections_are_refused_or_reset_for_a_while(bench: Bench) -> None:
    await bench.rule("refuse", socket="stream", for_s=5)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await bench.socket("/rtds")
    assert refused.value.status == 503
    async with watching(bench) as other:
        await pongs(other)
    await bench.pass_ms(5_000)
    await bench.rule("refuse", socket="stream", status=0, for_s=5)
    with pytest.raises(aiohttp.ClientOSError):
        await bench.socket("/rtds")
    await bench.pass_ms(5_000)
    async with bench.socket("/rtds") as again:
        await pongs(again)


async def test_the_first_book_comes_late_and_as_it_is_then(bench: Bench) -> None:
    await bench.rule("late_dump", token=bench.tokens[0], ms=2_000)
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens})
        assert [book["asset_id"] for book in await frame(socket)] == bench.tokens[1:]
        assert await frame(socket) == "PONG"
        await bench.move(9)
        assert await size(socket) == "9"
        await bench.pass_ms(2_000)
        (book,) = await frame(socket)
        assert (book["asset_id"], book["bids"]) == (
            bench.tokens[0],
            [{"price": "0.48", "size": "9"}],
        )


async def test_a_late_book_of_what_is_no_longer_wanted_never_comes(bench: Bench) -> None:
    await bench.rule("late_dump", ms=2_000, count=1)
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        assert await frame(socket) == "PONG"
        await subscribe(socket, {"operation": "unsubscribe", "assets_ids": bench.tokens[:1]})
        assert await frame(socket) == "PONG"
        await bench.pass_ms(2_000)
        await pongs(socket)


async def test_what_was_held_goes_before_a_fresh_book(bench: Bench) -> None:
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        assert [len(await frame(socket)), await frame(socket)] == [1, "PONG"]
        await bench.rule("delay", count=1, ms=1_000)
        await bench.move(1)
        bench.clock.ns += 1_000_000_000
        await socket.send_json({"operation": "subscribe", "assets_ids": bench.tokens[1:]})
        assert await size(socket) == "1"
        assert (await frame(socket))[0]["asset_id"] == bench.tokens[1]


async def test_the_plain_loss_of_a_frame_is_for_all_who_hear_it(bench: Bench) -> None:
    async with bench.socket("/rtds") as first, bench.socket("/rtds") as second:
        for socket in (first, second):
            await subscribe(socket, TRADES)
            assert await frame(socket) == "PONG"
        await bench.admin("faults", drop_frames=1)
        await bench.fill(immediate=True)
        for socket in (first, second):
            assert (await frame(socket))["payload"]["proxyWallet"] != LEADER


async def test_a_connection_that_is_gone_is_forgotten() -> None:
    async with running(VenueConfig()) as venue, aiohttp.ClientSession() as session:
        bench = Bench(venue.url, Clock(), session)
        await bench.admin("market", **BOOK)
        await bench.rule("silent")
        (armed,) = venue.shell.rules.listed()
        async with bench.socket("/ws/market") as socket:
            await socket.send_json({"type": "market", "custom_feature_enabled": True})
            await pongs(socket)
            await bench.admin("market", slug="two")
            assert list(armed.met.values()) == [True]
        await eventually(lambda: armed.met == {})


async def test_the_first_book_is_an_old_one(bench: Bench) -> None:
    await bench.rule("stale_dump", count=1, age_s=3)
    for second in range(1, 6):
        await bench.pass_ms(1_000)
        await bench.move(second)
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens})
        old, fresh = await frame(socket)
        assert old["bids"] == [{"price": "0.48", "size": "2"}]
        assert fresh["asks"][-1] == {"price": "0.52", "size": "5"}
        assert int(fresh["timestamp"]) - int(old["timestamp"]) == 3_000
    await bench.move(6)
    await bench.rule("stale_dump", age_s=100)
    await bench.move(7)
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        (old,) = await frame(socket)
        assert old["bids"] == [{"price": "0.48", "size": "6"}], "no older than the rule"
