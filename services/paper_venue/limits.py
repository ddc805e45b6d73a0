"""How much is too much: sliding windows by IP and token buckets by signer (protocol.md 1.9).

Pure: the present time is an argument. A window first makes a request wait, then refuses it; a
bucket refuses at once. What is refused counts nowhere.
"""

from collections import deque
from typing import Final, Literal

import msgspec

from shared.domain.units import NS_PER_S

TierName = Literal["standard", "copper", "bronze", "silver", "gold", "platinum", "diamond", "elite"]
SLICES: Final = 100  # a window forgets in steps of so many parts of its length
NANO: Final = 1_000_000_000  # a bucket counts in billionths of a token


class Tier(msgspec.Struct, frozen=True):
    """What a signer may do, in tokens."""

    name: TierName
    orders_rate: int  # a second
    orders_burst: int
    cancels_rate: int  # a second
    cancels_burst: int
    debt: bool = False  # cancel-all may drive the balance below zero


TIERS: Final[dict[TierName, Tier]] = {
    tier.name: tier
    for tier in (
        Tier("standard", 40, 60, 80, 120, debt=True),
        Tier("copper", 60, 90, 120, 180, debt=True),
        Tier("bronze", 80, 120, 160, 240, debt=True),
        Tier("silver", 200, 300, 400, 600, debt=True),
        Tier("gold", 400, 600, 800, 1_200, debt=True),
        Tier("platinum", 450, 675, 900, 1_350),
        Tier("diamond", 525, 787, 1_050, 1_575),
        Tier("elite", 600, 900, 1_200, 1_800),
    )
}


class Window:
    """How many requests of the last so many nanoseconds there were."""

    def __init__(self, limit: int, length_ns: int) -> None:
        self.limit, self.length_ns = limit, length_ns
        self._slices: deque[list[int]] = deque()  # [from when, how many]
        self._count = 0

    def wait_ns(self, now_ns: int) -> int:
        """Return how long one more request has to wait: its share of the window for each over."""
        while self._slices and self._slices[0][0] + self.length_ns <= now_ns:
            self._count -= self._slices.popleft()[1]
        over = max(0, self._count + 1 - self.limit)
        return over * self.length_ns // self.limit

    def add(self, now_ns: int) -> None:
        from_ns = now_ns - now_ns % (self.length_ns // SLICES)
        if self._slices and self._slices[-1][0] >= from_ns:
            self._slices[-1][1] += 1
        else:
            self._slices.append([from_ns, 1])
        self._count += 1


class Verdict(msgspec.Struct, frozen=True):
    """What a bucket says to a request."""

    passes: bool
    remaining: int  # whole tokens left, below zero in debt
    reset_s: int  # unix second from which the like of it passes
    retry_s: int  # whole seconds until then, at least 1 where it does not pass


class Bucket:
    """Tokens that come back at a rate, up to a burst."""

    def __init__(self, rate: int, burst: int, now_ns: int) -> None:
        self.rate, self.burst = rate, burst
        self._level = burst * NANO
        self._as_of_ns = now_ns

    def take(self, cost: int, now_ns: int, *, needs: int | None = None) -> Verdict:
        """Take ``cost`` tokens where ``needs`` (by default all of them) are there, or nothing."""
        self._refill(now_ns)
        needed = cost if needs is None else needs
        passes = self._level >= needed * NANO
        if passes:
            self._level -= cost * NANO
        return self._verdict(needed if not passes else 1, now_ns, passes=passes)

    def _refill(self, now_ns: int) -> None:
        gained = max(0, now_ns - self._as_of_ns) * self.rate  # a token a second: 1 nano a ns
        self._level = min(self.burst * NANO, self._level + gained)
        self._as_of_ns = max(self._as_of_ns, now_ns)

    def _verdict(self, needed: int, now_ns: int, *, passes: bool) -> Verdict:
        lacking = max(0, min(needed, self.burst) * NANO - self._level)
        ready_ns = now_ns + -(-lacking // self.rate)
        retry_s = max(0 if passes else 1, -(-(ready_ns - now_ns) // NS_PER_S))
        return Verdict(
            passes=passes,
            remaining=self._level // NANO,
            reset_s=now_ns // NS_PER_S + retry_s,
            retry_s=retry_s,
        )


class Signer:
    """The two buckets of one signing address."""

    def __init__(self, tier: Tier, now_ns: int) -> None:
        self.tier = tier
        self.orders = Bucket(tier.orders_rate, tier.orders_burst, now_ns)
        self.cancels = Bucket(tier.cancels_rate, tier.cancels_burst, now_ns)

    def order(self, count: int, now_ns: int) -> Verdict:
        """Judge a post of so many orders: all or none."""
        return self.orders.take(count, now_ns)

    def cancel(self, count: int, now_ns: int) -> Verdict:
        """Judge a cancel that names its orders: all or none."""
        return self.cancels.take(count, now_ns)

    def cancel_all(self, count: int, now_ns: int) -> Verdict:
        """Judge a cancel of whatever is open: one token and one an order.

        Where the tier may owe, one token opens it and the rest becomes debt.
        """
        cost = 1 + count
        return self.cancels.take(cost, now_ns, needs=1 if self.tier.debt else cost)
