"""How the venue answers us, as `status` shows it: calls, failures, latency, error budgets."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from services.ctl.figures import duration, percent
from shared.domain.units import NS_PER_MS
from shared.domain.views import EndpointsView, EndpointView

_NO_ANSWER = "no answer"


def venue_lines(views: Sequence[EndpointsView], now_ns: int) -> list[Text]:
    """Return what all endpoints did in the last hour, and a line for each that failed us."""
    entries = [(view.service, each) for view in views for each in view.endpoints]
    calls = sum(each.calls for _, each in entries)
    if not calls:
        return []
    failed = sum(each.bad for _, each in entries)
    slow = sum(each.slow for _, each in entries)
    text = Text(f"venue   {calls:,} calls in the last hour, ")
    text.append(f"{failed:,} failed, {slow:,} slow" if failed or slow else "all answered well")
    return [text, *(_line(service, each, now_ns) for service, each in entries if _is_poor(each))]


def _is_poor(each: EndpointView) -> bool:
    return each.budget_bps < 0


def _line(service: str, each: EndpointView, now_ns: int) -> Text:
    last = ""
    if each.last_bad_status is not None:
        ago = duration(max(0, now_ns - each.last_bad_ns))
        last = f", the last {each.last_bad_status or _NO_ANSWER} {ago} ago"
    return Text(
        f"        {service}: {each.name} failed {each.bad:,} and was slow {each.slow:,} times "
        f"of {each.calls:,}{last}",
        style="red",
    )


def endpoints_table(views: Sequence[EndpointsView]) -> Table:
    """Return every endpoint that was called in the last hour."""
    table = Table(title="The venue's endpoints in the last hour", title_justify="left")
    for name in ("service", "endpoint"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "failed", "slow", "median", "p99", "error budget left"):
        table.add_column(name, justify="right", no_wrap=True)
    for view in views:
        for each in view.endpoints:
            poor = "red" if _is_poor(each) else ""
            table.add_row(
                view.service,
                each.name,
                f"{each.calls:,}",
                f"{each.bad:,}",
                f"{each.slow:,}",
                duration(each.median_ms * NS_PER_MS),
                duration(each.p99_ms * NS_PER_MS),
                Text(percent(each.budget_bps), style=poor or "green"),
            )
    return table


def endpoints_json(views: Sequence[EndpointsView], now_ns: int) -> list[dict[str, Any]]:
    """Return the same for machines; the budget is a share of one."""
    return [
        {
            "service": view.service,
            "endpoint": each.name,
            "calls": each.calls,
            "failed": each.bad,
            "slow": each.slow,
            "median_ms": each.median_ms,
            "p99_ms": each.p99_ms,
            "error_budget_bps": each.budget_bps,
            "last_failed_ms": (now_ns - each.last_bad_ns) // NS_PER_MS
            if each.last_bad_ns
            else None,
            "last_failed_status": each.last_bad_status,
        }
        for view in views
        for each in view.endpoints
    ]
