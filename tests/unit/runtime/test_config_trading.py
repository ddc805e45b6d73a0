"""Leaders and limits: what contradicts itself is refused with its path, its value and a cure."""

from pathlib import Path

import pytest

from shared.domain.units import Bps, Usd
from shared.runtime.config import CategoryConfig, Config, ConfigError, TierConfig, load

LEADER = "0x" + "cd" * 20
CONDITION = "0x" + "5a" * 32
HEAD = f'mode = "demo"\naccount = {{ wallet = "0x{"ab" * 20}" }}\n'
LOCAL = '[venue]\nlocal_url = "http://127.0.0.1:8700"\n'


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "settings.toml"
    path.write_text(f"{HEAD}{LOCAL}{text}\n")
    return load(path, environ={})


def refused(tmp_path: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError, match=r"settings\.toml: ") as caught:
        read(tmp_path, text)
    return caught.value


def leader(text: str) -> str:
    return f'[[leaders]]\nwallet = "{LEADER}"\n{text}'


def tier(from_usd: object, scale_bps: object = 10_000) -> str:
    return f"[[leaders.tiers]]\nfrom_usd = {from_usd}\nscale_bps = {scale_bps}\n"


def category(name: str, more: str = "") -> str:
    return f'[[risk.categories]]\nname = "{name}"\n{more}\n'


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (leader('sizing = "kelly"'), "leaders[0].edge", 'above 0 where sizing = "kelly"'),
        (leader('sizing = "kelly"\nedge = 0.0'), "leaders[0].edge", "= 0: must be above 0"),
        (leader('sizing = "half"'), "leaders[0].sizing", "one of fixed, proportional, portfolio"),
        (leader("edge = 1.5"), "leaders[0].edge", "= 1.5: must be between 0 and 1"),
        (leader("kelly_bps = 0"), "leaders[0].kelly_bps", "must be between 1 and 10000"),
        (leader("kelly_bps = 10001"), "leaders[0].kelly_bps", "must be between 1 and 10000"),
        (leader("share_bps = 0"), "leaders[0].share_bps", "must be between 1 and 100000"),
        (
            leader(tier(100) + tier(100)),
            "leaders[0].tiers[1].from_usd",
            "= 100: must be above the tier before it (100): write tiers in rising order",
        ),
        (leader(tier(100) + tier(200) + tier(150.5)), "leaders[0].tiers[2].from_usd", "= 150.5"),
        (leader(tier(0)), "leaders[0].tiers[0].from_usd", "must be between 0.000001 and"),
        (leader(tier(1, -1)), "leaders[0].tiers[0].scale_bps", "must be between 0 and 100000"),
        (leader(tier(1) + "scale = 1"), "leaders[0].tiers[0].scale", "did you mean scale_bps?"),
        (leader("[[leaders.tiers]]\nfrom_usd = 1"), "leaders[0].tiers[0].scale_bps", "is missing"),
        (leader("tiers = 3"), "leaders[0].tiers", "must be a list"),
        (category("", ""), "risk.categories[0].name", "must be a category or tag"),
        (category("Pop Culture"), "risk.categories[0].name", 'such as "pop-culture"'),
        (category("a,b"), "risk.categories[0].name", 'such as "a-b"'),
        (category("nba") + category("NBA"), "risk.categories[1].name", "is listed twice"),
        (category("nba", "usd_max = -1"), "risk.categories[0].usd_max", "must be between 0"),
        (category("nba", "usd = 1"), "risk.categories[0].usd", "did you mean usd_max?"),
        ("[[risk.categories]]\nscale_bps = 1", "risk.categories[0].name", "is missing"),
        (
            f'[risk]\nallowed_markets = ["some-slug", "{CONDITION}"]\n'
            f'blocked_markets = ["{CONDITION.upper().replace("X", "x")}"]',
            "risk.allowed_markets[1]",
            "is in blocked_markets too: take it out of one",
        ),
        (
            '[risk]\nallowed_categories = ["sports"]\nblocked_categories = ["Sports"]',
            "risk.allowed_categories[0]",
            "is in blocked_categories too",
        ),
        ('[risk]\nblocked_markets = ["0x12"]', "risk.blocked_markets[0]", "0x and 64 hex digits"),
        (f'[risk]\nallowed_markets = ["{LEADER}"]', "risk.allowed_markets[0]", "0x and 64 hex"),
        ('[risk]\nallowed_markets = ["A b"]', "risk.allowed_markets[0]", "= 'A b': must be"),
        ('[risk]\nallowed_markets = [""]', "risk.allowed_markets[0]", "or a slug"),
        ('[risk]\nallowed_markets = "abc"', "risk.allowed_markets", "write [a, b]"),
        ("[risk]\nallowed_markets = [3]", "risk.allowed_markets[0]", "Expected str"),
        ('[risk]\nblocked_categories = [" "]', "risk.blocked_categories[0]", "category or tag"),
        ("[risk]\nend_full_s = 5\nend_s_min = 6", "risk.end_full_s", "= 5: must be 0"),
        ("[risk]\ndepth_share_bps_max = 0", "risk.depth_share_bps_max", "between 1 and 10000"),
        ("[risk]\nslippage_floor_bps = 10001", "risk.slippage_floor_bps", "between 0 and 10000"),
        ("[risk]\nslippage_budget_bps = 0", "risk.slippage_budget_bps", "between 1 and 10000"),
        ("[risk]\nvolatility_calm = -1", "risk.volatility_calm", "between 0 and 10000000"),
        ("[risk]\ntrade_equity_bps_max = 10001", "risk.trade_equity_bps_max", "0 and 10000"),
        ("[risk]\ntotal_equity_bps_max = 0.5", "risk.total_equity_bps_max", "Expected int"),
        ("[risk]\nfeed_fresh_ms = 60001", "risk.feed_fresh_ms", "feed_dead_ms = 60000"),
        ("[risk]\nprice_max = 0.01", "risk.price_min", "= 0.02: must be below price_max = 0.01"),
        ('[risk]\ntaker_delay = "maybe"', "risk.taker_delay", "one of allow, refuse"),
        (
            '[risk]\nexit_order = "limit"',
            "risk.exit_order",
            "fill_and_kill, fill_or_kill, post_only",
        ),
        (
            '[risk]\nentry_order = "post_only"\nrest_s = 30',
            "risk.rest_s",
            "entry_age_ms_max = 30000",
        ),
        ("[risk]\nexit_depth_bps_max = 0", "risk.exit_depth_bps_max", "between 1 and 10000"),
    ],
)
def test_what_contradicts_itself_is_named_with_its_path(
    tmp_path: Path, text: str, key: str, says: str
) -> None:
    error = refused(tmp_path, text)
    assert error.key == key
    assert says in str(error)


