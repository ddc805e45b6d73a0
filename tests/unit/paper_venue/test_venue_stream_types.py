"""One type of the activity stream falls silent while the other goes on (protocol.md 5.1)."""

import pytest
from venue_bench import SUBSCRIBE, Bench, frame, subscribe

from services.paper_venue.rules import RuleError, read_rule


@pytest.mark.parametrize("kind", ["silent", "drop"])
@pytest.mark.parametrize(("lost", "heard"), [("trades", 1), ("orders_matched", 2)])
async def test_one_type_is_lost_and_the_other_goes_on(
    bench: Bench, kind: str, lost: str, heard: int
) -> None:
    rule = await bench.rule(kind, socket="stream", type=lost)
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, SUBSCRIBE)
        assert await frame(socket) == "PONG"
        await bench.fill(immediate=True)
        told = [(await frame(socket))["type"] for _ in range(heard)]
        await socket.send_str("PING")
        assert await frame(socket) == "PONG", "nothing else came"
    assert lost not in told
    assert await bench.fired(rule) > 0


async def test_without_a_type_both_are_lost(bench: Bench) -> None:
    await bench.rule("silent", socket="stream")
    async with bench.socket("/rtds") as socket:
        await subscribe(socket, SUBSCRIBE)
        assert await frame(socket) == "PONG"
        await bench.fill(immediate=True)
        await socket.send_str("PING")
        assert await frame(socket) == "PONG"


async def test_a_type_leaves_other_sockets_alone(bench: Bench) -> None:
    await bench.rule("drop", type="trades")
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        assert isinstance(await frame(socket), list)
        assert await frame(socket) == "PONG"
        await bench.move(31)
        assert (await frame(socket))["event_type"] == "price_change"


def test_a_type_is_one_of_the_streams() -> None:
    assert read_rule({"kind": "silent", "type": "orders_matched"}).type == "orders_matched"
    with pytest.raises(RuleError, match="type"):
        read_rule({"kind": "silent", "type": "comments"})
    with pytest.raises(RuleError, match="takes no `type`"):
        read_rule({"kind": "close", "type": "trades"})
