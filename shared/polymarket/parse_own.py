"""Our own orders and fills, from the user stream and REST alike, to domain values."""

from typing import Final

import msgspec

from shared.domain.ids import OrderHash, TokenId, TxHash, Wallet
from shared.domain.market import Side
from shared.domain.observations import OrderReport, OrderStatus, OwnFill, PostAnswer, Settlement
from shared.domain.units import Shares, Usd
from shared.polymarket import scalars, wire
from shared.polymarket.errors import Mode, RejectCode, Rejected, Unavailable, WireError, refusal

_SETTLEMENTS: Final[dict[str, Settlement]] = {
    "MATCHED": "MATCHED",
    "MATCHED_NOT_BROADCASTED": "MATCHED",
    "MINED": "MINED",
    "CONFIRMED": "CONFIRMED",
    "RETRYING": "RETRYING",
    "FAILED": "FAILED",
}
_ENDED: Final = ("CANCELED", "INVALID", "REJECTED", "EXPIRED")
_IMMEDIATE: Final = frozenset({"FAK", "FOK"})
_POST: Final = "POST /order"
_ACCEPTED: Final = frozenset({"live", "matched", "delayed", "unmatched"})
_ZERO_HASH: Final = "0x" + "0" * 64


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """How the venue names us in a trade: the wallet that holds the funds, and the API key."""

    wallet: Wallet
    owner: str

    def owns(self, leg: wire.MakerLeg) -> bool:
        return leg.owner == self.owner or (leg.maker_address or "").lower() == self.wallet


def own_fills(told: wire.Trade, me: Me, *, now_ns: int) -> list[OwnFill]:
    """Return our executions in one trade, each identified by (trade id, our order).

    As taker ours is the top level; as maker the top level is the other side and ours are the
    legs (protocol.md 1.6). A wallet that met itself has both. Raises WireError where nothing
    in the trade is ours: then the message is incomplete, and REST must be asked.
    """
    fills = []
    if _we_took(told, me):
        fills.append(
            OwnFill(
                trade=_trade_id(told),
                order=scalars.order_hash(told.taker_order_id, where="trade.taker_order_id"),
                condition=scalars.condition(told.market, where="trade.market"),
                token=scalars.token(told.asset_id, where="trade.asset_id"),
                side=scalars.side(told.side, where="trade.side"),
                price=scalars.price(told.price, where="trade.price"),
                size=scalars.size(told.size, where="trade.size"),
                settlement=_settlement(told.status),
                taker=True,
                venue_ns=_match_ns(told, now_ns),
                tx=_tx(told.transaction_hash),
            )
        )
    fills += [_leg_fill(told, leg, now_ns) for leg in told.maker_orders or () if me.owns(leg)]
    if not fills:
        raise WireError("no execution of ours in the trade", where="trade", seen=told.id)
    return fills


def order_report(told: wire.Order) -> OrderReport:
    """Return the venue's word on one order; its status is decided by the sizes first."""
    size = scalars.size(told.original_size, where="order.original_size")
    matched = Shares(scalars.amount(told.size_matched or "0", where="order.size_matched"))
    return OrderReport(
        order=scalars.order_hash(told.id, where="order.id"),
        condition=scalars.condition(told.market, where="order.market"),
        token=scalars.token(told.asset_id, where="order.asset_id"),
        side=scalars.side(told.side, where="order.side"),
        price=scalars.price(told.price, where="order.price"),
        size=size,
        matched=matched,
        status="MATCHED" if matched >= size else _open_or_ended(told),
        detail=told.status or told.type or "",
    )


def post_answer(body: bytes, order: OrderHash) -> PostAnswer:
    """Return what the venue's 200 to a posted order claims (protocol.md 1.5).

    Only a complete, consistent yes is a PostAnswer. A text that refuses raises as any other
    refusal; whatever is neither yes nor no raises Unavailable, the outcome being unknown; and
    an answer for another order raises WireError.
    """
    told = wire.decode(body, wire.PostOrderAnswer, where=_POST)
    if told.error_msg:
        if told.status in _ACCEPTED:
            raise _unclear(told.error_msg)
        raise refusal(_POST, status=200, text=told.error_msg)
    if told.order_id and scalars.order_hash(told.order_id, where=_POST) != order:
        raise WireError(f"not the order {order}", where=_POST, seen=told.order_id)
    if told.success is False and not told.order_id:
        raise Rejected(_POST, status=200, code=RejectCode.OTHER, text="no reason given")
    if not told.success or told.error_msg is None or not told.order_id:
        raise _unclear("neither accepted nor refused")
    if told.status not in _ACCEPTED:
        raise _unclear(f"status {told.status!r}")
    return PostAnswer(order=order, status=told.status, trades=tuple(told.trade_ids or ()))


