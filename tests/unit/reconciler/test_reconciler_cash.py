"""The balance compared: excused while fills are under way, explained by what moves dollars."""

import pytest

from services.reconciler.causes import Known, diagnose_cash
from services.reconciler.comparing import Difference, Observation, Policy, difference
from services.reconciler.core import State, decide, evolve, view
from shared.domain.ids import COLLATERAL, OrderHash, TokenId, TxHash, Wallet
from shared.domain.messages import DriftFound, Fact, HoldingResolved
from shared.domain.observations import Action, Activity, PositionReport
from shared.domain.units import NS_PER_S, Price, Shares, Usd
from shared.domain.views import (
    OpenOrderView,
    OutsideTrade,
    PositionsView,
    PositionView,
    UnlistedFill,
)
from tests.support.order_builders import CONDITION, NO, START_NS, WALLET, YES, price, shares

DOLLAR = 1_000_000
GRACE_NS, EXCUSE_NS = 10 * NS_PER_S, 600 * NS_PER_S
RULES = Policy(confirmations=2, grace_ns=GRACE_NS, excuse_ns_max=EXCUSE_NS, dust=Shares(10_000))
YES_WON = (Price(DOLLAR), Price(0))


def usd(amount: float) -> Usd:
    return Usd(round(amount * DOLLAR))


def held(
    size: int, *, unsettled: int = 0, changed_ns: int = 0, claim: int = 0, token: TokenId = YES
) -> PositionView:
    return PositionView(
        condition=CONDITION, token=token, outcome=0 if token == YES else 1, shares=shares(size),
        cost=Usd(0), realised=Usd(0), unsettled=shares(unsettled), changed_ns=changed_ns,
        unsettled_since_ns=START_NS if unsettled else 0, claim=shares(claim),
        payout=Price(DOLLAR if claim else 0),
    )  # fmt: skip


