"""Connections of the unified SDK to a local venue; its addresses are all that is set."""

from polymarket import AsyncSecureClient, SecureClient
from polymarket.auth import RelayerApiKey

from tests.clients.local_venue import Account, Listed, LocalVenue


def connect(
    venue: LocalVenue, account: Account, api_key: RelayerApiKey | None = None
) -> SecureClient:
    return SecureClient.create(
        private_key=account.key,
        wallet=account.wallet,
        environment=venue.environment,
        api_key=api_key,
    )


async def connect_async(venue: LocalVenue, account: Account) -> AsyncSecureClient:
    return await AsyncSecureClient.create(
        private_key=account.key, wallet=account.wallet, environment=venue.environment
    )


def fill(venue: LocalVenue, listed: Listed, wallet: str, side: str, size: str) -> str:
    """Let a wallet trade at whatever the book offers; returns the transaction."""
    body = {"wallet": wallet, "condition": listed.condition, "outcome": 0}
    return str(venue.admin("fill", side=side, size=size, **body)["tx"])
