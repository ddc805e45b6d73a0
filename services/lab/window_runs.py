"""Recorded fills through the aggregator's own core, in virtual time, under one policy or another.

The fills of one second are heard together, at a delay drawn from what the stream was measured to
have, unless a plan says at once. Ticks that cannot change anything are left out: a core that only
time moves is asked again when a window can have gone quiet, grown too old, or turned into a
reduction, on the grid of the deployed tick (half a tick off the second, so that no tick coincides
with a fill). What a wallet sells and was never seen to buy it is taken to have held from the
start: the least that leaves it nowhere short.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, Literal, cast

import msgspec

from services.aggregator.core import Policies, Policy, State, decide, evolve
from services.lab.bench_hops import quantile
from services.lab.window_sets import UNKNOWN, Fill
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet, content_id
from shared.domain.market import Side
from shared.domain.messages import (
    Fact,
    IntentFormed,
    LeaderBaselineRead,
    LeaderFilled,
    Tick,
    WindowNetted,
)
from shared.domain.units import BPS, MICRO, NS_PER_MS, NS_PER_S, Bps, Shares, Usd
from shared.runtime.config import AggregatorConfig

FEE_RATE: Final = 0.05  # a taker pays rate * p * (1 - p) a share; the median of 70,000 real trades
LATE_S: Final = (0.3, 1.52, 0.7)  # least, most, likeliest: the stream's delay, p50 0.8, p95 1.3 s
_SEED: Final = 7
_NEVER: Final = Usd(10**18)
_SETTINGS: Final = AggregatorConfig()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the core."""

    name: str
    policy: Policy
    by_token: bool = False  # each outcome token as a market of its own
    late: bool = True  # each second's fills are heard as much later as the stream tells them


class Run(msgspec.Struct, kw_only=True):
    """What came of the fills of one set under one plan."""

    plan: str
    fills: int
    intents: int = 0
    netted: int = 0  # windows with nothing to follow
    orders: int = 0  # an intent that crosses zero sells one token and buys the other
    gross: float = 0.0  # dollars of the fills
    net: float = 0.0  # dollars of the intents
    fee_each: float = 0.0  # a taker's, had each fill been copied
    fee_net: float = 0.0
    closed_by: dict[str, int] = {}
    reduction_p50: float = 0.0  # dollars of the median intent that `reduction` closed
    delay_p50_ms: float = 0.0  # from a fill's arrival to the intent that stands on it
    delay_p99_ms: float = 0.0
    delay_dollar_ms: float = 0.0  # of the median dollar: half of them were followed sooner


def default_policy(config: AggregatorConfig = _SETTINGS) -> Policy:
    """Return the policy of a leader with no settings of his own."""
    return Policy(
        quiet_ns=config.quiet_ms * NS_PER_MS,
        age_ns_max=config.age_max_ms * NS_PER_MS,
        flush_usd=config.flush_usd,
        flush_on_reduction=config.flush_on_reduction,
        dust=config.dust_shares,
        net_share=config.net_share_bps_min,
        churn_share=config.churn_share_bps_max,
        churn_quiet_ns=config.churn_quiet_ms * NS_PER_MS,
        churn_age_ns=config.churn_age_max_ms * NS_PER_MS,
    )


