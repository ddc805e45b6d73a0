"""Domain values with defaults: a test names only what its claim is about."""

from collections.abc import Sequence
from typing import Literal

from shared.domain.book import Book, Level
from shared.domain.ids import ConditionId, TokenId, TxHash, Wallet, content_id
from shared.domain.market import Market, Side
from shared.domain.messages import FillCounted, LeaderActed, LeaderBaselineRead, LeaderFilled
from shared.domain.observations import Activity
from shared.domain.units import MICRO, NS_PER_S, ZERO_SHARES, Price, Shares, Usd

T0_S = 1_790_000_000
T0_NS = T0_S * NS_PER_S
LEADER = Wallet("0x" + "a1" * 20)
OTHER_LEADER = Wallet("0x" + "b2" * 20)
CONDITION = ConditionId("0x" + "c3" * 32)
OTHER_CONDITION = ConditionId("0x" + "d4" * 32)
YES = TokenId("7100")
NO = TokenId("7101")
ONE_CENT = Price(10_000)
HALF = Price(500_000)
TEN = Shares(10 * MICRO)


def shares(whole: float) -> Shares:
    return Shares(round(whole * MICRO))


def cents(number: int) -> Price:
    return Price(number * 10_000)


def tx(number: int = 0) -> TxHash:
    return TxHash(f"0x{number:064x}")


def level(price_cents: int, size: float) -> Level:
    return (cents(price_cents), shares(size))


def a_book(*, bids: Sequence[Level] = (), asks: Sequence[Level] = ()) -> Book:
    return Book(token=YES, condition=CONDITION, bids=tuple(bids), asks=tuple(asks))


def a_market(*, tick: Price = ONE_CENT, fee_rate: int = 0, fee_exponent: int = 1) -> Market:
    return Market(
        condition=CONDITION,
        tokens=(YES, NO),
        outcomes=("Yes", "No"),
        tick=tick,
        size_min=shares(5),
        fee_rate=fee_rate,
        fee_exponent=fee_exponent,
    )


def a_trade(
    *,
    leader: Wallet = LEADER,
    condition: ConditionId = CONDITION,
    outcome: Literal[0, 1] = 0,
    side: Side = "BUY",
    price: Price = HALF,
    size: Shares = TEN,
    number: int = 0,
    at_s: int = T0_S,
) -> Activity:
    """Return a row of activity; ``number`` is that of its transaction."""
    return Activity(
        wallet=leader,
        action="TRADE",
        condition=condition,
        token=NO if outcome else YES,
        outcome=outcome,
        side=side,
        price=price,
        size=size,
        tx=tx(number),
        venue_ns=at_s * NS_PER_S,
    )


def an_action(
    action: Literal["SPLIT", "MERGE", "REDEEM", "CONVERSION"],
    *,
    leader: Wallet = LEADER,
    size: Shares = TEN,
    number: int = 0,
    at_s: int = T0_S,
) -> Activity:
    return Activity(
        wallet=leader,
        action=action,
        condition=CONDITION,
        size=size,
        tx=tx(number),
        venue_ns=at_s * NS_PER_S,
    )


def a_fill(
    name: int | str = 0,
    *,
    leader: Wallet = LEADER,
    condition: ConditionId = CONDITION,
    outcome: Literal[0, 1] = 0,
    side: Side = "BUY",
    price: Price = HALF,
    size: Shares = TEN,
    ts_ns: int = T0_NS,
) -> LeaderFilled:
    """Return a leader's fill; fills of one name are one fill."""
    id_ = content_id("leader_filled", name)
    return LeaderFilled(
        id=id_,
        cause="",
        root=id_,
        ts_ns=ts_ns,
        leader=leader,
        condition=condition,
        token=NO if outcome else YES,
        outcome=outcome,
        side=side,
        price=price,
        size=size,
        tx=tx(),
        row=str(name),
        ordinal=0,
        seen_ns=ts_ns,
        source="stream",
    )


def an_act(
    action: Literal["SPLIT", "MERGE", "REDEEM", "CONVERSION"],
    name: int | str = 0,
    *,
    leader: Wallet = LEADER,
    condition: ConditionId = CONDITION,
    size: Shares = TEN,
    ts_ns: int = T0_NS,
) -> LeaderActed:
    id_ = content_id("leader_acted", action, name)
    return LeaderActed(
        id=id_,
        cause="",
        root=id_,
        ts_ns=ts_ns,
        leader=leader,
        condition=condition,
        action=action,
        size=size,
        tx=tx(),
        row=str(name),
        ordinal=0,
        seen_ns=ts_ns,
    )


def a_baseline(
    *holdings: tuple[ConditionId, Shares, Shares],
    leader: Wallet = LEADER,
    rows: Sequence[str] = (),
    through_s: int = T0_S,
    kept_s: int = T0_S - 600,
) -> LeaderBaselineRead:
    """Return what a leader held (market, YES, NO) when we began to follow him."""
    id_ = content_id("leader_baseline_read", leader, through_s)
    return LeaderBaselineRead(
        id=id_,
        cause="",
        root=id_,
        ts_ns=through_s * NS_PER_S,
        leader=leader,
        holdings=holdings,
        rows=tuple(rows),
        through_s=through_s,
        kept_s=kept_s,
    )


def a_count(*, yes: Shares = TEN, no: Shares = ZERO_SHARES, baseline: bool = False) -> FillCounted:
    """Return a change of ``LEADER``'s exposure."""
    id_ = content_id("leader_filled", 0)
    return FillCounted(
        id=content_id("fill_counted", id_),
        cause=id_,
        root=id_,
        ts_ns=T0_NS,
        leader=LEADER,
        condition=CONDITION,
        yes=yes,
        no=no,
        notional=Usd(5 * MICRO),
        yes_price=HALF,
        venue_ns=T0_NS,
        baseline=baseline,
    )
