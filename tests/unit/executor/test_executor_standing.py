"""What keeps our account from opening is known at the first word, and over after two looks."""

from typing import Any

import msgspec
import pytest

from services.executor.standing import Standing
from shared.domain.messages import OrderClosed, OrderFilled, OrderRejected
from shared.domain.units import NS_PER_S
from shared.domain.views import CLOCK, CLOSED_ONLY, GEOBLOCK, VENUE
from shared.polymarket.errors import Mode, Unavailable, VenueError, failure
from shared.polymarket.limits import POST_ORDER
from shared.polymarket.probes import Finding
from tests.support.eventually import eventually
from tests.support.order_lane import WALLET, System


class Time:
    def __init__(self) -> None:
        self.s = 1_000

    def ns(self) -> int:
        return self.s * NS_PER_S


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.fixture
def known(now: Time) -> Standing:
    return Standing(now.ns)


def levels(known: Standing) -> dict[str, int]:
    return {each.name: each.level for each in known.view()}


def unavailable(mode: Mode, retry_after_s: float | None = None) -> Unavailable:
    return Unavailable(POST_ORDER, status=503, mode=mode, retry_after_s=retry_after_s)


def refusal(status: int, text: str) -> VenueError:
    return failure(POST_ORDER, status=status, headers={}, body=b'{"error":"%s"}' % text.encode())


def found(outcome: Any) -> Finding:
    return Finding(name="x", outcome=outcome, expected="e", seen="blocked, in US")


def test_a_reason_is_in_force_at_once_and_over_after_two_looks(known: Standing, now: Time) -> None:
    known.saw(GEOBLOCK, restricted=False)
    assert (levels(known), known.changed.is_set()) == ({GEOBLOCK: 0}, False)
    known.saw(GEOBLOCK, restricted=True, detail="blocked, in US")
    assert (levels(known), known.changed.is_set()) == ({GEOBLOCK: 2}, True)
    known.changed.clear()
    now.s += 60
    known.saw(GEOBLOCK, restricted=False)
    assert (levels(known), known.changed.is_set()) == ({GEOBLOCK: 1}, False)
    (view,) = known.view()
    assert (view.detail, view.since_ns) == ("blocked, in US", 1_000 * NS_PER_S)
    known.saw(GEOBLOCK, restricted=True)
    assert levels(known) == {GEOBLOCK: 2}
    for _ in range(2):
        known.saw(GEOBLOCK, restricted=False)
    assert (levels(known), known.changed.is_set()) == ({GEOBLOCK: 0}, True)


@pytest.mark.parametrize(
    ("outcome", "level"), [("ok", 0), ("warn", 0), ("fail", 2), ("unknown", None)]
)
def test_a_probe_without_an_answer_changes_nothing(
    known: Standing, outcome: str, level: int | None
) -> None:
    answered = known.found(CLOCK, found(outcome))
    assert answered == (outcome != "unknown")
    assert levels(known).get(CLOCK) == level


@pytest.mark.parametrize(
    ("mode", "restricts"),
    [(Mode.RESTARTING, True), (Mode.POST_ONLY, True), (Mode.CANCEL_ONLY, True),
     (Mode.DISABLED, True), (Mode.FAULT, False), (Mode.UNCERTAIN, False)],
)  # fmt: skip
def test_a_restricted_mode_is_one_and_a_fault_is_none(
    known: Standing, mode: Mode, restricts: bool
) -> None:
    known.heard(POST_ORDER, unavailable(mode))
    assert known.is_restricted == restricts


def test_a_mode_holds_as_long_as_the_venue_says(known: Standing, now: Time) -> None:
    known.heard(POST_ORDER, unavailable(Mode.POST_ONLY, 79))
    now.s += 78
    assert levels(known) == {VENUE: 2}
    now.s += 1
    assert levels(known) == {VENUE: 0}


def test_a_mode_that_names_no_time_is_tried_ever_more_rarely(known: Standing, now: Time) -> None:
    waits = []
    for _ in range(6):
        known.heard(POST_ORDER, unavailable(Mode.CANCEL_ONLY))
        known.heard(POST_ORDER, unavailable(Mode.CANCEL_ONLY))  # a second order under way
        began = now.s
        while known.is_restricted:
            now.s += 1
        waits.append(now.s - began)
    assert waits == sorted(waits)
    assert (waits[0] <= 60, waits[-1]) == (True, 300)
    known.heard(POST_ORDER, unavailable(Mode.CANCEL_ONLY))
    known.heard(POST_ORDER, None)
    assert not known.is_restricted
    known.heard(POST_ORDER, unavailable(Mode.CANCEL_ONLY))
    now.s += 60
    assert not known.is_restricted


