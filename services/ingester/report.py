"""What people and risk see of the feeds: their state and their age, twice a second."""

import asyncio
import logging

from services.ingester.chain import ChainWatcher
from services.ingester.world import World
from shared.domain.views import FeedsView, FeedView, encode, feed_key
from shared.runtime.clock import Clock
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError

_logger = logging.getLogger(__name__)


class FeedReport:
    """Writes the age of every feed where people and ``driftless status`` look."""

    def __init__(
        self,
        world: World,
        *,
        store: Store,
        clock: Clock,
        instance: str,
        chain: ChainWatcher | None = None,
    ) -> None:
        self._hub, self._books, self._dead = world.hub, world.books, world.dead
        self._poller = world.poller
        self._store, self._clock, self._instance = store, clock, instance
        self._chain = chain

    async def run(self) -> None:
        while True:
            trusted, untrusted = self._books.trust()
            view = FeedsView(
                as_of_ns=self._clock.now_ns(),
                feeds=(
                    *((self._chain.view(),) if self._chain else ()),
                    FeedView(name="activity", state=self._hub.state, heard_ns=self._hub.heard_ns),
                    FeedView(
                        name="books",
                        state="connected" if self._books.is_connected else "lost",
                        heard_ns=self._books.heard_ns,
                    ),
                    *self._poller.feeds(),
                ),
                books_trusted=trusted,
                books_untrusted=untrusted,
                stream_rows=self._hub.rows,
                rest_rows=self._hub.rest_rows,
                garbage=self._dead.count,
            )
            try:
                await self._store.write_views({feed_key(self._instance): encode(view)})
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))
            await asyncio.sleep(0.5)
