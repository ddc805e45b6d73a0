"""The venue's count of our orders and cancels: we never ask for more than it still gives."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from services.paper_venue import limits as theirs
from services.paper_venue import scopes
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from shared.domain.ids import OrderHash, Wallet
from shared.domain.units import NS_PER_S, Usd
from shared.polymarket.auth import Account
from shared.polymarket.buckets import Bucket
from shared.polymarket.errors import HeldBack, Throttled, VenueError
from shared.polymarket.limits import CANCEL_ORDER, POST_ORDER, TIERS, account_limits
from shared.polymarket.orders import Signer
from shared.polymarket.pacing import Pacer
from shared.polymarket.rest import Venue, derive_credentials
from shared.polymarket.signer_limit import SignerGate, told_by
from shared.polymarket.transport import Gate, open_http
from shared.polymarket.urls import VenueUrls
from tests.support.virtual import VirtualLoop, run_virtually
from tests.unit.polymarket.polymarket_fake import SIGNED, Fake, refused

KEY = "0x" + "6d" * 32  # a throw-away key
SIGNER = Signer.from_hex(KEY)
WALLET = Wallet(SIGNER.address.lower())


class Time:
    def __init__(self) -> None:
        self.now = 0

    def ns(self) -> int:
        return self.now


def gate_of(now: Time | None = None) -> SignerGate:
    return gate_with(now.ns if now else time.monotonic_ns, now.ns if now else time.time_ns)


def gate_with(monotonic_ns: Callable[[], int], now_ns: Callable[[], int]) -> SignerGate:
    limits = account_limits(6_000)
    pacer = Pacer(limits.endpoints, limits.groups, monotonic_ns=monotonic_ns)
    return SignerGate(pacer, monotonic_ns=monotonic_ns, now_ns=now_ns)


def gate_in(loop: VirtualLoop) -> SignerGate:
    return gate_with(lambda: int(loop.time() * 1_000_000) * 1_000, loop.now_ns)


def headers(remaining: int, tier: str = "standard", **more: str) -> dict[str, str]:
    base = {"Poly-RateLimit-Remaining": str(remaining), "Poly-RateLimit-Tier": tier}
    return base | {f"Poly-RateLimit-{name}": value for name, value in more.items()}


def test_our_table_is_the_venue_s() -> None:
    """The local venue's table was written by itself: a slip in one shows here."""
    assert set(TIERS) == set(theirs.TIERS)
    for name, tier in theirs.TIERS.items():
        ours = TIERS[name]
        assert (ours.orders_per_s, ours.orders_burst) == (tier.orders_rate, tier.orders_burst)
        assert (ours.cancels_per_s, ours.cancels_burst) == (tier.cancels_rate, tier.cancels_burst)


