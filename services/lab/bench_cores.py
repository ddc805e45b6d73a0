"""Measure a core by itself, on one processor: ``python -m services.lab.bench_cores risk``.

The stream is made beforehand and everything else is left out: no ledger, no snapshots, no tasks.
"""

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from services.aggregator import core as aggregator
from services.lab.bench_risk import thinking
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet, content_id
from shared.domain.messages import LeaderFilled, Tick
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares, Usd
from shared.runtime.clock import SystemClock

Message = LeaderFilled | Tick

_START_NS: Final = 1_790_000_000 * NS_PER_S
_TICK_NS: Final = 50 * NS_PER_MS
_LEADERS: Final = 20
_BURST_MAX: Final = 12
_WINDOWS: Final = aggregator.Policies(
    default=aggregator.Policy(
        quiet_ns=2 * NS_PER_S,
        age_ns_max=10 * NS_PER_S,
        flush_usd=Usd(500 * MICRO),
        flush_on_reduction=True,
        dust=Shares(10_000),
    )
)
_PATIENT: Final = aggregator.Policies(  # nothing closes a window but time
    default=msgspec.structs.replace(_WINDOWS.default, flush_usd=Usd(1 << 60), age_ns_max=1 << 60)
)
_LONG: Final = 10_000
_DECISIONS: Final = 5_000
_MARKETS_MIN: Final = 2_000  # for memory: fewer would show what the state itself takes
_clock = SystemClock()


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a core over a stream."""

    fills: int
    ticks: int
    windows: int  # that closed
    seconds: float

    @property
    def fills_a_second(self) -> float:
        return self.fills / self.seconds


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a state takes, by what is in it."""

    held: float  # a market held, its window closed
    open: float  # a market held, with a window of one fill open
    remembered: float  # a fill that is remembered, whatever its market


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m services.lab.bench_cores", description=__doc__)
    parser.add_argument("core", choices=tuple(_MEASURES), help="whose core")
    parser.add_argument("--markets", type=int, default=300, help="of the stream; default 300")
    parser.add_argument("--fills", type=int, default=1_500, help="in each market; default 1500")
    parser.add_argument("--seed", type=int, default=1, help="of the stream; default 1")
    return parser.parse_args(given)


def stream(*, markets: int, fills: int, seed: int) -> Iterator[Message]:
    """Yield bursts of fills in some markets at a time, and the ticks between them, as messages.

    A market lives for a while and is traded in bursts with pauses, a few dozen markets at once,
    each by one of the leaders; he buys and sells both outcomes, more than he ends up with.
    """
    rng, now_ns = Random(seed), _START_NS
    left = dict.fromkeys(range(markets), fills)
    ticked_ns, number = now_ns, 0
    while left:
        alive = list(left)[:40]
        for market in rng.sample(alive, min(len(alive), 8)):
            burst = min(rng.randint(1, _BURST_MAX), left[market])
            for _ in range(burst):
                yield fill(rng, market, number, now_ns)
                number += 1
                now_ns += rng.randint(1, 4) * NS_PER_MS
            left[market] -= burst
            if not left[market]:
                del left[market]
        now_ns += rng.randint(50, 400) * NS_PER_MS
        while ticked_ns + _TICK_NS <= now_ns:
            ticked_ns += _TICK_NS
            yield Tick(ticked_ns)
    yield Tick(now_ns + 60 * NS_PER_S)


def fill(rng: Random, market: int, number: int, now_ns: int) -> LeaderFilled:
    """Return a fill; a leader leans to one outcome of a market."""
    leans = rng.random() < 0.7
    outcome: Literal[0, 1] = 0 if leans == (market % 2 == 0) else 1
    id_ = content_id("leader_filled", number)
    return LeaderFilled(
        id=id_,
        cause="",
        root=id_,
        ts_ns=now_ns // NS_PER_S * NS_PER_S,
        leader=Wallet(f"0x{market % _LEADERS:040x}"),
        condition=ConditionId(f"0x{market:064x}"),
        token=TokenId(str(market * 2 + outcome + 1)),
        outcome=outcome,
        side="BUY" if rng.random() < 0.8 else "SELL",
        price=Price(rng.randint(1, 99) * 10_000),
        size=Shares(rng.randint(1, 5_000) * 10_000),
        tx=TxHash(f"0x{number:064x}"),
        row=id_,
        ordinal=0,
        seen_ns=now_ns,
        source="stream",
    )


