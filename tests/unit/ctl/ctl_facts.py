"""Facts as the services would say them, and the story of two fills that became one order."""

from typing import Any, TypeVar

from shared.domain import messages as m
from shared.domain.ids import ConditionId, OrderHash, TokenId, TxHash, Wallet, content_id
from shared.domain.market import Market
from shared.domain.units import Price, Shares, Usd
from shared.runtime.memory import MemoryLedger
from shared.runtime.ports import Lane

F = TypeVar("F", bound=m.Message)

START_NS = 1_795_000_000 * 10**9
MS = 10**6
LEADER = Wallet("0x" + "1e" * 20)
OTHER = Wallet("0x" + "2f" * 20)
CONDITION = ConditionId("0x" + "c0" * 32)
YES, NO = TokenId("1234567890123"), TokenId("9876543210987")
ORDER = OrderHash("0x" + "ab12cd34" * 8)
TX = TxHash("0x" + "7a" * 32)
TRADE = "d994650a-f2ac-d623-a503-c9a10525a459"
MARKET = Market(
    condition=CONDITION,
    tokens=(YES, NO),
    outcomes=("Rain", "Dry"),
    tick=Price(10_000),
    size_min=Shares(5_000_000),
    slug="will-it-rain",
)
QUOTE = m.Quote(
    best_bid=Price(490_000),
    best_ask=Price(510_000),
    depth=Shares(400_000_000),
    book_age_ns=120 * MS,
    average=Price(512_500),
    worst=Price(520_000),
    filled=Shares(20_000_000),
    levels=((Price(510_000), Shares(15_000_000)), (Price(520_000), Shares(385_000_000))),
)
STEPS = (  # $12.50 an intent, a fifth less because the market moves
    m.Verdict(rule="fixed", outcome="trim", actual=500_000, limit=12_500_000, unit="usd",
              size=Shares(25_000_000)),
    m.Verdict(rule="leader_added", outcome="pass", actual=25_000_000, limit=100_000_000,
              unit="shares", size=Shares(25_000_000)),
    m.Verdict(rule="trade_cap", outcome="pass", actual=12_500_000, limit=50_000_000, unit="usd",
              size=Shares(25_000_000)),
    m.Verdict(rule="volatility", outcome="trim", actual=25_000, limit=20_000, unit="volatility",
              size=Shares(20_000_000)),
    m.Verdict(rule="slippage", outcome="pass", actual=-12, limit=100, unit="bps",
              size=Shares(20_000_000)),
    m.Verdict(rule="depth_share", outcome="pass", actual=400_000_000, limit=200_000_000,
              unit="shares", size=Shares(20_000_000)),
)  # fmt: skip
OWNERS: dict[type[Any], str] = {
    m.LeaderFilled: "ingester", m.LeaderActed: "ingester", m.LeaderBaselineRead: "ingester",
    m.ActivityRead: "ingester", m.FeedChanged: "ingester", m.MarketResolved: "ingester",
    m.FillCounted: "aggregator", m.IntentFormed: "aggregator", m.WindowNetted: "aggregator",
    m.LeaderDriftSuspected: "aggregator", m.LeaderDriftCleared: "aggregator",
    m.LeaderCorrected: "aggregator", m.TargetSet: "risk", m.TargetExpired: "risk",
    m.OrderApproved: "risk", m.OrderRefused: "risk", m.HoldingChanged: "risk",
    m.LeadersNetted: "risk", m.ReservationEnded: "risk", m.RegimeChanged: "risk",
    m.EquityMarked: "risk", m.ConfigChanged: "risk", m.CommandRefused: "risk",
    m.LeaderUnfollowed: "risk", m.LeaderFollowed: "risk",
    m.OrderPrepared: "executor", m.OrderDeclined: "executor", m.OrderAccepted: "executor",
    m.OrderRejected: "executor", m.OrderOutcomeUnknown: "executor", m.OrderFilled: "executor",
    m.OrderResent: "executor", m.OrderFound: "executor", m.OrderSurrendered: "executor",
    m.FillSettled: "executor", m.OrderClosed: "executor", m.CancelRequested: "executor",
    m.ApprovalWithdrawn: "risk", m.ShortfallMeasured: "executor",
    m.PositionCorrected: "executor",
    m.DriftSuspected: "reconciler", m.DriftFound: "reconciler", m.DriftCleared: "reconciler",
    m.OrphanFound: "reconciler", m.HoldingResolved: "reconciler",
    m.PositionClosed: "executor", m.CashCorrected: "executor",
    m.RedemptionSent: "executor", m.RedemptionEnded: "executor",
    m.HaltTrading: "ctl", m.ReduceOnly: "ctl", m.ResumeTrading: "ctl",
    m.UnfollowLeader: "ctl", m.EndOrder: "ctl", m.FollowLeader: "ctl", m.ReloadConfig: "ctl",
}  # fmt: skip


