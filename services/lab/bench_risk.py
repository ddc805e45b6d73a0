"""How long risk thinks about one intent: every rule, the sizing and the walk of the book."""

import statistics
from typing import Final

import msgspec

from services.lab.fills import closed, filled
from services.risk import core
from services.risk.policy import Policy
from services.risk.settings import policy_from
from services.risk.state import Feeds, Marks, Reconsider, Review, State, View
from shared.domain.book import Book, Level
from shared.domain.ids import ConditionId, TokenId, Wallet, content_id
from shared.domain.market import Market
from shared.domain.messages import (
    Fact,
    IntentFormed,
    OrderApproved,
)
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares, Usd
from shared.domain.views import AccountView
from shared.runtime.clock import SystemClock
from shared.runtime.config import AccountConfig, Config, RiskConfig

_NOW_NS: Final = 1_790_000_000 * NS_PER_S
_LEADERS: Final = 10
_LEVELS: Final = 20
_CENT: Final = 10_000
_HUGE: Final = Usd(10**9 * MICRO // 2)
_clock = SystemClock()


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one decision, in microseconds, with so many markets held already."""

    held: int
    p50_us: float
    p99_us: float


def policy() -> Policy:
    """Return the default settings, with caps that let every market of the measurement be held."""
    risk = RiskConfig(
        market_usd_max=_HUGE, event_usd_max=_HUGE, category_usd_max=_HUGE, total_usd_max=_HUGE,
        leader_usd_max=_HUGE,
    )  # fmt: skip
    return policy_from(Config(mode="live", account=AccountConfig(wallet=_wallet(0)), risk=risk))


def thinking(held: int, decisions: int) -> Thinking:
    """Return how long an entry takes that passes every rule, with ``held`` markets on the books."""
    rules, state = policy(), State()
    _say(rules, state, Reconsider(now_ns=_NOW_NS, views={}, feeds=_heard(), marks=_marks()))
    for number in range(held):
        _copy(rules, state, number)
    times: list[int] = []
    view = _view(held)
    for number in range(decisions):
        request = Review(intent=_intent(held, f"decision {number}"), view=view)
        began_ns = _clock.monotonic_ns()
        facts = core.decide(rules, state, request, _NOW_NS)
        times.append(_clock.monotonic_ns() - began_ns)
        assert isinstance(facts[-1], OrderApproved), facts[-1]
    cuts = statistics.quantiles(times, n=100)
    return Thinking(held=held, p50_us=cuts[49] / 1_000, p99_us=cuts[98] / 1_000)


def _copy(rules: Policy, state: State, number: int) -> None:
    """Let one leader's entry be copied and filled whole."""
    facts = _say(rules, state, Review(intent=_intent(number, "entry"), view=_view(number)))
    (order,) = [fact for fact in facts if isinstance(fact, OrderApproved)]
    price = order.quote.average or order.limit
    _say(rules, state, filled(order, order.size, price, fee=Usd(0), now_ns=_NOW_NS))
    _say(rules, state, closed(order, order.size, now_ns=_NOW_NS))


def _say(rules: Policy, state: State, message: object) -> list[Fact]:
    facts = core.decide(rules, state, message, _NOW_NS)
    for fact in facts:
        core.evolve(state, fact)
    return facts


def _heard() -> Feeds:
    return Feeds(report_ns=0, stream_lost=False, polls_ns=0, books_ns=0)


def _marks() -> Marks:
    return Marks(collateral=_HUGE, bids={})


def _wallet(number: int) -> Wallet:
    return Wallet(f"0x{number + 1:040x}")


def _market(number: int) -> Market:
    return Market(
        condition=ConditionId(f"0x{number + 1:064x}"),
        tokens=(TokenId(f"{2 * number + 1}"), TokenId(f"{2 * number + 2}")),
        outcomes=("Yes", "No"),
        tick=Price(_CENT),
        size_min=Shares(5 * MICRO),
        fee_rate=50_000,
        event=f"event-{number // 3}",
        category="sports" if number % 2 else "crypto",
        as_of_ns=_NOW_NS,
    )


def _view(number: int) -> View:
    market = _market(number)
    account = AccountView(as_of_ns=_NOW_NS, collateral=_HUGE, closed_only=False, orders=())
    return View(
        market=market,
        books=(_book(market, 0, 49), _book(market, 1, 50)),
        account=account,
        feeds=_heard(),
    )


def _book(market: Market, outcome: int, bid: int) -> Book:
    def levels(first: int, step: int) -> tuple[Level, ...]:
        return tuple(
            (Price((first + step * at) * _CENT), Shares(40 * MICRO)) for at in range(_LEVELS)
        )

    return Book(
        token=market.tokens[outcome],
        condition=market.condition,
        bids=levels(bid, -1),
        asks=levels(bid + 1, 1),
        as_of_ns=_NOW_NS,
        seen_ns=_NOW_NS,
        trusted=True,
        volatility=30_000,
    )


def _intent(number: int, name: str) -> IntentFormed:
    return IntentFormed(
        id=content_id("intent_formed", name, number),
        cause="fill",
        root="root",
        ts_ns=_NOW_NS,
        leader=_wallet(number % _LEADERS),
        condition=_market(number).condition,
        before=Shares(0),
        after=Shares(1_000 * MICRO),
        yes_price=Price(50 * _CENT),
        notional=Usd(500 * MICRO),
        fills=("fill",),
        opened_ns=_NOW_NS - 500 * NS_PER_MS,
        venue_ns=_NOW_NS - 500 * NS_PER_MS,
        closed_by="quiet",
    )
