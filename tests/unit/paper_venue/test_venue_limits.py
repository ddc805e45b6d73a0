"""Rate limits: windows make wait and then refuse, buckets refuse at once and say when."""

from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_bench import LEADER, NOW_S, OWNER, Bench
from venue_caller import call, order_of, post

from services.paper_venue.limits import TIERS, Bucket, Signer, Window
from services.paper_venue.scopes import Scope, scopes_of
from shared.domain.units import NS_PER_MS, NS_PER_S

T0 = NOW_S * NS_PER_S


def window(limit: int = 10) -> Window:
    return Window(limit, 10 * NS_PER_S)


def test_a_window_lets_its_limit_pass_then_makes_each_wait_longer() -> None:
    built = window()
    waits = []
    for _ in range(13):
        waits.append(built.wait_ns(T0))
        built.add(T0)
    assert waits == [0] * 10 + [NS_PER_S, 2 * NS_PER_S, 3 * NS_PER_S]


def test_a_window_forgets_what_is_as_old_as_it_is_long() -> None:
    built = window()
    for each in range(10):
        built.add(T0 + each * NS_PER_S)
    assert built.wait_ns(T0 + 10 * NS_PER_S - 1) > 0
    assert built.wait_ns(T0 + 10 * NS_PER_S) == 0
    built.add(T0 + 10 * NS_PER_S)
    assert built.wait_ns(T0 + 10 * NS_PER_S) > 0


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=200))
def test_no_window_of_its_length_holds_more_than_the_limit_unless_somebody_waited(
    gaps_ms: list[int],
) -> None:
    built, now_ns, passed = window(), T0, []
    for gap_ms in gaps_ms:
        now_ns += gap_ms * NS_PER_MS
        if built.wait_ns(now_ns) == 0:
            built.add(now_ns)
            passed.append(now_ns)
    slice_ns = NS_PER_S // 10
    for at_ns in passed:
        recent = [each for each in passed if at_ns - 10 * NS_PER_S + slice_ns < each <= at_ns]
        assert len(recent) <= 10


def test_a_bucket_refills_at_its_rate_and_never_above_its_burst() -> None:
    bucket = Bucket(40, 60, T0)
    assert bucket.take(60, T0).passes
    refused = bucket.take(1, T0)
    assert (refused.passes, refused.remaining, refused.retry_s) == (False, 0, 1)
    assert refused.reset_s == NOW_S + 1
    assert not bucket.take(1, T0 + 24 * NS_PER_MS).passes
    assert bucket.take(1, T0 + 25 * NS_PER_MS).passes
    assert bucket.take(60, T0 + 3_600 * NS_PER_S).remaining == 0


def test_a_batch_passes_as_a_whole_or_takes_nothing() -> None:
    bucket = Bucket(40, 60, T0)
    bucket.take(50, T0)
    assert not bucket.take(15, T0).passes
    assert bucket.take(10, T0).passes


def test_a_batch_above_the_burst_never_passes() -> None:
    bucket = Bucket(40, 60, T0)
    refused = bucket.take(61, T0 + 3_600 * NS_PER_S)
    assert (refused.passes, refused.remaining, refused.retry_s) == (False, 60, 1)
    assert bucket.take(60, T0 + 3_600 * NS_PER_S).passes


def test_cancel_all_opens_with_one_token_and_owes_the_rest_where_the_tier_may() -> None:
    signer = Signer(TIERS["standard"], T0)
    verdict = signer.cancel_all(199, T0)
    assert (verdict.passes, verdict.remaining, verdict.reset_s) == (True, -80, NOW_S + 2)
    assert not signer.cancel(1, T0 + NS_PER_S).passes
    assert signer.cancel(1, T0 + 2 * NS_PER_S).passes


def test_the_higher_tiers_owe_nothing() -> None:
    signer = Signer(TIERS["platinum"], T0)
    assert not signer.cancel_all(1_350, T0).passes
    assert signer.cancel_all(1_349, T0).passes


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(1, 70), st.booleans()), min_size=1, max_size=80
    )
)
def test_no_more_orders_pass_than_burst_and_rate_allow(asked: list[tuple[int, int, bool]]) -> None:
    signer, now_ns, passed = Signer(TIERS["standard"], T0), T0, 0
    for gap_ms, count, _ in asked:
        now_ns += gap_ms * NS_PER_MS
        if signer.order(count, now_ns).passes:
            passed += count
    assert passed <= 60 + 40 * (now_ns - T0) // NS_PER_S


