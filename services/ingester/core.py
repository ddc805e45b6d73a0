"""What leaders did, said once: the stream's fast rows, REST's and the chain's complete ones.

The sources show the same fills, each in its own time, so the facts are one set whoever says a
row first. The stream may repeat a frame, so alone it vouches for one row of each kind; a read
over REST and of whole transactions on the chain counts identical rows (``said``).

Where a read lacks a row that was said it is behind, or cuts the same fills into other rows, and
then nothing of these fills is said: a share may come late, never twice. If the sums differ too,
that is told as a gap of the leader, which his next positions close.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from services.ingester.said import (
    Leader,
    begun,
    differing,
    fills_key,
    forget,
    is_said,
    named,
    remember,
    unsaid,
)
from services.ingester.said import (
    row_key as row_key,
)
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    ActivityRead,
    Fact,
    FeedChanged,
    LeaderActed,
    LeaderBaselineRead,
    LeaderFilled,
    MarketResolved,
)
from shared.domain.observations import Activity, Source
from shared.domain.units import NS_PER_S, Price, Shares

READ_EVERY_S: Final = 60  # the durable cursor of a leader moves in steps of at least this
FUTURE_S_MAX: Final = 60  # a row stamped further ahead than this is not believed
OPEN_MAX: Final = 50_000  # markets of a lane whose resolution is waited for
RESOLVED_MAX: Final = 4_000  # of a lane are remembered, so none is said twice; then the later half


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    overlap_s: int  # how far before its cursor a REST read begins: the index inserts late


class StreamRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a followed leader on the activity stream."""

    row: Activity
    seen_ns: int


