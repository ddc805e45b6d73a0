"""The miniature chain: blocks by the clock, and which trade stands in which block.

A block is a function of the time alone, so its number survives a restart. A trade is MINED at the
moment its block appears, and never enters a block that a reader may have seen already.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec

from services.paper_venue.config import VenueConfig
from services.paper_venue.state import Outcome, Sealed, Trade, Venue
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import Side
from shared.domain.units import NS_PER_MS, NS_PER_S, Price, Shares, Usd

# A block of the real chain and its time (samples/data-v2/resolutions-v2-resolved.json).
ANCHOR_BLOCK: Final = 95_020_670
ANCHOR_NS: Final = 1_791_236_156 * NS_PER_S
LOGS_A_FILL: Final = 3  # shares and dollars are transferred before the fill is told


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
    return block_after(config, match_ns + config.mined_delay_ms * NS_PER_MS)


def block_after(config: VenueConfig, now_ns: int) -> int:
    """Return when the first block appears that is not before a moment."""
    return block_ns(config, block_from(config, now_ns))


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


def _logs_of_one(trade: Trade) -> int:
    return (len(trade.legs) + 1) * LOGS_A_FILL