@pytest.mark.parametrize("name", sorted(account_limits(10_000).endpoints))
def test_no_endpoint_is_given_more_than_the_venue_allows(name: str) -> None:
    method, _, path = name.rpartition(" ")
    asked = path.replace("{hash}", "0x1")
    allowed = scopes.scopes_of(method or "GET", asked, cursor=False)
    assert len(allowed) > 2, "only the general limits were found"
    per_10s = [each.limit * 10 // each.seconds for each in allowed]
    assert account_limits(10_000).endpoints[name] <= min(per_10s)


def test_a_bucket_says_what_is_left_and_believes_a_correction() -> None:
    bucket = Bucket(100, 20)
    assert bucket.left(0) == 20
    for _ in range(5):
        bucket.spend(0)
    assert (bucket.left(0), bucket.left(NS_PER_S // 10), bucket.left(9 * NS_PER_S)) == (15, 16, 20)
    bucket.correct(-3, 0)
    assert (bucket.left(0), bucket.wait_ns(0)) == (-3, 4 * bucket.step_ns)
    bucket.change(200, 40, 0)
    assert bucket.left(0) == -3
    bucket.correct(100, 0)
    assert bucket.left(0) == 40


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({}, None),
        ({"Retry-After": "1"}, None),
        ({"POLY-RATELIMIT-REMAINING": "-7"}, (-7, None, "", False)),
        (headers(3, "Gold", Reset="1793318400", Warning="true"), (3, 1_793_318_400, "gold", True)),
        (headers(3) | {"Poly-RateLimit-Reset": "soon"}, (3, None, "standard", False)),
    ],
)
def test_what_headers_say(told: dict[str, str], read: Any) -> None:
    found = told_by(told)
    seen = found and (found.remaining, found.reset_s, found.tier, found.warned)
    assert seen == read


async def test_before_the_venue_s_first_word_next_to_nothing_is_spent() -> None:
    now = Time()
    gate = gate_of(now)
    assert gate.left(POST_ORDER) == 2
    await gate.turn(POST_ORDER)
    gate.told(POST_ORDER, headers(59))
    gate.went(POST_ORDER, 0.01, None)
    assert gate.left(POST_ORDER) == 59 - 15
    assert gate.left(CANCEL_ORDER) == 2


async def test_a_count_lower_than_ours_is_believed_at_once_a_higher_one_when_it_is_certain() -> (
    None
):
    now = Time()
    gate = gate_of(now)
    gate.told(POST_ORDER, headers(60))
    for _ in range(3):
        await gate.turn(POST_ORDER)
    before = gate.left(POST_ORDER)
    gate.told(POST_ORDER, headers(60))  # two more are under way: in it, or not
    assert gate.left(POST_ORDER) == before
    gate.told(POST_ORDER, headers(30))
    assert gate.left(POST_ORDER) == 30 - 15 - 2
    gate.told(POST_ORDER, headers(-40))
    assert gate.left(POST_ORDER) == -40 - 15 - 2


async def test_a_tier_changes_the_rate_and_not_what_is_left() -> None:
    now = Time()
    gate = gate_of(now)
    gate.told(POST_ORDER, headers(0, "elite"))
    left = gate.left(POST_ORDER)
    now.now += NS_PER_S
    assert gate.left(POST_ORDER) == min(left + 540, 675)
    gate.told(POST_ORDER, headers(900, "unheard-of"))
    assert gate.tier == "unheard-of"
    assert gate.left(POST_ORDER) <= 45  # what is not known is the least


async def test_a_warning_is_heeded_like_a_refusal() -> None:
    now = Time()
    now.now = 100 * NS_PER_S
    gate = gate_of(now)
    await gate.turn(POST_ORDER)
    gate.told(POST_ORDER, headers(0, Reset="103", Warning="true"))
    gate.went(POST_ORDER, 0.01, None)
    assert gate.refusals == 1
    assert gate._of[POST_ORDER].bucket.wait_ns(now.now) == 3 * NS_PER_S


async def test_a_refusal_of_the_signer_holds_the_next_order_back_as_long_as_it_says() -> None:
    gate = gate_of()
    answer = refused(429, "rate limit exceeded", Retry_After="30", Poly_RateLimit_Remaining="0")
    fake = Fake(answer)
    fake.http._gate = gate
    with pytest.raises(Throttled) as first:
        await fake.venue.post_order(SIGNED)
    assert first.value.definitive
    began = time.monotonic()
    with pytest.raises(HeldBack) as second:
        await fake.venue.post_order(SIGNED, turn_s=0.05)
    assert second.value.definitive
    assert time.monotonic() - began < 5
    assert len(fake.requests) == 1  # the second was never sent


async def test_a_call_that_is_given_up_is_no_longer_under_way() -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    fake = Fake({})
    fake.http._client = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    gate = fake.http._gate = gate_of()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await fake.venue.post_order(SIGNED)
    assert gate._of[POST_ORDER].under_way == 0  # type: ignore[attr-defined]


async def test_a_signature_is_as_old_as_its_request_not_as_its_turn() -> None:
    fake = Fake({"balance": "1"}, {"balance": "1"})
    moments = iter([100 * NS_PER_S, 200 * NS_PER_S])
    fake.venue._now_ns = lambda: next(moments)
    await fake.venue.balance()
    await fake.venue.balance()
    assert [each.headers["POLY_TIMESTAMP"] for each in fake.requests] == ["100", "200"]


# --- against the local venue, whose limits are on, in virtual time: no machine is too slow ------


class Counted:
    """A gate that counts what the venue refused, in front of another."""

    def __init__(self, inner: Gate) -> None:
        self.inner, self.refused = inner, 0
        self.turn, self.spend, self.told = inner.turn, inner.spend, inner.told

    def went(self, endpoint: str, seconds: float, error: VenueError | None) -> None:
        self.refused += isinstance(error, Throttled)
        self.inner.went(endpoint, seconds, error)


@asynccontextmanager
async def client(
    url: str, gate: Gate | None, now_ns: Callable[[], int] = time.time_ns
) -> AsyncIterator[Venue]:
    async with open_http(rng=random.Random(1), gate=gate) as http:
        urls = VenueUrls.local(url)
        headers = SIGNER.l1_headers(timestamp_s=now_ns() // NS_PER_S)
        keys = await derive_credentials(http, l1_headers=headers, urls=urls)
        account = Account(address=SIGNER.address, wallet=WALLET, credentials=keys)
        yield Venue(http, now_ns=now_ns, account=account, urls=urls)


CONFIG = VenueConfig(accounts=(Funded(wallet=WALLET, usd=Usd(0)),))
CANCELS = [OrderHash(f"0x{number:064x}") for number in range(400)]


async def cancel_all(venue: Venue, orders: list[OrderHash]) -> None:
    """Cancel as fast as the gate lets, all at once; unknown orders cost a token as well."""
    await asyncio.gather(*(venue.cancel(order) for order in orders))


@pytest.mark.parametrize("tier", ["standard", "silver"])
def test_at_full_speed_the_venue_never_refuses(tier: str) -> None:
    async def run(loop: VirtualLoop) -> float:
        gate = Counted(inner := gate_in(loop))
        async with (
            running(CONFIG, now_ns=loop.now_ns) as venue,
            httpx.AsyncClient(base_url=venue.url) as admin,
        ):
            await admin.post("/admin/account", json={"address": WALLET, "tier": tier})
            async with client(venue.url, gate, loop.now_ns) as ours:
                await cancel_all(ours, CANCELS[:1])  # the venue's first word
                began_s = loop.time()
                await cancel_all(ours, CANCELS[1:])
                took_s = loop.time() - began_s
        assert (gate.refused, inner.refusals, inner.tier) == (0, 0, tier)
        return took_s

    full = theirs.TIERS[tier]
    least_s = max(0.0, (400 - full.cancels_burst) / full.cancels_rate)
    assert least_s <= run_virtually(run) < 1.5 * least_s + 3, "little slower than it would let us"


def test_without_the_gate_the_venue_does_refuse() -> None:
    async def run(loop: VirtualLoop) -> list[Any]:
        async with (
            running(CONFIG, now_ns=loop.now_ns) as venue,
            client(venue.url, None, loop.now_ns) as ours,
        ):
            asked = (ours.cancel(order) for order in CANCELS[:200])
            return await asyncio.gather(*asked, return_exceptions=True)

    assert any(isinstance(each, Throttled) for each in run_virtually(run))


def test_where_the_venue_says_less_than_we_think_we_slow_down() -> None:
    async def run(loop: VirtualLoop) -> None:
        gate = Counted(inner := gate_in(loop))
        async with (
            running(CONFIG, now_ns=loop.now_ns) as venue,
            client(venue.url, gate, loop.now_ns) as ours,
        ):
            await cancel_all(ours, CANCELS[:1])
            thought = inner.left(CANCEL_ORDER)
            async with client(venue.url, None, loop.now_ns) as another:
                for order in CANCELS[100:215]:  # the same signer, elsewhere
                    await another.cancel(order)
            await cancel_all(ours, CANCELS[1:2])
            assert thought > 80
            assert inner.left(CANCEL_ORDER) < thought - 60
            await cancel_all(ours, CANCELS[2:60])
        assert gate.refused == 0

    run_virtually(run)


async def test_an_order_whose_turn_comes_too_late_is_not_sent() -> None:
    gate = gate_of()
    async with running(CONFIG) as venue, client(venue.url, gate) as ours:
        gate._orders.bucket.correct(-100, time.monotonic_ns())
        with pytest.raises(HeldBack):
            await ours.post_order(SIGNED, turn_s=0.1)
        async with httpx.AsyncClient(base_url=venue.url) as admin:
            assert (await admin.get("/admin/orders")).json()["count"] == 0


async def test_an_endpoint_that_throttles_by_latency_is_told() -> None:
    gate = gate_of()
    for _ in range(40):
        gate.went("/data/orders", 0.05, None)
    assert gate.pacer.held_back() == ()
    for _ in range(9):
        gate.went("/data/orders", 2.0, None)
    (words,) = gate.pacer.held_back()
    assert words.startswith("/data/orders: throttled: p50 2 s")


async def test_endpoints_of_a_group_wait_for_each_other() -> None:
    now = Time()
    pacer = Pacer({"a": 1_000, "b": 1_000}, {("a", "b"): 150}, monotonic_ns=now.ns)
    for _ in range(10):
        await pacer.turn("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await pacer.turn("b")


@pytest.mark.parametrize("tier", sorted(TIERS))
@pytest.mark.parametrize("late_ms", [0, 50, 250, 300])
def test_what_arrives_in_a_bunch_is_not_refused_either(tier: str, late_ms: int) -> None:
    """All that is sent in the first moments arrives together; the venue counts it then."""
    named = theirs.TIERS[tier]
    told = {"Poly-RateLimit-Remaining": str(named.orders_burst), "Poly-RateLimit-Tier": tier}
    gate = gate_of(Time())
    gate.told(POST_ORDER, told)
    ours = gate._of[POST_ORDER].bucket
    ours.correct(10_000, 0)  # as much as we would ever hold
    venue = theirs.Bucket(named.orders_rate, named.orders_burst, 0)
    arrivals = []
    for ms in range(3_000):
        while ours.wait_ns(ms * NS_PER_S // 1_000) == 0:
            ours.spend(ms * NS_PER_S // 1_000)
            arrivals.append(max(ms, late_ms) if ms < late_ms else ms)
    assert len(arrivals) > 2 * named.orders_rate
    assert all(venue.take(1, ms * NS_PER_S // 1_000).passes for ms in arrivals)
