"""Connections of the unified SDK to a local venue; its addresses are all that is set."""

from polymarket import AsyncSecureClient, SecureClient

from tests.clients.local_venue import Account, LocalVenue


def connect(venue: LocalVenue, account: Account) -> SecureClient:
    return SecureClient.create(
        private_key=account.key, wallet=account.wallet, environment=venue.environment
    )


async def connect_async(venue: LocalVenue, account: Account) -> AsyncSecureClient:
    return await AsyncSecureClient.create(
        private_key=account.key, wallet=account.wallet, environment=venue.environment
    )
