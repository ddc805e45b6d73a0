"""Simulate many seeds, in two processes: ``python -m tests.simulation.many --seeds 1000``.

What the suite does with a few seeds: the cores under a venue that errs, the ingester with the real
local venue in virtual time under storms of faults, and the whole system in virtual time under
everything at once. A seed that fails, or whose run does, is named with the command that runs it
alone, and fails again. Rare paths must have been taken once there are seeds enough.
"""

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
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
_SAY_EVERY: Final = 25  # seeds, where no bar can be drawn
_ENOUGH: Final = 50  # plays, after which each of these must have been seen
_RARE: Final = (
    "order_filled", "order_outcome_unknown", "order_resent", "fill FAILED", "fill RETRYING",
    "feed resynced", "feed gap", "feed silent", "regime halted", "regime reduce_only",
    "order_rejected", "cancel_requested", "approval_withdrawn", "position_corrected",
    "cash_corrected",
    "drift of shares: bought_outside", "drift of cash: deposit", "drift of cash: withdrawal",
    "ended by FencedError", "lost_ack", "ledger_away", "store_away", "did flush", "did cut",
    "leaders_netted", "target_expired", "window_netted", "orphan_found",
    "killed before an append", "killed after an append", "killed writing POST /order",
    "append_given_up", "did second",
)  # fmt: skip


class Told(NamedTuple):
    """What one seed did: how often each rare path was taken, and what broke."""

    kind: str
    seed: int
    seen: Counter[str]
    failure: str = ""


def cores(seed: int, seen: Counter[str]) -> None:
    world = copying.simulate(seed)
    seen += world.seen
    for check in _CHECKS:
        check({seed: world})


def storms(seed: int, seen: Counter[str]) -> None:
    told = run_virtually(lambda loop: feeds.storm(loop, seed))
    seen += told.fired + told.steps
    feeds.survived(told)


def whole(seed: int, seen: Counter[str]) -> None:
    told = run_virtually(lambda loop: system.play(loop, seed))
    seen += told.seen
    system.survived(told)


_KINDS: Final = {"system": whole, "feeds": storms, "cores": cores}  # the longest first


def simulate(kind: str, seed: int) -> Told:
    """Run one seed; whatever it raises is a failure of that seed and of no other."""
    logging.disable()
    seen = Counter[str]()
    try:
        _KINDS[kind](seed, seen)
    except Exception:  # noqa: BLE001 - the campaign goes on, and names it
        return Told(kind, seed, seen, traceback.format_exc(limit=-3))
    return Told(kind, seed, seen)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.many", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="of the cores; default 1,000")
    parser.add_argument("--feeds", type=int, help="storms over the feeds; default a twentieth")
    parser.add_argument("--system", type=int, help="plays of the whole system; default a tenth")
    parser.add_argument("--only", choices=list(_KINDS), help="seeds of one kind")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args(given)
    campaign = Campaign(Console(), _work(asked))
    with ProcessPoolExecutor(max_workers=asked.workers) as pool:
        try:
            campaign.run(pool)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            campaign.console.print("[red]stopped before its end: what was seen until then")
            campaign.failed += 1
    return campaign.judge()


class Campaign:
    """Many seeds: progress while they run, what was seen in them, and which of them failed."""

    def __init__(self, console: Console, work: Sequence[tuple[str, int]]) -> None:
        self.console, self._work = console, work
        self._began_s = time.monotonic()
        self._seen = {kind: Counter[str]() for kind in _KINDS}
        self._done = Counter[str]()
        self.failed = 0

    def run(self, pool: ProcessPoolExecutor) -> None:
        with Progress(console=self.console, transient=True) as progress:
            bar = progress.add_task("simulating", total=len(self._work))
            for future in as_completed([pool.submit(simulate, *each) for each in self._work]):
                self._take(future.result())
                progress.advance(bar)
                done = self._done.total()
                if not self.console.is_terminal and done % _SAY_EVERY == 0:
                    took_s = time.monotonic() - self._began_s
                    self.console.print(
                        f"{done:,} of {len(self._work):,} seeds in {took_s:.0f} s, "
                        f"{self.failed} failed"
                    )

    def _take(self, told: Told) -> None:
        self._done[told.kind] += 1
        self._seen[told.kind] += told.seen
        if told.failure:
            self.failed += 1
            again = f"--only {told.kind} --from {told.seed} --seeds 1"
            self.console.print(f"[red]{told.kind}, seed {told.seed}[/red]", highlight=False)
            self.console.print(told.failure, markup=False, highlight=False)
            self.console.print(f"again: python -m tests.simulation.many {again}", highlight=False)

    def judge(self) -> int:
        took_s = time.monotonic() - self._began_s
        table = Table(title=f"{self._done.total():,} seeds in {took_s:.0f} s")
        for name in ("simulated", "seeds", "what happened in them"):
            table.add_column(name)
        for kind, counts in self._seen.items():
            told = ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items()))
            table.add_row(kind, f"{self._done[kind]:,}", told)
        self.console.print(table)
        plays = self._done["system"]
        unseen = [path for path in _RARE if plays >= _ENOUGH and not self._seen["system"][path]]
        if unseen:
            self.console.print(f"[red]never seen in {plays} plays: {', '.join(unseen)}")
            self.failed += len(unseen)
        verdict = f"[red]{self.failed} failures" if self.failed else "[green]no promise was broken"
        self.console.print(verdict)
        return 1 if self.failed else 0


def _work(asked: argparse.Namespace) -> list[tuple[str, int]]:
    """Return what to run: kinds and seeds."""
    counts = {
        "system": asked.seeds // _SYSTEM_SHARE if asked.system is None else asked.system,
        "feeds": asked.seeds // _FEEDS_SHARE if asked.feeds is None else asked.feeds,
        "cores": asked.seeds,
    }
    if asked.only:
        counts = {asked.only: asked.seeds}
    return [(kind, asked.first + n) for kind, count in counts.items() for n in range(count)]


if __name__ == "__main__":
    sys.exit(main())
