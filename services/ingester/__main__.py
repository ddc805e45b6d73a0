"""Composition root of the ingester."""

import os
from functools import partial

from services.ingester.chain import ChainWatcher
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.polling import data_api_limits
from services.ingester.report import FeedReport
from services.ingester.shell import Shell
from services.ingester.world import assemble
from shared.polymarket.chain_node import Node
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, connect_http
from shared.runtime.config import chain_urls
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main, urls_of


def build(context: Context) -> Built[State]:
    config, clock = context.config, context.ports.clock
    settings = config.ingester
    leaders = [leader.wallet for leader in config.leaders]
    patience = Patience(deadline_s=2 * config.venue.deadline_s, attempt_s=config.venue.deadline_s)
    pacer = Pacer(data_api_limits(settings), monotonic_ns=clock.monotonic_ns)
    http = connect_http(
        rng=context.rng, patience=patience, gate=pacer, on_call=context.endpoints.called
    )
    venue = PublicVenue(http, now_ns=clock.now_ns, urls=urls_of(config))
    world = assemble(
        leaders,
        settings,
        venue=venue,
        pacer=pacer,
        ports=context.ports,
        client=context.client,
    )
    rpc_url, ws_url = chain_urls(config, os.environ)
    chain = ChainWatcher(world, Node(http, rpc_url), clock, ws_url=ws_url) if rpc_url else None
    report = FeedReport(
        world, store=context.store, clock=clock, instance=context.instance, chain=chain
    )
    service = Service(
        name="ingester",
        state=State,
        decide=partial(decide, Policy(overlap_s=settings.poll_overlap_s)),
        evolve=evolve,
        inputs=lambda _: (),
    )
    background = (*world.background, report.run, *((chain.run,) if chain else ()))
    return Built(service=service, make_shell=lambda lane: Shell(lane, world), background=background)


if __name__ == "__main__":
    main("ingester", build)
