"""Transactions that a key sends itself, and what clients ask a node before and after (JSON-RPC).

Gas is priced and never charged: accounts here hold dollars alone.
"""

from collections import Counter
from typing import Any, Final

import msgspec
import rlp  # type: ignore[import-untyped]
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from services.paper_venue.chain import block_at
from services.paper_venue.settlement import Stamp
from services.paper_venue.state import Venue
from services.paper_venue.wallet_calls import (
    RevertedError,
    UnknownCallError,
    WalletCall,
    perform,
)
from shared.domain.ids import TokenId, TxHash, Wallet, wallet
from shared.domain.units import NS_PER_MS

GAS_PRICE: Final = 30 * 10**9
GAS: Final = 200_000
_BALANCES: Final = keccak(text="balanceOfBatch(address[],uint256[])")[:4]
_LEGACY_FIELDS: Final = 9  # nonce, price, gas, target, value, data, and the signature's three


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that was taken; it stands in a block from then on."""

    tx: str
    sender: Wallet
    target: str
    succeeded: bool
    mined_ns: int


class Keys:
    """What keys have sent, by transaction."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.sent: dict[str, Sent] = {}
        self._counts: Counter[Wallet] = Counter()

    def count(self, params: list[Any]) -> str:
        """Return the nonce that an address's next transaction must have; raises ValueError."""
        return hex(self._counts[wallet(str(params[0]))])

    def send(self, params: list[Any], now_ns: int) -> str:
        """Take a signed transaction and carry it out; raises ValueError."""
        raw = bytes.fromhex(str(params[0]).removeprefix("0x"))
        try:
            fields = rlp.decode(raw)
            if not isinstance(fields, list) or len(fields) != _LEGACY_FIELDS:
                raise ValueError("transaction type not supported")
            sender = wallet(str(Account.recover_transaction(raw)))
        except (rlp.exceptions.RLPException, ValidationError, TypeError) as error:
            raise ValueError(f"not a signed transaction: {error}") from None
        nonce, target = int.from_bytes(fields[0]), f"0x{fields[3].hex()}"
        expected = self._counts[sender]
        if nonce != expected:
            low = nonce < expected
            raise ValueError(f"nonce too {'low' if low else 'high'}: {nonce}, not {expected}")
        tx = TxHash(f"0x{keccak(raw).hex()}")
        try:
            perform(self._venue, sender, [WalletCall(target, fields[5])], Stamp(now_ns, tx))
            succeeded = True
        except RevertedError:
            succeeded = False
        except UnknownCallError as error:
            raise ValueError(str(error)) from None
        self._counts[sender] += 1
        mined_ns = now_ns + self._venue.config.mined_delay_ms * NS_PER_MS
        self.sent[tx] = Sent(
            tx=tx, sender=sender, target=target, succeeded=succeeded, mined_ns=mined_ns
        )
        return tx

    def block_of(self, sent: Sent) -> int:
        return block_at(self._venue.config, sent.mined_ns)

    def call(self, params: list[Any]) -> str:
        """Answer the one read that redeeming needs, balances of many tokens; raises ValueError."""
        asked = params[0] if params and isinstance(params[0], dict) else {}
        data = bytes.fromhex(str(asked.get("data", "")).removeprefix("0x"))
        if data[:4] != _BALANCES:
            raise ValueError("only balanceOfBatch is answered here")
        try:
            owners, tokens = decode(["address[]", "uint256[]"], data[4:])
        except DecodingError as error:
            raise ValueError(str(error)) from None
        ledger = self._venue.ledger
        held = [
            max(0, ledger.holding(Wallet(owner.lower()), TokenId(str(token))))
            for owner, token in zip(owners, tokens, strict=True)
        ]
        return "0x" + encode(["uint256[]"], [held]).hex()
