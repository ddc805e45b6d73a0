"""How requests become answers: bodies in, JSON out, refusals in the venue's words."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from services.paper_venue.shell import Shell
from services.paper_venue.state import Refused
from services.paper_venue.wire import encode

SHELL: Final = web.AppKey("shell", Shell)
RECEIVED_NS: Final = web.RequestKey("received_ns", int)
BODY_MAX: Final = 8 << 20  # bytes; larger bodies are refused with 413
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Body = TypeVar("_Body")
_log = logging.getLogger("paper_venue")


def answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(body), status=status, content_type="application/json")


def refusal(text: str, status: int = 400) -> web.Response:
    return answer({"error": text}, status)


def shell_of(request: web.Request) -> Shell:
    return request.app[SHELL]


def decode(raw: bytes, kind: type[_Body], complaint: str = "Invalid order payload") -> _Body:
    """Return the body as ``kind``, or refuse with what is wrong with it."""
    try:
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{complaint}: {error}") from error


def parameter(request: web.Request, name: str) -> str:
    """Return a query parameter or refuse."""
    value = request.query.get(name, "")
    if not value:
        raise Refused(f"Invalid {name}: missing")
    return value


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Stamp the arrival, settle what is due, and turn every failure into the venue's JSON."""
    shell = shell_of(request)
    request[RECEIVED_NS] = shell.now_ns()
    shell.catch_up()
    try:
        return await handler(request)
    except Refused as error:
        return refusal(error.text, error.status)
    except web.HTTPException as error:
        return refusal(error.reason.lower(), error.status)
    except (ConnectionResetError, TimeoutError):
        raise
    except Exception:  # noqa: BLE001 - a bad request never takes the venue down
        _log.exception("request_failed path=%s", request.path)
        return refusal("internal server error", 500)
