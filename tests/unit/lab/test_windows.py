"""Window statistics: each against sums done by hand, and the core against one asked every tick."""

import gzip
import json
import os
import sys
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec
import pytest

from services.aggregator.core import Policies, State, decide, evolve
from services.lab.window_runs import (
    LATE_S,
    Plan,
    Run,
    _arrivals,
    _facts,
    default_policy,
    fee,
    plans,
    run,
)
from services.lab.window_sets import SETS, UNKNOWN, Fill, WindowsError, read
from services.lab.window_sheets import Sheet, markdown, renew, sheets
from services.lab.window_stats import flips, pairs, shape, splits
from services.lab.window_study import Findings, find, study
from services.lab.windows import main
from shared.domain.messages import IntentFormed, Tick, WindowNetted
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Bps, Price, Shares

BESIDE = Path(__file__).parents[3].parent / "shared" / "data"
RECORDED = Path(os.environ.get("DRIFTLESS_RECORDED", BESIDE))
DOCUMENT = Path(__file__).parents[3] / "docs" / "windows.md"
AT_ONCE = Plan(name="at once", policy=default_policy(), late=False)
MARKET_WIDE, STREAM = SETS[4], SETS[5]


def a_row(at_s: int, size: float = 10, price: float = 0.5, **other: Any) -> Fill:
    fill = Fill(
        wallet="0xa", market="m", outcome=0, side="BUY", tx="", at_s=1_790_000_000 + at_s,
        price=Price(round(price * MICRO)), size=Shares(round(size * MICRO)),
    )  # fmt: skip
    return msgspec.structs.replace(fill, **other)


# --- statistics -------------------------------------------------------------------------------


def test_fills_that_come_at_once_are_counted_by_transaction_where_there_is_one() -> None:
    by_second = shape([a_row(0), a_row(0, 4), a_row(1), a_row(1, wallet="0xb", market="n")])
    assert (by_second.by, by_second.at_once, by_second.at_once_most) == ("second", 4 / 3, 2)
    assert (by_second.wallets, by_second.markets, by_second.notional) == (2, 2, 17)
    assert (by_second.small_fills, by_second.small_notional) == (1 / 4, 2 / 17)
    by_tx = shape([a_row(0, tx="1"), a_row(0, tx="2"), a_row(9, tx="2", wallet="0xb")])
    assert (by_tx.by, by_tx.at_once, by_tx.at_once_most) == ("transaction", 1, 1)


def test_a_burst_ends_with_a_gap_longer_than_the_window() -> None:
    fills = [a_row(0, 10), a_row(0, 30), a_row(2, 20), a_row(5, 40)]  # 5, 15, 10 and 20 dollars
    found = [splits(fills, window_s) for window_s in (0, 2, 3)]
    assert [(f.fills, f.notional, f.a_burst, f.most) for f in found] == [
        (2 / 4, 20 / 50, 4 / 3, 2),
        (3 / 4, 30 / 50, 4 / 2, 3),
        (1, 1, 4, 4),
    ]


@pytest.mark.parametrize(
    "other", [{"wallet": "0xb"}, {"market": "n"}, {"outcome": 1}, {"side": "SELL"}], ids=str
)
def test_a_burst_is_of_one_wallet_token_and_side(other: dict[str, Any]) -> None:
    assert splits([a_row(0), a_row(0, **other)], 60).fills == 0
    assert splits([a_row(0), a_row(0, **other), a_row(1)], 60).fills == 2 / 3


def test_a_flip_reverses_the_previous_fill_of_its_token_within_the_window() -> None:
    fills = [
        a_row(0, 10),
        a_row(1, 99, outcome=1, side="SELL"),  # another token is no flip
        a_row(3, 4, side="SELL"),  # 3 s after the buy
        a_row(4, 2, side="SELL"),
        a_row(9, 6),  # 5 s after the sale
    ]
    gross = (10 + 99 + 4 + 2 + 6) / 2
    found = [flips(fills, window_s) for window_s in (2, 3, 5, 60)]
    assert [f and (f.fills, f.cancelled) for f in found] == [
        (0, 0),
        (1 / 5, 2 * 2 / gross),  # the window of the buy holds 4 shares sold, worth 2 dollars
        (2 / 5, 2 * 3 / gross),
        (2 / 5, 2 * 3 / gross),
    ]