class RestRows(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a leader from ``overlap_s`` before his cursor to the newest, oldest first."""

    leader: Wallet
    rows: tuple[Activity, ...]
    through_s: int  # nothing older than this can still be missing
    seen_ns: int


class ChainRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of leaders in some blocks: of each transaction either all logs of a leader, or none."""

    rows: tuple[Activity, ...]
    blocks: tuple[int, int]  # the first and the last
    seen_ns: int


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a leader holds, with the recent rows that are already inside it."""

    leader: Wallet
    holdings: tuple[tuple[ConditionId, Shares, Shares], ...]
    rows: tuple[Activity, ...]
    from_s: int  # where the read of the rows began
    through_s: int
    seen_ns: int


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """A feed changed its state, as the shell saw it."""

    change: FeedChanged


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue pays for the shares of a market, which is over."""

    partition: int  # of the lane that is told
    condition: ConditionId
    payouts: tuple[Price, Price]
    seen_ns: int


class State(msgspec.Struct):
    """What each leader did, and the markets they were in: open, or resolved and when."""

    leaders: dict[Wallet, Leader] = {}
    open: set[ConditionId] = set()
    resolved: dict[ConditionId, int] = {}


def read_from_s(leader: Leader, policy: Policy) -> int:
    """Return where the next REST read of a leader begins."""
    return max(leader.kept_s, leader.through_s - policy.overlap_s)


def decide(policy: Policy, state: State, message: object, now_ns: int) -> list[Fact]:
    """Return the facts that a row, a read or a feed's change adds to what was said."""
    match message:
        case StreamRow(row=row, seen_ns=seen_ns):
            leader = state.leaders.get(row.wallet)
            if leader is None or not _is_current(leader, row, now_ns):
                return []  # the baseline or a REST read holds it
            return [] if is_said(leader, row) else [_fact(row, 0, seen_ns, "stream")]
        case RestRows():
            return _read(policy, state, message, now_ns)
        case ChainRows():
            return _mined(state, message, now_ns)
        case Baseline():
            return _begin(state, message)
        case Settled():
            return _settle(state, message)
        case Feed(change=change):
            return [change]
        case _:
            return []


def is_from_the_future(row: Activity, now_ns: int) -> bool:
    """Tell whether a row is stamped so far ahead that it cannot be believed."""
    return row.venue_ns > now_ns + FUTURE_S_MAX * NS_PER_S


def _is_current(leader: Leader, row: Activity, now_ns: int) -> bool:
    """Tell whether a row is inside what is remembered, and not from the future."""
    return row.venue_ns >= leader.kept_s * NS_PER_S and not is_from_the_future(row, now_ns)


def _read(policy: Policy, state: State, read: RestRows, now_ns: int) -> list[Fact]:
    leader = state.leaders.get(read.leader)
    if leader is None:
        return []
    rows = _current(leader, read.rows, now_ns)
    facts = _count(leader, rows, seen_ns=read.seen_ns, source="rest")
    whole = [row for row in rows if row.venue_ns < read.through_s * NS_PER_S]  # the index has all
    facts += _gaps(leader, whole, seen_ns=read.seen_ns, feed="polls")
    if read.through_s - leader.through_s >= READ_EVERY_S:
        facts.append(
            ActivityRead(
                id=content_id("activity_read", read.leader, read.through_s),
                cause="",
                root=content_id("activity_read", read.leader, read.through_s),
                ts_ns=read.seen_ns,
                leader=read.leader,
                through_s=read.through_s,
                kept_s=max(leader.kept_s, read.through_s - policy.overlap_s),
            )
        )
    return facts


def _mined(state: State, read: ChainRows, now_ns: int) -> list[Fact]:
    facts: list[Fact] = []
    for wallet in dict.fromkeys(row.wallet for row in read.rows):
        leader = state.leaders.get(wallet)
        if leader is not None:  # else his baseline comes first, and holds these rows
            rows = _current(leader, [r for r in read.rows if r.wallet == wallet], now_ns)
            facts += _count(leader, rows, seen_ns=read.seen_ns, source="chain")
            facts += _gaps(leader, rows, seen_ns=read.seen_ns, feed="chain")
    return facts


def _current(leader: Leader, rows: Iterable[Activity], now_ns: int) -> list[Activity]:
    return [row for row in rows if _is_current(leader, row, now_ns)]


def _count(leader: Leader, rows: Sequence[Activity], *, seen_ns: int, source: Source) -> list[Fact]:
    """Return what was not said of a complete read's rows; none of fills that it cuts otherwise."""
    other = differing(leader, rows)
    equals: dict[str, list[Activity]] = {}
    for row in rows:
        if row.action != "TRADE" or fills_key(row) not in other:
            equals.setdefault(row_key(row), []).append(row)
    facts: list[Fact] = []
    for key, each in equals.items():
        before = leader.seen[key].count if key in leader.seen else 0
        facts += [
            _fact(row, ordinal, seen_ns, source)
            for ordinal, row in enumerate(unsaid(leader, key, each), start=before)
        ]
    return facts


def _gaps(leader: Leader, rows: Sequence[Activity], *, seen_ns: int, feed: str) -> list[Fact]:
    """Return the contradictions of a read that shows all there is, each told once."""
    facts: list[Fact] = []
    for key, each in differing(leader, rows).items():
        id_ = content_id("feed_changed", feed, key, each.told, each.said)
        if each.told == each.said or id_ in leader.gaps:
            continue
        change = FeedChanged(
            id=id_,
            cause="",
            root=id_,
            ts_ns=seen_ns,
            feed=feed,
            state="gap",
            detail=f"{each.told} micro-shares in {each.row.tx}, {each.said} said in other rows",
            from_ns=each.row.venue_ns,
            leader=each.row.wallet,
        )
        facts.append(change)
    return facts


def _begin(state: State, read: Baseline) -> list[Fact]:
    if read.leader in state.leaders:
        return []
    id_ = content_id("leader_baseline_read", read.leader, read.through_s)
    return [
        LeaderBaselineRead(
            id=id_,
            cause="",
            root=id_,
            ts_ns=read.through_s * NS_PER_S,
            leader=read.leader,
            holdings=read.holdings,
            rows=tuple(named(row) for row in read.rows),
            through_s=read.through_s,
            kept_s=read.from_s,
        )
    ]


def _settle(state: State, settled: Settled) -> list[Fact]:
    if settled.condition not in state.open:
        return []
    id_ = content_id("market_resolved", settled.partition, settled.condition)
    return [
        MarketResolved(
            id=id_,
            cause="",
            root=id_,
            ts_ns=settled.seen_ns,
            condition=settled.condition,
            payouts=settled.payouts,
        )
    ]


def _fact(row: Activity, ordinal: int, seen_ns: int, source: Source) -> Fact:
    kind = "leader_filled" if row.action == "TRADE" else "leader_acted"
    id_ = content_id(kind, row_key(row), ordinal)
    if row.action != "TRADE":
        return LeaderActed(
            id=id_,
            cause="",
            root=id_,
            ts_ns=row.venue_ns,
            leader=row.wallet,
            condition=row.condition,
            action=row.action,
            size=row.size,
            tx=row.tx,
            ordinal=ordinal,
            row=row_key(row),
            seen_ns=seen_ns,
        )
    assert row.token is not None
    assert row.outcome is not None
    assert row.side is not None
    assert row.price is not None
    return LeaderFilled(
        id=id_,
        cause="",
        root=id_,
        ts_ns=row.venue_ns,
        leader=row.wallet,
        condition=row.condition,
        token=row.token,
        outcome=row.outcome,
        side=row.side,
        price=row.price,
        size=row.size,
        tx=row.tx,
        ordinal=ordinal,
        row=row_key(row),
        seen_ns=seen_ns,
        source=source,
    )


def evolve(state: State, fact: Fact) -> None:
    """Apply one of the ingester's own facts."""
    match fact:
        case LeaderFilled() | LeaderActed():
            remember(state.leaders[fact.leader], fact)
            _enter(state, fact.condition)
        case LeaderBaselineRead():
            state.leaders[fact.leader] = begun(fact)
            for condition, _, _ in fact.holdings:
                _enter(state, condition)
        case MarketResolved():
            _leave(state, fact)
        case ActivityRead():
            leader = state.leaders[fact.leader]
            leader.through_s = fact.through_s
            leader.kept_s = fact.kept_s
            forget(leader)
        case FeedChanged():
            _keep_gap(state, fact)
        case _:
            raise AssertionError(f"not a fact of the ingester: {fact}")


def _keep_gap(state: State, change: FeedChanged) -> None:
    """Remember what was told of a leader, so that it is not told again with every read."""
    leader = state.leaders.get(change.leader) if change.leader else None
    if leader is not None and change.state == "gap":
        leader.gaps[change.id] = change.from_ns // NS_PER_S


def _enter(state: State, condition: ConditionId) -> None:
    """Wait for a market's end; what is done after it, like redeeming, does not reopen it."""
    if condition not in state.resolved and len(state.open) < OPEN_MAX:
        state.open.add(condition)


def _leave(state: State, fact: MarketResolved) -> None:
    state.open.discard(fact.condition)
    state.resolved[fact.condition] = fact.ts_ns
    if len(state.resolved) > RESOLVED_MAX:  # by halves: a long log is folded in linear time
        by_age = sorted((ts_ns, condition) for condition, ts_ns in state.resolved.items())
        state.resolved = {condition: ts_ns for ts_ns, condition in by_age[-RESOLVED_MAX // 2 :]}
