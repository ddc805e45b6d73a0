"""Live trading does not begin where a probe disagrees; elsewhere it is said and goes on."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from services.executor.readiness import Readiness
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from shared.domain.ids import Wallet
from shared.domain.units import Usd
from shared.polymarket import probing
from shared.polymarket.orders import Signer
from shared.polymarket.urls import VenueUrls
from shared.runtime.config import AccountConfig
from shared.runtime.serve import NotReadyError

SIGNER = Signer.from_hex("0x" + "8e" * 32)  # a throw-away key
WALLET = Wallet(SIGNER.address.lower())
BOOK = {"slug": "one", "bids": [["0.47", "120"]], "asks": [["0.5", "25000"]]}
QUIET = ("activity stream",)  # nobody trades here


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "STREAM_S", 0.3)
    monkeypatch.setattr(probing.Probing.public, "__kwdefaults__", {"stream_s": 0.3})


@asynccontextmanager
async def ready() -> AsyncIterator[tuple[Readiness, httpx.AsyncClient]]:
    config = VenueConfig(accounts=(Funded(wallet=WALLET, usd=Usd(100_000_000)),))
    async with running(config) as venue, httpx.AsyncClient(base_url=venue.url) as admin:
        await admin.post("/admin/market", json=BOOK)
        yield (
            Readiness(
                urls=VenueUrls.local(venue.url),
                account=AccountConfig(wallet=WALLET),
                signer=SIGNER,
                now_ns=time.time_ns,
                least=Usd(5_000_000),
                waived=QUIET,
                between_s=0,
            ),
            admin,
        )


async def test_where_all_agree_nothing_stands_in_the_way() -> None:
    async with ready() as (readiness, _):
        await readiness.ensure()


async def test_what_disagrees_is_told_with_what_was_expected_seen_and_to_be_done() -> None:
    async with ready() as (readiness, admin):
        await admin.post("/admin/geoblock", json={"blocked": True, "country": "US"})
        await admin.post("/admin/account", json={"address": WALLET, "closed_only": True})
        with pytest.raises(NotReadyError) as refusal:
            await readiness.ensure()
    text = str(refusal.value)
    assert "2 start-up probe(s) disagree" in text
    assert "geoblock: expected not blocked, saw blocked, in US; " in text
    assert "closed only: expected an account that may open, saw closed only; " in text


async def test_a_silent_probe_stands_in_the_way_unless_it_is_waived() -> None:
    async with ready() as (readiness, _):
        with pytest.raises(NotReadyError, match="activity stream: expected a trade"):
            await msgspec.structs.replace(readiness, waived=()).ensure()


async def test_a_venue_that_answers_a_little_later_is_waited_for() -> None:
    async with ready() as (readiness, admin):
        rule = {"kind": "server_error", "status": 500, "path": "/version", "count": 3}
        await admin.post("/admin/rules", json=[rule])
        await readiness.ensure()


async def test_elsewhere_it_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with ready() as (readiness, admin):
        await admin.post("/admin/geoblock", json={"blocked": True})
        with caplog.at_level(logging.INFO):
            await readiness.warn()
    told = {record.fields["name"]: record for record in caplog.records if record.msg == "probe"}  # type: ignore[attr-defined]
    assert set(told) == {"geoblock", "activity stream"}
    assert told["geoblock"].fields["outcome"] == "fail"  # type: ignore[attr-defined]
