"""`driftless risk`: what risk allows now, how full each cap is, and what would change it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.ctl.errors import FINDING, OK
from services.ctl.figures import (
    Names,
    decimal,
    json_text,
    measured,
    number,
    number_unit,
    percent,
    short,
    usd,
)
from services.ctl.governance import regime_name
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import find_place, session
from services.ctl.why import names_of
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import BPS
from shared.domain.views import RISK, CapView, RiskView, ScaleView, TriggerView, decode
from shared.runtime.config import Config, LeaderConfig, config_hash

_CELLS: Final = 10  # of a bar
_FULL: Final = 9_000  # bps of a cap from which it is as good as full
_HALF: Final = 5_000
_FOLDED: Final = ("of", "leader", "")  # columns of names, which may be long
_OLD: Final = "not told: risk runs an older version"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One leader as risk treats him."""

    leader: Wallet
    name: str
    followed: bool
    configured: bool  # in the configuration that was read here
    sizing: str
    markets: int
    cost: int


def risk(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the regime and what would change it, every cap and its use, and what shrinks it.

    A bar is full where the regime changes, or where a cap allows nothing more. "Limit now" is what
    is left of "configured" after today's loss, the drawdown and the feeds have shrunk it.

    Example: driftless risk

    Exit codes: 0 trading normally, 1 not, or risk has never run, 2 usage, 3 NATS or Redis away.
    """
    code = asyncio.run(_risk(config, as_json))
    if code:
        raise typer.Exit(code)


async def _risk(config: Path | None, as_json: bool) -> int:
    async with session(find_place(config)) as at:
        (data,) = await at.store.read_views([RISK])
        names = await names_of(at)
    view = decode(data, RiskView)
    if as_json:
        print(json_text(risk_json(view, at.config, names)))
    else:
        console().print(screen(view, at.config, names))
    return code_of(view)


def code_of(view: RiskView | None) -> int:
    """Return 1 where there is something to look at: no risk, or trading that is not normal."""
    return OK if view is not None and view.regime == "normal" else FINDING


def filled(actual: int, limit: int) -> int:
    """Return how full something is in bps; a limit of nothing is always full."""
    return max(0, actual) * BPS // limit if limit > 0 else BPS


def scaled(scales: Sequence[ScaleView]) -> int:
    """Return what is left of every cap, in bps: the product of all that shrinks it."""
    product, whole = BPS, 1
    for scale in scales:
        product, whole = product * scale.bps, whole * BPS
    return product // whole


def holds(trigger: TriggerView, view: RiskView) -> bool:
    """Tell whether a rule is what keeps the regime: it entered, and has not left yet."""
    entered = trigger.name in view.reason.split(", ") and view.regime != "normal"
    return trigger.actual >= trigger.enter or (entered and trigger.actual > trigger.leave)


def standings(view: RiskView, config: Config) -> list[Standing]:
    """Return every leader that is configured, held or unfollowed, as risk treats him."""
    known: dict[Wallet, LeaderConfig] = {each.wallet: each for each in config.leaders}
    held = [each for each in view.held if set(each.leader) - set("0x")]  # but for trades by hand
    wallets = [*known, *sorted({*view.unfollowed, *(each.leader for each in held)} - {*known})]
    found = []
    for wallet in wallets:
        own, theirs = known.get(wallet), [each for each in held if each.leader == wallet]
        found.append(
            Standing(
                leader=wallet,
                name=own.name if own else "",
                followed=wallet not in view.unfollowed,
                configured=own is not None,
                sizing=own.sizing if own else "",
                markets=sum(1 for each in theirs if each.yes or each.no),
                cost=sum(each.cost for each in theirs),
            )
        )
    return found


# --- for people ---------------------------------------------------------------------------


def screen(view: RiskView | None, config: Config, names: Names) -> RenderableType:
    """Return everything, the most urgent first."""
    if view is None:
        told = "risk has never run here: there is no regime, no cap and no equity yet"
        return Text(f"{told}; start it with `driftless up`", style="yellow")
    return Group(
        headline(view),
        worth(view),
        settings_line(view, config),
        triggers_table(view),
        caps_table(view, names),
        scales_table(view),
        leaders_table(view, config),
    )


def headline(view: RiskView) -> Text:
    normal = view.regime == "normal"
    text = Text("trading ").append(regime_name(view.regime), "green" if normal else "bold red")
    text.append(f": {view.reason or 'as at the start'}")
    meaning = {
        "normal": "",
        "reduce_only": "   entries are refused, exits go on",
        "halted": "   no order at all, not even to reduce",
    }
    return text.append(meaning[view.regime], "dim")


def worth(view: RiskView) -> Text:
    equity = "not known yet" if view.equity is None else usd(view.equity)
    text = Text(f"equity  {equity}   profit ")
    text.append(usd(view.profit), "red" if view.profit < 0 else "green")
    text.append(f"   drawdown {usd(view.drawdown)}   realised today {usd(view.realised_today)}")
    return text


def settings_line(view: RiskView, config: Config) -> Text:
    """Return the hash of the settings that risk decides by, and whether they are those read here.

    Addresses are in the hash, so that another host's may differ by them alone.
    """
    text = Text("settings ")
    if not view.config_hash:
        return text.append(_OLD, "yellow")
    text.append(view.config_hash)
    if view.config_hash == config_hash(config):
        return text.append(", those of the file read here", "dim")
    return text.append(
        f", not those read here ({short(config_hash(config))}): `driftless reload`", "yellow"
    )


def bar(bps: int) -> Text:
    """Return a bar and the percentage; red where it is as good as full."""
    cells = min(_CELLS, bps * _CELLS // BPS if bps < BPS else _CELLS)
    style = "red" if bps >= _FULL else "yellow" if bps >= _HALF else "green"
    text = Text().append("█" * cells, style).append("░" * (_CELLS - cells), "dim")
    of_100 = bps * 100 // BPS if bps < BPS else round(bps * 100 / BPS)
    return text.append(f" {of_100:>3,} %", style)


def _table(title: str, *heads: str, right: tuple[str, ...] = (), footer: bool = False) -> Table:
    """Return a table without frames, narrow enough for any terminal; no number is ever cut."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  show_footer=footer, collapse_padding=True)  # fmt: skip
    for head in heads:
        justify: Literal["left", "right"] = "right" if head in right else "left"
        table.add_column(head, justify=justify, no_wrap=head not in _FOLDED, overflow="fold")
    return table


def triggers_table(view: RiskView) -> RenderableType:
    """Return what the regime hangs on; what holds it now stands out."""
    if not view.triggers:
        return Text(f"what would change the regime: {_OLD}", style="yellow")
    table = _table(
        "What changes the regime", "rule", "leads to", "now", "enters at", "leaves at", "how near",
        right=("now", "enters at", "leaves at"),
    )  # fmt: skip
    for each in view.triggers:
        until = "by resume" if each.leave < 0 else measured(each.leave, each.unit)
        name = Text(f"{each.name} holds", "bold red") if holds(each, view) else each.name
        table.add_row(
            name,
            regime_name(each.regime),
            measured(each.actual, each.unit),
            measured(each.enter, each.unit),
            until,
            bar(filled(each.actual, each.enter)),
        )
    return table


def caps_table(view: RiskView, names: Names) -> Table:
    """Return each cap, used at the most that orders in flight can cost."""
    table = _table(
        "Caps", "cap", "of", "used", "limit now", "configured", "how full",
        right=("used", "limit now", "configured"),
    )  # fmt: skip
    for cap in view.caps:
        whole = cap.configured or cap.limit
        table.add_row(
            cap.name,
            Text(scope_name(cap, names)),
            usd(cap.used),
            Text(measured(cap.limit, "usd"), style="yellow" if cap.limit < whole else ""),
            measured(whole, "usd"),
            bar(filled(cap.used, cap.limit)),
        )
    return table


def scope_name(cap: CapView, names: Names) -> str:
    """Return whom or what a cap is about, as people call it."""
    if cap.name == "leader":
        return names.leader(Wallet(cap.scope))
    return names.market(ConditionId(cap.scope)) if cap.name == "market" else cap.scope


def scales_table(view: RiskView) -> RenderableType:
    """Return what shrinks every cap now, and by how much together."""
    if not view.scales:
        return Text(f"what shrinks the caps: {_OLD}", style="yellow")
    table = _table(
        "What is left of every cap", "because of", "now", "leaves", right=("now",), footer=True
    )
    table.columns[0].footer = "together"
    table.columns[2].footer = left_bar(scaled(view.scales))
    for each in view.scales:
        now = "nobody reports" if each.actual < 0 else measured(each.actual, each.unit)
        table.add_row(each.name, now, left_bar(each.bps))
    return table


def left_bar(bps: int) -> Text:
    """Return a bar of what is left: the less, the redder."""
    cells = bps * _CELLS // BPS
    style = "green" if bps >= BPS else "yellow" if bps else "red"
    text = Text().append("█" * cells, style).append("░" * (_CELLS - cells), "dim")
    return text.append(f" {percent(bps):>8}", style)


def leaders_table(view: RiskView, config: Config) -> RenderableType:
    found = standings(view, config)
    if not found:
        return Text("no leaders: nothing is copied", style="yellow")
    table = _table(
        "Leaders", "leader", "wallet", "", "sizing", "markets", "cost", right=("markets", "cost")
    )
    for each in found:
        state = Text("followed", "green") if each.followed else Text("not followed", "yellow")
        if not each.configured:
            state = state.append(", not in the file read here")
        who, wallet = (each.name, short(each.leader)) if each.name else (each.leader, "")
        row = (Text(who), wallet, state, each.sizing, str(each.markets), usd(each.cost))
        table.add_row(*row)
    return table


# --- for machines -------------------------------------------------------------------------


def risk_json(view: RiskView | None, config: Config, names: Names) -> dict[str, Any]:
    """Return the same with stable keys: dollars are exact decimals, fullness is in bps."""
    if view is None:
        return {"ran": False, "regime": None}
    return {
        "ran": True,
        "regime": view.regime,
        "reason": view.reason,
        "equity_usd": None if view.equity is None else decimal(view.equity),
        "profit_usd": decimal(view.profit),
        "drawdown_usd": decimal(view.drawdown),
        "realised_today_usd": decimal(view.realised_today),
        "config_hash": view.config_hash or None,
        "config_hash_here": config_hash(config),
        "triggers": [_trigger_json(each, view) for each in view.triggers],
        "caps": [
            {
                "name": cap.name,
                "scope": cap.scope,
                "scope_name": scope_name(cap, names),
                "used_usd": decimal(cap.used),
                "limit_usd": decimal(cap.limit),
                "configured_usd": decimal(cap.configured or cap.limit),
                "full_bps": filled(cap.used, cap.limit),
            }
            for cap in view.caps
        ],
        "scales": [
            {
                "name": each.name,
                "left_bps": each.bps,
                "actual": None if each.actual < 0 else number(each.actual, each.unit),
                "unit": number_unit(each.unit),
            }
            for each in view.scales
        ],
        "scale_bps": scaled(view.scales) if view.scales else None,
        "leaders": [
            {
                "leader": each.leader,
                "name": each.name,
                "followed": each.followed,
                "configured": each.configured,
                "sizing": each.sizing or None,
                "markets": each.markets,
                "cost_usd": decimal(each.cost),
            }
            for each in standings(view, config)
        ],
    }


def _trigger_json(trigger: TriggerView, view: RiskView) -> dict[str, Any]:
    return {
        "name": trigger.name,
        "regime": trigger.regime,
        "actual": number(trigger.actual, trigger.unit),
        "enter": number(trigger.enter, trigger.unit),
        "leave": None if trigger.leave < 0 else number(trigger.leave, trigger.unit),
        "unit": number_unit(trigger.unit),
        "full_bps": filled(trigger.actual, trigger.enter),
        "holds": holds(trigger, view),
    }