@pytest.mark.parametrize(
    ("status", "text", "doubted", "restricted"),
    [
        (403, "Trading restricted in your region", True, set[str]()),
        (400, "'0x1' address in closed only mode", True, {CLOSED_ONLY}),
        (400, "'0x1' address banned", True, {"banned"}),
        (400, "not enough balance / allowance", False, set[str]()),
    ],
)
def test_a_refusal_for_who_or_where_we_are_is_a_reason_to_ask(
    known: Standing, status: int, text: str, doubted: bool, restricted: set[str]
) -> None:
    known.heard(POST_ORDER, refusal(status, text))
    assert known.doubted.is_set() == doubted
    assert {name for name, level in levels(known).items() if level} == restricted


# --- an executor lane against the local venue ---------------------------------------------------


async def test_the_account_view_says_where_and_who_we_are() -> None:
    system = System()
    async with system.venue(), system.lane():
        await eventually(lambda: shown_is(system, GEOBLOCK, 0))
        await eventually(lambda: shown_is(system, CLOCK, 0))
        await eventually(lambda: shown_is(system, CLOSED_ONLY, 0))
        await system.admin("account", address=WALLET, closed_only=True)
        await eventually(lambda: shown_is(system, CLOSED_ONLY, 2))
        await system.admin("account", address=WALLET, closed_only=False)
        await eventually(lambda: shown_is(system, CLOSED_ONLY, 0))


def shown_is(system: System, name: str, level: int) -> bool:
    try:
        standing = system.account().standing
    except (AssertionError, KeyError):
        return False
    return any((each.name, each.level) == (name, level) for each in standing)


async def test_a_refusal_for_the_region_leads_to_the_question_at_once() -> None:
    system = System()
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await eventually(lambda: shown_is(system, GEOBLOCK, 0))
        await system.admin("geoblock", blocked=True, country="US")
        await system.approve(market, ttl_s=5)
        await eventually(lambda: shown_is(system, GEOBLOCK, 2))
        (rejected,) = await system.of(OrderRejected)
    assert rejected.reason == "forbidden"


async def test_a_restricted_mode_is_shown_until_an_order_is_taken_again() -> None:
    system = System()
    async with system.venue(), system.lane():
        token = await system.open_market()
        market = await system.market(token)
        await eventually(lambda: shown_is(system, CLOSED_ONLY, 0))
        await system.mode("cancel-only")
        await system.approve(market, ttl_s=1)
        await eventually(lambda: shown_is(system, VENUE, 2))
        (view,) = [each for each in system.account().standing if each.name == VENUE]
        assert view.detail.startswith("cancel_only: Trading is currently cancel-only")
        await system.mode("normal")
        await eventually(lambda: system.of(OrderClosed), deadline_s=15)
        await system.approve(await system.market(token), ttl_s=5)
        await eventually(lambda: shown_is(system, VENUE, 0))


async def test_the_balance_is_asked_for_anew_before_it_is_read() -> None:
    """A deposit that the venue has not looked at yet is no poverty."""
    system = System()
    async with system.venue():
        await system.admin("fund", wallet=WALLET, usd="500")
        async with system.lane():
            await eventually(lambda: shown_is(system, CLOSED_ONLY, 0))
            assert system.account().collateral == 1_500_000_000


async def test_a_token_is_looked_at_before_its_first_sale() -> None:
    """Shares that came by a split are unknown to the venue until it is asked to look."""
    system = System()
    async with system.venue(), system.lane():
        token = await system.open_market()
        market = await system.market(token)
        split = {"type": "SPLIT", "condition": market.condition, "size": "10"}
        await system.admin("activity", wallet=WALLET, **split)
        await system.approve(market, ttl_s=5, side="SELL", limit=470_000)
        (filled,) = await eventually(lambda: system.of(OrderFilled))
    assert (filled.side, filled.size) == ("SELL", 10_000_000)


async def test_a_restriction_is_told_at_once_however_rarely_the_account_is_read() -> None:
    system = System()
    system.settings = msgspec.structs.replace(system.settings, poll_interval_ms=60_000)
    async with system.venue(), system.lane():
        market = await system.market(await system.open_market())
        await eventually(lambda: shown_is(system, CLOSED_ONLY, 0))
        await system.mode("disabled")
        await system.approve(market, ttl_s=1)
        await eventually(lambda: shown_is(system, VENUE, 2))
