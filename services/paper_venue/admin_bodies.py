"""The bodies of the control API and how their texts are read; an unknown field is refused."""

from typing import Annotated, Literal

import msgspec

from services.paper_venue.state import Outcome, Refused
from shared.domain.ids import ConditionId, Wallet, condition_id, wallet
from shared.domain.market import Protocol, Side
from shared.domain.units import Shares, parse_micro

Amount = str | Annotated[int, msgspec.Meta(ge=0)]  # decimal text, or whole units
Levels = tuple[tuple[Amount, Amount], ...]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class MarketBody(Body, frozen=True, kw_only=True):
    """A market to open; what is left out is invented from the slug."""

    slug: str
    condition: str = ""
    tokens: tuple[str, str] | None = None
    outcomes: tuple[str, str] = ("Yes", "No")
    question: str = ""
    event: str = ""
    tick: Amount = ""
    size_min: Amount = ""
    fee_rate: Amount = ""
    neg_risk: bool = False
    category: str = ""
    tags: tuple[str, ...] = ()
    protocol: Protocol = "v1"  # unknown: nobody can sign for it, the venue included
    taker_delay: bool = False
    seconds_delay: int = 0
    start_s: int = 0  # unix seconds of the game's start, when resting orders are wiped; 0: never
    accepting_orders: bool = True
    end_s: int = 0
    bids: Levels = ()
    asks: Levels = ()


class BookBody(Body, frozen=True, kw_only=True):
    condition: str
    bids: Levels = ()
    asks: Levels = ()


class FillBody(Body, frozen=True, kw_only=True):
    wallet: str
    condition: str
    outcome: Outcome
    side: Side
    size: Amount
    price: Amount = ""
    tx: str = ""
    exact: bool = False
    immediate: bool = False


class FillsBody(Body, frozen=True, kw_only=True):
    fills: tuple[FillBody, ...]
    immediate: bool = False
    rows: bool = False  # answer with every row, not only with counts


class ActivityBody(Body, frozen=True, kw_only=True):
    wallet: str
    type: Literal["SPLIT", "MERGE", "REDEEM"]
    condition: str
    size: Amount
    immediate: bool = False


class FundBody(Body, frozen=True, kw_only=True):
    wallet: str
    usd: str | int  # may be negative: a withdrawal
    owner: str = ""
    signature_type: Literal[1, 2, 3] | None = None


class OutsideBody(Body, frozen=True, kw_only=True):
    wallet: str
    condition: str
    outcome: Outcome
    side: Side
    size: Amount
    price: Amount = ""


class ResolveBody(Body, frozen=True, kw_only=True):
    condition: str
    payouts: tuple[Amount, Amount]


def size_of(amount: Amount) -> Shares:
    size = micro_of(amount)
    if size <= 0:
        raise Refused("a size is a positive number of shares")
    return Shares(size)


def micro_of(amount: Amount) -> int:
    try:
        return parse_micro(str(amount))
    except ValueError as error:
        raise Refused(str(error)) from None


def wallet_of(text: str) -> Wallet:
    try:
        return wallet(text)
    except ValueError as error:
        raise Refused(str(error)) from None


def condition_of(text: str) -> ConditionId:
    try:
        return condition_id(text)
    except ValueError as error:
        raise Refused(str(error)) from None