def test_both_outcomes_of_a_market_pair_and_one_outcome_nets_itself() -> None:
    fills = [
        a_row(0, 10),
        a_row(2, 6, outcome=1),
        a_row(2, 4, side="SELL"),
        a_row(2, 20, market="n", outcome=1),
    ]
    together = pairs(fills, 2)  # by token 6 + 6 + 20 of 40, by market 0 + 20
    assert together is not None
    assert (together.by_token, together.by_market, together.paired) == (0.8, 0.5, 0.8 - 0.5)
    apart = pairs(fills, 1)  # 10, then 6 of NO and 4 of YES sold add up
    assert apart is not None
    assert (apart.by_token, apart.by_market) == (1, 1)


def test_what_a_set_does_not_say_is_not_measured() -> None:
    assert flips([a_row(0), a_row(0, side="")], 5) is None
    assert pairs([a_row(0), a_row(0, outcome=UNKNOWN)], 5) is None


# --- runs of the core -------------------------------------------------------------------------


def test_fills_in_a_window_become_one_intent_that_waits_for_quiet() -> None:
    found = run([a_row(0), a_row(0), a_row(2, 20)], AT_ONCE)
    assert (found.fills, found.intents, found.netted, found.orders) == (3, 1, 0, 1)
    assert found.closed_by == {"quiet": 1}
    assert found.gross == found.net == 20
    # 2 s after the last fill, at the next tick: 4.025 s after the first ones.
    assert (found.delay_p50_ms, found.delay_p99_ms) == (4025, 4025)
    assert found.delay_dollar_ms == 2025  # half of the dollars came last


def test_a_busy_window_closes_at_its_age() -> None:
    found = run([a_row(at_s) for at_s in range(0, 12, 2)], AT_ONCE)
    assert found.closed_by == {"max_age": 1}
    assert found.delay_p99_ms == 10_025


def test_a_pair_is_nothing_to_follow_by_market_and_two_orders_by_token() -> None:
    fills = [a_row(0, 10, 0.45), a_row(1, 10, 0.53, outcome=1)]
    by_market = run(fills, AT_ONCE)
    assert (by_market.intents, by_market.netted, by_market.orders) == (0, 1, 0)
    assert (by_market.net, by_market.fee_net, by_market.delay_p99_ms) == (0, 0, 0)
    by_token = run(fills, msgspec.structs.replace(AT_ONCE, by_token=True))
    assert (by_token.intents, by_token.netted, by_token.orders) == (2, 0, 2)
    assert by_token.net == by_token.gross == pytest.approx(4.5 + 5.3)
    fees = 10 * 0.05 * (0.45 * 0.55 + 0.53 * 0.47)
    assert by_token.fee_net == by_token.fee_each == by_market.fee_each == pytest.approx(fees)


def test_an_intent_that_crosses_zero_is_two_orders() -> None:
    found = run([a_row(0, 10, 0.4), a_row(60, 30, 0.7, outcome=1)], AT_ONCE)
    assert (found.intents, found.orders) == (2, 3)
    assert found.closed_by == {"quiet": 1, "reduction": 1}
    # 10 bought at 0.4; then 10 sold at 0.3 and 20 of the other outcome bought at 0.7.
    assert found.net == pytest.approx(4 + 3 + 14)
    assert found.reduction_p50 == pytest.approx(3 + 14)
    assert found.fee_net == pytest.approx(0.05 * (10 * 0.4 * 0.6 + 30 * 0.3 * 0.7))
    assert found.delay_p50_ms == 25  # the next tick


def test_what_is_worth_much_closes_at_once() -> None:
    found = run([a_row(0, 900, 0.5), a_row(0, 100, 0.5)], AT_ONCE)
    assert found.closed_by == {"notional": 1}
    assert (found.net, found.delay_p99_ms) == (500, 0)


def test_what_was_sold_and_never_bought_was_held_from_the_start() -> None:
    fills = [
        a_row(0, 10, 0.6, side="SELL"),  # 12 held leave 2
        a_row(60, 4),
        a_row(120, 6, side="SELL"),  # none are left
        a_row(180, 3),
        a_row(240, 1, side="SELL"),
    ]
    found = run(fills, AT_ONCE)
    assert found.closed_by == {"reduction": 3, "quiet": 2}
    assert found.net == pytest.approx(6 + 2 + 3 + 1.5 + 0.5)
    assert found.reduction_p50 == 3  # of 6, 3 and a half


