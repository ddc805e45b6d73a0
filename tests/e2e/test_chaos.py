"""A few rounds of chaos: the whole system as processes, killed at random, finds its way back."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from services.ctl.stack import command_of, descendants
from services.lab.chaos import chaos

pytestmark = pytest.mark.xdist_group("e2e")
KILLS = 6


async def test_six_kills_break_no_promise_and_leave_no_process(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    told = await chaos(tmp_path, seed=5, kills=KILLS, minutes=0, console=Console(quiet=True))
    assert told.broken == ()
    assert len(told.rounds) == KILLS
    assert told.rows
    assert told.orders
    left = descendants(os.getpid()) - before
    assert not left, [command_of(pid) for pid in left]
