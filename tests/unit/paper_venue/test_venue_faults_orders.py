"""Every fault of an order and its settlement, once over the wire; and the rules' own calls."""

import json

import pytest
from venue_bench import Bench, frame, subscribe

from services.paper_venue.kinds import KINDS
from services.paper_venue.signing import credentials_for
from services.paper_venue.trading import FAK_KILLED, FOK_KILLED


async def read(bench: Bench, path: str) -> dict:
    headers = bench.signed("GET", path)
    async with bench.session.get(bench.url + path, headers=headers) as answer:
        return await answer.json()


async def statuses(bench: Bench) -> list[str]:
    page = await read(bench, "/data/trades")
    return [trade["status"].removeprefix("TRADE_STATUS_") for trade in page["data"]]


async def test_an_order_is_refused_in_given_words(bench: Bench) -> None:
    body = {"error": "post-only mode", "code": "post_only_mode", "retry_after_seconds": 79}
    await bench.rule("reject", status=503, body=body, count=1)
    assert await bench.post(bench.order_body()) == (503, body)
    await bench.rule("reject", token=bench.tokens[1])
    assert (await bench.post(bench.order_body()))[0] == 200, "another token's fault"


@pytest.mark.parametrize(("kind", "text"), [("FAK", FAK_KILLED), ("FOK", FOK_KILLED)])
async def test_an_answer_says_killed_while_the_order_filled(
    bench: Bench, kind: str, text: str
) -> None:
    rule = await bench.rule("killed_but_filled", count=1)
    assert (await bench.post(bench.order_body(kind=kind, price=0.4)))[0] == 400, "a true kill"
    assert await bench.fired(rule) == 0
    assert await bench.post(bench.order_body(kind=kind)) == (400, {"error": text})
    assert await statuses(bench) == ["MATCHED"]


async def test_a_settlement_fails_or_is_retried_first(bench: Bench) -> None:
    await bench.rule("fail_settlement", token=bench.tokens[0], wallet=bench.owner, count=1)
    await bench.rule("retry_settlement", ms=30_000, count=1)
    await bench.post(bench.order_body(size=5))
    await bench.post(bench.order_body(size=6))
    await bench.post(bench.order_body(size=7))
    await bench.pass_ms(2_000)
    assert sorted(await statuses(bench)) == ["MINED", "RETRYING", "RETRYING"]
    await bench.pass_ms(3_000)
    assert sorted(await statuses(bench)) == ["CONFIRMED", "FAILED", "RETRYING"]
    assert [row["size"] for row in await rows(bench)] == [7]
    await bench.pass_ms(27_000)
    assert sorted(await statuses(bench)) == ["CONFIRMED", "FAILED", "MINED"]
    await bench.pass_ms(3_000)
    assert sorted(await statuses(bench)) == ["CONFIRMED", "CONFIRMED", "FAILED"]
    assert [row["size"] for row in await rows(bench)] == [6, 7], "public once it is mined"


async def rows(bench: Bench) -> list[dict]:
    return (await bench.get("/v2/activity", user=bench.owner))["data"]


async def test_the_venue_cancels_a_resting_order_by_itself(bench: Bench) -> None:
    await bench.rule("cancelled_by_venue", ms=5_000)
    keys = credentials_for(1, bench.owner, 0)
    _, placed = await bench.post(bench.order_body(price=0.4, size=5, kind="GTC"))
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    async with bench.socket("/ws/user") as socket:
        await subscribe(socket, {"type": "user", "auth": auth})
        assert await frame(socket) == "PONG"
        await bench.pass_ms(5_000)
        told = await frame(socket)
    assert (told["id"], told["type"], told["status"]) == (
        placed["orderID"],
        "CANCELLATION",
        "INVALID",
    )
    assert (await read(bench, f"/data/order/{placed['orderID']}"))["status"] == "INVALID"


async def test_the_tick_changes_just_before_an_order(bench: Bench) -> None:
    async with bench.socket("/ws/market") as socket:
        await subscribe(socket, {"type": "market", "assets_ids": bench.tokens[:1]})
        await frame(socket)
        assert await frame(socket) == "PONG"
        await bench.rule("tick_changed", tick="0.1", count=1)
        status, answer = await bench.post(bench.order_body(price=0.48))
        assert (status, "minimum tick size rule: 0.1" in answer["error"]) == (400, True)
        told = await frame(socket)
    assert (told["event_type"], told["new_tick_size"]) == ("tick_size_change", "0.1")


