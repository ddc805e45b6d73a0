"""A synthetic world: so many markets at a time, that open, move, drift to an end and resolve.

Pure: the world is told how many seconds have passed, and says what opens, what ends and how the
books stand. A seed gives one history of mids, whoever trades; depth also depends on what is taken.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Final

import msgspec

from services.paper_venue.config import VenueConfig
from services.paper_venue.liquidity import Depth, Ladder, Levels, Walk
from services.paper_venue.tape import invented_condition, invented_token
from shared.domain.ids import ConditionId, TokenId
from shared.domain.market import Market
from shared.domain.units import MICRO, Price, Shares

STEP_S: Final = 0.25  # of the walk: a history does not depend on how often one looks
GROUP: Final = 4  # markets of a neg-risk group
GROUP_EVERY: Final = 8  # markets for each group: half of a large world's are in groups
_BINARY_MODULE: Final = 1
_HASH_BITS: Final = 128
NAMES: Final = ("Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Larch", "Maple", "Oak", "Pine")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    market: Market
    ends_s: float  # of the world's time


class Ended(msgspec.Struct, frozen=True):
    condition: ConditionId
    payouts: tuple[int, int]  # micro-dollars a share


class Event:
    """One walk and its markets: a single one, or a neg-risk group."""

    def __init__(
        self, config: VenueConfig, name: str, size: int, span_s: tuple[float, float]
    ) -> None:
        rng = Random(f"{config.seed}/{name}")
        self.opens_s, self.ends_s = span_s
        self.walk = Walk(rng, config.liquidity, size, config.market_life_s)
        self.ladders = [
            Ladder(Random(f"{config.seed}/{name}/{place}"), config.liquidity)
            for place in range(size)
        ]
        self.markets = markets_of(config, name, size)
        self.now_s = self.opens_s

    def advance(self, now_s: float) -> None:
        """Take the steps until a moment, at most to the end."""
        while self.now_s + STEP_S <= now_s and self.now_s < self.ends_s:
            self.now_s += STEP_S
            self.walk.step(STEP_S, max(0.0, self.ends_s - self.now_s))

    def payouts(self) -> list[tuple[int, int]]:
        """Return what each market pays: the one that its last price says pays the whole."""
        chances = self.walk.probabilities()
        if len(chances) == 1:
            return [(MICRO, 0) if chances[0] >= 0.5 else (0, MICRO)]
        top = chances.index(max(chances))
        return [(MICRO, 0) if place == top else (0, MICRO) for place in range(len(chances))]


class World:
    """Slots of markets; where an event ends the next one of its slot begins."""

    def __init__(self, config: VenueConfig) -> None:
        self._config = config
        self._sizes = sizes_of(config.markets)
        self._events: list[Event | None] = [None] * len(self._sizes)
        self._rounds = [0] * len(self._sizes)
        self.now_s = 0.0
        self._quoted_s = 0.0

    def advance(self, now_s: float) -> Iterator[Opened | Ended]:
        """Move to a moment, and say what opened and what ended on the way, in order."""
        for slot in range(len(self._sizes)):
            while True:
                event = self._events[slot]
                if event is None:
                    event = self._open(slot, 0.0)
                    yield from _opened(event)
                event.advance(now_s)
                if event.now_s < event.ends_s:
                    break
                yield from (
                    Ended(market.condition, payouts)
                    for market, payouts in zip(event.markets, event.payouts(), strict=True)
                )
                event = self._open(slot, event.ends_s)
                yield from _opened(event)
        self.now_s = max(self.now_s, now_s)

    def books(
        self,
        ticks: Mapping[ConditionId, Price],
        depths: Mapping[ConditionId, tuple[Depth, Depth]],
    ) -> Iterator[tuple[ConditionId, Levels, Levels]]:
        """Return the markets whose books are new, given each one's grid and present depth."""
        step_s, self._quoted_s = self.now_s - self._quoted_s, self.now_s
        for event in self._events:
            assert event is not None, "books are asked for after the first advance"
            chances = event.walk.probabilities()
            for market, ladder, chance in zip(event.markets, event.ladders, chances, strict=True):
                name = market.condition
                if name in ticks:
                    quoted = ladder.quote(chance, ticks[name], depths[name], step_s)
                    if quoted is not None:
                        yield name, *quoted

    def _open(self, slot: int, opens_s: float) -> Event:
        """Begin a slot's next event; first ones end one after the other, not all at once."""
        life_s = float(self._config.market_life_s)
        if self._rounds[slot] == 0:
            life_s *= (slot + 1) / len(self._sizes)
        life_s = max(STEP_S, round(life_s / STEP_S) * STEP_S)
        name = f"synthetic-{self._config.seed}-{slot + 1}-{self._rounds[slot] + 1}"
        self._rounds[slot] += 1
        event = Event(self._config, name, self._sizes[slot], (opens_s, opens_s + life_s))
        self._events[slot] = event
        return event


def sizes_of(markets: int) -> list[int]:
    """Return how many markets each event has: a neg-risk group for every eight markets."""
    groups = markets // GROUP_EVERY or (1 if markets >= GROUP else 0)
    return [1] * (markets - groups * GROUP) + [GROUP] * groups


def markets_of(config: VenueConfig, name: str, size: int) -> list[Market]:
    """Return an event's markets: every other single one is settled by the second exchange."""
    if size == 1:
        protocol = "v2" if int(name.rsplit("-", 2)[1]) % 2 == 0 else "v1"
        condition, tokens = (_position_ids if protocol == "v2" else _invented)(name)
        question = f"Will {name} end with yes?"
        return [_market(config, name, condition, tokens, protocol=protocol, question=question)]
    found = []
    for place in range(size):
        slug = f"{name}-{NAMES[place].lower()}"
        condition, tokens = _invented(slug)
        question = f"Will {NAMES[place]} win {name}?"
        found.append(
            _market(config, slug, condition, tokens, neg_risk=True, question=question, event=name)
        )
    return found


def _market(
    config: VenueConfig,
    slug: str,
    condition: ConditionId,
    tokens: tuple[TokenId, TokenId],
    **terms: object,
) -> Market:
    plain = Market(
        condition=condition,
        tokens=tokens,
        outcomes=("Yes", "No"),
        tick=config.tick,
        size_min=Shares(config.size_min),
        fee_rate=config.fee_rate,
        fee_exponent=config.fee_exponent,
        slug=slug,
        event=slug,
        category="synthetic",
        tags=("synthetic",),
    )
    return msgspec.structs.replace(plain, **terms)


def _invented(slug: str) -> tuple[ConditionId, tuple[TokenId, TokenId]]:
    return invented_condition(slug), (invented_token(slug, 0), invented_token(slug, 1))


def _position_ids(slug: str) -> tuple[ConditionId, tuple[TokenId, TokenId]]:
    """Return ids as the second exchange composes them: module, hash, zeros, outcome (2.1)."""
    digest = int(invented_condition(slug), 16) & (1 << _HASH_BITS) - 1
    first = _BINARY_MODULE << 248 | digest << 120
    condition = ConditionId(f"0x{first:064x}"[:-2] + "00")
    return condition, (TokenId(str(first)), TokenId(str(first + 1)))


def _opened(event: Event) -> Iterator[Opened]:
    return (Opened(market=market, ends_s=event.ends_s) for market in event.markets)