def balance(told: wire.Balance) -> Usd:
    """Return the collateral; the venue tells it in micro-dollars already."""
    if not (told.balance.isascii() and told.balance.isdigit()) or len(told.balance) > 30:
        raise WireError("not a whole number", where="/balance-allowance", seen=told.balance)
    return Usd(int(told.balance))


def _unclear(text: str) -> Unavailable:
    return Unavailable(_POST, status=200, mode=Mode.UNCERTAIN, text=text)


def _we_took(told: wire.Trade, me: Me) -> bool:
    if told.trader_side in {"TAKER", "MAKER"}:
        return told.trader_side == "TAKER"
    if told.trader_side:
        raise WireError("neither TAKER nor MAKER", where="trade.trader_side", seen=told.trader_side)
    return told.owner == me.owner or (told.maker_address or "").lower() == me.wallet


def _leg_fill(told: wire.Trade, leg: wire.MakerLeg, now_ns: int) -> OwnFill:
    token = scalars.token(leg.asset_id, where="trade.maker_orders.asset_id")
    return OwnFill(
        trade=_trade_id(told),
        order=scalars.order_hash(leg.order_id, where="trade.maker_orders.order_id"),
        condition=scalars.condition(told.market, where="trade.market"),
        token=token,
        side=_leg_side(told, leg, token),
        price=scalars.price(leg.price, where="trade.maker_orders.price"),
        size=scalars.size(leg.matched_amount, where="trade.maker_orders.matched_amount"),
        settlement=_settlement(told.status),
        taker=False,
        venue_ns=_match_ns(told, now_ns),
        tx=_tx(told.transaction_hash),
    )


def _leg_side(told: wire.Trade, leg: wire.MakerLeg, token: TokenId) -> Side:
    """Return the leg's side; untold it follows from the taker's.

    On the taker's own token the maker did the opposite. On the complement both did the same:
    two buys minted a set, two sells merged one.
    """
    if leg.side:
        return scalars.side(leg.side, where="trade.maker_orders.side")
    taker = scalars.side(told.side, where="trade.side")
    if token != scalars.token(told.asset_id, where="trade.asset_id"):
        return taker
    return "SELL" if taker == "BUY" else "BUY"


def _open_or_ended(told: wire.Order) -> OrderStatus:
    word = (told.status or "").upper().removeprefix("ORDER_STATUS_")
    if told.type == "CANCELLATION" or word.startswith(_ENDED):
        return "CANCELED"
    if word == "DELAYED":
        return "DELAYED"
    if word == "MATCHED":  # in part: what does not rest is done, what may rest is still live
        return "MATCHED" if told.order_type in _IMMEDIATE else "LIVE"
    if word in {"LIVE", "UNMATCHED"} or (not word and told.type in {"PLACEMENT", "UPDATE"}):
        return "LIVE"
    raise WireError("unknown status", where="order.status", seen=told.status)


def _settlement(text: str) -> Settlement:
    settlement = _SETTLEMENTS.get(text.upper().removeprefix("TRADE_STATUS_"))
    if settlement is None:
        raise WireError("unknown status", where="trade.status", seen=text)
    return settlement


def _trade_id(told: wire.Trade) -> str:
    if not told.id:
        raise WireError("no id", where="trade.id", seen=told.id)
    return told.id


def _match_ns(told: wire.Trade, now_ns: int) -> int:
    stamp = told.match_time or told.matchtime or told.last_update or told.timestamp
    return scalars.moment_ns(stamp, now_ns=now_ns, where="trade.match_time")


def _tx(text: str | None) -> TxHash | None:
    """Return the settlement's hash, or None while there is none ("", null or zero)."""
    if not text or text == _ZERO_HASH:
        return None
    return scalars.tx_hash(text, where="trade.transaction_hash")
