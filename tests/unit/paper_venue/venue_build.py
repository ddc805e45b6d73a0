"""Builders: a venue with one market and funded wallets, and orders with defaults."""

from itertools import count

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.core import new_venue, open_market, set_depth
from services.paper_venue.state import Order, Venue
from services.paper_venue.tape import invented_condition, invented_token
from services.paper_venue.trading import Placed, post_order
from shared.domain.ids import OrderHash, Wallet
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd, cost_up, parse_micro

T0 = 1_793_318_400 * NS_PER_S
SLUG = "one"
CONDITION = invented_condition(SLUG)
TOKENS = (invented_token(SLUG, 0), invented_token(SLUG, 1))
ANN, BOB, CAT = (Wallet("0x" + letter * 40) for letter in "abc")
FUNDS = Usd(10_000 * MICRO)
_numbers = count(1)

MARKET = Market(
    condition=CONDITION,
    tokens=TOKENS,
    outcomes=("Yes", "No"),
    tick=Price(10_000),
    size_min=Shares(5 * MICRO),
    fee_rate=70_000,
    slug=SLUG,
    question="One?",
)


def levels(*pairs: tuple[str, str]) -> list[tuple[int, int]]:
    return [(parse_micro(price), parse_micro(size)) for price, size in pairs]


BIDS = levels(("0.47", "120"), ("0.48", "30"))
ASKS = levels(("0.5", "25"), ("0.53", "60"))


def venue(market: Market = MARKET, **settings: object) -> Venue:
    accounts = tuple(Funded(wallet=who, usd=FUNDS) for who in (ANN, BOB, CAT))
    built = new_venue(VenueConfig(accounts=accounts, **settings))  # type: ignore[arg-type]
    open_market(built, market, T0)
    set_depth(built, CONDITION, BIDS, ASKS, T0)
    return built


def order(
    price: str = "0.5",
    size: str = "10",
    *,
    wallet: Wallet = ANN,
    side: str = "BUY",
    outcome: int = 0,
    kind: str = "GTC",
    post_only: bool = False,
    expiration_s: int = 0,
) -> Order:
    return Order(
        id=OrderHash(f"0x{next(_numbers):064x}"),
        owner=f"key-{wallet[2:5]}",
        wallet=wallet,
        condition=CONDITION,
        token=TOKENS[outcome],
        outcome=outcome,  # type: ignore[arg-type]
        side=side,  # type: ignore[arg-type]
        price=Price(parse_micro(price)),
        size=Shares(parse_micro(size)),
        kind=kind,  # type: ignore[arg-type]
        created_ns=T0,
        post_only=post_only,
        expiration_s=expiration_s,
    )


def post(built: Venue, posted: Order, now_ns: int = T0) -> Placed:
    return post_order(built, posted, cost_up(posted.price, posted.size), now_ns)


def give(built: Venue, wallet: Wallet, outcome: int, size: str) -> None:
    """Put tokens into a wallet, out of nowhere, settled."""
    from services.paper_venue.ledger import Move

    moves = (
        Move(
            wallet,
            Usd(0),
            TOKENS[outcome],
            CONDITION,
            outcome,
            Shares(parse_micro(size)),
            Price(500_000),
        ),
    )
    built.ledger.match(moves)
    built.ledger.settle(moves, T0)
