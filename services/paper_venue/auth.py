"""Who is asking: level 1 for keys, level 2 for every account call (protocol.md 1.1)."""

import hmac
from typing import Final

import msgspec
from aiohttp import web

from services.paper_venue.shell import Shell
from services.paper_venue.signing import (
    Credentials,
    credentials_for,
    key_request_signer,
    request_signature,
)
from services.paper_venue.state import Refused
from shared.domain.ids import Wallet, wallet
from shared.domain.units import NS_PER_S

CLOCK_TOLERANCE_S: Final = 300  # production documents none; this catches seconds mistaken for ms


class Caller(msgspec.Struct, frozen=True):
    """An authenticated account: its signing address and the API key it used."""

    address: Wallet
    key: str


def authenticate_key_request(request: web.Request, shell: Shell) -> tuple[Wallet, int]:
    """Return the address and nonce a level-1 request proves, or refuse."""
    headers = request.headers
    try:
        claimed = wallet(headers["POLY_ADDRESS"])
        signer = key_request_signer(
            headers["POLY_ADDRESS"],
            headers["POLY_TIMESTAMP"],
            headers.get("POLY_NONCE", "0"),
            headers["POLY_SIGNATURE"],
        )
        nonce = int(headers.get("POLY_NONCE", "0"))
        on_time = _on_time(headers["POLY_TIMESTAMP"], shell)
    except (KeyError, ValueError):
        raise Refused("Invalid L1 Request headers", 401) from None
    if signer != claimed or not on_time:
        raise Refused("Invalid L1 Request headers", 401)
    return claimed, nonce


def authenticate(
    request: web.Request, body: bytes, shell: Shell, *, trades: bool = False
) -> Caller:
    """Return who signed this level-2 request, or refuse; a read-only key cannot trade."""
    headers = request.headers
    refused = Refused("Unauthorized/Invalid api key", 401)
    try:
        address, key = wallet(headers["POLY_ADDRESS"]), headers["POLY_API_KEY"]
        timestamp, signature = headers["POLY_TIMESTAMP"], headers["POLY_SIGNATURE"]
        passphrase = headers["POLY_PASSPHRASE"]
        on_time = _on_time(timestamp, shell)
    except (KeyError, ValueError):
        raise refused from None
    credentials = known_credentials(shell, address, key)
    if credentials is None or not on_time or (trades and key in shell.clob.read_only):
        raise refused
    expected = request_signature(credentials.secret, timestamp, request.method, request.path, body)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise refused
    if not hmac.compare_digest(credentials.passphrase.encode(), passphrase.encode()):
        raise refused
    return Caller(address, key)


def known_credentials(shell: Shell, address: Wallet, key: str) -> Credentials | None:
    """Return an address's keys where ``key`` names them; nonce 0 is known without asking."""
    known = shell.keys.get(key)
    if known is None:
        if not shell.clob.has_keys(address, 0):
            return None
        root = shell.clob.root_of(address, 0)
        default = credentials_for(shell.venue.config.seed, address, root)
        return shell.credentials(address, 0) if default.key == key else None
    owner, credentials = known
    return credentials if owner == address else None


def _on_time(timestamp: str, shell: Shell) -> bool:
    return abs(int(timestamp) - shell.now_ns() // NS_PER_S) <= CLOCK_TOLERANCE_S
