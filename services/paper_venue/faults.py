"""What goes wrong on request. Counters run down; silences end at a time."""

from typing import Literal

import msgspec

from shared.domain.units import NS_PER_MS, NS_PER_S

SocketKind = Literal["market", "user", "stream"]


class Faults(msgspec.Struct, kw_only=True):
    """The faults in force; all zero: none."""

    lost_answer: int = 0  # the next POST /order succeed, and the connection drops unanswered
    lost_request: int = 0  # the next POST /order do nothing, and the connection drops
    reject_next: int = 0  # the next POST /order are refused with `status` and `body`
    status: int = 400
    body: object = None
    rest_5xx: int = 0  # the next requests answer 500
    rest_429: int = 0  # the next requests answer 429, without rate-limit headers
    rest_empty: int = 0  # the next requests answer 200 with nothing, as text/html
    slow: int = 0  # the next requests wait `slow_ms` before anything happens
    slow_ms: int = 0
    silent_until_ns: dict[SocketKind, int] = msgspec.field(default_factory=dict)
    drop_frames: int = 0  # the next activity frames are lost
    twice_frames: int = 0  # the next activity frames are sent twice
    garbage_frames: int = 0  # the next activity frames are preceded by something undecodable
    stale_until_ns: int = 0  # until then the Data API knows nothing newer than `stale_at_ns`
    stale_at_ns: int = 0

    def is_silent(self, kind: SocketKind, now_ns: int) -> bool:
        """Tell whether sockets of a kind answer PING and send nothing else."""
        return now_ns < self.silent_until_ns.get(kind, 0)

    def data_time(self, now_ns: int) -> int:
        """Return the moment the Data API answers as of."""
        return self.stale_at_ns if now_ns < self.stale_until_ns else now_ns

    def spend(self, name: str) -> bool:
        """Use up one of a counter, and tell whether there was one."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0


class FaultsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``POST /admin/faults`` sets; what is left out stays as it is."""

    lost_answer: int | None = None
    lost_request: int | None = None
    reject_next: int | None = None
    status: int | None = None
    body: object = None
    rest_5xx: int | None = None
    rest_429: int | None = None
    rest_empty: int | None = None
    slow: int | None = None
    slow_ms: int | None = None
    drop_frames: int | None = None
    twice_frames: int | None = None
    garbage_frames: int | None = None
    ws_silence_s: float | None = None  # of the activity stream
    market_silence_s: float | None = None
    user_silence_s: float | None = None
    stale_data_s: float | None = None
    close_sockets: Literal["market", "user", "stream", "all"] | None = None  # without a goodbye
    fail_settlement: int | None = None  # the next trades fail after they matched


def set_faults(faults: Faults, body: FaultsBody, now_ns: int) -> None:
    """Put requested faults in force."""
    for name in Faults.__struct_fields__:
        value = getattr(body, name, None)
        if value is not None:
            setattr(faults, name, value)
    silences: dict[SocketKind, float | None] = {
        "stream": body.ws_silence_s,
        "market": body.market_silence_s,
        "user": body.user_silence_s,
    }
    for kind, seconds in silences.items():
        if seconds is not None:
            faults.silent_until_ns[kind] = now_ns + _ns(seconds)
    if body.stale_data_s is not None:
        faults.stale_at_ns, faults.stale_until_ns = now_ns, now_ns + _ns(body.stale_data_s)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000) * NS_PER_MS


def delay_s(milliseconds: int) -> float:
    """Return what asyncio sleeps for."""
    return milliseconds * NS_PER_MS / NS_PER_S
