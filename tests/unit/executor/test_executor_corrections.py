"""Claims and cash: shares of a market that is over, and dollars that no fill of ours moved."""

import msgspec
import pytest

from services.executor.state import State
from services.executor.views import positions_view
from shared.domain.ids import COLLATERAL, TokenId, content_id
from shared.domain.messages import (
    CashCorrected,
    DriftFound,
    HoldingResolved,
    PositionClosed,
    PositionCorrected,
)
from shared.domain.units import NS_PER_S, Price, Shares, Usd
from shared.domain.views import AccountView
from tests.support.order_builders import (
    CONDITION,
    NO,
    START_NS,
    WALLET,
    YES,
    approval,
    drift,
    feed,
    fill,
    kinds,
    only,
    prepared,
    reported,
    shares,
    step,
)

DOLLAR = 1_000_000
HALVES = (Price(500_000), Price(500_000))
YES_WON = (Price(DOLLAR), Price(0))


def account(usd: float, *, at_ns: int = START_NS) -> AccountView:
    return AccountView(
        collateral=Usd(round(usd * DOLLAR)), orders=(), closed_only=False, as_of_ns=at_ns
    )


def balance(name: str, believed: float, observed: float, cause: str = "deposit") -> DriftFound:
    return DriftFound(
        id=content_id("drift_found", name), cause="s", root="s", ts_ns=START_NS,
        condition=CONDITION, token=COLLATERAL, outcome=0,
        believed=Shares(round(believed * DOLLAR)), observed=Shares(round(observed * DOLLAR)),
        usd=Usd(0), probable_cause=cause, first_seen_ns=START_NS,
    )  # fmt: skip


def end(
    yes: int, no: int = 0, *, pays: tuple[Price, Price] = YES_WON, name: str = "end"
) -> HoldingResolved:
    id_ = content_id("holding_resolved", name)
    return HoldingResolved(
        id=id_, cause="", root=id_, ts_ns=START_NS, condition=CONDITION, payouts=pays,
        believed=(shares(yes), shares(no)),
    )  # fmt: skip


def gone(cause: str) -> DriftFound:
    return msgspec.structs.replace(drift(believed=10, observed=0), probable_cause=cause)


def holder(yes: int = 10, usd: float = 100) -> State:
    """Return an executor that read its balance and then bought at fifty cents."""
    state = State()
    step(state, account(usd))
    order = prepared(state)
    step(state, reported(order, fill(order, settlement="CONFIRMED", size=shares(yes))))
    return state


# --- cash ---------------------------------------------------------------------------------------


def test_the_first_balance_is_taken_once_and_only_with_nothing_in_motion() -> None:
    state = State()
    order = prepared(state)
    assert step(state, account(100)) == []
    step(state, fill(order))
    assert step(state, account(95)) == [], "its settlement may still fail"
    step(state, reported(order, fill(order, settlement="CONFIRMED")))
    opening = only(step(state, account(95)), CashCorrected)
    assert (opening.usd, opening.reason, opening.cause) == (95 * DOLLAR, "opening", "")
    assert step(state, account(80)) == []
    assert state.cash is not None
    assert state.cash.usd == 95 * DOLLAR


def test_cash_moves_by_every_fill_and_back_by_one_that_failed() -> None:
    state = State()
    step(state, account(100))
    order = prepared(state, approval(fee_rate=200))
    step(state, fill(order, "a"))
    fee = state.fills[f"a|{order.order}"].fee
    assert fee > 0
    assert positions_view(state, WALLET).cash == 95 * DOLLAR - fee
    step(state, fill(order, "a", "FAILED"))
    assert positions_view(state, WALLET).cash == 100 * DOLLAR


def test_a_sale_brings_in_what_it_fetched() -> None:
    state = holder()
    order = prepared(state, approval("exit", side="SELL", reduces=True))
    step(state, fill(order, "x"))
    assert positions_view(state, WALLET).cash == round(99.9 * DOLLAR)


