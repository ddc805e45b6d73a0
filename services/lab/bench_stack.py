"""The whole system as processes on real servers, for the bench; leaves nothing behind."""

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx
import msgspec
import redis.asyncio as redis
from eth_account import Account
from nats.aio.client import Client

from services.ctl.servers import DEPLOY, LocalServers, nats_server_binary
from services.ctl.supervise import SERVICES, Processes, Program, service_programs
from shared.domain.ids import Wallet
from shared.domain.messages import LeaderBaselineRead
from shared.runtime.bus import NatsLedger, connect, provision
from shared.runtime.clock import stamp_ns
from shared.runtime.ports import Entry
from shared.runtime.store import RedisStore
from shared.runtime.streams import STREAM

READY_S: Final = 60.0
USD: Final = 10_000_000  # of the account: nothing is refused for want of money
_SYNC: Final = re.compile(r"^\s*sync_interval:.*$", re.MULTILINE)
_BINARY: Final = "NATS_SERVER_BIN"
_DEPTH: Final = "50000000"  # shares a level: a book is never used up

_CONFIG: Final = """
mode = "demo"
[account]
wallet = "{wallet}"
[venue]
local_url = "{venue}"
[telemetry]
log_level = "WARNING"
{settings}
{risk}
{leaders}
"""
_RISK: Final = """
[risk]
trade_usd_max = 1000
leader_usd_max = 10000000
market_usd_max = 10000000
event_usd_max = 10000000
total_usd_max = 10000000
daily_loss_usd_max = 10000000
drift_usd_max = 10000000
rejects_max = 1000
"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to start: how durable, whom to follow, and the settings that differ from default."""

    fsync: bool
    leaders: int
    markets: int
    settings: str = ""  # TOML tables other than the bench's own
    risk: str = _RISK  # the table of limits: by default none that a load could reach
    services: tuple[str, ...] = SERVICES
    copies: int = 1  # of each service
    singles: tuple[str, ...] = ()  # of these there is one, whatever ``copies`` says
    venue: Mapping[str, int | str] = msgspec.field(default_factory=dict)  # of its VenueConfig


def leader_wallets(count: int, seed: int = 1) -> list[Wallet]:
    """Return wallets that spread over all partitions, the same for the same seed."""
    rng = random.Random(seed)
    return [Wallet(f"0x{rng.getrandbits(160):040x}") for _ in range(count)]


def unsynced(text: str) -> str:
    """Return a broker's configuration without the sync of each message: the server's default."""
    changed, count = _SYNC.subn("", text)
    assert count == 1, "the configuration names sync_interval once"
    return changed


@contextlib.contextmanager
def servers(directory: Path, *, fsync: bool) -> Iterator[LocalServers]:
    """Run the bus and the store; without ``fsync`` the bus syncs at its default interval."""
    directory.mkdir(parents=True, exist_ok=True)
    before = os.environ.get(_BINARY)
    if not fsync:
        config, binary = directory.absolute() / "nats.conf", directory / "nats-server"
        config.write_text(unsynced((DEPLOY / "nats.conf").read_text()))
        # The last -c counts, so the deployed command line stays what it is.
        binary.write_text(f'#!/bin/sh\nexec "{nats_server_binary()}" "$@" -c "{config}"\n')
        binary.chmod(0o700)
        os.environ[_BINARY] = str(binary.absolute())
    try:
        with LocalServers(directory) as running:
            yield running
    finally:
        os.environ.pop(_BINARY, None)
        if before is not None:
            os.environ[_BINARY] = before


async def ledger_client(running: LocalServers) -> Client:
    """Return the operator's connection, with the streams created."""
    ends = running.endpoints
    password = ends.password("ctl").reveal()
    client = await connect(ends.nats_url, service="ctl", password=password, on_error=lambda _: None)
    await provision(client)
    return client