class Chain:
    """Facts in the order they are said, each of them caused by one before."""

    def __init__(self) -> None:
        self.facts: list[m.Fact] = []

    def say(self, kind: type[F], at_ms: int, cause: m.Message | None = None, **fields: Any) -> F:
        """Add a fact; its root is its cause's."""
        id_ = content_id(kind.__name__, len(self.facts))
        fact = kind(
            id=id_,
            cause=cause.id if cause else "",
            root=cause.root if cause else id_,
            ts_ns=START_NS + at_ms * MS,
            **fields,
        )
        self.facts.append(fact)  # type: ignore[arg-type]
        return fact

    async def ledger(self) -> MemoryLedger:
        """Return a ledger that holds each fact as a message of its owner's."""
        ledger = MemoryLedger()
        said: dict[str, int] = {}
        for fact in self.facts:
            owner = OWNERS[type(fact)]
            batch = m.Batch(epoch=1, through=0, facts=(fact,))
            said[owner] = await ledger.append(
                Lane(owner, 0), batch, key="facts", after=said.get(owner, 0)
            )
        return ledger


def fill(chain: Chain, at_ms: int, *, size: int = 60_000_000) -> m.LeaderFilled:
    return chain.say(
        m.LeaderFilled,
        at_ms,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        outcome=0,
        side="BUY",
        price=Price(500_000),
        size=Shares(size),
        tx=TX,
        row=f"row {at_ms}",
        ordinal=0,
        seen_ns=START_NS + (at_ms + 400) * MS,
        source="stream",
    )


def count(chain: Chain, activity: m.LeaderFilled, at_ms: int) -> m.FillCounted:
    return chain.say(
        m.FillCounted,
        at_ms,
        activity,
        leader=LEADER,
        condition=CONDITION,
        yes=activity.size,
        no=Shares(0),
        notional=Usd(30_000_000),
        yes_price=Price(500_000),
        venue_ns=activity.ts_ns,
    )


def intent(chain: Chain, fills: list[m.LeaderFilled], at_ms: int) -> m.IntentFormed:
    return chain.say(
        m.IntentFormed,
        at_ms,
        fills[0],
        leader=LEADER,
        condition=CONDITION,
        before=Shares(0),
        after=Shares(sum(each.size for each in fills)),
        yes_price=Price(500_000),
        notional=Usd(50_000_000),
        fills=tuple(each.id for each in fills),
        opened_ns=fills[0].ts_ns,
        venue_ns=fills[-1].ts_ns,
        closed_by="quiet",
    )


def target(
    chain: Chain,
    because: m.IntentFormed,
    at_ms: int,
    *,
    arithmetic: tuple[m.Verdict, ...] = STEPS,
) -> m.TargetSet:
    return chain.say(
        m.TargetSet,
        at_ms,
        because,
        leader=LEADER,
        condition=CONDITION,
        before=Shares(0),
        target=Shares(20_000_000),
        yes_price=Price(500_000),
        venue_ns=because.venue_ns,
        expires_ns=because.ts_ns + 30_000 * MS,
        arithmetic=arithmetic,
    )


def refusal(
    chain: Chain, because: m.TargetSet, at_ms: int, *, final: bool = False
) -> m.OrderRefused:
    verdict = m.Verdict(
        rule="book_age", outcome="refuse", reason="BOOK_STALE", actual=9_000 * MS,
        limit=5_000 * MS, unit="ns",
    )  # fmt: skip
    return chain.say(
        m.OrderRefused,
        at_ms,
        because,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        side="BUY",
        size=Shares(20_000_000),
        reason="BOOK_STALE",
        actual=verdict.actual,
        limit=verdict.limit,
        unit="ns",
        final=final,
        retry_ns=because.ts_ns + 1_000 * MS,
        verdicts=(verdict,),
        quote=QUOTE,
    )


def approval(chain: Chain, because: m.TargetSet, at_ms: int) -> m.OrderApproved:
    trade = m.Verdict(
        rule="trade", outcome="trim", reason="TRADE_CAP", actual=60_000_000, limit=50_000_000,
        unit="usd", size=Shares(20_000_000),
    )  # fmt: skip
    moved = m.Verdict(
        rule="price_moved", outcome="pass", actual=200, limit=500, unit="bps",
        size=Shares(24_000_000),
    )  # fmt: skip
    return chain.say(
        m.OrderApproved,
        at_ms,
        because,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        side="BUY",
        size=Shares(20_000_000),
        limit=Price(520_000),
        leader_price=Price(500_000),
        worst_usd=Usd(10_800_000),
        reduces=False,
        market=MARKET,
        expires_ns=because.ts_ns + 5_000 * MS,
        quote=QUOTE,
        verdicts=(moved, trade),
    )


