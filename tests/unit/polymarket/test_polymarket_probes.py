"""Each start-up probe agrees with the local venue, and disagrees where that is made to."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import Running, running
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_MS, NS_PER_S, Usd
from shared.polymarket import probes, wire
from shared.polymarket.orders import Signer
from shared.polymarket.probes import Finding
from shared.polymarket.probing import ALL, PUBLIC, WITH_KEY, Probing, _token_of
from shared.polymarket.signing_probe import signing
from shared.polymarket.transport import Http, Patience
from shared.polymarket.urls import VenueUrls
from shared.polymarket.wallets import deposit_wallet, proxy_wallet, safe_wallet

KEY = "0x" + "7c" * 32  # a throw-away key
SIGNER = Signer.from_hex(KEY)
WALLET = Wallet(SIGNER.address.lower())
OWNER = bytes.fromhex(SIGNER.address[2:])
LEADER = "0x" + "1e" * 20
BOOK = {"slug": "one", "bids": [["0.47", "120"]], "asks": [["0.5", "25000"]]}
T_NS = 1_793_318_400_000_000_000
Change = Callable[[Any], Any]


class Disagreeing(httpx.AsyncBaseTransport):
    """The real answers, but for the paths whose body is changed on the way."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.changes: dict[str, Change] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        body = await answer.aread()
        for path, change in self.changes.items():
            if request.url.path.startswith(path):
                told = change(json.loads(body))
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
        return httpx.Response(answer.status_code, content=body)

    async def aclose(self) -> None:
        await self.inner.aclose()


class World:
    """A venue, the way to it, and what the probes find."""

    def __init__(self, venue: Running, transport: Disagreeing, probing: Probing) -> None:
        self.venue, self.changes, self.probing = venue, transport.changes, probing
        self.condition = ""

    async def admin(self, what: str, **body: Any) -> Any:
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{self.venue.url}/admin/{what}", json=body or {})
            return answer.raise_for_status().json()

    async def rule(self, **rule: Any) -> None:
        async with httpx.AsyncClient() as http:
            (await http.post(f"{self.venue.url}/admin/rules", json=[rule])).raise_for_status()

    async def public(self) -> dict[str, Finding]:
        return {each.name: each for each in await self.probing.public(stream_s=0.3)}

    async def account(self, own: Wallet = WALLET, kind: int = 0) -> dict[str, Finding]:
        found = await self.probing.account(SIGNER, own, kind, least=Usd(5_000_000))
        return {each.name: each for each in found}


@asynccontextmanager
async def world(now_ns: Callable[[], int] = time.time_ns) -> AsyncIterator[World]:
    config = VenueConfig(accounts=(Funded(wallet=WALLET, usd=Usd(100_000_000)),))
    transport = Disagreeing()
    patience = Patience(deadline_s=3, attempt_s=1, attempts=1)
    async with running(config) as venue, httpx.AsyncClient(transport=transport) as client:
        http = Http(client, rng=random.Random(1), patience=patience)
        probing = Probing(http, VenueUrls.local(venue.url), now_ns=now_ns)
        here = World(venue, transport, probing)
        here.condition = (await here.admin("market", **BOOK))["condition"]
        yield here


async def test_every_probe_agrees_with_the_local_venue() -> None:
    async with world() as here:
        found = await here.public()
        assert found.pop("activity stream").outcome == "unknown"  # nobody trades
        found |= await here.account()
    assert {name: each.outcome for name, each in found.items()} == dict.fromkeys(
        (name for name in ALL if name != "activity stream"), "ok"
    )
    assert all(not each.cure for each in found.values())


async def test_the_activity_stream_agrees_as_soon_as_anybody_trades() -> None:
    async with world() as here:
        body = {"wallet": LEADER, "condition": here.condition, "outcome": 0, "side": "BUY"}

        async def trade() -> None:
            for _ in range(50):
                await here.admin("fill", **body, size="5", immediate=True)
                await asyncio.sleep(0.05)

        trading = asyncio.create_task(trade())
        finding = await here.probing._activity_stream(5.0)
        trading.cancel()
    assert finding.outcome == "ok", finding


def test_the_probes_are_listed_as_they_are_made() -> None:
    assert (len(set(ALL)), set(PUBLIC) & set(WITH_KEY)) == (len(ALL), set())


@pytest.mark.parametrize(
    ("name", "path", "change", "seen"),
    [
        ("order version", "/version", lambda _: {"version": 3}, "version 3"),
        ("market versions", "/markets/keyset",
         lambda page: {"markets": [{**page["markets"][0], "version": "v9"}]}, "1 v9"),
        ("book hash", "/book", lambda book: {**book, "hash": "f" * 40}, "hash ffffffffffff"),
        ("tick and size", "/book", lambda book: {**book, "tick_size": "0.02"}, "tick 0.02"),
        ("tick and size", "/book", lambda book: {**book, "min_order_size": "15"}, "size 15"),
        ("tick and size", "/clob-markets", lambda terms: {**terms, "mts": 0.03}, "tick 0.01"),
        ("data index", "/v2/status",
         lambda status: _late(status, 3_600), " s behind"),
        ("data index", "/v2/status", lambda _: {"fine": True}, "no lag"),
        ("clock", "/time", lambda now: now + 60, "venue +5"),
        ("geoblock", "/api/geoblock", lambda _: b"<html>who are you?</html>", "malformed"),
    ],
)  # fmt: skip
async def test_a_public_probe_disagrees(name: str, path: str, change: Change, seen: str) -> None:
    async with world() as here:
        here.changes[path] = change
        finding = (await here.public())[name]
    assert finding.outcome == "fail"
    assert seen in finding.seen
    assert finding.expected
    assert finding.cure


