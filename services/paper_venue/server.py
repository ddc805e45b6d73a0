"""The venue as one aiohttp application on one port: HTTP, three WebSockets, the control API."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from services.paper_venue import (
    access,
    account,
    account_reads,
    admin,
    admin_clob,
    admin_faults,
    data_api,
    gamma,
    prices,
    relayer,
    rest,
    rpc,
)
from services.paper_venue.cdn import CACHE, Cache, cached
from services.paper_venue.config import VenueConfig
from services.paper_venue.core import new_venue
from services.paper_venue.delivery import Peer
from services.paper_venue.http import BODY_MAX, SHELL, answer, guard, shell_of
from services.paper_venue.page import page_response, wants_page
from services.paper_venue.page import routes as page_routes
from services.paper_venue.replay import drive
from services.paper_venue.rest_faults import ANSWERS, LastAnswers, faulty
from services.paper_venue.scenario import load_scenario
from services.paper_venue.shell import Shell
from services.paper_venue.sockets import hear_market, hear_stream, hear_user, serve_socket
from services.paper_venue.tape import Tape
from services.paper_venue.throttle import limited


async def market_socket(request: web.Request) -> web.WebSocketResponse:
    hub, peer = shell_of(request).hub, Peer("market")
    return await serve_socket(request, hub, peer, lambda frame: hear_market(hub, peer, frame))


async def user_socket(request: web.Request) -> web.WebSocketResponse:
    shell, peer = shell_of(request), Peer("user")

    def find(auth: dict[str, Any]) -> set[str]:
        known = shell.keys.get(str(auth.get("apiKey", "")))
        if known is None:
            return set()
        address, credentials = known
        given = (auth.get("secret"), auth.get("passphrase"))
        if given != (credentials.secret, credentials.passphrase):
            return set()
        return shell.keys_of(address)

    def hear(frame: dict[str, Any]) -> str | None:
        return None if hear_user(shell.hub, peer, frame, find) else "close"

    return await serve_socket(request, shell.hub, peer, hear)


async def stream_socket(request: web.Request) -> web.StreamResponse:
    """Serve the activity stream; a plain GET says what this is, a browser here gets the page."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        if wants_page(request) and admin.is_from_here(request):
            return page_response()
        return answer({"venue": "paper", "note": "a local imitation; nothing here is real money"})
    hub, peer = shell_of(request).hub, Peer("stream")

    def hear(frame: dict[str, Any]) -> str | None:
        hear_stream(hub, peer, frame)
        return None

    return await serve_socket(request, hub, peer, hear)


def application(shell: Shell) -> web.Application:
    """Return the whole venue as an application around a shell."""
    middlewares = [guard, admin.only_from_here, faulty, limited, cached]
    app = web.Application(middlewares=middlewares, client_max_size=BODY_MAX)
    app[SHELL], app[ANSWERS] = shell, LastAnswers()
    app[CACHE] = Cache()
    app.router.add_get("/ws/market", market_socket)
    app.router.add_get("/ws/user", user_socket)
    app.router.add_get("/rtds", stream_socket)
    app.add_routes(page_routes)
    app.router.add_get("/", stream_socket)
    for table in (
        data_api.routes,
        gamma.routes,
        rest.routes,
        account.routes,
        admin.routes,
        admin_faults.routes,
        rpc.routes,
        relayer.routes,
    ):
        app.add_routes(table)
    for table in (prices.routes, access.routes, account_reads.routes, admin_clob.routes):
        app.add_routes(table)
    return app


class Running:
    """A venue that is listening."""

    def __init__(self, url: str, shell: Shell, replay: "asyncio.Task[None] | None") -> None:
        self.url = url
        self.shell = shell
        self.replay = replay

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)


@asynccontextmanager
async def running(
    config: VenueConfig,
    tape: Tape | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Running]:
    """Listen until the block ends; drives the tape and the synthetic leaders meanwhile."""
    shell = Shell(new_venue(config), now_ns)
    scenario = load_scenario(config.scenario) if config.scenario else ()
    runner = web.AppRunner(application(shell), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, config.host, config.port, backlog=512)
    await site.start()
    port = runner.addresses[0][1]
    shell.rules.add(scenario, now_ns())
    shell.catch_up()
    replay = None
    if tape is not None or config.leaders != "none" or config.markets:
        replay = asyncio.create_task(drive(shell, tape))
    try:
        yield Running(f"http://{config.host}:{port}", shell, replay)
    finally:
        if replay is not None:
            replay.cancel()
            await asyncio.gather(replay, return_exceptions=True)
        shell.close()
        await runner.cleanup()