def test_where_outcomes_are_not_named_every_fill_is_of_one() -> None:
    rows = [a_row(0, outcome=UNKNOWN), a_row(1, 4, outcome=UNKNOWN, side="SELL")]
    assert run(rows, AT_ONCE).net == 3


def test_fills_told_late_are_told_in_an_order_that_repeats() -> None:
    fills = [a_row(at_s) for at_s in range(0, 400, 2)]
    late = msgspec.structs.replace(AT_ONCE, late=True)
    assert run(fills, late) == run(fills, late) != run(fills, AT_ONCE)
    told = _facts([a_row(at_s) for at_s in range(400)], by_token=False)
    arrivals = _arrivals(told, late=True)
    times = [at_ns for at_ns, _ in arrivals]
    assert times == sorted(times)
    waits = [at_ns - fact.ts_ns for at_ns, fact in arrivals]
    assert LATE_S[0] * NS_PER_S <= min(waits) < max(waits) <= LATE_S[1] * NS_PER_S
    assert 0.75 < median(waits) / NS_PER_S < 0.85


def test_a_second_may_overtake_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.lab.window_runs.LATE_S", (0, 5, 1))
    told = _facts([a_row(at_s) for at_s in range(100)], by_token=False)
    arrivals = _arrivals(told, late=True)
    assert [at_ns for at_ns, _ in arrivals] == sorted(at_ns for at_ns, _ in arrivals)
    assert [fact for _, fact in arrivals] != told


@pytest.mark.parametrize("seed", range(4))
def test_the_ticks_that_are_left_out_change_nothing(seed: int) -> None:
    random = Random(seed)
    fills = sorted(
        (
            a_row(
                random.randrange(90), random.choice([0.005, 1, 30, 400]),
                random.choice([0.2, 0.5, 0.9]), wallet=random.choice("ab"),
                outcome=random.randrange(2),
            )
            for _ in range(60)
        ),
        key=lambda fill: fill.at_s,
    )  # fmt: skip
    rules = msgspec.structs.replace(default_policy(), net_share=Bps(random.choice([0, 3_000])))
    found = run(fills, msgspec.structs.replace(AT_ONCE, policy=rules))
    policies, state, waiting = Policies(default=rules), State(), _facts(fills, by_token=False)
    intents, netted = [], 0
    end_ns = waiting[-1].ts_ns + 130 * NS_PER_S
    for now_ns in range(waiting[0].ts_ns, end_ns, 25 * NS_PER_MS):
        messages: list[object] = []
        while waiting and waiting[0].ts_ns <= now_ns:
            messages.append(waiting.pop(0))
        if now_ns % (50 * NS_PER_MS):
            messages.append(Tick(now_ns))
        for message in messages:
            for fact in decide(policies, state, message, now_ns):
                evolve(state, fact)
                netted += isinstance(fact, WindowNetted)
                intents += [fact] if isinstance(fact, IntentFormed) else []
    assert (found.intents, found.netted) == (len(intents), netted)
    assert found.closed_by == {
        reason: len([i for i in intents if i.closed_by == reason])
        for reason in {intent.closed_by for intent in intents}
    }
    assert found.intents > 5


def test_a_fee_is_largest_at_a_half() -> None:
    assert fee(500_000, 100 * MICRO) == pytest.approx(1.25)
    assert fee(900_000, 100 * MICRO) == fee(100_000, 100 * MICRO) == pytest.approx(0.45)


def test_plans_have_names_of_their_own_and_begin_with_what_is_deployed() -> None:
    names = [plan.name for plan in plans()]
    assert len(names) == len(set(names))
    assert plans()[0] == Plan(name="default", policy=default_policy())
    assert (default_policy().quiet_ns, default_policy().age_ns_max) == (2 * 10**9, 10 * 10**9)


# --- files ------------------------------------------------------------------------------------

ACTIVITY = {
    "proxyWallet": "0xa", "conditionId": "0xc", "timestamp": 7, "type": "TRADE", "size": 2.5,
    "price": 0.25, "side": "SELL", "outcomeIndex": 1, "transactionHash": "0xt",
}  # fmt: skip