def test_a_difference_in_cash_is_corrected_once_and_only_from_what_was_believed() -> None:
    state = holder()
    assert step(state, balance("late", 100, 350)) == [], "a fill moved it since"
    fact = only(step(state, balance("d", 95, 345)), CashCorrected)
    assert (fact.usd, fact.reason) == (250 * DOLLAR, "deposit")
    assert step(state, balance("d", 345, 595)) == []
    assert positions_view(state, WALLET).cash == 345 * DOLLAR


def test_before_the_first_reading_there_is_no_belief_to_correct() -> None:
    assert step(State(), balance("d", 0, 10)) == []


# --- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pays", "made"), [(YES_WON, 5), ((Price(0), Price(DOLLAR)), -5), (HALVES, 0)]
)
def test_an_ended_market_turns_shares_into_a_claim_and_books_the_profit(
    pays: tuple[Price, Price], made: int
) -> None:
    state = holder()
    fact = only(step(state, end(10, pays=pays)), PositionClosed)
    assert (fact.shares, fact.cost, fact.realised) == (
        (shares(10), 0), 5 * DOLLAR, made * DOLLAR,
    )  # fmt: skip
    held = state.holdings[YES]
    assert (held.position.shares, held.position.cost) == (0, 0)
    assert held.position.realised == made * DOLLAR
    assert (held.claim, held.at_venue) == (shares(10), shares(10))
    view = positions_view(state, WALLET)
    assert view.cash == 95 * DOLLAR, "a claim is no cash before it is redeemed"
    assert view.claims == (5 + made) * DOLLAR


def test_an_end_is_applied_once_and_only_to_what_was_believed() -> None:
    state = holder()
    assert step(state, end(9)) == []
    assert kinds(feed(state, [end(10)] * 2)) == ["PositionClosed"]


def test_both_outcomes_end_together() -> None:
    state = holder()
    order = prepared(state, approval("no", token=NO))
    step(state, reported(order, fill(order, settlement="CONFIRMED")))
    fact = only(step(state, end(10, 10)), PositionClosed)
    assert fact.tokens == (YES, NO)
    assert fact.realised == 0
    assert [state.holdings[each].payout for each in (YES, NO)] == [DOLLAR, 0]


def test_an_end_without_holdings_is_said_for_those_who_were_netted() -> None:
    fact = only(step(State(), end(0)), PositionClosed)
    assert (fact.tokens, fact.shares) == ((TokenId(""), TokenId("")), (0, 0))


def test_a_redeemed_claim_becomes_cash() -> None:
    state = holder()
    step(state, end(10))
    fact = only(step(state, gone("redeemed")), PositionCorrected)
    assert (fact.shares, fact.claim) == (0, shares(-10))
    view = positions_view(state, WALLET)
    assert (view.cash, view.claims) == (105 * DOLLAR, 0)
    assert state.holdings[YES].position.realised == 5 * DOLLAR


def test_a_claim_that_went_for_another_reason_pays_nothing() -> None:
    """Sent to another wallet, say: cash is compared by itself."""
    state = holder()
    step(state, end(10))
    step(state, gone("phantom_fill"))
    assert positions_view(state, WALLET).cash == 95 * DOLLAR


def test_more_shares_after_an_end_are_closed_by_the_next_one() -> None:
    """A fill that was told late, or a split by hand just before."""
    state = holder()
    step(state, end(10))
    step(state, drift("late", believed=10, observed=13))
    assert state.holdings[YES].position.shares == shares(3)
    again = end(3, name="again")
    step(state, again)
    assert state.holdings[YES].claim == shares(13)


def test_a_holding_with_a_claim_is_kept_however_old() -> None:
    state = holder()
    step(state, end(10, pays=(Price(500_000), Price(500_000))))
    assert state.holdings[YES].position.realised == 0
    later = START_NS + 10 * 86_400 * NS_PER_S
    order = prepared(state, approval("other", token=NO, expires_ns=later))
    assert order.order in state.orders
    assert state.holdings[YES].claim == shares(10)