def prepared(
    chain: Chain, because: m.OrderApproved, at_ms: int, order: OrderHash = ORDER
) -> m.OrderPrepared:
    return chain.say(
        m.OrderPrepared,
        at_ms,
        because,
        order=order,
        approval=because.id,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        outcome=0,
        side="BUY",
        price=Price(520_000),
        size=Shares(20_000_000),
        maker_amount=10_400_000,
        taker_amount=20_000_000,
        salt=1,
        timestamp_ms=1,
        metadata="0x" + "0" * 64,
        market=MARKET,
        leader_price=Price(500_000),
        fee=Usd(350_000),
        expires_ns=because.expires_ns,
        quote=QUOTE,
    )


def filled(
    chain: Chain,
    order: m.OrderPrepared,
    at_ms: int,
    *,
    price: int = 515_000,
    size: int = 20_000_000,
) -> m.OrderFilled:
    return chain.say(
        m.OrderFilled,
        at_ms,
        order,
        order=order.order,
        approval=order.approval,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        outcome=0,
        trade=TRADE,
        side="BUY",
        price=Price(price),
        size=Shares(size),
        fee=Usd(350_000),
        settlement="MATCHED",
        venue_ns=START_NS + at_ms * MS,
    )


def settled(chain: Chain, done: m.OrderFilled, at_ms: int, settlement: str) -> m.FillSettled:
    return chain.say(
        m.FillSettled,
        at_ms,
        done,
        order=done.order,
        approval=done.approval,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        outcome=0,
        trade=done.trade,
        side="BUY",
        price=done.price,
        size=done.size,
        fee=done.fee,
        settlement=settlement,
    )


def holding(
    chain: Chain, because: m.Message, at_ms: int, *, shares: int, order: OrderHash | None = ORDER
) -> m.HoldingChanged:
    return chain.say(
        m.HoldingChanged,
        at_ms,
        because,
        leader=LEADER,
        condition=CONDITION,
        token=YES,
        outcome=0,
        shares=Shares(shares),
        cost=Usd(10_650_000),
        realised=Usd(250_000),
        order=order,
        approval="",
    )


def correction(chain: Chain, because: m.Message, at_ms: int) -> m.PositionCorrected:
    return chain.say(
        m.PositionCorrected,
        at_ms,
        because,
        condition=CONDITION,
        token=YES,
        outcome=0,
        shares=Shares(-20_000_000),
        reason="sold_outside",
    )


def copied() -> Chain:
    """Return two fills of a leader that became one order of ours, refused once and then filled."""
    chain = Chain()
    fills = [fill(chain, 0), fill(chain, 300, size=40_000_000)]
    for each in fills:
        count(chain, each, 700)
    meant = intent(chain, fills, 1_200)
    wanted = target(chain, meant, 1_210)
    refusal(chain, wanted, 1_210)
    allowed = approval(chain, wanted, 2_300)
    order = prepared(chain, allowed, 2_310)
    chain.say(
        m.OrderAccepted, 2_360, order,
        order=ORDER, approval=allowed.id, status="matched", latency_ns=48 * MS,
    )  # fmt: skip
    done = filled(chain, order, 2_370)
    holding(chain, done, 2_380, shares=20_000_000)
    settled(chain, done, 4_400, "MINED")
    closed = chain.say(
        m.OrderClosed, 4_500, done,
        order=ORDER, approval=allowed.id, token=YES, filled=Shares(20_000_000), reason="filled",
    )  # fmt: skip
    chain.say(
        m.ShortfallMeasured, 4_505, closed,
        order=ORDER, approval=allowed.id, leader=LEADER, condition=CONDITION, token=YES,
        side="BUY", size=Shares(20_000_000), paid=Usd(10_200_000), leader_price=Price(500_000),
        decision_mid=Price(495_000), arrival_mid=Price(505_000), waiting=Usd(-100_000),
        latency=Usd(200_000), execution=Usd(100_000), fee=Usd(40_000), total=Usd(240_000),
        expected_execution=Usd(90_000),
    )  # fmt: skip
    chain.say(
        m.ReservationEnded, 4_510, closed,
        leader=LEADER, condition=CONDITION, token=YES, approval=allowed.id,
        filled=Shares(20_000_000), reason="filled", retry_ns=0,
    )  # fmt: skip
    return chain
