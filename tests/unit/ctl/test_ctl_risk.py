"""`risk` shows how near each limit is, what shrinks the caps, and what would change the regime."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.ctl.__main__ import run
from services.ctl.errors import FINDING, OK
from services.ctl.figures import Names, json_text, short
from services.ctl.risk import (
    bar,
    code_of,
    filled,
    holds,
    left_bar,
    risk_json,
    scaled,
    screen,
    standings,
)
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S, Bps, Shares, Usd
from shared.domain.views import CapView, HeldView, RiskView, ScaleView, TriggerView
from shared.runtime.config import AccountConfig, Config, LeaderConfig, VenueConfig, config_hash
from tests.unit.ctl.ctl_facts import CONDITION, LEADER, MARKET, OTHER
from tests.unit.ctl.test_ctl_show import page_of

STRANGER = Wallet("0x" + "5a" * 20)
CONFIG = Config(
    mode="paper",
    account=AccountConfig(wallet=Wallet("0x" + "22" * 20)),
    venue=VenueConfig(local_url="http://127.0.0.1:1"),
    leaders=(
        LeaderConfig(wallet=LEADER, name="Ann"),
        LeaderConfig(wallet=OTHER, name="Bob", sizing="proportional"),
    ),
)


def dollars(amount: float) -> Usd:
    return Usd(round(amount * 1_000_000))


def trigger(name: str, actual: int, enter: int, leave: int, unit: str = "usd") -> TriggerView:
    return TriggerView(
        name=name, regime="reduce_only", actual=actual, enter=enter, leave=leave, unit=unit
    )


DRIFT = trigger("drift", dollars(30), dollars(50) + 1, dollars(25))
DRAWDOWN = trigger("drawdown", dollars(112), dollars(400), -1)
FEED = trigger("feed", 2 * NS_PER_S, 60 * NS_PER_S, 15 * NS_PER_S, "ns")
REJECTS = trigger("rejects", 3, 10, 5, "orders")


def held(leader: Wallet, yes: int, cost: float) -> HeldView:
    return HeldView(leader=leader, condition=CONDITION, target=Shares(yes), yes=Shares(yes),
                    no=Shares(0), cost=dollars(cost))  # fmt: skip


def view(**fields: Any) -> RiskView:
    return RiskView(
        **{
            "regime": "normal",
            "reason": "",
            "held": (held(LEADER, 18_000_000, 9.27),),
            "caps": (
                CapView(name="total", used=dollars(1_450), limit=dollars(1_600),
                        configured=dollars(2_000)),
                CapView(name="leader", used=dollars(320), limit=dollars(400),
                        configured=dollars(500), scope=LEADER),
                CapView(name="event", used=dollars(10), limit=dollars(40), scope="weather-today"),
                CapView(name="market", used=dollars(160), limit=dollars(160),
                        configured=dollars(200), scope=CONDITION),
                CapView(name="drift", used=dollars(30), limit=dollars(50)),
            ),
            "realised_today": dollars(-8),
            "triggers": (DRIFT, REJECTS, FEED, DRAWDOWN),
            "scales": (
                ScaleView(name="drawdown", bps=Bps(8_000), actual=dollars(112), unit="usd"),
                ScaleView(name="feed", bps=Bps(5_000), actual=2 * NS_PER_S, unit="ns"),
            ),
            "equity": dollars(9_912),
            "profit": dollars(-88),
            "drawdown": dollars(112),
            "unfollowed": (OTHER,),
            "config_hash": config_hash(CONFIG),
            **fields,
        }
    )  # fmt: skip


def old() -> RiskView:
    """Return what an older risk wrote: none of the newer fields."""
    shown = view()
    return RiskView(
        regime=shown.regime, reason=shown.reason, held=shown.held, realised_today=Usd(0),
        caps=(CapView(name="total", used=dollars(5), limit=dollars(10)),),
    )  # fmt: skip


def names() -> Names:
    known = Names({LEADER: "Ann", OTHER: "Bob"})
    known.learn(MARKET)
    return known


def page(shown: RiskView | None) -> str:
    return page_of(screen(shown, CONFIG, names()), width=140)


def row(shown: RiskView, *begins: str) -> list[str]:
    """Return the cells of the table row that begins with some cells, the empty ones left out."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in page(shown).splitlines()]
    (found,) = [cells for cells in rows if cells[: len(begins)] == list(begins)]
    return found


