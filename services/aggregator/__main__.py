"""Composition root of the aggregator."""

import msgspec

from services.aggregator.core import Policies, Policy, State, decide, evolve
from services.aggregator.shell import Current, Shell
from shared.domain.messages import Fact
from shared.domain.units import NS_PER_MS
from shared.runtime.config import Config, LeaderConfig
from shared.runtime.ports import subjects_of
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main


def policies(config: Config) -> Policies:
    """Return each leader's window policy, the service's own settings where he has none."""
    common = config.aggregator
    default = Policy(
        quiet_ns=common.quiet_ms * NS_PER_MS,
        age_ns_max=common.age_max_ms * NS_PER_MS,
        flush_usd=common.flush_usd,
        flush_on_reduction=common.flush_on_reduction,
        dust=common.dust_shares,
        net_share=common.net_share_bps_min,
        churn_share=common.churn_share_bps_max,
        churn_quiet_ns=common.churn_quiet_ms * NS_PER_MS,
        churn_age_ns=common.churn_age_max_ms * NS_PER_MS,
    )
    return Policies(
        default=default,
        leaders={leader.wallet: _policy(default, leader) for leader in config.leaders},
    )


def _policy(default: Policy, leader: LeaderConfig) -> Policy:
    own = {
        "quiet_ns": _ns(leader.quiet_ms),
        "age_ns_max": _ns(leader.age_max_ms),
        "flush_usd": leader.flush_usd,
        "flush_on_reduction": leader.flush_on_reduction,
        "dust": leader.dust_shares,
        "net_share": leader.net_share_bps_min,
        "churn_share": leader.churn_share_bps_max,
    }
    given = {name: value for name, value in own.items() if value is not None}
    return msgspec.structs.replace(default, **given)


def _ns(ms: int | None) -> int | None:
    return None if ms is None else ms * NS_PER_MS


def build(context: Context) -> Built[State]:
    current = Current(context.config, policies)

    def decide_by_current(state: State, message: object, now_ns: int) -> list[Fact]:
        return decide(current.policies, state, message, now_ns)

    service = Service(
        name="aggregator",
        state=State,
        decide=decide_by_current,
        evolve=evolve,
        inputs=lambda partition: (subjects_of("ingester", partition), subjects_of("ctl")),
        tick_ms=context.config.aggregator.tick_ms,
    )
    return Built(
        service=service,
        make_shell=lambda lane: Shell(lane, context.store, context.client, current),
    )


if __name__ == "__main__":
    main("aggregator", build)
