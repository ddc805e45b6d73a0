"""What is plotted is what the functions say, and what the documents show is what is plotted."""

import re
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console

from services.lab import plots
from services.lab.plots import Plot
from services.risk import dynamics
from shared.domain.units import MICRO, NS_PER_S, Bps, Shares, Usd
from shared.runtime.config import IngesterConfig, RiskConfig

DOCUMENT = Path(__file__).parents[3] / "docs" / "dynamics.md"
RISK = RiskConfig(
    depth_share_bps_max=Bps(3_000),
    volatility_calm=30_000,
    slippage_budget_bps=Bps(80),
    slippage_floor_bps=Bps(1_500),
    slippage_weight_bps=Bps(5_000),
    drawdown_free_usd=Usd(60 * MICRO),
    drawdown_usd_max=Usd(300 * MICRO),
    feed_fresh_ms=9_000,
    feed_dead_ms=39_000,
    end_s_min=60,
    end_full_s=360,
)
FUNCTIONS = {
    "depth": "depth_allowed",
    "volatility": "volatility_factor",
    "slippage": "slippage_factor",
    "drawdown": "drawdown_factor",
    "feed": "feed_factor",
    "time": "time_factor",
    "average": "next_average",
}


def drawn() -> dict[str, Plot]:
    return {plot.name: plot for plot in plots.plots({"ours": RISK})}


def points(name: str) -> dict[int, int]:
    (curve,) = drawn()[name].curves
    return dict(curve.points)


def test_the_points_are_those_of_the_functions() -> None:
    assert all(
        y == dynamics.depth_allowed(Shares(x), Bps(3_000)) for x, y in points("depth").items()
    )
    assert all(
        y == dynamics.volatility_factor(x, 30_000, Bps(0)) for x, y in points("volatility").items()
    )
    assert all(
        y == dynamics.slippage_factor(x, Bps(80), Bps(1_500)) for x, y in points("slippage").items()
    )
    free, limit = Usd(60 * MICRO), Usd(300 * MICRO)
    assert all(
        y == dynamics.drawdown_factor(Usd(x), free, limit) for x, y in points("drawdown").items()
    )
    assert all(
        y == dynamics.feed_factor(x, 9 * NS_PER_S, 39 * NS_PER_S) for x, y in points("feed").items()
    )
    assert all(
        y == dynamics.time_factor(x, 60 * NS_PER_S, 360 * NS_PER_S)
        for x, y in points("time").items()
    )
    assert [points("average")[at] for at in (0, 1, 2, 10, 11)] == [0, 50, 75, 100, 50]


@pytest.mark.parametrize(("name", "function"), FUNCTIONS.items())
def test_a_function_that_says_something_else_is_drawn_so(
    name: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamics, function, lambda *_: 1_234)
    assert {y for x, y in points(name).items() if x} == {1_234}


def test_the_corners_are_among_the_points() -> None:
    assert {0, 80} <= points("slippage").keys()
    assert {60 * MICRO, 300 * MICRO} <= points("drawdown").keys()
    assert {9 * NS_PER_S, 39 * NS_PER_S} <= points("feed").keys()
    assert {60 * NS_PER_S, 360 * NS_PER_S} <= points("time").keys()
    assert 30_000 in points("volatility")


def test_every_plot_shows_where_it_begins_and_ends() -> None:
    """Each preset that uses it is full somewhere and shrunk somewhere, within what is drawn."""
    for plot in plots.plots(plots.configured()):
        for curve in plot.curves:
            drawn_ys = [y for _, y in curve.points]
            off = plot.name == "time" and curve.label != "cautious"
            assert (max(drawn_ys) > min(drawn_ys)) != off, (plot.name, curve.label)


def test_curves_that_fall_together_are_named_together() -> None:
    (average,) = (p for p in plots.plots({"a": RISK, "b": RISK}) if p.name == "average")
    assert [curve.label for curve in plots._together(average.curves)] == ["a, b"]


def test_the_drawings_in_the_documents_are_of_these_points() -> None:
    """Drawn anew by ``python -m services.lab.plots`` where this fails."""
    for plot in plots.plots(plots.configured()):
        assert plots.digest(plot) in (plots.FOLDER / f"{plot.name}.svg").read_text(), plot.name


def test_every_drawing_stands_in_the_document_and_its_keys_are_settings() -> None:
    text = DOCUMENT.read_text()
    shown = set(re.findall(r"\(plots/(\w+)\.svg\)", text))
    assert shown == {plot.name for plot in plots.plots({})}
    assert shown == {path.stem for path in plots.FOLDER.iterdir()}
    for function in (*FUNCTIONS.values(), "combined", "scaled"):
        assert f"`{function}`" in text
    named = set(re.findall(r"`(\w+_(?:bps|bps_max|usd|usd_max|ms|s|s_min|calm))`", text))
    settings = {*RiskConfig.__struct_fields__, *IngesterConfig.__struct_fields__}
    assert len(named) >= 14
    assert named <= settings


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plots.main(["--out", str(tmp_path)]) == 2
    assert "pip install 'driftless[plots]'" in capsys.readouterr().err


# --- recorded books ---------------------------------------------------------------------------


def record(folder: Path, cents: list[tuple[int, float]], *, begins_s: int) -> None:
    """Write the books of one market: seconds and the mid in cents, for both outcomes."""
    books = [
        {
            "market_id": "m", "ts": second * 1_000, "side": side,
            "bid_px": [round(mid / 100 - 0.01, 3)], "ask_px": [round(mid / 100 + 0.01, 3)],
        }
        for second, up in cents
        for side, mid in (("UP", up), ("DOWN", 20.0))
    ]  # fmt: skip
    books.append({"market_id": "m", "ts": 0, "side": "UP", "bid_px": [], "ask_px": [0.5]})
    markets = [{"market_id": "m", "start_ts": begins_s * 1_000}]
    for name, rows in (("books", books), ("markets", markets)):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{name}.parquet")


def test_recorded_books_are_watched_as_live_ones_would_be(tmp_path: Path) -> None:
    record(tmp_path, [*((s, 50.0) for s in range(1, 30)), (40, 60.0), (99, 99.0)], begins_s=25)
    found = plots.recorded(tmp_path, (10,))
    assert found["before it opens"] == [0] * 14  # seconds 11 to 24
    assert found["open"][:5] == [0] * 5
    assert len(found["open"]) == 7
    assert found["open, mid 0.02 to 0.98"] == found["open"][:6]  # not the one at 99 cents
    assert found["open"][5] > 0


def test_percentiles_are_values_that_were_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert [plots.percentile(range(101), p) for p in (10, 50, 90, 99)] == [10, 50, 90, 99]
    assert plots.percentile([7], 99) == 7
    Console(width=100).print(plots.distribution({"some": [3, 2_000, 1], "none": []}))
    shown = capsys.readouterr().out
    assert re.search(r"some\W+3\W+1\W+3\W+3\W+3\b", shown)
    assert re.search(r"none\W+0\b", shown)
