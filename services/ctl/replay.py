"""`driftless replay`: what was held, wanted and decided, as of any message or moment."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import Names, decimal, duration, json_text, shares, usd
from services.ctl.governance import regime_name
from services.ctl.narration import told
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.picture import Row
from services.ctl.session import find_place, session
from services.ctl.status import rows_table
from services.lab.archive import Archive
from services.lab.past import Past, Said, fold
from shared.domain.messages import FillCounted, LeaderFilled, kind_of
from shared.domain.units import NS_PER_S
from shared.runtime.clock import SystemClock
from shared.runtime.ports import UndecodableError

_DECISIONS: Final = 12
_ROUTINE: Final = (LeaderFilled, FillCounted)  # many, and none of them decides anything
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?")
_AGO: Final = re.compile(r"(\d+)([smhd]) ago")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
FORMS: Final = (
    "a message's number (1234), a moment in UTC (2026-11-23T17:05:30), a time of today in UTC "
    "(17:05 or 17:05:30.25), or how long ago (90s ago, 10m ago, 2h ago, 1d ago)"
)


class Until(NamedTuple):
    """Where to stop: one of the two is set, or neither for the end."""

    seq: int | None = None
    time_ns: int | None = None


def replay(
    until: Annotated[
        str, typer.Option("--until", metavar="TIME|SEQ", help=f"Up to and with it: {FORMS}.")
    ] = "",
    last: Annotated[
        int, typer.Option("--last", min=0, max=1_000, help="How many decisions before it to show.")
    ] = _DECISIONS,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", metavar="DIR", help="An archive instead of what runs.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show positions, leaders' exposures, targets, open orders and decisions as of then.

    The ledger is folded up to there by the services' own cores, so this is what they believed and
    not what is remembered of it. A message's time is the broker's, in UTC. Nothing is changed.

    Example: driftless replay --until 17:05

    Exit codes: 0 shown, 1 there was nothing then or a message cannot be read, 2 usage, 3 NATS or
    Redis away.
    """
    asyncio.run(_replay(read_until(until, SystemClock().now_ns()), last, archive, config, as_json))


async def _replay(
    until: Until, last: int, archive: Path | None, config: Path | None, as_json: bool
) -> None:
    names = Names()
    try:
        if archive is not None:
            past = await fold(Archive(archive), until=until.seq, until_ns=until.time_ns)
        else:
            async with session(find_place(config)) as at:
                leaders = {each.wallet: each.name for each in at.config.leaders if each.name}
                names = Names(leaders)
                past = await fold(at.ledger, until=until.seq, until_ns=until.time_ns)
    except UndecodableError as e:
        raise CtlError(f"{e}: `driftless verify` tells more") from e
    if not past.seq:
        raise CtlError(empty(past, until))
    for market in past.markets.values():
        names.learn(market)
    if as_json:
        print(json_text(past_json(past, names, last)))
    else:
        console().print(screen(past, names, last))


def read_until(text: str, now_ns: int) -> Until:
    """Return where to stop; raises UsageError that names the forms."""
    text = text.strip()
    if not text:
        return Until()
    if text.isdecimal():
        return Until(seq=int(text))
    now = datetime.fromtimestamp(now_ns / NS_PER_S, UTC)
    if ago := _AGO.fullmatch(text):
        return Until(time_ns=now_ns - int(ago[1]) * _UNITS[ago[2]] * NS_PER_S)
    try:
        if clock := _CLOCK.fullmatch(text):
            minute = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            moment = minute + timedelta(seconds=float(clock[3] or 0))
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"--until {text!r}: give {FORMS}") from None
    time_ns = round(moment.timestamp() * 1_000_000) * 1_000
    if time_ns > now_ns:
        raise UsageError(f"--until {text!r} is {duration(time_ns - now_ns)} ahead of now")
    return Until(time_ns=time_ns)


def empty(past: Past, until: Until) -> str:
    """Say why there is nothing to show."""
    if not past.head:
        return "the ledger is empty: nothing was said yet"
    if until.time_ns is not None and past.first_ns:
        return f"nothing was said before {moment(past.first_ns)}, when the ledger began"
    return "messages are counted from 1"


