"""Small rules of the CLOB: makers that are EOAs, first heartbeats, repeated ids, tied trades."""

from collections.abc import AsyncIterator
from random import Random

import aiohttp
import pytest
import pytest_asyncio
from test_venue_failures import storm
from venue_bench import BOOK, OWNER, Bench, Clock
from venue_build import ANN, T0, order, post, venue
from venue_caller import call
from venue_caller import post as post_signed

from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import running
from services.paper_venue.state import Order, Venue
from services.paper_venue.trading import cancel_orders
from shared.domain.ids import OrderHash, Wallet
from shared.domain.units import MICRO, Usd

YEARS_S = 10 * 365 * 86_400


@pytest_asyncio.fixture(params=[True, False], ids=["allow-listed", "new"])
async def strict(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Bench, bool]]:
    """Return a venue that takes no new EOA makers, and whether the caller was there before."""
    clock, known = Clock(), bool(request.param)
    accounts = (Funded(wallet=OWNER, usd=Usd(1_000 * MICRO)),) if known else ()
    config = VenueConfig(accounts=accounts, eoa_makers=False, order_ahead_max_s=YEARS_S)
    async with (
        running(config, now_ns=clock) as running_venue,
        aiohttp.ClientSession() as session,
    ):
        built = Bench(running_venue.url, clock, session)
        built.shell = running_venue.shell
        market = await built.admin("market", **BOOK)
        built.condition, built.tokens = market["condition"], market["tokens"]
        await built.admin("fund", wallet=OWNER, usd="100")
        built.shell.credentials(OWNER, 0)
        yield built, known


async def test_new_accounts_that_are_eoas_are_sent_to_the_deposit_wallet(
    strict: tuple[Bench, bool],
) -> None:
    bench, known = strict
    told = await post_signed(bench)
    if known:
        assert told.status == 200
        return
    words = "maker address not allowed, please use the deposit wallet flow"
    assert (told.status, told.body) == (400, {"error": words})


async def test_the_first_heartbeat_names_nothing(bench: Bench) -> None:
    refused = await call(bench, "POST", "/v1/heartbeats", {"heartbeat_id": "of-another-life"})
    assert refused[:2] == (400, {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": ""})
    assert not bench.shell.venue.hearts, "nor does it arm the switch"
    assert (await call(bench, "POST", "/v1/heartbeats", {"heartbeat_id": ""})).status == 200


def test_an_id_named_twice_is_cancelled_once() -> None:
    built = venue()
    resting = order("0.4", "10")
    post(built, resting)
    told = cancel_orders(built, {resting.owner}, [resting.id, "0x00", resting.id, "0x00"], T0)
    assert told == ([resting.id], {"0x00": "Order not found or already canceled"})


async def test_trades_of_one_moment_come_newest_first_and_page_steadily(bench: Bench) -> None:
    bench.shell.credentials(OWNER, 0)
    names = []
    for _ in range(5):
        answer = await post_signed(bench, "FAK", 0.5, size=5)
        names += answer.body["tradeIDs"]
    listed = (await call(bench, "GET", "/data/trades")).body["data"]
    assert [trade["id"] for trade in listed] == names[::-1]


def open_by_scan(built: Venue) -> dict[Wallet, set[OrderHash]]:
    found: dict[Wallet, set[OrderHash]] = {}
    for each in built.orders.values():
        if each.status in ("LIVE", "DELAYED"):
            found.setdefault(each.wallet, set()).add(each.id)
    return found


def test_the_open_orders_of_a_wallet_are_known_without_looking_at_all() -> None:
    for seed in range(10):
        built = storm(seed)
        kept = {who: set(orders) for who, orders in built.open_of.items() if orders}
        assert kept == open_by_scan(built)


@pytest.mark.parametrize("seed", range(5))
def test_cancels_and_fills_leave_no_open_order_behind(seed: int) -> None:
    random, built = Random(seed), venue()
    posted: list[Order] = []
    for _ in range(30):
        each = order(f"0.4{random.randrange(10)}", "5")
        post(built, each)
        posted.append(each)
        if random.random() < 0.5:
            chosen = random.choice(posted)
            cancel_orders(built, {chosen.owner}, [chosen.id], T0)
    kept = {who: set(orders) for who, orders in built.open_of.items() if orders}
    assert kept == open_by_scan(built)
    assert set(kept) <= {ANN}
