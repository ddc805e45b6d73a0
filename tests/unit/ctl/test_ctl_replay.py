"""What stood there: any message, any moment, from a ledger or an archive; and snapshots anew."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.ctl.__main__ import run
from services.ctl.errors import FINDING, OK, UsageError
from services.ctl.figures import Names
from services.ctl.rebuild import differences, rebuilt_json, table, venue_table, verdict
from services.ctl.replay import Until, past_json, read_until, screen
from services.lab.archive import write
from services.lab.past import fold
from services.lab.rebuilding import rebuild, save
from services.lab.replay import REGISTRY, verify
from shared.domain.ids import Wallet
from shared.domain.messages import Batch, OrderPrepared, kind_of
from shared.domain.observations import PositionReport
from shared.domain.positions import Position
from shared.domain.units import NS_PER_S, Shares
from shared.runtime.memory import MemoryLedger
from shared.runtime.ports import Entry, UndecodableError
from shared.runtime.runner import encode_state
from tests.unit.ctl.test_ctl_show import page_of
from tests.unit.lab.test_lab_replay import LANE, Doctored, lived, story

WALLET = Wallet("0x" + "ab" * 20)
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * NS_PER_S


class Timed(Doctored):
    """A ledger that stores a message a second, from noon on."""

    def _entry(self, seq: int) -> Entry:
        return msgspec.structs.replace(super()._entry(seq), time_ns=NOON + (seq - 1) * NS_PER_S)


async def timed() -> Timed:
    ledger, _ = await lived(story())
    found = Timed()
    found._log = ledger._log
    return found


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("", Until()),
        ("1234", Until(seq=1234)),
        ("11:59", Until(time_ns=NOON - 60 * NS_PER_S)),
        ("11:59:30.25", Until(time_ns=NOON - 29_750_000_000)),
        ("2026-11-23T11:00", Until(time_ns=NOON - 3_600 * NS_PER_S)),
        ("2026-11-23T13:00+02:00", Until(time_ns=NOON - 3_600 * NS_PER_S)),
        ("90s ago", Until(time_ns=NOON - 90 * NS_PER_S)),
        ("2h ago", Until(time_ns=NOON - 7_200 * NS_PER_S)),
    ],
)
def test_a_moment_is_told_in_many_ways(text: str, until: Until) -> None:
    assert read_until(text, NOON) == until


@pytest.mark.parametrize("text", ["12:01", "2027-01-01", "soon", "5x ago", "24:00", "-3"])
def test_no_moment_or_one_to_come_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_until(text, NOON)


async def test_any_message_gives_the_states_its_writers_had() -> None:
    ledger = await timed()
    states: dict[str, Any] = {}
    for seq in range(1, await ledger.head() + 1):
        batch, service = ledger._entry(seq).batch, ledger._entry(seq).subject.split(".")[1]
        assert batch is not None
        past = await fold(ledger, until=seq)
        if service in REGISTRY:
            kind, evolve = REGISTRY[service]
            state = states.setdefault(service, kind())
            for fact in batch.facts:
                evolve(state, fact)
        assert past.seq == seq
        told = {lane.service: encode_state(state) for lane, state in past.states.items()}
        assert told == {name: encode_state(state) for name, state in states.items()}


async def test_a_time_is_the_last_message_stored_by_then() -> None:
    ledger = await timed()
    past = await fold(ledger, until_ns=NOON + 4 * NS_PER_S + 1)
    assert (past.seq, past.stored_ns) == (5, NOON + 4 * NS_PER_S)
    assert (await fold(ledger, until_ns=NOON - 1)).seq == 0


async def test_an_order_is_open_between_its_record_and_its_end() -> None:
    ledger = await timed()
    seqs = {
        kind_of(fact): seq
        for seq in range(1, await ledger.head() + 1)
        for fact in (ledger._entry(seq).batch or Batch(epoch=0, through=0, facts=())).facts
    }
    before = past_json(await fold(ledger, until=seqs["order_prepared"] - 1), Names(), 3)
    during = past_json(await fold(ledger, until=seqs["order_prepared"]), Names(), 3)
    after = past_json(await fold(ledger), Names(), 3)
    assert [len(each["open_orders"]) for each in (before, during, after)] == [0, 1, 0]
    assert during["decisions"][-1]["kind"] == "order_prepared"
    assert (before["positions"], len(after["positions"])) == ([], 1)
    assert {"leader", "condition", "exposure", "target", "held", "cost"} == set(after["leaders"][0])
    page = page_of(screen(await fold(ledger, until=seqs["order_prepared"]), Names(), 3))
    assert "as of message" in page
    assert "open order 0x" in page
    assert "In step with the leaders" in page


async def test_what_cannot_be_read_ends_the_fold_with_its_place() -> None:
    ledger = await timed()
    ledger.change(7, b"{}")
    with pytest.raises(UndecodableError, match="message 7"):
        await fold(ledger)
    (prepared,) = [
        fact
        for seq in range(8, await ledger.head() + 1)
        for fact in (ledger._entry(seq).batch or Batch(epoch=0, through=0, facts=())).facts
        if isinstance(fact, OrderPrepared)
    ]
    assert prepared


async def test_an_archive_is_replayed_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    await write(await timed(), tmp_path, progress=lambda _done, _all: None)
    told = await asyncio.to_thread(run, ["replay", "--archive", str(tmp_path), "--json"])
    assert told == OK
    assert msgspec.json.decode(capsys.readouterr().out)["seq"] == len(story().facts)
    told = await asyncio.to_thread(run, ["verify", "--archive", str(tmp_path)])
    assert told == OK
    assert "lanes folded, without a snapshot to compare" in capsys.readouterr().out
    told = await asyncio.to_thread(
        run, ["replay", "--archive", str(tmp_path), "--until", "2026-11-23T11:00"]
    )
    assert told == FINDING
    assert "nothing was said before 2026-11-23 12:00:00.000 UTC" in capsys.readouterr().err


# --- rebuild ----------------------------------------------------------------------------------


async def test_a_spoiled_snapshot_is_made_anew() -> None:
    ledger, store = await lived(story())
    saved = store.snapshots[LANE.name]
    spoiled = saved.state.replace(b'"realised_today":250000', b'"realised_today":250001')
    store.snapshots[LANE.name] = msgspec.structs.replace(saved, state=spoiled)
    done = await rebuild(ledger, store, "risk", progress=lambda _: None)
    await save(store, done)
    (each,) = done
    assert each.difference is not None
    assert each.difference.path == "$.realised_today"
    assert not each.lost
    assert store.snapshots[LANE.name].state == saved.state
    assert all(report.identical for report in await verify(ledger, store))
    assert verdict(done).endswith("1 differed from their snapshot")
    assert "$.realised_today: 250001 is 250000" in page_of(table(done))
    assert rebuilt_json(done, None)["lanes"][0]["difference"] == "$.realised_today"


async def test_a_snapshot_that_outlived_its_ledger_is_known() -> None:
    _, store = await lived(story())
    (each,) = await rebuild(MemoryLedger(), store, "executor", progress=lambda _: None)
    assert each.lost
    assert each.after.said == 0
    assert each.after.epoch == store.snapshots["executor.00"].epoch, "its writer is not fenced"
    assert each.after.state == encode_state(REGISTRY["executor"][0]())


async def test_the_venues_positions_stand_beside_what_is_believed() -> None:
    ledger, store = await lived(story())
    done = await rebuild(ledger, store, "executor", progress=lambda _: None)
    ((token, held),) = done[0].state.holdings.items()

    def at_venue(size: int) -> PositionReport:
        return PositionReport(
            wallet=WALLET, condition=held.condition, token=token, outcome=0, size=Shares(size)
        )

    assert differences(done, [at_venue(held.position.shares)]) == []
    assert differences(done, [at_venue(5)]) == [(token, held.position.shares, 5)]
    assert differences(done, []) == [(token, held.position.shares, 0)]
    assert "To be corrected at the next start" in page_of(venue_table(differences(done, [])))
    assert "are the venue's" in page_of(venue_table([]))
    claim = msgspec.structs.replace(held, position=Position(), claim=Shares(7))
    done[0].state.holdings[token] = claim
    assert differences(done, [at_venue(7)]) == [], "the venue shows a claim until it is redeemed"
