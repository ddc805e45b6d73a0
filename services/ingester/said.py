"""What was said of a leader: rows by their identity, fills by their transaction.

The venue gives activity no id, and one transaction can hold identical rows, so a row's identity
is what it says plus its ordinal among its equals in that transaction (protocol.md 6.6). Price is
not part of it, since each source derives it with different last digits; but equals may have been
filled at different prices, so a read's rows are matched to what was said by the nearest price.

Sources may cut the same fills into different rows. Sure to agree are only the sums of a wallet's
buys, or sales, of one token in one transaction: what is summed so is called *fills* here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from shared.domain.ids import TokenId, TxHash, Wallet, content_id
from shared.domain.market import Side
from shared.domain.messages import LeaderActed, LeaderBaselineRead, LeaderFilled
from shared.domain.observations import Activity
from shared.domain.units import NS_PER_S, ZERO_SHARES, Price, Shares

_SLACK_S: Final = 10  # the stream stamps a row up to some seconds apart from its block


class Seen(msgspec.Struct, frozen=True):
    """How many identical rows of one transaction were said, and their venue time."""

    count: int
    venue_s: int
    prices: tuple[Price, ...] = ()  # of the trades among them


_NOTHING: Final = Seen(0, 0)


class Fills(msgspec.Struct, frozen=True):
    """What was said of a leader's buys, or sales, of one token in one transaction."""

    size: Shares  # of all of them together
    counted: bool  # by a complete read; the stream alone drops rows and repeats them
    venue_s: int


class Leader(msgspec.Struct):
    through_s: int
    kept_s: int
    seen: dict[str, Seen] = {}  # by ``row_key``
    fills: dict[str, Fills] = {}  # by ``fills_key``
    gaps: dict[str, int] = {}  # that were told, and since when rows may be missing


class Differing(NamedTuple):
    """Fills of which a complete read does not show all rows that were said."""

    row: Activity  # one of the read's
    told: Shares  # by the read
    said: Shares


def row_key(row: Activity) -> str:
    """Return what identifies a row among the rows of all transactions, but for its ordinal."""
    return content_id(
        "row", row.wallet, row.tx, row.action, row.condition, row.token or "", row.side or "",
        row.size,
    )  # fmt: skip


def fills_key(row: Activity) -> str:
    """Return which fills a trade is one of."""
    assert row.token is not None
    assert row.side is not None
    return _fills_key(row.wallet, row.tx, row.token, row.side)


def _fills_key(wallet: Wallet, tx: TxHash, token: TokenId, side: Side) -> str:
    return content_id("fills", wallet, tx, token, side)


def differing(leader: Leader, rows: Iterable[Activity]) -> dict[str, Differing]:
    """Return those fills of a complete read that lack a row that was said, by their key.

    Either the read is behind, or it cuts the fills differently: then adding the rows that look
    new would count shares twice.
    """
    told: dict[str, list[Activity]] = {}
    for row in rows:
        if row.action == "TRADE":
            told.setdefault(fills_key(row), []).append(row)
    found: dict[str, Differing] = {}
    for key, trades in told.items():
        before = leader.fills.get(key)
        if before is not None and _shown(leader, trades) < before.size:
            total = Shares(sum(row.size for row in trades))
            found[key] = Differing(trades[0], total, before.size)
    return found


def _shown(leader: Leader, trades: list[Activity]) -> int:
    """Return how many of the shares that were said are among these rows."""
    sizes = {row_key(row): row.size for row in trades}
    counts = Counter(row_key(row) for row in trades)
    return sum(
        min(count, leader.seen[key].count) * sizes[key]
        for key, count in counts.items()
        if key in leader.seen
    )


def unsaid(leader: Leader, key: str, rows: Sequence[Activity]) -> list[Activity]:
    """Return those rows of one identity that add to what was said of it, the cheapest first."""
    seen = leader.seen.get(key, _NOTHING)
    left = sorted(rows, key=lambda row: row.price or 0)
    for price in seen.prices:
        if left:
            left.remove(min(left, key=lambda row: abs((row.price or 0) - price)))
    return left[max(0, seen.count - len(seen.prices)) :]


def is_said(leader: Leader, row: Activity) -> bool:
    """Tell whether a row of the stream adds nothing: it was said, or its fills were counted."""
    if row_key(row) in leader.seen:
        return True
    before = leader.fills.get(fills_key(row)) if row.action == "TRADE" else None
    return before is not None and before.counted


def remember(leader: Leader, fact: LeaderFilled | LeaderActed) -> None:
    """Keep that a row was said; to hear a fact again changes nothing."""
    before, venue_s = leader.seen.get(fact.row), fact.ts_ns // NS_PER_S
    said = before.count if before else 0
    count = max(fact.ordinal + 1, said)
    prices = before.prices if before else ()
    if isinstance(fact, LeaderFilled):
        prices += (fact.price,) * (count - said)
    leader.seen[fact.row] = Seen(count, venue_s, prices)
    if isinstance(fact, LeaderFilled):
        key = _fills_key(fact.leader, fact.tx, fact.token, fact.side)
        added = Shares((count - said) * fact.size)
        _add(leader, key, added, venue_s, counted=fact.source != "stream")


def named(row: Activity) -> str:
    """Name a row that a baseline contains: its identity, time, fills it is of, size and price."""
    name = f"{row_key(row)}@{row.venue_ns // NS_PER_S}"
    return f"{name}@{fills_key(row)}@{row.size}@{row.price}" if row.action == "TRADE" else name


def begun(fact: LeaderBaselineRead) -> Leader:
    """Return a leader of whom nothing is known but his baseline."""
    leader = Leader(through_s=fact.through_s, kept_s=fact.kept_s)
    for name in fact.rows:
        key, at_s, *fills = name.split("@")
        before = leader.seen.get(key, _NOTHING)
        prices = before.prices + tuple(Price(int(price)) for price in fills[2:])
        leader.seen[key] = Seen(before.count + 1, int(at_s), prices)
        if fills:  # baselines used to name no fills, and then no price
            _add(leader, fills[0], Shares(int(fills[1])), int(at_s), counted=True)
    return leader


def forget(leader: Leader) -> None:
    """Drop what is older than a row can be that is still heard."""
    oldest_s = leader.kept_s - _SLACK_S
    leader.seen = {k: seen for k, seen in leader.seen.items() if seen.venue_s >= oldest_s}
    leader.fills = {k: fills for k, fills in leader.fills.items() if fills.venue_s >= oldest_s}
    leader.gaps = {k: from_s for k, from_s in leader.gaps.items() if from_s >= oldest_s}


def _add(leader: Leader, key: str, size: Shares, venue_s: int, *, counted: bool) -> None:
    before = leader.fills.get(key, Fills(ZERO_SHARES, counted=False, venue_s=venue_s))
    leader.fills[key] = Fills(
        Shares(before.size + size), before.counted or counted, max(before.venue_s, venue_s)
    )
