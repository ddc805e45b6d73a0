"""`reload` checks a file here, shows what it changes, and waits for what risk says to it."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.ctl.asking import LANE, UnansweredError
from services.ctl.commands import choice
from services.ctl.errors import CtlError, UsageError
from services.ctl.reload import (
    Known,
    changes_table,
    check,
    exchange,
    in_force,
    names_in,
    needs_restart,
    places,
    tell_before,
)
from services.ctl.rundir import Run, record
from shared.domain.changes import difference
from shared.domain.messages import Batch, ConfigChanged, FeedChanged, ReloadConfig
from shared.domain.units import Usd
from shared.runtime.clock import ManualClock
from shared.runtime.config import Config, LeaderConfig, config_hash
from shared.runtime.memory import MemoryLedger
from shared.runtime.settings import decode_config, flat
from tests.unit.ctl.ctl_facts import LEADER
from tests.unit.ctl.test_ctl_commands import CONFIG, RISK_LANE, STRANGER, head, refused, risk
from tests.unit.ctl.test_ctl_show import page_of

SMALLER = msgspec.structs.replace(
    CONFIG, risk=msgspec.structs.replace(CONFIG.risk, trade_usd_max=Usd(25_000_000))
)
CHANGE = ("risk.trade_usd_max", "50", "25")


def obeyed(command: Any) -> ConfigChanged:
    """Be risk: say what the settings that came are different in."""
    wanted = decode_config(command.config)
    changes = difference(flat(CONFIG), flat(wanted))
    return ConfigChanged(
        **head(command, "config_changed"), changes=changes, hash=config_hash(wanted), actor="ctl"
    )


async def reloaded(wanted: Config, *answers: Any, before: Known | None = None) -> dict[str, Any]:
    ledger = MemoryLedger()
    async with risk(ledger, *answers):
        return await exchange(ledger, before, wanted, "news", ManualClock(), deadline_s=0.3)


def known(config: Config = CONFIG) -> Known:
    return Known(values=flat(config), hash=config_hash(config))


async def test_the_settings_travel_whole_and_the_answer_says_what_changed() -> None:
    ledger = MemoryLedger()
    async with risk(ledger, obeyed):
        done = await exchange(ledger, known(), SMALLER, "news", ManualClock(), deadline_s=0.3)
    entry = await ledger.last(LANE)
    assert entry is not None
    assert entry.batch is not None
    (command,) = entry.batch.facts
    assert isinstance(command, ReloadConfig)
    assert decode_config(command.config) == SMALLER
    assert (command.reason, command.actor) == ("news", "ctl")
    assert set(done) == {"changed", "changes", "hash", "text", "command_seq", "fact"}
    assert done["changes"] == [
        {"key": CHANGE[0], "before": "50", "after": "25", "restart": False},
    ]  # fmt: skip
    assert done["text"] == f"1 setting changed (settings {config_hash(SMALLER)[:8]})"
    assert (done["changed"], done["command_seq"]) == (True, entry.seq)


async def test_what_needs_a_restart_is_counted() -> None:
    executor = msgspec.structs.replace(SMALLER.executor, tick_ms=100)
    done = await reloaded(msgspec.structs.replace(SMALLER, executor=executor), obeyed)
    assert done["text"].startswith("2 settings changed; 1 of them only after a restart (settings ")


async def test_a_refusal_is_an_error_with_its_reason() -> None:
    with pytest.raises(CtlError, match="refused the settings, the old ones hold: no leader"):
        await reloaded(SMALLER, refused)


async def test_no_answer_is_an_error() -> None:
    with pytest.raises(UnansweredError, match="risk has not answered"):
        await exchange(MemoryLedger(), None, SMALLER, "", ManualClock(), deadline_s=0.05)


async def test_settings_in_force_already_are_not_sent() -> None:
    ledger = MemoryLedger()
    done = await exchange(ledger, known(), CONFIG, "", ManualClock(), deadline_s=0.05)
    assert await ledger.head() == 0
    assert done["text"] == "these settings are in force already: nothing to do"
    assert not done["changed"]


async def test_what_is_in_force_is_the_sum_of_all_changes() -> None:
    ledger = MemoryLedger()
    assert await in_force(ledger) is None
    first = choice(LEADER, "", 1, keep=None)
    values = (("a", "", "1"), ("b", "", "2"), ("c", "", "3"))
    said = 0
    for number, changes in enumerate((values, (("a", "1", "9"), ("b", "2", "")))):
        fact = ConfigChanged(**head(first, f"config_changed {number}"), changes=changes,
                             hash=f"{number}", actor="ctl")  # fmt: skip
        other = FeedChanged(**head(first, f"feed {number}"), feed="x", state="gap")
        facts = (fact, other) if number else (fact,)
        batch = Batch(epoch=1, through=0, facts=facts)
        said = await ledger.append(RISK_LANE, batch, key="facts", after=said)
    assert await in_force(ledger) == Known(values={"a": "9", "c": "3"}, hash="1")


@pytest.mark.parametrize(
    ("key", "restart"),
    [
        ("risk.trade_usd_max", False), ("risk.categories[0].scale_bps", False),
        ("risk.tick_ms", True), ("aggregator.quiet_ms", False), ("aggregator.tick_ms", True),
        (f"leaders.{LEADER}.trade_usd", False), (f"leaders.{LEADER}.quiet_ms", False),
        (f"leaders.{LEADER}.tiers[0].from_usd", False), (f"leaders.{LEADER}.wallet", True),
        ("executor.order_ttl_ms", True), ("ingester.poll_interval_ms", True),
        ("reconciler.interval_ms", True), ("mode", True),
    ],
)  # fmt: skip
def test_what_is_read_only_at_a_start_is_known(key: str, *, restart: bool) -> None:
    assert needs_restart(key) is restart


def test_every_setting_that_decides_is_judged_by_a_key_that_exists() -> None:
    at_once = {key.split(".")[0] for key in flat(CONFIG) if not needs_restart(key)}
    assert at_once == {"risk", "aggregator", "leaders"}


def test_the_changes_are_a_table_with_what_needs_a_restart() -> None:
    named = msgspec.structs.replace(CONFIG, leaders=(LeaderConfig(wallet=LEADER, name="[b]Ann"),))
    changes = (
        CHANGE, (f"leaders.{LEADER}.trade_usd", "10", ""), ("executor.tick_ms", "250", "100"),
    )  # fmt: skip
    page = page_of(changes_table("Changed", changes, names_in(named)))
    rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in page.splitlines()]
    assert [*CHANGE, "at once"] in rows
    assert ["leaders.[b]Ann.trade_usd", "10", "-", "at once"] in rows
    assert ["executor.tick_ms", "250", "100", "after a restart"] in rows


def test_what_differs_is_shown_before_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell_before(known(), SMALLER, Path("mine.toml")) == (CHANGE,)
    page = capsys.readouterr().out
    assert "What mine.toml has different from what is in force" in page
    assert "risk.trade_usd_max" in page
    assert tell_before(known(), CONFIG, Path("mine.toml")) == ()
    assert capsys.readouterr().out == ""
    assert tell_before(None, SMALLER, Path("mine.toml")) == ()
    assert "the ledger does not say" in capsys.readouterr().out


def test_what_no_reload_can_do_is_refused_here() -> None:
    other = msgspec.structs.replace(CONFIG.account, wallet=STRANGER)
    with pytest.raises(UsageError, match=r"mine\.toml: account\.wallet is another account"):
        check(msgspec.structs.replace(CONFIG, account=other), CONFIG, Path("mine.toml"))
    with pytest.raises(UsageError, match=r"mine\.toml: mode = demo, but .* in paper mode"):
        check(msgspec.structs.replace(CONFIG, mode="demo"), CONFIG, Path("mine.toml"))
    check(SMALLER, CONFIG, Path("mine.toml"))


def test_a_file_goes_to_what_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DRIFTLESS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    theirs, mine = tmp_path / "theirs.toml", tmp_path / "mine.toml"
    running, file = places(mine)
    assert (running.config_path, file.config_path, running.run) == (mine, mine, None)
    with pytest.raises(UsageError, match="nothing runs here"):
        places(None)
    here = Run(pid=os.getpid(), kind="up", directory=str(tmp_path), config=str(theirs),
               environ={"DRIFTLESS_NATS_URL": "nats://a:1"})  # fmt: skip
    record(here)
    running, file = places(mine)
    assert (running.config_path, file.config_path) == (theirs, mine)
    assert file.environ["DRIFTLESS_NATS_URL"] == running.environ["DRIFTLESS_NATS_URL"]
    running, file = places(None)
    assert running == file
