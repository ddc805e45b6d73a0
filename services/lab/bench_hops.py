"""Where the time goes between a leader's fill and our order: pure arithmetic on recorded facts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from shared.domain.ids import TxHash
from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderFilled,
    OrderApproved,
    OrderPrepared,
    TargetSet,
)
from shared.domain.units import NS_PER_MS, NS_PER_S

# The marks of one copied fill, in causal order, and what happened on the way to each.
MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("matched", "the venue matched the leader's fill"),
    ("seen", "venue writes its stream, ingester reads it"),
    ("filled_stored", "ingester decides and sends leader_filled"),
    ("intent", "durable, delivered; aggregator decides"),
    ("intent_stored", "aggregator sends fill_counted, intent_formed"),
    ("approved", "durable, delivered; risk reads views, decides"),
    ("approved_stored", "risk sends target_set, order_approved"),
    ("prepared", "durable, delivered; executor reads book, names order"),
    ("prepared_stored", "executor sends order_prepared"),
    ("received", "durable; signed, POST reaches the venue"),
)


N = TypeVar("N", int, float)


class Recorded(msgspec.Struct, frozen=True):
    """A fact and when its message reached the ledger (before it was synced)."""

    fact: Fact
    stored_ns: int


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """The marks of one leader's fill, in the order of MARKS; one clock for all: one machine."""

    root: str
    source: str
    times_ns: tuple[int, ...]

    @property
    def total_ns(self) -> int:
        return self.times_ns[-1] - self.times_ns[0]

    @property
    def hops_ns(self) -> tuple[int, ...]:
        pairs = zip(self.times_ns, self.times_ns[1:], strict=False)
        return tuple(later - earlier for earlier, later in pairs)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a measure was distributed, in milliseconds."""

    count: int
    least: float
    p50: float
    p90: float
    p99: float
    most: float
    mean: float


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One hop over all paths; ``share`` is its part of the mean of the whole."""

    name: str
    spread: Spread
    share: float


class Unsent(msgspec.Struct, frozen=True, kw_only=True):
    """How far fills came that led to no order of their own: count by the last mark reached."""

    marks: dict[str, int]


def quantile(values: Sequence[N], q: float) -> N:
    """Return the smallest value with at least the share ``q`` of all at or below it."""
    assert values
    assert 0 <= q <= 1
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(q * 10_000) // 10_000))
    return ordered[rank - 1]


def spread(values_ns: Sequence[int]) -> Spread:
    """Return the distribution of durations given in nanoseconds."""
    return Spread(
        count=len(values_ns),
        least=_ms(min(values_ns)),
        p50=_ms(quantile(values_ns, 0.50)),
        p90=_ms(quantile(values_ns, 0.90)),
        p99=_ms(quantile(values_ns, 0.99)),
        most=_ms(max(values_ns)),
        mean=_ms(sum(values_ns) // len(values_ns)),
    )


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 3)


def paths(
    recorded: Iterable[Recorded],
    matched_ns: Mapping[TxHash, int],
    received_ns: Mapping[str, int],
) -> tuple[list[Path], Unsent]:
    """Return the complete paths of the fills of ``matched_ns``, and where the others ended.

    Facts of one chain carry its root; of each kind the first counts, for a later order of the
    same chain answers a later state of the market, not the leader's fill.
    """
    chains: dict[str, dict[type[Any], Recorded]] = {}
    for each in recorded:
        chains.setdefault(each.fact.root, {}).setdefault(type(each.fact), each)
    found: list[Path] = []
    ended: dict[str, int] = {}
    for root, chain in chains.items():
        filled = chain[LeaderFilled].fact if LeaderFilled in chain else None
        if not isinstance(filled, LeaderFilled) or filled.tx not in matched_ns:
            continue
        times = _times(chain, filled, matched_ns[filled.tx], received_ns)
        if len(times) == len(MARKS):
            found.append(Path(root=root, source=filled.source, times_ns=tuple(times)))
        else:
            last = MARKS[len(times) - 1][0]
            ended[last] = ended.get(last, 0) + 1
    return found, Unsent(marks=ended)


def _times(
    chain: Mapping[type[Any], Recorded],
    filled: LeaderFilled,
    matched_ns: int,
    received_ns: Mapping[str, int],
) -> list[int]:
    """Return the times of the marks that the chain reached, in order."""
    times = [matched_ns, filled.seen_ns, chain[LeaderFilled].stored_ns]
    for kind in (IntentFormed, OrderApproved, OrderPrepared):
        if kind not in chain:
            return times
        times += [chain[kind].fact.ts_ns, chain[kind].stored_ns]
    prepared = chain[OrderPrepared].fact
    assert isinstance(prepared, OrderPrepared)
    if prepared.order in received_ns:
        times.append(received_ns[prepared.order])
    return times


def hops(found: Sequence[Path]) -> list[Hop]:
    """Return each hop's distribution and its share of the mean path."""
    whole = max(1, sum(path.total_ns for path in found))
    result = []
    for at, (_, name) in enumerate(MARKS[1:]):
        values = [path.hops_ns[at] for path in found]
        result.append(Hop(name=name, spread=spread(values), share=round(sum(values) / whole, 4)))
    return result


# --- throughput -------------------------------------------------------------------------------


class Sample(msgspec.Struct, frozen=True):
    """How many fills the venue had executed and the ledger counted at one moment."""

    at_ns: int
    executed: int
    counted: int

    @property
    def lag(self) -> int:
        return self.executed - self.counted


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of the ramp, held for a while."""

    offered: int  # fills a second that were asked for
    executed: int  # fills a second that the venue made
    counted: int  # fills a second that reached the ledger as fill_counted
    lag_most: int  # fills executed and not counted, at the worst sample
    lag_end: int
    lag_growth: int  # fills a second, of the least lag
    sustained: bool


def judged(offered: int, samples: Sequence[Sample]) -> Step:
    """Return what a step of the ramp showed.

    Lag jumps with every lot and every sync, so what counts is the least of it: a backlog that
    never clears. A rate is sustained when the venue really made it (95 %), the least lag of the
    last third is no more than that of the third before plus 5 % of the rate for each second
    between, and at the end less than half a second's worth was waiting.
    """
    assert len(samples) >= 6
    first, last, third = samples[0], samples[-1], len(samples) // 3
    took_s = _seconds(first, last)
    before, after = samples[third : 2 * third], samples[2 * third :]
    grew = min(sample.lag for sample in after) - min(sample.lag for sample in before)
    growth = round(grew / _seconds(before[0], after[0]))
    executed = round((last.executed - first.executed) / took_s)
    return Step(
        offered=offered,
        executed=executed,
        counted=round((last.counted - first.counted) / took_s),
        lag_most=max(sample.lag for sample in samples),
        lag_end=last.lag,
        lag_growth=growth,
        sustained=executed >= 0.95 * offered
        and growth <= 0.05 * offered
        and last.lag <= 0.5 * offered,
    )


def _seconds(earlier: Sample, later: Sample) -> float:
    return max(1, later.at_ns - earlier.at_ns) / NS_PER_S


# Kinds that a path reads; other facts need no time of storage.
TIMED: Final = (LeaderFilled, FillCounted, IntentFormed, TargetSet, OrderApproved, OrderPrepared)
