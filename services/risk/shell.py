"""Fetches what risk decides on: market, books, account, feeds, drift; each with its age."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.risk.policy import Policy
from services.risk.report import report
from services.risk.state import (
    Feeds,
    Marks,
    Reconsider,
    Review,
    Settings,
    State,
    View,
    due,
)
from shared.domain.book import Book
from shared.domain.freshness import age_ns
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import (
    CommandRefused,
    ConfigChanged,
    Fact,
    IntentFormed,
    ReloadConfig,
    Tick,
)
from shared.domain.units import NS_PER_S, Price, Usd
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    FEEDS_PREFIX,
    POSITIONS,
    RISK,
    AccountView,
    DriftView,
    FeedsView,
    FeedView,
    LeaderView,
    PositionsView,
    StandingView,
    decode,
    encode,
    leader_key,
)
from shared.runtime.books import Books
from shared.runtime.config import Config, ConfigError, config_hash
from shared.runtime.logs import log
from shared.runtime.ports import Store, StoreAwayError
from shared.runtime.runner import LaneHandle, QuietShell
from shared.runtime.settings import decode_config, flat

_RECONSIDERED_MAX: Final = 16  # open gaps looked at in one tick
_LOOKED_EVERY_NS: Final = NS_PER_S  # at drift and feeds
_REPORTS_KEPT_NS: Final = 30 * NS_PER_S  # an ingester silent for longer is gone, if others speak
_VALUE_KEPT_NS: Final = 3_600 * NS_PER_S  # what a leader's positions were worth, at most this old
_logger = logging.getLogger(__name__)


class Current:
    """The settings that decisions are made by; a reload replaces them between two decisions."""

    def __init__(self, config: Config, policy_of: Callable[[Config], Policy]) -> None:
        self.config, self._policy_of = config, policy_of
        self.policy = policy_of(config)

    def replace(self, config: Config) -> None:
        self.config, self.policy = config, self._policy_of(config)


class Shell(QuietShell[State]):
    def __init__(self, current: Current, store: Store, books: Books) -> None:
        self._current, self._store, self._books = current, store, books
        self._drift_usd = Usd(0)
        self._feeds: Feeds | None = None
        self._standing: tuple[StandingView, ...] = ()
        self._looked_ns = self._marked_ns = 0
        self._asked: dict[str, Config] = {}  # by the command that brought them

    async def start(self, state: State, lane: LaneHandle) -> None:
        self._now_ns = lane.clock.now_ns
        config = self._current.config
        now_ns = lane.clock.now_ns()
        id_ = content_id("settings_loaded", config_hash(config), now_ns)
        await lane.submit(_settings(config, id_, id_, "start", now_ns))

    async def prepare(self, state: State, message: Any) -> Any:
        match message:
            case IntentFormed():
                await self._look_around(message.ts_ns)
                view = await self._view(message.condition, message.leader)
                return Review(intent=message, view=view)
            case Tick(now_ns=now_ns):
                return await self._reconsider(state, now_ns)
            case ReloadConfig():
                return self._reloaded(message)
            case _:
                return message

    def recorded(self, state: State, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, ConfigChanged | CommandRefused):
                config = self._asked.pop(fact.cause, None)
                if isinstance(fact, ConfigChanged) and config is not None:
                    self._current.replace(config)
                    log(_logger, logging.INFO, "settings_replaced", hash=fact.hash)

    def _reloaded(self, command: ReloadConfig) -> Settings:
        id_, root, actor, now_ns = command.id, command.root, command.actor, command.ts_ns
        try:
            config = decode_config(command.config)
        except ConfigError as e:
            return Settings(id=id_, root=root, actor=actor, now_ns=now_ns, error=str(e))
        if config.account.wallet != self._current.config.account.wallet:
            error = "account: another account is another ledger: restart with it, do not reload"
            return Settings(id=id_, root=root, actor=actor, now_ns=now_ns, error=error)
        self._asked[id_] = config
        return _settings(config, id_, root, actor, now_ns)

    async def _reconsider(self, state: State, now_ns: int) -> Reconsider:
        await self._look_around(now_ns)
        policy = self._current.policy
        keys = due(state, policy.dust, now_ns)[:_RECONSIDERED_MAX]
        targets = [state.targets[key] for key in keys]
        found = await asyncio.gather(*(self._view(t.condition, t.leader) for t in targets))
        return Reconsider(
            now_ns=now_ns,
            views=dict(zip(keys, found, strict=True)),
            drift_usd=self._drift_usd,
            feeds=self._feeds,
            standing=self._standing,
            marks=await self._marks(state, now_ns),
        )

    # --- what is fetched ------------------------------------------------------------------

    async def _look_around(self, now_ns: int) -> None:
        """Read drift and feeds, now and then; a lost view is no news: what was known ages."""
        if age_ns(self._looked_ns, now_ns) < _LOOKED_EVERY_NS:
            return
        self._looked_ns = now_ns
        try:
            keys = await self._store.find_views(FEEDS_PREFIX)
            views = await self._store.read_views([DRIFT, ACCOUNT, *keys])
        except StoreAwayError:
            return
        drift_data, account_data, *found = views
        drift, account = decode(drift_data, DriftView), decode(account_data, AccountView)
        if account is not None:
            self._standing = account.standing
        if drift is not None:
            self._drift_usd = drift.drift_usd
        reports = [view for data in found if (view := decode(data, FeedsView)) is not None]
        if reports:
            self._feeds = feeds_from(reports, now_ns)

    async def _marks(self, state: State, now_ns: int) -> Marks | None:
        """Return what is held at its best bids, every few seconds; None in between."""
        if age_ns(self._marked_ns, now_ns) < self._current.policy.equity_ns:
            return None
        try:
            data, held = await self._store.read_views([ACCOUNT, POSITIONS])
            account, believed = decode(data, AccountView), decode(held, PositionsView)
            if account is None:
                return None
            markets = sorted({held.condition for held in state.held.values()})
            books = await self._books.shown(markets)
        except StoreAwayError:
            return None
        self._marked_ns = now_ns
        bids = {market: (_bid(pair[0]), _bid(pair[1])) for market, pair in books.items()}
        return _marks(account, believed, bids)

    async def _view(self, condition: ConditionId, leader: Wallet) -> View:
        """Return what is known now; what cannot be fetched stays unknown, and refuses."""
        try:
            market, books, more = await self._books.look(
                condition,
                age_ns_max=self._current.policy.book_age_ns_max,
                beside=(ACCOUNT, leader_key(leader)),
            )
        except StoreAwayError as e:
            log(_logger, logging.WARNING, "store_away", reason=str(e))
            return View()
        account, worth = decode(more[0], AccountView), decode(more[1], LeaderView)
        known = worth is not None and age_ns(worth.as_of_ns, self._now_ns()) <= _VALUE_KEPT_NS
        return View(
            market=market,
            books=(books[0], books[1]),
            account=account,
            feeds=self._feeds,
            leader_value=worth.value if worth is not None and known else None,
        )

    def views(self, state: State) -> Mapping[str, bytes]:
        view = report(
            self._current.policy,
            state,
            drift_usd=self._drift_usd,
            feeds=self._feeds,
            now_ns=self._now_ns(),
            standing=self._standing,
        )
        return {RISK: encode(view)}


def feeds_from(reports: Sequence[FeedsView], now_ns: int) -> Feeds:
    """Return how well the venue is heard: the worst of the ingesters that are still there.

    A feed that is connected is watched by its ingester, so its silence is no age.
    """
    newest = max(report.as_of_ns for report in reports)
    there = [each for each in reports if newest - each.as_of_ns <= _REPORTS_KEPT_NS]

    def worst(name: str, *, watched: bool) -> int:
        ages = (
            _feed_age(feed, now_ns, watched=watched)
            for report in there
            for feed in report.feeds
            if feed.name == name
        )
        return max(ages, default=0)

    return Feeds(
        report_ns=age_ns(min(each.as_of_ns for each in there), now_ns),
        stream_lost=any(
            feed.state != "connected"
            for report in there
            for feed in report.feeds
            if feed.name == "activity"
        ),
        polls_ns=worst("polls", watched=False),
        books_ns=worst("books", watched=True),
    )


def _feed_age(feed: FeedView, now_ns: int, *, watched: bool) -> int:
    return 0 if watched and feed.state == "connected" else age_ns(feed.heard_ns, now_ns)


def _marks(
    account: AccountView,
    believed: PositionsView | None,
    bids: dict[ConditionId, tuple[Price | None, Price | None]],
) -> Marks:
    """Return the account's cash as its fills moved it, beside the positions that they moved.

    The venue's balance follows when fills are mined and claims redeemed: with it a fill would count
    twice meanwhile, and a redemption be a jump.
    """
    if believed is None or believed.cash is None:
        return Marks(collateral=account.collateral, bids=bids)
    return Marks(collateral=believed.cash, claims=believed.claims, bids=bids)


def _bid(book: Book | None) -> Price | None:
    """Return the best bid; nobody bidding is worth nothing, no book is worth nobody knows what."""
    return None if book is None else (book.best_bid or Price(0))


def _settings(config: Config, id_: str, root: str, actor: str, now_ns: int) -> Settings:
    return Settings(
        id=id_,
        root=root,
        actor=actor,
        now_ns=now_ns,
        values=dict(flat(config)),
        hash=config_hash(config),
    )
