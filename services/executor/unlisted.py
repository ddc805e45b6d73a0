"""Fills that are booked and that the venue's own list of our trades does not have."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from services.executor.state import Buried, Fill, Order, State, fill_key
from shared.domain.observations import OwnFill
from shared.domain.units import NS_PER_S, Shares, Usd, cost_up, proceeds_down
from shared.domain.views import UnlistedFill

_LISTED_NS: Final = NS_PER_S // 2  # the list may lag the stream by this much
_KEPT_NS: Final = 3_600 * NS_PER_S


class Unlisted:
    """Compares by identity; what was missing once stays so until it is listed, for an hour."""

    def __init__(self) -> None:
        self._missing: dict[str, tuple[UnlistedFill, int]] = {}

    def compare(
        self, state: State, listed: Iterable[OwnFill], *, from_ns: int, now_ns: int
    ) -> None:
        """Take a list that has all of our trades since a time."""
        there = {fill_key(each.trade, each.order): each for each in listed}
        alike = Counter((each.order, each.size, each.price) for each in there.values())
        for key in self._missing.keys() & there.keys():
            del self._missing[key]
        for fill, order in _booked(state):
            key = fill_key(fill.trade, fill.order)
            if fill.settlement == "FAILED":
                self._missing.pop(key, None)
            elif (
                key not in there
                and from_ns < order.prepared_ns
                and fill.booked_ns <= now_ns - _LISTED_NS
            ):
                twin = alike[fill.order, fill.size, fill.price] > 0
                self._missing[key] = (_shown(fill, order, is_copy=twin), fill.booked_ns)
        self._missing = {
            key: each for key, each in self._missing.items() if now_ns - each[1] < _KEPT_NS
        }

    def shown(self) -> tuple[UnlistedFill, ...]:
        """Return them, oldest first."""
        ordered = sorted(self._missing.values(), key=lambda each: (each[1], each[0].trade))
        return tuple(fill for fill, _ in ordered)


def _booked(state: State) -> Iterator[tuple[Fill, Order | Buried]]:
    for fill in state.fills.values():
        yield fill, state.orders[fill.order]
    for buried in state.buried.values():
        for fill in buried.fills:
            yield fill, buried


def _shown(fill: Fill, order: Order | Buried, *, is_copy: bool) -> UnlistedFill:
    bought = order.side == "BUY"
    usd = -cost_up(fill.price, fill.size) if bought else proceeds_down(fill.price, fill.size)
    return UnlistedFill(
        trade=fill.trade,
        token=order.token,
        shares=fill.size if bought else Shares(-fill.size),
        usd=Usd(usd - fill.fee),
        is_copy=is_copy,
    )
