"""JSON-RPC 2.0 at ``/rpc``: single calls and batches over HTTP, subscriptions over WebSocket."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from services.paper_venue.chain_feed import Subscriber
from services.paper_venue.chain_node import (
    BAD_PARAMS,
    BAD_REQUEST,
    LIMIT_EXCEEDED,
    PARSE_ERROR,
    RpcError,
)
from services.paper_venue.http import answer, decode, shell_of
from services.paper_venue.wire import Json, encode

routes = web.RouteTableDef()
BATCH_MAX: Final = 100  # calls of one batch
Call = Callable[[str, list[Any]], Any]


class ChainBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``POST /admin/chain`` sets; what is left out stays as it is."""

    lag_blocks: int | None = None  # the node's head is so many blocks old
    fail_logs: int | None = None  # the next eth_getLogs are refused
    close_sockets: bool = False  # subscribers lose their connection without a goodbye


@routes.post("/admin/chain")
async def post_chain(request: web.Request) -> web.Response:
    shell = shell_of(request)
    body = decode(await request.read(), ChainBody, "invalid chain settings")
    node = shell.chain.node
    if body.lag_blocks is not None:
        node.lag_blocks = max(0, body.lag_blocks)
    if body.fail_logs is not None:
        node.fail_logs = max(0, body.fail_logs)
    if body.close_sockets:
        shell.chain.cut()
    return answer({"ok": True, "lag_blocks": node.lag_blocks, "fail_logs": node.fail_logs})


@routes.post("/rpc")
async def post_rpc(request: web.Request) -> web.Response:
    shell = shell_of(request)

    def call(method: str, params: list[Any]) -> Any:
        return shell.apply(lambda now_ns: shell.chain.node.call(method, params, now_ns))

    reply = replied(await request.read(), call)
    return web.Response(body=reply or b"", content_type="application/json")


@routes.get("/rpc")
async def rpc_socket(request: web.Request) -> web.StreamResponse:
    """Serve one socket: calls in, replies and subscriptions out through one queue."""
    shell, subscriber = shell_of(request), Subscriber()

    def call(method: str, params: list[Any]) -> Any:
        return shell.chain.call(subscriber, method, params, shell.now_ns())

    socket = web.WebSocketResponse(autoping=True, max_msg_size=1 << 20, compress=False)
    await socket.prepare(request)
    if request.transport is not None:
        subscriber.abort = request.transport.abort
    shell.chain.subscribers.add(subscriber)
    writer = asyncio.create_task(_write(socket, subscriber))
    try:
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                shell.catch_up()
                reply = replied(message.data, call)
                if reply:
                    subscriber.send(reply)
                shell.catch_up()  # a subscription may need an earlier alarm
    finally:
        shell.chain.subscribers.discard(subscriber)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    await socket.close()
    return socket


def replied(raw: bytes | str, call: Call) -> bytes | None:
    """Answer a frame, one call or a batch; None where it asks for no answer."""
    try:
        asked = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return encode(_error(None, RpcError(PARSE_ERROR, "parse error")))
    if not isinstance(asked, list):
        reply = _reply(asked, call)
        return None if reply is None else encode(reply)
    if not asked:
        return encode(_error(None, RpcError(BAD_REQUEST, "empty batch")))
    if len(asked) > BATCH_MAX:
        return encode(_error(None, RpcError(LIMIT_EXCEEDED, f"at most {BATCH_MAX} calls")))
    replies = [reply for one in asked if (reply := _reply(one, call)) is not None]
    return encode(replies) if replies else None


def _reply(asked: object, call: Call) -> Json | None:
    """Answer one call; a notification, which has no id, gets nothing."""
    if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
        return _error(None, RpcError(BAD_REQUEST, "invalid request"))
    number, params = asked.get("id"), asked.get("params", [])
    if not isinstance(params, list):
        return _error(number, RpcError(BAD_PARAMS, "non-array args"))
    try:
        found = call(asked["method"], params)
    except RpcError as error:
        return _error(number, error) if "id" in asked else None
    return {"jsonrpc": "2.0", "id": number, "result": found} if "id" in asked else None


def _error(number: object, error: RpcError) -> Json:
    told = {"code": error.code, "message": error.text}
    return {"jsonrpc": "2.0", "id": number, "error": told}


async def _write(socket: web.WebSocketResponse, subscriber: Subscriber) -> None:
    while not subscriber.too_slow:
        await subscriber.ready.wait()
        subscriber.ready.clear()
        while subscriber.queue and not subscriber.too_slow:
            try:
                await socket.send_str(subscriber.queue.popleft().decode())
            except (ConnectionError, RuntimeError):  # the other side has gone
                return
    await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"slow consumer")
