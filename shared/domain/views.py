"""What services leave in Redis for people and for each other: keys and shapes.

A view has one writer and may be lost at any moment; nothing is decided on one older than its
reader's own limit.
"""

from typing import Final, Literal, TypeVar

import msgspec

from shared.domain.book import Book
from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.messages import Regime
from shared.domain.observations import OrderReport
from shared.domain.units import Bps, Price, Shares, Usd, proceeds_down

PREFIX: Final = "driftless:view:"
ACCOUNT: Final = f"{PREFIX}account"  # executor: AccountView
SURRENDERED: Final = "surrendered"  # an order without an end: the operator is to look
POSITIONS: Final = f"{PREFIX}positions"  # executor: PositionsView
RISK: Final = f"{PREFIX}risk"  # risk: RiskView
DRIFT: Final = f"{PREFIX}drift"  # reconciler: DriftView
FEEDS_PREFIX: Final = f"{PREFIX}feeds:"  # ingesters: a FeedsView each
ENDPOINTS_PREFIX: Final = f"{PREFIX}endpoints:"  # who calls the venue: an EndpointsView each
# Reasons for which the venue would take no order that opens.
GEOBLOCK: Final = "geoblock"  # of where we are
CLOSED_ONLY: Final = "closed_only"  # of who we are
BANNED: Final = "banned"
CLOCK: Final = "clock"  # ours and the venue's differ: ages and signatures are wrong
VENUE: Final = "venue"  # it restarts, or is in a restricted mode
IN_FORCE: Final = 2  # the level of a StandingView
STANDING: Final = (GEOBLOCK, CLOSED_ONLY, BANNED, CLOCK, VENUE)
V = TypeVar("V")


def book_key(token: TokenId) -> str:
    """Return the key of a token's Book; written by the ingester."""
    return f"{PREFIX}book:{token}"


def market_key(condition: ConditionId) -> str:
    """Return the key of a Market; written by the ingester."""
    return f"{PREFIX}market:{condition}"


def leader_key(leader: Wallet) -> str:
    """Return the key of a leader's LeaderView; written by the ingester."""
    return f"{PREFIX}leader:{leader}"


def feed_key(instance: str) -> str:
    """Return the key of one ingester's FeedsView."""
    return f"{FEEDS_PREFIX}{instance}"


def endpoints_key(instance: str) -> str:
    """Return the key of one process's EndpointsView."""
    return f"{ENDPOINTS_PREFIX}{instance}"


def exposure_key(partition: int) -> str:
    """Return the key of an aggregator lane's ExposuresView."""
    return f"{PREFIX}exposures:{partition:02d}"


