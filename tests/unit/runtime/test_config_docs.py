"""The numbers in docs/configuration.md are those of the code, to the cent."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.risk.policy import Cap, Category, Sizing
from services.risk.sizing import Entry, sized
from services.risk.state import View
from shared.domain.market import fee_up
from shared.domain.units import Bps, Price, Shares, Usd, cost_up, format_micro
from shared.runtime.config import RiskConfig
from shared.runtime.presets import PRESETS, with_preset
from shared.runtime.sections import build
from shared.runtime.settings import lines
from tests.support.risk_builders import FULL, book, cents, market, policy, shares, usd

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
TEXT = " ".join(PAGE.split())
EQUITY = usd(1_500)
PRICE = cents(40)
FEES: dict[str, Any] = {"fee_rate": 30_000, "fee_exponent": 1}


def rows(head: str) -> Iterator[list[str]]:
    """Yield the cells of the table that begins with this head."""
    table = PAGE[PAGE.index(f"| {head} |") :].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def dollars(micro: int) -> str:
    return f"${(micro + 5_000) // 10_000 / 100:,.2f}"


def copied(added: float = 2_000, ask: float = 41, **sizing: Any) -> Shares:
    """Return the shares that our copy of Anna's trade comes to, the world taking nothing away."""
    categories = sizing.pop("categories", ())
    entry = Entry(
        policy=policy(trade_usd_max=usd(1_000_000), slippage_bps_max=FULL, categories=categories),
        sizing=Sizing(**sizing),
        added=shares(added),
        price=PRICE,
        follows=Shares(0),
        view=View(market=market(category="sports", **FEES), leader_value=usd(20_000)),
        book=book(bid=30, ask=ask, size=1_000_000),
        equity=EQUITY,
        slippage_bps=0,
    )
    return sized(entry)[0]


def preset(name: str) -> RiskConfig:
    return build(RiskConfig, with_preset({"risk": {"preset": name}})["risk"], "risk.")


def test_the_table_of_presets_is_the_code() -> None:
    names = ("cautious", "balanced", "aggressive")
    told = [lines("risk", preset(name)) for name in names]
    named = [key for key in RiskConfig.__struct_fields__ if any(key in p for p in PRESETS.values())]
    assert list(rows("key of `[risk]`")) == [
        [f"`{key}`", *(values[f"risk.{key}"] for values in told)] for key in named
    ]


SIZINGS: dict[str, dict[str, Any]] = {
    "`trade_usd = 10`": {"mode": "fixed", "trade_usd": usd(10)},
    "`ratio_bps = 500`": {"mode": "proportional", "ratio_bps": Bps(500)},
    "`share_bps = 10000`": {"mode": "portfolio", "share_bps": Bps(10_000)},
    "`edge = 0.03`, `kelly_bps = 2500`": {
        "mode": "kelly",
        "edge": cents(3),
        "kelly_bps": Bps(2_500),
    },
}


def test_the_table_of_sizings_is_what_risk_does() -> None:
    shown = list(rows("`sizing`"))
    assert [settings for _, settings, _, _ in shown] == list(SIZINGS)
    for mode, settings, stake, size in shown:
        kelly = mode == "`kelly`"
        assert mode == f"`{SIZINGS[settings]['mode']}`"
        bought = copied(**SIZINGS[settings])
        price = Price(cents(41) + fee_up(market(**FEES), cents(41), shares(1))) if kelly else PRICE
        assert size == f"{bought / 1_000_000:.2f}"
        assert stake == dollars(cost_up(price, bought))


def test_a_fixed_stake_is_never_more_than_the_leader_added() -> None:
    bought = copied(added=20, **SIZINGS["`trade_usd = 10`"])
    assert bought == shares(20)
    assert f"had she bought 20, ours would be 20 too, for {dollars(cost_up(PRICE, bought))}" in TEXT


def test_kelly_is_worked_out_as_it_is_done() -> None:
    believed = PRICE + cents(3)
    fee = fee_up(market(**FEES), cents(41), shares(1))
    cost = cents(41) + fee
    full = EQUITY * (believed - cost) // (1_000_000 - cost)
    won, left = format_micro(believed - cost), format_micro(1_000_000 - cost)
    share = f"{(believed - cost) * 100 / (1_000_000 - cost):.3f} %"
    for part in (
        f"q = 0.40 + 0.03 = {format_micro(believed)}.",
        f"0.03 x 0.41 x 0.59 = ${format_micro(fee)}, so c = ${format_micro(cost)}.",
        f"f = (q - c) / (1 - c) = {won} / {left} = {share}, which is {dollars(full)} of our $1,500",
        f"25 % is {dollars(full // 4)}, or",
    ):
        assert part in TEXT


def test_kelly_enters_nothing_where_the_edge_is_gone() -> None:
    fee = fee_up(market(**FEES), Price(425_000), shares(1))
    cost = format_micro(425_000 + fee)
    assert f"best offer at $0.425 the fee is ${format_micro(fee)}, c = ${cost}," in TEXT
    assert copied(ask=42.5, mode="kelly", edge=cents(3)) == 0


@pytest.mark.parametrize(
    ("spent", "says"),
    [(800, "her $800 come to {}"), (1_000, "$1,000 would come to {}"), (99, "and $99 to {}")],
)
def test_tiers_scale_by_the_size_of_the_leaders_own_trade(spent: int, says: str) -> None:
    tiers = tuple(
        (usd(int(from_usd)), Bps(int(scale)))
        for from_usd, scale in re.findall(r"from_usd = (\d+).*\nscale_bps = (\d+)", PAGE)
    )
    assert len(tiers) == 2
    bought = copied(added=spent * 100 / 40, mode="fixed", trade_usd=usd(10), tiers=tiers)
    assert says.format(dollars(cost_up(PRICE, bought))) in TEXT


def test_a_category_scales_its_markets() -> None:
    sports = Category(name="sports", scale_bps=Bps(5_000), usd_max=usd(300))
    bought = copied(mode="fixed", trade_usd=usd(10), categories=(sports,))
    assert f"fixed: {dollars(cost_up(PRICE, bought))} instead of $10.00" in TEXT


def test_the_smaller_of_dollars_and_percent_holds() -> None:
    risk = preset("cautious")
    for written, percent, most in rows("our equity"):
        equity = None if written == "unknown" else usd(int(written.strip("$").replace(",", "")))
        cap = Cap(risk.trade_usd_max, risk.trade_equity_bps_max)
        alone = Cap(Usd(1 << 62), risk.trade_equity_bps_max)
        assert (percent, most) == (dollars(alone.limit(equity)), dollars(cap.limit(equity)))
    assert f"`trade_usd_max = {format_micro(risk.trade_usd_max)}`" in TEXT
    assert f"`trade_equity_bps_max = {risk.trade_equity_bps_max}`" in TEXT
