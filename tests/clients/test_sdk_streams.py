"""`polymarket-client`, unchanged, listens to the running venue."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from polymarket import AsyncSecureClient
from polymarket.errors import RequestRejectedError
from polymarket.streams import MarketSpec, SubscriptionHandle, UserOrderEvent, UserSpec

from tests.clients.local_venue import KINDS, Kind, Listed, LocalVenue
from tests.clients.sdk import connect_async

DEADLINE_S = 5.0
PROBE_S = 0.25  # how long one probe waits before the next: no frame tells that a stream listens
PROBES = 20
STRANGER = "0x" + "9" * 40
pytestmark = [
    pytest.mark.xdist_group("sdk_streams"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(venue: LocalVenue) -> AsyncIterator[AsyncSecureClient]:
    connected = await connect_async(venue, venue.account(3))
    try:
        yield connected
    finally:
        await connected.close()


async def heard(handle: SubscriptionHandle[Any]) -> Any:
    return await asyncio.wait_for(anext(handle), DEADLINE_S)


async def several(handle: SubscriptionHandle[Any], number: int) -> list[Any]:
    return [await heard(handle) for _ in range(number)]


async def rest(client: AsyncSecureClient, token: str, price: str = "0.45") -> str:
    answer = await client.place_limit_order(asset_id=token, price=price, size="10", side="BUY")
    assert answer.ok, answer
    return str(answer.order_id)


async def take(client: AsyncSecureClient, token: str, dollars: str = "5") -> str:
    answer = await client.place_market_order(
        asset_id=token, side="BUY", amount=dollars, max_price="0.5"
    )
    assert answer.ok, answer
    return str(answer.order_id)


@pytest_asyncio.fixture(loop_scope="module")
async def listening(
    venue: LocalVenue, client: AsyncSecureClient
) -> AsyncIterator[SubscriptionHandle[Any]]:
    """The account's own events, known to arrive: a probe order in a market apart was heard."""
    token = venue.market().tokens[0]
    handle = await client.subscribe(UserSpec())
    async with handle:
        for _ in range(PROBES):
            probe = await rest(client, token)
            try:
                await asyncio.wait_for(anext(handle), PROBE_S)
            except TimeoutError:
                continue
            break
        await client.cancel_order(order_id=probe)
        while (await heard(handle)).payload.order_event_type != "CANCELLATION":
            pass
        yield handle


def order_told(event: Any) -> tuple[Any, ...]:
    assert isinstance(event, UserOrderEvent), event
    told = event.payload
    return told.order_event_type, told.status, told.size_matched


@pytest.mark.parametrize("kind", KINDS)
async def test_an_orders_life_is_told(
    venue: LocalVenue,
    client: AsyncSecureClient,
    listening: SubscriptionHandle[Any],
    kind: Kind,
) -> None:
    listed = venue.market(kind)
    order = await rest(client, listed.tokens[0], "0.49")
    placed = await heard(listening)
    assert order_told(placed) == ("PLACEMENT", "LIVE", 0)
    assert (placed.payload.id, placed.payload.condition_id) == (order, listed.condition)
    assert (placed.payload.price, placed.payload.original_size) == (Decimal("0.49"), 10)
    sell(venue, listed, "4")
    by_type: dict[str, list[Any]] = {"order": [], "trade": []}
    for event in await several(listening, 4):  # trades and the order in no promised order
        by_type[event.type].append(event)
    (update,) = by_type["order"]
    assert order_told(update) == ("UPDATE", "LIVE", 4)
    assert [each.payload.status for each in by_type["trade"]] == ["MATCHED", "MINED", "CONFIRMED"]
    trade = by_type["trade"][0].payload
    assert (trade.trader_side, trade.side, trade.size) == ("MAKER", "SELL", 4)
    assert [(leg.order_id, leg.matched_amount) for leg in trade.maker_orders] == [(order, 4)]
    await client.cancel_order(order_id=order)
    assert order_told(await heard(listening)) == ("CANCELLATION", "CANCELED", 4)


def sell(venue: LocalVenue, listed: Listed, size: str) -> None:
    """Let a stranger sell into the best bid."""
    body = {"wallet": STRANGER, "condition": listed.condition, "outcome": 0}
    venue.admin("fill", side="SELL", size=size, price="0.49", **body)


@pytest.mark.parametrize(
    ("failing", "states"),
    [(0, ["MATCHED", "MINED", "CONFIRMED"]), (1, ["MATCHED", "RETRYING", "FAILED"])],
)
async def test_a_trade_is_told_to_its_end(
    venue: LocalVenue,
    client: AsyncSecureClient,
    listening: SubscriptionHandle[Any],
    failing: int,
    states: list[str],
) -> None:
    venue.admin("faults", fail_settlement=failing)
    order = await take(client, venue.market().tokens[0])
    events = await several(listening, 4)
    (update,) = [each for each in events if each.type == "order"]
    assert order_told(update) == ("UPDATE", "MATCHED", 10)
    trades = [each.payload for each in events if each.type == "trade"]
    assert [each.status for each in trades] == states
    assert {(each.taker_order_id, each.trader_side, each.size) for each in trades} == {
        (order, "TAKER", 10)
    }
    assert len({each.id for each in trades}) == 1


