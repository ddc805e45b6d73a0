"""What the executor knows of its orders, fills and positions; and its settings and inputs."""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from services.executor.lifecycle import Phase
from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.messages import OrderApproved, OrderPolicy, OrderPrepared
from shared.domain.observations import OrderReport, OwnFill, PostAnswer, Settlement
from shared.domain.positions import Position
from shared.domain.units import NS_PER_S, Price, Shares, Usd

# A settlement never goes back: a later word of a lower rank is an old one (protocol.md 4.3).
RANK: Final[dict[Settlement, int]] = {
    "MATCHED": 0,
    "RETRYING": 1,
    "MINED": 2,
    "CONFIRMED": 3,
    "FAILED": 3,
}
TERMINAL: Final = 3
WITHDRAWN: Final = "WITHDRAWN"  # why an order was not sent: risk wants it no more
NEVER_NS: Final = 1 << 62  # later than any time to live


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    wallet: Wallet
    book_age_ns_max: int
    lookup_attempts: int
    resends_max: int = 3  # of one order, the same bytes
    patience_ns: int = 600 * NS_PER_S  # past its time to live, before an order is surrendered
    surrendered_kept_ns: int = 86_400 * NS_PER_S  # how long one is still followed then
    redeem_after_ns: int | None = None  # after a market's end; None: nothing is redeemed
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
    policy: OrderPolicy = "fill_and_kill"


