"""The measurements of the cores run, and measure what they say."""

import pytest

from services.lab.bench_cores import main, memory, speed, stream
from services.lab.bench_risk import thinking


def test_a_stream_is_counted_whole_and_its_windows_close() -> None:
    ran = speed(list(stream(markets=3, fills=40, seed=1)))
    assert ran.fills == 120
    assert ran.windows > 0
    assert ran.fills_a_second > 0


def test_a_market_with_an_open_window_takes_more_than_one_without() -> None:
    sizes = memory(200)
    assert 0 < sizes.held < sizes.open < 4_096


def test_an_entry_is_decided_with_markets_on_the_books() -> None:
    found = thinking(3, 200)
    assert found.held == 3
    assert 0 < found.p50_us <= found.p99_us


def test_an_unknown_core_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["executor"])
    assert "aggregator" in capsys.readouterr().err
