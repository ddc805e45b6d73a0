"""Everything that is measured on the recorded sets of a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from services.lab.window_runs import FEE_RATE, Plan, Run, plans, run
from services.lab.window_sets import SETS, UNKNOWN, Fill, Set, WindowsError, read
from services.lab.window_stats import Flips, Pairs, Shape, Splits, flips, pairs, shape, splits

WINDOWS_S: Final = (0, 2, 5, 10, 60)


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on one set; no flips, pairs or runs where its columns do not allow it."""

    of: Set
    shape: Shape
    splits: list[Splits]
    flips: list[Flips]
    pairs: list[Pairs]
    runs: list[Run]

    @property
    def name(self) -> str:
        return self.of.name


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found; ``absent`` names the sets whose files were not there."""

    studies: list[Study]
    absent: list[str]
    fee_rate: float = FEE_RATE


def find(data: Path, tell: Callable[[str], None]) -> Findings:
    """Measure what recorded sets a folder has, or raise WindowsError if it has none."""
    if not data.is_dir():
        raise WindowsError(f"{data}: not a directory; give the one that holds the recorded sets")
    studies, absent = [], []
    for of in SETS:
        fills = read(of, data)
        if fills is None:
            tell(f"{of.name}: nothing at {data / of.folder / of.file}.*, skipped")
            absent.append(of.name)
        else:
            studies.append(study(of, fills, tell, plans()))
    if not studies:
        folders = ", ".join(sorted({of.folder for of in SETS}))
        raise WindowsError(f"{data}: none of the recorded sets is here: {folders}")
    return Findings(studies=studies, absent=absent)


def study(
    of: Set, fills: list[Fill], tell: Callable[[str], None], wanted: tuple[Plan, ...]
) -> Study:
    """Measure one set; fills are in the order of time."""
    tell(f"{of.name}: {len(fills):,} fills")
    ran = []
    if all(fill.side for fill in fills):
        named = all(fill.outcome != UNKNOWN for fill in fills)
        for plan in wanted:
            if named or not plan.by_token:  # without outcomes a market has one token
                tell(f"{of.name}: {plan.name}")
                ran.append(run(fills, plan))
    return Study(
        of=of,
        shape=shape(fills),
        splits=[splits(fills, window_s) for window_s in WINDOWS_S],
        flips=[found for window_s in WINDOWS_S if (found := flips(fills, window_s))],
        pairs=[paired for window_s in WINDOWS_S if (paired := pairs(fills, window_s))],
        runs=ran,
    )
