"""One of every fact, as the services would say them, in one story and beside it."""

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
)
OWNERS: dict[type[Any], str] = {
    m.LeaderFilled: "ingester", m.LeaderActed: "ingester", m.LeaderBaselineRead: "ingester",
    m.ActivityRead: "ingester", m.FeedChanged: "ingester", m.FillCounted: "aggregator",
    m.IntentFormed: "aggregator", m.WindowNetted: "aggregator", m.TargetSet: "risk",
    m.TargetExpired: "risk", m.OrderApproved: "risk", m.OrderRefused: "risk",
    m.HoldingChanged: "risk", m.ReservationEnded: "risk", m.RegimeChanged: "risk",
    m.OrderPrepared: "executor", m.OrderDeclined: "executor", m.OrderAccepted: "executor",
    m.OrderRejected: "executor", m.OrderOutcomeUnknown: "executor", m.OrderFilled: "executor",
    m.FillSettled: "executor", m.OrderClosed: "executor", m.PositionCorrected: "executor",
    m.DriftSuspected: "reconciler", m.DriftFound: "reconciler", m.DriftCleared: "reconciler",
    m.OrphanFound: "reconciler", m.HaltTrading: "ctl", m.ResumeTrading: "ctl",
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


def target(chain: Chain, because: m.IntentFormed, at_ms: int) -> m.TargetSet:
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
        m.ReservationEnded, 4_510, closed,
        leader=LEADER, condition=CONDITION, token=YES, approval=allowed.id,
        filled=Shares(20_000_000), reason="filled", retry_ns=0,
    )  # fmt: skip
    return chain


def everything() -> Chain:
    """Return the story, and beside it every other kind of fact once."""
    chain = copied()
    because = next(f for f in chain.facts if isinstance(f, m.OrderApproved))
    order = next(f for f in chain.facts if isinstance(f, m.OrderPrepared))
    done = next(f for f in chain.facts if isinstance(f, m.OrderFilled))
    _around(chain)
    _troubles(chain, because, order)
    taken = settled(chain, done, 9_000, "FAILED")
    holding(chain, taken, 9_010, shares=-20_000_000)
    _drift(chain)
    asked = chain.say(m.HaltTrading, 12_000, reason="storm", actor="ctl")
    chain.say(
        m.RegimeChanged, 12_010, asked,
        before="normal", regime="halted", reason="operator: storm", actor="ctl",
    )  # fmt: skip
    chain.say(m.ResumeTrading, 13_000, reason="over", actor="ctl")
    return chain


def _around(chain: Chain) -> None:
    where = {"leader": LEADER, "condition": CONDITION}
    chain.say(
        m.LeaderActed, 5_000, **where,
        action="MERGE", size=Shares(1_000_000), tx=TX, row="set", ordinal=0, seen_ns=START_NS,
    )  # fmt: skip
    chain.say(
        m.LeaderBaselineRead, 5_100,
        leader=LEADER, holdings=(), rows=(), through_s=1, kept_s=1,
    )  # fmt: skip
    chain.say(m.ActivityRead, 5_200, leader=LEADER, through_s=2, kept_s=1)
    chain.say(m.FeedChanged, 5_300, feed="activity", state="silent", duration_ms=15_000)
    lone = fill(chain, 5_400)
    chain.say(
        m.WindowNetted, 5_500, lone, **where,
        before=Shares(0), after=Shares(0), fills=(lone.id,),
    )  # fmt: skip


def _troubles(chain: Chain, because: m.OrderApproved, order: m.OrderPrepared) -> None:
    named = {"order": order.order, "approval": because.id}
    chain.say(
        m.TargetExpired, 6_000, because,
        leader=LEADER, condition=CONDITION, target=Shares(20_000_000), held=Shares(0),
    )  # fmt: skip
    chain.say(
        m.OrderDeclined, 6_100, because,
        approval=because.id, leader=LEADER, condition=CONDITION, token=YES,
        reason="NO_DEPTH", actual=530_000, limit=520_000, unit="price",
    )  # fmt: skip
    chain.say(m.OrderRejected, 6_200, order, **named, reason="killed", detail="no match")
    chain.say(m.OrderOutcomeUnknown, 6_300, order, **named, reason="timeout")


def _drift(chain: Chain) -> None:
    sides = {"token": YES, "believed": Shares(20_000_000), "observed": Shares(0)}
    first = chain.say(m.DriftSuspected, 10_000, **sides)
    found = chain.say(
        m.DriftFound, 10_500, first, **sides,
        condition=CONDITION, outcome=0, usd=Usd(10_000_000), probable_cause="sold_outside",
        first_seen_ns=first.ts_ns,
    )  # fmt: skip
    corrected = correction(chain, found, 10_600)
    holding(chain, corrected, 10_610, shares=-20_000_000, order=None)
    chain.say(m.DriftCleared, 11_000, first, token=YES, found=True, duration_ms=1_000)
    chain.say(m.OrphanFound, 11_500, order=ORDER, condition=CONDITION, token=YES)
