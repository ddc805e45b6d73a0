"""Who keeps turning in a market is followed by what remains of longer windows, and in full out."""

from typing import Literal

import msgspec
import pytest

from services.aggregator.core import Policies, State
from services.aggregator.state import Track
from services.aggregator.windows import churns
from shared.domain.messages import Fact, IntentFormed
from shared.domain.units import NS_PER_S, Bps, Shares
from tests.support.builders import LEADER, T0_NS, a_fill, shares
from tests.unit.aggregator.aggregator_told import CONDITION, a_policy, hear, tick

CHURN_QUIET_NS = 30 * NS_PER_S
CHURN_AGE_NS = 120 * NS_PER_S


def a_maker_policy(share: int = 3_000) -> Policies:
    plain = a_policy(flush_usd=100).default
    return Policies(
        default=msgspec.structs.replace(
            plain,
            churn_share=Bps(share),
            churn_quiet_ns=CHURN_QUIET_NS,
            churn_age_ns=CHURN_AGE_NS,
        )
    )


MAKER = a_maker_policy()


class Life:
    """One leader who trades and is looked at, second by second."""

    def __init__(self, policies: Policies = MAKER) -> None:
        self.state, self.policies = State(), policies
        self.at_ns, self.count = 0, 0
        self.said: list[Fact] = []

    def trades(self, side: Literal["BUY", "SELL"], size: float, outcome: Literal[0, 1] = 0) -> None:
        self.count += 1
        fill = a_fill(
            self.count, side=side, size=shares(size), outcome=outcome, ts_ns=T0_NS + self.at_ns
        )
        self.said += hear(self.state, fill, self.at_ns, policies=self.policies)

    def waits(self, seconds: int) -> list[IntentFormed]:
        """Let time pass, a tick a second; return the intents of it."""
        found: list[IntentFormed] = []
        for _ in range(seconds):
            self.at_ns += NS_PER_S
            facts = tick(self.state, self.at_ns, policies=self.policies)
            found += [fact for fact in facts if isinstance(fact, IntentFormed)]
            self.said += facts
        return found

    @property
    def track(self) -> Track:
        return self.state.leaders[LEADER].tracks[CONDITION]

    def turns_often(self, times: int = 8) -> None:
        """Buy one outcome and then the other, as a builder of pairs does."""
        self.trades("BUY", 60)  # so that he is never all out
        self.waits(3)
        for at in range(times):
            self.trades("BUY", 50, 1 if at % 2 == 0 else 0)
            self.waits(3)


def test_a_builder_of_pairs_is_known_after_a_few_turns() -> None:
    life = Life()
    life.turns_often()
    assert churns(MAKER.default, life.track)
    intents = sum(1 for fact in life.said if isinstance(fact, IntentFormed))
    assert 2 <= intents < 9  # nine windows, were nothing learned


def test_a_leader_who_takes_a_side_never_churns() -> None:
    life = Life()
    for _ in range(20):
        life.trades("BUY", 50)
        life.waits(3)
    assert not churns(MAKER.default, life.track)
    life.trades("SELL", 400)
    life.waits(3)
    assert not churns(MAKER.default, life.track)


def test_without_the_setting_nobody_churns() -> None:
    life = Life(a_maker_policy(share=0))
    life.turns_often(20)
    assert not churns(life.policies.default, life.track)
    life.trades("BUY", 50, 1)
    assert len(life.waits(3)) == 1


def test_his_windows_wait_for_longer_quiet_and_age() -> None:
    life = Life()
    life.turns_often()
    life.waits(40)
    life.trades("BUY", 7)
    assert life.waits(29) == []
    (intent,) = life.waits(2)
    assert intent.closed_by == "quiet"
    for _ in range(25):  # never quiet for long
        life.trades("BUY", 9)
        life.waits(2)
        life.trades("BUY", 8, 1)
        assert life.waits(2) == []
    for _ in range(10):
        life.trades("BUY", 9)
        found = life.waits(3)
        if found:
            break
    (intent,) = found
    assert intent.closed_by == "max_age"


def test_neither_a_reduction_nor_a_large_change_closes_his_window() -> None:
    life = Life()
    life.turns_often()
    life.waits(40)
    life.trades("BUY", 1_000)
    assert life.waits(3) == []
    life.trades("SELL", 900)
    assert life.waits(3) == []


def test_to_be_all_out_is_followed_at_the_next_tick_all_the_same() -> None:
    life = Life()
    life.turns_often()
    life.waits(40)
    left = life.track.exposure
    assert left > 0
    life.trades("SELL", left / 1_000_000)
    (intent,) = life.waits(1)
    assert (intent.after, intent.closed_by) == (0, "reduction")


def test_who_takes_a_side_again_is_followed_at_once_again() -> None:
    life = Life()
    life.turns_often()
    for _ in range(8):
        life.trades("BUY", 200)
        life.waits(31)
    assert not churns(MAKER.default, life.track)
    life.trades("SELL", 100)
    (intent,) = life.waits(1)
    assert intent.closed_by == "reduction"


@pytest.mark.parametrize("pieces", [1, 2, 10])
def test_splitting_fills_changes_nothing_of_what_is_learned(pieces: int) -> None:
    life = Life()
    for at in range(8):
        for _ in range(pieces):
            life.trades("BUY", 60 / pieces, 1 if at % 2 else 0)
        life.waits(3)
    known = (life.track.turnover, life.track.moved, life.track.turns, life.track.side)
    assert known == KNOWN


def _known() -> tuple[Shares, Shares, int, int]:
    life = Life()
    for at in range(8):
        life.trades("BUY", 60, 1 if at % 2 else 0)
        life.waits(3)
    return life.track.turnover, life.track.moved, life.track.turns, life.track.side


KNOWN = _known()
