"""Builders with defaults for what risk hears and decides on: say only what a claim is about."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from services.risk.caps import Case
from services.risk.core import decide, evolve
from services.risk.policy import FULL, Cap, Policy, Sizing
from services.risk.state import (
    Feeds,
    Reconsider,
    Review,
    State,
    Usage,
    View,
    due,
    key_of,
)
from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet, content_id
from shared.domain.market import Market, Side
from shared.domain.messages import (
    Fact,
    FillSettled,
    HaltTrading,
    IntentFormed,
    OrderApproved,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderRefused,
    PositionClosed,
    PositionCorrected,
    ReduceOnly,
    ResumeTrading,
    TargetSet,
)
from shared.domain.positions import Position
from shared.domain.units import NS_PER_S, ZERO_USD, Bps, Price, Shares, Usd
from shared.domain.views import AccountView
from shared.runtime.runner import encode_state

NOW_NS = 1_800_000_000 * NS_PER_S
LEADER = Wallet("0x" + "01" * 20)
OTHER = Wallet("0x" + "02" * 20)
SHARE = 1_000_000
DOLLAR = 1_000_000
CENT = 10_000
HALF = Price(50 * CENT)


def shares(count: float) -> Shares:
    return Shares(round(count * SHARE))


def usd(count: float) -> Usd:
    return Usd(round(count * DOLLAR))


def cents(count: float) -> Price:
    return Price(round(count * CENT))


def seconds(count: float) -> int:
    return round(count * NS_PER_S)


def condition(number: int = 1) -> ConditionId:
    return ConditionId(f"0x{number:064x}")


def tokens(number: int = 1) -> tuple[TokenId, TokenId]:
    return TokenId(f"{number}1"), TokenId(f"{number}2")


YES, NO = tokens()
HEARD = Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=0)
_CAPS = ("trade", "market", "event", "category", "total")


def policy(**changes: Any) -> Policy:
    """Return the limits, caps in dollars by their names in the settings: ``trade_usd_max``."""
    base = Policy(
        sizing=Sizing(mode="fixed", trade_usd=usd(10), leader_usd_max=usd(500)),
        entry_age_ns_max=seconds(30),
        order_ttl_ns=seconds(5),
        book_age_ns_max=seconds(5),
        book_dead_ns=seconds(60),
        market_age_ns_max=seconds(900),
        account_age_ns_max=seconds(60),
        slippage_bps_max=Bps(200),
        price_moved_bps_max=Bps(500),
        price_min=cents(2),
        price_max=cents(98),
        trade=Cap(usd(50)),
        market=Cap(usd(200)),
        event=Cap(usd(400)),
        category=Cap(usd(1_000)),
        total=Cap(usd(2_000)),
        daily_loss_usd_max=usd(200),
        drift_usd_max=usd(50),
        rejects_max=10,
        rejects_window_ns=seconds(60),
        retry_ns=seconds(1),
        dust=Shares(10_000),
    )
    for name in _CAPS:
        if f"{name}_usd_max" in changes:
            changes[name] = Cap(changes.pop(f"{name}_usd_max"))
    return msgspec.structs.replace(base, **changes)


def market(number: int = 1, **changes: Any) -> Market:
    base = Market(
        condition=condition(number),
        tokens=tokens(number),
        outcomes=("Yes", "No"),
        tick=Price(CENT),
        size_min=shares(5),
        event=f"event-{number}",
        as_of_ns=NOW_NS,
    )
    return msgspec.structs.replace(base, **changes)


def book(
    *, bid: float | None = 49, ask: float | None = 50, size: float = 1_000, **changes: Any
) -> Book:
    """Return a book with one level a side; None is an empty side."""
    base = Book(
        token=YES,
        condition=condition(),
        bids=() if bid is None else ((cents(bid), shares(size)),),
        asks=() if ask is None else ((cents(ask), shares(size)),),
        as_of_ns=NOW_NS,
        seen_ns=NOW_NS,
        trusted=True,
    )
    return msgspec.structs.replace(base, **changes)


def account(**changes: Any) -> AccountView:
    base = AccountView(as_of_ns=NOW_NS, collateral=usd(10_000), closed_only=False, orders=())
    return msgspec.structs.replace(base, **changes)


def view(
    *, of: Market | None = None, now_ns: int = NOW_NS, size: float = 1_000, **changes: Any
) -> View:
    """Return all that is known of a market at a moment: YES at 49/50 and NO at 50/51."""
    of = of or market()
    yes = book(bid=49, ask=50, size=size, token=of.tokens[0], seen_ns=now_ns)
    no = book(bid=50, ask=51, size=size, token=of.tokens[1], seen_ns=now_ns)
    of = msgspec.structs.replace(of, as_of_ns=now_ns)
    base = View(market=of, books=(yes, no), account=account(as_of_ns=now_ns), feeds=HEARD)
    return msgspec.structs.replace(base, **changes)


def intent(
    before: float,
    after: float,
    *,
    name: str = "intent",
    leader: Wallet = LEADER,
    number: int = 1,
    yes_price: Price = HALF,
    venue_ns: int = NOW_NS,
) -> IntentFormed:
    id_ = content_id("intent_formed", name, leader, number, str(before), str(after))
    return IntentFormed(
        id=id_,
        cause="fill",
        root="root",
        ts_ns=venue_ns,
        leader=leader,
        condition=condition(number),
        before=shares(before),
        after=shares(after),
        yes_price=yes_price,
        notional=Usd(0),
        fills=("fill",),
        opened_ns=venue_ns,
        venue_ns=venue_ns,
        closed_by="quiet",
    )


def review(formed: IntentFormed, seen: View | None = None) -> Review:
    return Review(intent=formed, view=seen or view())


def reconsider(
    state: State,
    now_ns: int = NOW_NS,
    *,
    seen: View | None = None,
    drift_usd: Usd = ZERO_USD,
    rules: Policy | None = None,
) -> Reconsider:
    """Ask again for what is due, each market as it is by default."""
    views = {
        key: seen or view(of=market(_number(state, key)), now_ns=now_ns)
        for key in due(state, (rules or policy()).dust, now_ns)
    }
    return Reconsider(now_ns=now_ns, views=views, drift_usd=drift_usd, feeds=HEARD)


def _number(state: State, key: str) -> int:
    return int(state.targets[key].condition, 16)


def step(
    state: State, message: object, now_ns: int = NOW_NS, *, rules: Policy | None = None
) -> list[Fact]:
    """Decide and apply, as the runner does with one input."""
    before = encode_state(state)
    facts = decide(rules or policy(), state, message, now_ns)
    assert encode_state(state) == before, "deciding changed the state"
    for fact in facts:
        evolve(state, fact)
    return facts


def approval_in(facts: Iterable[Fact]) -> OrderApproved:
    (found,) = [fact for fact in facts if isinstance(fact, OrderApproved)]
    return found


def refusal_in(facts: Iterable[Fact]) -> OrderRefused:
    (found,) = [fact for fact in facts if isinstance(fact, OrderRefused)]
    return found


def target_in(facts: Iterable[Fact]) -> TargetSet:
    (found,) = [fact for fact in facts if isinstance(fact, TargetSet)]
    return found


def kinds(facts: Iterable[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]


def fill(
    approval: OrderApproved,
    size: Shares | None = None,
    *,
    trade: str = "t1",
    at: Price | None = None,
    fee: Usd = ZERO_USD,
) -> OrderFilled:
    order = OrderHash("0x" + content_id("order", approval.id) * 2)
    return OrderFilled(
        id=content_id("order_filled", trade, order),
        cause="prepared",
        root=approval.root,
        ts_ns=approval.ts_ns,
        order=order,
        approval=approval.id,
        leader=approval.leader,
        condition=approval.condition,
        token=approval.token,
        outcome=approval.market.outcome_of(approval.token),
        trade=trade,
        side=approval.side,
        price=at or approval.limit,
        size=approval.size if size is None else size,
        fee=fee,
        settlement="MATCHED",
        venue_ns=approval.ts_ns,
    )


def failed(filled: OrderFilled) -> FillSettled:
    return FillSettled(
        id=content_id("fill_settled", filled.trade, filled.order, "FAILED"),
        cause=filled.id,
        root=filled.root,
        ts_ns=filled.ts_ns,
        order=filled.order,
        approval=filled.approval,
        leader=filled.leader,
        condition=filled.condition,
        token=filled.token,
        outcome=filled.outcome,
        trade=filled.trade,
        side=filled.side,
        price=filled.price,
        size=filled.size,
        fee=filled.fee,
        settlement="FAILED",
    )


def closed(approval: OrderApproved, filled: Shares, reason: str = "filled") -> OrderClosed:
    order = OrderHash("0x" + content_id("order", approval.id) * 2)
    return OrderClosed(
        id=content_id("order_closed", order),
        cause="prepared",
        root=approval.root,
        ts_ns=approval.ts_ns,
        order=order,
        approval=approval.id,
        token=approval.token,
        filled=filled,
        reason=reason,
    )


def declined(approval: OrderApproved) -> OrderDeclined:
    return OrderDeclined(
        id=content_id("order_declined", approval.id),
        cause=approval.id,
        root=approval.root,
        ts_ns=approval.ts_ns,
        approval=approval.id,
        leader=approval.leader,
        condition=approval.condition,
        token=approval.token,
        reason="NO_DEPTH",
        actual=0,
        limit=0,
        unit="price",
    )


def correction(
    change: float, *, name: str = "drift", number: int = 1, outcome: Literal[0, 1] = 0
) -> PositionCorrected:
    return PositionCorrected(
        id=content_id("position_corrected", name),
        cause="drift",
        root="drift",
        ts_ns=NOW_NS,
        condition=condition(number),
        token=tokens(number)[outcome],
        outcome=outcome,
        shares=shares(change),
        reason="sold_outside",
    )


def ended(
    of: Market, payouts: tuple[Price, Price], had: tuple[Shares, Shares], *, name: str = "end"
) -> PositionClosed:
    """Return how the executor closed what the account had of a market that is over."""
    id_ = f"position_closed {name}"
    return PositionClosed(
        id=id_,
        cause="",
        root=id_,
        ts_ns=NOW_NS,
        condition=of.condition,
        tokens=of.tokens,
        payouts=payouts,
        shares=had,
        cost=Usd(0),
        realised=Usd(0),
    )


def halt(name: str = "halt") -> HaltTrading:
    return HaltTrading(id=name, cause="", root=name, ts_ns=NOW_NS, reason="lunch", actor="me")


def reduce_only(name: str = "reduce") -> ReduceOnly:
    return ReduceOnly(id=name, cause="", root=name, ts_ns=NOW_NS, reason="doubt", actor="me")


def resume(name: str = "resume") -> ResumeTrading:
    return ResumeTrading(id=name, cause="", root=name, ts_ns=NOW_NS, reason="back", actor="me")


def execute(
    state: State, approval: OrderApproved, size: Shares | None = None, **terms: Any
) -> list[Fact]:
    """Fill an order, wholly by default, and close it."""
    filled = fill(approval, size, **terms)
    facts = step(state, filled, approval.ts_ns)
    reason = "filled" if filled.size == approval.size else "killed"
    return facts + step(state, closed(approval, filled.size, reason), approval.ts_ns)


def holding(
    count: float,
    *,
    state: State | None = None,
    leader: Wallet = LEADER,
    rules: Policy | None = None,
) -> State:
    """Return a state in which a leader's entry of some shares was copied whole, at 50 cents."""
    state = State() if state is None else state
    rules = rules or policy()
    sizing = msgspec.structs.replace(rules.sizing, trade_usd=usd(1_000))
    rules = msgspec.structs.replace(
        rules, sizing=sizing, leaders={}, trade=Cap(usd(1_000)), market=Cap(usd(1_000))
    )
    formed = intent(0, count, name="entry", leader=leader)
    facts = step(state, review(formed, view(size=10_000)), rules=rules)
    execute(state, approval_in(facts), at=cents(50), trade=f"entry of {leader}")
    return state


