"""What other settings would have done with the same intents, on the books of the same moments.

Every decision in the ledger holds the ladder it saw, so a core with other settings can be asked
again, without a feed. Its orders are filled from that ladder as far as they reach, at its prices:
what the market would have done to a larger order behind the recorded levels is not known, so
nothing is filled there. Exits that were never decided, for nothing was held, are judged on the
last ladder that was seen of their market, and counted as approximate.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from services.lab.fills import closed, filled
from services.risk import core
from services.risk.policy import Policy
from services.risk.state import Feeds, Reconsider, Review, State, View, due
from shared.domain.book import Book, Level, walk
from shared.domain.ids import ConditionId, Wallet
from shared.domain.market import Market, fee_up
from shared.domain.messages import (
    EquityMarked,
    Fact,
    FollowLeader,
    HaltTrading,
    HoldingChanged,
    IntentFormed,
    OrderApproved,
    OrderRefused,
    Quote,
    ReduceOnly,
    ResumeTrading,
    TargetSet,
    UnfollowLeader,
    Verdict,
)
from shared.domain.units import MICRO, Price, Shares, Usd, cost_up, proceeds_down
from shared.domain.views import AccountView

_STEPS_MAX: Final = 4  # orders an intent may take: a flip sells, buys, and may be trimmed
_DEEP: Final = Shares(10**15)
_HEARD: Final = Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=0)
_COMMANDS: Final = (HaltTrading, ReduceOnly, ResumeTrading, UnfollowLeader, FollowLeader)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorded decision on an intent stood on."""

    market: Market
    quote: Quote
    outcome: int  # of the traded token
    volatility: int | None
    collateral: Usd | None


class Line(msgspec.Struct, kw_only=True):
    """What one leader, or all, came to under one configuration; dollars and shares exact."""

    intents: int = 0
    orders: int = 0
    bought: Usd = Usd(0)
    sold: Usd = Usd(0)
    fees: Usd = Usd(0)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    realised: Usd = Usd(0)
    held: Usd = Usd(0)  # cost of what is left at the end
    value: Usd = Usd(0)  # of it, at the last bids seen


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one intent under one configuration."""

    target: Shares
    bought: Usd
    sold: Usd
    reason: str  # of the first refusal, "" if there was none


class Outcome(msgspec.Struct, kw_only=True):
    """One configuration over the whole record."""

    leaders: dict[Wallet, Line]
    choices: dict[str, Choice]  # by intent
    approximate: int = 0  # intents judged on an older ladder than their own
    unseen: int = 0  # intents in a market of which no ladder is on record

    def total(self) -> Line:
        whole = Line()
        for line in self.leaders.values():
            for name in ("intents", "orders", "bought", "sold", "fees", "realised", "held",
                         "value"):  # fmt: skip
                setattr(whole, name, getattr(whole, name) + getattr(line, name))
            whole.refused += line.refused
        return whole


class Record(msgspec.Struct, kw_only=True):
    """What a ledger says of its decisions."""

    events: list[Fact]  # intents, commands and marks, in the ledger's order
    seen: dict[str, Seen]  # by intent
    recorded: dict[str, Shares]  # size of the first order approved for an intent, 0 if refused


def record(facts: Iterable[Fact]) -> Record:
    """Return what can be asked again; facts are in the ledger's order."""
    found = Record(events=[], seen={}, recorded={})
    targets: dict[str, TargetSet] = {}
    exposures: dict[str, Shares] = {}  # by intent: the leader's, after it
    for fact in facts:
        match fact:
            case TargetSet():
                targets[fact.id] = fact
                if fact.market is not None and fact.quote is not None:
                    found.recorded[fact.cause] = Shares(0)
                    outcome = 0 if exposures.get(fact.cause, 0) > 0 else 1
                    found.seen[fact.cause] = _of(fact, fact.market, fact.quote, outcome, ())
            case OrderApproved() | OrderRefused():
                target = targets.get(fact.cause)
                if target is None or target.cause in found.recorded:
                    continue
                size = fact.size if isinstance(fact, OrderApproved) else Shares(0)
                found.recorded[target.cause] = size
                seen = _seen(target, fact)
                if seen is not None:
                    found.seen[target.cause] = seen
            case IntentFormed():
                exposures[fact.id] = fact.after
                found.events.append(fact)
            case _ if isinstance(fact, (EquityMarked, *_COMMANDS)):
                found.events.append(fact)
            case _:
                pass
    return found


def _seen(target: TargetSet, fact: OrderApproved | OrderRefused) -> Seen | None:
    if fact.quote is None or fact.market is None or fact.token is None:
        return None
    outcome = fact.market.outcome_of(fact.token)
    return _of(target, fact.market, fact.quote, outcome, fact.verdicts)


def _of(
    target: TargetSet, market: Market, quote: Quote, outcome: int, verdicts: tuple[Verdict, ...]
) -> Seen:
    vol = next((v.actual for v in target.arithmetic if v.rule == "volatility"), -1)
    return Seen(
        market=market,
        quote=quote,
        outcome=outcome,
        volatility=None if vol < 0 else vol,
        collateral=next((Usd(v.limit) for v in verdicts if v.rule == "balance" and v.limit), None),
    )


def replayed(of: Record, policy: Policy) -> Outcome:
    """Return what a core with these settings does with a record."""
    run = _Run(policy)
    for fact in of.events:
        if isinstance(fact, IntentFormed):
            run.intent(fact, of.seen.get(fact.id))
        elif isinstance(fact, EquityMarked):
            run.mark(fact)
        else:
            run.tell(fact, fact.ts_ns)
    return run.ended()


