"""The aggregator's sight of the venue: snapshots of its leaders, and the plea to read again."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import nats
from nats.aio.client import Client

from services.aggregator.core import Look, Policies, State
from services.aggregator.state import is_conversion
from shared.domain.ids import Wallet
from shared.domain.messages import (
    ActivityRead,
    Fact,
    FillCounted,
    LeaderActed,
    LeaderDriftSuspected,
    LeaderFilled,
    MarketResolved,
    ReloadConfig,
    Tick,
)
from shared.domain.units import NS_PER_S
from shared.domain.views import (
    ExposuresView,
    ExposureView,
    LeaderView,
    decode,
    encode,
    exposure_key,
    leader_key,
)
from shared.runtime.config import Config, ConfigError
from shared.runtime.logs import log
from shared.runtime.ports import Lane, Store, StoreAwayError
from shared.runtime.rpc import REREAD
from shared.runtime.runner import LaneHandle, QuietShell
from shared.runtime.settings import decode_config

_LOOKED_EVERY_NS: Final = 3 * NS_PER_S  # at the snapshots
_SILENT_NS: Final = 30 * NS_PER_S  # so long without a word of the ingester, there is none to come
_logger = logging.getLogger(__name__)


class _Stamp(msgspec.Struct, frozen=True):
    """When a snapshot was taken: enough to pass over one that is known already."""

    as_of_ns: int


class Current:
    """The windows' settings, for all lanes of the process; a reload replaces them."""

    def __init__(self, config: Config, policies_of: Callable[[Config], Policies]) -> None:
        self._policies_of = policies_of
        self.policies = policies_of(config)

    def replace(self, command: ReloadConfig) -> None:
        """Take what an operator sent; what cannot be read is refused by risk, and left alone."""
        try:
            self.policies = self._policies_of(decode_config(command.config))
        except ConfigError as e:
            log(_logger, logging.WARNING, "settings_refused", reason=str(e))


class Shell(QuietShell[State]):
    def __init__(self, lane: Lane, store: Store, client: Client, current: Current) -> None:
        self._key = exposure_key(lane.partition)
        self._current = current
        self._store, self._client = store, client
        self._heard_ns = 0  # whatever the ingester said before this was heard
        self._looked_ns = 0
        self._taken: dict[Wallet, int] = {}  # time of the newest snapshot seen
        self._waiting: dict[Wallet, tuple[LeaderView, int]] = {}  # with when it was seen

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._lane = lane

    async def prepare(self, state: State, message: Any) -> Any:
        match message:
            case LeaderFilled(seen_ns=heard_ns) | LeaderActed(seen_ns=heard_ns):
                self._heard_ns = max(self._heard_ns, heard_ns)
            case ActivityRead(ts_ns=heard_ns) | MarketResolved(ts_ns=heard_ns):
                self._heard_ns = max(self._heard_ns, heard_ns)
            case ReloadConfig():
                self._current.replace(message)
            case Tick(now_ns=now_ns) if now_ns - self._looked_ns >= _LOOKED_EVERY_NS:
                self._looked_ns = now_ns
                views = await self._provable(state)
                return Look(now_ns, views) if views else message
            case _:
                pass
        return message

    async def _provable(self, state: State) -> tuple[LeaderView, ...]:
        """Return the snapshots not compared yet whose leaders' activity was heard to the end.

        One that is not waits for that, for the next ones would have to wait just as well. Of
        leaders who do nothing there is nothing to hear, so that no wait lasts for ever.
        """
        leaders = [leader for leader in state.leaders if leader not in self._waiting]
        try:
            found = await self._store.read_views([leader_key(leader) for leader in leaders])
        except StoreAwayError:
            found = []
        for leader, data in zip(leaders, found, strict=False):
            stamp = decode(data, _Stamp)
            if stamp is not None and stamp.as_of_ns != self._taken.get(leader):
                self._taken[leader] = stamp.as_of_ns
                view = msgspec.json.decode(data or b"", type=LeaderView)
                self._waiting[leader] = (view, self._looked_ns)
        silent_ns = self._looked_ns - _SILENT_NS
        ready = [
            view
            for view, seen_ns in self._waiting.values()
            if view.read_ns <= self._heard_ns or seen_ns <= silent_ns
        ]
        for view in ready:
            del self._waiting[view.leader]
        return tuple(ready)

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        doubted = {
            fact.leader
            for fact in facts
            if isinstance(fact, LeaderDriftSuspected)
            or (isinstance(fact, FillCounted) and is_conversion(fact))
        }
        if doubted:
            self._lane.spawn(self._ask_again(sorted(doubted)))

    async def _ask_again(self, leaders: Sequence[Wallet]) -> None:
        """Ask for the leaders to be read anew; if it is lost, the next snapshots come anyway."""
        try:
            for leader in leaders:
                await self._client.publish(REREAD, msgspec.json.encode({"leader": leader}))
        except nats.errors.Error as e:
            log(_logger, logging.WARNING, "reread_not_asked", reason=type(e).__name__)

    def views(self, state: State) -> Mapping[str, bytes]:
        lines = tuple(
            ExposureView(
                leader=wallet,
                condition=condition,
                yes=track.yes,
                no=track.no,
                exposure=track.exposure,
            )
            for wallet, leader in state.leaders.items()
            for condition, track in leader.tracks.items()
        )
        return {self._key: encode(ExposuresView(exposures=lines))}
