"""The rules themselves: who takes which chance. No socket, no clock."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_build import T0

from services.paper_venue.fates import LOST, PLAIN, fate_of, frozen, shortened, strikes, stripped
from services.paper_venue.rules import (
    ENDED_KEPT,
    FIRINGS_KEPT,
    RULES_MAX,
    Place,
    RuleError,
    Rules,
    matches,
    read_rule,
)
from shared.domain.units import NS_PER_S

MARKET = Place(socket="market", connection=1, tokens=("7", "8"))
STREAM = Place(socket="stream", connection=2, tokens=("7",), wallets=("0xab",))
REQUEST = Place(method="GET", path="/v2/activity", query="user=0xAB&limit=5")


def rules(*told: dict[str, object], seed: int = 1) -> Rules:
    built = Rules(seed)
    built.add([read_rule(each) for each in told], T0)
    return built


@pytest.mark.parametrize(
    ("told", "place", "expected"),
    [
        ({"kind": "drop"}, MARKET, True),
        ({"kind": "drop", "socket": "stream"}, MARKET, False),
        ({"kind": "drop", "socket": "market", "connection": 1}, MARKET, True),
        ({"kind": "drop", "connection": 2}, MARKET, False),
        ({"kind": "drop", "token": "8"}, MARKET, True),
        ({"kind": "drop", "token": "9"}, MARKET, False),
        ({"kind": "drop", "wallet": "0xAB"}, STREAM, True),
        ({"kind": "drop", "wallet": "0xAB"}, MARKET, False),
        ({"kind": "slow"}, REQUEST, True),
        ({"kind": "slow", "path": "/v2"}, REQUEST, True),
        ({"kind": "slow", "path": "/v2/"}, REQUEST, True),
        ({"kind": "slow", "path": "/v2/act"}, REQUEST, False),
        ({"kind": "slow", "path": "/v2/act*"}, REQUEST, True),
        ({"kind": "slow", "path": "/v2/[bt]*"}, REQUEST, False),
        ({"kind": "slow", "path": "/v2/activity", "method": "GET"}, REQUEST, True),
        ({"kind": "slow", "method": "POST"}, REQUEST, False),
        ({"kind": "slow", "query": "user=0xab"}, REQUEST, True),
        ({"kind": "slow", "query": "0xcd"}, REQUEST, False),
    ],
)
def test_a_rule_knows_its_place(told: dict, place: Place, expected: bool) -> None:
    assert matches(read_rule(told), place) == expected


def test_a_path_is_not_its_longer_neighbour() -> None:
    order = read_rule({"kind": "slow", "path": "/order"})
    paths = ("/order", "/order/1", "/orders", "/")
    assert [matches(order, Place(path=path)) for path in paths] == [True, True, False, False]


def test_a_rule_is_in_force_from_when_to_when_and_so_often() -> None:
    built = rules({"kind": "drop", "after_s": 1, "for_s": 2, "count": 2})
    (armed,) = built.listed()

    def drops(at_ms: int) -> bool:
        return built.fire("drop", MARKET, T0 + at_ms * 1_000_000) is not None

    assert [drops(at) for at in (0, 999, 1_000, 1_001, 1_002)] == [False, False, True, True, False]
    assert (armed.over, armed.fired, built.idle) == (True, 2, True)
    late = rules({"kind": "drop", "for_s": 2})
    assert late.fire("drop", MARKET, T0 + 2 * NS_PER_S - 1) is not None
    assert late.fire("drop", MARKET, T0 + 2 * NS_PER_S) is None
    assert late.idle
    other = rules({"kind": "drop", "for_s": 2})
    assert other.live("twice", T0 + 2 * NS_PER_S) == []
    assert other.idle, "over without a chance of its own"


@given(seed=st.integers(0, 1_000), share=st.integers(1, 10_000))
def test_the_same_seed_and_chances_make_the_same_firings(seed: int, share: int) -> None:
    told = {"kind": "drop", "share_bps": share, "seed": seed}
    runs = [rules(told), rules(told, seed=2)]
    taken = [[run.fire("drop", MARKET, T0) is not None for _ in range(50)] for run in runs]
    assert taken[0] == taken[1]
    assert sum(taken[0]) == runs[0].fired == len(runs[0].firings)


def test_a_share_takes_about_its_part_and_seeds_differ() -> None:
    def run(seed: int) -> list[bool]:
        built = rules({"kind": "drop", "share_bps": 2_000}, seed=seed)
        return [built.fire("drop", MARKET, T0) is not None for _ in range(5_000)]

    assert 900 < sum(run(1)) < 1_100
    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_share_of_one_in_ten_thousand_is_exactly_that() -> None:
    draw = Random("seed/9").randrange(10_000)
    for share, taken in ((draw, False), (draw + 1, True)):
        built = rules({"kind": "drop", "share_bps": share, "seed": 9})
        assert (built.fire("drop", MARKET, T0) is not None) == taken


def test_what_is_left_together_is_not_drawn_again() -> None:
    built = rules({"kind": "drop", "share_bps": 5_000, "together": True, "seed": 1})
    places = [Place(socket="stream", connection=number) for number in range(10)]
    for number in range(20):
        assert len({fate_of(built, place, T0, frame=number).lost for place in places}) == 1
    assert 0 < built.fired < 20


def test_one_draw_decides_for_every_connection_where_it_is_together() -> None:
    apart = rules({"kind": "drop", "count": 1})
    together = rules({"kind": "drop", "count": 1, "together": True})
    places = [Place(socket="stream", connection=number) for number in (1, 2)]
    for built, lost in ((apart, [True, False]), (together, [True, True])):
        fates = [fate_of(built, place, T0, frame=1) for place in places]
        assert [fate.lost for fate in fates] == lost
        assert fate_of(built, places[0], T0, frame=2) == PLAIN
        assert built.fired == 1


def test_what_is_lost_spends_no_other_rule() -> None:
    built = rules({"kind": "twice", "count": 1}, {"kind": "drop", "count": 1})
    assert fate_of(built, MARKET, T0) is LOST
    assert fate_of(built, MARKET, T0).twice


def test_a_connection_has_one_chance_with_a_silence() -> None:
    built = rules({"kind": "silent", "share_bps": 5_000, "seed": 4})
    places = [Place(socket="market", connection=number) for number in range(40)]
    first = [fate_of(built, place, T0).lost for place in places]
    assert [fate_of(built, place, T0).lost for place in places] == first
    assert 8 < sum(first) == built.fired < 32
    built.leave(0)
    built.remove()
    assert fate_of(built, places[0], T0) is PLAIN


def test_a_freeze_takes_one_asset_of_a_connection() -> None:
    built = rules({"kind": "freeze", "socket": "market"})
    assert frozen(built, MARKET, T0) == ("7",)
    assert fate_of(built, Place(socket="market", connection=1, tokens=("7",)), T0) is LOST
    other = Place(socket="market", connection=1, tokens=("8",))
    assert not fate_of(built, other, T0).lost
    assert frozen(built, Place(socket="market", connection=5, tokens=("8", "9")), T0) == ("8",)
    stream = rules({"kind": "freeze", "socket": "stream"})
    assert fate_of(stream, STREAM, T0) is LOST
    stranger = Place(socket="stream", connection=2, tokens=("7",), wallets=("0xcd",))
    assert not fate_of(stream, stranger, T0).lost, "the wallet froze, not the token"


def test_a_strike_is_for_those_open_now_or_as_long_as_told() -> None:
    places = [Place(socket="market", connection=number) for number in (1, 2)]
    moment = rules({"kind": "close", "count": 1})
    assert strikes(moment, places, T0) == [(1, "close")]
    assert strikes(moment, places, T0) == []
    nobody = rules({"kind": "close"})
    assert strikes(nobody, [], T0) == []
    assert strikes(nobody, places, T0) == [], "nobody was there when it began"
    lasting = rules({"kind": "half_open", "for_s": 5})
    assert strikes(lasting, places[:1], T0) == [(1, "half_open")]
    assert strikes(lasting, places, T0 + NS_PER_S) == [(2, "half_open")]
    later = [Place(socket="market", connection=3)]
    assert strikes(lasting, later, T0 + 5 * NS_PER_S) == []


def test_later_rules_have_their_chance_when_earlier_ones_leave_it() -> None:
    built = rules({"kind": "drop", "share_bps": 1, "seed": 1}, {"kind": "drop", "name": "sure"})
    armed = built.fire("drop", MARKET, T0)
    assert armed is not None
    assert armed.rule.name == "sure"
    assert [(each.rule, each.where) for each in built.firings] == [(2, "market #1 7")]


def test_a_name_is_unique_and_replaced() -> None:
    built = rules({"kind": "drop", "name": "x"}, {"kind": "twice", "name": "x"})
    assert [armed.over for armed in built.listed()] == [True, False]
    assert fate_of(built, MARKET, T0).twice
    built.end("x")
    assert built.idle


def test_everything_kept_is_bounded() -> None:
    built = Rules()
    once = read_rule({"kind": "drop", "count": 1})
    for _ in range(ENDED_KEPT + 5):
        built.add([once], T0)
        built.fire("drop", MARKET, T0)
    assert len(built.listed()) == ENDED_KEPT
    last = built.add([once, once], T0)
    assert [built.remove(each) for each in last] == [1, 1]
    assert built.idle or built.fire("drop", MARKET, T0) is None
    endless = rules({"kind": "drop"})
    for _ in range(FIRINGS_KEPT + 5):
        endless.fire("drop", MARKET, T0)
    assert (len(endless.firings), endless.fired) == (FIRINGS_KEPT, FIRINGS_KEPT + 5)
    with pytest.raises(RuleError, match="delete some first"):
        built.add([once] * (RULES_MAX + 1), T0)


def test_a_deleted_rule_never_comes_in_force() -> None:
    built = rules({"kind": "drop", "after_s": 1}, {"kind": "twice"})
    assert built.remove(1) == 1
    assert built.remove(1) == 0
    fate = fate_of(built, MARKET, T0 + NS_PER_S)
    assert (fate.lost, fate.twice) == (False, True)
    assert built.next_ns() is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "`kind` is None"),
        ({"kind": "slow", "path": "v2"}, r"\$\.path"),
        ({"kind": "slow", "count": 0}, "how often it fires at most"),
        ({"kind": "slow", "share_bps": 10_001}, "1/10000"),
        ({"kind": "slow", "token": "7"}, "slow takes no `token`"),
        ({"kind": "close", "tokn": "7"}, "close takes no `tokn`"),
        ({"kind": "freeze", "tokn": "7"}, "did you mean 'token'"),
        ({"kind": "tick_changed", "tick": "1.5"}, "the new tick"),
        ({"kind": "server_error", "status": 304}, "400 to 599"),
    ],
)
def test_a_bad_rule_says_what_to_do(told: dict, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        read_rule(told)


def test_a_page_is_shortened_digit_for_digit() -> None:
    page = b'{"data":[{"size":0.1000000},{"size":2}],"pagination":{"limit":2,"has_more":true}}'
    assert shortened(page, 1) == (
        b'{"data":[{"size":0.1000000}],'
        b'"pagination":{"limit":2,"has_more":false,"next_cursor":null}}'
    )
    assert shortened(b'{"data":[]}', 1) is None
    assert shortened(b'{"data":{"value":1}}', 1) is None
    assert shortened(b'[{"data":1}]', 1) is None
    assert shortened(b"", 1) is None
    assert json.loads(shortened(page, 5) or b"")["data"] == []


def test_a_frozen_asset_is_taken_out_of_frames() -> None:
    change = '{"event_type":"price_change","price_changes":[{"asset_id":"7"},{"asset_id":"8"}]}'
    assert json.loads(stripped(change, ("7",)) or "")["price_changes"] == [{"asset_id": "8"}]
    assert stripped(change, ("7", "8")) is None
    assert json.loads(stripped('[{"asset_id":"7"},{"asset_id":"8"}]\n', ("8",)) or "") == [
        {"asset_id": "7"}
    ]
    assert stripped('{"event_type":"trade","asset_id":"7"}', ("7",)) is None
    opened = '{"event_type":"new_market","assets_ids":["7","8"]}'
    assert stripped(opened, ("7",)) == opened
