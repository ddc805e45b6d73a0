"""The venue's records: orders, trades, rows, events, and the state that holds them all."""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from services.paper_venue.config import VenueConfig
from services.paper_venue.ledger import Ledger, Move
from services.paper_venue.matching import MarketBook
from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet
from shared.domain.market import Market, Side
from shared.domain.units import MICRO, Price, Shares, Usd

OrderType = Literal["GTC", "GTD", "FOK", "FAK"]
TradeStatus = Literal["MATCHED", "MINED", "CONFIRMED", "RETRYING", "FAILED"]
RowKind = Literal["TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION"]
Outcome = Literal[0, 1]
OrderChange = Literal["PLACEMENT", "UPDATE", "CANCELLATION"]

ANONYMOUS: Final = Wallet("0x00000000000000000000000000000000a0b1e47d")  # owns recorded depth
FEES: Final = Wallet("0x00000000000000000000000000000000000fee00")  # receives taker fees
ANONYMOUS_KEY: Final = "00000000-0000-4000-8000-0000a0b1e47d"
EVENTS_MAX: Final = 1_000_000  # undrained events; beyond this nobody is listening


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The venue says no, in its own words."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text, self.status = text, status


class Order(msgspec.Struct, kw_only=True):
    """An order the venue has accepted at some time; it keeps closed ones too."""

    id: OrderHash
    owner: str  # API key
    wallet: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Outcome
    side: Side
    price: Price
    size: Shares
    kind: OrderType
    created_ns: int
    post_only: bool = False
    expiration_s: int = 0
    matched: Shares = Shares(0)
    status: str = "LIVE"
    trades: list[str] = msgspec.field(default_factory=list)

    @property
    def left(self) -> Shares:
        return Shares(self.size - self.matched)

    @property
    def is_bid(self) -> bool:
        """Tell the side in the market's one book, kept in prices of outcome 0."""
        return (self.side == "BUY") == (self.outcome == 0)


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """The maker's side of a trade."""

    order: str
    owner: str
    wallet: Wallet
    token: TokenId
    outcome: Outcome
    side: Side
    price: Price
    size: Shares


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of what a wallet did, as the activity stream and the Data API tell it."""

    seq: int
    wallet: Wallet
    kind: RowKind
    condition: ConditionId
    size: Shares
    usd: Usd
    tx: TxHash
    block_s: int
    seen_ns: int  # from when the Data API shows it
    token: TokenId | None = None
    outcome: Outcome | None = None
    side: Side | None = None
    price: Price = Price(0)
    taker: bool = True


class Trade(msgspec.Struct, kw_only=True):
    """One taker order against the makers it reached, best price first; settled as one."""

    id: str
    condition: ConditionId
    token: TokenId
    outcome: Outcome
    side: Side
    price: Price  # of the taker's token; of a sweep the average, in micro-dollars
    size: Shares
    notional: Usd  # the taker's dollars without the fee
    fee: Usd
    taker_order: str
    taker_owner: str
    taker: Wallet
    legs: tuple[Leg, ...]
    tx: TxHash
    match_ns: int
    number: int  # in the order of matching, also within a moment
    moves: tuple[Move, ...]
    rows: tuple[Row, ...] = ()  # what the public will see; nothing where settlement fails
    status: TradeStatus = "MATCHED"
    updated_ns: int = 0

    @property
    def last_price(self) -> Price:
        """Return the price of the last level reached, in the taker's token."""
        leg = self.legs[-1]
        return leg.price if leg.token == self.token else Price(MICRO - leg.price)


class Sealed(msgspec.Struct, frozen=True):
    """A trade in its block: where its transaction and its logs begin."""

    block: int
    tx_index: int
    log_index: int
    trade: Trade


class Trouble(msgspec.Struct, frozen=True):
    """How a settlement goes wrong: it is retried so long and then succeeds, or it fails."""

    retry_ns: int | None = None  # None: it fails


def no_trouble(trade: Trade) -> Trouble | None:
    """Settle every trade."""


class BookMoved(msgspec.Struct, frozen=True):
    condition: ConditionId
    changes: tuple[tuple[bool, int], ...]  # (is bid, price of outcome 0)
    traded: bool


class Traded(msgspec.Struct, frozen=True):
    trade: Trade


class OrderMoved(msgspec.Struct, frozen=True):
    order: Order  # a copy, as it was at that moment
    change: OrderChange
    ts_ns: int


class TradeMoved(msgspec.Struct, frozen=True):
    trade: Trade
    status: TradeStatus
    ts_ns: int


class RowsShown(msgspec.Struct, frozen=True):
    rows: tuple[Row, ...]


class TickChanged(msgspec.Struct, frozen=True):
    condition: ConditionId
    old: Price
    new: Price
    ts_ns: int