def a_folder(tmp_path: Path, *rows: dict[str, object]) -> Path:
    folder = tmp_path / "data-api-activity-raw-2026-02"
    folder.mkdir(parents=True)
    content = json.dumps(rows or [ACTIVITY]).encode()
    (folder / "one_activity.json.gz").write_bytes(gzip.compress(content))
    return tmp_path


def test_activity_is_read_in_the_order_of_time_without_what_is_no_trade(tmp_path: Path) -> None:
    redeemed = ACTIVITY | {"type": "REDEEM", "outcomeIndex": 999, "side": ""}
    early = ACTIVITY | {"timestamp": 6, "outcomeIndex": 0}
    fills = read(SETS[2], a_folder(tmp_path, ACTIVITY, redeemed, early))
    assert fills is not None
    assert [fill.at_s for fill in fills] == [6, 7]
    assert fills[1] == Fill(
        wallet="0xa", market="0xc", outcome=1, side="SELL", price=Price(250_000),
        size=Shares(2_500_000), at_s=7, tx="0xt",
    )  # fmt: skip


def test_text_is_read_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "gabagool22-fills-2025-12"
    folder.mkdir()
    text = "wallet,market_slug,ts,outcome,price,size\n0xa,slug,9,Down,0.3,84.0\n"
    (folder / "fills.csv.gz").write_bytes(gzip.compress(text.encode()))
    fills = read(SETS[0], tmp_path)
    assert fills is not None
    assert [(f.outcome, f.side, f.size, f.tx) for f in fills] == [(1, "BUY", 84_000_000, "")]


def test_a_parquet_file_is_read(tmp_path: Path) -> None:
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    folder = tmp_path / MARKET_WIDE.folder
    folder.mkdir()
    columns = {
        "user_id": ["0xa"], "market_id": ["0xc"], "timestamp": ["9"], "side": ["BUY"],
        "price": [0.5], "size": [2.0], "id": ["0xt"],
    }  # fmt: skip
    parquet.write_table(pyarrow.table(columns), folder / "market_wide_x.parquet")
    fills = read(MARKET_WIDE, tmp_path)
    assert fills is not None
    assert [(f.outcome, f.at_s, f.tx) for f in fills] == [(UNKNOWN, 9, "0xt")]


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / STREAM.folder
    folder.mkdir()
    (folder / "realtime_trades.parquet").write_bytes(b"")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(WindowsError, match=r"needs pyarrow.*pip install -e '.\[dev\]'"):
        read(STREAM, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"outcomeIndex": 2}, {"price": "half"}, {"timestamp": None}], ids=str
)
def test_a_row_that_is_no_fill_is_named_with_its_file(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(WindowsError, match=r"one_activity.json.gz: not a row of fills"):
        read(SETS[2], a_folder(tmp_path, ACTIVITY | wrong))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gabagool22-fills-2025-12"
    folder.mkdir()
    (folder / "fills.xlsx").write_bytes(b"")
    with pytest.raises(WindowsError, match=r"neither .parquet nor .csv.gz nor .json.gz"):
        read(SETS[0], tmp_path)


# --- the command ------------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_wrong_directory_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert "nowhere: not a directory" in failed(capsys, str(tmp_path / "nowhere"))
    unwritable = tmp_path / "nowhere" / "windows.md"
    here = a_folder(tmp_path / "data")
    assert "No such file" in failed(capsys, str(here), "--out", str(unwritable))
    said = failed(capsys, str(tmp_path))
    assert "none of the recorded sets is here" in said
    assert all(of.folder in said for of in SETS)


def test_a_missing_set_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    main([str(a_folder(tmp_path)), "--json"])
    out, err = capsys.readouterr()
    found = msgspec.json.decode(out, type=Findings)
    assert [one.of.name for one in found.studies] == ["small bots"]
    assert len(found.absent) == len(SETS) - 1
    assert "pair builder: nothing at" in err
    assert [told.plan for told in found.studies[0].runs] == [plan.name for plan in plans()]


def test_tables_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    document = tmp_path / "windows.md"
    main([str(a_folder(tmp_path)), "--out", str(document)])
    assert "small bots: the aggregator's core under other policies" in capsys.readouterr().out
    written = document.read_text()
    assert "| small bots | three small machines" in written
    document.write_text("Before.\n" + written.replace("| 1 |", "| 2 |") + "After.\n")
    main([str(tmp_path), "--out", str(document)])
    assert document.read_text() == "Before.\n" + written + "After.\n"


def test_only_what_stands_between_markers_is_renewed(tmp_path: Path) -> None:
    document = tmp_path / "one.md"
    sheet = Sheet(name="a", title="t", header=("set", "y"), rows=[("1", "2")], note="n")
    other = "<!-- begin b -->\nkept\n<!-- end b -->"
    document.write_text(f"one\n<!-- begin a -->\nold\n<!-- end a -->\ntwo\n{other}\n")
    renew(document, [sheet])
    table = "| set | y |\n| --- | ---: |\n| 1 | 2 |\n\nn\n"
    assert markdown(sheet) == table
    assert document.read_text() == (
        f"one\n<!-- begin a -->\n{table}<!-- end a -->\ntwo\n{other}\n"
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "<!-- begin a -->\n", "<!-- end a -->\n<!-- begin a -->\n"])
def test_a_document_without_a_place_is_left_alone(tmp_path: Path, text: str) -> None:
    document = tmp_path / "one.md"
    document.write_text(text)
    with pytest.raises(WindowsError, match="no place for a table: <!-- begin a -->"):
        renew(document, [Sheet(name="a", title="t", header=("x",), rows=[])])
    assert document.read_text() == text


