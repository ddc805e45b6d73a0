"""What the operator asks for besides regimes, and what risk shows of itself."""

import pytest

from services.risk.core import evolve
from services.risk.policy import Cap, Category, Policy, Sizing
from services.risk.report import report
from services.risk.state import Equity, Group, Settings, State
from shared.domain.ids import Wallet
from shared.domain.messages import (
    CommandRefused,
    ConfigChanged,
    FollowLeader,
    LeaderFollowed,
    LeaderUnfollowed,
    RegimeChanged,
    TargetSet,
    UnfollowLeader,
)
from shared.domain.units import Bps, Usd
from tests.support.risk_builders import (
    HEARD,
    LEADER,
    NOW_NS,
    OTHER,
    approval_in,
    condition,
    execute,
    held,
    holding,
    intent,
    kinds,
    policy,
    reconsider,
    review,
    seconds,
    shares,
    step,
    usd,
    view,
)

RULES: Policy = policy(leaders={LEADER: Sizing(), OTHER: Sizing()})
STRANGER = Wallet("0x" + "77" * 20)


def unfollow(*, leader: Wallet = LEADER, keep: bool = False, name: str = "off") -> UnfollowLeader:
    return UnfollowLeader(
        id=name, cause="", root=name, ts_ns=NOW_NS, leader=leader, keep=keep, reason="", actor="me"
    )


def follow(leader: Wallet = LEADER, name: str = "on") -> FollowLeader:
    return FollowLeader(
        id=name, cause="", root=name, ts_ns=NOW_NS, leader=leader, reason="", actor="me"
    )


def two() -> State:
    return holding(20, state=holding(20, leader=OTHER))


def test_who_is_unfollowed_is_sold_and_nobody_else() -> None:
    state = two()
    facts = step(state, unfollow(), rules=RULES)
    assert kinds(facts) == ["LeaderUnfollowed", "TargetSet"]
    target = facts[1]
    assert isinstance(target, TargetSet)
    assert (target.leader, target.before, target.target) == (LEADER, shares(20), 0)
    order = approval_in(step(state, reconsider(state), rules=RULES))
    assert (order.leader, order.side, order.size) == (LEADER, "SELL", shares(20))
    execute(state, order, trade="out")
    assert (held(state), held(state, leader=OTHER)) == ((0, 0), (shares(20), 0))


def test_what_is_kept_is_held_and_not_touched() -> None:
    state = two()
    facts = step(state, unfollow(keep=True), rules=RULES)
    assert kinds(facts) == ["LeaderUnfollowed"]  # what is wanted is what is held already
    assert state.unfollowed == {LEADER: True}
    assert step(state, reconsider(state, NOW_NS + seconds(9)), NOW_NS + seconds(9)) == []


def test_an_entry_still_to_be_made_is_given_up_when_he_is_kept() -> None:
    state = State()
    step(state, review(intent(0, 100), view(books=(None, None))), rules=RULES)
    (_, target) = step(state, unfollow(keep=True), rules=RULES)
    assert isinstance(target, TargetSet)
    assert (target.before, target.target) == (shares(20), 0)
    assert state.targets == {}


def test_his_intents_are_not_followed_any_more_until_he_is_again() -> None:
    state = two()
    step(state, unfollow(keep=True), rules=RULES)
    assert step(state, review(intent(20, 0)), rules=RULES) == []
    facts = step(state, follow(), rules=RULES)
    assert [type(fact) for fact in facts] == [LeaderFollowed]
    assert approval_in(step(state, review(intent(20, 10)), rules=RULES)).size == shares(10)


def test_who_was_kept_may_be_sold_after_all() -> None:
    state = two()
    step(state, unfollow(keep=True), rules=RULES)
    facts = step(state, unfollow(name="sell"), rules=RULES)
    assert [type(fact) for fact in facts] == [LeaderUnfollowed, TargetSet]
    assert state.unfollowed == {LEADER: False}


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ([unfollow(leader=STRANGER)], "no leader of these settings"),
        ([follow(STRANGER)], "no leader of these settings"),
        ([follow()], "is followed already"),
        ([unfollow(), unfollow(name="again")], "is not followed already"),
    ],
)
def test_a_command_that_means_nothing_is_refused_with_its_reason(
    commands: list[UnfollowLeader | FollowLeader], reason: str
) -> None:
    state = two()
    for command in commands:
        facts = step(state, command, rules=RULES)
    (refused,) = facts
    assert isinstance(refused, CommandRefused)
    assert reason in refused.reason
    assert refused.cause == commands[-1].id


def test_a_leader_who_left_the_settings_can_still_be_sold() -> None:
    state = two()
    facts = step(state, unfollow(), rules=policy(leaders={OTHER: Sizing()}))
    assert kinds(facts) == ["LeaderUnfollowed", "TargetSet"]


# --- settings ---------------------------------------------------------------------------------


def settings(values: dict[str, str], *, actor: str = "me", error: str = "") -> Settings:
    id_ = f"{actor} {sorted(values.items())} {error}"
    return Settings(
        id=id_, root=id_, actor=actor, now_ns=NOW_NS, values=values, hash="h", error=error
    )


