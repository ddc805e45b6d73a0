"""The status page: for a browser on this machine only, with nothing of it read as HTML."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import PropertyMock

import pytest
from aiohttp import ClientSession, web

from services.paper_venue import page
from services.paper_venue.config import VenueConfig
from services.paper_venue.keyring import keyring
from services.paper_venue.server import running

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NASTY = "<img src=x onerror=alert(1)>"
MARKET = {
    "slug": "one", "question": NASTY, "neg_risk": True, "event": "all", "end_s": 1_900_000_000,
    "bids": [["0.47", "120"]], "asks": [["0.5", "25"]],
}  # fmt: skip


class Visit:
    """One visitor of a venue."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url, self.session = url, session

    async def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        async with self.session.get(self.url + path, headers=headers) as response:
            return response.status, response.content_type, await response.text()

    async def overview(self) -> dict[str, Any]:
        async with self.session.get(self.url + "/admin/overview") as response:
            told: dict[str, Any] = await response.json()
            return told

    async def admin(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self.session.post(f"{self.url}/admin/{call}", json=body) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer


@asynccontextmanager
async def visiting(**settings: Any) -> AsyncIterator[Visit]:
    config = VenueConfig(accounts=keyring(1).accounts(5_000_000), **settings)  # type: ignore[arg-type]
    async with running(config) as venue, ClientSession() as session:
        yield Visit(venue.url, session)


async def test_a_browser_gets_the_page_and_everybody_else_what_they_got() -> None:
    async with visiting() as visit:
        for path in ("/", "/admin/page"):
            status, kind, text = await visit.get(path, **BROWSER)
            assert (status, kind) == (200, "text/html")
            assert text == page.PAGE
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
            status, kind, text = await visit.get("/", **headers)
            assert (status, kind) == (200, "application/json")
            assert '"venue":"paper"' in text
        async with visit.session.ws_connect(visit.url + "/", headers=BROWSER) as socket:
            await socket.send_str("PING")
            assert await socket.receive_str() == "PONG"


async def test_from_elsewhere_there_is_neither_page_nor_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with visiting() as visit:
        monkeypatch.setattr(web.BaseRequest, "remote", PropertyMock(return_value="192.0.2.7"))
        for path in ("/admin/page", "/admin/overview", "/admin/key"):
            status, _, text = await visit.get(path, **BROWSER)
            assert status == 403
            assert keyring(1).private_key not in text
        status, kind, _ = await visit.get("/", **BROWSER)
        assert (status, kind) == (200, "application/json")


async def test_the_page_needs_nothing_from_outside_and_writes_text_only() -> None:
    assert not re.search(r"(?:src|href)\s*=|https?://|@import|url\(", page.PAGE)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.PAGE
    )
    async with (
        visiting() as visit,
        visit.session.get(visit.url + "/admin/page") as response,
    ):
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "connect-src 'self'" in policy
        assert keyring(1).private_key not in await response.text()


async def test_the_overview_tells_markets_trades_sockets_and_faults() -> None:
    async with visiting() as visit:
        made = await visit.admin("market", MARKET)
        other = await visit.admin("market", {"slug": "two", "protocol": "v2"})
        await visit.admin("resolve", {"condition": other["condition"], "payouts": ["0", "1"]})
        buy = {"condition": made["condition"], "outcome": 0, "side": "BUY", "size": "10"}
        await visit.admin("fill", {"wallet": "0x" + "a" * 40, **buy})
        await visit.admin("faults", {"slow": 4, "slow_ms": 1, "market_silence_s": 60})
        async with visit.session.ws_connect(visit.url + "/ws/market") as socket:
            await socket.send_json({"type": "market", "assets_ids": made["tokens"]})
            await socket.send_str("PING")
            assert await socket.receive_str() == "PONG"  # so it has heard what came before
            told = await visit.overview()

    assert told["counts"]["markets"] == 2
    assert (told["counts"]["open"], told["counts"]["trades"]) == (1, 1)
    one, two = told["markets"]  # what is open comes first
    assert (one["name"], one["group"], one["protocol"]) == (NASTY, "all", "v1")
    assert (one["bid"], one["ask"], one["spread"], one["last"]) == ("0.47", "0.5", "0.03", "0.5")
    assert one["ends_ms"] == 1_900_000_000_000
    assert (two["slug"], two["payouts"], two["bid"]) == ("two", ["0", "1"], None)
    (trade,) = told["trades"]
    assert (trade["side"], trade["size"], trade["price"]) == ("BUY", "10", "0.5")
    assert (trade["taker"], trade["makers"]) == ("0x" + "a" * 40, ["the book"])
    (socket_told,) = told["sockets"]
    assert sorted(socket_told["tokens"]) == sorted(made["tokens"])
    faults = {each["name"]: each for each in told["faults"]}
    assert set(faults) == {"slow", "market_silence_s"}
    assert faults["slow"]["state"] == "in force"


async def test_leaders_are_told_with_what_they_did_last() -> None:
    async with visiting(leaders="synthetic:splitter,sleeper") as visit:
        await visit.admin("market", {**MARKET, "asks": [["0.5", "50000"]], "neg_risk": False})
        told = await visit.overview()
        while not any(each["rows"] for each in told["leaders"]):
            told = await visit.overview()
    first = told["leaders"][0]
    assert first["name"] in ("synthetic-splitter", "synthetic-sleeper")
    assert first["lately"][0]["kind"] == "BUY"
    assert first["lately"][0]["market"] == "one"
    assert {each["name"] for each in told["leaders"]} == {"synthetic-splitter", "synthetic-sleeper"}


async def test_the_key_is_told_with_the_funds_of_its_wallets() -> None:
    async with visiting() as visit, visit.session.get(visit.url + "/admin/key") as response:
        told = await response.json()
    ring = keyring(1)
    assert (told["private_key"], told["address"]) == (ring.private_key, ring.address)
    assert [each["wallet"] for each in told["wallets"]] == list(ring.wallets)
    assert {each["usd"] for each in told["wallets"]} == {"5"}
