"""Why belief and venue differ, as far as the venue's own account of us tells. Pure.

The correction is the same whatever the cause; the cause is what an operator wants to know. Each is
recognised by numbers: the newest rows of one kind whose sum is the difference.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from shared.domain.ids import ConditionId, TokenId
from shared.domain.observations import Action, Activity
from shared.domain.units import MICRO, Price, Shares, format_micro
from shared.domain.views import OutsideTrade, PositionView

Cause = Literal[
    "bought_outside",  # trades of orders that are not ours to book: by hand, or another bot
    "sold_outside",
    "missed_fill",  # the venue shows a trade of ours that was not booked
    "phantom_fill",  # booked, and the venue knows nothing of it
    "failed_settlement",  # the same, while its settlement is still under way
    "split",
    "merged",
    "converted",
    "redeemed",  # by the account, or by the venue for it
    "resolved",  # the market is over, and the shares are gone without a row
    "dust",
    "unexplained",
]
DUST: Final = Shares(MICRO // 100)  # a hundredth of a share: what orders are rounded to
_SETS: Final[tuple[tuple[Action, Cause, int], ...]] = (
    ("SPLIT", "split", 1), ("MERGE", "merged", -1), ("REDEEM", "redeemed", -1),
)  # fmt: skip


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue tells of the account in one market lately; ``outside`` is of one token."""

    rows: tuple[Activity, ...] = ()  # oldest first, of every token of the market
    outside: tuple[OutsideTrade, ...] = ()  # trades of orders that the executor does not know
    payouts: tuple[Price, Price] | None = None  # once the market is over


class Diagnosis(NamedTuple):
    cause: Cause
    evidence: str


def diagnose(
    gap: Shares, token: TokenId, outcome: int, mine: PositionView | None, known: Known
) -> Diagnosis:
    """Return the probable cause of a difference of so many shares, venue less belief."""
    if abs(gap) <= DUST:
        return Diagnosis("dust", f"{format_micro(gap)} shares: less than an order can name")
    found = _by_rows(gap, token, known)
    if found is not None:
        return found
    if known.payouts is not None and gap < 0:
        paid = format_micro(known.payouts[outcome])
        return Diagnosis("resolved", f"the market is over and paid {paid} a share")
    if gap < 0 and mine is not None and mine.unsettled >= -gap:
        return Diagnosis("failed_settlement", "a fill of this size has not settled")
    if gap < 0:
        return Diagnosis("phantom_fill", "the venue shows no trade that took the shares")
    return Diagnosis("unexplained", "the venue shows nothing that brought the shares")


def _by_rows(gap: Shares, token: TokenId, known: Known) -> Diagnosis | None:
    outside = [trade.shares for trade in known.outside if trade.token == token]
    if count := newest(outside, gap):
        cause: Cause = "bought_outside" if gap > 0 else "sold_outside"
        return Diagnosis(cause, f"{count} trades of orders that are not ours, {format_micro(gap)}")
    for action, named, sign in _SETS:
        sizes = [Shares(sign * row.size) for row in known.rows if row.action == action]
        if count := newest(sizes, gap):
            return Diagnosis(named, _told(action, count, gap, known))
        if action == "REDEEM" and sizes and gap < 0 and known.payouts is not None:
            return Diagnosis(named, _told(action, len(sizes), gap, known))  # of both outcomes
    if any(row.action == "CONVERSION" for row in known.rows):
        return Diagnosis("converted", "a conversion names no tokens: the positions show its effect")
    traded = [
        row.size if row.side == "BUY" else Shares(-row.size)
        for row in known.rows
        if row.action == "TRADE" and row.token == token
    ]
    if count := newest(traded, gap):
        return Diagnosis("missed_fill", f"the newest {count} trades make {format_micro(gap)}")
    return None


def newest(amounts: Sequence[Shares], gap: Shares) -> int:
    """Return how many of the newest amounts, oldest first, sum up to a difference; 0: none do."""
    total = 0
    for count, amount in enumerate(reversed(amounts), start=1):
        total += amount
        if abs(total - gap) <= DUST:
            return count
    return 0


def _told(action: Action, count: int, gap: Shares, known: Known) -> str:
    paid = f", the market paid {_paid(known.payouts)}" if known.payouts else ""
    return f"{count} {action} for {format_micro(abs(gap))} shares{paid}"


def _paid(payouts: Iterable[Price]) -> str:
    return "/".join(format_micro(payout) for payout in payouts)


def by_market(rows: Iterable[Activity]) -> dict[ConditionId, tuple[Activity, ...]]:
    """Return an account's rows by their market, each market's in their order."""
    found: dict[ConditionId, tuple[Activity, ...]] = {}
    for row in rows:
        found[row.condition] = (*found.get(row.condition, ()), row)
    return found
