"""What could not be read or believed: kept once each, with its reason."""

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from shared.domain.ids import content_id
from shared.runtime.logs import log
from shared.runtime.ports import Lane, Ledger

_BURIED_MAX: Final = 1_000
_NO_LANE: Final = Lane("ingester", 0)  # dead letters of the process, not of one lane
_logger = logging.getLogger(__name__)


class DeadLetters:
    """Keeps what could not be read or believed, each thing once, however often it is served."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: OrderedDict[str, None] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self.count = 0

    def bury(self, source: str, reason: str, excerpt: str) -> None:
        """Take something out of the flow, with the reason; it is counted every time."""
        self.count += 1
        name = content_id("garbage", source, reason, excerpt)
        if name in self._known or self._waiting.qsize() >= _BURIED_MAX:
            return
        self._known[name] = None
        if len(self._known) > _BURIED_MAX:
            self._known.popitem(last=False)
        log(_logger, logging.WARNING, "dead_letter", source=source, reason=reason)
        self._waiting.put_nowait((source, reason, excerpt))

    async def run(self) -> None:
        while True:
            source, reason, excerpt = await self._waiting.get()
            await self._ledger.dead_letter(
                _NO_LANE, reason=reason, data=excerpt.encode(), source=source
            )
