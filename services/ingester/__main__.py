"""Composition root of the ingester."""

import os
import random
from functools import partial

from services.ingester.activity import ActivityHub
from services.ingester.books import BookKeeper, Outlets
from services.ingester.chain import ChainWatcher
from services.ingester.core import Policy, State, decide, evolve
from services.ingester.leaders import Observatory, Rereads
from services.ingester.letters import DeadLetters
from services.ingester.report import FeedReport
from services.ingester.resolutions import Resolutions
from services.ingester.shell import Shell
from services.ingester.world import World
from shared.polymarket.chain_node import Node
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, connect_http
from shared.runtime.config import chain_urls
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main, urls_of


def build(context: Context) -> Built[State]:
    config, clock = context.config, context.ports.clock
    settings, urls = config.ingester, urls_of(config)
    leaders = [leader.wallet for leader in config.leaders]
    patience = Patience(deadline_s=2 * config.venue.deadline_s, attempt_s=config.venue.deadline_s)
    http = connect_http(rng=random.Random(), patience=patience)  # noqa: S311 - jitter
    venue = PublicVenue(http, now_ns=clock.now_ns, urls=urls)
    dead = DeadLetters(context.ports.ledger)
    hub = ActivityHub(leaders, clock, dead, settings=settings, url=urls.activity_ws)
    resolutions = Resolutions(venue, clock, dead.bury)
    outlets = Outlets(context.store, context.client, dead.bury, resolutions.suspect)
    books = BookKeeper(venue, outlets, clock, settings=settings, market_ws=urls.market_ws)
    observatory = Observatory(venue, context.store, every_s=settings.leader_snapshot_s)
    rereads = Rereads(context.client, dead.bury)
    world = World(hub, books, venue, dead, leaders, settings, observatory, rereads, resolutions)
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
    background = (
        hub.run, books.run, report.run, dead.run, rereads.run, resolutions.run,
        *((chain.run,) if chain else ()),
    )  # fmt: skip
    return Built(service=service, make_shell=lambda lane: Shell(lane, world), background=background)


if __name__ == "__main__":
    main("ingester", build)
