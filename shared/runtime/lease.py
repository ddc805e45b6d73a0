"""Who writes a lane: leases with an epoch in a JetStream key-value bucket, and fair shares.

A lease is a key with a time to live; its revision when taken is the epoch. Renewal expects the
last revision, so a process that slept through its lease learns it from the server. A holder whose
process is seen to be gone (``instance.py``) is not waited for. The stream's sequence only grows,
and a stream made anew begins above its predecessor, so a later holder always has a higher epoch.

A broker that was killed has been seen to bring back keys that had expired, and to keep them for
good (nats-server 2.15). So a key that is older than its time to live, by the broker's own clock,
is void whether the broker still shows it or not.
"""

import asyncio
import contextlib
from typing import Final, NamedTuple, Protocol

import msgspec
import nats
from nats.aio.client import Client
from nats.js.errors import APIError

from shared.domain.units import NS_PER_S
from shared.runtime.clock import stamp_ns
from shared.runtime.instance import is_dead
from shared.runtime.ports import Epoch, Lane
from shared.runtime.streams import LEASES

TTL_S: Final = 3
RENEW_S: Final = 1.0
_RETRY_S: Final = 0.1
_DEADLINE_S: Final = 1.0
_WRONG_LAST_SEQUENCE: Final = 10071


class LeaseLostError(Exception):
    """The lease ran out or somebody took it: stop writing at once."""


class Lease(Protocol):
    epoch: Epoch

    async def hold(self) -> None:
        """Renew until cancelled; raises LeaseLostError."""
        ...

    async def release(self) -> None: ...


class NatsLease:
    """One held key. Created by ``NatsLeases.take``."""

    def __init__(self, leases: "NatsLeases", key: str, revision: int, *, asked_s: float) -> None:
        self._leases, self._key, self._revision = leases, key, revision
        self._valid_until = asked_s + TTL_S  # the server's time to live began no earlier
        self.epoch = Epoch(revision)

    async def hold(self) -> None:
        loop, pause_s = asyncio.get_running_loop(), RENEW_S
        while True:
            await asyncio.sleep(min(pause_s, self._valid_until - loop.time()))
            sent, pause_s = loop.time(), _RETRY_S
            try:
                async with asyncio.timeout_at(self._valid_until):
                    revision = await self._leases.renew(self._key, after=self._revision)
            except (TimeoutError, nats.errors.Error):
                # The broker is away: ours until the server may have let it run out.
                if loop.time() >= self._valid_until:
                    raise LeaseLostError(f"{self._key}: not renewed within {TTL_S} s") from None
                continue
            if revision is None:
                raise LeaseLostError(f"{self._key}: taken by another process")
            self._revision, self._valid_until, pause_s = revision, sent + TTL_S, RENEW_S

    async def release(self) -> None:
        """Let the next holder in at once: the key's value becomes free; or it runs out."""
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            await self._leases.put(self._key, after=self._revision, value=b"")


class _Key(NamedTuple):
    """A key of the bucket as it is now; revision 0 where there is none."""

    revision: int
    holder: bytes  # the instance that wrote it; empty: released
    written_ns: int  # by the broker's clock


class NatsLeases:
    """The leases of one service instance."""

    def __init__(self, client: Client, *, service: str, instance: str) -> None:
        self._client, self._service, self._instance = client, service, instance
        self._broker_ns = 0  # the broker's clock when it was last asked

    async def put(self, key: str, *, after: int, value: bytes | None = None) -> int | None:
        """Write a key that expires; return its revision, or None if somebody else wrote it."""
        js = self._client.jetstream(timeout=_DEADLINE_S)
        headers = {
            "Nats-TTL": f"{TTL_S}s",
            "Nats-Expected-Last-Subject-Sequence": str(after),
        }
        body = self._instance.encode() if value is None else value
        try:
            ack = await js.publish(f"$KV.leases.{key}", body, headers=headers)
        except APIError as e:
            if e.err_code == _WRONG_LAST_SEQUENCE:
                return None
            raise
        return int(ack.seq)

    async def renew(self, key: str, *, after: int) -> int | None:
        """Write our key again, also over a write of ours whose answer was lost."""
        revision = await self.put(key, after=after)
        if revision is not None:
            return revision
        last = await self._current(key)
        ours = last.holder == self._instance.encode()
        return await self.put(key, after=last.revision) if ours else None

    async def take(self, lane: Lane) -> NatsLease | None:
        """Take a lane that nobody holds, or nobody any more, or return None.

        What a dead holder had under way when it died may still arrive: the ledger then refuses
        the next word of whoever does not know it, as after any change of writer.
        """
        last = await self._current(lane.name)
        if last.holder and not self._is_void(last):
            return None
        asked_s = asyncio.get_running_loop().time()
        taken = await self.put(lane.name, after=last.revision)
        return None if taken is None else NatsLease(self, lane.name, taken, asked_s=asked_s)

    async def _current(self, key: str) -> "_Key":
        reply = await self._client.request(
            f"$JS.API.DIRECT.GET.{LEASES}",
            msgspec.json.encode({"last_by_subj": f"$KV.leases.{key}"}),
            timeout=_DEADLINE_S,
        )
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return _Key(0, b"", 0)
        written_ns = stamp_ns(headers["Nats-Time-Stamp"])
        return _Key(int(headers["Nats-Sequence"]), reply.data, written_ns)

    def _is_void(self, key: "_Key") -> bool:
        """Tell whether whoever wrote a key is dead, or let it run out."""
        is_old = self._broker_ns - key.written_ns > TTL_S * NS_PER_S
        return is_old or is_dead(key.holder.decode(errors="replace"))

    async def announce(self) -> None:
        """Say that this instance is alive; the word expires by itself."""
        js = self._client.jetstream(timeout=_DEADLINE_S)
        await js.publish(
            f"$KV.leases.{self._service}.member.{self._instance}",
            self._instance.encode(),
            headers={"Nats-TTL": f"{TTL_S}s"},
        )

    async def members(self) -> int:
        """Return how many instances of this service are alive, ourselves included."""
        return max(1, len(await self.alive()))

    async def alive(self) -> list[str]:
        """Return the keys of the instances of this service that are alive."""
        body = {"subjects_filter": f"$KV.leases.{self._service}.member.*"}
        reply = await self._client.request(
            f"$JS.API.STREAM.INFO.{LEASES}", msgspec.json.encode(body), timeout=_DEADLINE_S
        )
        answer = msgspec.json.decode(reply.data)
        self._broker_ns = stamp_ns(answer["ts"])
        names = [
            subject.removeprefix("$KV.leases.")
            for subject in answer.get("state", {}).get("subjects") or ()
        ]
        found = await asyncio.gather(*(self._current(name) for name in names))
        return [
            name
            for name, key in zip(names, found, strict=True)
            if key.revision > 0 and not self._is_void(key)
        ]


async def running_services(client: Client) -> list[str]:
    """Return the services of which an instance is alive."""
    keys = await NatsLeases(client, service="*", instance="").alive()
    return sorted({key.partition(".")[0] for key in keys})