async def test_a_market_it_did_not_ask_for_is_silent(
    venue: LocalVenue, client: AsyncSecureClient, listening: SubscriptionHandle[Any]
) -> None:
    wanted, other = venue.market(), venue.market()
    async with await client.subscribe(UserSpec(markets=[wanted.condition])) as narrow:
        await rest(client, other.tokens[0])
        order = await rest(client, wanted.tokens[0])
        assert (await heard(narrow)).payload.id == order
    assert [event.payload.condition_id for event in await several(listening, 2)] == [
        other.condition,
        wanted.condition,
    ]


async def test_the_kill_of_an_order_never_reaches_its_listener(
    venue: LocalVenue, client: AsyncSecureClient, listening: SubscriptionHandle[Any]
) -> None:
    """The frame is on the wire, as recorded: its empty size fails the client's strict parser."""
    token = venue.market().tokens[0]
    keys = client.credentials
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{venue.ws_url}/ws/user") as raw,
    ):
        await raw.send_json({"type": "user", "auth": auth})
        await raw.send_str("PING")
        assert await raw.receive_str(timeout=DEADLINE_S) == "PONG"
        with pytest.raises(RequestRejectedError, match="FOK orders are fully filled or killed"):
            await client.place_market_order(
                asset_id=token, side="BUY", amount="250", max_price="0.5", order_type="FOK"
            )
        kill = json.loads(await raw.receive_str(timeout=DEADLINE_S))
    assert (kill["type"], kill["size_matched"]) == ("CANCELLATION", "")
    assert kill["status"].startswith("CANCELED_order couldn't be fully filled")
    order = await rest(client, token)
    assert (await heard(listening)).payload.id == order  # the kill would have stood before it


@pytest.mark.parametrize("kind", KINDS)
async def test_a_markets_life_is_told(
    venue: LocalVenue, client: AsyncSecureClient, kind: Kind
) -> None:
    listed = venue.market(kind)
    spec = MarketSpec(asset_ids=[listed.tokens[0]], custom_feature_enabled=True)
    async with await client.subscribe(spec) as handle:
        book = await heard(handle)
        assert (book.type, book.payload.condition_id) == ("book", listed.condition)
        assert (book.payload.bids[-1].price, book.payload.asks[-1].price) == (
            Decimal("0.48"),
            Decimal("0.5"),
        )
        over_rest = await client.get_order_book(asset_id=listed.tokens[0])
        assert book.payload.hash == over_rest.hash
        await rest(client, listed.tokens[0], "0.49")
        change, top = await several(handle, 2)
        assert change.type == "price_change"
        (mine,) = [
            each for each in change.payload.price_changes if each.asset_id == listed.tokens[0]
        ]
        assert (mine.side, mine.price, mine.size) == ("BUY", Decimal("0.49"), 10)
        assert (top.type, top.payload.best_bid) == ("best_bid_ask", Decimal("0.49"))
        sell(venue, listed, "10")
        last, after, top = await several(handle, 3)
        assert (last.type, last.payload.side, last.payload.size) == ("last_trade_price", "SELL", 10)
        assert (after.type, after.payload.last_trade_price) == ("book", Decimal("0.49"))
        assert (top.payload.best_bid, top.payload.spread) == (Decimal("0.48"), Decimal("0.02"))


async def test_the_tick_the_news_and_the_end_of_a_market_are_told(
    venue: LocalVenue, client: AsyncSecureClient
) -> None:
    listed = venue.market()
    spec = MarketSpec(asset_ids=list(listed.tokens), custom_feature_enabled=True)
    async with await client.subscribe(spec) as handle:
        assert [each.type for each in await several(handle, 2)] == ["book", "book"]
        finer = {"bids": [["0.965", "50"]], "asks": [["0.975", "50"]]}
        venue.admin("book", condition=listed.condition, **finer)
        ticks = await several(handle, 2)
        assert {each.payload.asset_id for each in ticks} == set(listed.tokens)
        for tick in ticks:
            assert tick.type == "tick_size_change"
            assert (tick.payload.old_tick_size, tick.payload.new_tick_size) == (
                Decimal("0.01"),
                Decimal("0.001"),
            )
        changes = await several(handle, 3)
        assert [each.type for each in changes] == ["price_change", "best_bid_ask", "best_bid_ask"]
        news = venue.market()
        opened = await heard(handle)
        assert (opened.type, opened.payload.condition_id) == ("new_market", news.condition)
        assert opened.payload.asset_ids == news.tokens
        assert opened.payload.order_price_min_tick_size == Decimal("0.01")
        venue.admin("resolve", condition=listed.condition, payouts=["0", "1"])
        resolved = await heard(handle)
        assert (resolved.type, resolved.payload.condition_id) == (
            "market_resolved",
            listed.condition,
        )
        assert resolved.payload.winning_asset_id == listed.tokens[1]
        assert resolved.payload.winning_outcome == "No"


async def test_a_lost_connection_is_opened_again_with_fresh_books(
    venue: LocalVenue, client: AsyncSecureClient
) -> None:
    listed = venue.market()
    async with await client.subscribe(MarketSpec(asset_ids=[listed.tokens[0]])) as handle:
        before = await heard(handle)
        venue.admin("faults", close_sockets="market")
        again = await heard(handle)
        assert (again.type, again.payload) == ("book", before.payload)
