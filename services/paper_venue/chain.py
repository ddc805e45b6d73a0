"""The miniature chain: blocks by the clock, and what each trade left in its block's logs.

A block is a function of the time alone, so its number survives a restart. A trade is MINED at the
moment its block appears, and never enters a block that a reader may have seen already.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from services.paper_venue.config import VenueConfig
from services.paper_venue.signing import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3
from services.paper_venue.state import Outcome, Sealed, Trade, Venue
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import Market, Side
from shared.domain.units import NS_PER_MS, NS_PER_S, Price, Shares, Usd

# A block of the real chain and its time (samples/data-v2/resolutions-v2-resolved.json).
ANCHOR_BLOCK: Final = 95_020_670
ANCHOR_NS: Final = 1_791_236_156 * NS_PER_S
ORDER_FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
LOGS_A_FILL: Final = 3  # shares and dollars are transferred before the fill is told
NO_EXCHANGE: Final = "0x00000000000000000000000000000000000000e5"  # of an unknown protocol
_WORD: Final = "0" * 64


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What one order got in a trade: a row of the Data API and a log of the chain."""

    order: str
    wallet: Wallet
    token: TokenId
    outcome: Outcome
    side: Side
    price: Price
    size: Shares
    usd: Usd  # what moved, without the fee
    fee: Usd
    taker: bool


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


def block_ns(config: VenueConfig, number: int) -> int:
    """Return when a block appears."""
    return ANCHOR_NS + (number - ANCHOR_BLOCK) * config.block_ms * NS_PER_MS


def block_at(config: VenueConfig, now_ns: int) -> int:
    """Return the newest block there is."""
    return ANCHOR_BLOCK + (now_ns - ANCHOR_NS) // (config.block_ms * NS_PER_MS)


def block_from(config: VenueConfig, now_ns: int) -> int:
    """Return the first block that appears now or later."""
    return ANCHOR_BLOCK - (ANCHOR_NS - now_ns) // (config.block_ms * NS_PER_MS)


def mined_ns(config: VenueConfig, match_ns: int) -> int:
    """Return when a trade's block appears; with no delay at all settlement does not wait for it."""
    if not config.mined_delay_ms:
        return match_ns
    return block_ns(config, block_from(config, match_ns + config.mined_delay_ms * NS_PER_MS))


@lru_cache(maxsize=16_384)
def block_hash(seed: int, number: int) -> str:
    return "0x" + blake2b(f"{seed}/block/{number}".encode(), digest_size=32).hexdigest()


def seal(venue: Venue, trade: Trade, now_ns: int) -> None:
    """Put a mined trade's logs into its block; one that did not wait comes with the next."""
    waited = now_ns > trade.match_ns
    block = block_from(venue.config, now_ns if waited else now_ns + 1)
    sealed, tx_index, log_index = venue.sealed, 0, 0
    if sealed and sealed[-1].block >= block:
        last = sealed[-1]
        block, log_index = last.block, last.log_index + _logs_of_one(last.trade)
        tx_index = last.tx_index + (last.trade.tx != trade.tx)
    sealed.append(Sealed(block, tx_index, log_index, trade))
    kept = venue.config.trades_kept
    if len(sealed) > kept:
        del sealed[: kept // 4 + 1]


def fills_of(trade: Trade) -> Iterator[Filled]:
    """Yield what each order of a trade got, the taker's first."""
    yield Filled(
        order=trade.taker_order,
        wallet=trade.taker,
        token=trade.token,
        outcome=trade.outcome,
        side=trade.side,
        price=trade.price,
        size=trade.size,
        usd=trade.notional,
        fee=trade.fee,
        taker=True,
    )
    makers = trade.moves[1::2]  # `match_moves` gives the taker's move and the maker's, leg by leg
    for leg, move in zip(trade.legs, makers, strict=False):
        yield Filled(
            order=leg.order,
            wallet=leg.wallet,
            token=leg.token,
            outcome=leg.outcome,
            side=leg.side,
            price=leg.price,
            size=leg.size,
            usd=Usd(abs(move.cash)),
            fee=Usd(0),
            taker=False,
        )


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


def address_word(address: str) -> str:
    """Return an address as the 32-byte topic it is searched by."""
    return "0x" + address[2:].lower().rjust(64, "0")


def _logs_of_one(trade: Trade) -> int:
    return (len(trade.legs) + 1) * LOGS_A_FILL
