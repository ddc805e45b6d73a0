"""What the lanes of an ingester process share."""

from collections.abc import Sequence
from typing import NamedTuple

from services.ingester.activity import ActivityHub
from services.ingester.books import BookKeeper
from services.ingester.leaders import Observatory, Rereads
from services.ingester.letters import DeadLetters
from services.ingester.polling import Poller
from services.ingester.resolutions import Resolutions
from shared.domain.ids import Wallet
from shared.polymarket.public import PublicVenue
from shared.runtime.config import IngesterConfig


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
