"""What trades left on the chain: the exchanges' ``OrderFilled`` logs (protocol.md 8.2)."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

import msgspec

from services.paper_venue.chain import LOGS_A_FILL, Filled, fills_of
from services.paper_venue.signing import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3
from services.paper_venue.state import Sealed, Venue
from shared.domain.market import Market

ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
NO_EXCHANGE: Final = "0x00000000000000000000000000000000000000e5"  # of an unknown protocol
_WORD: Final = "0" * 64


class Log(msgspec.Struct, frozen=True):
    """One event of an exchange contract, as the chain keeps it."""

    address: str
    topics: tuple[str, ...]
    fill: Filled
    block: int
    tx: str
    tx_index: int
    index: int

    @property
    def data(self) -> str:
        """Side, token, what the order gave and got, its fee, and an empty builder, metadata."""
        fill = self.fill
        buys = fill.side == "BUY"
        gave, got = (fill.usd, fill.size) if buys else (fill.size, fill.usd)
        words = (0 if buys else 1, int(fill.token), gave, got, fill.fee)
        return "0x" + "".join(f"{word:064x}" for word in words) + _WORD + _WORD


def logs_between(venue: Venue, first: int, last: int) -> Iterator[Log]:
    """Yield the logs of blocks ``first`` to ``last``, both included, in the chain's order."""
    sealed = venue.sealed
    start = bisect_left(sealed, first, key=lambda each: each.block)
    end = bisect_right(sealed, last, key=lambda each: each.block)
    for each in sealed[start:end]:
        yield from _logs(venue, each)


def transactions_of(venue: Venue, number: int) -> list[str]:
    """Return a block's transactions in their order."""
    sealed = venue.sealed
    start = bisect_left(sealed, number, key=lambda each: each.block)
    end = bisect_right(sealed, number, key=lambda each: each.block)
    return list(dict.fromkeys(each.trade.tx for each in sealed[start:end]))


def exchange_of(market: Market) -> str:
    """Return the contract that settles a market, in the lower case of a log (protocol.md 2.1)."""
    if market.protocol == "unknown":
        return NO_EXCHANGE
    if market.protocol == "v2":
        return EXCHANGE_V3.lower()
    return (EXCHANGE_V2_NEG_RISK if market.neg_risk else EXCHANGE_V2).lower()


def address_word(address: str) -> str:
    """Return an address as the 32-byte topic it is searched by."""
    return "0x" + address[2:].lower().rjust(64, "0")


def _logs(venue: Venue, sealed: Sealed) -> Iterator[Log]:
    """Yield a trade's logs: one for each maker order, then the taker order's."""
    trade = sealed.trade
    exchange = exchange_of(venue.listings[trade.condition].market)
    taker, *makers = fills_of(trade)
    for place, fill in enumerate((*makers, taker)):
        other = exchange if fill.taker else trade.taker
        yield Log(
            exchange,
            (ORDER_FILLED, fill.order, address_word(fill.wallet), address_word(other)),
            fill,
            sealed.block,
            trade.tx,
            sealed.tx_index,
            sealed.log_index + place * LOGS_A_FILL + LOGS_A_FILL - 1,
        )
