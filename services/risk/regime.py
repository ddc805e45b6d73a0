"""When trading is normal, reduce-only or halted: by rule with hysteresis, or by the operator.

The operator's word is a floor: rules may be stricter, never more lenient. A rule that entered
stays until its number is back at the lower limit, so that trading does not flap at the edge.
"""

from typing import Final

import msgspec

from services.risk.cases import daily_loss
from services.risk.policy import Policy
from services.risk.state import Feeds, Reconsider, State
from shared.domain.ids import content_id
from shared.domain.messages import (
    EquityMarked,
    Fact,
    HaltTrading,
    ReduceOnly,
    Regime,
    RegimeChanged,
    ResumeTrading,
)
from shared.domain.units import Usd
from shared.domain.views import IN_FORCE, STANDING, StandingView

Command = HaltTrading | ReduceOnly | ResumeTrading
NEVER: Final = -1  # no number is low enough: only the operator leaves it
_STRICTNESS: Final[dict[Regime, int]] = {"normal": 0, "reduce_only": 1, "halted": 2}
_UNTOLD: Final = 1  # neither enters nor leaves
_HALTING_DRIFT: Final = 4  # times the drift that reduces: the holdings we act on are not real


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A number that changes the regime: entered at ``enter`` or above, left at ``leave``."""

    name: str
    regime: Regime
    actual: int
    enter: int
    leave: int
    unit: str

    def holds(self, entered: tuple[str, ...]) -> bool:
        return self.actual >= self.enter or (self.name in entered and self.actual > self.leave)


def triggers(
    policy: Policy,
    state: State,
    *,
    drift_usd: Usd,
    feeds: Feeds | None,
    now_ns: int,
    standing: tuple[StandingView, ...] = (),
) -> tuple[Trigger, ...]:
    """Return every number that the regime hangs on, as it is now."""
    rejects = sum(1 for at in state.rejects if at >= now_ns - policy.rejects_window_ns)
    drift, loss = policy.drift_usd_max, policy.daily_loss_usd_max
    halting = drift * _HALTING_DRIFT
    heard = feeds.worst_ns if feeds else 0
    return (
        Trigger(name="drift", regime="reduce_only", actual=drift_usd, enter=drift + 1,
                leave=drift // 2, unit="usd"),
        Trigger(name="drift_halt", regime="halted", actual=drift_usd, enter=halting + 1,
                leave=drift, unit="usd"),
        Trigger(name="rejects", regime="reduce_only", actual=rejects, enter=policy.rejects_max,
                leave=policy.rejects_max // 2, unit="orders"),
        Trigger(name="feed", regime="reduce_only", actual=heard, enter=policy.feed_dead_ns,
                leave=policy.feed_fresh_ns, unit="ns"),
        Trigger(name="daily_loss", regime="reduce_only", actual=daily_loss(state, now_ns),
                enter=loss, leave=loss // 2, unit="usd"),
        Trigger(name="drawdown", regime="reduce_only",
                actual=state.equity.drawdown if state.equity else 0,
                enter=policy.drawdown_usd_max, leave=NEVER, unit="usd"),
        *(
            Trigger(name=name, regime="reduce_only", actual=level, enter=IN_FORCE, leave=0,
                    unit="looks")
            for name, level in _levels(state, standing)
        ),
    )  # fmt: skip


def _levels(state: State, standing: tuple[StandingView, ...]) -> list[tuple[str, int]]:
    """Return how the venue stands to us, reason by reason; what is not told stays as it was."""
    told = {each.name: each.level for each in standing}
    shown = [name for name in STANDING if name in told or name in state.entered]
    return [(name, told.get(name, _UNTOLD)) for name in shown]


def by_rules(policy: Policy, state: State, request: Reconsider) -> list[Fact]:
    """Return the change that the numbers ask for: the strictest rule that holds, or none."""
    all_ = triggers(
        policy,
        state,
        drift_usd=request.drift_usd,
        feeds=request.feeds,
        now_ns=request.now_ns,
        standing=request.standing,
    )
    holding = [each for each in all_ if each.holds(state.entered)]
    strictest = max(holding, key=lambda each: _STRICTNESS[each.regime], default=None)
    regime = stricter(state.ordered, strictest.regime if strictest else "normal")
    entered = tuple(each.name for each in holding)
    if regime == state.regime and entered == state.entered:
        return []
    over = [name for name in state.entered if name not in entered]
    reason = ", ".join(entered) or f"{', '.join(over)} over"
    id_ = content_id("regime_changed", state.regime, regime, reason, request.now_ns)
    return [
        RegimeChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=request.now_ns,
            before=state.regime,
            regime=regime,
            reason=reason,
            actor="rule",
            actual=strictest.actual if strictest else 0,
            limit=strictest.enter if strictest else 0,
            unit=strictest.unit if strictest else "",
            entered=entered,
            ordered=state.ordered,
        )
    ]


def stricter(one: Regime, other: Regime) -> Regime:
    return max(one, other, key=lambda each: _STRICTNESS[each])


def by_command(state: State, command: Command, regime: Regime) -> list[Fact]:
    """Obey the operator. A rule that still holds changes it again, and says so.

    Who resumes accepts the loss so far: the drawdown counts anew from here.
    """
    if state.regime == regime and state.ordered == regime and not state.entered:
        return []
    changed = RegimeChanged(
        id=content_id("regime_changed", command.id),
        cause=command.id,
        root=command.root,
        ts_ns=command.ts_ns,
        before=state.regime,
        regime=regime if regime == "normal" else stricter(regime, _ruled(state)),
        reason=f"operator: {command.reason}",
        actor=command.actor,
        entered=() if regime == "normal" else state.entered,
        ordered=regime,
    )
    return [changed, *(_forgiven(state, command) if regime == "normal" else [])]


def _ruled(state: State) -> Regime:
    return state.regime if state.entered else "normal"


def _forgiven(state: State, command: Command) -> list[Fact]:
    known = state.equity
    if known is None or known.drawdown == 0:
        return []
    return [
        EquityMarked(
            id=content_id("equity_marked", command.id),
            cause=command.id,
            root=command.root,
            ts_ns=command.ts_ns,
            collateral=known.collateral,
            value=known.value,
            profit=known.profit,
            peak=known.profit,
            day=known.day,
            day_profit=known.day_profit,
        )
    ]
