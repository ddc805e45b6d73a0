"""Tapes: what is written is read back, what is wrong is said with its line, data sets import."""

from pathlib import Path

import msgspec
import pytest

import services.paper_venue
from services.paper_venue.importers import (
    RESOLVED_MARKETS_ATTRIBUTION,
    import_gabagool,
    import_resolved_markets,
    load_tape,
)
from services.paper_venue.tape import (
    BookRecord,
    FillRecord,
    Header,
    MarketRecord,
    ResolveRecord,
    Tape,
    TapeError,
    invented_condition,
    invented_token,
    market_of,
    parse_tape,
    read_tape,
    write_tape,
)

RECORDINGS = Path(services.paper_venue.__file__).parent / "recordings"
DATA = Path(__file__).parents[3].parent / "shared" / "data"
CONDITION = invented_condition("one")
MARKET = MarketRecord(
    condition=CONDITION,
    tokens=(invented_token("one", 0), invented_token("one", 1)),
    outcomes=("Yes", "No"),
    slug="one",
)
TAPE = Tape(
    header=Header(version=1, attribution="made up", label="test"),
    markets=(MARKET,),
    records=(
        BookRecord(t_ms=1, condition=CONDITION, bids=(("0.4", "5"),), asks=(("0.5", "6.5"),)),
        FillRecord(
            t_ms=2,
            wallet="0x" + "1" * 40,
            condition=CONDITION,
            outcome=1,
            side="BUY",
            price="0.6",
            size="3",
        ),
        ResolveRecord(t_ms=3, condition=CONDITION, payouts=("1", "0")),
    ),
)
HEADER = b'{"kind":"tape","version":1}'
MARKET_LINE = (
    f'{{"kind":"market","condition":"{CONDITION}","tokens":["1","2"],"outcomes":["Y","N"]}}'
).encode()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_written_tape_reads_back_the_same(tmp_path: Path, name: str) -> None:
    write_tape(TAPE, tmp_path / name)
    assert read_tape(tmp_path / name) == TAPE
    first = (tmp_path / name).read_bytes()
    write_tape(TAPE, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def record(text: str) -> bytes:
    return text.replace("CID", CONDITION).encode()


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "is empty; a tape begins with its header line"),
        ([MARKET_LINE], "tape:1: the first line must be the header"),
        ([b'{"kind":"tape","version":2}'], "tape:1: tape version 2; this reads 1"),
        ([HEADER, b"{"], r"tape:2: .*; fix or remove this line"),
        ([HEADER, b'{"kind":"boook"}'], "tape:2: Invalid value 'boook'"),
        ([HEADER, record('{"kind":"book","t_ms":1,"condition":"CID"}')], "tape:2: .*no market rec"),
        (
            [
                HEADER,
                MARKET_LINE,
                record('{"kind":"book","t_ms":5,"condition":"CID"}'),
                record('{"kind":"book","t_ms":4,"condition":"CID"}'),
            ],
            "tape:4: t_ms 4 is before 5; sort the records by t_ms",
        ),
        (
            [
                HEADER,
                MARKET_LINE,
                record(
                    '{"kind":"book","t_ms":1,"condition":"CID","bids":[["0.5","1"]],'
                    '"asks":[["0.5","1"]]}'
                ),
            ],
            "tape:3: the book is crossed",
        ),
        (
            [
                HEADER,
                MARKET_LINE,
                record('{"kind":"book","t_ms":1,"condition":"CID","bids":[["x","1"]]}'),
            ],
            "tape:3: not a whole number of micro-units",
        ),
        (
            [
                HEADER,
                MARKET_LINE,
                record('{"kind":"resolve","t_ms":1,"condition":"CID","payouts":["1","1"]}'),
            ],
            "tape:3: payouts .* do not add up to 1",
        ),
        (
            [
                HEADER,
                MARKET_LINE,
                record(
                    '{"kind":"fill","t_ms":1,"condition":"CID","wallet":"me","outcome":0,'
                    '"side":"BUY","price":"0.5","size":"1"}'
                ),
            ],
            "tape:3: not a wallet address",
        ),
    ],
)
def test_a_bad_line_is_named_with_what_to_fix(lines: list[bytes], complaint: str) -> None:
    with pytest.raises(TapeError, match=complaint):
        parse_tape(lines)


def test_files_that_are_no_tapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="cannot be read"):
        read_tape(tmp_path / "none.jsonl")
    (tmp_path / "bad.gz").write_bytes(b"not gzip")
    with pytest.raises(TapeError, match="not a gzip file"):
        read_tape(tmp_path / "bad.gz")
    with pytest.raises(TapeError, match="neither a tape file nor a recorded set"):
        load_tape(tmp_path)


def test_the_shipped_recording_is_sound_attributed_and_resolves() -> None:
    path = RECORDINGS / "btc15m-2026-09.tape.jsonl.gz"
    tape = load_tape(path)
    assert path.stat().st_size < 1_500_000
    assert tape.header.attribution == RESOLVED_MARKETS_ATTRIBUTION
    assert "CC BY 4.0" in (RECORDINGS / "DATA_LICENSE").read_text()
    resolved = [each.condition for each in tape.records if isinstance(each, ResolveRecord)]
    assert sorted(resolved) == sorted(market.condition for market in tape.markets)
    for market in tape.markets:
        assert market_of(market).fee_rate == 70_000
        books = [r for r in tape.records if r.condition == market.condition]
        assert len(books) > 500
        assert (market.category, market.tags[:2]) == ("crypto", ("crypto", "bitcoin"))


def test_a_market_s_labels_are_played() -> None:
    labelled = msgspec.structs.replace(MARKET, category="sports", tags=("nba", "lakers"))
    market = market_of(labelled)
    assert (market.category, market.tags) == ("sports", ("nba", "lakers"))
    assert market_of(MARKET).tags == ()


@pytest.mark.skipif(not DATA.exists(), reason="the recorded data sets are not here")
def test_the_recorded_set_imports_to_the_shipped_tape() -> None:
    shipped = load_tape(RECORDINGS / "btc15m-2026-09.tape.jsonl.gz")
    slugs = [market.slug for market in shipped.markets]
    assert import_resolved_markets(DATA / "resolved-markets-btc15m-l2", slugs=slugs) == shipped


@pytest.mark.skipif(not DATA.exists(), reason="the recorded data sets are not here")
def test_fills_with_a_top_of_book_import_in_step() -> None:
    tape = import_gabagool(DATA / "gabagool22-fills-2025-12", markets_max=1, minutes_max=30)
    assert "TOP OF BOOK ONLY" in tape.header.label
    fills = [each for each in tape.records if isinstance(each, FillRecord)]
    books = [each for each in tape.records if isinstance(each, BookRecord)]
    assert {each.wallet for each in fills} == {"0x6031b6eed1c97e853c6e0f03ad3ce3529351f96d"}
    assert all(len(book.bids) <= 1 and len(book.asks) <= 1 for book in books)
    overlap = [book for book in books if fills[0].t_ms <= book.t_ms <= fills[-1].t_ms]
    assert len(overlap) > 100, "the first day's clock is an hour ahead and must be corrected"


@pytest.mark.skipif(not DATA.exists(), reason="the recorded data sets are not here")
def test_unknown_markets_are_refused_by_name() -> None:
    with pytest.raises(TapeError, match="nowhere"):
        import_resolved_markets(DATA / "resolved-markets-btc15m-l2", slugs=["nowhere"])
