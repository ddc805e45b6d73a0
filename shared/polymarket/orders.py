"""Orders as the exchange knows them: their hash before they are sent, and their signature.

The only module that imports the venue's SDK. The hash is computed here, without the SDK's
general EIP-712 encoder, and tests hold both against each other.
"""

from functools import cache
from typing import Final, Literal, NamedTuple, NoReturn

import msgspec
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.headers.headers import create_level_1_headers
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2, OrderV2, SignatureTypeV2
from py_clob_client_v2.order_utils import Side as SdkSide
from py_clob_client_v2.signer import Signer as SdkSigner

from shared.domain.grid import amounts, tradable_size
from shared.domain.ids import OrderHash, TokenId, Wallet, wallet
from shared.domain.market import Protocol, Side
from shared.domain.units import Price, Shares
from shared.polymarket.auth import SignatureType, SignedOrder

OrderType = Literal["FAK", "FOK", "GTC", "GTD"]

POLYGON: Final = 137
SALT_MAX: Final = 2**53  # beyond it a JSON number is not exact everywhere
BYTES32_ZERO: Final = "0x" + "0" * 64

_DOMAIN_TYPE: Final = (
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_ORDER_TYPE: Final = (
    "Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,"
    "uint256 takerAmount,uint8 side,uint8 signatureType,uint256 timestamp,"
    "bytes32 metadata,bytes32 builder)"
)
_EXCHANGE_NAME: Final = "Polymarket CTF Exchange"
_DEPOSIT_WALLET: Final = 3


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an order says. Expiration and type travel with it but are not signed."""

    maker: Wallet  # holds the funds
    signer: Wallet  # the key's address; for a deposit wallet (type 3) the wallet itself
    token: TokenId
    side: Side
    price: Price
    size: Shares
    maker_amount: int  # what we give, in micro-units
    taker_amount: int  # what we want, in micro-units
    salt: int
    timestamp_ms: int
    signature_type: SignatureType = 0
    neg_risk: bool = False
    protocol: Protocol = "v1"
    expiration: int = 0  # unix seconds, GTD only
    order_type: OrderType = "FAK"
    post_only: bool = False
    metadata: str = BYTES32_ZERO
    builder: str = BYTES32_ZERO


def order_hash(terms: OrderTerms, chain_id: int = POLYGON) -> OrderHash:
    """Return the id the venue will give this order (protocol.md 2.4).

    Raises ValueError where it is not known which exchange settles the market.
    """
    exchange = _exchange(chain_id, terms.protocol, terms.neg_risk)
    digest = keccak(b"\x19\x01" + exchange.separator + _struct_hash(terms))
    return OrderHash("0x" + digest.hex())


def exchanges(chain_id: int = POLYGON) -> dict[str, str]:
    """Return the contracts that settle orders, and so must be allowed to spend, by name."""
    return {
        "CTF exchange": _exchange(chain_id, "v1", neg_risk=False).address,
        "neg-risk exchange": _exchange(chain_id, "v1", neg_risk=True).address,
        "exchange V3": _exchange(chain_id, "v2", neg_risk=False).address,
    }


class Signer:
    """A private key. It is not printed and cannot be serialised."""

    __slots__ = ("_sdk", "address", "chain_id")

    def __init__(self, sdk: SdkSigner) -> None:
        self._sdk = sdk
        self.address: str = sdk.address()
        self.chain_id: int = sdk.chain_id

    @classmethod
    def from_hex(cls, private_key: str, chain_id: int = POLYGON) -> "Signer":
        """Return the signer of a hex key, or raise ValueError without showing it."""
        try:
            return cls(SdkSigner(private_key, chain_id))
        except Exception:  # noqa: BLE001 - any message of the key library might show the key
            raise ValueError("not a private key (0x and 64 hex digits)") from None

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not serialisable")

    def sign(self, terms: OrderTerms, *, owner: str) -> SignedOrder:
        """Return the order's hash and the body to post; ``owner`` is the API key's uuid."""
        self._check(terms)
        exchange = _exchange(self.chain_id, terms.protocol, terms.neg_risk)
        builder = ExchangeOrderBuilderV2(
            exchange.address, self.chain_id, self._sdk, domain_version=exchange.version
        )
        signature = builder.build_order_signature(builder.build_order_typed_data(_sdk_order(terms)))
        return SignedOrder(
            hash=order_hash(terms, self.chain_id),
            body=_body(terms, signature=signature, owner=owner),
        )

    def l1_headers(self, *, timestamp_s: int, nonce: int = 0) -> dict[str, str]:
        """Return the headers that create or derive API credentials."""
        headers: dict[str, str] = create_level_1_headers(self._sdk, nonce, timestamp_s)
        return headers

    def _check(self, terms: OrderTerms) -> None:
        expected = terms.maker if terms.signature_type == _DEPOSIT_WALLET else self.address.lower()
        if terms.signer != expected:
            raise ValueError(f"signer is {terms.signer}, this key and wallet need {expected}")
        if not 0 <= terms.salt <= SALT_MAX:
            raise ValueError(f"salt {terms.salt} is not exact as a JSON number")


class _Exchange(NamedTuple):
    address: str
    version: str
    separator: bytes


@cache
def _exchange(chain_id: int, protocol: Protocol, neg_risk: bool) -> _Exchange:  # noqa: FBT001
    """Return the exchange that settles a market; V2 markets have one, neg-risk or not."""
    if protocol == "unknown":
        raise ValueError("no exchange is known for this market's protocol: it cannot be signed for")
    config = get_contract_config(chain_id)
    if protocol == "v2":
        address, version = config.exchange_v3, "3"
    else:
        address = config.neg_risk_exchange_v2 if neg_risk else config.exchange_v2
        version = "2"
    words = (
        keccak(text=_DOMAIN_TYPE),
        keccak(text=_EXCHANGE_NAME),
        keccak(text=version),
        _uint(chain_id),
        _address(wallet(address)),
    )
    return _Exchange(address, version, keccak(b"".join(words)))


@cache
def _order_type_hash() -> bytes:
    return keccak(text=_ORDER_TYPE)


def _struct_hash(terms: OrderTerms) -> bytes:
    words = (
        _order_type_hash(),
        _uint(terms.salt),
        _address(terms.maker),
        _address(terms.signer),
        _uint(int(terms.token)),
        _uint(terms.maker_amount),
        _uint(terms.taker_amount),
        _uint(0 if terms.side == "BUY" else 1),
        _uint(terms.signature_type),
        _uint(terms.timestamp_ms),
        _bytes32(terms.metadata),
        _bytes32(terms.builder),
    )
    return keccak(b"".join(words))


def _uint(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _address(address: Wallet) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _bytes32(text: str) -> bytes:
    word = bytes.fromhex(text.removeprefix("0x"))
    if len(word) != 32:
        raise ValueError(f"not 32 bytes of hex: {text[:80]!r}")
    return word


def _sdk_order(terms: OrderTerms) -> OrderV2:
    return OrderV2(
        salt=str(terms.salt),
        maker=_checksum(terms.maker),
        signer=_checksum(terms.signer),
        tokenId=terms.token,
        makerAmount=str(terms.maker_amount),
        takerAmount=str(terms.taker_amount),
        side=SdkSide.BUY if terms.side == "BUY" else SdkSide.SELL,
        signatureType=SignatureTypeV2(terms.signature_type),
        timestamp=str(terms.timestamp_ms),
        metadata=terms.metadata,
        builder=terms.builder,
        expiration=str(terms.expiration),
    )


@cache
def _checksum(address: Wallet) -> str:
    return to_checksum_address(address)


def _body(terms: OrderTerms, *, signature: str, owner: str) -> bytes:
    order = {
        "builder": terms.builder,
        "expiration": str(terms.expiration),
        "maker": _checksum(terms.maker),
        "makerAmount": str(terms.maker_amount),
        "metadata": terms.metadata,
        "salt": terms.salt,
        "side": terms.side,
        "signature": signature,
        "signatureType": terms.signature_type,
        "signer": _checksum(terms.signer),
        "takerAmount": str(terms.taker_amount),
        "timestamp": str(terms.timestamp_ms),
        "tokenId": terms.token,
    }
    told = {"deferExec": False, "order": order, "orderType": terms.order_type, "owner": owner}
    return msgspec.json.encode({**told, "postOnly": True} if terms.post_only else told)


__all__ = [
    "OrderTerms",
    "OrderType",
    "SignedOrder",
    "Signer",
    "amounts",
    "exchanges",
    "order_hash",
    "tradable_size",
]
