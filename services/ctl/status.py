"""`driftless status`: is everything in step, is anything stale, what do we hold and why."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.ctl.endpoints import endpoints_json, endpoints_table, venue_lines
from services.ctl.errors import FINDING, OK
from services.ctl.figures import Names, decimal, duration, json_text, shares, usd
from services.ctl.governance import regime_name
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.picture import LaneStatus, Picture, Reader, Row
from services.ctl.risk import scope_name
from services.ctl.session import find_place, session
from services.ctl.why import names_of
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.domain.views import AccountView, OpenOrderView, PositionsView
from shared.runtime.clock import SystemClock

POLLS = "polls"  # the feed that says itself when somebody is overdue
STALE_NS = 15 * NS_PER_S  # a feed silent for this long is shown as old
_EVERY_S = 1.0


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, every second.")] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints", help="Show how each of the venue's endpoints answers.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show lanes and their lag, feeds and their ages, regime and caps, positions, drift.

    Positions stand beside the leader's exposure, our target and what we hold because of him, in
    shares of the first outcome (one share of the other outcome counts as minus one). A lane's
    "behind" is how far the newest message it has to hear is from the last it has heard, in ledger
    sequences. An endpoint's error budget is the share of its calls that may fail or be slow
    (`telemetry.objective_bps`, `slow_ms`); those that overspent it are named.

    Example: driftless status --watch

    Exit codes: 0 in step, 1 drift, an order without an end or not trading normally, 2 usage,
    3 NATS or Redis away.
    """
    try:
        code = asyncio.run(_status(watch, endpoints, config, as_json))
    except KeyboardInterrupt:
        code = OK
    if code:
        raise typer.Exit(code)


