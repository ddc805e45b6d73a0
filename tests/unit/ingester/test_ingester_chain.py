"""One ingester lane that hears the local venue's chain: what it says, waits for and leaves."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from services.ingester import chain as watch
from services.ingester.chain import ChainWatcher
from services.ingester.core import RestRows
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.server import Running, running
from shared.domain.messages import FeedChanged, LeaderBaselineRead, LeaderFilled
from shared.domain.units import NS_PER_S, Usd
from shared.polymarket.chain_node import Node
from shared.polymarket.errors import VenueError
from shared.polymarket.transport import Http
from tests.support.builders import a_trade, shares
from tests.support.eventually import eventually
from tests.unit.ingester.ingester_build import LEADER, MARKET, SETTINGS, System, a_system, post

TX = "0x" + "77" * 32
HIDDEN_MS = 600_000  # until the Data API shows what happened: never
Change = Callable[[str, Any], Any]  # a method and its reply: the reply in its place


@contextlib.asynccontextmanager
async def a_chain(
    *, data_api_delay_ms: int = HIDDEN_MS, block_ms: int = 50
) -> AsyncIterator[Running]:
    config = VenueConfig(
        accounts=(Funded(wallet=LEADER, usd=Usd(1_000_000_000_000)),),
        data_api_delay_ms=data_api_delay_ms,
        mined_delay_ms=block_ms,
        confirmed_delay_ms=block_ms,
        block_ms=block_ms,
        cdn=False,
    )
    async with running(config, now_ns=time.time_ns) as venue:
        yield venue


class Between(httpx.AsyncHTTPTransport):
    """Stands between the watcher and the venue; a test says what becomes of the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.change: Change = lambda _, reply: reply
        self.refuse: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.asked: list[tuple[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refusal = self.refuse(request)
        if refusal is not None:
            return refusal
        if request.url.path != "/rpc":
            return await super().handle_async_request(request)
        asked = json.loads(request.content)
        self.asked.append((asked["method"], asked["params"]))
        answer = await super().handle_async_request(request)
        reply = json.loads(await answer.aread())
        return httpx.Response(200, json=self.change(asked["method"], reply))

    def ranges(self) -> list[tuple[int, int]]:
        asked = [params[0] for method, params in self.asked if method == "eth_getLogs"]
        return [(int(one["fromBlock"], 16), int(one["toBlock"], 16)) for one in asked]


@contextlib.asynccontextmanager
async def a_watcher(
    venue: Running,
    system: System,
    between: Between | None = None,
    *,
    ws_url: str = "",
    **changed: int,
) -> AsyncIterator[ChainWatcher]:
    """Give a watcher that does not run yet."""
    settings = msgspec.structs.replace(SETTINGS, **{"chain_poll_ms": 100, **changed})
    world = system._world._replace(settings=settings)
    async with httpx.AsyncClient(transport=between, timeout=3) as connections:
        node = Node(Http(connections, rng=random.Random(1)), f"{venue.url}/rpc")
        yield ChainWatcher(world, node, system.clock, ws_url=ws_url)


@contextlib.asynccontextmanager
async def served(watcher: ChainWatcher) -> AsyncIterator[None]:
    running = asyncio.create_task(watcher.run())
    try:
        await eventually(lambda: watcher.view().state == "connected" and watcher._next)
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def buys(venue: Running, market: Any, *sizes: int, tx: str = TX, outcome: int = 0) -> None:
    fills = [
        {
            "wallet": LEADER, "condition": market["condition"], "outcome": outcome, "side": "BUY",
            "size": size, "price": "0.4", "tx": tx, "exact": True,
        }
        for size in sizes
    ]  # fmt: skip
    assert (await post(venue, "fills", {"fills": fills}))["executed"] == len(sizes)


def subscribed(venue: Running) -> bool:
    return any(len(each.wanted) == 2 for each in venue.shell.chain.subscribers)


async def blocks_pass(venue: Running, count: int = 5) -> None:
    """Wait until there are so many more blocks."""

    def head() -> int:
        return venue.shell.chain.node.head(time.time_ns())

    before = head()
    await eventually(lambda: head() >= before + count)


async def begun(system: System) -> None:
    await eventually(lambda: system.of(LeaderBaselineRead))


async def fills(system: System, count: int) -> list[LeaderFilled]:
    async def enough() -> list[LeaderFilled]:
        found = await system.of(LeaderFilled)
        return found if len(found) >= count else []

    return await eventually(enough)


# --- what is said -----------------------------------------------------------------------------


async def test_a_leader_s_fills_are_said_by_the_chain_alone_each_once() -> None:
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system) as watcher, served(watcher):
            await buys(venue, market, 10, 10, 5)
            await buys(venue, market, 7, tx="0x" + "78" * 32, outcome=1)
            said = await fills(system, 4)
            assert sorted((f.size // 1_000_000, f.ordinal, f.outcome) for f in said) == [
                (5, 0, 0), (7, 0, 1), (10, 0, 0), (10, 1, 0),
            ]  # fmt: skip
            assert {f.source for f in said} == {"chain"}
            assert {f.condition for f in said} == {market["condition"]}
            assert {f.token for f in said} == set(market["tokens"])
            assert {f.price for f in said} == {400_000}
            assert {f.side for f in said} == {"BUY"}
            assert {f.tx for f in said} == {TX, "0x" + "78" * 32}
            assert all(abs(f.ts_ns - f.seen_ns) < 10 * NS_PER_S for f in said)
            assert (watcher.counts.rows, watcher.counts.first) == (4, 4)
            assert (watcher.counts.left, watcher.counts.reshaped) == (0, 0)


async def test_rest_and_the_chain_say_one_set_of_facts() -> None:
    """The Data API shows the rows a second later, and they are the chain's to the digit."""
    async with (
        a_chain(data_api_delay_ms=1_000) as venue,
        a_system(venue) as system,
        system.lane(),
        a_watcher(venue, system) as watcher,
    ):
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with served(watcher):
            await buys(venue, market, 10, 10, 5)
            assert {f.source for f in await fills(system, 3)} == {"chain"}
        await buys(venue, market, 8, tx="0x" + "79" * 32)  # of which only REST will tell
        said = await fills(system, 4)
        assert [f.source for f in said] == ["chain"] * 3 + ["rest"]
        read_ns = time.time_ns()
        await eventually(lambda: system.hub.oldest_read_ns() > read_ns)
        assert await system.of(LeaderFilled) == said
        assert [change.state for change in await system.of(FeedChanged)] == ["connected"]


async def test_fills_that_were_said_in_other_rows_are_counted_and_never_said_again() -> None:
    async with (
        a_chain() as venue,
        a_system(venue) as system,
        system.lane() as lane,
        a_watcher(venue, system) as watcher,
    ):
        market = await post(venue, "market", MARKET)
        await begun(system)
        now_ns = time.time_ns()
        agreed, more = (
            a_trade(
                leader=LEADER,
                condition=market["condition"],
                size=shares(size),
                number=number,
                at_s=now_ns // NS_PER_S,
            )
            for number, size in ((1, 15), (2, 1))
        )
        rows = tuple(
            msgspec.structs.replace(row, token=market["tokens"][0]) for row in (agreed, more)
        )
        handle = system.hub.lanes[lane.lane.partition]
        await handle.submit(RestRows(leader=LEADER, rows=rows, through_s=0, seen_ns=now_ns))
        await fills(system, 2)
        async with served(watcher):
            await buys(venue, market, 10, 5, tx=agreed.tx)
            await buys(venue, market, 10, 6, tx=more.tx)

            async def gaps() -> list[FeedChanged]:
                return [f for f in await system.of(FeedChanged) if f.state == "gap"]

            (gap,) = await eventually(gaps)
            assert (gap.feed, gap.leader) == ("chain", LEADER)
            assert gap.detail == f"16000000 micro-shares in {more.tx}, 1000000 said in other rows"
            assert (watcher.counts.reshaped, watcher.counts.contradicted) == (1, 1)
            assert watcher.counts.first == 0
            assert "1 contradicted" in watcher.view().detail
        assert len(await system.of(LeaderFilled)) == 2


@pytest.mark.parametrize("depth", [0, 2, 9])
async def test_only_blocks_that_are_deep_enough_are_asked_for(depth: int) -> None:
    between = Between()
    async with (
        a_chain() as venue,
        a_system(venue) as system,
        system.lane(),
        a_watcher(venue, system, between, chain_confirmations=depth) as watcher,
    ):
        await begun(system)
        await watcher.turn()
        first = watcher._head.number - depth + 1
        await blocks_pass(venue)
        await watcher.turn()
        assert between.ranges() == [(first, watcher._head.number - depth)]


async def test_what_happened_before_the_watch_began_is_rest_s_to_tell() -> None:
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        await buys(venue, market, 10)
        await blocks_pass(venue)
        async with a_watcher(venue, system) as watcher, served(watcher):
            await buys(venue, market, 6, tx="0x" + "78" * 32)
            (fact,) = await fills(system, 1)
            assert fact.size == 6_000_000


async def test_without_a_lane_nothing_is_asked() -> None:
    between = Between()
    async with (
        a_chain() as venue,
        a_system(venue) as system,
        a_watcher(venue, system, between) as watcher,
    ):
        for _ in range(3):
            await watcher.turn()
            await blocks_pass(venue)
        assert between.ranges() == []
        assert [method for method, _ in between.asked] == ["eth_getBlockByNumber"] * 3


# --- the stream -------------------------------------------------------------------------------


async def test_the_stream_says_when_to_read() -> None:
    slow = {"chain_poll_ms": 3_600_000}
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        ws_url = "ws" + venue.url.removeprefix("http") + "/rpc"
        async with a_watcher(venue, system, ws_url=ws_url, **slow) as watcher, served(watcher):
            for count in (1, 2):
                await eventually(lambda: subscribed(venue))
                await buys(venue, market, 10, tx=f"0x{count:064x}")
                await fills(system, count)
                await post(venue, "chain", {"close_sockets": True})
                await eventually(lambda: not subscribed(venue))


# --- a node that refuses, is behind, or wants less --------------------------------------------


async def test_a_refused_question_is_asked_again() -> None:
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system) as watcher, served(watcher):
            await post(venue, "chain", {"fail_logs": 2})
            await buys(venue, market, 10)
            await fills(system, 1)


async def test_a_node_that_is_behind_is_silent_and_that_is_told() -> None:
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        await begun(system)
        async with a_watcher(venue, system, chain_silence_s=2) as watcher, served(watcher):
            await post(venue, "chain", {"lag_blocks": 100})
            await eventually(lambda: watcher.view().state == "silent")
            await post(venue, "chain", {"lag_blocks": 0})
            await eventually(lambda: watcher.view().state == "connected")
            assert watcher.view().heard_ns > time.time_ns() - 2 * NS_PER_S

            async def told() -> bool:
                changes = [(f.feed, f.state) for f in await system.of(FeedChanged)]
                return changes == [("chain", s) for s in ("connected", "silent", "connected")]

            await eventually(told)


async def test_a_node_that_does_not_answer_is_lost() -> None:
    between = Between()
    async with (
        a_chain() as venue,
        a_system(venue) as system,
        a_watcher(venue, system, between, chain_silence_s=1) as watcher,
    ):
        assert (watcher.view().state, watcher.view().heard_ns) == ("lost", 0)
        async with served(watcher):
            between.refuse = lambda _: httpx.Response(403, text="no")
            await eventually(lambda: watcher.view().state == "lost")
            between.refuse = lambda _: None
            await eventually(lambda: watcher.view().state == "connected")


def gives_at_most(blocks: int) -> Callable[[httpx.Request], httpx.Response | None]:
    """Refuse, as a node that gives so many blocks at once."""

    def refuse(request: httpx.Request) -> httpx.Response | None:
        asked = json.loads(request.content or b"{}")
        if asked.get("method") != "eth_getLogs":
            return None
        first, last = (int(asked["params"][0][end], 16) for end in ("fromBlock", "toBlock"))
        if last - first < blocks:
            return None
        error = {"code": -32_005, "message": f"block range is too large, max is {blocks}"}
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "error": error})

    return refuse


