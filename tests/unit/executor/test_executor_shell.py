"""The executor's lane against the local venue: what is sent, when, and what is shown of it."""

import asyncio

from services.executor.shell import Shell
from shared.domain.messages import OrderClosed, OrderPrepared
from shared.domain.units import MICRO, NS_PER_S
from shared.domain.views import ACCOUNT
from tests.support.eventually import eventually
from tests.support.order_lane import SETTINGS, WALLET, System


async def test_an_order_whose_time_passed_before_the_login_is_never_sent() -> None:
    """The venue is away when the order is prepared, and back when its price means nothing."""
    system = System()
    async with system.venue():
        market = await system.market(await system.open_market())
    async with system.lane():
        await system.approve(market, ttl_s=0.5)
        await eventually(lambda: system.of(OrderPrepared))
        await asyncio.sleep(0.6)
        async with system.venue():
            await system.open_market()
            (closed,) = await eventually(lambda: system.of(OrderClosed))
            assert closed.reason == "rejected: EXPIRED"
            assert await system.orders() == []


async def test_what_is_asked_of_the_venue_before_the_login_waits_for_it() -> None:
    """A correction may be the first thing a restarted executor hears, with the venue away."""
    system = System()
    async with system.lane() as lane:
        shell = lane._shell
        assert isinstance(shell, Shell)
        await eventually(lambda: hasattr(shell, "_session"))
        shell._session.look_at_cash()
        async with system.venue():
            await eventually(lambda: ACCOUNT in system.store.views)
            assert not system.serving.done()


async def test_an_order_in_time_is_sent_and_shown_with_the_account() -> None:
    system = System()
    async with system.venue(), system.lane() as lane:
        market = await system.market(await system.open_market())
        await system.approve(market, ttl_s=5)
        (closed,) = await eventually(lambda: system.of(OrderClosed))
        assert closed.filled == 10_000_000
        assert len(await system.orders()) == 1
        await eventually(lambda: ACCOUNT in system.store.views)
        assert lane.state.holdings


async def test_trades_by_hand_within_a_second_are_shown_in_their_order() -> None:
    """The newest explain a difference, and the venue tells times in whole seconds."""
    system, made = System(), [7, 6, -5, 8, -9, 5]
    async with system.venue():
        market = await system.market(await system.open_market())
        async with system.lane():  # the venue lets nobody trade who has no API key
            await eventually(lambda: ACCOUNT in system.store.views)
        for size in made:
            side = "BUY" if size > 0 else "SELL"
            body = {"wallet": WALLET, "condition": market.condition, "outcome": 0}
            await system.admin("trade-outside", side=side, size=str(abs(size)), **body)
        del system.store.views[ACCOUNT]
        async with system.lane():
            await eventually(lambda: ACCOUNT in system.store.views)
            shown = [trade.shares // MICRO for trade in system.account().outside]
            assert shown == made


async def test_an_order_the_venue_never_got_is_not_given_up_while_it_may_arrive() -> None:
    """Lost on the way: its time to live is over, yet a slow gateway may still deliver it."""
    system = System()
    async with system.venue(), system.lane(resends_max=0):
        market = await system.market(await system.open_market())
        await system.fault(lost_request=1)
        approval = await system.approve(market, ttl_s=0.3)
        (closed,) = await eventually(lambda: system.of(OrderClosed), deadline_s=15)
        assert closed.reason == "never_placed"
        arrived_ns = approval.expires_ns + 2 * SETTINGS.post_deadline_s * NS_PER_S
        assert closed.ts_ns > arrived_ns
        assert await system.orders() == []


async def test_the_account_is_shown_only_together_with_the_positions_it_vouches_for() -> None:
    """While the lane is held up its belief grows old, and the age of the account must say so."""
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await eventually(lambda: ACCOUNT in system.store.views)
        system.ledger.gate.clear()
        await system.approve(market, ttl_s=5)
        await eventually(lambda: system.ledger.is_held)
        before = system.account()
        await asyncio.sleep(0.5)  # five polls
        assert system.account() == before
        system.ledger.gate.set()
        await eventually(lambda: system.account() != before)
