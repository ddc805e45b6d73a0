"""Draw how sizes and caps follow the world, from the functions that decide it.

    python -m services.lab.plots                      # docs/plots/*.svg; needs driftless[plots]
    python -m services.lab.plots --volatility FOLDER  # of recorded books; needs pyarrow

The drawings stand in docs/dynamics.md. Points come from ``plots`` alone, drawing adds nothing to
them, and a drawing carries the digest of its points: a test can tell that it is out of date without
being able to draw.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from services.risk import dynamics
from shared.domain.units import BPS, MICRO, NS_PER_MS, NS_PER_S, Price, Shares, Usd, parse_micro
from shared.domain.volatility import Volatility
from shared.runtime.config import IngesterConfig, RiskConfig
from shared.runtime.presets import PRESETS, with_preset
from shared.runtime.sections import build

FOLDER: Final = Path(__file__).parents[2] / "docs" / "plots"
BAND: Final = (Price(20_000), Price(980_000))  # where entries are made by default
PERCENTILES: Final = (10, 50, 90, 99)
_POINTS: Final = 60  # of a curve, besides its corners
_PERCENT: Final = 100  # bps

Point = tuple[int, int]


class Curve(NamedTuple):
    label: str
    points: tuple[Point, ...]  # argument and result, in the function's own units


class Plot(NamedTuple):
    """One function for some settings; the units say how many of its own are one that is shown."""

    name: str
    title: str
    x_label: str
    x_unit: int
    y_label: str
    y_unit: int
    curves: tuple[Curve, ...]
    logarithmic: bool = False  # along x


class MissingError(Exception):
    """A library that an extra installs is not there."""


# --- the points -------------------------------------------------------------------------------


def plots(presets: Mapping[str, RiskConfig]) -> tuple[Plot, ...]:
    """Return every plot, a curve for each of the named settings."""
    factor = ("size, % of full", _PERCENT)
    cap = ("cap, % of full", _PERCENT)
    return (
        Plot("depth", "Share of the depth that is taken", "depth inside the budget, shares", MICRO,
             "taken at most, shares", MICRO, _curves(_depth, presets)),
        Plot("volatility", "Size against volatility", "volatility, log-odds / √s", MICRO,
             *factor, _curves(_volatility, presets), logarithmic=True),
        Plot("slippage", "Size against slippage", "realised minus estimated, bps", 1,
             *factor, _curves(_slippage, presets)),
        Plot("drawdown", "Caps against loss", "loss, $", MICRO,
             *cap, _curves(_drawdown, presets), logarithmic=True),
        Plot("feed", "Caps against the age of the feeds", "worst feed last heard, s", NS_PER_S,
             *cap, _curves(_feed, presets)),
        Plot("time", "Caps towards the end", "left to the scheduled end, s", NS_PER_S,
             *cap, _curves(_time, presets)),
        Plot("average", "Average of ten orders 100 bps worse, then as estimated", "order", 1,
             "average, bps", 1, _curves(_average, presets)),
    )  # fmt: skip


def configured() -> dict[str, RiskConfig]:
    """Return the presets; what no preset changes is the default."""
    return {
        name: build(RiskConfig, with_preset({"risk": {"preset": name}})["risk"]) for name in PRESETS
    }


def digest(plot: Plot) -> str:
    """Return 32 hex digits that are the same for the same points and words."""
    return blake2b(msgspec.json.encode(plot), digest_size=16).hexdigest()


def _curves(
    points: Callable[[RiskConfig], tuple[Point, ...]], presets: Mapping[str, RiskConfig]
) -> tuple[Curve, ...]:
    return tuple(Curve(name, points(risk)) for name, risk in presets.items())


def _depth(risk: RiskConfig) -> tuple[Point, ...]:
    share = risk.depth_share_bps_max
    return _sampled(lambda x: dynamics.depth_allowed(Shares(x), share), 0, 1_000 * MICRO)


def _volatility(risk: RiskConfig) -> tuple[Point, ...]:
    calm, unknown = risk.volatility_calm, risk.volatility_unknown_bps
    arguments = [round(MICRO * 10 ** (at / 20 - 3)) for at in range(_POINTS + 1)]  # 0.001 to 1
    return _at(lambda x: dynamics.volatility_factor(x, calm, unknown), [*arguments, calm])


def _slippage(risk: RiskConfig) -> tuple[Point, ...]:
    budget, floor = risk.slippage_budget_bps, risk.slippage_floor_bps
    corners = (0, budget)
    return _sampled(lambda x: dynamics.slippage_factor(x, budget, floor), -50, 250, corners)


def _drawdown(risk: RiskConfig) -> tuple[Point, ...]:
    free, limit = risk.drawdown_free_usd, risk.drawdown_usd_max
    arguments = [round(MICRO * 10 ** (1 + at / 24)) for at in range(_POINTS + 1)]  # $10 to $3,162
    return _at(lambda x: dynamics.drawdown_factor(Usd(x), free, limit), [*arguments, free, limit])


def _feed(risk: RiskConfig) -> tuple[Point, ...]:
    fresh, dead = risk.feed_fresh_ms * NS_PER_MS, risk.feed_dead_ms * NS_PER_MS
    return _sampled(
        lambda x: dynamics.feed_factor(x, fresh, dead), 0, 120 * NS_PER_S, (fresh, dead)
    )


def _time(risk: RiskConfig) -> tuple[Point, ...]:
    none, full = risk.end_s_min * NS_PER_S, risk.end_full_s * NS_PER_S
    if not (none or full):  # switched off
        return _sampled(lambda _: BPS, 0, 720 * NS_PER_S)
    return _sampled(lambda x: dynamics.time_factor(x, none, full), 0, 720 * NS_PER_S, (none, full))


def _average(risk: RiskConfig) -> tuple[Point, ...]:
    averages = [0]
    for order in range(1, 41):
        excess = 100 if order <= 10 else 0
        averages.append(dynamics.next_average(averages[-1], excess, risk.slippage_weight_bps))
    return tuple(enumerate(averages))


def _sampled(
    function: Callable[[int], int], low: int, high: int, corners: Iterable[int] = ()
) -> tuple[Point, ...]:
    steps = min(_POINTS, high - low)
    return _at(function, [*(low + (high - low) * at // steps for at in range(steps + 1)), *corners])


def _at(function: Callable[[int], int], arguments: Iterable[int]) -> tuple[Point, ...]:
    return tuple((x, function(x)) for x in sorted(set(arguments)))


# --- the drawing ------------------------------------------------------------------------------


def draw(plot: Plot, folder: Path) -> Path:
    """Write a plot as SVG, the same bytes for the same points and matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingError("matplotlib is not installed: pip install 'driftless[plots]'") from None
    path = folder / f"{plot.name}.svg"
    with mpl.rc_context({"svg.hashsalt": plot.name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for style, group in zip(("-", "--", ":"), _together(plot.curves), strict=False):
            xs = [x / plot.x_unit for x, _ in group.points]
            axes.plot(xs, [y / plot.y_unit for _, y in group.points], style, label=group.label)
        axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        axes.set_xscale("log" if plot.logarithmic else "linear")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        words = {"Date": None, "Creator": None, "Description": digest(plot)}
        figure.savefig(path, format="svg", metadata=words)
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


def _together(curves: Iterable[Curve]) -> list[Curve]:
    """Return curves with the same points as one, named for all of them."""
    labels: dict[tuple[Point, ...], list[str]] = {}
    for curve in curves:
        labels.setdefault(curve.points, []).append(curve.label)
    return [Curve(", ".join(names), points) for points, names in labels.items()]


# --- the volatility of recorded books ---------------------------------------------------------


def recorded(folder: Path, horizons_s: Sequence[int]) -> dict[str, list[int]]:
    """Return the volatilities that recorded books would have been told with, by when and where.

    Args:
        folder: where books.parquet and markets.parquet are, of markets with two outcomes.
        horizons_s: the half-lives, as in ``[ingester] volatility_horizons_s``.
    """
    begins_ms = {row["market_id"]: row["start_ts"] for row in _rows(folder, "markets")}
    found: dict[str, list[int]] = {"before it opens": [], "open": [], "open, mid 0.02 to 0.98": []}
    watched: dict[str, Volatility] = {}
    books = [row for row in _rows(folder, "books") if row["side"] == "UP"]
    for row in sorted(books, key=lambda row: (row["market_id"], row["ts"])):
        watch = watched.setdefault(row["market_id"], Volatility(horizons_s))
        mid, at_ns = _mid(row), row["ts"] * NS_PER_MS
        watch.observe(mid, at_ns)
        value = watch.value(at_ns)
        if value is None:
            continue
        is_open = row["ts"] >= begins_ms[row["market_id"]]
        found["open" if is_open else "before it opens"].append(value)
        if is_open and mid is not None and BAND[0] <= mid <= BAND[1]:
            found["open, mid 0.02 to 0.98"].append(value)
    return found


def percentile(values: Sequence[int], percent: int) -> int:
    """Return the nearest value in rank; ``values`` are sorted and not empty."""
    return values[(len(values) - 1) * percent // 100]


def distribution(found: Mapping[str, Sequence[int]]) -> Table:
    """Return a table of percentiles, in the unit of ``volatility_calm``."""
    table = Table(title="volatility of the mid, micro-log-odds / √s")
    for heading in ("when", "values", *(f"p{percent}" for percent in PERCENTILES)):
        table.add_column(heading, justify="left" if heading == "when" else "right")
    for when, values in found.items():
        ordered = sorted(values)
        shown = [f"{percentile(ordered, p):,}" for p in PERCENTILES] if ordered else []
        table.add_row(when, f"{len(ordered):,}", *shown)
    return table


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingError("pyarrow is not installed: pip install 'driftless[dev]'") from None
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def _mid(row: Mapping[str, Any]) -> Price | None:
    if not row["bid_px"] or not row["ask_px"]:
        return None
    best = (parse_micro(str(row[side][0])) for side in ("bid_px", "ask_px"))
    return Price(sum(best) // 2)


def main(given: Sequence[str] | None = None) -> int:
    """Draw everything, or say how much recorded books moved; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m services.lab.plots", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the drawings go")
    parser.add_argument("--volatility", type=Path, help="a folder of recorded books instead")
    asked = parser.parse_args(given)
    console = Console()
    try:
        if asked.volatility:
            horizons = IngesterConfig().volatility_horizons_s
            console.print(distribution(recorded(asked.volatility, horizons)))
            return 0
        asked.out.mkdir(parents=True, exist_ok=True)
        for plot in plots(configured()):
            console.print(f"drew {draw(plot, asked.out).name}")
    except (MissingError, OSError) as e:
        Console(stderr=True).print(f"{e}", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
