"""Restricted modes: what each lets pass, its exact answer, and how it ends."""

import pytest
from venue_bench import NOW_S, Bench
from venue_caller import call, post

from services.paper_venue.modes import Mode, Modes, Restricted, Wish
from shared.domain.units import NS_PER_S

T0 = NOW_S * NS_PER_S
POST_ONLY = "post-only mode: only post-only orders and cancels are allowed"
CANCEL_ONLY = (
    "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed."
)


@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        ("normal", {"order", "post-only order", "cancel"}),
        ("restarting", set()),
        ("post-only", {"post-only order", "cancel"}),
        ("cancel-only", {"cancel"}),
        ("disabled", set()),
    ],
)
def test_each_mode_lets_pass_what_it_says(mode: Mode, allowed: set[Wish]) -> None:
    modes = Modes(120)
    modes.set(mode, None)
    wishes: tuple[Wish, ...] = ("order", "post-only order", "cancel")
    for wish in wishes:
        if wish in allowed:
            modes.check(wish, T0)
        else:
            with pytest.raises(Restricted):
                modes.check(wish, T0)


def test_a_restart_ends_in_post_only_and_that_in_normal() -> None:
    modes = Modes(120)
    modes.set("restarting", T0 + 5 * NS_PER_S)
    until = [modes.present(T0 + second * NS_PER_S)[0] for second in (0, 4, 5, 124, 125)]
    assert until == ["restarting", "restarting", "post-only", "post-only", "normal"]
    modes.set("cancel-only", T0 + NS_PER_S)
    assert modes.present(T0 + NS_PER_S) == ("normal", None)


async def test_a_restarting_engine_takes_nothing_and_says_how_long(bench: Bench) -> None:
    assert await bench.admin("mode", mode="restarting", for_s=5) == {"mode": "restarting"}
    refused = await post(bench)
    assert refused[:2] == (425, {"error": "matching engine is restarting"})
    assert refused.headers["Retry-After"] == "5"
    assert (await call(bench, "DELETE", "/cancel-all")).status == 425
    assert (await call(bench, "GET", "/data/orders")).status == 200
    await bench.admin("mode", mode="restarting")
    assert "Retry-After" not in (await post(bench)).headers


async def test_after_a_restart_takers_wait_and_the_seconds_count_down(bench: Bench) -> None:
    await bench.admin("mode", mode="restarting", for_s=5)
    for second, left in ((5, 120), (46, 79), (124, 1)):
        bench.clock.ns = T0 + second * NS_PER_S
        refused = await post(bench, "FAK", 0.5)
        assert refused[:2] == (
            503,
            {"error": POST_ONLY, "code": "post_only_mode", "retry_after_seconds": left},
        )
        assert refused.headers["Retry-After"] == str(left)
    assert (await post(bench, post_only=True)).body["status"] == "live"
    assert (await post(bench)).status == 503
    assert len((await call(bench, "DELETE", "/cancel-all")).body["canceled"]) == 1
    bench.clock.ns = T0 + 125 * NS_PER_S
    assert (await post(bench, "FAK", 0.5)).body["status"] == "matched"


async def test_cancel_only_and_disabled_have_words_of_their_own(bench: Bench) -> None:
    resting = (await post(bench)).body["orderID"]
    await bench.admin("mode", mode="disabled")
    assert (await post(bench))[:2] == (503, {"error": "trading is disabled"})
    assert (await call(bench, "DELETE", "/cancel-all")).status == 503
    assert bench.shell.venue.orders[resting].status == "LIVE"
    await bench.admin("mode", mode="cancel-only")
    assert (await post(bench, post_only=True))[:2] == (503, {"error": CANCEL_ONLY})
    assert (await call(bench, "DELETE", "/order", {"orderID": resting})).body["canceled"] == [
        resting
    ]
    await bench.admin("mode", mode="normal")
    assert (await post(bench)).status == 200


async def test_a_refused_mode_costs_no_tokens(bench: Bench) -> None:
    await bench.admin("mode", mode="cancel-only")
    await post(bench)
    await bench.admin("mode", mode="normal")
    assert (await post(bench)).headers["Poly-RateLimit-Remaining"] == "59"


async def test_an_unknown_mode_is_refused(bench: Bench) -> None:
    assert "error" in await bench.admin("mode", mode="asleep")