class System:
    """One running system: ``async with System(directory, plan) as system``."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.directory, self._plan = directory, plan
        self._exit = contextlib.AsyncExitStack()
        # A key for one run: the bench's account exists in the local venue only.
        self._key = "0x" + secrets.token_hex(32)
        self.wallet = Wallet(Account.from_key(self._key).address.lower())
        self.leaders = leader_wallets(plan.leaders)
        self.markets: list[str] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        directory, plan = self.directory, self._plan
        self.servers = self._exit.enter_context(servers(directory / "servers", fsync=plan.fsync))
        url = await self._venue()
        self.http = await self._exit.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=30)
        )
        self.client = await ledger_client(self.servers)
        self._exit.push_async_callback(self.client.close)
        self.ledger = NatsLedger(self.client)
        ends = self.servers.endpoints
        self.redis: redis.Redis = redis.Redis.from_url(
            ends.redis_url, password=ends.password("redis").reveal()
        )
        self._exit.push_async_callback(self.redis.aclose)
        self.store = RedisStore(self.redis)
        for number in range(plan.markets):
            body = {"slug": f"bench-{number}", "bids": _side(49, -1), "asks": _side(51, 1)}
            self.markets.append((await self.admin("market", body))["condition"])
        config = directory / "config.toml"
        config.write_text(self._config(url))
        self.processes = Processes(directory / "run", self._programs(config))
        self.processes.start(deadline_s=READY_S)
        self._exit.callback(self.processes.stop)
        await self._ready()

    def _config(self, url: str) -> str:
        leaders = "\n".join(
            f'[[leaders]]\nwallet = "{wallet}"\ntrade_usd = 10' for wallet in self.leaders
        )
        return _CONFIG.format(
            wallet=self.wallet,
            venue=url,
            settings=self._plan.settings,
            risk=self._plan.risk,
            leaders=leaders,
        )

    def _programs(self, config: Path) -> list[Program]:
        each = service_programs(config, self.servers.endpoints, services=self._plan.services)
        self.programs = {program.name: self._with_key(program) for program in each}
        return [
            msgspec.structs.replace(program, name=f"{name}{copy or ''}")
            for name, program in self.programs.items()
            for copy in range(1 if name in self._plan.singles else self._plan.copies)
        ]

    def _with_key(self, program: Program) -> Program:
        if program.name != "executor":
            return program
        environ = {**program.environ, "DRIFTLESS_PRIVATE_KEY": self._key}
        return msgspec.structs.replace(program, environ=environ)

    async def _venue(self) -> str:
        ready, settings = self.directory / "venue.json", self.directory / "venue-settings.json"
        settings.write_bytes(msgspec.json.encode({"rate_limits": "off", **self._plan.venue}))
        command = [
            sys.executable, "-m", "services.paper_venue", "--port", "0", "--tape", "none",
            "--fund", f"{self.wallet}={USD}", "--ready-file", str(ready),
            "--config", str(settings),
        ]  # fmt: skip
        log = self._exit.enter_context((self.directory / "venue.log").open("wb"))
        self._venue_process = process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command
            command, stdout=log, stderr=log
        )
        self._exit.callback(_end, process)
        async with asyncio.timeout(READY_S):
            while not ready.exists():
                assert process.poll() is None, "the local venue ended: see its log"
                await asyncio.sleep(0.05)
        told: dict[str, Any] = msgspec.json.decode(ready.read_bytes())
        return str(told["url"])

    async def _ready(self) -> None:
        """Wait until every leader is followed and the account was read."""
        followed: set[str] = set()
        async with asyncio.timeout(READY_S):
            async for run in self.ledger.read(("driftless.ingester.>",), after=0):
                for entry in run:
                    for fact in entry.batch.facts if entry.batch else ():
                        if isinstance(fact, LeaderBaselineRead):
                            followed.add(fact.leader)
                if len(followed) == len(self.leaders):
                    break
        await asyncio.sleep(2.0)  # the first polls of the executor and the reconciler

    def pids(self) -> dict[str, int]:
        """Return the process of each service, of the servers, and of the venue."""
        return {
            **self.processes.pids(),
            **self.servers.pids(),
            "venue": self._venue_process.pid,
        }

    async def admin(self, path: str, body: object | None = None) -> Any:
        """Call the venue's control interface; a body makes it a POST."""
        if body is None:
            answer = await self.http.get(f"/admin/{path}")
        else:
            answer = await self.http.post(f"/admin/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def entries(self, after: int) -> AsyncIterator[Entry]:
        """Yield what the ledger holds after a sequence."""
        head = await self.ledger.head()
        async for run in self.ledger.read(("driftless.>",), after=after, until=head):
            for entry in run:
                yield entry

    async def stored_ns(self, seq: int) -> int:
        """Return when the broker took a message, by its own clock: this machine's."""
        reply = await self.client.request(
            f"$JS.API.DIRECT.GET.{STREAM}", msgspec.json.encode({"seq": seq}), timeout=5
        )
        return stamp_ns((reply.headers or {})["Nats-Time-Stamp"])


def _side(best: int, step: int) -> list[list[str]]:
    return [[f"0.{best + step * n}", _DEPTH] for n in range(3)]


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
