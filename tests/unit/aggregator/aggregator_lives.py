"""Whole lives of leaders, made at random: what they do, and what the aggregator says of it."""

from typing import Literal

import msgspec
from hypothesis import strategies as st

from services.aggregator import core
from services.aggregator.core import Look, Policies, Policy, State
from services.aggregator.state import NOWHERE, Track
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import Fact, IntentFormed, MarketResolved, Tick, WindowNetted
from shared.domain.units import DUST, MICRO, NS_PER_S, Bps, Price, Shares, Usd
from shared.domain.views import LeaderView
from shared.runtime.runner import encode_state
from tests.support.builders import (
    CONDITION,
    LEADER,
    OTHER_CONDITION,
    OTHER_LEADER,
    T0_NS,
    a_baseline,
    a_fill,
    an_act,
)

PATIENT = Policy(
    quiet_ns=NS_PER_S,
    age_ns_max=60 * NS_PER_S,
    flush_usd=Usd(10**18),
    flush_on_reduction=True,
    dust=DUST,
)
HASTY = Policy(
    quiet_ns=NS_PER_S // 2,
    age_ns_max=2 * NS_PER_S,
    flush_usd=Usd(5 * MICRO),
    flush_on_reduction=False,
    dust=Shares(3 * DUST),
)
POLICIES = Policies(default=PATIENT, leaders={OTHER_LEADER: HASTY})
AMPLE = Shares(10**12)  # held before, so that no sale is of history unseen
DEAF = Policies(  # to what is small beside its turnover
    default=msgspec.structs.replace(PATIENT, net_share=Bps(3_000)),
    leaders={OTHER_LEADER: msgspec.structs.replace(HASTY, net_share=Bps(2_000))},
)
WARY = Policies(  # of who turns around all the time
    default=msgspec.structs.replace(
        PATIENT, churn_share=Bps(5_000), churn_quiet_ns=5 * NS_PER_S, churn_age_ns=20 * NS_PER_S
    )
)
PAUSES = (0, 1, 100, 400, 500, 1_000, 3_000)
What = Literal["BUY", "SELL", "SPLIT", "MERGE", "REDEEM", "CONVERSION", "resolved", "look", "tick"]


class Deed(msgspec.Struct, frozen=True):
    after_ms: int
    leader: Wallet
    condition: ConditionId
    what: What
    outcome: Literal[0, 1]
    size: Shares
    name: int  # equal names of one kind are one activity, heard twice; or one snapshot, repeated


def lives(*whats: What, pauses: tuple[int, ...] = PAUSES) -> st.SearchStrategy[list[Deed]]:
    return st.lists(
        st.builds(
            Deed,
            after_ms=st.sampled_from(pauses),
            leader=st.sampled_from((LEADER, OTHER_LEADER)),
            condition=st.sampled_from((CONDITION, OTHER_CONDITION)),
            what=st.sampled_from((*whats, "tick")),
            outcome=st.sampled_from((0, 1)),
            size=st.one_of(st.integers(1, 2 * DUST), st.integers(1, 40 * MICRO)).map(Shares),
            name=st.integers(0, 40),
        ),
        max_size=30,
    )


def message_of(deed: Deed, now_ns: int) -> object:
    match deed.what:
        case "tick":
            return Tick(now_ns)
        case "look":
            yes, no = Shares(deed.name % 3 * 20 * MICRO), Shares(deed.name % 2 * 30 * MICRO)
            return look(now_ns, (deed.condition, yes, no), leader=deed.leader)
        case "resolved":
            return resolved(deed.condition, now_ns)
        case "BUY" | "SELL":
            return a_fill(
                deed.name,
                leader=deed.leader,
                condition=deed.condition,
                outcome=deed.outcome,
                side=deed.what,
                size=deed.size,
                ts_ns=now_ns,
            )
        case action:
            return an_act(
                action,
                deed.name,
                leader=deed.leader,
                condition=deed.condition,
                size=deed.size,
                ts_ns=now_ns,
            )


def look(
    now_ns: int,
    *holdings: tuple[ConditionId, Shares, Shares],
    leader: Wallet,
    complete: bool = True,
) -> Look:
    view = LeaderView(
        leader=leader,
        as_of_ns=now_ns - 1,
        read_ns=now_ns,
        value=None if holdings else Usd(0),
        holdings=holdings,
        complete=complete,
    )
    return Look(now_ns, (view,))


def resolved(condition: ConditionId, now_ns: int) -> MarketResolved:
    id_ = content_id("market_resolved", condition, now_ns)
    payouts = (Price(MICRO), Price(0))
    return MarketResolved(
        id=id_, cause="", root=id_, ts_ns=now_ns, condition=condition, payouts=payouts
    )


class Live(msgspec.Struct):
    """A lane that hears messages, and checks what is true of all that it ever says."""

    policies: Policies = POLICIES
    state: State = msgspec.field(default_factory=State)
    said: list[Fact] = []
    snapshots: list[bytes] = []  # of the state before each fact

    def hear(self, message: object, now_ns: int) -> list[Fact]:
        before = encode_state(self.state)
        facts = core.decide(self.policies, self.state, message, now_ns)
        assert encode_state(self.state) == before, "decide changed the state"
        for fact in facts:
            self.snapshots.append(encode_state(self.state))
            self._check(fact)
            core.evolve(self.state, fact)
        self.said += facts
        return facts

    def _check(self, fact: Fact) -> None:
        """A window ends where the last one left off, and its exposure is what was counted."""
        if isinstance(fact, IntentFormed | WindowNetted):
            track = self.track(fact.leader, fact.condition)
            assert (fact.before, fact.after) == (track.followed, track.exposure)

    def track(self, leader: Wallet, condition: ConditionId) -> Track:
        return self.state.leaders[leader].tracks.get(condition, NOWHERE)


def live(deeds: list[Deed], held: Shares, policies: Policies = POLICIES) -> Live:
    """Live through the deeds and let every window close."""
    life, now_ns = Live(policies), T0_NS
    for leader in (LEADER, OTHER_LEADER):
        markets = [(condition, held, held) for condition in (CONDITION, OTHER_CONDITION)]
        life.hear(a_baseline(*markets, leader=leader), now_ns)
    for deed in deeds:
        now_ns += deed.after_ms * 10**6
        life.hear(message_of(deed, now_ns), now_ns)
    life.hear(Tick(now_ns + 60 * NS_PER_S), now_ns + 60 * NS_PER_S)
    return life
