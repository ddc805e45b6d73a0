"""What people and the other services may read of the executor's state."""

from services.executor.state import RANK, TERMINAL, Fill, Order, State, open_orders
from shared.domain.ids import TokenId, Wallet
from shared.domain.units import Shares
from shared.domain.views import SURRENDERED, OpenOrderView, PositionsView, PositionView


def positions_view(state: State, wallet: Wallet) -> PositionsView:
    return PositionsView(
        wallet=wallet,
        positions=tuple(
            PositionView(
                condition=holding.condition,
                token=token,
                outcome=holding.outcome,
                shares=holding.position.shares,
                cost=holding.position.cost,
                realised=holding.position.realised,
                unsettled=unsettled(state, token),
                changed_ns=holding.changed_ns,
                unsettled_since_ns=min((f.booked_ns for f in waiting(state, token)), default=0),
                claim=holding.claim,
                payout=holding.payout,
            )
            for token, holding in state.holdings.items()
        ),
        orders=tuple(_open_view(order) for order in open_orders(state)),
        cash=state.cash.usd if state.cash else None,
        cash_changed_ns=state.cash.changed_ns if state.cash else 0,
    )


def unsettled(state: State, token: TokenId) -> Shares:
    """Return the shares of a token's fills that are not final yet."""
    return Shares(sum(fill.size for fill in waiting(state, token)))


def waiting(state: State, token: TokenId) -> list[Fill]:
    """Return a token's fills that are not final yet."""
    return [
        fill
        for fill in state.fills.values()
        if RANK[fill.settlement] < TERMINAL and state.orders[fill.order].token == token
    ]


def _open_view(order: Order) -> OpenOrderView:
    return OpenOrderView(
        order=order.order,
        token=order.token,
        side=order.side,
        price=order.price,
        size=order.size,
        filled=order.filled,
        status=SURRENDERED if order.surrendered_ns else order.phase,
        since_ns=order.prepared_ns,
    )
