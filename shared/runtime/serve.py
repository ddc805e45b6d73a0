"""One service process: its connections, its share of the lanes, its orderly end."""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
import nats
import redis.asyncio as redis
import uvloop
from nats.aio.client import Client
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from shared.domain.ids import PARTITIONS
from shared.domain.units import NS_PER_MS, NS_PER_S, Bps
from shared.polymarket.urls import VenueUrls
from shared.runtime import bus
from shared.runtime.clock import SystemClock
from shared.runtime.config import (
    Config,
    ConfigError,
    SecretError,
    config_hash,
    load,
    nats_password,
    redis_password,
)
from shared.runtime.endpoints import Endpoints
from shared.runtime.health import liveness
from shared.runtime.instance import instance_name
from shared.runtime.jetstream import check_whole
from shared.runtime.lease import RENEW_S, LeaseLostError, NatsLease, NatsLeases
from shared.runtime.logs import log as log_event
from shared.runtime.logs import setup_logging
from shared.runtime.metrics import Metrics, setup_metrics
from shared.runtime.ports import FencedError, GapError, Lane, Store, UndecodableError
from shared.runtime.runner import LaneRunner, Ports, Service, Shell, run_until_stopped
from shared.runtime.store import RedisStore
from shared.runtime.telemetry import Tracing, setup_tracing, traceparent

S = TypeVar("S")

_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 6.0  # before a supervisor's patience, and Docker's, ends at 10
_CHECK_EVERY_NS: Final = 15 * NS_PER_S  # the ledger for holes
_FAIL_DEADLINE_S: Final = 2.0  # from a failure to the end of the process
_EXPECTED_ENDS: Final = (FencedError, LeaseLostError, GapError, UndecodableError)

