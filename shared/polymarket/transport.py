"""The one place that speaks HTTP: deadlines, bounded retries of reads, and one error tree."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import httpx
import msgspec

from shared.polymarket.errors import (
    HeldBack,
    Throttled,
    TransportError,
    Unavailable,
    VenueError,
    failure,
)

OnCall = Callable[[str, float, int], None]  # endpoint, seconds, HTTP status or 0 for no answer
# How caches say that they answered without asking the venue. "RefreshHit" is not among them: it
# did ask, and nothing had changed.
_HITS: Final = ("hit", "tcp_hit", "stale", "updating")
_CACHES: Final = ("X-Cache", "CF-Cache-Status")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a call may take; what is not known by then counts as not answered."""

    deadline_s: float = 8.0  # the whole call with its retries
    attempt_s: float = 3.0
    attempts: int = 3  # of a read; anything that changes something is sent once
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 2.0  # a venue that wants a longer wait gets no retry


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request; ``endpoint`` names it in errors and metrics, without ids or secrets."""

    endpoint: str
    url: str
    method: str = "GET"
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    signed: Callable[[], Mapping[str, str]] | None = None  # headers with a time: made when it goes
    body: bytes = b""
    is_read: bool = True
    turn_s: float | None = None  # the longest it may wait for its turn; None: as long as it takes


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 2xx answer, and what its headers say of where it was until now."""

    body: bytes
    age_s: int = 0  # how long a cache had kept it
    hit: bool = False  # a cache gave it without asking the venue

    @property
    def is_old(self) -> bool:
        """Tell whether it may be from before the call: no evidence of what is not in it."""
        return self.hit or self.age_s > 0


class Gate(Protocol):
    """Holds calls back, and hears how they fared."""

    async def turn(self, endpoint: str) -> None:
        """Wait until a call may go."""
        ...

    def spend(self, endpoint: str) -> None:
        """Hear of a repetition, which does not wait."""
        ...

    def went(self, endpoint: str, seconds: float, error: VenueError | None) -> None:
        """Hear how an attempt ended."""
        ...

    def told(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Hear what an answer says beside its body, good or bad; before ``went``."""
        ...


class OpenGate:
    """Nothing waits."""

    async def turn(self, endpoint: str) -> None:
        return None

    def spend(self, endpoint: str) -> None:
        return None

    def went(self, endpoint: str, seconds: float, error: VenueError | None) -> None:
        return None

    def told(self, endpoint: str, headers: Mapping[str, str]) -> None:
        return None


class Http:
    """Calls over one connection pool."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        rng: random.Random,
        patience: Patience | None = None,
        on_call: OnCall | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._client = client
        self._gate = gate or OpenGate()
        self._rng = rng
        self._patience = patience or Patience()
        self._on_call = on_call or (lambda *_: None)

    async def aclose(self) -> None:
        """Close the connection pool; a process that ends may leave it to the system."""
        await self._client.aclose()

    async def send(self, call: Call) -> bytes:
        """Return the body of a 2xx answer, or raise a VenueError."""
        return (await self.fetch(call)).body

    async def fetch(self, call: Call) -> Answer:
        """Return a 2xx answer with what it says of its age, or raise a VenueError.

        The deadline begins when the call may go: waiting for that is no fault of the venue.
        """
        await self._turn(call)
        try:
            async with asyncio.timeout(self._patience.deadline_s):
                return await self._persist(call)
        except TimeoutError:
            raise TransportError(call.endpoint, "deadline passed") from None

    async def _turn(self, call: Call) -> None:
        if call.turn_s is None:
            await self._gate.turn(call.endpoint)
            return
        try:
            async with asyncio.timeout(max(0.0, call.turn_s)):
                await self._gate.turn(call.endpoint)
        except TimeoutError:
            raise HeldBack(call.endpoint, call.turn_s) from None

    async def _persist(self, call: Call) -> Answer:
        left = self._patience.attempts if call.is_read else 1
        bound_s = self._patience.backoff_base_s
        while True:
            left -= 1
            try:
                return await self._attempt(call)
            except (TransportError, Throttled, Unavailable) as e:
                told_s = 0.0 if isinstance(e, TransportError) else e.retry_after_s or 0.0
                if left <= 0 or told_s > self._patience.backoff_cap_s:
                    raise
                await asyncio.sleep(told_s + self._rng.uniform(0, bound_s))
            self._gate.spend(call.endpoint)
            bound_s = min(self._patience.backoff_cap_s, bound_s * 2)

    async def _attempt(self, call: Call) -> Answer:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        try:
            answer = await self._exchange(call)
        except VenueError as e:
            self._gate.went(call.endpoint, clock() - began_s, e)
            raise
        except asyncio.CancelledError:
            given_up = VenueError(call.endpoint, "given up")
            self._gate.went(call.endpoint, clock() - began_s, given_up)
            raise
        self._gate.went(call.endpoint, clock() - began_s, None)
        return answer

    async def _exchange(self, call: Call) -> Answer:
        clock = asyncio.get_running_loop().time
        began_s, status = clock(), 0
        try:
            async with asyncio.timeout(self._patience.attempt_s):
                answer = await self._client.request(
                    call.method,
                    call.url,
                    params=dict(call.params) or None,
                    headers={**call.headers, **(call.signed() if call.signed else {})},
                    content=call.body or None,
                )
            status = answer.status_code
            self._gate.told(call.endpoint, answer.headers)
        except TimeoutError:
            raise TransportError(call.endpoint, "timed out") from None
        except httpx.HTTPError as e:
            raise TransportError(call.endpoint, type(e).__name__) from None
        finally:
            self._on_call(call.endpoint, clock() - began_s, status)
        if 200 <= status < 300:
            age_s, hit = _provenance(answer.headers)
            return Answer(body=answer.content, age_s=age_s, hit=hit)
        raise _failed(call, answer)


def _provenance(headers: httpx.Headers) -> tuple[int, bool]:
    """Return how long caches had kept an answer, and whether one gave it by itself."""
    age = headers.get("Age", "").strip()
    said = (word.strip() for name in _CACHES for word in headers.get(name, "").split(","))
    hit = any(word.lower().startswith(_HITS) for word in said)
    return (int(age) if age.isdecimal() and age.isascii() else 0), hit


def _failed(call: Call, answer: httpx.Response) -> VenueError:
    return failure(
        call.endpoint, status=answer.status_code, headers=answer.headers, body=answer.content
    )


def connect_http(
    *,
    rng: random.Random,
    patience: Patience | None = None,
    on_call: OnCall | None = None,
    gate: Gate | None = None,
) -> Http:
    """Return calls over a pool that lives as long as the process."""
    patience = patience or Patience()
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=60)
    client = httpx.AsyncClient(timeout=patience.attempt_s, limits=limits)
    return Http(client, rng=rng, patience=patience, on_call=on_call, gate=gate)


@asynccontextmanager
async def open_http(
    *,
    rng: random.Random,
    patience: Patience | None = None,
    on_call: OnCall | None = None,
    gate: Gate | None = None,
) -> AsyncIterator[Http]:
    """Open a connection pool for as long as the context lasts."""
    patience = patience or Patience()
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=60)
    async with httpx.AsyncClient(timeout=patience.attempt_s, limits=limits) as client:
        yield Http(client, rng=rng, patience=patience, on_call=on_call, gate=gate)