def changed(state: State, asked: Settings) -> tuple[tuple[str, str, str], ...] | None:
    facts = step(state, asked)
    assert all(isinstance(fact, ConfigChanged) for fact in facts)
    return facts[0].changes if facts else None  # type: ignore[union-attr]


def test_settings_are_said_at_the_first_start_and_when_they_change() -> None:
    state = State()
    first = {"risk.a": "1", "risk.b": "2"}
    assert changed(state, settings(first, actor="start")) == (
        ("risk.a", "", "1"), ("risk.b", "", "2"),
    )  # fmt: skip
    assert changed(state, settings(first, actor="start")) is None
    assert changed(state, settings({"risk.b": "3"})) == (("risk.a", "1", ""), ("risk.b", "2", "3"))
    assert (state.settings, state.config_hash) == ({"risk.b": "3"}, "h")


def test_who_asks_for_a_reload_is_answered_even_if_nothing_changed() -> None:
    state = State()
    changed(state, settings({"risk.a": "1"}, actor="start"))
    assert changed(state, settings({"risk.a": "1"})) == ()


def test_settings_that_could_not_be_read_are_refused() -> None:
    state = State()
    (refused,) = step(state, settings({}, error="risk.a: is missing"))
    assert isinstance(refused, CommandRefused)
    assert refused.reason == "risk.a: is missing"
    assert state.settings == {}


# --- regimes as older ledgers tell them -------------------------------------------------------


def a_change(regime: str, actor: str, reason: str) -> RegimeChanged:
    return RegimeChanged(
        id=reason, cause="", root=reason, ts_ns=NOW_NS, before="normal",
        regime=regime, reason=reason, actor=actor,  # type: ignore[arg-type]
    )  # fmt: skip


def test_changes_recorded_before_rules_had_names_are_understood() -> None:
    state = State()
    evolve(state, a_change("reduce_only", "rule", "drift"))
    assert (state.regime, state.ordered, state.entered) == ("reduce_only", "normal", ("drift",))
    evolve(state, a_change("normal", "rule", "drift over"))
    assert (state.regime, state.entered) == ("normal", ())
    evolve(state, a_change("halted", "me", "operator: lunch"))
    assert (state.regime, state.ordered, state.entered) == ("halted", "halted", ())


# --- the view ---------------------------------------------------------------------------------


def test_the_report_shows_every_cap_with_its_use_as_it_is_now() -> None:
    rules = policy(
        leaders={LEADER: Sizing(leader_usd_max=usd(80)), OTHER: Sizing()},
        categories=(Category(name="sports", usd_max=usd(60)),),
        total=Cap(usd(2_000), Bps(1_000)),
        drawdown_free_usd=usd(0),
        drawdown_usd_max=usd(100),
    )
    state = two()
    state.groups = {condition(): Group("cup", "sports")}
    state.equity = Equity(
        collateral=usd(980), value=usd(20), profit=-usd(10), peak=usd(15), day=0,
        day_profit=Usd(0), marked_ns=NOW_NS,
    )  # fmt: skip
    state.unfollowed = {OTHER: True}
    seen = report(rules, state, drift_usd=usd(1), feeds=HEARD, now_ns=NOW_NS)
    caps = {(cap.name, cap.scope): (cap.used, cap.limit, cap.configured) for cap in seen.caps}
    # A drawdown of 25 of 100 dollars leaves three quarters; the total is a tenth of equity.
    assert caps["total", ""] == (usd(20), usd(75), usd(100))
    assert caps["leader", LEADER] == (usd(10), usd(60), usd(80))
    assert caps["leader", OTHER] == (usd(10), usd(375), usd(500))
    assert caps["category", "sports"] == (usd(20), usd(45), usd(60))
    assert caps["event", "cup"] == (usd(20), usd(300), usd(400))
    assert caps["market", condition()] == (usd(20), usd(150), usd(200))
    assert caps["drift", ""][:2] == (usd(1), usd(50))
    assert (seen.equity, seen.profit, seen.drawdown) == (usd(1_000), -usd(10), usd(25))
    assert [(scale.name, scale.bps) for scale in seen.scales] == [
        ("daily_loss", 10_000), ("drawdown", 7_500), ("feed", 10_000),
    ]  # fmt: skip
    triggers = {each.name: (each.actual, each.enter, each.leave) for each in seen.triggers}
    assert triggers["drift"] == (usd(1), usd(50) + 1, usd(25))
    assert triggers["drawdown"] == (usd(25), usd(100), -1)
    assert seen.unfollowed == (OTHER,)


def test_the_report_counts_what_is_in_flight_and_shows_what_is_unknown() -> None:
    state = State()
    step(state, review(intent(0, 100)))
    seen = report(policy(), state, drift_usd=Usd(0), feeds=None, now_ns=NOW_NS)
    caps = {(cap.name, cap.scope): cap.used for cap in seen.caps}
    assert caps["leader", LEADER] == caps["market", condition()] == usd(10.2)
    assert ("category", "") not in caps
    assert seen.equity is None
    assert seen.scales[-1].bps == 0
    (line,) = seen.held
    assert (line.target, line.yes, line.cost) == (shares(20), 0, 0)
