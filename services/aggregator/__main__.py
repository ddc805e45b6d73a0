"""Composition root of the aggregator."""

from functools import partial

from services.aggregator.core import Policies, Policy, State, decide, evolve
from services.aggregator.shell import Shell
from shared.domain.units import NS_PER_MS, Usd
from shared.runtime.config import Config
from shared.runtime.ports import subjects_of
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main


def policies(config: Config) -> Policies:
    """Return each leader's window policy, the service's own settings where he has none."""
    common = config.aggregator

    def policy(quiet_ms: int | None, age_max_ms: int | None, flush_usd: Usd | None) -> Policy:
        return Policy(
            quiet_ns=(quiet_ms or common.quiet_ms) * NS_PER_MS,
            age_ns_max=(age_max_ms or common.age_max_ms) * NS_PER_MS,
            flush_usd=flush_usd or common.flush_usd,
            flush_on_reduction=common.flush_on_reduction,
            dust=common.dust_shares,
        )

    return Policies(
        default=policy(None, None, None),
        leaders={
            leader.wallet: policy(leader.quiet_ms, leader.age_max_ms, leader.flush_usd)
            for leader in config.leaders
        },
    )


def build(context: Context) -> Built[State]:
    service = Service(
        name="aggregator",
        state=State,
        decide=partial(decide, policies(context.config)),
        evolve=evolve,
        inputs=lambda partition: (subjects_of("ingester", partition),),
        tick_ms=context.config.aggregator.tick_ms,
    )
    return Built(service=service, make_shell=Shell)


if __name__ == "__main__":
    main("aggregator", build)
