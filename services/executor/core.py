"""Approved orders are prepared on record, sent once, and followed to their end.

The POST's answer, the user stream and REST may say the same thing in any order and any number of
times: fills are booked by (trade, order), settlements only move forward, and an order is closed
by numbers (all matched shares are booked), never by a status word.
"""

from typing import Final

import msgspec

from services.executor import answers, orders
from services.executor.state import (
    RANK,
    TERMINAL,
    Answered,
    Attempt,
    Fill,
    Holding,
    Lost,
    Missing,
    Policy,
    Refusal,
    Reported,
    State,
    fill_key,
    is_settled,
    order_from,
)
from shared.domain.ids import OrderHash
from shared.domain.messages import (
    DriftFound,
    Fact,
    FillSettled,
    OrderAccepted,
    OrderClosed,
    OrderDeclined,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderPrepared,
    OrderRejected,
    PositionCorrected,
)
from shared.domain.observations import OwnFill
from shared.domain.positions import Execution, Position, apply, cost_released
from shared.domain.units import NS_PER_S, Shares, Usd, cost_up, proceeds_down

_CORRECTIONS_KEPT: Final = 200
_EMPTY_KEPT_NS: Final = 3_600 * NS_PER_S
_KILLED_KEPT_NS: Final = 120 * NS_PER_S


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return what an approval, an answer, a fill or a report adds to what is on record."""
    match message:
        case Attempt():
            return orders.attempt(policy, state, message, now_ns)
        case Answered(order=order):
            return answers.answered(state.orders.get(order), message, now_ns)
        case Refusal(order=order):
            return answers.refused(state.orders.get(order), message, now_ns)
        case Lost(order=order):
            return answers.lost(state.orders.get(order), message, now_ns)
        case OwnFill():
            return answers.book(state, message, now_ns)
        case Reported():
            return answers.reported(state, message, now_ns)
        case Missing(order=order):
            return answers.missing(policy, state, state.orders.get(order), message, now_ns)
        case DriftFound():
            return answers.corrected(state, message, now_ns)
        case _:
            return []


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the executor's own facts."""
    match fact:
        case OrderPrepared():
            state.orders[fact.order] = order_from(fact)
            _drop_killed(state, fact.ts_ns)
            _drop_empty(state, fact.ts_ns)
        case OrderAccepted():
            _move(state, fact.order, phase="accepted")
        case OrderOutcomeUnknown():
            _move(state, fact.order, phase="unknown")
        case OrderRejected() | OrderDeclined():
            pass  # the closing fact ends the order; a declined approval never became one
        case OrderFilled() | FillSettled():
            _apply(state, fact)
        case OrderClosed():
            _move(state, fact.order, phase="closed", closed_ns=fact.ts_ns)
            _forget(state, fact.order)
        case PositionCorrected():
            _correct(state, fact)
        case _:
            raise AssertionError(f"not a fact of the executor: {fact}")


def _move(state: State, order: OrderHash, **changes: object) -> None:
    state.orders[order] = msgspec.structs.replace(state.orders[order], **changes)


def _apply(state: State, fact: OrderFilled | FillSettled) -> None:
    state.fills[fill_key(fact.trade, fact.order)] = Fill(
        order=fact.order,
        trade=fact.trade,
        price=fact.price,
        size=fact.size,
        fee=fact.fee,
        settlement=fact.settlement,
    )
    moved = answers.moved(fact)
    if moved:
        filled = state.orders[fact.order].filled
        _move(state, fact.order, filled=Shares(filled + moved))
        holding = _holding(state, fact)
        state.holdings[fact.token] = msgspec.structs.replace(
            holding, position=_after(holding.position, fact), changed_ns=fact.ts_ns
        )
    if RANK[fact.settlement] == TERMINAL:
        state.holdings[fact.token] = msgspec.structs.replace(
            state.holdings[fact.token], changed_ns=fact.ts_ns
        )
        _forget(state, fact.order)


def _holding(state: State, fact: OrderFilled | FillSettled | PositionCorrected) -> Holding:
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


def _correct(state: State, fact: PositionCorrected) -> None:
    holding = _holding(state, fact)
    old = holding.position
    released = cost_released(old, Shares(-fact.shares)) if fact.shares < 0 else Usd(0)
    position = Position(
        shares=Shares(old.shares + fact.shares),
        cost=Usd(old.cost - released),
        realised=old.realised,
    )
    state.holdings[fact.token] = msgspec.structs.replace(
        holding, position=position, changed_ns=fact.ts_ns
    )
    state.corrected = [*state.corrected, fact.cause][-_CORRECTIONS_KEPT:]


def _drop_empty(state: State, now_ns: int) -> None:
    """Drop the tokens long empty: before that, when they moved excuses a venue that lags."""
    referred = {state.orders[fill.order].token for fill in state.fills.values()}
    state.holdings = {
        token: holding
        for token, holding in state.holdings.items()
        if holding.position.shares
        or holding.position.realised
        or token in referred
        or now_ns - holding.changed_ns < _EMPTY_KEPT_NS
    }


def _forget(state: State, order: OrderHash) -> None:
    """Forget an order once it is closed and every fill of it is final: nothing refers to it.

    One that closed without a fill is kept for a while: kills have been told of orders that filled
    all the same, and a fill of a forgotten order is nobody's.
    """
    fills = [fill for fill in state.fills.values() if fill.order == order]
    if state.orders[order].phase == "closed" and fills and is_settled(state, order):
        del state.orders[order]
        state.fills = {key: fill for key, fill in state.fills.items() if fill.order != order}


def _drop_killed(state: State, now_ns: int) -> None:
    """Drop the orders that closed without a fill, once none can still be told."""
    filled = {fill.order for fill in state.fills.values()}
    state.orders = {
        name: order
        for name, order in state.orders.items()
        if order.phase != "closed" or name in filled or now_ns - order.closed_ns < _KILLED_KEPT_NS
    }


__all__ = ["Policy", "State", "decide", "evolve"]
