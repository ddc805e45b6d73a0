"""The laws of netting, on what real wallets did: one who builds pairs, and two who sweep."""

import os
from collections import Counter
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from services.aggregator import core
from services.aggregator.core import Policies, Policy, State
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.market import Side
from shared.domain.messages import Fact, FillCounted, IntentFormed, LeaderFilled, Tick, WindowNetted
from shared.domain.units import BPS, DUST, MICRO, NS_PER_S, Bps, Price, Shares, Usd
from shared.runtime.runner import encode_state
from tests.support.builders import a_fill

BESIDE = Path(__file__).parents[3] / "shared" / "data"
RECORDED = Path(os.environ.get("DRIFTLESS_RECORDED", BESIDE))
PAIRS = "gabagool22-fills-2025-12/fills.parquet"
SWEEPS = "sweeper-wallets-2026-02/trades.parquet"
FILLS_MAX = 2_000
EAGER = Policy(
    quiet_ns=2 * NS_PER_S,
    age_ns_max=10 * NS_PER_S,
    flush_usd=Usd(500 * MICRO),
    flush_on_reduction=True,
    dust=DUST,
)
PATIENT = msgspec.structs.replace(
    EAGER, quiet_ns=60 * NS_PER_S, age_ns_max=120 * NS_PER_S, flush_usd=Usd(10**18)
)
NETTING = msgspec.structs.replace(PATIENT, flush_on_reduction=False, net_share=Bps(2_000))


@cache
def recorded(name: str) -> tuple[LeaderFilled, ...]:
    """Return the first fills of a recording, as the ingester would tell them."""
    if not (RECORDED / name).exists():
        pytest.skip(f"no recording {name} beside the repository, nor under DRIFTLESS_RECORDED")
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(RECORDED / name).slice(0, FILLS_MAX).to_pylist()
    return tuple(_fill(name, at, row) for at, row in enumerate(rows))


def _fill(name: str, at: int, row: dict[str, Any]) -> LeaderFilled:
    return a_fill(
        f"{name} {at}",
        leader=Wallet(row["wallet"]),
        condition=ConditionId(row.get("condition_id") or row["market_slug"]),
        outcome=0 if row["outcome"] in ("Up", "Yes") else 1,
        side=row.get("side", "BUY"),
        price=Price(round(row["price"] * MICRO)),
        size=Shares(round(row["size"] * MICRO)),
        ts_ns=(row.get("ts") or row["timestamp"]) * NS_PER_S,
    )


@pytest.fixture(params=[PAIRS, SWEEPS], ids=["pairs", "sweeps"])
def fills(request: pytest.FixtureRequest) -> tuple[LeaderFilled, ...]:
    return recorded(request.param)


def live(
    fills: tuple[LeaderFilled, ...], policy: Policy, *, state: State | None = None
) -> tuple[State, list[Fact]]:
    """Hear fills second by second with the ticks between them, and let every window close."""
    state, said, now_ns = State() if state is None else state, list[Fact](), 0
    policies = Policies(default=policy)

    def hear(message: object) -> None:
        for fact in core.decide(policies, state, message, now_ns):
            core.evolve(state, fact)
            said.append(fact)

    for second_ns, together in groupby(fills, key=lambda fill: fill.ts_ns):
        while now_ns and now_ns < second_ns and _is_open(state):
            now_ns = min(now_ns + NS_PER_S, second_ns)
            hear(Tick(now_ns))
        now_ns = second_ns
        for fill in together:
            hear(fill)
    now_ns += policy.age_ns_max
    hear(Tick(now_ns))
    return state, said


def _is_open(state: State) -> bool:
    return any(leader.windows for leader in state.leaders.values())


class Net(msgspec.Struct, frozen=True, order=True):
    """What a window came to, but for the names and the number of its fills."""

    leader: Wallet
    condition: ConditionId
    opened_ns: int
    before: Shares
    after: Shares
    yes_price: Price


def nets(said: list[Fact]) -> list[Net]:
    found = (fact for fact in said if isinstance(fact, IntentFormed))
    return [msgspec.convert(msgspec.to_builtins(fact), Net) for fact in found]


def shuffled(fills: tuple[LeaderFilled, ...], rng: Random) -> tuple[LeaderFilled, ...]:
    """Return the fills with those of each second in another order."""
    seconds = [list(together) for _, together in groupby(fills, key=lambda fill: fill.ts_ns)]
    for second in seconds:
        rng.shuffle(second)
    return tuple(fill for second in seconds for fill in second)


def in_parts(fills: tuple[LeaderFilled, ...], rng: Random) -> tuple[LeaderFilled, ...]:
    """Return each fill in one to three parts."""
    parts = []
    for fill in fills:
        cuts = sorted(rng.randint(1, fill.size) for _ in range(rng.randint(0, 2)))
        ends = [0, *cuts, fill.size]
        sizes = [end - begin for begin, end in pairwise(ends) if end > begin]
        parts += [
            msgspec.structs.replace(fill, id=content_id("part", fill.id, part), size=Shares(size))
            for part, size in enumerate(sizes)
        ]
    return tuple(parts)


