"""What a demonstration came to: a table for people, stable keys for machines."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.table import Table

from services.ctl.figures import bps, decimal, duration, usd
from services.ctl.tally import STAGES, Stage, Tally, tally_json
from services.ctl.verify import verdict
from services.lab.replay import LaneReport
from shared.domain.units import Bps, Usd

_MIB: Final = 1 << 20
_STAGES: Final[dict[Stage, str]] = {
    "seen_to_prepared": "leader's fill seen -> order on record",
    "seen_to_accepted": "leader's fill seen -> order accepted",
    "intent_to_prepared": "intent formed -> order on record",
}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All that the summary tells."""

    seconds: int
    tally: Tally
    drift_usd: Usd | None  # None: the reconciler said nothing
    memory: dict[str, int]  # resident bytes of each service, at the end
    restarts: dict[str, int]  # services that died and came back
    reports: tuple[LaneReport, ...]
    attribution: str
    quiet_ms: int  # of the netting window, which is part of the latency
    processes_left: int = 0

    @property
    def identical(self) -> bool:
        return all(report.identical for report in self.reports)


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the summary with stable keys: dollars are exact, times in ms, memory in bytes."""
    return {
        "seconds": summary.seconds,
        **tally_json(summary.tally),
        "drift_usd": None if summary.drift_usd is None else decimal(summary.drift_usd),
        "memory_bytes": {**summary.memory, "total": sum(summary.memory.values())},
        "restarts": summary.restarts,
        "verified": {
            "identical": summary.identical,
            "lanes": max(0, len(summary.reports) - 1),  # the first is the ledger itself
            "facts": summary.reports[0].facts if summary.reports else 0,
        },
        "processes_left": summary.processes_left,
        "attribution": summary.attribution,
    }


def summary_table(summary: Summary) -> Table:
    """Return the summary as a table of two columns."""
    table = Table(title=f"{summary.seconds} seconds of copying", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in (
        *_done(summary.tally),
        *_cost(summary.tally),
        *_times(summary),
        *_health(summary),
    ):
        table.add_row(name, text)
    return table


def _done(tally: Tally) -> Sequence[tuple[str, str]]:
    counts = tally.counts
    orders = (
        f"{counts['orders']} sent, {counts['accepted']} accepted, {counts['rejected']} rejected"
    )
    if counts["unknown"]:
        orders += f", {counts['unknown']} without an answer"
    filled = f"{counts['fills']} fills in {counts['filled_orders']} closed orders, "
    filled += f"{tally.partly_filled} of them in part; {usd(tally.filled_usd)}"
    refused = f"{counts['refused'] + counts['declined']}"
    if tally.refused:
        listed = ", ".join(f"{reason} {count}" for reason, count in tally.refused.most_common())
        refused = f"{refused}: {listed}"
    netted = f", {counts['netted_windows']} windows netted to nothing"
    between = f"{counts['leaders_netted']} times, {usd(tally.netted_usd)}, without an order; "
    between += f"{counts['netting_orders']} orders against what other leaders hold"
    return (
        ("leaders' fills seen", f"{counts['leader_fills']}"),
        ("intents", f"{counts['intents']}{netted}"),
        ("netted between leaders", between),
        ("approved", f"{counts['approved']}, {counts['trimmed']} of them trimmed"),
        ("refused", refused),
        ("orders", orders),
        ("filled", filled),
    )


def _cost(tally: Tally) -> Sequence[tuple[str, str]]:
    found = tally.slippage()
    if not found.orders:
        return (("slippage", "nothing was filled"),)
    told = (
        f"estimated {_bps(found.estimated_bps)}, realised {_bps(found.realised_bps)} against the "
        f"leader's price; {_bps(found.against_estimate_bps)} against the estimate "
        "(weighted by dollars; positive is worse for us)"
    )
    cost = tally.shortfall()
    parts = (
        f"{usd(cost.total)} on {usd(cost.paid)}: waiting {usd(cost.waiting)}, latency "
        f"{usd(cost.latency)}, execution {usd(cost.execution)} (expected "
        f"{usd(cost.expected_execution)}), fees {usd(cost.fee)}"
    )
    return (("slippage", told), ("shortfall", parts), ("fees", usd(tally.fees_usd)))


def _bps(value: Bps | None) -> str:
    return "unknown" if value is None else bps(value)


def _times(summary: Summary) -> Sequence[tuple[str, str]]:
    rows = []
    for stage in STAGES:
        middle = summary.tally.latency_ns(stage, 50)
        worst = summary.tally.latency_ns(stage, 99)
        if middle is None or worst is None:
            continue
        told = f"p50 {duration(middle)}, p99 {duration(worst)} of {summary.tally.latencies(stage)}"
        if stage == "seen_to_prepared":
            told += f"; from a window's first fill, up to {summary.quiet_ms} ms of quiet included"
        rows.append((_STAGES[stage], told))
    return rows


def _health(summary: Summary) -> Sequence[tuple[str, str]]:
    silences = summary.tally.silence_ns
    silence = ", ".join(f"{name} {duration(ns)}" for name, ns in sorted(silences.items()))
    memory = ", ".join(f"{name} {size // _MIB}" for name, size in summary.memory.items())
    total = sum(summary.memory.values()) // _MIB
    came_back = ", ".join(f"{name} {count}x" for name, count in summary.restarts.items())
    drift = "unknown" if summary.drift_usd is None else usd(summary.drift_usd)
    corrected = summary.tally.counts["corrections"]
    return (
        ("drift at the end", f"{drift}; {corrected} corrections on the way"),
        ("longest silence of a feed", silence or "no feed was heard"),
        ("memory", f"{total} MiB resident: {memory}"),
        ("restarted", came_back or "none"),
        ("verified", verdict(summary.reports) if summary.reports else "not reached"),
        ("processes left", str(summary.processes_left)),
        ("data", summary.attribution),
    )