async def test_a_long_way_is_read_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "READS_MAX", 2)
    between = Between()
    narrow = {"chain_blocks_max": 3, "chain_confirmations": 0, "chain_poll_ms": 3_600_000}
    async with (
        a_chain(block_ms=20) as venue,
        a_system(venue) as system,
        system.lane(),
        a_watcher(venue, system, between, **narrow) as watcher,
    ):
        market = await post(venue, "market", MARKET)
        await begun(system)
        await watcher.turn()
        await buys(venue, market, 10)
        await blocks_pass(venue, 30)
        between.asked.clear()
        async with served(watcher):
            await fills(system, 1)
            await eventually(lambda: len(between.ranges()) >= 10)
        given = between.ranges()
        assert [first for first, _ in given[1:]] == [last + 1 for _, last in given[:-1]]
        assert max(last - first + 1 for first, last in given) == 3


async def test_questions_narrow_until_the_node_answers_and_no_block_is_skipped() -> None:
    between = Between()
    between.refuse = gives_at_most(3)
    async with a_chain(block_ms=20) as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system, between, chain_confirmations=0) as watcher:
            await watcher.turn()
            begin = watcher._next
            await buys(venue, market, 10)
            await blocks_pass(venue, 20)
            await watcher.turn()
            await fills(system, 1)
            given = between.ranges()
            assert begin == given[0][0]
            assert [first for first, _ in given[1:]] == [last + 1 for _, last in given[:-1]]
            assert given[-1][1] + 1 == watcher._next
            assert len(given) > 5


