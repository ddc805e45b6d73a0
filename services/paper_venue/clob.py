"""What the CLOB keeps beside the exchange: keys' standing, mode, limits, notices to accounts."""

from collections import OrderedDict
from typing import Final

from services.paper_venue.config import VenueConfig
from services.paper_venue.limits import TIERS, Signer, TierName, Window
from services.paper_venue.modes import Modes
from services.paper_venue.notifications import Inbox
from services.paper_venue.scopes import Scope
from shared.domain.ids import Wallet

WINDOWS_MAX: Final = 10_000  # of addresses and scopes; the longest unused are forgotten
SIGNERS_MAX: Final = 10_000
_GENERATION: Final = 1 << 64  # above every nonce a client would use


class Clob:
    """One venue's; the exchange itself knows none of it."""

    def __init__(self, config: VenueConfig) -> None:
        self.modes = Modes(config.post_only_after_restart_s)
        self.inbox = Inbox()
        self.read_only: set[str] = set()  # API keys that may not trade
        self.closed_only: set[Wallet] = set()  # signing addresses
        self.banned: set[Wallet] = set()
        self.region: tuple[bool, str] = (False, "IE")  # is it blocked, and its country
        self._nonces: dict[str, tuple[Wallet, int]] = {}  # of API keys
        self._generations: dict[tuple[Wallet, int], int] = {}  # how often keys were deleted
        self._without: set[tuple[Wallet, int]] = set()  # deleted, and not created again
        self._windows: OrderedDict[tuple[str, str], Window] = OrderedDict()
        self._signers: OrderedDict[Wallet, Signer] = OrderedDict()
        self._tiers: dict[Wallet, TierName] = {}

    def root_of(self, address: Wallet, nonce: int) -> int:
        """Return the number an address's keys are made of: another after each deletion."""
        return nonce + _GENERATION * self._generations.get((address, nonce), 0)

    def has_keys(self, address: Wallet, nonce: int) -> bool:
        """Tell whether keys can be derived; where never deleted, they always can."""
        return (address, nonce) not in self._without

    def note_keys(self, key: str, address: Wallet, nonce: int) -> None:
        self._nonces[key] = (address, nonce)
        self._without.discard((address, nonce))

    def delete_keys(self, key: str) -> None:
        owner = self._nonces.pop(key)
        self._generations[owner] = self._generations.get(owner, 0) + 1
        self._without.add(owner)

    def window(self, ip: str, scope: Scope) -> Window:
        key = (ip, scope.name)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(scope.limit, scope.length_ns)
            if len(self._windows) > WINDOWS_MAX:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return window

    def signer(self, address: Wallet, now_ns: int) -> Signer:
        signer = self._signers.get(address)
        if signer is None:
            signer = Signer(TIERS[self.tier_of(address)], now_ns)
            self._signers[address] = signer
            if len(self._signers) > SIGNERS_MAX:
                self._signers.popitem(last=False)
        self._signers.move_to_end(address)
        return signer

    def tier_of(self, address: Wallet) -> TierName:
        return self._tiers.get(address, "standard")

    def set_tier(self, address: Wallet, tier: TierName) -> None:
        """Put a signer on a tier; its buckets are full again."""
        self._tiers[address] = tier
        self._signers.pop(address, None)
