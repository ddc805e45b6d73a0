"""Fetches what risk's decisions stand on: market, books, account, drift; each with its age."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from services.risk.state import (
    Policy,
    Reconsider,
    Review,
    State,
    Target,
    View,
    due,
    held_of,
)
from shared.domain.freshness import age_ns
from shared.domain.ids import ConditionId
from shared.domain.messages import IntentFormed, Tick
from shared.domain.units import NS_PER_S, Usd
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    RISK,
    AccountView,
    CapView,
    DriftView,
    HeldView,
    RiskView,
    decode,
    encode,
)
from shared.runtime.books import Books
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.runner import QuietShell

_RECONSIDERED_MAX: Final = 16  # open gaps looked at in one tick
_DRIFT_EVERY_NS: Final = NS_PER_S
_logger = logging.getLogger(__name__)


class Shell(QuietShell[State]):
    def __init__(self, policy: Policy, store: Store, books: Books) -> None:
        self._policy, self._store, self._books = policy, store, books
        self._drift_usd = Usd(0)
        self._drift_read_ns = 0

    async def prepare(self, state: State, message: Any) -> Any:
        match message:
            case IntentFormed():
                return Review(intent=message, view=await self._view(message.condition))
            case Tick(now_ns=now_ns):
                return await self._reconsider(state, now_ns)
            case _:
                return message

    async def _reconsider(self, state: State, now_ns: int) -> Reconsider:
        keys = due(state, self._policy.dust, now_ns)[:_RECONSIDERED_MAX]
        found = await asyncio.gather(*(self._view(state.targets[key].condition) for key in keys))
        views: dict[str, View] = dict(zip(keys, found, strict=True))
        await self._read_drift(now_ns)
        return Reconsider(now_ns=now_ns, views=views, drift_usd=self._drift_usd)

    async def _read_drift(self, now_ns: int) -> None:
        if age_ns(self._drift_read_ns, now_ns) < _DRIFT_EVERY_NS:
            return
        self._drift_read_ns = now_ns
        try:
            (found,) = await self._store.read_views([DRIFT])
        except StoreAwayError:
            return
        drift = decode(found, DriftView)
        if drift is not None:  # a lost view is no news: what was known stands
            self._drift_usd = drift.drift_usd

    async def _view(self, condition: ConditionId) -> View:
        """Return what is known now; what cannot be fetched stays unknown, and refuses."""
        try:
            market, books, account = await self._books.look(
                condition, age_ns_max=self._policy.book_age_ns_max, beside=ACCOUNT
            )
        except StoreAwayError as e:
            log(_logger, logging.WARNING, "store_away", reason=str(e))
            return View()
        return View(market=market, books=(books[0], books[1]), account=decode(account, AccountView))

    def views(self, state: State) -> Mapping[str, bytes]:
        keys = sorted({*state.held, *state.targets})
        held = [_held_view(state, key) for key in keys]
        total = sum(h.cost for h in state.held.values()) + sum(
            r.open_usd for r in state.reserved.values()
        )
        limits = self._policy
        caps = (
            CapView(name="total", used=Usd(total), limit=limits.total_usd_max),
            CapView(
                name="daily_loss",
                used=Usd(max(0, -state.realised_today)),
                limit=limits.daily_loss_usd_max,
            ),
            CapView(name="drift", used=self._drift_usd, limit=limits.drift_usd_max),
        )
        view = RiskView(
            regime=state.regime,
            reason=state.regime_reason,
            held=tuple(held),
            caps=caps,
            realised_today=state.realised_today,
        )
        return {RISK: encode(view)}


def _held_view(state: State, key: str) -> HeldView:
    target: Target | None = state.targets.get(key)
    held = state.held.get(key)
    if held is None:
        assert target is not None
        held = held_of(state, target.leader, target.condition)
    return HeldView(
        leader=held.leader,
        condition=held.condition,
        target=target.target if target else held.net,
        yes=held.yes.shares,
        no=held.no.shares,
        cost=held.cost,
    )
