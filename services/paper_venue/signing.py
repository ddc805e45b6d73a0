"""What a signature proves: order hashes, who signed, and both levels of API authentication.

Pure functions over bytes. Order ids are the EIP-712 digest of the plain order (protocol.md 2.4);
hashing is written out because the general encoder takes a millisecond and this takes 0.1.
"""

import base64
import binascii
import hashlib
import hmac
import uuid
from functools import lru_cache
from typing import Final

import msgspec
from coincurve import PublicKey
from eth_utils.crypto import keccak

from services.paper_venue.exchanges import EXCHANGE_V2 as EXCHANGE_V2
from services.paper_venue.exchanges import EXCHANGE_V2_NEG_RISK as EXCHANGE_V2_NEG_RISK
from services.paper_venue.exchanges import EXCHANGE_V3 as EXCHANGE_V3
from shared.domain.ids import OrderHash, Wallet
from shared.domain.market import Market

CHAIN_ID: Final = 137
DEPOSIT_WALLET: Final = 3  # the signature type of ERC-7739 deposit wallets

_ORDER_TYPE: Final = (
    "Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,"
    "uint256 takerAmount,uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,"
    "bytes32 builder)"
)
_WRAPPER_TYPE: Final = (
    "TypedDataSign(Order contents,string name,string version,uint256 chainId,"
    f"address verifyingContract,bytes32 salt){_ORDER_TYPE}"
)
_DOMAIN_TYPE: Final = (
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_AUTH_DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId)"
_AUTH_TYPE: Final = "ClobAuth(address address,string timestamp,uint256 nonce,string message)"
_AUTH_MESSAGE: Final = "This message attests that I control the given wallet"


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The order object of ``POST /order``: the signed fields, and the unsigned expiration."""

    salt: int
    maker: str
    signer: str
    tokenId: str  # noqa: N815 - the wire's names
    makerAmount: str  # noqa: N815
    takerAmount: str  # noqa: N815
    side: str
    signatureType: int  # noqa: N815
    timestamp: str
    signature: str
    metadata: str = "0x" + "00" * 32
    builder: str = "0x" + "00" * 32
    expiration: str = "0"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    secret: str
    passphrase: str


def order_hash(order: SignedOrder, market: Market) -> OrderHash:
    """Return the order's id under the exchange that settles this market, or raise ValueError."""
    domain = _exchange_domain(*_exchange_of(market))
    return OrderHash("0x" + keccak(b"\x19\x01" + domain + _order_struct(order)).hex())


def order_signer(order: SignedOrder, market: Market) -> Wallet:
    """Return the address that signed, or raise ValueError where the signature proves nothing."""
    domain = _exchange_domain(*_exchange_of(market))
    contents = _order_struct(order)
    signature = _from_hex(order.signature)
    if order.signatureType == DEPOSIT_WALLET:
        tail = domain + contents + _ORDER_TYPE.encode() + len(_ORDER_TYPE).to_bytes(2, "big")
        if signature[65:] != tail:
            raise ValueError("the wrapper does not carry this order and exchange")
        contents = keccak(
            keccak(text=_WRAPPER_TYPE)
            + contents
            + keccak(text="DepositWallet")
            + keccak(text="1")
            + _uint(CHAIN_ID)
            + _address(order.signer)
            + bytes(32)
        )
    elif len(signature) != 65:
        raise ValueError(f"a signature has 65 bytes, not {len(signature)}")
    return recover(signature[:65], keccak(b"\x19\x01" + domain + contents))


def key_request_signer(address: str, timestamp: str, nonce: str, signature: str) -> Wallet:
    """Return who signed a level-1 request for API keys, or raise ValueError."""
    domain = keccak(
        keccak(text=_AUTH_DOMAIN_TYPE)
        + keccak(text="ClobAuthDomain")
        + keccak(text="1")
        + _uint(CHAIN_ID)
    )
    struct = keccak(
        keccak(text=_AUTH_TYPE)
        + _address(address)
        + keccak(text=timestamp)
        + _uint(int(nonce))
        + keccak(text=_AUTH_MESSAGE)
    )
    return recover(_from_hex(signature), keccak(b"\x19\x01" + domain + struct))


