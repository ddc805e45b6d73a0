"""Approved orders are prepared on record, sent once, and followed to their end.

The POST's answer, the user stream and REST may say the same thing in any order and any number of
times: fills are booked by (trade, order), settlements only move forward, and an order is closed
by numbers (all matched shares are booked), never by a status word.
"""

from typing import Final

import msgspec

from services.executor import (
    answers,
    burial,
    corrections,
    fills,
    orders,
    patience,
    redemptions,
    resting,
    shortfall,
)
from services.executor.lifecycle import Event, after
from services.executor.state import (
    RANK,
    TERMINAL,
    Answered,
    Attempt,
    Due,
    Fill,
    Holding,
    Lost,
    Missing,
    Policy,
    Proved,
    Redeemed,
    Refusal,
    Reported,
    Resting,
    State,
    Unreadable,
    fill_key,
    known_fill,
    order_from,
)
from shared.domain.ids import OrderHash
from shared.domain.messages import (
    ApprovalWithdrawn,
    CancelRequested,
    CashCorrected,
    DriftFound,
    EndOrder,
    Fact,
    FillSettled,
    HoldingResolved,
    OrderAccepted,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderFound,
    OrderOutcomeUnknown,
    OrderPrepared,
    OrderRejected,
    OrderResent,
    OrderSurrendered,
    PositionClosed,
    PositionCorrected,
    RedemptionEnded,
    RedemptionSent,
    ShortfallMeasured,
)
from shared.domain.observations import OwnFill
from shared.domain.positions import Execution, Position, apply
from shared.domain.units import NS_PER_S, Shares, Usd, cost_up, proceeds_down
from shared.domain.views import AccountView

_EMPTY_KEPT_NS: Final = 3_600 * NS_PER_S


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what an approval, an answer, a fill or a report adds to what is on record."""
    facts = _decided(policy, state, message, now_ns)
    return [*facts, *shortfall.measured(state, facts, now_ns)]


def _decided(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    match message:
        case Attempt():
            return orders.attempt(policy, state, message, now_ns)
        case Answered(order=order) | Proved(order=order):
            return answers.answered(state.orders.get(order), message, now_ns)
        case Refusal(order=order):
            return answers.refused(state.orders.get(order), message, now_ns)
        case Lost(order=order):
            return answers.lost(state.orders.get(order), message, now_ns)
        case OwnFill():
            return fills.book(state, message, now_ns)
        case DriftFound() | HoldingResolved() | AccountView():
            return _compared(state, message, now_ns)
        case Due():
            return redemptions.due(policy, state, now_ns)
        case Redeemed():
            return redemptions.ended(policy, state, message, now_ns)
        case _:
            return _looked(policy, state, message, now_ns)


def _compared(
    state: State, message: DriftFound | HoldingResolved | AccountView, now_ns: int
) -> list[Fact]:
    """Return what a comparison with the venue, or the balance it told, adds."""
    match message:
        case DriftFound():
            return corrections.corrected(state, message, now_ns)
        case HoldingResolved():
            return corrections.resolved(state, message, now_ns)
        case AccountView():
            return corrections.opened(state, message, now_ns)


def _looked(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what a look-up of an order adds."""
    match message:
        case Reported():
            return patience.reported(policy, state, message, now_ns)
        case Missing(order=order):
            return patience.missing(policy, state, state.orders.get(order), message, now_ns)
        case Resting(order=order):
            return resting.judged(state.orders.get(order), message, now_ns)
        case ApprovalWithdrawn():
            return resting.withdrawn(state, message, now_ns)
        case EndOrder(order=order):
            return patience.given_up(state.orders.get(order), message, now_ns)
        case Unreadable(order=order):
            return patience.unreadable(policy, state.orders.get(order), message, now_ns)
        case _:
            return []


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the executor's own facts."""
    match fact:
        case OrderPrepared():
            state.orders[fact.order] = order_from(fact)
            burial.bury_old(state, fact.ts_ns)
            _drop_empty(state, fact.ts_ns)
        case (
            OrderAccepted()
            | OrderFound()
            | OrderOutcomeUnknown()
            | OrderResent()
            | OrderSurrendered()
            | CancelRequested()
        ):
            _learn(state, fact)
        case OrderRejected() | OrderDeclined() | ShortfallMeasured():
            pass  # the closing fact ends the order; a declined approval never became one
        case OrderFilled() | FillSettled():
            _apply(state, fact)
        case OrderClosed():
            burial.close(state, fact)
        case PositionCorrected() | PositionClosed() | CashCorrected():
            _correct(state, fact)
        case RedemptionSent() | RedemptionEnded():
            redemptions.evolve(state, fact)
        case _:
            raise AssertionError(f"not a fact of the executor: {fact}")


