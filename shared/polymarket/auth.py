"""Who we are to the venue, and what proves it: credentials, headers, signed orders."""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Literal, NoReturn

import msgspec

from shared.domain.ids import OrderHash, Wallet

SignatureType = Literal[0, 1, 2, 3]  # EOA, proxy, safe, deposit wallet


class Credentials:
    """API credentials. Neither printed nor serialisable: no log, fact or trace can hold them."""

    __slots__ = ("_key", "api_key", "passphrase", "secret")

    def __init__(self, *, api_key: str, secret: str, passphrase: str) -> None:
        try:
            self._key = base64.urlsafe_b64decode(secret)
        except (binascii.Error, ValueError):
            raise ValueError("the API secret is not url-safe base64") from None
        self.api_key = api_key
        self.secret = secret
        self.passphrase = passphrase

    def __repr__(self) -> str:
        return "Credentials(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not serialisable")

    def hmac(self, message: bytes) -> str:
        """Return the url-safe base64 of the message's HMAC-SHA256, padding kept."""
        digest = hmac.new(self._key, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode()


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Our account: the key's address signs and owns the credentials, the wallet owns the funds."""

    address: str  # of the signing key, as the venue's headers carry it
    wallet: Wallet
    credentials: Credentials
    signature_type: SignatureType = 0


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order ready to be posted; the body holds a signature and is never logged."""

    hash: OrderHash
    body: bytes

    def __repr__(self) -> str:
        return f"SignedOrder({self.hash})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("hash", self.hash)]


def l2_headers(
    account: Account, method: str, path: str, *, body: bytes = b"", timestamp_s: int
) -> dict[str, str]:
    """Return the headers of an account call (protocol.md 1.1).

    ``path`` is without the query string, ``body`` exactly the bytes that will be sent.
    """
    message = f"{timestamp_s}{method.upper()}{path}".encode() + body
    return {
        "POLY_ADDRESS": account.address,
        "POLY_API_KEY": account.credentials.api_key,
        "POLY_PASSPHRASE": account.credentials.passphrase,
        "POLY_SIGNATURE": account.credentials.hmac(message),
        "POLY_TIMESTAMP": str(timestamp_s),
    }
