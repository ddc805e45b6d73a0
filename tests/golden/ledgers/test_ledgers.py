"""Ledgers that released versions wrote keep folding to what was held, wanted and believed then.

Each folder is an archive (`driftless archive`) of a short real run, and `expected.json`, what
`driftless replay --json` said of it in the version that wrote it. A shape that changes gets a new
folder beside the old ones; none is ever edited.
"""

from pathlib import Path

import msgspec
import pytest

from services.ctl.figures import Names, json_text
from services.ctl.replay import past_json
from services.lab.archive import Archive
from services.lab.past import fold
from services.lab.replay import verify
from shared.domain.messages import kind_of
from shared.runtime.memory import MemoryLedger, MemoryStore
from shared.runtime.ports import UndecodableError

HERE = Path(__file__).parent
LEDGERS = sorted(path for path in HERE.iterdir() if (path / "manifest.json").exists())


@pytest.mark.parametrize("folder", LEDGERS, ids=lambda path: path.name)
async def test_a_ledger_of_every_version_folds_to_what_was_believed(folder: Path) -> None:
    past = await fold(Archive(folder))
    told = msgspec.json.decode(json_text(past_json(past, Names(), 0)))
    expected = msgspec.json.decode((folder / "expected.json").read_bytes())
    assert {key: told[key] for key in expected} == expected


@pytest.mark.parametrize("folder", LEDGERS, ids=lambda path: path.name)
async def test_a_ledger_of_every_version_verifies(folder: Path) -> None:
    reports = await verify(Archive(folder), MemoryStore())
    assert all(report.identical for report in reports), reports


async def test_they_say_most_of_what_can_be_said() -> None:
    kinds = {
        kind_of(said.fact) for folder in LEDGERS for said in (await fold(Archive(folder))).recent
    }
    assert len(kinds) >= 30


async def spoiled(find: bytes, put: bytes) -> tuple[MemoryLedger, int]:
    """Return a recorded ledger with one thing changed in the first message that has it."""
    ledger, at = MemoryLedger(), 0
    for line in Archive(LEDGERS[0]).lines():
        data = line.payload
        if not at and find in data:
            data, at = data.replace(find, put, 1), line.seq
        ledger.inject(line.subject, data)
    assert at
    return ledger, at


@pytest.mark.parametrize(
    ("find", "put", "why"),
    [
        (b'"kind":"order_filled"', b'"kind":"order_dreamt"', "order_dreamt"),
        (b'"settlement":"MATCHED",', b"", "settlement"),
        (b'"maker_amount":', b'"maker_sum":', "maker_amount"),
        (b'"side":"BUY"', b'"side":"KEEP"', "KEEP"),
    ],
)
async def test_what_no_version_wrote_is_refused_with_its_place(
    find: bytes, put: bytes, why: str
) -> None:
    ledger, at = await spoiled(find, put)
    with pytest.raises(UndecodableError, match=rf"message {at} .*{why}"):
        await fold(ledger)


async def test_a_fact_that_does_not_fit_the_state_before_it_is_refused() -> None:
    """A fill of an order that was never prepared: the message that prepared it is missing."""
    ledger = MemoryLedger()
    for line in Archive(LEDGERS[0]).lines():
        if b'"kind":"order_prepared"' not in line.payload:
            ledger.inject(line.subject, line.payload)
    with pytest.raises(UndecodableError, match="does not fit the state of executor"):
        await fold(ledger)
