"""What the screen and the lines of a demonstration show."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from services.ctl.figures import Names, duration, measured, percent, price, shares, short, usd
from services.ctl.narration import told
from services.ctl.picture import Picture, joined
from services.ctl.show import Show, clock
from shared.domain import messages as m
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S, Shares, Usd
from shared.domain.views import (
    AccountView,
    CapView,
    DriftView,
    ExposuresView,
    ExposureView,
    FeedsView,
    FeedView,
    HeldView,
    RiskView,
)
from tests.unit.ctl.ctl_everything import everything
from tests.unit.ctl.ctl_facts import CONDITION, LEADER, MARKET, OTHER, START_NS


def page_of(shown: RenderableType, width: int = 200) -> str:
    page = Console(file=io.StringIO(), width=width, highlight=False)
    page.print(shown)
    assert isinstance(page.file, io.StringIO)
    return page.file.getvalue()


def picture(regime: m.Regime = "normal", drift_usd: int = 0) -> Picture:
    risk = RiskView(
        regime=regime,
        reason="operator: storm" if regime != "normal" else "",
        held=(
            HeldView(
                leader=LEADER, condition=CONDITION, target=Shares(20_000_000),
                yes=Shares(18_000_000), no=Shares(0), cost=Usd(9_270_000),
            ),
        ),
        caps=(CapView(name="total", used=Usd(9_270_000), limit=Usd(2_000_000_000)),),
        realised_today=Usd(-250_000),
    )  # fmt: skip
    exposures = ExposuresView(
        exposures=(
            ExposureView(
                leader=LEADER, condition=CONDITION, yes=Shares(100_000_000), no=Shares(0),
                exposure=Shares(100_000_000),
            ),
        )
    )  # fmt: skip
    feeds = FeedsView(
        as_of_ns=START_NS,
        feeds=(FeedView(name="activity", state="connected", heard_ns=START_NS - NS_PER_S),),
        books_trusted=2,
    )
    return Picture(
        now_ns=START_NS,
        head=42,
        risk=risk,
        account=AccountView(
            as_of_ns=START_NS, collateral=Usd(9_990_000_000), closed_only=False, orders=()
        ),
        drift=DriftView(
            as_of_ns=START_NS, drift_usd=Usd(drift_usd), lines=(), corrections=0, last_clear_ms=0
        ),
        feeds=(feeds,),
        rows=joined([exposures], risk),
        lanes=(),
    )


def show() -> Show:
    return Show(Names({LEADER: "Ann"}), minutes=3, speed=10, attribution="books by somebody")


def test_every_kind_of_fact_has_words() -> None:
    kinds = set()
    known = Names({LEADER: "Ann"})
    known.learn(MARKET)
    for fact in everything().facts:
        text = told(fact, known)
        assert text
        assert "\n" not in text
        kinds.add(type(fact))
    assert kinds == set(m.Fact.__args__)


def words() -> list[str]:
    known = Names({LEADER: "Ann", OTHER: "Bob"})
    known.learn(MARKET)
    return [told(fact, known) for fact in everything().facts]


@pytest.mark.parametrize(
    "line",
    [
        "settled will-it-rain: Rain pays $1.00, Dry pays $0.00; nothing is left to copy",
        "Ann in will-it-rain is doubted: we believe 100.00 Rain and 0.00 Dry, the venue says "
        "90.00 Rain and 0.00 Dry (conversion); his activity is read again",
        "Ann in will-it-rain corrected by -10.00 Rain and 0.00 Dry: conversion",
        "Ann in will-it-rain is doubted no more",
        "netted 5.00 Rain of will-it-rain: Bob more, Ann less, at $0.50 = $2.50, without an order",
        "worth $9,999.20: cash $9,990.00, holdings $9.20 at the bids; profit -$0.80, -$1.00 of it "
        "today, drawdown $2.00",
        "settings risk.trade_usd_max 50 -> 25 (by ctl, 5e775e77)",
        f"the command is refused: {LEADER} is followed already",
        "Ann is not followed any more, his share is sold (by ctl)",
        "Ann is followed again, from his next intent on (by ctl)",
        "ctl asks to reduce only: by hand",
        "ctl asks to follow Ann no more and sell his share: by hand",
        "ctl asks to follow Ann again: by hand",
        "ctl asks to decide by other settings: by hand",
    ],
)
def test_what_is_no_trade_is_told_in_the_same_voice(line: str) -> None:
    assert line in words()


def one(kind: type[Any], **fields: Any) -> str:
    """Return the words for the first fact of a kind, with some of its fields changed."""
    fact = next(fact for fact in everything().facts if isinstance(fact, kind))
    known = Names({LEADER: "Ann"})
    known.learn(MARKET)
    return told(msgspec.structs.replace(fact, **fields), known)


def test_what_was_added_to_a_fact_is_told_where_it_is_set() -> None:
    assert "better, at most $10.80; it nets against what other leaders hold; trimmed" in one(
        m.OrderApproved, nets=True
    )
    assert one(m.HoldingChanged, crossed=Shares(-5_000_000)).endswith(
        ", -5.00 sets held against other leaders"
    )
    assert one(m.ReservationEnded, slippage_bps=-12).endswith(
        "20.00 filled, -12 bps to the estimate"
    )
    refused = m.Verdict(rule="kelly", outcome="refuse", reason="EQUITY_UNKNOWN")
    assert one(m.TargetSet, arithmetic=(refused,)).endswith("; nothing is sized: EQUITY_UNKNOWN")
    assert one(m.UnfollowLeader, keep=True).startswith("ctl asks to follow Ann no more and keep")
    assert "his share is kept" in one(m.LeaderUnfollowed, keep=True)


def test_a_rule_that_changes_the_regime_says_its_number() -> None:
    by_rule = {"regime": "reduce_only", "reason": "drift", "actor": "rule", "unit": "usd",
               "actual": 60_000_000, "limit": 50_000_001}  # fmt: skip
    assert one(m.RegimeChanged, **by_rule) == (
        "trading normal -> reduce-only: drift $60.00, limit $50.00 (by rule)"
    )


def test_settings_that_changed_are_told_as_far_as_a_line_goes() -> None:
    many = tuple((f"risk.{n}", "", str(n)) for n in range(5))
    assert "risk.0 - -> 0, risk.1 - -> 1, risk.2 - -> 2 and 2 more (by" in one(
        m.ConfigChanged, changes=many
    )
    assert one(m.ConfigChanged, changes=()).startswith("settings as before (by")


def test_the_settings_of_a_start_are_no_line() -> None:
    changed = next(fact for fact in everything().facts if isinstance(fact, m.ConfigChanged))
    assert show().hear(changed, 0) is not None
    assert show().hear(msgspec.structs.replace(changed, actor="start"), 0) is None


def test_a_market_is_learnt_from_any_fact_that_has_it() -> None:
    known = Names()
    fact = next(fact for fact in everything().facts if isinstance(fact, m.TargetSet))
    known.hear(fact)
    assert not known.knows(CONDITION)
    known.hear(msgspec.structs.replace(fact, market=MARKET))
    assert known.knows(CONDITION)


def test_decisions_are_lines_with_their_reasons() -> None:
    shown = show()
    lines = [shown.hear(fact, 61 * NS_PER_S) for fact in everything().facts]
    texts = [line.plain for line in lines if line is not None]
    assert any(text.startswith("1:01 refused   buy 20.00 in ") for text in texts)
    assert any("BOOK_STALE 9,000 ms, limit 5,000 ms" in text for text in texts)
    assert any(text.startswith("1:01 filled    we bought 20.00 Rain") for text in texts)
    assert not any("counted:" in text for text in texts)
    assert not any("\x1b" in text for text in texts)


def test_the_screen_fits_and_says_what_matters() -> None:
    shown = show()
    for fact in everything().facts:
        shown.hear(fact, 0)
    shown.see(picture(drift_usd=1_500_000))
    for height, width in ((24, 80), (32, 100), (45, 150), (60, 240)):
        page = page_of(shown.screen(NS_PER_S, height), width=width)
        assert len(page.splitlines()) <= height, (height, width)
        for part in ("0:01 of 3:00", "drift $1.50", "activity connected", "In step", "Ann"):
            assert part in page, (part, height)


def test_a_screen_without_anything_yet_is_shown() -> None:
    assert "no positions" in page_of(show().screen(0, 40))


def test_a_halt_is_on_the_first_lines() -> None:
    shown = show()
    shown.see(picture("halted"))
    assert "trading halted (operator: storm)" in page_of(shown.screen(0, 40))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (usd(0), "$0.00"), (usd(1_234_567_890), "$1,234.57"), (usd(-5_000), "-$0.01"),
        (usd(40), "$0.00004"), (shares(-1_500_000), "-1.50"), (price(500_000), "$0.50"),
        (shares(1_500_000, signed=True), "+1.50"), (price(123_456), "$0.1235"),
        (price(1_000), "$0.001"), (price(None), "none"),
        (duration(0), "0 ms"), (duration(1_500_000), "2 ms"), (duration(420_000), "0.42 ms"),
        (duration(9_999_000_000), "9,999 ms"), (duration(61 * 10**9), "61.0 s"),
        (duration(150 * 10**9), "2 min 30 s"), (duration(3 * 3_600 * 10**9), "3 h 0 min"),
        (measured(250, "bps"), "250 bps (2.50 %)"), (measured(5_000_000, "usd"), "$5.00"),
        (measured(3, "orders"), "3 orders"), (measured(1, ""), "1"),
        (measured(1 << 62, "usd"), "no limit"),
        (measured(25_000, "volatility"), "0.025 log-odds/√s"),
        (measured(-1, "volatility"), "unknown"), (percent(12_345), "123.45 %"),
        (short("0x" + "ab" * 32), "0xabababab"), (short("ab" * 16), "abababab"),
        (short("brief"), "brief"), (clock(-1), "0:00"), (clock(3_723 * NS_PER_S), "62:03"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(text: str, expected: str) -> None:
    assert text == expected


def test_names_are_used_where_they_are_known() -> None:
    names = Names({LEADER: "Ann"})
    assert names.leader(LEADER) == "Ann"
    assert names.leader(Wallet("0x" + "0" * 40)) == "nobody"
    assert names.market(CONDITION) == "0xc0c0c0c0"
    names.learn(MARKET)
    assert names.token(MARKET.tokens[1]) == "Dry of will-it-rain"


def test_long_names_are_cut_in_the_middle_where_space_is_short() -> None:
    names = Names(brief=True)
    slug = "btc-updown-15m-1790586900"
    names.learn(msgspec.structs.replace(MARKET, slug=slug))
    assert names.market(CONDITION) == "btc-updown-15…586900"


@pytest.mark.parametrize(
    ("final", "wait_ns", "words"),
    [
        (True, 0, "written off"), (False, NS_PER_S, "tried again"),
        (False, 1 << 61, "waits for the leader's next"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_comes_next(final: bool, wait_ns: int, words: str) -> None:
    refused = next(fact for fact in everything().facts if isinstance(fact, m.OrderRefused))
    refused = msgspec.structs.replace(refused, final=final, retry_ns=refused.ts_ns + wait_ns)
    assert told(refused, Names()).endswith(f"; {words}")
