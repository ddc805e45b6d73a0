"""What an account is told of itself: cancels, fills, resolutions, redemptions (protocol.md 1.6).

Payloads follow the fields that production's own client reads.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from services.paper_venue.state import (
    Event,
    Listing,
    MarketResolved,
    Order,
    OrderMoved,
    Row,
    Trade,
    TradeMoved,
    Venue,
)
from services.paper_venue.wire import Json, market_long
from shared.domain.ids import OrderHash, Wallet
from shared.domain.units import NS_PER_S, Shares, format_micro

CANCELLATION: Final = 1
FILL: Final = 2
RESOLVED: Final = 4
FILL_FAILED: Final = 8
AUTO_REDEEMED: Final = 9
KEPT: Final = 1_000  # notices of an API key; then the oldest go


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One notification, the wire's names."""

    id: int
    owner: str
    payload: Json
    timestamp: int  # unix seconds
    type: int


class Inbox:
    """The notices of every API key, oldest first."""

    def __init__(self) -> None:
        self._count = 0
        self._of: defaultdict[str, deque[Notice]] = defaultdict(lambda: deque(maxlen=KEPT))

    def read(self, keys: Iterable[str]) -> list[Notice]:
        found = [notice for key in keys if key in self._of for notice in self._of[key]]
        return sorted(found, key=lambda notice: notice.id)

    def drop(self, keys: Iterable[str], ids: set[int] | None) -> None:
        """Forget notices; all of them where no ids are named."""
        for key in keys:
            kept = [n for n in self._of[key] if ids is not None and n.id not in ids]
            self._of[key] = deque(kept, maxlen=KEPT)

    def note(
        self, venue: Venue, events: Iterable[Event], keys_of: Callable[[Wallet], list[str]]
    ) -> None:
        """Take notice of what happened; ``keys_of`` names the API keys of a wallet's owner."""
        for event in events:
            if isinstance(event, OrderMoved):
                if event.change == "CANCELLATION" and event.order.owner:
                    payload = _order_payload(venue, event.order)
                    self._add(event.order.owner, CANCELLATION, payload, event.ts_ns)
            elif isinstance(event, TradeMoved):
                self._trade(venue, event)
            elif isinstance(event, MarketResolved):
                listing = venue.listings[event.condition]
                payload = _market_payload(listing)
                for wallet in _holders(venue, listing):
                    self._tell(keys_of(wallet), RESOLVED, payload, event.ts_ns)

    def redeemed(self, venue: Venue, row: Row, keys: list[str]) -> None:
        """Tell that a winning position was redeemed for the account."""
        market = venue.listings[row.condition].market
        payload = {
            "proxyWallet": row.wallet,
            "amount": format_micro(row.usd),
            "conditionId": row.condition,
            "question": market.question,
            "image": "",
            "slug": market.slug,
            "position": "",
            "marketUrl": "",
            "portfolioUrl": "",
            "negRisk": market.neg_risk,
            "txnHash": row.tx,
        }
        self._tell(keys, AUTO_REDEEMED, payload, row.block_s * NS_PER_S)

    def _trade(self, venue: Venue, event: TradeMoved) -> None:
        kind = {"MINED": FILL, "FAILED": FILL_FAILED}.get(event.status)
        if kind is None:
            return
        trade = event.trade
        for name in (trade.taker_order, *(leg.order for leg in trade.legs)):
            order = venue.orders.get(OrderHash(name))
            if order is not None and order.owner:
                payload = _order_payload(venue, order, trade if kind == FILL else None)
                self._add(order.owner, kind, payload, event.ts_ns)

    def _tell(self, keys: list[str], kind: int, payload: Json, ts_ns: int) -> None:
        if keys:
            self._add(min(keys), kind, payload, ts_ns)

    def _add(self, key: str, kind: int, payload: Json, ts_ns: int) -> None:
        self._count += 1
        self._of[key].append(
            Notice(
                id=self._count,
                owner=key,
                payload=payload,
                timestamp=ts_ns // NS_PER_S,
                type=kind,
            )
        )


def _order_payload(venue: Venue, order: Order, trade: Trade | None = None) -> Json:
    market = venue.listings[order.condition].market
    return {
        "asset_id": order.token,
        "market": order.condition,
        "order_id": order.id,
        "side": order.side,
        "type": order.kind,
        "price": format_micro(order.price),
        "original_size": format_micro(order.size),
        "matched_size": format_micro(order.matched),
        "remaining_size": format_micro(order.left),
        "outcome": market.outcomes[order.outcome],
        "outcome_index": order.outcome,
        "transaction_hash": trade.tx if trade else "",
        "trade_id": trade.id if trade else "",
        "question": market.question,
        "market_slug": market.slug,
        "icon": "",
        "image": "",
        "eventSlug": market.event or market.slug,
        "seriesSlug": "",
    }


def _market_payload(listing: Listing) -> Json:
    market = listing.market
    return {**market_long(listing), "eventSlug": market.event or market.slug}


def _holders(venue: Venue, listing: Listing) -> list[Wallet]:
    tokens = listing.market.tokens
    nothing = Shares(0)
    return [
        wallet
        for wallet, held in venue.ledger.positions.items()
        if any(token in held and held[token].size > nothing for token in tokens)
    ]
