"""What a client needs of a local venue: every address, the test key, snippets to paste."""

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from services.ctl.figures import decimal, usd
from services.paper_venue.config import VenueConfig
from services.paper_venue.keyring import Keyring
from services.paper_venue.signing import CHAIN_ID
from shared.domain.ids import Wallet

WORTHLESS: Final = "everybody can compute this key from the seed: worth nothing anywhere else"
_WALLETS: Final = ("EOA", "proxy", "safe", "deposit")
_URLS: Final = {
    "clob": ("{http}", "CLOB REST"),
    "market_ws": ("{ws}/ws/market", "market WebSocket"),
    "user_ws": ("{ws}/ws/user", "user WebSocket"),
    "activity_ws": ("{ws}/rtds", "activity stream"),
    "data_api": ("{http}", "Data API"),
    "gamma": ("{http}", "Gamma"),
    "rpc": ("{http}/rpc", "JSON-RPC"),
    "page": ("{http}/admin/page", "status page, for a browser"),
    "admin": ("{http}/admin", "control API"),
}

_CLOB_CLIENT: Final = """\
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import OrderArgsV2

client = ClobClient(
    "{http}",
    {chain_id},
    "{key}",
    # for another of its wallets: signature_type=3, funder="{deposit}"
)
client.set_api_creds(client.create_or_derive_api_key())
market = next(m for m in client.get_markets()["data"] if m["accepting_orders"])
token = market["tokens"][0]["token_id"]
is_position = not int(token) & ((1 << 64) - 1) << 40  # so are the ids of Protocol-V2 markets
ids = {{"token_id": None, "position_id": token}} if is_position else {{"token_id": token}}
order = client.create_order(OrderArgsV2(**ids, price=0.05, size=20, side="BUY"))
print(client.post_order(order, "GTC"))
"""
_UNIFIED_CLIENT: Final = """\
from dataclasses import replace
from polymarket import SecureClient
from polymarket.environments import PRODUCTION, _create_environment

http, ws = "{http}", "{ws}"
urls = {{name: http for name in PRODUCTION._config.__slots__ if name.endswith("_url")}}
urls |= {{name: ws + "/rtds" for name in urls if "_ws_" in name}}
urls |= {{"clob_market_ws_url": ws + "/ws/market", "clob_user_ws_url": ws + "/ws/user"}}
urls["rpc_url"] = http + "/rpc"
local = _create_environment(name="local", config=replace(PRODUCTION._config, **urls))

client = SecureClient.create(
    private_key="{key}",
    wallet="{address}",  # or its proxy, safe or deposit wallet
    environment=local,
)
market = next(m for m in client.list_markets(closed=False).iter_items())
token = market.outcomes.yes.token_id or market.outcomes.yes.position_id
print(client.place_limit_order(asset_id=token, price="0.05", size="20", side="BUY"))
"""


def introduction(config: VenueConfig, ring: Keyring, url: str, ws_url: str) -> dict[str, Any]:
    """Return all that a client needs to know of a venue that listens, for machines."""
    funds = {account.wallet: account.usd for account in config.accounts}
    filled = {
        "http": url,
        "ws": ws_url,
        "chain_id": CHAIN_ID,
        "key": ring.private_key,
        "address": ring.address,
        "deposit": ring.wallets[3],
    }
    return {
        "urls": {name: form.format(**filled) for name, (form, _) in _URLS.items()},
        "chain_id": CHAIN_ID,
        "seed": config.seed,
        "test_key": {
            "note": WORTHLESS,
            "private_key": ring.private_key,
            "address": ring.address,
            "wallets": [
                {
                    "signature_type": kind,
                    "name": _WALLETS[kind],
                    "wallet": each,
                    "usd": decimal(funds[Wallet(each.lower())]),
                }
                for kind, each in enumerate(ring.wallets)
            ],
        },
        "funded": [
            {"wallet": account.wallet, "owner": account.owner, "usd": decimal(account.usd)}
            for account in config.accounts[len(ring.wallets) :]
        ],
        "snippets": {
            "py-clob-client-v2": _CLOB_CLIENT.format(**filled),
            "polymarket-client": _UNIFIED_CLIENT.format(**filled),
        },
    }


def show(told: dict[str, Any], config: VenueConfig, to: Console) -> None:
    """Print the same for people."""
    urls = _table("The local venue")
    for name, (_, label) in _URLS.items():
        urls.add_row(label, told["urls"][name])
    urls.add_row("chain id", str(told["chain_id"]))
    to.print(urls)
    key = _table("\nThe seed's test key, and its wallets by signature type")
    key.add_row("private key", told["test_key"]["private_key"])
    for wallet, account in zip(told["test_key"]["wallets"], config.accounts, strict=False):
        label = f"{wallet['signature_type']} {wallet['name']}"
        key.add_row(label, f"{wallet['wallet']} {usd(account.usd)}")
    for account in config.accounts[len(_WALLETS) :]:
        key.add_row("funded", f"{account.wallet} {usd(account.usd)}")
    to.print(key)
    to.print(WORTHLESS)
    for name, text in told["snippets"].items():
        to.print(f"\n[bold]{name}[/bold]\n")
        print(text)


def _table(title: str) -> Table:
    """Return a table of labels and values; narrow, so that a key stays on one line."""
    table = Table(
        title=title, title_justify="left", show_header=False, box=None, padding=(0, 1, 0, 0)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    return table
