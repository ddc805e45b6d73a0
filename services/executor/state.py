"""What the executor knows of its orders, fills and positions; and its settings and inputs."""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.messages import OrderApproved, OrderPrepared
from shared.domain.observations import OrderReport, OwnFill, PostAnswer, Settlement
from shared.domain.positions import Position
from shared.domain.units import Price, Shares, Usd

Phase = Literal["prepared", "accepted", "unknown", "closed"]

# A settlement never goes back: a later word of a lower rank is an old one (protocol.md 4.3).
RANK: Final[dict[Settlement, int]] = {
    "MATCHED": 0,
    "RETRYING": 1,
    "MINED": 2,
    "CONFIRMED": 3,
    "FAILED": 3,
}
TERMINAL: Final = 3


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    wallet: Wallet
    book_age_ns_max: int
    lookup_attempts: int
    # Names the order the venue will know: the EIP-712 hash of the order as it will be signed.
    hash_of: Callable[["Draft"], OrderHash]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An order before it has a name: what its hash is computed from."""

    market: Market
    token: TokenId
    side: Side
    price: Price
    size: Shares
    maker_amount: int
    taker_amount: int
    salt: int
    timestamp_ms: int
    metadata: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    order: OrderHash
    approval: str
    root: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    price: Price
    size: Shares
    market: Market
    phase: Phase
    prepared_ns: int
    expires_ns: int
    filled: Shares = Shares(0)  # failed fills taken back
    closed_ns: int = 0


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    order: OrderHash
    trade: str
    price: Price
    size: Shares
    fee: Usd
    settlement: Settlement


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    position: Position = Position()
    changed_ns: int = 0


class State(msgspec.Struct):
    orders: dict[OrderHash, Order] = {}
    fills: dict[str, Fill] = {}  # by "trade|order"
    holdings: dict[TokenId, Holding] = {}
    corrected: list[str] = []  # drifts applied, bounded: a correction is applied once


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An approval with the freshest book."""

    approval: OrderApproved
    book: Book | None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The venue took the order."""

    order: OrderHash
    answer: PostAnswer
    latency_ns: int


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The venue refused the order and, asked again by its hash, knows nothing of it."""

    order: OrderHash
    reason: str
    detail: str


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The answer did not arrive, or the process restarted before it did."""

    order: OrderHash
    reason: str


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """REST said how an order stands, after all its fills were read."""

    report: OrderReport
    fills: tuple[OwnFill, ...]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """The venue does not know the hash, for the n-th time; its trades do not name it either."""

    order: OrderHash
    attempts: int


def fill_key(trade: str, order: OrderHash) -> str:
    return f"{trade}|{order}"


def is_settled(state: State, order: OrderHash) -> bool:
    fills = [fill for fill in state.fills.values() if fill.order == order]
    return all(RANK[fill.settlement] == TERMINAL for fill in fills)


def open_orders(state: State) -> list[Order]:
    return [order for order in state.orders.values() if order.phase != "closed"]


def order_from(fact: OrderPrepared) -> Order:
    return Order(
        order=fact.order,
        approval=fact.approval,
        root=fact.root,
        leader=fact.leader,
        condition=fact.condition,
        token=fact.token,
        outcome=fact.outcome,
        side=fact.side,
        price=fact.price,
        size=fact.size,
        market=fact.market,
        phase="prepared",
        prepared_ns=fact.ts_ns,
        expires_ns=fact.expires_ns,
    )
