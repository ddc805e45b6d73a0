"""A running venue at rest in time, and a session that talks to it."""

import json
from itertools import count

import aiohttp
from py_clob_client_v2.clob_types import CreateOrderOptions, OrderArgsV2
from py_clob_client_v2.order_builder.builder import OrderBuilder
from py_clob_client_v2.order_utils.model.order_data_v2 import order_to_json_v2
from py_clob_client_v2.signer import Signer

from services.paper_venue.signing import credentials_for, request_signature
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S

KEY = "0x" + "42" * 32  # a key for tests; nothing is behind it
SIGNER = Signer(KEY, 137)
OWNER = Wallet(SIGNER.address().lower())
LEADER = "0x" + "d" * 40
_asked = count()
NOW_S = 1_793_318_400
BOOK = {"slug": "one", "bids": [["0.48", "30"]], "asks": [["0.5", "25"], ["0.53", "60"]]}


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.ns = NOW_S * NS_PER_S

    def __call__(self) -> int:
        return self.ns


class Bench:
    """A venue at rest in time, its clock, and a session to talk to it."""

    def __init__(self, url: str, clock: Clock, session: aiohttp.ClientSession) -> None:
        self.url, self.clock, self.session = url, clock, session
        self.condition, self.tokens = "", ["", ""]
        self.owner = OWNER

    async def get(self, path: str, **parameters: object) -> object:
        """Return a body, past the CDN: the dummy parameter never repeats."""
        query = {name: str(value) for name, value in (*parameters.items(), ("_", next(_asked)))}
        async with self.session.get(self.url + path, params=query) as answer:
            return await answer.json()

    async def admin(self, path: str, **body: object) -> dict:
        async with self.session.post(f"{self.url}/admin/{path}", json=body) as answer:
            return await answer.json()

    async def rule(self, kind: str, **told: object) -> int:
        """Put one fault in force; returns the rule's id."""
        told = {"kind": kind, **told}
        async with self.session.post(f"{self.url}/admin/rules", json=[told]) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            return body["ids"][0]

    async def fired(self, rule: int) -> int:
        rules = (await self.get("/admin/rules"))["rules"]
        return next(each["fired"] for each in rules if each["id"] == rule)

    async def sockets(self) -> list[dict]:
        return (await self.get("/admin/sockets"))["sockets"]

    async def move(self, size: int) -> None:
        """Change one level of the book: one price_change to those who watch."""
        bids = [["0.48", str(size)]]
        await self.admin("book", condition=self.condition, bids=bids, asks=BOOK["asks"])

    async def fill(self, **body: object) -> dict:
        plain = {"wallet": LEADER, "condition": self.condition, "outcome": 0, "side": "BUY"}
        return await self.admin("fill", **{**plain, "size": "10", **body})

    async def pass_ms(self, ms: int) -> None:
        """Let time pass; any request makes the venue do what is due."""
        self.clock.ns += ms * 1_000_000
        await self.get("/ok")

    def socket(self, path: str) -> aiohttp.client._WSRequestContextManager:
        return self.session.ws_connect(self.url + path)

    def signed(self, method: str, path: str, body: str = "") -> dict[str, str]:
        keys = credentials_for(1, OWNER, 0)
        signature = request_signature(keys.secret, str(NOW_S), method, path, body.encode())
        return {
            "POLY_ADDRESS": SIGNER.address(),
            "POLY_API_KEY": keys.key,
            "POLY_PASSPHRASE": keys.passphrase,
            "POLY_TIMESTAMP": str(NOW_S),
            "POLY_SIGNATURE": signature,
        }

    def order_body(self, kind: str = "FAK", price: float = 0.5, size: float = 10) -> str:
        built = OrderBuilder(SIGNER, 0).build_order(
            OrderArgsV2(token_id=self.tokens[0], price=price, size=size, side="BUY"),
            CreateOrderOptions(tick_size="0.01", neg_risk=False),
        )
        body = order_to_json_v2(built, credentials_for(1, OWNER, 0).key, kind)
        return json.dumps(body, separators=(",", ":"))

    async def post(self, body: str) -> tuple[int, dict]:
        headers = self.signed("POST", "/order", body)
        async with self.session.post(f"{self.url}/order", data=body, headers=headers) as answer:
            return answer.status, await answer.json()


async def frame(socket: aiohttp.ClientWebSocketResponse) -> dict | list | str:
    text = await socket.receive_str(timeout=5)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


async def subscribe(socket: aiohttp.ClientWebSocketResponse, message: dict) -> None:
    """Subscribe and wait until it is known to be heard."""
    await socket.send_json(message)
    await socket.send_str("PING")


SUBSCRIBE = {
    "action": "subscribe",
    "subscriptions": [
        {"topic": "activity", "type": "trades"},
        {"topic": "activity", "type": "orders_matched"},
    ],
}