def test_labels_and_conditions_are_lower_case_inside(tmp_path: Path) -> None:
    written = f'allowed_markets = ["0x{"5A" * 32}"]\nblocked_categories = ["NBA", "pop-culture"]'
    config = read(tmp_path, f"[risk]\n{written}\n{category('Sports')}")
    assert config.risk.allowed_markets == (CONDITION,)
    assert config.risk.blocked_categories == ("nba", "pop-culture")
    assert config.risk.categories == (CategoryConfig(name="sports"),)


def test_every_sizing_with_what_it_needs_is_taken(tmp_path: Path) -> None:
    for sizing, more in (
        ("fixed", ""),
        ("proportional", ""),
        ("portfolio", ""),
        ("kelly", "edge = 0.02"),
    ):
        written = leader(f'sizing = "{sizing}"\n{more}')
        assert read(tmp_path, written).leaders[0].sizing == sizing


def test_tiers_and_categories_are_read_in_their_order(tmp_path: Path) -> None:
    text = leader(tier(100, 5_000) + tier("99_999.5", 0)) + category("nba", "usd_max = 7.25")
    config = read(tmp_path, text)
    assert config.leaders[0].tiers == (
        TierConfig(from_usd=Usd(100_000_000), scale_bps=Bps(5_000)),
        TierConfig(from_usd=Usd(99_999_500_000), scale_bps=Bps(0)),
    )
    assert config.risk.categories[0].usd_max == Usd(7_250_000)


def test_a_leader_may_have_a_larger_cap_than_the_rest(tmp_path: Path) -> None:
    config = read(tmp_path, leader("leader_usd_max = 9000\nentry_age_max_ms = 90000"))
    assert config.leaders[0].leader_usd_max == Usd(9_000_000_000)


def test_caps_that_do_not_shrink_before_the_end_may_have_any_end(tmp_path: Path) -> None:
    assert read(tmp_path, "[risk]\nend_s_min = 300\nend_full_s = 0").risk.end_s_min == 300
