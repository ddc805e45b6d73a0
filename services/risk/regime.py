"""When trading is normal, reduce-only or halted: by rule with hysteresis, or by the operator."""

from services.risk.state import Policy, Reconsider, State
from shared.domain.ids import content_id
from shared.domain.messages import Fact, HaltTrading, Regime, RegimeChanged, ResumeTrading


def by_command(state: State, command: HaltTrading | ResumeTrading, regime: Regime) -> list[Fact]:
    if state.regime == regime:
        return []
    return [
        RegimeChanged(
            id=content_id("regime_changed", command.id),
            cause=command.id,
            root=command.root,
            ts_ns=command.ts_ns,
            before=state.regime,
            regime=regime,
            reason=f"operator: {command.reason}",
            actor=command.actor,
        )
    ]


def by_rules(policy: Policy, state: State, request: Reconsider) -> list[Fact]:
    """Enter reduce-only when drift or rejections pass a limit; leave when both are at half."""
    since_ns = request.now_ns - policy.rejects_window_ns
    rejects = sum(1 for at in state.rejects if at >= since_ns)
    if state.regime == "normal":
        if request.drift_usd > policy.drift_usd_max:
            return [_changed(state, request, "reduce_only", "drift")]
        if rejects >= policy.rejects_max:
            return [_changed(state, request, "reduce_only", "rejects")]
        return []
    calm = request.drift_usd * 2 <= policy.drift_usd_max and rejects * 2 <= policy.rejects_max
    if calm and state.regime_reason in ("drift", "rejects"):
        return [_changed(state, request, "normal", state.regime_reason + " over")]
    return []


def _changed(state: State, request: Reconsider, regime: Regime, reason: str) -> RegimeChanged:
    id_ = content_id("regime_changed", state.regime, regime, reason, request.now_ns)
    return RegimeChanged(
        id=id_,
        cause="",
        root=id_,
        ts_ns=request.now_ns,
        before=state.regime,
        regime=regime,
        reason=reason,
        actor="rule",
    )
