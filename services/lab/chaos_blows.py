"""What chaos does to a running system: kills, freezes, twins, dying servers, an erring venue."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import nats

from services.ctl.supervise import SERVICES
from services.lab.bench_stack import System
from services.lab.feeds_world import Admin
from shared.domain.ids import PARTITIONS
from shared.runtime.clock import SystemClock
from shared.runtime.lease import TTL_S
from shared.runtime.ports import Lane
from shared.runtime.streams import LEASES

T = TypeVar("T")

_AWAY_S_MAX: Final = 40.0  # of the broker, before the run is given up
_FROZEN_S: Final = (TTL_S + 0.3, TTL_S + 1.5)  # until somebody else holds the lane
_TWIN_S: Final = (2.0, 4.0)  # a second copy lives so long
_AWAY_S: Final = (0.0, 1.0)  # a killed server stays away so long
_RULE_S: Final = 3.0  # a fault of the venue ends by itself, fired or not

# The venue's faults: what orders, settlement, reads and sockets suffer. ``ours`` says whether the
# rule is to strike the account's own trades alone: leaders' fills do not fail here.
ORDER_FAULTS: Final[dict[str, dict[str, Any]]] = {
    "answer lost after accept": {"kind": "drop_after", "path": "/order", "method": "POST"},
    "no answer after accept": {"kind": "hang_after", "path": "/order", "method": "POST"},
    "order lost": {"kind": "drop_before", "path": "/order", "method": "POST"},
    "answer after the fill": {"kind": "delayed_answer", "path": "/order", "ms": 800},
    "killed but filled": {"kind": "killed_but_filled"},
    "order refused": {"kind": "reject", "status": 400},
    "settlement failed": {"kind": "fail_settlement"},
    "settlement retried": {"kind": "retry_settlement", "ms": 1_500},
}
FEED_FAULTS: Final[dict[str, dict[str, Any]]] = {
    "activity stream drops frames": {"kind": "drop", "socket": "stream", "share_bps": 5_000},
    "activity stream repeats frames": {"kind": "twice", "socket": "stream", "share_bps": 5_000},
    "activity stream closed": {"kind": "close", "socket": "stream"},
    "market stream closed": {"kind": "close", "socket": "market"},
    "user stream closed": {"kind": "close", "socket": "user"},
    "user stream drops frames": {"kind": "drop", "socket": "user", "share_bps": 5_000},
    "garbage frames": {"kind": "garbage", "socket": "all", "share_bps": 2_000},
    "activity rows late": {"kind": "lagging", "path": "/v2/activity", "age_s": 5.0},
    "activity 500": {"kind": "server_error", "path": "/v2/activity", "count": 5},
    "activity truncated": {"kind": "truncated", "path": "/v2/activity", "count": 3},
    "positions stale": {"kind": "stale", "path": "/v2/positions", "count": 3},
    "own trades 429": {"kind": "rate_limited", "path": "/data/trades", "count": 2},
    "order lookups 500": {"kind": "server_error", "path": "/data/order", "count": 3},
    "books slow": {"kind": "slow", "path": "/book*", "count": 5, "ms": 1_000},
}
_clock = SystemClock()
SERVER_BLOWS: Final = ("nats killed", "redis killed", "redis flushed")


async def patient(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask a broker that may be away for a while, as we make it be."""
    async with asyncio.timeout(_AWAY_S_MAX):
        while True:
            try:
                return await ask()
            except (TimeoutError, nats.errors.Error):
                await asyncio.sleep(0.2)


class Blow(NamedTuple):
    """One thing that happens to the system."""

    kind: str  # kill, freeze, twin, one of SERVER_BLOWS, or a fault's name
    target: str = ""  # the process, or the service that gets a twin

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()


class Struck(msgspec.Struct, frozen=True, kw_only=True):
    """A process that was killed: when, and what it held under which revision of its lease."""

    service: str
    holder: str  # its name in the leases; "" where it held none
    at_ns: int  # UTC epoch
    seq: int  # the ledger's newest message just before
    lanes: dict[Lane, int]


def draw(rng: random.Random, processes: list[str]) -> list[Blow]:
    """Return a round's blows: one process killed, and in every second round something more.

    Half of the kills strike whoever is at work, by the service's name and a star; the others strike
    any process, so standbys too.
    """
    at_work = [f"{service}*" for service in SERVICES]
    blows = [Blow("kill", rng.choice(at_work if rng.random() < 0.5 else processes))]
    match rng.randrange(12):
        case 0:
            others = [name for name in [*processes, *at_work] if name != blows[0].target]
            blows.append(Blow("freeze", rng.choice(others)))
        case 1:
            blows.append(Blow("twin", rng.choice(SERVICES)))
        case 2:
            blows.append(Blow(rng.choice(SERVER_BLOWS)))
        case 3 | 4:
            blows.append(Blow(rng.choice([*ORDER_FAULTS])))
        case 5:
            blows.append(Blow(rng.choice([*FEED_FAULTS])))
        case _:
            pass
    return rng.sample(blows, len(blows))


def service_of(name: str) -> str:
    """Return the service that a process of this name runs."""
    return name.rstrip("0123456789*")


