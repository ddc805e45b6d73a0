"""The ledger on NATS JetStream: one stream, its own pull loop, one writer a lane.

nats-py's ordered consumer, ``fetch`` and ``publish_async`` lose messages, stall or leak when a
connection breaks, so reading is a pull loop over a plain inbox subscription: what the server may
send is bounded by what was asked for, a missing consumer sequence ends the read with GapError,
and silence longer than the idle heartbeat makes a new consumer where the last one stopped.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from shared.domain.messages import Batch, Fact, batch_id, encode_batch, kind_of
from shared.domain.units import NS_PER_MS
from shared.runtime.clock import SystemClock
from shared.runtime.jetstream import REPLY_DEADLINE_S, api
from shared.runtime.memory import entry_from
from shared.runtime.ports import Entry, FencedError, GapError, Lane
from shared.runtime.streams import LEASES, STREAM, STREAMS

_PULL: Final = 1_000  # messages asked for at a time: the bound of what can be in flight
_PULL_BYTES: Final = 32 << 20  # ... and nats-py drops what waits beyond 128 MiB
_PULL_EXPIRES_S: Final = 30
_HEARTBEAT_S: Final = 2
_APPEND_DEADLINE_S: Final = 10.0  # the lane's lease ends it earlier when it is lost
_WRONG_LAST_SEQUENCE: Final = 10071
_NAME_IN_USE: Final = 10058
_FAILED: Final = 500  # the server could not do it now
_CREATE_TRIES: Final = 50
_UNAVAILABLE: Final = 503  # the server is up, its streams are not yet
_MESSAGE_MAX: Final = 900_000  # bytes of facts in one ledger message; more are several, as one
_DEAD_DATA_MAX: Final = 64_000
STORED: Final = "Driftless-Stored"  # of a restored message: when it was stored at first, in ns


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
    """Create the streams with their limits, or bring existing ones up to them.

    A new stream of leases begins at the milliseconds since 1970: an epoch is a sequence of it, and
    must be above those of a stream that was lost, which the store may still know.
    """
    for config in STREAMS:
        new = config.copy()
        if config["name"] == LEASES:
            new["first_seq"] = SystemClock().now_ns() // NS_PER_MS
        answer = await _create(client, new)
        if answer.get("error", {}).get("err_code") == _NAME_IN_USE:
            answer = await api(client, f"STREAM.UPDATE.{config['name']}", config)
        if "error" in answer:
            raise RuntimeError(f"stream {config['name']}: {answer['error'].get('description')}")


async def _create(client: Client, config: dict[str, Any]) -> dict[str, Any]:
    """Create a stream; one of that name that is being deleted keeps its files for a moment."""
    tries = 0
    while True:
        tries += 1
        answer = await api(client, f"STREAM.CREATE.{config['name']}", config)
        if answer.get("error", {}).get("code") != _FAILED or tries == _CREATE_TRIES:
            return answer
        await asyncio.sleep(0.1)


async def wait_until_provisioned(client: Client, *, deadline_s: float) -> None:
    """Wait for the ledger to exist, or raise TimeoutError that says who creates it."""
    async with asyncio.timeout(deadline_s):
        while True:
            with contextlib.suppress(nats.errors.Error):
                if "error" not in await api(client, f"STREAM.INFO.{STREAM}", {}):
                    return
            await asyncio.sleep(0.1)


class NatsLedger:
    """The ledger port on a connected client."""

    def __init__(self, client: Client, *, traceparent: Callable[[Fact], str] | None = None) -> None:
        self._client = client
        self._js = client.jetstream(timeout=REPLY_DEADLINE_S)
        self._traceparent = traceparent

    async def append(self, lane: Lane, batch: Batch, *, key: str, after: int) -> int:
        payloads = _payloads(batch)
        async with asyncio.timeout(_APPEND_DEADLINE_S):
            while True:
                try:
                    return await self._publish(lane, batch, payloads, key=key, after=after)
                except nats.errors.MaxPayloadError:
                    raise  # one fact alone is too large: no patience will change it
                except APIError as e:
                    if e.err_code == _WRONG_LAST_SEQUENCE:
                        return await self._already_there(lane, payloads[-1], after)
                    if e.code != _UNAVAILABLE:
                        raise
                except (TimeoutError, nats.errors.Error):
                    pass  # whether it is stored is unknown: the same again there is harmless
                await asyncio.sleep(random.uniform(0.02, 0.2))  # noqa: S311

    async def _publish(
        self, lane: Lane, batch: Batch, payloads: list[bytes], *, key: str, after: int
    ) -> int:
        kinds = {kind_of(fact) for fact in batch.facts}
        subject = lane.subject(kinds.pop() if len(kinds) == 1 else "several", key)
        headers = {
            "Nats-Expected-Stream": STREAM,
            "Nats-Expected-Last-Subject-Sequence": str(after),
            "Nats-Expected-Last-Subject-Sequence-Subject": lane.subjects,
        }
        if self._traceparent is not None:
            headers["traceparent"] = self._traceparent(batch.facts[0])
        if len(payloads) > 1:
            return await self._publish_together(subject, payloads, headers)
        headers["Nats-Msg-Id"] = batch_id(batch.facts)
        ack = await self._js.publish(subject, payloads[0], headers=headers)
        if ack.duplicate:
            return await self._already_there(lane, payloads[0], after)
        return int(ack.seq)

    async def _publish_together(
        self, subject: str, payloads: list[bytes], headers: dict[str, str]
    ) -> int:
        """Store several messages or none of them; return the sequence of the last."""
        name, last, answer = secrets.token_hex(16), len(payloads), dict[str, Any]()
        for at, payload in enumerate(payloads, 1):
            told = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(at)}
            told |= headers if at == 1 else {}
            if 1 < at < last:
                await self._client.publish(subject, payload, headers=told)
                continue
            told |= {"Nats-Batch-Commit": "1"} if at == last else {}
            reply = await self._client.request(
                subject, payload, headers=told, timeout=REPLY_DEADLINE_S
            )
            answer = msgspec.json.decode(reply.data or b"{}")
            if "error" in answer:
                raise APIError.from_error(answer["error"])
        return int(answer["seq"])

    async def _already_there(self, lane: Lane, payload: bytes, after: int) -> int:
        """Return where our own message is; another writer's of the same facts is not ours."""
        last = await self.last(lane)
        if last is not None and last.batch is not None and encode_batch(last.batch) == payload:
            return last.seq
        found = last.seq if last else 0
        raise FencedError(f"{lane.name}: expected last message {after}, the ledger has {found}")

    async def last(self, lane: Lane) -> Entry | None:
        reply = await self._client.request(
            f"$JS.API.DIRECT.GET.{STREAM}",
            msgspec.json.encode({"last_by_subj": lane.subjects}),
            timeout=REPLY_DEADLINE_S,
        )
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return None
        if "Nats-Sequence" not in headers:
            raise RuntimeError(f"direct get of {lane.name}: {headers}")
        return entry_from(int(headers["Nats-Sequence"]), headers["Nats-Subject"], reply.data)

    async def head(self) -> int:
        answer = await api(self._client, f"STREAM.INFO.{STREAM}", {})
        return int(answer["state"]["last_seq"])

    async def read(
        self, filters: tuple[str, ...], *, after: int, until: int | None = None
    ) -> AsyncIterator[list[Entry]]:
        cursor = after
        while until is None or cursor < until:
            pull = _Pull(self._client, secrets.token_hex(12), filters)
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


