"""What leaders did, said once: the stream's fast rows and REST's complete ones become facts.

The venue gives activity no id, and one transaction can hold identical rows, so a row's identity
is what it says plus its ordinal among its equals in that transaction (protocol.md 6.6). Price is
not part of it: the stream and the Data API derive it with different last digits. The stream may
repeat a frame, so alone it vouches for one row of each kind; a complete REST read counts them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

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
_SLACK_S: Final = 10  # the stream stamps a row up to some seconds apart from its block


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


class Seen(msgspec.Struct, frozen=True):
    """How many identical rows of one transaction were said, and their venue time."""

    count: int
    venue_s: int


class Leader(msgspec.Struct):
    through_s: int
    kept_s: int
    seen: dict[str, Seen] = {}


class State(msgspec.Struct):
    """What each leader did, and the markets they were in: open, or resolved and when."""

    leaders: dict[Wallet, Leader] = {}
    open: set[ConditionId] = set()
    resolved: dict[ConditionId, int] = {}


def row_key(row: Activity) -> str:
    """Return what identifies a row among the rows of all transactions, but for its ordinal."""
    return content_id(
        "row", row.wallet, row.tx, row.action, row.condition, row.token or "", row.side or "",
        row.size,
    )  # fmt: skip


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
            if row_key(row) in leader.seen:
                return []
            return [_fact(row, 0, seen_ns, "stream")]
        case RestRows():
            return _read(policy, state, message, now_ns)
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
    facts: list[Fact] = []
    counts: Counter[str] = Counter()
    for row in read.rows:
        if not _is_current(leader, row, now_ns):
            continue
        key = row_key(row)
        said = leader.seen[key].count if key in leader.seen else 0
        counts[key] += 1
        if counts[key] > said:
            facts.append(_fact(row, counts[key] - 1, read.seen_ns, "rest"))
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
            rows=tuple(_with_ordinals(read.rows)),
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


def _with_ordinals(rows: Iterable[Activity]) -> list[str]:
    return [f"{row_key(row)}@{row.venue_ns // NS_PER_S}" for row in rows]


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
            leader = state.leaders[fact.leader]
            said = leader.seen.get(fact.row)
            count = max(fact.ordinal + 1, said.count if said else 0)
            leader.seen[fact.row] = Seen(count, fact.ts_ns // NS_PER_S)
            _enter(state, fact.condition)
        case LeaderBaselineRead():
            state.leaders[fact.leader] = _baseline(fact)
            for condition, _, _ in fact.holdings:
                _enter(state, condition)
        case MarketResolved():
            _leave(state, fact)
        case ActivityRead():
            leader = state.leaders[fact.leader]
            leader.through_s = fact.through_s
            leader.kept_s = fact.kept_s
            oldest_s = fact.kept_s - _SLACK_S
            leader.seen = {k: seen for k, seen in leader.seen.items() if seen.venue_s >= oldest_s}
        case FeedChanged():
            pass  # told for people and for risk; nothing here stands on it
        case _:
            raise AssertionError(f"not a fact of the ingester: {fact}")


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


def _baseline(fact: LeaderBaselineRead) -> Leader:
    leader = Leader(through_s=fact.through_s, kept_s=fact.kept_s)
    for named in fact.rows:
        key, _, venue_s = named.partition("@")
        count = leader.seen[key].count if key in leader.seen else 0
        leader.seen[key] = Seen(count + 1, int(venue_s))
    return leader
