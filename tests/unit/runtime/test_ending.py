"""A failure ends the process, also where a task has lost its cancellation."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from shared.runtime import serve
from shared.runtime.lease import LeaseLostError
from shared.runtime.ports import Lane


async def _deaf(heard: asyncio.Event) -> None:
    """Lose the first cancellation, as a library's wait does that ends at the same moment."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3_600)
    heard.set()
    await asyncio.sleep(3_600)


async def _lost() -> None:
    raise LeaseLostError("ingester.03: taken by another process")


async def test_a_task_that_lost_its_cancellation_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard, exits, left = asyncio.Event(), list[int](), list[asyncio.Task[None]]()
    monkeypatch.setattr(serve.os, "_exit", exits.append)
    monkeypatch.setattr(serve, "_FAIL_DEADLINE_S", 0.05)

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            left.append(tasks.create_task(_deaf(heard)))
            await asyncio.sleep(0)
            tasks.create_task(serve._or_end(_lost()))

    running = asyncio.create_task(group())
    await asyncio.wait({running}, timeout=0.3)
    assert heard.is_set()
    assert not running.done()
    assert exits == [1]
    assert "service_ends" in caplog.text
    left[0].cancel()
    with pytest.raises(BaseExceptionGroup):
        await running


class _DeafRunner:
    """A lane in whose loop a cancellation is lost."""

    def __init__(self, *_: object) -> None:
        self.heard = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        running.append(asyncio.current_task())
        await _deaf(self.heard)


class _LostLease:
    epoch = 1

    async def hold(self) -> None:
        await asyncio.sleep(0.01)
        await _lost()


running: list[Any] = []


async def test_a_lane_that_lost_its_lease_and_does_not_hear_it_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exits = list[int]()
    monkeypatch.setattr(serve.os, "_exit", exits.append)
    monkeypatch.setattr(serve, "_FAIL_DEADLINE_S", 0.05)
    monkeypatch.setattr(serve, "LaneRunner", _DeafRunner)
    lanes: Any = SimpleNamespace(
        _built=SimpleNamespace(make_shell=lambda _: None, service=None),
        _context=SimpleNamespace(ports=None),
    )
    lease: Any = _LostLease()
    holding = asyncio.create_task(
        serve._Lanes._hold(lanes, Lane("risk", 1), lease, asyncio.Event())
    )
    await asyncio.wait({holding}, timeout=0.3)
    assert not holding.done()
    assert exits == [1]
    running[0].cancel()
    with pytest.raises(BaseExceptionGroup):
        await holding


async def test_an_orderly_end_exits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    exits = list[int]()
    monkeypatch.setattr(serve.os, "_exit", exits.append)
    monkeypatch.setattr(serve, "_FAIL_DEADLINE_S", 0.01)
    ended = asyncio.create_task(serve._or_end(asyncio.sleep(3_600)))
    await asyncio.sleep(0)
    ended.cancel()
    await asyncio.wait({ended}, timeout=1)
    await serve._or_end(asyncio.sleep(0))
    await asyncio.sleep(0.05)
    assert exits == []
