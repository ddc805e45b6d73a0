"""What the executor says, booked to the leaders who caused it."""

from typing import Final, Literal

import msgspec

from services.risk import dynamics
from services.risk.policy import Policy
from services.risk.state import (
    UNATTRIBUTED,
    Held,
    Reservation,
    State,
    held_of,
    key_of,
)
from services.risk.working import CALLED_OFF
from shared.domain.ids import OrderHash, TokenId, Wallet, content_id
from shared.domain.market import Side
from shared.domain.messages import (
    Fact,
    FillSettled,
    HoldingChanged,
    LeadersNetted,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    PositionCorrected,
    ReservationEnded,
    TargetSet,
)
from shared.domain.positions import Execution, Position, apply, cost_released, yes_price
from shared.domain.units import (
    MICRO,
    ZERO_SHARES,
    Price,
    Shares,
    Usd,
    bps_worse,
    cost_up,
    proceeds_down,
    scale_down,
)

Fill = OrderFilled | FillSettled
Owner = HoldingChanged | PositionCorrected  # whose token and outcome others' shares move in
_DOUBLINGS_MAX: Final = 6


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One execution as it is booked to a leader, which may be on the other outcome than traded."""

    cause: Fill | LeadersNetted
    leader: Wallet
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    size: Shares
    dollars: Usd  # that change hands, fee apart
    fee: Usd = Usd(0)
    order: OrderHash | None = None
    approval: str = ""
    crossed: Shares = Shares(0)  # change of the sets leaders hold against each other


def trade_of(state: State, fill: Fill, sign: Literal[1, -1] = 1) -> Trade:
    """Return how a fill is booked, or with a sign of -1 how it is to be undone.

    An order that netted is booked on the other outcome: selling YES that others hold at p is
    this leader's buying NO at 1 - p, and the sets the two hold against each other grow; buying NO
    to end such sets is his selling YES. A set is a dollar, so what one side pays the other gets.
    What comes so late that those sets have ended another way is booked as what it is.
    """
    reservation = state.reserved.get(fill.approval)
    nets = reservation.nets if reservation else state.netting.get(fill.approval)
    sold = fill.side == "SELL"
    crossed = fill.size if sold else -fill.size
    dollars = (proceeds_down if sold else cost_up)(fill.price, fill.size)
    if nets is None or state.crossed.get(fill.condition, 0) + sign * crossed < 0:
        return Trade(
            cause=fill, leader=fill.leader, token=fill.token, outcome=fill.outcome,
            side=fill.side, size=fill.size, dollars=dollars, fee=fill.fee, order=fill.order,
            approval=fill.approval,
        )  # fmt: skip
    return Trade(
        cause=fill,
        leader=fill.leader,
        token=nets,
        outcome=0 if fill.outcome == 1 else 1,
        side="BUY" if sold else "SELL",
        size=fill.size,
        dollars=Usd(fill.size - dollars),
        fee=fill.fee,
        order=fill.order,
        approval=fill.approval,
        crossed=Shares(crossed),
    )


def booked(state: State, fill: OrderFilled, now_ns: int) -> list[Fact]:
    """Book an execution to the leader who caused it."""
    trade = trade_of(state, fill)
    before = held_of(state, fill.leader, fill.condition).of(trade.outcome)
    after = apply(before, _execution(trade))
    return _moves(state, fill, _change(trade, before, after, now_ns), after, now_ns)


def undone(state: State, fill: FillSettled, now_ns: int) -> list[Fact]:
    """Take a failed execution back from the leader who caused it.

    A failed sale returns its shares at the price they had been sold for: profit once booked is
    not touched, the cost basis is what the venue would pay again.
    """
    trade = trade_of(state, fill, -1)
    before = held_of(state, fill.leader, fill.condition).of(trade.outcome)
    bought = trade.side == "BUY"
    cost = -(trade.dollars + trade.fee) if bought else trade.dollars - trade.fee
    after = Position(
        shares=Shares(before.shares + (-trade.size if bought else trade.size)),
        cost=Usd(before.cost + cost),
        realised=before.realised,
    )
    change = _change(trade, before, after, now_ns)
    change = msgspec.structs.replace(
        change, crossed=Shares(-trade.crossed), notional=Usd(-trade.dollars)
    )
    return _moves(state, fill, change, after, now_ns)


def move(held: Held, trade: Trade) -> HoldingChanged:
    """Return what a trade between leaders does to one of them."""
    before = held.of(trade.outcome)
    return _change(trade, before, apply(before, _execution(trade)), trade.cause.ts_ns)


def _moves(
    state: State, fill: Fill, change: HoldingChanged, after: Position, now_ns: int
) -> list[Fact]:
    """Return what an execution moves: his position, those he took from, a target for the rest."""
    facts: list[Fact] = [change]
    facts += _covered(state, change, after, now_ns)
    if change.shares > 0 and key_of(fill.leader, fill.condition) not in state.targets:
        facts.append(_unwanted(fill, now_ns))
    return facts


def _covered(
    state: State, change: HoldingChanged, after: Position, now_ns: int
) -> list[HoldingChanged]:
    """Take what he sold beyond his own from those whose shares it was, so that nobody owes any."""
    deficit = Shares(max(0, -after.shares))
    taken = _spread(state, change, deficit, now_ns, but=change.leader)
    covered = Shares(sum(-fact.shares for fact in taken))
    if not covered:
        return []
    debtor = Held(leader=change.leader, condition=change.condition)
    cost = scale_down(-after.cost, covered, deficit)
    made = cost + sum(fact.cost for fact in taken)  # what he sold had cost what it cost them
    repaid = msgspec.structs.replace(
        _moved(change, debtor, covered, Position(), now_ns), cost=Usd(cost), realised=Usd(made)
    )
    return [repaid, *taken]


def _unwanted(fill: Fill, now_ns: int) -> TargetSet:
    """Return the target of shares that came after it was given up: none, so they are sold."""
    return TargetSet(
        id=content_id("target_set", fill.id),
        cause=fill.id,
        root=fill.root,
        ts_ns=now_ns,
        leader=fill.leader,
        condition=fill.condition,
        before=ZERO_SHARES,
        target=ZERO_SHARES,
        yes_price=Price(yes_price(fill.outcome, fill.price)),
        venue_ns=now_ns,
        expires_ns=now_ns,
    )


def _change(trade: Trade, before: Position, after: Position, now_ns: int) -> HoldingChanged:
    cause = trade.cause
    own = () if isinstance(cause, Fill) else (trade.leader,)
    return HoldingChanged(
        id=content_id("holding_changed", cause.id, *own),
        cause=cause.id,
        root=cause.root,
        ts_ns=now_ns,
        leader=trade.leader,
        condition=cause.condition,
        token=trade.token,
        outcome=trade.outcome,
        shares=Shares(after.shares - before.shares),
        cost=Usd(after.cost - before.cost),
        realised=Usd(after.realised - before.realised),
        order=trade.order,
        approval=trade.approval,
        crossed=trade.crossed,
        notional=trade.dollars,
    )


def _execution(trade: Trade) -> Execution:
    return Execution(side=trade.side, size=trade.size, notional=trade.dollars, fee=trade.fee)


def released(
    policy: Policy, state: State, end: OrderDeclined | OrderClosed, now_ns: int
) -> list[Fact]:
    reservation = state.reserved.get(end.approval)
    if reservation is None:
        return []
    filled = end.filled if isinstance(end, OrderClosed) else Shares(0)
    excess = slippage(reservation)
    at_once = filled or end.reason in CALLED_OFF
    waits_ns = 0 if at_once else _patience_ns(policy, state, reservation)
    return [
        ReservationEnded(
            id=content_id("reservation_ended", end.approval),
            cause=end.id,
            root=end.root,
            ts_ns=now_ns,
            leader=reservation.leader,
            condition=reservation.condition,
            token=reservation.token,
            approval=end.approval,
            filled=filled,
            reason=end.reason,
            retry_ns=max(reservation.next_ns, now_ns + waits_ns),
            slippage_bps=excess,
            slippage=_averages(policy, state, reservation, excess),
        )
    ]


def _averages(
    policy: Policy, state: State, order: Reservation, excess: int | None
) -> tuple[tuple[str, int], ...]:
    if excess is None:
        return ()
    return tuple(
        (
            name,
            dynamics.next_average(state.slippage.get(name, 0), excess, policy.slippage_weight_bps),
        )
        for name in (order.leader, order.condition)
    )


def slippage(order: Reservation) -> int | None:
    """Return how much worse an order traded than was estimated, in bps; None if it did not."""
    if order.filled <= 0 or not order.estimate:
        return None
    average = Price(max(0, order.notional) * MICRO // order.filled)
    return bps_worse(order.side == "BUY", average, order.estimate)


def _patience_ns(policy: Policy, state: State, failed: Reservation) -> int:
    """Return how long to wait after an order that did nothing: twice as long each time."""
    target = state.targets[key_of(failed.leader, failed.condition)]
    return policy.retry_ns << min(target.failures, _DOUBLINGS_MAX)


def attributed(state: State, correction: PositionCorrected, now_ns: int) -> list[Fact]:
    """Spread a correction over its holders.

    What vanished was first nobody's, then theirs who held it; what appeared ends a deficit, and
    beyond that is nobody's.
    """
    nobody = held_of(state, UNATTRIBUTED, correction.condition)
    position = nobody.of(correction.outcome)
    kept = max(0, min(position.shares, -correction.shares))
    spread = _spread(state, correction, Shares(-correction.shares - kept), now_ns, but=UNATTRIBUTED)
    left = Shares(correction.shares - sum(fact.shares for fact in spread))
    return [*spread, _moved(correction, nobody, left, position, now_ns)] if left else [*spread]


def _spread(
    state: State, cause: Owner, shares: Shares, now_ns: int, *, but: Wallet
) -> list[HoldingChanged]:
    """Take shares from those who hold them, one after the other; give negative ones to debtors."""
    facts: list[HoldingChanged] = []
    for held in sorted(state.held.values(), key=lambda held: held.leader != UNATTRIBUTED):
        if held.condition != cause.condition or held.leader == but:
            continue
        position = held.of(cause.outcome)
        low, high = min(position.shares, 0), max(position.shares, 0)
        taken = Shares(min(max(shares, low), high))
        if taken:
            facts.append(_moved(cause, held, Shares(-taken), position, now_ns))
            shares = Shares(shares - taken)
    return facts


def _moved(
    cause: Owner, held: Held, shares: Shares, position: Position, now_ns: int
) -> HoldingChanged:
    released = cost_released(position, Shares(-shares)) if shares < 0 else Usd(0)
    cause_id = cause.cause if isinstance(cause, HoldingChanged) else cause.id
    return HoldingChanged(
        id=content_id("holding_changed", cause_id, held.leader, shares),
        cause=cause_id,
        root=cause.root,
        ts_ns=now_ns,
        leader=held.leader,
        condition=cause.condition,
        token=cause.token,
        outcome=cause.outcome,
        shares=shares,
        cost=Usd(-released),
        realised=Usd(0),
        order=None,
        approval="",
    )