def mirrored(fills: tuple[LeaderFilled, ...]) -> tuple[LeaderFilled, ...]:
    """Return the fills as seen from the other outcome: buying NO at q is selling YES at 1 - q."""
    flip: dict[Side, Side] = {"BUY": "SELL", "SELL": "BUY"}
    return tuple(
        msgspec.structs.replace(
            fill, outcome=1 - fill.outcome, side=flip[fill.side], price=Price(MICRO - fill.price)
        )
        for fill in fills
    )


def test_neither_order_nor_copies_nor_parts_change_what_a_second_comes_to(
    fills: tuple[LeaderFilled, ...],
) -> None:
    """Not flushed in the middle of a second, for then its order decides where it is cut."""
    state, said = live(fills, PATIENT)
    rng = Random(1)
    copied = tuple(fill for fill in fills for _ in range(rng.randint(1, 3)))
    for other in (shuffled(fills, rng), copied, in_parts(fills, rng)):
        same, told = live(other, PATIENT)
        assert same.leaders == state.leaders
        assert sorted(nets(told)) == sorted(nets(said))


@pytest.mark.parametrize("policy", [EAGER, PATIENT, NETTING], ids=["eager", "patient", "netting"])
def test_intents_and_the_rest_add_up_to_the_exposure(
    fills: tuple[LeaderFilled, ...], policy: Policy
) -> None:
    state, said = live(fills, policy)
    for wallet, leader in state.leaders.items():
        assert leader.windows == {}
        for condition, track in leader.tracks.items():
            steps = [n for n in nets(said) if (n.leader, n.condition) == (wallet, condition)]
            assert sum(step.after - step.before for step in steps) == track.followed
            held = Counter[int]()
            for fill in fills:
                if (fill.leader, fill.condition) == (wallet, condition):
                    held[fill.outcome] += fill.size if fill.side == "BUY" else -fill.size
            assert (track.yes, track.no) == (held[0], held[1])


def test_each_fill_is_in_one_window(fills: tuple[LeaderFilled, ...]) -> None:
    _, said = live(fills, EAGER)
    ends = [fact for fact in said if isinstance(fact, IntentFormed | WindowNetted)]
    stood_on = [fill for fact in ends for fill in fact.fills]
    assert sorted(stood_on) == sorted(fill.id for fill in fills)


def test_a_replay_from_any_prefix_is_the_whole(fills: tuple[LeaderFilled, ...]) -> None:
    state, said = live(fills, EAGER)
    rng = Random(2)
    for cut in sorted(rng.randrange(len(said)) for _ in range(5)):
        folded = State()
        for fact in said[:cut]:
            core.evolve(folded, fact)
        folded = msgspec.json.decode(encode_state(folded), type=State)
        for fact in said[cut:]:
            core.evolve(folded, fact)
        assert encode_state(folded) == encode_state(state)


@pytest.mark.parametrize("policy", [EAGER, NETTING], ids=["eager", "netting"])
def test_buying_no_is_selling_yes(fills: tuple[LeaderFilled, ...], policy: Policy) -> None:
    """Where enough of both is held for the sales to be sales."""
    ample = {(fill.leader, fill.condition) for fill in fills}

    def begun() -> State:
        state = State()
        for leader, condition in sorted(ample):
            fact = FillCounted(
                id="", cause="", root="", ts_ns=0, leader=leader, condition=condition,
                yes=Shares(10**15), no=Shares(10**15), notional=Usd(0), yes_price=Price(0),
                venue_ns=0, baseline=True,
            )  # fmt: skip
            core.evolve(state, fact)
        return state

    policy = msgspec.structs.replace(policy, flush_usd=Usd(10**18))  # a cent's rounding may flush
    _, said = live(fills, policy, state=begun())
    _, told = live(mirrored(fills), policy, state=begun())
    assert nets(told) == nets(said)


def test_a_fill_that_comes_late_is_not_lost(fills: tuple[LeaderFilled, ...]) -> None:
    """Every tenth comes after all others; exposures end the same, and it is in some window."""
    late = fills[::10]
    in_time = tuple(fill for at, fill in enumerate(fills) if at % 10)
    state, _ = live(fills, PATIENT)
    other, said = live(in_time + late, PATIENT)
    for wallet, leader in state.leaders.items():
        for condition, track in leader.tracks.items():
            assert other.leaders[wallet].tracks[condition].exposure == track.exposure
    ends = [fact for fact in said if isinstance(fact, IntentFormed | WindowNetted)]
    assert {fill.id for fill in late} <= {fill for fact in ends for fill in fact.fills}


def test_a_builder_of_pairs_is_followed_where_he_leans(request: pytest.FixtureRequest) -> None:
    """Of two thousand fills: with short windows hundreds of intents, with netting a handful."""
    fills = recorded(PAIRS)
    _, eager = live(fills, EAGER)
    state, netting = live(fills, NETTING)
    assert len(nets(eager)) > 300
    assert len(nets(netting)) <= 5
    for leader in state.leaders.values():
        for condition, track in leader.tracks.items():
            gross = sum(fill.size for fill in fills if fill.condition == condition)
            rest = abs(track.exposure - track.followed)
            assert rest * BPS < NETTING.net_share * gross
