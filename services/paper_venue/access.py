"""The CLOB's HTTP for API keys: trading keys, read-only keys, an account's standing (1.1)."""

from typing import Any, Final

import msgspec
from aiohttp import web

from services.paper_venue.auth import Caller, authenticate, authenticate_key_request
from services.paper_venue.http import answer, shell_of
from services.paper_venue.signing import Credentials
from services.paper_venue.state import Refused

routes = web.RouteTableDef()
READ_ONLY_NONCE: Final = 1 << 62  # read-only keys are made of nonces from here on
READ_ONLY_MAX: Final = 100  # of one address


@routes.post("/auth/api-key")
async def create_api_key(request: web.Request) -> web.Response:
    shell = shell_of(request)
    address, nonce = authenticate_key_request(request, shell)
    known = set(shell.keys)
    credentials = shell.credentials(address, nonce)
    if credentials.key in known:
        raise Refused("Could not create api key")
    return _keys(credentials)


@routes.get("/auth/derive-api-key")
async def derive_api_key(request: web.Request) -> web.Response:
    """Answer the keys of an address and nonce; deleted ones have to be created anew."""
    shell = shell_of(request)
    address, nonce = authenticate_key_request(request, shell)
    if not shell.clob.has_keys(address, nonce):
        raise Refused("Could not derive api key")
    return _keys(shell.credentials(address, nonce))


@routes.get("/auth/api-keys")
async def get_api_keys(request: web.Request) -> web.Response:
    caller, clob = await _caller(request), shell_of(request).clob
    keys = shell_of(request).keys_of(caller.address) - clob.read_only
    return answer({"apiKeys": sorted(keys)})


@routes.delete("/auth/api-key")
async def delete_api_key(request: web.Request) -> web.Response:
    """Delete the key that signs this request; its open orders stay."""
    caller = await _caller(request, trades=True)
    _delete(request, caller.key)
    return answer("OK")


@routes.post("/auth/readonly-api-key")
async def create_read_only_key(request: web.Request) -> web.Response:
    shell = shell_of(request)
    caller = await _caller(request, trades=True)
    for nonce in range(READ_ONLY_NONCE, READ_ONLY_NONCE + READ_ONLY_MAX):
        known = set(shell.keys)
        credentials = shell.credentials(caller.address, nonce)
        if credentials.key not in known:
            shell.clob.read_only.add(credentials.key)
            return _keys(credentials)
    raise Refused("Could not create api key")


@routes.get("/auth/readonly-api-keys")
async def get_read_only_keys(request: web.Request) -> web.Response:
    caller, shell = await _caller(request), shell_of(request)
    keys = shell.keys_of(caller.address) & shell.clob.read_only
    return answer({"readonlyApiKeys": sorted(keys)})


@routes.delete("/auth/readonly-api-key")
async def delete_read_only_key(request: web.Request) -> web.Response:
    caller, shell = await _caller(request, trades=True), shell_of(request)
    try:
        named = msgspec.json.decode(await request.read(), type=dict[str, Any]).get("key")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("Invalid payload") from None
    if named not in shell.keys_of(caller.address) & shell.clob.read_only:
        raise Refused("api key not found", 404)
    _delete(request, str(named))
    return answer("OK")


@routes.get("/auth/ban-status/closed-only")
async def get_closed_only(request: web.Request) -> web.Response:
    caller = await _caller(request)
    return answer({"closed_only": caller.address in shell_of(request).clob.closed_only})


@routes.get("/api/geoblock")
async def get_geoblock(request: web.Request) -> web.Response:
    """Answer for the site's host, which knows where the caller is (0.5)."""
    blocked, country = shell_of(request).clob.region
    return answer({"blocked": blocked, "ip": request.remote, "country": country, "region": ""})


async def _caller(request: web.Request, *, trades: bool = False) -> Caller:
    return authenticate(request, await request.read(), shell_of(request), trades=trades)


def _delete(request: web.Request, key: str) -> None:
    shell = shell_of(request)
    del shell.keys[key]
    shell.clob.delete_keys(key)
    shell.clob.read_only.discard(key)
    shell.venue.hearts.pop(key, None)


def _keys(credentials: Credentials) -> web.Response:
    return answer(
        {
            "apiKey": credentials.key,
            "secret": credentials.secret,
            "passphrase": credentials.passphrase,
        }
    )
