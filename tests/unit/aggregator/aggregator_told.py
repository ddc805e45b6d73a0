"""A leader's life as the aggregator hears it, one message at a time."""

from services.aggregator import core
from services.aggregator.core import Look, Policies, Policy, State
from services.aggregator.state import Track
from shared.domain.ids import ConditionId
from shared.domain.messages import (
    ClosedBy,
    Fact,
    IntentFormed,
    LeaderActed,
    LeaderBaselineRead,
    LeaderFilled,
    MarketResolved,
    Tick,
)
from shared.domain.units import DUST, NS_PER_S, Bps, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.builders import CONDITION, LEADER, T0_NS, a_baseline, shares

QUIET_NS = 1 * NS_PER_S
AGE_NS = 5 * NS_PER_S

Said = LeaderFilled | LeaderActed | LeaderBaselineRead | MarketResolved | Tick | Look | None


def a_policy(
    *,
    flush_usd: int = 1_000,
    flush_on_reduction: bool = True,
    dust: Shares = DUST,
    net_share: int = 0,
    quiet_ns: int = QUIET_NS,
) -> Policies:
    return Policies(
        default=Policy(
            quiet_ns=quiet_ns,
            age_ns_max=max(AGE_NS, quiet_ns),
            flush_usd=Usd(flush_usd * 1_000_000),
            flush_on_reduction=flush_on_reduction,
            dust=dust,
            net_share=Bps(net_share),
        )
    )


POLICY = a_policy()


def hear(
    state: State, message: Said, after_ns: int = 0, *, policies: Policies = POLICY
) -> list[Fact]:
    """Decide at ``after_ns`` from the beginning, leaving the state alone; then apply."""
    before = encode_state(state)
    facts = core.decide(policies, state, message, T0_NS + after_ns)
    assert encode_state(state) == before
    for fact in facts:
        core.evolve(state, fact)
    return facts


def tick(state: State, after_ns: int = QUIET_NS, *, policies: Policies = POLICY) -> list[Fact]:
    return hear(state, Tick(T0_NS + after_ns), after_ns, policies=policies)


def holding(yes: float = 0, no: float = 0) -> State:
    """Return the state of a leader who held this when we began to follow him."""
    state = State()
    hear(state, a_baseline((CONDITION, shares(yes), shares(no))))
    return state


def tracks(state: State) -> dict[ConditionId, Track]:
    """Return what ``LEADER`` is in."""
    return state.leaders[LEADER].tracks


def closed(facts: list[Fact]) -> list[tuple[int, int, ClosedBy]]:
    return [(f.before, f.after, f.closed_by) for f in facts if isinstance(f, IntentFormed)]


def kinds(facts: list[Fact]) -> list[type[Fact]]:
    return [type(fact) for fact in facts]
