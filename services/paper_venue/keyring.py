"""The test key that a seed gives, and the wallets that production would put behind it.

Clients that derive their own wallet find funds in it.
"""

from hashlib import blake2b
from typing import Final

import msgspec
from coincurve import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from services.paper_venue.config import Funded
from shared.domain.ids import Wallet
from shared.domain.units import Usd
from shared.polymarket.wallets import deposit_wallet as deposit_wallet
from shared.polymarket.wallets import derived_type as derived_type
from shared.polymarket.wallets import proxy_wallet as proxy_wallet
from shared.polymarket.wallets import safe_wallet as safe_wallet

_ADDRESS_BYTES: Final = 20


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """A private key that everybody can compute, and its wallets by signature type."""

    private_key: str
    wallets: tuple[str, str, str, str]  # EOA, proxy, safe, deposit wallet; with checksums

    @property
    def address(self) -> str:
        return self.wallets[0]

    def accounts(self, usd: Usd) -> tuple[Funded, ...]:
        """Return its wallets as accounts of the venue, each with so many dollars."""
        owner = Wallet(self.address.lower())
        return tuple(
            Funded(wallet=Wallet(each.lower()), usd=usd, owner=owner if kind else None)
            for kind, each in enumerate(self.wallets)
        )


def keyring(seed: int) -> Keyring:
    """Return the test key of a seed: worth nothing anywhere but at a local venue."""
    secret = blake2b(f"driftless local venue, test key {seed}".encode(), digest_size=32).digest()
    public = PrivateKey(secret).public_key.format(compressed=False)
    owner = keccak(public[1:])[-_ADDRESS_BYTES:]
    return Keyring(
        private_key=f"0x{secret.hex()}",
        wallets=(
            to_checksum_address(owner),
            proxy_wallet(owner),
            safe_wallet(owner),
            deposit_wallet(owner),
        ),
    )