def long_window(fills: int) -> Iterator[Message]:
    """Yield the fills of one window, and the tick that closes it."""
    rng = Random(1)
    for number in range(fills):
        yield fill(rng, 0, number, _START_NS + number * NS_PER_MS)
    yield Tick(_START_NS + 3_600 * NS_PER_S)


def speed(messages: Sequence[Message], policies: aggregator.Policies = _WINDOWS) -> Speed:
    """Return how fast the aggregator decides and evolves on a stream."""
    state, said = aggregator.State(), 0
    gc.collect()
    began_ns = _clock.monotonic_ns()
    for message in messages:
        now_ns = message.now_ns if isinstance(message, Tick) else message.seen_ns
        facts = aggregator.decide(policies, state, message, now_ns)
        for fact in facts:
            aggregator.evolve(state, fact)
        said += len(facts)
    took_ns = _clock.monotonic_ns() - began_ns
    fills = sum(isinstance(message, LeaderFilled) for message in messages)
    return Speed(
        fills=fills,
        ticks=len(messages) - fills,
        windows=said - fills,
        seconds=took_ns / NS_PER_S,
    )


def memory(markets: int) -> Memory:
    """Return what a market and a fill take in the state, as they come from the ledger."""
    held, twice = _taken(markets, 1, closed=True), _taken(markets, 2, closed=True)
    opened, remembered = _taken(markets, 1, closed=False), twice - held
    return Memory(held=held - remembered, open=opened - remembered, remembered=remembered)


def _taken(markets: int, fills: int, *, closed: bool) -> float:
    """Return the bytes a market takes when so many fills in it were counted."""
    rng = Random(1)
    made = (fill(rng, each % markets, each, _START_NS) for each in range(markets * fills))
    lines = [
        msgspec.json.encode(msgspec.structs.replace(each, outcome=0, side="BUY")) for each in made
    ]
    state, decoder = aggregator.State(), msgspec.json.Decoder(LeaderFilled)
    gc.collect()
    tracemalloc.start()
    for line in lines:
        for fact in aggregator.decide(_PATIENT, state, decoder.decode(line), _START_NS):
            aggregator.evolve(state, fact)
    if closed:
        later_ns = _START_NS + 3_600 * NS_PER_S
        for fact in aggregator.decide(_PATIENT, state, Tick(later_ns), later_ns):
            aggregator.evolve(state, fact)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / markets


def show(options: argparse.Namespace) -> None:
    """Measure the aggregator and print what was found."""
    messages = list(stream(markets=options.markets, fills=options.fills, seed=options.seed))
    ran, sizes = speed(messages), memory(max(options.markets, _MARKETS_MIN))
    long = speed(list(long_window(_LONG)), _PATIENT)
    table = Table("aggregator", "")
    table.add_row("fills", f"{ran.fills:,} in {options.markets} markets")
    table.add_row("ticks", f"{ran.ticks:,}")
    table.add_row("windows", f"{ran.windows:,} closed")
    table.add_row("decide and evolve", f"{ran.fills_a_second:,.0f} fills a second")
    table.add_row(f"one window of {_LONG:,}", f"{long.fills_a_second:,.0f} fills a second")
    table.add_row("market held", f"{sizes.held:,.0f} bytes")
    table.add_row("market with an open window", f"{sizes.open:,.0f} bytes")
    table.add_row("fill remembered", f"{sizes.remembered:,.0f} bytes")
    Console().print(table)


def show_risk(_: argparse.Namespace) -> None:
    """Measure risk's decisions and print what was found."""
    table = Table("risk: one entry, every rule", "p50", "p99")
    for held in (0, 100, 500):
        found = thinking(held, _DECISIONS)
        table.add_row(f"{held} markets held", f"{found.p50_us:,.0f} µs", f"{found.p99_us:,.0f} µs")
    Console().print(table)


_MEASURES: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "aggregator": show,
    "risk": show_risk,
}


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    _MEASURES[options.core](options)


if __name__ == "__main__":
    main(sys.argv[1:])
