"""Simulate many seeds, in two processes: ``python -m tests.simulation.many --seeds 1000``.

What the suite does with a few seeds: the cores under a venue that errs, the ingester with the real
local venue in virtual time under storms of faults, and the whole system in virtual time under
everything at once. A seed that fails is named; the same seed fails again, alone, with
``--only KIND --from SEED --seeds 1``. Rare paths must have been taken once there are seeds enough.
"""

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.simulation import test_copying as copying
from tests.simulation import test_feeds as feeds
from tests.simulation import test_system as system
from tests.support.virtual import run_virtually

_CHECKS: Final = (
    copying.test_belief_equals_the_venue_when_the_noise_ends,
    copying.test_nothing_is_left_in_flight,
    copying.test_every_approval_is_prepared_or_declined_once,
    copying.test_every_target_is_reached_or_explained,
    copying.test_states_are_folds_of_their_own_facts,
    copying.test_facts_have_names_of_their_own,
)
_FEEDS_SHARE: Final = 20  # one storm over the feeds for so many seeds of the cores
_SYSTEM_SHARE: Final = 10  # and one play of the whole system for so many
_ENOUGH: Final = 50  # plays, after which each of these must have been seen
_RARE: Final = (
    "order_filled", "order_outcome_unknown", "order_resent", "fill FAILED", "fill RETRYING",
    "feed resynced", "feed gap", "feed silent", "regime halted", "regime reduce_only",
    "order_rejected", "cancel_requested", "approval_withdrawn", "position_corrected",
    "cash_corrected",
    "drift of shares: bought_outside", "drift of cash: deposit", "drift of cash: withdrawal",
    "ended by FencedError", "lost_ack", "ledger_away", "store_away", "did flush", "did cut",
    "leaders_netted", "target_expired", "window_netted", "orphan_found",
)  # fmt: skip


class Told(NamedTuple):
    """What one seed did: how often each rare path was taken, and what broke."""

    kind: str
    seed: int
    seen: Counter[str]
    failure: str = ""


def cores(seed: int) -> Told:
    world = copying.simulate(seed)
    return _checked("cores", seed, world.seen, lambda: [each({seed: world}) for each in _CHECKS])


def storms(seed: int) -> Told:
    logging.disable()
    told = run_virtually(lambda loop: feeds.storm(loop, seed))
    return _checked("feeds", seed, told.fired + told.steps, lambda: feeds.survived(told))


def whole(seed: int) -> Told:
    logging.disable()
    told = run_virtually(lambda loop: system.play(loop, seed))
    return _checked("system", seed, told.seen, lambda: system.survived(told))


def _checked(kind: str, seed: int, seen: Counter[str], check: Callable[[], object]) -> Told:
    try:
        check()
    except AssertionError:
        return Told(kind, seed, seen, traceback.format_exc(limit=-2))
    return Told(kind, seed, seen)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.many", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="of the cores; default 1,000")
    parser.add_argument("--feeds", type=int, help="storms over the feeds; default a twentieth")
    parser.add_argument("--system", type=int, help="plays of the whole system; default a tenth")
    parser.add_argument("--only", choices=["cores", "feeds", "system"], help="seeds of one kind")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args(given)
    work = _work(asked)
    console, began_s = Console(), time.monotonic()
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in ("cores", "feeds", "system")}
    done: Counter[str] = Counter()
    failed = 0
    with Progress(console=console, transient=True) as progress, _pool(asked.workers) as pool:
        bar = progress.add_task("simulating", total=len(work))
        for future in as_completed([pool.submit(run, seed) for run, seed in work]):
            told = future.result()
            progress.advance(bar)
            done[told.kind] += 1
            seen[told.kind] += told.seen
            if told.failure:
                failed += 1
                console.print(f"[red]{told.kind}, seed {told.seed}[/red]\n{told.failure}")
    table = Table(title=f"{len(work)} seeds in {time.monotonic() - began_s:.0f} s")
    for name in ("simulated", "seeds", "what happened in them"):
        table.add_column(name)
    for kind, counts in seen.items():
        told_text = ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items()))
        table.add_row(kind, f"{done[kind]:,}", told_text)
    console.print(table)
    unseen = [path for path in _RARE if done["system"] >= _ENOUGH and not seen["system"][path]]
    if unseen:
        console.print(f"[red]never seen in {done['system']} plays: {', '.join(unseen)}")
        failed += len(unseen)
    console.print(f"[red]{failed} seeds failed" if failed else "[green]no seed broke a promise")
    return 1 if failed else 0


def _work(asked: argparse.Namespace) -> list[tuple[Callable[[int], Told], int]]:
    """Return what to run, the longest first."""
    plays = asked.seeds // _SYSTEM_SHARE if asked.system is None else asked.system
    winds = asked.seeds // _FEEDS_SHARE if asked.feeds is None else asked.feeds
    kinds = {"system": (whole, plays), "feeds": (storms, winds), "cores": (cores, asked.seeds)}
    if asked.only:
        kinds = {asked.only: (kinds[asked.only][0], asked.seeds)}
    return [(run, asked.first + n) for run, count in kinds.values() for n in range(count)]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=workers)


if __name__ == "__main__":
    sys.exit(main())
