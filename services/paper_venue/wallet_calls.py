"""What wallets do on the chain: redemptions read out of calls, and who signed for a wallet.

Of all contracts only redeeming is imitated (protocol.md 8.4): by the adapters for markets
of the first protocol, by the router for those of the second. A wallet that is a contract acts on a
signature of its owner, each kind on a structure of its own.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from services.paper_venue.core import execute_activity
from services.paper_venue.settlement import Stamp, redeemable
from services.paper_venue.signing import CHAIN_ID, recover
from services.paper_venue.state import Listing, Row, Venue
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import Shares

ADAPTERS: Final = {  # by whether the market is neg-risk (protocol.md 8.1)
    False: "0xada100db00ca00073811820692005400218fce1f",
    True: "0xada2005600dec949baf300f4c6120000bdb6eaab",
}
ROUTER: Final = "0x12121212006e4cd160d18e3f00711da5c3372600"
PROXY_FACTORY: Final = "0xab45c5a4b0c941a2f231c04c3f49182e1a254052"
MULTISEND: Final = "0xa238cbeb142c10ef7ad8442c6d1f9e89e07e7761"
RELAY_HUB: Final = "0xd216153c06e857cd7f72665e0af1d7d82172f494"
RELAY: Final = "0x00000000000000000000000000000000000d1ff7"  # who relays here
NOTHING: Final = "0x" + "00" * 20
_EVERYTHING: Final = Shares(1 << 60)


class WalletCall(NamedTuple):
    """A call that a wallet makes."""

    target: str  # lower case
    data: bytes


class RevertedError(Exception):
    """The chain undid a transaction; the text is the contract's."""


class UnknownCallError(ValueError):
    """A call of something that is not imitated here."""


def perform(venue: Venue, wallet: Wallet, calls: Sequence[WalletCall], stamp: Stamp) -> list[Row]:
    """Do what a wallet's calls say, all of it or nothing; return the rows that the world sees.

    Raises RevertedError, and UnknownCallError before anything is done.
    """
    ended: dict[ConditionId, Listing] = {}
    for call in calls:
        listing = _redeemed(venue, call)
        if listing.payouts is None:
            raise RevertedError("result for condition not received yet")
        ended[listing.market.condition] = listing
    return [
        execute_activity(venue, wallet, "REDEEM", condition, _EVERYTHING, stamp)
        for condition, listing in ended.items()
        if any(redeemable(venue, wallet, token, _EVERYTHING) for token in listing.market.tokens)
    ]


def calls_of_factory(data: bytes) -> list[WalletCall]:
    """Return what the proxy factory is asked to have a proxy wallet call; raises ValueError."""
    (calls,) = _arguments("proxy((uint8,address,uint256,bytes)[])", data)
    return [WalletCall(target.lower(), inner) for _, target, _, inner in calls]


def calls_of_safe(target: str, data: bytes) -> list[WalletCall]:
    """Return what a safe's transaction calls: one contract, or several in a packed list."""
    if target.lower() != MULTISEND:
        return [WalletCall(target.lower(), data)]
    (packed,) = _arguments("multiSend(bytes)", data)
    calls = []
    while packed:  # operation 1, target 20, value 32, length 32, data
        size = int.from_bytes(packed[53:85])
        calls.append(WalletCall("0x" + packed[1:21].hex(), packed[85 : 85 + size]))
        packed = packed[85 + size :]
    return calls


def safe_signer(safe: str, target: str, data: bytes, terms: tuple[int, int], sig: bytes) -> Wallet:
    """Return who signed a safe's transaction, of an operation and a nonce; raises ValueError."""
    operation, nonce = terms
    names = ("safeTxGas", "baseGas", "gasPrice")
    fields = [
        ("to", "address"), ("value", "uint256"), ("data", "bytes"), ("operation", "uint8"),
        *((name, "uint256") for name in names), ("gasToken", "address"),
        ("refundReceiver", "address"), ("nonce", "uint256"),
    ]  # fmt: skip
    message = {
        "to": target, "value": 0, "data": data, "operation": operation,
        **dict.fromkeys(names, 0), "gasToken": NOTHING, "refundReceiver": NOTHING, "nonce": nonce,
    }  # fmt: skip
    domain = {"chainId": CHAIN_ID, "verifyingContract": safe}
    digest = _digest(domain, "SafeTx", {"SafeTx": _typed(fields)}, message)
    plain = sig[:64] + bytes([max(0, sig[64] - 4)])  # the safe's mark of a signed message
    return recover(plain, _as_message(digest))


