"""Presets: valid by themselves, in order, and beneath whatever the file says."""

from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from shared.domain.units import Usd
from shared.runtime.config import Config, ConfigError, RiskConfig, load
from shared.runtime.presets import PRESETS, with_preset
from shared.runtime.sections import build

ORDER = ("cautious", "balanced", "aggressive")
HEAD = f'mode = "demo"\naccount = {{ wallet = "0x{"ab" * 20}" }}\n'
LOCAL = '[venue]\nlocal_url = "http://127.0.0.1:8700"\n'

# What "larger" means to risk: a cap allows more, a floor less, and 0 turns a share of equity off.
Direction = Literal["cap", "floor", "share", "word"]
DIRECTIONS: dict[str, Direction] = {
    "price_min": "floor",
    "end_s_min": "floor",
    "end_full_s": "floor",
    "taker_delay": "word",
    **{
        f"{of}_equity_bps_max": "share"
        for of in ("trade", "leader", "market", "event", "category", "total")
    },
}


def preset(name: str) -> RiskConfig:
    return build(RiskConfig, with_preset({"risk": {"preset": name}})["risk"], "risk.")


def read(tmp_path: Path, risk: str) -> Config:
    path = tmp_path / "settings.toml"
    path.write_text(f"{HEAD}{LOCAL}[risk]\n{risk}\n")
    return load(path, environ={})


def boldness(name: str, key: str) -> int:
    value = getattr(preset(name), key)
    match DIRECTIONS.get(key, "cap"):
        case "floor":
            return -int(value)
        case "share":
            return int(value) or 10_001
        case "word":
            return ("refuse", "allow").index(value)
        case "cap":
            return int(value)


@pytest.mark.parametrize("name", ORDER)
def test_a_preset_is_valid_and_keeps_its_name(name: str) -> None:
    assert preset(name).preset == name
    assert set(PRESETS[name]) < set(RiskConfig.__struct_fields__) - {"preset"}


def test_balanced_is_the_defaults() -> None:
    assert preset("balanced") == RiskConfig()


@pytest.mark.parametrize("key", sorted({*PRESETS["cautious"], *PRESETS["aggressive"]}))
def test_presets_grow_bolder_in_one_direction(key: str) -> None:
    bold = [boldness(name, key) for name in ORDER]
    assert bold == sorted(bold)
    assert bold[0] < bold[-1]


@pytest.mark.parametrize("name", ORDER)
def test_the_caps_of_a_preset_are_nested(name: str) -> None:
    risk = preset(name)
    assert risk.trade_usd_max <= risk.market_usd_max <= risk.event_usd_max
    assert risk.event_usd_max <= risk.category_usd_max <= risk.total_usd_max
    assert risk.trade_usd_max <= risk.leader_usd_max <= risk.total_usd_max
    assert risk.daily_loss_usd_max <= risk.total_usd_max
    assert risk.feed_fresh_ms < risk.feed_dead_ms


def test_cautious_turns_the_caps_in_percent_on() -> None:
    risk = preset("cautious")
    shares = [getattr(risk, key) for key, way in DIRECTIONS.items() if way == "share"]
    assert all(0 < each < 10_000 for each in shares)


def test_what_the_file_says_wins_over_the_preset(tmp_path: Path) -> None:
    config = read(tmp_path, 'preset = "cautious"\ntrade_usd_max = 12.5')
    assert config.risk.trade_usd_max == Usd(12_500_000)
    assert config.risk.total_usd_max == preset("cautious").total_usd_max
    assert config.risk.preset == "cautious"


def test_a_file_without_a_preset_has_balanced(tmp_path: Path) -> None:
    assert read(tmp_path, "").risk == preset("balanced")


def test_a_preset_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    for written in ('"wild"', "3", '["cautious"]', "{ name = 1 }"):
        with pytest.raises(ConfigError, match=r"one of cautious, balanced, aggressive") as caught:
            read(tmp_path, f"preset = {written}")
        assert caught.value.key == "risk.preset"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            'preset = "cautious"\ndaily_loss_usd_max = 5',
            "risk.daily_loss_free_usd = 10: must not exceed daily_loss_usd_max = 5 "
            "(preset cautious has that: write risk.daily_loss_free_usd too)",
        ),
        (
            "drawdown_usd_max = 5",
            "risk.drawdown_free_usd = 100: must not exceed drawdown_usd_max = 5 "
            "(the default: write risk.drawdown_free_usd too)",
        ),
        (
            'preset = "cautious"\nend_full_s = 30',
            "risk.end_full_s = 30: must be 0 (caps do not shrink) or at least end_s_min = 60",
        ),
    ],
)
def test_a_limit_that_the_file_does_not_hold_is_said_to_be_of_the_preset(
    tmp_path: Path, written: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, written)
    assert str(caught.value).endswith(says)


def test_merging_leaves_the_file_as_it_was() -> None:
    table = {"risk": {"preset": "cautious", "price_min": Decimal("0.1")}, "mode": "demo"}
    merged = with_preset(table)
    assert table == {"risk": {"preset": "cautious", "price_min": Decimal("0.1")}, "mode": "demo"}
    assert merged["risk"]["price_min"] == Decimal("0.1")
    assert with_preset({"risk": 3}) == {"risk": 3}
