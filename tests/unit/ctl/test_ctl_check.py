"""`check` judges clocks, keys and leaders without reading a secret."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.ctl.check import code_of, key, leaders, relayer_key, table
from services.ctl.check_venue import line_of, venue
from services.ctl.errors import AWAY, FINDING, OK
from services.ctl.lines import Line
from services.paper_venue.config import Funded
from services.paper_venue.config import VenueConfig as VenueSettings
from services.paper_venue.server import running
from shared.domain.ids import Wallet
from shared.domain.units import Usd
from shared.polymarket import probes
from shared.polymarket.orders import Signer
from shared.polymarket.probing import ALL, PUBLIC, WITH_KEY
from shared.runtime.config import AccountConfig, Config, LeaderConfig, VenueConfig
from shared.runtime.secrets import PRIVATE_KEY, RELAYER_KEY
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


@pytest.mark.parametrize(
    ("signature_type", "mode", "outcome"),
    [(0, None, "ok"), (3, None, "fail"), (3, 0o600, "ok"), (3, 0o644, "fail")],
)
def test_redeeming_wants_a_private_relayer_key_of_wallets_that_are_contracts(
    tmp_path: Path, signature_type: int, mode: int | None, outcome: str
) -> None:
    path = tmp_path / "relayer"
    path.write_text("5ec3e7")
    path.chmod(mode or 0o600)
    account = AccountConfig(
        wallet=WALLET,  # type: ignore[arg-type]
        signature_type=signature_type,
        relayer_key_file=str(path) if mode else None,
    )
    line = relayer_key(msgspec.structs.replace(config(), account=account), {})
    assert (line.name, line.outcome) == ("relayer key", outcome)
    assert "5ec3e7" not in line.found + line.cure
    if mode:
        environ = {f"{RELAYER_KEY}_FILE": str(path)}
        account = msgspec.structs.replace(account, relayer_key_file=None)
        assert relayer_key(msgspec.structs.replace(config(), account=account), environ) == line


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


# --- who else gets at the key's file --------------------------------------------------------------


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "key"
    path.parent.mkdir(mode=0o700)
    path.write_text("not looked at")
    path.chmod(0o600)
    return path


def test_a_link_is_judged_by_what_it_names(held: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(held)
    assert key(config(str(link)), {}).outcome == "ok"
    held.chmod(0o640)
    line = key(config(str(link)), {})
    assert (line.outcome, line.cure) == ("fail", f"chmod 600 {held}")
    assert str(link) in line.found
    held.unlink()
    assert key(config(str(link)), {}).outcome == "fail"


def test_who_may_write_a_directory_may_replace_the_key_in_it(held: Path) -> None:
    held.parent.chmod(0o770)
    line = key(config(str(held)), {})
    assert (line.outcome, line.cure) == ("fail", f"chmod go-w {held.parent}")
    held.parent.chmod(0o1777)  # sticky, as /tmp is: others may not
    assert key(config(str(held)), {}).outcome == "ok"


def test_the_directory_of_the_link_counts_too(held: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "link").symlink_to(held)
    open_to_all.chmod(0o777)
    line = key(config(str(open_to_all / "link")), {})
    assert (line.outcome, line.cure) == ("fail", f"chmod go-w {open_to_all}")


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    assert key(config(str(tmp_path)), {}).outcome == "fail"


# --- the probes of the venue ----------------------------------------------------------------------

SIGNER = Signer.from_hex("0x" + "9a" * 32)  # a throw-away key


@pytest.fixture
async def local() -> AsyncIterator[tuple[Config, httpx.AsyncClient]]:
    wallet = Wallet(SIGNER.address.lower())
    funded = VenueSettings(accounts=(Funded(wallet=wallet, usd=Usd(100_000_000)),))
    async with running(funded) as served, httpx.AsyncClient(base_url=served.url) as admin:
        book = {"slug": "one", "bids": [["0.47", "120"]], "asks": [["0.5", "25000"]]}
        await admin.post("/admin/market", json=book)
        account = AccountConfig(wallet=wallet)
        venue_config = VenueConfig(local_url=served.url)
        yield Config(mode="paper", account=account, venue=venue_config), admin


async def lines(settings: Config, **options: Any) -> dict[str, Line]:
    environ = {PRIVATE_KEY: "0x" + "9a" * 32}
    found = await venue(settings, environ, stream_s=0.2, **options)
    return {line.name.removeprefix("probe: "): line for line in found}


async def test_every_probe_is_shown_and_those_that_need_the_key_say_so(
    local: tuple[Config, httpx.AsyncClient],
) -> None:
    found = await lines(local[0])
    assert tuple(found) == ALL
    assert {name for name, line in found.items() if line.outcome == "skip"} == set(WITH_KEY)
    assert "--with-key" in found["allowances"].found
    assert found["activity stream"].outcome == "warn"  # silent; in live mode it would be a failure
    assert {found[name].outcome for name in PUBLIC if name != "activity stream"} == {"ok"}


async def test_with_the_key_they_are_made(local: tuple[Config, httpx.AsyncClient]) -> None:
    settings, admin = local
    await admin.post("/admin/account", json={"address": SIGNER.address, "closed_only": True})
    found = await lines(settings, with_key=True)
    assert {name: found[name].outcome for name in WITH_KEY} == {
        **dict.fromkeys(WITH_KEY, "ok"),
        "closed only": "fail",
    }
    assert "expected an account that may open" in found["closed only"].found


async def test_a_waived_probe_warns(local: tuple[Config, httpx.AsyncClient]) -> None:
    settings, admin = local
    await admin.post("/admin/geoblock", json={"blocked": True, "country": "GB"})
    assert (await lines(settings))["geoblock"].outcome == "fail"
    executor = msgspec.structs.replace(settings.executor, probes_waived=("geoblock",))
    waived = msgspec.structs.replace(settings, executor=executor)
    assert (await lines(waived))["geoblock"].outcome == "warn"


async def test_a_venue_that_is_away_fails_once_and_the_rest_was_not_asked() -> None:
    found = await lines(config())
    assert found["venue"].outcome == "fail"
    assert {line.outcome for name, line in found.items() if name != "venue"} == {"skip"}
    assert set(found) == {"venue", *ALL}


async def test_an_unanswered_probe_fails_where_real_money_is() -> None:
    silent = probes.unanswered("geoblock", "not blocked", "timed out")
    assert line_of(silent, config()).outcome == "warn"
    assert line_of(silent, config(mode="live")).outcome == "fail"


async def test_a_leader_without_activity_is_named(local: tuple[Config, httpx.AsyncClient]) -> None:
    settings, admin = local
    made = (await admin.post("/admin/market", json={"slug": "two", "asks": [["0.5", "99"]]})).json()
    busy, idle = "0x" + "1e" * 20, "0x" + "2f" * 20
    fill = {"condition": made["condition"], "outcome": 0, "side": "BUY", "size": "5"}
    await admin.post("/admin/fill", json={"wallet": busy, **fill, "immediate": True})
    leaders = tuple(LeaderConfig(wallet=Wallet(each)) for each in (busy, idle))
    found = await lines(msgspec.structs.replace(settings, leaders=leaders))
    named = {name: line.outcome for name, line in found.items() if name.startswith("leader")}
    assert named == {f"leader {idle[:10]}": "warn"}