def moment(time_ns: int) -> str:
    """Write a time in UTC to the millisecond."""
    at = datetime.fromtimestamp(time_ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{time_ns % NS_PER_S // 1_000_000:03d} UTC"


# --- what stood there -----------------------------------------------------------------------


def rows(past: Past) -> list[Row]:
    """Return leaders' exposures beside our targets and holdings, the largest cost first."""
    exposures = {
        (wallet, condition): track.exposure
        for state in past.of("aggregator")
        for wallet, leader in state.leaders.items()
        for condition, track in leader.tracks.items()
        if track.exposure
    }
    held = {(h.leader, h.condition): h for s in past.of("risk") for h in s.held.values()}
    targets = {(t.leader, t.condition): t for s in past.of("risk") for t in s.targets.values()}
    found = [
        Row(
            leader=key[0],
            condition=key[1],
            exposure=exposures.get(key),
            target=targets[key].target if key in targets else None,
            held=held[key].net if key in held else None,
            cost=held[key].cost if key in held else None,
        )
        for key in exposures.keys() | held.keys() | targets.keys()
    ]
    return sorted(found, key=lambda row: (-(row.cost or 0), row.leader, row.condition))


def decisions(past: Past, last: int) -> list[Said]:
    chosen = [said for said in past.recent if not isinstance(said.fact, _ROUTINE)]
    return chosen[-last:] if last else []


def regime_of(past: Past) -> str:
    return next((state.regime for state in past.of("risk")), "")


def screen(past: Past, names: Names, last: int) -> Group:
    """Return everything as people read it."""
    regime = regime_of(past)
    head = Text(f"as of message {past.seq:,} of {past.head:,}, {moment(past.stored_ns)}")
    head.append(f"   trading {regime_name(regime)}" if regime else "")  # type: ignore[arg-type]
    lines = [
        Text.assemble(
            (f"{moment(said.stored_ns)[11:-4]} {said.seq:>8,}  ", "dim"),
            (f"{kind_of(said.fact)} ", "bold"),
            told(said.fact, names),
            overflow="ellipsis",
            no_wrap=True,
        )
        for said in decisions(past, last)
    ]
    title = Text("\nThe last decisions up to then", style="italic") if lines else Text()
    return Group(
        head, _positions(past, names), _orders(past, names), rows_table(rows(past), names), title,
        *lines,
    )  # fmt: skip


def _positions(past: Past, names: Names) -> Table | Text:
    held = _held(past)
    if not held:
        return Text("the account held nothing")
    table = Table(title="What the account held", title_justify="left", box=box.HEAVY_HEAD)
    table.add_column("market")
    table.add_column("outcome")
    for name in ("shares", "cost", "realised"):
        table.add_column(name, justify="right")
    for each in held:
        table.add_row(
            names.market(each.condition),
            names.outcome(each.condition, each.outcome),
            shares(each.position.shares),
            usd(each.position.cost),
            usd(each.position.realised),
        )
    return table


def _orders(past: Past, names: Names) -> Text:
    text = Text()
    for order in _open(past):
        what = (
            f"{order.side} {shares(order.size)} of {names.token(order.token)} at {usd(order.price)}"
        )
        text.append(f"open order {order.order[:10]}: {what}, {order.phase}\n", "yellow")
    return text


def _held(past: Past) -> list[Any]:
    found = [each for state in past.of("executor") for each in state.holdings.values()]
    return [each for each in found if each.position.shares or each.position.realised]


def _open(past: Past) -> Sequence[Any]:
    found = [each for state in past.of("executor") for each in state.orders.values()]
    return [each for each in found if each.phase != "closed"]


def past_json(past: Past, names: Names, last: int) -> dict[str, Any]:
    """Return everything with stable keys."""
    return {
        "seq": past.seq,
        "head": past.head,
        "stored": moment(past.stored_ns),
        "regime": regime_of(past) or None,
        "positions": [
            {
                "condition": each.condition,
                "market": names.market(each.condition),
                "token": each.token,
                "outcome": each.outcome,
                "shares": decimal(each.position.shares),
                "cost": decimal(each.position.cost),
                "realised": decimal(each.position.realised),
            }
            for each in _held(past)
        ],
        "open_orders": [
            {
                "order": each.order,
                "token": each.token,
                "side": each.side,
                "price": decimal(each.price),
                "size": decimal(each.size),
                "filled": decimal(each.filled),
                "phase": each.phase,
            }
            for each in _open(past)
        ],
        "leaders": [
            {
                "leader": row.leader,
                "condition": row.condition,
                "exposure": _decimal(row.exposure),
                "target": _decimal(row.target),
                "held": _decimal(row.held),
                "cost": _decimal(row.cost),
            }
            for row in rows(past)
        ],
        "decisions": [
            {
                "seq": said.seq,
                "stored": moment(said.stored_ns),
                "kind": kind_of(said.fact),
                "id": said.fact.id,
                "text": told(said.fact, names),
            }
            for said in decisions(past, last)
        ],
    }


def _decimal(micro: int | None) -> Any:
    return None if micro is None else decimal(micro)
