"""Names of things: wallets, tokens, markets, orders, and the content ids of facts."""

import re
from hashlib import blake2b
from typing import Final, NewType

import msgspec

Wallet = NewType("Wallet", str)  # 0x and 40 lower-case hex digits: the account that holds funds
TokenId = NewType("TokenId", str)  # canonical decimal of a uint256: one outcome token
ConditionId = NewType("ConditionId", str)  # 0x and 64 lower-case hex digits: one market
OrderHash = NewType("OrderHash", str)  # 0x and 64 lower-case hex digits: EIP-712 digest
TxHash = NewType("TxHash", str)  # 0x and 64 lower-case hex digits: one settlement transaction

COLLATERAL: Final = TokenId("collateral")  # dollars, where they are compared as a token is

PARTITIONS: Final = 16  # fixed for ever: subjects in the ledger carry the partition

_WALLET: Final = re.compile(r"0x[0-9a-f]{40}")
_HASH: Final = re.compile(r"0x[0-9a-f]{64}")
_TOKEN: Final = re.compile(r"[1-9][0-9]{0,77}")
_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


def wallet(text: str) -> Wallet:
    """Return the wallet in lower case, or raise ValueError."""
    lowered = text.lower()
    if not _WALLET.fullmatch(lowered):
        raise ValueError(f"not a wallet address (0x and 40 hex digits): {text[:80]!r}")
    return Wallet(lowered)


def token_id(text: str) -> TokenId:
    """Return the outcome token, or raise ValueError unless it is a canonical decimal uint256."""
    if not _TOKEN.fullmatch(text) or int(text) >= 1 << 256:
        raise ValueError(f"not a canonical decimal token id: {text[:90]!r}")
    return TokenId(text)


def condition_id(text: str) -> ConditionId:
    """Return the market's condition, or raise ValueError.

    A Protocol-V2 condition has 31 bytes; CLOB and Data API pad it on the right to 32, Gamma may
    not (protocol.md 2.1), so the short form is padded here.
    """
    lowered = text.lower()
    if len(lowered) == 64:
        lowered += "00"
    if not _HASH.fullmatch(lowered):
        raise ValueError(f"not a condition id (0x and 64 hex digits): {text[:80]!r}")
    return ConditionId(lowered)


def order_hash(text: str) -> OrderHash:
    """Return the order hash in lower case, or raise ValueError."""
    lowered = text.lower()
    if not _HASH.fullmatch(lowered):
        raise ValueError(f"not an order hash (0x and 64 hex digits): {text[:80]!r}")
    return OrderHash(lowered)


def tx_hash(text: str) -> TxHash:
    """Return the transaction hash in lower case, or raise ValueError."""
    lowered = text.lower()
    if not _HASH.fullmatch(lowered):
        raise ValueError(f"not a transaction hash (0x and 64 hex digits): {text[:80]!r}")
    return TxHash(lowered)


def content_id(kind: str, *parts: str | int) -> str:
    """Return the id of a fact: 16 bytes of a hash of what makes it that fact and no other."""
    return blake2b(msgspec.json.encode((kind, *parts)), digest_size=16).hexdigest()


def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """Return the virtual partition of a key: FNV-1a-32, as nats-server's ``partition()``."""
    digest = _FNV_OFFSET
    for byte in key.encode():
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return digest % partitions
