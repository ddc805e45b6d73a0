"""Each thing that makes belief and venue differ: done at the local venue, named, corrected, gone.

The executor's and the reconciler's lanes are real, the venue is asked over HTTP.
"""

import pytest

from services.executor.corrections import corrected
from shared.domain.ids import COLLATERAL, TokenId
from shared.domain.messages import (
    CashCorrected,
    DriftFound,
    HoldingResolved,
    OrderFilled,
    PositionClosed,
    PositionCorrected,
)
from shared.domain.units import MICRO
from tests.support.eventually import eventually
from tests.support.order_lane import WALLET
from tests.support.reconciled import START_USD, Reconciled

TEN = 10 * MICRO


async def test_trades_by_hand_are_named_in_shares_and_in_cash() -> None:
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        yes = system.terms.tokens[0]
        await system.by_hand("BUY", "7")
        assert await system.found(2) == {yes: ["bought_outside"], COLLATERAL: ["traded_outside"]}
        assert system.held() == {0: 17 * MICRO}
        await system.by_hand("SELL", "6")
        causes = await system.found(4)
        assert causes[yes] == ["bought_outside", "sold_outside"]
        assert causes[COLLATERAL] == ["traded_outside"] * 2
        assert system.held() == {0: 11 * MICRO}
        assert system.believed().cash == system.account().collateral
        first = (await system.said(DriftFound))[0]
        assert 0 < first.happened_ns < first.ts_ns


async def test_a_correction_told_twice_is_applied_once() -> None:
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        await system.by_hand("BUY", "7")
        await system.found(2)
        state = system.executor.state
        for drift in await system.said(DriftFound):
            assert corrected(state, drift, system.clock.now_ns()) == []
        assert len(await system.of(PositionCorrected)) == 1


@pytest.mark.parametrize(("usd", "cause"), [("250", "deposit"), ("-40", "withdrawal")])
async def test_money_that_comes_and_goes_is_called_so(usd: str, cause: str) -> None:
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        await system.post("fund", wallet=WALLET, usd=usd)
        system.look()
        assert await system.found(1) == {COLLATERAL: [cause]}
        assert system.believed().cash == system.account().collateral
        assert (await system.drift()).drift_usd == 0, "trading does not hang on it"


async def test_sets_are_named() -> None:
    system = Reconciled()
    async with system.reconciling():
        yes, no = system.terms.tokens
        await system.buy()
        await system.act("SPLIT", "11")
        system.look()
        causes = await system.found(3)
        assert causes == {yes: ["split"], no: ["split"], COLLATERAL: ["split"]}
        await system.act("MERGE", "5")
        causes = await system.found(6)
        assert causes[yes] == causes[no] == causes[COLLATERAL] == ["split", "merged"]
        assert system.held() == {0: 16 * MICRO, 1: 6 * MICRO}


@pytest.mark.parametrize(
    ("payouts", "made"),
    [(("1", "0"), 5_000_000), (("0", "1"), -5_000_000), (("0.5", "0.5"), 0)],
)
async def test_what_is_resolved_is_closed_at_what_it_pays(
    payouts: tuple[str, str], made: int
) -> None:
    """Nothing is drift, and what we have does not change when the claim becomes cash."""
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        await system.resolve(*payouts)
        (closed,) = await eventually(lambda: system.of(PositionClosed), deadline_s=10)
        assert closed.shares == (TEN, 0)
        assert closed.realised == made
        await eventually(system.is_in_step, deadline_s=10)
        view = system.believed()
        assert system.held() == {}
        paid = 5_000_000 + made
        assert view.claims == paid
        assert view.cash == START_USD - 5_000_000
        await system.act("REDEEM", "10")
        causes = await system.found(1)
        assert causes == {system.terms.tokens[0]: ["redeemed"]}
        view = system.believed()
        assert (view.cash, view.claims) == (START_USD + made, 0)
        assert (await system.said(DriftFound))[0].usd == 0, "what a claim paid is at stake nowhere"
        assert len(await system.said(HoldingResolved)) == 1
        assert await system.of(CashCorrected) == [(await system.of(CashCorrected))[0]]


async def test_a_redemption_before_anybody_looked_loses_no_profit() -> None:
    """The venue redeems for us between two looks: the resolution is booked before the loss."""
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        await system.resolve("1", "0")
        await system.act("REDEEM", "10")
        assert (await system.found(1))[system.terms.tokens[0]] == ["redeemed"]
        (closed,) = await system.of(PositionClosed)
        assert closed.realised == 5_000_000
        assert system.believed().cash == START_USD + 5_000_000


async def test_a_failed_settlement_is_taken_back_and_is_no_drift() -> None:
    system = Reconciled()
    async with system.reconciling():
        await system.rule(kind="fail_settlement", count=1)
        await system.buy()
        await eventually(system.is_in_step, deadline_s=10)
        assert system.held() == {}
        assert await system.said(DriftFound) == []
        assert system.believed().cash == START_USD


async def test_a_settlement_retried_without_end_hides_nothing_for_ever() -> None:
    """Shares that are believed and not there, while the venue still retries their settlement."""
    system = Reconciled()
    async with system.reconciling():
        await eventually(system.is_quiet)
        await system.rule(kind="retry_settlement", count=1, ms=60_000)
        await system.approve(system.terms, ttl_s=5)
        await eventually(lambda: system.said(DriftFound), deadline_s=20)
        found = (await system.said(DriftFound))[0]
        assert found.probable_cause == "failed_settlement"
        assert found.ts_ns - found.first_seen_ns < 3_000_000_000


@pytest.mark.parametrize(("known", "cause"), [(True, "doubled_fill"), (False, "phantom_fill")])
async def test_a_fill_the_venue_does_not_have_is_undone(known: bool, cause: str) -> None:
    system = Reconciled()
    async with system.reconciling():
        await system.buy()
        fill = (await system.of(OrderFilled))[0]
        await system.tell(fill, price=fill.price if known else fill.price - 10_000)
        causes = await system.found(2)
        assert causes == {TokenId(fill.token): [cause], COLLATERAL: [cause]}
        assert system.held() == {0: TEN}
        assert system.believed().cash == system.account().collateral
