"""One of every fact: the story of ``ctl_facts``, and beside it every other kind once."""

from typing import Any

from shared.domain import messages as m
from shared.domain.units import Price, Shares, Usd
from tests.unit.ctl.ctl_facts import (
    CONDITION,
    LEADER,
    NO,
    ORDER,
    OTHER,
    START_NS,
    TX,
    YES,
    Chain,
    copied,
    correction,
    fill,
    holding,
    settled,
)


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
    _doubts(chain)
    _commands(chain)
    return chain


def _around(chain: Chain) -> None:
    where: Any = {"leader": LEADER, "condition": CONDITION}
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
    named: Any = {"order": order.order, "approval": because.id}
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
    chain.say(
        m.ApprovalWithdrawn, 6_210, because,
        approval=because.id, condition=CONDITION, token=YES, reason="target_changed",
    )  # fmt: skip
    chain.say(
        m.CancelRequested, 6_220, order,
        **named, token=YES, reason="repriced", filled=Shares(5_000_000), near=Price(510_000),
    )  # fmt: skip
    lost = chain.say(m.OrderOutcomeUnknown, 6_300, order, **named, reason="timeout")
    chain.say(m.OrderResent, 6_400, lost, **named, resend=1, expires_ns=order.expires_ns)
    chain.say(m.OrderFound, 6_500, order, **named, status="live", matched=Shares(0))
    chain.say(
        m.OrderSurrendered, 6_600, order, **named, token=YES, state="unknown", filled=Shares(0),
        waited_ns=605_000_000_000, posts=2, looks=301, missing=3, unreadable=298, last="time-out",
    )  # fmt: skip


def _drift(chain: Chain) -> None:
    sides: Any = {"token": YES, "believed": Shares(20_000_000), "observed": Shares(0)}
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
    chain.say(m.CashCorrected, 11_600, usd=Usd(-40_000_000), reason="withdrawal")
    payouts = (Price(1_000_000), Price(0))
    ended = chain.say(
        m.HoldingResolved, 11_700,
        condition=CONDITION, payouts=payouts, believed=(Shares(20_000_000), Shares(0)),
    )  # fmt: skip
    closed = chain.say(
        m.PositionClosed, 11_710, ended,
        condition=CONDITION, tokens=(YES, NO), payouts=payouts,
        shares=(Shares(20_000_000), Shares(0)), cost=Usd(10_000_000), realised=Usd(10_000_000),
    )  # fmt: skip
    redemption(chain, closed, 11_800)


def redemption(chain: Chain, closed: m.Fact, at_ms: int) -> None:
    """Say that it failed once, and was confirmed the second time."""
    for attempt, outcome, tx in ((1, "failed", ""), (2, "confirmed", "0x" + "5e" * 32)):
        sent = chain.say(
            m.RedemptionSent, at_ms + attempt, closed,
            condition=CONDITION, attempt=attempt, usd=Usd(20_000_000),
        )  # fmt: skip
        ended: Any = {"attempt": attempt, "outcome": outcome, "tx": tx}
        chain.say(
            m.RedemptionEnded, at_ms + 10 * attempt, sent, **ended,
            condition=CONDITION, detail="" if tx else "wallet busy", retry_ns=sent.ts_ns,
        )  # fmt: skip


def _doubts(chain: Chain) -> None:
    where: Any = {"leader": LEADER, "condition": CONDITION}
    sides = (Shares(100_000_000), Shares(0))
    doubted = chain.say(
        m.LeaderDriftSuspected, 14_000, **where,
        believed=sides, observed=(Shares(90_000_000), Shares(0)), probable_cause="conversion",
        as_of_ns=START_NS,
    )  # fmt: skip
    chain.say(
        m.LeaderCorrected, 14_100, doubted, **where,
        yes=Shares(-10_000_000), no=Shares(0), probable_cause="conversion",
        yes_price=Price(500_000),
    )  # fmt: skip
    chain.say(m.LeaderDriftCleared, 14_200, doubted, **where)
    netted = chain.say(
        m.LeadersNetted, 14_300,
        condition=CONDITION, more=OTHER, less=LEADER, shares=Shares(5_000_000),
        yes_price=Price(500_000),
    )  # fmt: skip
    holding(chain, netted, 14_310, shares=-5_000_000, order=None)
    chain.say(
        m.EquityMarked, 14_400,
        collateral=Usd(9_990_000_000), value=Usd(9_200_000), profit=Usd(-800_000),
        peak=Usd(1_200_000), day=20_775, day_profit=Usd(200_000),
    )  # fmt: skip
    chain.say(
        m.MarketResolved, 14_500, condition=CONDITION, payouts=(Price(1_000_000), Price(0))
    )  # fmt: skip


def _commands(chain: Chain) -> None:
    by: Any = {"reason": "by hand", "actor": "ctl"}
    reduce = chain.say(m.ReduceOnly, 15_000, **by)
    chain.say(
        m.RegimeChanged, 15_010, reduce,
        before="normal", regime="reduce_only", reason="operator: by hand", actor="ctl",
    )  # fmt: skip
    chain.say(m.EndOrder, 15_050, order=ORDER, **by)
    stop = chain.say(m.UnfollowLeader, 15_100, leader=LEADER, keep=False, **by)
    chain.say(m.LeaderUnfollowed, 15_110, stop, leader=LEADER, keep=False, actor="ctl")
    again = chain.say(m.FollowLeader, 15_200, leader=LEADER, **by)
    chain.say(m.LeaderFollowed, 15_210, again, leader=LEADER, actor="ctl")
    again = chain.say(m.FollowLeader, 15_300, leader=LEADER, **by)
    chain.say(m.CommandRefused, 15_310, again, reason=f"{LEADER} is followed already")
    reload = chain.say(m.ReloadConfig, 15_400, config="{}", **by)
    chain.say(
        m.ConfigChanged, 15_410, reload,
        changes=(("risk.trade_usd_max", "50", "25"),), hash="5e77" * 8, actor="ctl",
    )  # fmt: skip
