"""What the market stream's messages say of tokens, and whom the unreadable ones were about."""

from typing import Final, Literal

import msgspec

from shared.domain.units import NS_PER_S
from shared.polymarket import parse, scalars, wire
from shared.polymarket.errors import WireError
from shared.polymarket.feed_events import FeedEvent, Resolved, Traded
from shared.polymarket.ladder import Change

FUTURE: Final[Literal["stamp from the future"]] = "stamp from the future"
FUTURE_NS_MAX: Final = 60 * NS_PER_S  # our clock against the venue's; a stamp beyond it is garbled
_BOOK_BEARING: Final = frozenset({"", "book", "price_change", "tick_size_change"})


def check_stamp(at_ns: int, *, now_ns: int, where: str) -> None:
    if at_ns > now_ns + FUTURE_NS_MAX:
        raise WireError(FUTURE, where=where, seen=at_ns)


def change_of(entries: list[wire.LevelChange], *, at_ns: int) -> Change:
    levels = []
    for entry in entries:
        is_bid = scalars.side(entry.side, where="price_change.side") == "BUY"
        levels.append((is_bid, *parse.level(entry.price, entry.size, where="price_change")))
    return Change(
        at_ns=at_ns,
        levels=tuple(levels),
        best_bid=parse.best_price(entries[-1].best_bid, where="price_change.best_bid"),
        best_ask=parse.best_price(entries[-1].best_ask, where="price_change.best_ask"),
    )


def resolution_of(event: wire.MarketResolved) -> Resolved:
    winner = event.winning_asset_id
    return Resolved(
        condition=scalars.condition(event.market, where="market_resolved.market"),
        winning_token=scalars.token(winner, where="market_resolved.winner") if winner else None,
    )


def traded(event: wire.LastTrade, *, now_ns: int) -> list[FeedEvent]:
    """Return the settlement a message names; those of old carry no transaction."""
    if not event.transaction_hash:
        return []
    where = "last_trade_price"
    at_ns = scalars.moment_ns(event.timestamp, now_ns=now_ns, where=f"{where}.timestamp")
    return [Traded(scalars.tx_hash(event.transaction_hash, where=f"{where}.tx"), at_ns)]


def tokens_of(event: wire.MarketEvent) -> list[str]:
    if isinstance(event, wire.PriceChange):
        return [entry.asset_id for entry in event.price_changes]
    return [event.asset_id] if isinstance(event, wire.Book | wire.TickSizeChange) else []


def tokens_in(piece: msgspec.Raw) -> list[str] | None:
    """Return whom an undecodable event was about; None where it does not even say that."""
    try:
        probe = wire.decode(piece, wire.Probe, where="market stream")
    except WireError:
        return None
    if probe.event_type not in _BOOK_BEARING:
        return []
    about = [probe.asset_id, *(entry.asset_id for entry in probe.price_changes)]
    return about if any(about) else None
