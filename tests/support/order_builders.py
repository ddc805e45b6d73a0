"""Builders with defaults for the life of our own orders: say only what a claim is about."""

from collections.abc import Iterable
from typing import Any

import msgspec

from services.executor.core import decide, evolve
from services.executor.state import (
    Answered,
    Asked,
    Attempt,
    Draft,
    Lost,
    Missing,
    Order,
    Policy,
    Proved,
    Refusal,
    Reported,
    State,
    Unreadable,
)
from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet, content_id
from shared.domain.market import Market, Side
from shared.domain.messages import (
    DriftFound,
    Fact,
    OrderApproved,
    OrderPrepared,
    Quote,
    ShortfallMeasured,
)
from shared.domain.observations import (
    OrderReport,
    OrderStatus,
    OwnFill,
    PostAnswer,
    Settlement,
)
from shared.domain.units import NS_PER_S, Price, Shares, Usd

WALLET = Wallet("0x" + "aa" * 20)
LEADER = Wallet("0x" + "01" * 20)
CONDITION = ConditionId("0x" + "c0" * 32)
YES, NO = TokenId("11"), TokenId("12")
START_NS = 1_800_000_000 * NS_PER_S
SHARE = 1_000_000
TEN, HUNDRED = Shares(10 * SHARE), Shares(100 * SHARE)


def price(cents: int) -> Price:
    return Price(cents * 10_000)


def shares(count: int) -> Shares:
    return Shares(count * SHARE)


def name_of(draft: Draft) -> OrderHash:
    """Name a draft by everything in it."""
    return OrderHash("0x" + content_id("draft", msgspec.json.encode(draft).decode()) * 2)


def policy(*, lookup_attempts: int = 3) -> Policy:
    return Policy(
        wallet=WALLET,
        book_age_ns_max=5 * NS_PER_S,
        lookup_attempts=lookup_attempts,
        hash_of=name_of,
    )


def market(*, fee_rate: int = 0) -> Market:
    return Market(
        condition=CONDITION,
        tokens=(YES, NO),
        outcomes=("Yes", "No"),
        tick=price(1),
        size_min=shares(5),
        fee_rate=fee_rate,
    )


def book(*, token: TokenId = YES, seen_ns: int = START_NS, size: Shares = HUNDRED) -> Book:
    return Book(
        token=token,
        condition=CONDITION,
        bids=((price(49), size),) if size else (),
        asks=((price(50), size),) if size else (),
        seen_ns=seen_ns,
        trusted=True,
    )


def approval(
    name: str = "first",
    *,
    token: TokenId = YES,
    side: Side = "BUY",
    size: Shares = TEN,
    limit: Price | None = None,
    reduces: bool = False,
    fee_rate: int = 0,
    expires_ns: int = START_NS + 30 * NS_PER_S,
) -> OrderApproved:
    return OrderApproved(
        id=content_id("order_approved", name),
        cause="intent",
        root="root",
        ts_ns=START_NS,
        leader=LEADER,
        condition=CONDITION,
        token=token,
        side=side,
        size=size,
        limit=limit or (price(50) if side == "BUY" else price(49)),
        leader_price=price(50),
        worst_usd=Usd(5_000_000),
        reduces=reduces,
        market=market(fee_rate=fee_rate),
        expires_ns=expires_ns,
        quote=Quote(best_bid=price(49), best_ask=price(50), depth=shares(100), book_age_ns=0),
    )


def attempt(approved: OrderApproved | None = None, *, fresh: Book | None = None) -> Attempt:
    approved = approved or approval()
    return Attempt(approval=approved, book=fresh or book(token=approved.token))


def step(state: State, message: object, now_ns: int = START_NS) -> list[Fact]:
    """Decide and apply, as the runner does with one input."""
    facts = decide(policy(), state, message, now_ns)
    for fact in facts:
        evolve(state, fact)
    return facts


def feed(state: State, messages: Iterable[object], now_ns: int = START_NS) -> list[Fact]:
    return [fact for message in messages for fact in step(state, message, now_ns)]


def prepared(state: State, approved: OrderApproved | None = None) -> Order:
    """Put an order on record and return it."""
    (fact,) = step(state, attempt(approved))
    assert isinstance(fact, OrderPrepared)
    return state.orders[fact.order]


def fill(
    order: Order,
    trade: str = "t1",
    settlement: Settlement = "MATCHED",
    *,
    size: Shares = TEN,
    at: Price | None = None,
    taker: bool = True,
) -> OwnFill:
    return OwnFill(
        trade=trade,
        order=order.order,
        condition=order.condition,
        token=order.token,
        side=order.side,
        price=at or order.price,
        size=size,
        settlement=settlement,
        taker=taker,
        venue_ns=START_NS,
    )


def answered(order: Order, status: str = "matched") -> Answered:
    return Answered(
        order=order.order,
        answer=PostAnswer(order=order.order, status=status),
        latency_ns=1_000,
    )


def refusal(order: Order, reason: str = "killed") -> Refusal:
    return Refusal(order=order.order, reason=reason, detail="")


def lost(order: Order, *, retry_ns: int = 0) -> Lost:
    return Lost(order=order.order, reason="Timeout", retry_ns=retry_ns)


def duplicated(order: Order) -> Proved:
    return Proved(order=order.order, latency_ns=1_000)


def missing(order: Order, attempts: int, *, resends: int = 0) -> Missing:
    asked = Asked(posts=1, looks=attempts, missing=attempts, last="order not known")
    return Missing(order=order.order, attempts=attempts, resends=resends, asked=asked)


def unreadable(order: Order, looks: int = 1) -> Unreadable:
    asked = Asked(posts=1, looks=looks, unreadable=looks, last="time-out")
    return Unreadable(order=order.order, asked=asked)


def reported(
    order: Order,
    *fills: OwnFill,
    matched: Shares | None = None,
    status: OrderStatus = "MATCHED",
) -> Reported:
    """Report an order with the fills read; by default they are each counted once as matched."""
    distinct = {(f.trade, f.order): f.size for f in fills}
    report = OrderReport(
        order=order.order,
        condition=order.condition,
        token=order.token,
        side=order.side,
        price=order.price,
        size=order.size,
        matched=Shares(sum(distinct.values())) if matched is None else matched,
        status=status,
    )
    return Reported(report=report, fills=fills)


def drift(name: str = "d1", *, token: TokenId = YES, believed: int, observed: int) -> DriftFound:
    return DriftFound(
        id=content_id("drift_found", name),
        cause="suspicion",
        root="suspicion",
        ts_ns=START_NS,
        condition=CONDITION,
        token=token,
        outcome=0 if token == YES else 1,
        believed=shares(believed),
        observed=shares(observed),
        usd=Usd(0),
        probable_cause="bought_outside",
        first_seen_ns=START_NS,
    )


def kinds(facts: Iterable[Fact]) -> list[str]:
    """Return the names of the facts; what an order cost, told at each end, has its own tests."""
    return [type(fact).__name__ for fact in facts if not isinstance(fact, ShortfallMeasured)]


def only(facts: Iterable[Fact], kind: type[Any]) -> Any:
    (found,) = [fact for fact in facts if isinstance(fact, kind)]
    return found