log = logging.getLogger(__name__)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a composition root builds its shells from."""

    config: Config
    client: Client
    ports: Ports
    store: Store
    tracing: Tracing
    metrics: Metrics
    endpoints: Endpoints  # hears of every call to the venue
    instance: str
    rng: random.Random = msgspec.field(default_factory=random.Random)  # of jitter alone


class NotReadyError(Exception):
    """The world is not as a service needs it; says what was expected, seen, and what to do."""


class Built(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """A service ready to run: its core, a shell for each lane, the lanes it may hold."""

    service: Service[S]
    make_shell: Callable[[Lane], Shell[S]]
    partitions: tuple[int, ...] = tuple(range(PARTITIONS))
    background: Sequence[Callable[[], Any]] = ()  # coroutine functions that live with the process
    before: Callable[[], Awaitable[None]] | None = (
        None  # done before a lane is taken, or not at all
    )


def urls_of(config: Config) -> VenueUrls:
    """Return where the venue answers, as its client takes it."""
    venue = config.venue
    return VenueUrls(
        clob=venue.clob_url,
        data=venue.data_url,
        gamma=venue.gamma_url,
        market_ws=venue.market_ws_url,
        user_ws=venue.user_ws_url,
        activity_ws=venue.activity_ws_url,
        geoblock=venue.geoblock_url,
    )


def main(name: str, build: Callable[[Context], Built[Any]]) -> None:
    """Run a service until SIGTERM or SIGINT; exit 0 in order, 1 to be restarted."""
    if sys.flags.optimize:
        sys.exit("driftless: started with -O, but its assertions guard money: start it without")
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    parser.add_argument("--config", type=Path, default=os.environ.get("DRIFTLESS_CONFIG"))
    arguments = parser.parse_args()
    if arguments.config is None:
        parser.error("--config PATH (or DRIFTLESS_CONFIG) says which configuration to run with")
    try:
        config = load(arguments.config, environ=os.environ)
    except ConfigError as e:
        sys.exit(f"{name}: {e}")
    setup_logging(name, config.telemetry.log_level)
    try:
        uvloop.run(_run(name, config, build))
    except (SecretError, NotReadyError) as e:
        sys.exit(f"{name}: {e}")
    except (TimeoutError, nats.errors.Error) as e:
        sys.exit(f"{name}: the bus at {config.nats.url} is away or not provisioned: {e!r}")
    except BaseExceptionGroup as group:
        for leaf in _leaves(group):
            _report(leaf)
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for e in group.exceptions:
        found += _leaves(e) if isinstance(e, BaseExceptionGroup) else [e]
    return found


def _report(e: BaseException) -> None:
    if isinstance(e, _EXPECTED_ENDS):
        log_event(log, logging.WARNING, "service_ends", cause=type(e).__name__, detail=str(e))
    else:
        log.error("service_died", exc_info=e)


async def _run(name: str, config: Config, build: Callable[[Context], Built[Any]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping)
    tracing = setup_tracing(name, config, os.environ)
    metrics = setup_metrics(name, config, os.environ)
    client = await _connect_nats(name, config)
    store = RedisStore(_connect_redis(config))
    instance = instance_name(name)
    ports = Ports(
        ledger=bus.NatsLedger(client, traceparent=traceparent),
        store=store,
        clock=SystemClock(),
        observer=tracing,
    )
    context = Context(
        config=config,
        client=client,
        ports=ports,
        store=store,
        tracing=tracing,
        metrics=metrics,
        endpoints=Endpoints(
            name,
            ports.clock,
            objective_bps=Bps(config.telemetry.objective_bps),
            slow_ns=config.telemetry.slow_ms * NS_PER_MS,
            metrics=metrics,
        ),
        instance=instance,
    )
    log_event(log, logging.INFO, "service_started", instance=instance, config=config_hash(config))
    try:
        built = build(context)
        if built.before is not None:
            await built.before()
        await _Lanes(built, context, stopping).run()
    finally:
        tracing.shutdown()
        metrics.shutdown()
        await client.close()
    log_event(log, logging.INFO, "service_stopped", instance=instance)


def _stop(stopping: asyncio.Event) -> None:
    """End in order; whatever does not end in time is left behind, and recovered from."""
    stopping.set()
    asyncio.get_running_loop().call_later(_STOP_DEADLINE_S, _end_now)


def _end_now(status: int = 0) -> None:
    waiting = sorted(str(task.get_coro()) for task in asyncio.all_tasks())
    log_event(log, logging.WARNING, "stop_forced", waiting=waiting)
    os._exit(status)


async def _or_end(work: Coroutine[Any, Any, None]) -> None:
    """Await what must not fail: if it does, the process ends, in order if it can.

    A task group cancels the others, but a cancellation can be lost: ``asyncio.wait_for`` of Python
    3.11, in the client libraries, drops one that comes together with its result, as after a process
    was stopped for a while. What is left would count as an instance and serve no lane.
    """
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException as e:
        asyncio.get_running_loop().call_later(_FAIL_DEADLINE_S, _end_failed, e)
        raise


def _end_failed(cause: BaseException) -> None:
    for leaf in _leaves(BaseExceptionGroup("failed", [cause])):
        _report(leaf)
    _end_now(1)


async def _connect_nats(name: str, config: Config) -> Client:
    password = nats_password(os.environ)
    client = await bus.connect(
        config.nats.url,
        service=name,
        password=password.reveal() if password else None,
        on_error=lambda e: log_event(log, logging.WARNING, "nats_error", detail=repr(e)),
    )
    await bus.wait_until_provisioned(client, deadline_s=_START_DEADLINE_S)
    return client


def _connect_redis(config: Config) -> "redis.Redis":
    password = redis_password(os.environ)
    return redis.Redis.from_url(
        config.redis.url,
        password=password.reveal() if password else None,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), 4),
    )


class _Lanes:
    """Holds this instance's fair share of a service's lanes and runs each while it is held."""

    def __init__(self, built: Built[Any], context: Context, stopping: asyncio.Event) -> None:
        self._built, self._context, self._stopping = built, context, stopping
        self._leases = NatsLeases(
            context.client, service=built.service.name, instance=context.instance
        )
        self._held: dict[int, asyncio.Event] = {}
        self._holding: set[asyncio.Task[None]] = set()
        self._alive = liveness(os.environ)
        self._checked_ns = -_CHECK_EVERY_NS

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            works = (*self._built.background, self._report)
            background = [group.create_task(_or_end(work())) for work in works]
            while not self._stopping.is_set():
                try:
                    await self._balance(group)
                except (TimeoutError, nats.errors.Error) as e:
                    if self._context.client.is_closed:
                        raise  # for good: a new process gets a new connection
                    # The broker is away: lanes end by their own leases, new ones wait.
                    log_event(log, logging.WARNING, "broker_away", reason=repr(e))
                self._alive.beat()
                try:
                    async with asyncio.timeout(RENEW_S / 2):
                        await self._stopping.wait()
                except TimeoutError:
                    continue
            for stop in self._held.values():
                stop.set()
            if self._holding:
                await asyncio.wait(self._holding)
            for task in background:
                task.cancel()

    async def _report(self) -> None:
        await self._context.endpoints.report(self._context.store, self._context.instance)

    async def _balance(self, group: asyncio.TaskGroup) -> None:
        """Take free lanes up to our share; give back what is beyond it."""
        now_ns = self._context.ports.clock.monotonic_ns()
        if now_ns - self._checked_ns >= _CHECK_EVERY_NS:  # before the first lane, then now and then
            await check_whole(self._context.client)
            self._checked_ns = now_ns
        await self._leases.announce()
        instances = await self._leases.members()
        partitions = self._built.partitions
        share = -(-len(partitions) // instances)
        surplus = len(self._held) - share
        for partition in sorted(self._held, reverse=True)[: max(0, surplus)]:
            self._held[partition].set()
        for partition in partitions:
            if len(self._held) >= share:
                return
            if partition in self._held:
                continue
            lane = Lane(self._built.service.name, partition)
            lease = await self._leases.take(lane)
            if lease is not None:
                stop = self._held[partition] = asyncio.Event()
                task = group.create_task(_or_end(self._hold(lane, lease, stop)))
                self._holding.add(task)
                task.add_done_callback(self._holding.discard)

    async def _hold(self, lane: Lane, lease: NatsLease, stop: asyncio.Event) -> None:
        shell = self._built.make_shell(lane)
        runner = LaneRunner(self._built.service, lane, shell, self._context.ports, lease.epoch)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_or_end(lease.hold()))
            await run_until_stopped(runner.run(stop))
            renewing.cancel()
        await lease.release()
        del self._held[lane.partition]


__all__ = ["Built", "Context", "NotReadyError", "main", "urls_of"]