def test_every_cap_shows_its_use_now_and_as_configured() -> None:
    assert row(view(), "total") == [
        "total", "$1,450.00", "$1,600.00", "$2,000.00", "█████████░", "90 %",
    ]  # fmt: skip
    assert row(view(), "leader", "Ann")[2:] == [
        "$320.00", "$400.00", "$500.00", "████████░░", "80 %",
    ]  # fmt: skip
    assert row(view(), "market", "will-it-rain")[-1] == "██████████ 100 %"
    assert row(view(), "event", "weather-today")[3:5] == ["$40.00", "$40.00"]


def test_every_trigger_shows_how_near_it_is_and_where_it_lets_go() -> None:
    assert row(view(), "drift", "reduce-only") == [
        "drift", "reduce-only", "$30.00", "$50.00", "$25.00", "█████░░░░░", "59 %",
    ]  # fmt: skip
    assert row(view(), "rejects")[2:5] == ["3 orders", "10 orders", "5 orders"]
    assert row(view(), "feed", "reduce-only")[2:5] == ["2,000 ms", "60.0 s", "15.0 s"]
    assert row(view(), "drawdown", "reduce-only")[4] == "by resume"


@pytest.mark.parametrize(
    ("each", "regime", "reason", "expected"),
    [
        (DRIFT, "normal", "", False),
        (DRIFT, "reduce_only", "rejects", False),
        (DRIFT, "reduce_only", "rejects, drift", True),  # above where it lets go
        (DRIFT, "normal", "drift", False),
        (trigger("drift", 25, 50, 25), "reduce_only", "drift", False),
        (trigger("drift", 50, 50, 25), "normal", "", True),
        (DRAWDOWN, "reduce_only", "drawdown", True),
    ],
)
def test_a_rule_holds_from_where_it_enters_to_where_it_leaves(
    each: TriggerView, regime: Any, reason: str, *, expected: bool
) -> None:
    shown = view(regime=regime, reason=reason, triggers=(each,))
    assert holds(each, shown) is expected
    assert ("drift holds" in page(shown) or "drawdown holds" in page(shown)) is expected


def test_what_shrinks_the_caps_is_multiplied() -> None:
    assert scaled(view().scales) == 4_000
    assert row(view(), "together") == ["together", "████░░░░░░", "40.00 %"]
    assert row(view(), "feed", "2,000 ms")[-2:] == ["█████░░░░░", "50.00 %"]
    assert scaled(()) == 10_000


def test_feeds_that_nobody_reports_are_told_as_such() -> None:
    silent = ScaleView(name="feed", bps=Bps(0), actual=-1, unit="ns")
    assert row(view(scales=(silent,)), "feed", "nobody reports")[-1] == "0.00 %"


@pytest.mark.parametrize(
    ("bps", "text"),
    [(0, "░░░░░░░░░░   0 %"), (9_999, "█████████░  99 %"), (10_000, "██████████ 100 %"),
     (11_999, "██████████ 120 %"), (1_000_000, "██████████ 10,000 %")],
)  # fmt: skip
def test_a_bar_is_full_only_at_the_limit(bps: int, text: str) -> None:
    assert bar(bps).plain == text


def test_the_page_fits_a_small_terminal() -> None:
    """No number is cut, and no line is longer than the terminal."""
    shown = page_of(screen(view(), CONFIG, names()), width=80)
    assert "…" not in shown
    for part in ("$1,450.00  $1,600.00   $2,000.00", "reduce-only    $30.00     $50.00"):
        assert part in shown, part


def test_bars_are_coloured_by_how_bad_it_is() -> None:
    assert [str(bar(bps).spans[0].style) for bps in (4_999, 5_000, 9_000)] == [
        "green", "yellow", "red",
    ]  # fmt: skip
    assert [str(left_bar(bps).spans[0].style) for bps in (10_000, 9_999)] == ["green", "yellow"]


@pytest.mark.parametrize(
    ("actual", "limit", "bps"), [(0, 100, 0), (50, 100, 5_000), (-5, 100, 0), (0, 0, 10_000),
                                 (7, 0, 10_000), (150, 100, 15_000)],
)  # fmt: skip
def test_a_limit_of_nothing_is_always_full(actual: int, limit: int, bps: int) -> None:
    assert filled(actual, limit) == bps


