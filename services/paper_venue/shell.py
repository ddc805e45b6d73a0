"""The venue's one seam with the world: it has the clock, applies a change, tells the sockets."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from services.paper_venue.chain_feed import Feed
from services.paper_venue.chain_node import Node
from services.paper_venue.clob import Clob
from services.paper_venue.core import advance, drain, next_due_ns
from services.paper_venue.fates import trouble
from services.paper_venue.keyring import derived_type
from services.paper_venue.relayed import Relayer
from services.paper_venue.rules import Rules
from services.paper_venue.signing import Credentials, credentials_for
from services.paper_venue.sockets import Hub
from services.paper_venue.state import Venue
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S

_Result = TypeVar("_Result")
ORDERS_KEPT: Final = 200_000  # posted orders remembered for /admin/orders


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """One ``POST /order`` as it arrived and what it got."""

    order: str
    owner: str
    received_ns: int
    answered_ns: int
    status: int
    error: str = ""
    metadata: str = ""  # the client's word for what the order is: 0x and 64 hex digits
    digest: str = ""  # of the whole body, signature and all: what is said again is the same


class Shell:
    """A running venue: state, clock, sockets, faults, and what was posted to it."""

    def __init__(self, venue: Venue, now_ns: Callable[[], int]) -> None:
        self.venue = venue
        self.now_ns = now_ns
        self.rules = Rules(venue.config.seed)
        self.hub = Hub(venue, self.rules, now_ns)
        self.hub.delivery.wake = self._set_alarm
        venue.trouble = partial(trouble, self.rules)
        self.clob = Clob(venue.config)
        self.chain = Feed(Node(venue))
        self.relayer = Relayer()
        self.posted: list[Posted] = []
        self.keys: dict[str, tuple[Wallet, Credentials]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ns = 0

    def apply(self, change: Callable[[int], _Result]) -> _Result:
        """Run a change of the venue at the present time and send out what follows from it."""
        now_ns = self.now_ns()
        advance(self.venue, now_ns)
        try:
            return change(now_ns)
        finally:
            self._tell(now_ns)

    def catch_up(self) -> None:
        """Do what is due and send it."""
        now_ns = self.now_ns()
        advance(self.venue, now_ns)
        self._tell(now_ns)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def credentials(self, address: Wallet, nonce: int) -> Credentials:
        """Return the API keys of an address and remember whose they are."""
        root = self.clob.root_of(address, nonce)
        credentials = credentials_for(self.venue.config.seed, address, root)
        self.keys[credentials.key] = (address, credentials)
        self.clob.note_keys(credentials.key, address, nonce)
        return credentials

    def keys_of(self, address: Wallet) -> set[str]:
        return {key for key, (owner, _) in self.keys.items() if owner == address}

    def keys_for(self, wallet: Wallet) -> list[str]:
        """Return the API keys of whoever signs for a wallet."""
        return sorted(self.keys_of(self.venue.owner_of.get(wallet, wallet)))

    def wallets_of(self, address: Wallet) -> set[Wallet]:
        """Return the wallets an EOA signs for, itself included."""
        owned = {wallet for wallet, owner in self.venue.owner_of.items() if owner == address}
        return owned | {address}

    def type_of(self, wallet: Wallet, owner: Wallet) -> int | None:
        """Return the signature type a wallet is used with, where that is known."""
        return self.venue.type_of.get(wallet) or derived_type(owner, wallet)

    def wallets_by_type(self, address: Wallet, kind: int) -> set[Wallet]:
        """Return the wallets of an EOA that a signature type means, or may mean."""
        types = {who: self.type_of(who, address) for who in self.wallets_of(address) - {address}}
        exact = {who for who, known in types.items() if known == kind}
        return exact or {who for who, known in types.items() if known is None}

    def note_posted(self, posted: Posted) -> None:
        if len(self.posted) < ORDERS_KEPT:
            self.posted.append(posted)

    def _tell(self, now_ns: int) -> None:
        advance(self.venue, now_ns)  # what became due at this very moment: no delay is no wait
        self.hub.delivery.tend(now_ns)
        events = drain(self.venue, now_ns)
        self.clob.inbox.note(self.venue, events, self.keys_for)
        self.hub.publish(events, now_ns)
        self.chain.publish(now_ns)
        self._set_alarm(now_ns)

    def _set_alarm(self, now_ns: int) -> None:
        due = [
            next_due_ns(self.venue),
            self.hub.delivery.next_due_ns(),
            self.chain.next_due_ns(now_ns),
        ]
        due_ns = min((each for each in due if each is not None), default=None)
        if due_ns is None:
            return
        if self._alarm is not None:
            if self._alarm_ns <= due_ns:
                return
            self._alarm.cancel()
        self._alarm_ns = due_ns
        delay_s = max(0, due_ns - now_ns) / NS_PER_S
        self._alarm = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.catch_up()