class Thrower:
    """Brings blows upon a system, and takes back at the end what they left."""

    def __init__(self, system: System, admin: Admin, rng: random.Random) -> None:
        self._system, self._admin, self._rng = system, admin, rng
        self._frozen: set[int] = set()
        self._twins: list[subprocess.Popen[bytes]] = []
        self._fired: dict[int, tuple[str, int]] = {}  # by rule

    async def throw(self, blow: Blow) -> Struck | None:
        """Return who was killed, once the blow is over."""
        match blow.kind:
            case "kill":
                return await self._kill(blow.target)
            case "freeze":
                await self._freeze(blow.target)
            case "twin":
                await self._twin(blow.target)
            case "nats killed":
                await asyncio.to_thread(self._system.servers.stop_nats, kill=True)
                await asyncio.sleep(self._rng.uniform(*_AWAY_S))
                await asyncio.to_thread(self._system.servers.start_nats)
            case "redis killed":
                await asyncio.to_thread(self._system.servers.stop_redis, kill=True)
                await asyncio.sleep(self._rng.uniform(*_AWAY_S))
                await asyncio.to_thread(self._system.servers.start_redis)
            case "redis flushed":
                await self._system.redis.flushall()
            case name:
                await self._err(name)
        return None

    async def _kill(self, name: str) -> Struck | None:
        pid, held = await self._find(name)
        if pid is None:
            return None
        seq = await patient(self._system.ledger.head)
        at_ns = _clock.now_ns()
        _signal(pid, signal.SIGKILL)
        return Struck(
            service=service_of(name),
            holder=next((holder for _, holder in held.values()), ""),
            at_ns=at_ns,
            seq=seq,
            lanes={lane: revision for lane, (revision, _) in held.items()},
        )

    async def _find(self, name: str) -> tuple[int | None, dict[Lane, tuple[int, str]]]:
        """Return a process and what it holds; None while it is being started anew."""
        service, pids = service_of(name), self._system.processes.pids()
        if not name.endswith("*"):
            pid = pids.get(name)
            return pid, {} if pid is None else await self.held_by(service, pid)
        pid = None
        for each in sorted(pids):
            if service_of(each) == service:
                pid = pids[each]
                if held := await self.held_by(service, pid):
                    return pid, held
        return pid, {}

    async def held_by(self, service: str, pid: int) -> dict[Lane, tuple[int, str]]:
        """Return the leases that name a process: the newest revision of each, and the name."""
        lanes = [Lane(service, partition) for partition in range(PARTITIONS)]
        found = await asyncio.gather(*(self.lease(lane) for lane in lanes))
        return {
            lane: lease
            for lane, lease in zip(lanes, found, strict=True)
            if lease[1].startswith(f"{service}-{pid}-")
        }

    async def lease(self, lane: Lane) -> tuple[int, str]:
        """Return the newest revision of a lane's lease, and who wrote it."""
        body = msgspec.json.encode({"last_by_subj": f"$KV.leases.{lane.name}"})
        api = f"$JS.API.DIRECT.GET.{LEASES}"
        reply = await patient(lambda: self._system.client.request(api, body, timeout=2))
        headers: Mapping[str, str] = reply.headers or {}
        return int(headers.get("Nats-Sequence", 0)), reply.data.decode(errors="replace")

    async def _freeze(self, name: str) -> None:
        """Stop a process for longer than its lease; what it then still wants to write is stale."""
        pid, _ = await self._find(name)
        if pid is None:
            return
        self._frozen.add(pid)
        try:
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(self._rng.uniform(*_FROZEN_S))
        finally:
            _signal(pid, signal.SIGCONT)
            self._frozen.discard(pid)

    async def _twin(self, service: str) -> None:
        """Start a copy that nobody supervises, and kill it."""
        program = self._system.programs[service]
        log = self._system.directory / "run" / "logs" / f"{service}-twin.log"
        with log.open("ab") as output:
            twin = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command line
                program.command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                env={**os.environ, **program.environ}, start_new_session=True,
            )  # fmt: skip
        self._twins.append(twin)
        try:
            await asyncio.sleep(self._rng.uniform(*_TWIN_S))
        finally:
            twin.kill()
            twin.wait()

    async def _err(self, name: str) -> None:
        """Let the venue err a few times, or for a few seconds."""
        rule = {**(ORDER_FAULTS | FEED_FAULTS)[name]}
        if name in ORDER_FAULTS:
            rule["count"] = self._rng.randint(1, 2)
        if rule["kind"] in ("fail_settlement", "retry_settlement"):
            rule["wallet"] = self._system.wallet  # leaders' fills settle
        await self._admin.post("rules", [{**rule, "name": name, "for_s": _RULE_S}])
        if rule["kind"] != "close":
            await asyncio.sleep(_RULE_S)

    async def calm(self) -> None:
        """End the venue's faults, and count how often each fired."""
        for rule in (await self._admin.get("/admin/rules"))["rules"]:
            self._fired[int(rule["id"])] = (str(rule["name"]), int(rule["fired"]))
        (await self._system.http.delete("/admin/rules")).raise_for_status()

    @property
    def fired(self) -> dict[str, int]:
        """Return how often the venue erred, by the name of the fault."""
        found: Counter[str] = Counter()
        for name, times in self._fired.values():
            found[name] += times
        return dict(sorted(found.items()))

    def release(self) -> None:
        """Leave no process stopped and no twin alive."""
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        for twin in self._twins:
            if twin.poll() is None:
                twin.kill()
                twin.wait()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
