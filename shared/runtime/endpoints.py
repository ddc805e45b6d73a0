"""How the venue's endpoints answer this process: latency, failures, and the error budget.

An endpoint has an objective: so many of the calls of the last hour are answered well, in time. The
rest is its error budget (Beyer et al., "Site Reliability Engineering", 2016, ch. 3 and 4): with an
objective of 99 %, ten bad calls of a thousand spend it whole.
"""

import asyncio
import logging
from collections import deque
from typing import Final

import msgspec

from shared.domain.units import BPS, NS_PER_MS, NS_PER_S, Bps
from shared.domain.views import EndpointsView, EndpointView, encode, endpoints_key
from shared.runtime.clock import Clock
from shared.runtime.logs import log
from shared.runtime.metrics import BUDGET, Metrics, is_bad
from shared.runtime.ports import Store, StoreAwayError

WINDOW_NS: Final = 3_600 * NS_PER_S
_SLICE_NS: Final = 60 * NS_PER_S  # the window moves by this much
_LATENCIES_KEPT: Final = 500  # calls
_REPORT_S: Final = 2.0
_logger = logging.getLogger(__name__)


class _Slice(msgspec.Struct):
    number: int  # of the slice since the clock began
    calls: int = 0
    bad: int = 0
    slow: int = 0


class _Endpoint:
    def __init__(self) -> None:
        self.slices: deque[_Slice] = deque()
        self.latencies_ns: deque[int] = deque(maxlen=_LATENCIES_KEPT)
        self.last_bad_ns = 0
        self.last_status = 200


class Endpoints:
    """Counts the calls of one process, and tells of each how it fared.

    A call whose answer took longer than ``slow_ns`` came too late, and spends budget too.
    """

    def __init__(
        self,
        service: str,
        clock: Clock,
        *,
        objective_bps: Bps,
        slow_ns: int,
        metrics: Metrics,
    ) -> None:
        self._service, self._clock = service, clock
        self._objective_bps, self._slow_ns = objective_bps, slow_ns
        self._metrics = metrics
        self._known: dict[str, _Endpoint] = {}

    def called(self, endpoint: str, seconds: float, status: int) -> None:
        """Count an attempt: how long it took, and its HTTP status or 0 for no answer."""
        self._metrics.called(endpoint, seconds, status)
        entry = self._known.setdefault(endpoint, _Endpoint())
        number = self._clock.monotonic_ns() // _SLICE_NS
        if not entry.slices or entry.slices[-1].number != number:
            entry.slices.append(_Slice(number))
        newest = entry.slices[-1]
        newest.calls += 1
        entry.latencies_ns.append(round(seconds * NS_PER_S))
        if is_bad(status):
            newest.bad += 1
            entry.last_bad_ns, entry.last_status = self._clock.now_ns(), status
        elif entry.latencies_ns[-1] > self._slow_ns:
            newest.slow += 1

    def view(self) -> EndpointsView:
        """Return every endpoint that was called in the last hour, by its name."""
        oldest = (self._clock.monotonic_ns() - WINDOW_NS) // _SLICE_NS
        shown = []
        for name, entry in sorted(self._known.items()):
            while entry.slices and entry.slices[0].number <= oldest:
                entry.slices.popleft()
            if entry.slices:
                shown.append(self._shown(name, entry))
        return EndpointsView(
            service=self._service, as_of_ns=self._clock.now_ns(), endpoints=tuple(shown)
        )

    def _shown(self, name: str, entry: _Endpoint) -> EndpointView:
        calls = sum(each.calls for each in entry.slices)
        bad = sum(each.bad for each in entry.slices)
        slow = sum(each.slow for each in entry.slices)
        ordered = sorted(entry.latencies_ns)
        return EndpointView(
            name=name,
            calls=calls,
            bad=bad,
            slow=slow,
            median_ms=ordered[len(ordered) // 2] // NS_PER_MS,
            p99_ms=ordered[len(ordered) * 99 // 100] // NS_PER_MS,
            budget_bps=budget_left(calls, bad + slow, self._objective_bps),
            last_bad_ns=entry.last_bad_ns,
            last_bad_status=entry.last_status if entry.last_bad_ns else None,
        )

    async def report(self, store: Store, instance: str) -> None:
        """Write the view, over and over, where people look."""
        while True:
            await asyncio.sleep(_REPORT_S)
            if not self._known:
                continue
            view = self.view()
            for each in view.endpoints:
                self._metrics.stands_at(BUDGET, each.budget_bps / BPS, endpoint=each.name)
            try:
                await store.write_views({endpoints_key(instance): encode(view)})
            except StoreAwayError as e:
                log(_logger, logging.WARNING, "store_away", reason=str(e))


def budget_left(calls: int, spent: int, objective_bps: Bps) -> Bps:
    """Return how much of an error budget is left, in bps of it; below zero it is overspent.

    The budget is the share of calls that may fail, but always at least one call: a single failure
    among few spends the whole of it and no more.
    """
    allowed = max(BPS, calls * (BPS - objective_bps))  # in calls, times BPS
    return Bps(BPS - spent * BPS * BPS // allowed)