def test_a_set_without_outcomes_is_not_netted_by_token() -> None:
    plan = msgspec.structs.replace(AT_ONCE, by_token=True)
    told = study(MARKET_WIDE, [a_row(0, outcome=UNKNOWN)], lambda _: None, (AT_ONCE, plan))
    assert [each.plan for each in told.runs] == ["at once"]
    silent = study(STREAM, [a_row(0, side="", outcome=UNKNOWN)], lambda _: None, (AT_ONCE,))
    assert (silent.runs, silent.flips, silent.pairs) == ([], [], [])
    names = [sheet.name for sheet in sheets(Findings(studies=[told, silent], absent=[]))]
    assert names == ["sets", "splits", "flips", "pairs", "runs whole venue"]


def test_a_table_says_what_the_runs_say() -> None:
    rows = [a_row(0), a_row(0), a_row(60, 4, side="SELL")]
    sheet = sheets(Findings(studies=[study(SETS[1], rows, lambda _: None, (AT_ONCE,))], absent=[]))[
        -1
    ]
    each, told = (dict(zip(sheet.header, row, strict=True)) for row in sheet.rows)
    assert (each["policy"], each["orders"], each["fees saved"]) == ("each fill copied", "3", "0 %")
    assert (told["intents"], told["orders saved"], told["fills an intent"]) == ("2", "33 %", "1.50")
    assert (told["reductions"], told["median of these"]) == ("50 %", "$2.00")
    assert (told["net / gross"], told["taker fees"], told["fees saved"]) == ("100 %", "$0", "0 %")
    assert (told["delay p50"], told["p99"], told["of the median dollar"]) == (
        "2.02 s",
        "2.02 s",
        "2.02 s",
    )
    assert "0.05 * p * (1 - p)" in sheet.note


# --- the recorded data ------------------------------------------------------------------------


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data sets are not here")
def test_recorded_sets_are_what_their_description_says() -> None:
    pytest.importorskip("pyarrow")
    sweeps, stream = read(SETS[1], RECORDED), read(STREAM, RECORDED)
    assert sweeps is not None
    assert stream is not None
    told = shape(sweeps)
    assert (told.fills, told.wallets, round(told.notional)) == (1_173, 2, 677_418)
    bursts = [splits(sweeps, window_s) for window_s in (0, 5, 60)]
    assert [(round(100 * b.fills), round(100 * b.notional)) for b in bursts] == [
        (45, 40),
        (65, 56),
        (82, 78),
    ]
    assert (shape(stream).fills, shape(stream).wallets) == (9_824, 2_553)
    found: Run = run(sweeps, AT_ONCE)
    assert found.net == pytest.approx(found.gross)  # they only buy, of one outcome at a time


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data sets are not here")
def test_the_document_holds_what_the_command_says(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / SETS[1].folder).symlink_to(RECORDED / SETS[1].folder)
    found = find(tmp_path, lambda _: None)
    sheet = sheets(found)[-1]
    assert sheet.name == "runs sweepers"
    renewing = "renew it: python -m services.lab.windows DATA_DIR --out docs/windows.md"
    assert markdown(sheet) in DOCUMENT.read_text(), renewing
