"""What the relayer has sent to the chain, and the nonce each wallet is at."""

from collections import Counter

import msgspec

from services.paper_venue.config import VenueConfig
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_MS


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that was taken; one that the chain undid has an error."""

    id: str
    tx: str
    taken_ns: int
    error: str = ""

    def state(self, config: VenueConfig, now_ns: int) -> str:
        if self.error:
            return "STATE_FAILED"
        mined_ns = self.taken_ns + config.mined_delay_ms * NS_PER_MS
        if now_ns < mined_ns:
            return "STATE_EXECUTED"
        confirmed = now_ns >= mined_ns + config.confirmed_delay_ms * NS_PER_MS
        return "STATE_CONFIRMED" if confirmed else "STATE_MINED"


class Relayer:
    """What it has relayed, and the nonce each wallet is at."""

    def __init__(self) -> None:
        self.relayed: dict[str, Relayed] = {}
        self.nonces: Counter[tuple[str, Wallet]] = Counter()  # by kind and owner