class LeaderView(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue's Data API says a leader holds, read in one go."""

    leader: Wallet
    as_of_ns: int  # when it was read: nothing newer is inside
    read_ns: int  # when all of his activity up to ``as_of_ns`` had been handed over
    value: Usd | None  # of his positions at the venue's prices, cash not included
    holdings: tuple[tuple[ConditionId, Shares, Shares], ...]  # market, yes, no
    complete: bool  # False: more positions than are read; what is not here is not known


class FeedView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    state: Literal["connected", "lost", "silent"]
    heard_ns: int  # last data, not last PONG
    detail: str = ""


class FeedsView(msgspec.Struct, frozen=True, kw_only=True):
    as_of_ns: int
    feeds: tuple[FeedView, ...]
    books_trusted: int = 0
    books_untrusted: int = 0
    stream_rows: int = 0  # leaders' rows seen on the stream since start
    rest_rows: int = 0  # leaders' rows that only REST showed since start
    garbage: int = 0  # frames that did not parse


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint of the venue answered one process in the last hour."""

    name: str
    calls: int
    bad: int  # no answer, 425, 429 or 5xx
    slow: int  # answered, but later than ``telemetry.slow_ms``
    median_ms: int
    p99_ms: int
    budget_bps: Bps  # of its error budget that is left; below zero it is overspent
    last_bad_ns: int = 0
    last_bad_status: int | None = None  # 0: no answer


class EndpointsView(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    as_of_ns: int
    endpoints: tuple[EndpointView, ...]


class ExposureView(msgspec.Struct, frozen=True, kw_only=True):
    leader: Wallet
    condition: ConditionId
    yes: Shares
    no: Shares
    exposure: Shares


class ExposuresView(msgspec.Struct, frozen=True, kw_only=True):
    exposures: tuple[ExposureView, ...]


class HeldView(msgspec.Struct, frozen=True, kw_only=True):
    leader: Wallet
    condition: ConditionId
    target: Shares  # signed YES-equivalents
    yes: Shares
    no: Shares
    cost: Usd


class CapView(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # leader, market, event, category, total, daily_loss, drift, ...
    used: Usd
    limit: Usd  # as it holds now
    configured: Usd = Usd(0)  # before the world shrank it; 0: as ``limit``
    scope: str = ""  # the wallet, condition, event or category it is about


class TriggerView(msgspec.Struct, frozen=True, kw_only=True):
    """What would change the regime by itself: entered above one number, left below another."""

    name: str
    regime: Regime  # what it leads to
    actual: int
    enter: int
    leave: int  # -1: only the operator leaves it
    unit: str


class ScaleView(msgspec.Struct, frozen=True, kw_only=True):
    """What shrinks caps at the moment, in bps of their full size."""

    name: str  # daily_loss, drawdown, feed
    bps: Bps
    actual: int
    unit: str


class RiskView(msgspec.Struct, frozen=True, kw_only=True):
    regime: Regime
    reason: str
    held: tuple[HeldView, ...]
    caps: tuple[CapView, ...]
    realised_today: Usd
    triggers: tuple[TriggerView, ...] = ()
    scales: tuple[ScaleView, ...] = ()
    equity: Usd | None = None  # None: not known yet
    profit: Usd = Usd(0)
    drawdown: Usd = Usd(0)
    unfollowed: tuple[Wallet, ...] = ()
    config_hash: str = ""


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    shares: Shares
    cost: Usd
    realised: Usd
    unsettled: Shares  # of fills not yet mined: the venue's positions may not show them
    changed_ns: int  # when it last moved
    unsettled_since_ns: int = 0  # when the oldest of those fills was booked; 0: there is none
    claim: Shares = Shares(0)  # of a market that is over, not redeemed yet; not among the shares
    payout: Price = Price(0)  # of a share of the claim


class OpenOrderView(msgspec.Struct, frozen=True, kw_only=True):
    order: OrderHash
    token: TokenId
    side: Side
    price: Price
    size: Shares
    filled: Shares
    status: str  # what is proved of it, or SURRENDERED
    since_ns: int = 0  # when it was prepared


class PositionsView(msgspec.Struct, frozen=True, kw_only=True):
    """What the executor believes; replaced in one step with its snapshot."""

    wallet: Wallet
    positions: tuple[PositionView, ...]
    orders: tuple[OpenOrderView, ...]
    cash: Usd | None = None  # None: the balance was never read with nothing in motion
    cash_changed_ns: int = 0

    @property
    def claims(self) -> Usd:
        """Return what markets that are over still owe us."""
        return Usd(sum(proceeds_down(p.payout, p.claim) for p in self.positions))


class StandingView(msgspec.Struct, frozen=True, kw_only=True):
    """A reason for which the venue would take no order that opens, as it is known now."""

    name: str  # of STANDING
    level: int  # 2: in force; 1: the last look did not show it; 0: over, or never was
    detail: str = ""
    since_ns: int = 0


class OutsideTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A trade of the account by an order that the executor never sent."""

    trade: str
    token: TokenId
    shares: Shares  # signed
    venue_ns: int
    usd: Usd = Usd(0)  # signed, what it brought in, its fee apart


class UnlistedFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill that is booked and that the venue's list of our trades does not have."""

    trade: str
    token: TokenId
    shares: Shares  # signed
    usd: Usd  # signed, what it brought in
    is_copy: bool  # the list has another of the same order, price and size: it was booked twice


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took lately."""

    count: int = 0
    median_ms: int = 0
    worst_ms: int = 0


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue's CLOB said of our account."""

    as_of_ns: int
    collateral: Usd
    closed_only: bool
    orders: tuple[OrderReport, ...]
    standing: tuple[StandingView, ...] = ()
    tier: str = ""  # of the signer's limits, as the venue names it
    throttled: tuple[str, ...] = ()  # endpoints that answer ever more slowly, in words
    outside: tuple[OutsideTrade, ...] = ()  # of the last hour, oldest first
    unlisted: tuple[UnlistedFill, ...] = ()  # booked fills that the venue's own list lacks
    confirmed: Lag = Lag()  # from a fill's booking to its confirmation


class DriftLine(msgspec.Struct, frozen=True, kw_only=True):
    token: TokenId
    believed: Shares
    observed: Shares
    usd: Usd
    state: Literal["excused", "suspected", "found"]


class DriftView(msgspec.Struct, frozen=True, kw_only=True):
    as_of_ns: int
    drift_usd: Usd  # dollars of every difference that is not excused
    lines: tuple[DriftLine, ...]
    corrections: int  # found since the ledger began
    last_clear_ms: int  # how long the last cleared drift had stood
    last_detect_ms: int = 0  # from what caused the last one, or its first sign, until it was found


_encoder = msgspec.json.Encoder()


def encode(view: msgspec.Struct) -> bytes:
    return _encoder.encode(view)


def decode(data: bytes | None, kind: type[V]) -> V | None:
    """Return the view, or None where there is none; a foreign shape raises ValidationError."""
    return None if data is None else msgspec.json.decode(data, type=kind)


__all__ = ["Book", "Market", "book_key", "decode", "encode", "exposure_key", "feed_key"]
