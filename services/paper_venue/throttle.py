"""Rate limits over HTTP: requests wait or get 429, and order calls tell the signer's balance."""

import asyncio
from hashlib import blake2b
from typing import Final, Literal

from aiohttp import web

from services.paper_venue.auth import Caller
from services.paper_venue.http import Handler, answer, shell_of
from services.paper_venue.limits import Signer, Verdict
from services.paper_venue.modes import Restricted
from services.paper_venue.scopes import DATA_PREFIX, Scope, scopes_of
from services.paper_venue.shell import Shell
from services.paper_venue.state import Refused
from shared.domain.units import NS_PER_MS, NS_PER_S

TOLD: Final = web.RequestKey("rate_limit_headers", dict[str, str])
RETRY_S: Final = 1  # what the Data API suggests
Charge = Literal["order", "cancel", "cancel_all"]


@web.middleware
async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request wait while its address asks too much, then refuse; add what is to be told."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await handler(request)
    shell = shell_of(request)
    if shell.venue.config.rate_limits == "on":
        wait_ns = _wait_ns(shell, request)
        if wait_ns is None:
            return _too_many(request)
        if wait_ns:
            await asyncio.sleep(wait_ns / NS_PER_S)
            shell.catch_up()
    try:
        response = await handler(request)
    except Restricted as error:
        response = answer(error.body, error.status)
        response.headers.update(error.headers)
    except Refused as error:
        response = answer({"error": error.text}, error.status)
    response.headers.update(request.get(TOLD, {}))
    return response


def charge(request: web.Request, caller: Caller, kind: Charge, count: int = 1) -> None:
    """Take an order call's tokens from its signer's bucket, or refuse; the answer will tell."""
    shell = shell_of(request)
    setting = shell.venue.config.rate_limits
    if setting == "off":
        return
    now_ns = shell.now_ns()
    signer = shell.clob.signer(caller.address, now_ns)
    verdict = _judge(signer, kind, count, now_ns)
    headers = _headers(signer, verdict)
    if not verdict.passes and setting == "warn":
        headers["Poly-RateLimit-Warning"] = "true"
    elif not verdict.passes:
        headers["Retry-After"] = str(verdict.retry_s)
        raise Restricted({"error": "rate limit exceeded"}, 429, headers)
    request[TOLD] = headers


def _judge(signer: Signer, kind: Charge, count: int, now_ns: int) -> Verdict:
    if kind == "order":
        return signer.order(count, now_ns)
    return signer.cancel(count, now_ns) if kind == "cancel" else signer.cancel_all(count, now_ns)


def _headers(signer: Signer, verdict: Verdict) -> dict[str, str]:
    return {
        "Poly-RateLimit-Remaining": str(verdict.remaining),
        "Poly-RateLimit-Reset": str(verdict.reset_s),
        "Poly-RateLimit-Tier": signer.tier.name,
    }


def _wait_ns(shell: Shell, request: web.Request) -> int | None:
    """Return how long a request waits, having counted it; None: longer than it may."""
    now_ns, ip = shell.now_ns(), request.remote or ""
    scopes = _scopes(request)
    windows = [shell.clob.window(ip, scope) for scope in scopes]
    wait_ns = max((window.wait_ns(now_ns) for window in windows), default=0)
    if wait_ns > shell.venue.config.rate_limit_wait_ms * NS_PER_MS:
        return None
    for window in windows:
        window.add(now_ns)
    return wait_ns


def _scopes(request: web.Request) -> tuple[Scope, ...]:
    return scopes_of(request.method, request.path, cursor="next_cursor" in request.query)


def _too_many(request: web.Request) -> web.Response:
    """Answer as the CDN does; the Data API explains itself."""
    if not request.path.startswith(DATA_PREFIX):
        return web.Response(status=429, body=b"", content_type="text/html")
    trace = blake2b(str(request.rel_url).encode(), digest_size=16).hexdigest()
    body = {
        "error": "rate limit exceeded",
        "code": "rate_limited",
        "parameter": "",
        "retryable": True,
        "trace_id": trace,
    }
    response = answer(body, 429)
    response.headers["Retry-After"] = str(RETRY_S)
    return response
