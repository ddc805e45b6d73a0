"""From a posted body to an order the venue believes: ownership, signature, price and size."""

import re
from typing import Final, Literal

import msgspec

from services.paper_venue.admission import duplicated, off_grid
from services.paper_venue.amounts import check_decimals, signed_price
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
from shared.domain.ids import OrderHash, TokenId, Wallet, wallet
from shared.domain.units import NS_PER_MS, Shares, Usd, average_price_up

SALT_MAX: Final = 2**53  # beyond it a JSON number is not exact everywhere (protocol.md 2.2)
CREATED_MIN_MS: Final = 10**11  # what is less is in seconds, or no time at all (4.2)
MS_PER_S: Final = 1_000
_NUMBER: Final = re.compile(r"[0-9]{1,77}")  # a uint256 in plain digits


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
            return msgspec.json.decode(raw, type=list[PostBody])
        return [msgspec.json.decode(raw, type=PostBody)]
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
    amounts, order_id = _read_numbers(shell, signed, listing)
    _check_signature(caller, signed, listing)
    if order_id in shell.venue.orders:
        raise duplicated(order_id)
    order, offered = _order(shell, body, listing, maker, (amounts, order_id))
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
    if signed.signatureType == 0 and (maker != signer or not _may_be_eoa(shell, maker)):
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


def _may_be_eoa(shell: Shell, maker: Wallet) -> bool:
    """Tell whether a wallet without a contract may make orders: new ones may not (0.3)."""
    config = shell.venue.config
    return config.eoa_makers or maker in {account.wallet for account in config.accounts}


def _check_standing(shell: Shell, caller: Caller, signed: SignedOrder) -> None:
    """Refuse who is banned, and what is no sale where only sales of what is held may pass."""
    if shell.clob.region[0]:
        raise Refused("Trading restricted in your region", 403)
    if caller.address in shell.clob.banned:
        raise Refused(f"'{caller.address}' address banned")
    if caller.address in shell.clob.closed_only and signed.side != "SELL":
        raise Refused(f"'{caller.address}' address in closed only mode")


def _read_numbers(
    shell: Shell, signed: SignedOrder, listing: Listing
) -> tuple[tuple[int, int], OrderHash]:
    """Return what the order gives and gets, and its id, once all its numbers can be."""
    texts = (signed.makerAmount, signed.takerAmount, signed.timestamp, signed.expiration or "0")
    if not all(_NUMBER.fullmatch(text) for text in texts) or not 0 <= signed.salt <= SALT_MAX:
        raise Refused("Invalid order payload")
    gives, gets, created_ms, _ = map(int, texts)
    latest_ms = shell.now_ns() // NS_PER_MS + shell.venue.config.order_ahead_max_s * MS_PER_S
    if not gives or not gets or not CREATED_MIN_MS <= created_ms <= latest_ms:
        raise Refused("Invalid order payload")
    try:
        return (gives, gets), order_hash(signed, listing.market)
    except (KeyError, ValueError):
        raise Refused("Invalid order payload") from None


def _order(
    shell: Shell,
    body: PostBody,
    listing: Listing,
    maker: Wallet,
    read: tuple[tuple[int, int], OrderHash],
) -> tuple[Order, Usd]:
    """Return the order in the venue's units, and the dollars it was signed for."""
    signed, ((gives, gets), order_id) = body.order, read
    buys, takes = signed.side == "BUY", body.orderType in ("FAK", "FOK")
    dollars, shares = (Usd(gives), Shares(gets)) if buys else (Usd(gets), Shares(gives))
    tick = listing.market.tick
    check_decimals(dollars, shares, tick, buys=buys, takes=takes)
    price = signed_price(dollars, shares, tick, rounded=buys and takes)
    if price is None:
        raise off_grid(order_id, average_price_up(dollars, shares), tick)
    token = TokenId(signed.tokenId)
    order = Order(
        id=order_id,
        owner=body.owner,
        wallet=maker,
        condition=listing.market.condition,
        token=token,
        outcome=listing.market.outcome_of(token),
        side="BUY" if buys else "SELL",
        price=price,
        size=shares,
        kind=body.orderType,
        created_ns=shell.now_ns(),
        post_only=body.postOnly,
        expiration_s=int(signed.expiration or 0),
    )
    return order, dollars


def _check_signature(caller: Caller, signed: SignedOrder, listing: Listing) -> None:
    """Refuse what another key signed, or this one for another exchange than the market's."""
    try:
        signer = order_signer(signed, listing.market)
    except ValueError:
        signer = None
    if signer != caller.address:
        raise Refused("invalid signature")