def _learn(
    state: State,
    fact: OrderAccepted
    | OrderFound
    | OrderOutcomeUnknown
    | OrderResent
    | OrderSurrendered
    | CancelRequested,
) -> None:
    match fact:
        case OrderAccepted():
            _enter(state, fact.order, answers.PROVED_BY[fact.status], answered=True)
        case OrderFound():
            _enter(state, fact.order, answers.PROVED_BY[fact.status])
        case OrderOutcomeUnknown():
            _enter(state, fact.order, "lost", retry_ns=fact.retry_ns)
        case OrderResent():
            _enter(state, fact.order, "resent", resends=fact.resend)
        case OrderSurrendered():
            _enter(state, fact.order, "surrendered", surrendered_ns=fact.ts_ns)
        case CancelRequested():
            _enter(state, fact.order, "cancelled", cancel=fact.reason)


def _enter(state: State, name: OrderHash, event: Event, **changes: object) -> None:
    """Move an order to where an event leads."""
    order = state.orders[name]
    phase = after(order.phase, event) or order.phase
    state.orders[name] = msgspec.structs.replace(order, phase=phase, **changes)


def _apply(state: State, fact: OrderFilled | FillSettled) -> None:
    burial.unearth(state, fact.order)
    known = known_fill(state, fact.trade, fact.order)
    state.fills[fill_key(fact.trade, fact.order)] = Fill(
        order=fact.order,
        trade=fact.trade,
        price=fact.price,
        size=fact.size,
        fee=fact.fee,
        settlement=fact.settlement,
        booked_ns=known.booked_ns if known else fact.ts_ns,
    )
    moved = fills.moved(fact)
    if moved:
        filled = Shares(state.orders[fact.order].filled + moved)
        _enter(state, fact.order, "filled", filled=filled)
        corrections.pay(state, fact)
        holding = _holding(state, fact)
        state.holdings[fact.token] = msgspec.structs.replace(
            holding, position=_after(holding.position, fact), changed_ns=fact.ts_ns
        )
    if RANK[fact.settlement] == TERMINAL:
        state.holdings[fact.token] = msgspec.structs.replace(
            state.holdings[fact.token], changed_ns=fact.ts_ns
        )
        burial.bury(state, fact.order)


def _holding(state: State, fact: OrderFilled | FillSettled) -> Holding:
    return state.holdings.get(fact.token) or Holding(
        condition=fact.condition, token=fact.token, outcome=fact.outcome
    )


def _after(position: Position, fact: OrderFilled | FillSettled) -> Position:
    """Return the position after a fill, or after a failed one is taken back."""
    notional = (cost_up if fact.side == "BUY" else proceeds_down)(fact.price, fact.size)
    if isinstance(fact, OrderFilled):
        return apply(
            position,
            Execution(side=fact.side, size=fact.size, notional=notional, fee=fact.fee),
        )
    sign = -1 if fact.side == "BUY" else 1
    fee = fact.fee if fact.side == "BUY" else -fact.fee
    return Position(
        shares=Shares(position.shares + sign * fact.size),
        cost=Usd(position.cost + sign * (notional + fee)),
        realised=position.realised,
    )


def _correct(state: State, fact: PositionCorrected | PositionClosed | CashCorrected) -> None:
    match fact:
        case PositionCorrected():
            corrections.correct(state, fact)
            redemptions.note(state, fact)
        case PositionClosed():
            corrections.close(state, fact)
            redemptions.note(state, fact)
        case CashCorrected():
            corrections.correct_cash(state, fact)


def _drop_empty(state: State, now_ns: int) -> None:
    """Drop the tokens long empty: before that, when they moved excuses a venue that lags."""
    referred = {state.orders[fill.order].token for fill in state.fills.values()}
    state.holdings = {
        token: holding
        for token, holding in state.holdings.items()
        if holding.position.shares
        or holding.claim
        or holding.position.realised
        or token in referred
        or now_ns - holding.changed_ns < _EMPTY_KEPT_NS
    }


__all__ = ["Policy", "State", "decide", "evolve"]
