"""A running venue at rest in time, its clock, and a session to talk to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from venue_bench import BOOK, LEADER, Clock

from services.paper_venue.config import VenueConfig
from services.paper_venue.server import running


class Bench:
    def __init__(self, url: str, clock: Clock, session: aiohttp.ClientSession) -> None:
        self.url, self.clock, self.session = url, clock, session
        self.condition, self.tokens = "", ["", ""]

    async def ask(self, path: str, **parameters: object) -> tuple[int, Any, Any]:
        """Return status, body and headers."""
        query = {name: str(value) for name, value in parameters.items()}
        async with self.session.get(self.url + path, params=query) as answer:
            return answer.status, await answer.json(), answer.headers

    async def get(self, path: str, **parameters: object) -> Any:
        """Return a body, past the CDN."""
        return (await self.ask(path, **parameters, _=self.clock.ns))[1]

    async def admin(self, path: str, **body: object) -> Any:
        async with self.session.post(f"{self.url}/admin/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def market(self, **terms: object) -> Any:
        return await self.admin("market", **{**BOOK, **terms})

    async def fill(self, **body: object) -> Any:
        plain = {"wallet": LEADER, "condition": self.condition, "outcome": 0, "side": "BUY"}
        return await self.admin("fill", **{**plain, "size": "10", **body})

    async def rpc(self, method: str, *params: object) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self.session.post(f"{self.url}/rpc", json=call) as answer:
            return await answer.json()

    async def pass_ms(self, ms: int) -> None:
        """Let time pass; any request makes the venue do what is due."""
        self.clock.ns += ms * 1_000_000
        await self.ask("/ok")


@asynccontextmanager
async def a_bench(**settings: Any) -> AsyncIterator[Bench]:
    clock = Clock()
    async with (
        running(VenueConfig(**settings), now_ns=clock) as venue,
        aiohttp.ClientSession() as session,
    ):
        bench = Bench(venue.url, clock, session)
        market = await bench.market()
        bench.condition, bench.tokens = market["condition"], market["tokens"]
        yield bench
