"""What the lanes of an ingester process share."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from nats.aio.client import Client

from services.ingester.activity import ActivityHub
from services.ingester.books import BookKeeper, Outlets
from services.ingester.leaders import Observatory, Rereads
from services.ingester.letters import DeadLetters
from services.ingester.polling import Poller
from services.ingester.resolutions import Resolutions
from shared.domain.ids import Wallet
from shared.polymarket.pacing import Pacer
from shared.polymarket.public import PublicVenue
from shared.runtime.config import IngesterConfig
from shared.runtime.runner import Ports


class World(NamedTuple):
    """The process's watchers, its way to the venue, and its settings."""

    hub: ActivityHub
    books: BookKeeper
    venue: PublicVenue
    dead: DeadLetters
    leaders: Sequence[Wallet]
    settings: IngesterConfig
    observatory: Observatory
    rereads: Rereads
    resolutions: Resolutions
    poller: Poller

    @property
    def background(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs as long as the process, whatever lanes it holds."""
        works = (self.hub, self.books, self.dead, self.rereads, self.resolutions, self.poller)
        return tuple(work.run for work in works)


def assemble(
    leaders: Sequence[Wallet],
    settings: IngesterConfig,
    *,
    venue: PublicVenue,
    pacer: Pacer,
    ports: Ports,
    client: Client,
) -> World:
    """Build what the lanes share around one way to the venue; ``client`` is the bus."""
    clock, urls = ports.clock, venue.urls
    dead = DeadLetters(ports.ledger)
    hub = ActivityHub(leaders, clock, dead, settings=settings, url=urls.activity_ws)
    resolutions = Resolutions(venue, clock, dead.bury)
    outlets = Outlets(ports.store, client, dead.bury, resolutions.suspect)
    return World(
        hub=hub,
        books=BookKeeper(venue, outlets, clock, settings=settings, market_ws=urls.market_ws),
        venue=venue,
        dead=dead,
        leaders=leaders,
        settings=settings,
        observatory=Observatory(venue, ports.store, every_s=settings.leader_snapshot_s),
        rereads=Rereads(client, dead.bury),
        resolutions=resolutions,
        poller=Poller(hub, venue, clock, settings=settings, pacer=pacer, store=ports.store),
    )
