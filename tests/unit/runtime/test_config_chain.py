"""The node's addresses: off by default, checked, and their key comes from the environment alone."""

import pytest

from shared.domain.ids import Wallet
from shared.runtime.config import AccountConfig, Config, ConfigError, VenueConfig, chain_urls
from shared.runtime.secrets import SecretError
from shared.runtime.sections import build

LOCAL = "http://127.0.0.1:8700"


def a_config(**venue: str) -> Config:
    account = AccountConfig(wallet=Wallet("0x" + "ab" * 20))
    return Config(mode="demo", account=account, venue=VenueConfig(local_url=LOCAL, **venue))


def test_without_an_address_the_chain_is_not_read() -> None:
    assert chain_urls(a_config(), {}) == ("", "")


def test_addresses_without_a_key_are_taken_as_they_are() -> None:
    urls = {"chain_rpc_url": "http://node.test/rpc", "chain_ws_url": "ws://node.test/rpc"}
    assert chain_urls(a_config(**urls), {"DRIFTLESS_CHAIN_KEY": "k"}) == tuple(urls.values())


def test_a_key_takes_its_place_and_is_asked_for_by_name() -> None:
    config = a_config(
        chain_rpc_url="https://node.test/v2/{key}", chain_ws_url="wss://node.test/{key}/ws"
    )
    found = chain_urls(config, {"DRIFTLESS_CHAIN_KEY": "hidden"})
    assert found == ("https://node.test/v2/hidden", "wss://node.test/hidden/ws")
    assert "hidden" not in repr(config)
    with pytest.raises(SecretError, match="DRIFTLESS_CHAIN_KEY"):
        chain_urls(config, {})


@pytest.mark.parametrize(
    ("venue", "key", "says"),
    [
        ({"chain_rpc_url": "ws://x"}, "venue.chain_rpc_url", "begins with http://"),
        ({"chain_rpc_url": "http://:pw@x"}, "venue.chain_rpc_url", "no password"),
        (
            {"chain_rpc_url": "http://x", "chain_ws_url": "http://x"},
            "venue.chain_ws_url",
            "begins with ws://",
        ),
        ({"chain_ws_url": "ws://x"}, "venue.chain_ws_url", "needs chain_rpc_url"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(
    venue: dict[str, str], key: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build(VenueConfig, {"local_url": LOCAL, **venue}, "venue.")
    assert caught.value.key == key
