"""What chaos measured, as it is saved and as people read it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.table import Table

from services.ctl.supervise import SERVICES
from services.lab.bench_hops import quantile

ACTING_GOAL_S: Final = 3.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: what was done to the system, and how it came back."""

    number: int
    blows: tuple[str, ...]
    killed: str = ""  # the service, where it was running
    held: int = 0  # lanes of the process that was killed; 0: a standby
    acting_s: float | None = None  # from the kill until its work went on; None: nothing to do
    zero_s: float  # from the last blow, or the last trade, until drift was zero and stayed it
    drift_usd_max: float
    took_s: float


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one run."""

    seed: int
    asked: int
    cut_short: str  # why there were fewer rounds; "" if there were not
    rounds: tuple[Round, ...]
    faults_fired: dict[str, int]  # by the venue
    rows: int
    orders: int
    fills: int
    settlements_failed: int
    facts: int
    broken: tuple[str, ...]
    took_s: float

    @property
    def is_good(self) -> bool:
        return not self.broken


def line_of(one: Round, asked: int) -> str:
    """Return a round in one line."""
    acting = "-" if one.acting_s is None else f"{one.acting_s:.1f} s"
    return (
        f"{one.number:>4}/{asked}  acting after {acting:>6}  in step after {one.zero_s:4.1f} s"
        f"  drift to ${one.drift_usd_max:6.2f}  {', '.join(one.blows)}"
    )


def report(told: Told) -> list[Table]:
    """Return the tables: services, faults, and the whole."""
    return [_services(told), _blows(told), _whole(told)]


def _services(told: Told) -> Table:
    table = Table(title=f"{len(told.rounds)} rounds, seed {told.seed}: kill -9, then acting again")
    table.add_column("service")
    for name in ("kills", "of a standby", "p50 s", "p99 s", "max s"):
        table.add_column(name, justify="right")
    for service in SERVICES:
        of = [one for one in told.rounds if one.killed == service]
        times = [one.acting_s for one in of if one.held and one.acting_s is not None]
        idle = sum(not one.held for one in of)
        table.add_row(service, str(len(of)), str(idle), *spread_s(times))
    times = [o.acting_s for o in told.rounds if o.killed and o.held and o.acting_s is not None]
    kills = sum(bool(one.killed) for one in told.rounds)
    idle = sum(bool(one.killed) and not one.held for one in told.rounds)
    table.add_section()
    table.add_row("all", str(kills), str(idle), *spread_s(times), style="bold")
    table.caption = f"goal p99 {ACTING_GOAL_S:g} s on a quiet machine"
    return table


def _blows(told: Told) -> Table:
    table = Table(title="blows, and how long until drift was zero")
    table.add_column("blow")
    for name in ("times", "fired", "p50 s", "p99 s", "max s", "most drift"):
        table.add_column(name, justify="right")
    kinds = Counter(blow for one in told.rounds for blow in one.blows)
    groups: dict[str, list[Round]] = {}
    for one in told.rounds:
        for blow in one.blows:
            groups.setdefault(kind_of(blow), []).append(one)
    for kind, of in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        count = sum(n for blow, n in kinds.items() if kind_of(blow) == kind)
        fired = told.faults_fired.get(kind)
        most = max(one.drift_usd_max for one in of)
        table.add_row(
            kind, str(count), "" if fired is None else str(fired),
            *spread_s([one.zero_s for one in of]), f"${most:.2f}",
        )  # fmt: skip
    table.add_section()
    zero = [one.zero_s for one in told.rounds]
    most = max((one.drift_usd_max for one in told.rounds), default=0.0)
    table.add_row("all rounds", "", "", *spread_s(zero), f"${most:.2f}", style="bold")
    return table


def kind_of(blow: str) -> str:
    """Return the kind of a blow, without the process it struck."""
    first, _, _ = blow.partition(" ")
    return first if first in ("kill", "freeze", "twin") else blow


def _whole(told: Told) -> Table:
    table = Table(title="the whole")
    table.add_column("measure")
    table.add_column("value", justify="right")
    per_round = [one.took_s for one in told.rounds]
    for name, value in (
        ("leaders' rows executed, said, counted", f"{told.rows:,}"),
        ("orders of ours / fills / settlements that failed",
         f"{told.orders:,} / {told.fills:,} / {told.settlements_failed:,}"),
        ("facts in the ledger", f"{told.facts:,}"),
        ("a round, p50 / max", f"{spread_s(per_round)[0]} s / {spread_s(per_round)[2]} s"),
        ("all of it", f"{told.took_s / 60:.1f} minutes"),
        ("cut short", told.cut_short or "no"),
        ("promises broken", str(len(told.broken))),
    ):  # fmt: skip
        table.add_row(name, value)
    return table


def spread_s(times: Sequence[float]) -> tuple[str, str, str]:
    """Return p50, p99 and the longest, or dashes where there is nothing."""
    if not times:
        return "-", "-", "-"
    return tuple(f"{t:.2f}" for t in (quantile(times, 0.5), quantile(times, 0.99), max(times)))  # type: ignore[return-value]
