"""What `up` and `demo` prepare: who is followed, which key, which delays, what is swept up."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.ctl.demo import _prepare, cast_of, delays_at, recorded_leaders
from services.ctl.errors import UsageError
from services.ctl.rundir import Run, record, runs
from services.ctl.stack import (
    KNOWN_WALLET,
    bundled_tape,
    descendants,
    executor_keys,
    resident_bytes,
    sweep,
    write_private,
)
from services.paper_venue.leaders import crowd
from services.paper_venue.tape import FillRecord, Header, MarketRecord, Tape, write_tape
from shared.runtime.config import AccountConfig, Config, VenueConfig, load
from shared.runtime.secrets import PRIVATE_KEY, RELAYER_KEY
from tests.unit.ctl.ctl_facts import CONDITION, NO, YES

BUSY, CALM = "0x" + "b0" * 20, "0x" + "ca" * 20


def tape_with(fills: list[str]) -> Tape:
    market = MarketRecord(condition=CONDITION, tokens=(YES, NO), outcomes=("Rain", "Dry"))
    return Tape(
        header=Header(version=1, attribution="recorded by somebody"),
        markets=(market,),
        records=tuple(
            FillRecord(
                t_ms=n, wallet=who, condition=CONDITION, outcome=0, side="BUY", price="0.5",
                size="10",
            )
            for n, who in enumerate(fills)
        ),
    )  # fmt: skip


def test_the_bundled_recording_is_played_to_synthetic_leaders_and_says_so() -> None:
    cast = cast_of(None, seed=1)
    assert cast.is_synthetic
    assert [who for who, _ in cast.leaders] == [leader.wallet for leader in crowd(1)]
    assert "Resolved Markets" in cast.attribution
    assert "synthetic, not real traders" in cast.attribution
    assert Path(cast.tape_path) == bundled_tape()
    assert cast.markets


def test_a_tape_with_fills_has_its_own_leaders_the_busiest_first(tmp_path: Path) -> None:
    path = tmp_path / "t.tape.jsonl"
    write_tape(tape_with([CALM, BUSY, BUSY]), path)
    cast = cast_of(str(path), seed=1)
    assert not cast.is_synthetic
    assert [who for who, _ in cast.leaders] == [BUSY, CALM]
    assert cast.attribution == "recorded by somebody; the leaders' fills are recorded ones"


def test_a_crowded_tape_is_followed_in_part() -> None:
    wallets = [f"0x{n:040x}" for n in range(1, 90)]
    assert len(recorded_leaders(tape_with(wallets))) == 50


def test_a_broken_tape_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.tape.jsonl"
    path.write_text('{"kind": "tape", "version": 1}\nnonsense\n')
    with pytest.raises(UsageError, match=r"t\.tape\.jsonl:2: .*fix or remove this line"):
        cast_of(str(path), seed=1)


@pytest.mark.parametrize(("speed", "rtds_ms"), [(1, 2_000), (10, 200), (0.5, 4_000), (1_000, 20)])
def test_the_venues_delays_are_in_the_recordings_time(speed: float, rtds_ms: int) -> None:
    assert delays_at(speed)["rtds_delay_ms"] == rtds_ms


@pytest.mark.parametrize("fills", [[], [BUSY, CALM]])
def test_the_written_configuration_is_one_that_services_load(
    fills: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.tape.jsonl"
    write_tape(tape_with(fills), path)
    cast = cast_of(str(path), seed=1)
    config, environ = _prepare(cast, tmp_path / "demo")
    loaded = load(config, environ={"DRIFTLESS_LOCAL_URL": "http://127.0.0.1:5"})
    assert loaded.mode == "demo"
    assert loaded.venue.clob_url == "http://127.0.0.1:5"
    assert [leader.wallet for leader in loaded.leaders] == [who for who, _ in cast.leaders]
    key = Path(environ[f"{PRIVATE_KEY}_FILE"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text() not in config.read_text()


def test_every_demonstration_has_a_key_of_its_own(tmp_path: Path) -> None:
    cast = cast_of(None, seed=1)
    keys = [_prepare(cast, tmp_path / name)[1][f"{PRIVATE_KEY}_FILE"] for name in ("a", "b")]
    assert Path(keys[0]).read_text() != Path(keys[1]).read_text()


# --- the executor's key under `up` ------------------------------------------------------------


def config(
    wallet: str = KNOWN_WALLET, *, local: bool = True, key_file: str | None = None
) -> Config:
    return Config(
        mode="paper" if local else "live",
        account=AccountConfig(wallet=wallet, key_file=key_file),  # type: ignore[arg-type]
        venue=VenueConfig(local_url="http://127.0.0.1:1" if local else None),
    )


@pytest.mark.parametrize("name", [PRIVATE_KEY, RELAYER_KEY])
def test_a_key_by_value_is_refused_without_showing_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        executor_keys(config(), {name: "5ec3e7"}, tmp_path)
    assert "5ec3e7" not in str(caught.value)
    assert f"{name}_FILE" in str(caught.value)


def test_a_named_key_file_goes_to_the_executor(tmp_path: Path) -> None:
    named = {f"{PRIVATE_KEY}_FILE": str(tmp_path / "mine")}
    assert executor_keys(config(), named, tmp_path) == named
    assert executor_keys(config(key_file="mine"), {}, tmp_path) == {}
    relayer = {f"{RELAYER_KEY}_FILE": str(tmp_path / "relayer")}
    assert executor_keys(config(key_file="mine"), relayer, tmp_path) == relayer


def test_the_known_wallet_has_its_known_key_at_the_local_venue_alone(tmp_path: Path) -> None:
    given = executor_keys(config(), {}, tmp_path)
    path = Path(given[f"{PRIVATE_KEY}_FILE"])
    assert int(path.read_text(), 16) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for other in (config(BUSY), config(local=False)):
        with pytest.raises(UsageError, match="no key for"):
            executor_keys(other, {}, tmp_path)


# --- processes --------------------------------------------------------------------------------


def test_descendants_are_found_and_the_dead_are_not(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert child.pid in descendants(os.getpid())
        assert resident_bytes(child.pid) > 0
    finally:
        child.kill()
        child.wait()
    assert child.pid not in descendants(os.getpid())
    assert resident_bytes(child.pid) == 0


def test_what_a_killed_demonstration_left_is_swept_up(tmp_path: Path) -> None:
    directory = tmp_path / "demo-1"
    write_private(directory / "key", "x")
    gone = Run(pid=2**22 - 1, kind="demo", directory=str(directory), config="c", environ={})
    living = Run(pid=os.getpid(), kind="up", directory=str(tmp_path / "up"), config="c", environ={})
    record(gone, tmp_path)
    record(living, tmp_path)
    said: list[str] = []
    sweep(said.append, tmp_path)
    assert runs(tmp_path) == [living]
    assert not directory.exists()
    assert said == ["clearing up after a demo that was killed"]
