"""Storms: faults drawn at random, a list of steps that is a function of the seed alone."""

from collections.abc import Callable
from random import Random
from typing import Annotated, Final, Literal

import msgspec

from services.paper_venue.kinds import KINDS, Kind
from services.paper_venue.rules import RuleError

Told = dict[str, object]
Draw = Callable[[Random], Told]
STEPS_MAX: Final = 20_000
DURATION_MS: Final = (1_000, 10_000)  # of one fault

_READS: Final = ("/v2/activity", "/v2/trades", "/v2/positions", "/book", "/books")
_WRITES: Final = ("/order", "/data/orders", "/data/trades", "/data/order", "/balance-allowance")


class Storm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults begin and end within ``for_s``; nothing happens in the ``calm_s`` after it."""

    seed: int = 1
    for_s: Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)] = 120.0
    every_s: Annotated[float, msgspec.Meta(gt=0)] = 3.0  # mean of the exponential gaps
    calm_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    kinds: Literal["feeds", "all"] | tuple[str, ...] = "feeds"

    @property
    def ends_s(self) -> float:
        return self.for_s + self.calm_s


def storm_steps(storm: Storm) -> tuple[Told, ...]:
    """Return the steps of a storm, in order of time; the same storm has the same steps."""
    kinds = _kinds(storm)
    if storm.for_s / storm.every_s > STEPS_MAX:
        raise RuleError(f"storm: more than {STEPS_MAX} steps: lower `for_s` or raise `every_s`")
    random = Random(storm.seed)
    own = storm.kinds == "all" or not isinstance(storm.kinds, str)
    steps: list[Told] = []
    at_s = random.expovariate(1 / storm.every_s)
    while at_s < storm.for_s and len(steps) < STEPS_MAX:
        room_ms = int((storm.for_s - at_s) * 1_000)
        if room_ms < 2:
            break
        steps.append(_step(random.choice(kinds), int(at_s * 1_000), room_ms, random, own=own))
        at_s += random.expovariate(1 / storm.every_s)
    return tuple(steps)


def _step(kind: Kind, at_ms: int, room_ms: int, random: Random, *, own: bool) -> Told:
    """Draw one fault whose last effect is over within the room left."""
    step: Told = {"at_s": at_ms / 1_000, "kind": kind, **_where(kind, random, own=own)}
    step.update(_DRAWS[kind](random) if kind in _DRAWS else {})
    wait_ms = step.get("ms", KINDS[kind].told.get("ms", 0))
    assert isinstance(wait_ms, int)
    wait_ms = min(wait_ms, room_ms // 2)
    if wait_ms:
        step["ms"] = wait_ms
    if kind not in _MOMENTARY:
        step["for_s"] = min(random.randint(*DURATION_MS), room_ms - wait_ms) / 1_000
    return step


def _kinds(storm: Storm) -> list[Kind]:
    if isinstance(storm.kinds, str):
        return [
            info.kind for info in KINDS.values() if storm.kinds == "all" or info.group != "order"
        ]
    strange = [kind for kind in storm.kinds if kind not in KINDS]
    if strange or not storm.kinds:
        raise RuleError(f"storm: `kinds` {strange}: 'feeds', 'all', or known kinds of fault")
    return [KINDS[kind].kind for kind in storm.kinds]


def _where(kind: Kind, random: Random, *, own: bool) -> Told:
    """Draw a socket or a path; the account's own only where ``own``."""
    if kind in ("late_dump", "stale_dump"):
        return {"socket": "market"}
    if kind == "wrong_body":
        return {"path": "/book"}
    if kind == "lagging":
        return {"path": random.choice(_READS[:2])}
    match KINDS[kind].group:
        case "socket":
            return {"socket": random.choice(("market", "stream", "user") if own else _PUBLIC)}
        case "rest":
            return {"path": random.choice((*_READS, *_WRITES) if own else _READS)}
        case "order":
            return {}


_PUBLIC: Final = ("market", "stream")
_MOMENTARY: Final = ("close", "close_1013", "half_open")


def _some(random: Random) -> Told:
    return {"share_bps": random.choice((500, 2_000, 5_000))}


def _counted(random: Random) -> Told:
    return {"count": random.randint(1, 5)}


def _few(random: Random) -> Told:
    return {"count": random.randint(1, 2)}


_DRAWS: Final[dict[str, Draw]] = {
    **dict.fromkeys(("close", "close_1013", "half_open", "freeze"), _few),
    **dict.fromkeys(("drop", "twice", "garbage", "truncated_frame"), _some),
    **dict.fromkeys(
        (
            "stale",
            "truncated",
            "empty",
            "wrong_type",
            "broken_json",
            "hang_before",
            "hang_after",
            "drop_before",
            "drop_after",
            "wrong_body",
            "killed_but_filled",
            "fail_settlement",
            "cancelled_by_venue",
            "tick_changed",
            "ignored_subscription",
        ),
        _counted,
    ),
    "reorder": lambda random: {**_some(random), "n": random.randint(1, 5)},
    "delay": lambda random: {
        **_some(random),
        "ms": random.randint(50, 5_000),
        "keep_order": random.random() < 0.5,
    },
    "refuse": lambda random: {"status": random.choice((0, 503))},
    "late_dump": lambda random: {"ms": random.randint(500, 8_000)},
    "stale_dump": lambda random: {"age_s": round(random.uniform(1, 30), 1)},
    "slow": lambda random: {**_counted(random), "ms": random.randint(100, 5_000)},
    "lagging": lambda random: {"age_s": round(random.uniform(5, 120), 1)},
    "rate_limited": lambda random: {
        **_counted(random),
        "signer": random.random() < 0.5,
        **({"retry_after_s": random.randint(1, 3)} if random.random() < 0.5 else {}),
    },
    "too_early": lambda random: {
        **_counted(random),
        **({"retry_after_s": random.randint(1, 3)} if random.random() < 0.5 else {}),
    },
    "server_error": lambda random: {
        **_counted(random),
        "status": random.choice((500, 502, 503)),
    },
    "delayed_answer": lambda random: {**_counted(random), "ms": random.randint(100, 5_000)},
    "reject": lambda random: {**_few(random), "status": random.choice((400, 425, 503))},
    "retry_settlement": lambda random: {**_counted(random), "ms": random.randint(5_000, 60_000)},
    "market_closed": lambda random: {"count": 1, "ms": random.randint(1_000, 10_000)},
}
