"""The venue as a process of its own, and what a conversation with it needs: markets, accounts."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
from eth_account import Account as Key
from polymarket._internal.wallet import (
    derive_beacon_deposit_wallet_address,
    derive_proxy_wallet_address,
    derive_safe_wallet_address,
)
from polymarket.environments import PRODUCTION, Environment, _create_environment

from tests.support.eventually import eventually_sync

Kind = Literal["v1", "neg-risk", "v2"]
KINDS: tuple[Kind, ...] = ("v1", "neg-risk", "v2")
SIGNATURE_TYPES = (0, 1, 2, 3)  # EOA, proxy, safe, deposit wallet
BIDS = [["0.47", "120"], ["0.48", "30.5"]]
ASKS = [["0.5", "25"], ["0.53", "60"]]
TAKER_DELAY_MS = 1_000  # of markets with the short taker delay: long enough to look meanwhile
SETTINGS = {
    "tape": "none",
    "mined_delay_ms": 0,
    "confirmed_delay_ms": 0,
    "rtds_delay_ms": 0,
    "data_api_delay_ms": 0,
    "taker_delay_ms": TAKER_DELAY_MS,
}
_BINARY_MODULE = 1
_numbers = count(1)


class Listed(NamedTuple):
    condition: str
    tokens: tuple[str, str]
    slug: str


class Account(NamedTuple):
    """Who signs, and the wallet it signs for."""

    key: str
    owner: str
    wallet: str
    signature_type: int


class LocalVenue:
    """A running venue, and its control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._control = httpx.Client(base_url=f"{url}/admin/")

    def close(self) -> None:
        self._control.close()

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def environment(self) -> Environment:
        """Production's own environment with every address pointing here."""
        config = PRODUCTION._config
        urls = {name: self.url for name in config.__slots__ if name.endswith("_url")}
        urls |= {name: f"{self.ws_url}/rtds" for name in urls if "_ws_" in name}
        urls |= {
            "clob_market_ws_url": f"{self.ws_url}/ws/market",
            "clob_user_ws_url": f"{self.ws_url}/ws/user",
            "rpc_url": f"{self.url}/rpc",
        }
        pace = {"relayer_poll_frequency_ms": 50}
        return _create_environment(name="local", config=replace(config, **urls, **pace))

    def admin(self, call: str, **body: Any) -> dict[str, Any]:
        answer = self._control.post(call, json=body)
        assert answer.status_code == 200, answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def market(self, kind: Kind = "v1", **terms: Any) -> Listed:
        """List a market of its own for a test, with a small book unless told otherwise."""
        number = next(_numbers)
        body = {"slug": f"market-{number}", "bids": BIDS, "asks": ASKS, **terms}
        if kind == "neg-risk":
            body |= {"neg_risk": True, "event": f"event-{number}"}
        elif kind == "v2":
            body |= {"protocol": "v2", **_position_ids(number)}
        made = self.admin("market", **body)
        return Listed(made["condition"], tuple(made["tokens"]), made["slug"])

    def account(self, signature_type: int = 0, usd: str = "1000") -> Account:
        """Fund an account of its own for a test; its wallet is where production would put it."""
        key = f"0x{next(_numbers):04x}" + "42" * 30  # nothing is behind it
        owner = Key.from_key(key).address
        wallets = PRODUCTION._config.wallet_derivation
        wallet = (
            owner,
            derive_proxy_wallet_address(owner, wallets),
            derive_safe_wallet_address(owner, wallets),
            derive_beacon_deposit_wallet_address(owner, wallets),
        )[signature_type]
        self.admin("fund", wallet=wallet, usd=usd, owner=owner if signature_type else "")
        return Account(key, owner, wallet, signature_type)


def _position_ids(number: int) -> dict[str, Any]:
    """Return ids as the position manager composes them: module, hash, reserved zeros, outcome."""
    first = _BINARY_MODULE << 248 | (0xBA5E << 64 | number) << 120
    condition = f"0x{first:064x}"[:-2] + "00"
    return {"condition": condition, "tokens": [str(first), str(first + 1)]}


@contextmanager
def local_venue(directory: Path, **settings: Any) -> Iterator[LocalVenue]:
    """Run ``python -m services.paper_venue`` until the block ends; only what is asked to waits."""
    config, ready = directory / "venue.json", directory / "ready.json"
    config.write_text(json.dumps({**SETTINGS, **settings}))
    command = [sys.executable, "-m", "services.paper_venue", "--port", "0"]
    command += ["--config", str(config), "--ready-file", str(ready)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually_sync(lambda: ready.exists() or process.poll() is not None, deadline_s=30)
        assert process.poll() is None, "the venue did not start"
        venue = LocalVenue(json.loads(ready.read_text())["url"])
        try:
            yield venue
        finally:
            venue.close()
    finally:
        process.terminate()
        process.wait(timeout=10)
