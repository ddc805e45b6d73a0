"""What the venue's endpoints did in the last hour, and what it leaves of their error budgets."""

import pytest

from shared.domain.units import NS_PER_MS, NS_PER_S, Bps
from shared.domain.views import EndpointsView, EndpointView, decode
from shared.runtime.clock import ManualClock
from shared.runtime.endpoints import Endpoints, budget_left
from shared.runtime.memory import MemoryStore
from shared.runtime.metrics import Metrics
from tests.support.eventually import eventually


class Watched:
    def __init__(self, objective_bps: int = 9_900) -> None:
        self.clock = ManualClock()
        self.endpoints = Endpoints(
            "executor", self.clock, objective_bps=Bps(objective_bps), slow_ns=500 * NS_PER_MS,
            metrics=Metrics("executor"),
        )  # fmt: skip

    def call(self, *statuses: int, ms: int = 10, name: str = "/book") -> None:
        for status in statuses:
            self.endpoints.called(name, ms / 1_000, status)

    def shown(self, name: str = "/book") -> EndpointView | None:
        return next((e for e in self.endpoints.view().endpoints if e.name == name), None)


@pytest.mark.parametrize(
    ("status", "bad"),
    [(200, 0), (404, 0), (400, 0), (0, 1), (425, 1), (429, 1), (500, 1), (503, 1)],
)
def test_a_refusal_with_a_reason_is_an_answer_and_a_failure_is_not(status: int, bad: int) -> None:
    watched = Watched()
    watched.call(status)
    shown = watched.shown()
    assert shown is not None
    assert (shown.calls, shown.bad, shown.last_bad_status) == (1, bad, status if bad else None)


def test_latency_is_told_by_its_median_and_its_tail_and_slow_answers_are_counted() -> None:
    watched = Watched()
    for ms in range(1, 101):
        watched.call(200, ms=ms)
    watched.call(200, 500, ms=501)
    shown = watched.shown()
    assert shown is not None
    assert (shown.median_ms, shown.p99_ms) == (52, 501)
    assert (shown.slow, shown.bad) == (1, 1), "what failed is not slow as well"


def test_what_happened_longer_than_an_hour_ago_is_forgotten() -> None:
    watched = Watched()
    watched.call(503)
    watched.clock.advance(1_800 * NS_PER_S)
    watched.call(200)
    watched.call(200, name="/time")
    shown = watched.shown()
    assert shown is not None
    assert (shown.calls, shown.bad) == (2, 1)
    watched.clock.advance(1_801 * NS_PER_S)
    shown = watched.shown()
    assert shown is not None
    assert (shown.calls, shown.bad, shown.budget_bps) == (1, 0, 10_000)
    watched.clock.advance(3_600 * NS_PER_S)
    assert watched.shown() is None


@pytest.mark.parametrize(
    ("calls", "spent", "left"),
    [
        (1_000, 0, 10_000), (1_000, 5, 5_000), (1_000, 10, 0), (1_000, 25, -15_000),
        (10, 1, 0), (10, 2, -10_000),
    ],
)  # fmt: skip
def test_a_budget_is_one_call_of_a_hundred_and_never_less_than_one(
    calls: int, spent: int, left: int
) -> None:
    assert budget_left(calls, spent, Bps(9_900)) == left


async def test_the_view_stands_where_status_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr("shared.runtime.endpoints._REPORT_S", 0.01)
    watched, store = Watched(), MemoryStore()
    reporting = asyncio.create_task(watched.endpoints.report(store, "executor-7"))
    watched.call(200, 429)

    def written() -> bool:
        view = decode(store.views.get("driftless:view:endpoints:executor-7"), EndpointsView)
        return view is not None and view.service == "executor" and view.endpoints[0].bad == 1

    await eventually(written)
    reporting.cancel()
