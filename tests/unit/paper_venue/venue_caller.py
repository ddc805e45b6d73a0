"""Signed calls of the bench's account, with any of its keys."""

import json
from typing import Any, NamedTuple

from py_clob_client_v2.clob_types import CreateOrderOptions, OrderArgsV2
from py_clob_client_v2.order_builder.builder import OrderBuilder
from py_clob_client_v2.order_utils.model.order_data_v2 import order_to_json_v2
from venue_bench import NOW_S, OWNER, SIGNER, Bench

from services.paper_venue.signing import Credentials, credentials_for, request_signature

KEYS = credentials_for(1, OWNER, 0)


class Told(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


async def call(
    bench: Bench,
    method: str,
    path: str,
    body: object = None,
    *,
    keys: Credentials = KEYS,
    **params: str,
) -> Told:
    """Make a level-2 call; a body that is no text is written as compact JSON."""
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    text = "" if body is None else text
    headers = {
        "POLY_ADDRESS": SIGNER.address(),
        "POLY_API_KEY": keys.key,
        "POLY_PASSPHRASE": keys.passphrase,
        "POLY_TIMESTAMP": str(NOW_S),
        "POLY_SIGNATURE": request_signature(keys.secret, str(NOW_S), method, path, text.encode()),
    }
    async with bench.session.request(
        method, bench.url + path, data=text or None, params=params, headers=headers
    ) as answer:
        raw = await answer.text()
        told = json.loads(raw) if raw else None
        return Told(answer.status, told, dict(answer.headers))


def order_of(
    bench: Bench,
    kind: str = "GTC",
    price: float = 0.45,
    size: float = 10,
    *,
    side: str = "BUY",
    post_only: bool = False,
) -> dict[str, Any]:
    """Return the body of a fresh signed order on outcome 0."""
    built = OrderBuilder(SIGNER, 0).build_order(
        OrderArgsV2(token_id=bench.tokens[0], price=price, size=size, side=side),
        CreateOrderOptions(tick_size="0.01", neg_risk=False),
    )
    return order_to_json_v2(built, KEYS.key, kind, post_only=post_only)


async def post(bench: Bench, kind: str = "GTC", price: float = 0.45, **told: Any) -> Told:
    return await call(bench, "POST", "/order", order_of(bench, kind, price, **told))
