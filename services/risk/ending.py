"""What leaders hold of a market that is over: closed at what it pays, and wanted no more."""

from services.risk.state import UNATTRIBUTED, Held, State
from shared.domain.ids import content_id
from shared.domain.messages import Fact, HoldingChanged, PositionClosed, TargetSet
from shared.domain.units import ZERO_SHARES, Shares, Usd, cost_up, proceeds_down


def closed(state: State, end: PositionClosed, now_ns: int) -> list[Fact]:
    """Close everybody's shares of a market, and the sets that leaders hold against each other.

    A set pays a dollar whatever the outcome, so these end together with both of their sides.
    """
    held = [each for each in state.held.values() if each.condition == end.condition]
    facts: list[Fact] = []
    crossed = -state.crossed.get(end.condition, 0)
    for each in sorted(held, key=lambda held: held.leader):
        for outcome in (0, 1):
            if each.of(outcome).shares or each.of(outcome).cost:
                facts.append(_ended(end, each, outcome, Shares(crossed), now_ns))
                crossed = 0
    return facts + _unwanted(state, end, now_ns)


def _ended(
    end: PositionClosed, held: Held, outcome: int, crossed: Shares, now_ns: int
) -> HoldingChanged:
    position, payout = held.of(outcome), end.payouts[outcome]
    paid = proceeds_down(payout, position.shares)
    if position.shares < 0:  # a deficit: he sold more than was his
        paid = Usd(-cost_up(payout, Shares(-position.shares)))
    made = 0 if held.leader == UNATTRIBUTED else paid - position.cost  # nobody's is no profit
    return HoldingChanged(
        id=content_id("holding_changed", end.id, held.leader, outcome),
        cause=end.id,
        root=end.root,
        ts_ns=now_ns,
        leader=held.leader,
        condition=end.condition,
        token=end.tokens[outcome],
        outcome=0 if outcome == 0 else 1,
        shares=Shares(-position.shares),
        cost=Usd(-position.cost),
        realised=Usd(made),
        order=None,
        approval="",
        crossed=crossed,
    )


def _unwanted(state: State, end: PositionClosed, now_ns: int) -> list[Fact]:
    """Return targets of nothing, or what was closed would be bought again."""
    return [
        TargetSet(
            id=content_id("target_set", end.id, target.leader),
            cause=end.id,
            root=end.root,
            ts_ns=now_ns,
            leader=target.leader,
            condition=end.condition,
            before=target.target,
            target=ZERO_SHARES,
            yes_price=end.payouts[0],
            venue_ns=now_ns,
            expires_ns=now_ns,
        )
        for _, target in sorted(state.targets.items())
        if target.condition == end.condition and target.target
    ]
