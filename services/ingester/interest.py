"""Which markets matter, and which of them are ours: a market belongs to the lane of its condition.

What the process of another lane knows of it is told on the bus: ``md.want`` that a market
matters now, ``md.over`` that it shows a sign of its end. Both may be lost: what leaders and we
hold is in the store as well, and the venue is asked about resolutions anyway.
"""

import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.domain import ids
from shared.domain.ids import PARTITIONS, ConditionId, partition_of
from shared.domain.units import NS_PER_S
from shared.domain.views import (
    POSITIONS,
    ExposuresView,
    PositionsView,
    decode,
    exposure_key,
)
from shared.runtime.clock import Clock
from shared.runtime.logs import log
from shared.runtime.ports import Store

WANT: Final = "md.want"  # [condition]: for the process that holds its lane
OVER: Final = "md.over"  # [condition]: for every process whose leaders may hold it
MARKETS_MAX: Final = 2_000
_KEPT_NS: Final = 120 * NS_PER_S  # a market stays of interest this long after the last reason
_logger = logging.getLogger(__name__)


class _Told(msgspec.Struct, frozen=True):
    origin: str  # the process
    conditions: list[ConditionId]


class Interest:
    """The markets this process watches, and since when each of them has mattered."""

    def __init__(self, clock: Clock, over: Callable[[ConditionId], None]) -> None:
        self._clock, self._over = clock, over
        self._held: Counter[int] = Counter()
        self._wanted: dict[ConditionId, int] = {}
        self._resting: dict[ConditionId, int] = {}  # no book, or no answer: left alone until when
        self._origin = secrets.token_hex(8)  # a bus tells its own words back
        self._to_tell: dict[str, dict[ConditionId, None]] = {WANT: {}, OVER: {}}

    @contextlib.contextmanager
    def holding(self, partition: int) -> Iterator[None]:
        """Keep the books of a lane's markets for as long as the lane is ours."""
        self._held[partition] += 1
        try:
            yield
        finally:
            self._held[partition] -= 1

    def owns(self, condition: ConditionId) -> bool:
        return self._held[partition_of(condition)] > 0

    @property
    def wanted(self) -> list[ConditionId]:
        return list(self._wanted)

    def __contains__(self, condition: object) -> bool:
        return condition in self._wanted

    def want(self, condition: ConditionId) -> None:
        """Say that a market matters now, to whom it belongs."""
        if not self.owns(condition):
            self._to_tell[WANT][condition] = None
            return
        now_ns = self._clock.now_ns()
        has_room = condition in self._wanted or len(self._wanted) < MARKETS_MAX
        if has_room and now_ns >= self._resting.get(condition, 0):
            self._wanted[condition] = now_ns

    def over(self, condition: ConditionId) -> None:
        """Say that a market shows a sign of its end, to every process."""
        self._to_tell[OVER][condition] = None
        self._over(condition)

    def rest(self, condition: ConditionId, for_ns: int) -> None:
        """Leave a market alone for a while."""
        self._resting[condition] = self._clock.now_ns() + for_ns

    def rests(self, condition: ConditionId) -> bool:
        return self._clock.now_ns() < self._resting.get(condition, 0)

    def leave(self, condition: ConditionId) -> None:
        self._wanted.pop(condition, None)

    def gone(self) -> list[ConditionId]:
        """Return the markets that nobody has asked for in a while, or that are not ours now."""
        now_ns = self._clock.now_ns()
        self._resting = {c: until for c, until in self._resting.items() if until > now_ns}
        return [
            condition
            for condition, since_ns in self._wanted.items()
            if now_ns - since_ns > _KEPT_NS or not self.owns(condition)
        ]

    async def read(self, store: Store) -> None:
        """Take what we hold and what leaders hold as reasons to watch a market of ours."""
        keys = [POSITIONS, *(exposure_key(p) for p in range(PARTITIONS))]
        found = await store.read_views(keys)
        positions = decode(found[0], PositionsView)
        held = [position.condition for position in positions.positions] if positions else []
        for data in found[1:]:
            exposures = decode(data, ExposuresView)
            held += [line.condition for line in exposures.exposures] if exposures else []
        for condition in held:
            if self.owns(condition):
                self.want(condition)

    # --- between processes ------------------------------------------------------------------

    async def listen(self, client: Client) -> None:
        await client.subscribe(WANT, cb=self._take_want)
        await client.subscribe(OVER, cb=self._take_over)

    async def tell(self, client: Client) -> None:
        """Publish what others have to know, each market once however often it came up."""
        for subject, conditions in self._to_tell.items():
            if conditions:
                self._to_tell[subject] = {}
                with contextlib.suppress(nats.errors.Error):
                    told = _Told(self._origin, list(conditions))
                    await client.publish(subject, msgspec.json.encode(told))

    async def _take_want(self, message: Msg) -> None:
        for condition in self._conditions(message):
            if self.owns(condition):
                self.want(condition)

    async def _take_over(self, message: Msg) -> None:
        for condition in self._conditions(message):
            self._over(condition)

    def _conditions(self, message: Msg) -> list[ConditionId]:
        try:
            told = msgspec.json.decode(message.data, type=_Told)
            conditions = [ids.condition_id(each) for each in told.conditions]
        except (msgspec.DecodeError, ValueError) as e:
            subject, reason = message.subject, str(e)
            log(_logger, logging.WARNING, "markets_malformed", subject=subject, reason=reason)
            return []
        return [] if told.origin == self._origin else conditions
