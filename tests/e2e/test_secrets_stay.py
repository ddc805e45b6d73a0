"""After a real run neither the key nor a credential is in any log, fact, view or child process."""

import base64
import random
import time
from pathlib import Path

import pytest

from shared.domain.messages import OrderFilled
from shared.polymarket.orders import Signer
from shared.polymarket.rest import derive_credentials
from shared.polymarket.transport import open_http
from shared.polymarket.urls import VenueUrls
from tests.e2e.test_pipeline import leader_trades, open_market
from tests.support.eventually import eventually
from tests.support.stack import KEY, Stack, running

pytestmark = pytest.mark.xdist_group("e2e")


async def secrets_of(stack: Stack) -> dict[str, list[bytes]]:
    """Return each secret in every form in which it might be written down."""
    signer = Signer.from_hex(KEY)
    async with open_http(rng=random.Random(1)) as http:
        headers = signer.l1_headers(timestamp_s=int(time.time()))
        urls = VenueUrls.local(stack.url)
        keys = await derive_credentials(http, l1_headers=headers, urls=urls)
    raw = bytes.fromhex(KEY[2:])
    return {
        "private key": [KEY[2:].encode(), KEY[2:].upper().encode(), raw, base64.b64encode(raw),
                        str(int(KEY, 16)).encode()],
        "API secret": [keys.secret.encode(), base64.urlsafe_b64decode(keys.secret)],
        "passphrase": [keys.passphrase.encode()],
        "API key": [keys.api_key.encode()],
    }  # fmt: skip


async def written(stack: Stack, directory: Path) -> dict[str, bytes]:
    """Return everything that the run has left where somebody may read it."""
    found = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("venue.log", "key")
    }
    for entry in await stack.entries():
        found[f"ledger {entry.seq}"] = entry.subject.encode() + entry.data
    async for name in stack.redis.scan_iter():
        if await stack.redis.type(name) == b"string":
            found[f"redis {name!r}"] = await stack.redis.get(name) or b""
        else:
            found[f"redis {name!r}"] = repr(await stack.redis.dump(name)).encode()
    return found


async def test_no_secret_leaves_the_executor(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        market = await open_market(stack)
        await leader_trades(stack, market, "BUY", "100")
        await eventually(lambda: stack.of(OrderFilled), deadline_s=30)
        await stack.admin("mode", {"mode": "cancel-only"})  # an error's text is logged, too
        await leader_trades(stack, market, "BUY", "100")
        stack.kill("executor")  # and what a crash leaves
        await eventually(stack.positions, deadline_s=30)
        found = await written(stack, tmp_path)
        secrets = await secrets_of(stack)
    assert len(found) > 20
    assert any("executor" in name and data for name, data in found.items())
    leaks = [
        f"{secret} in {name}"
        for name, data in found.items()
        for secret, forms in secrets.items()
        if any(form in data for form in forms)
    ]
    assert leaks == []
