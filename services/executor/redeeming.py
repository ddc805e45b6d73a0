"""Asks for what markets pay, one at a time; nothing waits for it."""

import asyncio
import logging
from typing import Any, Final

from services.executor.sdk import NotRedeemedError, Redeem
from services.executor.session import Session
from services.executor.state import Due, Redeemed
from shared.domain.ids import ConditionId
from shared.domain.messages import RedemptionSent
from shared.runtime.logs import log

_LOOK_S: Final = 30.0
_DEADLINE_S: Final = 600.0  # a relayed transaction is void after this (protocol.md 8.4)
_logger = logging.getLogger(__name__)


class Redeemer:
    """Looks for claims to ask for, and asks for one at a time."""

    def __init__(self, session: Session, redeem: Redeem) -> None:
        self._session, self._redeem = session, redeem
        self._one_at_a_time = asyncio.Lock()  # a wallet has one nonce

    async def watch(self) -> None:
        """Let the core look, now and then; what was under way when we started may have ended."""
        for condition, known in list(self._session.state.redemptions.items()):
            if known.under_way:
                await self._told(condition, known.attempts, "unknown", detail="restarted")
        every_s = min(_LOOK_S, self._session.world.settings.redeem_after_s / 10)
        while True:
            await self._session.lane.submit(Due())
            await asyncio.sleep(every_s)

    async def send(self, fact: RedemptionSent) -> None:
        """Ask for what is on record, and tell what came of it."""
        await self._session.ready.wait()
        try:
            async with self._one_at_a_time, asyncio.timeout(_DEADLINE_S):
                tx = await self._redeem(fact.condition, self._session.account)
        except NotRedeemedError as e:
            await self._told(fact.condition, fact.attempt, "failed", detail=str(e))
        except Exception as e:  # noqa: BLE001 - trading goes on, whatever the SDK ran into
            # Its text is another library's, of a process that holds the key: it is not recorded.
            detail = type(e).__name__
            await self._told(fact.condition, fact.attempt, "unknown", detail=detail)
        else:
            await self._told(fact.condition, fact.attempt, "confirmed", tx=tx)
            self._session.look_at_cash()

    async def _told(self, condition: ConditionId, attempt: int, outcome: Any, **more: str) -> None:
        level = logging.INFO if outcome == "confirmed" else logging.WARNING
        log(_logger, level, "redemption_ended", condition=condition, outcome=outcome, **more)
        await self._session.lane.submit(
            Redeemed(condition=condition, attempt=attempt, outcome=outcome, **more)
        )
