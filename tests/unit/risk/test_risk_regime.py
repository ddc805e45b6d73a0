"""Trading is normal, reduce-only or halted: by rule with hysteresis, or by the operator."""

from typing import Any

import pytest

from services.risk.core import evolve
from services.risk.rules import STANDING_REASONS
from services.risk.state import Equity, Feeds, Reconsider, State, View
from shared.domain.messages import OrderApproved, RegimeChanged
from shared.domain.units import Usd
from shared.domain.views import STANDING, StandingView
from tests.support.risk_builders import (
    HEARD,
    NOW_NS,
    account,
    approval_in,
    cents,
    closed,
    execute,
    halt,
    holding,
    intent,
    kinds,
    policy,
    reconsider,
    reduce_only,
    refusal_in,
    resume,
    review,
    seconds,
    shares,
    step,
    usd,
    view,
)


def changed(state: State, drift: Usd, now_ns: int = NOW_NS) -> list[str]:
    facts = step(state, reconsider(state, now_ns, drift_usd=drift), now_ns)
    return [fact.regime for fact in facts if isinstance(fact, RegimeChanged)]


def rejected(state: State, name: str, now_ns: int = NOW_NS) -> None:
    formed = intent(0, 10, name=name)
    approval = approval_in(step(state, review(formed, view(now_ns=now_ns)), now_ns))
    step(state, closed(approval, shares(0), "rejected: balance"), now_ns)


def test_drift_beyond_its_limit_stops_entries_until_half_of_it() -> None:
    state = State()
    assert changed(state, usd(50)) == []
    assert changed(state, Usd(usd(50) + 1)) == ["reduce_only"]
    assert changed(state, usd(100)) == []
    assert changed(state, Usd(usd(25) + 1)) == []
    assert (state.regime, state.regime_reason) == ("reduce_only", "drift")
    assert changed(state, usd(25)) == ["normal"]
    assert (state.regime, state.regime_reason) == ("normal", "drift over")


def test_rejected_orders_within_the_window_stop_entries_until_half_of_them() -> None:
    state = State()
    for name in range(9):
        rejected(state, str(name))
    assert changed(state, Usd(0)) == []
    rejected(state, "9", NOW_NS + seconds(30))
    assert changed(state, Usd(0), NOW_NS + seconds(60)) == ["reduce_only"]
    assert state.regime_reason == "rejects"
    assert changed(state, Usd(0), NOW_NS + seconds(60)) == []
    assert changed(state, Usd(0), NOW_NS + seconds(60) + 1) == ["normal"]


def test_orders_that_ended_otherwise_are_no_rejections() -> None:
    state = State()
    for name in range(20):
        approval = approval_in(step(state, review(intent(0, 10, name=str(name)))))
        step(state, closed(approval, shares(0), "killed"))
    assert state.rejects == []
    assert changed(state, Usd(0)) == []


def test_the_rejections_remembered_are_bounded() -> None:
    state = State()
    for name in range(105):
        rejected(state, str(name))
    assert len(state.rejects) == 100


def test_entries_stay_stopped_until_every_rule_is_calm() -> None:
    """Otherwise a storm of rejections would be traded into whenever drift ends."""
    state = State()
    assert changed(state, usd(60)) == ["reduce_only"]
    state.rejects = [NOW_NS] * 10
    assert changed(state, Usd(0)) == ["reduce_only"]  # for another reason now, and says so
    assert state.entered == ("rejects",)
    assert changed(state, Usd(0)) == []
    assert changed(state, Usd(0), NOW_NS + seconds(61)) == ["normal"]


def test_no_entry_is_approved_in_the_decision_that_stops_entries() -> None:
    state = State()
    step(state, review(intent(0, 100), View()))
    later = NOW_NS + seconds(1)
    request = reconsider(state, later, drift_usd=usd(60))
    assert request.views
    assert kinds(step(state, request, later)) == ["RegimeChanged"]
    refused = refusal_in(step(state, reconsider(state, later, drift_usd=usd(60)), later))
    assert (refused.reason, refused.final) == ("REGIME_REDUCE_ONLY", True)


