"""`config` shows what holds and where it is from, and what two files differ in."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from services.ctl.config import compare, config, everything, settings, settings_table
from services.ctl.errors import FINDING, UsageError
from services.ctl.session import Place
from shared.runtime.config import ConfigError, load
from tests.unit.ctl.test_ctl_show import page_of

OURS = "0x" + "ab" * 20
ANNA = "0x" + "cd" * 20
HEAD = f'mode = "demo"\naccount = {{ wallet = "{OURS}" }}\n'
LOCAL = '[venue]\nlocal_url = "http://127.0.0.1:8700"\n'
LEADER = f'[[leaders]]\nwallet = "{ANNA.upper().replace("X", "x")}"\n'


@pytest.fixture(autouse=True)
def _plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, without anybody's addresses."""
    for name in ("DRIFTLESS_CONFIG", "DRIFTLESS_NATS_URL", "DRIFTLESS_REDIS_URL",
                 "DRIFTLESS_LOCAL_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def write(text: str, name: str = "mine.toml") -> Path:
    path = Path(name)
    path.write_text(f"{HEAD}{LOCAL}{text}")
    return path


def origins(text: str, **environ: str) -> dict[str, tuple[str, str, str]]:
    found = settings(Place(config_path=write(text), environ=environ))
    return {each.key: (each.value, each.origin, each.otherwise) for each in found}


def test_a_setting_is_from_the_file_the_preset_or_by_default() -> None:
    found = origins('[risk]\npreset = "cautious"\ntrade_usd_max = 7.5\nretry_ms = 1000\n')
    assert found["risk.preset"] == ("cautious", "file", "balanced")
    assert found["risk.trade_usd_max"] == ("7.5", "file", "10")
    assert found["risk.retry_ms"] == ("1000", "file", "1000")
    assert found["risk.market_usd_max"] == ("40", "preset cautious", "40")
    assert found["risk.tick_ms"] == ("250", "default", "250")
    assert found["mode"] == ("demo", "file", "")
    assert found["account.wallet"] == (OURS, "file", "")
    assert found["venue.clob_url"][:2] == ("http://127.0.0.1:8700", "default")


def test_a_preset_without_a_name_is_the_default() -> None:
    assert origins("")["risk.trade_usd_max"] == ("50", "default", "50")


def test_addresses_may_be_from_the_environment() -> None:
    found = origins(
        '[nats]\nurl = "nats://mine:4222"\n',
        DRIFTLESS_NATS_URL="nats://theirs:4222",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://theirs:4318",
    )
    assert found["nats.url"][:2] == ("nats://theirs:4222", "environment")
    assert found["telemetry.otlp_endpoint"][:2] == ("http://theirs:4318", "environment")
    assert found["redis.url"][1] == "default"
    named = '[telemetry]\notlp_endpoint = "http://mine:4318"\n'
    found = origins(named, OTEL_EXPORTER_OTLP_ENDPOINT="http://theirs:4318")
    assert found["telemetry.otlp_endpoint"] == ("http://mine:4318", "file", "")


def test_nested_tables_are_found_where_they_stand() -> None:
    tier = "[[leaders.tiers]]\nfrom_usd = 100\nscale_bps = 5000\n"
    found = origins(f'{LEADER}trade_usd = 3\n{tier}[[risk.categories]]\nname = "NBA"\n')
    assert found[f"leaders.{ANNA}.trade_usd"] == ("3", "file", "10")
    assert found[f"leaders.{ANNA}.sizing"] == ("fixed", "default", "fixed")
    assert found[f"leaders.{ANNA}.tiers[0].from_usd"] == ("100", "file", "")
    assert found["risk.categories[0].name"] == ("nba", "file", "")
    assert found["risk.categories[0].scale_bps"] == ("10000", "default", "")
    assert f"leaders.{ANNA}.quiet_ms" not in found


def test_the_table_names_the_leader_and_marks_what_was_changed() -> None:
    path = write(f'{LEADER}name = "[red]Anna"\ntrade_usd = 3\n')
    page = page_of(settings_table(path, settings(Place(config_path=path, environ={}))))
    (line,) = (line for line in page.splitlines() if ".trade_usd " in line)
    assert [cell.strip() for cell in line.split("│")[1:5]] == [
        "leaders.[red]Anna.trade_usd", "3", "file", "10",
    ]  # fmt: skip
    assert "risk.allowed_markets" in page


def test_every_setting_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(LEADER)
    config(path, None, True)
    told: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out)
    assert told["file"] == "mine.toml"
    keys = [each["key"] for each in told["settings"]]
    assert keys == list(everything(load(path, environ={})))
    assert set(told["settings"][0]) == {"key", "value", "origin", "otherwise"}


def test_two_files_are_compared_as_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    mine = write('[risk]\npreset = "cautious"\n')
    yours = write(f'[risk]\npreset = "cautious"\ntrade_usd_max = 10\nretry_ms = 5\n{LEADER}',
                  "yours.toml")  # fmt: skip
    changes = {key: (before, after) for key, before, after in compare(mine, yours)}
    assert changes["risk.retry_ms"] == ("1000", "5")
    assert changes[f"leaders.{ANNA}.trade_usd"] == ("", "10")
    assert "risk.trade_usd_max" not in changes
    with pytest.raises(typer.Exit) as caught:
        config(mine, yours, False)
    assert caught.value.exit_code == FINDING
    page = capsys.readouterr().out
    assert "What yours.toml has different" in page
    assert "leaders.0xcdcdcdcd.trade_usd" in page


def test_a_difference_is_told_to_machines_too(capsys: pytest.CaptureFixture[str]) -> None:
    mine, yours = write(""), write("[risk]\nretry_ms = 5\n", "yours.toml")
    with pytest.raises(typer.Exit):
        config(mine, yours, True)
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "same": False,
        "differences": [{"key": "risk.retry_ms", "before": "1000", "after": "5"}],
    }
    config(mine, mine, True)
    assert msgspec.json.decode(capsys.readouterr().out) == {"same": True, "differences": []}


def test_files_that_come_to_the_same_are_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    config(write(""), write("[risk]\nretry_ms = 1000\n", "yours.toml"), False)
    assert capsys.readouterr().out == "mine.toml and yours.toml come to the same settings\n"


def test_what_cannot_be_used_is_an_error_of_its_file() -> None:
    mine = write("")
    with pytest.raises(ConfigError, match=r"yours\.toml: risk\.retry: unknown key"):
        config(mine, write("[risk]\nretry = 1\n", "yours.toml"), False)
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        config(Path("absent.toml"), None, False)
    with pytest.raises(UsageError, match="nothing runs here"):
        config(None, None, False)
