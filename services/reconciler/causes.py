"""Why belief and venue differ, as far as the venue's own account of us tells. Pure.

The correction is the same whatever the cause; the cause is what an operator wants to know. Each is
recognised by numbers: the newest rows of one kind whose sum is the difference.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from shared.domain.ids import ConditionId, TokenId
from shared.domain.observations import Action, Activity
from shared.domain.units import BPS, MICRO, Price, Shares, Usd, format_micro
from shared.domain.views import OutsideTrade, PositionView, UnlistedFill

Cause = Literal[
    "bought_outside",  # trades of orders that are not ours to book: by hand, or another bot
    "sold_outside",
    "missed_fill",  # the venue shows a trade of ours that was not booked
    "phantom_fill",  # booked, and the venue knows nothing of it
    "doubled_fill",  # booked twice: the venue has it once
    "failed_settlement",  # the same, while its settlement is still under way
    "split",
    "merged",
    "converted",
    "redeemed",  # by the account, or by the venue for it
    "resolved",  # the market is over, and the shares are gone without a row
    "dust",
    "unexplained",
    # Of cash alone:
    "traded_outside",
    "deposit",
    "withdrawal",
    "several",
]
DUST: Final = Shares(MICRO // 100)  # a hundredth of a share: what orders are rounded to
_CASH_DUST: Final = Usd(MICRO // 20)  # five cents: what the venue's rounding comes to in the end
_FEE_BPS_MAX: Final = 300  # of what changed hands outside: what its fees may have been
_SETS: Final[tuple[tuple[Action, Cause, int], ...]] = (
    ("SPLIT", "split", 1), ("MERGE", "merged", -1), ("REDEEM", "redeemed", -1),
)  # fmt: skip


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue tells of the account in one market lately, or for cash, in all of them."""

    rows: tuple[Activity, ...] = ()  # oldest first, of every token of the market
    outside: tuple[OutsideTrade, ...] = ()  # trades of orders that the executor does not know
    unlisted: tuple[UnlistedFill, ...] = ()  # fills that the executor booked and the venue lacks
    payouts: tuple[Price, Price] | None = None  # once the market is over


class Diagnosis(NamedTuple):
    cause: Cause
    evidence: str
    since_ns: int = 0  # venue time of the oldest row that explains it; 0: none does


def diagnose(
    gap: Shares, token: TokenId, outcome: int, mine: PositionView | None, known: Known
) -> Diagnosis:
    """Return the probable cause of a difference of so many shares, venue less belief."""
    if abs(gap) <= DUST:
        return Diagnosis("dust", f"{format_micro(gap)} shares: less than an order can name")
    found = _by_rows(gap, token, known)
    if found is not None:
        return found
    if lost := _by_fills(gap, token, known):
        return lost
    if known.payouts is not None and gap < 0:
        paid = format_micro(known.payouts[outcome])
        return Diagnosis("resolved", f"the market is over and paid {paid} a share")
    if gap < 0 and mine is not None and mine.unsettled >= -gap:
        return Diagnosis("failed_settlement", "a fill of this size has not settled")
    if gap < 0:
        return Diagnosis("phantom_fill", "the venue shows no trade that took the shares")
    return Diagnosis("unexplained", "the venue shows nothing that brought the shares")


def _by_fills(gap: Shares, token: TokenId, known: Known) -> Diagnosis | None:
    """Look at what is booked and not on the venue's list: undoing it must make the difference."""
    fills = [fill for fill in known.unlisted if fill.token == token]
    if not (count := newest([Shares(-fill.shares) for fill in fills], gap)):
        return None
    cause: Cause = "doubled_fill" if all(f.is_copy for f in fills[-count:]) else "phantom_fill"
    named = ", ".join(fill.trade for fill in fills[-count:])
    return Diagnosis(cause, f"booked, and not on the venue's list: {named}")


def _by_rows(gap: Shares, token: TokenId, known: Known) -> Diagnosis | None:
    outside = [trade for trade in known.outside if trade.token == token]
    if count := newest([trade.shares for trade in outside], gap):
        cause: Cause = "bought_outside" if gap > 0 else "sold_outside"
        told = f"{count} trades of orders that are not ours, {format_micro(gap)}"
        return Diagnosis(cause, told, outside[-count].venue_ns)
    for action, named, sign in _SETS:
        rows = [row for row in known.rows if row.action == action]
        count = newest([Shares(sign * row.size) for row in rows], gap)
        if not count and action == "REDEEM" and gap < 0 and known.payouts is not None:
            count = len(rows)  # of both outcomes
        if count:
            return Diagnosis(named, _told(action, count, gap, known), rows[-count].venue_ns)
    if any(row.action == "CONVERSION" for row in known.rows):
        return Diagnosis("converted", "a conversion names no tokens: the positions show its effect")
    trades = [row for row in known.rows if row.action == "TRADE" and row.token == token]
    signed = [row.size if row.side == "BUY" else Shares(-row.size) for row in trades]
    if count := newest(signed, gap):
        told = f"the newest {count} trades make {format_micro(gap)}"
        return Diagnosis("missed_fill", told, trades[-count].venue_ns)
    return None


class _Flow(NamedTuple):
    """Dollars that came or went by something other than a fill of ours."""

    cause: Cause
    usd: Usd
    venue_ns: int


def diagnose_cash(gap: Usd, known: Known) -> Diagnosis:
    """Return why the balance is not what our fills make it, venue less belief.

    The fees of trades outside are not told, so these explain it within what fees may be. What no
    trade and no set explains came from outside the venue, or went there.
    """
    if abs(gap) <= _CASH_DUST:
        return Diagnosis("dust", f"{format_micro(gap)} dollars: rounding")
    total = turnover = 0
    causes: set[Cause] = set()
    for count, flow in enumerate(reversed(_flows(known)), start=1):
        total += flow.usd
        turnover += abs(flow.usd) if flow.cause == "traded_outside" else 0
        causes.add(flow.cause)
        if abs(total - gap) <= _CASH_DUST + turnover * _FEE_BPS_MAX // BPS:
            cause: Cause = causes.pop() if len(causes) == 1 else "several"
            told = f"the newest {count} that moved cash make {format_micro(total)} dollars"
            return Diagnosis(cause, told, flow.venue_ns)
    if gap > 0:
        return Diagnosis("deposit", "no trade and no set brought these dollars")
    return Diagnosis("withdrawal", "no trade and no set took these dollars")


def _flows(known: Known) -> list[_Flow]:
    flows = [_Flow("traded_outside", each.usd, each.venue_ns) for each in known.outside]
    for each in known.unlisted:
        cause: Cause = "doubled_fill" if each.is_copy else "phantom_fill"
        flows.append(_Flow(cause, Usd(-each.usd), 0))
    for row in known.rows:
        if row.action == "SPLIT":
            flows.append(_Flow("split", Usd(-row.size), row.venue_ns))
        elif row.action == "MERGE":
            flows.append(_Flow("merged", Usd(row.size), row.venue_ns))
    return sorted(flows, key=lambda flow: flow.venue_ns)


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
