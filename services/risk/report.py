"""What people may read of risk: every cap with its use, what shrinks it, what would change it."""

from collections import defaultdict

from services.risk import dynamics
from services.risk.caps import hearing, losses
from services.risk.cases import daily_loss
from services.risk.policy import Cap, Policy
from services.risk.regime import triggers
from services.risk.state import Feeds, Group, State, at_risk, held_of
from shared.domain.units import Bps, Usd
from shared.domain.views import CapView, HeldView, RiskView, ScaleView, StandingView, TriggerView


def report(
    policy: Policy,
    state: State,
    *,
    drift_usd: Usd,
    feeds: Feeds | None,
    now_ns: int,
    standing: tuple[StandingView, ...] = (),
) -> RiskView:
    """Return the view of risk as it is now."""
    known = state.equity
    scales = _scales(policy, state, feeds, now_ns)
    numbers = triggers(
        policy, state, drift_usd=drift_usd, feeds=feeds, now_ns=now_ns, standing=standing
    )
    return RiskView(
        regime=state.regime,
        reason=state.regime_reason,
        held=tuple(_held_view(state, key) for key in sorted({*state.held, *state.targets})),
        caps=(
            *_caps(policy, state, dynamics.combined(*(scale.bps for scale in scales))),
            CapView(
                name="daily_loss",
                used=daily_loss(state, now_ns),
                limit=policy.daily_loss_usd_max,
            ),
            CapView(name="drift", used=drift_usd, limit=policy.drift_usd_max),
        ),
        realised_today=state.realised_today,
        triggers=tuple(
            TriggerView(
                name=each.name,
                regime=each.regime,
                actual=each.actual,
                enter=each.enter,
                leave=each.leave,
                unit=each.unit,
            )
            for each in numbers
        ),
        scales=scales,
        equity=known.usd if known else None,
        profit=known.profit if known else state.realised,
        drawdown=known.drawdown if known else Usd(0),
        unfollowed=tuple(sorted(state.unfollowed)),
        config_hash=state.config_hash,
    )


def _scales(
    policy: Policy, state: State, feeds: Feeds | None, now_ns: int
) -> tuple[ScaleView, ...]:
    loss = daily_loss(state, now_ns)
    drawdown = state.equity.drawdown if state.equity else Usd(0)
    by_day, by_drawdown = losses(policy, loss, drawdown)
    heard = feeds.worst_ns if feeds else -1
    return (
        ScaleView(name="daily_loss", bps=by_day, actual=loss, unit="usd"),
        ScaleView(name="drawdown", bps=by_drawdown, actual=drawdown, unit="usd"),
        ScaleView(name="feed", bps=hearing(policy, feeds) or Bps(0), actual=heard, unit="ns"),
    )


def _caps(policy: Policy, state: State, scale: Bps) -> list[CapView]:
    """Return each cap that anything counts against, the fullest first, and always the total."""
    markets = at_risk(state)
    leaders: defaultdict[str, int] = defaultdict(int)
    for held in state.held.values():
        leaders[held.leader] += held.cost
    for r in state.reserved.values():
        leaders[r.leader] += r.open_usd(r.leader_usd)
    events: defaultdict[str, int] = defaultdict(int)
    categories: defaultdict[str, int] = defaultdict(int)
    for market, usd in markets.items():
        group = state.groups.get(market, Group("", ""))
        events[group.event] += usd
        categories[group.category] += usd
    equity = state.equity.usd if state.equity else None
    own = {each.name: each.usd_max for each in policy.categories}

    def lines(
        name: str, used: dict[str, int], cap_of: dict[str, Cap], common: Cap
    ) -> list[CapView]:
        found = []
        for scope, usd in used.items():
            if scope and usd:
                cap = cap_of.get(scope, common)
                limit, whole = cap.limit(equity, scale), cap.limit(equity)
                found.append(CapView(name=name, used=Usd(usd), limit=limit, configured=whole,
                                     scope=scope))  # fmt: skip
        return sorted(found, key=lambda cap: (-cap.used, cap.scope))

    by_leader: dict[str, Cap] = {
        who: Cap(sizing.leader_usd_max, policy.leader_equity_bps)
        for who, sizing in policy.leaders.items()
    }
    by_category = {
        name: Cap(usd, policy.category.equity_bps) for name, usd in own.items() if usd is not None
    }
    anyone = Cap(policy.sizing.leader_usd_max, policy.leader_equity_bps)
    total = CapView(
        name="total",
        used=Usd(sum(markets.values())),
        limit=policy.total.limit(equity, scale),
        configured=policy.total.limit(equity),
    )
    return [
        total,
        *lines("leader", leaders, by_leader, anyone),
        *lines("category", categories, by_category, policy.category),
        *lines("event", events, {}, policy.event),
        *lines("market", {str(at): usd for at, usd in markets.items()}, {}, policy.market),
    ]


def _held_view(state: State, key: str) -> HeldView:
    target = state.targets.get(key)
    held = state.held.get(key)
    if held is None:
        assert target is not None
        held = held_of(state, target.leader, target.condition)
    return HeldView(
        leader=held.leader,
        condition=held.condition,
        target=target.target if target else held.net,
        yes=held.yes.shares,
        no=held.no.shares,
        cost=held.cost,
    )
