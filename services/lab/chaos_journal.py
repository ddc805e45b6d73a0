"""The ledger as it grows under chaos: what was said once, what is still open, what broke a rule."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import msgspec

from services.lab.feeds_world import Row, said
from services.lab.replay import lane_of
from services.risk import core as risk
from services.risk.state import State as RiskState
from services.risk.state import at_risk, usage
from shared.domain.ids import OrderHash, TokenId
from shared.domain.messages import (
    Batch,
    Fact,
    FillCounted,
    FillSettled,
    IntentFormed,
    LeaderActed,
    LeaderFilled,
    OrderApproved,
    OrderClosed,
    OrderFilled,
    OrderPrepared,
    OrphanFound,
    PositionCorrected,
    ReservationEnded,
    WindowNetted,
)
from shared.domain.units import Shares, Usd, format_micro
from shared.runtime.ports import Entry, Lane

ENTRIES_KEPT: Final = 20_000  # heads of the newest messages, to see who spoke after a kill
_FAULTS_KEPT: Final = 50


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that must hold, as they were configured."""

    leader: Usd
    market: Usd
    total: Usd


class Head(msgspec.Struct, frozen=True):
    """Who wrote a message of the ledger, under which lease."""

    seq: int
    lane: Lane
    epoch: int


class Journal:
    """Reads the ledger from where it stopped, and keeps what the promises are about."""

    def __init__(
        self,
        caps: Caps,
        tokens: Mapping[tuple[str, int], TokenId],  # by condition and outcome
        entries: Callable[[int], AsyncIterator[Entry]],
    ) -> None:
        self._caps, self._tokens, self._entries = caps, tokens, entries
        self.seq = self.facts = 0
        self.rows: Counter[Row] = Counter()
        self.heads: deque[Head] = deque(maxlen=ENTRIES_KEPT)
        self.faults: list[str] = []  # broken promises, each with its evidence
        self.prepared: set[OrderHash] = set()
        self.named: set[str] = set()  # what prepared orders call themselves at the venue
        self.closed: set[OrderHash] = set()
        self.filled = self.corrections = self.orphans = 0
        self.positions: dict[TokenId, int] = {}  # the executor's, folded from what it said
        self.risk = RiskState()
        self._ids: set[str] = set()
        self._heard: set[str] = set()  # leaders' activity
        self._counted: set[str] = set()
        self._moved: set[str] = set()  # fills that a window must end with
        self._judged: set[str] = set()
        self._approved: set[str] = set()
        self._sent: set[str] = set()  # approvals with an order
        self._ended: set[str] = set()

    async def read(self) -> None:
        """Take in what is new."""
        async for entry in self._entries(self.seq):
            self.hear(entry)

    def hear(self, entry: Entry) -> None:
        if entry.seq != self.seq + 1:
            self._fault(f"messages {self.seq + 1} to {entry.seq - 1} are missing")
        self.seq = entry.seq
        if entry.batch is None:
            self._fault(f"message {entry.seq} ({entry.subject}) cannot be read: {entry.error}")
            return
        lane = lane_of(entry.subject)
        if lane is not None:
            self.heads.append(Head(entry.seq, lane, entry.batch.epoch))
            if lane.service == "risk":
                self._fold_risk(entry.batch)
        self.rows.update(said(entry.batch.facts))
        for fact in entry.batch.facts:
            self.facts += 1
            self._once(self._ids, fact.id, fact, "said")
            self._take(fact)

    def _take(self, fact: Fact) -> None:
        match fact:
            case LeaderFilled() | LeaderActed():
                self._heard.add(fact.id)
            case FillCounted():
                self._count(fact)
            case IntentFormed() | WindowNetted():
                for fill in fact.fills:
                    self._once(self._judged, fill, fact, "judged")
            case OrderApproved():
                self._approved.add(fact.id)
            case ReservationEnded():
                self._once(self._ended, fact.approval, fact, "ended")
            case _:
                self._take_order(fact)

    def _take_order(self, fact: Fact) -> None:
        match fact:
            case OrderPrepared():
                self._once(self._sent, fact.approval, fact, "prepared")
                if fact.approval not in self._approved:
                    self._fault(f"order {fact.order} has no approval on record")
                self.prepared.add(fact.order)
                self.named.add(fact.metadata)
            case OrderClosed():
                self._once(self.closed, fact.order, fact, "closed")
            case OrderFilled():
                self.filled += 1
                self._move(fact.token, fact.size if fact.side == "BUY" else Shares(-fact.size))
                if fact.settlement == "FAILED":
                    self._undo(fact)
            case FillSettled() if fact.settlement == "FAILED":
                self._undo(fact)
            case PositionCorrected():
                self.corrections += 1
                self._move(fact.token, Shares(fact.shares + fact.claim))
            case OrphanFound():
                self.orphans += 1
            case _:
                pass

    def _undo(self, fact: OrderFilled | FillSettled) -> None:
        self._move(fact.token, Shares(-fact.size) if fact.side == "BUY" else fact.size)

    def _move(self, token: TokenId, shares: Shares) -> None:
        self.positions[token] = self.positions.get(token, 0) + shares

    def _count(self, fact: FillCounted) -> None:
        if fact.cause in self._heard:
            self._once(self._counted, fact.cause, fact, "counted")
            if not fact.baseline and fact.yes != fact.no:
                self._moved.add(fact.cause)

    def _once(self, seen: "set[str] | set[OrderHash]", name: str, fact: Fact, verb: str) -> None:
        if name in seen:
            self._fault(f"{name} was {verb} twice: {fact}")
        seen.add(name)  # type: ignore[arg-type] # an order's hash is a str

    def _fault(self, text: str) -> None:
        if len(self.faults) < _FAULTS_KEPT:
            self.faults.append(text)

    # --- caps -----------------------------------------------------------------------------

    def _fold_risk(self, batch: Batch) -> None:
        """Fold risk's state, and hold each approval that adds risk against the caps."""
        for fact in batch.facts:
            risk.evolve(self.risk, fact)
            if isinstance(fact, OrderApproved) and not fact.reduces:
                self._check_caps(fact)

    def _check_caps(self, fact: OrderApproved) -> None:
        group = self.risk.groups[fact.condition]
        used = usage(self.risk, fact.leader, fact.condition, group)
        by_leader = fact.worst_usd if fact.leader_usd is None else fact.leader_usd
        by_account = fact.worst_usd if fact.market_usd is None else fact.market_usd
        for name, adds, dollars, most in (
            ("leader", by_leader, used.leader, self._caps.leader),
            ("market", by_account, used.market, self._caps.market),
            ("total", by_account, used.total, self._caps.total),
        ):
            if adds and dollars > most:
                told = f"{format_micro(dollars)} of {format_micro(most)}"
                self._fault(f"approval {fact.id} takes the {name} cap to {told} dollars")

    @property
    def at_risk_usd(self) -> Usd:
        return Usd(sum(at_risk(self.risk).values()))

    def attributed(self) -> dict[TokenId, int]:
        """Return what risk has booked, by token: sets between leaders taken out again."""
        booked: Counter[tuple[str, int]] = Counter()
        for held in self.risk.held.values():
            for outcome in (0, 1):
                booked[held.condition, outcome] += held.of(outcome).shares
        for condition, sets in self.risk.crossed.items():
            booked[condition, 0] -= sets
            booked[condition, 1] -= sets
        return {self._tokens[place]: shares for place, shares in booked.items() if shares}

    # --- what is open ---------------------------------------------------------------------

    def open_things(self, rows: "Counter[Row]") -> list[str]:
        """Return what has not come to its end yet, given the rows that the venue executed."""
        counts = {
            "leaders' rows are missing": (rows - self.rows).total(),
            "leaders' rows are too many": (self.rows - rows).total(),
            "rows are not counted": len(self._heard - self._counted),
            "counted fills are in an open window": len(self._moved - self._judged),
            "approvals are open": len(self._approved - self._ended),
            "orders are open": len(self.prepared - self.closed),
        }
        return [f"{count} {name}" for name, count in counts.items() if count]

    def evidence(self, rows: "Counter[Row]") -> list[str]:
        """Return the names behind ``open_things``, some of each."""
        found: list[tuple[str, Sequence[object]]] = [
            ("missing", [*(rows - self.rows).elements()]),
            ("too many", [*(self.rows - rows).elements()]),
            ("not counted", sorted(self._heard - self._counted)),
            ("in an open window", sorted(self._moved - self._judged)),
            ("approval open", sorted(self._approved - self._ended)),
            ("order open", sorted(self.prepared - self.closed)),
        ]
        return [f"{name}: {each}" for name, names in found for each in names[:5]]

    def first_after(self, seq: int, lanes: dict[Lane, int]) -> Head | None:
        """Return the first message after ``seq`` of one of the lanes, by a later holder.

        ``lanes`` maps each to the last revision of the lease that is gone.
        """
        for head in self.heads:
            if head.seq > seq and head.epoch > lanes.get(head.lane, head.epoch):
                return head
        return None
