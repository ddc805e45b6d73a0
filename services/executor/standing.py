"""What keeps our account from opening positions at the venue, kept up to date while it trades.

Some of it is asked for (the region, whether the account may only reduce, the clocks), some of it
the venue says when it refuses. A reason is in force at its first word, and over only after two
looks in a row that do not show it: where it flickers, we stay out. What cannot be asked for
(a restricted mode) is over after the time the venue names, longer each time it comes back.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from shared.domain.units import NS_PER_S
from shared.domain.views import BANNED, CLOCK, CLOSED_ONLY, GEOBLOCK, IN_FORCE, VENUE, StandingView
from shared.polymarket.errors import Mode, RejectCode, Rejected, Unavailable, VenueError
from shared.polymarket.limits import POST_ORDER
from shared.polymarket.probes import Finding
from shared.polymarket.probing import Probing
from shared.runtime.logs import log

_WAIT_NS: Final = 30 * NS_PER_S  # of a mode that names no time
_WAIT_NS_MAX: Final = 300 * NS_PER_S
_BANNED_NS: Final = 3_600 * NS_PER_S
AGAIN_S: Final = 60.0  # between looks while something is in force, or was not answered
_RESTRICTED: Final = (Mode.RESTARTING, Mode.POST_ONLY, Mode.CANCEL_ONLY, Mode.DISABLED)
_PLACE: Final = (RejectCode.FORBIDDEN, RejectCode.CLOSE_ONLY, RejectCode.BANNED)
_logger = logging.getLogger(__name__)


class Standing:
    """Each reason as it is known, and when it was last seen. Times in ns of ``now_ns``."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._known: dict[str, StandingView] = {}
        self._until: dict[str, int] = {}  # of what the venue says by itself
        self._wait_ns = _WAIT_NS
        self.changed = asyncio.Event()  # something came into force, or is over
        self.doubted = asyncio.Event()  # the venue refused us for where or who we are

    def view(self) -> tuple[StandingView, ...]:
        """Return every reason that was looked at, those in force and those that are not."""
        now_ns = self._now_ns()
        for name in [name for name, until_ns in self._until.items() if until_ns <= now_ns]:
            del self._until[name]
            self._put(name, 0, "")
        return tuple(self._known.values())

    @property
    def is_restricted(self) -> bool:
        return any(each.level for each in self.view())

    def saw(self, name: str, *, restricted: bool, detail: str = "") -> None:
        """Take what a look has shown."""
        known = self._known.get(name)
        level = IN_FORCE if restricted else max(0, (known.level if known else 0) - 1)
        self._put(name, level, detail if restricted or not known or level == 0 else known.detail)

    def found(self, name: str, finding: Finding) -> bool:
        """Take a probe; tell whether it was answered."""
        if finding.outcome == "unknown":
            log(_logger, logging.WARNING, "standing_unknown", name=name, seen=finding.seen)
            return False
        if finding.outcome == "warn":
            log(_logger, logging.WARNING, "standing_doubtful", name=name, seen=finding.seen)
        self.saw(name, restricted=finding.outcome == "fail", detail=finding.seen)
        return True

    def heard(self, endpoint: str, error: VenueError | None) -> None:
        """Take how a call fared; the venue says with a refusal what it does instead."""
        if isinstance(error, Unavailable) and error.mode in _RESTRICTED:
            self._restricted(error)
        elif isinstance(error, Rejected) and (error.status == 403 or error.code in _PLACE):
            if error.code is RejectCode.CLOSE_ONLY:
                self.saw(CLOSED_ONLY, restricted=True, detail=error.text)
            if error.code is RejectCode.BANNED:
                self._until[BANNED] = self._now_ns() + _BANNED_NS
                self.saw(BANNED, restricted=True, detail=error.text)
            self.doubted.set()
        elif error is None and endpoint == POST_ORDER and VENUE in self._known:
            self._wait_ns = _WAIT_NS
            self._until.pop(VENUE, None)
            self._put(VENUE, 0, "")

    def _restricted(self, error: Unavailable) -> None:
        now_ns = self._now_ns()
        if error.retry_after_s is not None:
            wait_ns = int(error.retry_after_s * NS_PER_S)
        else:
            wait_ns = self._wait_ns
            if now_ns >= self._until.get(VENUE, 0):  # it came back
                self._wait_ns = min(_WAIT_NS_MAX, 2 * self._wait_ns)
        self._until[VENUE] = max(self._until.get(VENUE, 0), now_ns + wait_ns)
        self._put(VENUE, IN_FORCE, f"{error.mode}: {error.text}")

    def _put(self, name: str, level: int, detail: str) -> None:
        old = self._known.get(name)
        was_in_force = old is not None and old.level > 0
        if old is None or was_in_force != (level > 0):
            since_ns = self._now_ns()
            if was_in_force or level:
                self._say(name, level, detail or (old.detail if old else ""))
                self.changed.set()
        else:
            since_ns = old.since_ns
        self._known[name] = StandingView(name=name, level=level, detail=detail, since_ns=since_ns)

    def _say(self, name: str, level: int, detail: str) -> None:
        event = "restricted" if level else "restriction_over"
        log(_logger, logging.WARNING, event, name=name, detail=detail)


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How often to look."""

    clock_s: float
    region_s: float
    again_s: float = AGAIN_S


async def watch_clock(standing: Standing, probing: Probing, watch: Watch) -> None:
    """Compare the venue's clock with ours, again and again."""
    while True:
        standing.found(CLOCK, await probing.clock())
        await asyncio.sleep(watch.clock_s)


async def watch_region(standing: Standing, probing: Probing, watch: Watch) -> None:
    """Ask whether orders are taken from here: now and then, and whenever one is refused for it."""
    while True:
        answered = standing.found(GEOBLOCK, await probing.geoblock())
        wait_s = watch.region_s if answered and not standing.is_restricted else watch.again_s
        try:
            async with asyncio.timeout(min(wait_s, watch.region_s)):
                await standing.doubted.wait()
        except TimeoutError:
            continue
        standing.doubted.clear()
        await asyncio.sleep(min(1.0, watch.again_s))  # a burst of refusals is one reason to ask
