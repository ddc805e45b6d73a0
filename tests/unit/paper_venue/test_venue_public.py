"""Our own client of the public API against the running venue: labels, worth, ends of markets."""

import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from py_clob_client_v2.clob_types import CreateOrderOptions, OrderArgsV2
from py_clob_client_v2.order_builder.builder import OrderBuilder
from py_clob_client_v2.order_utils.model.order_data_v2 import order_to_json_v2
from py_clob_client_v2.signer import Signer

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import Running, running
from services.paper_venue.signing import credentials_for, request_signature
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import MICRO, Usd
from shared.polymarket.errors import Rejected
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import open_http
from shared.polymarket.urls import VenueUrls

KEY = "0x" + "42" * 32  # a key for tests; nothing is behind it
SIGNER = Signer(KEY, 137)
OWNER = Wallet(SIGNER.address().lower())
LEADER = Wallet("0x" + "d" * 40)
BOOK = {"bids": [["0.4", "900"]], "asks": [["0.5", "900"]]}


class Bench:
    def __init__(self, venue: Running, public: PublicVenue, http: aiohttp.ClientSession) -> None:
        self.url, self.public, self.http = venue.url, public, http

    async def admin(self, path: str, **body: object) -> Any:
        async with self.http.post(f"{self.url}/admin/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def market(self, slug: str, **terms: object) -> ConditionId:
        return ConditionId((await self.admin("market", slug=slug, **BOOK, **terms))["condition"])

    async def buy(self, condition: str, outcome: int, size: str) -> None:
        fill = {"wallet": LEADER, "condition": condition, "outcome": outcome, "side": "BUY"}
        await self.admin("fill", **fill, size=size, immediate=True)


@contextlib.asynccontextmanager
async def a_bench() -> AsyncIterator[Bench]:
    config = VenueConfig(accounts=(Funded(wallet=OWNER, usd=Usd(1_000 * MICRO)),), mined_delay_ms=0)
    async with (
        running(config) as venue,
        open_http(rng=random.Random(1)) as http,
        aiohttp.ClientSession() as session,
    ):
        urls = VenueUrls.local(venue.url)
        yield Bench(venue, PublicVenue(http, now_ns=time.time_ns, urls=urls), session)


async def test_a_market_is_told_with_its_labels() -> None:
    async with a_bench() as bench:
        labels = {"category": "Crypto", "tags": ["crypto", "up-or-down"], "event": "btc-today"}
        labelled = await bench.public.market(await bench.market("one", **labels))
        assert (labelled.category, labelled.tags) == ("crypto", ("crypto", "up-or-down"))
        assert labelled.event == "btc-today"
        plain = await bench.public.market(await bench.market("two"))
        assert (plain.category, plain.tags, plain.event) == ("", (), "")


async def test_gamma_keeps_labels_to_itself_unless_asked() -> None:
    async with a_bench() as bench:
        condition = await bench.market("one", category="crypto", tags=["up-or-down"])
        shown = {}
        for asked in ("false", "true"):
            query = {"condition_ids": condition, "include_tag": asked}
            async with bench.http.get(f"{bench.url}/markets", params=query) as answer:
                ((shown[asked]),) = await answer.json()
        assert "tags" not in shown["false"]
        (tag,) = shown["true"]["tags"]
        assert (tag["label"], tag["slug"]) == ("Up Or Down", "up-or-down")


async def test_a_market_of_an_unknown_protocol_is_shown_and_takes_no_order() -> None:
    async with a_bench() as bench:
        condition = await bench.market("one", protocol="unknown")
        market = await bench.public.market(condition)
        assert (market.protocol, market.accepting_orders) == ("unknown", True)
        assert (await bench.public.book(market.tokens[0])).best_ask == 500_000
        built = OrderBuilder(SIGNER, 0).build_order(
            OrderArgsV2(token_id=market.tokens[0], price=0.5, size=10, side="BUY"),
            CreateOrderOptions(tick_size="0.01", neg_risk=False),
        )
        keys, now_s = credentials_for(1, OWNER, 0), str(int(time.time()))
        body = json.dumps(order_to_json_v2(built, keys.key, "FAK"), separators=(",", ":"))
        headers = {
            "POLY_ADDRESS": SIGNER.address(),
            "POLY_API_KEY": keys.key,
            "POLY_PASSPHRASE": keys.passphrase,
            "POLY_TIMESTAMP": now_s,
            "POLY_SIGNATURE": request_signature(
                keys.secret, now_s, "POST", "/order", body.encode()
            ),
        }
        async with bench.http.post(f"{bench.url}/order", data=body, headers=headers) as answer:
            assert answer.status == 400
            assert await answer.json() == {"error": "Invalid order payload"}


async def test_the_value_of_a_wallet_is_its_positions_at_their_prices() -> None:
    async with a_bench() as bench:
        assert await bench.public.value(LEADER) == 0
        first, second = await bench.market("one"), await bench.market("two")
        await bench.buy(first, 0, "10")
        await bench.buy(second, 1, "4")
        assert await bench.public.value(LEADER) == 4_500_000 + 2_200_000  # at the mid of 0.45
        await bench.admin("resolve", condition=first, payouts=["1", "0"])
        assert await bench.public.value(LEADER) == 10_000_000 + 2_200_000
        await bench.admin("fund", wallet=OWNER, usd="5")
        assert await bench.public.value(OWNER) == 0  # dollars are no position


async def test_resolutions_are_told_for_what_is_resolved() -> None:
    async with a_bench() as bench:
        won, even, pending = [await bench.market(slug) for slug in ("won", "even", "pending")]
        await bench.admin("resolve", condition=won, payouts=["0", "1"])
        await bench.admin("resolve", condition=even, payouts=["0.5", "0.5"])
        stranger = ConditionId("0x" + "ab" * 32)
        told = await bench.public.resolutions([won, even, pending, stranger])
        assert sorted(told) == sorted([(won, (0, 1_000_000)), (even, (500_000, 500_000))])
        assert await bench.public.resolutions([stranger]) == []


async def test_the_data_api_takes_twenty_conditions_at_a_time() -> None:
    names = [ConditionId(f"0x{number:064x}") for number in range(21)]
    async with a_bench() as bench:
        assert await bench.public.resolutions(names[:20]) == []
        with pytest.raises(AssertionError):
            await bench.public.resolutions(names)
        url = f"{bench.url}/v2/resolutions"
        async with bench.http.get(url, params={"condition_id": ",".join(names)}) as answer:
            assert answer.status == 400
            assert (await answer.json())["parameter"] == "condition_id"
        with pytest.raises(Rejected):
            await bench.public.resolutions([ConditionId("0x12")])


async def test_the_end_of_a_market_is_told_on_the_market_socket() -> None:
    async with a_bench() as bench:
        condition = await bench.market("one", tags=["crypto"])
        tokens = (await bench.public.market(condition)).tokens
        async with bench.http.ws_connect(f"{bench.url}/ws/market") as socket:
            asked = {"assets_ids": list(tokens), "type": "market", "custom_feature_enabled": True}
            await socket.send_json(asked)
            await socket.receive(timeout=5)
            await bench.admin("resolve", condition=condition, payouts=["0", "1"])
            while True:
                frame = json.loads(await socket.receive_str(timeout=5))
                if isinstance(frame, dict) and frame["event_type"] == "market_resolved":
                    break
        assert (frame["market"], frame["winning_asset_id"]) == (condition, tokens[1])
        assert frame["tags"] == ["crypto"]