async def _status(watch: bool, endpoints: bool, config: Path | None, as_json: bool) -> int:
    async with session(find_place(config)) as at:
        reader = Reader(at.ledger, at.store, partition=at.partition, clock=SystemClock())
        names = await names_of(at)
        picture = await reader.read()
        if not watch:
            if as_json:
                print(json_text(picture_json(picture, names)))
            else:
                console().print(screen(picture, names))
                if endpoints:
                    console().print(endpoints_table(picture.endpoints))
            return code_of(picture)
        with Live(screen(picture, names), console=console(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_EVERY_S)
                picture, names = await reader.read(), await names_of(at)
                live.update(screen(picture, names), refresh=True)


def code_of(picture: Picture) -> int:
    """Return 1 for what is to be looked at: drift, orders without an end, a regime not normal."""
    drift = picture.drift.drift_usd if picture.drift else 0
    normal = picture.risk is None or picture.risk.regime == "normal"
    return FINDING if drift or picture.surrendered or not normal else OK


# --- for people ---------------------------------------------------------------------------


def screen(picture: Picture, names: Names) -> Group:
    """Return everything, the most urgent first."""
    return Group(
        headline(picture),
        *surrendered_lines(picture, names),
        feeds_line(picture),
        *venue_lines(picture.endpoints, picture.now_ns),
        caps_table(picture, names),
        rows_table(picture.rows, names),
        lanes_table(picture),
    )


def headline(picture: Picture) -> Text:
    """Return regime, drift, cash and the ledger's length in one line."""
    text = Text("trading ")
    if picture.risk is None:
        text.append("unknown: risk has not run", style="yellow")
    else:
        normal = picture.risk.regime == "normal"
        text.append(regime_name(picture.risk.regime), style="green" if normal else "bold red")
        if picture.risk.reason and not normal:
            text.append(f" ({picture.risk.reason})")
    text.append("   drift ")
    text.append_text(drift_text(picture))
    if picture.account is not None:
        age = duration(max(0, picture.now_ns - picture.account.as_of_ns))
        text.append(f"   cash {usd(picture.account.collateral)} ({age} old)")
    if picture.held is not None and picture.held.claims:
        text.append(f"   to redeem {usd(picture.held.claims)}", style="yellow")
    text.append(f"   ledger {picture.head:,}")
    return text


def surrendered_lines(picture: Picture, names: Names) -> list[Text]:
    """Return a line for each order whose end was not found: somebody has to look at the venue."""
    return [
        Text(
            f"LOOK    order {order.order}: {order.side} {shares(order.size)} "
            f"{names.token(order.token)}, {shares(order.filled)} filled, has no end after "
            f"{duration(max(0, picture.now_ns - order.since_ns))}; see driftless why, end-order",
            style="bold red",
        )
        for order in picture.surrendered
    ]


def drift_text(picture: Picture) -> Text:
    if picture.drift is None:
        return Text("unknown", style="yellow")
    worth = picture.drift.drift_usd
    age = duration(max(0, picture.now_ns - picture.drift.as_of_ns))
    text = Text(usd(worth), style="bold red" if worth else "green")
    text.append(f" ({age} old, {picture.drift.corrections} corrected", style="default")
    if picture.drift.corrections:
        found = duration(picture.drift.last_detect_ms * NS_PER_MS)
        cleared = duration(picture.drift.last_clear_ms * NS_PER_MS)
        text.append(f", the last found after {found}, gone after {cleared}")
    return text.append(")")


def feeds_line(picture: Picture) -> Text:
    """Return each feed's state and age; what is old or lost stands out."""
    text = Text("feeds   ")
    if not picture.feeds:
        return text.append("none: no ingester has reported", style="yellow")
    for view in picture.feeds:
        for feed in view.feeds:
            age_ns = max(0, picture.now_ns - feed.heard_ns)
            age = duration(age_ns) if feed.heard_ns else "never"
            in_time = feed.name == POLLS or age_ns < STALE_NS  # sleepers are read once a minute
            fresh = feed.state == "connected" and feed.heard_ns and in_time
            said = f" ({feed.detail})" if feed.detail and not fresh else ""
            text.append(
                f"{feed.name} {feed.state}{said}, heard {age} ago   ", "green" if fresh else "red"
            )
        doubted = f", {view.books_untrusted} doubted" if view.books_untrusted else ""
        text.append(f"{view.books_trusted} books trusted{doubted}   ")
        text.append(f"rows: {view.stream_rows} stream, {view.rest_rows} REST first")
    return text


def caps_table(picture: Picture, names: Names) -> RenderableType:
    """Return the account's caps and whichever other is nearly full; `driftless risk` has all."""
    if picture.risk is None:
        return Text("")
    text = Text("caps    ")
    for cap in picture.risk.caps:
        full = cap.limit and cap.used * 10 >= cap.limit * 9
        if full or not cap.scope:
            of = f" {scope_name(cap, names)}" if cap.scope else ""
            told = f"{cap.name}{of} {usd(cap.used)} of {usd(cap.limit)}   "
            text.append(told, "red" if full else "")
    profit = picture.risk.realised_today
    return text.append(f"realised today {usd(profit)}", "red" if profit < 0 else "")


def rows_table(rows: Sequence[Row], names: Names, limit: int | None = None) -> RenderableType:
    """Return our holdings beside the leaders' exposures; with a limit, without frames."""
    if not rows:
        return Text("no positions: neither we nor the leaders hold anything we follow")
    frame = box.HEAVY_HEAD if limit is None else None
    table = Table(title="In step with the leaders", title_justify="left", box=frame, expand=True)
    table.add_column("market", overflow="ellipsis", no_wrap=True, ratio=3)
    table.add_column("leader", overflow="ellipsis", no_wrap=True, ratio=2)
    for name in ("his exposure", "our target", "we hold", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:limit]:
        off = row.target != row.held
        table.add_row(
            names.market(row.condition),
            names.leader(row.leader),
            shares(row.exposure, signed=True) if row.exposure is not None else "",
            shares(row.target, signed=True) if row.target is not None else "",
            Text(shares(row.held, signed=True), style="yellow" if off else "green")
            if row.held is not None
            else "",
            usd(row.cost) if row.cost is not None else "",
        )
    if limit is not None and len(rows) > limit:
        table.caption = f"and {len(rows) - limit} more"
    return table


def lanes_table(picture: Picture) -> RenderableType:
    """Return a line a lane that ever said something or is behind, and the rest in one."""
    table = Table(title="Lanes", title_justify="left")
    table.add_column("lane")
    for name in ("epoch", "heard", "said", "behind"):
        table.add_column(name, justify="right")
    idle = [lane for lane in picture.lanes if not (lane.said or lane.behind)]
    for lane in picture.lanes:
        if lane not in idle:
            table.add_row(*_lane_cells(lane))
    if idle:
        table.add_row(f"{len(idle)} without work", "", "", "", "0")
    return table


def _lane_cells(lane: LaneStatus) -> tuple[str, str, str, str, Text]:
    behind = Text(f"{lane.behind:,}", style="red" if lane.behind else "green")
    return lane.name, str(lane.epoch), f"{lane.cursor:,}", f"{lane.said:,}", behind


# --- for machines -------------------------------------------------------------------------


def picture_json(picture: Picture, names: Names) -> dict[str, Any]:
    """Return the picture with stable keys: dollars and shares are exact decimals, ages in ms."""
    risk, drift, account, held = picture.risk, picture.drift, picture.account, picture.held

    def age_ms(as_of_ns: int) -> int:
        return max(0, picture.now_ns - as_of_ns) // NS_PER_MS

    return {
        "ledger_head": picture.head,
        "regime": risk.regime if risk else None,
        "regime_reason": risk.reason if risk else None,
        "realised_today_usd": decimal(risk.realised_today) if risk else None,
        **_cash_json(account, held, picture.now_ns),
        "caps": [
            {
                "name": cap.name,
                "scope": cap.scope,
                "used_usd": decimal(cap.used),
                "limit_usd": decimal(cap.limit),
            }
            for cap in (risk.caps if risk else ())
        ],
        "drift": {
            "usd": decimal(drift.drift_usd) if drift else None,
            "age_ms": age_ms(drift.as_of_ns) if drift else None,
            "corrections": drift.corrections if drift else None,
            "last_clear_ms": drift.last_clear_ms if drift else None,
            "last_detect_ms": drift.last_detect_ms if drift else None,
            "lines": [
                {
                    "token": line.token,
                    "believed": decimal(line.believed),
                    "observed": decimal(line.observed),
                    "usd": decimal(line.usd),
                    "state": line.state,
                }
                for line in (drift.lines if drift else ())
            ],
        },
        "feeds": [
            {
                "name": feed.name,
                "state": feed.state,
                "age_ms": age_ms(feed.heard_ns) if feed.heard_ns else None,
                "detail": feed.detail,
            }
            for view in picture.feeds
            for feed in view.feeds
        ],
        "endpoints": endpoints_json(picture.endpoints, picture.now_ns),
        "surrendered_orders": [_order_json(o, age_ms(o.since_ns)) for o in picture.surrendered],
        "positions": [_row_json(row, names) for row in picture.rows],
        "lanes": [
            {
                "lane": lane.name,
                "epoch": lane.epoch,
                "cursor": lane.cursor,
                "said": lane.said,
                "behind": lane.behind,
            }
            for lane in picture.lanes
        ],
    }


def _cash_json(
    account: AccountView | None, held: PositionsView | None, now_ns: int
) -> dict[str, Any]:
    lag = account.confirmed if account else None
    return {
        "cash_usd": decimal(account.collateral) if account else None,
        "cash_age_ms": max(0, now_ns - account.as_of_ns) // NS_PER_MS if account else None,
        "cash_believed_usd": decimal(held.cash) if held and held.cash is not None else None,
        "claims_usd": decimal(held.claims) if held else None,
        "confirmation_ms": {"count": lag.count, "median": lag.median_ms, "worst": lag.worst_ms}
        if lag
        else None,
    }


def _order_json(order: OpenOrderView, age_ms: int) -> dict[str, Any]:
    return {
        "order": order.order,
        "token": order.token,
        "side": order.side,
        "size": decimal(order.size),
        "filled": decimal(order.filled),
        "age_ms": age_ms,
    }


def _row_json(row: Row, names: Names) -> dict[str, Any]:
    return {
        "condition": row.condition,
        "market": names.market(row.condition),
        "leader": row.leader,
        "leader_name": names.leader(row.leader),
        "exposure": decimal(row.exposure) if row.exposure is not None else None,
        "target": decimal(row.target) if row.target is not None else None,
        "held": decimal(row.held) if row.held is not None else None,
        "cost_usd": decimal(row.cost) if row.cost is not None else None,
    }
