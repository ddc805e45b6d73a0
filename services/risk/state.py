"""What risk knows: targets, holdings by leader, reservations, equity, the regime."""

from typing import Final, Literal

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.messages import IntentFormed, Regime
from shared.domain.positions import Position, exposure
from shared.domain.units import NS_PER_S, Price, Shares, Usd, scale_down
from shared.domain.views import AccountView, StandingView

UNATTRIBUTED: Final = Wallet("0x" + "0" * 40)  # holds what no leader caused: trades by hand


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What we want to hold because of a leader in a market, in signed YES-equivalents."""

    leader: Wallet
    condition: ConditionId
    target: Shares
    yes_price: Price
    venue_ns: int
    expires_ns: int
    cause: str  # the TargetSet that made it
    root: str
    attempts: int = 0
    failures: int = 0  # orders in a row that did nothing
    retry_ns: int = 0
    last_reason: str = ""
    rest_until_ns: int = 0  # until when its orders may rest; 0: none has yet


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is booked to a leader in a market.

    Leaders who disagree are netted: the account then holds less than the sum of what is booked.
    """

    leader: Wallet
    condition: ConditionId
    yes: Position = Position()
    no: Position = Position()

    @property
    def net(self) -> Shares:
        """Return signed YES-equivalents; a deficit is drift to correct, not a short to trade."""
        return exposure(Shares(max(self.yes.shares, 0)), Shares(max(self.no.shares, 0)))

    @property
    def cost(self) -> Usd:
        """Return the dollars at risk; what was taken back beyond its cost frees no other limit."""
        return Usd(max(self.yes.cost, 0) + max(self.no.cost, 0))

    def of(self, outcome: int) -> Position:
        return self.yes if outcome == 0 else self.no


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An approved order that may still cost or fill: counted at its worst until it ends."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    size: Shares
    worst_usd: Usd  # the most it takes from the balance
    leader_usd: Usd  # its worst for the leader's cap
    market_usd: Usd  # its worst for the caps of the account
    nets: TokenId | None = None  # the token it is booked on, where that is not its own
    estimate: Price = Price(0)  # the average price it was expected to trade at
    filled: Shares = Shares(0)
    notional: Usd = Usd(0)
    opens: bool = True
    rests: bool = False
    withdrawn: bool = False
    next_ns: int = 0  # a slice: no more of its target before then

    def open_usd(self, worst: Usd) -> Usd:
        """Return the part of a worst case that what is not filled yet may still make true."""
        left = max(0, self.size - self.filled)
        return Usd(worst - scale_down(worst, self.size - left, self.size))

    @property
    def signed_left(self) -> Shares:
        left = max(0, self.size - self.filled)
        grows_yes = (self.side == "BUY") == (self.outcome == 0)
        return Shares(left if grows_yes else -left)


class Equity(msgspec.Struct, frozen=True, kw_only=True):
    """The last EquityMarked, as decisions use it."""

    collateral: Usd
    value: Usd  # of what is held
    profit: Usd
    peak: Usd
    day: int
    day_profit: Usd
    marked_ns: int

    @property
    def usd(self) -> Usd:
        return Usd(self.collateral + self.value)

    @property
    def drawdown(self) -> Usd:
        return Usd(max(0, self.peak - self.profit))


class Group(msgspec.Struct, frozen=True):
    """What a market's exposure is counted together with."""

    event: str
    category: str


class State(msgspec.Struct):
    regime: Regime = "normal"
    regime_reason: str = ""
    ordered: Regime = "normal"  # what the operator wants; rules may only be stricter
    entered: tuple[str, ...] = ()  # rules that hold the regime now
    targets: dict[str, Target] = {}
    held: dict[str, Held] = {}
    crossed: dict[ConditionId, Shares] = {}  # complete sets that leaders hold against each other
    costs: dict[ConditionId, Usd] = {}  # of what is held, summed by market, and ...
    leader_costs: dict[Wallet, Usd] = {}  # ... by leader: usage is asked at every decision
    reserved: dict[str, Reservation] = {}  # by approval
    netting: dict[str, TokenId] = {}  # ended approvals that were netted: they may still fail
    groups: dict[ConditionId, Group] = {}
    day: int = 0  # UTC days since the epoch, of the last realised profit
    realised_today: Usd = Usd(0)
    realised: Usd = Usd(0)  # since the ledger began
    equity: Equity | None = None
    slippage: dict[str, int] = {}  # average excess over estimates in bps, by leader and by market
    rejects: list[int] = []  # times of the latest rejected orders, bounded
    unfollowed: dict[Wallet, bool] = {}  # True: what is held because of him is kept
    settings: dict[str, str] = {}  # by which the latest decisions were made
    config_hash: str = ""