def deposit_signer(
    wallet: str, nonce: int, deadline: int, calls: Sequence[WalletCall], signature: bytes
) -> Wallet:
    """Return who signed a deposit wallet's batch; raises ValueError."""
    types = {
        "Batch": _typed(
            [("wallet", "address"), ("nonce", "uint256"), ("deadline", "uint256"),
             ("calls", "Call[]")]
        ),
        "Call": _typed([("target", "address"), ("value", "uint256"), ("data", "bytes")]),
    }  # fmt: skip
    message = {
        "wallet": wallet, "nonce": nonce, "deadline": deadline,
        "calls": [{"target": c.target, "value": 0, "data": c.data} for c in calls],
    }  # fmt: skip
    domain = {
        "name": "DepositWallet", "version": "1", "chainId": CHAIN_ID, "verifyingContract": wallet
    }  # fmt: skip
    return recover(signature, _digest(domain, "Batch", types, message))


def proxy_signer(owner: str, data: bytes, gas_limit: int, nonce: int, signature: bytes) -> Wallet:
    """Return who signed a proxy wallet's transaction for the relay hub; raises ValueError."""
    zero = bytes(32)
    told = (
        b"rlx:" + _raw(owner) + _raw(PROXY_FACTORY) + data + zero + zero
        + gas_limit.to_bytes(32) + nonce.to_bytes(32) + _raw(RELAY_HUB) + _raw(RELAY)
    )  # fmt: skip
    return recover(signature, _as_message(keccak(told)))


def _redeemed(venue: Venue, call: WalletCall) -> Listing:
    """Return the market that a call redeems, or raise UnknownCallError."""
    try:
        if call.target == ROUTER:
            condition, _, _ = _arguments("redeem(bytes31,uint256,uint256)", call.data)
            named = f"0x{condition.hex()}00"
        else:
            _, _, condition, _ = _arguments(
                "redeemPositions(address,bytes32,bytes32,uint256[])", call.data
            )
            named = f"0x{condition.hex()}"
    except ValueError as error:
        raise UnknownCallError(f"only redemptions are imitated: {error}") from None
    listing = venue.listings.get(ConditionId(named))
    if listing is None or call.target != _redeemer(listing):
        raise UnknownCallError(f"{call.target} does not redeem {named}")
    return listing


def _redeemer(listing: Listing) -> str:
    return ROUTER if listing.market.protocol == "v2" else ADAPTERS[listing.market.neg_risk]


def _arguments(signature: str, data: bytes) -> tuple[Any, ...]:
    """Return the arguments of a call by the function's signature; raises ValueError."""
    if data[:4] != keccak(text=signature)[:4]:
        raise ValueError(f"0x{data[:4].hex()} is not {signature}")
    inner = signature[signature.index("(") + 1 : -1]
    kinds = [inner] if inner.startswith("(") else inner.split(",")
    try:
        return tuple(decode(kinds, data[4:]))
    except DecodingError as error:
        raise ValueError(f"{signature}: {error}") from None


def _digest(
    domain: dict[str, Any], primary: str, types: dict[str, Any], message: dict[str, Any]
) -> bytes:
    kinds = {"chainId": "uint256", "verifyingContract": "address"}
    named = [(name, kinds.get(name, "string")) for name in domain]
    full = {
        "domain": domain,
        "types": {"EIP712Domain": _typed(named), **types},
        "primaryType": primary,
        "message": message,
    }
    signable = encode_typed_data(full_message=full)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def _as_message(digest: bytes) -> bytes:
    """Return what is signed where a digest is signed as a message (EIP-191)."""
    return keccak(b"\x19Ethereum Signed Message:\n32" + digest)


def _typed(fields: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in fields]


def _raw(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x"))
