"""The wallets that the venue's factories make for a signing address, by signature type.

Proxy, safe and deposit wallets are CREATE2 addresses of production's factories (protocol.md 8.1),
computed as the unified client computes them.
"""

from functools import cache
from typing import Final

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from shared.domain.ids import Wallet

PROXY_FACTORY: Final = "aB45c5A4B0c941a2F231C04C3f49182e1A254052"
SAFE_FACTORY: Final = "aacFeEa03eb1561C4e67d661e40682Bd20E3541b"
DEPOSIT_FACTORY: Final = "00000000000Fb5C9ADea0298D729A0CB3823Cc07"
DEPOSIT_BEACON: Final = "7A18EDfe055488A3128f01F563e5B479D92ffc3a"
_PROXY_TARGET: Final = "44e999d5c2F66Ef0861317f9A4805AC2e90aEB4f"
_SAFE_CODE_HASH: Final = "2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf"
# What the factories deploy, as they deploy it.
_PROXY_CODE: Final = (
    "3d3d606380380380913d393d73" + PROXY_FACTORY + "5af4602a57600080fd5b602d8060366000396000f3"
    "363d3d373d3d3d363d73" + _PROXY_TARGET + "5af43d82803e903d91602b57fd5bf352e831dd"
    + f"{32:064x}" + f"{0:064x}"
)  # fmt: skip
_DEPOSIT_PREFIX: Final = 0x6100523D8160233D3973  # its arguments' length stands in the third byte
_DEPOSIT_CODE: Final = (
    DEPOSIT_BEACON + "60195155f3363d3d373d3d363d602036600436635c60da"
    "1b60e01b36527fa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6c"
    "b3582b35133d50545afa5036515af43d6000803e604d573d6000fd5b3d6000f3"
)
_ADDRESS_BYTES: Final = 20


def derived_type(owner: Wallet, wallet: Wallet) -> int | None:
    """Return the signature type of a wallet that a factory made for its owner; None: of none."""
    address = bytes.fromhex(owner.removeprefix("0x"))
    for kind, derive in ((1, proxy_wallet), (2, safe_wallet), (3, deposit_wallet)):
        if derive(address).lower() == wallet:
            return kind
    return None


@cache
def proxy_wallet(owner: bytes) -> str:
    """Return the wallet of signature type 1 that an address of 20 bytes signs for."""
    return _create2(PROXY_FACTORY, keccak(owner), keccak(bytes.fromhex(_PROXY_CODE)))


@cache
def safe_wallet(owner: bytes) -> str:
    """Return the wallet of signature type 2."""
    return _create2(SAFE_FACTORY, keccak(bytes(12) + owner), bytes.fromhex(_SAFE_CODE_HASH))


@cache
def deposit_wallet(owner: bytes) -> str:
    """Return the wallet of signature type 3, behind the factory's beacon as new ones are."""
    arguments = bytes(12) + bytes.fromhex(DEPOSIT_FACTORY) + bytes(12) + owner
    prefix = _DEPOSIT_PREFIX + (len(arguments) << 56)
    code = prefix.to_bytes(10, "big") + bytes.fromhex(_DEPOSIT_CODE) + arguments
    return _create2(DEPOSIT_FACTORY, keccak(arguments), keccak(code))


def _create2(factory: str, salt: bytes, code_hash: bytes) -> str:
    deployed = keccak(b"\xff" + bytes.fromhex(factory) + salt + code_hash)
    return to_checksum_address(deployed[-_ADDRESS_BYTES:])
