"""The live picture of a demonstration: a screen where there is a terminal, else lines."""

from collections import deque
from typing import Final

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from services.ctl.figures import Names, bps, duration, usd
from services.ctl.narration import told
from services.ctl.picture import Picture
from services.ctl.status import feeds_line, headline, rows_table
from services.ctl.tally import Tally
from shared.domain import messages as m
from shared.domain.units import NS_PER_S

_LEADERS_SHOWN: Final = 5
_ROWS_SHOWN: Final = 6
_DECISIONS_MIN: Final = 5
_SMALL: Final = 32  # lines of a terminal below which everything but decisions is halved
_KEPT: Final = 100
_FRAME: Final = 12  # lines of the screen that are neither decisions, nor leaders, nor positions
_REASONS_SHOWN: Final = 4

# What is worth a line, how it is called and shown; everything else is in `driftless why`.
_LABELS: Final[dict[str, tuple[str, str]]] = {
    "leader_filled": ("leader", "cyan"),
    "leader_acted": ("leader", "cyan"),
    "intent_formed": ("intent", "bold"),
    "window_netted": ("netted", "dim"),
    "target_expired": ("expired", "yellow"),
    "order_approved": ("approved", "green"),
    "order_refused": ("refused", "red"),
    "order_declined": ("declined", "red"),
    "order_prepared": ("order", "blue"),
    "order_rejected": ("rejected", "red"),
    "order_outcome_unknown": ("unknown", "yellow"),
    "order_resent": ("resent", "yellow"),
    "order_surrendered": ("LOOK", "bold red"),
    "order_filled": ("filled", "bold green"),
    "order_closed": ("closed", "dim"),
    "position_corrected": ("corrected", "yellow"),
    "drift_suspected": ("drift?", "yellow"),
    "drift_found": ("drift", "bold red"),
    "drift_cleared": ("in step", "green"),
    "orphan_found": ("orphan", "red"),
    "regime_changed": ("trading", "bold yellow"),
    "feed_changed": ("feed", "yellow"),
    "halt_trading": ("halt", "bold yellow"),
    "reduce_only": ("reduce", "bold yellow"),
    "resume_trading": ("resume", "bold yellow"),
    "leaders_netted": ("netted", "bold green"),
    "leader_corrected": ("leader?", "yellow"),
    "leader_unfollowed": ("leaders", "bold yellow"),
    "leader_followed": ("leaders", "bold yellow"),
    "config_changed": ("settings", "bold yellow"),
    "command_refused": ("refused", "red"),
    "market_resolved": ("settled", "dim"),
}


class Show:
    """Hears facts, sees pictures, and renders both."""

    def __init__(self, names: Names, *, minutes: float, speed: float, attribution: str) -> None:
        self.names = names
        self.tally = Tally()
        self.picture: Picture | None = None
        self._minutes, self._speed, self._attribution = minutes, speed, attribution
        self._leaders: deque[Text] = deque(maxlen=_KEPT)
        self._decisions: deque[Text] = deque(maxlen=_KEPT)

    def hear(self, fact: m.Fact, elapsed_ns: int) -> Text | None:
        """Count a fact; return its line where it is worth one."""
        self.names.hear(fact)
        self.tally.hear(fact)
        label, style = _LABELS.get(m.kind_of(fact), ("", ""))
        if not label or _is_routine(fact):
            return None
        line = Text.assemble(
            (f"{clock(elapsed_ns)} ", "dim"),
            (f"{label:<9} ", style),
            told(fact, self.names).removeprefix(f"{label} "),
            overflow="ellipsis",
            no_wrap=True,
        )
        is_leader = isinstance(fact, m.LeaderFilled | m.LeaderActed)
        (self._leaders if is_leader else self._decisions).append(line)
        return line

    def see(self, picture: Picture) -> None:
        """Take the latest picture."""
        self.picture = picture
        for feeds in picture.feeds:
            self.tally.watch(feeds, picture.now_ns)

    def screen(self, elapsed_ns: int, height: int) -> RenderableType:
        """Return the whole screen, at most so many lines."""
        rows = self.picture.rows if self.picture else ()
        small = height < _SMALL
        leaders_shown = _LEADERS_SHOWN // 2 if small else _LEADERS_SHOWN
        rows_limit = _ROWS_SHOWN // 2 if small else _ROWS_SHOWN
        rows_shown = min(rows_limit, len(rows)) + (len(rows) > rows_limit)
        room = height - _FRAME - leaders_shown - rows_shown
        parts: list[RenderableType] = [self._title(elapsed_ns)]
        if self.picture is not None:
            parts += [_one_line(headline(self.picture)), _one_line(feeds_line(self.picture))]
        parts += [_one_line(self._counts()), _one_line(self._costs())]
        parts.append(Rule("leaders' fills", align="left", style="dim"))
        parts += list(self._leaders)[-leaders_shown:]
        parts.append(Rule("what we did, and why", align="left", style="dim"))
        parts += list(self._decisions)[-max(_DECISIONS_MIN, room) :]
        parts.append(Rule(style="dim"))
        parts.append(rows_table(rows, self.names, limit=rows_limit))
        parts.append(_one_line(Text(self._attribution, style="dim italic")))
        return Group(*parts)

    def _title(self, elapsed_ns: int) -> Text:
        of = clock(int(self._minutes * 60 * NS_PER_S))
        return Text.assemble(
            ("driftless demo ", "bold"),
            f"{clock(elapsed_ns)} of {of}, recording at {self._speed:g}x, Ctrl-C ends it",
        )

    def _counts(self) -> Text:
        counts, refused = self.tally.counts, self.tally.refused
        text = Text("copied  ")
        text.append(f"{counts['leader_fills']} fills seen -> {counts['intents']} intents ")
        text.append(f"({counts['netted_windows']} netted) -> {counts['orders']} orders -> ")
        text.append(f"{counts['filled_orders']} filled, {usd(self.tally.filled_usd)}", "green")
        text.append(f"   refused {counts['refused'] + counts['declined']}")
        reasons = [f"{name} {count}" for name, count in refused.most_common(_REASONS_SHOWN)]
        return text.append(f": {', '.join(reasons)}" if reasons else "", "red")

    def _costs(self) -> Text:
        text = Text("cost    ")
        middle, worst = (self.tally.latency_ns("seen_to_prepared", p) for p in (50, 99))
        if middle is not None and worst is not None:
            text.append(f"fill seen -> order p50 {duration(middle)}, p99 {duration(worst)}   ")
        found = self.tally.slippage()
        if found.estimated_bps is not None and found.realised_bps is not None:
            text.append(f"slippage estimated {bps(found.estimated_bps)}, ")
            text.append(f"realised {bps(found.realised_bps)}")
        return text


def _is_routine(fact: m.Fact) -> bool:
    """Tell whether a fact says nothing that another line does not: filled, or just started."""
    match fact:
        case m.OrderClosed(reason="filled") | m.ConfigChanged(actor="start"):
            return True
        case _:
            return False


def clock(elapsed_ns: int) -> str:
    """Write a time of the demonstration as minutes and seconds."""
    seconds = max(0, elapsed_ns) // NS_PER_S
    return f"{seconds // 60}:{seconds % 60:02d}"


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
