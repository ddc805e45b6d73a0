"""``POST /admin/faults``: the plain faults by their counters, each a rule of that name."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from services.paper_venue.rules import Rules, read_rule

Told = dict[str, object]


class FaultsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``POST /admin/faults`` sets; what is left out stays as it is, zero ends it."""

    lost_answer: int | None = None
    lost_request: int | None = None
    reject_next: int | None = None
    status: int = 400
    body: object = None
    rest_5xx: int | None = None
    rest_429: int | None = None
    rest_empty: int | None = None
    slow: int | None = None
    slow_ms: int = 0
    drop_frames: int | None = None
    twice_frames: int | None = None
    garbage_frames: int | None = None
    ws_silence_s: float | None = None  # of the activity stream
    market_silence_s: float | None = None
    user_silence_s: float | None = None
    stale_data_s: float | None = None
    close_sockets: Literal["market", "user", "stream", "all"] | None = None  # without a goodbye
    fail_settlement: int | None = None  # the next trades fail after they matched


def set_faults(rules: Rules, body: FaultsBody, now_ns: int) -> None:
    """Put requested faults in force: each setting replaces the rules that bear its name."""
    for setting, amount, told in _rules_of(body):
        if amount is None:
            continue
        rules.end(setting)
        if amount:
            rules.add([read_rule({**told, "name": setting})], now_ns)


def faults_left(rules: Rules) -> dict[str, object]:
    """Return how often each fault of this kind will still fire; None: until its time is over."""
    named = [armed for armed in rules.listed() if not armed.over and armed.rule.name in _NAMES]
    return {
        each.rule.name: None if each.rule.count is None else each.rule.count - each.fired
        for each in named
    }


def _rules_of(body: FaultsBody) -> Iterator[tuple[str, float | None, Told]]:
    order: Told = {"path": "/order", "method": "POST"}
    counted: dict[str, Told] = {
        "lost_answer": {"kind": "drop_after", **order},
        "lost_request": {"kind": "drop_before", **order},
        "reject_next": {"kind": "reject", "status": body.status, "body": body.body},
        "rest_5xx": {"kind": "server_error", "status": 500},
        "rest_429": {"kind": "rate_limited"},
        "rest_empty": {"kind": "empty"},
        "slow": {"kind": "slow", "ms": body.slow_ms},
        "drop_frames": {"kind": "drop", "socket": "stream", "together": True},
        "twice_frames": {"kind": "twice", "socket": "stream", "together": True},
        "garbage_frames": {"kind": "garbage", "socket": "stream", "together": True},
        "fail_settlement": {"kind": "fail_settlement"},
    }
    for setting, told in counted.items():
        amount: int | None = getattr(body, setting)
        yield setting, amount, {**told, "count": amount}
    timed: dict[str, Told] = {
        "ws_silence_s": {"kind": "silent", "socket": "stream"},
        "market_silence_s": {"kind": "silent", "socket": "market"},
        "user_silence_s": {"kind": "silent", "socket": "user"},
        "stale_data_s": {"kind": "lagging", "path": "/v2/[at]*"},
    }
    for setting, told in timed.items():
        seconds: float | None = getattr(body, setting)
        yield setting, seconds, {**told, "for_s": seconds}
    if body.close_sockets is not None:
        yield "close_sockets", 1, {"kind": "close", "socket": body.close_sockets}


_NAMES = frozenset(FaultsBody.__struct_fields__)
