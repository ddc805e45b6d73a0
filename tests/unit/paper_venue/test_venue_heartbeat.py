"""The dead man's switch: ids rotate, stale ones are refused, silence cancels what rests."""

from venue_bench import NOW_S, Bench
from venue_caller import KEYS, Told, call, post

from shared.domain.units import NS_PER_S


async def beat(bench: Bench, named: str | None = "") -> Told:
    return await call(bench, "POST", "/v1/heartbeats", {"heartbeat_id": named})


def at_s(bench: Bench, seconds: int) -> None:
    bench.clock.ns = (NOW_S + seconds) * NS_PER_S


async def test_each_answer_names_the_next_heartbeat(bench: Bench) -> None:
    first = (await beat(bench)).body["heartbeat_id"]
    second = (await beat(bench, first)).body["heartbeat_id"]
    assert first != second
    for stale in (first, "", None, "something"):
        refused = await beat(bench, stale)
        assert refused[:2] == (
            400,
            {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": second},
        )
    assert (await beat(bench, second)).status == 200


async def test_silence_cancels_what_rests_of_that_key_at_the_next_check(bench: Bench) -> None:
    resting = (await post(bench)).body["orderID"]
    orders = bench.shell.venue.orders
    at_s(bench, 1)
    named = (await beat(bench)).body["heartbeat_id"]
    at_s(bench, 4)
    await beat(bench, named)
    at_s(bench, 13)  # checks at 6 and 11: silent for 2 s, for 7 s
    await bench.get("/ok")
    assert orders[resting].status == "LIVE"
    at_s(bench, 16)
    await bench.get("/ok")
    assert orders[resting].status == "CANCELED"


async def test_a_stale_heartbeat_does_not_put_the_deadline_off(bench: Bench) -> None:
    resting = (await post(bench)).body["orderID"]
    await beat(bench)
    for second in (4, 8):
        at_s(bench, second)
        assert (await beat(bench, "stale")).status == 400
    at_s(bench, 10)
    await bench.get("/ok")
    assert bench.shell.venue.orders[resting].status == "CANCELED"


async def test_regular_heartbeats_keep_orders_and_the_switch_stays_armed(bench: Bench) -> None:
    resting = (await post(bench)).body["orderID"]
    named = (await beat(bench)).body["heartbeat_id"]
    for second in range(5, 60, 5):
        at_s(bench, second)
        named = (await beat(bench, named)).body["heartbeat_id"]
    assert bench.shell.venue.orders[resting].status == "LIVE"
    at_s(bench, 70)
    later = (await post(bench)).body["orderID"]
    assert bench.shell.venue.orders[resting].status == "CANCELED"
    at_s(bench, 75)
    await bench.get("/ok")
    assert bench.shell.venue.orders[later].status == "CANCELED"


async def test_who_sends_none_keeps_his_orders_and_a_deleted_key_has_no_switch(
    bench: Bench,
) -> None:
    resting = (await post(bench)).body["orderID"]
    assert (await call(bench, "POST", "/heartbeats"))[:2] == (200, {"status": "ok"})
    at_s(bench, 100)
    await bench.get("/ok")
    assert bench.shell.venue.orders[resting].status == "LIVE"
    await beat(bench)
    await call(bench, "DELETE", "/auth/api-key")
    assert KEYS.key not in bench.shell.venue.hearts
    at_s(bench, 200)
    await bench.get("/ok")
    assert bench.shell.venue.orders[resting].status == "LIVE"