def plans() -> tuple[Plan, ...]:
    """Return the default and what it is compared with, one thing changed at a time.

    But for the default itself nobody is taken to churn, so that each change shows what it does.
    """
    whole = default_policy()
    default = _with(whole, churn_share=Bps(0))
    patient = _timed(default, 15, 60)
    waiting = _with(patient, flush_on_reduction=False)
    fifth = Bps(BPS // 5)
    return (
        Plan(name="default", policy=whole),
        Plan(name="default, churn 60/300 s", policy=_churning(whole, 60, 300)),
        Plan(name="nobody churns", policy=default),
        Plan(name="the same, told at block time", policy=default, late=False),
        Plan(name="quiet 0.5 s", policy=_timed(default, 0.5, 10)),
        Plan(name="quiet 3 s", policy=_timed(default, 3, 10)),
        Plan(name="quiet 5 s", policy=_timed(default, 5, 10)),
        Plan(name="quiet 5 s, age 30 s", policy=_timed(default, 5, 30)),
        Plan(name="quiet 15 s, age 60 s", policy=patient),
        Plan(name="no flush at $500", policy=_with(default, flush_usd=_NEVER)),
        Plan(name="dust 10 shares", policy=_with(default, dust=Shares(10 * MICRO))),
        Plan(name="netted by token", policy=default, by_token=True),
        Plan(name="net >= 20 % of window", policy=_with(default, net_share=fifth)),
        Plan(name="reductions wait too", policy=_with(default, flush_on_reduction=False)),
        Plan(name="15/60 s, reductions wait", policy=waiting),
        Plan(name="the same, net >= 20 %", policy=_with(waiting, net_share=fifth)),
        Plan(name="15/60 s, netted by token", policy=waiting, by_token=True),
    )


def _with(policy: Policy, **changed: Any) -> Policy:
    return msgspec.structs.replace(policy, **changed)


def _churning(policy: Policy, quiet_s: int, age_s: int) -> Policy:
    return _with(policy, churn_quiet_ns=quiet_s * NS_PER_S, churn_age_ns=age_s * NS_PER_S)


def _timed(policy: Policy, quiet_s: float, age_s: float) -> Policy:
    return _with(policy, quiet_ns=round(quiet_s * NS_PER_S), age_ns_max=round(age_s * NS_PER_S))


def run(fills: Sequence[Fill], plan: Plan) -> Run:
    """Return what the core made of fills, which are in the order of time and have sides."""
    told = _facts(fills, by_token=plan.by_token)
    arrivals = _arrivals(told, late=plan.late)
    found = Run(
        plan=plan.name,
        fills=len(fills),
        gross=sum(fill.notional for fill in fills),
        fee_each=sum(fee(fill.price, fill.size) for fill in fills),
    )
    arrived = {fact.id: (at_ns, fact.price * fact.size / MICRO**2) for at_ns, fact in arrivals}
    delays: list[tuple[int, float]] = []  # of each fill that was followed, and its dollars
    worths: defaultdict[str, list[float]] = defaultdict(list)
    for said in _lived(plan.policy, _baselines(told), arrivals):
        if isinstance(said, WindowNetted):
            found.netted += 1
        elif isinstance(said, IntentFormed):
            worths[said.closed_by].append(_count(found, said))
            for at_ns, dollars in (arrived[id_] for id_ in said.fills):
                delays.append((said.ts_ns - at_ns, dollars))
    found.closed_by = {reason: len(each) for reason, each in worths.items()}
    _measure(found, worths.get("reduction", ()), delays)
    return found


def _count(found: Run, intent: IntentFormed) -> float:
    """Count an intent; return the dollars that following it moves, whatever the direction."""
    price = intent.yes_price
    yes = abs(max(intent.after, 0) - max(intent.before, 0))
    no = abs(max(-intent.after, 0) - max(-intent.before, 0))
    worth = (yes * price + no * (MICRO - price)) / (MICRO * MICRO)
    found.intents += 1
    found.orders += (yes > 0) + (no > 0)
    found.net += worth
    found.fee_net += fee(price, yes + no)
    return worth


def fee(price: int, size: int) -> float:
    """Return a taker's fee in dollars, before the venue rounds it."""
    return FEE_RATE * price * (MICRO - price) * size / MICRO**3


def _measure(found: Run, reductions: Sequence[float], delays: Sequence[tuple[int, float]]) -> None:
    if reductions:
        worths = [round(worth * MICRO) for worth in reductions]
        found.reduction_p50 = quantile(worths, 0.50) / MICRO
    if delays:
        waited = [waited_ns for waited_ns, _ in delays]
        found.delay_p50_ms = quantile(waited, 0.50) / NS_PER_MS
        found.delay_p99_ms = quantile(waited, 0.99) / NS_PER_MS
        found.delay_dollar_ms = _of_the_median_dollar(delays) / NS_PER_MS


def _of_the_median_dollar(delays: Sequence[tuple[int, float]]) -> int:
    half, passed = sum(dollars for _, dollars in delays) / 2, 0.0
    for waited_ns, dollars in sorted(delays):
        passed += dollars
        if passed >= half:
            return waited_ns
    raise AssertionError("no dollars to take the median of")


def _lived(
    policy: Policy,
    baselines: Sequence[LeaderBaselineRead],
    arrivals: Sequence[tuple[int, LeaderFilled]],
) -> Iterator[Fact]:
    """Yield what the core says to fills as they arrive, and to the ticks between and after."""
    policies, state = Policies(default=policy), State()
    tick_ns, half_ns = _SETTINGS.tick_ms * NS_PER_MS, _SETTINGS.tick_ms * NS_PER_MS // 2
    waits = {0, policy.quiet_ns, policy.age_ns_max, policy.churn_quiet_ns, policy.churn_age_ns}
    due: list[int] = []
    newest_ns = -1

    def said(message: object, now_ns: int) -> list[Fact]:
        facts = decide(policies, state, message, now_ns)
        for fact in facts:
            evolve(state, fact)
        return facts

    def ticked(until_ns: int) -> Iterator[Fact]:
        last_ns = -1
        while due and due[0] < until_ns:
            at_ns = heappop(due)
            if at_ns > last_ns:
                yield from said(Tick(at_ns), at_ns)
            last_ns = at_ns

    for baseline in baselines:
        said(baseline, baseline.ts_ns)
    for now_ns, fact in arrivals:
        if now_ns > newest_ns:
            newest_ns = now_ns
            yield from ticked(now_ns)
            for wait_ns in waits:
                heappush(due, -(-(now_ns + wait_ns - half_ns) // tick_ns) * tick_ns + half_ns)
        yield from said(fact, now_ns)
    yield from ticked(newest_ns + max(waits) + 2 * tick_ns)
    assert not any(leader.windows for leader in state.leaders.values())


def _arrivals(told: Sequence[LeaderFilled], *, late: bool) -> list[tuple[int, LeaderFilled]]:
    if not late:
        return [(fact.ts_ns, fact) for fact in told]
    random, times = Random(_SEED), sorted({fact.ts_ns for fact in told})
    delays = {at: round(random.triangular(*LATE_S) * NS_PER_S) for at in times}
    found = [(fact.ts_ns + delays[fact.ts_ns], fact) for fact in told]
    return sorted(found, key=lambda each: each[0])


def _facts(fills: Sequence[Fill], *, by_token: bool) -> list[LeaderFilled]:
    """Return fills as the ingester tells them; where no outcome is named, all are of YES."""
    return [_fact(at, fill, by_token=by_token) for at, fill in enumerate(fills)]


def _fact(at: int, fill: Fill, *, by_token: bool) -> LeaderFilled:
    id_ = content_id("leader_filled", at, fill.wallet)
    ts_ns = fill.at_s * NS_PER_S
    return LeaderFilled(
        id=id_,
        cause="",
        root=id_,
        ts_ns=ts_ns,
        leader=Wallet(fill.wallet),
        condition=ConditionId(fill.token if by_token else fill.market),
        token=TokenId(fill.token),
        outcome=0 if fill.outcome == UNKNOWN else cast(Literal[0, 1], fill.outcome),
        side=cast(Side, fill.side),
        price=fill.price,
        size=fill.size,
        tx=TxHash(fill.tx),
        row=str(at),
        ordinal=0,
        seen_ns=ts_ns,
        source="stream",
    )


def _baselines(told: Sequence[LeaderFilled]) -> list[LeaderBaselineRead]:
    """Return what each wallet must have held before the first fill, for it to sell what it sold."""
    held: defaultdict[tuple[Wallet, ConditionId], list[int]] = defaultdict(lambda: [0, 0])
    least: defaultdict[Wallet, dict[ConditionId, list[int]]] = defaultdict(dict)
    for fact in told:
        balance = held[fact.leader, fact.condition]
        balance[fact.outcome] += fact.size if fact.side == "BUY" else -fact.size
        if balance[fact.outcome] < 0:
            short = least[fact.leader].setdefault(fact.condition, [0, 0])
            short[fact.outcome] = max(short[fact.outcome], -balance[fact.outcome])
    return [_baseline(wallet, short, told[0].ts_ns) for wallet, short in least.items()]


def _baseline(
    wallet: Wallet, short: dict[ConditionId, list[int]], began_ns: int
) -> LeaderBaselineRead:
    id_ = content_id("leader_baseline_read", wallet)
    return LeaderBaselineRead(
        id=id_,
        cause="",
        root=id_,
        ts_ns=began_ns,
        leader=wallet,
        holdings=tuple(
            (condition, Shares(yes), Shares(no)) for condition, (yes, no) in short.items()
        ),
        rows=(),
        through_s=began_ns // NS_PER_S - 1,
        kept_s=began_ns // NS_PER_S - 1,
    )
