"""Composition root of the reconciler."""

from functools import partial
from typing import Final

from services.reconciler.comparing import Policy
from services.reconciler.core import State, decide, evolve
from services.reconciler.shell import Shell, World
from shared.domain.ids import partition_of
from shared.domain.units import NS_PER_MS
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import ACTIVITY, POSITIONS, RESOLUTIONS, PublicVenue
from shared.polymarket.transport import Patience, connect_http
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main, urls_of

_READS_PER_10S: Final = dict.fromkeys((ACTIVITY, POSITIONS, RESOLUTIONS), 20)  # ours are few
_POLLS_MISSED_MAX: Final = 4  # of the executor's account polls, before its belief is not compared


def build(context: Context) -> Built[State]:
    config, settings = context.config, context.config.reconciler
    policy = Policy(
        confirmations=settings.confirmations,
        grace_ns=settings.grace_ms * NS_PER_MS,
        excuse_ns_max=settings.excuse_ms_max * NS_PER_MS,
        dust=settings.dust_shares,
    )
    patience = Patience(deadline_s=2 * config.venue.deadline_s, attempt_s=config.venue.deadline_s)
    http = connect_http(
        rng=context.rng,
        patience=patience,
        on_call=context.endpoints.called,
        gate=Pacer(_READS_PER_10S, monotonic_ns=context.ports.clock.monotonic_ns),
    )
    venue = PublicVenue(http, now_ns=context.ports.clock.now_ns, urls=urls_of(config))
    world = World(
        venue=venue,
        store=context.store,
        metrics=context.metrics,
        wallet=config.account.wallet,
        interval_s=settings.interval_ms / 1_000,
        account_age_ns_max=_POLLS_MISSED_MAX * config.executor.poll_interval_ms * NS_PER_MS,
    )
    service = Service(
        name="reconciler",
        state=State,
        decide=partial(decide, policy),
        evolve=evolve,
        inputs=lambda _: (),
    )
    return Built(
        service=service,
        make_shell=lambda _: Shell(policy, world),
        partitions=(partition_of(config.account.wallet),),
    )


if __name__ == "__main__":
    main("reconciler", build)
