"""How many orders and cancels the venue still takes of our signer, and who has to wait.

The venue counts tokens by signer and tells with each answer how many are left, for which tier
(protocol.md 1.9 b). Ours are counted when they are sent, theirs when they arrive, so ours are kept
lower: a part of the burst is never spent, and whatever the venue says, less what is under way,
holds. Before its first word next to nothing is spent: who ran before us may have left us nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from shared.domain.units import NS_PER_S
from shared.polymarket.buckets import Bucket
from shared.polymarket.errors import Throttled, VenueError
from shared.polymarket.limits import CANCEL_ORDER, POST_ORDER, STANDARD, TIERS, Tier
from shared.polymarket.pacing import Pacer

_FIRST: Final = 2  # orders that may go before the venue has said how many
_SPARED_PART: Final = 4  # one part in so many of a burst is left for what arrives in bunches
_RATE_PER_10S: Final = 9  # of the ten tokens that a token a second is in ten seconds
_HOLD_S_MAX: Final = 60  # a reset further off is another clock, or no reset
_RETRY_S: Final = 1.0  # a refusal that names no time is left alone for this long
Heard = Callable[[str, VenueError | None], None]  # an endpoint, and what came of a call to it
_logger = logging.getLogger(__name__)


def _nothing(*_: object) -> None:
    return None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers say of the signer's tokens."""

    remaining: int | None = None  # below zero: so many are owed
    reset_s: int | None = None  # unix seconds
    tier: str = ""
    warned: bool = False  # it would have been refused, were the limit enforced


def told_by(headers: Mapping[str, str]) -> Told | None:
    """Return what an answer says of the signer's limit; None where it says nothing."""
    found = {name.lower(): value for name, value in headers.items()}
    prefix = "poly-ratelimit-"
    if not any(name.startswith(prefix) for name in found):
        return None
    return Told(
        remaining=_whole(found.get(f"{prefix}remaining")),
        reset_s=_whole(found.get(f"{prefix}reset")),
        tier=found.get(f"{prefix}tier", "").strip().lower(),
        warned=found.get(f"{prefix}warning", "").strip().lower() == "true",
    )


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(float(text))
    except (ValueError, OverflowError):
        return None


class _Tokens:
    """One kind of call of our signer: what may go, and what is under way."""

    def __init__(self, now_ns: int) -> None:
        self.turn = asyncio.Lock()
        self.under_way = 0
        self.spared = 0
        self.bucket = Bucket(1, _FIRST)
        self.bucket.correct(_FIRST, now_ns)

    def set_rate(self, *, per_s: int, burst: int, now_ns: int) -> None:
        self.spared = burst // _SPARED_PART
        self.bucket.change(per_s * _RATE_PER_10S, burst - self.spared, now_ns)

    def hear(self, remaining: int, now_ns: int) -> None:
        """Take the venue's count. Others under way may be in it or not: only less is certain."""
        others = max(0, self.under_way - 1)
        left = remaining - self.spared - others
        if others == 0 or left < self.bucket.left(now_ns):
            self.bucket.correct(left, now_ns)


class SignerGate:
    """A gate for all calls of one signer: the address's limits, and the signer's own."""

    def __init__(
        self,
        pacer: Pacer,
        *,
        monotonic_ns: Callable[[], int],
        now_ns: Callable[[], int],
        heard: Heard = _nothing,
    ) -> None:
        self.pacer, self._heard = pacer, heard
        self._monotonic_ns, self._now_ns = monotonic_ns, now_ns
        self.tier = ""  # as the venue named it; empty: not yet
        self.refusals = 0  # by the signer's limit, since the start
        self._orders, self._cancels = _Tokens(monotonic_ns()), _Tokens(monotonic_ns())
        self._of = {POST_ORDER: self._orders, CANCEL_ORDER: self._cancels}
        self._set_tier(TIERS[STANDARD])

    def left(self, endpoint: str) -> int:
        """Return how many calls may go at once."""
        return self._of[endpoint].bucket.left(self._monotonic_ns())

    async def turn(self, endpoint: str) -> None:
        """Wait until a call may go, and count it."""
        await self.pacer.turn(endpoint)
        tokens = self._of.get(endpoint)
        if tokens is None:
            return
        async with tokens.turn:
            while True:
                wait_ns = tokens.bucket.wait_ns(self._monotonic_ns())
                if wait_ns == 0:
                    break
                await asyncio.sleep(wait_ns / NS_PER_S)
            tokens.bucket.spend(self._monotonic_ns())
            tokens.under_way += 1

    def spend(self, endpoint: str) -> None:
        self.pacer.spend(endpoint)

    def told(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Correct our count by the venue's."""
        tokens, told = self._of.get(endpoint), told_by(headers)
        if tokens is None or told is None:
            return
        now_ns = self._monotonic_ns()
        if told.tier and told.tier != self.tier:
            self._name_tier(told.tier)
        if told.remaining is not None:
            tokens.hear(told.remaining, now_ns)
        if told.warned:
            self.refusals += 1
            tokens.bucket.hold(now_ns + self._until_ns(told.reset_s))

    def went(self, endpoint: str, seconds: float, error: VenueError | None) -> None:
        """Take how a call fared; a refusal by the signer's limit holds back all that follow."""
        self._heard(endpoint, error)
        tokens = self._of.get(endpoint)
        if tokens is not None:
            tokens.under_way -= 1
        if tokens is not None and isinstance(error, Throttled) and error.definitive:
            self.refusals += 1
            told_s = _RETRY_S if error.retry_after_s is None else error.retry_after_s
            now_ns = self._monotonic_ns()
            tokens.bucket.hold(now_ns + int(min(told_s, _HOLD_S_MAX) * NS_PER_S))
            _logger.warning("signer_limited", extra={"fields": {"endpoint": endpoint}})
        else:  # a refusal of the signer says nothing of the address's rate
            self.pacer.went(endpoint, seconds, error)

    def _name_tier(self, name: str) -> None:
        self.tier = name
        tier = TIERS.get(name)
        fields = {"tier": name, "known": tier is not None}
        _logger.info("signer_tier", extra={"fields": fields})
        self._set_tier(tier or TIERS[STANDARD])

    def _set_tier(self, tier: Tier) -> None:
        now_ns = self._monotonic_ns()
        self._orders.set_rate(per_s=tier.orders_per_s, burst=tier.orders_burst, now_ns=now_ns)
        self._cancels.set_rate(per_s=tier.cancels_per_s, burst=tier.cancels_burst, now_ns=now_ns)

    def _until_ns(self, reset_s: int | None) -> int:
        if reset_s is None:
            return int(_RETRY_S * NS_PER_S)
        left_ns = reset_s * NS_PER_S - self._now_ns()
        return min(max(0, left_ns), _HOLD_S_MAX * NS_PER_S)