def test_the_operator_halts_and_resumes_and_is_named() -> None:
    state = State()
    (fact,) = step(state, halt())
    assert isinstance(fact, RegimeChanged)
    assert (fact.before, fact.regime, fact.reason, fact.actor, fact.cause) == (
        "normal", "halted", "operator: lunch", "me", "halt",
    )  # fmt: skip
    assert step(state, halt("again")) == []
    assert refusal_in(step(state, review(intent(0, 100)))).reason == "REGIME_HALTED"
    (fact,) = step(state, resume())
    assert isinstance(fact, RegimeChanged)
    assert (fact.before, fact.regime) == ("halted", "normal")
    assert step(state, resume("again")) == []
    assert approval_in(step(state, review(intent(0, 100, name="later")))).side == "BUY"


def test_no_rule_ends_what_the_operator_began_even_if_he_named_it_so() -> None:
    state = State()
    step(state, halt())
    assert changed(state, Usd(0)) == []
    evolve(state, RegimeChanged(
        id="x", cause="", root="x", ts_ns=0, before="halted", regime="halted",
        reason="operator: drift", actor="me",
    ))  # fmt: skip
    assert changed(state, Usd(0)) == []
    assert state.regime == "halted"


def test_the_operator_may_halt_what_a_rule_has_reduced() -> None:
    state = State()
    changed(state, usd(60))
    step(state, halt())
    assert state.regime == "halted"
    changed(state, Usd(0))
    assert (state.regime, state.entered) == ("halted", ())  # the rule is over, his word stands


def test_exits_go_on_while_only_reducing_and_wait_while_halted() -> None:
    state = holding(20)
    step(state, halt())
    refused = refusal_in(step(state, review(intent(20, 0))))
    assert (refused.reason, refused.final) == ("REGIME_HALTED", False)
    assert step(state, reconsider(state, NOW_NS + seconds(2)), NOW_NS + seconds(2)) == []
    step(state, reduce_only())
    later = NOW_NS + seconds(4)
    approval = approval_in(step(state, reconsider(state, later), later))
    assert (approval.side, approval.size, approval.reduces) == ("SELL", shares(20), True)


def test_the_loss_of_a_day_stops_the_entries_of_that_day() -> None:
    rules = policy(daily_loss_usd_max=usd(2))
    state = holding(20, rules=rules)
    sale = approval_in(step(state, review(intent(20, 0)), rules=rules))
    execute(state, sale, at=cents(40))
    assert state.realised_today == usd(-2)
    refused = refusal_in(step(state, review(intent(0, 100, name="again")), rules=rules))
    assert (refused.reason, refused.actual, refused.limit) == ("DAILY_LOSS", usd(2), usd(2))
    tomorrow = NOW_NS - NOW_NS % seconds(86_400) + seconds(86_400)
    fresh = intent(0, 100, name="tomorrow", venue_ns=tomorrow)
    facts = step(state, review(fresh, view(now_ns=tomorrow)), tomorrow, rules=rules)
    assert isinstance(facts[-1], OrderApproved)


def test_every_rule_enters_at_its_limit_and_leaves_at_its_lower_one() -> None:
    rules = policy(drawdown_usd_max=usd(40), feed_fresh_ns=seconds(10), feed_dead_ns=seconds(60))
    state = State()

    def now(**changes: Any) -> list[str]:
        feeds = changes.pop("feeds", HEARD)
        state.equity = changes.pop("equity", None)
        state.realised_today, state.day = changes.pop("realised", Usd(0)), DAY
        request = Reconsider(now_ns=NOW_NS, views={}, feeds=feeds, **changes)
        step(state, request, rules=rules)
        return [state.regime, *state.entered]

    assert now(drift_usd=usd(50)) == ["normal"]
    assert now(drift_usd=usd(50.01)) == ["reduce_only", "drift"]
    assert now(drift_usd=usd(200.01)) == ["halted", "drift", "drift_halt"]
    assert now(drift_usd=usd(50.01)) == ["halted", "drift", "drift_halt"]
    assert now(drift_usd=usd(50)) == ["reduce_only", "drift"]
    assert now(drift_usd=usd(25)) == ["normal"]
    assert now(feeds=heard(59.9)) == ["normal"]
    assert now(feeds=heard(60)) == ["reduce_only", "feed"]
    assert now(feeds=heard(10.1)) == ["reduce_only", "feed"]
    assert now(feeds=heard(10)) == ["normal"]
    assert now(realised=-usd(200)) == ["reduce_only", "daily_loss"]
    assert now(realised=-usd(101)) == ["reduce_only", "daily_loss"]
    assert now(realised=-usd(100)) == ["normal"]
    assert now(equity=drawn(39.99)) == ["normal"]
    assert now(equity=drawn(40)) == ["reduce_only", "drawdown"]
    assert now(equity=drawn(0)) == ["reduce_only", "drawdown"]  # the operator alone leaves it


