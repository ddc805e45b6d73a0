"""From a posted body to an order the venue believes: ownership, signature, price and size."""

from typing import Final, Literal

import msgspec

from services.paper_venue.auth import Caller
from services.paper_venue.shell import Shell
from services.paper_venue.signing import (
    DEPOSIT_WALLET,
    SignedOrder,
    order_hash,
    order_signer,
)
from services.paper_venue.state import Listing, Order, Refused, listing_of
from services.paper_venue.trading import post_order
from services.paper_venue.wire import Json, placed_body
from shared.domain.ids import TokenId, Wallet, wallet
from shared.domain.units import (
    MICRO,
    Price,
    Shares,
    Usd,
    average_price_up,
    ceil_to,
    floor_to,
    scale_down,
)

PRICE_STEP: Final = 100  # the finest grid, 0.0001: implied prices are read to it


class PostBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /order``, the wire's names."""

    order: SignedOrder
    owner: str
    orderType: Literal["GTC", "GTD", "FOK", "FAK"] = "GTC"  # noqa: N815
    postOnly: bool = False  # noqa: N815
    deferExec: bool = False  # noqa: N815


class _OldOrder(msgspec.Struct, frozen=True):
    """What only an order of the exchange before V2 has."""

    nonce: str | int
    feeRateBps: str | int  # noqa: N815


class _OldBody(msgspec.Struct, frozen=True):
    order: _OldOrder


def read_bodies(raw: bytes, *, batch: bool) -> list[PostBody]:
    """Return the orders of a request, or refuse: an old client's orders in words of their own."""
    try:
        if batch:
            return msgspec.json.decode(raw, type=list[PostBody], strict=False)
        return [msgspec.json.decode(raw, type=PostBody, strict=False)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        msgspec.json.decode(raw, type=list[_OldBody] if batch else _OldBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Invalid order payload") from None
    raise Refused("invalid order version, please use the latest clob-client")


def place(shell: Shell, caller: Caller, body: PostBody) -> Json:
    """Check whose order it is, then let the exchange take or refuse it."""
    signed = body.order
    if body.owner != caller.key:
        raise Refused("the order owner has to be the owner of the API KEY")
    maker = _check_wallets(shell, caller, signed)
    _check_standing(shell, caller, signed)
    listing = listing_of(shell.venue, signed.tokenId)
    order, offered = _read(shell, caller, body, listing, maker)
    _check_signature(caller, signed, listing)
    if maker != caller.address:
        shell.venue.owner_of.setdefault(maker, caller.address)
        shell.venue.type_of.setdefault(maker, signed.signatureType)
    placed = shell.apply(lambda now_ns: post_order(shell.venue, order, offered, now_ns))
    return placed_body(order, placed)


def _check_wallets(shell: Shell, caller: Caller, signed: SignedOrder) -> Wallet:
    """Return the wallet whose funds are used, once the caller may use them."""
    try:
        maker, signer = wallet(signed.maker), wallet(signed.signer)
    except ValueError:
        raise Refused("Invalid order payload") from None
    if signed.signatureType not in (0, 1, 2, DEPOSIT_WALLET):
        raise Refused("Invalid order payload")
    expected = maker if signed.signatureType == DEPOSIT_WALLET else caller.address
    if signer != expected:
        raise Refused("the order signer address has to be the address of the API KEY")
    if signed.signatureType == 0 and maker != signer:
        raise Refused("maker address not allowed, please use the deposit wallet flow")
    if signed.signatureType != 0:
        owner = shell.venue.owner_of.get(maker)
        unowned = owner is None and shell.venue.config.bind_owner_on_first_order
        if maker == caller.address or not (owner == caller.address or unowned):
            raise Refused("maker address not allowed, please use the deposit wallet flow")
        known = shell.type_of(maker, caller.address)
        if known is not None and known != signed.signatureType:
            raise Refused("invalid signature")  # the wallet's code cannot check another type's
    return maker


def _check_standing(shell: Shell, caller: Caller, signed: SignedOrder) -> None:
    """Refuse who is banned, and what is no sale where only sales of what is held may pass."""
    if shell.clob.region[0]:
        raise Refused("Trading restricted in your region", 403)
    if caller.address in shell.clob.banned:
        raise Refused(f"'{caller.address}' address banned")
    if caller.address in shell.clob.closed_only and signed.side != "SELL":
        raise Refused(f"'{caller.address}' address in closed only mode")


def _read(
    shell: Shell, caller: Caller, body: PostBody, listing: Listing, maker: Wallet
) -> tuple[Order, Usd]:
    """Return the order in the venue's units, and the dollars it was signed for."""
    signed = body.order
    try:
        gives, gets = int(signed.makerAmount), int(signed.takerAmount)
        order_id = order_hash(signed, listing.market)
        expiration_s = int(signed.expiration or 0)
    except (KeyError, ValueError):
        raise Refused("Invalid order payload") from None
    if gives <= 0 or gets <= 0 or expiration_s < 0:
        raise Refused("Invalid order payload")
    buys = signed.side == "BUY"
    dollars, shares = (gives, gets) if buys else (gets, gives)
    token = TokenId(signed.tokenId)
    order = Order(
        id=order_id,
        owner=body.owner,
        wallet=maker,
        condition=listing.market.condition,
        token=token,
        outcome=listing.market.outcome_of(token),
        side="BUY" if buys else "SELL",
        price=implied_price(Usd(dollars), Shares(shares), buys=buys),
        size=Shares(shares),
        kind=body.orderType,
        created_ns=shell.now_ns(),
        post_only=body.postOnly,
        expiration_s=expiration_s,
    )
    return order, Usd(dollars)


def implied_price(dollars: Usd, shares: Shares, *, buys: bool) -> Price:
    """Return the price two amounts mean, read to the finest grid.

    Amounts rounded to the venue's decimals imply a price a hair off the grid: above it for a
    buyer, below it for a seller. Reading it towards the grid never worsens what was signed.
    """
    if buys:
        return Price(floor_to(scale_down(MICRO, dollars, shares), PRICE_STEP))
    return Price(ceil_to(average_price_up(dollars, shares), PRICE_STEP))


def _check_signature(caller: Caller, signed: SignedOrder, listing: Listing) -> None:
    """Refuse what another key signed, or this one for another exchange than the market's."""
    try:
        signer = order_signer(signed, listing.market)
    except ValueError:
        signer = None
    if signer != caller.address:
        raise Refused("invalid signature")
