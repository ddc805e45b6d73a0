"""The ledger on NATS JetStream: one stream, its own pull loop, one writer a lane.

nats-py's ordered consumer, ``fetch`` and ``publish_async`` lose messages, stall or leak when a
connection breaks, so reading is a pull loop over a plain inbox subscription: what the server may
send is bounded by what was asked for, a missing consumer sequence ends the read with GapError,
and silence longer than the idle heartbeat makes a new consumer where the last one stopped.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError, NoStreamResponseError

from shared.domain.messages import Batch, Fact, batch_id, encode_batch, kind_of
from shared.runtime.memory import entry_from
from shared.runtime.ports import Entry, FencedError, GapError, Lane

STREAM: Final = "LEDGER"
DEAD_LETTERS: Final = "DEAD_LETTERS"
LEASES: Final = "KV_leases"

_PULL: Final = 1_000  # messages asked for at a time: the bound of what can be in flight
_PULL_EXPIRES_S: Final = 30
_HEARTBEAT_S: Final = 2
_REPLY_DEADLINE_S: Final = 2.0
_APPEND_DEADLINE_S: Final = 10.0  # the lane's lease ends it earlier when it is lost
_WRONG_LAST_SEQUENCE: Final = 10071
_NAME_IN_USE: Final = 10058
_DEAD_DATA_MAX: Final = 64_000
_GiB: Final = 1 << 30
_DAY_NS: Final = 86_400_000_000_000

STREAMS: Final[tuple[dict[str, Any], ...]] = (
    {
        # The source of truth. It refuses rather than forgets: when max_bytes is reached services
        # stop taking risk, nothing is dropped.
        "name": STREAM,
        "subjects": ["driftless.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": 4 * _GiB,
        "max_msg_size": 1_000_000,
        "duplicate_window": 600_000_000_000,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "compression": "s2",
        "num_replicas": 1,
    },
    {
        "name": DEAD_LETTERS,
        "subjects": ["deadletter.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": _GiB // 4,
        "max_age": 30 * _DAY_NS,
        "num_replicas": 1,
    },
    {
        "name": LEASES,
        "subjects": ["$KV.leases.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": _GiB // 64,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "num_replicas": 1,
    },
)


async def connect(
    url: str, *, service: str, password: str | None, on_error: Callable[[Exception], None]
) -> Client:
    """Connect as a service; reconnects for ever, and tells ``on_error`` what goes wrong."""

    async def report(e: Exception) -> None:
        on_error(e)

    options: dict[str, Any] = {"user": service, "password": password} if password else {}
    return await nats.connect(
        url,
        name=service,
        inbox_prefix=f"_INBOX_{service}".encode(),
        connect_timeout=5,
        ping_interval=3,
        max_outstanding_pings=2,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        pending_size=8 << 20,
        error_cb=report,
        **options,
    )


async def provision(client: Client) -> None:
    """Create the streams with their limits, or bring existing ones up to them."""
    for config in STREAMS:
        answer = await _api(client, f"STREAM.CREATE.{config['name']}", config)
        if answer.get("error", {}).get("err_code") == _NAME_IN_USE:
            answer = await _api(client, f"STREAM.UPDATE.{config['name']}", config)
        if "error" in answer:
            raise RuntimeError(f"stream {config['name']}: {answer['error'].get('description')}")


async def wait_until_provisioned(client: Client, *, deadline_s: float) -> None:
    """Wait for the ledger to exist, or raise TimeoutError that says who creates it."""
    async with asyncio.timeout(deadline_s):
        while True:
            with contextlib.suppress(nats.errors.Error):
                if "error" not in await _api(client, f"STREAM.INFO.{STREAM}", {}):
                    return
            await asyncio.sleep(0.1)


async def _api(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.request(
        f"$JS.API.{subject}", msgspec.json.encode(body), timeout=_REPLY_DEADLINE_S
    )
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    return answer


class NatsLedger:
    """The ledger port on a connected client."""

    def __init__(self, client: Client, *, traceparent: Callable[[Fact], str] | None = None) -> None:
        self._client = client
        self._js = client.jetstream(timeout=_REPLY_DEADLINE_S)
        self._names = (f"{client.client_id}-{n}" for n in itertools.count(1))
        self._traceparent = traceparent

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        name = batch_id(batch.facts)
        kinds = {kind_of(fact) for fact in batch.facts}
        subject = lane.subject(kinds.pop() if len(kinds) == 1 else "several", key)
        headers = {
            "Nats-Msg-Id": name,
            "Nats-Expected-Stream": STREAM,
            "Nats-Expected-Last-Subject-Sequence": str(after),
            "Nats-Expected-Last-Subject-Sequence-Subject": lane.subjects,
        }
        if self._traceparent is not None:
            headers["traceparent"] = self._traceparent(batch.facts[0])
        payload = encode_batch(batch)
        async with asyncio.timeout(_APPEND_DEADLINE_S):
            while True:
                try:
                    ack = await self._js.publish(subject, payload, headers=headers)
                except APIError as e:
                    if e.err_code != _WRONG_LAST_SEQUENCE:
                        raise
                    return await self._already_there(lane, name, after)
                except (TimeoutError, NoStreamResponseError, nats.errors.Error):
                    # The stored state is unknown; the same id at the same place is harmless.
                    await asyncio.sleep(random.uniform(0.02, 0.2))  # noqa: S311
                    continue
                if ack.duplicate:
                    return await self._already_there(lane, name, after)
                return int(ack.seq)

    async def _already_there(self, lane: Lane, name: str, after: int) -> int:
        last = await self.last(lane)
        if last is not None and last.batch is not None and batch_id(last.batch.facts) == name:
            return last.seq
        found = last.seq if last else 0
        raise FencedError(f"{lane.name}: expected last message {after}, the ledger has {found}")

    async def last(self, lane: Lane) -> Entry | None:
        reply = await self._client.request(
            f"$JS.API.DIRECT.GET.{STREAM}",
            msgspec.json.encode({"last_by_subj": lane.subjects}),
            timeout=_REPLY_DEADLINE_S,
        )
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return None
        if "Nats-Sequence" not in headers:
            raise RuntimeError(f"direct get of {lane.name}: {headers}")
        return entry_from(int(headers["Nats-Sequence"]), headers["Nats-Subject"], reply.data)

    async def head(self) -> int:
        answer = await _api(self._client, f"STREAM.INFO.{STREAM}", {})
        return int(answer["state"]["last_seq"])

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        cursor = after
        while True:
            pull = _Pull(self._client, next(self._names), filters)
            try:
                async for run, pending in pull.runs(cursor, wait=until is None):
                    kept = run if until is None else [e for e in run if e.seq <= until]
                    cursor = run[-1].seq if run else cursor
                    if kept:
                        yield kept
                    if until is not None and (pending == 0 or cursor >= until):
                        return
            except _ConsumerLostError:
                continue
            finally:
                await pull.close()

    async def dead_letter(self, lane: Lane, *, reason: str, data: bytes, source: str) -> None:
        await self._js.publish(
            f"deadletter.{lane.service}.{lane.partition:02d}",
            data[:_DEAD_DATA_MAX],
            headers={"Driftless-Reason": _header(reason), "Driftless-Source": _header(source)},
        )


def _header(text: str) -> str:
    return " ".join(text.split())[:300]


class _ConsumerLostError(Exception):
    """The server no longer knows the consumer, or fell silent: make a new one."""


class _Pull:
    """One ephemeral consumer without acknowledgements, and the requests that drain it."""

    def __init__(self, client: Client, name: str, filters: tuple[str, ...]) -> None:
        self._client, self._name, self._filters = client, name, filters
        self._arrived: list[Msg] = []
        self._wake = asyncio.Event()
        self._subscription: Any = None
        self._heard = 0  # the consumer's own sequence: a jump is a lost message
        self._got = 0
        self._inbox = ""

    async def _create(self, after: int) -> int:
        """Create the consumer; return how many messages wait for it."""
        config = {
            "name": self._name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subjects": list(self._filters),
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60_000_000_000,
        }
        body = {"stream_name": STREAM, "config": config}
        try:
            answer = await _api(self._client, f"CONSUMER.CREATE.{STREAM}.{self._name}", body)
        except (TimeoutError, nats.errors.Error) as e:
            await asyncio.sleep(0.2)
            raise _ConsumerLostError from e
        if "error" in answer:
            raise RuntimeError(f"consumer on {self._filters}: {answer['error']}")
        return int(answer["num_pending"])

    async def runs(self, after: int, *, wait: bool) -> AsyncIterator[tuple[list[Entry], int]]:
        """Yield what arrived and how many more wait; with ``wait``, for ever."""
        pending = await self._create(after)
        if pending == 0 and not wait:
            yield [], 0
            return
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox, cb=self._receive)
        await self._ask()
        while True:
            await self._some_arrived()
            arrived, self._arrived = self._arrived, []
            run = []
            for message in arrived:
                if message.headers and "Status" in message.headers:
                    await self._status(message)
                    continue
                self._got += 1
                entry, pending = self._decode(message)
                run.append(entry)
            if self._got >= _PULL:
                await self._ask()
            if run:
                yield run, pending

    async def _receive(self, message: Msg) -> None:
        self._arrived.append(message)
        self._wake.set()

    async def _some_arrived(self) -> None:
        while not self._arrived:
            self._wake.clear()
            try:
                async with asyncio.timeout(_HEARTBEAT_S * 2.5):
                    await self._wake.wait()
            except TimeoutError as e:
                raise _ConsumerLostError("silent") from e

    async def _ask(self) -> None:
        self._got = 0
        body = {
            "batch": _PULL,
            "expires": int(_PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._name}",
            msgspec.json.encode(body),
            reply=self._inbox,
        )

    async def _status(self, message: Msg) -> None:
        status = message.headers["Status"] if message.headers else ""
        if status == "100":
            return
        if status == "408":  # this request expired with nothing more to give
            await self._ask()
            return
        raise _ConsumerLostError(status)

    def _decode(self, message: Msg) -> tuple[Entry, int]:
        # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<seq>.<cseq>.<time>.<pending>
        tokens = message.reply.split(".")
        base = 0 if len(tokens) == 9 else 2
        seq, heard = int(tokens[base + 5]), int(tokens[base + 6])
        pending = int(tokens[base + 8])
        if heard != self._heard + 1:
            raise GapError(f"{self._filters}: delivery {heard} after {self._heard} at {seq}")
        self._heard = heard
        return entry_from(seq, message.subject, message.data), pending

    async def close(self) -> None:
        if self._subscription is None:
            return
        with contextlib.suppress(nats.errors.Error):
            await self._subscription.unsubscribe()
            await self._client.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{self._name}", b"")