DAY = NOW_NS // seconds(86_400)


def heard(age_s: float) -> Feeds:
    return Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=seconds(age_s))


def drawn(dollars: float) -> Equity:
    return Equity(
        collateral=usd(1_000), value=Usd(0), profit=usd(-dollars), peak=Usd(0), day=DAY,
        day_profit=usd(-dollars), marked_ns=NOW_NS,
    )  # fmt: skip


def test_who_resumes_after_a_drawdown_accepts_it() -> None:
    rules = policy(drawdown_usd_max=usd(40))
    state = State(equity=drawn(50))
    step(state, Reconsider(now_ns=NOW_NS, views={}, feeds=HEARD), rules=rules)
    assert state.entered == ("drawdown",)
    facts = step(state, resume(), rules=rules)
    assert kinds(facts) == ["RegimeChanged", "EquityMarked"]
    assert state.equity is not None
    assert (state.regime, state.equity.drawdown, state.equity.profit) == ("normal", 0, -usd(50))
    assert step(state, Reconsider(now_ns=NOW_NS, views={}, feeds=HEARD), rules=rules) == []


def test_the_operators_word_is_a_floor_under_the_rules() -> None:
    state = State()
    step(state, reduce_only())
    assert changed(state, usd(60)) == ["reduce_only"]  # a rule holds it too, and says so
    assert changed(state, Usd(0)) == ["reduce_only"]
    assert (state.regime, state.entered) == ("reduce_only", ())
    step(state, reduce_only("again"))
    step(state, Reconsider(now_ns=NOW_NS, views={}, drift_usd=usd(500), feeds=HEARD))
    assert state.regime == "halted"
    step(state, reduce_only("still"))
    assert (state.regime, state.ordered) == ("halted", "reduce_only")  # the rule is stricter


def stood(state: State, *levels: tuple[str, int]) -> list[str]:
    standing = tuple(StandingView(name=name, level=level) for name, level in levels)
    request = Reconsider(now_ns=NOW_NS, views={}, feeds=HEARD, standing=standing)
    return [fact.reason for fact in step(state, request) if isinstance(fact, RegimeChanged)]


@pytest.mark.parametrize("name", STANDING)
def test_where_the_venue_takes_nothing_that_opens_only_reducing_goes_on(name: str) -> None:
    state = State()
    assert stood(state, (name, 0)) == []
    assert stood(state, (name, 1)) == []  # never was in force
    assert stood(state, (name, 2)) == [name]
    assert state.regime == "reduce_only"
    assert stood(state, (name, 1)) == []  # one look without it is not enough
    assert stood(state) == []  # and neither is no word: the executor restarted
    assert state.regime == "reduce_only"
    assert stood(state, (name, 0)) == [f"{name} over"]
    assert state.regime == "normal"


def test_each_reason_is_left_by_itself() -> None:
    state = State()
    stood(state, ("geoblock", 2), ("venue", 2))
    assert stood(state, ("geoblock", 2), ("venue", 0)) == ["geoblock"]
    assert state.regime == "reduce_only"


@pytest.mark.parametrize("name", STANDING)
def test_an_entry_is_refused_by_name_before_the_regime_has_changed(name: str) -> None:
    known = account(standing=(StandingView(name=name, level=2),))
    refused = refusal_in(step(State(), review(intent(0, 10), view(account=known))))
    assert refused.verdicts[-1].reason == STANDING_REASONS[name]
    almost = account(standing=(StandingView(name=name, level=1),))
    assert approval_in(step(State(), review(intent(0, 10), view(account=almost))))
