"""The bus vocabulary: past-tense facts and operator commands, immutable, one tagged union.

Every fact carries its own content id, the id of its cause, and the root: the id of the leader
fill (or other observation) its chain began with, which is also the chain's trace id. Fields are
only ever added, with defaults; a changed meaning is a new kind.
"""

from typing import Literal

import msgspec

from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet, content_id
from shared.domain.market import Market, Side
from shared.domain.observations import Settlement, Source
from shared.domain.units import Price, Shares, Usd

Regime = Literal["normal", "reduce_only", "halted"]
ClosedBy = Literal["quiet", "max_age", "reduction", "notional"]
Service = Literal["ingester", "aggregator", "risk", "executor", "reconciler", "ctl"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The envelope of all facts and commands."""

    id: str  # content_id(...): the same fact has the same id on every replay
    cause: str  # id of the message this one follows from; "" for an observation
    root: str  # id of the observation that began the chain; also the chain's trace id
    ts_ns: int  # when it happened, UTC epoch; orders nothing, the ledger's sequence does


# --- ingester ---------------------------------------------------------------------------------


class LeaderFilled(Message, frozen=True, kw_only=True, tag="leader_filled"):
    """A leader's execution, from the activity stream, the Data API or the chain: who was first."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    price: Price
    size: Shares
    tx: TxHash
    row: str  # the row's identity at the venue, but for its ordinal
    ordinal: int  # 0 for the first of the identical rows of one transaction, then 1, 2, ...
    seen_ns: int
    source: Source


class LeaderActed(Message, frozen=True, kw_only=True, tag="leader_acted"):
    """A leader's split, merge, redemption or conversion: exposure moved without a fill."""

    leader: Wallet
    condition: ConditionId
    action: Literal["SPLIT", "MERGE", "REDEEM", "CONVERSION"]
    size: Shares
    tx: TxHash
    row: str
    ordinal: int
    seen_ns: int


class LeaderBaselineRead(Message, frozen=True, kw_only=True, tag="leader_baseline_read"):
    """What a leader held when we began to follow him; his activity counts from here."""

    leader: Wallet
    holdings: tuple[tuple[ConditionId, Shares, Shares], ...]  # market, yes, no
    rows: tuple[str, ...]  # identities of activity already inside the holdings, @ venue seconds
    through_s: int
    kept_s: int  # activity before this is inside the holdings


class ActivityRead(Message, frozen=True, kw_only=True, tag="activity_read"):
    """The Data API was read without a gap up to a time: the leader's durable cursor."""

    leader: Wallet
    through_s: int
    kept_s: int  # identities of rows before this are forgotten, such rows ignored


class FeedChanged(Message, frozen=True, kw_only=True, tag="feed_changed"):
    """A feed connected, was lost, fell silent, may have left a gap, or a gap was filled.

    One trouble is told in steps: silent or lost, connected again, gap, resynced.
    """

    feed: str
    state: Literal["connected", "lost", "silent", "gap", "resynced"]
    detail: str = ""
    duration_ms: int = 0  # of what ended: of the silence until it was noticed, of the loss, the gap
    from_ns: int = 0  # gap, resynced: nothing before this can be missing
    rows: int = 0  # resynced: how many rows only the second source had
    leader: Wallet | None = None  # where it concerns one alone


class MarketResolved(Message, frozen=True, kw_only=True, tag="market_resolved"):
    """The venue settled a market that a leader of this lane was in: nothing is left to copy.

    Each lane says it for its own leaders, so one resolution may stand in the ledger several times.
    """

    condition: ConditionId
    payouts: tuple[Price, Price]  # dollars a share, by outcome: 1 and 0, or 0.5 each


# --- aggregator -------------------------------------------------------------------------------


class FillCounted(Message, frozen=True, kw_only=True, tag="fill_counted"):
    """A leader's activity entered his exposure; ``cause`` is the activity."""

    leader: Wallet
    condition: ConditionId
    yes: Shares  # change of outcome 0, signed
    no: Shares  # change of outcome 1, signed
    notional: Usd  # dollars that changed hands, for the window's weight; 0 for sets
    yes_price: Price  # the price in terms of outcome 0; 0 where none applies
    venue_ns: int
    baseline: bool = False  # exposure moved with nothing to copy: held before, or redeemed


class IntentFormed(Message, frozen=True, kw_only=True, tag="intent_formed"):
    """A window closed with a net change of a leader's exposure that we mean to follow."""

    leader: Wallet
    condition: ConditionId
    before: Shares  # signed YES-equivalents
    after: Shares
    yes_price: Price  # volume-weighted, in terms of outcome 0
    notional: Usd
    fills: tuple[str, ...]  # the fills it stands on
    opened_ns: int  # time of the first fill at the venue
    venue_ns: int  # time of the last fill at the venue: the leader's fill age counts from here
    closed_by: ClosedBy


class WindowNetted(Message, frozen=True, kw_only=True, tag="window_netted"):
    """A window closed with nothing to follow: its fills net to dust, which stays accounted."""

    leader: Wallet
    condition: ConditionId
    before: Shares
    after: Shares
    fills: tuple[str, ...]


class LeaderDriftSuspected(Message, frozen=True, kw_only=True, tag="leader_drift_suspected"):
    """The venue shows a leader holding something else than his activity adds up to.

    His activity is read again at once; if the venue then still insists, it is believed.
    """

    leader: Wallet
    condition: ConditionId
    believed: tuple[Shares, Shares]  # by outcome
    observed: tuple[Shares, Shares]
    probable_cause: str  # conversion, resolution, transfer_or_lost_activity
    as_of_ns: int  # of the observation


class LeaderDriftCleared(Message, frozen=True, kw_only=True, tag="leader_drift_cleared"):
    """A suspected difference is gone: the positions lagged, or the activity came."""

    leader: Wallet
    condition: ConditionId


class LeaderCorrected(Message, frozen=True, kw_only=True, tag="leader_corrected"):
    """A leader's holding was set to what the venue insists on, with no activity to explain it."""

    leader: Wallet
    condition: ConditionId
    yes: Shares  # change of outcome 0, signed
    no: Shares  # change of outcome 1, signed
    probable_cause: str
    yes_price: Price  # what a reduction is judged at: the last price seen; 0 where none was


# --- risk -------------------------------------------------------------------------------------


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's word on one proposal, in the limit's own unit."""

    rule: str
    outcome: Literal["pass", "trim", "refuse"]
    reason: str = ""
    actual: int = 0
    limit: int = 0
    unit: str = ""
    size: Shares = Shares(0)  # what the rule allows


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """The book view a decision stood on, embedded so that replay needs no feed."""

    best_bid: Price | None
    best_ask: Price | None
    depth: Shares  # available within the limit price
    book_age_ns: int
    average: Price | None = None  # estimated average price for the size
    worst: Price | None = None
    filled: Shares = Shares(0)  # estimated fillable size
    levels: tuple[tuple[Price, Shares], ...] = ()  # of the side it takes, best first, bounded
    delay_move: Price = Price(0)  # in ``average``: what the venue's delay of takers may cost

    @property
    def mid(self) -> Price | None:
        """Return the middle of the best prices, rounded down, or None when a side is empty."""
        if self.best_bid is None or self.best_ask is None:
            return None
        return Price((self.best_bid + self.best_ask) // 2)


class TargetSet(Message, frozen=True, kw_only=True, tag="target_set"):
    """What we want to hold because of one leader in one market, in signed YES-equivalents."""

    leader: Wallet
    condition: ConditionId
    before: Shares
    target: Shares
    yes_price: Price  # the leader's price, the reference for "price moved"
    venue_ns: int
    expires_ns: int  # an entry not made by then is written off; a reduction never expires
    arithmetic: tuple[Verdict, ...] = ()  # how the change was sized, step by step
    # What it was sized on, where nothing is left to order: else the order's decision has it.
    market: Market | None = None
    quote: Quote | None = None  # of the outcome he bought


class TargetExpired(Message, frozen=True, kw_only=True, tag="target_expired"):
    """The part of an entry that could not be made in time is written off."""

    leader: Wallet
    condition: ConditionId
    target: Shares  # what it was
    held: Shares  # what it is now


OrderPolicy = Literal["fill_and_kill", "fill_or_kill", "post_only"]


class OrderApproved(Message, frozen=True, kw_only=True, tag="order_approved"):
    """An order the executor may send, at most at this price and size; ``id`` names it."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    side: Side
    size: Shares
    limit: Price
    leader_price: Price  # in terms of the traded token
    worst_usd: Usd  # the most it can cost (BUY) or 0 (SELL), fee included
    reduces: bool
    market: Market
    expires_ns: int
    quote: Quote
    verdicts: tuple[Verdict, ...] = ()
    # True: traded against what the account holds because of other leaders, so it is booked on the
    # other outcome; selling YES they hold is this leader's buying NO, and the two net to cash.
    nets: bool = False
    category: str = ""  # under whose cap it is counted
    leader_usd: Usd | None = None  # its worst for the leader's cap; None: worst_usd
    market_usd: Usd | None = None  # its worst for the caps of the account; None: worst_usd
    # How it trades. A post-only order rests on our side of the book, at the limit or better, until
    # it expires or the book has moved on by so many ticks.
    policy: OrderPolicy = "fill_and_kill"
    reprice_ticks: int = 0  # 0: it stays where it is
    next_ns: int = 0  # a slice of an exit: no more of it before then


class ApprovalWithdrawn(Message, frozen=True, kw_only=True, tag="approval_withdrawn"):
    """A resting order is not wanted any more: something else waits for it, or trading stopped."""

    approval: str
    condition: ConditionId
    token: TokenId
    reason: str  # target_changed, other_leader, reduce_only, halted


class OrderRefused(Message, frozen=True, kw_only=True, tag="order_refused"):
    """A step towards a target that risk does not allow, with the number that broke the limit."""

    leader: Wallet
    condition: ConditionId
    token: TokenId | None
    side: Side | None
    size: Shares
    reason: str
    actual: int
    limit: int
    unit: str
    final: bool  # True: written off; False: tried again until the target expires
    retry_ns: int  # not before then
    verdicts: tuple[Verdict, ...] = ()
    quote: Quote | None = None
    market: Market | None = None  # None where it was not known


class HoldingChanged(Message, frozen=True, kw_only=True, tag="holding_changed"):
    """Risk booked an execution (or its undoing, or a correction) to the leader who caused it."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    shares: Shares  # signed
    cost: Usd  # signed change of the cost basis
    realised: Usd  # profit this booked
    order: OrderHash | None
    approval: str
    crossed: Shares = Shares(0)  # signed change of complete sets leaders hold against each other
    notional: Usd = Usd(0)  # dollars that changed hands, fee apart


class LeadersNetted(Message, frozen=True, kw_only=True, tag="leaders_netted"):
    """One leader wanted more and another less of the same market: they traded with each other.

    No order was sent. Both sides get the mid of the book, so neither gains from the other.
    """

    condition: ConditionId
    more: Wallet  # whose exposure rose
    less: Wallet
    shares: Shares  # positive, YES-equivalents
    yes_price: Price


class ReservationEnded(Message, frozen=True, kw_only=True, tag="reservation_ended"):
    """An approved order reached its end: what it reserved is free again."""

    leader: Wallet
    condition: ConditionId
    token: TokenId
    approval: str
    filled: Shares
    reason: str
    retry_ns: int  # the target is not acted on before then
    slippage_bps: int | None = None  # worse than estimated by so much; None: nothing filled
    slippage: tuple[tuple[str, int], ...] = ()  # the averages with it in them, by leader and market


class EquityMarked(Message, frozen=True, kw_only=True, tag="equity_marked"):
    """What the account is worth, and what following leaders has made of it so far."""

    collateral: Usd
    value: Usd  # of what is held, at the best bids
    profit: Usd  # realised and not, since the ledger began; deposits do not move it
    peak: Usd  # the highest profit so far: drawdown counts from here
    day: int  # UTC days since the epoch
    day_profit: Usd  # profit when the day began


class ConfigChanged(Message, frozen=True, kw_only=True, tag="config_changed"):
    """Decisions follow other settings from here on: which, what they were, what they are."""

    changes: tuple[tuple[str, str, str], ...]  # key, before, after; "" where there was none
    hash: str  # of all settings now
    actor: str


class CommandRefused(Message, frozen=True, kw_only=True, tag="command_refused"):
    """A command that could not be obeyed, and why; ``cause`` is the command."""

    reason: str


class LeaderUnfollowed(Message, frozen=True, kw_only=True, tag="leader_unfollowed"):
    """A leader is not copied any more."""

    leader: Wallet
    keep: bool  # True: what is held because of him stays, untouched; False: it is sold
    actor: str


class LeaderFollowed(Message, frozen=True, kw_only=True, tag="leader_followed"):
    """A leader who was not copied for a while is copied again, from his next intent on."""

    leader: Wallet
    actor: str


class RegimeChanged(Message, frozen=True, kw_only=True, tag="regime_changed"):
    """Trading became normal, reduce-only or halted, by rule or by the operator."""

    before: Regime
    regime: Regime
    reason: str
    actor: str
    actual: int = 0  # what passed the limit, in the limit's unit; 0 for the operator
    limit: int = 0
    unit: str = ""
    entered: tuple[str, ...] = ()  # the rules that hold it now, by name
    ordered: Regime | None = None  # what the operator wants; None: ``regime``, if he changed it


# --- executor ---------------------------------------------------------------------------------


class OrderPrepared(Message, frozen=True, kw_only=True, tag="order_prepared"):
    """An order with the hash the venue will know it by; durable before it is sent."""

    order: OrderHash
    approval: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    side: Side
    price: Price  # limit
    size: Shares
    maker_amount: int
    taker_amount: int
    salt: int
    timestamp_ms: int
    metadata: str  # 0x and 64 hex digits: the approval's id, so the venue's copy names its cause
    market: Market
    leader_price: Price  # in terms of the traded token
    fee: Usd  # estimated
    expires_ns: int
    quote: Quote
    decision_mid: Price | None = None  # when risk approved it; None: a side was empty
    policy: OrderPolicy = "fill_and_kill"
    expiration_s: int = 0  # when the venue removes it by itself, unix seconds; 0: it does not rest
    reprice_ticks: int = 0


class OrderDeclined(Message, frozen=True, kw_only=True, tag="order_declined"):
    """The executor gave an approval back unsent, with the number that stood against it."""

    approval: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    reason: str
    actual: int
    limit: int
    unit: str


class OrderAccepted(Message, frozen=True, kw_only=True, tag="order_accepted"):
    """The venue took the order; what filled is told by fills alone."""

    order: OrderHash
    approval: str
    status: str
    latency_ns: int  # POST to answer


class OrderRejected(Message, frozen=True, kw_only=True, tag="order_rejected"):
    """The venue refused the order, definitely."""

    order: OrderHash
    approval: str
    reason: str
    detail: str = ""


class OrderOutcomeUnknown(Message, frozen=True, kw_only=True, tag="order_outcome_unknown"):
    """The answer was lost: the order may rest or may have filled; the venue is asked for it."""

    order: OrderHash
    approval: str
    reason: str
    retry_ns: int = 0  # the same order is not sent again before this


class OrderResent(Message, frozen=True, kw_only=True, tag="order_resent"):
    """The identical signed order goes out again: of unknown outcome, in time, not at the venue."""

    order: OrderHash
    approval: str
    resend: int  # the first is 1
    expires_ns: int


class CancelRequested(Message, frozen=True, kw_only=True, tag="cancel_requested"):
    """The venue is asked, again and again, to cancel a resting order; until it ends it may fill."""

    order: OrderHash
    approval: str
    token: TokenId
    reason: str  # rest_over, repriced, withdrawn
    filled: Shares
    near: Price | None = None  # the best price on its side of the book, where that is the reason


class OrderFound(Message, frozen=True, kw_only=True, tag="order_found"):
    """A look-up by hash showed the order at the venue, in a state not known before."""

    order: OrderHash
    approval: str
    status: str  # live, delayed, matched
    matched: Shares


class OrderSurrendered(Message, frozen=True, kw_only=True, tag="order_surrendered"):
    """Patience is over: the operator is to look; the order counts whole and is asked for still."""

    order: OrderHash
    approval: str
    token: TokenId
    state: str  # what is proved of it
    filled: Shares
    waited_ns: int  # since it was prepared
    posts: int  # sendings of the same bytes by this process
    looks: int  # how often the venue was asked for the hash, since this process started
    missing: int  # of these, how often it knew neither the order nor a trade of it
    unreadable: int  # of these, how often no answer came
    last: str  # the venue's last answer


class OrderFilled(Message, frozen=True, kw_only=True, tag="order_filled"):
    """One execution of our order; its identity is (trade, order)."""

    order: OrderHash
    approval: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    trade: str
    side: Side
    price: Price
    size: Shares
    fee: Usd  # by the market's schedule, rounded against us
    settlement: Settlement
    venue_ns: int


class FillSettled(Message, frozen=True, kw_only=True, tag="fill_settled"):
    """An execution moved on in settlement; FAILED takes it back."""

    order: OrderHash
    approval: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    trade: str
    side: Side
    price: Price
    size: Shares
    fee: Usd
    settlement: Settlement


class OrderClosed(Message, frozen=True, kw_only=True, tag="order_closed"):
    """Nothing more can come of the order: its fills are complete."""

    order: OrderHash
    approval: str
    token: TokenId
    filled: Shares
    reason: str  # filled, killed, rejected, never_placed, abandoned


class ShortfallMeasured(Message, frozen=True, kw_only=True, tag="shortfall_measured"):
    """What an order cost against the leader's price, in parts; positive is worse for us.

    waiting + latency + execution + fee = total. One more for the same order, after a fill that was
    told late or taken back, replaces the one before.
    """

    order: OrderHash
    approval: str
    leader: Wallet
    condition: ConditionId
    token: TokenId
    side: Side
    size: Shares  # filled
    paid: Usd  # or received, fee apart
    leader_price: Price  # in terms of the traded token
    decision_mid: Price | None  # None: a side was empty; its part is in the next
    arrival_mid: Price | None
    waiting: Usd  # from the leader's price to the mid when risk decided
    latency: Usd  # from there to the mid when the order went out
    execution: Usd  # from there to what was paid
    fee: Usd
    total: Usd
    expected_execution: Usd | None = None  # by the walk of the book, the venue's delay included


class PositionCorrected(Message, frozen=True, kw_only=True, tag="position_corrected"):
    """The owner applied a correction: belief moved to what the venue says."""

    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    shares: Shares  # signed change
    reason: str
    claim: Shares = Shares(0)  # signed change of what a resolved market still owes us for


class PositionClosed(Message, frozen=True, kw_only=True, tag="position_closed"):
    """Our shares of a market that is over became a claim on what they pay; profit is realised."""

    condition: ConditionId
    tokens: tuple[TokenId, TokenId]  # empty where none of an outcome was ever held
    payouts: tuple[Price, Price]
    shares: tuple[Shares, Shares]  # by outcome, what became a claim
    cost: Usd  # what they had cost
    realised: Usd  # what they pay less what they had cost


class CashCorrected(Message, frozen=True, kw_only=True, tag="cash_corrected"):
    """What we believe to have in cash moved to what the venue says."""

    usd: Usd  # signed change
    reason: str  # opening: of the first reading


class RedemptionSent(Message, frozen=True, kw_only=True, tag="redemption_sent"):
    """What a market that is over pays is about to be asked for; durable before it is.

    Asked twice it is paid once: the chain takes the shares as it pays.
    """

    condition: ConditionId
    attempt: int  # 1 for the first
    usd: Usd  # what our claim there pays


class RedemptionEnded(Message, frozen=True, kw_only=True, tag="redemption_ended"):
    """How asking for it ended; that the claim is gone, the reconciler sees for itself."""

    condition: ConditionId
    attempt: int
    outcome: Literal["confirmed", "failed", "unknown"]
    tx: str  # "": none is known
    detail: str
    retry_ns: int  # not asked again before this, and then only where the claim still stands


# --- reconciler -------------------------------------------------------------------------------


class DriftSuspected(Message, frozen=True, kw_only=True, tag="drift_suspected"):
    """Belief and venue disagree for the first time; one observation proves nothing."""

    token: TokenId
    believed: Shares
    observed: Shares


class DriftFound(Message, frozen=True, kw_only=True, tag="drift_found"):
    """Belief and venue disagree, twice in a row and beyond dust; the owner corrects."""

    condition: ConditionId
    token: TokenId
    outcome: Literal[0, 1]
    believed: Shares
    observed: Shares
    usd: Usd  # dollars at stake at the venue's current price
    probable_cause: str
    first_seen_ns: int
    evidence: str = ""  # what the cause was told by
    happened_ns: int = 0  # venue time of what caused it; 0: not known


class HoldingResolved(Message, frozen=True, kw_only=True, tag="holding_resolved"):
    """A market in which something is booked to us is over; the owner closes what it believes."""

    condition: ConditionId
    payouts: tuple[Price, Price]  # dollars a share, by outcome: 1 and 0, or 0.5 each
    believed: tuple[Shares, Shares]  # by outcome, claims not counted


class DriftCleared(Message, frozen=True, kw_only=True, tag="drift_cleared"):
    """A suspected or found drift is gone."""

    token: TokenId
    found: bool  # False: it was only suspected, and data lag explains it
    duration_ms: int


class OrphanFound(Message, frozen=True, kw_only=True, tag="orphan_found"):
    """The venue has an open order of ours that no approval on record explains; it is cancelled."""

    order: OrderHash
    condition: ConditionId
    token: TokenId


# --- operator ---------------------------------------------------------------------------------


class HaltTrading(Message, frozen=True, kw_only=True, tag="halt_trading"):
    """Send no order at all, not even to reduce."""

    reason: str
    actor: str


class ReduceOnly(Message, frozen=True, kw_only=True, tag="reduce_only"):
    """Take no new risk; reducing stays allowed."""

    reason: str
    actor: str


class ResumeTrading(Message, frozen=True, kw_only=True, tag="resume_trading"):
    reason: str
    actor: str


class UnfollowLeader(Message, frozen=True, kw_only=True, tag="unfollow_leader"):
    leader: Wallet
    keep: bool  # True: keep what is held because of him; False: sell it
    reason: str
    actor: str


class FollowLeader(Message, frozen=True, kw_only=True, tag="follow_leader"):
    leader: Wallet
    reason: str
    actor: str


class EndOrder(Message, frozen=True, kw_only=True, tag="end_order"):
    """Count a surrendered order no longer: somebody looked at the venue."""

    order: OrderHash
    reason: str
    actor: str


class ReloadConfig(Message, frozen=True, kw_only=True, tag="reload_config"):
    """Decide by these settings from now on; they travel whole, so all services get the same."""

    config: str  # shared.runtime.config.encode: canonical JSON, no secret in it
    reason: str
    actor: str


# --- inputs that never travel -----------------------------------------------------------------


class Tick(msgspec.Struct, frozen=True):
    """Time arrives as a message: windows, timeouts and staleness are ordinary decisions."""

    now_ns: int


Fact = (
    LeaderFilled
    | LeaderActed
    | LeaderBaselineRead
    | ActivityRead
    | FeedChanged
    | MarketResolved
    | FillCounted
    | IntentFormed
    | WindowNetted
    | LeaderDriftSuspected
    | LeaderDriftCleared
    | LeaderCorrected
    | TargetSet
    | TargetExpired
    | OrderApproved
    | ApprovalWithdrawn
    | OrderRefused
    | HoldingChanged
    | LeadersNetted
    | ReservationEnded
    | RegimeChanged
    | EquityMarked
    | ConfigChanged
    | CommandRefused
    | LeaderUnfollowed
    | LeaderFollowed
    | OrderPrepared
    | OrderDeclined
    | OrderAccepted
    | OrderRejected
    | OrderOutcomeUnknown
    | OrderResent
    | OrderFound
    | OrderSurrendered
    | OrderFilled
    | FillSettled
    | OrderClosed
    | CancelRequested
    | ShortfallMeasured
    | PositionCorrected
    | PositionClosed
    | CashCorrected
    | RedemptionSent
    | RedemptionEnded
    | DriftSuspected
    | DriftFound
    | HoldingResolved
    | DriftCleared
    | OrphanFound
    | HaltTrading
    | ReduceOnly
    | ResumeTrading
    | UnfollowLeader
    | EndOrder
    | FollowLeader
    | ReloadConfig
)


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane's state was after one of its messages, so that history can be checked."""

    said: int  # sequence of the lane's last message that was in the state
    shape: str  # of the state's type: another version's state has other bytes
    hash: str  # of the state's canonical bytes


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ledger message: the facts that one lane decided together, durable together.

    ``through`` is the sequence of the last ledger message whose consequences these facts (and
    all earlier ones of the lane) complete: recovery continues after it and never decides again.
    """

    epoch: int  # of the lease under which it was written
    through: int
    facts: tuple[Fact, ...]
    digest: Digest | None = None  # of the state before these facts; now and then


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[Batch] = msgspec.json.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    return _encoder.encode(batch)


def decode_batch(data: bytes) -> Batch:
    """Return the batch, or raise msgspec.DecodeError (ValidationError names the path)."""
    return _decoder.decode(data)


def batch_id(facts: tuple[Fact, ...]) -> str:
    """Return the content id of a ledger message: its only fact's, or a hash of all of theirs."""
    if len(facts) == 1:
        return facts[0].id
    return content_id("batch", *(fact.id for fact in facts))


def kind_of(fact: Fact) -> str:
    """Return the fact's tag, as it stands in the ledger's subjects."""
    tag = fact.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