async def test_a_question_for_one_block_that_is_refused_ends_the_turn() -> None:
    between = Between()
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        await begun(system)
        async with a_watcher(venue, system, between, chain_confirmations=0) as watcher:
            await watcher.turn()
            begin = watcher._next
            await blocks_pass(venue)
            error = {"error": {"code": 1, "message": "range"}}
            between.change = lambda method, reply: error if method == "eth_getLogs" else reply
            with pytest.raises(VenueError, match="range"):
                await watcher.turn()
            assert watcher._next == begin
            between.change = lambda _, reply: reply
            await watcher.turn()
            assert watcher._next is not None
            assert begin is not None
            assert watcher._next > begin


@pytest.mark.parametrize("away", [-50_000, 50_000])
async def test_a_head_far_away_is_another_node_s_and_begins_anew(away: int) -> None:
    between = Between()
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        await begun(system)
        async with a_watcher(venue, system, between) as watcher:
            await watcher.turn()
            near = watcher._next
            assert near is not None

            def moved(method: str, reply: Any) -> Any:
                if method == "eth_getBlockByNumber":
                    number = int(reply["result"]["number"], 16) + away
                    reply["result"]["number"] = hex(number)
                return reply

            between.change = moved
            await watcher.turn()
            assert watcher._next is not None
            assert abs(watcher._next - near - away) < 1_000
            assert between.ranges() == []