def test_the_first_lines_say_how_we_stand() -> None:
    lines = page(view(regime="reduce_only", reason="drift")).splitlines()
    assert lines[0] == "trading reduce-only: drift   entries are refused, exits go on"
    assert lines[1] == (
        "equity  $9,912.00   profit -$88.00   drawdown $112.00   realised today -$8.00"
    )
    halted = page(view(regime="halted", reason="operator: storm"))
    assert "trading halted: operator: storm   no order at all, not even to reduce" in halted
    assert "equity  not known yet" in page(view(equity=None))


def test_the_settings_are_compared_with_those_read_here() -> None:
    assert f"settings {config_hash(CONFIG)}, those of the file read here" in page(view())
    other = page(view(config_hash="ab" * 16))
    assert f"{'ab' * 16}, not those read here ({config_hash(CONFIG)[:8]}): `driftless rel" in other


def test_leaders_stand_with_what_is_held_because_of_them() -> None:
    assert row(view(), "Ann") == ["Ann", short(LEADER), "followed", "fixed", "1", "$9.27"]
    assert row(view(), "Bob") == [
        "Bob", short(OTHER), "not followed", "proportional", "0", "$0.00",
    ]  # fmt: skip


def test_whom_only_risk_knows_is_listed_too_but_not_trades_by_hand() -> None:
    nobody = Wallet("0x" + "0" * 40)
    shown = view(held=(held(STRANGER, 5, 1.5), held(nobody, 5, 1)), unfollowed=())
    assert [each.leader for each in standings(shown, CONFIG)] == [LEADER, OTHER, STRANGER]
    assert row(shown, STRANGER)[1:] == [
        "followed, not in the file read here", "1", "$1.50",
    ]  # fmt: skip


def test_without_leaders_it_says_so() -> None:
    alone = msgspec.structs.replace(CONFIG, leaders=())
    shown = page_of(screen(view(held=(), unfollowed=()), alone, names()))
    assert "no leaders: nothing is copied" in shown


def test_a_view_of_an_older_risk_is_shown_as_far_as_it_goes() -> None:
    shown = page(old())
    assert "what would change the regime: not told: risk runs an older version" in shown
    assert "what shrinks the caps: not told" in shown
    assert "settings not told" in shown
    assert row(old(), "total")[1:] == ["$5.00", "$10.00", "$10.00", "█████░░░░░", "50 %"]
    told = risk_json(old(), CONFIG, names())
    assert (told["triggers"], told["scale_bps"], told["config_hash"]) == ([], None, None)


def test_a_risk_that_never_ran_is_said_clearly() -> None:
    assert "risk has never run here" in page(None)
    assert risk_json(None, CONFIG, names()) == {"ran": False, "regime": None}


@pytest.mark.parametrize(
    ("shown", "code"),
    [(view(), OK), (old(), OK), (view(regime="reduce_only"), FINDING),
     (view(regime="halted"), FINDING), (None, FINDING)],
)  # fmt: skip
def test_the_exit_code_says_whether_there_is_something_to_look_at(
    shown: RiskView | None, code: int
) -> None:
    assert code_of(shown) == code


def test_the_json_has_it_all_with_exact_numbers() -> None:
    told = msgspec.json.decode(json_text(risk_json(view(), CONFIG, names())))
    assert set(told) == {
        "ran", "regime", "reason", "equity_usd", "profit_usd", "drawdown_usd",
        "realised_today_usd", "config_hash", "config_hash_here", "triggers", "caps", "scales",
        "scale_bps", "leaders",
    }  # fmt: skip
    assert (told["equity_usd"], told["profit_usd"], told["scale_bps"]) == (9912, -88, 4_000)
    assert told["caps"][1] == {
        "name": "leader", "scope": LEADER, "scope_name": "Ann", "used_usd": 320, "limit_usd": 400,
        "configured_usd": 500, "full_bps": 8_000,
    }  # fmt: skip
    assert told["triggers"][2] == {
        "name": "feed", "regime": "reduce_only", "actual": 2_000, "enter": 60_000,
        "leave": 15_000, "unit": "ms", "full_bps": 333, "holds": False,
    }  # fmt: skip
    assert told["triggers"][3]["leave"] is None
    assert told["scales"][1] == {"name": "feed", "left_bps": 5_000, "actual": 2_000, "unit": "ms"}
    assert told["leaders"][1] == {
        "leader": OTHER, "name": "Bob", "followed": False, "configured": True,
        "sizing": "proportional", "markets": 0, "cost_usd": 0,
    }  # fmt: skip


def test_without_a_configuration_it_is_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("DRIFTLESS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert run(["risk"]) == 2
    assert "nothing runs here" in capsys.readouterr().err