def test_tiers_grow_in_every_number() -> None:
    tiers = list(TIERS.values())
    for lower, higher in pairwise(tiers):
        for number in ("orders_rate", "orders_burst", "cancels_rate", "cancels_burst"):
            assert getattr(lower, number) < getattr(higher, number)


@pytest.mark.parametrize(
    ("method", "path", "cursor", "limits"),
    [
        ("GET", "/book", False, [15_000, 9_000, 1_500]),
        ("POST", "/prices", False, [15_000, 9_000, 500]),
        ("POST", "/order", False, [15_000, 9_000, 5_000, 120_000]),
        ("DELETE", "/cancel-all", False, [15_000, 9_000, 250, 6_000]),
        ("GET", "/data/orders", False, [15_000, 9_000, 900, 500]),
        ("GET", "/data/order/0x00", False, [15_000, 9_000, 900]),
        ("GET", "/auth/api-keys", False, [15_000, 9_000, 100]),
        ("GET", "/balance-allowance/update", False, [15_000, 9_000, 50]),
        ("GET", "/v2/activity", False, [15_000, 800, 200]),
        ("GET", "/markets", False, [15_000, 4_000, 900, 300]),
        ("GET", "/markets", True, [15_000, 9_000]),
        ("GET", "/markets/0xab", False, [15_000, 9_000]),
        ("GET", "/events/keyset", False, [15_000, 4_000, 900, 500]),
        ("POST", "/admin/fills", False, []),
        ("GET", "/ws/market", False, []),
    ],
)
def test_requests_fall_under_the_published_limits(
    method: str, path: str, limits: list[int], *, cursor: bool
) -> None:
    assert [scope.limit for scope in scopes_of(method, path, cursor=cursor)] == limits


async def test_the_data_api_says_when_to_come_again(bench: Bench) -> None:
    for _ in range(240):  # 200 and what may wait, which is let through at a still clock
        bench.shell.clob.window("127.0.0.1", Scope("/v2/activity", 200)).add(T0)
    async with bench.session.get(bench.url + "/v2/activity", params={"user": LEADER}) as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert (body["code"], body["retryable"]) == ("rate_limited", True)
        assert not any(name.startswith("Poly-") for name in answer.headers)


async def test_requests_over_an_ips_window_wait_and_are_then_refused_without_headers(
    bench: Bench,
) -> None:
    update = Scope("/balance-allowance/update", 50)
    for _ in range(50):
        bench.shell.clob.window("127.0.0.1", update).add(T0)
    began = monotonic()
    assert (await call(bench, "GET", "/balance-allowance/update")).status == 200
    assert monotonic() - began >= 0.19  # a fiftieth of ten seconds
    for _ in range(10):
        bench.shell.clob.window("127.0.0.1", update).add(T0)
    refused = await call(bench, "GET", "/balance-allowance/update")
    assert (refused.status, refused.body) == (429, None)
    assert "Retry-After" not in refused.headers
    bench.clock.ns += 10 * NS_PER_S
    assert (await call(bench, "GET", "/balance-allowance/update")).status == 200


async def test_orders_tell_the_signers_balance_and_are_refused_below_it(bench: Bench) -> None:
    placed = await post(bench)
    told = {name: text for name, text in placed.headers.items() if name.startswith("Poly-")}
    assert told == {
        "Poly-RateLimit-Remaining": "59",
        "Poly-RateLimit-Reset": str(NOW_S),
        "Poly-RateLimit-Tier": "standard",
    }
    bench.shell.clob.signer(OWNER, T0).order(59, T0)
    refused = await post(bench)
    assert (refused.status, refused.body) == (429, {"error": "rate limit exceeded"})
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Poly-RateLimit-Remaining"] == "0"
    assert refused.headers["Poly-RateLimit-Reset"] == str(NOW_S + 1)
    assert len((await call(bench, "GET", "/data/orders")).body["data"]) == 1
    bench.clock.ns += NS_PER_S
    assert (await post(bench)).status == 200


async def test_a_batch_costs_what_it_holds_and_an_operator_lifts_the_tier(bench: Bench) -> None:
    bodies = [order_of(bench) for _ in range(15)]
    batch = await call(bench, "POST", "/orders", bodies)
    assert batch.headers["Poly-RateLimit-Remaining"] == "45"
    lifted = await bench.admin("account", address=OWNER, tier="elite")
    assert lifted["tier"] == "elite"
    assert (await post(bench)).headers["Poly-RateLimit-Tier"] == "elite"
    cancelled = await call(bench, "DELETE", "/cancel-all")
    assert len(cancelled.body["canceled"]) == 16
    assert cancelled.headers["Poly-RateLimit-Remaining"] == str(1_800 - 17)
