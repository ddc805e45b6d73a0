"""The bench's arithmetic: quantiles, the hops of a path, when a rate counts as sustained."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.ctl.servers import DEPLOY
from services.lab.bench import arguments
from services.lab.bench_facts import by_lane, day, in_lots
from services.lab.bench_hops import (
    MARKS,
    Recorded,
    Sample,
    hops,
    judged,
    paths,
    quantile,
    spread,
)
from services.lab.bench_restart import Restart, Restarts, Start, restarts_table
from services.lab.bench_stack import leader_wallets, unsynced
from services.lab.replay import REGISTRY
from shared.domain.ids import partition_of
from shared.domain.messages import (
    FillCounted,
    IntentFormed,
    LeaderFilled,
    OrderApproved,
    OrderPrepared,
    TargetSet,
)
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.runtime.clock import stamp_ns

STEP_NS = 10 * NS_PER_MS


@pytest.mark.parametrize(
    ("q", "expected"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_quantile_is_a_value_that_was_measured(q: float, expected: int) -> None:
    assert quantile(range(1, 101), q) == expected


@given(st.lists(st.integers(0, 1 << 50), min_size=1), st.integers(0, 10_000))
def test_the_wanted_share_of_values_is_at_or_below_a_quantile(values: list[int], bp: int) -> None:
    found = quantile(values, bp / 10_000)
    assert found in values
    assert sum(value <= found for value in values) * 10_000 >= bp * len(values)
    assert sum(value < found for value in values) * 10_000 <= bp * len(values)


def test_a_spread_is_in_milliseconds() -> None:
    told = spread([3 * NS_PER_MS, 1 * NS_PER_MS, 2 * NS_PER_MS])
    assert (told.count, told.least, told.p50, told.most, told.mean) == (3, 1.0, 2.0, 3.0, 2.0)


# --- hops ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> dict[type, object]:
    """Return one fact of each kind on the way of a copied fill, as the cores say them."""
    logs = day(200)
    facts = [fact for log in logs.values() for _, fact in log]
    prepared = next(fact for fact in facts if isinstance(fact, OrderPrepared))
    found: dict[type, object] = {}
    for fact in facts:
        if fact.root == prepared.root:
            found.setdefault(type(fact), fact)
    return found


def recorded(chain: dict[type, object], *kinds: type) -> list[Recorded]:
    """Return the chain's facts, each stored 1 ms after it happened."""
    return [
        Recorded(fact, fact.ts_ns + NS_PER_MS)  # type: ignore[attr-defined, arg-type]
        for fact in (chain[kind] for kind in kinds)
    ]


ALL = (LeaderFilled, FillCounted, IntentFormed, TargetSet, OrderApproved, OrderPrepared)


def test_a_path_has_every_mark_and_its_hops_add_up(chain: dict[type, object]) -> None:
    filled, prepared = chain[LeaderFilled], chain[OrderPrepared]
    assert isinstance(filled, LeaderFilled)
    assert isinstance(prepared, OrderPrepared)
    began_ns, ended_ns = filled.seen_ns - STEP_NS, prepared.ts_ns + STEP_NS
    found, unsent = paths(recorded(chain, *ALL), {filled.tx: began_ns}, {prepared.order: ended_ns})
    (path,) = found
    assert unsent.marks == {}
    assert path.root == filled.id
    assert len(path.times_ns) == len(MARKS)
    assert path.hops_ns[0] == STEP_NS
    assert path.hops_ns[-1] == STEP_NS - NS_PER_MS
    assert sum(path.hops_ns) == path.total_ns == ended_ns - began_ns
    told = hops(found)
    assert [hop.name for hop in told] == [name for _, name in MARKS[1:]]
    assert sum(hop.share for hop in told) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(
    ("kinds", "last"),
    [
        ((LeaderFilled, FillCounted), "filled_stored"),
        ((LeaderFilled, FillCounted, IntentFormed, TargetSet), "intent_stored"),
        (ALL[:-1], "approved_stored"),
        (ALL, "prepared_stored"),
    ],
)
def test_a_fill_without_an_order_is_told_by_the_mark_it_reached(
    chain: dict[type, object], kinds: tuple[type, ...], last: str
) -> None:
    filled = chain[LeaderFilled]
    assert isinstance(filled, LeaderFilled)
    found, unsent = paths(recorded(chain, *kinds), {filled.tx: filled.seen_ns}, {})
    assert found == []
    assert unsent.marks == {last: 1}


