"""Who writes a lane: leases with an epoch in a JetStream key-value bucket, and fair shares.

A lease is a key with a time to live; its revision when taken is the epoch. Renewal expects the
last revision, so a process that slept through its lease learns it from the server. The stream's
sequence only grows, so a later holder always has a higher epoch.
"""

import asyncio
from typing import Final, Protocol

import msgspec
import nats
from nats.aio.client import Client
from nats.js.errors import APIError

from shared.runtime.bus import LEASES
from shared.runtime.ports import Epoch, Lane

TTL_S: Final = 3
RENEW_S: Final = 1.0
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

    def __init__(self, leases: "NatsLeases", key: str, revision: int) -> None:
        self._leases, self._key, self._revision = leases, key, revision
        self.epoch = Epoch(revision)

    async def hold(self) -> None:
        loop = asyncio.get_running_loop()
        valid_until = loop.time() + TTL_S
        while True:
            await asyncio.sleep(RENEW_S)
            sent = loop.time()
            try:
                revision = await self._leases.put(self._key, after=self._revision)
            except (TimeoutError, nats.errors.Error):
                revision = self._revision  # the broker is away: ours until it provably is not
            else:
                valid_until = sent + TTL_S
            if revision is None:
                raise LeaseLostError(f"{self._key}: taken by another process")
            self._revision = revision
            if loop.time() >= valid_until:
                raise LeaseLostError(f"{self._key}: not renewed within {TTL_S} s")

    async def release(self) -> None:
        """Let the next holder in at once: the key's value becomes free."""
        await self._leases.put(self._key, after=self._revision, value=b"")


class NatsLeases:
    """The leases of one service instance."""

    def __init__(self, client: Client, *, service: str, instance: str) -> None:
        self._client, self._service, self._instance = client, service, instance

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

    async def take(self, lane: Lane) -> NatsLease | None:
        """Take a lane that nobody holds, or return None."""
        revision, holder = await self._current(lane.name)
        if holder:
            return None
        taken = await self.put(lane.name, after=revision)
        return None if taken is None else NatsLease(self, lane.name, taken)

    async def _current(self, key: str) -> tuple[int, bytes]:
        reply = await self._client.request(
            f"$JS.API.DIRECT.GET.{LEASES}",
            msgspec.json.encode({"last_by_subj": f"$KV.leases.{key}"}),
            timeout=_DEADLINE_S,
        )
        headers = reply.headers or {}
        if headers.get("Status") == "404":
            return 0, b""
        return int(headers["Nats-Sequence"]), reply.data

    async def announce(self) -> None:
        """Say that this instance is alive; the word expires by itself."""
        js = self._client.jetstream(timeout=_DEADLINE_S)
        await js.publish(
            f"$KV.leases.{self._service}.member.{self._instance}",
            b"",
            headers={"Nats-TTL": f"{TTL_S}s"},
        )

    async def members(self) -> int:
        """Return how many instances of this service are alive, ourselves included."""
        body = {"subjects_filter": f"$KV.leases.{self._service}.member.*"}
        reply = await self._client.request(
            f"$JS.API.STREAM.INFO.{LEASES}", msgspec.json.encode(body), timeout=_DEADLINE_S
        )
        answer = msgspec.json.decode(reply.data)
        return max(1, len(answer.get("state", {}).get("subjects") or {}))
