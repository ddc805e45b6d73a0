"""Requests through the rules: waits, other answers, answers that come late, cut or never."""

import asyncio
from collections import OrderedDict
from typing import Final

from aiohttp import web

from services.paper_venue.connections import hang_up, reset, until_gone
from services.paper_venue.fates import AFTERWARDS, INSTEAD, answer_of, shortened
from services.paper_venue.http import SHELL, Handler, refusal, shell_of
from services.paper_venue.kinds import Kind, SocketKind
from services.paper_venue.rules import Armed, Place, Rules
from services.paper_venue.shell import Shell
from services.paper_venue.state import Refused
from shared.domain.units import NS_PER_MS, NS_PER_S

ANSWERS_BYTES_MAX: Final = 64 << 20  # of answers remembered; the oldest are forgotten
SOCKETS: Final[dict[str, SocketKind]] = {
    "/ws/market": "market",
    "/ws/user": "user",
    "/rtds": "stream",
    "/": "stream",
}


class LastAnswers:
    """The last good answer of each URL, as a cache in front of the venue would keep it."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def keep(self, key: str, body: bytes) -> None:
        self._size += len(body) - len(self._bodies.pop(key, b""))
        self._bodies[key] = body
        while self._size > ANSWERS_BYTES_MAX:
            self._size -= len(self._bodies.popitem(last=False)[1])

    def last(self, key: str) -> bytes | None:
        return self._bodies.get(key)


ANSWERS: Final = web.AppKey("answers", LastAnswers)


def place_of(request: web.Request) -> Place:
    """Return where a request is; one that opens a socket is on both maps."""
    opens = request.headers.get("Upgrade", "").lower() == "websocket"
    return Place(
        socket=SOCKETS.get(request.path) if opens else None,
        method=request.method,
        path=request.path,
        query=request.query_string,
    )


def data_ns(request: web.Request) -> int:
    """Return the moment the Data API answers a request as of."""
    shell = shell_of(request)
    now_ns, rules = shell.now_ns(), shell.rules
    armed = None if rules.idle else rules.fire("lagging", place_of(request), now_ns)
    if armed is None:
        return now_ns
    age_s = armed.rule.age_s
    return armed.from_ns if age_s is None else now_ns - int(age_s * NS_PER_S)


@web.middleware
async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do to a request what the rules say; the control API is beyond them."""
    if request.path.startswith("/admin"):
        return await handler(request)
    shell, place = request.app[SHELL], place_of(request)
    if not shell.rules.idle:
        return await _faulty(request, handler, shell, place)
    response = await handler(request)
    _remember(request, response)
    return response


async def _faulty(
    request: web.Request, handler: Handler, shell: Shell, place: Place
) -> web.StreamResponse:
    slow = shell.rules.fire("slow", place, shell.now_ns())
    if slow:
        await request.read()  # as a gateway: it has the request, whoever has gone meanwhile
        await asyncio.sleep(slow.delay_ns / NS_PER_S)
    instead = await _instead(request, shell, place)
    if instead is not None:
        return instead
    read = _misread(request, shell, place)
    try:
        response = await handler(read)
    except Refused as refused:
        response = refusal(refused.text, refused.status)
    if read is request:
        _remember(request, response)
    return response if place.socket else await _afterwards(request, response, shell, place)


async def _instead(request: web.Request, shell: Shell, place: Place) -> web.Response | None:
    """Answer with a fault, hang, or drop the connection; None: the request goes on."""
    rules, now_ns = shell.rules, shell.now_ns()
    if place.socket and (refuse := rules.fire("refuse", place, now_ns)):
        if refuse.rule.status == 0:
            return reset(request)
        return web.Response(status=refuse.rule.status)
    armed = _first(rules, INSTEAD, place, now_ns)
    if armed is None:
        last = request.app[ANSWERS].last(_key(request)) if request.method == "GET" else None
        if last is not None and rules.fire("stale", place, now_ns):
            return web.Response(body=last, content_type="application/json")
        return None
    if armed.rule.kind == "drop_before":
        return hang_up(request)
    if armed.rule.kind == "hang_before":
        return await _hang(request)
    told = answer_of(armed, now_ns)
    return web.Response(
        body=told.body, status=told.status, headers=told.headers, content_type=told.content_type
    )


def _misread(request: web.Request, shell: Shell, place: Place) -> web.Request:
    """Return the request, or one about another token of the venue."""
    asked = request.query.get("token_id")
    others = [token for token in shell.venue.by_token if token != asked]
    if not asked or not others:
        return request
    armed = shell.rules.fire("wrong_body", place, shell.now_ns())
    if armed is None:
        return request
    other = armed.random.choice(others)
    return request.clone(rel_url=request.rel_url.update_query(token_id=other))


async def _afterwards(
    request: web.Request, response: web.StreamResponse, shell: Shell, place: Place
) -> web.StreamResponse:
    """Let an answer come late, cut, shortened, or not at all."""
    armed = _first(shell.rules, AFTERWARDS, place, shell.now_ns())
    if armed is None:
        return _shortened(response, shell, place)
    match armed.rule.kind:
        case "drop_after":
            return hang_up(request)
        case "hang_after":
            return await _hang(request)
        case "delayed_answer":
            await asyncio.sleep(armed.rule.ms * NS_PER_MS / NS_PER_S)
        case _:
            body = _body(response)
            return _json(body[: len(body) // 2], response.status)
    return response


def _shortened(response: web.StreamResponse, shell: Shell, place: Place) -> web.StreamResponse:
    rules, now_ns = shell.rules, shell.now_ns()
    if not rules.live("truncated", now_ns) or not _is_plain(response):
        return response
    body = _body(response)
    if shortened(body, 1) is None:
        return response
    armed = rules.fire("truncated", place, now_ns)
    cut = shortened(body, armed.rule.n) if armed else None
    return response if cut is None else _json(cut, response.status)


def _first(rules: Rules, kinds: tuple[Kind, ...], place: Place, now_ns: int) -> Armed | None:
    for kind in kinds:
        armed = rules.fire(kind, place, now_ns)
        if armed is not None:
            return armed
    return None


async def _hang(request: web.Request) -> web.Response:
    await until_gone(request)
    return hang_up(request)


def _remember(request: web.Request, response: web.StreamResponse) -> None:
    if _is_plain(response) and request.method == "GET" and response.status == 200:
        request.app[ANSWERS].keep(_key(request), _body(response))


def _key(request: web.Request) -> str:
    """Name a URL without the dummy that busts caches; what is signed belongs to its signer."""
    signer = request.headers.get("POLY_ADDRESS", "")
    return f"{signer} {request.rel_url.without_query_params('_')}"


def _is_plain(response: web.StreamResponse) -> bool:
    return isinstance(response, web.Response) and isinstance(response.body, bytes)


def _body(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else b""
    return body if isinstance(body, bytes) else b""


def _json(body: bytes, status: int) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
