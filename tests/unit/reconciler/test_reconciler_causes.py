"""Given a difference and what the venue tells of us lately: exactly this cause, with why."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reconciler.causes import Known, by_market, diagnose, newest
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet
from shared.domain.market import Side
from shared.domain.observations import Action, Activity
from shared.domain.units import MICRO, Price, Shares, Usd
from shared.domain.views import OutsideTrade, PositionView

WALLET, MARKET = Wallet("0x" + "aa" * 20), ConditionId("0x" + "c" * 64)
YES, NO = TokenId("1"), TokenId("2")


def shares(number: float) -> Shares:
    return Shares(round(number * MICRO))


def row(
    action: Action, size: float, *, side: Side | None = None, token: TokenId | None = None
) -> Activity:
    outcome: Literal[0, 1] | None = None if token is None else 0 if token == YES else 1
    return Activity(
        wallet=WALLET, action=action, condition=MARKET, size=shares(size), venue_ns=1,
        tx=TxHash("0x" + "7" * 64), token=token, outcome=outcome, side=side,
        price=None if side is None else Price(1),
    )  # fmt: skip


def by_hand(size: float, token: TokenId = YES) -> OutsideTrade:
    return OutsideTrade(trade=f"t{size}", token=token, shares=shares(size), venue_ns=1)


def held(size: float, unsettled: float = 0) -> PositionView:
    return PositionView(
        condition=MARKET, token=YES, outcome=0, shares=shares(size), cost=Usd(0), realised=Usd(0),
        unsettled=shares(unsettled), changed_ns=0,
    )  # fmt: skip


BOUGHT, SOLD = row("TRADE", 5, side="BUY", token=YES), row("TRADE", 5, side="SELL", token=YES)
ENDED = (Price(MICRO), Price(0))


@pytest.mark.parametrize(
    ("gap", "known", "cause"),
    [
        (7, Known(outside=(by_hand(7),)), "bought_outside"),
        (-7, Known(outside=(by_hand(3), by_hand(-7))), "sold_outside"),
        (-4, Known(outside=(by_hand(3), by_hand(-7))), "sold_outside"),
        (7, Known(outside=(by_hand(7, NO),)), "unexplained"),
        (5, Known(rows=(BOUGHT,)), "missed_fill"),
        (-5, Known(rows=(BOUGHT, SOLD)), "missed_fill"),
        (10, Known(rows=(SOLD, BOUGHT, BOUGHT)), "missed_fill"),
        (20, Known(rows=(row("SPLIT", 20),)), "split"),
        (-20, Known(rows=(row("SPLIT", 20), row("MERGE", 20))), "merged"),
        (20, Known(rows=(row("MERGE", 20),)), "unexplained"),
        (-8, Known(rows=(row("REDEEM", 8),), payouts=ENDED), "redeemed"),
        (-8, Known(rows=(row("REDEEM", 3),), payouts=ENDED), "redeemed"),
        (-8, Known(payouts=ENDED), "resolved"),
        (-8, Known(rows=(row("CONVERSION", 1),)), "converted"),
        (-8, Known(), "phantom_fill"),
        (8, Known(), "unexplained"),
        (0.004, Known(outside=(by_hand(0.004),)), "dust"),
        (-0.01, Known(), "dust"),
    ],
)  # fmt: skip
def test_a_cause_is_told_by_numbers(gap: float, known: Known, cause: str) -> None:
    told = diagnose(shares(gap), YES, 0, held(10), known)
    assert told.cause == cause
    assert told.evidence


def test_a_fill_that_does_not_settle_is_no_phantom() -> None:
    assert diagnose(shares(-8), YES, 0, held(10, 8), Known()).cause == "failed_settlement"
    assert diagnose(shares(-8), YES, 0, held(10, 7), Known()).cause == "phantom_fill"
    assert diagnose(shares(-8), YES, 0, None, Known()).cause == "phantom_fill"


def test_the_evidence_says_what_a_market_paid() -> None:
    half = (Price(MICRO // 2), Price(MICRO // 2))
    told = diagnose(shares(-8), YES, 0, held(8), Known(payouts=half))
    assert told.evidence == "the market is over and paid 0.5 a share"
    redeemed = Known(rows=(row("REDEEM", 8),), payouts=half)
    told = diagnose(shares(-8), YES, 0, held(8), redeemed)
    assert told.evidence == "1 REDEEM for 8 shares, the market paid 0.5/0.5"


@given(st.lists(st.integers(-9 * MICRO, 9 * MICRO).map(Shares), max_size=8), st.data())
def test_what_the_newest_amounts_make_is_recognised(
    amounts: list[Shares], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(amounts)))
    gap = Shares(sum(amounts[len(amounts) - count :]))
    found = newest(amounts, gap)
    if count:
        assert 0 < found <= count, "the fewest that explain it"
        assert abs(sum(amounts[-found:]) - gap) <= MICRO // 100


def test_rows_are_told_apart_by_market() -> None:
    other = ConditionId("0x" + "d" * 64)
    apart = Activity(
        wallet=WALLET, action="SPLIT", condition=other, size=shares(1), tx=TxHash("0x"), venue_ns=1
    )
    assert by_market([BOUGHT, apart, SOLD]) == {MARKET: (BOUGHT, SOLD), other: (apart,)}
