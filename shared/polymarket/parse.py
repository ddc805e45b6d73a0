"""Public wire data to domain values: books, markets, what wallets did and hold.

Values are converted by `scalars`; here is decided what a message as a whole means. Whatever
cannot be understood raises WireError: a guess would be a wrong position.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, NamedTuple, get_args

from shared.domain.book import Book, BookSource, Level
from shared.domain.ids import ConditionId, TokenId
from shared.domain.market import Market, Protocol
from shared.domain.observations import Action, Activity, PositionReport
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares
from shared.polymarket import scalars, wire
from shared.polymarket.errors import WireError

_ACTIONS: Final = frozenset(get_args(Action))
# Money and bookkeeping; a holding that moves without a fill (TIP, MIGRATION) is found by
# comparing positions, since these rows do not say which way it went.
_UNMOVING: Final = frozenset(
    {
        "REWARD",
        "MIGRATION",
        "DEPOSIT",
        "WITHDRAWAL",
        "YIELD",
        "MAKER_REBATE",
        "TAKER_REBATE",
        "REFERRAL_REWARD",
        "TIP",
    }
)
_NO_OUTCOME: Final = 999
_V2_RESERVED_BITS: Final = ((1 << 64) - 1) << 40
_COMBO_MODULE: Final = 3
_TAGS_MAX: Final = 32  # of a market; an event has about ten
_SLUG_CHARS_MAX: Final = 64
_SHORT_DELAY_NS: Final = 250 * NS_PER_MS
_DELAY_S_MAX: Final = 3_600


class Resolution(NamedTuple):
    """A market that the venue settled, and what a share of each outcome is worth."""

    condition: ConditionId
    payouts: tuple[Price, Price]


def book(
    told: wire.Book,
    *,
    now_ns: int,
    trusted: bool = False,
    tick: Price | None = None,
    source: BookSource = "stream",
) -> Book:
    """Return the book, best levels first; ``tick`` is used where the message has none."""
    return Book(
        token=scalars.token(told.asset_id, where="book.asset_id"),
        condition=scalars.condition(told.market, where="book.market"),
        bids=_levels(told.bids, where="book.bids", best_first=True),
        asks=_levels(told.asks, where="book.asks", best_first=False),
        tick=_tick(told.tick_size, tick),
        as_of_ns=scalars.moment_ns(told.timestamp, now_ns=now_ns, where="book.timestamp"),
        seen_ns=now_ns,
        trusted=trusted,
        source=source,
    )


def rest_book(body: bytes, *, now_ns: int) -> Book:
    """Return a book as read over REST: trusted, as the truth of its moment, if its hash is right.

    A crossed one is none. One that tells no hash brings no evidence against itself.
    """
    told = wire.decode(body, wire.Book, where="/book")
    sound = not told.hash or wire.book_hash(body) == told.hash
    read = book(told, now_ns=now_ns, trusted=sound, source="rest")
    if read.is_crossed:
        raise WireError("crossed book", where="/book", seen=body)
    return read


def market(
    told: wire.ClobMarket, gamma: wire.GammaMarket | None = None, *, as_of_ns: int
) -> Market:
    """Return the market's terms: the CLOB's word, named and dated by Gamma where it is known."""
    where = "/clob-markets"
    condition = scalars.condition(told.c, where=f"{where}.c")
    tokens = [scalars.token(entry.t, where=f"{where}.t") for entry in told.t]
    if len(tokens) != 2 or tokens[0] == tokens[1]:
        raise WireError("not a binary market", where=f"{where}.t", seen=tokens)
    fees = told.fd or wire.FeeTerms()
    named = gamma or wire.GammaMarket()
    if gamma and scalars.condition(gamma.condition_id, where="gamma.conditionId") != condition:
        raise WireError("another market", where="gamma.conditionId", seen=gamma.condition_id)
    return Market(
        condition=condition,
        tokens=(tokens[0], tokens[1]),
        outcomes=(told.t[0].o, told.t[1].o),
        tick=scalars.price(told.mts, where=f"{where}.mts"),
        size_min=Shares(scalars.amount(told.mos, where=f"{where}.mos")),
        neg_risk=bool(told.nr),
        protocol=_protocol(told.v, tokens[0]),
        fee_rate=scalars.amount(fees.r or Decimal(0), where=f"{where}.fd.r"),
        fee_exponent=_exponent(fees.e),
        accepting_orders=bool(told.ao),
        taker_delay=bool(told.itode),
        delay_ns=_delay_ns(told, named),
        slug=named.slug or "",
        question=named.question or "",
        event=named.neg_risk_market or _event_slug(named),
        category=_category(named),
        tags=_tags(named),
        end_ns=scalars.iso_ns(named.end_date, where="gamma.endDate") if named.end_date else 0,
        as_of_ns=as_of_ns,
    )


def activity(told: wire.ActivityRow | wire.RtdsRow, *, now_ns: int) -> Activity | None:
    """Return what a wallet did, or None for what moves no exposure that we could follow.

    None is: money coming and going, rebates, and combos, which do not trade on a book.
    """
    kind = told.type if isinstance(told, wire.ActivityRow) else "TRADE"
    if kind in _UNMOVING or _is_combo_row(told):
        return None
    if kind not in _ACTIONS:
        raise WireError("unknown type", where="activity.type", seen=kind)
    action: Action = kind  # type: ignore[assignment]  # a member of Action, checked above
    size = scalars.size_from_double(told.size, where="activity.size")
    row = Activity(
        wallet=scalars.wallet(told.proxy_wallet, where="activity.wallet"),
        action=action,
        condition=scalars.condition(told.condition_id, where="activity.condition"),
        size=size,
        tx=scalars.tx_hash(told.transaction_hash, where="activity.transaction"),
        venue_ns=scalars.moment_ns(told.timestamp, now_ns=now_ns, where="activity.timestamp"),
        token=scalars.token(told.token_id, where="activity.token") if told.token_id else None,
        outcome=_outcome(told.outcome_index),
        side=scalars.side(told.side, where="activity.side") if told.side else None,
        price=_fill_price(told.price) if action == "TRADE" else None,
    )
    if action == "TRADE" and (not size or row.token is None or row.side is None):
        raise WireError("a trade without size, token or side", where="activity", seen=told)
    return row


def position(told: wire.PositionRow) -> PositionReport | None:
    """Return a holding, or None for a combo, which is of no market."""
    token = scalars.token(told.token_id, where="position.token")
    if is_combo(token):
        return None
    if not 0 <= told.outcome_index < _NO_OUTCOME:
        raise WireError("no outcome", where="position.outcome_index", seen=told.outcome_index)
    return PositionReport(
        wallet=scalars.wallet(told.proxy_wallet, where="position.wallet"),
        condition=scalars.condition(told.condition_id, where="position.condition"),
        token=token,
        outcome=told.outcome_index,
        size=scalars.size_from_double(told.current_size, where="position.current_size"),
        average_price=scalars.valuation(told.avg_price, where="position.avg_price"),
        current_price=scalars.valuation(told.current_price, where="position.current_price"),
    )


def resolution(told: wire.ResolutionRow) -> Resolution | None:
    """Return a settled market, or None while it is not: only ``resolved`` pays."""
    where = "/v2/resolutions"
    condition = scalars.condition(told.condition_id, where=f"{where}.condition_id")
    if told.status.lower() != "resolved":
        return None
    payouts = told.payouts or []
    if len(payouts) != 2 or min(payouts) < 0 or sum(payouts) != MICRO:
        raise WireError("not payouts of a dollar", where=f"{where}.payouts", seen=told)
    return Resolution(condition, (Price(payouts[0]), Price(payouts[1])))


def is_position_id(token: TokenId) -> bool:
    """Tell whether a token is of a Protocol-V2 market: its id has 64 reserved zero bits."""
    return int(token) & _V2_RESERVED_BITS == 0


def is_combo(token: TokenId) -> bool:
    """Tell whether a token is a multi-leg product, which never trades on a book."""
    return is_position_id(token) and int(token) >> 248 == _COMBO_MODULE


def level(price: str, size: str, *, where: str) -> Level:
    """Return one level; its size may be zero only in a change."""
    return (
        scalars.price(price, where=f"{where}.price"),
        Shares(scalars.amount(size, where=f"{where}.size")),
    )


def best_price(text: str | None, *, where: str) -> Price | Literal["empty"] | None:
    """Return the best price a change reports, "empty" for a side without one, None if untold."""
    if text is None or text == "":
        return None
    micro = scalars.amount(text, where=where)
    return Price(micro) if 0 < micro < MICRO else "empty"


def _levels(told: list[wire.Level] | None, *, where: str, best_first: bool) -> tuple[Level, ...]:
    levels = [level(entry.price, entry.size, where=where) for entry in told or ()]
    levels.sort(reverse=best_first)
    if any(size == 0 for _, size in levels):
        raise WireError("a level without size", where=where)
    if len({price for price, _ in levels}) != len(levels):
        raise WireError("two levels at one price", where=where)
    return tuple(levels)


def _tick(text: str | None, known: Price | None) -> Price:
    if not text and known is not None:
        return known
    return scalars.price(text, where="tick_size")


def _protocol(version: str | None, token: TokenId) -> Protocol:
    """Return whose rules settle a market; what we do not know is still a market to look at."""
    if version is None:
        return "v2" if is_position_id(token) else "v1"
    if version == "v1":
        return "v1"
    return "v2" if version == "v2" else "unknown"


def _exponent(told: Decimal | None) -> int:
    if told is None:
        return 1
    if told not in {Decimal(0), Decimal(1), Decimal(2), Decimal(3), Decimal(4)}:
        raise WireError("not a small whole number", where="/clob-markets.fd.e", seen=told)
    return int(told)


def _delay_ns(told: wire.ClobMarket, gamma: wire.GammaMarket) -> int:
    """Return how long takers are held back: what Gamma says, or the short delay (protocol.md 2.7).

    The venue's pages call the short delay 250 ms; 150 have been measured. The longer is taken.
    """
    seconds = gamma.seconds_delay or Decimal(0)
    if not 0 <= seconds <= _DELAY_S_MAX:
        raise WireError("no delay", where="gamma.secondsDelay", seen=seconds)
    return max(int(seconds * NS_PER_S), _SHORT_DELAY_NS if told.itode else 0)


def _event_slug(gamma: wire.GammaMarket) -> str:
    return next((event.slug for event in gamma.events or () if event.slug), "")


def _category(gamma: wire.GammaMarket) -> str:
    named = (gamma.category, *(event.category for event in gamma.events or ()))
    return next((slug for slug in map(_slug, named) if slug), "")


def _tags(gamma: wire.GammaMarket) -> tuple[str, ...]:
    """Return every label of the market, its events and their series, each once."""
    told = list(_labels(gamma.tags))
    for event in gamma.events or ():
        told += [*_labels(event.tags), *_labels(event.series)]
    return tuple(dict.fromkeys(slug for slug in map(_slug, told) if slug))[:_TAGS_MAX]


def _labels(told: wire.GammaTags) -> Iterable[str | None]:
    if told is None or isinstance(told, str):
        return [told]
    return [tag if isinstance(tag, str) else tag.slug or tag.label for tag in told]


def _slug(text: str | None) -> str:
    return re.sub(r"[^\w]+", "-", (text or "").lower()).strip("-")[:_SLUG_CHARS_MAX]


def _is_combo_row(told: wire.ActivityRow | wire.RtdsRow) -> bool:
    if isinstance(told, wire.ActivityRow) and told.is_combo:
        return True
    if not told.token_id:
        return False
    return is_combo(scalars.token(told.token_id, where="activity.token"))


def _outcome(index: int | None) -> Literal[0, 1] | None:
    if index is None or index == _NO_OUTCOME:
        return None
    if index not in {0, 1}:
        raise WireError("no outcome of a binary market", where="activity.outcome", seen=index)
    return 0 if index == 0 else 1


def _fill_price(told: Decimal | None) -> Price:
    return scalars.price_derived(told, where="activity.price")
