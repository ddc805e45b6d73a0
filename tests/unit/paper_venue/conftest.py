"""The running venue that this package's tests talk to."""

from collections.abc import AsyncIterator

import aiohttp
import pytest_asyncio
from venue_bench import BOOK, OWNER, Bench, Clock

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from shared.domain.units import MICRO, Usd

YEARS_S = 10 * 365 * 86_400  # the client that signs has a clock of its own


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = Clock()
    account = Funded(wallet=OWNER, usd=Usd(1_000 * MICRO))
    async with (
        running(VenueConfig(accounts=(account,), order_ahead_max_s=YEARS_S), now_ns=clock) as venue,
        aiohttp.ClientSession() as session,
    ):
        built = Bench(venue.url, clock, session)
        market = await built.admin("market", **BOOK)
        built.shell = venue.shell
        built.condition, built.tokens = market["condition"], market["tokens"]
        yield built