class MarketOpened(msgspec.Struct, frozen=True):
    condition: ConditionId
    ts_ns: int


class MarketResolved(msgspec.Struct, frozen=True):
    condition: ConditionId
    ts_ns: int


MarketEvent = BookMoved | Traded | TickChanged | MarketOpened | MarketResolved
Event = MarketEvent | OrderMoved | TradeMoved | RowsShown
TimerKind = Literal[
    "mined",
    "confirmed",
    "retrying",
    "failed",
    "rows",
    "expire",
    "release",
    "withdraw",
    "reopen",
    "start",
    "heartbeat",
]


class Levels(msgspec.Struct, frozen=True):
    """A book of outcome 0 as it was published; it stood until the next one."""

    ns: int
    bids: dict[int, int]
    asks: dict[int, int]


class Listing(msgspec.Struct, kw_only=True):
    """A market as it stands: terms, book, last trade, payouts once resolved."""

    number: int
    market: Market
    book: MarketBook
    opened_ns: int
    changed_ns: int
    published: tuple[dict[int, int], dict[int, int]] = msgspec.field(
        default_factory=lambda: ({}, {})
    )
    traded: bool = False
    last_price: Price | None = None  # of outcome 0
    last_side: Side = "BUY"  # the taker's, on outcome 0
    payouts: tuple[int, int] | None = None  # micro-dollars a share
    seconds_delay: int = 0  # how long marketable orders wait
    clear_on_start: bool = False  # resting orders are wiped when the game begins
    history: deque[Levels] = msgspec.field(default_factory=deque)  # as published, oldest first
    volume: int = 0  # micro-dollars that takers traded, failed settlements included
    resolved_ns: int = 0  # when the payouts became known


class Heart(msgspec.Struct, kw_only=True):
    """An API key's dead man's switch."""

    key: str
    expected: str  # the id its next heartbeat has to name
    beat_ns: int


Subject = Trade | Order | Listing | Heart | tuple[Row, ...]
Timer = tuple[int, int, TimerKind, Subject]


class Venue(msgspec.Struct, kw_only=True):
    """Everything the venue knows. Written by `core`, `trading`, `settlement` and `markets` only."""

    config: VenueConfig
    listings: dict[ConditionId, Listing] = msgspec.field(default_factory=dict)
    by_token: dict[TokenId, ConditionId] = msgspec.field(default_factory=dict)
    orders: dict[OrderHash, Order] = msgspec.field(default_factory=dict)
    open_of: dict[Wallet, dict[OrderHash, Order]] = msgspec.field(default_factory=dict)
    by_owner: dict[str, list[OrderHash]] = msgspec.field(default_factory=dict)
    trades: dict[str, Trade] = msgspec.field(default_factory=dict)
    trades_of: dict[Wallet, list[str]] = msgspec.field(default_factory=dict)
    rows: list[Row] = msgspec.field(default_factory=list)
    withdrawn: set[int] = msgspec.field(default_factory=set)  # rows of trades that failed late
    rows_of: dict[Wallet, list[Row]] = msgspec.field(default_factory=dict)
    sealed: list[Sealed] = msgspec.field(default_factory=list)  # what is on the chain, in order
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    hearts: dict[str, Heart] = msgspec.field(default_factory=dict)  # by API key
    unseen: dict[tuple[Wallet, TokenId | None], int] = msgspec.field(default_factory=dict)
    allowances: dict[tuple[Wallet, str], int] = msgspec.field(default_factory=dict)  # by spender
    accounts: set[Wallet] = msgspec.field(default_factory=set)  # funded, or traded by order
    owner_of: dict[Wallet, Wallet] = msgspec.field(default_factory=dict)
    type_of: dict[Wallet, int] = msgspec.field(default_factory=dict)  # as its first order signed
    names: dict[Wallet, str] = msgspec.field(default_factory=dict)  # shown in public rows
    timers: list[Timer] = msgspec.field(default_factory=list)
    events: deque[Event] = msgspec.field(default_factory=lambda: deque(maxlen=EVENTS_MAX))
    touched: dict[ConditionId, None] = msgspec.field(default_factory=dict)
    trouble: Callable[[Trade], Trouble | None] = no_trouble  # of the settlement of a fresh trade
    count: int = 0  # of everything numbered: trades, transactions, rows, timers
    now_ns: int = 0


def listing_of(venue: Venue, token: str) -> Listing:
    """Return the market of a token that can trade, or refuse as the venue does."""
    condition = venue.by_token.get(TokenId(token))
    listing = venue.listings[condition] if condition else None
    if listing is None or listing.payouts is not None:
        raise Refused("No orderbook exists for the requested token id", 404)
    return listing


def next_number(venue: Venue) -> int:
    venue.count += 1
    return venue.count
