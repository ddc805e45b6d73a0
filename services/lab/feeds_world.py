"""Seeded leaders and books around a running venue, and what is true of them at the end."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import httpx

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet
from shared.domain.messages import Fact, LeaderActed, LeaderFilled
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Shares, Usd, parse_micro
from shared.domain.views import POSITIONS, PositionsView, PositionView, encode

_SIZES: Final = (5, 5, 10, 10, 10, 25, 40)  # few: equal fills are the hard case
_FILLS_MAX: Final = 4  # in one transaction
_PAGE: Final = 1_000


class Row(NamedTuple):
    """What identifies a row but for its ordinal among its equals."""

    leader: str
    action: str
    tx: str
    token: str
    side: str
    size: int  # micro-shares
    price: int  # of a trade, in ten-thousandths of a dollar: sources differ in the last digits


class Market(NamedTuple):
    condition: str
    tokens: tuple[str, str]


class Swings(NamedTuple):
    """How far prices go, in cents: least and most."""

    mids: tuple[int, int] = (35, 65)  # of books
    prices: tuple[int, int] = (30, 70)  # of leaders' fills


class Crowd:
    """Leaders who fill, split and merge at random moments, among books that change.

    They sell and merge what they hold: nobody at the venue can hold less than nothing.
    """

    def __init__(
        self,
        admin: "Admin",
        leaders: Iterable[Wallet],
        markets: list[Market],
        seed: int,
        swings: Swings | None = None,
    ) -> None:
        self._admin, self._leaders, self._markets = admin, list(leaders), markets
        self._rng, self._swings = random.Random(seed), swings or Swings()
        self.fills = self.identical = self.books = 0
        self._held: defaultdict[tuple[Wallet, str], list[int]] = defaultdict(lambda: [0, 0])
        self.rows: Counter[Row] = Counter()  # what the venue will show of all this

    async def run(self, every_s: float, over: asyncio.Event | None = None) -> None:
        """Act until it is over or cancelled, at exponential gaps of this mean."""
        over = over or asyncio.Event()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.expovariate(1 / every_s)):
                    await over.wait()
            if over.is_set():
                return
            match self._rng.randrange(10):
                case 0 | 1 | 2:
                    await self._book()
                case 3:
                    await self._acts()
                case _:
                    await self._fills()

    async def _fills(self) -> None:
        """One transaction: one fill, or up to four, often equal ones."""
        rng = self._rng
        leader, market = rng.choice(self._leaders), rng.choice(self._markets).condition
        outcome, held = rng.randrange(2), self._held[leader, market]
        sells = held[outcome] >= _FILLS_MAX * (max(_SIZES) + 1) and rng.random() < 0.7
        fill = {
            "wallet": leader,
            "condition": market,
            "outcome": outcome,
            "side": "SELL" if sells else "BUY",
            "size": rng.choice(_SIZES),
            "price": f"0.{rng.randint(*self._swings.prices)}",
            "exact": True,
            "tx": TxHash(f"0x{rng.getrandbits(256):064x}"),
        }
        fills = [fill]
        for _ in range(rng.choice((0, 0, 0, 1, _FILLS_MAX - 1))):
            same = rng.random() < 0.5
            self.identical += same
            other = {**fill, "size": rng.choice(_SIZES) + 1}
            if rng.random() < 0.5:  # as many, for another price
                other = {**fill, "price": f"0.{rng.randint(30, 70)}"}
            fills.append(fill if same else other)
        done = await self._admin.post("fills", {"fills": fills, "rows": True})
        self.fills += int(done["executed"])
        assert done["executed"] == len(fills), "somebody stands on the other side of each"
        traded = sum(int(str(each["size"])) for each in fills)
        held[outcome] += -traded if sells else traded
        rows = (_row(told) for filled in done["fills"] for told in filled["rows"])
        self.rows.update(row for row in rows if row.leader == fill["wallet"])

    async def _acts(self) -> None:
        leader = self._rng.choice(self._leaders)
        market, size = self._rng.choice(self._markets).condition, self._rng.choice(_SIZES)
        held = self._held[leader, market]
        merges = min(held) >= size and self._rng.random() < 0.5
        body = {
            "wallet": leader,
            "condition": market,
            "type": "MERGE" if merges else "SPLIT",
            "size": size,
        }
        self._held[leader, market] = [each + (-size if merges else size) for each in held]
        self.rows[_row((await self._admin.post("activity", body))["row"])] += 1

    async def _book(self) -> None:
        rng = self._rng
        mid = rng.randint(*self._swings.mids)
        body = {
            "condition": rng.choice(self._markets).condition,
            "bids": [[f"0.{mid - 1 - n}", str(rng.randint(100, 900))] for n in range(5)],
            "asks": [[f"0.{mid + 1 + n}", str(rng.randint(100, 900))] for n in range(5)],
        }
        await self._admin.post("book", body)
        self.books += 1


class Admin:
    """The venue's control interface, and its public pages as no client of ours reads them."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._busts = 0

    async def post(self, path: str, body: object) -> Any:
        answer = await self._http.post(f"/admin/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def get(self, path: str, **params: str) -> Any:
        answer = await self._http.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    async def truth(self, leader: Wallet) -> Counter[Row]:
        """Return every row of a leader as the venue holds it."""
        rows: Counter[Row] = Counter()
        params = {"user": leader, "start": "1", "limit": str(_PAGE), "sort_direction": "ASC"}
        while True:
            self._busts += 1
            page = await self.get("/v2/activity", **params, _=f"truth-{self._busts}")
            rows.update(_row(told) for told in page["data"])
            if not page["pagination"]["has_more"]:
                return rows
            params["cursor"] = page["pagination"]["next_cursor"]

    async def books(self, market: Market) -> dict[str, dict[int, Any]]:
        """Return each token's published books by the venue's time in ms."""
        told = (await self.get("/admin/book-history", condition=market.condition))["books"]
        found: dict[str, dict[int, Any]] = {token: {} for token in market.tokens}
        for book in told:
            bids, asks = _levels(book["bids"]), _levels(book["asks"])
            ms = int(book["ns"]) // NS_PER_MS
            found[market.tokens[0]][ms] = (bids, asks)
            found[market.tokens[1]][ms] = (_mirror(asks), _mirror(bids))
        return found


def _row(told: dict[str, Any]) -> Row:
    return Row(
        told["proxy_wallet"],
        told["type"],
        told["transaction_hash"],
        (told["token_id"] or "") if told["type"] == "TRADE" else "",
        (told["side"] or "") if told["type"] == "TRADE" else "",
        parse_micro(str(told["size"])),
        _ten_thousandths(parse_micro(str(told["price"]))) if told["type"] == "TRADE" else 0,
    )


def _ten_thousandths(micro: int) -> int:
    return (micro + 50) // 100


def _levels(told: dict[str, int]) -> dict[int, int]:
    return {int(price): int(size) for price, size in told.items()}


def _mirror(levels: dict[int, int]) -> dict[int, int]:
    return {MICRO - price: size for price, size in levels.items()}


def said(facts: Iterable[Fact]) -> Counter[Row]:
    """Return the rows that facts say."""
    rows: Counter[Row] = Counter()
    for fact in facts:
        if isinstance(fact, LeaderFilled):
            price = _ten_thousandths(fact.price)
            rows[Row(fact.leader, "TRADE", fact.tx, fact.token, fact.side, fact.size, price)] += 1
        elif isinstance(fact, LeaderActed):
            rows[Row(fact.leader, fact.action, fact.tx, "", "", fact.size, 0)] += 1
    return rows


class Served:
    """The books that the ingesters served, each token's in their order."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Book]] = {}
        self.trusted = self.untrusted = 0

    def take(self, book: Book) -> None:
        self.trusted += book.trusted
        self.untrusted += not book.trusted
        self.versions.setdefault(book.token, []).append(book)

    def astray_s(self, history: dict[str, dict[int, Any]]) -> list[float]:
        """Return how long each stretch lasted in which a trusted book was not what the venue had.

        A lost message about sizes behind unchanged best prices shows nowhere until the venue
        tells the whole book or REST is asked: that takes a while, and must not take longer.
        """
        return sorted(
            stretch
            for token, books in self.versions.items()
            if token in history
            for stretch in _stretches(books, history[token])
        )

    def behind(self, history: dict[str, dict[int, Any]]) -> list[str]:
        """Return the tokens whose newest book is not the venue's newest, trusted."""
        found = []
        for token, versions in history.items():
            books = self.versions.get(token)
            truth = versions[max(versions)]
            if not books or not books[-1].trusted or sides_of(books[-1]) != truth:
                found.append(token)
        return found


def kept_in_view(markets: Iterable[Market]) -> dict[str, bytes]:
    """Return a view by which we hold something of each market, so that its books are watched."""
    positions = tuple(
        PositionView(
            condition=ConditionId(market.condition),
            token=TokenId(market.tokens[0]),
            outcome=0,
            shares=Shares(MICRO),
            cost=Usd(0),
            realised=Usd(0),
            unsettled=Shares(0),
            changed_ns=0,
        )
        for market in markets
    )
    view = PositionsView(wallet=Wallet("0x" + "0" * 40), positions=positions, orders=())
    return {POSITIONS: encode(view)}


class Handovers:
    """How long lanes had no holder whenever they went from one process to another."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[bytes, int]] = {}  # lane: its holder, and when it said so
        self.gaps_ns: list[int] = []

    def take(self, lane: str, holder: bytes, now_ns: int) -> None:
        """Hear a lease being taken, renewed or, with no holder, given back."""
        before, told_ns = self._last.get(lane, (b"", now_ns))
        if not holder:
            self._last[lane] = (holder, told_ns if not before else now_ns)
            return
        if holder != before and lane in self._last:
            self.gaps_ns.append(now_ns - told_ns)
        self._last[lane] = (holder, now_ns)


def _stretches(books: list[Book], had: dict[int, Any]) -> Iterator[float]:
    since_ns = 0
    for book in books:
        is_wrong = book.trusted and had.get(book.as_of_ns // NS_PER_MS) != sides_of(book)
        if is_wrong:
            since_ns = since_ns or book.seen_ns
        elif since_ns:
            yield (book.seen_ns - since_ns) / NS_PER_S
            since_ns = 0
    if since_ns:
        yield float("inf")


def sides_of(book: Book) -> tuple[dict[int, int], dict[int, int]]:
    return dict(book.bids), dict(book.asks)