class _Run:
    def __init__(self, policy: Policy) -> None:
        self._policy, self._state = policy, State()
        self._last: dict[ConditionId, Seen] = {}
        self._lines: defaultdict[Wallet, Line] = defaultdict(Line)
        self._outcome = Outcome(leaders=self._lines, choices={})

    def tell(self, message: Any, now_ns: int) -> list[Fact]:
        facts = core.decide(self._policy, self._state, message, now_ns)
        for fact in facts:
            core.evolve(self._state, fact)
            if isinstance(fact, HoldingChanged):
                self._lines[fact.leader].realised += fact.realised  # type: ignore[assignment]
        return facts

    def mark(self, fact: EquityMarked) -> None:
        """Take the recorded worth of the account; profit and drawdown are this run's own."""
        core.evolve(
            self._state,
            msgspec.structs.replace(fact, profit=Usd(0), peak=Usd(0), day_profit=Usd(0)),
        )

    def intent(self, fact: IntentFormed, own: Seen | None) -> None:
        line = self._lines[fact.leader]
        line.intents += 1
        seen = own or self._last.get(fact.condition)
        if seen is None:
            self._outcome.unseen += 1
            return
        self._last[fact.condition] = seen
        self._outcome.approximate += own is None
        view, now_ns = _view(seen, fact.ts_ns), fact.ts_ns
        bought, sold, reason = line.bought, line.sold, ""
        facts = self.tell(Review(intent=fact, view=view), now_ns)
        for _ in range(_STEPS_MAX):
            reason = reason or self._refusal(facts, line)
            if not self._fill(facts, view, now_ns):
                break
            keys = due(self._state, self._policy.dust, now_ns)
            views = {key: view for key in keys if key.endswith(fact.condition)}
            facts = self.tell(Reconsider(now_ns=now_ns, views=views, feeds=_HEARD), now_ns)
        target = self._state.targets.get(f"{fact.leader}|{fact.condition}")
        self._outcome.choices[fact.id] = Choice(
            target=target.target if target else Shares(0),
            bought=Usd(line.bought - bought),
            sold=Usd(line.sold - sold),
            reason=reason,
        )

    def _refusal(self, facts: list[Fact], line: Line) -> str:
        for fact in facts:
            if isinstance(fact, OrderRefused):
                line.refused[fact.reason] += 1
                return fact.reason
        return ""

    def _fill(self, facts: list[Fact], view: View, now_ns: int) -> bool:
        """Fill what was approved from the ladder it was approved on."""
        approved = next((fact for fact in facts if isinstance(fact, OrderApproved)), None)
        if approved is None:
            return any(isinstance(fact, HoldingChanged) for fact in facts)
        line = self._lines[approved.leader]
        outcome = approved.market.outcome_of(approved.token)
        book = view.books[outcome]
        assert book is not None
        taken = walk(book, approved.side, approved.size, approved.limit)
        line.orders += 1
        if taken.filled and taken.average:
            fee = fee_up(approved.market, taken.average, taken.filled)
            fill = filled(approved, taken.filled, taken.average, fee=fee, now_ns=now_ns)
            dollars = (cost_up if fill.side == "BUY" else proceeds_down)(fill.price, fill.size)
            if fill.side == "BUY":
                line.bought = Usd(line.bought + dollars)
            else:
                line.sold = Usd(line.sold + dollars)
            line.fees = Usd(line.fees + fill.fee)
            self.tell(fill, now_ns)
        self.tell(closed(approved, taken.filled, now_ns=now_ns), now_ns)
        return taken.filled > 0

    def ended(self) -> Outcome:
        for held in self._state.held.values():
            line = self._lines[held.leader]
            line.held = Usd(line.held + held.yes.cost + held.no.cost)
            seen = self._last.get(held.condition)
            if seen is None:
                continue
            view = _view(seen, 0)
            for outcome in (0, 1):
                book = view.books[outcome]
                bid = (book.best_bid if book else None) or Price(0)
                worth = proceeds_down(bid, Shares(max(0, held.of(outcome).shares)))
                line.value = Usd(line.value + worth)
        return self._outcome


def _view(seen: Seen, now_ns: int) -> View:
    """Return the recorded moment as a core sees it; one outcome's bids are the other's asks."""
    quote, market = seen.quote, seen.market
    buying = not quote.levels or quote.best_ask == quote.levels[0][0]
    asks = quote.levels if buying else _one(quote.best_ask)
    bids = _one(quote.best_bid) if buying else quote.levels
    fields: dict[str, Any] = {
        "condition": market.condition, "tick": market.tick, "as_of_ns": now_ns,
        "seen_ns": now_ns - quote.book_age_ns, "trusted": True, "volatility": seen.volatility,
    }  # fmt: skip
    own = Book(token=market.tokens[seen.outcome], bids=bids, asks=asks, **fields)
    other = Book(
        token=market.tokens[1 - seen.outcome], bids=_mirror(asks), asks=_mirror(bids), **fields
    )
    account = AccountView(
        as_of_ns=now_ns, collateral=seen.collateral or Usd(_DEEP), closed_only=False, orders=()
    )
    return View(
        market=msgspec.structs.replace(market, as_of_ns=now_ns),
        books=(own, other) if seen.outcome == 0 else (other, own),
        account=account,
        feeds=_HEARD,
    )


def _one(price: Price | None) -> tuple[Level, ...]:
    """Return the best price alone; how deep that side was is not on record."""
    return () if price is None else ((price, _DEEP),)


def _mirror(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple((Price(MICRO - price), size) for price, size in levels)
