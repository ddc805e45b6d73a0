"""Twenty thousand orders a tick size: none is refused for tick, size or rounding, none leaves dust.

Judged twice: by the local venue's own admission, and by the venue's rules as its documents state
them (protocol.md 2.5), written down here once more in decimals.
"""

from decimal import Decimal
from random import Random
from typing import Final, NamedTuple, get_args

import pytest

from services.paper_venue.admission import check_terms
from services.paper_venue.amounts import check_decimals, signed_price
from services.paper_venue.config import VenueConfig
from services.paper_venue.core import new_venue, open_market
from services.paper_venue.state import Listing, Order, OrderType, Venue
from shared.domain.grid import TICKS, amounts, tradable_size
from shared.domain.ids import OrderHash, Wallet
from shared.domain.market import CENT, Market, Side
from shared.domain.units import MICRO, Price, Shares, Usd
from tests.support.builders import CONDITION, NO, T0_NS, YES

ORDERS: Final = 20_000
SIZE_MIN: Final = Shares(5 * MICRO)
# Decimals of a price and of a USD amount, by tick (protocol.md 2.5); sizes have two.
DECIMALS: Final = {
    "0.1": (1, 3), "0.01": (2, 4), "0.005": (3, 5), "0.0025": (4, 6), "0.001": (3, 5),
    "0.0001": (4, 6),
}  # fmt: skip
NOW_NS: Final = T0_NS


class Draft(NamedTuple):
    side: Side
    kind: OrderType
    price: Price
    size: Shares
    gives: int
    gets: int


def drafts(tick: Price, seed: int) -> list[Draft]:
    """Draw prices over the whole grid, and sizes from the least one to thousands of shares."""
    random, found = Random(seed), list[Draft]()
    while len(found) < ORDERS:
        side: Side = random.choice(get_args(Side))
        kind: OrderType = random.choice(("FAK", "FOK", "GTC"))
        price = Price(tick * random.randrange(1, MICRO // tick))
        wanted = Shares(round(5 * MICRO * 10 ** (random.random() * 3.5)))
        size = tradable_size(side, price, wanted, tick, marketable=kind != "GTC")
        if size < SIZE_MIN:
            continue  # nothing that small is tradable at this price: risk waits or refuses
        gives, gets = amounts(side, price, size, tick)
        found.append(Draft(side, kind, price, size, gives, gets))
    return found


def a_venue(tick: Price) -> tuple[Venue, Listing]:
    venue = new_venue(VenueConfig())
    market = Market(
        condition=CONDITION, tokens=(YES, NO), outcomes=("Yes", "No"), tick=tick,
        size_min=SIZE_MIN, fee_rate=0, slug="one",
    )  # fmt: skip
    open_market(venue, market, NOW_NS)
    return venue, venue.listings[CONDITION]


def as_read(draft: Draft, tick: Price, number: int) -> tuple[Order, Usd]:
    """Return the order as the venue reads it from the two amounts that were signed."""
    buys, takes = draft.side == "BUY", draft.kind != "GTC"
    gives, gets = (draft.gives, draft.gets) if buys else (draft.gets, draft.gives)
    dollars, shares = Usd(gives), Shares(gets)
    check_decimals(dollars, shares, tick, buys=buys, takes=takes)
    price = signed_price(dollars, shares, tick, rounded=buys and takes)
    assert price is not None, "no price of the grid"
    order = Order(
        id=OrderHash(f"0x{number:064x}"), owner="key", wallet=Wallet("0x" + "a" * 40),
        condition=CONDITION, token=YES, outcome=0, side=draft.side, size=shares,
        price=price, kind=draft.kind,
        created_ns=NOW_NS,
    )  # fmt: skip
    return order, dollars


@pytest.mark.parametrize("tick", sorted(TICKS))
def test_no_order_is_refused_for_tick_size_or_rounding(tick: Price) -> None:
    venue, listing = a_venue(tick)
    for number, draft in enumerate(drafts(tick, seed=tick)):
        order, offered = as_read(draft, tick, number)
        check_terms(venue, listing, order, offered, NOW_NS)
        assert (order.price, order.size) == (draft.price, draft.size), "read as it was meant"


@pytest.mark.parametrize("tick", sorted(DECIMALS))
def test_every_amount_obeys_the_documented_rules(tick: str) -> None:
    price_decimals, amount_decimals = DECIMALS[tick]
    for draft in drafts(Price(round(Decimal(tick) * MICRO)), seed=7):
        buys = draft.side == "BUY"
        dollars, shares = (draft.gives, draft.gets) if buys else (draft.gets, draft.gives)
        usd, size = Decimal(dollars) / MICRO, Decimal(shares) / MICRO
        assert size == round(size, 2)
        assert usd == round(usd, amount_decimals)
        price = usd / size
        assert price == round(price, price_decimals)
        assert price % Decimal(tick) == 0
        assert Decimal(tick) <= price <= 1 - Decimal(tick)
        if buys and draft.kind != "GTC":
            assert dollars % CENT == 0, "a marketable buy spends whole cents"


@pytest.mark.parametrize("tick", sorted(TICKS))
def test_an_exit_of_everything_leaves_less_than_an_order_can_name(tick: Price) -> None:
    """Also of what a fill brought in pieces, down to the micro-share."""
    random = Random(tick)
    for _ in range(ORDERS):
        price = Price(tick * random.randrange(1, MICRO // tick))
        held = Shares(random.randrange(SIZE_MIN, 5_000 * MICRO))
        sold = tradable_size("SELL", price, held, tick, marketable=True)
        assert 0 <= held - sold < MICRO // 100
        whole = Shares(held // 10_000 * 10_000)
        assert tradable_size("SELL", price, whole, tick, marketable=True) == whole
