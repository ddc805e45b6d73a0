"""What risk knows: targets, holdings by leader, reservations, the regime; and its settings."""

from typing import Final, Literal

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.messages import IntentFormed, Regime
from shared.domain.positions import Position, exposure
from shared.domain.units import NS_PER_S, Bps, Price, Shares, Usd, scale_down
from shared.domain.views import AccountView

UNATTRIBUTED: Final = Wallet("0x" + "0" * 40)  # holds what no leader caused: trades by hand
NEVER_NS: Final = 1 << 62


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one leader we copy."""

    mode: Literal["fixed", "proportional"] = "fixed"
    trade_usd: Usd = Usd(10_000_000)
    ratio_bps: Bps = Bps(100)
    leader_usd_max: Usd = Usd(500_000_000)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit, in the unit of its name; durations in nanoseconds."""

    sizing: Sizing
    leaders: dict[Wallet, Sizing] = {}
    entry_age_ns_max: int
    order_ttl_ns: int
    book_age_ns_max: int
    book_dead_ns: int
    market_age_ns_max: int
    account_age_ns_max: int
    slippage_bps_max: Bps
    price_moved_bps_max: Bps
    price_min: Price
    price_max: Price
    trade_usd_max: Usd
    market_usd_max: Usd
    event_usd_max: Usd
    total_usd_max: Usd
    daily_loss_usd_max: Usd
    end_ns_min: int
    drift_usd_max: Usd
    rejects_max: int
    rejects_window_ns: int
    retry_ns: int
    dust: Shares

    def sizing_of(self, leader: Wallet) -> Sizing:
        return self.leaders.get(leader, self.sizing)


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


class Held(msgspec.Struct, frozen=True, kw_only=True):
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


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An approved order that may still cost or fill: counted at its worst until it ends."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    size: Shares
    worst_usd: Usd
    filled: Shares = Shares(0)

    @property
    def open_usd(self) -> Usd:
        left = max(0, self.size - self.filled)
        return Usd(self.worst_usd - scale_down(self.worst_usd, self.size - left, self.size))

    @property
    def signed_left(self) -> Shares:
        left = max(0, self.size - self.filled)
        grows_yes = (self.side == "BUY") == (self.outcome == 0)
        return Shares(left if grows_yes else -left)


class State(msgspec.Struct):
    regime: Regime = "normal"
    regime_reason: str = ""
    targets: dict[str, Target] = {}
    held: dict[str, Held] = {}
    reserved: dict[str, Reservation] = {}  # by approval
    events: dict[ConditionId, str] = {}
    day: int = 0  # UTC days since the epoch, of the last realised profit
    realised_today: Usd = Usd(0)
    rejects: list[int] = []  # times of the latest rejected orders, bounded


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What the shell fetched for one decision; None is unknown, and unknown never passes."""

    market: Market | None = None
    books: tuple[Book | None, Book | None] = (None, None)  # by outcome
    account: AccountView | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """An intent with the view to judge it on."""

    intent: IntentFormed
    view: View


class Reconsider(msgspec.Struct, frozen=True, kw_only=True):
    """Time passed: open gaps with their views, and the drift the reconciler measures."""

    now_ns: int
    views: dict[str, View]
    drift_usd: Usd = Usd(0)


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
    """Dollars at risk now: cost of what is held plus the worst of what is in flight."""

    leader: Usd
    market: Usd
    event: Usd
    total: Usd
    reserved: Usd


def usage(state: State, leader: Wallet, condition: ConditionId, event: str) -> Usage:
    lines = [(h.leader, h.condition, h.cost) for h in state.held.values()]
    lines += [(r.leader, r.condition, r.open_usd) for r in state.reserved.values()]
    return Usage(
        leader=Usd(sum(usd for who, _, usd in lines if who == leader)),
        market=Usd(sum(usd for _, market, usd in lines if market == condition)),
        event=Usd(
            sum(
                usd
                for _, market, usd in lines
                if market == condition or (event and state.events.get(market) == event)
            )
        ),
        total=Usd(sum(usd for _, _, usd in lines)),
        reserved=Usd(sum(r.open_usd for r in state.reserved.values())),
    )