def request_signature(secret: str, timestamp: str, method: str, path: str, body: bytes) -> str:
    """Return the level-2 signature of a request; the query is no part of ``path``."""
    message = f"{timestamp}{method}{path}".encode() + body
    digest = hmac.new(base64.urlsafe_b64decode(secret), message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode()


def credentials_for(seed: int, address: Wallet, nonce: int) -> Credentials:
    """Return an address's API keys: a function of its arguments, so they survive a restart."""
    root = f"paper-venue/{seed}/{address}/{nonce}".encode()
    return Credentials(
        key=str(uuid.UUID(bytes=hashlib.blake2b(root, digest_size=16).digest(), version=4)),
        secret=base64.urlsafe_b64encode(hashlib.blake2b(root, digest_size=32).digest()).decode(),
        passphrase=hashlib.blake2b(root + b"/passphrase", digest_size=32).hexdigest(),
    )


def _exchange_of(market: Market) -> tuple[str, str]:
    if market.protocol == "unknown":
        raise ValueError("no exchange settles this market")
    if market.protocol == "v2":
        return EXCHANGE_V3, "3"
    return (EXCHANGE_V2_NEG_RISK if market.neg_risk else EXCHANGE_V2), "2"


@lru_cache(maxsize=8)
def _exchange_domain(contract: str, version: str) -> bytes:
    return keccak(
        keccak(text=_DOMAIN_TYPE)
        + keccak(text="Polymarket CTF Exchange")
        + keccak(text=version)
        + _uint(CHAIN_ID)
        + _address(contract)
    )


@lru_cache(maxsize=1)
def _order_type_hash() -> bytes:
    return keccak(text=_ORDER_TYPE)


def _order_struct(order: SignedOrder) -> bytes:
    return keccak(
        _order_type_hash()
        + _uint(order.salt)
        + _address(order.maker)
        + _address(order.signer)
        + _uint(int(order.tokenId))
        + _uint(int(order.makerAmount))
        + _uint(int(order.takerAmount))
        + _uint({"BUY": 0, "SELL": 1}[order.side])
        + _uint(order.signatureType)
        + _uint(int(order.timestamp))
        + _bytes32(order.metadata)
        + _bytes32(order.builder)
    )


def _uint(number: int) -> bytes:
    try:
        return number.to_bytes(32, "big")
    except OverflowError:
        raise ValueError(f"not a uint256: {number}") from None


def _address(text: str) -> bytes:
    raw = _from_hex(text)
    if len(raw) != 20:
        raise ValueError(f"not an address: {text[:80]!r}")
    return bytes(12) + raw


def _bytes32(text: str) -> bytes:
    raw = _from_hex(text)
    if len(raw) != 32:
        raise ValueError(f"not 32 bytes: {text[:80]!r}")
    return raw


def _from_hex(text: str) -> bytes:
    try:
        return binascii.unhexlify(text.removeprefix("0x"))
    except (binascii.Error, ValueError):
        raise ValueError(f"not hexadecimal: {text[:80]!r}") from None


def recover(signature: bytes, digest: bytes) -> Wallet:
    """Return the address whose key signed a digest, or raise ValueError."""
    if len(signature) != 65 or signature[64] not in (0, 1, 27, 28):
        raise ValueError("not a recoverable signature")
    recoverable = signature[:64] + bytes([signature[64] % 27])
    try:
        public = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except Exception as error:  # coincurve raises bare Exception
        raise ValueError("the signature recovers to no key") from error
    return Wallet("0x" + keccak(public.format(compressed=False)[1:])[-20:].hex())