def _late(status: Any, seconds: int) -> Any:
    serving = status["data"]["serving"]
    late = [{**each, "age_seconds": seconds} for each in serving["mechanisms"]]
    return {"data": {**status["data"], "serving": {**serving, "mechanisms": late}}}


async def test_a_blocked_region_is_told_with_its_country() -> None:
    async with world() as here:
        await here.admin("geoblock", blocked=True, country="DE")
        finding = (await here.public())["geoblock"]
    assert (finding.outcome, finding.seen) == ("fail", "blocked, in DE")


async def test_a_venue_that_is_down_answers_no_probe() -> None:
    async with world() as here:
        await here.rule(kind="server_error", status=500, path="/*")
        found = {**await here.public(), **await here.account()}
    local = {"signing", "wallet"}
    assert {each.outcome for name, each in found.items() if name not in local} == {"unknown"}
    assert set(found) == set(ALL)
    assert found["closed only"].seen == "not asked: no credentials"


async def test_silent_streams_are_no_answers() -> None:
    async with world() as here:
        await here.rule(kind="silent", socket="all")
        found = await here.public()
    assert found["market stream"].outcome == "unknown"


async def test_an_account_that_may_only_reduce() -> None:
    async with world() as here:
        await here.admin("account", address=WALLET, closed_only=True)
        finding = (await here.account())["closed only"]
    assert finding.outcome == "fail"


async def test_what_came_since_the_venue_last_looked_is_seen_after_the_update() -> None:
    """The balance is a cache: a probe that read without an update would call a deposit nothing."""
    async with world() as here:
        await here.admin("fund", wallet=WALLET, usd="-100")
        assert (await here.account())["balance"].outcome == "warn"
        await here.admin("fund", wallet=WALLET, usd="42")
        assert (await here.account())["balance"].seen == "$42"


@pytest.mark.parametrize("amount", ["0", "4.99"])
async def test_an_exchange_that_may_spend_too_little_is_named(amount: str) -> None:
    async with world() as here:
        spender = "0xe2222d279d744050d28e00520010520000310F59"
        await here.admin("allowance", wallet=WALLET, spender=spender, amount=amount)
        finding = (await here.account())["allowances"]
    assert (finding.outcome, finding.seen) == ("fail", f"only neg-risk exchange {amount}")


async def test_credentials_that_are_refused() -> None:
    async with world() as here:
        here.changes["/auth/derive-api-key"] = lambda _: b'{"apiKey": "k", "secret": "s'
        found = await here.account()
    assert found["credentials"].outcome == "fail"
    assert "secret" not in found["credentials"].seen.lower().replace("not api credentials", "")


async def test_a_clock_that_is_off_is_refused_with_the_credentials() -> None:
    async with world(lambda: time.time_ns() - 3_600 * NS_PER_S) as here:
        found = {**await here.public(), **await here.account()}
    assert found["clock"].outcome == "fail"
    assert (found["credentials"].outcome, "401" in found["credentials"].seen) == ("fail", True)


@pytest.mark.parametrize(
    ("ahead_ms", "outcome"),
    [(0, "ok"), (999, "ok"), (2_500, "ok"), (3_500, "warn"), (-3_500, "warn"),
     (12_000, "fail"), (-11_500, "fail")],
)  # fmt: skip
def test_a_clock_is_judged_by_what_whole_seconds_can_tell(ahead_ms: int, outcome: str) -> None:
    """The venue's time is cut to seconds, so up to a second of difference is none."""
    theirs_ns = (T_NS + ahead_ms * NS_PER_MS) // NS_PER_S * NS_PER_S
    assert probes.clock(T_NS, theirs_ns).outcome == outcome


@pytest.mark.parametrize(
    ("own", "kind", "outcome"),
    [
        (WALLET, 0, "ok"),
        (Wallet("0x" + "9" * 40), 0, "fail"),
        (Wallet(proxy_wallet(OWNER).lower()), 1, "ok"),
        (Wallet(safe_wallet(OWNER).lower()), 2, "ok"),
        (Wallet(deposit_wallet(OWNER).lower()), 3, "ok"),
        (Wallet(deposit_wallet(OWNER).lower()), 1, "fail"),
        (WALLET, 3, "fail"),
        (Wallet("0x" + "9" * 40), 3, "warn"),
    ],
)
def test_a_wallet_is_judged_by_what_its_key_makes(own: Wallet, kind: int, outcome: str) -> None:
    assert probes.wallet(SIGNER.address, own, kind).outcome == outcome


def test_signing_is_compared_with_known_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signing().outcome == "ok"
    monkeypatch.setattr("shared.polymarket.orders._EXCHANGE_NAME", "Some Other Exchange")
    from shared.polymarket import orders

    orders._exchange.cache_clear()
    finding = signing()
    orders._exchange.cache_clear()
    assert finding.outcome == "fail"
    assert "v1 BUY, v1 SELL, v2 BUY" in finding.seen


async def test_the_ids_of_a_market_are_the_clob_s_never_gamma_s_second_list() -> None:
    """Some v1 markets carry position ids that no book has (docs/traps.md, 26)."""
    async with world() as here:
        for number in range(20):
            await here.admin("market", **{**BOOK, "slug": f"m{number}"})
        async with httpx.AsyncClient() as http:
            told = (await http.get(f"{here.venue.url}/markets", params={"limit": 50})).json()
        decoyed = [each for each in told if "positionIds" in each]
        assert decoyed
        for each in decoyed:
            market = await here.probing._venue.market(each["conditionId"])
            assert list(market.tokens) == json.loads(each["clobTokenIds"])
            assert not set(market.tokens) & set(each["positionIds"])
            named = _token_of(msgspec.convert(each, wire.GammaMarket))
            assert named == (market.tokens[0], market.condition)
