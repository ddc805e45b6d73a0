"""Lets the synthetic world move and the synthetic leaders trade, through the shell."""

import asyncio
import heapq
import logging
from functools import partial
from hashlib import blake2b
from typing import Final, TypeVar, assert_never

import msgspec

from services.paper_venue.config import Funded
from services.paper_venue.convert import convert
from services.paper_venue.core import (
    Fill,
    execute_activity,
    execute_fill,
    fund,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.leaders import (
    Action,
    Convert,
    Holding,
    Outcome,
    Rest,
    Sight,
    Trader,
    UseSets,
    Withdraw,
)
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.shell import Shell
from services.paper_venue.state import Order, Refused, Venue, next_number
from services.paper_venue.trading import cancel_orders, post_order
from services.paper_venue.world import Opened, World
from shared.domain.ids import ConditionId, OrderHash, Wallet
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd, cost_up

LEADERS_STEP_S: Final = 0.05
WORLD_STEP_S: Final = 0.25
SLEEP_MAX_S: Final = 1.0
RESOLVED_SEEN_S: Final = 3_600  # so long after a resolution leaders still see the market
MAKER_FUNDS: Final = Usd(10_000_000 * MICRO)  # only who rests orders is checked for funds
_Result = TypeVar("_Result")
_log = logging.getLogger("paper_venue")


async def live(shell: Shell, world: World) -> None:
    """Let the world's time pass at the venue's speed, until cancelled."""
    start_ns = shell.now_ns()
    while True:
        move_world(shell, world, start_ns)
        await asyncio.sleep(WORLD_STEP_S)


def move_world(shell: Shell, world: World, start_ns: int) -> None:
    """Bring the world to the present: open, resolve, and requote what changed."""
    speed = shell.venue.config.speed
    now_s = (shell.now_ns() - start_ns) / NS_PER_S * speed
    for change in world.advance(now_s):
        if isinstance(change, Opened):
            end_ns = start_ns + int(change.ends_s / speed * NS_PER_S)
            market = msgspec.structs.replace(change.market, end_ns=end_ns)
            shell.apply(partial(open_market, shell.venue, market))
        else:
            _try(shell, partial(resolve_market, shell.venue, change.condition, change.payouts))
    tradable = {
        condition: listing
        for condition, listing in shell.venue.listings.items()
        if listing.payouts is None
    }
    ticks = {condition: listing.market.tick for condition, listing in tradable.items()}
    depths = {
        condition: (listing.book.depth(is_bid=True), listing.book.depth(is_bid=False))
        for condition, listing in tradable.items()
    }
    quotes = list(world.books(ticks, depths))

    def requote(now_ns: int) -> None:
        for condition, bids, asks in quotes:
            set_depth(shell.venue, condition, bids, asks, now_ns)

    if quotes:
        shell.apply(requote)


class Stage:
    """The leaders at their venue: who is asked next, and what each one rests."""

    def __init__(self, shell: Shell, traders: list[Trader]) -> None:
        self._shell = shell
        self._resting: dict[tuple[Wallet, ConditionId], list[str]] = {}
        self._waiting = [(0, place, trader) for place, trader in enumerate(traders)]
        for trader in traders:
            shell.venue.names[trader.wallet] = trader.name
            if trader.kind == "maker":
                account = Funded(wallet=trader.wallet, usd=MAKER_FUNDS)
                shell.apply(partial(fund, shell.venue, account))

    def step(self) -> None:
        """Ask everybody who has something to do by now."""
        shell = self._shell
        now_ns = shell.now_ns()
        if not self._waiting or self._waiting[0][0] > now_ns:
            return
        books, holding = sights(shell.venue, now_ns), holdings(shell.venue)
        while self._waiting[0][0] <= now_ns:
            _, place, trader = self._waiting[0]
            for action in trader.next_orders(now_ns, books, holding):
                self.act(trader, action)
            heapq.heapreplace(self._waiting, (max(trader.wakes_ns, now_ns + 1), place, trader))

    def act(self, trader: Trader, action: Action) -> None:
        """Do one thing a leader wants; what the venue refuses is logged and left out."""
        shell, venue = self._shell, self._shell.venue
        match action:
            case Fill():
                _try(shell, partial(execute_fill, venue, action))
            case UseSets():
                _try(shell, partial(_use_sets, venue, action))
            case Convert():
                _try(shell, partial(_convert, venue, action))
            case Rest():
                order = _order(shell, action)
                offered = cost_up(order.price, order.size)
                if _try(shell, partial(post_order, venue, order, offered)):
                    key = (trader.wallet, action.condition)
                    self._resting.setdefault(key, []).append(order.id)
            case Withdraw():
                ids = self._resting.pop((trader.wallet, action.condition), [])
                owner = shell.credentials(trader.wallet, 0).key
                _try(shell, partial(cancel_orders, venue, {owner}, ids))
            case _:
                assert_never(action)


async def lead(shell: Shell, traders: list[Trader]) -> None:
    """Let the synthetic leaders trade until cancelled."""
    stage = Stage(shell, traders)
    while True:
        stage.step()
        await asyncio.sleep(LEADERS_STEP_S)


def sights(venue: Venue, now_ns: int) -> dict[ConditionId, Sight]:
    """Return the best prices of every market with both sides, and what was resolved lately."""
    found = {}
    for condition, listing in venue.listings.items():
        if listing.payouts is not None:
            if listing.changed_ns > now_ns - RESOLVED_SEEN_S * NS_PER_S:
                found[condition] = Sight(condition, Price(0), Price(0), is_resolved=True)
            continue
        bid, ask = listing.book.best(is_bid=True), listing.book.best(is_bid=False)
        if bid is not None and ask is not None:
            group = listing.market.event if listing.market.neg_risk else ""
            found[condition] = Sight(condition, bid, ask, group=group)
    return found


def holdings(venue: Venue) -> Holding:
    """Return a view of what wallets hold, as far as it can be used now."""

    def holding(who: Wallet, condition: ConditionId, outcome: Outcome) -> Shares:
        token = venue.listings[condition].market.tokens[outcome]
        return Shares(max(0, venue.ledger.tokens[who, token]))

    return holding


def _try(shell: Shell, change: "partial[_Result]") -> bool:
    """Apply a change; a refusal is what happens to anybody, and is logged."""
    try:
        shell.apply(change)
    except Refused as refusal:
        _log.info("synthetic_refused change=%s reason=%s", change.func.__name__, refusal.text)
        return False
    return True


def _use_sets(venue: Venue, wanted: UseSets, now_ns: int) -> None:
    stamp = Stamp(now_ns, new_tx(venue))
    execute_activity(venue, wanted.wallet, wanted.kind, wanted.condition, wanted.size, stamp)


def _convert(venue: Venue, wanted: Convert, now_ns: int) -> None:
    stamp = Stamp(now_ns, new_tx(venue))
    convert(venue, wanted.wallet, wanted.conditions, wanted.size, stamp)


def _order(shell: Shell, wanted: Rest) -> Order:
    venue = shell.venue
    digest = blake2b(f"rest/{next_number(venue)}".encode(), digest_size=32).hexdigest()
    return Order(
        id=OrderHash("0x" + digest),
        owner=shell.credentials(wanted.wallet, 0).key,
        wallet=wanted.wallet,
        condition=wanted.condition,
        token=venue.listings[wanted.condition].market.tokens[wanted.outcome],
        outcome=wanted.outcome,
        side=wanted.side,
        price=wanted.price,
        size=wanted.size,
        kind="GTC",
        created_ns=shell.now_ns(),
        post_only=True,
    )
