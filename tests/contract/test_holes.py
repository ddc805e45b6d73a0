"""A ledger that lacks a message is not built upon, and says which."""

from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from services.ctl.servers import LocalServers
from shared.domain.messages import Batch, HaltTrading
from shared.runtime.bus import NatsLedger, provision
from shared.runtime.jetstream import api, check_whole, holes_text, runs_of
from shared.runtime.ports import GapError, Lane
from shared.runtime.streams import STREAM, STREAMS
from tests.support.servers import nats_client, wipe

CTL = Lane("ctl", 3)


async def say(client: Client, count: int) -> None:
    ledger, after = NatsLedger(client), 0
    for number in range(count):
        halt = HaltTrading(id=f"h{number}", cause="", root="", ts_ns=1, reason="r", actor="a")
        batch = Batch(epoch=1, through=0, facts=(halt,))
        after = await ledger.append(CTL, batch, key="facts", after=after)


async def open_ledger(client: Client) -> None:
    """Make a ledger that lets messages be deleted, as no server of ours does."""
    (config,) = [dict(each) for each in STREAMS if each["name"] == STREAM]
    config |= {"deny_delete": False, "deny_purge": False}
    assert "error" not in await api(client, f"STREAM.CREATE.{STREAM}", config)


async def lose(client: Client, seq: int) -> None:
    answer = await api(client, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq, "no_erase": True})
    assert answer["success"]


async def test_a_whole_ledger_is_whole_also_while_it_is_empty(servers: LocalServers) -> None:
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        await check_whole(client)
        await say(client, 3)
        await check_whole(client)


@pytest.mark.parametrize(
    ("lost", "told"),
    [([3], "3;"), ([3, 4, 5, 8], "3 to 5, 8;"), ([1, 2], "1 to 2;"), ([10], "10;")],
)
async def test_lost_messages_are_named(servers: LocalServers, lost: list[int], told: str) -> None:
    await wipe(servers)
    async with nats_client(servers) as client:
        await open_ledger(client)
        await say(client, 10)
        for seq in lost:
            await lose(client, seq)
        with pytest.raises(GapError, match=f"the ledger has lost messages {told}"):
            await check_whole(client)


async def test_a_ledger_that_lost_everything_is_no_new_one(servers: LocalServers) -> None:
    await wipe(servers)
    async with nats_client(servers) as client:
        await open_ledger(client)
        await say(client, 4)
        answer: dict[str, Any] = await api(client, f"STREAM.PURGE.{STREAM}", {})
        assert answer["purged"] == 4
        with pytest.raises(GapError, match="lost messages 1 to 4;"):
            await check_whole(client)


async def test_the_ledger_refuses_to_lose_anything(servers: LocalServers) -> None:
    await wipe(servers, provision)
    async with nats_client(servers) as client:
        await say(client, 2)
        for subject, body in (
            (f"STREAM.MSG.DELETE.{STREAM}", {"seq": 1}),
            (f"STREAM.PURGE.{STREAM}", {}),
        ):
            assert "error" in msgspec.json.decode(
                (await client.request(f"$JS.API.{subject}", msgspec.json.encode(body))).data
            )
        await check_whole(client)


def test_runs_are_told_briefly() -> None:
    assert runs_of([]) == []
    assert runs_of([2, 3, 4, 7]) == [(2, 4), (7, 7)]
    assert holes_text([(n, n) for n in range(1, 20, 2)]) == "1, 3, 5, 7, 9 and 5 more"
