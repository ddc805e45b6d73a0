"""`check` judges clocks, keys and leaders without reading a secret."""

from pathlib import Path

import pytest

from services.ctl.check import code_of, key, leaders, table
from services.ctl.errors import AWAY, FINDING, OK
from services.ctl.lines import Line
from shared.runtime.config import AccountConfig, Config, LeaderConfig, VenueConfig
from shared.runtime.secrets import PRIVATE_KEY
from tests.unit.ctl.ctl_facts import LEADER
from tests.unit.ctl.test_ctl_show import page_of

WALLET = "0x" + "22" * 20


def config(key_file: str | None = None, mode: str = "paper") -> Config:
    local = None if mode == "live" else "http://127.0.0.1:1"
    return Config(
        mode=mode,  # type: ignore[arg-type]
        account=AccountConfig(wallet=WALLET, key_file=key_file),  # type: ignore[arg-type]
        venue=VenueConfig(local_url=local),
    )


def test_a_key_file_of_ones_own_is_right(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("not looked at")
    path.chmod(0o600)
    assert key(config(str(path)), {}).outcome == "ok"
    assert key(config(), {f"{PRIVATE_KEY}_FILE": str(path)}).outcome == "ok"


def test_a_key_that_others_can_read_fails_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("5ec3e7")
    path.chmod(0o644)
    line = key(config(str(path)), {})
    assert (line.outcome, line.cure) == ("fail", f"chmod 600 {path}")
    assert "5ec3e7" not in line.found


def test_a_key_in_the_environment_is_a_warning_that_hides_it() -> None:
    line = key(config(), {PRIVATE_KEY: "5ec3e7"})
    assert line.outcome == "warn"
    assert "5ec3e7" not in line.found + line.cure


def test_only_live_fails_without_a_key(tmp_path: Path) -> None:
    assert key(config(), {}).outcome == "warn"
    assert key(config(mode="live"), {}).outcome == "fail"
    assert key(config(str(tmp_path / "absent")), {}).outcome == "fail"


def test_nobody_to_follow_is_a_warning() -> None:
    assert leaders(config()).outcome == "warn"
    one = Config(
        mode="paper",
        account=AccountConfig(wallet=WALLET),  # type: ignore[arg-type]
        venue=VenueConfig(local_url="http://127.0.0.1:1"),
        leaders=(LeaderConfig(wallet=LEADER, name="Ann"),),
    )
    assert leaders(one).found == "1: Ann"


@pytest.mark.parametrize(
    ("failed", "code"),
    [([], OK), (["key"], FINDING), (["key", "Redis"], AWAY), (["NATS"], AWAY)],
)
def test_the_code_says_what_kind_of_thing_fails(failed: list[str], code: int) -> None:
    lines = [Line(name="configuration", outcome="ok", found="")]
    lines += [Line(name=name, outcome="fail", found="x", cure="do y") for name in failed]
    assert code_of(lines) == code
    assert page_of(table(lines)).count("-> do y") == len(failed)
