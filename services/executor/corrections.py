"""What the reconciler found, applied once by the owner: shares, claims on ended markets, cash."""

from typing import Final

import msgspec

from services.executor.state import RANK, TERMINAL, Cash, Holding, State, open_orders
from shared.domain.ids import COLLATERAL, TokenId, content_id
from shared.domain.messages import (
    CashCorrected,
    DriftFound,
    Fact,
    FillSettled,
    HoldingResolved,
    OrderFilled,
    PositionClosed,
    PositionCorrected,
)
from shared.domain.positions import Position, cost_released
from shared.domain.units import ZERO_SHARES, Shares, Usd, cost_up, proceeds_down
from shared.domain.views import AccountView

_KEPT: Final = 200  # corrections remembered, so that none is applied twice
# Causes for which a claim that is gone was paid: the cash is in the balance, or on its way.
_PAID: Final = ("redeemed", "auto_redeemed", "resolved")


def corrected(state: State, drift: DriftFound, now_ns: int) -> list[Fact]:
    """Apply a drift once, and only to the belief it was measured against.

    A fill booked since then may be the very difference: to correct it too would count it twice.
    """
    if drift.id in state.corrected:
        return []
    if drift.token == COLLATERAL:
        return _cash_corrected(state, drift, now_ns)
    held = state.holdings.get(drift.token)
    believed = held.at_venue if held else ZERO_SHARES
    if believed != drift.believed:
        return []
    gap = drift.observed - drift.believed
    claim = -min(held.claim, -gap) if held and gap < 0 else 0
    return [
        PositionCorrected(
            id=content_id("position_corrected", drift.id),
            cause=drift.id,
            root=drift.root,
            ts_ns=now_ns,
            condition=drift.condition,
            token=drift.token,
            outcome=drift.outcome,
            shares=Shares(gap - claim),
            reason=drift.probable_cause,
            claim=Shares(claim),
        )
    ]


def _cash_corrected(state: State, drift: DriftFound, now_ns: int) -> list[Fact]:
    if state.cash is None or int(state.cash.usd) != drift.believed:
        return []
    return [
        CashCorrected(
            id=content_id("cash_corrected", drift.id),
            cause=drift.id,
            root=drift.root,
            ts_ns=now_ns,
            usd=Usd(drift.observed - drift.believed),
            reason=drift.probable_cause,
        )
    ]


def opened(state: State, account: AccountView, now_ns: int) -> list[Fact]:
    """Take the first balance that was read with nothing in motion as what we have."""
    moving = any(RANK[fill.settlement] < TERMINAL for fill in state.fills.values())
    if state.cash is not None or moving or open_orders(state):
        return []
    id_ = content_id("cash_corrected", "opening", account.as_of_ns)
    return [
        CashCorrected(
            id=id_, cause="", root=id_, ts_ns=now_ns, usd=account.collateral, reason="opening"
        )
    ]


def resolved(state: State, end: HoldingResolved, now_ns: int) -> list[Fact]:
    """Close what is held of a market that is over, at what its shares pay.

    What was not believed when the reconciler looked is closed after its next look. It is said also
    where the account holds nothing: leaders who were netted against each other still hold theirs.
    """
    ours = _by_outcome(state, end)
    shares = (ours[0].position.shares, ours[1].position.shares)
    if end.id in state.corrected or shares != end.believed or min(shares) < 0:
        return []
    cost = Usd(ours[0].position.cost + ours[1].position.cost)
    paid = sum(proceeds_down(end.payouts[each], shares[each]) for each in (0, 1))
    return [
        PositionClosed(
            id=content_id("position_closed", end.id),
            cause=end.id,
            root=end.root,
            ts_ns=now_ns,
            condition=end.condition,
            tokens=(ours[0].token, ours[1].token),
            payouts=end.payouts,
            shares=shares,
            cost=cost,
            realised=Usd(paid - cost),
        )
    ]


def _by_outcome(state: State, market: HoldingResolved | PositionClosed) -> tuple[Holding, Holding]:
    held = {h.outcome: h for h in state.holdings.values() if h.condition == market.condition}
    nothing = Holding(condition=market.condition, token=TokenId(""), outcome=0)
    return held.get(0, nothing), held.get(1, nothing)


# --- evolve -------------------------------------------------------------------------------


def close(state: State, fact: PositionClosed) -> None:
    """Turn shares into claims; what they pay beyond their cost is profit from now on."""
    for outcome, holding in enumerate(_by_outcome(state, fact)):
        if not holding.token:
            continue
        old, payout = holding.position, fact.payouts[outcome]
        made = Usd(old.realised + proceeds_down(payout, old.shares) - old.cost)
        state.holdings[holding.token] = msgspec.structs.replace(
            holding,
            position=Position(realised=made),
            claim=Shares(holding.claim + old.shares),
            payout=payout,
            changed_ns=fact.ts_ns,
        )
    _remember(state, fact.cause)


def correct(state: State, fact: PositionCorrected) -> None:
    """Move shares and claims to what the venue shows; a claim that was paid is cash."""
    holding = state.holdings.get(fact.token) or Holding(
        condition=fact.condition, token=fact.token, outcome=fact.outcome
    )
    old = holding.position
    released = cost_released(old, Shares(-fact.shares)) if fact.shares < 0 else Usd(0)
    position = Position(
        shares=Shares(old.shares + fact.shares),
        cost=Usd(old.cost - released),
        realised=old.realised,
    )
    state.holdings[fact.token] = msgspec.structs.replace(
        holding,
        position=position,
        claim=Shares(holding.claim + fact.claim),
        changed_ns=fact.ts_ns,
    )
    if fact.claim and fact.reason in _PAID:
        move_cash(state, proceeds_down(holding.payout, Shares(-fact.claim)), fact.ts_ns)
    _remember(state, fact.cause)


def correct_cash(state: State, fact: CashCorrected) -> None:
    known = state.cash.usd if state.cash else Usd(0)
    state.cash = Cash(usd=Usd(known + fact.usd), changed_ns=fact.ts_ns)
    if fact.cause:
        _remember(state, fact.cause)


def pay(state: State, fact: OrderFilled | FillSettled) -> None:
    """Move cash by a fill, or back by one that failed."""
    if fact.side == "BUY":
        flow = -cost_up(fact.price, fact.size) - fact.fee
    else:
        flow = proceeds_down(fact.price, fact.size) - fact.fee
    move_cash(state, Usd(flow if isinstance(fact, OrderFilled) else -flow), fact.ts_ns)


def move_cash(state: State, usd: Usd, now_ns: int) -> None:
    """Add to what we believe to have; before the first reading there is nothing to add to."""
    if state.cash is not None:
        state.cash = Cash(usd=Usd(state.cash.usd + usd), changed_ns=now_ns)


def _remember(state: State, drift: str) -> None:
    state.corrected = [*state.corrected, drift][-_KEPT:]
