"""The official SDK, for the one thing that is its and not ours: redeeming (protocol.md 8.4)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from shared.domain.ids import ConditionId
from shared.polymarket.auth import Account
from shared.polymarket.urls import PRODUCTION, VenueUrls
from shared.runtime.config import AccountConfig
from shared.runtime.secrets import RELAYER_KEY, Secret, SecretError

if TYPE_CHECKING:
    from polymarket import AsyncSecureClient

_DETAIL_MAX: Final = 300  # characters of an error's text on record


class NotRedeemedError(Exception):
    """The shares were not taken and nothing was paid; says why."""


class Redeem(Protocol):
    """Redeems what an account holds of a market; returns the transaction.

    Raises NotRedeemedError; of any other error the outcome is unknown.
    """

    async def __call__(self, condition: ConditionId, account: Account) -> str: ...


class SdkRedeem:
    """``polymarket-client``'s redemption; a client lives as long as one call of it.

    A key that is no contract sends the transaction itself and pays its gas; the other wallets'
    goes through the relayer, which wants a key of its own. Raises SecretError without one.
    """

    def __init__(
        self, key: Secret, relayer_key: Secret | None, account: AccountConfig, urls: VenueUrls
    ) -> None:
        if relayer_key is None and account.signature_type != 0:
            where = f"{RELAYER_KEY}, {RELAYER_KEY}_FILE or account.relayer_key_file"
            raise SecretError(RELAYER_KEY, f"executor.redeem needs a relayer key: set {where}")
        self._key, self._relayer_key = key, relayer_key
        self._wallet, self._urls = account.wallet, urls

    async def __call__(self, condition: ConditionId, account: Account) -> str:
        from polymarket.errors import (
            RequestRejectedError,
            TransactionFailedError,
            UserInputError,
        )

        try:
            client = await self._connect(account)
            try:
                handle = await client.redeem_positions(condition_id=condition)
                return str((await handle.wait()).transaction_hash)
            finally:
                await client.close()
        except (RequestRejectedError, TransactionFailedError, UserInputError) as e:
            detail = f"{type(e).__name__}: {e}"[:_DETAIL_MAX]
            raise NotRedeemedError(self._without_secrets(detail)) from None

    async def _connect(self, account: Account) -> "AsyncSecureClient":
        from polymarket import ApiKeyCreds, AsyncSecureClient, RelayerApiKey

        own = account.credentials
        relayer_key = self._relayer_key
        return await AsyncSecureClient.create(
            private_key=self._key.reveal(),
            wallet=self._wallet,
            environment=environment_of(self._urls),
            credentials=ApiKeyCreds(key=own.api_key, secret=own.secret, passphrase=own.passphrase),
            api_key=relayer_key
            and RelayerApiKey(key=relayer_key.reveal(), address=account.address),
        )

    def _without_secrets(self, text: str) -> str:
        for secret in (self._key, self._relayer_key):
            if secret is not None:
                text = text.replace(secret.reveal(), "***")
        return text


def environment_of(urls: VenueUrls) -> Any:
    """Return the SDK's environment: production, or a venue that is all on one port."""
    from polymarket.environments import PRODUCTION as THEIRS
    from polymarket.environments import _create_environment

    if urls.clob == PRODUCTION.clob:
        return THEIRS
    here: dict[str, Any] = {
        "clob_url": urls.clob,
        "data_url": urls.data,
        "gamma_url": urls.gamma,
        "relayer_url": urls.clob,
        "rpc_url": f"{urls.clob}/rpc",
    }
    return _create_environment(name="local", config=replace(THEIRS._config, **here))