def held(state: State, *, leader: Wallet = LEADER, number: int = 1) -> tuple[Shares, Shares]:
    """Return the YES and NO shares booked to a leader."""
    found = state.held.get(key_of(leader, condition(number)))
    return (found.yes.shares, found.no.shares) if found else (Shares(0), Shares(0))


def case(*, side: Side = "BUY", size: float = 20, **changes: Any) -> Case:
    """Return an order under review that every rule lets pass: 20 shares, at 51 cents or better.

    A sale is an exit from 20 shares that cost ten dollars.
    """
    nothing = Usage(
        leader=Usd(0), market=Usd(0), event=Usd(0), category=Usd(0), total=Usd(0), reserved=Usd(0)
    )
    base = Case(
        policy=policy(),
        leader=LEADER,
        sizing=Sizing(leader_usd_max=usd(500)),
        market=market(),
        token=YES,
        side=side,
        size=shares(size),
        opens=side == "BUY",
        nets=False,
        available=shares(20),
        own=Position(shares=shares(20), cost=usd(10)),
        leader_price=cents(50),
        venue_ns=NOW_NS,
        book=book(),
        account=account(),
        usage=nothing,
        regime="normal",
        equity=usd(10_000),
        daily_loss=Usd(0),
        drawdown=Usd(0),
        feed_bps=FULL,
        now_ns=NOW_NS,
    )
    return msgspec.structs.replace(base, **changes)