async def test_the_market_closes_just_before_an_order_and_opens_again(bench: Bench) -> None:
    await bench.rule("market_closed", count=1, ms=4_000)
    body = bench.order_body()
    status, answer = await bench.post(body)
    assert (status, "not yet ready" in answer["error"]) == (400, True)
    assert not (await bench.get(f"/markets/{bench.condition}"))["accepting_orders"]
    await bench.pass_ms(4_000)
    assert (await bench.post(body))[0] == 200


async def test_a_batch_has_the_same_faults(bench: Bench) -> None:
    await bench.rule("reject", body={"error": "could not insert order"}, count=1)
    body = f"[{bench.order_body(size=5)},{bench.order_body(size=6)}]"
    headers = bench.signed("POST", "/orders", body)
    async with bench.session.post(f"{bench.url}/orders", data=body, headers=headers) as answer:
        legs = await answer.json()
    assert [(leg["errorMsg"], leg["status"]) for leg in legs] == [
        ("could not insert order", ""),
        ("", "matched"),
    ]


async def test_rules_are_listed_deleted_and_replaced_by_name(bench: Bench) -> None:
    first = await bench.rule("silent", socket="stream", name="mute", for_s=10)
    second = await bench.rule("slow", name="mute", ms=5, after_s=60)
    listed = (await bench.get("/admin/rules"))["rules"]
    assert [(each["id"], each["state"]) for each in listed] == [
        (first, "over"),
        (second, "waiting"),
    ]
    assert (listed[1]["ms"], listed[1]["path"], "socket" in listed[1]) == (5, "*", False)
    url = f"{bench.url}/admin/rules"
    for rule, status in ((second, 200), (second, 404)):
        async with bench.session.delete(f"{url}/{rule}") as answer:
            assert answer.status == status
    async with bench.session.delete(url) as answer:
        assert await answer.json() == {"removed": 1}
    assert (await bench.get("/admin/rules"))["rules"] == []


async def test_a_bad_rule_is_refused_with_its_place_and_a_way_out(bench: Bench) -> None:
    for told, words in (
        ([{"kind": "close"}, {"kind": "cloze"}], ("rule 2", "did you mean 'close'")),
        ([{"kind": "slow", "mss": 5}], ("no `mss`, did you mean 'ms'",)),
        ([{"kind": "slow", "ms": -1}], ("$.ms", "milliseconds")),
        ([{"kind": "reject", "status": 200}], ("400 to 599",)),
        ({"kind": "slow"}, ("a list of rules",)),
    ):
        async with bench.session.post(f"{bench.url}/admin/rules", json=told) as answer:
            error = (await answer.json())["error"]
            assert answer.status == 400
            assert all(word in error for word in words), error
    assert (await bench.get("/admin/rules"))["rules"] == [], "all or none"


async def test_every_kind_explains_itself_and_can_be_put_in_force(bench: Bench) -> None:
    told = (await bench.get("/admin/faults/kinds"))["kinds"]
    assert {each["kind"] for each in told} == set(KINDS)
    assert all(words["words"] for each in told for words in each["parameters"].values())
    for each in told:
        await bench.rule(each["kind"], after_s=1)
    kinds = [rule["kind"] for rule in (await bench.get("/admin/rules"))["rules"]]
    assert kinds == [each["kind"] for each in told]


async def test_the_old_counters_are_rules_and_zero_ends_one(bench: Bench) -> None:
    told = await bench.admin("faults", rest_5xx=2, market_silence_s=5)
    assert told == {"ok": True, "faults": {"rest_5xx": 2, "market_silence_s": None}}
    assert "error" in await bench.get("/ok")
    told = await bench.admin("faults", slow=1, slow_ms=1)
    assert told["faults"] == {"rest_5xx": 1, "market_silence_s": None, "slow": 1}
    assert (await bench.admin("faults", rest_5xx=0))["faults"].keys() == {
        "market_silence_s",
        "slow",
    }
    assert await bench.get("/ok") == "OK"


async def test_a_scenario_is_posted_and_plays(bench: Bench) -> None:
    scenario = {
        "seed": 3,
        "step": [{"at_s": 1, "for_s": 2, "kind": "empty"}, {"at_s": 3, "kind": "close"}],
    }
    done = await bench.admin("scenario", **scenario)
    assert (len(done["ids"]), done["ends_s"]) == (2, 3)
    for ms, text in ((0, "OK"), (1_000, None), (2_000, "OK")):
        bench.clock.ns += ms * 1_000_000
        async with bench.session.get(f"{bench.url}/ok") as answer:
            body = await answer.text()
        assert (json.loads(body) if body else None) == text
    storm = await bench.admin("scenario", storm={"seed": 5, "for_s": 30})
    assert storm["ends_s"] <= 30
    assert "kinds" in (await bench.admin("scenario", storm={"kinds": ["hail"]}))["error"]
