"""Settings travel whole and are compared key by key, as a person writes them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.changes import difference
from shared.domain.ids import Wallet
from shared.domain.units import Bps, Price, Usd
from shared.runtime.config import (
    AccountConfig,
    CategoryConfig,
    Config,
    ConfigError,
    LeaderConfig,
    RiskConfig,
    TierConfig,
    VenueConfig,
    load,
)
from shared.runtime.settings import decode_config, encode, flat

DEPLOYED = Path(__file__).parents[3] / "deploy" / "config"
OURS = Wallet("0x" + "ab" * 20)
ANNA = Wallet("0x" + "cd" * 20)
BEN = Wallet("0x" + "ef" * 20)


def config(**sections: Any) -> Config:
    venue = VenueConfig(local_url="http://127.0.0.1:1")
    return Config(mode="demo", account=AccountConfig(wallet=OURS), venue=venue, **sections)


def usd(most: int) -> st.SearchStrategy[Usd]:
    return st.integers(1, most * 1_000_000).map(Usd)


tiers = st.lists(usd(9_000), unique=True, max_size=3).map(
    lambda found: tuple(TierConfig(from_usd=each, scale_bps=Bps(5_000)) for each in sorted(found))
)
leaders = st.builds(
    LeaderConfig,
    wallet=st.sampled_from([ANNA, BEN]),
    name=st.sampled_from(["", "Anna", 'a "b", c']),
    sizing=st.sampled_from(["fixed", "proportional", "portfolio", "kelly"]),
    trade_usd=usd(1_000),
    edge=st.integers(1, 1_000_000).map(Price),
    tiers=tiers,
    flush_on_reduction=st.sampled_from([None, True, False]),
    leader_usd_max=st.none() | usd(1_000),
)
categories = st.lists(st.sampled_from(["nba", "crypto", "politics"]), unique=True).map(
    lambda names: tuple(CategoryConfig(name=name, usd_max=Usd(1)) for name in names)
)
risks = st.builds(
    RiskConfig,
    trade_usd_max=usd(1_000),
    price_min=st.integers(0, 500_000).map(Price),
    allowed_markets=st.lists(st.sampled_from(["a-b", "0x" + "1" * 64]), unique=True).map(tuple),
    blocked_categories=st.lists(st.sampled_from(["nba", "nhl"]), unique=True).map(tuple),
    categories=categories,
)
configs = st.builds(
    config,
    leaders=st.lists(leaders, max_size=2, unique_by=lambda leader: leader.wallet).map(tuple),
    risk=risks,
)


@given(configs)
def test_what_is_encoded_comes_back_exactly(some: Config) -> None:
    text = encode(some)
    assert decode_config(text) == some
    assert encode(decode_config(text)) == text


@pytest.mark.parametrize("path", sorted(DEPLOYED.glob("*.toml")), ids=lambda path: path.name)
def test_the_deployed_settings_travel(path: Path) -> None:
    loaded = load(path, environ={})
    assert decode_config(encode(loaded)) == loaded


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("risk", "tick_ms"), 0, "risk: tick_ms = 0: must be between 1 and 86400000"),
        (("risk", "trade_usd_max"), -1, "risk: trade_usd_max = -0.000001: must be between 0"),
        (("risk", "allowed_markets"), ["0x1"], "risk: allowed_markets[0] = '0x1': must be"),
        (("risk", "nope"), 1, "risk: Object contains unknown field nope"),
        (("ingester", "volatility_horizons_s"), [0], "ingester: volatility_horizons_s[0] = 0"),
        (("mode",), "fast", "mode: Invalid enum value 'fast'"),
        (("mode",), "live", "settings: venue = http://127.0.0.1:1: live mode needs"),
        (("leaders", 0, "edge"), 0, 'leaders[0]: edge = 0: must be above 0 where sizing = "kelly"'),
        (("leaders", 0, "wallet"), "0x1", "leaders[0]: wallet = 0x1: must be 0x and 40 hex"),
        (("leaders", 0, "tiers", 1, "from_usd"), 5, "leaders[0]: tiers[1].from_usd = 0.000005"),
    ],
)
def test_what_travels_is_checked_as_a_file_is(path: Any, value: object, says: str) -> None:
    tiers = tuple(TierConfig(from_usd=Usd(usd), scale_bps=Bps(1)) for usd in (10, 20))
    anna = LeaderConfig(wallet=ANNA, sizing="kelly", edge=Price(1), tiers=tiers)
    told: Any = msgspec.json.decode(encode(config(leaders=(anna,))))
    table = told
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        decode_config(msgspec.json.encode(told).decode())
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800", "{}", "3", '{"mode":"demo"}'])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^(settings|account): "):
        decode_config(text)


def test_settings_are_written_as_a_person_writes_them() -> None:
    tiers = (TierConfig(from_usd=Usd(100_500_000), scale_bps=Bps(5_000)),)
    anna = LeaderConfig(wallet=ANNA, trade_usd=Usd(2_500_000), flush_on_reduction=False,
                        tiers=tiers)  # fmt: skip
    risk = RiskConfig(
        trade_usd_max=Usd(12_340_000),
        blocked_categories=("nba", "nhl"),
        categories=(CategoryConfig(name="crypto", usd_max=Usd(7_000_000)),),
    )
    told = flat(config(leaders=(anna,), risk=risk))
    assert told["mode"] == "demo"
    assert told["risk.trade_usd_max"] == "12.34"
    assert told["risk.price_min"] == "0.02"
    assert told["risk.blocked_categories"] == "nba, nhl"
    assert told["risk.categories[0].name"] == "crypto"
    assert told["risk.categories[0].usd_max"] == "7"
    assert told["ingester.volatility_horizons_s"] == "10, 60, 300"
    assert told["aggregator.flush_on_reduction"] == "true"
    assert told[f"leaders.{ANNA}.trade_usd"] == "2.5"
    assert told[f"leaders.{ANNA}.flush_on_reduction"] == "false"
    assert told[f"leaders.{ANNA}.tiers[0].from_usd"] == "100.5"


def test_every_section_that_decides_is_told_and_no_address() -> None:
    told = {key.partition(".")[0] for key in flat(config(leaders=(LeaderConfig(wallet=ANNA),)))}
    assert told == {
        "mode", "leaders", "ingester", "aggregator", "risk", "executor", "reconciler",
    }  # fmt: skip


@given(configs, configs)
def test_a_difference_applied_to_before_gives_after(one: Config, other: Config) -> None:
    before, after = flat(one), flat(other)
    changes = difference(before, after)
    assert [key for key, _, _ in changes] == sorted({key for key, _, _ in changes})
    applied = dict(before)
    for key, was, becomes in changes:
        assert applied.pop(key, "") == was
        if becomes:
            applied[key] = becomes
    assert applied == after


@given(configs, configs)
def test_what_decides_differs_exactly_where_settings_do(one: Config, other: Config) -> None:
    reordered = sorted(one.leaders, key=repr) == sorted(other.leaders, key=repr)
    same = reordered and one.risk == other.risk
    assert (difference(flat(one), flat(other)) == ()) == same
    assert difference(flat(one), flat(one)) == ()


def test_the_order_of_leaders_decides_nothing() -> None:
    pair = (LeaderConfig(wallet=ANNA), LeaderConfig(wallet=BEN))
    assert difference(flat(config(leaders=pair)), flat(config(leaders=pair[::-1]))) == ()