def _payloads(batch: Batch) -> list[bytes]:
    """Return the batch as a message or, where it is too large for one, halved until it is not."""
    data = encode_batch(batch)
    half = len(batch.facts) // 2
    if len(data) <= _MESSAGE_MAX or not half:
        return [data]
    first = msgspec.structs.replace(batch, facts=batch.facts[:half])
    rest = msgspec.structs.replace(batch, facts=batch.facts[half:], digest=None)
    return [*_payloads(first), *_payloads(rest)]


class _ConsumerLostError(Exception):
    """The server no longer knows the consumer, or fell silent: make a new one."""


class _Pull:
    """One ephemeral consumer without acknowledgements, and the requests that drain it."""

    def __init__(self, client: Client, name: str, filters: tuple[str, ...]) -> None:
        self._client, self._name, self._filters = client, name, filters
        self._arrived: list[Msg] = []
        self._wake = asyncio.Event()
        self._subscription: Any = None
        self._exists = False
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
            answer = await api(self._client, f"CONSUMER.CREATE.{STREAM}.{self._name}", body)
        except (TimeoutError, nats.errors.Error) as e:
            await asyncio.sleep(0.2)
            raise _ConsumerLostError from e
        if answer.get("error", {}).get("code") == _UNAVAILABLE:
            await asyncio.sleep(0.2)
            raise _ConsumerLostError("not yet")
        if "error" in answer:
            raise RuntimeError(f"consumer on {self._filters}: {answer['error']}")
        self._exists = True
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
            "max_bytes": _PULL_BYTES,
            "expires": int(_PULL_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._name}",
            msgspec.json.encode(body),
            reply=self._inbox,
        )

    async def _status(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers["Status"]
        if status == "100":
            return
        if status == "408" or "MaxBytes" in headers.get("Description", ""):
            await self._ask()  # this request is over: it expired, or what it asked for is here
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
        stored_ns = int((message.headers or {}).get(STORED, tokens[base + 7]))
        return entry_from(seq, message.subject, message.data, stored_ns), pending

    async def close(self) -> None:
        with contextlib.suppress(nats.errors.Error):
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._exists:
                await self._client.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{self._name}", b"")
