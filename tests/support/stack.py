"""The whole system as a user runs it: real servers, the local venue, five supervised processes."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import redis.asyncio as redis
from eth_account import Account

from services.ctl.servers import LocalServers
from services.ctl.supervise import Processes, Program, service_programs
from shared.domain.messages import Fact
from shared.domain.views import ACCOUNT, DRIFT, POSITIONS, DriftView, PositionsView, decode
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import connect_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.clock import SystemClock
from shared.runtime.ports import Entry
from shared.runtime.store import RedisStore
from tests.support.eventually import eventually

KEY = "0x" + "5a" * 32  # a throw-away key: never funded anywhere but in the local venue
WALLET = Account.from_key(KEY).address.lower()
LEADER = "0x" + "1e" * 20
OTHER_LEADER = "0x" + "2f" * 20
READY_S = 40.0

_CONFIG = """
mode = "demo"
[account]
wallet = "{wallet}"
[venue]
local_url = "{venue}"
[telemetry]
otlp_endpoint = "{otlp}"
{leaders}
[ingester]
poll_interval_ms = 500
backfill_s = 600
[aggregator]
quiet_ms = {quiet_ms}
age_max_ms = 4000
[risk]
retry_ms = 200
price_moved_bps_max = 2000
slippage_bps_max = 1000
market_usd_max = 500
leader_usd_max = 1000
[executor]
poll_interval_ms = 500
lookup_interval_ms = 300
{executor}
[reconciler]
interval_ms = 500
grace_ms = 2500
"""


# The venue's delays, shortened: the real ones only make a test wait.
_VENUE = {
    "rtds_delay_ms": 50,
    "data_api_delay_ms": 150,
    "mined_delay_ms": 300,
    "confirmed_delay_ms": 600,
}


async def _ignore(_: Exception) -> None:
    """A broker that a test killed is no news."""


class Stack:
    """One running system and the questions a test asks of it."""

    def __init__(
        self, directory: Path, *, otlp: str = "", quiet_ms: int = 300, executor: str = ""
    ) -> None:
        self._directory, self._otlp, self._quiet_ms = directory, otlp, quiet_ms
        self._executor = executor  # further settings, as TOML
        self._exit = contextlib.AsyncExitStack()
        self.leaders = [LEADER]

    async def __aenter__(self) -> "Stack":
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        self.servers = self._exit.enter_context(LocalServers(self._directory / "servers"))
        self.url = await self._venue()
        self.http = await self._exit.enter_async_context(
            httpx.AsyncClient(base_url=self.url, timeout=10)
        )
        ends = self.servers.endpoints
        self.client = await nats.connect(
            ends.nats_url,
            user="ctl",
            password=ends.password("ctl").reveal(),
            inbox_prefix=b"_INBOX_ctl",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            error_cb=_ignore,
        )
        self._exit.push_async_callback(self.client.close)
        await provision(self.client)
        self.ledger = NatsLedger(self.client)
        self.redis: Any = redis.Redis.from_url(
            ends.redis_url, password=ends.password("redis").reveal()
        )
        self._exit.push_async_callback(self.redis.aclose)
        self.store = RedisStore(self.redis)
        http = connect_http(rng=random.Random(1))
        self._exit.push_async_callback(http.aclose)
        self.public = PublicVenue(http, now_ns=SystemClock().now_ns, urls=VenueUrls.local(self.url))

    async def _venue(self) -> str:
        ready = self._directory / "venue.json"
        settings = self._directory / "venue-settings.json"
        settings.write_bytes(msgspec.json.encode(_VENUE))
        command = [
            sys.executable, "-m", "services.paper_venue", "--port", "0", "--tape", "none",
            "--fund", f"{WALLET}=10000", "--config", str(settings), "--ready-file", str(ready),
        ]  # fmt: skip
        log = self._exit.enter_context((self._directory / "venue.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log)

        def end() -> None:
            process.send_signal(signal.SIGTERM)
            process.wait(10)

        self._exit.callback(end)
        await eventually(ready.exists, deadline_s=READY_S)
        told: dict[str, Any] = msgspec.json.decode(ready.read_bytes())
        return str(told["url"])

    async def start_services(self) -> None:
        """Start the five services and wait until each answers for its lanes."""
        leaders = "\n".join(
            f'[[leaders]]\nwallet = "{wallet}"\nname = "leader {n}"\ntrade_usd = 20'
            for n, wallet in enumerate(self.leaders)
        )
        config = self._directory / "config.toml"
        config.write_text(
            _CONFIG.format(
                wallet=WALLET,
                venue=self.url,
                otlp=self._otlp,
                leaders=leaders,
                quiet_ms=self._quiet_ms,
                executor=self._executor,
            )
        )
        self.config = config
        programs = [
            self._with_key(program) for program in service_programs(config, self.servers.endpoints)
        ]
        self.processes = Processes(self._directory / "run", programs)
        self.processes.start(deadline_s=READY_S)
        self._exit.callback(self.processes.stop)
        await eventually(self._is_ready, deadline_s=READY_S)

    def _with_key(self, program: Program) -> Program:
        if program.name != "executor":
            return program
        path = self._directory / "key"
        path.touch(mode=0o600)
        path.write_text(KEY)
        environ: Mapping[str, str] = {**program.environ, "DRIFTLESS_PRIVATE_KEY_FILE": str(path)}
        return msgspec.structs.replace(program, environ=environ)

    async def _is_ready(self) -> bool:
        """Tell whether leaders are followed, the account was read, and lanes are held."""
        kinds = {fact.__struct_config__.tag for fact in await self.facts()}
        assert "leader_baseline_read" in kinds, f"leaders are not followed: {kinds}"
        keys = [POSITIONS, DRIFT, ACCOUNT]
        views = dict(zip(keys, await self.store.read_views(keys), strict=True))
        assert None not in views.values(), f"not written: {[k for k, v in views.items() if not v]}"
        return True

    def kill(self, service: str) -> None:
        """End a service as a crash does; the supervisor starts it again."""
        os.kill(self.processes.pids()[service], signal.SIGKILL)

    # --- questions ------------------------------------------------------------------------

    async def entries(self) -> list[Entry]:
        assert self.client.is_connected, "the broker is away"
        head = await self.ledger.head()
        runs = [run async for run in self.ledger.read(("driftless.>",), after=0, until=head)]
        return [entry for run in runs for entry in run]

    async def facts(self) -> list[Fact]:
        return [f for e in await self.entries() for f in (e.batch.facts if e.batch else ())]

    async def of(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in await self.facts() if isinstance(fact, kind)]

    async def admin(self, path: str, body: object | None = None) -> Any:
        """Call the venue's control interface; a body makes it a POST."""
        if body is None:
            answer = await self.http.get(f"/admin/{path}")
        else:
            answer = await self.http.post(f"/admin/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def positions(self) -> PositionsView:
        (data,) = await self.store.read_views([POSITIONS])
        view = decode(data, PositionsView)
        assert view is not None, "the executor has written no positions"
        return view

    async def drift(self) -> DriftView:
        (data,) = await self.store.read_views([DRIFT])
        view = decode(data, DriftView)
        assert view is not None, "the reconciler has written no drift"
        return view

    async def believed(self) -> dict[str, int]:
        return {p.token: p.shares for p in (await self.positions()).positions if p.shares}

    async def observed(self, wallet: str = WALLET) -> dict[str, int]:
        return {p.token: p.size for p in await self.public.positions(wallet) if p.size}

    async def in_step(self) -> bool:
        """Tell whether belief equals the venue and nothing is in motion."""
        view = await self.positions()
        assert not view.orders, "orders are in flight"
        assert not any(p.unsettled for p in view.positions), "fills are not settled"
        believed, observed = await self.believed(), await self.observed()
        assert believed == observed, f"believed {believed}, observed {observed}"
        return True


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    *,
    otlp: str = "",
    quiet_ms: int = 300,
    leaders: Sequence[str] = (LEADER,),
    executor: str = "",
) -> AsyncIterator[Stack]:
    """Run everything until the context ends; leaves no process."""
    settings: dict[str, Any] = {"otlp": otlp, "quiet_ms": quiet_ms, "executor": executor}
    async with Stack(directory, **settings) as stack:
        stack.leaders = [*leaders]
        await stack.start_services()
        yield stack
        await asyncio.sleep(0)