# --- what is left to REST ---------------------------------------------------------------------


async def test_a_transaction_with_an_unreadable_log_is_left_to_rest_whole() -> None:
    between = Between()

    def spoil(method: str, reply: Any) -> Any:
        if method == "eth_getLogs" and reply["result"]:
            reply["result"][0]["data"] = "0x00"
        return reply

    between.change = spoil
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system, between) as watcher, served(watcher):
            await buys(venue, market, 10, 5)
            await eventually(lambda: watcher.counts.left)
            assert (watcher.counts.left, watcher.counts.rows) == (1, 0)
            assert system.dead.count == 1
            assert await system.of(LeaderFilled) == []
            assert "1 left to REST" in watcher.view().detail


async def test_a_token_is_asked_for_again_until_its_market_is_known() -> None:
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system) as watcher, served(watcher):
            known, asked = watcher._markets._venue.markets_by_token, []

            async def at_the_second_try(token: Any) -> Any:
                asked.append(token)
                if len(asked) == 1:
                    raise VenueError("/markets-by-token", "away")
                return await known(token)

            watcher._markets._venue.markets_by_token = at_the_second_try  # type: ignore[method-assign]
            await buys(venue, market, 10, 5)
            assert len(await fills(system, 2)) == 2
            await buys(venue, market, 6, tx="0x" + "78" * 32, outcome=1)
            await fills(system, 3)
            assert asked == [market["tokens"][0]] * 2, "a market is asked for once, both its sides"


async def test_what_waits_for_a_market_too_long_or_in_too_great_a_number_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "TRIES_MAX", 1)
    monkeypatch.setattr(watch, "WAITING_MAX", 1)
    between = Between()

    def renamed(method: str, reply: Any) -> Any:
        if method == "eth_getLogs":
            for log in reply["result"]:
                words = log["data"][2:]
                log["data"] = "0x" + words[:64] + "77" * 32 + words[128:]
        return reply

    between.change = renamed
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system, between) as watcher:
            await watcher.turn()
            await buys(venue, market, 10)
            await buys(venue, market, 5, tx="0x" + "78" * 32)

            async def all_left() -> bool:
                await watcher.turn()
                return watcher.counts.left == 2

            await eventually(all_left)
            assert not watcher._waiting
            assert await system.of(LeaderFilled) == []


async def test_portions_are_of_whole_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ROWS_MAX", 3)
    handed: list[int] = []
    async with a_chain() as venue, a_system(venue) as system, system.lane():
        market = await post(venue, "market", MARKET)
        await begun(system)
        async with a_watcher(venue, system) as watcher:
            await watcher.turn()
            for number, sizes in enumerate(((1, 2), (3, 4), (5, 6, 7, 8), (9,))):
                await buys(venue, market, *(10 * size for size in sizes), tx=f"0x{number:064x}")
            passed = watcher._pass_on

            def pass_on(some: Any, watched: Any) -> None:
                handed.append(len(some))
                passed(some, watched)

            monkeypatch.setattr(watcher, "_pass_on", pass_on)
            await blocks_pass(venue)
            await watcher.turn()
            assert len(await fills(system, 9)) == 9
            assert handed == [2, 2, 4, 1]