class Marks(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The prices that an order's cost is measured against; None where a side was empty."""

    leader: Price
    decision: Price | None = None  # the mid when risk approved it
    arrival: Price | None = None  # the mid when it went out
    estimate: Price | None = None  # the average that was expected


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    # With the above, what was signed: the same bytes can be made again.
    maker_amount: int = 0
    taker_amount: int = 0
    salt: int = 0
    timestamp_ms: int = 0
    metadata: str = ""
    marks: Marks | None = None
    policy: OrderPolicy = "fill_and_kill"
    expiration_s: int = 0
    reprice_ticks: int = 0
    cancel: str = ""  # why the venue is asked to cancel it; "": it is not
    filled: Shares = Shares(0)  # failed fills taken back
    # Of an open order alone:
    answered: bool = False  # the POST's answer is on record
    resends: int = 0
    retry_ns: int = 0  # not sent again before this
    surrendered_ns: int = 0  # when the operator was told; 0: not
    closed_ns: int = 0


class Fill(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    order: OrderHash
    trade: str
    price: Price
    size: Shares
    fee: Usd
    settlement: Settlement
    booked_ns: int


class Buried(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A closed order kept small, for a fill that may still be told and for those told again."""

    approval: str
    root: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    price: Price
    size: Shares
    fee_rate: int
    fee_exponent: int
    prepared_ns: int
    expires_ns: int
    closed_ns: int
    filled: Shares
    fills: tuple[Fill, ...]
    marks: Marks | None = None


class Holding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    position: Position = Position()
    changed_ns: int = 0
    claim: Shares = Shares(0)  # of a market that is over, until it is redeemed
    payout: Price = Price(0)  # of a share of the claim

    @property
    def at_venue(self) -> Shares:
        """Return the shares that the venue should show: those of a claim stay until redeemed."""
        return Shares(self.position.shares + self.claim)


class Redemption(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A market that is over and owes us dollars, until the venue shows that it paid them."""

    closed: str  # the fact that made the claim
    root: str
    closed_ns: int
    attempts: int = 0
    retry_ns: int = 0  # not asked again before this
    under_way: bool = False


class Cash(msgspec.Struct, frozen=True, kw_only=True):
    """What we believe to have: the first reading, and what every fill since then moved."""

    usd: Usd
    changed_ns: int


class State(msgspec.Struct):
    orders: dict[OrderHash, Order] = {}  # open, or with fills that are not final
    fills: dict[str, Fill] = {}  # of those, by "trade|order"
    buried: dict[OrderHash, Buried] = {}  # the others, for days, bounded
    holdings: dict[TokenId, Holding] = {}
    cash: Cash | None = None  # None: not read yet with nothing in motion
    redemptions: dict[ConditionId, Redemption] = {}
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
    retry_ns: int = 0  # not to be sent again before this: the venue asked for time, or said no


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """The venue called this sending a duplicate: an earlier one arrived."""

    order: OrderHash
    latency_ns: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How often the venue was asked for an order by this process, and what it said."""

    posts: int = 0
    looks: int = 0
    missing: int = 0  # looks that showed neither the order nor a trade of it
    unreadable: int = 0  # looks that gave no answer
    last: str = ""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """REST said how an order stands, after all its fills were read."""

    report: OrderReport
    fills: tuple[OwnFill, ...]
    asked: Asked = Asked()


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """The venue does not know the hash, and what its trades name of it has been said."""

    order: OrderHash
    attempts: int  # in a row, since nothing could be under way any more
    resends: int = 0  # how many of those on record were made, and not refused
    asked: Asked = Asked()


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """An order stands in the book; ``near`` is the best price on its side, where it is known."""

    order: OrderHash
    near: Price | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """It is time to look whether claims should be redeemed."""


class Redeemed(msgspec.Struct, frozen=True, kw_only=True):
    """How asking to redeem ended."""

    condition: ConditionId
    attempt: int
    outcome: Literal["confirmed", "failed", "unknown"]
    tx: str = ""
    detail: str = ""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """The venue was asked for an order and did not answer."""

    order: OrderHash
    asked: Asked


def fill_key(trade: str, order: OrderHash) -> str:
    return f"{trade}|{order}"


def known_order(state: State, order: OrderHash) -> Order | None:
    """Return an order of ours, open, closed or buried."""
    buried = state.buried.get(order)
    return order_of(order, buried) if buried else state.orders.get(order)


def order_of(name: OrderHash, buried: Buried) -> Order:
    """Return a buried order as it was when it closed, as far as anything of it still matters."""
    token: tuple[TokenId, TokenId] = (buried.token, buried.token)
    market = Market(
        condition=buried.condition,
        tokens=token,
        outcomes=("", ""),
        tick=Price(0),
        size_min=Shares(0),
        fee_rate=buried.fee_rate,
        fee_exponent=buried.fee_exponent,
    )
    return Order(
        order=name,
        approval=buried.approval,
        root=buried.root,
        leader=buried.leader,
        condition=buried.condition,
        token=buried.token,
        outcome=buried.outcome,
        side=buried.side,
        price=buried.price,
        size=buried.size,
        market=market,
        phase="closed",
        prepared_ns=buried.prepared_ns,
        expires_ns=buried.expires_ns,
        closed_ns=buried.closed_ns,
        filled=buried.filled,
        marks=buried.marks,
    )


def known_fill(state: State, trade: str, order: OrderHash) -> Fill | None:
    buried = state.buried.get(order)
    if buried is None:
        return state.fills.get(fill_key(trade, order))
    return next((fill for fill in buried.fills if fill.trade == trade), None)


def fills_of(state: State, order: OrderHash) -> list[Fill]:
    """Return the fills of an order that is not buried."""
    return [fill for fill in state.fills.values() if fill.order == order]


def has_order_for(state: State, approval: str) -> bool:
    """Tell whether an approval has become an order already."""
    return any(order.approval == approval for order in state.orders.values()) or any(
        buried.approval == approval for buried in state.buried.values()
    )


def is_settled(state: State, order: OrderHash) -> bool:
    return all(RANK[fill.settlement] == TERMINAL for fill in fills_of(state, order))


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
        maker_amount=fact.maker_amount,
        taker_amount=fact.taker_amount,
        salt=fact.salt,
        timestamp_ms=fact.timestamp_ms,
        metadata=fact.metadata,
        marks=Marks(
            leader=fact.leader_price,
            decision=fact.decision_mid,
            arrival=fact.quote.mid,
            estimate=fact.quote.average,
        ),
        policy=fact.policy,
        expiration_s=fact.expiration_s,
        reprice_ticks=fact.reprice_ticks,
    )