def test_fills_that_were_not_measured_are_left_out(chain: dict[type, object]) -> None:
    found, unsent = paths(recorded(chain, *ALL), {}, {})
    assert (found, unsent.marks) == ([], {})


# --- throughput ----------------------------------------------------------------------------------


def samples(executed_s: int, counted_s: int, *, waiting: int = 0) -> list[Sample]:
    """Return a sample every quarter second for six seconds."""
    quarters = range(25)
    return [
        Sample(n * NS_PER_S // 4, waiting + n * executed_s // 4, n * counted_s // 4)
        for n in quarters
    ]


def test_a_rate_without_growing_lag_is_sustained() -> None:
    step = judged(1_000, samples(1_000, 1_000, waiting=120))
    assert step.sustained
    assert (step.executed, step.counted, step.lag_end, step.lag_growth) == (1_000, 1_000, 120, 0)


@pytest.mark.parametrize(
    ("executed_s", "counted_s", "waiting"),
    [(1_000, 900, 0), (900, 900, 0), (1_000, 1_000, 600)],
    ids=["lag grows", "the venue was too slow", "too much waits"],
)
def test_a_rate_is_not_sustained(executed_s: int, counted_s: int, waiting: int) -> None:
    assert not judged(1_000, samples(executed_s, counted_s, waiting=waiting)).sustained


def test_one_late_lot_does_not_fail_a_rate() -> None:
    lagging = samples(1_000, 1_000)
    last = lagging[-1]
    lagging[-1] = Sample(last.at_ns, last.executed, last.counted - 300)
    assert judged(1_000, lagging).sustained


# --- the generated day ---------------------------------------------------------------------------


def test_generated_logs_fold_and_hold_what_services_say() -> None:
    logs = day(300)
    assert set(logs) == set(REGISTRY)
    for name, log in logs.items():
        assert len(log) == 300
        assert len({fact.id for _, fact in log}) == 300
        kind, evolve = REGISTRY[name]
        for facts in by_lane(log).values():
            state = kind()
            for lot in in_lots(facts, 7):
                for fact in lot:
                    evolve(state, fact)
    kinds = {type(fact).__name__ for _, fact in logs["executor"]}
    assert {"OrderPrepared", "OrderAccepted", "OrderFilled", "FillSettled", "OrderClosed"} <= kinds


# --- the run -------------------------------------------------------------------------------------


def test_without_fsync_only_the_sync_setting_is_left_out() -> None:
    text = (DEPLOY / "nats.conf").read_text()
    changed = unsynced(text)
    lost = set(text.splitlines()) - set(changed.splitlines())
    assert [line.strip() for line in lost] == ["sync_interval: always"]


def test_leaders_spread_over_all_lanes() -> None:
    wallets = leader_wallets(200)
    assert len(set(wallets)) == 200
    assert {partition_of(wallet) for wallet in wallets} == set(range(16))


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-02T03:04:05.000000001Z", 1),
        ("2026-01-02T03:04:05.12Z", 120_000_000),
        ("2026-01-02T03:04:05Z", 0),
    ],
)
def test_the_brokers_time_stamps_keep_their_nanoseconds(text: str, ns: int) -> None:
    assert stamp_ns(text) == 1_767_323_045 * NS_PER_S + ns


def test_the_command_line() -> None:
    given = arguments(["--only", "memory", "--seconds", "5", "--rate", "10", "--no-fsync"])
    assert (given.only, given.seconds, given.rate, given.no_fsync) == ("memory", 5.0, 10.0, True)
    with pytest.raises(SystemExit):
        arguments(["--only", "everything"])
    assert isinstance(DEPLOY, Path)


def test_restarts_are_told_by_service_with_and_without_a_second_instance() -> None:
    def kill(service: str, acting_s: float, *, standby: bool = False) -> Restart:
        return Restart(
            service=service, standby=standby, process_s=0.03, lane_s=0.5, acting_s=acting_s
        )

    kills = [kill("risk", 0.61), kill("risk", 0.82), kill("risk", 0.33, standby=True)]
    starts = [Start(service="risk", python_ms=11, imports_ms=450)]
    console = Console(record=True, width=140)
    console.print(restarts_table(Restarts(kills=kills, starts=starts)))
    lines = [line.split() for line in console.export_text().splitlines() if "risk" in line]
    told = [[word for word in line if word != "│"] for line in lines]
    assert told[0] == ["risk", "1", "2", "0.03", "0.50", "0.61", "0.82", "0.82"]
    assert told[1] == ["risk", "2", "1", "0.03", "0.50", "0.33", "0.33", "0.33"]
    assert "11 ms + 450 ms" in " ".join(told[2])