def seen(
    *positions: PositionView,
    cash: float | None = 100,
    balance: float | None = 100,
    changed_ns: int = 0,
    read_ns: int = START_NS,
    theirs: tuple[PositionReport, ...] | None = None,
    **more: object,
) -> Observation:
    """Build an observation whose positions agree unless ``theirs`` says otherwise."""
    same = tuple(
        PositionReport(wallet=WALLET, condition=p.condition, token=p.token, outcome=p.outcome,
                       size=Shares(p.shares + p.claim), current_price=price(50))
        for p in positions
        if p.shares or p.claim
    )  # fmt: skip
    orders = more.pop("orders", ())
    assert isinstance(orders, tuple)
    believed = PositionsView(
        wallet=WALLET, positions=positions, orders=orders,
        cash=None if cash is None else usd(cash), cash_changed_ns=changed_ns,
    )  # fmt: skip
    return Observation(
        as_of_ns=START_NS, believed=believed, observed=same if theirs is None else theirs,
        open_orders=(), collateral=None if balance is None else usd(balance),
        account_ns=read_ns, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def cash_of(observation: Observation) -> Difference | None:
    return next((e for e in difference(RULES, observation) if e.token == COLLATERAL), None)


# --- the difference -----------------------------------------------------------------------------


def test_equal_balances_and_unknown_ones_are_no_difference() -> None:
    assert cash_of(seen()) is None
    assert cash_of(seen(balance=100.009)) is None
    assert cash_of(seen(cash=None, balance=7)) is None
    assert cash_of(seen(balance=None)) is None


def test_a_difference_names_both_sides_and_the_dollars() -> None:
    found = cash_of(seen(balance=130.5))
    assert found is not None
    assert (found.believed, found.observed, found.usd) == (usd(100), usd(130.5), usd(30.5))
    assert not found.excused


@pytest.mark.parametrize(
    "moving",
    [
        seen(held(5, unsettled=5), balance=90),
        seen(held(5, changed_ns=START_NS - GRACE_NS + 1), balance=90),
        seen(balance=90, changed_ns=START_NS - GRACE_NS + 1),
        seen(balance=90, changed_ns=START_NS - GRACE_NS, read_ns=START_NS - 1),
    ],
    ids=["unsettled", "position moved", "cash moved", "read before it"],
)
def test_what_moved_a_moment_ago_excuses(moving: Observation) -> None:
    found = cash_of(moving)
    assert found is not None
    assert found.excused


def test_an_open_order_excuses_but_not_for_ever() -> None:
    def resting(since_ns: int) -> OpenOrderView:
        return OpenOrderView(
            order=OrderHash("a"), token=NO, side="BUY", price=price(50), size=shares(10),
            filled=Shares(0), status="accepted", since_ns=since_ns,
        )  # fmt: skip

    young = cash_of(seen(balance=90, orders=(resting(START_NS - EXCUSE_NS + 1),)))
    old = cash_of(seen(balance=90, orders=(resting(START_NS - EXCUSE_NS),)))
    assert young is not None
    assert young.excused
    assert old is not None
    assert not old.excused


@pytest.mark.parametrize(("balance", "waits"), [(110, True), (111, False), (90, False)])
def test_cash_that_is_just_what_a_claim_pays_waits_for_the_positions(
    balance: float, *, waits: bool
) -> None:
    found = cash_of(seen(held(0, claim=10), balance=balance))
    assert found is not None
    assert found.waits == waits


def test_a_wait_is_bounded() -> None:
    state, facts = State(), list[Fact]()
    strange = seen(held(0, claim=10), balance=110, agreed={COLLATERAL: 9})
    for later_s in (0, 1, 599, 601):
        facts = decide(RULES, state, strange, START_NS + later_s * NS_PER_S)
        for fact in facts:
            evolve(state, fact)
    (found,) = facts
    assert isinstance(found, DriftFound)


def test_trading_does_not_hang_on_cash() -> None:
    shown = view(RULES, State(), seen(balance=50))
    assert [line.token for line in shown.lines] == [COLLATERAL]
    assert shown.drift_usd == 0


# --- why ----------------------------------------------------------------------------------------


def row(action: Action, size: float, at: int) -> Activity:
    return Activity(
        wallet=Wallet(WALLET), action=action, condition=CONDITION, size=Shares(usd(size)),
        venue_ns=at, tx=TxHash("0x" + "7" * 64), token=None, outcome=None, side=None, price=None,
    )  # fmt: skip


def outside(dollars: float, at: int) -> OutsideTrade:
    return OutsideTrade(trade=f"t{at}", token=YES, shares=shares(1), venue_ns=at, usd=usd(dollars))


def unlisted(dollars: float, *, is_copy: bool) -> UnlistedFill:
    return UnlistedFill(trade="u", token=YES, shares=shares(1), usd=usd(dollars), is_copy=is_copy)


@pytest.mark.parametrize(
    ("gap", "known", "cause"),
    [
        (0.04, Known(), "dust"),
        (250, Known(), "deposit"),
        (-40, Known(), "withdrawal"),
        (-3.5, Known(outside=(outside(-3.5, 1),)), "traded_outside"),
        (-3.6, Known(outside=(outside(-3.5, 1),)), "traded_outside"),  # its fee is not told
        (-3.9, Known(outside=(outside(-3.5, 1),)), "withdrawal"),
        (-3.5, Known(outside=(outside(9, 1), outside(-3.5, 2))), "traded_outside"),
        (5.5, Known(outside=(outside(9, 1), outside(-3.5, 2))), "traded_outside"),
        (-11, Known(rows=(row("SPLIT", 11, 1),)), "split"),
        (5, Known(rows=(row("SPLIT", 11, 1), row("MERGE", 5, 2))), "merged"),
        (-6, Known(rows=(row("SPLIT", 11, 1), row("MERGE", 5, 2))), "several"),
        (-14.5, Known(rows=(row("SPLIT", 11, 1),), outside=(outside(-3.5, 2),)), "several"),
        (5, Known(unlisted=(unlisted(-5, is_copy=True),)), "doubled_fill"),
        (5, Known(unlisted=(unlisted(-5, is_copy=False),)), "phantom_fill"),
        (5, Known(rows=(row("REDEEM", 5, 1),)), "deposit"),  # a claim's: compared as one
    ],
)
def test_what_moved_the_balance_is_told_by_numbers(gap: float, known: Known, cause: str) -> None:
    told = diagnose_cash(usd(gap), known)
    assert told.cause == cause
    assert told.evidence


def test_the_oldest_row_that_explains_it_dates_it() -> None:
    rows = Known(outside=(outside(9, 10), outside(-3.5, 20)))
    assert diagnose_cash(usd(-3.5), rows).since_ns == 20
    assert diagnose_cash(usd(5.5), rows).since_ns == 10


# --- ends ---------------------------------------------------------------------------------------


def ends(state: State, observation: Observation, now_ns: int = START_NS) -> list[HoldingResolved]:
    facts = decide(RULES, state, observation, now_ns)
    for fact in facts:
        evolve(state, fact)
    return [fact for fact in facts if isinstance(fact, HoldingResolved)]


def over(*positions: PositionView, **more: object) -> Observation:
    return seen(*positions, payouts={CONDITION: YES_WON}, **more)  # type: ignore[arg-type]


def test_an_ended_market_is_told_once_for_what_is_held_in_it() -> None:
    state = State()
    (fact,) = ends(state, over(held(10), held(4, token=NO)))
    assert fact.believed == (shares(10), shares(4))
    assert fact.payouts == YES_WON
    assert ends(state, over(held(10), held(4, token=NO))) == []
    (again,) = ends(state, over(held(3, claim=10)), START_NS + 1)
    assert again.believed == (shares(3), 0)
    assert again.id != fact.id


def test_one_in_which_only_leaders_hold_something_is_told_too() -> None:
    state = State()
    assert ends(state, over()) == []
    (fact,) = ends(state, over(booked=frozenset({CONDITION})))
    assert fact.believed == (0, 0)
    assert ends(state, over(booked=frozenset({CONDITION}))) == []


def test_fills_under_way_are_waited_for() -> None:
    state = State()
    assert ends(state, over(held(10, unsettled=10))) == []
    assert ends(state, over(held(10))) != []


def test_shares_about_to_be_closed_are_no_drift() -> None:
    """The venue redeems at once: its positions are empty before ours are closed."""
    found = difference(RULES, over(held(10), theirs=()))
    assert [each.excused for each in found] == [True]
    closed = difference(RULES, over(held(0, claim=10), theirs=()))
    assert [(each.excused, each.usd) for each in closed] == [(False, 0)]


def test_what_is_gone_waits_until_it_is_known_whether_its_market_is_over() -> None:
    (lost,) = difference(RULES, seen(held(10), theirs=(), ends_read=False))
    assert lost.waits
    (known,) = difference(RULES, seen(held(10), theirs=()))
    assert not known.waits
    (more,) = difference(RULES, seen(held(0), theirs=seen(held(10)).observed, ends_read=False))
    assert not more.waits, "shares that came were paid by nobody"
