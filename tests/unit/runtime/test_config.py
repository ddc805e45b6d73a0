"""Settings: what is refused is refused with its key, its value and what to write instead."""

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.domain.units import Usd
from shared.runtime.config import (
    AggregatorConfig,
    CategoryConfig,
    Config,
    ConfigError,
    IngesterConfig,
    LeaderConfig,
    RiskConfig,
    TierConfig,
    VenueConfig,
    config_hash,
    load,
    load_private_key,
)
from shared.runtime.presets import PRESETS
from shared.runtime.sections import build

DEPLOYED = Path(__file__).parents[3] / "deploy" / "config"
OURS = "0x" + "ab" * 20
LEADER = "0x" + "cd" * 20
HEAD = f'mode = "demo"\naccount = {{ wallet = "{OURS}" }}\n'
LOCAL = '[venue]\nlocal_url = "http://127.0.0.1:8700"\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


def read(path: Path, **environ: str) -> Config:
    return load(path, environ=environ)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[risk]\ntick_s = 1", "risk.tick_s", "did you mean tick_ms?"),
        ("[risk]\ntrade_max = 1", "risk.trade_max", "did you mean trade_usd_max?"),
        ("[riks]\ntick_ms = 1", "riks", "did you mean risk?"),
        ("[qqq]\ntick_ms = 1", "qqq", "known here are mode, account"),
        ("[risk]\ntick_ms = 0", "risk.tick_ms", "= 0: must be between 1 and 86400000"),
        ("[risk]\ntick_ms = 1.5", "risk.tick_ms", "= 1.5: Expected int"),
        ('[risk]\ntick_ms = "250"', "risk.tick_ms", "Expected int, got str"),
        ("[risk]\ntick_ms = true", "risk.tick_ms", "Expected int, got bool"),
        ("[risk]\nprice_max = 98", "risk.price_max", "= 98: must be between 0 and 1"),
        ("[risk]\nprice_min = 0.99", "risk.price_min", "must be below price_max"),
        ("[risk]\ntrade_usd_max = 0.0000001", "risk.trade_usd_max", "at most 6 decimals"),
        ("[risk]\ntrade_usd_max = true", "risk.trade_usd_max", "must be a decimal number"),
        ('[risk]\ntrade_usd_max = "ten"', "risk.trade_usd_max", "must be a decimal number"),
        ("[risk]\ntrade_usd_max = -1", "risk.trade_usd_max", "= -1: must be between 0 and"),
        ("[risk]\nbook_age_ms_max = 70000", "risk.book_age_ms_max", "book_dead_ms"),
        ("[aggregator]\nquiet_ms = 20000", "aggregator.quiet_ms", "age_max_ms = 10000"),
        ("[aggregator]\nflush_on_reduction = 1", "aggregator.flush_on_reduction", "bool"),
        ("[ingester]\nvolatility_horizons_s = 60", "ingester.volatility_horizons_s", "[a, b]"),
        (
            "[ingester]\nvolatility_horizons_s = [10, 0]",
            "ingester.volatility_horizons_s[1]",
            "= 0: must be between 1 and 3600",
        ),
        (
            "[ingester]\nvolatility_horizons_s = [1.5]",
            "ingester.volatility_horizons_s[0]",
            "Expected int",
        ),
        ('[telemetry]\nlog_level = "LOUD"', "telemetry.log_level", "DEBUG, INFO"),
        ("[telemetry]\nsample_ratio = 1.5", "telemetry.sample_ratio", "between 0 and 1"),
        ('[telemetry]\notlp_endpoint = "jaeger:4318"', "telemetry.otlp_endpoint", "http://"),
        ('[nats]\nurl = "http://x"', "nats.url", "begins with nats://"),
        ('[redis]\nurl = "redis://:pw@x"', "redis.url", "must hold no password"),
        ("leaders = 3", "leaders", "write [[leaders]] before each"),
        ('[[leaders]]\nname = "a"', "leaders[0].wallet", "is missing"),
        ('[[leaders]]\nwallet = "0x12"', "leaders[0].wallet", "40 hex digits"),
        (f'[[leaders]]\nwallet = "{OURS}"', "leaders[0].wallet", "our own account"),
        (f'[[leaders]]\nwallet = "{LEADER}"\n' * 2, "leaders[1].wallet", "listed twice"),
        (f'[[leaders]]\nwallet = "{LEADER}"\nquiet_ms = 20000', "leaders[0].quiet_ms", "age_max"),
        (f'[[leaders]]\nwallet = "{LEADER}"\ntrade_usd = 0', "leaders[0].trade_usd", "0.000001"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(write, text: str, key: str, says: str) -> None:
    head, separator, rest = text.partition("\n")
    inline = f"{head}{separator}{rest}"
    order = f"{HEAD}{inline}\n{LOCAL}" if head.startswith("leaders") else f"{HEAD}{LOCAL}{inline}"
    with pytest.raises(ConfigError) as caught:
        read(write(order))
    assert caught.value.key == key
    assert says in str(caught.value)
    assert str(caught.value).count("settings.toml") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode = ", "is not valid TOML"),
        (f'account = {{ wallet = "{OURS}" }}\n{LOCAL}', "mode: is missing"),
        (f'mode = "demo"\n{LOCAL}', "account.wallet: is missing"),
        (f'mode = "fast"\naccount = {{ wallet = "{OURS}" }}', "one of demo, paper, live"),
        ('mode = "demo"\naccount = 5', "account = 5: must be a table"),
        ('mode = "demo"\naccount = { wallet = "0x1" }', "account.wallet = 0x1"),
        (HEAD, "demo mode must not send orders there"),
        (HEAD.replace("demo", "live") + LOCAL, "live mode needs the venue's own"),
        (
            HEAD.replace("demo", "live") + '[venue]\nclob_url = "http://clob.example"',
            "live mode needs the venue's own",
        ),
        (
            HEAD.replace("demo", "paper") + LOCAL + 'clob_url = "https://CLOB.Polymarket.com"',
            "paper mode must not send orders there",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(write, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.toml") as caught:
        read(write(text))
    assert says in str(caught.value)


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config PATH or set DRIFTLESS_CONFIG"):
        read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("written", "micro"),
    [("0.1", 100_000), ("0.3", 300_000), ("1234.567891", 1_234_567_891), ('"0.7"', 700_000),
     ("7", 7_000_000), ("1e2", 100_000_000), ("0", 0)],
)  # fmt: skip
def test_money_is_converted_digit_for_digit(write, written: str, micro: int) -> None:
    config = read(write(f"{HEAD}{LOCAL}[risk]\ntrade_usd_max = {written}"))
    assert config.risk.trade_usd_max == Usd(micro)


def test_a_list_of_numbers_is_read_as_one(write) -> None:
    horizons = "[ingester]\nvolatility_horizons_s = "
    for written, read_as in (("[1, 3600]", (1, 3_600)), ("[]", ())):
        config = read(write(f"{HEAD}{LOCAL}{horizons}{written}"))
        assert config.ingester.volatility_horizons_s == read_as
    assert IngesterConfig().volatility_horizons_s == (10, 60, 300)


def test_a_struct_built_in_code_is_checked_too() -> None:
    with pytest.raises(ValueError, match="tick_ms = -1: must be between"):
        RiskConfig(tick_ms=-1)
    with pytest.raises(ValueError, match="quiet_ms = 5000"):
        AggregatorConfig(quiet_ms=5_000, age_max_ms=4_000)


def test_a_local_venue_gives_every_address_and_an_explicit_one_wins() -> None:
    venue = VenueConfig(local_url="http://127.0.0.1:8700/", data_url="https://data.example")
    assert venue.clob_url == venue.gamma_url == "http://127.0.0.1:8700"
    assert venue.data_url == "https://data.example"
    assert venue.market_ws_url == "ws://127.0.0.1:8700/ws/market"
    assert venue.user_ws_url == "ws://127.0.0.1:8700/ws/user"
    assert venue.activity_ws_url == "ws://127.0.0.1:8700/rtds"


def test_live_mode_goes_to_the_venue_itself(write) -> None:
    venue = read(write(HEAD.replace("demo", "live"))).venue
    assert venue.clob_url == "https://clob.polymarket.com"
    assert venue.activity_ws_url == "wss://ws-live-data.polymarket.com"


def test_wallets_are_lower_case_inside(write) -> None:
    text = f'{HEAD}{LOCAL}[[leaders]]\nwallet = "{"0x" + "CD" * 20}"\n'
    assert read(write(text.replace("ab" * 20, "AB" * 20))).account.wallet == OURS
    assert read(write(text)).leaders[0].wallet == LEADER


def test_the_environment_replaces_addresses(write) -> None:
    config = read(
        write(HEAD),
        DRIFTLESS_LOCAL_URL="http://127.0.0.1:1",
        DRIFTLESS_NATS_URL="nats://127.0.0.1:2",
        DRIFTLESS_REDIS_URL="unix:///run/redis.sock",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
    )
    assert config.venue.clob_url == "http://127.0.0.1:1"
    assert (config.nats.url, config.redis.url) == ("nats://127.0.0.1:2", "unix:///run/redis.sock")
    assert config.telemetry.otlp_endpoint == "http://127.0.0.1:4318"


def test_the_file_names_the_collector_before_the_environment(write) -> None:
    text = f'{HEAD}{LOCAL}[telemetry]\notlp_endpoint = "http://mine:4318"'
    config = read(write(text), OTEL_EXPORTER_OTLP_ENDPOINT="http://other:4318")
    assert config.telemetry.otlp_endpoint == "http://mine:4318"


def test_the_hash_names_the_settings_and_no_secret(write) -> None:
    path = write(HEAD + LOCAL)
    plain = read(path)
    assert config_hash(plain) == config_hash(read(path, DRIFTLESS_PRIVATE_KEY="1" * 64))
    changed = msgspec.structs.replace(plain, risk=RiskConfig(tick_ms=251))
    assert config_hash(changed) != config_hash(plain)
    assert len(config_hash(plain)) == 32


def test_the_signing_key_comes_from_one_place(write, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0x" + "12" * 32 + "\n")
    key.chmod(0o600)
    config = read(write(f"{HEAD.replace('}', f', key_file = {str(key)!r} }}')}{LOCAL}"))
    assert load_private_key(config, {}).reveal() == "0x" + "12" * 32


@pytest.mark.parametrize("name", ["demo.toml", "paper.toml", "live.example.toml"])
def test_the_deployed_files_load(name: str) -> None:
    assert read(DEPLOYED / name).mode == name.partition(".")[0]


def uncommented(name: str) -> dict[str, Any]:
    """Return a deployed file as it reads with every setting in a comment written out."""
    text = (DEPLOYED / name).read_text()
    return tomllib.loads(
        re.sub(r"^# (?=\[\[|\w+ = )", "", text, flags=re.MULTILINE), parse_float=Decimal
    )


def test_the_paper_file_lists_every_setting_with_its_default() -> None:
    config, written = read(DEPLOYED / "paper.toml"), uncommented("paper.toml")
    for section in ("telemetry", "ingester", "aggregator", "risk", "executor", "reconciler"):
        kind = type(getattr(config, section))
        assert getattr(config, section) == kind(), section
        assert set(written[section]) == set(kind.__struct_fields__), section
        shown = {key: value for key, value in written[section].items() if key != "categories"}
        assert build(kind, shown, f"{section}.") == kind()
    for section in ("account", "nats", "redis", "venue"):
        assert set(written[section]) == set(type(getattr(config, section)).__struct_fields__)


def test_the_paper_file_lists_every_key_of_a_leader_and_a_category() -> None:
    written = uncommented("paper.toml")
    risk, windows = RiskConfig(), AggregatorConfig()
    (table,) = written["leaders"]
    leader = build(LeaderConfig, table, "leaders[0].")
    plain = LeaderConfig(wallet=leader.wallet)
    assert set(table) == set(LeaderConfig.__struct_fields__)
    for key in set(table) - {"tiers", "entry_age_max_ms"}:
        value = getattr(plain, key)
        default = getattr(windows, key, getattr(risk, key, None)) if value is None else value
        assert getattr(leader, key) == default, key
    assert leader.entry_age_max_ms == risk.entry_age_ms_max
    assert all(set(tier) == set(TierConfig.__struct_fields__) for tier in table["tiers"])
    (category,) = written["risk"]["categories"]
    assert set(category) == set(CategoryConfig.__struct_fields__)
    assert build(CategoryConfig, category).name == category["name"]


def test_the_paper_file_leaves_to_the_preset_what_it_names() -> None:
    """So that another preset is one word in the file; whoever writes a key overrides it."""
    written = tomllib.loads((DEPLOYED / "paper.toml").read_text())["risk"]
    left = set(RiskConfig.__struct_fields__) - set(written) - {"categories"}
    assert left == {key for values in PRESETS.values() for key in values}


def test_the_live_example_risks_little() -> None:
    risk = read(DEPLOYED / "live.example.toml").risk
    assert risk.preset == "cautious"
    assert risk.total_usd_max <= Usd(100_000_000)
    assert risk.total_equity_bps_max > 0