class Feeds(msgspec.Struct, frozen=True, kw_only=True):
    """How well we hear the venue; ages in nanoseconds, 0 while a feed is watched and well."""

    report_ns: int  # since an ingester last said anything at all
    stream_lost: bool  # leaders' activity comes from polling alone
    polls_ns: int  # since the leader waited for longest was last read
    books_ns: int  # since books were last heard, where their connection is lost

    @property
    def worst_ns(self) -> int:
        """Return the age of what is heard worst; who hears the stream need not wait for polls."""
        polls_ns = self.polls_ns if self.stream_lost else 0
        return max(self.report_ns, self.books_ns, polls_ns)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell fetched for one decision; None is unknown, and unknown never passes."""

    market: Market | None = None
    books: tuple[Book | None, Book | None] = (None, None)  # by outcome
    account: AccountView | None = None
    feeds: Feeds | None = None
    leader_value: Usd | None = None  # what the leader's positions are worth


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """An intent with the view to judge it on."""

    intent: IntentFormed
    view: View


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Best bids of what is held, by market and outcome; None where nobody knows a price."""

    collateral: Usd
    claims: Usd = Usd(0)  # what markets that are over still owe the account
    bids: dict[ConditionId, tuple[Price | None, Price | None]]


class Reconsider(msgspec.Struct, frozen=True, kw_only=True):
    """Time passed: open gaps with their views, and what the regime hangs on."""

    now_ns: int
    views: dict[str, View]
    drift_usd: Usd = Usd(0)
    feeds: Feeds | None = None
    marks: Marks | None = None
    standing: tuple[StandingView, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that were read, at start or on request, or why they could not be."""

    id: str
    root: str
    actor: str
    now_ns: int
    values: dict[str, str] = {}
    hash: str = ""
    error: str = ""


def key_of(leader: Wallet, condition: ConditionId) -> str:
    return f"{leader}|{condition}"


def held_of(state: State, leader: Wallet, condition: ConditionId) -> Held:
    key = key_of(leader, condition)
    return state.held.get(key) or Held(leader=leader, condition=condition)


def gap(state: State, target: Target) -> Shares:
    """Return target minus what we hold and have in flight, signed."""
    held = held_of(state, target.leader, target.condition)
    flying = sum(
        r.signed_left
        for r in state.reserved.values()
        if r.leader == target.leader and r.condition == target.condition
    )
    return Shares(target.target - held.net - flying)


def tradable(state: State, condition: ConditionId, outcome: int) -> Shares:
    """Return the shares of an outcome that the account holds because of its leaders.

    What they hold against each other is not there, and what nobody caused is not ours to sell.
    """
    booked = sum(
        max(0, held.of(outcome).shares)
        for held in state.held.values()
        if held.condition == condition and held.leader != UNATTRIBUTED
    )
    return Shares(max(0, booked - state.crossed.get(condition, 0)))


def is_busy(state: State, condition: ConditionId) -> bool:
    """Tell whether a market has an order in flight: the next decision must see what it did."""
    return any(r.condition == condition for r in state.reserved.values())


def due(state: State, dust: Shares, now_ns: int) -> list[str]:
    """Return the targets to act on now: open gaps whose market has no order in flight.

    Those not refused yet come first, the refused in turns: a caller who looks at a few at a time
    looks at each of them in the end.
    """
    busy = {r.condition for r in state.reserved.values()}
    found = [
        key
        for key, target in state.targets.items()
        if target.retry_ns <= now_ns
        and target.condition not in busy
        and abs(gap(state, target)) >= dust
    ]
    refused = [key for key in found if state.targets[key].last_reason]
    turn = now_ns // NS_PER_S % max(1, len(refused))
    new = [key for key in found if not state.targets[key].last_reason]
    return [*new, *refused[turn:], *refused[:turn]]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars at risk now: cost of what is held plus the worst of what is in flight.

    A complete set that two leaders hold against each other is worth its dollar whatever happens:
    it is no risk to the account, though each of the two is still counted for what is booked to him.
    """

    leader: Usd
    market: Usd
    event: Usd
    category: Usd
    total: Usd
    reserved: Usd


def at_risk(state: State) -> dict[ConditionId, int]:
    """Return the dollars that each market counts for."""
    markets: dict[ConditionId, int] = dict(state.costs)
    for market, sets in state.crossed.items():  # a set is a dollar: same micro-units
        markets[market] = max(0, markets.get(market, 0) - sets)
    for r in state.reserved.values():
        markets[r.condition] = markets.get(r.condition, 0) + r.open_usd(r.market_usd)
    return markets


def usage(state: State, leader: Wallet, condition: ConditionId, group: Group) -> Usage:
    """Return the use of every cap that one order falls under."""
    markets = at_risk(state)
    reserved, of_leader = 0, int(state.leader_costs.get(leader, 0))
    for r in state.reserved.values():
        reserved += r.open_usd(r.worst_usd)
        of_leader += r.open_usd(r.leader_usd) if r.leader == leader else 0
    event = category = markets.get(condition, 0)
    for market, its in state.groups.items():
        if market == condition:
            continue
        if group.event and its.event == group.event:
            event += markets.get(market, 0)
        if group.category and its.category == group.category:
            category += markets.get(market, 0)
    return Usage(
        leader=Usd(of_leader),
        market=Usd(markets.get(condition, 0)),
        event=Usd(event),
        category=Usd(category),
        total=Usd(sum(markets.values())),
        reserved=Usd(reserved),
    )
