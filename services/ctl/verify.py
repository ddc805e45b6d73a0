"""`driftless verify`: rebuild every service's state from the ledger and compare the bytes."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from services.ctl.errors import FINDING, UsageError
from services.ctl.figures import duration, json_text
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import find_place, session
from services.lab.archive import Archive
from services.lab.replay import LEDGER, REGISTRY, LaneReport
from services.lab.replay import verify as verified
from shared.runtime.memory import MemoryStore


def verify(
    service: Annotated[
        str | None, typer.Option("--service", help="Only this service's lanes.", show_default=False)
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", metavar="DIR", help="An archive instead of what runs.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild each lane's state from its log and compare it with the snapshot, byte for byte.

    On the way it is compared with each digest that the lane put on record, about one a minute while
    it speaks, so that of a state that went wrong it is known when. Reads only, and may run beside
    the services. An archive has no snapshots: there the digests alone are compared.

    Also found: missing messages, messages that cannot be read or do not fit, a snapshot ahead of
    the ledger, an older writer's message after a newer one's.

    Example: driftless verify --service risk

    Exit codes: 0 identical, 1 a lane differs, 2 usage, 3 NATS or Redis away.
    """
    if service is not None and service not in REGISTRY:
        raise UsageError(f"no service {service}: one of {', '.join(REGISTRY)}")
    services = REGISTRY if service is None else (service,)
    if not asyncio.run(_verify(services, archive, config, as_json)):
        raise typer.Exit(FINDING)


async def _verify(
    services: Iterable[str], archive: Path | None, config: Path | None, as_json: bool
) -> bool:
    if archive is not None:
        reports = await verified(Archive(archive), MemoryStore(), services=services)
    else:
        async with session(find_place(config)) as at:
            reports = await verified(at.ledger, at.store, services=services)
    faithful = all(report.identical for report in reports)
    if as_json:
        print(json_text(reports_json(reports)))
        return faithful
    console().print(reports_table(reports))
    for report in reports:
        if not report.identical:
            console().print(Text(finding(report), style="red"))
    print(verdict(reports))
    return faithful


def verdict(reports: Sequence[LaneReport]) -> str:
    """Return all reports in one sentence."""
    if not reports:
        return "nothing to verify: the ledger is empty and there are no snapshots"
    whole, lanes = reports[0], reports[1:]
    wrong = [report for report in lanes if not report.identical]
    folded = f"{whole.facts:,} facts folded in {duration(whole.duration_ns)}"
    if not whole.identical:
        return f"the ledger has holes ({folded}): restore it from a backup before trading"
    if wrong:
        advice = "stop the service, delete its snapshot, start it: it rebuilds from the log"
        return (
            f"{len(wrong)} of {len(lanes)} lanes are not what their log says ({folded}); {advice}"
        )
    unsaved = sum(1 for report in lanes if report.verdict == "unsaved")
    aside = f"; {unsaved} without a snapshot" if unsaved else ""
    digests = sum(report.digests for report in lanes)
    proven = f"{folded}, {digests:,} digests agree" if digests else folded
    if unsaved == len(lanes):
        return f"{unsaved} lanes folded, without a snapshot to compare: {proven}"
    return f"{len(lanes) - unsaved} lanes rebuilt and identical, byte for byte: {proven}{aside}"


def finding(report: LaneReport) -> str:
    """Return what is wrong with a lane, with both sides of the first difference."""
    head = f"{lane_name(report)}: {report.problem}"
    if report.difference is None:
        return head
    return f"{head}\n  saved:   {report.difference.saved}\n  rebuilt: {report.difference.rebuilt}"


def lane_name(report: LaneReport) -> str:
    return LEDGER if report.service == LEDGER else f"{report.service}.{report.partition:02d}"


def reports_table(reports: Sequence[LaneReport]) -> Table:
    """Return a line a lane; lanes that never said anything are counted together."""
    table = Table(title="State rebuilt from the ledger", title_justify="left")
    table.add_column("lane")
    for name in ("messages", "facts", "facts/s", "bytes", "digests"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    silent = [report for report in reports if report.identical and not report.messages]
    for report in reports:
        if report in silent:
            continue
        style = "green" if report.identical else "red"
        table.add_row(
            lane_name(report),
            f"{report.messages:,}",
            f"{report.facts:,}",
            f"{report.facts_per_s:,}",
            f"{report.bytes:,}" if report.bytes else "",
            f"{report.digests:,}" if report.bytes else "",
            Text(report.verdict, style=style),
        )
    if silent:
        note = Text("identical", style="green")
        table.add_row(f"{len(silent)} that said nothing", "0", "0", "", "", "", note)
    return table


def reports_json(reports: Sequence[LaneReport]) -> dict[str, Any]:
    """Return the reports with stable keys."""
    return {
        "identical": all(report.identical for report in reports),
        "lanes": [  # the first is the ledger itself
            {
                "service": report.service,
                "partition": report.partition,
                "verdict": report.verdict,
                "messages": report.messages,
                "facts": report.facts,
                "facts_per_s": report.facts_per_s,
                "bytes": report.bytes,
                "digests": report.digests,
                "said": report.said,
                "problem": report.problem,
                "difference": _difference_json(report),
            }
            for report in reports
        ],
    }


def _difference_json(report: LaneReport) -> dict[str, str] | None:
    found = report.difference
    if found is None:
        return None
    return {"path": found.path, "saved": found.saved, "rebuilt": found.rebuilt}
